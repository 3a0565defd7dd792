//! Setting and removing attributes.
//!
//! Values go into the inode when they fit, else into the attribute block. A block with several owners is
//! copied before it is changed.

use ondisk::{le_u32, put_le_u16, put_le_u32};
use vfs::VfsError;

use super::{BLOCK_HEADER, ENTRY_HEAD, MAX_VALUE, StoredXattr, XATTR_MAGIC, name};
use crate::error::{Result, corrupt, unsupported};
use crate::feature::Compat;
use crate::fs::Ext4;
use crate::inode::Inode;

fn padded(len: usize) -> usize {
    (len + 3) & !3
}

/// Bytes that attributes take, the word that ends the list included.
fn room(list: &[StoredXattr]) -> usize {
    4 + list
        .iter()
        .map(|entry| ENTRY_HEAD + padded(entry.name.len()) + padded(entry.value.len()))
        .sum::<usize>()
}

/// Hash of an entry of an attribute block: name bytes, then the padded value as words.
fn entry_hash(name: &[u8], value: &[u8]) -> u32 {
    let of_name = name.iter().fold(0u32, |hash, byte| hash.rotate_left(5) ^ u32::from(*byte));
    value.chunks(4).fold(of_name, |hash, chunk| {
        let mut word = [0; 4];
        word[..chunk.len()].copy_from_slice(chunk);
        hash.rotate_left(16) ^ u32::from_le_bytes(word)
    })
}

impl StoredXattr {
    fn order(&self) -> (u8, usize, &[u8]) {
        (self.index, self.name.len(), &self.name)
    }

    fn is(&self, index: u8, name: &[u8]) -> bool {
        self.index == index && self.name == name
    }
}

impl Ext4 {
    /// Sets an attribute to a value in its form on disk, or removes it; true when anything changed.
    /// The inode is changed but not written.
    pub(crate) fn put_xattr(
        &mut self,
        inode: &mut Inode,
        index: u8,
        name: &[u8],
        value: Option<&[u8]>,
    ) -> Result<bool> {
        let mut inside = self.inode_xattrs(inode)?;
        let mut outside = self.block_xattrs(inode)?;
        let old = inside.iter().chain(&outside).find(|entry| entry.is(index, name));
        if old.map(|entry| entry.value.as_slice()) == value {
            return Ok(false);
        }
        if old.is_some_and(|entry| entry.value_inode != 0) {
            return Err(unsupported("ext4.feature.unsupported", "feature ea_inode", " for writing"));
        }
        let place = inside.iter().position(|entry| entry.is(index, name));
        let was_inside = place.is_some();
        let had_outside = outside.iter().any(|entry| entry.is(index, name));
        inside.retain(|entry| !entry.is(index, name));
        outside.retain(|entry| !entry.is(index, name));
        let mut goes_inside = false;
        if let Some(value) = value {
            if value.len() > MAX_VALUE || name.len() > 255 {
                return Err(self.xattr_limit(inode));
            }
            let entry =
                StoredXattr { index, name: name.to_vec(), value: value.to_vec(), value_inode: 0, hash: 0 };
            let free = self.inode_xattr_start(inode).map_or(0, |start| inode.raw().len() - start - 4);
            let mut with = inside.clone();
            with.insert(place.unwrap_or(with.len()).min(with.len()), entry.clone());
            if room(&with) <= free {
                inside = with;
                goes_inside = true;
            } else {
                outside.push(StoredXattr { hash: entry_hash(&entry.name, &entry.value), ..entry });
            }
        }
        if was_inside || goes_inside {
            self.store_inside(inode, &inside);
        }
        if had_outside || value.is_some() && !goes_inside {
            self.store_outside(inode, outside)?;
        }
        if value.is_some() && !self.superblock.features().compat.contains(Compat::EXT_ATTR) {
            if self.superblock.is_revision_zero() {
                return Err(unsupported(
                    "ext4.feature.unsupported",
                    "extended attributes in revision 0 of the format",
                    "",
                ));
            }
            let mut features = *self.superblock.features();
            features.compat |= Compat::EXT_ATTR;
            self.superblock.set_features(features);
            self.allocator.mark_superblock();
        }
        Ok(true)
    }

    fn xattr_limit(&self, inode: &Inode) -> VfsError {
        VfsError::Limit {
            path: format!("inode {}", inode.number()),
            limit: format!(
                "the extended attributes do not fit into the inode and one block of {} bytes",
                self.block_size()
            ),
        }
    }

