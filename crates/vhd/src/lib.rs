//! VHD, fixed and dynamic: read, check, edit fixed ones in place, and the structures to write both.
//!
//! [`Vhd`] is the virtual disk of an image file, for many threads at once; [`Vhd::map`] says where its bytes
//! lie. Nothing here writes: [`Vhd::plan_commit`] plans host writes for a fixed image, [`FixedLayout`] and
//! [`DynamicLayout`] are the positions and structures from which a new image is made.
//!
//! On-disk facts are from Microsoft's "Virtual Hard Disk Image Format Specification" 1.0 (2006); where it leaves
//! something open, QEMU's `block/vpc.c` decides, since that is what clouds open images with.
//!
//! # Which size is the size
//!
//! A footer names two: `current size` in bytes, and a geometry whose cylinders × heads × sectors is seldom the same.
//! Virtual PC goes by the geometry, Hyper-V and everything later by the bytes. QEMU looks at the *creator
//! application*: `win `, `qem2`, `d2v `, `CTXS`, `tap\0` and `wa\0\0` mean bytes, all others (`vpc `, `qemu`) mean
//! geometry, which loses the end of the disk, and with it the backup GPT. The one geometry that always means bytes
//! is the greatest, 65535 × 16 × 255. So what is written here carries both `qem2` and the greatest geometry, as
//! `qemu-img -o force_size` does; Azure's instructions ask for exactly this.

mod check;
mod dump;
mod error;
mod footer;
mod header;
mod image;
mod layout;
mod map;
mod plan;

pub use check::CheckReport;
pub use error::{Refused, VhdError};
pub use footer::{DiskKind, Footer, Geometry, Identity, SizeRule};
pub use header::DynamicHeader;
pub use image::{Vhd, VhdInfo, probe};
pub use layout::{DynamicLayout, FixedLayout, SECTORS_MAX, SIZE_MAX};
pub use map::{MapPiece, Stored};

/// Bytes of a sector, and of a footer.
pub const SECTOR_BYTES: u64 = 512;
