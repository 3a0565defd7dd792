//! From what a loader's file says to an entry of the model.

use boot::Argument;
use vfs::{DeviceTable, VfsError};

use super::Scene;
use crate::kernels::image_version;
use crate::reading::Reader;
use crate::{BootEntry, InitrdFile, Problem};

/// An entry as its file has it.
#[derive(Default)]
pub(super) struct Written {
    pub title: String,
    pub id: Option<String>,
    pub file: String,
    /// Line of the kernel.
    pub line: usize,
    pub is_default: bool,
    pub is_recovery: bool,
    pub kernel: String,
    /// Version that the entry itself names.
    pub version: Option<String>,
    pub initrd_line: Option<usize>,
    pub initrds: Vec<String>,
    pub command_line: String,
    pub arguments: Vec<Argument>,
    /// Where its files are looked for.
    pub place: Place,
    /// Why not everything about it is known.
    pub doubt: Option<Problem>,
}

pub(super) fn complete(scene: &Scene<'_, '_>, written: Written) -> Result<BootEntry, VfsError> {
    let kernel_path = written.place.find(scene.reader, &written.kernel)?;
    let kernel_version = match &kernel_path {
        Some(found) => match version_of(scene.reader, found, scene.versions)? {
            Some(version) => Some(version),
            None => written.version.filter(|version| scene.versions.contains(version)),
        },
        None => None,
    };
    let mut initrds = Vec::new();
    for file in written.initrds {
        let path = written.place.find(scene.reader, &file)?;
        initrds.push(InitrdFile { written: file, path });
    }
    let root = written.arguments.iter().rfind(|argument| argument.key == "root");
    let root = root.map(|argument| argument.value.clone().unwrap_or_default());
    let printed = |argument: Argument| match argument.value {
        Some(value) => format!("{}={value}", argument.key),
        None => argument.key,
    };
    Ok(BootEntry {
        title: written.title,
        id: written.id,
        file: written.file,
        line: written.line,
        is_default: written.is_default,
        is_recovery: written.is_recovery,
        kernel: written.kernel,
        kernel_path,
        kernel_version,
        initrd_line: written.initrd_line,
        initrds,
        command_line: written.command_line,
        arguments: written.arguments.into_iter().map(printed).collect(),
        root,
        uncertain: written.doubt,
        missing_search: written.place.missing_search,
    })
}

/// The filesystem in which a loader looks for an entry's files.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    /// UUID of that filesystem.
    uuid: Option<String>,
    /// Directory that relative names start at.
    directory: Option<String>,
    missing_search: Option<String>,
}

impl Place {
    /// As GRUB finds it: what the entry searches, else the device that it sets.
    pub fn searched(
        uuids: &[String],
        labels: &[String],
        set_root: Option<&str>,
        devices: &DeviceTable,
    ) -> Self {
        let by_uuid = |uuid: &String| devices.resolve(&format!("UUID={uuid}"));
        let by_label = |label: &String| devices.resolve(&format!("LABEL={label}"));
        let searched = uuids.iter().find_map(by_uuid).or_else(|| labels.iter().find_map(by_label));
        let index = searched.or_else(|| device_index(set_root?, devices));
        let wanted = uuids.first().or(labels.first());
        Self {
            uuid: index.and_then(|index| devices.volumes.get(index)?.uuid.clone()),
            directory: None,
            // Where the search fails, the device that was set before it stays.
            missing_search: wanted.filter(|_| index.is_none()).cloned(),
        }
    }

    /// The filesystem that holds `file` itself.
    pub fn beside(reader: &Reader<'_>, file: &str) -> Result<Self, VfsError> {
        let location = match reader.tree.resolve(&crate::reading::path(file)) {
            Ok(location) => location,
            Err(_) => return Ok(Self::default()),
        };
        let mount = reader.tree.mounts().get(location.mount);
        Ok(Self {
            uuid: mount.and_then(|mount| mount.filesystem.info().uuid),
            directory: file.rsplit_once('/').map(|(directory, _)| directory.to_owned()),
            missing_search: None,
        })
    }

    /// Real guest path of a file that the loader names; `None` when there is none.
    pub fn find(&self, reader: &Reader<'_>, written: &str) -> Result<Option<String>, VfsError> {
        // `(hd0,1)/vmlinuz`: the device is the one that the entry sets anyway.
        let file = match written.strip_prefix('(') {
            Some(rest) => rest.split_once(')').map_or("", |(_, file)| file),
            None => written,
        };
        if let Some(directory) = self.directory.as_ref().filter(|_| !file.starts_with('/'))
            && let Some(found) = reader.real_file(&format!("{directory}/{file}"))?
        {
            return Ok(Some(found));
        }
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
    devices.volumes.iter().position(|volume| volume.is_partition(0, number))
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
    // `/usr/lib/modules/VERSION/vmlinuz`, `/MACHINE/VERSION/linux`.
    let directory = image.rsplit('/').nth(1);
    if let Some(version) = versions.iter().find(|version| directory == Some(version.as_str())) {
        return Ok(Some(version.clone()));
    }
    image_version(reader, image)
}
