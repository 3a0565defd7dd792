//! Reverse mappings: who owns a run of blocks (`xfs_rmap.c`).

use ondisk::{be_u32, be_u64, put_be_u32, put_be_u64};

use crate::btree::{RMAP_UNWRITTEN, Record, Tree};
use crate::error::{Result, corrupt};
use crate::feature::RoCompat;
use crate::fs::Xfs;
use crate::inode::Fork;

const ATTR_FORK: u64 = 1 << 63;
const BMBT_BLOCK: u64 = 1 << 62;

/// Owner of blocks: an inode or a part of the filesystem itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    pub owner: u64,
    /// Offset in the file with its flags; 0 for the filesystem itself.
    pub offset: u64,
}

const fn special(number: u64) -> Owner {
    Owner { owner: number.wrapping_neg(), offset: 0 }
}

impl Owner {
    /// Group headers and the root of the free-space trees as mkfs laid them out.
    pub(crate) const HEADERS: Owner = special(3);
    pub(crate) const LOG: Owner = special(4);
    /// Blocks of the free-space and reverse-mapping trees, and of the list for them.
    pub(crate) const GROUP: Owner = special(5);
    pub(crate) const INODE_TREE: Owner = special(6);
    pub(crate) const INODES: Owner = special(7);
    pub(crate) const REFCOUNT: Owner = special(8);
    pub(crate) const COW: Owner = special(9);

    /// Blocks of a fork from a file block on.
    pub(crate) fn file(inode: u64, fork: Fork, block: u64, is_unwritten: bool) -> Self {
        let attr = if fork == Fork::Attr { ATTR_FORK } else { 0 };
        let unwritten = if is_unwritten { RMAP_UNWRITTEN } else { 0 };
        Self { owner: inode, offset: block | attr | unwritten }
    }

    /// Blocks of the tree of a fork.
    pub(crate) fn map_tree(inode: u64, fork: Fork) -> Self {
        let attr = if fork == Fork::Attr { ATTR_FORK } else { 0 };
        Self { owner: inode, offset: attr | BMBT_BLOCK }
    }

    fn has_offset(self) -> bool {
        (self.owner as i64) >= 0 && self.offset & BMBT_BLOCK == 0
    }

    /// The owner of what lies `blocks` further.
    pub(crate) fn advanced(self, blocks: u32) -> Self {
        if self.has_offset() { Self { offset: self.offset + u64::from(blocks), ..self } } else { self }
    }

    fn of(record: &Record) -> Self {
        Self { owner: be_u64(record, 8), offset: be_u64(record, 16) }
    }
}

fn record(start: u32, len: u32, owner: Owner) -> Record {
    let mut record = [0; 24];
    put_be_u32(&mut record, 0, start);
    put_be_u32(&mut record, 4, len);
    put_be_u64(&mut record, 8, owner.owner);
    put_be_u64(&mut record, 16, owner.offset);
    record
}

impl Xfs {
    fn has_rmap(&self) -> bool {
        self.superblock.features().has_ro(RoCompat::RMAPBT)
    }

    /// Notes an owner of a run, joined with what the same owner has beside it.
    pub(crate) fn add_rmap(&mut self, group: u32, start: u32, len: u32, owner: Owner) -> Result<()> {
        if !self.has_rmap() || len == 0 {
            return Ok(());
        }
        let (mut from, mut total, mut first) = (start, len, owner);
        if let Some(before) = start.checked_sub(1) {
            for left in self.rmaps_over(group, before)? {
                let (at, have) = (be_u32(&left, 0), be_u32(&left, 4));
                let left_owner = Owner::of(&left);
                let is_joined = at + have == start
                    && left_owner.owner == owner.owner
                    && left_owner.advanced(have) == owner
                    && have.checked_add(total).is_some();
                if is_joined {
                    self.delete_record(group, Tree::Rmap, &left)?;
                    (from, total, first) = (at, have + total, left_owner);
                    break;
                }
            }
        }
        for right in self.rmaps_over(group, start + len)? {
            let (at, have) = (be_u32(&right, 0), be_u32(&right, 4));
            if at == start + len
                && Owner::of(&right) == owner.advanced(len)
                && have.checked_add(total).is_some()
            {
                self.delete_record(group, Tree::Rmap, &right)?;
                total += have;
                break;
            }
        }
        self.insert_record(group, Tree::Rmap, &record(from, total, first))
    }

    /// Takes an owner of a run away; what it has on both sides stays.
    pub(crate) fn remove_rmap(&mut self, group: u32, start: u32, len: u32, owner: Owner) -> Result<()> {
        if !self.has_rmap() || len == 0 {
            return Ok(());
        }
        let found = self.rmaps_over(group, start)?.into_iter().find(|found| {
            let (at, have) = (be_u32(found, 0), be_u32(found, 4));
            Owner::of(found).advanced(start - at) == owner && start - at + len <= have
        });
        let Some(found) = found else {
            return Err(corrupt(
                "xfs.rmap",
                format!("group {group}"),
                format!("{len} blocks at {start} are not mapped to owner {:#x}", owner.owner),
            ));
        };
        let (at, have) = (be_u32(&found, 0), be_u32(&found, 4));
        self.delete_record(group, Tree::Rmap, &found)?;
        if at < start {
            self.insert_record(group, Tree::Rmap, &record(at, start - at, Owner::of(&found)))?;
        }
        let rest = at + have - (start + len);
        if rest > 0 {
            self.insert_record(group, Tree::Rmap, &record(start + len, rest, owner.advanced(len)))?;
        }
        Ok(())
    }
}
