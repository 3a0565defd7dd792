//! Cutting the input into literals and matches.

use super::tokens::{Chunk, Counts, Sequence};
use super::window::{Finder, Match, Reach};
use crate::symbols::{MATCH_MAX, MATCH_MIN};

/// Tokens of one chunk, the unit of which blocks are made.
const CHUNK_TOKENS: usize = 1536;
/// After so many literals without a match, positions begin to be left out: the content does not compress.
const PATIENCE_SHIFT: u32 = 8;
/// Positions left out at a time, at most.
const SKIP_MAX: usize = 16;

/// Effort of the parser.
#[derive(Clone, Copy)]
pub(super) struct Effort {
    pub(super) reach: Reach,
    /// Following positions at which a better match is looked for before one is taken: 0, 1 or 2.
    pub(super) lazy: u8,
    /// A match of three bytes pays up to this distance.
    pub(super) short_dist: usize,
    /// A match of four bytes pays up to this distance.
    pub(super) four_dist: usize,
}

/// Literals and matches of one segment of the input.
pub(super) struct Tokens {
    pub(super) sequences: Vec<Sequence>,
    pub(super) chunks: Vec<Chunk>,
}

impl Tokens {
    pub(super) fn new() -> Self {
        Self { sequences: Vec::new(), chunks: Vec::new() }
    }
}

/// What a match is worth, in quarters of a byte: its length, less the bits of its distance.
#[inline(always)]
fn worth(found: Match) -> i32 {
    found.length as i32 * 4 - (found.dist | 1).ilog2() as i32
}

/// Parses from `start` until `end`, or somewhat past it when a match crosses it; returns where it stopped.
pub(super) fn parse<const WINDOW: usize, const HEADS: usize, const LAZY: u8>(
    finder: &mut Finder<WINDOW, HEADS>,
    effort: Effort,
    start: usize,
    end: usize,
    tokens: &mut Tokens,
) -> usize {
    tokens.sequences.clear();
    tokens.chunks.clear();
    let mut at = start;
    while at < end {
        let mut counts = Counts::new();
        at = chunk::<WINDOW, HEADS, LAZY>(finder, effort, at, end, &mut tokens.sequences, &mut counts);
        tokens.chunks.push(Chunk {
            sequences: tokens.sequences.len(),
            bytes: at - start,
            counts,
            cost: 0.0,
            gain: 0.0,
        });
    }
    at
}

#[inline(always)]
fn pays(found: Match, effort: Effort) -> bool {
    match found.length {
        0..MATCH_MIN => false,
        3 => found.dist <= effort.short_dist,
        4 => found.dist <= effort.four_dist,
        _ => true,
    }
}

#[inline(always)]
fn chunk<const WINDOW: usize, const HEADS: usize, const LAZY: u8>(
    finder: &mut Finder<WINDOW, HEADS>,
    effort: Effort,
    start: usize,
    end: usize,
    sequences: &mut Vec<Sequence>,
    counts: &mut Counts,
) -> usize {
    let mut at = start;
    let mut run_start = start;
    let mut tokens = 0;
    let nearer = Reach { depth: effort.reach.depth / 2, ..effort.reach };
    let nearest = Reach { depth: effort.reach.depth / 4, ..effort.reach };
    while at < end && tokens < CHUNK_TOKENS {
        tokens += 1;
        let mut best = finder.longest(at, 0, effort.reach);
        if !pays(best, effort) {
            counts.literal(finder.byte(at));
            at += 1;
            let skip = ((at - run_start) >> PATIENCE_SHIFT).min(SKIP_MAX).min(end - at);
            for _ in 0..skip {
                counts.literal(finder.byte(at));
                at += 1;
            }
            tokens += skip;
            continue;
        }
        // Where the positions that are remembered already end.
        let mut known = at + 1;
        if LAZY > 0 {
            while best.length < effort.reach.nice {
                let next = finder.longest(at + 1, best.length - 1, nearer);
                known = at + 2;
                if next.length > 0 && worth(next) > worth(best) + 2 {
                    counts.literal(finder.byte(at));
                    tokens += 1;
                    at += 1;
                    best = next;
                    continue;
                }
                if LAZY > 1 {
                    let after = finder.longest(at + 2, best.length - 1, nearest);
                    known = at + 3;
                    if after.length > 0 && worth(after) > worth(best) + 6 {
                        counts.literal(finder.byte(at));
                        counts.literal(finder.byte(at + 1));
                        tokens += 2;
                        at += 2;
                        best = after;
                        continue;
                    }
                }
                break;
            }
        }
        counts.pair(best.length, best.dist);
        sequences.push(Sequence {
            literals: (at - run_start) as u32,
            length: best.length as u16,
            dist: best.dist as u16,
        });
        at += best.length.min(MATCH_MAX);
        for position in known..at {
            finder.remember(position);
        }
        run_start = at;
    }
    if at > run_start {
        sequences.push(Sequence { literals: (at - run_start) as u32, length: 0, dist: 0 });
    }
    at
}
