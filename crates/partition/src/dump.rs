//! Every structure as deterministic text.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::{
    BootCode, Gpt, GptCopy, Mbr, MbrEntry, PartitionRole, PartitionTable, TableKind, mbr::BOOT_CODE_BYTES,
};

/// The whole table as text: same input, same output. Bytes without a known meaning are printed in hex
/// where they are not zero.
pub fn dump(table: &PartitionTable) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_dump(&mut text, table);
    text
}

fn write_dump(out: &mut String, table: &PartitionTable) -> std::fmt::Result {
    let kind = match table.kind {
        TableKind::None => "none",
        TableKind::Mbr => "mbr",
        TableKind::Gpt => "gpt",
        TableKind::HybridGpt => "hybrid-gpt",
    };
    writeln!(out, "table {kind}")?;
    writeln!(out, "  sector-size {}", table.sector_size)?;
    writeln!(out, "  disk-bytes {}", table.disk_len)?;
    match table.boot_code {
        BootCode::None => writeln!(out, "  boot-code none")?,
        BootCode::Other => writeln!(out, "  boot-code other")?,
        BootCode::Grub { core_sector, is_core_found } => {
            writeln!(out, "  boot-code grub core-sector {core_sector} core-found {is_core_found}")?
        }
    }
    if let Some(mbr) = &table.mbr {
        write_mbr(out, mbr)?;
    }
    for ebr in &table.ebrs {
        writeln!(out, "ebr lba {}", ebr.lba)?;
        write_entries(out, &ebr.entries)?;
        write_hex(out, "bytes-before-entries", &ebr.raw[..446])?;
    }
    if let Some(gpt) = &table.gpt {
        write_gpt(out, gpt)?;
    }
    for partition in &table.partitions {
        let role = match partition.role {
            PartitionRole::Primary => "primary",
            PartitionRole::Extended => "extended",
            PartitionRole::Logical => "logical",
        };
        writeln!(
            out,
            "partition {} {role} start {} sectors {} type {} partuuid {} active {} fits {} name {:?}",
            partition.number,
            partition.start_lba,
            partition.len_sectors,
            partition.partition_type,
            partition.partuuid,
            partition.is_active,
            partition.fits_disk,
            partition.name.as_deref().unwrap_or("")
        )?;
    }
    for finding in &table.findings {
        writeln!(out, "finding {}: {}", finding.code, finding.detail)?;
    }
    Ok(())
}

fn write_mbr(out: &mut String, mbr: &Mbr) -> std::fmt::Result {
    writeln!(out, "mbr disk-signature {:#010x}", mbr.disk_signature)?;
    write_entries(out, &mbr.entries)?;
    write_hex(out, "boot-code", &mbr.raw[..BOOT_CODE_BYTES])?;
    write_hex(out, "bytes-444-445", &mbr.raw[444..446])
}

fn write_entries(out: &mut String, entries: &[MbrEntry; 4]) -> std::fmt::Result {
    for (entry, slot) in entries.iter().zip(1..) {
        writeln!(
            out,
            "  slot {slot} type {:#04x} boot {:#04x} start {} sectors {} chs {:02x?} {:02x?}",
            entry.type_code,
            entry.boot_indicator,
            entry.start_lba,
            entry.len_sectors,
            &entry.raw[1..4],
            &entry.raw[5..8]
        )?;
    }
    Ok(())
}

fn write_gpt(out: &mut String, gpt: &Gpt) -> std::fmt::Result {
    writeln!(out, "gpt used {}", gpt.used.name())?;
    write_copy(out, &gpt.copy)?;
    match &gpt.other {
        Ok(copy) => {
            writeln!(out, "gpt other")?;
            write_copy(out, copy)
        }
        Err(fault) => writeln!(out, "gpt other invalid {}: {fault}", fault.code),
    }
}

fn write_copy(out: &mut String, copy: &GptCopy) -> std::fmt::Result {
    let header = &copy.header;
    writeln!(out, "  revision {:#010x} header-size {}", header.revision, header.header_size)?;
    writeln!(out, "  my-lba {} alternate-lba {}", header.my_lba, header.alternate_lba)?;
    writeln!(out, "  usable {} {}", header.first_usable_lba, header.last_usable_lba)?;
    writeln!(out, "  disk-guid {}", header.disk_guid)?;
    writeln!(
        out,
        "  entries-lba {} count {} size {}",
        header.entries_lba, header.entry_count, header.entry_size
    )?;
    write_hex(out, "reserved", &copy.raw_header()[20..24])?;
    write_hex(out, "behind-fields", &copy.raw_header()[92..])?;
    for entry in &copy.entries {
        writeln!(
            out,
            "  entry {} lba {} {} type {} guid {} attributes {:#018x} name {:?}",
            entry.number,
            entry.first_lba,
            entry.last_lba,
            entry.type_guid,
            entry.unique_guid,
            entry.attributes,
            entry.name()
        )?;
    }
    let entry_size = header.entry_size as usize;
    let used: BTreeSet<u32> = copy.entries.iter().map(|entry| entry.number).collect();
    for (raw, number) in copy.raw_entries().chunks_exact(entry_size.max(1)).zip(1u32..) {
        let unknown = if used.contains(&number) { raw.get(128..).unwrap_or_default() } else { raw };
        write_hex(out, &format!("entry-{number}-other-bytes"), unknown)?;
    }
    Ok(())
}

/// Nothing when all bytes are zero.
fn write_hex(out: &mut String, name: &str, bytes: &[u8]) -> std::fmt::Result {
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(());
    }
    write!(out, "  {name} ")?;
    for byte in bytes {
        write!(out, "{byte:02x}")?;
    }
    writeln!(out)
}
