//! Cutting the disk into units of work.

use std::collections::VecDeque;
use std::ops::Range;

use crate::buffer::Buffer;
use crate::layout::Zeroes;
use crate::{ConvertError, Piece, PieceKind, Source};

/// Pieces that are asked for at once: bounds the memory of the map, 56 bytes each.
pub(crate) const MAP_PIECES: usize = 4096;

/// Longest range of zero that is worked on at once: a layout may have to say something about each cluster.
const ZEROES_MAX: u64 = 256 << 20;

/// What the next claim is.
#[derive(Debug)]
pub(crate) enum Work {
    /// Bytes to be looked at.
    Unit {
        /// Whole units in guest order; cut off at the end of the disk.
        range: Range<u64>,
        /// Covers the range.
        pieces: Vec<Piece>,
        /// The bytes, where they came with the claim.
        filled: Option<Buffer>,
    },
    /// Units that read as zero throughout, for targets that want to hear about it.
    Zeroes(Range<u64>),
}

/// The map of a source, walked once from front to back in bounded memory.
pub(crate) struct Units<'s> {
    source: &'s dyn Source,
    len: u64,
    unit: u64,
    zeroes: Zeroes,
    at: u64,
    pieces: VecDeque<Piece>,
    mapped_to: u64,
}

impl<'s> Units<'s> {
    pub fn new(source: &'s dyn Source, unit: u64, zeroes: Zeroes) -> Self {
        Self { source, len: source.len(), unit, zeroes, at: 0, pieces: VecDeque::new(), mapped_to: 0 }
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    /// True when a piece needs no unit.
    fn is_nothing(&self, piece: &Piece) -> bool {
        match self.zeroes {
            Zeroes::OverBacking => piece.kind == PieceKind::Hole,
            Zeroes::Implied | Zeroes::All => piece.reads_zero(),
        }
    }

    fn fill(&mut self) -> Result<bool, ConvertError> {
        if self.mapped_to >= self.len {
            return Ok(false);
        }
        let pieces = self.source.map(self.mapped_to..self.len, MAP_PIECES)?;
        for piece in pieces {
            // A source that does not keep to its contract must not make us loop, or skip.
            if piece.offset != self.mapped_to || piece.len == 0 {
                break;
            }
            self.mapped_to = piece.end();
            self.pieces.push_back(piece);
        }
        match self.pieces.is_empty() {
            false => Ok(true),
            true => Err(ConvertError::Unsupported {
                what: format!("a source whose map has a gap at {}", self.mapped_to),
            }),
        }
    }

    /// The first piece that is not behind.
    fn front(&mut self) -> Result<Option<Piece>, ConvertError> {
        loop {
            match self.pieces.front() {
                Some(piece) if piece.end() <= self.at => {
                    self.pieces.pop_front();
                }
                Some(piece) => return Ok(Some(*piece)),
                None => {
                    if !self.fill()? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// The next work; `None` at the end.
    pub fn next(&mut self) -> Result<Option<Work>, ConvertError> {
        let start = self.at;
        let first_data = loop {
            let Some(piece) = self.front()? else { break self.len };
            if !self.is_nothing(&piece) {
                break piece.offset.max(self.at);
            }
            self.at = piece.end();
        };
        let reached = if first_data < self.len { first_data - first_data % self.unit } else { self.len };
        if reached > start && self.zeroes == Zeroes::All {
            // The walk may have dropped pieces of the unit that comes next; they were zero.
            let reached = reached.min(start.saturating_add(ZEROES_MAX.next_multiple_of(self.unit)));
            self.at = reached;
            return Ok(Some(Work::Zeroes(start..reached)));
        }
        if first_data >= self.len {
            return Ok(None);
        }
        let range = reached.max(start)..(reached + self.unit).min(self.len);
        // What the walk skipped at the front of the unit is zero or stored nowhere.
        let mut pieces = Vec::new();
        if range.start < first_data {
            let kind = PieceKind::Hole;
            pieces.push(Piece { offset: range.start, len: first_data - range.start, kind });
        }
        self.at = first_data;
        while self.at < range.end {
            let Some(piece) = self.front()? else { break };
            let clipped = piece.clip(&(self.at..range.end));
            self.at = piece.end().min(range.end);
            pieces.extend(clipped);
        }
        self.at = range.end;
        Ok(Some(Work::Unit { range, pieces, filled: None }))
    }
}

/// What a source stores, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Census {
    /// Guest bytes that have to be looked at.
    pub mapped: u64,
    /// Of these, bytes in compressed clusters.
    pub compressed: u64,
    /// Upper bound of the bytes that their payloads take.
    pub payload: u64,
}

impl Census {
    /// Walks the whole map.
    pub fn of(source: &dyn Source) -> Result<Self, ConvertError> {
        let mut census = Self::default();
        let mut at = 0;
        while at < source.len() {
            let before = at;
            for piece in source.map(at..source.len(), MAP_PIECES)? {
                at = piece.end();
                if !piece.reads_zero() {
                    census.mapped += piece.len;
                }
                if let PieceKind::Compressed { payload_len, .. } = piece.kind {
                    census.compressed += piece.len;
                    census.payload += payload_len;
                }
            }
            if at <= before {
                return Err(ConvertError::Unsupported {
                    what: format!("a source whose map has a gap at {at}"),
                });
            }
        }
        Ok(census)
    }
}
