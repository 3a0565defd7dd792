//! Disk → [`PartitionTable`].

use block::ReadAt;

use crate::gpt::{self, Gpt, GptCopy, GptCopyKind};
use crate::mbr::{MBR_BYTES, Mbr, read_chain};
use crate::{
    BootCode, Ebr, Finding, Partition, PartitionError, PartitionRole, PartitionTable, PartitionType,
    TableKind, boot_code, verify,
};

const SECTOR_SIZES: [u32; 2] = [512, 4096];
/// GPT attribute bit: legacy BIOS bootable.
const ATTRIBUTE_LEGACY_BOOT: u64 = 1 << 2;
/// Number of the first logical partition.
const FIRST_LOGICAL: u32 = 5;

/// Reads the partition table of `disk`.
///
/// With `sector_size` `None` the size is recognised by where a GPT header stands; an MBR does not tell,
/// so it counts in sectors of 512 bytes then.
pub fn read(disk: &dyn ReadAt, sector_size: Option<u32>) -> Result<PartitionTable, PartitionError> {
    let sector_size = match sector_size {
        Some(size) if SECTOR_SIZES.contains(&size) => size,
        Some(size) => return Err(PartitionError::SectorSize(size)),
        None => probe_sector_size(disk)?,
    };
    let mut table = PartitionTable {
        kind: TableKind::None,
        sector_size,
        disk_len: disk.len(),
        partitions: Vec::new(),
        mbr: None,
        ebrs: Vec::new(),
        gpt: None,
        boot_code: BootCode::None,
        findings: Vec::new(),
    };
    if disk.len() < MBR_BYTES as u64 {
        return Ok(table);
    }
    let mut first = [0; MBR_BYTES];
    disk.read_exact_at(&mut first, 0)?;
    table.boot_code = boot_code::read(disk, &first)?;
    let mbr = Mbr::parse(&first);
    match &mbr {
        Some(mbr) if mbr.protective_entry().is_some() => read_gpt(disk, mbr, &mut table)?,
        Some(mbr) if !is_fat_boot_sector(&first) || mbr.entries.iter().any(|entry| entry.is_used()) => {
            table.kind = TableKind::Mbr;
            note_unused_gpt(disk, &mut table)?;
            read_mbr(disk, mbr, &mut table)?;
        }
        _ => note_unused_gpt(disk, &mut table)?,
    }
    if table.kind != TableKind::None {
        table.mbr = mbr;
    }
    verify::partitions(&mut table);
    Ok(table)
}

/// 512 unless a GPT header, primary or backup, stands where only 4096-byte sectors put it.
fn probe_sector_size(disk: &dyn ReadAt) -> Result<u32, PartitionError> {
    for size in SECTOR_SIZES {
        if gpt::has_signature(disk, size, 1)? {
            return Ok(size);
        }
    }
    for size in SECTOR_SIZES {
        let sectors = disk.len() / u64::from(size);
        if sectors > 1 && gpt::has_signature(disk, size, sectors - 1)? {
            return Ok(size);
        }
    }
    Ok(512)
}

/// A FAT boot sector ends like an MBR (test as in the kernel's `msdos.c`: media, reserved sectors, FATs).
fn is_fat_boot_sector(first: &[u8; MBR_BYTES]) -> bool {
    let media = first[21];
    let reserved = u16::from_le_bytes([first[14], first[15]]);
    let is_jump = matches!(first[0], 0xeb | 0xe9);
    is_jump && (media >= 0xf8 || media == 0xf0) && reserved != 0 && first[16] != 0
}

fn note_unused_gpt(disk: &dyn ReadAt, table: &mut PartitionTable) -> Result<(), PartitionError> {
    if gpt::has_signature(disk, table.sector_size, 1)? {
        table.findings.push(Finding::new(
            "gpt.not-protected",
            "a GPT header stands at LBA 1, but the MBR has no protective entry (type 0xee from LBA 1): \
             the kernel ignores the GPT, and so is it here",
        ));
    }
    Ok(())
}

