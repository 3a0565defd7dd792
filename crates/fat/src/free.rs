//! Clusters that no file has.

use hadris_fat::Geometry;
use vfs::{FreeRanges, VfsError};

use crate::device::Blocks;
use crate::error;

/// Bytes of a FAT that are read at a time: a multiple of 3, so that no pair of FAT12 entries is cut.
const WINDOW_BYTES: u64 = 3 << 16;

/// Clusters whose entry is 0 in every FAT (Microsoft's FAT specification, section 4), as bytes of the device.
///
/// Reserved sectors, FATs and the fixed root directory lie before the first cluster; what lies behind the last one is
/// not the filesystem's. A cluster that one FAT holds as free and the other does not counts as used.
pub(crate) fn free_ranges(device: &Blocks, geometry: &Geometry) -> Result<FreeRanges, VfsError> {
    let mut free: Option<FreeRanges> = None;
    for copy in 0..geometry.fat_count() {
        // The other copies are stale when only one is kept up to date.
        if !geometry.mirrored() && copy != geometry.active_fat() {
            continue;
        }
        let found = free_in_copy(device, geometry, copy)?;
        free = Some(match free {
            Some(before) => before.intersection(&found),
            None => found,
        });
    }
    Ok(free.unwrap_or_default())
}

fn free_in_copy(device: &Blocks, geometry: &Geometry, copy: u8) -> Result<FreeRanges, VfsError> {
    let kind = geometry.kind();
    let (start, end) = (geometry.fat_copy(copy), geometry.fat_copy(copy) + geometry.fat_size());
    let mut window = Vec::new();
    let mut window_start = 0;
    let mut free = FreeRanges::new();
    for cluster in 2..=geometry.max_cluster() {
        let (at, len) = (kind.entry_offset(cluster.into()), kind.entry_len());
        let within = usize::try_from(at - window_start).unwrap_or(usize::MAX);
        if window.len() < within.saturating_add(len) {
            window_start = at / WINDOW_BYTES * WINDOW_BYTES;
            let left = end.saturating_sub(start + window_start);
            window.resize(left.min(WINDOW_BYTES) as usize, 0);
            device
                .reader()
                .read_exact_at(&mut window, start + window_start)
                .map_err(|error| VfsError::Device(Box::new(error)))?;
        }
        let within = (at - window_start) as usize;
        let entry = window
            .get(within..within + len)
            .ok_or_else(|| error::corrupt("FAT", format!("it ends before the entry of cluster {cluster}")))?;
        // The top four bits of a FAT32 entry are reserved and count for nothing.
        if kind.decode(cluster.into(), entry) & kind.mask() == 0
            && let Some(offset) = geometry.cluster_offset(cluster)
        {
            free.push(offset..offset + u64::from(geometry.cluster_size()));
        }
    }
    Ok(free)
}
