//! Where the bytes of the virtual disk lie in the image file.

use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};

use block::{BlockError, Extent, ExtentState, ReadAt};

use crate::SECTOR_BYTES;
use crate::image::{Blocks, Form, Vhd};
use crate::layout::UNALLOCATED;

/// Runs of a block's bitmap up to which they are told one by one.
const RUNS_MAX: usize = 64;

/// Where the bytes of a piece are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// Nowhere: zeroes.
    Hole,
    /// In the image file from this position on, as they are.
    At {
        /// Bytes from the start of the image file.
        host_offset: u64,
    },
    /// Both, in more runs than are worth telling; to be read through [`Vhd`].
    Mixed,
}

/// A range of the virtual disk of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapPiece {
    /// First byte on the virtual disk.
    pub offset: u64,
    /// Bytes, never 0.
    pub len: u64,
    /// Where they are.
    pub stored: Stored,
}

/// What is known about the bitmap of a block; saves reading it again.
#[derive(Default)]
pub(crate) struct BitmapState(AtomicU8);

impl BitmapState {
    const ALL_USED: u8 = 1;
    const SOME_USED: u8 = 2;

    fn is_all_used(&self) -> Option<bool> {
        match self.0.load(Ordering::Relaxed) {
            Self::ALL_USED => Some(true),
            Self::SOME_USED => Some(false),
            _ => None,
        }
    }

    fn set(&self, is_all_used: bool) {
        self.0.store(if is_all_used { Self::ALL_USED } else { Self::SOME_USED }, Ordering::Relaxed);
    }
}

/// Sectors of a block that are in use, or not, side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// Sectors within the block.
    pub first: u64,
    pub end: u64,
    pub is_used: bool,
}

/// The runs of `sectors` sectors from `first` on; the most significant bit of a byte comes first.
pub(crate) fn bitmap_runs(bitmap: &[u8], first: u64, end: u64) -> Vec<Run> {
    let is_used = |sector: u64| {
        bitmap.get((sector / 8) as usize).is_some_and(|byte| byte & (0x80 >> (sector % 8)) != 0)
    };
    let mut runs: Vec<Run> = Vec::new();
    let mut at = first;
    while at < end {
        // Whole bytes at once where they are all alike.
        let byte = bitmap.get((at / 8) as usize).copied().unwrap_or(0);
        let whole = at.is_multiple_of(8) && end - at >= 8 && (byte == 0 || byte == 0xff);
        let next = at + if whole { 8 } else { 1 };
        let used = is_used(at);
        match runs.last_mut() {
            Some(run) if run.is_used == used => run.end = next,
            _ => runs.push(Run { first: at, end: next, is_used: used }),
        }
        at = next;
    }
    runs
}

/// The part of one block that a request touches.
struct Part {
    /// Position on the virtual disk, bytes.
    offset: u64,
    len: u64,
    block: usize,
    /// Within the block, bytes.
    within: u64,
}

impl Blocks {
    fn parts(&self, range: Range<u64>) -> impl Iterator<Item = Part> + use<> {
        let block_size = self.block_size;
        let mut at = range.start;
        std::iter::from_fn(move || {
            let rest = range.end.checked_sub(at).filter(|rest| *rest > 0)?;
            let within = at % block_size;
            let len = (block_size - within).min(rest);
            let part = Part { offset: at, len, block: (at / block_size) as usize, within };
            at += len;
            Some(part)
        })
    }

    /// Position of the bitmap of a stored block, bytes.
    pub(crate) fn bitmap_offset(&self, block: usize) -> Option<u64> {
        let entry = self.table.get(block).copied().filter(|entry| *entry != UNALLOCATED)?;
        Some(u64::from(entry) * SECTOR_BYTES)
    }

    pub(crate) fn read_bitmap(&self, file: &dyn ReadAt, offset: u64) -> Result<Vec<u8>, BlockError> {
        let mut bitmap = vec![0; self.bitmap_len as usize];
        file.read_exact_at(&mut bitmap, offset)?;
        Ok(bitmap)
    }

    /// The runs of one part; a single used run without reading the bitmap when that is known.
    fn runs(&self, file: &dyn ReadAt, part: &Part, bitmap_offset: u64) -> Result<Vec<Run>, BlockError> {
        let first = part.within / SECTOR_BYTES;
        let end = (part.within + part.len).div_ceil(SECTOR_BYTES);
        let state = self.bitmaps.get(part.block);
        if state.and_then(BitmapState::is_all_used) == Some(true) {
            return Ok(vec![Run { first, end, is_used: true }]);
        }
        let bitmap = self.read_bitmap(file, bitmap_offset)?;
        if let Some(state) = state
            && state.is_all_used().is_none()
        {
            let sectors = self.block_size / SECTOR_BYTES;
            let all = bitmap_runs(&bitmap, 0, sectors);
            state.set(matches!(all.as_slice(), [Run { is_used: true, .. }]));
        }
        Ok(bitmap_runs(&bitmap, first, end))
    }
}

