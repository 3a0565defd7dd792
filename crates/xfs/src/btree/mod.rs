//! B+trees of an allocation group: one shape, six trees (`xfs_*_btree.c`; XFS Algorithms & Data
//! Structures, "Variable Length Record B+trees", "Reverse-Mapping", "Reference Count B+tree").
//!
//! Records and keys are big-endian bytes. A record's key ordered as bytes is the order of the tree, but
//! for the tree by size, whose key is compared length first.

mod delete;
mod insert;
mod node;
mod root;
mod search;

pub(crate) use node::{Child, Node};

use crate::feature::RoCompat;

/// Which tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Tree {
    /// `bnobt`: free extents by block.
    FreeByBlock,
    /// `cntbt`: free extents by length.
    FreeBySize,
    /// `inobt`: inode chunks.
    Inode,
    /// `finobt`: inode chunks with free inodes.
    FreeInode,
    /// `rmapbt`: owners of blocks.
    Rmap,
    /// `refcountbt`: blocks with more than one owner.
    Refcount,
}

/// Most bytes of any record.
pub(crate) const RECORD_BYTES: usize = 24;
/// Most bytes of any key: low and high key of a reverse mapping.
const KEY_BYTES: usize = 20;
/// One record; what is behind the tree's record length is zero.
pub(crate) type Record = [u8; RECORD_BYTES];
/// One key, ordered as the tree is.
pub(crate) type Key = [u8; KEY_BYTES];
/// Deepest tree that is followed.
pub(crate) const MAX_LEVELS: u32 = 16;

/// Bit of a reverse mapping's offset that no key has: the extent is unwritten.
pub(crate) const RMAP_UNWRITTEN: u64 = 1 << 61;

impl Tree {
    pub(crate) const ALL: [Tree; 6] =
        [Tree::FreeByBlock, Tree::FreeBySize, Tree::Inode, Tree::FreeInode, Tree::Rmap, Tree::Refcount];

    /// Name in the tools' spelling.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Tree::FreeByBlock => "bnobt",
            Tree::FreeBySize => "cntbt",
            Tree::Inode => "inobt",
            Tree::FreeInode => "finobt",
            Tree::Rmap => "rmapbt",
            Tree::Refcount => "refcountbt",
        }
    }

    /// True when a filesystem with these features has the tree.
    pub(crate) fn is_there(self, features: &crate::feature::Features) -> bool {
        match self {
            Tree::FreeByBlock | Tree::FreeBySize | Tree::Inode => true,
            Tree::FreeInode => features.has_ro(RoCompat::FINOBT),
            Tree::Rmap => features.has_ro(RoCompat::RMAPBT),
            Tree::Refcount => features.has_ro(RoCompat::REFLINK),
        }
    }

    fn magic(self, is_v5: bool) -> u32 {
        u32::from_be_bytes(match (self, is_v5) {
            (Tree::FreeByBlock, true) => *b"AB3B",
            (Tree::FreeByBlock, false) => *b"ABTB",
            (Tree::FreeBySize, true) => *b"AB3C",
            (Tree::FreeBySize, false) => *b"ABTC",
            (Tree::Inode, true) => *b"IAB3",
            (Tree::Inode, false) => *b"IABT",
            (Tree::FreeInode, true) => *b"FIB3",
            (Tree::FreeInode, false) => *b"FIBT",
            (Tree::Rmap, _) => *b"RMB3",
            (Tree::Refcount, _) => *b"R3FC",
        })
    }

    pub(crate) fn record_len(self) -> usize {
        match self {
            Tree::FreeByBlock | Tree::FreeBySize => 8,
            Tree::Inode | Tree::FreeInode => 16,
            Tree::Rmap => 24,
            Tree::Refcount => 12,
        }
    }

    /// Bytes of one key on disk, the high key not counted.
    fn key_len(self) -> usize {
        match self {
            Tree::FreeByBlock | Tree::FreeBySize => 8,
            Tree::Inode | Tree::FreeInode | Tree::Refcount => 4,
            Tree::Rmap => 20,
        }
    }

    /// Node keys come in pairs, low and high, where records may overlap.
    fn has_high_keys(self) -> bool {
        self == Tree::Rmap
    }

    /// The root stands in the AGI, not in the AGF.
    pub(crate) fn is_of_inodes(self) -> bool {
        matches!(self, Tree::Inode | Tree::FreeInode)
    }

    /// Blocks come from the ring of the AGFL and go back to it.
    pub(crate) fn uses_list(self) -> bool {
        matches!(self, Tree::FreeByBlock | Tree::FreeBySize | Tree::Rmap)
    }

    /// Key bytes of a record as they stand on disk.
    fn disk_key(self, record: &Record) -> Key {
        let mut key = [0; KEY_BYTES];
        match self {
            Tree::FreeByBlock | Tree::FreeBySize => key[..8].copy_from_slice(&record[..8]),
            Tree::Inode | Tree::FreeInode | Tree::Refcount => key[..4].copy_from_slice(&record[..4]),
            Tree::Rmap => {
                key[..4].copy_from_slice(&record[..4]);
                key[4..12].copy_from_slice(&record[8..16]);
                let offset = ondisk::be_u64(record, 16) & !RMAP_UNWRITTEN;
                ondisk::put_be_u64(&mut key, 12, offset);
            }
        }
        key
    }

    /// Largest key that a record of the reverse-mapping tree covers, as it stands on disk.
    fn disk_high_key(self, record: &Record) -> Key {
        let mut key = self.disk_key(record);
        if self == Tree::Rmap {
            let more = ondisk::be_u32(record, 4).saturating_sub(1);
            let start = ondisk::be_u32(record, 0).saturating_add(more);
            ondisk::put_be_u32(&mut key, 0, start);
            let (owner, offset) = (ondisk::be_u64(record, 8), ondisk::be_u64(record, 16));
            // Owners from the top are the filesystem itself; they and bmbt blocks have no offset.
            let has_offset = (owner as i64) >= 0 && offset & 1 << 62 == 0;
            if has_offset {
                let offset = (offset & !RMAP_UNWRITTEN).wrapping_add(more.into());
                ondisk::put_be_u64(&mut key, 12, offset);
            }
        }
        key
    }

    /// The order of a key that stands on disk.
    fn order(self, disk: &Key) -> Key {
        let mut key = [0; KEY_BYTES];
        match self {
            Tree::FreeByBlock => key[..4].copy_from_slice(&disk[..4]),
            Tree::FreeBySize => {
                key[..4].copy_from_slice(&disk[4..8]);
                key[4..8].copy_from_slice(&disk[..4]);
            }
            _ => key = *disk,
        }
        key
    }

    /// Where a record stands in the tree.
    pub(crate) fn key(self, record: &Record) -> Key {
        self.order(&self.disk_key(record))
    }
}
