//! Inodes (the kernel's `Documentation/filesystems/ext4/inodes.rst`).

use bitflags::bitflags;
use ondisk::{le_u16, le_u32, put_le_u16, put_le_u32};
use vfs::{FileKind, Timestamp};

use crate::checksum::InodeSeed;
use crate::error::{Result, corrupt};
use crate::feature::{Incompat, RoCompat};
use crate::superblock::Superblock;

/// Inode of the root directory.
pub const ROOT_INODE: u32 = 2;
/// Bytes of `i_block`.
pub(crate) const I_BLOCK_BYTES: usize = 60;
const I_BLOCK: usize = 0x28;

bitflags! {
    /// `i_flags`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct InodeFlags: u32 {
        /// `chattr +s`.
        const SECRM = 0x1;
        /// `chattr +u`.
        const UNRM = 0x2;
        /// Compressed, never released.
        const COMPR = 0x4;
        /// `chattr +S`.
        const SYNC = 0x8;
        /// `chattr +i`.
        const IMMUTABLE = 0x10;
        /// `chattr +a`.
        const APPEND = 0x20;
        /// `chattr +d`.
        const NODUMP = 0x40;
        /// `chattr +A`.
        const NOATIME = 0x80;
        /// Encrypted.
        const ENCRYPT = 0x800;
        /// The directory has an htree.
        const INDEX = 0x1000;
        /// Data is journalled.
        const JOURNAL_DATA = 0x4000;
        /// `chattr +t`.
        const NOTAIL = 0x8000;
        /// `chattr +D`.
        const DIRSYNC = 0x10000;
        /// `chattr +T`: a top directory for the inode allocator.
        const TOPDIR = 0x20000;
        /// `i_blocks` counts filesystem blocks.
        const HUGE_FILE = 0x40000;
        /// `i_block` is the root of an extent tree.
        const EXTENTS = 0x80000;
        /// fs-verity.
        const VERITY = 0x100000;
        /// The inode holds an attribute value.
        const EA_INODE = 0x200000;
        /// Direct access.
        const DAX = 0x2000000;
        /// Content in the inode itself.
        const INLINE_DATA = 0x10000000;
        /// New files take the project of the directory.
        const PROJINHERIT = 0x20000000;
        /// Names are compared without case.
        const CASEFOLD = 0x40000000;
        const _ = !0;
    }
}

/// One inode: its number and raw bytes, with typed access.
///
/// Invariant: `raw` has the filesystem's inode size (at least 128), and `i_extra_isize` fits in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inode {
    number: u32,
    raw: Vec<u8>,
}

impl Inode {
    /// Checks the bytes of an inode; the checksum of inodes not in use is not looked at.
    pub(crate) fn parse(superblock: &Superblock, number: u32, raw: Vec<u8>) -> Result<Self> {
        let inode = Self { number, raw };
        if superblock.features().has_metadata_csum() && inode.raw.iter().any(|byte| *byte != 0) {
            let (want, have) = inode.checksums(superblock);
            if want != have {
                return Err(corrupt(
                    "ext4.inode.checksum",
                    format!("inode {number}"),
                    format!("checksum {want:#010x} expected, {have:#010x} found"),
                ));
            }
        }
        if inode.raw.len() > 128 {
            let extra = usize::from(le_u16(&inode.raw, 0x80));
            if extra % 4 != 0 || extra > inode.raw.len() - 128 {
                return Err(corrupt(
                    "ext4.inode.extra-size",
                    format!("inode {number}"),
                    format!("i_extra_isize {extra} in an inode of {} bytes", inode.raw.len()),
                ));
            }
        }
        Ok(inode)
    }

    /// An empty inode for a new file.
    pub(crate) fn new(superblock: &Superblock, number: u32, generation: u32) -> Self {
        let mut inode = Self { number, raw: vec![0; usize::from(superblock.inode_size())] };
        if inode.raw.len() > 128 {
            let room = (inode.raw.len() - 128) as u16;
            let want = superblock.want_extra_isize() & !3;
            let extra = if (4..=room).contains(&want) { want.max(32) } else { 32 };
            put_le_u16(&mut inode.raw, 0x80, extra.min(room));
        }
        put_le_u32(&mut inode.raw, 0x64, generation);
        inode
    }

