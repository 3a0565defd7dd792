//! From a guest tree to a [`Guest`].

use std::collections::BTreeSet;

use vfs::{DeviceTable, GuestTree, VfsError};

use crate::archive_drivers::look_into;
use crate::kernels::{self, LoadedKernel};
use crate::reading::Reader;
use crate::{
    BootEntry, Guest, GuestError, InitramfsInfo, Problem, bootloader, fstab, network, os, software, system,
};

/// The largest initramfs that is read; distributions' largest stay below 200 MiB.
const INITRAMFS_MAX: u64 = 256 << 20;
/// Unpacked bytes of all initramfs files together.
const UNPACKED_MAX: u64 = 4 << 30;
/// Initramfs files that are looked into.
const INITRAMFS_FILES_MAX: usize = 40;

/// Reads everything that the model of a guest has. Changes nothing.
pub fn inspect(tree: &GuestTree, devices: &DeviceTable) -> Result<Guest, GuestError> {
    let mut reader = Reader::new(tree);
    let mut is_linux = false;
    for sign in ["/etc", "/usr/lib/os-release", "/sbin/init", "/usr/lib/systemd/systemd"] {
        is_linux = is_linux || reader.exists(sign)?;
    }
    if !is_linux {
        return Err(GuestError::NoGuest { expected: "/etc, /usr/lib/os-release, /sbin/init" });
    }
    let os = os::os(&mut reader)?;
    let mut loaded = kernels::load(&mut reader)?;
    let versions: Vec<String> = loaded.iter().map(|kernel| kernel.kernel.version.clone()).collect();
    let (bootloader, boot_entries) = bootloader::inspect(&mut reader, devices, &versions)?;
    let initramfs = initramfs_files(&mut reader, &mut loaded, &boot_entries)?;
    for rules in ["/etc/udev/rules.d/70-persistent-net.rules", "/etc/udev/rules.d/70-persistent-cd.rules"] {
        if reader.exists(rules)? {
            reader.problem("guest.udev.persistent", format!("{rules}: binds names to hardware"));
        }
    }
    // A 64-bit kernel may run 32-bit programs: the kernel decides.
    let architecture = match kernels::architecture(&reader, &loaded)? {
        Some(known) => Some(known.to_owned()),
        None => system::architecture(&mut reader)?,
    };
    Ok(Guest {
        os,
        architecture,
        hostname: system::hostname(&mut reader)?,
        machine_id: system::machine_id(&mut reader)?,
        init: system::init(&mut reader)?,
        root_uuid: tree.mounts().first().and_then(|mount| mount.filesystem.info().uuid),
        kernels: loaded.into_iter().map(|kernel| kernel.kernel).collect(),
        initramfs,
        bootloader,
        boot_entries,
        fstab: fstab::rows(&mut reader, devices)?,
        crypttab: fstab::crypttab(&mut reader)?,
        network: network::systems(&mut reader)?,
        agents: software::agents(&mut reader)?,
        package_manager: software::package_manager(&mut reader)?,
        problems: reader.problems,
    })
}

/// Finds each kernel's initramfs, and looks into every file that a kernel or a boot entry leads to.
fn initramfs_files(
    reader: &mut Reader<'_>,
    kernels: &mut [LoadedKernel],
    entries: &[BootEntry],
) -> Result<Vec<InitramfsInfo>, VfsError> {
    // Which file is for which kernel; entries decide before names do.
    let mut files: Vec<(String, Option<String>)> = Vec::new();
    let mut seen = BTreeSet::new();
    let mut add = |file: &str, version: Option<&String>| {
        if seen.insert(file.to_owned()) {
            files.push((file.to_owned(), version.cloned()));
        }
    };
    for entry in entries {
        for file in entry.initrds.iter().filter_map(|initrd| initrd.path.as_ref()) {
            add(file, entry.kernel_version.as_ref());
        }
    }
    for kernel in kernels.iter_mut() {
        let version = kernel.kernel.version.clone();
        let by_entry = entries
            .iter()
            .filter(|entry| entry.kernel_version.as_ref() == Some(&version))
            .find_map(|entry| entry.initrds.iter().rev().find_map(|initrd| initrd.path.clone()));
        kernel.kernel.initramfs = match by_entry {
            Some(file) => Some(file),
            None => by_name(reader, &version)?,
        };
        if let Some(file) = &kernel.kernel.initramfs {
            add(file, Some(&version));
        }
    }
    if files.len() > INITRAMFS_FILES_MAX {
        let count = files.len();
        let message = format!("{count} initramfs files; {INITRAMFS_FILES_MAX} are looked into");
        reader.problem("guest.initramfs.many", message);
        files.truncate(INITRAMFS_FILES_MAX);
    }
    let mut found = Vec::new();
    let mut unpacked_left = UNPACKED_MAX;
    for (file, version) in files {
        let kernel =
            version.and_then(|version| kernels.iter().find(|kernel| kernel.kernel.version == version));
        let problems = reader.problems.len();
        let info = match reader.read(&file, INITRAMFS_MAX)? {
            Some(bytes) => look_into(&file, &bytes, kernel, unpacked_left),
            None => {
                let why = reader.problems.get(problems).map(|problem| problem.message.clone());
                let message = why.unwrap_or_else(|| format!("{file}: cannot be read"));
                let error = Some(Problem { code: "guest.initramfs.not-read".into(), message });
                InitramfsInfo { error, ..look_into(&file, &[], None, 0) }
            }
        };
        let unpacked = match info.segments.is_empty() {
            // It may have been unpacked up to the limit before it failed.
            true => initramfs::Limits::default().unpacked_from(info.size),
            false => info.segments.iter().map(|segment| segment.unpacked_len).sum(),
        };
        unpacked_left = unpacked_left.saturating_sub(unpacked);
        found.push(info);
    }
    Ok(found)
}

fn by_name(reader: &Reader<'_>, version: &str) -> Result<Option<String>, VfsError> {
    let candidates = [
        format!("/boot/initrd.img-{version}"),
        format!("/boot/initramfs-{version}.img"),
        format!("/boot/initrd-{version}"),
        format!("/lib/modules/{version}/initrd"),
    ];
    for candidate in candidates {
        if let Some(real) = reader.real_file(&candidate)? {
            return Ok(Some(real));
        }
    }
    Ok(None)
}
