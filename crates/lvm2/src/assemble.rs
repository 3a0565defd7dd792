//! Physical volumes → volume groups: the newest metadata counts, everything by UUID.

use std::collections::BTreeMap;
use std::sync::Arc;

use block::WriteAt;

use crate::area::AreaState;
use crate::group::{Builder, LogicalVolume};
use crate::model::VolumeGroup;
use crate::space::{self, FreeExtents};
use crate::{Finding, Lvm2Error, LvmId, PhysicalVolume};

/// A device with a label.
pub struct Member {
    /// How reports name the device: `partition 2`.
    pub name: String,
    /// Its label and metadata areas.
    pub volume: PhysicalVolume,
    /// Its bytes.
    pub device: Arc<dyn WriteAt>,
}

/// A volume group of whose physical volumes at least one is there.
pub struct Group {
    /// The newest metadata.
    pub model: VolumeGroup,
    /// Indexes of its physical volumes in the list of members, in the order of the metadata.
    pub members: Vec<usize>,
    /// UUIDs of physical volumes that are not there.
    pub missing: Vec<LvmId>,
    /// Free extents by member; `None` when that cannot be told.
    pub free: Option<BTreeMap<usize, FreeExtents>>,
    /// The visible logical volumes, or why the group is not used at all.
    pub volumes: Result<Vec<LogicalVolume>, Arc<Lvm2Error>>,
}

/// Everything that could be made of a list of physical volumes.
#[derive(Default)]
pub struct Assembled {
    /// Groups in the order of their UUIDs.
    pub groups: Vec<Group>,
    /// What is wrong or noteworthy.
    pub findings: Vec<Finding>,
}

/// A valid copy of the metadata.
struct Copy {
    member: usize,
    area: u64,
    text: Arc<[u8]>,
    group: Arc<VolumeGroup>,
}

/// Puts groups together. What is wrong with one of them is said and stops no other.
pub fn assemble(members: &[Member]) -> Assembled {
    let mut assembled = Assembled::default();
    for member in members {
        assembled.findings.extend(member.volume.findings.iter().cloned());
    }
    let mut by_group: BTreeMap<LvmId, Vec<Copy>> = BTreeMap::new();
    for copy in copies(members, &mut assembled.findings) {
        by_group.entry(copy.group.id).or_default().push(copy);
    }
    let mut by_id: BTreeMap<LvmId, Vec<usize>> = BTreeMap::new();
    for (index, member) in members.iter().enumerate() {
        by_id.entry(member.volume.id).or_default().push(index);
    }
    for copies in by_group.into_values() {
        if let Some(group) = one_group(&copies, members, &by_id, &mut assembled.findings) {
            assembled.groups.push(group);
        }
    }
    assembled
}

fn copies(members: &[Member], findings: &mut Vec<Finding>) -> Vec<Copy> {
    // Copies are usually equal: each text is parsed once.
    let mut parsed: BTreeMap<Arc<[u8]>, Option<Arc<VolumeGroup>>> = BTreeMap::new();
    let mut copies = Vec::new();
    for (member, one) in members.iter().enumerate() {
        for area in &one.volume.metadata_areas {
            let AreaState::Text(text) = &area.state else { continue };
            let group = parsed.entry(Arc::clone(text)).or_insert_with(|| match VolumeGroup::parse(text) {
                Ok(group) => Some(Arc::new(group)),
                Err(error) => {
                    let detail = format!("metadata at byte {} of {}: {error}", area.start, one.name);
                    findings.push(Finding::new("lvm2.metadata.text", detail));
                    None
                }
            });
            if let Some(group) = group {
                let (text, group) = (Arc::clone(text), Arc::clone(group));
                copies.push(Copy { member, area: area.start, text, group });
            }
        }
    }
    copies
}

