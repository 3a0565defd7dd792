//! The path that UEFI firmware without settings starts from, supplied from the guest's own vendor directory.
//!
//! What shim does at that path, by its `shim.c` and `fallback.c`: where `fb….efi` lies beside it, that program is
//! started, which starts what the `BOOT….CSV` of a vendor's directory names and writes it into the firmware's settings;
//! else the second stage of its own directory, a name that is built into it (`grubx64.efi`, SUSE `grub.efi`).
//! `mm….efi` (MokManager) is looked for there, too. GRUB looks for `grub.cfg` in the directory that it was built with.

use guest::efi_fallback;
use vfs::{EfiFile, EfiMachine, EfiProgram, GuestPath};

use crate::plan::Context;
use crate::{Action, FixError, Stage};

const BOOT: &str = "EFI/BOOT";
/// The largest boot program that is copied: GRUB with all its modules stays below 8 MiB.
const PROGRAM_MAX: u64 = 32 << 20;

/// What became of the request.
pub(super) enum Supplied {
    /// There is nothing to supply it from.
    Nothing,
    /// The plan has it; what it writes, a line each.
    Planned(Vec<String>),
    /// Why it cannot be done, although there is a loader.
    Obstacle(String),
}

/// Loaders of one vendor's directory for the guest's machine.
struct Vendor<'f> {
    directory: &'f str,
    shim: Option<&'f EfiFile>,
    grub: Option<&'f EfiFile>,
    systemd_boot: Option<&'f EfiFile>,
    mok_manager: Option<&'f EfiFile>,
}

/// A file to be made on the EFI system partition.
struct New {
    path: String,
    content: Vec<u8>,
    from: String,
}

/// Plans what the fallback path lacks. The loader's files that are there stay as they are.
pub(super) fn supply(rule: &str, context: &Context<'_>, stage: &mut Stage<'_>) -> Result<Supplied, FixError> {
    let firmware = &context.devices.firmware;
    let (Some(number), Some(files)) = (firmware.esp_partition, &firmware.efi_files) else {
        return Ok(Supplied::Nothing);
    };
    let device = format!("partition {number}");
    let Some(mount) = stage.tree().mounts().iter().position(|mount| mount.device == device) else {
        return Ok(Supplied::Nothing);
    };
    let (program, machine) = efi_fallback(context.guest.architecture.as_deref());
    let vendor = match choose(context, vendors(files, machine)) {
        Ok(Some(vendor)) => vendor,
        Ok(None) => return Ok(Supplied::Nothing),
        Err(why) => return Ok(Supplied::Obstacle(why)),
    };
    let at = stage.tree().mounts()[mount].at.clone();
    let wanted = match wanted(&vendor, program, files, &firmware.loader_files) {
        Ok(wanted) => wanted,
        Err(why) => return Ok(Supplied::Obstacle(why)),
    };
    let mut new = Vec::new();
    for (from, to) in wanted.copies {
        let content = stage.tree().read(&at.join(&from.path), PROGRAM_MAX)?;
        new.push(New { path: to, content, from: from.path.clone() });
    }
    if let Some(grub) = wanted.grub {
        match stub(&vendor, grub, &firmware.loader_files) {
            Ok(stub) => new.extend(stub),
            Err(why) => return Ok(Supplied::Obstacle(why)),
        }
    }
    if new.is_empty() {
        return Ok(Supplied::Nothing);
    }
    check_room(stage, mount, &new)?;
    let mut lines = Vec::new();
    for New { path, content, from } in new {
        let line = format!("{device}: {path}, {} bytes, from {from}", content.len());
        stage.change_large(rule, &at.join(&path), Action::Create { new: content }, vec![line.clone()])?;
        lines.push(line);
    }
    Ok(Supplied::Planned(lines))
}

fn name(file: &EfiFile) -> String {
    file.path.rsplit('/').next().unwrap_or(&file.path).to_ascii_lowercase()
}

/// Directories below `EFI` that have a loader for this machine, in the order of their names.
fn vendors(files: &[EfiFile], machine: EfiMachine) -> Vec<Vendor<'_>> {
    let mut vendors: Vec<Vendor<'_>> = Vec::new();
    for file in files.iter().filter(|file| file.machine == Some(machine)) {
        let Some((directory, _)) = file.path.rsplit_once('/') else { continue };
        if directory.eq_ignore_ascii_case(BOOT)
            || directory.get(..4).is_none_or(|top| !top.eq_ignore_ascii_case("EFI/"))
        {
            continue;
        }
        let index = vendors.iter().position(|vendor| vendor.directory == directory).unwrap_or_else(|| {
            vendors.push(Vendor { directory, shim: None, grub: None, systemd_boot: None, mok_manager: None });
            vendors.len() - 1
        });
        let vendor = &mut vendors[index];
        let place = match file.program {
            // Vendors keep a second shim under a name of its own (`shimx64-fedora.efi`), the same program.
            Some(EfiProgram::Shim) if name(file).starts_with("shim") => &mut vendor.shim,
            Some(EfiProgram::Grub | EfiProgram::GrubWithConfig) if name(file).starts_with("grub") => {
                &mut vendor.grub
            }
            Some(EfiProgram::SystemdBoot) => &mut vendor.systemd_boot,
            _ if name(file).starts_with("mm") || name(file).starts_with("mokmanager") => {
                &mut vendor.mok_manager
            }
            _ => continue,
        };
        // The plain name is the shortest.
        if place.is_none_or(|known| file.path.len() < known.path.len()) {
            *place = Some(file);
        }
    }
    vendors.retain(|vendor| vendor.shim.is_some() || vendor.grub.is_some() || vendor.systemd_boot.is_some());
    vendors
}

