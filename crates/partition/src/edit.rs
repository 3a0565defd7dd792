//! The two edits of a table that a refit needs: following a disk that became longer, and dropping a partition.
//!
//! Both refuse what they cannot do whole; nothing is written then.

use block::WriteAt;

use crate::gpt::{EncodedCopy, Gpt, GptCopy, GptCopyKind};
use crate::mbr::{ENTRIES_AT, ENTRY_BYTES, Ebr, Mbr, TYPE_GPT_PROTECTIVE};
use crate::{Partition, PartitionError, PartitionRole, PartitionTable, TableKind};

/// Room that UEFI 2.10, 5.3.3 reserves for an entry array at least.
const ARRAY_MIN_BYTES: u64 = 16_384;
/// End of a protective entry in CHS when the disk is longer than CHS can say; firmware accepts both.
const CHS_BEYOND: [[u8; 3]; 2] = [[0xff, 0xff, 0xff], [0xfe, 0xff, 0xff]];

fn refuse(code: &'static str, detail: impl Into<String>) -> PartitionError {
    PartitionError::Edit { code, detail: detail.into() }
}

/// Makes `table` fit `disk`, which became longer since the table was read.
///
/// GPT: the backup header and its array go to the new end, the primary header and the protective MBR learn of it. The
/// entries, their numbers and all unknown bytes stay. An MBR and a disk without a table need nothing.
pub fn fit_to_disk(disk: &dyn WriteAt, table: &PartitionTable) -> Result<(), PartitionError> {
    let Some(gpt) = &table.gpt else { return Ok(()) };
    let sector_size = u64::from(table.sector_size);
    let last_lba = (disk.len() / sector_size).saturating_sub(1);
    let mut primary = sound_primary(gpt)?.clone();
    let header = &mut primary.header;
    let array_bytes = u64::from(header.entry_count) * u64::from(header.entry_size);
    let array_sectors = array_bytes.div_ceil(sector_size);
    let reserved = array_bytes.max(ARRAY_MIN_BYTES).div_ceil(sector_size);
    let last_usable = last_lba.saturating_sub(reserved + 1);
    let furthest = primary.entries.iter().map(|entry| entry.last_lba).max().unwrap_or(0);
    if last_usable < furthest.max(header.first_usable_lba) {
        let detail = format!(
            "no room for the backup table behind LBA {furthest}, where the last partition ends: the disk ends at LBA \
             {last_lba}"
        );
        return Err(refuse("partition.grow.no-room", detail));
    }
    // A backup that stays where it is keeps its bounds, too.
    let is_in_place = gpt.other.as_ref().is_ok_and(|backup| backup.header.my_lba == last_lba);
    if is_in_place && header.alternate_lba == last_lba {
        return Ok(());
    }
    header.alternate_lba = last_lba;
    header.last_usable_lba = last_usable;
    // The backup's own bytes where there is one, so that what is unknown in them stays.
    let mut backup = gpt.other.as_ref().unwrap_or(&primary).clone();
    let entries_lba = last_lba - array_sectors;
    backup.entries.clone_from(&primary.entries);
    backup.header = crate::GptHeader {
        my_lba: last_lba,
        alternate_lba: primary.header.my_lba,
        entries_lba,
        ..primary.header
    };
    let backup = backup.with_raw_entries_of(&primary);
    if let Ok(old) = &gpt.other {
        clear_old_backup(disk, sector_size, old, &primary, entries_lba)?;
    }
    write_copy(disk, &backup.encode())?;
    write_copy(disk, &primary.encode())?;
    let Some(mbr) = table.mbr.as_ref().filter(|mbr| !mbr.is_hybrid()) else { return Ok(()) };
    write_protective(disk, mbr, last_lba)
}

