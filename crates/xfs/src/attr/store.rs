//! Writing all attributes of an inode in the smallest form, and the border between the two forks.

use ondisk::{put_be_u16, put_be_u32};
use vfs::{FileKind, VfsError};

use super::{Attr, LEAF_ENTRY, LOCAL, PARENT};
use crate::buffer::Stamp;
use crate::da::{ATTR_LEAF_MAGIC, DaEntry};
use crate::dir::index::node_levels;
use crate::error::{Result, shown};
use crate::feature::Version;
use crate::fs::Xfs;
use crate::inode::{Fork, Format, Inode};
use crate::map::{EXTENT_BYTES, Map};

/// Bytes of the data fork of an inode whose attributes are not inline (`xfs_default_attroffset`).
const DEFAULT_FORK: usize = 192;
/// Least bytes of the data fork with a B+tree: level, count, three pairs.
const TREE_ROOT: usize = 56;
/// Least bytes of an attribute fork that is mapped.
const MAPPED_FORK: usize = 64;

/// Bytes of the inline form.
fn short_len(attrs: &[Attr]) -> Option<usize> {
    let fits = attrs.len() <= 255 && attrs.iter().all(|attr| attr.value.len() <= 255);
    fits.then(|| 4 + attrs.iter().map(|attr| 3 + attr.name.len() + attr.value.len()).sum::<usize>())
}

/// An attribute of a leaf with what is remote already stored.
struct Placed {
    hash: u32,
    flags: u8,
    /// Name and value, or name and place of the value.
    body: Vec<u8>,
}

impl Xfs {
    /// Value of one attribute.
    pub(crate) fn stored_value(&self, inode: &Inode, space: u8, name: &[u8]) -> Result<Option<Vec<u8>>> {
        let attrs = self.read_attrs(inode)?.into_iter();
        Ok(attrs.filter(|attr| attr.space == space && attr.name == name).map(|attr| attr.value).next())
    }

    /// Sets or removes an attribute; says whether it was there. The caller writes the inode.
    pub(crate) fn change_attr(
        &mut self,
        inode: &mut Inode,
        space: u8,
        name: &[u8],
        value: Option<&[u8]>,
    ) -> Result<bool> {
        let mut attrs = self.read_attrs(inode)?;
        let index = attrs.iter().position(|attr| attr.space == space && attr.name == name);
        match (index, value) {
            (Some(index), Some(value)) if attrs[index].value == value => return Ok(true),
            (Some(index), Some(value)) => attrs[index].value = value.to_vec(),
            (Some(index), None) => drop(attrs.remove(index)),
            (None, Some(value)) => {
                attrs.push(Attr { space, name: name.to_vec(), value: value.to_vec() });
            }
            (None, None) => return Ok(false),
        }
        self.store_attrs(inode, attrs)?;
        Ok(index.is_some())
    }

    /// Gives an inode exactly these attributes. The caller writes the inode.
    pub(crate) fn store_attrs(&mut self, inode: &mut Inode, attrs: Vec<Attr>) -> Result<()> {
        if inode.fork_offset() != 0 {
            self.clear_fork(inode, Fork::Attr)?;
        }
        if attrs.is_empty() && inode.format(Fork::Data) != Format::Btree {
            return self.move_border(inode, 0);
        }
        if !self.superblock.features().bits.contains(Version::ATTR) {
            self.superblock.set_attr_bit();
        }
        if let Some(len) = short_len(&attrs)
            && let Some(border) = self.border_for(inode, len)
        {
            self.move_border(inode, border)?;
            return self.store_inline(inode, &attrs, len);
        }
        let room = inode.fork_room();
        let border = match (inode.format(Fork::Data), inode.fork_offset()) {
            (Format::Device, _) => 8,
            (Format::Local, _) => {
                self.make_mapped(inode, DEFAULT_FORK)?;
                DEFAULT_FORK
            }
            (_, 0) => DEFAULT_FORK,
            (_, border) if room - border < MAPPED_FORK => DEFAULT_FORK,
            (_, border) => border,
        };
        self.move_border(inode, border)?;
        self.store_leaves(inode, attrs)
    }

    /// Least bytes that the data fork needs as it is.
    fn data_need(&self, inode: &Inode) -> usize {
        let need = match inode.format(Fork::Data) {
            Format::Device => 8,
            Format::Local => inode.len() as usize,
            Format::Extents => inode.extent_count(Fork::Data).max(1) as usize * EXTENT_BYTES,
            Format::Btree => TREE_ROOT,
        };
        need.next_multiple_of(8)
    }

