//! Segments of logical volumes as the metadata describes them (lvmraid(7), lvmthin(7), lvmcache(7)).

use crate::text::{Node, Section, TextError};

/// Columns of a stripe and legs of a mirror at most (`MAX_STRIPES` of LVM2).
const MAX_AREAS: usize = 128;

/// A run of extents of a logical volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// First extent in the logical volume.
    pub start: u64,
    /// Extents.
    pub count: u64,
    /// What they are made of.
    pub kind: SegmentKind,
}

/// What a segment is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SegmentKind {
    /// One column is linear; several take turns.
    Striped {
        /// Bytes of one chunk; 0 when there is one column.
        chunk: u64,
        /// The columns.
        areas: Vec<Area>,
    },
    /// Mirror of the old kind: every leg has everything, a log tells which regions are the same.
    Mirror {
        /// The legs, the first one is the primary.
        legs: Vec<Area>,
        /// Name of the volume with the log; `None` when it is kept in memory.
        log: Option<String>,
        /// Bytes that one bit of the log stands for.
        region: u64,
    },
    /// RAID1 of MD: names of metadata and image volumes, one pair for each leg.
    Raid1 {
        /// `(root_rmeta_0, root_rimage_0)`, …; the first is `None` where the leg has no metadata.
        legs: Vec<(Option<String>, String)>,
    },
    /// What is known by name only: `thin`, `cache`, `vdo`, …
    Other {
        /// LVM2's name of it.
        name: String,
        /// Physical extents that it takes; `None` when that cannot be told.
        areas: Option<Vec<Area>>,
    },
}

/// Where a column or leg lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Area {
    /// `pv0` or the name of another logical volume.
    pub name: String,
    /// First extent there.
    pub first: u64,
}

/// Kinds whose extents belong to other volumes, which are listed on their own.
const WITHOUT_EXTENTS: &[&str] = &[
    "thin",
    "thin-pool",
    "cache",
    "cache-pool",
    "vdo",
    "vdo-pool",
    "snapshot",
    "writecache",
    "integrity",
    "error",
    "zero",
];

impl Segment {
    pub(crate) fn parse(section: &Section) -> Result<Self, TextError> {
        let (start, count) = (section.number("start_extent")?, section.number("extent_count")?);
        let full = section.text("type")?;
        // Flags that an older LVM2 must not ignore stand behind the name: `cache+METADATA_FORMAT`.
        let kind = match full {
            "striped" | "linear" => {
                let areas = areas(section, "stripes")?;
                let chunk = match areas.len() {
                    0 => return Err(fail(section, "stripes", "no stripes")),
                    1 => 0,
                    _ => sectors(section, "stripe_size")?,
                };
                SegmentKind::Striped { chunk, areas }
            }
            "mirror" => SegmentKind::Mirror {
                legs: areas(section, "mirrors")?,
                log: section
                    .get("mirror_log")
                    .map(|_| section.text("mirror_log").map(str::to_owned))
                    .transpose()?,
                region: section.get("region_size").map_or(Ok(0), |_| sectors(section, "region_size"))?,
            },
            "raid1" => SegmentKind::Raid1 { legs: raid_legs(section)? },
            name => SegmentKind::Other { name: name.to_owned(), areas: extents_of_other(section, name)? },
        };
        Ok(Self { start, count, kind })
    }

    /// Every area with its extents; `None` when that cannot be told.
    pub(crate) fn areas(&self) -> Option<Vec<(&Area, u64)>> {
        Some(match &self.kind {
            SegmentKind::Striped { areas, .. } => {
                areas.iter().map(|area| (area, self.count / areas.len().max(1) as u64)).collect()
            }
            SegmentKind::Mirror { legs, .. } => legs.iter().map(|area| (area, self.count)).collect(),
            SegmentKind::Raid1 { .. } => Vec::new(),
            SegmentKind::Other { areas, .. } => {
                areas.as_ref()?.iter().map(|area| (area, self.count)).collect()
            }
        })
    }
}

fn extents_of_other(section: &Section, name: &str) -> Result<Option<Vec<Area>>, TextError> {
    let bare = name.split('+').next().unwrap_or_default();
    // RAID takes its extents through image volumes; integrity beside it, too.
    if WITHOUT_EXTENTS.contains(&bare) || bare.starts_with("raid") {
        return Ok(Some(Vec::new()));
    }
    let _ = section;
    Ok(None)
}

fn fail(section: &Section, name: &str, detail: &str) -> TextError {
    TextError { line: section.line_of(name), detail: detail.to_owned() }
}

fn sectors(section: &Section, name: &str) -> Result<u64, TextError> {
    let number = section.number(name)?;
    number.checked_mul(512).filter(|bytes| *bytes > 0).ok_or_else(|| fail(section, name, "out of range"))
}

/// `["pv0", 0, "pv1", 10]`
fn areas(section: &Section, name: &str) -> Result<Vec<Area>, TextError> {
    let pairs = section.list(name)?.chunks(2);
    let areas: Option<Vec<Area>> = pairs
        .map(|pair| match pair {
            [Node::Text(name), Node::Int(first)] => {
                Some(Area { name: name.clone(), first: u64::try_from(*first).ok()? })
            }
            _ => None,
        })
        .collect();
    match areas {
        Some(areas) if areas.len() <= MAX_AREAS => Ok(areas),
        Some(_) => Err(fail(section, name, "more than 128 areas")),
        None => Err(fail(section, name, "expected names and numbers of extents by turns")),
    }
}

/// Names by turns: metadata, image. `raid1` without metadata volumes lists images alone.
fn raid_legs(section: &Section) -> Result<Vec<(Option<String>, String)>, TextError> {
    let names = section.texts("raids")?;
    let count = section.number("device_count")?;
    let legs: Vec<(Option<String>, String)> = match names.len() as u64 {
        pairs if pairs == count.saturating_mul(2) => names
            .chunks_exact(2)
            .filter_map(|pair| match pair {
                [meta, image] => Some((Some(meta.clone()), image.clone())),
                _ => None,
            })
            .collect(),
        images if images == count => names.into_iter().map(|image| (None, image)).collect(),
        other => {
            return Err(fail(section, "raids", &format!("{other} names for {count} devices")));
        }
    };
    match legs.len() {
        1..=MAX_AREAS => Ok(legs),
        _ => Err(fail(section, "raids", "no legs, or more than 128")),
    }
}
