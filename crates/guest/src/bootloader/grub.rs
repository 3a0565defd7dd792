//! GRUB 2: entries of its own script, and those of the Boot Loader Specification that `blscfg` takes in.

use boot::{BootError, EntryId, GrubConfig, GrubEnv, KernelLine, MenuEntry, Stub};
use vfs::VfsError;

use super::Scene;
use super::entry::{Place, Written, complete};
use super::loader_entries::{self, Found, Variables};
use crate::reading::{Reader, TEXT_MAX};
use crate::{BootEntry, BootFile, BootFileKind, Bootloader, Problem};

/// Files in which stubs are looked for; a guest has two or three.
const STUBS_MAX: usize = 32;

pub(super) fn inspect(
    scene: &mut Scene<'_, '_>,
    loader: &mut Bootloader,
    entries: &mut Vec<BootEntry>,
) -> Result<(), VfsError> {
    follow_stubs(scene, loader)?;
    for config in configs(scene, loader)? {
        let Some(text) = scene.reader.read(&config, boot::MAX_CONFIG_BYTES as u64)? else { continue };
        loader.kind = Some("grub".into());
        loader.config = Some(config.clone());
        let environment = environment(scene.reader, &config)?;
        let parsed = match GrubConfig::parse(&text) {
            Ok(parsed) => parsed,
            Err(error) => {
                loader.unsupported = Some(unsupported(&config, &error));
                break;
            }
        };
        if let Some(stub) = parsed.stub() {
            let message = format!("{config}: has no entries; it leads to {}", stub.target);
            loader.unsupported = Some(Problem { code: "boot.grub.stub".into(), message });
            continue;
        }
        match read_entries(scene, loader, &config, &parsed, &environment) {
            Ok(found) => {
                loader.unsupported = None;
                for entry in found? {
                    scene.add(entry, entries);
                }
            }
            Err(error) => loader.unsupported = Some(unsupported(&config, &error)),
        }
        break;
    }
    Ok(())
}

/// The configurations in the order in which they count: firmware that only knows EFI reads that partition's.
fn configs(scene: &Scene<'_, '_>, loader: &Bootloader) -> Result<Vec<String>, VfsError> {
    let firmware = &scene.devices.firmware;
    let is_uefi_only = firmware.mbr_boot_code.is_none() && firmware.esp_partition.is_some();
    let configs = loader.files.iter().filter(|file| file.kind == BootFileKind::GrubConfig);
    let mut configs: Vec<String> = configs.map(|file| file.path.clone()).collect();
    if is_uefi_only {
        configs.sort_by_key(|config| !config.to_ascii_lowercase().contains("/efi/"));
    }
    Ok(configs)
}

fn unsupported(config: &str, error: &BootError) -> Problem {
    Problem { code: report::Diagnose::code(error).to_owned(), message: format!("{config}: {error}") }
}

/// Adds the configurations that stubs lead to, each once.
fn follow_stubs(scene: &mut Scene<'_, '_>, loader: &mut Bootloader) -> Result<(), VfsError> {
    let is_script = |file: &&BootFile| file.kind == BootFileKind::GrubConfig;
    for index in 0..STUBS_MAX {
        let Some(file) = loader.files.iter().filter(is_script).nth(index) else { break };
        let path = file.path.clone();
        let Some(text) = scene.reader.read(&path, boot::MAX_CONFIG_BYTES as u64)? else { continue };
        // What cannot be read is said where its entries are looked for.
        let Ok(parsed) = GrubConfig::parse(&text) else { continue };
        if let Some(target) = parsed.stub().map(|stub| follow(scene, stub)).transpose()?.flatten()
            && !loader.files.iter().any(|file| file.path == target)
        {
            loader.files.push(BootFile { path: target, kind: BootFileKind::GrubConfig });
        }
    }
    Ok(())
}

/// Guest path of the configuration that a stub leads to, where that is in the tree.
fn follow(scene: &Scene<'_, '_>, stub: &Stub) -> Result<Option<String>, VfsError> {
    // `$prefix/grub.cfg`, where the prefix is `($root)/boot/grub`.
    let prefix = stub.prefix.as_deref().unwrap_or_default();
    let target = stub.target.replace("${prefix}", prefix).replace("$prefix", prefix);
    let target = match target.split_once(')') {
        Some((device, file)) if device.starts_with('(') => file,
        _ => &target,
    };
    if target.contains('$') || !target.starts_with('/') {
        return Ok(None);
    }
    let uuids: Vec<String> = stub.search_uuid.iter().cloned().collect();
    Place::searched(&uuids, &[], None, scene.devices).find(scene.reader, target)
}

fn environment(reader: &mut Reader<'_>, config: &str) -> Result<GrubEnv, VfsError> {
    let at = files_beside(config, "grubenv");
    let Some(block) = reader.read(&at, TEXT_MAX)? else { return Ok(GrubEnv::default()) };
    match GrubEnv::parse(&block) {
        Ok(environment) => Ok(environment),
        Err(error) => {
            // GRUB says "invalid environment block" and goes on without it.
            reader.problem("boot.grubenv", format!("{at}: {error}"));
            Ok(GrubEnv::default())
        }
    }
}

