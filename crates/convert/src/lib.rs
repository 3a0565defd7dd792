//! The copy engine.
//!
//! [`convert`] copies a [`Source`] into a target of some [`TargetFormat`].

#[expect(dead_code, reason = "the workers use it")]
mod budget;
mod convert;
mod error;
mod options;
mod outcome;
mod source;

pub use budget::Budget;
pub use convert::convert;
pub use error::{ConvertError, Place, Stage};
pub use options::{BackingName, Destination, Direct, Options, Qcow2Target, TargetFormat};
pub use outcome::{FastPath, Outcome, StageTimes};
pub use source::{Piece, PieceKind, RawSource, Source, WholeFile, WholeFormat, push_piece};
