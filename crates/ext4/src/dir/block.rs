//! One directory block: entries, tail and checksums.

use ondisk::{le_u16, le_u32, put_le_u16, put_le_u32, try_le_u16, try_le_u32};

use crate::error::{Result, corrupt};
use crate::fs::Ext4;
use crate::inode::{Inode, InodeFlags};

/// Bytes of an entry before its name.
pub(crate) const ENTRY_HEAD: usize = 8;
/// Bytes of the checksum entry at the end of a leaf.
pub(crate) const TAIL_BYTES: usize = 12;
const TAIL_TYPE: u8 = 0xde;
/// Byte of an htree root at which its `{limit, count}` stands, and of a node.
pub(crate) const ROOT_ENTRIES_AT: usize = 0x20;
pub(crate) const NODE_ENTRIES_AT: usize = 8;

/// What a block of a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlockRole {
    /// Entries.
    Leaf,
    /// `.`, `..` and the root of the htree.
    Root,
    /// A node of the htree below the root.
    Node,
}

/// Place and head of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RawEntry {
    /// Byte in the block.
    pub at: usize,
    pub inode: u32,
    pub rec_len: usize,
    pub name_len: usize,
    /// Type byte; 0 when the filesystem has none.
    pub file_type: u8,
}

impl RawEntry {
    /// Name out of the block that holds the entry.
    pub(crate) fn name<'a>(&self, raw: &'a [u8]) -> &'a [u8] {
        let start = self.at + ENTRY_HEAD;
        raw.get(start..start + self.name_len).unwrap_or(&[])
    }

    /// Bytes that the entry needs itself; 0 when it is free.
    pub(crate) fn used(&self) -> usize {
        if self.inode == 0 { 0 } else { entry_bytes(self.name_len) }
    }
}

/// Bytes of an entry with a name of this length.
pub(crate) fn entry_bytes(name_len: usize) -> usize {
    (ENTRY_HEAD + name_len + 3) & !3
}

impl Ext4 {
    fn has_filetype(&self) -> bool {
        self.superblock.features().incompat.contains(crate::feature::Incompat::FILETYPE)
    }

    /// `rec_len` as stored; blocks of 64 KiB need 17 bits.
    pub(crate) fn decode_rec_len(&self, stored: u16) -> usize {
        if self.block_size() < 65536 {
            return usize::from(stored);
        }
        match stored {
            0 | 0xffff => 65536,
            _ => usize::from(stored & 0xfffc) | usize::from(stored & 3) << 16,
        }
    }

    pub(crate) fn encode_rec_len(&self, len: usize) -> u16 {
        if len < 65536 { len as u16 } else { 0xffff }
    }

    /// Bytes of a leaf that hold entries.
    pub(crate) fn leaf_bytes(&self) -> usize {
        let tail = if self.superblock.features().has_metadata_csum() { TAIL_BYTES } else { 0 };
        self.block_size() - tail
    }

