//! Lookup in an htree (the kernel's `Documentation/filesystems/ext4/directory.rst`, "Hash Tree Directories").

use ondisk::{le_u16, le_u32};

use super::EntryPlace;
use super::block::{BlockRole, NODE_ENTRIES_AT, ROOT_ENTRIES_AT};
use super::hash::{HashKind, NameHash};
use crate::error::{Result, corrupt, unsupported};
use crate::feature::Incompat;
use crate::fs::Ext4;
use crate::inode::Inode;
use crate::map::Mapped;

const BLOCK_MASK: u32 = 0x0fff_ffff;

/// One htree block on the way from the root to a leaf.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub logical: u64,
    pub physical: u64,
    /// `(hash, logical block)`; the first hash counts as 0.
    pub entries: Vec<(u32, u64)>,
    pub limit: usize,
    /// Entry that the walk took.
    pub taken: usize,
}

impl Ext4 {
    fn bad_htree(&self, dir: &Inode, logical: u64, detail: String) -> vfs::VfsError {
        corrupt(
            "ext4.htree.invalid",
            format!("htree block {logical} of the directory of inode {}", dir.number()),
            detail,
        )
    }

    /// Block of the filesystem behind a logical block of a directory.
    pub(crate) fn dir_block(&self, dir: &Inode, logical: u64) -> Result<u64> {
        let size = dir.size(&self.superblock) / self.block_size() as u64;
        if logical < size
            && let Mapped::Blocks(run) = self.map_block(dir, logical)?
            && run.is_written
        {
            return Ok(run.physical);
        }
        Err(corrupt(
            "ext4.dir.size",
            format!("directory of inode {}", dir.number()),
            format!("logical block {logical} of {size} is not there"),
        ))
    }

    /// The hash that the htree of `dir` uses, and how many levels of nodes lie below the root.
    pub(crate) fn htree_info(&self, dir: &Inode, root: &[u8]) -> Result<(NameHash, u8)> {
        let (version, info_length, levels, flags) = (root[0x1c], root[0x1d], root[0x1e], root[0x1f]);
        if le_u32(root, 0x18) != 0 || info_length != 8 {
            return Err(self.bad_htree(
                dir,
                0,
                format!("information of 8 bytes expected, {info_length} found"),
            ));
        }
        let Some(kind) = HashKind::from_version(version) else {
            return Err(unsupported(
                "ext4.feature.unsupported",
                format!("htree hash version {version} (inode {})", dir.number()),
                "",
            ));
        };
        let most = if self.superblock.features().incompat.contains(Incompat::LARGEDIR) { 2 } else { 1 };
        if levels > most || flags & 1 != 0 {
            return Err(self.bad_htree(dir, 0, format!("{levels} levels, at most {most}; flags {flags:#x}")));
        }
        let hash = NameHash {
            kind,
            seed: self.superblock.hash_seed(),
            is_unsigned: self.superblock.hashes_unsigned(),
        };
        Ok((hash, levels))
    }

    /// Parses the entries of a root or node.
    pub(crate) fn htree_frame(
        &self,
        dir: &Inode,
        logical: u64,
        physical: u64,
        raw: &[u8],
        role: BlockRole,
    ) -> Result<Frame> {
        let at = if role == BlockRole::Root { ROOT_ENTRIES_AT } else { NODE_ENTRIES_AT };
        let (limit, count) = (usize::from(le_u16(raw, at)), usize::from(le_u16(raw, at + 2)));
        if limit != self.node_limit(at) || count == 0 || count > limit {
            return Err(self.bad_htree(
                dir,
                logical,
                format!("{count} of {limit} entries, room for {}", self.node_limit(at)),
            ));
        }
        let entries: Vec<(u32, u64)> = (0..count)
            .map(|index| {
                let hash = if index == 0 { 0 } else { le_u32(raw, at + 8 * index) };
                (hash, u64::from(le_u32(raw, at + 8 * index + 4) & BLOCK_MASK))
            })
            .collect();
        if !entries.is_sorted_by_key(|entry| entry.0) {
            return Err(self.bad_htree(dir, logical, "hashes are not in order".into()));
        }
        Ok(Frame { logical, physical, entries, limit, taken: 0 })
    }

