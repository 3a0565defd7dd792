//! qcow2 versions 2 and 3: read, and write as host-file plans.
//!
//! [`Qcow2`] is the virtual disk of an image file, through its backing chain, for many threads at
//! once. It never writes: [`Qcow2::plan_commit`] turns the changes of a sealed overlay into a
//! [`block::HostPlan`], which the transaction applies. On-disk facts are from QEMU's
//! `docs/interop/qcow2.txt`; limits are QEMU's own where it has one, so that an image that QEMU opens
//! opens here, too.
//!
//! Module by module: `header` and `snapshot` parse and check what an image says about itself, `entry`
//! decodes table entries, `map` finds guest clusters, `read` fetches their bytes, `stored` tells a copier where they are, `backing` opens the
//! chain, `refcount` keeps reference counts during a plan, `commit` makes the plan, `references`
//! counts every reference for `check` and for repairing a dirty image, `dump` prints all of it.

mod backing;
mod bitmaps;
mod cache;
mod check;
mod commit;
mod dump;
mod entry;
mod error;
mod guard;
mod header;
mod image;
mod info;
mod l1;
mod map;
mod meta;
mod read;
mod refcount;
mod references;
mod snapshot;
mod stored;

pub use backing::BackingFormat;
pub use check::CheckReport;
pub use error::{Qcow2Error, Refused};
pub use header::{Compression, FeatureKind, FeatureName};
pub use image::Qcow2;
pub use info::{BackingInfo, Qcow2Info, SnapshotInfo};
pub use stored::{ChainFile, Depth, Stored, StoredRange};
