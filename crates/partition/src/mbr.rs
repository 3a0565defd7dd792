//! MBR and the chain of EBRs (Linux `block/partitions/msdos.c`, libfdisk `dos.c`).

use std::collections::BTreeSet;

use block::ReadAt;
use ondisk::{le_u16, le_u32};

use crate::{Finding, PartitionError};

/// Bytes of an MBR or EBR, whatever the sector size.
pub const MBR_BYTES: usize = 512;
/// Bytes of boot code in front of the disk signature.
pub const BOOT_CODE_BYTES: usize = 440;
/// Type of the protective entry of a GPT disk.
pub const TYPE_GPT_PROTECTIVE: u8 = 0xee;
/// Type of an EFI system partition.
pub const TYPE_ESP: u8 = 0xef;

const SIGNATURE_AT: usize = 510;
const SIGNATURE: u16 = 0xaa55;
const DISK_SIGNATURE_AT: usize = 440;
pub(crate) const ENTRIES_AT: usize = 446;
pub(crate) const ENTRY_BYTES: usize = 16;
/// Logical partitions at most: the kernel gives up at 256 partitions of a disk (`DISK_MAX_PARTS`).
const MAX_LOGICALS: usize = 252;
/// EBRs read at most; empty ones count too.
const MAX_EBRS: usize = 1024;

/// One of the four slots of an MBR or EBR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MbrEntry {
    /// 0x80 active, 0 not; anything else is wrong.
    pub boot_indicator: u8,
    /// Partition type.
    pub type_code: u8,
    /// First sector; in an EBR relative (see [`Ebr`]).
    pub start_lba: u32,
    /// Sectors; 0 in an unused slot.
    pub len_sectors: u32,
    /// The 16 bytes as stored.
    pub raw: [u8; ENTRY_BYTES],
}

impl MbrEntry {
    fn parse(bytes: &[u8; MBR_BYTES], slot: usize) -> Self {
        let at = ENTRIES_AT + slot * ENTRY_BYTES;
        let mut raw = [0; ENTRY_BYTES];
        raw.copy_from_slice(&bytes[at..at + ENTRY_BYTES]);
        Self {
            boot_indicator: raw[0],
            type_code: raw[4],
            start_lba: le_u32(&raw, 8),
            len_sectors: le_u32(&raw, 12),
            raw,
        }
    }

    /// True when the slot describes something, as the kernel decides it.
    pub fn is_used(&self) -> bool {
        self.len_sectors != 0
    }

    /// True for a container of logical partitions.
    pub fn is_extended(&self) -> bool {
        matches!(self.type_code, 0x05 | 0x0f | 0x85)
    }
}

/// The first 512 bytes of a partitioned disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mbr {
    /// All bytes as stored.
    pub raw: [u8; MBR_BYTES],
    /// Disk signature, the first half of a PARTUUID.
    pub disk_signature: u32,
    /// The four slots.
    pub entries: [MbrEntry; 4],
}

impl Mbr {
    /// Takes the first 512 bytes of a disk apart; `None` when they are no MBR.
    ///
    /// Like the kernel, any boot indicator but 0 and 0x80 means that this is no partition table.
    pub fn parse(raw: &[u8; MBR_BYTES]) -> Option<Self> {
        if le_u16(raw, SIGNATURE_AT) != SIGNATURE {
            return None;
        }
        let entries = [0, 1, 2, 3].map(|slot| MbrEntry::parse(raw, slot));
        if entries.iter().any(|entry| !matches!(entry.boot_indicator, 0 | 0x80)) {
            return None;
        }
        Some(Self { raw: *raw, disk_signature: le_u32(raw, DISK_SIGNATURE_AT), entries })
    }

    /// The entry that marks a GPT disk: type 0xEE starting at LBA 1.
    pub fn protective_entry(&self) -> Option<&MbrEntry> {
        self.entries.iter().find(|entry| entry.type_code == TYPE_GPT_PROTECTIVE && entry.start_lba == 1)
    }

    /// True when real partitions stand beside the protective entry.
    pub fn is_hybrid(&self) -> bool {
        self.protective_entry().is_some()
            && self.entries.iter().any(|entry| entry.is_used() && entry.type_code != TYPE_GPT_PROTECTIVE)
    }
}

/// One link of the chain of logical partitions.
///
/// The start of a data entry is relative to the EBR, that of a link relative to the extended partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ebr {
    /// Where it stands on the disk.
    pub lba: u64,
    /// All bytes as stored.
    pub raw: [u8; MBR_BYTES],
    /// The four slots.
    pub entries: [MbrEntry; 4],
}

/// A data partition found in an EBR, already absolute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Logical {
    pub start_lba: u64,
    pub entry: MbrEntry,
}

/// Follows the chain of one extended partition. What is wrong ends the chain and becomes a finding.
pub(crate) fn read_chain(
    disk: &dyn ReadAt,
    sector_size: u32,
    extended: &MbrEntry,
    ebrs: &mut Vec<Ebr>,
    findings: &mut Vec<Finding>,
) -> Result<Vec<Logical>, PartitionError> {
    let container_start = u64::from(extended.start_lba);
    let container_end = container_start + u64::from(extended.len_sectors);
    let mut logicals = Vec::new();
    let mut visited: BTreeSet<u64> = ebrs.iter().map(|ebr| ebr.lba).collect();
    let mut next = Some(container_start);
    while let Some(lba) = next.take() {
        if !visited.insert(lba) {
            findings.push(Finding::new(
                "mbr.ebr.cycle",
                format!("the chain of logical partitions comes back to the EBR at LBA {lba}"),
            ));
            break;
        }
        if ebrs.len() >= MAX_EBRS || logicals.len() >= MAX_LOGICALS {
            findings.push(Finding::new(
                "mbr.ebr.limit",
                format!(
                    "more than {MAX_LOGICALS} logical partitions or {MAX_EBRS} EBRs; the rest is ignored"
                ),
            ));
            break;
        }
        let mut raw = [0; MBR_BYTES];
        let position = lba.checked_mul(u64::from(sector_size)).filter(|at| {
            lba < container_end && at.checked_add(MBR_BYTES as u64).is_some_and(|end| end <= disk.len())
        });
        let Some(position) = position else {
            findings.push(Finding::new(
                "mbr.ebr.range",
                format!("the EBR at LBA {lba} lies outside its extended partition or the disk"),
            ));
            break;
        };
        disk.read_exact_at(&mut raw, position)?;
        if le_u16(&raw, SIGNATURE_AT) != SIGNATURE {
            findings.push(Finding::new(
                "mbr.ebr.signature",
                format!("the EBR at LBA {lba} has no 55 AA signature; logical partitions behind it are lost"),
            ));
            break;
        }
        let entries = [0, 1, 2, 3].map(|slot| MbrEntry::parse(&raw, slot));
        let data = entries.iter().enumerate().filter(|(_, entry)| entry.is_used() && !entry.is_extended());
        for (slot, entry) in data {
            let start_lba = lba + u64::from(entry.start_lba);
            let end = start_lba + u64::from(entry.len_sectors);
            // Slots 3 and 4 hold leftovers of some tools: the kernel takes them only when they fit.
            if slot >= 2 && (start_lba < container_start || end > container_end) {
                continue;
            }
            logicals.push(Logical { start_lba, entry: *entry });
        }
        next = entries
            .iter()
            .find(|entry| entry.is_used() && entry.is_extended())
            .map(|link| container_start + u64::from(link.start_lba));
        ebrs.push(Ebr { lba, raw, entries });
    }
    logicals.truncate(MAX_LOGICALS);
    Ok(logicals)
}
