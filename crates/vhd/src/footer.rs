//! The footer: at the end of every image, and once more at the start of a dynamic one.

use ondisk::{be_u16, be_u32, be_u64, put_be_u16, put_be_u32, put_be_u64};
use serde::Serialize;

use crate::SECTOR_BYTES;

/// First bytes of a footer.
pub(crate) const COOKIE: &[u8; 8] = b"conectix";
/// Bytes of a footer.
pub(crate) const FOOTER_BYTES: usize = 512;
/// Format version 1.0; the high half is the major version, which breaks compatibility.
pub(crate) const VERSION: u32 = 0x0001_0000;
/// The bit of the features that is always set.
const FEATURE_RESERVED: u32 = 2;
/// Where a fixed image says that it has no further header.
const NO_OFFSET: u64 = u64::MAX;
const CHECKSUM_AT: usize = 64;

/// What kind of image a footer belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskKind {
    /// The disk byte for byte, then the footer.
    Fixed,
    /// Blocks that are allocated when they are written.
    Dynamic,
    /// Blocks over a parent image.
    Differencing,
}

impl DiskKind {
    fn parse(raw: u32) -> Option<Self> {
        match raw {
            2 => Some(DiskKind::Fixed),
            3 => Some(DiskKind::Dynamic),
            4 => Some(DiskKind::Differencing),
            _ => None,
        }
    }

    fn raw(self) -> u32 {
        match self {
            DiskKind::Fixed => 2,
            DiskKind::Dynamic => 3,
            DiskKind::Differencing => 4,
        }
    }
}

/// Cylinders, heads, sectors per track.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Geometry {
    /// Cylinders.
    pub cylinders: u16,
    /// Heads.
    pub heads: u8,
    /// Sectors per track.
    pub sectors: u8,
}

impl Geometry {
    /// The greatest one that the fields of the format hold by its own algorithm: says nothing about the size.
    pub const GREATEST: Self = Self { cylinders: 65_535, heads: 16, sectors: 255 };

    /// Bytes of a disk with this geometry.
    pub fn bytes(self) -> u64 {
        u64::from(self.cylinders) * u64::from(self.heads) * u64::from(self.sectors) * SECTOR_BYTES
    }
}

/// Which field decided about the size of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SizeRule {
    /// The number of bytes in the footer.
    CurrentSize,
    /// Cylinders × heads × sectors, since the image's creator goes by them.
    Geometry,
}

/// What two images made alike differ in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Identity {
    /// Unique number of the image.
    pub unique_id: [u8; 16],
    /// Seconds since 2000-01-01 00:00 UTC.
    pub timestamp: u32,
}

impl Identity {
    /// An identity that only depends on `digest`: equal disks get equal images.
    pub fn of_digest(digest: &[u8; 32]) -> Self {
        let mut unique_id = [0; 16];
        unique_id.copy_from_slice(&digest[..16]);
        // RFC 9562: version 8 (content is the maker's business), variant 10.
        unique_id[6] = unique_id[6] & 0x0f | 0x80;
        unique_id[8] = unique_id[8] & 0x3f | 0x80;
        Self { unique_id, timestamp: 0 }
    }
}

/// A footer, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Footer {
    /// Feature bits as they stand.
    pub features: u32,
    /// Format version.
    pub version: u32,
    /// Position of the dynamic header, bytes; all ones in a fixed image.
    pub data_offset: u64,
    /// Who made the image, and its number.
    pub identity: Identity,
    /// Application that made the image: decides which size counts.
    pub creator: [u8; 4],
    /// Its version.
    pub creator_version: u32,
    /// Operating system on which it ran.
    pub creator_host: [u8; 4],
    /// Size of the disk when it was made, bytes.
    pub original_size: u64,
    /// Size of the disk now, bytes.
    pub current_size: u64,
    /// Geometry, which may be a little smaller or larger than the size.
    pub geometry: Geometry,
    /// `None` for a type that the specification reserves.
    pub kind: Option<DiskKind>,
    /// A machine with this disk is saved, not shut down.
    pub is_saved_state: bool,
}

/// Why bytes are no footer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FooterProblem {
    NoCookie,
    Checksum { stored: u32, computed: u32 },
}

impl Footer {
    /// The footer of a new image with exactly `size` bytes (see the crate documentation).
    pub fn new(kind: DiskKind, size: u64, identity: Identity) -> Self {
        Self {
            features: FEATURE_RESERVED,
            version: VERSION,
            data_offset: if kind == DiskKind::Fixed { NO_OFFSET } else { SECTOR_BYTES },
            identity,
            creator: *b"qem2",
            creator_version: 0x0005_0003,
            creator_host: *b"Wi2k",
            original_size: size,
            current_size: size,
            geometry: Geometry::GREATEST,
            kind: Some(kind),
            is_saved_state: false,
        }
    }

