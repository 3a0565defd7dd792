//! Partition tables: MBR with logical partitions, GPT with both copies validated, hybrids.
//!
//! [`read`] follows the Linux kernel where tools disagree: a GPT counts only behind a protective MBR
//! entry, an MBR slot is used when it has a length, logical partitions count from 5. It goes further
//! in one point: a GPT whose primary copy is broken is read from its backup, and a finding says so.
//!
//! Nothing is renumbered: a [`Partition::number`] is the position in the table. Sizes, counts and
//! chain lengths are bounded before they are used.

mod boot_code;
mod dump;
mod edit;
mod error;
mod gpt;
mod mbr;
mod read;
mod verify;

pub use boot_code::BootCode;
pub use dump::dump;
pub use edit::{fit_to_disk, remove};
pub use error::{CopyFault, Finding, PartitionError};
pub use gpt::{EncodedCopy, Gpt, GptCopy, GptCopyKind, GptEntry, GptHeader, TYPE_BIOS_BOOT, TYPE_ESP};
pub use mbr::{Ebr, MBR_BYTES, Mbr, MbrEntry};
pub use read::read;

use ondisk::Guid;

/// Which kind of table the disk has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TableKind {
    /// None: the disk is empty or one filesystem.
    None,
    /// MBR.
    Mbr,
    /// GPT with a protective MBR.
    Gpt,
    /// GPT whose MBR also names partitions; the kernel takes the GPT.
    HybridGpt,
}

/// Type of a partition as its table stores it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PartitionType {
    /// MBR type byte.
    Mbr(u8),
    /// GPT type GUID.
    Gpt(Guid),
}

impl PartitionType {
    /// True for an EFI system partition.
    pub fn is_esp(self) -> bool {
        match self {
            PartitionType::Mbr(code) => code == mbr::TYPE_ESP,
            PartitionType::Gpt(guid) => guid.to_string() == TYPE_ESP,
        }
    }

    /// True for a BIOS boot partition, where GRUB keeps its core image on a GPT disk.
    pub fn is_bios_boot(self) -> bool {
        matches!(self, PartitionType::Gpt(guid) if guid.to_string() == TYPE_BIOS_BOOT)
    }
}

impl std::fmt::Display for PartitionType {
    /// `0x83`, or the GUID in lower case.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PartitionType::Mbr(code) => write!(f, "{code:#04x}"),
            PartitionType::Gpt(guid) => write!(f, "{guid}"),
        }
    }
}

/// Place of a partition in its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PartitionRole {
    /// A GPT entry, or one of the four MBR slots.
    Primary,
    /// MBR slot that only holds logical partitions.
    Extended,
    /// Found in an EBR.
    Logical,
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Number as the kernel counts.
    pub number: u32,
    /// Place in the table.
    pub role: PartitionRole,
    /// First LBA.
    pub start_lba: u64,
    /// Sectors.
    pub len_sectors: u64,
    /// First byte.
    pub start: u64,
    /// Bytes.
    pub len: u64,
    /// Type.
    pub partition_type: PartitionType,
    /// PARTUUID as udev prints it, lower case.
    pub partuuid: String,
    /// GPT name; `None` when empty and on MBR disks.
    pub name: Option<String>,
    /// MBR: active flag. GPT: legacy BIOS bootable attribute (bit 2).
    pub is_active: bool,
    /// False when it ends behind the disk: then nothing in it is read.
    pub fits_disk: bool,
    /// True when it shares sectors with another one (an extended partition and its logical ones aside).
    pub overlaps: bool,
}

/// Everything found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionTable {
    /// Kind of table.
    pub kind: TableKind,
    /// Bytes per logical sector: given, or recognised by the GPT header, or 512.
    pub sector_size: u32,
    /// Length of the disk in bytes.
    pub disk_len: u64,
    /// Partitions in the order of their numbers, extended ones included.
    pub partitions: Vec<Partition>,
    /// The first sector, when it is an MBR of any kind.
    pub mbr: Option<Mbr>,
    /// EBRs in the order of the chain.
    pub ebrs: Vec<Ebr>,
    /// GPT copies.
    pub gpt: Option<Gpt>,
    /// Boot code.
    pub boot_code: BootCode,
    /// What is noteworthy or wrong.
    pub findings: Vec<Finding>,
}

impl PartitionTable {
    /// The partition with this number.
    pub fn partition(&self, number: u32) -> Option<&Partition> {
        self.partitions.iter().find(|partition| partition.number == number)
    }
}
