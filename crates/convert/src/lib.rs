//! The copy engine: any image to any format, in parallel, in bounded memory, the same bytes every time.
//!
//! [`convert`] copies a [`Source`] (a [`RawSource`], a [`Qcow2Source`], a base with edits: [`Edited`], without free space:
//! [`FreeSkipped`], …) into a target of some [`TargetFormat`]; [`convert_stream`] does the same for what can only be read
//! from front to back. `examples/convert.rs` is a whole program with progress.
//!
//! ```text
//!  Source::map ── units in guest order ──┬─ worker: read, decode, look for zero, encode ─┐
//!                                        ├─ worker …                                     ├─ ring ── fold (Layout) ── writes
//!                                        └─ worker …                                     ┘                    done by any worker
//! ```
//!
//! A unit runs to completion on one worker: its data stays in that core's cache. What goes where is decided by a
//! [`Layout`], a fold over clusters in guest order. A new format is one file: a [`LayoutMaker`] and its layout.
//!
//! # Invariants
//!
//! Tests cite the numbers.
//!
//! * C-1 The source is never written, and a source that changed meanwhile is an error.
//! * C-2 A new target has its name only when it is complete, accepted and, with [`Options::sync`], durable. After an error
//!   nothing of it is left; what a killed process left is removed by the next run for the same name.
//! * C-3 The bytes of a target follow from source, format and encoder version: not from threads, memory, unit size,
//!   timing, O_DIRECT or the page cache.
//! * C-4 Bytes in flight stay within [`Budget`], whatever the length of the disk; beyond it go one unit of each conversion
//!   (so that it comes to an end) and a few pages of tables.
//! * C-5 What is known to read as zero is neither read nor written, and costs by pieces of the map, not by length.
//! * C-6 The first error wins, names stage and range, and ends everything; a panic in a unit is such an error.
//! * C-7 A qcow2 header is written last, after everything else is durable: a target that was cut off is no image.
//! * C-8 A compressed cluster is moved without decoding only where it is whole, no edit touches it, and cluster size and
//!   codec agree; what else lies in its host clusters comes along.
//! * C-9 The content digest is the same for the same disk in every format (`digest.rs` says how it is made).
//!
//! The workers' own invariants (E-1 …) are in `engine`.

mod budget;
mod buffer;
mod cache;
mod checksum;
mod clone;
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
