//! The label and header of a physical volume (LVM2 `lib/label/label.h`, `lib/format_text/layout.h`).

use block::{BlockError, ReadAt};
use ondisk::{crc32_raw, le_u32, le_u64};

use crate::area::{AreaState, MetadataArea};
use crate::{Finding, Lvm2Error, LvmId};

const SECTOR: usize = 512;
/// Labels stand in one of the first sectors (`LABEL_SCAN_SECTORS`).
const LABEL_SECTORS: u64 = 4;
/// The CRC of labels, headers and texts starts from this value.
const INITIAL_CRC: u32 = 0xf597_a6cf;
/// Areas of a physical volume at most; LVM2 writes two of each.
const MAX_AREAS: usize = 16;

pub(crate) fn crc(bytes: &[u8]) -> u32 {
    crc32_raw(INITIAL_CRC, bytes)
}

/// A physical volume as its own label and metadata areas describe it.
#[derive(Debug, Clone)]
pub struct PhysicalVolume {
    /// Its UUID.
    pub id: LvmId,
    /// Sector of the label.
    pub label_sector: u64,
    /// Length of the device when it was made, bytes.
    pub size: u64,
    /// First byte and length of each data area; a length of 0 means up to the end of the device.
    pub data_areas: Vec<(u64, u64)>,
    /// Where copies of the metadata stand.
    pub metadata_areas: Vec<MetadataArea>,
    /// What is wrong or noteworthy.
    pub findings: Vec<Finding>,
}

impl PhysicalVolume {
    /// Reads label, header and metadata areas; `None` when there is no label.
    pub fn read(device: &dyn ReadAt) -> Result<Option<Self>, Lvm2Error> {
        let mut damaged = None;
        for sector in 0..LABEL_SECTORS {
            let Some(raw) = read(device, sector * SECTOR as u64, SECTOR)? else { break };
            if raw.get(..8) != Some(b"LABELONE") || raw.get(24..32) != Some(b"LVM2 001") {
                continue;
            }
            match header(&raw, sector) {
                Ok(mut volume) => {
                    volume.read_areas(device)?;
                    return Ok(Some(volume));
                }
                // An old label may stand beside the one that counts.
                Err(error) => {
                    damaged.get_or_insert(error);
                }
            }
        }
        damaged.map_or(Ok(None), Err)
    }

    fn read_areas(&mut self, device: &dyn ReadAt) -> Result<(), Lvm2Error> {
        for area in &mut self.metadata_areas {
            area.read(device)?;
            if let AreaState::Damaged { code, detail } = &area.state {
                let detail = format!("metadata area at byte {} of PV {}: {detail}", area.start, self.id);
                self.findings.push(Finding::new(code, detail));
            }
        }
        Ok(())
    }
}

/// `len` bytes at `offset`; `None` when the device is shorter.
pub(crate) fn read(device: &dyn ReadAt, offset: u64, len: usize) -> Result<Option<Vec<u8>>, BlockError> {
    if offset.checked_add(len as u64).is_none_or(|end| end > device.len()) {
        return Ok(None);
    }
    let mut bytes = vec![0; len];
    device.read_exact_at(&mut bytes, offset)?;
    Ok(Some(bytes))
}

fn header(raw: &[u8], sector: u64) -> Result<PhysicalVolume, Lvm2Error> {
    let subject = format!("label in sector {sector}");
    let wrong = |code, detail: String| Err(Lvm2Error::damaged(subject.clone(), code, detail));
    let (stored, computed) = (le_u32(raw, 16), crc(&raw[20..]));
    if stored != computed {
        return wrong("lvm2.label.checksum", format!("checksum {stored:#010x}, computed {computed:#010x}"));
    }
    let own = le_u64(raw, 8);
    if own != sector {
        return wrong("lvm2.label.sector", format!("it says sector {own}"));
    }
    let start = le_u32(raw, 20) as usize;
    let Some(header) = raw.get(start..).filter(|header| start >= 32 && header.len() >= 40) else {
        return wrong("lvm2.label.header", format!("the header at byte {start} does not lie in its sector"));
    };
    let Some(id) = LvmId::from_raw(&header[..32]) else {
        return wrong("lvm2.label.uuid", "the UUID has characters that no UUID has".into());
    };
    let mut locations = header[40..].chunks_exact(16).map(|raw| (le_u64(raw, 0), le_u64(raw, 8)));
    let mut list = || {
        let mut areas = Vec::new();
        for location in locations.by_ref() {
            if location.0 == 0 {
                return (areas.len() <= MAX_AREAS).then_some(areas);
            }
            areas.push(location);
        }
        None
    };
    let (Some(data_areas), Some(metadata)) = (list(), list()) else {
        return wrong("lvm2.label.areas", "the lists of areas do not end in their sector".into());
    };
    let metadata_areas =
        metadata.into_iter().map(|(start, size)| MetadataArea::unread(start, size)).collect();
    Ok(PhysicalVolume {
        id,
        label_sector: sector,
        size: le_u64(header, 32),
        data_areas,
        metadata_areas,
        findings: Vec::new(),
    })
}
