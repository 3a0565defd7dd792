//! Logical volumes of an assembled group: which can be read, which can be written, and why not.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use block::WriteAt;

use crate::device::{Below, LogicalDevice, Map, Place, Run};
use crate::mirror::{RaidRecord, judge_raid1, mirror_log_differs};
use crate::model::{LvModel, SnapshotModel, VolumeGroup};
use crate::segment::{Area, SegmentKind};
use crate::{Lvm2Error, LvmId};

/// Logical volumes that lie on each other; LVM2 builds three levels.
const MAX_DEPTH: usize = 8;
/// Ranges of physical volumes that a logical volume is made of.
const MAX_PIECES: usize = 1 << 18;
/// Words of a status under which the place or the content of bytes is about to change.
const IN_MOTION: &[&str] = &["PVMOVE", "LOCKED", "CONVERTING", "REBUILD", "LV_REBUILD", "MERGING", "RESHAPE"];

/// A logical volume that users see.
pub struct LogicalVolume {
    /// `vg/lv`, for reports.
    pub path: String,
    /// Its own name.
    pub name: String,
    /// Its UUID.
    pub id: LvmId,
    /// Bytes.
    pub len: u64,
    /// `linear`, `striped`, `mirror`, `raid1`, or what is known by name only; of the first segment.
    pub kind: String,
    /// Its bytes, or why they cannot be read.
    pub device: Result<Arc<LogicalDevice>, Arc<Lvm2Error>>,
    /// Why it is not written although it can be read.
    pub read_only: Option<Arc<Lvm2Error>>,
}

/// The group with the devices of those physical volumes that are there.
pub(crate) struct Builder<'g> {
    pub group: &'g VolumeGroup,
    /// By the name that the metadata gives them.
    devices: Devices<'g>,
    /// By the name of the store.
    snapshots: BTreeMap<&'g str, &'g SnapshotModel>,
    /// Names of volumes with a snapshot; true where it is being merged back.
    origins: BTreeMap<&'g str, bool>,
    done: BTreeMap<&'g str, Built>,
}

/// Index in the list that was assembled, and device, by the name that the metadata gives.
pub(crate) type Devices<'g> = BTreeMap<&'g str, (usize, Arc<dyn WriteAt>)>;

