//! What the layers below know of the disk, for everything above that only sees files.

/// Kind of partition table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TableKind {
    /// No partition table: the filesystem starts at the first byte.
    #[default]
    None,
    /// MBR, with logical partitions or without.
    Mbr,
    /// GPT with a protective MBR.
    Gpt,
    /// GPT with a hybrid MBR.
    HybridGpt,
}

/// A logical volume of LVM2: its place in the world of names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogicalName {
    /// Name of the volume group.
    pub group: String,
    /// Its own name.
    pub name: String,
    /// UUID of the volume group as LVM2 prints it.
    pub group_uuid: String,
    /// Its own UUID as LVM2 prints it.
    pub uuid: String,
    /// Indexes of the volumes that its group lies on.
    pub on: Vec<usize>,
}

/// One partition, the whole disk when it has no table, or a logical volume.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Volume {
    /// Which disk of the guest it is on: 0 is the first one. Of no meaning for a logical volume.
    pub disk: u32,
    /// Partition number as the kernel counts; `None` for a whole-disk filesystem and for a logical volume.
    pub partition: Option<u32>,
    /// Set for a logical volume, whose bytes lie on other volumes.
    pub logical: Option<LogicalName>,
    /// True for a logical partition of an MBR disk, one that lies in an extended partition.
    pub is_logical: bool,
    /// First byte on the virtual disk; 0 for a logical volume.
    pub start: u64,
    /// Length in bytes.
    pub len: u64,
    /// What is in it: `ext4`, `xfs`, `swap`, `vfat`, `lvm2-pv`, …; `None` when nothing was recognised.
    pub content: Option<String>,
    /// Printed UUID of the content, lower case (FAT: `XXXX-XXXX`).
    pub uuid: Option<String>,
    /// Label of the content.
    pub label: Option<String>,
    /// PARTUUID as udev prints it: GPT's unique GUID, or `xxxxxxxx-NN` of an MBR disk, lower case.
    pub partuuid: Option<String>,
    /// GPT partition name.
    pub partlabel: Option<String>,
    /// GPT type GUID, lower case, or MBR type as `0x83`.
    pub type_code: Option<String>,
}

impl Volume {
    /// First byte behind it.
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.len)
    }

    /// True for a partition of the disk with this index.
    pub fn is_partition(&self, disk: u32, number: u32) -> bool {
        self.disk == disk && self.partition == Some(number)
    }

    /// How reports name it: `partition 1`, `whole disk`, `disk 2, partition 1`, `logical volume vg/root`.
    pub fn name(&self) -> String {
        if let Some(logical) = &self.logical {
            return format!("logical volume {}/{}", logical.group, logical.name);
        }
        match (self.disk, self.partition) {
            (0, Some(number)) => format!("partition {number}"),
            (0, None) => "whole disk".to_owned(),
            (disk, Some(number)) => format!("disk {}, partition {number}", disk + 1),
            (disk, None) => format!("disk {}", disk + 1),
        }
    }
}

impl LogicalName {
    /// Name below `/dev/mapper` (`dm_build_dm_name` of libdevmapper): dashes within a name are doubled.
    pub fn mapper_name(&self) -> String {
        format!("{}-{}", self.group.replace('-', "--"), self.name.replace('-', "--"))
    }

    /// The UUIDs as device-mapper has them: both without dashes.
    fn mapper_uuid(&self) -> String {
        format!("{}{}", self.group_uuid, self.uuid).replace('-', "")
    }
}

/// A `.efi` program on the EFI system partition.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct EfiFile {
    /// Path from the partition's root, as its names are written: `EFI/BOOT/BOOTX64.EFI`.
    pub path: String,
    /// Machine that the PE header names; `None` when the file is no PE program.
    pub machine: Option<EfiMachine>,
    /// Which program it is, as far as its bytes show.
    pub program: Option<EfiProgram>,
    /// The directory that GRUB was built to look for its configuration in: `/EFI/debian`, `(,gpt2)/boot/grub`.
    pub grub_prefix: Option<String>,
}

/// Boot programs that are told apart, since they need different files beside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EfiProgram {
    /// shim: starts GRUB or its fallback program from its own directory.
    Shim,
    /// GRUB that carries its first commands with it (`grub-install` without Secure Boot).
    GrubWithConfig,
    /// GRUB that reads `grub.cfg` on the EFI system partition (signed builds).
    Grub,
    /// systemd-boot: reads `loader/entries`.
    SystemdBoot,
    /// A kernel with its initramfs and arguments (systemd-stub).
    KernelImage,
}