/// The vendor whose loader the guest has; where several have one, the one that is named as the guest's system is.
fn choose<'f>(context: &Context<'_>, vendors: Vec<Vendor<'f>>) -> Result<Option<Vendor<'f>>, String> {
    let directories: Vec<&str> = vendors.iter().map(|vendor| vendor.directory).collect();
    if vendors.len() > 1 {
        let id = context.guest.os.id.as_deref().unwrap_or_default();
        // Oracle Linux and RHEL use one directory; openSUSE Leap's has no flavour in its name.
        let wanted = match id {
            "rhel" | "ol" => "redhat",
            id => id.split('-').next().unwrap_or(id),
        };
        let is_own = |vendor: &Vendor<'_>| {
            vendor.directory.rsplit('/').next().is_some_and(|name| name.eq_ignore_ascii_case(wanted))
        };
        let why = format!(
            "several directories have a loader ({}), and none is named {wanted}",
            directories.join(", ")
        );
        return vendors.into_iter().find(is_own).map(Some).ok_or(why);
    }
    Ok(vendors.into_iter().next())
}

/// What the fallback path lacks.
#[derive(Default)]
struct Wanted<'f> {
    /// What is copied where.
    copies: Vec<(&'f EfiFile, String)>,
    /// The GRUB that is started from `EFI/BOOT`, so that its configuration must be found from there.
    grub: Option<&'f EfiFile>,
}

fn wanted<'f>(
    vendor: &Vendor<'f>,
    program: &str,
    files: &[EfiFile],
    others: &[String],
) -> Result<Wanted<'f>, String> {
    let is_there = |path: &str| files.iter().any(|file| file.path.eq_ignore_ascii_case(path));
    let mut wanted = Wanted { grub: vendor.grub, ..Wanted::default() };
    let mut add = |file: &'f EfiFile, name: &str| {
        let to = format!("{BOOT}/{name}");
        if !is_there(&to) {
            wanted.copies.push((file, to));
        }
    };
    let Some(shim) = vendor.shim else {
        add(vendor.grub.or(vendor.systemd_boot).ok_or("no loader")?, program);
        return Ok(wanted);
    };
    add(shim, program);
    let suffix = program.trim_start_matches("BOOT").trim_end_matches(".EFI").to_ascii_lowercase();
    if is_there(&format!("{BOOT}/fb{suffix}.efi")) || is_there(&format!("{BOOT}/fallback.efi")) {
        let csv = format!("BOOT{suffix}.CSV");
        let has_csv = others.iter().any(|other| {
            let name = other.rsplit('/').next().unwrap_or_default();
            name.eq_ignore_ascii_case(&csv) || name.eq_ignore_ascii_case("BOOT.CSV")
        });
        // shim starts that program whatever else is there, and it starts the loader where the vendor has it.
        return match has_csv {
            true => Ok(Wanted { grub: None, ..wanted }),
            false => Err(format!(
                "{BOOT} has shim's fallback program, and no directory has the {csv} that it reads"
            )),
        };
    }
    let grub =
        vendor.grub.ok_or_else(|| format!("{}: shim without the GRUB that it starts", vendor.directory))?;
    add(grub, &name(grub));
    if let Some(mok_manager) = vendor.mok_manager {
        add(mok_manager, &name(mok_manager));
    }
    Ok(wanted)
}

/// The configuration beside a GRUB that was not built to find its vendor's: one line that leads there. A configuration
/// that is there is never written.
fn stub(vendor: &Vendor<'_>, grub: &EfiFile, others: &[String]) -> Result<Option<New>, String> {
    let has = |path: &str| others.iter().any(|other| other.eq_ignore_ascii_case(path));
    let built_in = grub.grub_prefix.as_deref().unwrap_or_default();
    if grub.program == Some(EfiProgram::GrubWithConfig)
        || has(&format!("{}/grub.cfg", built_in.trim_matches('/')))
        || has(&format!("{BOOT}/grub.cfg"))
    {
        return Ok(None);
    }
    let config = format!("{}/grub.cfg", vendor.directory);
    if !has(&config) {
        return Err(format!("{}: GRUB, and no grub.cfg that it would read ({built_in})", grub.path));
    }
    let content =
        format!("# Made by coldfit: leads to the vendor's own configuration.\nconfigfile /{config}\n");
    Ok(Some(New { path: format!("{BOOT}/grub.cfg"), content: content.into_bytes(), from: config }))
}

fn check_room(stage: &Stage<'_>, mount: usize, new: &[New]) -> Result<(), FixError> {
    let mounted = &stage.tree().mounts()[mount];
    let cluster = u64::from(mounted.filesystem.info().block_size).max(1);
    let files: u64 = new.iter().map(|file| (file.content.len() as u64).div_ceil(cluster) * cluster).sum();
    // The directory itself, and one more cluster for the names.
    let needed = files + 2 * cluster;
    let free = mounted.filesystem.space()?.available_bytes.saturating_sub(stage.growth(mount)?);
    match needed <= free {
        true => Ok(()),
        false => Err(FixError::NoRoom {
            path: GuestPath::root().join(BOOT).to_string(),
            needed_bytes: needed,
            free_bytes: free,
            filesystem: mounted.device.clone(),
        }),
    }
}