/// Code and text of why a volume that can be read is not written.
type Refusal = Option<(&'static str, String)>;

/// A device and why it must not be written.
#[derive(Clone)]
struct Built {
    device: Arc<LogicalDevice>,
    read_only: Refusal,
}

/// Places of columns or legs.
#[derive(Default)]
struct Places {
    list: Vec<Place>,
    footprint: Vec<(usize, Range<u64>)>,
    refusal: Refusal,
}

impl<'g> Builder<'g> {
    pub fn new(group: &'g VolumeGroup, devices: Devices<'g>) -> Self {
        let all = || group.logical.values().filter_map(|volume| volume.snapshot.as_ref());
        let snapshots = all().map(|snapshot| (&*snapshot.store, snapshot)).collect();
        let mut origins = BTreeMap::new();
        for snapshot in all() {
            *origins.entry(&*snapshot.origin).or_default() |= snapshot.is_merging;
        }
        Self { group, devices, snapshots, origins, done: BTreeMap::new() }
    }

    /// The visible volumes, in the order of their names. Nothing is written where the group says so.
    pub fn volumes(mut self, group_refusal: Option<(&'static str, &str)>) -> Vec<LogicalVolume> {
        let group = self.group;
        let mut volumes = Vec::new();
        // LVM2 shows the stores of snapshots, whatever their status, and not the volumes that pair them with origins.
        let shown =
            group.logical.iter().filter(|(name, model)| match self.snapshots.contains_key(&***name) {
                true => true,
                false => model.is_visible() && model.snapshot.is_none(),
            });
        for (name, model) in shown.collect::<Vec<_>>() {
            let path = format!("{}/{name}", group.name);
            let subject = format!("logical volume {path}");
            let built = self.build(name, model, 0);
            let (device, own) = match built {
                Ok(built) => (Ok(built.device), built.read_only),
                Err(error) => (Err(Arc::new(error)), None),
            };
            let refusal = group_refusal.map(|(code, why)| (code, why.to_owned())).or(own);
            volumes.push(LogicalVolume {
                path,
                name: name.clone(),
                id: model.id,
                len: model.extents().saturating_mul(group.extent_size),
                kind: kind(model),
                device,
                read_only: refusal.map(|(code, why)| Arc::new(Lvm2Error::unsupported(subject, code, why))),
            });
        }
        volumes
    }

    fn build(&mut self, name: &'g str, model: &'g LvModel, depth: usize) -> Result<Built, Lvm2Error> {
        if let Some(built) = self.done.get(name) {
            return Ok(built.clone());
        }
        let subject = || format!("logical volume {}/{name}", self.group.name);
        if depth > MAX_DEPTH {
            let detail = format!("logical volumes on each other in more than {MAX_DEPTH} levels");
            return Err(Lvm2Error::damaged(subject(), "lvm2.lv.nesting", detail));
        }
        if let Some(word) = IN_MOTION.iter().find(|word| model.has_status(word)) {
            let detail = format!("its status says {word}: it is being moved or changed");
            return Err(Lvm2Error::unsupported(subject(), "lvm2.lv.in-motion", detail));
        }
        if let Some(snapshot) = self.snapshots.get(name) {
            let detail = format!("it is a snapshot of {}, its content lies in both", snapshot.origin);
            return Err(Lvm2Error::unsupported(subject(), "lvm2.lv.snapshot", detail));
        }
        if self.origins.get(name) == Some(&true) {
            let detail = "a snapshot is being merged into it".to_owned();
            return Err(Lvm2Error::unsupported(subject(), "lvm2.lv.in-motion", detail));
        }
        let mut read_only = self.own_refusal(name, model);
        let (mut runs, mut footprint) = (Vec::new(), Vec::new());
        let too_long = || Lvm2Error::damaged(subject(), "lvm2.lv.length", "longer than a device can be");
        let len = model.extents().checked_mul(self.group.extent_size).ok_or_else(too_long)?;
        for segment in &model.segments {
            let bytes = segment.count * self.group.extent_size;
            let (map, places) = self.map(name, &segment.kind, bytes, depth)?;
            read_only = read_only.or(places.refusal);
            footprint.extend(places.footprint);
            if footprint.len() > MAX_PIECES {
                return Err(too_many_pieces(&subject()));
            }
            runs.push(Run { start: segment.start * self.group.extent_size, len: bytes, map });
        }
        let device = LogicalDevice { name: format!("{}/{name}", self.group.name), len, runs, footprint };
        let built = Built { device: Arc::new(device), read_only };
        self.done.insert(name, built.clone());
        Ok(built)
    }

    fn own_refusal(&self, name: &str, model: &LvModel) -> Refusal {
        if self.origins.contains_key(name) {
            let why = "it has a snapshot, which would lose its old blocks";
            return Some(("lvm2.lv.snapshot-origin", why.into()));
        }
        if model.has_status("NOTSYNCED") || model.has_status("LV_NOTSYNCED") {
            let why = "its legs were never synchronised (NOTSYNCED)";
            return Some(("lvm2.lv.not-synchronised", why.into()));
        }
        (!model.has_status("WRITE"))
            .then(|| ("lvm2.lv.read-only", "its own metadata makes it read-only".to_owned()))
    }

    fn map(
        &mut self,
        name: &'g str,
        kind: &'g SegmentKind,
        bytes: u64,
        depth: usize,
    ) -> Result<(Map, Places), Lvm2Error> {
        let subject = format!("logical volume {}/{name}", self.group.name);
        match kind {
            SegmentKind::Striped { chunk, areas } => {
                let count = areas.len() as u64;
                let column = bytes.checked_div(count).unwrap_or(0);
                let is_even =
                    count == 1 || (column * count == bytes && *chunk > 0 && column.is_multiple_of(*chunk));
                if !is_even {
                    let detail = format!("{bytes} bytes are not whole chunks of {chunk} in {count} columns");
                    return Err(Lvm2Error::damaged(subject, "lvm2.lv.stripes", detail));
                }
                let mut places = self.places(&subject, areas, column, depth)?;
                let columns = std::mem::take(&mut places.list);
                Ok((Map::Stripes { chunk: if count == 1 { bytes } else { *chunk }, columns }, places))
            }
            SegmentKind::Mirror { legs, log, region } => {
                let mut places = self.places(&subject, legs, bytes, depth)?;
                let differ = match log {
                    // The kernel copies the first leg to the others on each activation.
                    None => None,
                    Some(log) => {
                        let log = self.inner(&subject, log, depth)?;
                        let regions = bytes.div_ceil((*region).max(512));
                        mirror_log_differs(&*log.device, regions)?
                    }
                };
                let differ = differ.map(|why| ("lvm2.lv.not-synchronised", why));
                places.refusal = places.refusal.or(differ);
                Ok((Map::Legs(std::mem::take(&mut places.list)), places))
            }
            SegmentKind::Raid1 { legs } => self.raid1(&subject, legs, bytes, depth),
            SegmentKind::Other { name: kind, .. } => {
                let detail = format!("{kind} volumes are known by name only");
                Err(Lvm2Error::unsupported(subject, "lvm2.lv.unsupported", detail))
            }
        }
    }

    fn raid1(
        &mut self,
        subject: &str,
        legs: &'g [(Option<String>, String)],
        bytes: u64,
        depth: usize,
    ) -> Result<(Map, Places), Lvm2Error> {
        let mut places = Places::default();
        let mut records = Vec::new();
        for (meta, image) in legs {
            let built = self.inner(subject, image, depth)?;
            if built.device.len < bytes {
                let detail = format!("leg {image} is shorter than {bytes} bytes");
                return Err(Lvm2Error::damaged(subject, "lvm2.lv.length", detail));
            }
            places.add_inner(subject, built, 0)?;
            records.push(match meta {
                Some(meta) => RaidRecord::read(&*self.inner(subject, meta, depth)?.device)?,
                None => None,
            });
        }
        let judged = judge_raid1(&records)
            .map_err(|why| Lvm2Error::unsupported(subject, "lvm2.lv.not-synchronised", why))?;
        places.list.swap(0, judged.read);
        let differ = judged.differ.map(|why| ("lvm2.lv.not-synchronised", why));
        places.refusal = places.refusal.or(differ);
        Ok((Map::Legs(std::mem::take(&mut places.list)), places))
    }

    /// Another logical volume that this one lies on.
    fn inner(&mut self, subject: &str, name: &str, depth: usize) -> Result<Built, Lvm2Error> {
        let group = self.group;
        match group.logical.get_key_value(name) {
            Some((name, model)) => self.build(name, model, depth + 1),
            None => {
                let detail = format!("{name}, which it lies on, is not in the group");
                Err(Lvm2Error::damaged(subject, "lvm2.lv.missing-part", detail))
            }
        }
    }

    fn places(
        &mut self,
        subject: &str,
        areas: &'g [Area],
        bytes: u64,
        depth: usize,
    ) -> Result<Places, Lvm2Error> {
        let group = self.group;
        let mut places = Places::default();
        for area in areas {
            let outside = || {
                let detail =
                    format!("{bytes} bytes from extent {} of {} do not lie there", area.first, area.name);
                Lvm2Error::damaged(subject, "lvm2.extent.outside", detail)
            };
            let start = area.first.checked_mul(group.extent_size).ok_or_else(outside)?;
            let fits = |offset: u64, len: u64| offset.checked_add(bytes).is_some_and(|end| end <= len);
            match group.physical.get(&area.name) {
                Some(physical) => {
                    let offset = start.checked_add(physical.data_start).ok_or_else(outside)?;
                    let Some((index, device)) = self.devices.get(&*area.name) else {
                        let detail = format!("it needs physical volume {}, which is not there", physical.id);
                        return Err(Lvm2Error::unsupported(subject, "lvm2.lv.partial", detail));
                    };
                    if !fits(offset, device.len()) {
                        return Err(outside());
                    }
                    places.footprint.push((*index, offset..offset + bytes));
                    places.list.push(Place { below: Below::Physical(*index, Arc::clone(device)), offset });
                }
                None => {
                    let built = self.inner(subject, &area.name, depth)?;
                    if !fits(start, built.device.len) {
                        return Err(outside());
                    }
                    places.add_inner(subject, built, start)?;
                }
            }
        }
        if places.list.is_empty() {
            return Err(Lvm2Error::damaged(subject, "lvm2.lv.missing-part", "a segment without any place"));
        }
        Ok(places)
    }
}

impl Places {
    /// Adds a place on a hidden volume. The footprint is that of all of it.
    fn add_inner(&mut self, subject: &str, built: Built, offset: u64) -> Result<(), Lvm2Error> {
        // Hidden volumes may be without WRITE; only what they lie on can forbid writing.
        let refusal = built.read_only.filter(|(code, _)| *code != "lvm2.lv.read-only");
        self.refusal = self.refusal.take().or(refusal);
        self.footprint.extend(built.device.footprint.iter().cloned());
        self.list.push(Place { below: Below::Logical(built.device), offset });
        match self.footprint.len() > MAX_PIECES {
            true => Err(too_many_pieces(subject)),
            false => Ok(()),
        }
    }
}

fn too_many_pieces(subject: &str) -> Lvm2Error {
    let detail = format!("made of more than {MAX_PIECES} pieces");
    Lvm2Error::unsupported(subject, "lvm2.lv.pieces", detail)
}

fn kind(model: &LvModel) -> String {
    match model.segments.first().map(|segment| &segment.kind) {
        Some(SegmentKind::Striped { areas, .. }) if areas.len() == 1 => "linear".into(),
        Some(SegmentKind::Striped { .. }) => "striped".into(),
        Some(SegmentKind::Mirror { .. }) => "mirror".into(),
        Some(SegmentKind::Raid1 { .. }) => "raid1".into(),
        Some(SegmentKind::Other { name, .. }) => name.clone(),
        None => "empty".into(),
    }
}
