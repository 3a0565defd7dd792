//! `coldfit initramfs`.

use std::path::Path;

use initramfs::{Archive, Limits};
use report::Class;
use serde_json::json;
use stack::Image;

use super::CommandResult;
use crate::cli::address::Address;
use crate::cli::args::{ImageArgs, InitramfsCommand, TargetArgs};
use crate::render::output::{AtImage, Failure, Output, single_line};
use crate::render::progress::Bar;
use crate::render::table::{bytes, columns};
use crate::session;

/// The largest initramfs that is read; distributions' largest stay below 200 MiB.
const INITRAMFS_MAX: u64 = 256 << 20;

/// Runs one of the initramfs commands.
pub fn run(command: InitramfsCommand, output: &Output) -> CommandResult {
    match command {
        InitramfsCommand::List { path, image } => list(&path, &image, output),
        InitramfsCommand::Show { address, image } => show(&address, &image, output),
        InitramfsCommand::Inject { path, modules, dry_run, target, image } => {
            inject(&path, &modules, dry_run, &target, &image, output)
        }
    }
}

fn list(path: &Path, args: &ImageArgs, output: &Output) -> CommandResult {
    let opened = session::open_for_reading(path, args, output)?;
    let guest = guest::inspect(&opened.tree, opened.image.device_table()).at_image(path)?;
    let value = json!({ "kernels": guest.kernels, "initramfs": guest.initramfs });
    output.either(&value, |_| {
        let mut text = String::new();
        for kernel in &guest.kernels {
            let file = kernel.initramfs.as_deref().unwrap_or("no initramfs");
            text.push_str(&format!("kernel {}: {}\n", kernel.version, single_line(file)));
        }
        for initramfs in &guest.initramfs {
            text.push_str(&format!("\n{}: {}\n", single_line(&initramfs.path), bytes(initramfs.size)));
            if let Some(error) = &initramfs.error {
                text.push_str(&format!("  {} [{}]\n", single_line(&error.message), error.code));
            }
            let segment = |segment: &guest::SegmentInfo| {
                vec![
                    format!("at {}", segment.offset),
                    segment.kind.clone(),
                    segment.compression.clone(),
                    format!("{} bytes, {} unpacked", segment.stored_len, segment.unpacked_len),
                    format!("{} entries", segment.entries),
                ]
            };
            text.push_str(&columns(&initramfs.segments.iter().map(segment).collect::<Vec<_>>(), 2));
            let driver = |driver: &guest::InitramfsDriver| {
                let state = match driver.state {
                    guest::DriverState::BuiltIn => "built in",
                    guest::DriverState::InInitramfs if !driver.missing_dependencies.is_empty() => {
                        "inside, incomplete"
                    }
                    guest::DriverState::InInitramfs => "inside",
                    guest::DriverState::OnDisk => "on disk only",
                    guest::DriverState::Absent => "not in this kernel",
                };
                let path = driver.path.clone().unwrap_or_default();
                vec![driver.name.clone(), state.into(), path, driver.missing_dependencies.join(" ")]
            };
            text.push_str(&columns(&initramfs.drivers.iter().map(driver).collect::<Vec<_>>(), 2));
        }
        text
    })?;
    Ok(0)
}

fn show(address: &Address, args: &ImageArgs, output: &Output) -> CommandResult {
    let opened = session::open_for_reading(&address.image, args, output)?;
    let content = opened.tree.read(&address.path, INITRAMFS_MAX).at_image(&address.image)?;
    let archive = Archive::parse(&content, &Limits::default()).at_image(&address.image)?;
    if output.is_json() {
        let segments: Vec<_> = archive
            .segments()
            .iter()
            .map(|segment| {
                let entries: Vec<_> = segment
                    .entries
                    .iter()
                    .map(|entry| json!({ "path": text_of(&entry.path), "mode": format!("{:o}", entry.mode), "size": entry.size }))
                    .collect();
                json!({
                    "offset": segment.offset,
                    "stored_len": segment.stored_len,
                    "kind": format!("{:?}", segment.kind).to_lowercase(),
                    "compression": segment.compression.to_string(),
                    "entries": entries,
                })
            })
            .collect();
        output.json(&json!({ "path": address.path.to_string(), "generator": archive.generator().name(), "segments": segments }))?;
        return Ok(0);
    }
    output.text(&format!("made by {}\n", archive.generator()))?;
    for segment in archive.segments() {
        output.text(&format!(
            "segment at {}, {} bytes, {}\n",
            segment.offset, segment.stored_len, segment.compression
        ))?;
        let rows: Vec<Vec<String>> = segment
            .entries
            .iter()
            .map(|entry| {
                vec![
                    format!("{:06o}", entry.mode),
                    entry.size.to_string(),
                    single_line(&text_of(&entry.path)),
                ]
            })
            .collect();
        output.text(&columns(&rows, 2))?;
    }
    Ok(0)
}

fn inject(
    path: &Path,
    modules: &[String],
    dry_run: bool,
    target: &TargetArgs,
    args: &ImageArgs,
    output: &Output,
) -> CommandResult {
    let progress = Bar::new(output.quiet);
    let access = if dry_run { block::Access::Read } else { session::access(target) };
    let mut image = Image::open(path, &session::options(args, access), &progress).at_image(path)?;
    let mut tree = image.open_tree(true).at_image(path)?;
    image.require_essential_mounts().at_image(path)?;
    let guest = guest::inspect(&tree, image.device_table()).at_image(path)?;
    let planned = fixes::inject_modules(&tree, &guest, modules).at_image(path)?;
    if !planned.obstacles.is_empty() {
        let message = planned.obstacles.join("; ");
        return Err(Failure::new("initramfs.inject.refused", Class::Unsupported, message).at(path));
    }
    for remark in &planned.remarks {
        output.note(remark);
    }
    let summary: Vec<String> = planned.edits.iter().flat_map(|edit| edit.summary.clone()).collect();
    let mut committed = None;
    if !planned.edits.is_empty() || target.output.is_some() {
        let remarks = fixes::apply(&planned.edits, &mut tree, session::now()?).at_image(path)?;
        remarks.iter().for_each(|remark| output.note(remark));
        drop(tree);
        let sealed = image.seal().at_image(path)?;
        sealed.verify().at_image(path)?;
        if !dry_run {
            committed = Some(session::commit(sealed, path, target, &progress)?);
        }
    }
    drop(progress);
    let value = json!({ "dry_run": dry_run, "changes": summary, "commit": committed });
    output.either(&value, |_| match summary.is_empty() {
        true => "every initramfs has these modules; nothing to do\n".into(),
        false => summary.iter().map(|line| format!("{}\n", single_line(line))).collect(),
    })?;
    Ok(0)
}

fn text_of(path: &(impl AsRef<[u8]> + ?Sized)) -> String {
    String::from_utf8_lossy(path.as_ref()).into_owned()
}
