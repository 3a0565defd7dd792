//! The part of the input in which matches are looked for, and the tables that find them.
//!
//! Positions are 16 bits: the buffer has 65536 of them and a margin, so that a load at any position is within
//! it and the compiler needs no check. Longer inputs move through the buffer.

use crate::symbols::MATCH_MAX;

/// Positions in the buffer.
pub(super) const POSITIONS: usize = 1 << 16;
/// Room behind the last position for loads that start at or shortly after it.
const MARGIN: usize = 1024;
const BUFFER: usize = POSITIONS + MARGIN;
/// While more input follows, the parser stops this far before the last position.
pub(super) const LOOKAHEAD: usize = 2 * MATCH_MAX + 16;
/// Entries of the table for matches of three bytes.
const SHORT_HEADS: usize = 1 << 12;

type Buffer = [u8; BUFFER];

/// A match; length 0 for none.
#[derive(Clone, Copy, Default)]
pub(super) struct Match {
    pub(super) length: usize,
    pub(super) dist: usize,
}

/// Where a search may stop.
#[derive(Clone, Copy)]
pub(super) struct Reach {
    /// Candidates to look at.
    pub(super) depth: u32,
    /// A match as long as this ends the search.
    pub(super) nice: usize,
}

/// `WINDOW` positions are remembered, by hashes of four bytes (`HEADS` chains) and of three (no chains).
pub(super) struct Finder<const WINDOW: usize, const HEADS: usize> {
    buffer: Box<Buffer>,
    /// Positions that hold input.
    filled: usize,
    heads: Box<[u16; HEADS]>,
    short_heads: Box<[u16; SHORT_HEADS]>,
    /// The position before with the same hash, by position modulo `WINDOW`.
    links: Box<[u16; WINDOW]>,
}

fn boxed<T: Copy + Default, const N: usize>() -> Box<[T; N]> {
    match vec![T::default(); N].into_boxed_slice().try_into() {
        Ok(array) => array,
        Err(_) => Box::new([T::default(); N]),
    }
}

#[inline(always)]
fn load32(buffer: &Buffer, at: u16, plus: usize) -> u32 {
    let at = usize::from(at) + (plus & 511);
    match buffer[at..].first_chunk() {
        Some(bytes) => u32::from_le_bytes(*bytes),
        None => 0,
    }
}

#[inline(always)]
fn load64(buffer: &Buffer, at: u16, plus: usize) -> u64 {
    let at = usize::from(at) + (plus & 511);
    match buffer[at..].first_chunk() {
        Some(bytes) => u64::from_le_bytes(*bytes),
        None => 0,
    }
}

impl<const WINDOW: usize, const HEADS: usize> Finder<WINDOW, HEADS> {
    pub(super) fn new() -> Self {
        Self { buffer: boxed(), filled: 0, heads: boxed(), short_heads: boxed(), links: boxed() }
    }

    /// Forgets everything and takes in the start of `input`; returns how much.
    pub(super) fn start(&mut self, input: &[u8]) -> usize {
        self.heads.fill(0);
        self.short_heads.fill(0);
        self.filled = 0;
        self.fill(input)
    }

    /// Makes room and takes in more. Positions fall by the first number; so much was taken by the second.
    pub(super) fn advance(&mut self, at: usize, more: &[u8]) -> (usize, usize) {
        let shift = at.saturating_sub(WINDOW).min(self.filled);
        self.buffer.copy_within(shift..self.filled, 0);
        self.filled -= shift;
        for table in [&mut self.heads[..], &mut self.short_heads[..], &mut self.links[..]] {
            for position in table {
                *position = position.saturating_sub(shift as u16);
            }
        }
        self.links.rotate_left(shift % WINDOW);
        (shift, self.fill(more))
    }

    fn fill(&mut self, input: &[u8]) -> usize {
        let taken = input.len().min(POSITIONS - self.filled);
        let end = self.filled + taken;
        if let (Some(room), Some(part)) = (self.buffer.get_mut(self.filled..end), input.get(..taken)) {
            room.copy_from_slice(part);
        }
        // What an earlier cluster left there must not sway a choice.
        if let Some(margin) = self.buffer.get_mut(end..) {
            let len = margin.len().min(MARGIN);
            margin[..len].fill(0);
        }
        self.filled = end;
        taken
    }

    pub(super) fn filled(&self) -> usize {
        self.filled
    }

    #[inline(always)]
    pub(super) fn byte(&self, at: usize) -> u8 {
        self.buffer[at & (POSITIONS - 1)]
    }

    #[inline(always)]
    fn hash(four: u32) -> usize {
        (four.wrapping_mul(0x9e37_79b1) >> (32 - HEADS.trailing_zeros())) as usize & (HEADS - 1)
    }

    #[inline(always)]
    fn short_hash(four: u32) -> usize {
        ((four << 8).wrapping_mul(0x85eb_ca77) >> (32 - SHORT_HEADS.trailing_zeros())) as usize
            & (SHORT_HEADS - 1)
    }

    /// Remembers a position without looking for matches.
    #[inline(always)]
    pub(super) fn remember(&mut self, at: usize) {
        let at = at as u16;
        let four = load32(&self.buffer, at, 0);
        self.short_heads[Self::short_hash(four)] = at;
        let head = &mut self.heads[Self::hash(four)];
        self.links[usize::from(at) & (WINDOW - 1)] = *head;
        *head = at;
    }

    /// The longest match at `at` that is longer than `floor`, and remembers `at`. The nearest of equally long ones.
    #[inline(always)]
    pub(super) fn longest(&mut self, at: usize, floor: usize, reach: Reach) -> Match {
        let buffer = &*self.buffer;
        let limit = self.filled.wrapping_sub(at).min(MATCH_MAX);
        let cutoff = at.saturating_sub(WINDOW) as u16;
        let at = at as u16;
        let four = load32(buffer, at, 0);
        let head = &mut self.heads[Self::hash(four)];
        let mut candidate = *head;
        *head = at;
        self.links[usize::from(at) & (WINDOW - 1)] = candidate;
        let short_head = &mut self.short_heads[Self::short_hash(four)];
        let short = *short_head;
        *short_head = at;

        let mut best = Match { length: floor.max(3), dist: 0 };
        if floor < 3 && short > cutoff && (load32(buffer, short, 0) ^ four) << 8 == 0 {
            best.dist = usize::from(at.wrapping_sub(short));
        }
        let mut tail = load32(buffer, at, best.length.wrapping_sub(3));
        let mut depth = reach.depth;
        while candidate > cutoff && depth > 0 {
            depth = depth.wrapping_sub(1);
            if load32(buffer, candidate, best.length.wrapping_sub(3)) == tail
                && load32(buffer, candidate, 0) == four
            {
                let mut length = 4;
                while length < MATCH_MAX {
                    let differ = load64(buffer, candidate, length) ^ load64(buffer, at, length);
                    if differ != 0 {
                        length = length.wrapping_add((differ.trailing_zeros() >> 3) as usize);
                        break;
                    }
                    length = length.wrapping_add(8);
                }
                if length > best.length {
                    best = Match {
                        length: length.min(MATCH_MAX),
                        dist: usize::from(at.wrapping_sub(candidate)),
                    };
                    if best.length >= reach.nice {
                        break;
                    }
                    tail = load32(buffer, at, best.length.wrapping_sub(3));
                }
            }
            candidate = self.links[usize::from(candidate) & (WINDOW - 1)];
        }
        best.length = best.length.min(limit);
        if best.dist == 0 || best.length <= floor || best.length < 3 { Match::default() } else { best }
    }
}