/// A stale header in free space would one day be found by a tool that searches for it.
fn clear_old_backup(
    disk: &dyn WriteAt,
    sector_size: u64,
    old: &GptCopy,
    primary: &GptCopy,
    new_entries_lba: u64,
) -> Result<(), PartitionError> {
    let array_bytes = old.raw_entries().len() as u64;
    let places = [(old.header.entries_lba, array_bytes.div_ceil(sector_size)), (old.header.my_lba, 1)];
    for (lba, sectors) in places {
        let end = lba.saturating_add(sectors);
        let is_partition = primary.entries.iter().any(|entry| entry.first_lba < end && lba <= entry.last_lba);
        // Only where nothing else stands: behind the primary array, in no partition, before the new place.
        if lba >= primary.header.first_usable_lba && !is_partition && end <= new_entries_lba {
            disk.write_zeroes(lba * sector_size, sectors * sector_size)?;
        }
    }
    Ok(())
}

fn write_protective(disk: &dyn WriteAt, mbr: &Mbr, last_lba: u64) -> Result<(), PartitionError> {
    let mut raw = mbr.raw;
    let slot = mbr.entries.iter().position(|entry| entry.type_code == TYPE_GPT_PROTECTIVE);
    let Some(slot) = slot else { return Ok(()) };
    let at = ENTRIES_AT + slot * ENTRY_BYTES;
    if let Some(entry) = raw.get_mut(at..at + ENTRY_BYTES) {
        if !CHS_BEYOND.iter().any(|beyond| entry[5..8] == *beyond) {
            entry[5..8].copy_from_slice(&CHS_BEYOND[0]);
        }
        let sectors = u32::try_from(last_lba).unwrap_or(u32::MAX);
        entry[12..16].copy_from_slice(&sectors.to_le_bytes());
    }
    Ok(disk.write_all_at(&raw, 0)?)
}

fn write_copy(disk: &dyn WriteAt, copy: &EncodedCopy) -> Result<(), PartitionError> {
    disk.write_all_at(&copy.entries, copy.entries_offset)?;
    Ok(disk.write_all_at(&copy.header, copy.header_offset)?)
}

/// The primary copy, when it is the one in use.
fn sound_primary(gpt: &Gpt) -> Result<&GptCopy, PartitionError> {
    match (gpt.used, &gpt.other) {
        (GptCopyKind::Primary, _) => Ok(&gpt.copy),
        (GptCopyKind::Backup, Err(fault)) => {
            Err(refuse("partition.edit.damaged", format!("the table is damaged and is not edited: {fault}")))
        }
        (GptCopyKind::Backup, Ok(primary)) => Ok(primary),
    }
}

/// Takes partition `number` out of the table. Its bytes stay, and so do all others; an extended partition that is
/// left empty goes along.
pub fn remove(disk: &dyn WriteAt, table: &PartitionTable, number: u32) -> Result<(), PartitionError> {
    let Some(partition) = table.partition(number) else {
        return Err(refuse("partition.remove.not-found", format!("there is no partition {number}")));
    };
    match table.kind {
        TableKind::Gpt => remove_from_gpt(disk, table, number),
        TableKind::HybridGpt => Err(refuse(
            "partition.remove.hybrid",
            "the disk has a hybrid MBR, which names partitions a second time: it is not edited",
        )),
        TableKind::Mbr | TableKind::None => match partition.role {
            PartitionRole::Primary => {
                let slot = number.saturating_sub(1) as usize;
                clear_slot(disk, 0, slot)
            }
            PartitionRole::Logical => remove_logical(disk, table, partition),
            PartitionRole::Extended => Err(refuse(
                "partition.remove.extended",
                format!("partition {number} is an extended partition: remove its logical partitions"),
            )),
        },
    }
}

fn remove_from_gpt(disk: &dyn WriteAt, table: &PartitionTable, number: u32) -> Result<(), PartitionError> {
    let Some(gpt) = &table.gpt else { return Ok(()) };
    let mut primary = sound_primary(gpt)?.clone();
    let mut backup = match (&gpt.other, gpt.used) {
        (Ok(backup), GptCopyKind::Primary) => backup.clone(),
        (Err(fault), _) => {
            let detail =
                format!("the backup table is damaged, so that only one copy could be edited: {fault}");
            return Err(refuse("partition.edit.damaged", detail));
        }
        (Ok(_), GptCopyKind::Backup) => gpt.copy.clone(),
    };
    let unique = |copy: &GptCopy| {
        copy.entries
            .iter()
            .find(|entry| entry.number == number)
            .map(|entry| (entry.first_lba, entry.unique_guid))
    };
    if unique(&primary) != unique(&backup) {
        let detail = format!("the two copies of the table disagree about partition {number}");
        return Err(refuse("partition.edit.damaged", detail));
    }
    for copy in [&mut backup, &mut primary] {
        copy.entries.retain(|entry| entry.number != number);
        write_copy(disk, &copy.encode())?;
    }
    Ok(())
}

