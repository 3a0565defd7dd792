//! Leaving out what the guest holds as free.

use std::fs::File;
use std::ops::Range;

use block::{HostMetadata, ReadAt};

use super::{Piece, PieceKind, Source, push_piece};
use crate::ConvertError;

/// A source in which some ranges are holes, whatever is stored there.
pub struct FreeSkipped<S> {
    base: S,
    /// Sorted, disjoint.
    free: Vec<Range<u64>>,
    keeps_clusters: bool,
}

impl<S: Source> FreeSkipped<S> {
    /// Leaves `free` out of `base`; order and overlaps do not matter.
    pub fn new(base: S, mut free: Vec<Range<u64>>) -> Self {
        free.retain(|range| range.start < range.end);
        free.sort_unstable_by_key(|range| range.start);
        let mut merged: Vec<Range<u64>> = Vec::with_capacity(free.len());
        for range in free {
            match merged.last_mut() {
                Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        Self { base, free: merged, keeps_clusters: false }
    }

    /// Leaves out compressed clusters only as a whole, so that those with some content can be moved as they are. What
    /// is free in these then stays what it was.
    pub fn keep_clusters(mut self) -> Self {
        self.keeps_clusters = true;
        self
    }

    /// True when a piece is to stay as it is although some of it may be free.
    fn is_kept(&self, piece: &Piece) -> bool {
        let PieceKind::Compressed { cluster_offset, cluster_len, .. } = piece.kind else { return false };
        if !self.keeps_clusters {
            return false;
        }
        let end = cluster_offset.saturating_add(cluster_len).min(self.base.len());
        let index = self.free.partition_point(|free| free.end < end);
        self.free.get(index).is_none_or(|free| free.start > cluster_offset)
    }
}

impl<S: Source> Source for FreeSkipped<S> {
    fn len(&self) -> u64 {
        self.base.len()
    }

    fn map(&self, range: Range<u64>, limit: usize) -> Result<Vec<Piece>, ConvertError> {
        let mut pieces = Vec::new();
        let mut index = self.free.partition_point(|free| free.end <= range.start);
        for piece in self.base.map(range, limit)? {
            if self.is_kept(&piece) {
                push_piece(&mut pieces, piece);
                continue;
            }
            let mut at = piece.offset;
            // Pieces that were kept may have gone past some ranges.
            while self.free.get(index).is_some_and(|free| free.end <= at) {
                index += 1;
            }
            while at < piece.end() {
                let free = self.free.get(index).filter(|free| free.start < piece.end());
                let Some(free) = free else {
                    pieces.extend(piece.clip(&(at..piece.end())));
                    break;
                };
                if at < free.start {
                    pieces.extend(piece.clip(&(at..free.start)));
                    at = free.start;
                }
                let end = free.end.min(piece.end());
                push_piece(&mut pieces, Piece { offset: at, len: end - at, kind: PieceKind::Hole });
                at = end;
                if free.end <= at {
                    index += 1;
                }
            }
        }
        Ok(pieces)
    }

    fn host(&self, file: usize) -> &dyn ReadAt {
        self.base.host(file)
    }

    fn read_device(&self, buf: &mut [u8], guest_offset: u64) -> Result<(), ConvertError> {
        // A reader of one range that happens to be partly free gets the stored bytes: they are as good as zero.
        self.base.read_device(buf, guest_offset)
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