    /// The part of a block that its chain of entries fills.
    pub(crate) fn entry_area<'a>(&self, raw: &'a [u8], role: BlockRole) -> &'a [u8] {
        let end = if role == BlockRole::Leaf { self.leaf_bytes() } else { raw.len() };
        raw.get(..end).unwrap_or(raw)
    }

    /// What a block of `dir` is.
    pub(crate) fn block_role(&self, dir: &Inode, logical: u64, raw: &[u8]) -> BlockRole {
        if !dir.has(InodeFlags::INDEX) {
            return BlockRole::Leaf;
        }
        if logical == 0 {
            return BlockRole::Root;
        }
        let spans = self.decode_rec_len(le_u16(raw, 4)) == self.block_size();
        if le_u32(raw, 0) == 0 && spans && self.looks_like_node(raw) {
            BlockRole::Node
        } else {
            BlockRole::Leaf
        }
    }

    /// Without checksums an empty leaf looks like a node but for the limit, which is then the name.
    fn looks_like_node(&self, raw: &[u8]) -> bool {
        self.superblock.features().has_metadata_csum()
            || usize::from(le_u16(raw, NODE_ENTRIES_AT)) == self.node_limit(NODE_ENTRIES_AT)
    }

    /// Entries that an htree block with its `{limit, count}` at `at` has room for.
    pub(crate) fn node_limit(&self, at: usize) -> usize {
        let entries = (self.block_size() - at) / 8;
        if self.superblock.features().has_metadata_csum() { entries - 1 } else { entries }
    }

    /// Reads one block of a directory and verifies its checksum.
    pub(crate) fn read_dir_block(
        &self,
        dir: &Inode,
        logical: u64,
        physical: u64,
    ) -> Result<(Vec<u8>, BlockRole)> {
        let raw = self.read_block(physical)?;
        let role = self.block_role(dir, logical, &raw);
        if !self.superblock.features().has_metadata_csum() {
            return Ok((raw, role));
        }
        let bad = |detail: String| {
            corrupt(
                "ext4.dir.checksum",
                format!("block {logical} of the directory of inode {} (block {physical})", dir.number()),
                detail,
            )
        };
        let (want, have) = match role {
            BlockRole::Leaf => {
                let at = raw.len() - TAIL_BYTES;
                let is_tail = le_u32(&raw, at) == 0
                    && le_u16(&raw, at + 4) as usize == TAIL_BYTES
                    && raw[at + 6] == 0
                    && raw[at + 7] == TAIL_TYPE;
                if !is_tail {
                    return Err(bad("no checksum entry at the end".into()));
                }
                (dir.seed(&self.superblock).bytes(&raw[..at]), le_u32(&raw, at + 8))
            }
            BlockRole::Root | BlockRole::Node => {
                let at = if role == BlockRole::Root { ROOT_ENTRIES_AT } else { NODE_ENTRIES_AT };
                let (limit, count) = (usize::from(le_u16(&raw, at)), usize::from(le_u16(&raw, at + 2)));
                if limit > self.node_limit(at) || count > limit {
                    return Err(bad(format!("{count} of {limit} htree entries")));
                }
                let tail = at + 8 * limit;
                let reserved = try_le_u32(&raw, tail).unwrap_or(0);
                let have = try_le_u32(&raw, tail + 4).unwrap_or(0);
                let covered = raw.get(..at + 8 * count).unwrap_or(&raw);
                (dir.seed(&self.superblock).htree(covered, reserved), have)
            }
        };
        if want != have {
            return Err(bad(format!("checksum {want:#010x} expected, {have:#010x} found")));
        }
        Ok((raw, role))
    }

    /// Puts the right checksum (and the tail of a leaf) into a block of `dir`.
    pub(crate) fn seal_dir_block(&self, dir: &Inode, raw: &mut [u8], role: BlockRole) {
        if !self.superblock.features().has_metadata_csum() {
            return;
        }
        let seed = dir.seed(&self.superblock);
        match role {
            BlockRole::Leaf => {
                let at = raw.len() - TAIL_BYTES;
                raw[at..].fill(0);
                put_le_u16(raw, at + 4, TAIL_BYTES as u16);
                raw[at + 7] = TAIL_TYPE;
                let sum = seed.bytes(&raw[..at]);
                put_le_u32(raw, at + 8, sum);
            }
            BlockRole::Root | BlockRole::Node => {
                let at = if role == BlockRole::Root { ROOT_ENTRIES_AT } else { NODE_ENTRIES_AT };
                let limit = usize::from(le_u16(raw, at)).min(self.node_limit(at));
                let count = usize::from(le_u16(raw, at + 2)).min(limit);
                let reserved = le_u32(raw, at + 8 * limit);
                let sum = seed.htree(&raw[..at + 8 * count], reserved);
                put_le_u32(raw, at + 8 * limit + 4, sum);
            }
        }
    }

    /// Follows the chain of entries that fills all of `area`.
    pub(crate) fn parse_entries(
        &self,
        dir: &Inode,
        logical: Option<u64>,
        area: &[u8],
    ) -> Result<Vec<RawEntry>> {
        let mut entries = Vec::new();
        let mut at = 0;
        let bad = |at: usize, detail: String| {
            let place = match logical {
                Some(logical) => {
                    format!("byte {at} of block {logical} of the directory of inode {}", dir.number())
                }
                None => format!("byte {at} of the inline directory of inode {}", dir.number()),
            };
            corrupt("ext4.dir.entry", place, detail)
        };
        while at < area.len() {
            let (Some(inode), Some(stored)) = (try_le_u32(area, at), try_le_u16(area, at + 4)) else {
                return Err(bad(at, "no room for an entry".into()));
            };
            let rec_len = match logical {
                Some(_) => self.decode_rec_len(stored),
                None => usize::from(stored),
            };
            let (Some(name_len), Some(high)) = (area.get(at + 6), area.get(at + 7)) else {
                return Err(bad(at, "no room for an entry".into()));
            };
            let name_len = usize::from(*name_len);
            if rec_len < entry_bytes(1)
                || rec_len % 4 != 0
                || at + rec_len > area.len()
                || ENTRY_HEAD + name_len > rec_len
                || inode > self.superblock.inodes()
                || inode != 0 && name_len == 0
            {
                return Err(bad(
                    at,
                    format!(
                        "record of {rec_len} bytes, name of {name_len} bytes, inode {inode} of {}",
                        self.superblock.inodes()
                    ),
                ));
            }
            let file_type = if self.has_filetype() { *high } else { 0 };
            entries.push(RawEntry { at, inode, rec_len, name_len, file_type });
            at += rec_len;
        }
        Ok(entries)
    }

    /// Writes an entry of `rec_len` bytes at `at`; bytes after the name stay as they are but for the padding.
    pub(crate) fn put_entry(
        &self,
        raw: &mut [u8],
        at: usize,
        rec_len: usize,
        inode: u32,
        name: &[u8],
        file_type: u8,
    ) {
        put_le_u32(raw, at, inode);
        let stored = self.encode_rec_len(rec_len);
        put_le_u16(raw, at + 4, stored);
        raw[at + 6] = name.len() as u8;
        raw[at + 7] = if self.has_filetype() { file_type } else { 0 };
        let start = at + ENTRY_HEAD;
        raw[start..start + name.len()].copy_from_slice(name);
        let padded = entry_bytes(name.len()).min(rec_len);
        raw[start + name.len()..at + padded].fill(0);
    }

    /// Changes the record length of the entry at `at`.
    pub(crate) fn put_rec_len(&self, raw: &mut [u8], at: usize, rec_len: usize) {
        let stored = self.encode_rec_len(rec_len);
        put_le_u16(raw, at + 4, stored);
    }
}
