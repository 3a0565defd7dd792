//! Every file that a boot loader reads or may read, wherever distributions put it.

use vfs::VfsError;

use crate::reading::Reader;
use crate::{BootFile, BootFileKind};

/// Files of one kind that are looked at.
const FILES_MAX: usize = 256;
/// Where the EFI system partition may be mounted.
const ESP: [&str; 4] = ["/boot/efi", "/efi", "/boot", vfs::DETACHED_ESP];
/// Bytes of a program that tell whether it is a unified kernel image.
const PROGRAM_HEAD: usize = 8 << 10;

/// All of them by real path, each once; those that GRUB itself reads first come first.
pub(super) fn find(reader: &mut Reader<'_>) -> Result<Vec<BootFile>, VfsError> {
    let mut found = Found { files: Vec::new() };
    for directory in ["/boot/grub", "/boot/grub2"] {
        found.add(reader, &format!("{directory}/grub.cfg"), BootFileKind::GrubConfig)?;
        found.add(reader, &format!("{directory}/grubenv"), BootFileKind::GrubEnvironment)?;
    }
    let mut vendors = Vec::new();
    for root in ESP {
        for top in reader.names(root)?.into_iter().filter(|name| name.eq_ignore_ascii_case("EFI")) {
            for vendor in reader.names(&format!("{root}/{top}"))?.into_iter().take(FILES_MAX) {
                vendors.push(format!("{root}/{top}/{vendor}"));
            }
        }
    }
    for vendor in &vendors {
        found.add(reader, &format!("{vendor}/grub.cfg"), BootFileKind::GrubConfig)?;
        found.add(reader, &format!("{vendor}/grubenv"), BootFileKind::GrubEnvironment)?;
    }
    // Read by the generated configuration as a part of itself.
    for directory in ["/boot/grub", "/boot/grub2"] {
        found.add(reader, &format!("{directory}/custom.cfg"), BootFileKind::GrubAddition)?;
    }
    for root in ESP {
        let directory = format!("{root}/loader/entries");
        for file in reader.files_with_suffix(&directory, ".conf")?.into_iter().take(FILES_MAX) {
            found.add(reader, &file, BootFileKind::LoaderEntry)?;
        }
    }
    for file in ["/boot/grub/grub.conf", "/boot/grub/menu.lst"] {
        found.add(reader, file, BootFileKind::LegacyConfig)?;
    }
    for vendor in &vendors {
        found.add(reader, &format!("{vendor}/grub.conf"), BootFileKind::LegacyConfig)?;
    }
    for file in [
        "/boot/extlinux/extlinux.conf",
        "/boot/extlinux.conf",
        "/extlinux.conf",
        "/boot/syslinux/syslinux.cfg",
        "/boot/syslinux/extlinux.conf",
    ] {
        found.add(reader, file, BootFileKind::ExtlinuxConfig)?;
    }
    for vendor in vendors.iter().filter(|vendor| vendor.to_ascii_lowercase().ends_with("/linux")) {
        let programs = reader.names(vendor)?.into_iter().take(FILES_MAX);
        for name in programs.filter(|name| name.to_ascii_lowercase().ends_with(".efi")) {
            let program = format!("{vendor}/{name}");
            let mut head = vec![0; PROGRAM_HEAD];
            let len = match reader.real_file(&program)? {
                Some(real) => reader.peek(&real, 0, &mut head)?,
                None => continue,
            };
            if boot::is_unified_kernel_image(&head[..len]) {
                found.add(reader, &program, BootFileKind::UnifiedKernel)?;
            }
        }
    }
    Ok(found.files)
}

struct Found {
    files: Vec<BootFile>,
}

impl Found {
    fn add(&mut self, reader: &Reader<'_>, at: &str, kind: BootFileKind) -> Result<(), VfsError> {
        let Some(path) = reader.real_file(at)? else { return Ok(()) };
        if !self.files.iter().any(|file| file.path == path) {
            self.files.push(BootFile { path, kind });
        }
        Ok(())
    }
}
