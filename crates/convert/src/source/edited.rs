//! Edits over a base: a conversion that changes what it copies.

use std::fs::File;
use std::ops::Range;

use block::{ChangeSet, HostMetadata, ReadAt};

use super::{Piece, PieceKind, Source, push_piece};
use crate::ConvertError;
use crate::error::{Place, Stage};

/// The base with the changes of a sealed overlay, which must lie over the same disk. The base is never written.
///
/// Every unit of compressed storage that a change touches is read through the overlay, whole; nothing behind this
/// type knows about edits.
pub struct Edited<S> {
    base: S,
    changes: ChangeSet,
    len: u64,
    /// Sorted, disjoint, in whole units of the base's granularity.
    ranges: Vec<Range<u64>>,
}

impl<S: Source> Edited<S> {
    /// Puts `changes` over `base`.
    pub fn new(base: S, changes: ChangeSet) -> Self {
        let grain = base.granularity();
        let len = changes.disk().len();
        let mut ranges: Vec<Range<u64>> = Vec::new();
        // What a longer disk has behind its old end is zero unless it was written; the old last unit is partial.
        let grown = (len > base.len()).then(|| base.len() - base.len() % grain..base.len());
        let grown = grown.filter(|range| !range.is_empty());
        let mut touched: Vec<Range<u64>> = changes.ranges().iter().cloned().chain(grown).collect();
        touched.sort_unstable_by_key(|range| range.start);
        for range in touched {
            let start = range.start - range.start % grain;
            let end = range.end.checked_next_multiple_of(grain).unwrap_or(len).min(len);
            match ranges.last_mut() {
                Some(last) if last.end >= start => last.end = last.end.max(end),
                _ => ranges.push(start..end),
            }
        }
        Self { base, changes, len, ranges }
    }

    fn base_map(
        &self,
        range: Range<u64>,
        limit: usize,
        pieces: &mut Vec<Piece>,
    ) -> Result<u64, ConvertError> {
        let mut at = range.start;
        let base_end = range.end.min(self.base.len());
        while at < base_end {
            if pieces.len() >= limit.max(1) {
                return Ok(at);
            }
            for piece in self.base.map(at..base_end, limit)? {
                at = piece.end();
                push_piece(pieces, piece);
            }
        }
        if at < range.end {
            push_piece(pieces, Piece { offset: at, len: range.end - at, kind: PieceKind::Hole });
        }
        Ok(range.end)
    }
}

impl<S: Source> Source for Edited<S> {
    fn len(&self) -> u64 {
        self.len
    }

    fn map(&self, range: Range<u64>, limit: usize) -> Result<Vec<Piece>, ConvertError> {
        let mut pieces = Vec::new();
        let mut at = range.start;
        let first = self.ranges.partition_point(|changed| changed.end <= range.start);
        for changed in self.ranges.get(first..).unwrap_or_default() {
            if changed.start >= range.end {
                break;
            }
            if at < changed.start {
                let gap = at..changed.start;
                at = self.base_map(gap.clone(), limit, &mut pieces)?;
                if at < gap.end || pieces.len() >= limit.max(1) {
                    return Ok(pieces);
                }
            }
            let end = changed.end.min(range.end);
            push_piece(&mut pieces, Piece { offset: at, len: end - at, kind: PieceKind::Device });
            at = end;
        }
        if at < range.end {
            self.base_map(at..range.end, limit, &mut pieces)?;
        }
        Ok(pieces)
    }

    fn host(&self, file: usize) -> &dyn ReadAt {
        self.base.host(file)
    }

    fn read_device(&self, buf: &mut [u8], guest_offset: u64) -> Result<(), ConvertError> {
        let range = guest_offset..guest_offset + buf.len() as u64;
        self.changes
            .disk()
            .read_exact_at(buf, guest_offset)
            .map_err(|source| ConvertError::host(Place::of(Stage::Read).guest(range), source))
    }

    fn granularity(&self) -> u64 {
        self.base.granularity()
    }

    fn system_file(&self, file: usize) -> Option<&File> {
        self.base.system_file(file)
    }

    fn host_files(&self) -> usize {
        self.base.host_files()
    }

    fn identities(&self) -> Vec<HostMetadata> {
        self.base.identities()
    }

    fn check_unchanged(&self) -> Result<(), ConvertError> {
        self.base.check_unchanged()
    }
}
