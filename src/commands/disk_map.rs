//! A coarse map of an image's disk for report lines: what is stored, what of it is free inside the guest, and where
//! filesystems lie.

use std::path::Path;

use batch::{DiskMap, MapVolume, Shares};
use block::{Access, ExtentState};
use report::Silent;
use stack::{Image, Layer, StackError};
use vfs::{FreeRanges, GuestTree};

use crate::cli::args::ImageArgs;
use crate::session;

/// The map of an open image and its files, in so many buckets.
pub fn of(image: &Image, tree: &GuestTree, buckets: u32) -> Result<DiskMap, StackError> {
    let disk = image.virtual_disk();
    let mut data = Shares::new(disk.len(), buckets);
    let mut stored = FreeRanges::new();
    for extent in disk.extents(0..disk.len())? {
        if !matches!(extent.state, ExtentState::Hole | ExtentState::Zero) {
            let range = extent.offset..extent.offset + extent.len;
            stored.push(range.clone());
            data.add(range);
        }
    }
    let volumes: Vec<MapVolume> = image
        .layers()
        .into_iter()
        .filter_map(|layer| match layer {
            Layer::Volume(volume) => Some(MapVolume {
                name: volume.name,
                start: volume.start,
                bytes: volume.bytes,
                content: volume.content,
                mounted_at: volume.mounted_at,
                free_bytes: volume.filesystem.map(|filesystem| filesystem.free_bytes),
            }),
            _ => None,
        })
        .collect();
    let mut free = Shares::new(disk.len(), buckets);
    for range in free_inside(tree, &volumes).intersection(&stored).ranges() {
        free.add(range.clone());
    }
    let mut map = DiskMap::new(&data, volumes);
    map.mark_free(&free);
    Ok(map)
}

/// The map of an image that nothing else opens; `None` when it cannot be taken apart.
pub fn look(path: &Path, args: &ImageArgs, buckets: u32) -> Option<DiskMap> {
    let mut image = Image::open(path, &session::options(args, Access::Read), &Silent).ok()?;
    let tree = image.open_tree(false).ok()?;
    of(&image, &tree, buckets).ok()
}

/// What the mounted filesystems hold as free. It is for looking at, so nobody checks whether they are right, and one
/// that cannot tell is left out.
fn free_inside(tree: &GuestTree, volumes: &[MapVolume]) -> FreeRanges {
    let mut found: Vec<(u64, FreeRanges)> = tree
        .mounts()
        .iter()
        .filter_map(|mount| {
            let volume = volumes.iter().find(|volume| volume.name == mount.device)?;
            Some((volume.start, mount.filesystem.free_ranges().ok()?))
        })
        .collect();
    found.sort_by_key(|(start, _)| *start);
    let mut all = FreeRanges::new();
    for (start, ranges) in &found {
        for range in ranges.ranges() {
            all.push(start.saturating_add(range.start)..start.saturating_add(range.end));
        }
    }
    all
}
