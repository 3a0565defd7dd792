//! The inode core (`xfs_format.h`, `struct xfs_dinode`; XFS Algorithms & Data Structures, "On-disk Inode").

mod time;

use bitflags::bitflags;
use ondisk::{be_u16, be_u32, be_u64, put_be_u16, put_be_u32, put_be_u64};
use vfs::FileKind;

use crate::buffer::Stamp;
use crate::error::{Result, corrupt};
use crate::fs::Xfs;

const MAGIC: u16 = 0x494e;
/// Bytes of the core before the forks.
const CORE_V2: usize = 100;
const CORE_V3: usize = 176;
const NEXT_UNLINKED: usize = 96;

bitflags! {
    /// `di_flags`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct InodeFlags: u16 {
        /// Data on the realtime device.
        const REALTIME = 0x1;
        /// Preallocated.
        const PREALLOC = 0x2;
        /// `chattr +i`.
        const IMMUTABLE = 0x8;
        /// `chattr +a`.
        const APPEND = 0x10;
        /// `chattr +S`.
        const SYNC = 0x20;
        /// `chattr +A`.
        const NOATIME = 0x40;
        /// `chattr +d`.
        const NODUMP = 0x80;
        /// Files made here are realtime files.
        const RTINHERIT = 0x100;
        /// Files made here take the project.
        const PROJINHERIT = 0x200;
        /// No symbolic links in this directory.
        const NOSYMLINKS = 0x400;
        /// Extent size hint.
        const EXTSIZE = 0x800;
        /// Files made here take the extent size hint.
        const EXTSZINHERIT = 0x1000;
        /// Left alone by the defragmenter.
        const NODEFRAG = 0x2000;
        /// File stream allocator.
        const FILESTREAM = 0x4000;
        const _ = !0;
    }

    /// `di_flags2` of version 3 inodes.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct InodeFlags2: u64 {
        /// Direct access.
        const DAX = 0x1;
        /// May share extents.
        const REFLINK = 0x2;
        /// Hint for copies on write.
        const COWEXTSIZE = 0x4;
        /// Time stamps in nanoseconds since 1901.
        const BIGTIME = 0x8;
        /// 64-bit extent counts.
        const NREXT64 = 0x10;
        /// Belongs to the metadata directory tree.
        const METADATA = 0x20;
        const _ = !0;
    }
}

/// How a fork holds its content (`di_format`, `di_aformat`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Device = 0,
    Local = 1,
    Extents = 2,
    Btree = 3,
}

impl Format {
    fn of(value: u8) -> Option<Self> {
        [Self::Device, Self::Local, Self::Extents, Self::Btree].get(usize::from(value)).copied()
    }
}

/// One of the two forks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fork {
    Data,
    Attr,
}

/// One inode: number, place and raw bytes, with typed access.
///
/// Invariant: `raw` has the filesystem's inode size, its version fits the filesystem's, the attribute
/// fork begins inside it, and the formats are known ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inode {
    number: u64,
    byte: u64,
    raw: Vec<u8>,
}

impl Inode {
    /// Checks the bytes of an inode.
    pub(crate) fn parse(fs: &Xfs, number: u64, byte: u64, raw: Vec<u8>) -> Result<Self> {
        let what = || format!("inode {number}");
        let bad = |detail: String| corrupt("xfs.inode", what(), detail);
        if be_u16(&raw, 0) != MAGIC {
            return Err(bad(format!("magic IN expected, {:#06x} found", be_u16(&raw, 0))));
        }
        let version = raw[4];
        if (version == 3) != fs.geo.is_v5 || !(1..=3).contains(&version) {
            return Err(bad(format!("version {version}")));
        }
        fs.verify(&Stamp::INODE, &raw, byte, number, &what)?;
        let inode = Self { number, byte, raw };
        if inode.mode() != 0 {
            let fork_at = usize::from(inode.raw[82]) * 8;
            if fork_at >= inode.raw.len() - inode.core_len() && fork_at != 0 {
                return Err(bad(format!("an attribute fork at {fork_at}")));
            }
            if Format::of(inode.raw[5]).is_none() || Format::of(inode.raw[83]).is_none() {
                return Err(bad(format!("forks of format {} and {}", inode.raw[5], inode.raw[83])));
            }
            if inode.len() > i64::MAX as u64 {
                return Err(bad(format!("a size of {:#x}", inode.len())));
            }
        }
        Ok(inode)
    }

    /// A free inode as a new chunk holds it.
    pub(crate) fn blank(fs: &Xfs, number: u64, byte: u64, generation: u32) -> Self {
        let mut raw = vec![0; fs.geo.inode_size];
        put_be_u16(&mut raw, 0, MAGIC);
        raw[4] = if fs.geo.is_v5 { 3 } else { 2 };
        put_be_u32(&mut raw, 92, generation);
        put_be_u32(&mut raw, NEXT_UNLINKED, u32::MAX);
        Self { number, byte, raw }
    }

    /// The bytes, stamped.
    pub(crate) fn encode(&self, fs: &Xfs) -> Vec<u8> {
        let mut raw = self.raw.clone();
        fs.seal(&Stamp::INODE, &mut raw, self.byte, self.number);
        raw
    }

