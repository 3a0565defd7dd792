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
mod overlay;
mod plan;

pub use device::{FileDevice, MemoryDevice, ReadAt, Window, WriteAt};
pub use error::BlockError;
pub use extent::{Extent, ExtentState};
pub use gate::{AllowBelow, DenyAll, OpenGate};
pub use overlay::{ChangeSet, Overlay, PAGE_BYTES};
pub use plan::{HostPlan, HostWrite, WriteSource};
