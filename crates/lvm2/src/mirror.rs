//! Whether the legs of a mirror hold the same: the kernel's own records, `dm-raid.c` and `dm-log.c`.

use block::ReadAt;
use ondisk::{le_u32, le_u64};

use crate::Lvm2Error;
use crate::label::read;

/// `MaxSector`: nothing is left to be copied.
const DONE: u64 = u64::MAX;

/// What the superblock in a leg's metadata volume says (`struct dm_raid_superblock`, little-endian).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RaidRecord {
    devices: u32,
    position: u32,
    events: u64,
    failed: u64,
    recovered_up_to: u64,
    resynced_up_to: u64,
    level: u32,
}

impl RaidRecord {
    /// `None` when the metadata volume was never written.
    pub fn read(device: &dyn ReadAt) -> Result<Option<Self>, Lvm2Error> {
        let Some(raw) = read(device, 0, 512)? else { return Ok(None) };
        if raw.get(..4) != Some(b"DmRd") {
            return Ok(None);
        }
        Ok(Some(Self {
            devices: le_u32(&raw, 8),
            position: le_u32(&raw, 12),
            events: le_u64(&raw, 16),
            failed: le_u64(&raw, 24),
            recovered_up_to: le_u64(&raw, 32),
            resynced_up_to: le_u64(&raw, 40),
            level: le_u32(&raw, 48),
        }))
    }
}

/// Which legs can be read, and whether all of them can be written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Legs {
    /// The leg to read.
    pub read: usize,
    /// Why not all legs may be written; `None` when they are the same.
    pub differ: Option<String>,
}

/// Judges a RAID1 by the records of its legs; `Err` when none can be read.
pub(crate) fn judge_raid1(records: &[Option<RaidRecord>]) -> Result<Legs, String> {
    let Some(newest) = records.iter().flatten().map(|record| record.events).max() else {
        // Before its first activation the kernel takes the first leg and copies it to the others.
        return Ok(Legs { read: 0, differ: Some("no leg has a record of its state".into()) });
    };
    let current = || records.iter().flatten().filter(|record| record.events == newest);
    let failed = current().fold(0, |all, record| all | record.failed);
    let mut differ = None;
    let mut read = None;
    for (index, record) in records.iter().enumerate() {
        let is_failed = index < 64 && failed >> index & 1 != 0;
        let why = match record {
            None => Some("has no record of its state".to_owned()),
            Some(record) if record.level != 1 || record.devices as usize != records.len() => {
                return Err(format!(
                    "leg {index} has the record of level {} with {} legs",
                    record.level, record.devices
                ));
            }
            Some(record) if record.position as usize != index => {
                return Err(format!("leg {index} has the record of leg {}", record.position));
            }
            Some(record) if record.events != newest => {
                Some(format!("is behind: event {} of {newest}", record.events))
            }
            Some(_) if is_failed => Some("is recorded as failed".to_owned()),
            Some(record) if record.recovered_up_to != DONE => Some("is being rebuilt".to_owned()),
            Some(record) => {
                read.get_or_insert(index);
                (record.resynced_up_to != DONE).then(|| "is being synchronised".to_owned())
            }
        };
        if let Some(why) = why {
            differ.get_or_insert(format!("leg {index} {why}"));
        }
    }
    match read {
        Some(read) => Ok(Legs { read, differ }),
        None => Err(differ.unwrap_or_else(|| "no leg is up to date".into())),
    }
}

/// Why the legs of an old mirror may differ, by its log on disk (`struct log_header_disk`; a bit that is set stands for
/// a region that is the same on all legs, from sector 2 on).
pub(crate) fn mirror_log_differs(log: &dyn ReadAt, regions: u64) -> Result<Option<String>, Lvm2Error> {
    let Some(header) = read(log, 0, 1024)? else { return Ok(Some("its log is too short".into())) };
    if header.get(..4) != Some(&0x4d69_5272_u32.to_le_bytes()) || le_u32(&header, 4) != 2 {
        return Ok(Some("its log was never written".into()));
    }
    if le_u64(&header, 8) != regions {
        return Ok(Some(format!("its log counts {} regions of {regions}", le_u64(&header, 8))));
    }
    let len = regions.div_ceil(8);
    let Some(bits) = (len <= 16 << 20).then(|| read(log, 1024, len as usize)).transpose()?.flatten() else {
        return Ok(Some("its log is too short".into()));
    };
    let is_set =
        |region: u64| bits.get((region / 8) as usize).is_some_and(|byte| byte >> (region % 8) & 1 != 0);
    let dirty = (0..regions).filter(|region| !is_set(*region)).count();
    Ok((dirty > 0).then(|| format!("{dirty} of {regions} regions are not synchronised")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;
    use block::MemoryDevice;

    fn record(position: u32) -> RaidRecord {
        RaidRecord {
            devices: 2,
            position,
            events: 7,
            failed: 0,
            recovered_up_to: DONE,
            resynced_up_to: DONE,
            level: 1,
        }
    }

    #[test]
    fn legs_are_the_same_only_when_every_record_says_so() {
        let good = [Some(record(0)), Some(record(1))];
        assert_eq!(judge_raid1(&good), Ok(Legs { read: 0, differ: None }));
        let behind = RaidRecord { events: 6, ..record(0) };
        let rebuilt = RaidRecord { recovered_up_to: 800, ..record(0) };
        let second_failed = RaidRecord { failed: 2, ..record(0) };
        let syncing = RaidRecord { resynced_up_to: 0, ..record(0) };
        for (legs, read) in [
            ([Some(behind), Some(record(1))], 1),
            ([Some(rebuilt), Some(record(1))], 1),
            ([None, Some(record(1))], 1),
            ([Some(second_failed), Some(record(1))], 0),
            ([Some(syncing), Some(record(1))], 0),
            ([None, None], 0),
        ] {
            let judged = judge_raid1(&legs).unwrap();
            assert!(judged.read == read && judged.differ.is_some(), "{legs:?}: {judged:?}");
        }
        let swapped = [Some(record(1)), Some(record(0))];
        let both_failed = RaidRecord { failed: 3, ..record(0) };
        for wrong in [swapped, [Some(both_failed), None], [Some(RaidRecord { level: 5, ..record(0) }), None]]
        {
            assert!(judge_raid1(&wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_log_is_clean_only_when_every_region_is() {
        let mut log = vec![0; 2048];
        log[..4].copy_from_slice(b"rRiM");
        log[4] = 2;
        log[8] = 10;
        log[1024] = 0xff;
        log[1025] = 0x03;
        assert_eq!(mirror_log_differs(&MemoryDevice::new(log.clone()), 10).unwrap(), None);
        log[1025] = 0x01;
        let why = mirror_log_differs(&MemoryDevice::new(log.clone()), 10).unwrap().unwrap();
        assert_eq!(why, "1 of 10 regions are not synchronised");
        assert!(mirror_log_differs(&MemoryDevice::new(log), 11).unwrap().is_some());
        assert!(mirror_log_differs(&MemoryDevice::new(vec![0; 2048]), 1).unwrap().is_some());
    }
}