/// Machine type of a PE header (UEFI 2.10, 2.1.1 and the PE format's `IMAGE_FILE_MACHINE_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EfiMachine {
    /// 0x8664.
    X64,
    /// 0x014c.
    Ia32,
    /// 0xaa64.
    Aarch64,
    /// 0x01c2 or 0x01c4.
    Arm,
    /// 0x5064.
    Riscv64,
    /// 0x6264.
    Loongarch64,
    /// Any other number.
    Other(u16),
}

/// What can be seen of boot code outside the filesystems.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FirmwareFacts {
    /// Boot code in the first sector: `grub` (with a core image found), `grub-no-core`, `other`; `None` when empty.
    pub mbr_boot_code: Option<String>,
    /// Partition number of the BIOS boot partition (GPT).
    pub bios_boot_partition: Option<u32>,
    /// Partition number of the EFI system partition.
    pub esp_partition: Option<u32>,
    /// The `.efi` files of the EFI system partition, whether fstab names it or not; `None` when there is no such
    /// partition or it was not read, see `esp_problem`.
    pub efi_files: Option<Vec<EfiFile>>,
    /// All other files there: what the loaders read (`grub.cfg`, `BOOTX64.CSV`, …).
    pub loader_files: Vec<String>,
    /// Why the EFI system partition was not read.
    pub esp_problem: Option<String>,
}

/// An edit of the virtual disk itself, below all files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DiskEdit {
    /// The disk becomes this long. Partitions and filesystems keep their sizes: the guest grows them on its first boot
    /// (growpart), where the partition to grow is the last one.
    Grow {
        /// New length of the virtual disk in bytes.
        to: u64,
    },
    /// A partition goes out of the table. Its bytes stay where they are, and no other partition changes its number
    /// unless the format counts logical partitions through.
    RemovePartition {
        /// Partition number as the kernel counts.
        number: u32,
    },
}

impl std::fmt::Display for DiskEdit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DiskEdit::Grow { to } => write!(f, "the virtual disk becomes {to} bytes long"),
            DiskEdit::RemovePartition { number } => {
                write!(f, "partition {number} goes out of the partition table")
            }
        }
    }
}

/// The disk of one guest as a list of volumes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeviceTable {
    /// Format of the image file: `raw`, `qcow2`; `None` where no file is meant.
    pub image_format: Option<String>,
    /// Length of the virtual disk in bytes.
    pub disk_len: u64,
    /// Bytes per logical sector: 512 or 4096; 0 when nothing is known of the disk.
    pub sector_size: u32,
    /// Kind of partition table.
    pub table: TableKind,
    /// All volumes in the order of their numbers.
    pub volumes: Vec<Volume>,
    /// Boot code.
    pub firmware: FirmwareFacts,
}

impl DeviceTable {
    /// Index of the volume that a device specification of fstab, crypttab or `root=` names.
    ///
    /// Knows `UUID=`, `LABEL=`, `PARTUUID=`, `PARTLABEL=` (quoted or not), `/dev/disk/by-*`, and
    /// `/dev/` names with a partition number (`sda1`, `vda1`, `nvme0n1p1`, `mmcblk0p1`) of the first disk, and logical
    /// volumes by `/dev/GROUP/NAME`, `/dev/mapper/GROUP-NAME` (dashes within a name doubled), `/dev/disk/by-id/dm-name-…`
    /// and `dm-uuid-…`. Two groups of one name have no name at all: the guest could take either.
    pub fn resolve(&self, specification: &str) -> Option<usize> {
        let find = |matches: &dyn Fn(&Volume) -> bool| self.volumes.iter().position(matches);
        let same = |have: &Option<String>, want: &str| {
            have.as_deref().is_some_and(|have| have.eq_ignore_ascii_case(want))
        };
        let exact = |have: &Option<String>, want: &str| have.as_deref() == Some(want);
        let tag = |text: &str| text.trim_matches('"').trim_matches('\'').to_owned();
        if let Some((key, value)) = specification.split_once('=') {
            let value = tag(value);
            return match key.to_ascii_uppercase().as_str() {
                "UUID" => find(&|volume| same(&volume.uuid, &value)),
                "LABEL" => find(&|volume| exact(&volume.label, &value)),
                "PARTUUID" => find(&|volume| same(&volume.partuuid, &value)),
                "PARTLABEL" => find(&|volume| exact(&volume.partlabel, &value)),
                _ => None,
            };
        }
        let name = specification.strip_prefix("/dev/")?;
        if let Some(by) = name.strip_prefix("disk/") {
            let (kind, value) = by.split_once('/')?;
            let value = unescape_udev(value);
            return match kind {
                "by-uuid" => find(&|volume| same(&volume.uuid, &value)),
                "by-label" => find(&|volume| exact(&volume.label, &value)),
                "by-partuuid" => find(&|volume| same(&volume.partuuid, &value)),
                "by-partlabel" => find(&|volume| exact(&volume.partlabel, &value)),
                "by-id" => match value.strip_prefix("dm-name-") {
                    Some(name) => self.logical(&|logical| logical.mapper_name() == name),
                    None => {
                        let uuid = value.strip_prefix("dm-uuid-LVM-")?;
                        self.logical(&|logical| logical.mapper_uuid() == uuid)
                    }
                },
                _ => None,
            };
        }
        if let Some(name) = name.strip_prefix("mapper/") {
            return self.logical(&|logical| logical.mapper_name() == name);
        }
        if let Some((group, name)) = name.split_once('/') {
            return self.logical(&|logical| logical.group == group && logical.name == name);
        }
        let partition = Self::first_disk_partition(name)?;
        find(&|volume| volume.disk == 0 && volume.logical.is_none() && volume.partition == partition)
    }

