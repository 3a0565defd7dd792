//! Which extents of a group's physical volumes are used, and that none is used twice.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::Lvm2Error;
use crate::model::VolumeGroup;

/// Extents of a physical volume that no logical volume uses: nothing that is there needs to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreeExtents {
    /// Byte ranges on the device, in order.
    pub ranges: Vec<Range<u64>>,
}

/// Free extents by name of the physical volume; `None` when some segment's extents cannot be told.
pub(crate) fn free(group: &VolumeGroup) -> Result<Option<BTreeMap<String, FreeExtents>>, Lvm2Error> {
    let subject = || format!("volume group {}", group.name);
    let mut used: BTreeMap<&str, Vec<Range<u64>>> = BTreeMap::new();
    let mut is_known = true;
    for (name, volume) in &group.logical {
        for segment in &volume.segments {
            let Some(areas) = segment.areas() else {
                is_known = false;
                continue;
            };
            for (area, count) in areas {
                // What lies on another logical volume takes no extents of its own.
                let Some(physical) = group.physical.get(&area.name) else { continue };
                match area.first.checked_add(count) {
                    Some(end) if end <= physical.extents => {
                        used.entry(&area.name).or_default().push(area.first..end);
                    }
                    _ => {
                        let (first, all) = (area.first, physical.extents);
                        let detail = format!(
                            "{name} has {count} extents at {first} of {}, which has {all}",
                            area.name
                        );
                        return Err(Lvm2Error::damaged(subject(), "lvm2.extent.outside", detail));
                    }
                }
            }
        }
    }
    for (name, ranges) in &mut used {
        ranges.sort_by_key(|range| (range.start, range.end));
        for pair in ranges.windows(2) {
            if let [one, next] = pair
                && next.start < one.end
            {
                let detail = format!("extent {} of {name} belongs to two logical volumes", next.start);
                return Err(Lvm2Error::damaged(subject(), "lvm2.extent.shared", detail));
            }
        }
    }
    if !is_known {
        return Ok(None);
    }
    let mut free = BTreeMap::new();
    for (name, physical) in &group.physical {
        let at = |extent: u64| {
            extent.checked_mul(group.extent_size).and_then(|bytes| bytes.checked_add(physical.data_start))
        };
        let mut ranges = Vec::new();
        let mut next = 0;
        let end = physical.extents..physical.extents;
        for used in used.get(&**name).into_iter().flatten().chain(std::iter::once(&end)) {
            if next < used.start {
                let (Some(start), Some(end)) = (at(next), at(used.start)) else {
                    let detail = format!("{} extents of {name} have no place", physical.extents);
                    return Err(Lvm2Error::damaged(subject(), "lvm2.extent.outside", detail));
                };
                ranges.push(start..end);
            }
            next = used.end;
        }
        free.insert(name.clone(), FreeExtents { ranges });
    }
    Ok(Some(free))
}