fn one_group(
    copies: &[Copy],
    members: &[Member],
    by_id: &BTreeMap<LvmId, Vec<usize>>,
    findings: &mut Vec<Finding>,
) -> Option<Group> {
    let newest = copies.iter().max_by_key(|copy| copy.group.seqno)?;
    let model = &*newest.group;
    let name_of = |copy: &Copy| members.get(copy.member).map_or("", |member| &member.name);
    let mut conflict = None;
    for copy in copies {
        let (seqno, at) = (copy.group.seqno, format!("byte {} of {}", copy.area, name_of(copy)));
        if seqno < model.seqno {
            let detail = format!(
                "volume group {}: the copy at {at} is old: number {seqno}, the newest is {}",
                model.name, model.seqno
            );
            findings.push(Finding::new("lvm2.metadata.stale", detail));
        } else if copy.text != newest.text {
            conflict = Some(format!(
                "the copies at {at} and at byte {} of {} have the number {seqno} and different text",
                newest.area,
                name_of(newest)
            ));
        }
    }
    let mut found = Vec::new();
    let mut missing = Vec::new();
    let mut devices = BTreeMap::new();
    let mut places = BTreeMap::new();
    let mut twice = None;
    for (name, physical) in &model.physical {
        match by_id.get(&physical.id).map_or(&[][..], |indexes| indexes) {
            [] => missing.push(physical.id),
            [index] => {
                found.push(*index);
                places.insert(&**name, *index);
                if let Some(member) = members.get(*index) {
                    devices.insert(&**name, (*index, Arc::clone(&member.device)));
                }
            }
            several => {
                let names: Vec<&str> = several
                    .iter()
                    .filter_map(|index| members.get(*index))
                    .map(|member| &*member.name)
                    .collect();
                found.extend(several);
                twice = Some(format!("physical volume {} is there twice: {}", physical.id, names.join(", ")));
            }
        }
    }
    if found.is_empty() {
        // What is left of a group on a volume that the newest metadata no longer counts.
        let detail = format!("volume group {}: none of its physical volumes is there", model.name);
        findings.push(Finding::new("lvm2.vg.gone", detail));
        return None;
    }
    for copy in copies.iter().filter(|copy| !found.contains(&copy.member)) {
        let detail = format!("{} left volume group {}", name_of(copy), model.name);
        findings.push(Finding::new("lvm2.pv.left", detail));
    }
    let subject = || format!("volume group {}", model.name);
    let damaged = |code, detail: String| Err(Arc::new(Lvm2Error::damaged(subject(), code, detail)));
    let space = space::free(model);
    let mut free = None;
    let volumes = match (conflict, twice, space) {
        (Some(detail), _, _) => damaged("lvm2.metadata.conflict", detail),
        (_, Some(detail), _) => damaged("lvm2.pv.duplicate", detail),
        (_, _, Err(error)) => Err(Arc::new(error)),
        (None, None, Ok(by_name)) => {
            free = by_name.map(|by_name| {
                let known = by_name.into_iter();
                known.filter_map(|(name, free)| Some((*places.get(&*name)?, free))).collect()
            });
            Ok(Builder::new(model, devices).volumes(refusal(model, &missing)))
        }
    };
    Some(Group { model: model.clone(), members: found, missing, free, volumes })
}

/// Why nothing of a group is written.
fn refusal(model: &VolumeGroup, missing: &[LvmId]) -> Option<(&'static str, &'static str)> {
    if model.status.iter().any(|word| word == "EXPORTED") {
        return Some(("lvm2.vg.exported", "its volume group is exported"));
    }
    // The newest metadata may stand on a physical volume that is not there.
    let is_partial = !missing.is_empty()
        || model.physical.values().any(|physical| physical.status.iter().any(|word| word == "MISSING"));
    if is_partial {
        return Some(("lvm2.vg.partial", "physical volumes of its volume group are missing"));
    }
    let is_writable = model.status.iter().any(|word| word == "WRITE");
    (!is_writable).then_some(("lvm2.vg.read-only", "its volume group is read-only"))
}
