//! Free space of the whole virtual disk: what a copy may leave out.
//!
//! A volume gives its free space only when all of it can be believed: its content is known beyond doubt, its structure
//! passes the same check as `fsck`, and its allocation tables are what the copy will hold (a journal that the copy still
//! waits to replay may name blocks that these tables call free). Space outside of all volumes counts as content: boot
//! code, partition tables and loaders lie there.

use std::ops::Range;

use block::ReadAt;
use report::{Class, Diagnose};
use serde::Serialize;
use vfs::FreeRanges;

use crate::StackError;
use crate::disk::{Disk, is_ext, is_fat, is_xfs};
use crate::swap;

/// Free space of one volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VolumeFreeSpace {
    /// How reports name the volume: `partition 1`, `whole disk`.
    pub volume: String,
    /// What is in it, by its signature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// Bytes of the volume.
    pub bytes: u64,
    /// Bytes of it that are free and that a copy may leave out.
    pub free_bytes: u64,
    /// Why all of it counts as content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why_not: Option<NotFree>,
}

/// Why a volume counts as content as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotFree {
    /// Stable code.
    pub code: &'static str,
    /// One sentence.
    pub reason: String,
}

impl NotFree {
    fn new(code: &'static str, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }
}

/// Free space of a virtual disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreeSpace {
    /// Bytes of the virtual disk without content, sorted and disjoint.
    pub ranges: FreeRanges,
    /// What each volume gave, in the order of their numbers.
    pub volumes: Vec<VolumeFreeSpace>,
}

/// A swap partition that the edits took out of the partition table.
#[derive(Debug, Clone)]
pub(crate) struct RemovedSwap {
    pub name: String,
    pub place: Range<u64>,
}

/// What the structural check said of a filesystem: the first problem and their number.
pub(crate) type Checked = Result<(), (String, u64)>;

/// Collects the free space of all volumes. `check` is the structural check of the filesystem in a place of the disk.
pub(crate) fn of_disk(
    disk: &Disk,
    removed: &[RemovedSwap],
    check: &mut dyn FnMut(usize) -> Result<Checked, StackError>,
) -> Result<FreeSpace, StackError> {
    let mut volumes = Vec::new();
    let mut found: Vec<Range<u64>> = Vec::new();
    for (index, volume) in disk.volumes.table.volumes.iter().enumerate() {
        let mut facts = VolumeFreeSpace {
            volume: disk.name(index),
            content: volume.content.clone(),
            bytes: volume.len,
            free_bytes: 0,
            why_not: None,
        };
        match of_volume(disk, index, check) {
            Ok(Ok(free)) => {
                let on_disk = on_first_disk(disk, index, &free);
                facts.free_bytes = on_disk.as_ref().map_or(0, |_| free.bytes());
                match on_disk {
                    Some(ranges) => found.extend(ranges),
                    None => {
                        let reason = "its bytes lie in stripes or on another logical volume";
                        facts.why_not = Some(NotFree::new("free-space.scattered", reason));
                    }
                }
            }
            Ok(Err(why_not)) => facts.why_not = Some(why_not),
            // Reading the host file failed: no property of this volume.
            Err(error) if error.class() == Class::Environment => return Err(error),
            Err(error) => facts.why_not = Some(NotFree::new(error.code(), error.to_string())),
        }
        volumes.push(facts);
    }
    for swap in removed {
        found.extend(
            of_removed_swap(disk, swap)?
                .map(|free| {
                    volumes.push(VolumeFreeSpace {
                        volume: format!("{} (removed)", swap.name),
                        content: Some("swap".into()),
                        bytes: swap.place.end - swap.place.start,
                        free_bytes: free.bytes(),
                        why_not: None,
                    });
                    let start = swap.place.start;
                    free.ranges()
                        .iter()
                        .map(|range| start + range.start..start + range.end)
                        .collect::<Vec<_>>()
                })
                .into_iter()
                .flatten(),
        );
    }
    found.sort_by_key(|range| range.start);
    let mut ranges = FreeRanges::new();
    found.into_iter().for_each(|range| ranges.push(range));
    Ok(FreeSpace { ranges: ranges.intersection(&outside_of_tables(disk)), volumes })
}

/// Free ranges of a volume as ranges of the first disk; `None` when their places are not told apart.
fn on_first_disk(disk: &Disk, index: usize, free: &FreeRanges) -> Option<Vec<Range<u64>>> {
    let Some(Ok(open)) = disk.volumes.open.get(index) else { return None };
    let mut found = Vec::new();
    for range in free.ranges() {
        let places = open.exactly_on_disk(range)?.into_iter();
        found.extend(places.filter(|(disk, _)| *disk == 0).map(|(_, range)| range));
    }
    Some(found)
}

/// Extents of a physical volume that no logical volume uses.
fn of_group(disk: &Disk, index: usize) -> Result<FreeRanges, NotFree> {
    let free = disk.volumes.groups.iter().flat_map(|group| &group.free).find(|(member, _)| *member == index);
    let Some((_, ranges)) = free else {
        return Err(NotFree::new("free-space.unsupported", "its volume group does not tell what is free"));
    };
    let mut free = FreeRanges::new();
    ranges.iter().for_each(|range| free.push(range.clone()));
    Ok(free)
}