    /// The only logical volume that is meant.
    fn logical(&self, is_meant: &dyn Fn(&LogicalName) -> bool) -> Option<usize> {
        let mut found = self
            .volumes
            .iter()
            .enumerate()
            .filter(|(_, volume)| volume.logical.as_ref().is_some_and(is_meant))
            .map(|(index, _)| index);
        let first = found.next();
        first.filter(|_| found.next().is_none())
    }

    /// Partition of the first disk that a kernel name such as `sda1` means: `Some(None)` is the whole disk.
    fn first_disk_partition(name: &str) -> Option<Option<u32>> {
        let rest =
            ["sda", "hda", "vda", "xvda"].iter().find_map(|disk| name.strip_prefix(disk)).or_else(|| {
                let rest = name.strip_prefix("nvme0n1").or_else(|| name.strip_prefix("mmcblk0"))?;
                match rest {
                    "" => Some(rest),
                    _ => rest.strip_prefix('p').filter(|number| !number.is_empty()),
                }
            })?;
        if rest.is_empty() {
            return Some(None);
        }
        if rest.len() > 3 || !rest.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        rest.parse().ok().map(Some)
    }

    /// The disk and the partition number that udev's names by place or serial number mean (`/dev/disk/by-path/…-part2`,
    /// `/dev/disk/by-id/ata-…`): the host decides them, so that they do not survive a change of the machine.
    pub fn host_name(specification: &str) -> Option<(&str, Option<u32>)> {
        let name = specification.strip_prefix("/dev/disk/")?;
        // Names of device-mapper come from the guest's own metadata.
        let is_hosts = ["by-path/", "by-id/"].iter().any(|folder| name.starts_with(folder))
            && !name.starts_with("by-id/dm-");
        let split = name.rsplit_once("-part").and_then(|(disk, number)| Some((disk, number.parse().ok()?)));
        is_hosts.then(|| split.map_or((name, None), |(disk, number)| (disk, Some(number))))
    }

    /// True when a device specification names a kernel device whose name depends on the bus or the order of
    /// discovery (`/dev/sda1`, `/dev/vdb`), so that it does not survive a change of the bus.
    pub fn is_unstable_name(specification: &str) -> bool {
        let Some(name) = specification.strip_prefix("/dev/") else { return false };
        let lettered = ["sd", "hd", "vd", "xvd"].iter().any(|prefix| {
            name.strip_prefix(prefix).is_some_and(|rest| {
                let letters = rest.bytes().take_while(u8::is_ascii_lowercase).count();
                letters > 0 && rest[letters..].bytes().all(|byte| byte.is_ascii_digit())
            })
        });
        let numbered = ["nvme", "mmcblk"].iter().any(|prefix| {
            name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        });
        let mapped =
            name.strip_prefix("dm-").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        lettered || numbered || mapped
    }
}

