//! What can be copied.
//!
//! A [`Source`] says what its virtual disk is made of ([`Source::map`]) and lets the engine read the stored bytes
//! itself ([`Source::host`]): so runs coalesce, and compressed clusters can be moved without decoding them.

mod archive;
mod edited;
mod free;
mod qcow2;
mod raw;
mod vhd;

use std::fs::File;
use std::ops::Range;

use ::qcow2::Compression;
use block::{HostMetadata, ReadAt};

pub use self::qcow2::Qcow2Source;
use crate::ConvertError;
pub use archive::ArchiveSource;
pub use edited::Edited;
pub use free::FreeSkipped;
pub use raw::RawSource;
pub use vhd::VhdSource;

/// How the bytes of a [`Piece`] are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PieceKind {
    /// Nothing is stored: reads as zero (or, where only the top of a chain is mapped, as what is below).
    Hole,
    /// Reads as zero, whatever is below.
    Zero,
    /// In host file `file` from `host_offset` on, as they are.
    Host {
        /// Index for [`Source::host`].
        file: usize,
        /// First byte in that file.
        host_offset: u64,
    },
    /// Inside one compressed cluster.
    Compressed {
        /// Index for [`Source::host`].
        file: usize,
        /// First byte of the payload.
        host_offset: u64,
        /// Upper bound of its length: bytes that do not belong to the stream may follow, and the file may end before.
        payload_len: u64,
        /// Codec.
        compression: Compression,
        /// Guest offset of the whole cluster; the piece may be a part of it.
        cluster_offset: u64,
        /// Length of the whole cluster when decoded.
        cluster_len: u64,
    },
    /// Only [`Source::read_device`] has them: edits over a base, and everything without a place in a file.
    Device,
}

/// Contiguous bytes of the virtual disk that are stored in one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// First byte on the virtual disk.
    pub offset: u64,
    /// Bytes, never 0.
    pub len: u64,
    /// Where they are.
    pub kind: PieceKind,
}

impl Piece {
    /// First byte behind it.
    pub fn end(&self) -> u64 {
        self.offset + self.len
    }

    /// True when nothing has to be read.
    pub fn reads_zero(&self) -> bool {
        matches!(self.kind, PieceKind::Hole | PieceKind::Zero)
    }

    /// The part inside `range`; `None` when there is none.
    pub fn clip(&self, range: &Range<u64>) -> Option<Piece> {
        let offset = self.offset.max(range.start);
        let end = self.end().min(range.end);
        if offset >= end {
            return None;
        }
        let kind = match self.kind {
            PieceKind::Host { file, host_offset } => {
                PieceKind::Host { file, host_offset: host_offset + (offset - self.offset) }
            }
            other => other,
        };
        Some(Piece { offset, len: end - offset, kind })
    }

    /// True when `next` goes on with the same thing, so that both are one piece.
    pub fn goes_on(&self, next: &Piece) -> bool {
        if self.end() != next.offset {
            return false;
        }
        match (self.kind, next.kind) {
            (
                PieceKind::Host { file, host_offset },
                PieceKind::Host { file: next_file, host_offset: there },
            ) => file == next_file && host_offset + self.len == there,
            (PieceKind::Compressed { .. }, _) => false,
            (one, other) => one == other,
        }
    }
}

/// Appends a piece, joining it with its neighbour where they are one.
pub fn push_piece(pieces: &mut Vec<Piece>, piece: Piece) {
    match pieces.last_mut() {
        _ if piece.len == 0 => {}
        Some(last) if last.goes_on(&piece) => last.len += piece.len,
        _ => pieces.push(piece),
    }
}

/// Something that can be copied.
pub trait Source: Send + Sync {
    /// Length of the virtual disk, bytes.
    fn len(&self) -> u64;

    /// True when the virtual disk has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The pieces of a prefix of `range`, in order and without gaps, beginning at its start. Never empty for a range
    /// that is not. A source stops early once it has about `limit` pieces, so that a map of a large disk is walked in
    /// bounded memory; the work is by pieces, not by length: an absent table is one piece.
    fn map(&self, range: Range<u64>, limit: usize) -> Result<Vec<Piece>, ConvertError>;

    /// Host files by index.
    fn host(&self, file: usize) -> &dyn ReadAt;

    /// Reads bytes of the virtual disk, whatever they are made of. The engine uses it for [`PieceKind::Device`].
    fn read_device(&self, buf: &mut [u8], guest_offset: u64) -> Result<(), ConvertError>;

    /// The unit in which compressed data is stored: no unit of work cuts through it. A power of two.
    fn granularity(&self) -> u64 {
        512
    }

    /// The file of the operating system behind a host file, for hints about the page cache.
    fn system_file(&self, _file: usize) -> Option<&File> {
        None
    }

    /// How many host files there are.
    fn host_files(&self) -> usize {
        1
    }

    /// Identity of every host file: none of them may be the target.
    fn identities(&self) -> Vec<HostMetadata> {
        Vec::new()
    }

    /// Fails when the source is not what it was when it was opened. Asked after the last read, before the target gets
    /// its name.
    fn check_unchanged(&self) -> Result<(), ConvertError> {
        Ok(())
    }

    /// The file that is this source, whole and without edits: what a copy in the same format may clone.
    fn whole_file(&self) -> Option<WholeFile<'_>> {
        None
    }
}

/// A file that holds a source and nothing else.
#[derive(Debug, Clone, Copy)]
pub struct WholeFile<'s> {
    /// The open file.
    pub file: &'s File,
    /// Its length.
    pub len: u64,
    /// Format of its content.
    pub format: WholeFormat,
}

/// Formats that may be cloned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WholeFormat {
    /// The file is the disk.
    Raw,
    /// A qcow2 image without backing file and snapshots.
    Qcow2 {
        /// 2 or 3.
        version: u32,
        /// log2 of the cluster size.
        cluster_bits: u32,
        /// Codec of its compressed clusters.
        compression: Compression,
    },
}

impl<S: Source + ?Sized> Source for Box<S> {
    fn len(&self) -> u64 {
        (**self).len()
    }
    fn map(&self, range: Range<u64>, limit: usize) -> Result<Vec<Piece>, ConvertError> {
        (**self).map(range, limit)
    }
    fn host(&self, file: usize) -> &dyn ReadAt {
        (**self).host(file)
    }
    fn read_device(&self, buf: &mut [u8], guest_offset: u64) -> Result<(), ConvertError> {
        (**self).read_device(buf, guest_offset)
    }
    fn granularity(&self) -> u64 {
        (**self).granularity()
    }
    fn system_file(&self, file: usize) -> Option<&File> {
        (**self).system_file(file)
    }
    fn host_files(&self) -> usize {
        (**self).host_files()
    }
    fn identities(&self) -> Vec<HostMetadata> {
        (**self).identities()
    }
    fn check_unchanged(&self) -> Result<(), ConvertError> {
        (**self).check_unchanged()
    }
    fn whole_file(&self) -> Option<WholeFile<'_>> {
        (**self).whole_file()
    }
}
