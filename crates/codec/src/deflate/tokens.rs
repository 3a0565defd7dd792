//! What the parser makes of the input: literals and matches, with counts of their symbols.

use crate::symbols::{DIST_SYMBOLS, FIRST_LENGTH, LENGTH_CODE, dist_code};

/// Room for the literal and length symbols, and so much more that no index needs a check.
pub(super) const LITLEN_ROOM: usize = 320;

/// Some literals, then a match; `length` is 0 where only literals are left.
#[derive(Clone, Copy)]
pub(super) struct Sequence {
    pub(super) literals: u32,
    pub(super) length: u16,
    pub(super) dist: u16,
}

/// How often each symbol occurs.
#[derive(Clone)]
pub(super) struct Counts {
    pub(super) litlen: [u32; LITLEN_ROOM],
    pub(super) dist: [u32; DIST_SYMBOLS],
}

impl Counts {
    pub(super) fn new() -> Self {
        Self { litlen: [0; LITLEN_ROOM], dist: [0; DIST_SYMBOLS] }
    }

    #[inline(always)]
    pub(super) fn literal(&mut self, byte: u8) {
        let count = &mut self.litlen[usize::from(byte)];
        *count = count.wrapping_add(1);
    }

    #[inline(always)]
    pub(super) fn pair(&mut self, length: usize, dist: usize) {
        let count = &mut self.litlen[FIRST_LENGTH + usize::from(LENGTH_CODE[length & 511] & 31)];
        *count = count.wrapping_add(1);
        let count = &mut self.dist[dist_code(dist)];
        *count = count.wrapping_add(1);
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (own, other) in self.litlen.iter_mut().zip(&other.litlen) {
            *own = own.wrapping_add(*other);
        }
        for (own, other) in self.dist.iter_mut().zip(&other.dist) {
            *own = own.wrapping_add(*other);
        }
    }
}

/// A stretch of tokens that stays together when the input is cut into blocks.
pub(super) struct Chunk {
    /// End of its sequences in the list.
    pub(super) sequences: usize,
    /// End of its bytes in the input.
    pub(super) bytes: usize,
    pub(super) counts: Counts,
    /// What its symbols cost on their own, see `split`.
    pub(super) cost: f32,
    /// What is saved by joining it with the one after it.
    pub(super) gain: f32,
}