    pub(crate) fn parse(raw: &[u8; FOOTER_BYTES]) -> Result<Self, FooterProblem> {
        if !raw.starts_with(COOKIE) {
            return Err(FooterProblem::NoCookie);
        }
        let stored = be_u32(raw, CHECKSUM_AT);
        let computed = checksum(raw, CHECKSUM_AT);
        if stored != computed {
            return Err(FooterProblem::Checksum { stored, computed });
        }
        let four = |at: usize| [raw[at], raw[at + 1], raw[at + 2], raw[at + 3]];
        let mut unique_id = [0; 16];
        unique_id.copy_from_slice(&raw[68..84]);
        Ok(Self {
            features: be_u32(raw, 8),
            version: be_u32(raw, 12),
            data_offset: be_u64(raw, 16),
            identity: Identity { unique_id, timestamp: be_u32(raw, 24) },
            creator: four(28),
            creator_version: be_u32(raw, 32),
            creator_host: four(36),
            original_size: be_u64(raw, 40),
            current_size: be_u64(raw, 48),
            geometry: Geometry { cylinders: be_u16(raw, 56), heads: raw[58], sectors: raw[59] },
            kind: DiskKind::parse(be_u32(raw, 60)),
            is_saved_state: raw[84] != 0,
        })
    }

    /// The 512 bytes.
    pub fn to_bytes(&self) -> [u8; FOOTER_BYTES] {
        let mut raw = [0; FOOTER_BYTES];
        raw[..8].copy_from_slice(COOKIE);
        put_be_u32(&mut raw, 8, self.features);
        put_be_u32(&mut raw, 12, self.version);
        put_be_u64(&mut raw, 16, self.data_offset);
        put_be_u32(&mut raw, 24, self.identity.timestamp);
        raw[28..32].copy_from_slice(&self.creator);
        put_be_u32(&mut raw, 32, self.creator_version);
        raw[36..40].copy_from_slice(&self.creator_host);
        put_be_u64(&mut raw, 40, self.original_size);
        put_be_u64(&mut raw, 48, self.current_size);
        put_be_u16(&mut raw, 56, self.geometry.cylinders);
        raw[58] = self.geometry.heads;
        raw[59] = self.geometry.sectors;
        put_be_u32(&mut raw, 60, self.kind.map_or(0, DiskKind::raw));
        raw[68..84].copy_from_slice(&self.identity.unique_id);
        raw[84] = u8::from(self.is_saved_state);
        let sum = checksum(&raw, CHECKSUM_AT);
        put_be_u32(&mut raw, CHECKSUM_AT, sum);
        raw
    }

    /// Size of the virtual disk, and what decided about it.
    ///
    /// QEMU takes the geometry for every creator that it does not know to mean bytes. Only the two that are known to
    /// mean the geometry are taken that way here: for others it would cut off the end of the disk.
    pub fn virtual_size(&self) -> (u64, SizeRule) {
        let goes_by_geometry = matches!(&self.creator, b"vpc " | b"qemu");
        if goes_by_geometry && self.geometry != Geometry::GREATEST {
            return (self.geometry.bytes(), SizeRule::Geometry);
        }
        (self.current_size / SECTOR_BYTES * SECTOR_BYTES, SizeRule::CurrentSize)
    }
}

/// One's complement of the sum of all bytes but the checksum's own.
pub(crate) fn checksum(raw: &[u8], checksum_at: usize) -> u32 {
    let sum = raw.iter().enumerate().filter(|(at, _)| !(checksum_at..checksum_at + 4).contains(at));
    !sum.fold(0u32, |sum, (_, byte)| sum.wrapping_add(u32::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_footer_survives_the_way_through_its_bytes() {
        let identity = Identity { unique_id: *b"0123456789abcdef", timestamp: 77 };
        let footer = Footer::new(DiskKind::Dynamic, 5 << 20, identity);
        let raw = footer.to_bytes();
        assert_eq!(Footer::parse(&raw).unwrap(), footer);
        for at in 0..FOOTER_BYTES {
            let mut damaged = raw;
            damaged[at] ^= 1;
            assert!(Footer::parse(&damaged).is_err(), "byte {at}");
        }
    }

    #[test]
    fn the_creator_decides_which_size_counts() {
        let mut footer = Footer::new(DiskKind::Fixed, 5 << 20, Identity::default());
        assert_eq!(footer.virtual_size(), (5 << 20, SizeRule::CurrentSize));
        footer.geometry = Geometry { cylinders: 151, heads: 4, sectors: 17 };
        assert_eq!(footer.virtual_size(), (5 << 20, SizeRule::CurrentSize));
        footer.creator = *b"qemu";
        assert_eq!(footer.virtual_size(), (151 * 4 * 17 * 512, SizeRule::Geometry));
        footer.geometry = Geometry::GREATEST;
        assert_eq!(footer.virtual_size(), (5 << 20, SizeRule::CurrentSize));
    }
}
