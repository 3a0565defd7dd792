//! A volume group as one metadata text describes it.

use std::collections::{BTreeMap, HashMap};

use crate::LvmId;
use crate::segment::Segment;
use crate::text::{self, Section, TextError};

/// Physical and logical volumes of a group at most.
const MAX_VOLUMES: usize = 65_536;
/// Segments of all logical volumes at most.
const MAX_SEGMENTS: usize = 1 << 18;

/// A volume group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeGroup {
    /// Its name, which other groups may have, too.
    pub name: String,
    /// Its UUID.
    pub id: LvmId,
    /// Counts changes of the metadata.
    pub seqno: u64,
    /// Bytes of an extent.
    pub extent_size: u64,
    /// Status and flags: `RESIZEABLE`, `EXPORTED`, …
    pub status: Vec<String>,
    /// Physical volumes by the name that only this text uses (`pv0`).
    pub physical: BTreeMap<String, PvModel>,
    /// Logical volumes, hidden ones included, by name.
    pub logical: BTreeMap<String, LvModel>,
}

/// A physical volume as its group describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PvModel {
    /// Its UUID.
    pub id: LvmId,
    /// Status and flags: `ALLOCATABLE`, `MISSING`, …
    pub status: Vec<String>,
    /// First byte of extent 0 on the device.
    pub data_start: u64,
    /// Extents.
    pub extents: u64,
}

/// A logical volume as its group describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LvModel {
    /// Its UUID.
    pub id: LvmId,
    /// Status and flags: `READ`, `WRITE`, `VISIBLE`, …
    pub status: Vec<String>,
    /// Its segments, in order and without gaps.
    pub segments: Vec<Segment>,
    /// Volumes that a snapshot segment names: origin and the store of its old blocks.
    pub snapshot: Option<SnapshotModel>,
}

/// A snapshot of the old kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotModel {
    /// Name of the volume that it is a snapshot of.
    pub origin: String,
    /// Name of the volume with the old blocks.
    pub store: String,
    /// The store is being merged back: the origin's content lies in both.
    pub is_merging: bool,
}

impl LvModel {
    /// Extents of all segments.
    pub fn extents(&self) -> u64 {
        self.segments.iter().map(|segment| segment.count).sum()
    }

    /// True for what users see; image, log and pool volumes are hidden.
    pub fn is_visible(&self) -> bool {
        self.has_status("VISIBLE")
    }

    /// True when status or flags have this word.
    pub fn has_status(&self, word: &str) -> bool {
        self.status.iter().any(|status| status == word)
    }
}

impl VolumeGroup {
    /// Parses a whole metadata text.
    pub fn parse(bytes: &[u8]) -> Result<Self, TextError> {
        let root = text::parse(bytes)?;
        let mut groups = root.sections();
        let Some((name, section)) = groups.next() else {
            return Err(TextError { line: 1, detail: "no volume group in it".into() });
        };
        if let Some((_, second)) = groups.next() {
            return Err(TextError {
                line: second.line,
                detail: "a second section beside the group's".into(),
            });
        }
        let extent_sectors = section.number("extent_size")?;
        let Some(extent_size) = extent_sectors.checked_mul(512).filter(|size| (1..=1 << 50).contains(size))
        else {
            return Err(TextError { line: section.line_of("extent_size"), detail: "out of range".into() });
        };
        let group = Self {
            name: name.to_owned(),
            id: id(section)?,
            seqno: section.number("seqno")?,
            extent_size,
            status: status(section)?,
            physical: members(section, "physical_volumes", physical)?,
            logical: members(section, "logical_volumes", logical)?,
        };
        group.check_ids(section)?;
        Ok(group)
    }

    fn check_ids(&self, section: &Section) -> Result<(), TextError> {
        let mut seen = HashMap::new();
        let physical = self.physical.iter().map(|(name, volume)| (name, volume.id));
        let logical = self.logical.iter().map(|(name, volume)| (name, volume.id));
        for (name, id) in physical.chain(logical) {
            if let Some(other) = seen.insert(id, name) {
                let detail = format!("{other} and {name} have the same UUID {id}");
                return Err(TextError { line: section.line, detail });
            }
        }
        let segments: usize = self.logical.values().map(|volume| volume.segments.len()).sum();
        if segments > MAX_SEGMENTS {
            let detail = format!("{segments} segments are more than {MAX_SEGMENTS}");
            return Err(TextError { line: section.line, detail });
        }
        Ok(())
    }
}

fn id(section: &Section) -> Result<LvmId, TextError> {
    let text = section.text("id")?;
    LvmId::parse(text)
        .ok_or_else(|| TextError { line: section.line_of("id"), detail: format!("{text:?} is no UUID") })
}

/// Words of `status` and `flags`; which of the two has a word changed between releases.
fn status(section: &Section) -> Result<Vec<String>, TextError> {
    let mut words = section.texts("status")?;
    words.extend(section.texts("flags")?);
    Ok(words)
}

fn members<T>(
    group: &Section,
    name: &str,
    parse: impl Fn(&Section) -> Result<T, TextError>,
) -> Result<BTreeMap<String, T>, TextError> {
    if group.get(name).is_none() {
        return Ok(BTreeMap::new());
    }
    let section = group.section(name)?;
    if section.sections().count() > MAX_VOLUMES {
        return Err(TextError { line: section.line, detail: format!("more than {MAX_VOLUMES} volumes") });
    }
    section.sections().map(|(name, section)| Ok((name.to_owned(), parse(section)?))).collect()
}

fn physical(section: &Section) -> Result<PvModel, TextError> {
    let start = section.number("pe_start")?;
    let out = || TextError { line: section.line_of("pe_start"), detail: "out of range".into() };
    Ok(PvModel {
        id: id(section)?,
        status: status(section)?,
        data_start: start.checked_mul(512).ok_or_else(out)?,
        extents: section.number("pe_count")?,
    })
}

fn logical(section: &Section) -> Result<LvModel, TextError> {
    let count = section.number("segment_count")?;
    let mut segments = Vec::new();
    let mut snapshot = None;
    let mut next = 0u64;
    // `segment10` sorts before `segment2`, hence by number.
    for number in 1..=count {
        let one = section.section(&format!("segment{number}"))?;
        let segment = Segment::parse(one)?;
        if segment.start != next || segment.count == 0 {
            let detail = format!("begins at extent {}, expected {next}, or is empty", segment.start);
            return Err(TextError { line: one.line, detail });
        }
        next = next
            .checked_add(segment.count)
            .filter(|end| *end <= u64::from(u32::MAX))
            .ok_or_else(|| TextError { line: one.line, detail: "more extents than LVM2 counts".into() })?;
        if one.text("type")? == "snapshot" {
            // A snapshot that is being merged back names its store so.
            let is_merging = one.get("merging_store").is_some();
            let store = one.text(if is_merging { "merging_store" } else { "cow_store" })?.to_owned();
            snapshot = Some(SnapshotModel { origin: one.text("origin")?.to_owned(), store, is_merging });
        }
        segments.push(segment);
    }
    Ok(LvModel { id: id(section)?, status: status(section)?, segments, snapshot })
}