fn read_gpt(disk: &dyn ReadAt, mbr: &Mbr, table: &mut PartitionTable) -> Result<(), PartitionError> {
    let sector_size = table.sector_size;
    let last_lba = (disk.len() / u64::from(sector_size)).saturating_sub(1);
    let primary = GptCopy::read(disk, sector_size, GptCopyKind::Primary, 1)?;
    // Where to look for the backup: what the primary says (valid or not), the end of the disk, the end of
    // what the protective entry covers (a grown image).
    let stated = match &primary {
        Ok(copy) => Some(copy.header.alternate_lba),
        Err(_) => gpt::alternate_hint(disk, sector_size)?,
    };
    let covered = mbr.protective_entry().map(|entry| u64::from(entry.len_sectors));
    let mut candidates: Vec<u64> = Vec::new();
    for lba in [stated, Some(last_lba), covered].into_iter().flatten() {
        if lba > 1 && !candidates.contains(&lba) {
            candidates.push(lba);
        }
    }
    let mut backup = None;
    for lba in candidates {
        let found = GptCopy::read(disk, sector_size, GptCopyKind::Backup, lba)?;
        match (&backup, &found) {
            (None, _) => backup = Some(found),
            (Some(Err(_)), Ok(_)) => backup = Some(found),
            _ => {}
        }
        if matches!(backup, Some(Ok(_))) {
            break;
        }
    }
    let backup = match backup {
        Some(backup) => backup,
        None => GptCopy::read(disk, sector_size, GptCopyKind::Backup, last_lba)?,
    };
    let gpt = match (primary, backup) {
        (Ok(copy), other) => Gpt { used: GptCopyKind::Primary, copy, other },
        (Err(fault), Ok(copy)) => Gpt { used: GptCopyKind::Backup, copy, other: Err(fault) },
        (Err(primary), Err(backup)) => {
            return Err(PartitionError::NoValidGpt { primary: primary.into(), backup: backup.into() });
        }
    };
    table.kind = if mbr.is_hybrid() { TableKind::HybridGpt } else { TableKind::Gpt };
    for entry in &gpt.copy.entries {
        let len_sectors = entry.last_lba.checked_sub(entry.first_lba).and_then(|len| len.checked_add(1));
        let name = entry.name();
        table.partitions.push(partition(
            table,
            Partition {
                number: entry.number,
                role: PartitionRole::Primary,
                start_lba: entry.first_lba,
                len_sectors: len_sectors.unwrap_or(0),
                start: 0,
                len: 0,
                partition_type: PartitionType::Gpt(entry.type_guid),
                partuuid: entry.unique_guid.to_string(),
                name: (!name.is_empty()).then_some(name),
                is_active: entry.attributes & ATTRIBUTE_LEGACY_BOOT != 0,
                fits_disk: false,
                overlaps: false,
            },
        ));
    }
    verify::gpt(mbr, &gpt, last_lba, &mut table.findings);
    table.gpt = Some(gpt);
    Ok(())
}

fn read_mbr(disk: &dyn ReadAt, mbr: &Mbr, table: &mut PartitionTable) -> Result<(), PartitionError> {
    let of_entry = |number: u32, role, start_lba: u64, entry: &crate::MbrEntry| Partition {
        number,
        role,
        start_lba,
        len_sectors: u64::from(entry.len_sectors),
        start: 0,
        len: 0,
        partition_type: PartitionType::Mbr(entry.type_code),
        partuuid: format!("{:08x}-{number:02x}", mbr.disk_signature),
        name: None,
        is_active: entry.boot_indicator == 0x80,
        fits_disk: false,
        overlaps: false,
    };
    let mut ebrs: Vec<Ebr> = Vec::new();
    let mut next_logical = FIRST_LOGICAL;
    let mut logicals = Vec::new();
    for (entry, number) in mbr.entries.iter().zip(1..).filter(|(entry, _)| entry.is_used()) {
        let role = if entry.is_extended() { PartitionRole::Extended } else { PartitionRole::Primary };
        let found = partition(table, of_entry(number, role, u64::from(entry.start_lba), entry));
        table.partitions.push(found);
        if !entry.is_extended() {
            continue;
        }
        for logical in read_chain(disk, table.sector_size, entry, &mut ebrs, &mut table.findings)? {
            logicals.push(partition(
                table,
                of_entry(next_logical, PartitionRole::Logical, logical.start_lba, &logical.entry),
            ));
            next_logical += 1;
        }
    }
    table.partitions.append(&mut logicals);
    table.ebrs = ebrs;
    Ok(())
}

/// Fills in bytes, and whether they lie on the disk.
fn partition(table: &PartitionTable, mut partition: Partition) -> Partition {
    let sector_size = u64::from(table.sector_size);
    let start = partition.start_lba.checked_mul(sector_size);
    let len = partition.len_sectors.checked_mul(sector_size);
    let end = start.zip(len).and_then(|(start, len)| start.checked_add(len));
    partition.start = start.unwrap_or(u64::MAX);
    partition.len = len.unwrap_or(u64::MAX);
    partition.fits_disk = partition.len_sectors != 0 && end.is_some_and(|end| end <= table.disk_len);
    partition
}
