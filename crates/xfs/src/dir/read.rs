//! Listing and looking up.

use ondisk::{be_u16, be_u32};

use super::Entry;
use crate::da::{LEAF1_MAGIC, LEAFN_MAGIC};
use crate::error::{Result, corrupt};
use crate::fs::Xfs;
use crate::inode::{Fork, Format, Inode};
use crate::map::Map;

/// Position of an entry: file block of its data block, byte in it.
pub(crate) type Place = (u64, usize);

impl Xfs {
    /// File blocks of all data blocks, in order.
    pub(crate) fn data_places(&self, map: &Map) -> Vec<u64> {
        let step = u64::from(self.geo.dir_blocks);
        let limit = self.leaf_start();
        let mut places: Vec<u64> = Vec::new();
        for extent in &map.extents {
            let mut block = extent.offset / step * step;
            while block < extent.end().min(limit) {
                if places.last() != Some(&block) {
                    places.push(block);
                }
                block += step;
            }
        }
        places
    }

    /// All entries but `.` and `..`, and the parent's number.
    pub(crate) fn read_dir(&self, inode: &Inode) -> Result<(u64, Vec<Entry>)> {
        if inode.format(Fork::Data) == Format::Local {
            let dir = self.read_short(inode)?;
            return Ok((dir.parent, dir.entries));
        }
        let map = self.map(inode, Fork::Data)?;
        let mut parent = None;
        let mut entries = Vec::new();
        for block in self.data_places(&map) {
            for (_, entry) in self.data_block(inode, &map, block)?.entries {
                match &entry.name[..] {
                    b"." => {}
                    b".." => parent = Some(entry.inode),
                    name if super::is_name(name) => entries.push(entry),
                    _ => return Err(bad(inode, "holds a name with a slash or a NUL byte".into())),
                }
            }
        }
        let parent = parent.ok_or_else(|| bad(inode, "it has no ..".into()))?;
        Ok((parent, entries))
    }

    /// The directory above.
    pub(crate) fn parent_of(&self, inode: &Inode) -> Result<u64> {
        match inode.format(Fork::Data) {
            Format::Local => Ok(self.read_short(inode)?.parent),
            _ => {
                let map = self.map(inode, Fork::Data)?;
                let found = self.find_in_blocks(inode, &map, b"..")?;
                found.map(|(_, entry)| entry.inode).ok_or_else(|| bad(inode, "it has no ..".into()))
            }
        }
    }

    /// Finds a name.
    pub(crate) fn find_entry(&self, inode: &Inode, name: &[u8]) -> Result<Option<Entry>> {
        let wanted = self.folded(name);
        if inode.format(Fork::Data) == Format::Local {
            let dir = self.read_short(inode)?;
            return Ok(dir.entries.into_iter().find(|entry| self.folded(&entry.name) == wanted));
        }
        let map = self.map(inode, Fork::Data)?;
        Ok(self.find_in_blocks(inode, &map, name)?.map(|(_, entry)| entry))
    }

    /// Finds a name in a directory that is not inline, and where it stands.
    pub(crate) fn find_in_blocks(
        &self,
        inode: &Inode,
        map: &Map,
        name: &[u8],
    ) -> Result<Option<(Place, Entry)>> {
        let wanted = self.folded(name);
        if map.at(self.leaf_start()).is_none() {
            let block = self.data_block(inode, map, 0)?;
            let found = block.entries.into_iter().find(|(_, entry)| self.folded(&entry.name) == wanted);
            return Ok(found.map(|(at, entry)| ((0, at), entry)));
        }
        let mut read: Option<(u64, super::data::DataBlock)> = None;
        for address in self.addresses(inode, map, self.name_hash(name))? {
            let (block, at) = self.place_of(address);
            if read.as_ref().is_none_or(|(known, _)| *known != block) {
                read = Some((block, self.data_block(inode, map, block)?));
            }
            let Some((_, content)) = &read else { continue };
            let Some((_, entry)) = content.entries.iter().find(|(other, _)| *other == at) else {
                return Err(bad(inode, format!("its index names byte {at} of block {block}")));
            };
            if self.folded(&entry.name) == wanted {
                return Ok(Some(((block, at), entry.clone())));
            }
        }
        Ok(None)
    }

