//! Adding names to an htree: leaf split, node split, one more level.

use ondisk::{put_le_u16, put_le_u32};
use vfs::VfsError;

use super::block::{BlockRole, entry_bytes};
use super::edit::{MovedEntry, NewEntry};
use super::hash::NameHash;
use super::htree::Frame;
use crate::error::{Result, corrupt};
use crate::feature::Incompat;
use crate::fs::Ext4;
use crate::inode::Inode;

/// Splits that one new name can need: a leaf, then each level, twice over for names of one hash.
const MAX_SPLITS: usize = 16;

impl Ext4 {
    /// Adds a name to an indexed directory.
    pub(super) fn htree_insert(&mut self, dir: &mut Inode, entry: NewEntry<'_>) -> Result<()> {
        for _ in 0..MAX_SPLITS {
            let (frames, _, hasher) = self.htree_walk(dir, entry.name)?;
            let leaf = Self::htree_leaf(&frames);
            let physical = self.dir_block(dir, leaf)?;
            if self.insert_into_block(dir, leaf, physical, entry)? {
                return Ok(());
            }
            let is_full = |frame: &Frame| frame.entries.len() >= frame.limit;
            match frames.iter().rposition(|frame| !is_full(frame)) {
                Some(index) if index + 1 == frames.len() => {
                    self.split_leaf(dir, &frames[index], leaf, physical, hasher)?;
                }
                Some(index) => self.split_node(dir, &frames[index], &frames[index + 1])?,
                None => self.add_level(dir, &frames)?,
            }
        }
        Err(corrupt(
            "ext4.htree.invalid",
            format!("htree of the directory of inode {}", dir.number()),
            "splitting leaves makes no room",
        ))
    }

    /// Moves the upper half of a leaf, by hash, to a new one.
    fn split_leaf(
        &mut self,
        dir: &mut Inode,
        parent: &Frame,
        leaf: u64,
        physical: u64,
        hasher: NameHash,
    ) -> Result<()> {
        let (raw, role) = self.read_dir_block(dir, leaf, physical)?;
        if role != BlockRole::Leaf {
            return Err(corrupt(
                "ext4.htree.invalid",
                format!("htree of inode {}", dir.number()),
                format!("block {leaf} is no leaf"),
            ));
        }
        let mut entries: Vec<(u32, MovedEntry)> = self
            .parse_entries(dir, Some(leaf), self.entry_area(&raw, role))?
            .iter()
            .filter(|entry| entry.inode != 0)
            .map(|entry| (hasher.of(entry.name(&raw)), MovedEntry::of(entry, &raw)))
            .collect();
        entries.sort_by_key(|entry| entry.0);
        let total: usize = entries.iter().map(|(_, entry)| entry_bytes(entry.name.len())).sum();
        let mut bytes = 0;
        let mut cut = 0;
        for (_, entry) in &entries {
            if bytes + entry_bytes(entry.name.len()) > total / 2 && cut > 0 {
                break;
            }
            bytes += entry_bytes(entry.name.len());
            cut += 1;
        }
        if entries.len() < 2 {
            return Err(corrupt(
                "ext4.htree.invalid",
                format!("htree of the directory of inode {}", dir.number()),
                format!("block {leaf} has no room and nothing to move"),
            ));
        }
        let upper = entries.split_off(cut.min(entries.len() - 1));
        let key = upper.first().map_or(0, |entry| entry.0);
        let continues = entries.last().is_some_and(|entry| entry.0 == key);
        let strip = |entries: Vec<(u32, MovedEntry)>| -> Vec<MovedEntry> {
            entries.into_iter().map(|(_, entry)| entry).collect()
        };
        let (new, new_physical) = self.append_dir_block(dir)?;
        let raw = self.build_leaf(dir, &strip(upper));
        self.put_block(new_physical, raw, true)?;
        let raw = self.build_leaf(dir, &strip(entries));
        self.put_block(physical, raw, false)?;
        self.add_key(dir, parent, if continues { key | 1 } else { key }, new)
    }

    /// Moves the upper half of a full node to a new one, which `parent` has room to name.
    fn split_node(&mut self, dir: &mut Inode, parent: &Frame, node: &Frame) -> Result<()> {
        let upper = node.entries.split_at(node.entries.len() / 2).1;
        let key = upper.first().map_or(0, |entry| entry.0);
        let (new, physical) = self.append_dir_block(dir)?;
        let raw = self.build_node(dir, upper);
        self.put_block(physical, raw, true)?;
        let kept = node.entries.len() - upper.len();
        self.change_htree_block(dir, node, |raw, at| put_le_u16(raw, at + 2, kept as u16))?;
        self.add_key(dir, parent, key, new)
    }

    /// Puts a node between a full root and what it names.
    fn add_level(&mut self, dir: &mut Inode, frames: &[Frame]) -> Result<()> {
        let most = if self.superblock.features().incompat.contains(Incompat::LARGEDIR) { 3 } else { 2 };
        let Some(root) = frames.first().filter(|_| frames.len() < most) else {
            return Err(VfsError::Limit {
                path: format!("inode {}", dir.number()),
                limit: format!("the index of the directory is full at {most} levels"),
            });
        };
        let (new, physical) = self.append_dir_block(dir)?;
        let raw = self.build_node(dir, &root.entries);
        self.put_block(physical, raw, true)?;
        let levels = frames.len() as u8;
        self.change_htree_block(dir, root, |raw, at| {
            raw[0x1e] = levels;
            put_le_u16(raw, at + 2, 1);
            put_le_u32(raw, at + 4, new as u32);
        })
    }

    /// Enters a key behind the entry that the walk took.
    fn add_key(&mut self, dir: &Inode, frame: &Frame, hash: u32, block: u64) -> Result<()> {
        let mut entries = frame.entries.clone();
        entries.insert((frame.taken + 1).min(entries.len()), (hash, block));
        self.change_htree_block(dir, frame, |raw, at| {
            put_le_u16(raw, at + 2, entries.len() as u16);
            for (index, (hash, block)) in entries.iter().enumerate().skip(1) {
                put_le_u32(raw, at + 8 * index, *hash);
                put_le_u32(raw, at + 8 * index + 4, *block as u32);
            }
        })
    }

    fn change_htree_block(
        &mut self,
        dir: &Inode,
        frame: &Frame,
        change: impl FnOnce(&mut [u8], usize),
    ) -> Result<()> {
        let (mut raw, role) = self.read_dir_block(dir, frame.logical, frame.physical)?;
        change(&mut raw, Self::htree_entries_at(role));
        self.seal_dir_block(dir, &mut raw, role);
        self.put_block(frame.physical, raw, false)
    }

    fn build_node(&self, dir: &Inode, entries: &[(u32, u64)]) -> Vec<u8> {
        let mut raw = vec![0; self.block_size()];
        let end = raw.len();
        self.put_rec_len(&mut raw, 0, end);
        let at = Self::htree_entries_at(BlockRole::Node);
        for (index, (hash, block)) in entries.iter().enumerate() {
            put_le_u32(&mut raw, at + 8 * index, *hash);
            put_le_u32(&mut raw, at + 8 * index + 4, *block as u32);
        }
        // The first entry's hash is implied; limit and count stand in its place.
        put_le_u16(&mut raw, at, self.node_limit(at) as u16);
        put_le_u16(&mut raw, at + 2, entries.len() as u16);
        self.seal_dir_block(dir, &mut raw, BlockRole::Node);
        raw
    }
}