/// Clears one of the four slots of an MBR or EBR.
fn clear_slot(disk: &dyn WriteAt, sector_at: u64, slot: usize) -> Result<(), PartitionError> {
    put_slot(disk, sector_at, slot, &[0; ENTRY_BYTES])
}

fn put_slot(
    disk: &dyn WriteAt,
    sector_at: u64,
    slot: usize,
    raw: &[u8; ENTRY_BYTES],
) -> Result<(), PartitionError> {
    Ok(disk.write_all_at(raw, sector_at + (ENTRIES_AT + slot * ENTRY_BYTES) as u64)?)
}

fn remove_logical(
    disk: &dyn WriteAt,
    table: &PartitionTable,
    partition: &Partition,
) -> Result<(), PartitionError> {
    let number = partition.number;
    let logicals = || table.partitions.iter().filter(|one| one.role == PartitionRole::Logical);
    // Logical partitions have no number of their own: the kernel counts them along the chain.
    if let Some(later) = logicals().map(|one| one.number).find(|one| *one > number) {
        let detail = format!(
            "partition {number} is a logical partition with others behind it: partition {later} would become {}",
            later - 1
        );
        return Err(refuse("partition.remove.renumbers", detail));
    }
    let lost = || {
        let detail = format!("the entry of logical partition {number} was not found");
        refuse("partition.edit.damaged", detail)
    };
    let of_it = |ebr: &&Ebr| data_slot(ebr, partition).is_some();
    let ebr = table.ebrs.iter().find(of_it).ok_or_else(lost)?;
    let slot = data_slot(ebr, partition).ok_or_else(lost)?;
    let sector_size = u64::from(table.sector_size);
    let container = table
        .partitions
        .iter()
        .filter(|one| one.role == PartitionRole::Extended)
        .find(|one| (one.start_lba..one.start_lba.saturating_add(one.len_sectors)).contains(&ebr.lba))
        .ok_or_else(lost)?;
    let has_others = logicals().any(|one| {
        one.number != number
            && (container.start_lba..container.start_lba.saturating_add(container.len_sectors))
                .contains(&one.start_lba)
    });
    clear_slot(disk, ebr.lba * sector_size, slot)?;
    if !has_others {
        return clear_slot(disk, 0, container.number.saturating_sub(1) as usize);
    }
    // The chain goes on where this link led to; the first EBR stays, it begins the chain.
    let links_here = |from: &&Ebr| {
        from.entries.iter().any(|entry| {
            entry.is_used()
                && entry.is_extended()
                && container.start_lba + u64::from(entry.start_lba) == ebr.lba
        })
    };
    let Some(before) = table.ebrs.iter().find(links_here) else { return Ok(()) };
    let link_slot = before.entries.iter().position(|entry| {
        entry.is_used() && entry.is_extended() && container.start_lba + u64::from(entry.start_lba) == ebr.lba
    });
    let onward = ebr.entries.iter().find(|entry| entry.is_used() && entry.is_extended());
    let raw = onward.map_or([0; ENTRY_BYTES], |entry| entry.raw);
    match link_slot {
        Some(link_slot) => put_slot(disk, before.lba * sector_size, link_slot, &raw),
        None => Ok(()),
    }
}

fn data_slot(ebr: &Ebr, partition: &Partition) -> Option<usize> {
    ebr.entries.iter().position(|entry| {
        entry.is_used()
            && !entry.is_extended()
            && ebr.lba + u64::from(entry.start_lba) == partition.start_lba
            && u64::from(entry.len_sectors) == partition.len_sectors
    })
}
