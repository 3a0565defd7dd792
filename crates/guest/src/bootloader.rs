//! The boot loader's files and the entries that start Linux.

mod entry;
mod extlinux;
mod files;
mod grub;
mod legacy;
mod loader_entries;

use vfs::{DeviceTable, VfsError};

use crate::reading::Reader;
use crate::{BootEntry, BootFileKind, Bootloader, Problem};

/// Entries that start Linux and are looked at.
const ENTRIES_MAX: usize = 256;

/// What reading one loader's files needs.
struct Scene<'r, 't> {
    reader: &'r mut Reader<'t>,
    devices: &'r DeviceTable,
    versions: &'r [String],
}

impl Scene<'_, '_> {
    /// Adds an entry unless there are too many.
    fn add(&mut self, entry: BootEntry, entries: &mut Vec<BootEntry>) {
        if entries.len() < ENTRIES_MAX {
            return entries.push(entry);
        }
        let known = self.reader.problems.iter().any(|problem| problem.code == "boot.entry.many");
        if !known {
            let message = format!("{}: {ENTRIES_MAX} entries are looked at", entry.file);
            self.reader.problem("boot.entry.many", message);
        }
    }
}

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
    loader.files = files::find(reader)?;

    let mut scene = Scene { reader, devices, versions };
    let mut entries = Vec::new();
    grub::inspect(&mut scene, &mut loader, &mut entries)?;
    if loader.kind.is_none() {
        legacy::inspect(&mut scene, &mut loader, &mut entries)?;
    }
    if loader.kind.is_none() {
        extlinux::inspect(&mut scene, &mut loader, &mut entries)?;
    }
    if loader.kind.is_none() {
        loader_entries::inspect(&mut scene, &mut loader, &mut entries)?;
    }
    let unified = loader.files.iter().find(|file| file.kind == BootFileKind::UnifiedKernel);
    if let (None, Some(unified)) = (&loader.kind, unified) {
        let message = format!("{}: a unified kernel image, which holds its arguments itself", unified.path);
        loader.unsupported = Some(Problem { code: "boot.unified-kernel".into(), message });
        loader.kind = Some("unified-kernel".into());
    }
    entries.sort_by_key(|entry| !entry.is_default);
    Ok((loader, entries))
}
