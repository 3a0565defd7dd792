//! Physical volumes → volume groups → logical volumes, as long as there are new ones.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use block::{ReadAt, Window, WriteAt};
use lvm2::{Assembled, Group, LogicalVolume, Member, PhysicalVolume};
use report::{Class, Diagnose, Diagnostic};
use vfs::{LogicalName, Volume};

use crate::StackError;
use crate::content;
use crate::layers::VolumeGroupLayer;
use crate::volumes::{Footprint, NotOpen, Scattered, Volumes};

/// Groups on logical volumes of other groups, at most this often.
const MAX_ROUNDS: usize = 4;
/// Logical volumes that are opened.
const MAX_LOGICAL: usize = 1024;

/// Adds the logical volumes that lie on what was found so far.
pub(crate) fn find(volumes: &mut Volumes) -> Result<(), StackError> {
    let mut members: Vec<Member> = Vec::new();
    // Index of the volume that each member is.
    let mut places: Vec<usize> = Vec::new();
    let mut known = 0;
    let mut notes = BTreeSet::new();
    let mut assembled = Assembled::default();
    for round in 0..=MAX_ROUNDS {
        let before = members.len();
        for index in places.last().map_or(0, |last| last + 1)..volumes.open.len() {
            if let Some(member) = member(volumes, index, &mut notes)? {
                members.push(member);
                places.push(index);
            }
        }
        if members.len() == before {
            break;
        }
        if round == MAX_ROUNDS {
            notes.insert(format!(
                "LVM2: groups on each other in more than {MAX_ROUNDS} levels are not followed"
            ));
            break;
        }
        // All of them anew: a group may lie on partitions and on logical volumes of another one, so that what is
        // not whole yet waits.
        assembled = lvm2::assemble(&members);
        for group in &assembled.groups {
            if group.missing.is_empty() {
                add_group(volumes, group, &places, &mut known)?;
            }
        }
    }
    for group in &assembled.groups {
        if !group.missing.is_empty() {
            add_group(volumes, group, &places, &mut known)?;
        }
    }
    notes.extend(assembled.findings.into_iter().map(|finding| format!("LVM2: {}", finding.detail)));
    volumes.notes.extend(notes);
    Ok(())
}

/// The volume as a physical volume, if it is one and can be read.
fn member(
    volumes: &Volumes,
    index: usize,
    notes: &mut BTreeSet<String>,
) -> Result<Option<Member>, StackError> {
    let Some(Ok(open)) = volumes.open.get(index) else { return Ok(None) };
    if open.contents.first().is_none_or(|content| content.kind != "lvm2-pv") {
        return Ok(None);
    }
    match PhysicalVolume::read(&*open.device) {
        Ok(Some(volume)) => {
            let device = Arc::clone(&open.device) as Arc<dyn WriteAt>;
            Ok(Some(Member { name: open.name.clone(), volume, device }))
        }
        Ok(None) => Ok(None),
        Err(error) if error.class() == Class::Environment => Err(StackError::Lvm2(Arc::new(error))),
        Err(error) => {
            notes.insert(format!("{}: {error}", open.name));
            Ok(None)
        }
    }
}

fn add_group(
    volumes: &mut Volumes,
    group: &Group,
    places: &[usize],
    known: &mut usize,
) -> Result<(), StackError> {
    let group_uuid = group.model.id.to_string();
    let on: Vec<usize> = group.members.iter().filter_map(|member| places.get(*member).copied()).collect();
    if volumes.groups.iter().any(|layer| layer.uuid == group_uuid) {
        return Ok(());
    }
    let layer = layer(volumes, group, &on, places);
    volumes.groups.push(layer);
    let logical = match &group.volumes {
        Ok(logical) => logical,
        Err(error) if error.class() == Class::Environment => {
            return Err(StackError::Lvm2(Arc::clone(error)));
        }
        Err(error) => {
            volumes.notes.push(error.to_string());
            return Ok(());
        }
    };
    for one in logical {
        if *known >= MAX_LOGICAL {
            volumes.notes.push(format!("more than {MAX_LOGICAL} logical volumes; the rest is ignored"));
            return Ok(());
        }
        *known += 1;
        let name = LogicalName {
            group: group.model.name.clone(),
            name: one.name.clone(),
            group_uuid: group_uuid.clone(),
            uuid: one.id.to_string(),
            on: on.clone(),
        };
        add_logical(volumes, one, name, places)?;
    }
    Ok(())
}

fn add_logical(
    volumes: &mut Volumes,
    one: &LogicalVolume,
    name: LogicalName,
    places: &[usize],
) -> Result<(), StackError> {
    let volume = Volume { len: one.len, logical: Some(name), ..Volume::default() };
    let device = match &one.device {
        Ok(device) => device,
        Err(error) if error.class() == Class::Environment => {
            return Err(StackError::Lvm2(Arc::clone(error)));
        }
        Err(error) => {
            let content = Some(one.kind.clone());
            volumes.add(Volume { content, ..volume }, Err(NotOpen::Logical(Arc::clone(error))));
            return Ok(());
        }
    };
    let bases = places.iter().map(|index| match volumes.open.get(*index) {
        Some(Ok(open)) => match open.footprint {
            Footprint::Whole(disk, start) => Some((disk, start)),
            Footprint::Scattered(_) => None,
        },
        _ => None,
    });
    let bases = bases.collect();
    let mut all = Vec::new();
    for (member, range) in device.footprint() {
        let below = places.get(*member).and_then(|index| volumes.open.get(*index));
        all.extend(below.into_iter().flatten().flat_map(|below| below.on_disk(range)));
    }
    let below = Arc::clone(device) as Arc<dyn WriteAt>;
    let window = Window::new(below, 0, device.len(), volume.name())?;
    let contents = content::probe(&window)?;
    volumes.add(volume, Ok((window, contents)));
    if let Some(Ok(open)) = volumes.open.last_mut() {
        open.read_only.clone_from(&one.read_only);
        open.footprint = Footprint::Scattered(Scattered { device: Arc::clone(device), bases, all });
    }
    Ok(())
}

fn layer(volumes: &Volumes, group: &Group, on: &[usize], places: &[usize]) -> VolumeGroupLayer {
    let free = group.free.as_ref().map(|free| {
        let mut free: Vec<(usize, Vec<Range<u64>>)> = free
            .iter()
            .filter_map(|(member, extents)| Some((places.get(*member).copied()?, extents.ranges.clone())))
            .collect();
        free.sort_by_key(|(index, _)| *index);
        free
    });
    let bytes = |free: &Vec<(usize, Vec<Range<u64>>)>| {
        free.iter().flat_map(|(_, ranges)| ranges).map(|range| range.end - range.start).sum()
    };
    VolumeGroupLayer {
        name: group.model.name.clone(),
        uuid: group.model.id.to_string(),
        metadata_number: group.model.seqno,
        extent_bytes: group.model.extent_size,
        physical_volumes: on.iter().map(|index| volumes.name(*index)).collect(),
        missing: group.missing.iter().map(ToString::to_string).collect(),
        free_bytes: free.as_ref().map(bytes),
        logical_volumes: match &group.volumes {
            Ok(volumes) => volumes.iter().map(|volume| volume.path.clone()).collect(),
            Err(_) => Vec::new(),
        },
        problem: group.volumes.as_ref().err().map(|error| Diagnostic::of(&**error)),
        free: free.unwrap_or_default(),
    }
}