impl Vhd {
    /// The pieces that cover `range` completely, in order. Reads the bitmaps of stored blocks, nothing else.
    pub fn map(&self, range: Range<u64>) -> Result<Vec<MapPiece>, BlockError> {
        let len = range.end.saturating_sub(range.start);
        self.check_range(range.start, len)?;
        let mut pieces = Vec::new();
        if len == 0 {
            return Ok(pieces);
        }
        let Form::Dynamic(blocks) = &self.form else {
            pieces.push(MapPiece {
                offset: range.start,
                len,
                stored: Stored::At { host_offset: range.start },
            });
            return Ok(pieces);
        };
        for part in blocks.parts(range) {
            let Some(bitmap_offset) = blocks.bitmap_offset(part.block) else {
                push(&mut pieces, part.offset, part.len, Stored::Hole);
                continue;
            };
            let runs = blocks.runs(&self.file, &part, bitmap_offset)?;
            if runs.len() > RUNS_MAX {
                push(&mut pieces, part.offset, part.len, Stored::Mixed);
                continue;
            }
            let data = bitmap_offset + blocks.bitmap_len;
            for run in runs {
                let from = (run.first * SECTOR_BYTES).max(part.within);
                let to = (run.end * SECTOR_BYTES).min(part.within + part.len);
                let stored = if run.is_used { Stored::At { host_offset: data + from } } else { Stored::Hole };
                push(&mut pieces, part.offset + (from - part.within), to - from, stored);
            }
        }
        Ok(pieces)
    }
}

/// Adds a piece; holes that meet become one.
fn push(pieces: &mut Vec<MapPiece>, offset: u64, len: u64, stored: Stored) {
    match pieces.last_mut() {
        Some(last) if last.stored == Stored::Hole && stored == Stored::Hole => last.len += len,
        _ => pieces.push(MapPiece { offset, len, stored }),
    }
}

impl ReadAt for Vhd {
    fn len(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<(), BlockError> {
        self.check_range(offset, buf.len() as u64)?;
        let Form::Dynamic(blocks) = &self.form else {
            return self.file.read_exact_at(buf, offset);
        };
        let start = offset;
        for part in blocks.parts(offset..offset + buf.len() as u64) {
            let place = (part.offset - start) as usize;
            let Some(buf) = buf.get_mut(place..place + part.len as usize) else { continue };
            let Some(bitmap_offset) = blocks.bitmap_offset(part.block) else {
                buf.fill(0);
                continue;
            };
            let data = bitmap_offset + blocks.bitmap_len;
            for run in blocks.runs(&self.file, &part, bitmap_offset)? {
                let from = (run.first * SECTOR_BYTES).max(part.within);
                let to = (run.end * SECTOR_BYTES).min(part.within + part.len);
                let run_place = (from - part.within) as usize..(to - part.within) as usize;
                let Some(buf) = buf.get_mut(run_place) else { continue };
                if run.is_used {
                    self.file.read_exact_at(buf, data + from)?;
                } else {
                    buf.fill(0);
                }
            }
        }
        Ok(())
    }

    fn extents(&self, range: Range<u64>) -> Result<Vec<Extent>, BlockError> {
        self.check_range(range.start, range.end.saturating_sub(range.start))?;
        if let Form::Fixed = &self.form {
            return self.file.extents(range);
        }
        let pieces = self.map(range)?.into_iter();
        Ok(pieces
            .map(|piece| Extent {
                offset: piece.offset,
                len: piece.len,
                state: if piece.stored == Stored::Hole { ExtentState::Hole } else { ExtentState::Data },
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_the_bits_from_the_most_significant_on() {
        let bitmap = [0xff, 0x00, 0b1100_0001, 0xff];
        let bit = |sector: u64| bitmap[(sector / 8) as usize] >> (7 - sector % 8) & 1 == 1;
        for first in 0..32 {
            for end in first..=32 {
                let runs = bitmap_runs(&bitmap, first, end);
                let mut at = first;
                for run in &runs {
                    assert_eq!(run.first, at);
                    assert!((run.first..run.end).all(|sector| bit(sector) == run.is_used));
                    at = run.end;
                }
                assert_eq!(at, end);
                assert!(runs.windows(2).all(|pair| pair[0].is_used != pair[1].is_used));
            }
        }
    }
}
