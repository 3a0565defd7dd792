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
mod moved;
mod options;
mod outcome;
mod read;
mod sink;
mod source;
mod stream;
mod stream_sink;
mod target;
mod units;
mod work;
mod zero;

pub use budget::Budget;
pub use convert::{Input, convert, convert_on, convert_stream};
pub use error::{ConvertError, Place, Stage};
pub use layout::{
    ClusterEncoder, ContainerTarget, End, Finish, Layout, LayoutMaker, NamedEncoder, Placed, VhdTarget,
    Zeroes,
};
pub use options::{Accept, BackingName, Destination, Direct, Options, Qcow2Target, TargetFormat};
pub use outcome::{FastPath, Outcome, StageTimes};
pub use source::{
    ArchiveSource, Edited, FreeSkipped, Piece, PieceKind, Qcow2Source, RawSource, Source, VhdSource,
    WholeFile, WholeFormat, push_piece,
};
pub use stream::StreamSource;