fn of_volume(
    disk: &Disk,
    index: usize,
    check: &mut dyn FnMut(usize) -> Result<Checked, StackError>,
) -> Result<Result<FreeRanges, NotFree>, StackError> {
    let open = match disk.volumes.open.get(index) {
        Some(Ok(open)) => open,
        Some(Err(misplaced)) => return Err(misplaced.error(disk.name(index))),
        None => return Ok(Err(NotFree::new("free-space.unknown", "is not there"))),
    };
    let content = match &open.contents[..] {
        [] => return Ok(Err(NotFree::new("free-space.unknown", "its content is not known"))),
        [content] => content,
        [_, others @ ..] => {
            let others: Vec<&str> = others.iter().map(|content| content.kind).collect();
            let reason = format!("it also carries the signature of {}", others.join(", "));
            return Ok(Err(NotFree::new("free-space.ambiguous", reason)));
        }
    };
    if content.kind == "lvm2-pv" {
        return Ok(of_group(disk, index));
    }
    if let Some(refusal) = &open.read_only {
        // What is free in the origin of a snapshot may be content of the snapshot.
        return Ok(Err(NotFree::new("free-space.not-written", refusal.to_string())));
    }
    if content.kind == "swap" {
        let free = swap::free_ranges(&*open.device)?;
        return Ok(free.map_err(|reason| NotFree::new("free-space.swap", reason)));
    }
    let kind = Some(content.kind);
    if !is_ext(kind) && !is_fat(kind) && !is_xfs(kind) {
        let reason = format!("the free space of {} is not read", content.kind);
        return Ok(Err(NotFree::new("free-space.unsupported", reason)));
    }
    if disk.waits_for_recovery(index) {
        let reason = "its journal is not empty and stays as it is in the copy";
        return Ok(Err(NotFree::new("free-space.journal", reason)));
    }
    let Some(filesystem) = disk.open_filesystem(index, false)? else {
        return Ok(Err(NotFree::new("free-space.unsupported", "it is not read")));
    };
    if disk.has_recorded_errors(index)? {
        let reason = "the guest's kernel has recorded errors in it";
        return Ok(Err(NotFree::new("free-space.recorded-errors", reason)));
    }
    if let Err((first, count)) = check(index)? {
        let reason = format!("it is damaged: {first} ({count} problems)");
        return Ok(Err(NotFree::new("free-space.damaged", reason)));
    }
    let failed = |source| StackError::Filesystem { volume: disk.name(index), source };
    let free = filesystem.free_ranges().map_err(failed)?;
    match free.ranges().last() {
        Some(last) if last.end > open.device.len() => {
            let reason = "the filesystem is longer than its volume";
            Ok(Err(NotFree::new("free-space.damaged", reason)))
        }
        _ => Ok(Ok(free)),
    }
}

/// A removed swap partition is as free as it was before, as long as no volume lies in its place now.
fn of_removed_swap(disk: &Disk, swap: &RemovedSwap) -> Result<Option<FreeRanges>, StackError> {
    let place = &swap.place;
    let on_disk =
        disk.volumes.table.volumes.iter().filter(|volume| volume.logical.is_none() && volume.disk == 0);
    let is_taken = on_disk.into_iter().any(|volume| {
        let is_whole_disk = volume.partition.is_none();
        is_whole_disk || volume.start < place.end && place.start < volume.end()
    });
    if is_taken || place.end > disk.overlay.len() {
        return Ok(None);
    }
    let len = place.end - place.start;
    let device =
        block::Window::new(std::sync::Arc::clone(&disk.overlay), place.start, len, swap.name.clone())?;
    Ok(swap::free_ranges(&device)?.ok())
}

/// Everything but where the partition tables stand, as they say it.
fn outside_of_tables(disk: &Disk) -> FreeRanges {
    let (table, disk_len) = (&disk.partitions, disk.overlay.len());
    let sector = u64::from(table.sector_size);
    let (mut from, mut to) = (0, disk_len);
    if let Some(gpt) = &table.gpt {
        let header = &gpt.copy.header;
        from = header.first_usable_lba.saturating_mul(sector);
        to = header.last_usable_lba.saturating_add(1).saturating_mul(sector).min(disk_len);
    } else if table.mbr.is_some() {
        from = sector;
    }
    let mut tables: Vec<u64> = table.ebrs.iter().map(|ebr| ebr.lba.saturating_mul(sector)).collect();
    tables.sort_unstable();
    let mut outside = FreeRanges::new();
    for table in tables {
        outside.push(from..table.min(to));
        from = from.max(table.saturating_add(sector));
    }
    outside.push(from..to);
    outside
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_plain_data() {
        let facts = VolumeFreeSpace {
            volume: "partition 2".into(),
            content: None,
            bytes: 5,
            free_bytes: 0,
            why_not: Some(NotFree::new("free-space.unknown", "its content is not known")),
        };
        assert_eq!(
            serde_json::to_string(&facts).unwrap_or_default(),
            r#"{"volume":"partition 2","bytes":5,"free_bytes":0,"why_not":{"code":"free-space.unknown","reason":"its content is not known"}}"#
        );
    }
}
