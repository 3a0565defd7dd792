//! `coldfit inspect`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use block::Access;
use guest::{BootMode, BootModes, Bus, Guest, Reason, Verdict};
use serde::Serialize;
use stack::{Image, Layer};

use super::CommandResult;
use crate::cli::args::ImageArgs;
use crate::render::output::{AtImage, Failure, Output, single_line};
use crate::render::progress::Bar;
use crate::render::{layers, table};
use crate::session::{self, Timings};

/// Version of the JSON description (docs/report.md).
pub const SCHEMA: u32 = 1;

/// Everything that inspection says about one image.
#[derive(Debug, Serialize)]
struct Inspection {
    schema: u32,
    coldfit: &'static str,
    image: PathBuf,
    layers: Vec<Layer>,
    notes: Vec<String>,
    guest: Guest,
    boot: BTreeMap<Bus, Verdict>,
    firmware: BootModes,
    entries: Vec<guest::EntryVerdict>,
    timings: Timings,
}

/// Inspects one image after the other; the first failure ends it.
pub fn run(images: &[PathBuf], args: &ImageArgs, output: &Output) -> CommandResult {
    let mut inspections = Vec::new();
    for (index, path) in images.iter().enumerate() {
        let inspection = inspect(path, args, output)?;
        if output.is_json() {
            inspections.push(inspection);
            continue;
        }
        if index > 0 {
            output.text("\n")?;
        }
        output.text(&text(&inspection))?;
    }
    if output.is_json() {
        output.json(&inspections)?;
    }
    Ok(0)
}

fn inspect(path: &Path, args: &ImageArgs, output: &Output) -> Result<Inspection, Failure> {
    let progress = Bar::new(output.quiet);
    let mut timings = Timings::default();
    let options = session::options(args, Access::Read);
    let mut image =
        timings.stage("open", &progress, || Image::open(path, &options, &progress)).at_image(path)?;
    let tree = timings.stage("mount", &progress, || image.open_tree(false)).at_image(path)?;
    let guest =
        timings.stage("inspect", &progress, || guest::inspect(&tree, image.device_table())).at_image(path)?;
    let boot = verdict(&image, &guest);
    let entries = guest::verdicts(&guest, image.device_table());
    let firmware = guest::boot_modes(&guest, image.device_table());
    Ok(Inspection {
        schema: SCHEMA,
        coldfit: env!("CARGO_PKG_VERSION"),
        image: path.to_owned(),
        layers: image.layers(),
        notes: image.notes(),
        boot,
        firmware,
        entries,
        guest,
        timings,
    })
}

/// The verdict on the default entry. Where something that the guest boots from cannot be seen, no verdict
/// says that it boots.
pub fn verdict(image: &Image, guest: &Guest) -> BTreeMap<Bus, Verdict> {
    let mut verdicts = guest::verdict(guest, image.device_table());
    if let Err(error) = image.require_essential_mounts() {
        let reason = Reason {
            code: report::Diagnose::code(&error),
            message: error.to_string(),
            file: Some("/etc/fstab".into()),
            line: None,
        };
        for verdict in verdicts.values_mut() {
            match verdict {
                Verdict::Boots => *verdict = Verdict::Unknown { reasons: vec![reason.clone()] },
                Verdict::Unknown { reasons } => reasons.push(reason.clone()),
                Verdict::DoesNotBoot { .. } => {}
            }
        }
    }
    verdicts
}

fn text(inspection: &Inspection) -> String {
    let guest = &inspection.guest;
    let mut text = format!("{}\n", inspection.image.display());
    text.push_str(&layers::text(&inspection.layers, &inspection.notes));
    text.push_str(&guest_text(guest));
    text.push_str(&boot_text(&inspection.boot));
    text.push_str(&firmware_text(&inspection.firmware));
    text
}

/// Which firmware starts the disk.
fn firmware_text(modes: &BootModes) -> String {
    let mut text = String::new();
    for (name, mode) in [("BIOS", &modes.bios), ("UEFI", &modes.uefi)] {
        let word = match mode {
            BootMode::Yes => "yes".to_owned(),
            BootMode::No { reason } => format!("no: {}", reason.message),
            BootMode::Unknown { reason } => format!("cannot tell: {}", reason.message),
        };
        text.push_str(&format!("  by {name}: {}\n", single_line(&word)));
    }
    text
}

