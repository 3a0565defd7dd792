//! fstab and crypttab against the volumes of the disk.

use vfs::{DeviceTable, Fstab, FstabEntry, VfsError};

use crate::reading::Reader;
use crate::{CryptEntry, FstabRow, Resolution};

/// Entries that are looked at; the rest is noted.
const ENTRIES_MAX: usize = 1024;

/// Filesystem types that have no disk below them.
const NO_DISK: [&str; 24] = [
    "tmpfs",
    "proc",
    "sysfs",
    "devpts",
    "devtmpfs",
    "cgroup",
    "cgroup2",
    "debugfs",
    "tracefs",
    "securityfs",
    "configfs",
    "hugetlbfs",
    "mqueue",
    "binfmt_misc",
    "overlay",
    "ramfs",
    "efivarfs",
    "fusectl",
    "none",
    "autofs",
    "bpf",
    "pstore",
    "virtiofs",
    "9p",
];
const NETWORK: [&str; 10] =
    ["nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "glusterfs", "sshfs", "fuse.sshfs", "davfs"];

pub(crate) fn rows(reader: &mut Reader<'_>, devices: &DeviceTable) -> Result<Vec<FstabRow>, VfsError> {
    let Some(text) = reader.read("/etc/fstab", crate::reading::TEXT_MAX)? else { return Ok(Vec::new()) };
    let fstab = Fstab::parse(&text);
    let malformed: Vec<usize> = fstab.malformed_lines().take(16).collect();
    for line in malformed {
        reader.problem("guest.fstab.malformed", format!("/etc/fstab:{line}: neither an entry nor a comment"));
    }
    if fstab.entries().nth(ENTRIES_MAX).is_some() {
        reader.problem("guest.fstab.long", format!("/etc/fstab: only {ENTRIES_MAX} entries are looked at"));
    }
    Ok(fstab.entries().take(ENTRIES_MAX).map(|entry| row(&entry, devices)).collect())
}

fn row(entry: &FstabEntry, devices: &DeviceTable) -> FstabRow {
    let device = String::from_utf8_lossy(&entry.device).into_owned();
    let fs_type = String::from_utf8_lossy(&entry.fs_type).into_owned();
    let is_network = NETWORK.contains(&fs_type.as_str()) || entry.has_option("_netdev");
    let has_no_disk = is_network
        || NO_DISK.contains(&fs_type.as_str())
        || fs_type.starts_with("fuse.")
        || ["bind", "rbind", "loop"].iter().any(|option| entry.has_option(option));
    let is_file = device.starts_with('/') && !device.starts_with("/dev/");
    let (resolution, partition) = match has_no_disk || is_file {
        true => (Resolution::NotADisk, None),
        false => resolve(&device, devices),
    };
    let options = ["nofail", "noauto", "x-systemd.automount"];
    FstabRow {
        line: entry.id.line(),
        mount_point: String::from_utf8_lossy(&entry.mount_point).into_owned(),
        options: String::from_utf8_lossy(&entry.options).into_owned(),
        is_optional: is_network || options.iter().any(|option| entry.has_option(option)),
        device,
        fs_type,
        resolution,
        partition,
    }
}

/// What a device specification means on this disk, and the partition that it leads to.
pub(crate) fn resolve(device: &str, devices: &DeviceTable) -> (Resolution, Option<u32>) {
    if let Some(volume) = devices.resolve(device).and_then(|index| devices.volumes.get(index)) {
        let resolution = match DeviceTable::is_unstable_name(device) {
            true => Resolution::Unstable,
            false => Resolution::Stable,
        };
        return (resolution, volume.partition);
    }
    let by_host = ["/dev/disk/by-id/", "/dev/disk/by-path/"].iter().any(|dir| device.starts_with(dir));
    if by_host {
        return (Resolution::Unknown, None);
    }
    let is_tag = ["UUID=", "LABEL=", "/dev/disk/by-uuid/", "/dev/disk/by-label/"]
        .iter()
        .any(|prefix| device.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix)));
    // A filesystem may lie inside of what is not looked into.
    if is_tag && has_opaque_volume(devices) {
        return (Resolution::Unknown, None);
    }
    let is_partition_tag =
        ["PARTUUID=", "PARTLABEL="].iter().any(|prefix| device.to_ascii_uppercase().starts_with(prefix));
    match is_tag
        || is_partition_tag
        || DeviceTable::is_unstable_name(device)
        || device.starts_with("/dev/disk/")
    {
        true => (Resolution::Missing, None),
        false => (Resolution::Unknown, None),
    }
}

/// True when some volume holds others: LVM, RAID, encryption, or something that was not recognised.
fn has_opaque_volume(devices: &DeviceTable) -> bool {
    devices.volumes.iter().filter_map(|volume| volume.content.as_deref()).any(|content| {
        let content = content.to_ascii_lowercase();
        ["lvm", "raid", "luks", "bcache", "zfs", "ddf"].iter().any(|name| content.contains(name))
    })
}

pub(crate) fn crypttab(reader: &mut Reader<'_>) -> Result<Vec<CryptEntry>, VfsError> {
    let text = reader.text("/etc/crypttab")?.unwrap_or_default();
    let entry = |(index, line): (usize, &str)| {
        let mut fields = line.split_whitespace();
        let name = fields.next().filter(|name| !name.starts_with('#'))?.to_owned();
        Some(CryptEntry { line: index + 1, name, device: fields.next()?.to_owned() })
    };
    Ok(text.lines().enumerate().filter_map(entry).take(ENTRIES_MAX).collect())
}