    fn htree_node(&self, dir: &Inode, logical: u64) -> Result<Frame> {
        let physical = self.dir_block(dir, logical)?;
        let (raw, role) = self.read_dir_block(dir, logical, physical)?;
        if role != BlockRole::Node {
            return Err(self.bad_htree(dir, logical, "a node expected, something else found".into()));
        }
        self.htree_frame(dir, logical, physical, &raw, role)
    }

    /// Walks from the root to the leaf for `name`: the frames passed, and the hash.
    pub(crate) fn htree_walk(&self, dir: &Inode, name: &[u8]) -> Result<(Vec<Frame>, u32, NameHash)> {
        let physical = self.dir_block(dir, 0)?;
        let (raw, _) = self.read_dir_block(dir, 0, physical)?;
        let (hasher, levels) = self.htree_info(dir, &raw)?;
        let hash = hasher.of(name);
        let mut frames = vec![self.htree_frame(dir, 0, physical, &raw, BlockRole::Root)?];
        for level in 0..=levels {
            let Some(frame) = frames.last_mut() else { break };
            // The last entry whose hash is not above: continuation entries (bit 0 set) come after.
            frame.taken = frame.entries.partition_point(|entry| entry.0 <= hash).saturating_sub(1);
            if level < levels {
                let child = frame.entries.get(frame.taken).map_or(0, |entry| entry.1);
                let node = self.htree_node(dir, child)?;
                frames.push(node);
            }
        }
        Ok((frames, hash, hasher))
    }

    /// Leaf that the frames lead to.
    pub(crate) fn htree_leaf(frames: &[Frame]) -> u64 {
        frames.last().and_then(|frame| frame.entries.get(frame.taken)).map_or(0, |entry| entry.1)
    }

    /// Moves on to the next leaf when names of the same hash go on there.
    fn htree_continue(&self, dir: &Inode, frames: &mut Vec<Frame>, hash: u32) -> Result<bool> {
        let depth = frames.len();
        while let Some(frame) = frames.last_mut() {
            if let Some((next, _)) = frame.entries.get(frame.taken + 1) {
                if *next != hash | 1 {
                    return Ok(false);
                }
                frame.taken += 1;
                break;
            }
            frames.pop();
        }
        if frames.is_empty() {
            return Ok(false);
        }
        while frames.len() < depth {
            let node = self.htree_node(dir, Self::htree_leaf(frames))?;
            frames.push(node);
        }
        Ok(true)
    }

    pub(super) fn find_by_hash(&self, dir: &Inode, name: &[u8]) -> Result<Option<(u32, EntryPlace)>> {
        if name == b"." || name == b".." {
            let physical = self.dir_block(dir, 0)?;
            let (raw, role) = self.read_dir_block(dir, 0, physical)?;
            let entries = self.parse_entries(dir, Some(0), self.entry_area(&raw, role))?;
            let found = entries.iter().find(|entry| entry.inode != 0 && entry.name(&raw) == name);
            return Ok(
                found.map(|entry| (entry.inode, EntryPlace::Block { logical: 0, physical, at: entry.at }))
            );
        }
        let (mut frames, hash, _) = self.htree_walk(dir, name)?;
        // More leaves than the directory has blocks cannot share one hash.
        for _ in 0..=dir.size(&self.superblock) / self.block_size() as u64 {
            let logical = Self::htree_leaf(&frames);
            let physical = self.dir_block(dir, logical)?;
            let (raw, role) = self.read_dir_block(dir, logical, physical)?;
            if role != BlockRole::Leaf {
                return Err(self.bad_htree(dir, logical, "a leaf expected, a node found".into()));
            }
            for entry in self.parse_entries(dir, Some(logical), self.entry_area(&raw, role))? {
                if entry.inode != 0 && entry.name(&raw) == name {
                    return Ok(Some((entry.inode, EntryPlace::Block { logical, physical, at: entry.at })));
                }
            }
            if !self.htree_continue(dir, &mut frames, hash)? {
                return Ok(None);
            }
        }
        Err(self.bad_htree(dir, 0, "leaves go in a circle".into()))
    }
}