    /// Inode number.
    pub fn number(&self) -> u64 {
        self.number
    }
    /// Byte on the device.
    pub(crate) fn byte(&self) -> u64 {
        self.byte
    }
    /// The raw bytes.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }
    pub(crate) fn is_v3(&self) -> bool {
        self.raw[4] == 3
    }
    pub(crate) fn core_len(&self) -> usize {
        if self.is_v3() { CORE_V3 } else { CORE_V2 }
    }

    /// Mode with the kind.
    pub fn mode(&self) -> u16 {
        be_u16(&self.raw, 2)
    }
    pub(crate) fn set_mode(&mut self, mode: u16) {
        put_be_u16(&mut self.raw, 2, mode);
    }
    /// Kind by the mode; `None` when the mode has none.
    pub fn kind(&self) -> Option<FileKind> {
        kind_of_mode(self.mode())
    }
    /// The kind, or an error that names the inode.
    pub(crate) fn require_kind(&self) -> Result<FileKind> {
        self.kind().ok_or_else(|| {
            corrupt(
                "xfs.inode.mode",
                format!("inode {}", self.number),
                format!("mode {:#o} is of no kind", self.mode()),
            )
        })
    }
    pub(crate) fn is_dir(&self) -> bool {
        self.kind() == Some(FileKind::Directory)
    }

    /// Owner.
    pub fn uid(&self) -> u32 {
        be_u32(&self.raw, 8)
    }
    pub(crate) fn set_uid(&mut self, uid: u32) {
        put_be_u32(&mut self.raw, 8, uid);
    }
    /// Group.
    pub fn gid(&self) -> u32 {
        be_u32(&self.raw, 12)
    }
    pub(crate) fn set_gid(&mut self, gid: u32) {
        put_be_u32(&mut self.raw, 12, gid);
    }
    /// Names of this inode.
    pub fn links(&self) -> u32 {
        // Version 1 counts in 16 bits, elsewhere.
        if self.raw[4] == 1 { be_u16(&self.raw, 6).into() } else { be_u32(&self.raw, 16) }
    }
    pub(crate) fn set_links(&mut self, links: u32) {
        put_be_u32(&mut self.raw, 16, links);
    }
    /// Project, low and high half.
    pub(crate) fn project(&self) -> [u8; 4] {
        [self.raw[20], self.raw[21], self.raw[22], self.raw[23]]
    }
    pub(crate) fn set_project(&mut self, project: [u8; 4]) {
        self.raw[20..24].copy_from_slice(&project);
    }
    /// Content length.
    pub fn len(&self) -> u64 {
        be_u64(&self.raw, 56)
    }
    /// True without content.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    pub(crate) fn set_len(&mut self, len: u64) {
        put_be_u64(&mut self.raw, 56, len);
    }
    /// Blocks of both forks and of their B+trees.
    pub fn blocks(&self) -> u64 {
        be_u64(&self.raw, 64)
    }
    pub(crate) fn set_blocks(&mut self, blocks: u64) {
        put_be_u64(&mut self.raw, 64, blocks);
    }
    pub(crate) fn extent_size_hint(&self) -> u32 {
        be_u32(&self.raw, 72)
    }
    pub(crate) fn set_extent_size_hint(&mut self, blocks: u32) {
        put_be_u32(&mut self.raw, 72, blocks);
    }
    /// Flags.
    pub fn flags(&self) -> InodeFlags {
        InodeFlags::from_bits_retain(be_u16(&self.raw, 90))
    }
    pub(crate) fn set_flags(&mut self, flags: InodeFlags) {
        put_be_u16(&mut self.raw, 90, flags.bits());
    }
    /// Flags of version 3; empty before.
    pub fn flags2(&self) -> InodeFlags2 {
        InodeFlags2::from_bits_retain(if self.is_v3() { be_u64(&self.raw, 120) } else { 0 })
    }
    pub(crate) fn set_flags2(&mut self, flags: InodeFlags2) {
        put_be_u64(&mut self.raw, 120, flags.bits());
    }
    /// Generation.
    pub fn generation(&self) -> u32 {
        be_u32(&self.raw, 92)
    }
    pub(crate) fn set_generation(&mut self, generation: u32) {
        put_be_u32(&mut self.raw, 92, generation);
    }
    pub(crate) fn next_unlinked(&self) -> u32 {
        be_u32(&self.raw, NEXT_UNLINKED)
    }
    pub(crate) fn set_next_unlinked(&mut self, next: u32) {
        put_be_u32(&mut self.raw, NEXT_UNLINKED, next);
    }
    pub(crate) fn count_change(&mut self) {
        if self.is_v3() {
            let count = be_u64(&self.raw, 104).wrapping_add(1);
            put_be_u64(&mut self.raw, 104, count);
        }
    }

    /// Byte of the attribute fork behind the core; 0 for none.
    pub(crate) fn fork_offset(&self) -> usize {
        usize::from(self.raw[82]) * 8
    }
    pub(crate) fn set_fork_offset(&mut self, bytes: usize) {
        self.raw[82] = (bytes / 8) as u8;
    }
    /// Bytes for both forks.
    pub(crate) fn fork_room(&self) -> usize {
        self.raw.len() - self.core_len()
    }
    /// The bytes of a fork.
    pub(crate) fn fork(&self, fork: Fork) -> &[u8] {
        self.raw.get(self.fork_range(fork)).unwrap_or_default()
    }
    pub(crate) fn fork_mut(&mut self, fork: Fork) -> &mut [u8] {
        let range = self.fork_range(fork);
        self.raw.get_mut(range).unwrap_or_default()
    }
    fn fork_range(&self, fork: Fork) -> std::ops::Range<usize> {
        let (start, end, at) = (self.core_len(), self.raw.len(), self.fork_offset());
        match fork {
            Fork::Data if at == 0 => start..end,
            Fork::Data => start..start + at,
            Fork::Attr if at == 0 => end..end,
            Fork::Attr => start + at..end,
        }
    }
    /// Format of a fork.
    pub(crate) fn format(&self, fork: Fork) -> Format {
        let value = match fork {
            Fork::Data => self.raw[5],
            Fork::Attr => self.raw[83],
        };
        Format::of(value).unwrap_or(Format::Extents)
    }
    pub(crate) fn set_format(&mut self, fork: Fork, format: Format) {
        let at = if fork == Fork::Data { 5 } else { 83 };
        self.raw[at] = format as u8;
    }
    /// Extents of a fork, as the inode counts them.
    pub(crate) fn extent_count(&self, fork: Fork) -> u64 {
        let is_big = self.flags2().contains(InodeFlags2::NREXT64);
        match (fork, is_big) {
            (Fork::Data, true) => be_u64(&self.raw, 24),
            (Fork::Data, false) => be_u32(&self.raw, 76).into(),
            (Fork::Attr, true) => be_u32(&self.raw, 76).into(),
            (Fork::Attr, false) => be_u16(&self.raw, 80).into(),
        }
    }
    pub(crate) fn set_extent_count(&mut self, fork: Fork, count: u64) {
        let is_big = self.flags2().contains(InodeFlags2::NREXT64);
        match (fork, is_big) {
            (Fork::Data, true) => put_be_u64(&mut self.raw, 24, count),
            (Fork::Data, false) => put_be_u32(&mut self.raw, 76, count as u32),
            (Fork::Attr, true) => put_be_u32(&mut self.raw, 76, count as u32),
            (Fork::Attr, false) => put_be_u16(&mut self.raw, 80, count as u16),
        }
    }
    /// Most extents that the inode can count.
    pub(crate) fn most_extents(&self, fork: Fork) -> u64 {
        match (fork, self.flags2().contains(InodeFlags2::NREXT64)) {
            (Fork::Data, true) => (1 << 48) - 1,
            (Fork::Data, false) => (1 << 31) - 1,
            (Fork::Attr, true) => (1 << 32) - 1,
            (Fork::Attr, false) => (1 << 15) - 1,
        }
    }

    /// Device number (major, minor): `major << 18 | minor`.
    pub fn device(&self) -> Option<(u32, u32)> {
        let is_device = matches!(self.kind(), Some(FileKind::BlockDevice | FileKind::CharDevice));
        let word = is_device.then(|| ondisk::try_be_u32(self.fork(Fork::Data), 0)).flatten()?;
        Some((word >> 18, word & 0x3_ffff))
    }
    pub(crate) fn set_device(&mut self, major: u32, minor: u32) {
        let at = self.core_len();
        put_be_u32(&mut self.raw, at, major << 18 | minor & 0x3_ffff);
    }
}

