//! The copy engine.
//!
//! [`convert`] copies a [`Source`] into a target of some [`TargetFormat`].

mod budget;
mod buffer;
mod convert;
mod digest;
mod engine;
mod error;
mod layout;
mod options;
mod outcome;
mod read;
mod sink;
mod source;
mod units;
mod work;
mod zero;

pub use budget::Budget;
pub use convert::{convert, convert_on};
pub use error::{ConvertError, Place, Stage};
pub use layout::{ClusterEncoder, Finish, Layout, NamedEncoder, Placed, Zeroes};
pub use options::{Accept, BackingName, Destination, Direct, Options, Qcow2Target, TargetFormat};
pub use outcome::{FastPath, Outcome, StageTimes};
pub use source::{
    Edited, FreeSkipped, Piece, PieceKind, Qcow2Source, RawSource, Source, WholeFile, WholeFormat, push_piece,
};
