//! The three feature sets of the superblock and what each bit means for this driver.
//!
//! Names are those of `e2fsprogs` (`dumpe2fs -h`). See the kernel's
//! `Documentation/filesystems/ext4/super.rst`.

use bitflags::bitflags;

use crate::error::{Result, unsupported};

bitflags! {
    /// May be ignored by a reader; some bind a writer.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Compat: u32 {
        /// Directory preallocation, never used.
        const DIR_PREALLOC = 0x1;
        /// AFS servers.
        const IMAGIC_INODES = 0x2;
        /// Inode 8 is a journal.
        const HAS_JOURNAL = 0x4;
        /// Extended attributes exist.
        const EXT_ATTR = 0x8;
        /// Inode 7 owns reserved descriptor blocks.
        const RESIZE_INODE = 0x10;
        /// Directories may have an htree.
        const DIR_INDEX = 0x20;
        /// Groups initialised lazily by a kernel thread, never released.
        const LAZY_BG = 0x40;
        /// Snapshot exclude inode.
        const EXCLUDE_INODE = 0x80;
        /// Snapshot exclude bitmaps.
        const EXCLUDE_BITMAP = 0x100;
        /// Backups in at most two groups.
        const SPARSE_SUPER2 = 0x200;
        /// The journal may hold fast commits.
        const FAST_COMMIT = 0x400;
        /// Inode numbers and UUID must stay.
        const STABLE_INODES = 0x800;
        /// An orphan file exists.
        const ORPHAN_FILE = 0x1000;
        const _ = !0;
    }

    /// Unknown bits allow reading only.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct RoCompat: u32 {
        /// Backups in groups 0, 1 and powers of 3, 5, 7.
        const SPARSE_SUPER = 0x1;
        /// Files of 2 GiB and more.
        const LARGE_FILE = 0x2;
        /// Never used.
        const BTREE_DIR = 0x4;
        /// `i_blocks` has 48 bits.
        const HUGE_FILE = 0x8;
        /// CRC-16 of descriptors, uninitialised groups.
        const GDT_CSUM = 0x10;
        /// More than 65000 subdirectories.
        const DIR_NLINK = 0x20;
        /// Inodes reserve extra fields.
        const EXTRA_ISIZE = 0x40;
        /// Next3 snapshots.
        const HAS_SNAPSHOT = 0x80;
        /// Quota usage in hidden inodes.
        const QUOTA = 0x100;
        /// Bitmaps count clusters.
        const BIGALLOC = 0x200;
        /// CRC-32C on all metadata.
        const METADATA_CSUM = 0x400;
        /// Replicas, never released.
        const REPLICA = 0x800;
        /// Never writable.
        const READONLY = 0x1000;
        /// Project quota.
        const PROJECT = 0x2000;
        /// Blocks may have several owners.
        const SHARED_BLOCKS = 0x4000;
        /// Files with fs-verity.
        const VERITY = 0x8000;
        /// The orphan file is not empty.
        const ORPHAN_PRESENT = 0x10000;
        const _ = !0;
    }

    /// Unknown bits forbid everything.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Incompat: u32 {
        /// Compressed files, never released.
        const COMPRESSION = 0x1;
        /// Directory entries tell the kind.
        const FILETYPE = 0x2;
        /// The journal must be replayed.
        const RECOVER = 0x4;
        /// This is an external journal.
        const JOURNAL_DEV = 0x8;
        /// Descriptors spread over metagroups.
        const META_BG = 0x10;
        /// Extent trees.
        const EXTENTS = 0x40;
        /// 64-bit block numbers, larger descriptors.
        const SIXTY_FOUR_BIT = 0x80;
        /// Multi-mount protection.
        const MMP = 0x100;
        /// Bitmaps and tables anywhere.
        const FLEX_BG = 0x200;
        /// Attribute values in inodes.
        const EA_INODE = 0x400;
        /// Data in directory entries, never released.
        const DIRDATA = 0x1000;
        /// The checksum seed is stored.
        const CSUM_SEED = 0x2000;
        /// Three htree levels, directories over 2 GiB.
        const LARGEDIR = 0x4000;
        /// File content in the inode.
        const INLINE_DATA = 0x8000;
        /// Encrypted files.
        const ENCRYPT = 0x10000;
        /// Case-insensitive directories.
        const CASEFOLD = 0x20000;
        const _ = !0;
    }
}

/// Names by bit as e2fsprogs prints them.
const COMPAT_NAMES: &[(u32, &str)] = &[
    (0x1, "dir_prealloc"),
    (0x2, "imagic_inodes"),
    (0x4, "has_journal"),
    (0x8, "ext_attr"),
    (0x10, "resize_inode"),
    (0x20, "dir_index"),
    (0x40, "lazy_bg"),
    (0x80, "snapshot_bitmap"),
    (0x100, "exclude_bitmap"),
    (0x200, "sparse_super2"),
    (0x400, "fast_commit"),
    (0x800, "stable_inodes"),
    (0x1000, "orphan_file"),
];
const RO_COMPAT_NAMES: &[(u32, &str)] = &[
    (0x1, "sparse_super"),
    (0x2, "large_file"),
    (0x4, "btree_dir"),
    (0x8, "huge_file"),
    (0x10, "uninit_bg"),
    (0x20, "dir_nlink"),
    (0x40, "extra_isize"),
    (0x80, "snapshot"),
    (0x100, "quota"),
    (0x200, "bigalloc"),
    (0x400, "metadata_csum"),
    (0x800, "replica"),
    (0x1000, "read-only"),
    (0x2000, "project"),
    (0x4000, "shared_blocks"),
    (0x8000, "verity"),
    (0x10000, "orphan_present"),
];
const INCOMPAT_NAMES: &[(u32, &str)] = &[
    (0x1, "compression"),
    (0x2, "filetype"),
    (0x4, "needs_recovery"),
    (0x8, "journal_dev"),
    (0x10, "meta_bg"),
    (0x40, "extent"),
    (0x80, "64bit"),
    (0x100, "mmp"),
    (0x200, "flex_bg"),
    (0x400, "ea_inode"),
    (0x1000, "dirdata"),
    (0x2000, "metadata_csum_seed"),
    (0x4000, "large_dir"),
    (0x8000, "inline_data"),
    (0x10000, "encrypt"),
    (0x20000, "casefold"),
];

