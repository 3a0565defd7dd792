//! Positional I/O, windows, the overlay, the change set and the transaction.
//!
//! Everything below a filesystem speaks [`ReadAt`] and [`WriteAt`]: positional, `&self`, shareable
//! between threads, never short. Edits go into an [`Overlay`]; [`Overlay::seal`] yields a
//! [`ChangeSet`] of the *virtual* disk, which an image driver turns into a [`HostPlan`] of
//! *host-file* writes.

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

pub use device::{FileDevice, MemoryDevice, ReadAt, Window, WriteAt};
pub use error::{BlockError, ImageState};
pub use extent::{Extent, ExtentState};
pub use gate::{AllowBelow, DenyAll, OpenGate};
pub use host::{Access, Host, HostFile, HostFileKind, HostMetadata, SystemHost};
pub use image::ImageFile;
pub use lock::LockOutcome;
pub use overlay::{ChangeSet, Overlay, PAGE_BYTES};
pub use plan::{HostPlan, HostWrite, WriteSource, raw_plan};
pub use transaction::{
    CommitOptions, CommitReport, CommitUnit, NewImageOptions, RecoveryReport, UndoReport, commit_in_place,
    commit_to_new, default_undo_path, undo, undo_on,
};
