//! Sources that are read from front to back only.

use crate::buffer::Pool;
use crate::convert::Input;
use crate::layout::Zeroes;
use crate::units::{Units, Work};
use crate::{ConvertError, Piece, PieceKind};

/// A disk that comes as a stream: the standard input, or what a decompressor yields.
///
/// Units are filled in order under the lock of the claim, so whatever a stream decodes it decodes on one thread;
/// everything behind it runs on all.
pub trait StreamSource: Send {
    /// Length of the disk, where it is known before its end.
    fn len(&self) -> Option<u64>;

    /// True when the disk is known to have no bytes.
    fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }

    /// Fills `buf` as far as the disk goes; fewer bytes than asked for mean that it has ended, and that whatever ends
    /// the stream (a checksum, a length) was found right.
    fn fill(&mut self, buf: &mut [u8]) -> Result<usize, ConvertError>;

    /// Identity of the file that the stream comes from, if any: it may not be the target.
    fn identities(&self) -> Vec<block::HostMetadata> {
        Vec::new()
    }

    /// Fails when the source is not what it was when it was opened. Asked after the end.
    fn check_unchanged(&self) -> Result<(), ConvertError> {
        Ok(())
    }
}

/// Where units come from.
pub(crate) enum Feed<'f> {
    Random(Units<'f>),
    Stream { source: &'f mut dyn StreamSource, at: u64, unit: u64, has_ended: bool },
}

impl<'f> Feed<'f> {
    pub fn new(input: Input<'f>, unit: u64, zeroes: Zeroes) -> Self {
        match input {
            Input::Random(source) => Self::Random(Units::new(source, unit, zeroes)),
            Input::Stream(source) => Self::Stream { source, at: 0, unit, has_ended: false },
        }
    }

    /// Length of the disk; of a stream, as far as it was read.
    pub fn virtual_len(&self) -> u64 {
        match self {
            Feed::Random(units) => units.len(),
            Feed::Stream { at, .. } => *at,
        }
    }

    /// The next work; `None` at the end.
    pub fn next(&mut self, pool: &Pool) -> Result<Option<Work>, ConvertError> {
        let (source, at, unit, has_ended) = match self {
            Feed::Random(units) => return units.next(),
            Feed::Stream { source, at, unit, has_ended } => (source, at, *unit as usize, has_ended),
        };
        if *has_ended {
            return Ok(None);
        }
        let mut buffer = pool.take();
        let room = buffer.bytes_mut().get_mut(..unit).unwrap_or_default();
        let filled = source.fill(room)?;
        if filled < unit {
            *has_ended = true;
            if let Some(expected) = source.len().filter(|expected| *expected != *at + filled as u64) {
                return Err(ConvertError::Decode {
                    place: crate::Place::of(crate::Stage::Read).guest(*at..*at + filled as u64),
                    detail: format!("expected {expected} bytes, found {}", *at + filled as u64),
                });
            }
        }
        if filled == 0 {
            return Ok(None);
        }
        let range = *at..*at + filled as u64;
        *at = range.end;
        let piece = Piece { offset: range.start, len: filled as u64, kind: PieceKind::Device };
        Ok(Some(Work::Unit { range, pieces: vec![piece], filled: Some(buffer) }))
    }
}
