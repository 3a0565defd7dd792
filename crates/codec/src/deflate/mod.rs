//! A deflate encoder for whole clusters (RFC 1951, raw).
//!
//! The input is known as a whole, so nothing waits for more of it: [`parse`] cuts a segment of up to 64 KiB into
//! literals and matches that [`window`] finds, [`split`] joins what these have in common into blocks, [`block`]
//! writes each in the form that costs least with codes from [`huffman`].

mod bits;
mod block;
mod huffman;
mod parse;
mod split;
mod tokens;
mod window;

use bits::BitWriter;
use block::BlockWriter;
use parse::{Effort, Style, Tokens, parse};
use window::{Finder, LOOKAHEAD, Reach};

use crate::algorithm::{Window, ZlibLevel};

/// Changes whenever the same input gives other bytes.
pub(crate) const VERSION: u32 = 1;

/// One encoder; its tables are reused, what it encoded before never shows.
pub(crate) struct Deflate {
    effort: Effort,
    finder: AnyFinder,
    tokens: Tokens,
    blocks: Vec<usize>,
    writer: BlockWriter,
}

enum AnyFinder {
    Strict(Finder<4096, 16384>),
    Wide(Finder<32768, 32768>),
}

impl Deflate {
    pub(crate) fn new(level: ZlibLevel, window: Window, fast: bool) -> Self {
        let finder = match window {
            Window::Strict => AnyFinder::Strict(Finder::new()),
            Window::Wide => AnyFinder::Wide(Finder::new()),
        };
        Self {
            effort: effort(level, fast),
            finder,
            tokens: Tokens::new(),
            blocks: Vec::new(),
            writer: BlockWriter::new(),
        }
    }

    /// Writes the stream to `out` and returns its length, or `None` when it would not be shorter than `input`.
    pub(crate) fn encode(&mut self, input: &[u8], out: &mut [u8]) -> Option<usize> {
        let Self { effort, finder, tokens, blocks, writer } = self;
        let mut stream = Stream { effort: *effort, tokens, blocks, writer };
        match finder {
            AnyFinder::Strict(finder) => stream.encode(finder, input, out),
            AnyFinder::Wide(finder) => stream.encode(finder, input, out),
        }
    }
}

struct Stream<'a> {
    effort: Effort,
    tokens: &'a mut Tokens,
    blocks: &'a mut Vec<usize>,
    writer: &'a mut BlockWriter,
}

impl Stream<'_> {
    fn encode<const WINDOW: usize, const HEADS: usize>(
        &mut self,
        finder: &mut Finder<WINDOW, HEADS>,
        input: &[u8],
        out: &mut [u8],
    ) -> Option<usize> {
        let limit_bits = (input.len() as u64).checked_sub(1)? * 8;
        let mut out = BitWriter::new(out);
        let mut taken = finder.start(input);
        let (mut at, mut done) = (0, 0);
        loop {
            let more = input.get(taken..)?;
            let last = more.is_empty();
            let end = if last { finder.filled() } else { finder.filled() - LOOKAHEAD };
            let stop = parse(finder, self.effort, at, end, self.tokens);
            let segment = input.get(done..done + (stop - at))?;
            self.write_segment(&mut out, segment, last, limit_bits)?;
            done += stop - at;
            if last {
                return out.finish();
            }
            let (shift, added) = finder.advance(stop, more);
            at = stop - shift;
            taken += added;
        }
    }

    fn write_segment(
        &mut self,
        out: &mut BitWriter<'_>,
        bytes: &[u8],
        last: bool,
        limit_bits: u64,
    ) -> Option<()> {
        let Tokens { sequences, chunks } = &mut *self.tokens;
        split::join(chunks, self.blocks);
        let (mut from, mut byte) = (0, 0);
        for (number, &block) in self.blocks.iter().enumerate() {
            let chunk = chunks.get_mut(block)?;
            let last = last && number + 1 == self.blocks.len();
            let (parse, part) = (sequences.get(from..chunk.sequences)?, bytes.get(byte..chunk.bytes)?);
            if !self.writer.write(out, part, parse, &mut chunk.counts, last, limit_bits) {
                return None;
            }
            (from, byte) = (chunk.sequences, chunk.bytes);
        }
        Some(())
    }
}

/// Levels by what was measured on clusters of real files, see `docs/performance.md`.
fn effort(level: ZlibLevel, fast: bool) -> Effort {
    let of = |style, depth, nice, good| Effort { style, reach: Reach { depth, nice }, good };
    if fast {
        return of(Style::Sparse, 1, 16, 0);
    }
    match level.get() {
        1 => of(Style::Greedy, 2, 24, 0),
        2 => of(Style::Greedy, 4, 24, 0),
        3 => of(Style::Greedy, 8, 40, 0),
        4 => of(Style::Greedy, 16, 60, 0),
        5 => of(Style::Lazy, 5, 24, 12),
        6 => of(Style::Lazy, 10, 40, 20),
        7 => of(Style::Lazy, 24, 100, 32),
        8 => of(Style::Lazier, 60, 130, 60),
        _ => of(Style::Lazier, 400, 258, 258),
    }
}