/// The features of one filesystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// Compatible set.
    pub compat: Compat,
    /// Read-only compatible set.
    pub ro_compat: RoCompat,
    /// Incompatible set.
    pub incompat: Incompat,
}

fn names_of(bits: u32, class: &str, names: &[(u32, &str)], out: &mut Vec<String>) {
    for shift in 0..32 {
        let bit = 1u32 << shift;
        if bits & bit == 0 {
            continue;
        }
        match names.iter().find(|(known, _)| *known == bit) {
            Some((_, name)) => out.push((*name).to_owned()),
            None => out.push(format!("FEATURE_{class}{shift}")),
        }
    }
}

impl Features {
    /// All features by name.
    pub fn names(&self) -> Vec<String> {
        let mut out = Vec::new();
        names_of(self.compat.bits(), "C", COMPAT_NAMES, &mut out);
        names_of(self.incompat.bits(), "I", INCOMPAT_NAMES, &mut out);
        names_of(self.ro_compat.bits(), "R", RO_COMPAT_NAMES, &mut out);
        out
    }

    /// `ext2`, `ext3` or `ext4`, decided as `blkid` decides.
    pub fn kind(&self) -> &'static str {
        let ext3_incompat = Incompat::FILETYPE | Incompat::RECOVER | Incompat::META_BG;
        let ext3_ro = RoCompat::SPARSE_SUPER | RoCompat::LARGE_FILE | RoCompat::BTREE_DIR;
        if !ext3_incompat.contains(self.incompat) || !ext3_ro.contains(self.ro_compat) {
            "ext4"
        } else if self.compat.contains(Compat::HAS_JOURNAL) {
            "ext3"
        } else {
            "ext2"
        }
    }

    /// Refuses what cannot even be read.
    pub(crate) fn require_readable(&self) -> Result<()> {
        let readable = Incompat::FILETYPE
            | Incompat::RECOVER
            | Incompat::META_BG
            | Incompat::EXTENTS
            | Incompat::SIXTY_FOUR_BIT
            | Incompat::MMP
            | Incompat::FLEX_BG
            | Incompat::EA_INODE
            | Incompat::CSUM_SEED
            | Incompat::LARGEDIR
            | Incompat::INLINE_DATA
            | Incompat::ENCRYPT
            | Incompat::CASEFOLD;
        let refused = self.incompat.difference(readable).bits();
        let mut names = Vec::new();
        names_of(refused, "I", INCOMPAT_NAMES, &mut names);
        refuse(names, "")
    }

    /// Refuses what cannot be written, by name.
    pub(crate) fn require_writable(&self) -> Result<()> {
        self.require_readable()?;
        let compat = Compat::DIR_PREALLOC
            | Compat::HAS_JOURNAL
            | Compat::EXT_ATTR
            | Compat::RESIZE_INODE
            | Compat::DIR_INDEX
            | Compat::SPARSE_SUPER2
            | Compat::FAST_COMMIT
            | Compat::STABLE_INODES
            | Compat::ORPHAN_FILE;
        let ro_compat = RoCompat::SPARSE_SUPER
            | RoCompat::LARGE_FILE
            | RoCompat::BTREE_DIR
            | RoCompat::HUGE_FILE
            | RoCompat::GDT_CSUM
            | RoCompat::DIR_NLINK
            | RoCompat::EXTRA_ISIZE
            | RoCompat::METADATA_CSUM
            | RoCompat::ORPHAN_PRESENT;
        let incompat = Incompat::FILETYPE
            | Incompat::RECOVER
            | Incompat::EXTENTS
            | Incompat::SIXTY_FOUR_BIT
            | Incompat::MMP
            | Incompat::FLEX_BG
            | Incompat::CSUM_SEED
            | Incompat::LARGEDIR
            | Incompat::INLINE_DATA;
        let mut names = Vec::new();
        names_of(self.compat.difference(compat).bits(), "C", COMPAT_NAMES, &mut names);
        names_of(self.incompat.difference(incompat).bits(), "I", INCOMPAT_NAMES, &mut names);
        names_of(self.ro_compat.difference(ro_compat).bits(), "R", RO_COMPAT_NAMES, &mut names);
        refuse(names, " for writing")
    }

    /// True when every metadata structure carries a CRC-32C.
    pub fn has_metadata_csum(&self) -> bool {
        self.ro_compat.contains(RoCompat::METADATA_CSUM)
    }

    /// True when descriptors have checksums of either kind, and so the UNINIT flags are honoured.
    pub fn has_group_checksums(&self) -> bool {
        self.ro_compat.intersects(RoCompat::METADATA_CSUM | RoCompat::GDT_CSUM)
    }
}

fn refuse(names: Vec<String>, purpose: &str) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let plural = if names.len() > 1 { "features" } else { "feature" };
    Err(unsupported("ext4.feature.unsupported", format!("{plural} {}", names.join(", ")), purpose))
}
