//! Self-describing metadata: what each unit carries, how it is checked and stamped.
//!
//! Everything written carries the log sequence number 0, "replay over me": a number at or ahead of the
//! log's head makes kernels skip or refuse the block (XFS Algorithms & Data Structures, "Metadata
//! Integrity"; `xfs_log_check_lsn`). Remote attribute values carry -1, since they are never logged.

use ondisk::{be_u32, be_u64, le_u32, put_be_u32, put_be_u64, put_le_u32};

use crate::error::{Result, corrupt, device};
use crate::fs::Xfs;
use crate::superblock::checksum;

/// Where the owner stands.
#[derive(Debug, Clone, Copy)]
enum OwnerField {
    Word(usize),
    Long(usize),
}

/// Positions of the self-describing fields of a unit of version 5.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stamp {
    crc: usize,
    lsn: usize,
    uuid: usize,
    owner: OwnerField,
    block: Option<usize>,
    lsn_value: u64,
}

const fn stamp(crc: usize, lsn: usize, uuid: usize, owner: OwnerField, block: Option<usize>) -> Stamp {
    Stamp { crc, lsn, uuid, owner, block, lsn_value: 0 }
}

impl Stamp {
    pub(crate) const AGF: Stamp = stamp(216, 208, 64, OwnerField::Word(8), None);
    pub(crate) const AGI: Stamp = stamp(312, 320, 296, OwnerField::Word(8), None);
    pub(crate) const AGFL: Stamp = stamp(32, 24, 8, OwnerField::Word(4), None);
    pub(crate) const AG_BTREE: Stamp = stamp(52, 24, 32, OwnerField::Word(48), Some(16));
    pub(crate) const BMBT: Stamp = stamp(64, 32, 40, OwnerField::Long(56), Some(24));
    pub(crate) const INODE: Stamp = stamp(100, 112, 160, OwnerField::Long(152), None);
    /// Directory data and free-index blocks.
    pub(crate) const DIR_DATA: Stamp = stamp(4, 16, 24, OwnerField::Long(40), Some(8));
    /// Directory leaves, attribute leaves and nodes above both.
    pub(crate) const DA: Stamp = stamp(12, 24, 32, OwnerField::Long(48), Some(16));
    pub(crate) const SYMLINK: Stamp = stamp(12, 48, 16, OwnerField::Long(32), Some(40));
    pub(crate) const REMOTE_ATTR: Stamp =
        Stamp { lsn_value: u64::MAX, ..stamp(12, 48, 16, OwnerField::Long(32), Some(40)) };

    /// Byte of the UUID.
    pub(crate) fn uuid_at(&self) -> usize {
        self.uuid
    }

    /// Byte of the log sequence number.
    pub(crate) fn lsn_at(&self) -> usize {
        self.lsn
    }
}

impl Xfs {
    /// Bytes at a place of the device, as the operation under way has changed them. The place and length
    /// are always those of one unit.
    pub(crate) fn read_unit(&self, byte: u64, len: usize) -> Result<Vec<u8>> {
        if let Some(changed) = self.pending.get(&byte)
            && changed.len() == len
        {
            return Ok(changed.clone());
        }
        let mut raw = vec![0; len];
        self.device.reader().read_exact_at(&mut raw, byte).map_err(device)?;
        Ok(raw)
    }

    /// One block of a group.
    pub(crate) fn read_block(&self, group: u32, block: u32) -> Result<Vec<u8>> {
        if group >= self.geo.groups || block >= self.geo.blocks_of(group) {
            return Err(corrupt(
                "xfs.block.range",
                format!("block {block} of group {group}"),
                "lies outside the filesystem",
            ));
        }
        self.read_unit(self.geo.byte(group, block), self.geo.block_size)
    }

    /// One filesystem block.
    pub(crate) fn read_fsblock(&self, fsblock: u64) -> Result<Vec<u8>> {
        let (group, block) = self.geo.split(fsblock);
        self.read_block(group, block)
    }

    /// Changes a unit; one that keeps its content is not written.
    pub(crate) fn put_unit(&mut self, byte: u64, raw: Vec<u8>) -> Result<()> {
        if let Some(changed) = self.pending.get_mut(&byte) {
            *changed = raw;
            return Ok(());
        }
        let mut old = vec![0; raw.len()];
        self.device.reader().read_exact_at(&mut old, byte).map_err(device)?;
        if old != raw {
            self.pending.insert(byte, raw);
        }
        Ok(())
    }

    /// Checks the self-describing fields of a unit at `byte`; version 4 has none.
    pub(crate) fn verify(
        &self,
        stamp: &Stamp,
        raw: &[u8],
        byte: u64,
        owner: u64,
        what: &dyn Fn() -> String,
    ) -> Result<()> {
        if !self.geo.is_v5 {
            return Ok(());
        }
        match stamp_fault(stamp, raw, byte, owner, &self.geo.uuid) {
            None => Ok(()),
            Some((code, detail)) => Err(corrupt(code, what(), detail)),
        }
    }

    /// Stamps a unit that goes to `byte`.
    pub(crate) fn seal(&self, stamp: &Stamp, raw: &mut [u8], byte: u64, owner: u64) {
        if !self.geo.is_v5 {
            return;
        }
        put_be_u64(raw, stamp.lsn, stamp.lsn_value);
        raw[stamp.uuid..stamp.uuid + 16].copy_from_slice(&self.geo.uuid);
        match stamp.owner {
            OwnerField::Word(at) => put_be_u32(raw, at, owner as u32),
            OwnerField::Long(at) => put_be_u64(raw, at, owner),
        }
        if let Some(at) = stamp.block {
            put_be_u64(raw, at, byte / 512);
        }
        reseal(stamp, raw);
    }
}

/// A fresh checksum over a unit whose other fields are right.
pub(crate) fn reseal(stamp: &Stamp, raw: &mut [u8]) {
    let sum = checksum(raw, stamp.crc);
    put_le_u32(raw, stamp.crc, sum);
}

fn stamp_fault(
    stamp: &Stamp,
    raw: &[u8],
    byte: u64,
    owner: u64,
    uuid: &[u8; 16],
) -> Option<(&'static str, String)> {
    let (want, have) = (checksum(raw, stamp.crc), le_u32(raw, stamp.crc));
    if want != have {
        return Some(("xfs.checksum", format!("checksum {want:#010x} expected, {have:#010x} found")));
    }
    if raw[stamp.uuid..stamp.uuid + 16] != uuid[..] {
        return Some(("xfs.uuid", "carries the UUID of another filesystem".into()));
    }
    let found = match stamp.owner {
        OwnerField::Word(at) => be_u32(raw, at).into(),
        OwnerField::Long(at) => be_u64(raw, at),
    };
    if found != owner {
        return Some(("xfs.owner", format!("owner {owner} expected, {found} found")));
    }
    if let Some(at) = stamp.block {
        let found = be_u64(raw, at);
        if found != byte / 512 {
            return Some(("xfs.place", format!("sector {} expected, {found} found", byte / 512)));
        }
    }
    None
}
