//! GRUB's files and the entries that start Linux.

use boot::{GrubConfig, GrubEnv, KernelLine, MenuEntry};
use vfs::{DeviceTable, VfsError};

use crate::kernels::image_version;
use crate::reading::{Reader, TEXT_MAX};
use crate::{BootEntry, Bootloader, InitrdFile, Problem};

/// Where the generated configuration lies; what GRUB itself reads is one of these.
const CONFIGS: [&str; 2] = ["/boot/grub/grub.cfg", "/boot/grub2/grub.cfg"];
/// Entries that start Linux and are looked at.
const ENTRIES_MAX: usize = 256;

pub(crate) fn inspect(
    reader: &mut Reader<'_>,
    devices: &DeviceTable,
    versions: &[String],
) -> Result<(Bootloader, Vec<BootEntry>), VfsError> {
    let mut loader = Bootloader::default();
    if let Some(files) = &devices.firmware.efi_files {
        loader.esp_visible = true;
        loader.efi_files = files.iter().map(|file| file.path.clone()).collect();
    }
    for directory in ["/boot/grub", "/boot/grub2"] {
        for name in reader.names(directory)? {
            if reader.exists(&format!("{directory}/{name}/normal.mod"))? {
                loader.platforms.push(name);
            }
        }
    }
    if reader.exists("/etc/default/grub")? {
        loader.defaults.push("/etc/default/grub".into());
    }
    loader.defaults.extend(reader.files_with_suffix("/etc/default/grub.d", ".cfg")?);

    let mut entries = Vec::new();
    for config in CONFIGS {
        let Some(text) = reader.read(config, boot::MAX_CONFIG_BYTES as u64)? else { continue };
        loader.kind = Some("grub".into());
        loader.config = Some(config.into());
        let environment = environment(reader, config)?;
        let parsed = GrubConfig::parse(&text).and_then(|parsed| parsed.check_supported().map(|()| parsed));
        let (parsed, default) = match parsed.and_then(|parsed| {
            let default = parsed.default_entry(&environment)?.map(|entry| entry.id);
            Ok((parsed, default))
        }) {
            Ok(found) => found,
            Err(error) => {
                let code = report::Diagnose::code(&error).to_owned();
                loader.unsupported = Some(Problem { code, message: format!("{config}: {error}") });
                break;
            }
        };
        if let Some(stub) = parsed.stub() {
            let message = format!("{config}: has no entries; it leads to {}", stub.target);
            loader.unsupported = Some(Problem { code: "boot.grub.stub".into(), message });
            continue;
        }
        for kernel in parsed.kernels() {
            if entries.len() == ENTRIES_MAX {
                reader.problem("boot.entry.many", format!("{config}: {ENTRIES_MAX} entries are looked at"));
                break;
            }
            let Some(entry) = parsed.entry_of(kernel) else {
                reader.problem(
                    "boot.entry.outside",
                    format!("{config}:{}: a kernel outside of any menu entry is not looked at", kernel.line),
                );
                continue;
            };
            let mut found = boot_entry(reader, devices, versions, config, entry, kernel)?;
            found.is_default = Some(entry.id) == default;
            entries.push(found);
        }
        loader.unsupported = None;
        break;
    }
    entries.sort_by_key(|entry| !entry.is_default);
    Ok((loader, entries))
}