/// Undoes udev's `\xNN` escapes of `/dev/disk/by-*` names.
fn unescape_udev(name: &str) -> String {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let escaped = (*first == b'\\' && tail.first() == Some(&b'x'))
            .then(|| tail.get(1..3).and_then(|hex| std::str::from_utf8(hex).ok()))
            .flatten()
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match escaped {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> DeviceTable {
        let volume = |partition, uuid: &str, label: &str, partuuid: &str| Volume {
            partition: Some(partition),
            content: Some("ext4".into()),
            uuid: Some(uuid.into()),
            label: Some(label.into()),
            partuuid: Some(partuuid.into()),
            ..Volume::default()
        };
        DeviceTable {
            table: TableKind::Mbr,
            volumes: vec![
                volume(1, "aa-bb", "root fs", "1234abcd-01"),
                volume(5, "cc-dd", "home", "1234abcd-05"),
            ],
            ..DeviceTable::default()
        }
    }

    #[test]
    fn resolves_every_way_to_name_a_volume() {
        let table = table();
        for (specification, index) in [
            ("UUID=AA-BB", Some(0)),
            ("UUID=\"cc-dd\"", Some(1)),
            ("LABEL=home", Some(1)),
            ("LABEL=Home", None),
            ("PARTUUID=1234ABCD-05", Some(1)),
            ("/dev/sda1", Some(0)),
            ("/dev/vda5", Some(1)),
            ("/dev/nvme0n1p5", Some(1)),
            ("/dev/nvme0n15", None),
            ("/dev/sdb1", None),
            ("/dev/sda", None),
            ("/dev/disk/by-label/root\\x20fs", Some(0)),
            ("/dev/disk/by-uuid/cc-dd", Some(1)),
            ("proc", None),
        ] {
            assert_eq!(table.resolve(specification), index, "{specification}");
        }
    }

    #[test]
    fn logical_volumes_by_every_name_unless_two_groups_have_it() {
        let logical = |group: &str, name: &str, group_uuid: &str, uuid: &str| Volume {
            logical: Some(LogicalName {
                group: group.into(),
                name: name.into(),
                group_uuid: group_uuid.into(),
                uuid: uuid.into(),
                on: vec![0],
            }),
            ..Volume::default()
        };
        let mut table = table();
        table.volumes.extend([
            logical("my-vg", "ro-ot", "aaaaaa-1111", "bbbb-22"),
            logical("my-vg", "home", "aaaaaa-1111", "bbbb-33"),
        ]);
        for (specification, index) in [
            ("/dev/mapper/my--vg-ro--ot", Some(2)),
            ("/dev/my-vg/ro-ot", Some(2)),
            ("/dev/my-vg/home", Some(3)),
            ("/dev/mapper/my-vg-home", None),
            ("/dev/disk/by-id/dm-name-my--vg-home", Some(3)),
            ("/dev/disk/by-id/dm-uuid-LVM-aaaaaa1111bbbb22", Some(2)),
            ("/dev/vda", None),
        ] {
            assert_eq!(table.resolve(specification), index, "{specification}");
        }
        table.volumes.push(logical("my-vg", "home", "cccccc-1111", "dddd-33"));
        assert_eq!(table.resolve("/dev/my-vg/home"), None);
        assert_eq!(table.resolve("/dev/disk/by-id/dm-uuid-LVM-cccccc1111dddd33"), Some(4));
        assert_eq!(table.volumes[2].name(), "logical volume my-vg/ro-ot");
    }

    #[test]
    fn names_that_the_host_decides() {
        let disk = "by-path/pci-0000:00:03.0-ata-1";
        assert_eq!(DeviceTable::host_name(&format!("/dev/disk/{disk}-part2")), Some((disk, Some(2))));
        assert_eq!(DeviceTable::host_name("/dev/disk/by-id/wwn-0x5"), Some(("by-id/wwn-0x5", None)));
        for name in ["/dev/disk/by-uuid/aa-part1", "UUID=aa", "/dev/sda1"] {
            assert_eq!(DeviceTable::host_name(name), None, "{name}");
        }
    }

    #[test]
    fn unstable_names() {
        for name in ["/dev/sda1", "/dev/dm-0", "/dev/vda", "/dev/xvda2", "/dev/nvme0n1p1", "/dev/hdc"] {
            assert!(DeviceTable::is_unstable_name(name), "{name}");
        }
        for name in
            ["UUID=x", "/dev/mapper/a-b", "/dev/sdcard/x", "/dev/vg/lv", "/dev/disk/by-uuid/x", "/dev/shm"]
        {
            assert!(!DeviceTable::is_unstable_name(name), "{name}");
        }
    }
}