    /// Where the attribute fork may begin so that `len` bytes of attributes are inline.
    fn border_for(&self, inode: &Inode, len: usize) -> Option<usize> {
        let (room, need, now) = (inode.fork_room(), self.data_need(inode), inode.fork_offset());
        let fits = |border: usize| border >= need && border + len <= room;
        if inode.format(Fork::Data) == Format::Device {
            return fits(8).then_some(8);
        }
        if now != 0 && fits(now) {
            return Some(now);
        }
        if fits(DEFAULT_FORK) {
            return Some(DEFAULT_FORK);
        }
        let border = room.checked_sub(len)? / 8 * 8;
        fits(border).then_some(border)
    }

    /// Content of the inode that does not fit `room` bytes goes to blocks of its own.
    fn make_mapped(&mut self, inode: &mut Inode, room: usize) -> Result<()> {
        if inode.len() as usize <= room {
            return Ok(());
        }
        match inode.kind() {
            Some(FileKind::Symlink) => {
                let target = self.symlink_target(inode)?;
                inode.fork_mut(Fork::Data).fill(0);
                self.store_remote_target(inode, &target)
            }
            Some(FileKind::Directory) => {
                let (parent, entries) = self.read_dir(inode)?;
                self.store_dir_blocks(inode, parent, &entries)
            }
            _ => Ok(()),
        }
    }

    /// Lets the attribute fork, which is empty now, begin at `border`; 0 for no attribute fork.
    fn move_border(&mut self, inode: &mut Inode, border: usize) -> Result<()> {
        if border != inode.fork_offset() {
            match inode.format(Fork::Data) {
                Format::Device | Format::Local => {
                    let len =
                        if inode.format(Fork::Data) == Format::Local { inode.len() as usize } else { 4 };
                    let kept = inode.fork(Fork::Data).get(..len).map(<[u8]>::to_vec).unwrap_or_default();
                    inode.fork_mut(Fork::Data).fill(0);
                    inode.fork_mut(Fork::Attr).fill(0);
                    inode.set_fork_offset(border);
                    if let Some(slot) = inode.fork_mut(Fork::Data).get_mut(..kept.len()) {
                        slot.copy_from_slice(&kept);
                    }
                }
                Format::Extents | Format::Btree => {
                    let mut map = self.map(inode, Fork::Data)?;
                    inode.fork_mut(Fork::Attr).fill(0);
                    inode.fork_mut(Fork::Data).fill(0);
                    inode.set_fork_offset(border);
                    self.store_map(inode, Fork::Data, &mut map)?;
                }
            }
        }
        inode.fork_mut(Fork::Attr).fill(0);
        inode.set_format(Fork::Attr, Format::Extents);
        inode.set_extent_count(Fork::Attr, 0);
        Ok(())
    }

    fn store_inline(&mut self, inode: &mut Inode, attrs: &[Attr], len: usize) -> Result<()> {
        let mut raw = vec![0; 4];
        put_be_u16(&mut raw, 0, len as u16);
        raw[2] = attrs.len() as u8;
        for attr in attrs {
            raw.extend_from_slice(&[attr.name.len() as u8, attr.value.len() as u8, attr.space]);
            raw.extend_from_slice(&attr.name);
            raw.extend_from_slice(&attr.value);
        }
        inode.set_format(Fork::Attr, Format::Local);
        if let Some(slot) = inode.fork_mut(Fork::Attr).get_mut(..raw.len()) {
            slot.copy_from_slice(&raw);
        }
        Ok(())
    }