    fn has_high_checksum(&self) -> bool {
        self.extra_size() >= 4
    }

    /// Computed and stored checksum, both in the width that is stored.
    pub(crate) fn checksums(&self, superblock: &Superblock) -> (u32, u32) {
        let high = self.has_high_checksum();
        let want = self.seed(superblock).inode(&self.raw, high);
        let have = u32::from(le_u16(&self.raw, 0x7c));
        if high { (want, have | u32::from(le_u16(&self.raw, 0x82)) << 16) } else { (want & 0xffff, have) }
    }

    /// The bytes with a fresh checksum.
    pub(crate) fn encode(&self, superblock: &Superblock) -> Vec<u8> {
        let mut raw = self.raw.clone();
        if superblock.features().has_metadata_csum() {
            let high = self.has_high_checksum();
            let sum = self.seed(superblock).inode(&raw, high);
            put_le_u16(&mut raw, 0x7c, sum as u16);
            if high {
                put_le_u16(&mut raw, 0x82, (sum >> 16) as u16);
            }
        }
        raw
    }

    pub(crate) fn seed(&self, superblock: &Superblock) -> InodeSeed {
        superblock.inode_seed(self.number, self.generation())
    }

    /// Inode number.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The raw bytes.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    pub(crate) fn raw_mut(&mut self) -> &mut [u8] {
        &mut self.raw
    }

    /// `i_extra_isize`; 0 in 128-byte inodes.
    pub fn extra_size(&self) -> usize {
        if self.raw.len() > 128 { usize::from(le_u16(&self.raw, 0x80)) } else { 0 }
    }

    fn has_extra(&self, at: usize) -> bool {
        128 + self.extra_size() >= at + 4
    }

    /// `i_mode`.
    pub fn mode(&self) -> u16 {
        le_u16(&self.raw, 0)
    }

    pub(crate) fn set_mode(&mut self, mode: u16) {
        put_le_u16(&mut self.raw, 0, mode);
    }

    /// Kind by the mode; `None` when the mode has none.
    pub fn kind(&self) -> Option<FileKind> {
        kind_of_mode(self.mode())
    }

    /// The kind, or an error that names the inode.
    pub(crate) fn require_kind(&self) -> Result<FileKind> {
        self.kind().ok_or_else(|| {
            corrupt(
                "ext4.inode.mode",
                format!("inode {}", self.number),
                format!("mode {:#o} is of no kind", self.mode()),
            )
        })
    }

    /// True for a directory.
    pub fn is_dir(&self) -> bool {
        self.kind() == Some(FileKind::Directory)
    }

    /// Owner.
    pub fn uid(&self) -> u32 {
        u32::from(le_u16(&self.raw, 2)) | u32::from(le_u16(&self.raw, 0x78)) << 16
    }

    pub(crate) fn set_uid(&mut self, uid: u32) {
        put_le_u16(&mut self.raw, 2, uid as u16);
        put_le_u16(&mut self.raw, 0x78, (uid >> 16) as u16);
    }

    /// Group.
    pub fn gid(&self) -> u32 {
        u32::from(le_u16(&self.raw, 0x18)) | u32::from(le_u16(&self.raw, 0x7a)) << 16
    }

    pub(crate) fn set_gid(&mut self, gid: u32) {
        put_le_u16(&mut self.raw, 0x18, gid as u16);
        put_le_u16(&mut self.raw, 0x7a, (gid >> 16) as u16);
    }

    /// `i_size`; the high half counts for regular files and, with large_dir, for directories.
    pub fn size(&self, superblock: &Superblock) -> u64 {
        let has_high = match self.kind() {
            Some(FileKind::Regular) => true,
            Some(FileKind::Directory) => superblock.features().incompat.contains(Incompat::LARGEDIR),
            _ => false,
        };
        let high = if has_high { u64::from(le_u32(&self.raw, 0x6c)) << 32 } else { 0 };
        high | u64::from(le_u32(&self.raw, 4))
    }

    pub(crate) fn set_size(&mut self, size: u64) {
        put_le_u32(&mut self.raw, 4, size as u32);
        if matches!(self.kind(), Some(FileKind::Regular | FileKind::Directory)) {
            put_le_u32(&mut self.raw, 0x6c, (size >> 32) as u32);
        }
    }

    /// Hard links.
    pub fn links(&self) -> u16 {
        le_u16(&self.raw, 0x1a)
    }

    pub(crate) fn set_links(&mut self, links: u16) {
        put_le_u16(&mut self.raw, 0x1a, links);
    }

    /// `i_dtime`: time of deletion, or the next orphan.
    pub fn dtime(&self) -> u32 {
        le_u32(&self.raw, 0x14)
    }

    pub(crate) fn set_dtime(&mut self, dtime: u32) {
        put_le_u32(&mut self.raw, 0x14, dtime);
    }

    /// Flags.
    pub fn flags(&self) -> InodeFlags {
        InodeFlags::from_bits_retain(le_u32(&self.raw, 0x20))
    }

    pub(crate) fn set_flags(&mut self, flags: InodeFlags) {
        put_le_u32(&mut self.raw, 0x20, flags.bits());
    }

    /// True when the flag is set.
    pub fn has(&self, flag: InodeFlags) -> bool {
        self.flags().contains(flag)
    }

    /// `i_generation`.
    pub fn generation(&self) -> u32 {
        le_u32(&self.raw, 0x64)
    }

    /// Storage in 512-byte units, whatever the unit on disk.
    pub fn sectors(&self, superblock: &Superblock) -> u64 {
        let low = u64::from(le_u32(&self.raw, 0x1c));
        if !superblock.features().ro_compat.contains(RoCompat::HUGE_FILE) {
            return low;
        }
        let count = low | u64::from(le_u16(&self.raw, 0x74)) << 32;
        if self.has(InodeFlags::HUGE_FILE) { count * u64::from(superblock.block_size() / 512) } else { count }
    }

    /// Sets the storage in filesystem blocks, in the unit that fits.
    pub(crate) fn set_blocks(&mut self, superblock: &Superblock, blocks: u64) -> Result<()> {
        let sectors = blocks * u64::from(superblock.block_size() / 512);
        let has_huge = superblock.features().ro_compat.contains(RoCompat::HUGE_FILE);
        let (value, in_blocks) = if sectors <= u64::from(u32::MAX) || has_huge && sectors < 1 << 48 {
            (sectors, false)
        } else if has_huge {
            (blocks, true)
        } else {
            return Err(vfs::VfsError::Limit {
                path: format!("inode {}", self.number),
                limit: format!(
                    "{sectors} sectors, more than the 4294967295 that a file may use without huge_file"
                ),
            });
        };
        put_le_u32(&mut self.raw, 0x1c, value as u32);
        if has_huge {
            put_le_u16(&mut self.raw, 0x74, (value >> 32) as u16);
            let mut flags = self.flags();
            flags.set(InodeFlags::HUGE_FILE, in_blocks);
            self.set_flags(flags);
        }
        Ok(())
    }

    /// `i_file_acl`: the attribute block; 0 when there is none.
    pub fn xattr_block(&self) -> u64 {
        u64::from(le_u32(&self.raw, 0x68)) | u64::from(le_u16(&self.raw, 0x76)) << 32
    }

    pub(crate) fn set_xattr_block(&mut self, block: u64) {
        put_le_u32(&mut self.raw, 0x68, block as u32);
        put_le_u16(&mut self.raw, 0x76, (block >> 32) as u16);
    }

    /// `i_block`.
    pub fn i_block(&self) -> &[u8] {
        &self.raw[I_BLOCK..I_BLOCK + I_BLOCK_BYTES]
    }

    pub(crate) fn i_block_mut(&mut self) -> &mut [u8] {
        &mut self.raw[I_BLOCK..I_BLOCK + I_BLOCK_BYTES]
    }

    fn time(&self, at: usize, extra: usize) -> Timestamp {
        let seconds = i64::from(le_u32(&self.raw, at) as i32);
        if !self.has_extra(extra) {
            return Timestamp { seconds, nanoseconds: 0 };
        }
        let extra = le_u32(&self.raw, extra);
        Timestamp {
            seconds: seconds + (i64::from(extra & 3) << 32),
            nanoseconds: (extra >> 2).min(999_999_999),
        }
    }

    fn set_time(&mut self, at: usize, extra_at: usize, time: Timestamp) {
        if self.has_extra(extra_at) {
            // Two epoch bits count how often 2^32 seconds were added to the signed 32-bit field.
            let seconds = time.seconds.clamp(i64::from(i32::MIN), (3i64 << 32) + i64::from(i32::MAX));
            let epoch = ((seconds - i64::from(seconds as i32)) >> 32) as u32 & 3;
            put_le_u32(&mut self.raw, at, seconds as u32);
            put_le_u32(&mut self.raw, extra_at, epoch | time.nanoseconds << 2);
        } else {
            let seconds = time.seconds.clamp(i64::from(i32::MIN), i64::from(i32::MAX));
            put_le_u32(&mut self.raw, at, seconds as u32);
        }
    }

    /// Last access.
    pub fn atime(&self) -> Timestamp {
        self.time(0x08, 0x8c)
    }

    pub(crate) fn set_atime(&mut self, time: Timestamp) {
        self.set_time(0x08, 0x8c, time);
    }

    /// Last change of the inode.
    pub fn ctime(&self) -> Timestamp {
        self.time(0x0c, 0x84)
    }

    pub(crate) fn set_ctime(&mut self, time: Timestamp) {
        self.set_time(0x0c, 0x84, time);
    }

    /// Last change of the content.
    pub fn mtime(&self) -> Timestamp {
        self.time(0x10, 0x88)
    }

    pub(crate) fn set_mtime(&mut self, time: Timestamp) {
        self.set_time(0x10, 0x88, time);
    }

    /// Creation.
    pub fn crtime(&self) -> Option<Timestamp> {
        self.has_extra(0x90).then(|| self.time(0x90, 0x94))
    }

    pub(crate) fn set_crtime(&mut self, time: Timestamp) {
        if self.has_extra(0x90) {
            self.set_time(0x90, 0x94, time);
        }
    }

    /// Device number (major, minor) of a device node.
    pub fn device(&self) -> Option<(u32, u32)> {
        if !matches!(self.kind(), Some(FileKind::BlockDevice | FileKind::CharDevice)) {
            return None;
        }
        let old = le_u32(self.i_block(), 0);
        if old != 0 {
            return Some((old >> 8 & 0xff, old & 0xff));
        }
        let new = le_u32(self.i_block(), 4);
        Some((new >> 8 & 0xfff, new & 0xff | new >> 12 & 0xfff00))
    }

    pub(crate) fn set_device(&mut self, major: u32, minor: u32) {
        let (old, new) = if major < 256 && minor < 256 {
            (major << 8 | minor, 0)
        } else {
            (0, minor & 0xff | major << 8 | (minor & !0xff) << 12)
        };
        put_le_u32(self.i_block_mut(), 0, old);
        put_le_u32(self.i_block_mut(), 4, new);
    }
}

/// Kind that a mode names.
pub(crate) fn kind_of_mode(mode: u16) -> Option<FileKind> {
    match mode & 0xf000 {
        0x1000 => Some(FileKind::Fifo),
        0x2000 => Some(FileKind::CharDevice),
        0x4000 => Some(FileKind::Directory),
        0x6000 => Some(FileKind::BlockDevice),
        0x8000 => Some(FileKind::Regular),
        0xa000 => Some(FileKind::Symlink),
        0xc000 => Some(FileKind::Socket),
        _ => None,
    }
}

/// Mode bits of a kind.
pub(crate) fn mode_of_kind(kind: FileKind) -> u16 {
    match kind {
        FileKind::Fifo => 0x1000,
        FileKind::CharDevice => 0x2000,
        FileKind::Directory => 0x4000,
        FileKind::BlockDevice => 0x6000,
        FileKind::Regular => 0x8000,
        FileKind::Symlink => 0xa000,
        FileKind::Socket => 0xc000,
    }
}
