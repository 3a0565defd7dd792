//! LVM2 without LVM: everything happens in this process and goes by UUID, so that volume groups of the same name
//! in different guests, or of the host, never meet.
//!
//! ```text
//! device ── PhysicalVolume::read (label, areas, texts) ──┐
//! device ── PhysicalVolume::read ────────────────────────┼── assemble ── Group ── LogicalVolume ── LogicalDevice
//! ```
//!
//! Metadata is read and never written. Sources: LVM2 `lib/format_text/layout.h` (label, header, areas),
//! `lib/metadata/metadata.c` (status flags), lvm.conf(5) (grammar), lvmraid(7), the kernel's `dm-raid.c`.

mod area;
mod assemble;
mod device;
mod error;
mod group;
mod ident;
mod label;
mod mirror;
mod model;
mod segment;
mod space;
mod text;

pub use area::{AreaState, MetadataArea};
pub use assemble::{Assembled, Group, Member, assemble};
pub use device::LogicalDevice;
pub use error::{Finding, Lvm2Error};
pub use group::LogicalVolume;
pub use ident::LvmId;
pub use label::PhysicalVolume;
pub use model::{LvModel, PvModel, SnapshotModel, VolumeGroup};
pub use segment::{Area, Segment, SegmentKind};
pub use space::FreeExtents;
pub use text::{Node, Section, TextError, parse as parse_text};
