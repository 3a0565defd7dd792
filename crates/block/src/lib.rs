//! Positional I/O, windows, the overlay, the change set and the transaction.
//!
//! ```text
//!  ImageFile ── Overlay ──writes──> dirty ──seal()──> ChangeSet ──driver──> HostPlan ──commit_in_place()──> committed
//!                  └────drop──────────┴──────drop─────────┴────────drop───────┴──> discarded, image untouched
//! ```
//!
//! Everything below a filesystem speaks [`ReadAt`] and [`WriteAt`]: positional, `&self`, shareable
//! between threads, never short. [`ImageFile::open`] resolves, locks and recovers an image. Edits go into an
//! [`Overlay`]; [`Overlay::seal`] yields a [`ChangeSet`] of the *virtual* disk, which an image driver turns into a
//! [`HostPlan`] of *host-file* writes. [`commit_in_place`] brings plans into their images by way of a journal, all of them
//! or none; [`commit_to_new`] brings one into a copy; [`undo`] takes a commit back.
//!
//! Invariants (`docs/transaction.md` has the whole text; tests cite the numbers): TX-1 no source byte changes before
//! a commit; TX-2 a read gives the newest byte; TX-3 errors stick; TX-4 change sets are sorted, disjoint, real changes;
//! TX-5 no image byte is written before its pre-image is durable; TX-6 opening recovers; TX-7 killed at any point: old
//! bytes or new bytes; TX-8 all images of a commit are one unit; TX-9 undo is exact or refused; TX-10 locks.

mod cache;
mod device;
mod error;
mod extent;
mod gate;
mod host;
mod image;
mod lock;
mod overlay;
mod plan;
mod transaction;

pub use cache::ReadCache;
pub use device::{FileDevice, MemoryDevice, ReadAt, Window, WriteAt};
pub use error::{BlockError, ImageState};
pub use extent::{Extent, ExtentState};
pub use gate::{AllowBelow, DenyAll, OpenGate};
pub use host::{Access, Host, HostFile, HostFileKind, HostMetadata, SystemHost};
pub use image::{ImageFile, ImageHandle};
pub use lock::LockOutcome;
pub use overlay::{ChangeSet, Overlay, PAGE_BYTES};
pub use plan::{HostPlan, HostWrite, WriteSource, raw_plan};
pub use transaction::{
    CommitOptions, CommitReport, CommitUnit, NewFile, NewImageOptions, RecoveryReport, UndoReport,
    commit_in_place, commit_to_new, default_undo_path, undo, undo_on,
};
