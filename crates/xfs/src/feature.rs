//! Feature bits (`xfs_format.h`): what is read, what is written, what is refused by name.

use bitflags::bitflags;

use crate::error::{Result, unsupported};

bitflags! {
    /// `sb_versionnum` without the version itself.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Version: u16 {
        /// Extended attributes are in use.
        const ATTR = 0x10;
        /// 32-bit link counts.
        const NLINK = 0x20;
        /// Quota was used.
        const QUOTA = 0x40;
        /// Inode chunks are aligned.
        const ALIGN = 0x80;
        /// Stripe unit and width are set.
        const DALIGN = 0x100;
        /// Read-only, shared between hosts.
        const SHARED = 0x200;
        /// Version 2 log.
        const LOGV2 = 0x400;
        /// Sectors larger than 512 bytes.
        const SECTOR = 0x800;
        /// Unwritten extents.
        const EXTFLG = 0x1000;
        /// Version 2 directories.
        const DIRV2 = 0x2000;
        /// Names are compared without ASCII case.
        const BORG = 0x4000;
        /// `sb_features2` counts.
        const MOREBITS = 0x8000;
    }

    /// `sb_features2`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Features2: u32 {
        /// Counters in the superblock are written lazily.
        const LAZYSB = 0x2;
        /// The attribute fork may begin anywhere.
        const ATTR2 = 0x8;
        /// Parent pointers of IRIX.
        const PARENT = 0x10;
        /// 32-bit project ids.
        const PROJID32 = 0x80;
        /// Checksums: version 5.
        const CRC = 0x100;
        /// File types in directories of version 4.
        const FTYPE = 0x200;
        const _ = !0;
    }

    /// `sb_features_ro_compat`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct RoCompat: u32 {
        /// B+tree of inode records with free inodes.
        const FINOBT = 0x1;
        /// Reverse mappings.
        const RMAPBT = 0x2;
        /// Shared extents.
        const REFLINK = 0x4;
        /// The AGI counts blocks of the inode B+trees.
        const INOBTCNT = 0x8;
        const _ = !0;
    }

    /// `sb_features_incompat`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Incompat: u32 {
        /// File types in directories.
        const FTYPE = 0x1;
        /// Inode chunks with holes.
        const SPINODES = 0x2;
        /// Metadata carries a UUID of its own.
        const META_UUID = 0x4;
        /// Time stamps up to 2486.
        const BIGTIME = 0x8;
        /// Must be repaired first.
        const NEEDSREPAIR = 0x10;
        /// 64-bit extent counts.
        const NREXT64 = 0x20;
        /// Mappings can be exchanged.
        const EXCHRANGE = 0x40;
        /// Each inode names its parents.
        const PARENT = 0x80;
        /// Metadata directory tree.
        const METADIR = 0x100;
        /// Zoned realtime device.
        const ZONED = 0x200;
        /// LBA gaps between zones.
        const ZONE_GAPS = 0x400;
        const _ = !0;
    }
}

/// Names in the spelling of `xfs_info` and `xfs_db version`.
const INCOMPAT_NAMES: &[(Incompat, &str)] = &[
    (Incompat::FTYPE, "ftype"),
    (Incompat::SPINODES, "sparse"),
    (Incompat::META_UUID, "meta-uuid"),
    (Incompat::BIGTIME, "bigtime"),
    (Incompat::NEEDSREPAIR, "needsrepair"),
    (Incompat::NREXT64, "nrext64"),
    (Incompat::EXCHRANGE, "exchange"),
    (Incompat::PARENT, "parent"),
    (Incompat::METADIR, "metadir"),
    (Incompat::ZONED, "zoned"),
    (Incompat::ZONE_GAPS, "zone-gaps"),
];
const RO_COMPAT_NAMES: &[(RoCompat, &str)] = &[
    (RoCompat::FINOBT, "finobt"),
    (RoCompat::RMAPBT, "rmapbt"),
    (RoCompat::REFLINK, "reflink"),
    (RoCompat::INOBTCNT, "inobtcount"),
];

/// All feature words of one superblock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// 4 or 5.
    pub version: u8,
    /// Bits beside the version.
    pub bits: Version,
    /// `sb_features2`; empty without MOREBITS.
    pub more: Features2,
    /// `sb_features_ro_compat`; empty in version 4.
    pub ro_compat: RoCompat,
    /// `sb_features_incompat`; empty in version 4.
    pub incompat: Incompat,
}

fn refuse(feature: impl Into<String>, detail: &str) -> vfs::VfsError {
    unsupported("xfs.feature.unsupported", feature, detail)
}

impl Features {
    /// True with checksums.
    pub fn is_v5(&self) -> bool {
        self.version == 5
    }

    /// True when directory entries carry a type.
    pub fn has_ftype(&self) -> bool {
        self.incompat.contains(Incompat::FTYPE) || self.more.contains(Features2::FTYPE)
    }

    pub(crate) fn has(&self, feature: Incompat) -> bool {
        self.incompat.contains(feature)
    }

    pub(crate) fn has_ro(&self, feature: RoCompat) -> bool {
        self.ro_compat.contains(feature)
    }

    /// Names are compared without ASCII case.
    pub fn is_case_insensitive(&self) -> bool {
        self.bits.contains(Version::BORG)
    }

    /// Features whose structures we do not know.
    pub(crate) fn require_readable(&self) -> Result<()> {
        if self.bits.contains(Version::SHARED) {
            return Err(refuse("shared", ": a read-only filesystem shared between hosts"));
        }
        if self.more.contains(Features2::PARENT) && !self.is_v5() {
            return Err(refuse("old-parent", ": parent pointers of IRIX"));
        }
        for (bit, name) in [
            (Incompat::NEEDSREPAIR, "needsrepair"),
            (Incompat::METADIR, "metadir"),
            (Incompat::ZONED, "zoned"),
            (Incompat::ZONE_GAPS, "zone-gaps"),
        ] {
            if self.has(bit) {
                return Err(refuse(name, ""));
            }
        }
        let known = INCOMPAT_NAMES.iter().fold(Incompat::empty(), |all, (bit, _)| all | *bit);
        let unknown = self.incompat.bits() & !known.bits();
        if unknown != 0 {
            return Err(refuse(format!("unknown-incompat-{unknown:#x}"), ""));
        }
        Ok(())
    }

    /// Features that we read and do not write.
    pub(crate) fn require_writable(&self) -> Result<()> {
        if !self.is_v5() {
            return Err(unsupported("xfs.v4.write", "version 4 (without checksums)", " for writing"));
        }
        if self.is_case_insensitive() {
            return Err(refuse("ascii-ci", " for writing"));
        }
        let known = RO_COMPAT_NAMES.iter().fold(RoCompat::empty(), |all, (bit, _)| all | *bit);
        let unknown = self.ro_compat.bits() & !known.bits();
        if unknown != 0 {
            return Err(refuse(format!("unknown-ro-compat-{unknown:#x}"), " for writing"));
        }
        Ok(())
    }

    /// Names of what is on.
    pub fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        let mut add = |is_on: bool, name: &str| {
            if is_on {
                names.push(name.to_owned());
            }
        };
        add(self.is_v5(), "crc");
        add(!self.is_v5(), "v4");
        add(self.is_case_insensitive(), "ascii-ci");
        add(!self.is_v5() && self.has_ftype(), "ftype");
        for (bit, name) in INCOMPAT_NAMES {
            add(self.has(*bit), name);
        }
        for (bit, name) in RO_COMPAT_NAMES {
            add(self.has_ro(*bit), name);
        }
        names
    }
}