    /// Removes `system.data` without looking at the flag.
    pub(crate) fn remove_inline_attribute(&mut self, inode: &mut Inode) -> Result<()> {
        self.put_xattr(inode, name::INDEX_SYSTEM, b"data", None).map(drop)
    }

    fn store_inside(&self, inode: &mut Inode, list: &[StoredXattr]) {
        let Some(start) = self.inode_xattr_start(inode) else { return };
        let area = inode.raw_mut().get_mut(start..).unwrap_or_default();
        area.fill(0);
        if list.is_empty() {
            return;
        }
        put_le_u32(area, 0, XATTR_MAGIC);
        encode_entries(&mut area[4..], 0, list);
    }

    fn store_outside(&mut self, inode: &mut Inode, mut list: Vec<StoredXattr>) -> Result<()> {
        let old = self.xattr_block_raw(inode)?;
        let references = old.as_ref().map_or(0, |(_, raw)| le_u32(raw, 4));
        if list.is_empty() {
            return self.drop_xattr_block(inode);
        }
        if room(&list) > self.block_size() - BLOCK_HEADER {
            return Err(self.xattr_limit(inode));
        }
        list.sort_by(|a, b| a.order().cmp(&b.order()));
        let (block, is_new) = match &old {
            Some((block, _)) if references == 1 => (*block, false),
            _ => {
                if old.is_some() {
                    self.drop_xattr_block(inode)?;
                }
                let block = self.take_block(self.allocation_goal(inode, None))?;
                self.charge_blocks(inode, 1)?;
                (block, true)
            }
        };
        let mut raw = vec![0; self.block_size()];
        put_le_u32(&mut raw, 0, XATTR_MAGIC);
        put_le_u32(&mut raw, 4, 1);
        put_le_u32(&mut raw, 8, 1);
        let hashes = list.iter().map(|entry| entry.hash);
        let is_sharable = hashes.clone().all(|hash| hash != 0);
        let hash = if is_sharable { hashes.fold(0u32, |sum, hash| sum.rotate_left(16) ^ hash) } else { 0 };
        put_le_u32(&mut raw, 12, hash);
        encode_entries(&mut raw, BLOCK_HEADER, &list);
        self.seal_xattr_block(block, &mut raw);
        self.put_block(block, raw, is_new)?;
        inode.set_xattr_block(block);
        Ok(())
    }

    fn seal_xattr_block(&self, block: u64, raw: &mut [u8]) {
        if self.superblock.features().has_metadata_csum() {
            let sum = self.superblock.xattr_block_checksum(block, raw);
            put_le_u32(raw, 0x10, sum);
        }
    }

    /// Takes an inode's reference to its attribute block away; the last one frees the block.
    pub(crate) fn drop_xattr_block(&mut self, inode: &mut Inode) -> Result<()> {
        let Some((block, mut raw)) = self.xattr_block_raw(inode)? else { return Ok(()) };
        let references = le_u32(&raw, 4);
        match references {
            0 => {
                return Err(corrupt(
                    "ext4.xattr.references",
                    format!("attribute block {block} of inode {}", inode.number()),
                    "at least 1 reference expected, 0 found",
                ));
            }
            1 => self.free_blocks(block, 1)?,
            _ => {
                put_le_u32(&mut raw, 4, references - 1);
                self.seal_xattr_block(block, &mut raw);
                self.put_block(block, raw, false)?;
            }
        }
        self.charge_blocks(inode, -1)?;
        inode.set_xattr_block(0);
        Ok(())
    }
}

/// Writes entries from byte `first` on and values from the end of `area` backwards.
fn encode_entries(area: &mut [u8], first: usize, list: &[StoredXattr]) {
    let (mut at, mut end) = (first, area.len() & !3);
    for entry in list {
        area[at] = entry.name.len() as u8;
        area[at + 1] = entry.index;
        let mut value_at = 0;
        if !entry.value.is_empty() {
            end -= padded(entry.value.len());
            area[end..end + entry.value.len()].copy_from_slice(&entry.value);
            value_at = end;
        }
        put_le_u16(area, at + 2, value_at as u16);
        put_le_u32(area, at + 4, 0);
        put_le_u32(area, at + 8, entry.value.len() as u32);
        put_le_u32(area, at + 12, entry.hash);
        let name_at = at + ENTRY_HEAD;
        area[name_at..name_at + entry.name.len()].copy_from_slice(&entry.name);
        at += ENTRY_HEAD + padded(entry.name.len());
    }
}