    /// Leaves, nodes above them and remote values, in the empty attribute fork.
    fn store_leaves(&mut self, inode: &mut Inode, mut attrs: Vec<Attr>) -> Result<()> {
        attrs.sort_by_cached_key(|attr| (attr.hash(), attr.space, attr.name.clone()));
        let (size, header) = (self.geo.block_size, self.attr_leaf_header());
        let most_local = size / 2 + size / 4;
        let payload = size - self.remote_header();
        let local_len = |attr: &Attr| (3 + attr.name.len() + attr.value.len()).next_multiple_of(4);
        let is_local = |attr: &Attr| attr.space == PARENT || local_len(attr) < most_local;
        let body_len = |attr: &Attr| {
            // A remote name takes the room of its padded structure: 12 bytes, its first character among them.
            if is_local(attr) { local_len(attr) } else { (11 + attr.name.len()).next_multiple_of(4) }
        };
        let mut leaves: Vec<Vec<Attr>> = vec![Vec::new()];
        let mut used = header;
        for attr in attrs {
            let need = LEAF_ENTRY + body_len(&attr);
            if used + need > size && leaves.last().is_some_and(|leaf| !leaf.is_empty()) {
                leaves.push(Vec::new());
                used = header;
            }
            if header + need > size {
                return Err(VfsError::Limit {
                    path: shown(&attr.name),
                    limit: format!("{size} bytes in a leaf"),
                });
            }
            used += need;
            if let Some(leaf) = leaves.last_mut() {
                leaf.push(attr);
            }
        }
        let nodes: usize = node_levels(leaves.len(), (size - self.da_header()) / 8).iter().sum();
        let index_blocks = (leaves.len() + nodes) as u64;
        let remote_blocks: usize = leaves
            .iter()
            .flatten()
            .filter(|attr| !is_local(attr))
            .map(|attr| attr.value.len().div_ceil(payload))
            .sum();
        let mut map = Map::default();
        self.add_blocks(inode, Fork::Attr, &mut map, 0, index_blocks + remote_blocks as u64)?;
        let mut next_remote = index_blocks;
        let first = u64::from(leaves.len() > 1);
        let mut below = Vec::new();
        let count = leaves.len() as u64;
        for (index, leaf) in leaves.iter().enumerate() {
            let mut placed = Vec::with_capacity(leaf.len());
            for attr in leaf {
                let mut body = Vec::new();
                if is_local(attr) {
                    body.extend_from_slice(&(attr.value.len() as u16).to_be_bytes());
                    body.push(attr.name.len() as u8);
                    body.extend_from_slice(&attr.name);
                    body.extend_from_slice(&attr.value);
                } else {
                    body.extend_from_slice(&(next_remote as u32).to_be_bytes());
                    body.extend_from_slice(&(attr.value.len() as u32).to_be_bytes());
                    body.push(attr.name.len() as u8);
                    body.extend_from_slice(&attr.name);
                    next_remote = self.put_remote(inode, &map, next_remote, &attr.value)?;
                }
                body.resize(body_len(attr), 0);
                let flags = attr.space | if is_local(attr) { LOCAL } else { 0 };
                placed.push(Placed { hash: attr.hash(), flags, body });
            }
            let index = index as u64;
            let block = first + index;
            let links = [
                if index + 1 < count { block as u32 + 1 } else { 0 },
                if index > 0 { block as u32 - 1 } else { 0 },
            ];
            below.push(DaEntry { hash: placed.last().map_or(0, |entry| entry.hash), block: block as u32 });
            self.put_attr_leaf(inode, &map, block, links, &placed)?;
        }
        let places = (count + 1..index_blocks).collect();
        self.put_nodes(inode, Fork::Attr, &map, 0, places, below)?;
        self.store_map(inode, Fork::Attr, &mut map)
    }

    fn put_attr_leaf(
        &mut self,
        inode: &Inode,
        map: &Map,
        block: u64,
        links: [u32; 2],
        entries: &[Placed],
    ) -> Result<()> {
        let (mut raw, header, info) = (vec![0; self.geo.block_size], self.attr_leaf_header(), self.da_info());
        put_be_u32(&mut raw, 0, links[0]);
        put_be_u32(&mut raw, 4, links[1]);
        put_be_u16(&mut raw, 8, self.da_magic(ATTR_LEAF_MAGIC));
        let mut at = raw.len();
        for (index, entry) in entries.iter().enumerate() {
            at -= entry.body.len();
            raw[at..at + entry.body.len()].copy_from_slice(&entry.body);
            let slot = &mut raw[header + LEAF_ENTRY * index..header + LEAF_ENTRY * (index + 1)];
            put_be_u32(slot, 0, entry.hash);
            put_be_u16(slot, 4, at as u16);
            slot[6] = entry.flags;
        }
        let table_end = header + LEAF_ENTRY * entries.len();
        put_be_u16(&mut raw, info, entries.len() as u16);
        put_be_u16(&mut raw, info + 2, (self.geo.block_size - at) as u16);
        // 65536 is written as 0.
        put_be_u16(&mut raw, info + 4, at as u16);
        let free_map = header - 12 - if self.geo.is_v5 { 4 } else { 0 };
        put_be_u16(&mut raw, free_map, table_end as u16);
        put_be_u16(&mut raw, free_map + 2, (at - table_end) as u16);
        self.write_mapped(inode, map, block, &Stamp::DA, raw)
    }

    /// Writes a value to blocks of its own from `block` on; returns the block behind it.
    fn put_remote(&mut self, inode: &Inode, map: &Map, block: u64, value: &[u8]) -> Result<u64> {
        let header = self.remote_header();
        let mut at = block;
        let mut done = 0;
        for part in value.chunks(self.geo.block_size - header) {
            let mut raw = vec![0; header];
            if self.geo.is_v5 {
                raw[..4].copy_from_slice(b"XARM");
                put_be_u32(&mut raw, 4, done);
                put_be_u32(&mut raw, 8, part.len() as u32);
            }
            raw.extend_from_slice(part);
            raw.resize(self.geo.block_size, 0);
            self.write_mapped(inode, map, at, &Stamp::REMOTE_ATTR, raw)?;
            done += part.len() as u32;
            at += 1;
        }
        Ok(at)
    }
}
