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

/// A match of three bytes costs more than three literals from farther away.
const SHORT_DIST: usize = 4096;

/// How one match is weighed against the next.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// The first match found is taken, and few positions within it are remembered.
    Sparse,
    /// The first match found is taken.
    Greedy,
    /// A better one is looked for at the next position, and again from there.
    Lazy,
    /// A better one is looked for at the next two positions.
    Lazier,
}

/// Effort of the parser.
#[derive(Clone, Copy)]
pub(super) struct Effort {
    pub(super) reach: Reach,
    /// How one match is weighed against the next.
    pub(super) style: Style,
    /// A match as long as this is taken without a look at the following positions.
    pub(super) good: usize,
}

const SPARSE: u8 = Style::Sparse as u8;
const LAZY: u8 = Style::Lazy as u8;
const LAZIER: u8 = Style::Lazier as u8;

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
pub(super) fn parse<const WINDOW: usize, const HEADS: usize>(
    finder: &mut Finder<WINDOW, HEADS>,
    effort: Effort,
    start: usize,
    end: usize,
    tokens: &mut Tokens,
) -> usize {
    const GREEDY: u8 = Style::Greedy as u8;
    match effort.style {
        Style::Sparse => parse_as::<WINDOW, HEADS, SPARSE>(finder, effort, start, end, tokens),
        Style::Greedy => parse_as::<WINDOW, HEADS, GREEDY>(finder, effort, start, end, tokens),
        Style::Lazy => parse_as::<WINDOW, HEADS, LAZY>(finder, effort, start, end, tokens),
        Style::Lazier => parse_as::<WINDOW, HEADS, LAZIER>(finder, effort, start, end, tokens),
    }
}

fn parse_as<const WINDOW: usize, const HEADS: usize, const STYLE: u8>(
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
        at = chunk::<WINDOW, HEADS, STYLE>(finder, effort, at, end, &mut tokens.sequences, &mut counts);
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
fn pays(found: Match) -> bool {
    found.length > MATCH_MIN || found.length == MATCH_MIN && found.dist <= SHORT_DIST
}

#[inline(always)]
fn chunk<const WINDOW: usize, const HEADS: usize, const STYLE: u8>(
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
        tokens = tokens.wrapping_add(1);
        let mut best = finder.longest(at, 0, effort.reach);
        if !pays(best) {
            counts.literal(finder.byte(at));
            at = at.wrapping_add(1);
            let skip = (at.wrapping_sub(run_start) >> PATIENCE_SHIFT).min(SKIP_MAX).min(end.wrapping_sub(at));
            for _ in 0..skip {
                counts.literal(finder.byte(at));
                at = at.wrapping_add(1);
            }
            tokens = tokens.wrapping_add(skip);
            continue;
        }
        // Where the positions that are remembered already end.
        let mut known = at.wrapping_add(1);
        if STYLE >= LAZY {
            while best.length < effort.good {
                let next = finder.longest(at.wrapping_add(1), best.length.wrapping_sub(1), nearer);
                known = at.wrapping_add(2);
                if next.length > 0 && worth(next) > worth(best) + 2 {
                    counts.literal(finder.byte(at));
                    tokens = tokens.wrapping_add(1);
                    at = at.wrapping_add(1);
                    best = next;
                    continue;
                }
                if STYLE >= LAZIER {
                    let after = finder.longest(at.wrapping_add(2), best.length.wrapping_sub(1), nearest);
                    known = at.wrapping_add(3);
                    if after.length > 0 && worth(after) > worth(best) + 6 {
                        counts.literal(finder.byte(at));
                        counts.literal(finder.byte(at.wrapping_add(1)));
                        tokens = tokens.wrapping_add(2);
                        at = at.wrapping_add(2);
                        best = after;
                        continue;
                    }
                }
                break;
            }
        }
        counts.pair(best.length, best.dist);
        sequences.push(Sequence {
            literals: at.wrapping_sub(run_start) as u32,
            length: best.length as u16,
            dist: best.dist as u16,
        });
        at = at.wrapping_add(best.length.min(MATCH_MAX));
        if STYLE == SPARSE {
            known = known.max(at.wrapping_sub(2));
        }
        for position in known..at {
            finder.remember(position);
        }
        run_start = at;
    }
    if at > run_start {
        sequences.push(Sequence { literals: at.wrapping_sub(run_start) as u32, length: 0, dist: 0 });
    }
    at
}
