//! AGFL: ring of blocks kept for the free-space and reverse-mapping trees (`struct xfs_agfl`).

use ondisk::{be_u32, put_be_u32};

use super::Agf;
use crate::buffer::Stamp;
use crate::error::{Result, corrupt, unsupported};
use crate::fs::Xfs;

const MAGIC: u32 = 0x5841_464c;

impl Xfs {
    fn list_start(&self) -> usize {
        if self.geo.is_v5 { 36 } else { 0 }
    }

    /// Slots of the ring.
    pub(crate) fn list_slots(&self) -> u32 {
        ((self.geo.sector_size - self.list_start()) / 4) as u32
    }

    fn agfl(&self, group: u32) -> Result<(u64, Vec<u8>)> {
        let byte = self.geo.header_byte(group, 3);
        let raw = self.read_unit(byte, self.geo.sector_size)?;
        let what = || format!("AGFL of group {group}");
        if self.geo.is_v5 && (be_u32(&raw, 0) != MAGIC || be_u32(&raw, 4) != group) {
            return Err(corrupt("xfs.agfl", what(), "magic XAFL or the group's number is not there"));
        }
        self.verify(&Stamp::AGFL, &raw, byte, group.into(), &what)?;
        Ok((byte, raw))
    }

    /// Refuses a ring whose count is not its span: kernels with another length of the ring wrote it.
    fn require_known_list(&self, agf: &Agf) -> Result<()> {
        let slots = self.list_slots();
        let count = agf.list_count();
        let span = if count == 0 { 0 } else { (agf.last() + slots - agf.first()) % slots + 1 };
        if count == 0 || span == count {
            return Ok(());
        }
        Err(unsupported(
            "xfs.feature.unsupported",
            "agfl-quirk",
            format!(": the free list of group {} has {count} blocks in {span} slots", agf.group),
        ))
    }

    /// Blocks on the ring, in order.
    pub(crate) fn list_blocks(&self, agf: &Agf) -> Result<Vec<u32>> {
        self.require_known_list(agf)?;
        let (_, raw) = self.agfl(agf.group)?;
        let slots = self.list_slots();
        Ok((0..agf.list_count())
            .map(|index| be_u32(&raw, self.list_start() + 4 * ((agf.first() + index) % slots) as usize))
            .collect())
    }

    /// Takes the first block off the ring.
    pub(crate) fn pop_list(&mut self, group: u32) -> Result<Option<u32>> {
        let mut agf = self.agf(group)?;
        self.require_known_list(&agf)?;
        let Some(rest) = agf.list_count().checked_sub(1) else { return Ok(None) };
        let (_, raw) = self.agfl(group)?;
        let block = be_u32(&raw, self.list_start() + 4 * agf.first() as usize);
        if block == 0 || block >= self.geo.blocks_of(group) {
            return Err(corrupt(
                "xfs.agfl",
                format!("AGFL of group {group}"),
                format!("names block {block}"),
            ));
        }
        agf.set_list((agf.first() + 1) % self.list_slots(), agf.last(), rest);
        self.put_agf(&agf)?;
        Ok(Some(block))
    }

    /// Puts a block at the end of the ring.
    pub(crate) fn push_list(&mut self, group: u32, block: u32) -> Result<()> {
        let mut agf = self.agf(group)?;
        self.require_known_list(&agf)?;
        let slots = self.list_slots();
        if agf.list_count() >= slots {
            return Err(corrupt("xfs.agfl", format!("AGFL of group {group}"), "no slot is left"));
        }
        let last = (agf.last() + 1) % slots;
        let (byte, mut raw) = self.agfl(group)?;
        put_be_u32(&mut raw, self.list_start() + 4 * last as usize, block);
        self.seal(&Stamp::AGFL, &mut raw, byte, group.into());
        self.put_unit(byte, raw)?;
        agf.set_list(agf.first(), last, agf.list_count() + 1);
        self.put_agf(&agf)
    }
}