fn environment(reader: &mut Reader<'_>, config: &str) -> Result<GrubEnv, VfsError> {
    let at = config.replace("grub.cfg", "grubenv");
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

fn boot_entry(
    reader: &mut Reader<'_>,
    devices: &DeviceTable,
    versions: &[String],
    config: &str,
    entry: &MenuEntry,
    kernel: &KernelLine,
) -> Result<BootEntry, VfsError> {
    let place = Place::of(entry, devices);
    let kernel_path = place.find(reader, &kernel.kernel)?;
    let kernel_version = match &kernel_path {
        Some(found) => version_of(reader, found, versions)?,
        None => None,
    };
    let mut initrds = Vec::new();
    for written in entry.initrds.iter().flat_map(|line| &line.paths) {
        initrds.push(InitrdFile { written: written.clone(), path: place.find(reader, written)? });
    }
    let uncertain = |code: &str, message: String| Some(Problem { code: code.into(), message });
    let at = format!("{config}:{}", kernel.line);
    let doubt = if entry.kernels.len() > 1 || entry.initrds.len() > 1 {
        uncertain("boot.entry.computed", format!("{at}: the entry chooses among several kernels"))
    } else if kernel.arguments.has_variables() || kernel.kernel.contains('$') {
        uncertain("boot.entry.variable", format!("{at}: a variable of the boot loader is in the command"))
    } else {
        None
    };
    let argument = |argument: boot::Argument| match argument.value {
        Some(value) => format!("{}={value}", argument.key),
        None => argument.key,
    };
    Ok(BootEntry {
        title: entry.title.clone(),
        id: entry.menu_id.clone(),
        file: config.to_owned(),
        line: kernel.line,
        is_default: false,
        is_recovery: entry.is_recovery,
        kernel: kernel.kernel.clone(),
        kernel_path,
        kernel_version,
        initrd_line: entry.initrds.first().map(|line| line.line),
        initrds,
        command_line: String::from_utf8_lossy(kernel.arguments.to_bytes().trim_ascii()).into_owned(),
        arguments: kernel.arguments.arguments().map(argument).collect(),
        root: kernel.arguments.value("root"),
        uncertain: doubt,
        missing_search: place.missing_search,
    })
}

/// The filesystem in which GRUB looks for an entry's files.
struct Place {
    /// UUID of that filesystem.
    uuid: Option<String>,
    missing_search: Option<String>,
}

impl Place {
    fn of(entry: &MenuEntry, devices: &DeviceTable) -> Self {
        let by_uuid = |uuid: &String| devices.resolve(&format!("UUID={uuid}"));
        let by_label = |label: &String| devices.resolve(&format!("LABEL={label}"));
        let searched = entry
            .search_uuids
            .iter()
            .find_map(by_uuid)
            .or_else(|| entry.search_labels.iter().find_map(by_label));
        let index = searched.or_else(|| device_index(entry.set_root.as_deref()?, devices));
        let wanted = entry.search_uuids.first().or(entry.search_labels.first());
        Self {
            uuid: index.and_then(|index| devices.volumes.get(index)?.uuid.clone()),
            // Where the search fails, the device that was set before it stays.
            missing_search: wanted.filter(|_| index.is_none()).cloned(),
        }
    }

    /// Real guest path of a file that GRUB names; `None` when there is none.
    fn find(&self, reader: &Reader<'_>, written: &str) -> Result<Option<String>, VfsError> {
        // `(hd0,1)/vmlinuz`: the device is the one that the entry sets anyway.
        let file = match written.strip_prefix('(') {
            Some(rest) => rest.split_once(')').map_or("", |(_, file)| file),
            None => written,
        };
        let mounts = reader.tree.mounts();
        let mounted = self
            .uuid
            .as_ref()
            .and_then(|uuid| mounts.iter().find(|mount| mount.filesystem.info().uuid.as_ref() == Some(uuid)));
        if let Some(mount) = mounted {
            return reader.real_file(&mount.at.join(file).to_string());
        }
        match reader.real_file(file)? {
            Some(found) => Ok(Some(found)),
            None => reader.real_file(&format!("/boot/{file}")),
        }
    }
}

/// The volume that a GRUB device (`hd0,msdos1`) means.
fn device_index(device: &str, devices: &DeviceTable) -> Option<usize> {
    let (disk, partition) = device.split_once(',')?;
    if disk != "hd0" {
        return None;
    }
    let digits = partition.trim_start_matches(|c: char| c.is_ascii_alphabetic());
    let number: u32 = digits.parse().ok()?;
    devices.volumes.iter().position(|volume| volume.partition == Some(number))
}

/// Version of a kernel image: by its name, or else by what it says of itself.
fn version_of(reader: &Reader<'_>, image: &str, versions: &[String]) -> Result<Option<String>, VfsError> {
    let name = image.rsplit('/').next().unwrap_or(image);
    if let Some(version) = versions
        .iter()
        .find(|version| name.strip_suffix(version.as_str()).is_some_and(|head| head.ends_with('-')))
    {
        return Ok(Some(version.clone()));
    }
    let directory = image.rsplit('/').nth(1);
    if let Some(version) = versions.iter().find(|version| directory == Some(version.as_str())) {
        return Ok(Some(version.clone()));
    }
    image_version(reader, image)
}
