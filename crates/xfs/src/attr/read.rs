//! Reading every form.

use std::collections::BTreeSet;

use ondisk::{be_u16, be_u32, try_be_u16, try_be_u32};

use super::{Attr, INCOMPLETE, LOCAL, MAX_VALUE, NAMESPACES};
use crate::buffer::Stamp;
use crate::da::{ATTR_LEAF_MAGIC, NODE_MAGIC};
use crate::error::{Result, corrupt};
use crate::fs::Xfs;
use crate::inode::{Fork, Format, Inode};
use crate::map::Map;

/// Bytes of an entry of a leaf.
pub(crate) const LEAF_ENTRY: usize = 8;
const REMOTE_MAGIC: u32 = u32::from_be_bytes(*b"XARM");

fn bad(inode: &Inode, detail: impl Into<String>) -> vfs::VfsError {
    corrupt("xfs.attr", format!("attributes of inode {}", inode.number()), detail)
}

impl Xfs {
    /// Bytes before the entries of a leaf.
    pub(crate) fn attr_leaf_header(&self) -> usize {
        if self.geo.is_v5 { 80 } else { 32 }
    }

    /// Bytes before the content of a block of a remote value or of a remote symbolic link.
    pub(crate) fn remote_header(&self) -> usize {
        if self.geo.is_v5 { 56 } else { 0 }
    }

    /// All attributes, parent pointers included, incomplete ones left out.
    pub(crate) fn read_attrs(&self, inode: &Inode) -> Result<Vec<Attr>> {
        if inode.fork_offset() == 0 {
            return Ok(Vec::new());
        }
        if inode.format(Fork::Attr) == Format::Local {
            return read_short(inode);
        }
        let map = self.map(inode, Fork::Attr)?;
        if map.extents.is_empty() {
            return Ok(Vec::new());
        }
        // Leaves are chained from left to right.
        let mut attrs = Vec::new();
        let mut path = self.da_descend(inode, Fork::Attr, &map, 0, 0)?;
        let mut seen = BTreeSet::new();
        loop {
            if path.magic != self.da_magic(ATTR_LEAF_MAGIC) || !seen.insert(path.block) {
                let magics = self.da_magic(NODE_MAGIC);
                return Err(bad(
                    inode,
                    format!("leaf with magic {:#06x} (nodes have {magics:#06x})", path.magic),
                ));
            }
            self.read_leaf(inode, &map, &path.raw, &mut attrs)?;
            let next = be_u32(&path.raw, 0);
            if next == 0 {
                return Ok(attrs);
            }
            let (magic, raw) = self.da_block(inode, Fork::Attr, &map, next.into())?;
            path = crate::da::DaPath { nodes: Vec::new(), block: next.into(), magic, raw };
        }
    }

    fn read_leaf(&self, inode: &Inode, map: &Map, raw: &[u8], attrs: &mut Vec<Attr>) -> Result<()> {
        let count = usize::from(be_u16(raw, self.da_info()));
        let header = self.attr_leaf_header();
        if count * LEAF_ENTRY > raw.len() - header {
            return Err(bad(inode, format!("a leaf with {count} entries")));
        }
        for entry in raw[header..].chunks_exact(LEAF_ENTRY).take(count) {
            let (at, flags) = (usize::from(be_u16(entry, 4)), entry[6]);
            if flags & INCOMPLETE != 0 {
                continue;
            }
            let cut = || bad(inode, format!("an entry at byte {at} runs out of its leaf"));
            let (name, value) = if flags & LOCAL != 0 {
                let value_len = usize::from(try_be_u16(raw, at).ok_or_else(cut)?);
                let name_len = usize::from(*raw.get(at + 2).ok_or_else(cut)?);
                let name = raw.get(at + 3..at + 3 + name_len).ok_or_else(cut)?;
                let value = raw.get(at + 3 + name_len..at + 3 + name_len + value_len).ok_or_else(cut)?;
                (name.to_vec(), value.to_vec())
            } else {
                let block = try_be_u32(raw, at).ok_or_else(cut)?;
                let len = try_be_u32(raw, at + 4).ok_or_else(cut)? as usize;
                let name_len = usize::from(*raw.get(at + 8).ok_or_else(cut)?);
                let name = raw.get(at + 9..at + 9 + name_len).ok_or_else(cut)?.to_vec();
                (name, self.read_remote(inode, map, block.into(), len)?)
            };
            attrs.push(Attr { space: flags & NAMESPACES, name, value });
        }
        Ok(())
    }

    fn read_remote(&self, inode: &Inode, map: &Map, mut block: u64, len: usize) -> Result<Vec<u8>> {
        if len > MAX_VALUE {
            return Err(bad(inode, format!("a value of {len} bytes")));
        }
        let payload = self.geo.block_size - self.remote_header();
        let mut value = Vec::with_capacity(len);
        while value.len() < len {
            let part = payload.min(len - value.len());
            let (byte, raw) = self.read_mapped(inode, map, block, 1)?;
            if self.geo.is_v5 {
                let what = || format!("attribute value in block {block} of inode {}", inode.number());
                if be_u32(&raw, 0) != REMOTE_MAGIC
                    || be_u32(&raw, 4) as usize != value.len()
                    || be_u32(&raw, 8) as usize != part
                {
                    return Err(corrupt("xfs.attr.remote", what(), "magic, offset or length is wrong"));
                }
                self.verify(&Stamp::REMOTE_ATTR, &raw, byte, inode.number(), &what)?;
            }
            value.extend_from_slice(&raw[self.remote_header()..self.remote_header() + part]);
            block += 1;
        }
        Ok(value)
    }
}

fn read_short(inode: &Inode) -> Result<Vec<Attr>> {
    let raw = inode.fork(Fork::Attr);
    let cut = || bad(inode, "the inline form is cut off");
    let (total, count) = (usize::from(try_be_u16(raw, 0).ok_or_else(cut)?), *raw.get(2).ok_or_else(cut)?);
    let raw = raw.get(..total).ok_or_else(cut)?;
    let mut at = 4;
    let mut attrs = Vec::new();
    for _ in 0..count {
        let head = raw.get(at..at + 3).ok_or_else(cut)?;
        let (name_len, value_len, flags) = (usize::from(head[0]), usize::from(head[1]), head[2]);
        let name = raw.get(at + 3..at + 3 + name_len).ok_or_else(cut)?.to_vec();
        let value = raw.get(at + 3 + name_len..at + 3 + name_len + value_len).ok_or_else(cut)?.to_vec();
        if flags & INCOMPLETE == 0 {
            attrs.push(Attr { space: flags & NAMESPACES, name, value });
        }
        at += 3 + name_len + value_len;
    }
    Ok(attrs)
}