    /// Data block and byte of an address of the index, which counts 8 bytes.
    pub(crate) fn place_of(&self, address: u32) -> Place {
        let byte = u64::from(address) * 8;
        let size = self.geo.dir_block_size() as u64;
        (byte / size * u64::from(self.geo.dir_blocks), (byte % size) as usize)
    }

    /// Address of a place.
    pub(crate) fn address_of(&self, (block, at): Place) -> u32 {
        (((block << self.geo.block_log) + at as u64) / 8) as u32
    }

    /// Addresses that the index has for a hash.
    fn addresses(&self, inode: &Inode, map: &Map, hash: u32) -> Result<Vec<u32>> {
        let path = self.da_descend(inode, Fork::Data, map, self.leaf_start(), hash)?;
        let mut found = Vec::new();
        let mut leaf = self.dir_leaf(inode, path.magic, &path.raw)?;
        let mut budget = map.total();
        loop {
            let start = leaf.entries.partition_point(|(other, _)| *other < hash);
            let same = leaf.entries[start..].iter().take_while(|(other, _)| *other == hash);
            found.extend(same.map(|(_, address)| *address).filter(|address| *address != 0));
            let goes_on = leaf.entries.last().is_none_or(|(last, _)| *last <= hash);
            if !goes_on || leaf.forward == 0 || budget == 0 {
                return Ok(found);
            }
            budget -= 1;
            let (magic, raw) = self.da_block(inode, Fork::Data, map, leaf.forward.into())?;
            leaf = self.dir_leaf(inode, magic, &raw)?;
        }
    }

    /// Takes a leaf of the hash index apart.
    pub(crate) fn dir_leaf(&self, inode: &Inode, magic: u16, raw: &[u8]) -> Result<DirLeaf> {
        let is_only = magic == self.da_magic(LEAF1_MAGIC);
        if !is_only && magic != self.da_magic(LEAFN_MAGIC) {
            return Err(bad(inode, format!("an index leaf with magic {magic:#06x}")));
        }
        let info = self.da_info();
        let (count, stale) = (usize::from(be_u16(raw, info)), be_u16(raw, info + 2));
        let mut room = raw.len() - self.da_header();
        let mut bests = None;
        if is_only {
            let best_count = be_u32(raw, raw.len() - 4) as usize;
            let len = best_count.saturating_mul(2).saturating_add(4);
            if len > room {
                return Err(bad(inode, format!("an index leaf for {best_count} blocks")));
            }
            room -= len;
            let start = raw.len() - len;
            bests = Some(raw[start..raw.len() - 4].chunks_exact(2).map(|raw| be_u16(raw, 0)).collect());
        }
        if count * 8 > room {
            return Err(bad(inode, format!("an index leaf with {count} names in {room} bytes")));
        }
        let entries: Vec<(u32, u32)> = raw[self.da_header()..]
            .chunks_exact(8)
            .take(count)
            .map(|raw| (be_u32(raw, 0), be_u32(raw, 4)))
            .collect();
        if !entries.is_sorted_by_key(|(hash, _)| *hash) {
            return Err(bad(inode, "an index leaf out of order".into()));
        }
        Ok(DirLeaf { forward: be_u32(raw, 0), back: be_u32(raw, 4), stale, entries, bests })
    }
}

/// A leaf of the hash index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DirLeaf {
    pub forward: u32,
    pub back: u32,
    /// Stale names as the header counts them.
    pub stale: u16,
    /// Hash and address; 0 for a stale name.
    pub entries: Vec<(u32, u32)>,
    /// Largest hole of each data block, where this is the only leaf.
    pub bests: Option<Vec<u16>>,
}

fn bad(inode: &Inode, detail: String) -> vfs::VfsError {
    corrupt("xfs.dir", format!("directory of inode {}", inode.number()), detail)
}