fn guest_text(guest: &Guest) -> String {
    let mut rows = Vec::new();
    let mut row = |name: &str, value: String| rows.push(vec![name.to_owned(), single_line(&value)]);
    let name = guest.os.pretty_name.clone().or_else(|| guest.os.id.clone());
    let point = guest.os.debian_version.as_ref().map(|version| format!(" ({version})")).unwrap_or_default();
    let architecture = guest.architecture.as_deref().unwrap_or("architecture not known");
    row("system", format!("{}{point}, {architecture}", name.unwrap_or_else(|| "not known".into())));
    row("host name", guest.hostname.clone().unwrap_or_else(|| "none".into()));
    for kernel in &guest.kernels {
        let initramfs = kernel.initramfs.as_deref().unwrap_or("no initramfs");
        row("kernel", format!("{} with {initramfs}", kernel.version));
    }
    for initramfs in &guest.initramfs {
        let generator = initramfs.generator.as_deref().unwrap_or("unreadable");
        let segments: Vec<&str> =
            initramfs.segments.iter().map(|segment| segment.compression.as_str()).collect();
        row(
            "initramfs",
            format!(
                "{}: {generator}, {}, {}",
                initramfs.path,
                table::bytes(initramfs.size),
                segments.join(" + ")
            ),
        );
    }
    let loader = guest.bootloader.kind.as_deref().unwrap_or("none found");
    row("boot loader", format!("{loader} {}", guest.bootloader.platforms.join(", ")));
    if let Some(entry) = guest.boot_entries.first() {
        row("boots", format!("{} ({}:{})", entry.title, entry.file, entry.line));
        row("arguments", entry.command_line.clone());
    }
    for network in &guest.network {
        let kind = match (network.has_static, network.has_dynamic) {
            (true, true) => "fixed and dynamic addresses",
            (true, false) => "fixed addresses",
            (false, true) => "dynamic addresses",
            (false, false) => "no addresses",
        };
        row("network", format!("{}: {kind} on {}", network.name, network.interfaces.join(", ")));
    }
    if !guest.agents.is_empty() {
        row("agents", guest.agents.join(", "));
    }
    for problem in &guest.problems {
        row("problem", format!("{} [{}]", problem.message, problem.code));
    }
    format!("\nguest\n{}", table::columns(&rows, 2))
}

/// One line a bus, then the reasons.
pub fn boot_text(boot: &BTreeMap<Bus, Verdict>) -> String {
    let mut text = String::from("\nboot\n");
    let booting: Vec<&str> =
        boot.iter().filter(|(_, verdict)| verdict.boots()).map(|(bus, _)| bus.name()).collect();
    let green = anstyle::Style::new().fg_color(Some(anstyle::AnsiColor::Green.into()));
    let red = anstyle::Style::new().fg_color(Some(anstyle::AnsiColor::Red.into()));
    if !booting.is_empty() {
        text.push_str(&format!("  {green}boots on{green:#} {}\n", booting.join(", ")));
    }
    // Buses that fail for the same reasons share them.
    let mut groups: Vec<(&str, &[Reason], Vec<&str>)> = Vec::new();
    for (bus, verdict) in boot.iter().filter(|(_, verdict)| !verdict.boots()) {
        let word = match verdict {
            Verdict::Unknown { .. } => "cannot tell for",
            _ => "does not boot on",
        };
        match groups.iter_mut().find(|(known, reasons, _)| *known == word && *reasons == verdict.reasons()) {
            Some((_, _, buses)) => buses.push(bus.name()),
            None => groups.push((word, verdict.reasons(), vec![bus.name()])),
        }
    }
    for (word, reasons, buses) in groups {
        text.push_str(&format!("  {red}{word}{red:#} {}\n", buses.join(", ")));
        for reason in reasons {
            text.push_str(&format!("    {}\n", single_line(&reason.message)));
        }
    }
    text
}