pub(crate) fn kind_of_mode(mode: u16) -> Option<FileKind> {
    Some(match mode & 0o170000 {
        0o100000 => FileKind::Regular,
        0o040000 => FileKind::Directory,
        0o120000 => FileKind::Symlink,
        0o060000 => FileKind::BlockDevice,
        0o020000 => FileKind::CharDevice,
        0o010000 => FileKind::Fifo,
        0o140000 => FileKind::Socket,
        _ => return None,
    })
}

pub(crate) fn mode_of_kind(kind: FileKind) -> u16 {
    match kind {
        FileKind::Regular => 0o100000,
        FileKind::Directory => 0o040000,
        FileKind::Symlink => 0o120000,
        FileKind::BlockDevice => 0o060000,
        FileKind::CharDevice => 0o020000,
        FileKind::Fifo => 0o010000,
        FileKind::Socket => 0o140000,
    }
}

impl Inode {
    /// Sets the flags of a free inode; its extent counts, which stand where the flags say, are zero.
    pub(crate) fn upgrade_free(&mut self, flags: InodeFlags2) {
        if self.is_v3() {
            self.set_extent_count(Fork::Data, 0);
            self.set_extent_count(Fork::Attr, 0);
            self.upgrade_time(flags.contains(InodeFlags2::BIGTIME));
            self.set_flags2(flags);
        }
    }

    fn upgrade_time(&mut self, has_bigtime: bool) {
        if has_bigtime {
            self.upgrade_to_bigtime();
        }
    }
}