fn files_beside(config: &str, name: &str) -> String {
    config.rsplit_once('/').map_or_else(|| name.to_owned(), |(directory, _)| format!("{directory}/{name}"))
}

/// Entries in the order of the menu; the outer error is one of the configuration.
fn read_entries(
    scene: &mut Scene<'_, '_>,
    loader: &Bootloader,
    config: &str,
    parsed: &GrubConfig,
    environment: &GrubEnv,
) -> Result<Result<Vec<BootEntry>, VfsError>, BootError> {
    let specification = parsed.default_specification(environment)?;
    Ok(menu(scene, loader, config, parsed, environment, &specification))
}

fn menu(
    scene: &mut Scene<'_, '_>,
    loader: &Bootloader,
    config: &str,
    parsed: &GrubConfig,
    environment: &GrubEnv,
    specification: &str,
) -> Result<Vec<BootEntry>, VfsError> {
    let mut found = Vec::new();
    let mut from_files = Vec::new();
    if parsed.blscfg_line().is_some() {
        from_files = loader_entries::read(scene, loader, &Variables::of_grub(parsed, environment))?;
        from_files.sort_by(|one, other| boot::grub_menu_order(&one.name, &other.name));
        if from_files.is_empty() {
            let message = format!("{config}: blscfg takes in entries of loader/entries, and there are none");
            scene.reader.problem("boot.entry.none", message);
        }
    }
    let default = default_of(parsed, &from_files, specification);
    for (position, entry) in from_files.into_iter().enumerate() {
        let is_default = matches!(default, Default::File(index) if index == position);
        let written = Written { is_default, ..entry.written };
        if !boot::is_other_program(&written.kernel) {
            found.push(complete(scene, written)?);
        }
    }
    let default = match default {
        Default::Script(id) => Some(id),
        Default::File(_) | Default::None => None,
    };
    for kernel in parsed.kernels().iter().filter(|kernel| !boot::is_other_program(&kernel.kernel)) {
        let Some(entry) = parsed.entry_of(kernel) else {
            let message =
                format!("{config}:{}: a kernel outside of any menu entry is not looked at", kernel.line);
            scene.reader.problem("boot.entry.outside", message);
            continue;
        };
        let written =
            Written { is_default: Some(entry.id) == default, ..of_script(scene, config, entry, kernel) };
        found.push(complete(scene, written)?);
    }
    Ok(found)
}

/// The entry that starts when nobody touches the menu.
enum Default {
    /// One of the Boot Loader Specification's, by its place among them.
    File(usize),
    /// One of the script's.
    Script(EntryId),
    None,
}

/// The menu has the script's own entries before `blscfg`, then those of the files, then the script's others.
fn default_of(parsed: &GrubConfig, files: &[Found], specification: &str) -> Default {
    let script = |specification: &str| match parsed.find_entry(specification) {
        Some(entry) => Default::Script(entry.id),
        None => Default::None,
    };
    if files.is_empty() {
        return script(specification);
    }
    let before = parsed.entries_before_blscfg();
    let top = parsed.entries().iter().filter(|entry| entry.parent.is_none());
    let (first, below) = match specification.split_once('>') {
        Some((first, below)) => (first, format!(">{below}")),
        None => (specification, String::new()),
    };
    match first.parse::<usize>() {
        Ok(number) if number < before => return script(specification),
        Ok(number) if number < before + files.len() => return Default::File(number - before),
        Ok(number) if number < top.clone().count() + files.len() => {
            return script(&format!("{}{below}", number - files.len()));
        }
        _ => {}
    }
    if let Some(index) = files.iter().position(|entry| entry.is_named(specification)) {
        return Default::File(index);
    }
    let is_of_script = |entry: &MenuEntry| entry.title == first || entry.menu_id.as_deref() == Some(first);
    // What is not found means the first entry of the menu.
    match top.clone().any(is_of_script) || before > 0 {
        true => script(specification),
        false => Default::File(0),
    }
}

fn of_script(scene: &Scene<'_, '_>, config: &str, entry: &MenuEntry, kernel: &KernelLine) -> Written {
    let doubt = |code: &str, message: String| Some(Problem { code: code.into(), message });
    let at = format!("{config}:{}", kernel.line);
    let doubt = if entry.kernels.len() > 1 || entry.initrds.len() > 1 {
        doubt("boot.entry.computed", format!("{at}: the entry chooses among several kernels"))
    } else if kernel.arguments.has_variables() || kernel.kernel.contains('$') {
        doubt("boot.entry.variable", format!("{at}: a variable of the boot loader is in the command"))
    } else {
        None
    };
    let set_root = entry.set_root.as_deref();
    Written {
        title: entry.title.clone(),
        id: entry.menu_id.clone(),
        file: config.to_owned(),
        line: kernel.line,
        is_default: false,
        is_recovery: entry.is_recovery,
        kernel: kernel.kernel.clone(),
        version: None,
        initrd_line: entry.initrds.first().map(|line| line.line),
        initrds: entry.initrds.iter().flat_map(|line| line.paths.clone()).collect(),
        command_line: String::from_utf8_lossy(kernel.arguments.to_bytes().trim_ascii()).into_owned(),
        arguments: kernel.arguments.arguments().collect(),
        place: Place::searched(&entry.search_uuids, &entry.search_labels, set_root, scene.devices),
        doubt,
    }
}
