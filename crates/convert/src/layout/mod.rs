//! Where everything goes in the target.
//!
//! A [`Layout`] is a *fold over clusters in guest order*: what it decides depends on the clusters it has seen and
//! on nothing else. That is what makes a target the same at any number of threads and any unit size. It holds no
//! data and does no I/O; it may be slow only by tens of nanoseconds a cluster, since it runs under a lock.
//!
//! A new target format is one file that implements this trait.

mod container;
mod qcow2;
mod qcow2_header;
mod raw;
mod refcounts;
mod vhd;

use std::fmt::Debug;
use std::ops::Range;

use crate::ConvertError;
pub use container::ContainerTarget;
pub(crate) use qcow2::{FIRST_MOVED, Qcow2Layout};
pub(crate) use raw::RawLayout;
pub use vhd::VhdTarget;

/// What a layout wants to hear about bytes that are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zeroes {
    /// Nothing: what is not placed reads as zero.
    Implied,
    /// What reads as zero must be told from what is not stored: a backing file is below.
    OverBacking,
    /// All of it, with [`Layout::place_zeroes`]: the target may hold other bytes, or is a stream.
    All,
}

/// Turns one cluster into its stored form. One per worker.
pub trait ClusterEncoder: Send {
    /// Appends the encoded form of `cluster`, or leaves `out` as it is and says `false` when the cluster is to be
    /// stored as it is.
    fn encode(&mut self, cluster: &[u8], out: &mut Vec<u8>) -> Result<bool, String>;

    /// A number about the cluster that was encoded last, for [`Layout::place_encoded`]: a checksum, for example.
    fn check(&self) -> u64 {
        0
    }
}

/// An encoder and its name with its version, for the report.
pub type NamedEncoder = (Box<dyn ClusterEncoder>, String);

/// What was decided about the clusters of one unit.
#[derive(Debug, Default)]
pub struct Placed {
    /// Host ranges for the bytes just placed, in their order: offset and length.
    pub data: Vec<(u64, u64)>,
    /// Tables that are complete, and where they go.
    pub tables: Vec<(u64, Vec<u8>)>,
    /// Host ranges that must read as zero.
    pub zeroes: Vec<Range<u64>>,
}

impl Placed {
    /// Appends a data range, joining it with its neighbour.
    pub fn push_data(&mut self, offset: u64, len: u64) {
        match self.data.last_mut() {
            Some((last, last_len)) if *last + *last_len == offset => *last_len += len,
            _ => self.data.push((offset, len)),
        }
    }
}

/// What is left to do when the last cluster is placed.
#[derive(Debug, Default)]
pub struct Finish {
    /// Length of the file.
    pub file_len: u64,
    /// Written last of all, after everything else is durable: without it the file is no image.
    pub header: Option<(u64, Vec<u8>)>,
}

/// What is known when everything is placed.
#[derive(Debug, Clone, Copy)]
pub struct End {
    /// Length of the virtual disk, bytes.
    pub virtual_len: u64,
    /// Content digest, where it was asked for ([`Layout::wants_digest`]): the same bytes for the same content.
    pub digest: Option<[u8; 32]>,
}

/// Makes the layout of a target format that this crate does not know.
pub trait LayoutMaker: Debug + Send + Sync {
    /// Name of the format.
    fn name(&self) -> &'static str;

    /// The layout of a disk of `virtual_len` bytes; `None` when the source tells its length only at its end.
    /// `is_new` is false when what is not placed may hold other bytes.
    fn layout(&self, virtual_len: Option<u64>, is_new: bool) -> Result<Box<dyn Layout>, ConvertError>;
}

/// The format of a target.
pub trait Layout: Send {
    /// Bytes of a cluster: the unit in which zero is looked for and in which data is encoded. A power of two.
    fn cluster_len(&self) -> u64;

    /// What to say about zero.
    fn zeroes(&self) -> Zeroes {
        Zeroes::Implied
    }

    /// True when the last cluster of a disk is stored whole, filled with zero.
    fn pads_last_cluster(&self) -> bool {
        false
    }

    /// True when encoded clusters are packed without gaps, so that writes have to be gathered in memory.
    fn is_packed(&self) -> bool {
        false
    }

    /// True when the file is written from front to back, as a pipe needs it. Such a layout is packed, has no header
    /// that comes last, and gets [`Zeroes::All`]. Ranges that it puts in [`Placed::zeroes`] are written as zero.
    fn is_ordered(&self) -> bool {
        false
    }

    /// True when [`Layout::finish`] needs the content digest.
    fn wants_digest(&self) -> bool {
        false
    }

    /// An encoder for a worker, and its name for the report; `None` when clusters are stored as they are.
    fn encoder(&self) -> Result<Option<NamedEncoder>, ConvertError> {
        Ok(None)
    }

    /// The next bytes that are stored as they are: whole clusters in guest order, one or more.
    fn place_plain(&mut self, guest: Range<u64>, placed: &mut Placed) -> Result<(), ConvertError>;

    /// The next cluster, encoded to `len` bytes; `check` is what its encoder says of it ([`ClusterEncoder::check`]).
    fn place_encoded(
        &mut self,
        guest: Range<u64>,
        len: u64,
        check: u64,
        placed: &mut Placed,
    ) -> Result<(), ConvertError> {
        let _ = (guest, len, check, placed);
        Err(ConvertError::Unsupported { what: "encoded clusters in this format".into() })
    }

    /// The next cluster, whose payload was moved as it is from this place of the source file.
    fn place_moved(
        &mut self,
        guest: Range<u64>,
        payload: Range<u64>,
        placed: &mut Placed,
    ) -> Result<(), ConvertError> {
        let _ = (guest, payload, placed);
        Err(ConvertError::Unsupported { what: "moved clusters in this format".into() })
    }

    /// The next whole clusters, all zero. Called for [`Zeroes::OverBacking`] and [`Zeroes::All`] only.
    fn place_zeroes(&mut self, guest: Range<u64>, placed: &mut Placed) -> Result<(), ConvertError>;

    /// Everything below this offset in the file is decided, apart from [`Layout::open_range`].
    fn decided(&self) -> u64;

    /// A range below [`Layout::decided`] that later clusters may still go to.
    fn open_range(&self) -> Range<u64> {
        0..0
    }

    /// The last tables.
    fn finish(&mut self, end: &End, placed: &mut Placed) -> Result<Finish, ConvertError>;
}

/// A format that says the length of the disk before its content, and a source that does not.
fn length_needed(format: &str) -> ConvertError {
    ConvertError::Target {
        code: "convert.target.length",
        what: format!(
            "{format} needs the length of the disk at its start, and the source tells it at its end only"
        ),
    }
}

/// The length at the end is not the one from the start.
fn length_changed(start: u64, end: u64) -> ConvertError {
    ConvertError::Target {
        code: "convert.target.length",
        what: format!("the source said {start} bytes at its start and {end} at its end"),
    }
}
