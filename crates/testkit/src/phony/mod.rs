//! Phony guests: trees of a few MB with what a release's installer leaves in `/etc`, `/boot` and `/lib/modules`, and
//! the disk to go with them. No program of theirs runs; every configuration file is true to its release.

mod boot;
mod config;
mod image;
mod initramfs;
mod modules;
mod network;
mod release;
mod services;
mod system;

use vfs::{DeviceTable, FirmwareFacts, TableKind, Volume};

use crate::DirFs;

pub use self::image::raw_disk;
pub use self::release::{Line, RELEASES, Release};

/// UUID of every root filesystem.
pub const ROOT: &str = "7c1d5e0a-2f4b-4c8e-9a51-00c01df17001";
/// UUID of every swap partition.
pub const SWAP: &str = "7c1d5e0a-2f4b-4c8e-9a51-00c01df17002";
/// Hardware address of the machine on which the guest was installed.
pub const MAC: &str = "00:50:56:a1:b2:c3";

/// A guest that was installed under another hypervisor, with a fixed address, and ran for a while.
pub struct Phony {
    /// Which release.
    pub release: &'static Release,
    /// Its files.
    pub files: DirFs,
    /// Its disk.
    pub devices: DeviceTable,
}

/// The guest of this name.
pub fn guest(name: &str) -> Option<Phony> {
    let release = RELEASES.iter().find(|release| release.name == name)?;
    let mut files = DirFs::new();
    files.set_uuid(ROOT);
    system::install(release, &mut files);
    modules::PhonyKernel::new(release).install(&mut files);
    boot::install(release, &mut files);
    network::install(release, &mut files);
    services::install(release, &mut files);
    config::install(release, &mut files);
    Some(Phony { release, files, devices: disk(release) })
}

/// A BIOS disk: swap before root as partitioners of the older releases leave it, root alone for others. arm64 has a GPT
/// with an EFI system partition.
fn disk(release: &Release) -> DeviceTable {
    const GIB: u64 = 1 << 30;
    let volume = |partition, start: u64, len, content: &str, uuid: &str| Volume {
        partition: Some(partition),
        start: start << 20,
        len,
        content: Some(content.into()),
        uuid: Some(uuid.into()),
        ..Volume::default()
    };
    let disk_len = if release.is_debian_like() { 8 * GIB } else { 40 * GIB };
    let root_len = disk_len - GIB - (2 << 20);
    let filesystem = release.root_filesystem();
    let mut devices = DeviceTable {
        image_format: Some("qcow2".into()),
        disk_len,
        sector_size: 512,
        table: TableKind::Mbr,
        volumes: vec![volume(1, 1, GIB, "swap", SWAP), volume(2, 1025, root_len, filesystem, ROOT)],
        firmware: FirmwareFacts { mbr_boot_code: Some("grub".into()), ..FirmwareFacts::default() },
    };
    if release.is_arm64() {
        devices.table = TableKind::Gpt;
        devices.volumes[0] = volume(1, 1, GIB, "vfat", "C01D-F175");
        devices.firmware = FirmwareFacts { esp_partition: Some(1), ..FirmwareFacts::default() };
    }
    devices
}

impl Release {
    /// Device name of the root filesystem on the old machine.
    fn root_device(&self) -> &'static str {
        "/dev/sda2"
    }

    /// How fstab and boot loader name the root filesystem: by device where installers of the time did.
    fn root_name(&self) -> String {
        match self.line {
            Line::El(6) | Line::Suse(12) | Line::Debian(9) => self.root_device().to_owned(),
            _ => format!("UUID={ROOT}"),
        }
    }

    /// How they name the swap partition.
    fn swap_name(&self) -> String {
        match self.line {
            Line::El(6) | Line::Suse(12) | Line::Debian(9) => "/dev/sda1".to_owned(),
            _ => format!("UUID={SWAP}"),
        }
    }

    /// Where programs and libraries really are.
    fn lib(&self) -> &'static str {
        if self.is_usr_merged() { "/usr/lib" } else { "/lib" }
    }

    /// The network card's name on the old machine.
    fn interface(&self) -> &'static str {
        match self.line {
            Line::El(6) | Line::Suse(_) => "eth0",
            Line::Ubuntu(_) => "ens160",
            _ => "ens192",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_release_makes_a_guest_and_makes_the_same_one_again() {
        for release in RELEASES {
            let make = || guest(release.name).expect(release.name).files.listing();
            let first = make();
            assert!(first.keys().any(|path| path.to_string() == release.initramfs()), "{}", release.name);
            assert!(first == make(), "{}: differs from one time to the next", release.name);
        }
    }
}
