//! What a readable table still has wrong.

use std::collections::{BTreeMap, BTreeSet};

use crate::gpt::{Gpt, GptCopyKind};
use crate::mbr::{Mbr, TYPE_GPT_PROTECTIVE};
use crate::{Finding, Partition, PartitionRole, PartitionTable, TableKind};

/// Findings of one code at most; a damaged table makes them by the thousand.
const MAX_OF_ONE_CODE: usize = 32;

/// Drops what exceeds [`MAX_OF_ONE_CODE`] and says how many that were.
fn limit_findings(findings: &mut Vec<Finding>) {
    let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
    findings.retain(|finding| {
        let count = counts.entry(finding.code).or_default();
        *count += 1;
        *count <= MAX_OF_ONE_CODE
    });
    for (code, count) in counts.into_iter().filter(|(_, count)| *count > MAX_OF_ONE_CODE) {
        findings.push(Finding::new(code, format!("and {} more of these", count - MAX_OF_ONE_CODE)));
    }
}

/// Ranges and overlaps of all partitions.
pub(crate) fn partitions(table: &mut PartitionTable) {
    let mut findings = Vec::new();
    for partition in &table.partitions {
        if partition.len_sectors == 0 {
            findings.push(Finding::new(
                "partition.range",
                format!("partition {} ends before it starts", partition.number),
            ));
        } else if !partition.fits_disk {
            findings.push(Finding::new(
                "partition.out-of-range",
                format!(
                    "partition {} ({} sectors from LBA {}) ends behind the disk of {} bytes",
                    partition.number, partition.len_sectors, partition.start_lba, table.disk_len
                ),
            ));
        }
        if partition.start_lba == 0 && partition.len_sectors != 0 {
            findings.push(Finding::new(
                "partition.covers-table",
                format!("partition {} starts at LBA 0, where the table itself stands", partition.number),
            ));
        }
    }
    let mut sorted: Vec<&Partition> = table
        .partitions
        .iter()
        .filter(|partition| partition.role != PartitionRole::Extended && partition.len_sectors != 0)
        .collect();
    sorted.sort_by_key(|partition| (partition.start_lba, partition.number));
    let mut furthest: Option<&Partition> = None;
    let mut overlapping = BTreeSet::new();
    for partition in sorted {
        let end = |partition: &Partition| partition.start_lba.saturating_add(partition.len_sectors);
        if let Some(before) = furthest.filter(|before| end(before) > partition.start_lba) {
            overlapping.extend([before.number, partition.number]);
            findings.push(Finding::new(
                "partition.overlap",
                format!(
                    "partitions {} and {} overlap from LBA {}",
                    before.number, partition.number, partition.start_lba
                ),
            ));
        }
        if furthest.is_none_or(|before| end(before) < end(partition)) {
            furthest = Some(partition);
        }
    }
    for partition in &mut table.partitions {
        partition.overlaps =
            partition.role != PartitionRole::Extended && overlapping.contains(&partition.number);
    }
    for logical in table.partitions.iter().filter(|partition| partition.role == PartitionRole::Logical) {
        let end = logical.start_lba.saturating_add(logical.len_sectors);
        let is_inside = table.partitions.iter().any(|extended| {
            extended.role == PartitionRole::Extended
                && extended.start_lba <= logical.start_lba
                && end <= extended.start_lba.saturating_add(extended.len_sectors)
        });
        if !is_inside {
            findings.push(Finding::new(
                "mbr.logical.outside-extended",
                format!("logical partition {} reaches out of its extended partition", logical.number),
            ));
        }
    }
    if table.kind == TableKind::Mbr {
        let active = table.partitions.iter().filter(|partition| partition.is_active).count();
        if active > 1 {
            findings.push(Finding::new("mbr.active", format!("{active} partitions are marked active")));
        }
    }
    table.findings.append(&mut findings);
    limit_findings(&mut table.findings);
}

/// Both copies, the protective MBR and the ranges of the entries.
pub(crate) fn gpt(mbr: &Mbr, gpt: &Gpt, last_lba: u64, findings: &mut Vec<Finding>) {
    let header = &gpt.copy.header;
    if mbr.is_hybrid() {
        findings.push(Finding::new(
            "gpt.hybrid-mbr",
            "the MBR names partitions beside the protective entry; the kernel takes the GPT",
        ));
    }
    match (&gpt.other, gpt.used) {
        (Err(fault), GptCopyKind::Primary) => {
            findings.push(Finding::new(fault.code, format!("{fault}; the primary copy is used")))
        }
        (Err(fault), GptCopyKind::Backup) => findings.push(Finding::new(
            fault.code,
            format!(
                "{fault}; the backup copy at LBA {} is used, which the kernel does only when booted with `gpt`",
                header.my_lba
            ),
        )),
        (Ok(backup), _) => {
            let other = &backup.header;
            let agree = other.disk_guid == header.disk_guid
                && other.first_usable_lba == header.first_usable_lba
                && other.last_usable_lba == header.last_usable_lba
                && (other.entry_count, other.entry_size) == (header.entry_count, header.entry_size)
                && backup.raw_entries() == gpt.copy.raw_entries();
            if !agree {
                findings.push(Finding::new(
                    "gpt.copies-differ",
                    "the primary and the backup copy are both valid and differ; the primary copy is used",
                ));
            }
            if header.alternate_lba != other.my_lba || other.alternate_lba != header.my_lba {
                findings.push(Finding::new(
                    "gpt.copies-unlinked",
                    format!(
                        "the primary header names LBA {} as its backup, the backup at LBA {} names LBA {}",
                        header.alternate_lba, other.my_lba, other.alternate_lba
                    ),
                ));
            }
            if other.my_lba != last_lba {
                findings.push(Finding::new(
                    "gpt.backup-not-at-end",
                    format!(
                        "the backup header stands at LBA {}, the disk ends at LBA {last_lba}: it has grown",
                        other.my_lba
                    ),
                ));
            }
        }
    }
    if header.entry_size != 128 {
        findings.push(Finding::new(
            "gpt.entries.size-unusual",
            format!(
                "entries of {} bytes: the Linux kernel reads entries of 128 bytes only",
                header.entry_size
            ),
        ));
    }
    for entry in &gpt.copy.entries {
        if entry.first_lba < header.first_usable_lba || entry.last_lba > header.last_usable_lba {
            findings.push(Finding::new(
                "gpt.entry.outside-usable",
                format!(
                    "partition {} (LBA {} to {}) lies outside the usable LBAs {} to {}",
                    entry.number,
                    entry.first_lba,
                    entry.last_lba,
                    header.first_usable_lba,
                    header.last_usable_lba
                ),
            ));
        }
    }
    let protective: Vec<_> =
        mbr.entries.iter().filter(|entry| entry.type_code == TYPE_GPT_PROTECTIVE).collect();
    if let ([entry], false) = (&protective[..], mbr.is_hybrid()) {
        let covered = u64::from(entry.len_sectors);
        if covered != u64::from(u32::MAX) && covered != last_lba {
            findings.push(Finding::new(
                "gpt.protective-mbr-size",
                format!("the protective entry covers {covered} sectors, expected {last_lba}"),
            ));
        }
    }
}
