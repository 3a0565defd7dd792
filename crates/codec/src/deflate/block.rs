//! Writing one block in the form that costs least.

use super::bits::BitWriter;
use super::huffman::{Builder, codewords};
use super::tokens::{Counts, Sequence};
use crate::symbols::{
    DIST_BASE, DIST_EXTRA, DIST_SYMBOLS, END_OF_BLOCK, FIRST_LENGTH, LENGTH_BASE, LENGTH_CODE, LENGTH_EXTRA,
    LITLEN_SYMBOLS, MATCH_MAX, MATCH_MIN, PRE_ORDER, PRE_SYMBOLS, dist_code, fixed_litlen_lengths,
};

/// Longest code for literals and lengths. The format allows 15; with 14, four literals fit behind the seven bits
/// that may wait in the writer.
const LITLEN_LIMIT: u32 = 14;
const DIST_LIMIT: u32 = 15;
const PRE_LIMIT: u32 = 7;
/// Longest part of a stored block.
const STORED_MAX: usize = 65535;

/// Codes of one block and what building them needs.
pub(super) struct BlockWriter {
    builder: Builder,
    lengths: [u8; LITLEN_SYMBOLS + DIST_SYMBOLS],
    litlen: [u32; LITLEN_SYMBOLS],
    dist: [u32; DIST_SYMBOLS],
    /// Code and extra bits of each match length, their number in the top byte.
    pairs: [u32; 512],
    header: Header,
}

/// The code lengths of a dynamic block, run-length coded.
struct Header {
    litlen_len: usize,
    dist_len: usize,
    pre_len: usize,
    pre_lengths: [u8; PRE_SYMBOLS],
    /// Symbol, and extra bits above it.
    items: Vec<u16>,
    bits: u64,
}

impl BlockWriter {
    pub(super) fn new() -> Self {
        Self {
            builder: Builder::new(),
            lengths: [0; LITLEN_SYMBOLS + DIST_SYMBOLS],
            litlen: [0; LITLEN_SYMBOLS],
            dist: [0; DIST_SYMBOLS],
            pairs: [0; 512],
            header: Header {
                litlen_len: 0,
                dist_len: 0,
                pre_len: 0,
                pre_lengths: [0; PRE_SYMBOLS],
                items: Vec::new(),
                bits: 0,
            },
        }
    }

    /// Writes `bytes`, of which `sequences` is the parse and `counts` the count. `false` and nothing when the stream
    /// would get longer than `limit_bits`.
    pub(super) fn write(
        &mut self,
        writer: &mut BitWriter<'_>,
        bytes: &[u8],
        sequences: &[Sequence],
        counts: &mut Counts,
        last: bool,
        limit_bits: u64,
    ) -> bool {
        counts.litlen[END_OF_BLOCK] = 1;
        let Some(litlen_counts) = counts.litlen.first_chunk::<LITLEN_SYMBOLS>() else { return false };
        let (litlen_lengths, dist_lengths) = self.lengths.split_at_mut(LITLEN_SYMBOLS);
        self.builder.lengths(litlen_counts, LITLEN_LIMIT, litlen_lengths);
        self.builder.lengths(&counts.dist, DIST_LIMIT, dist_lengths);
        self.header.plan(&mut self.builder, litlen_lengths, dist_lengths);

        let extra = extra_bits(counts);
        let dynamic =
            self.header.bits + cost(litlen_counts, litlen_lengths) + cost(&counts.dist, dist_lengths) + extra;
        let fixed = 3 + cost(litlen_counts, &FIXED_LITLEN) + cost(&counts.dist, &[5; DIST_SYMBOLS]) + extra;
        let parts = bytes.len().div_ceil(STORED_MAX).max(1) as u64;
        let padding = (5 - writer.len_bits() as i64).rem_euclid(8) as u64;
        let stored = 3 + padding + 32 + (parts - 1) * 40 + bytes.len() as u64 * 8;

        let least = dynamic.min(fixed).min(stored);
        if writer.len_bits() + least > limit_bits {
            return false;
        }
        if least == stored {
            write_stored(writer, bytes, last);
        } else if least == fixed {
            writer.put(u64::from(last) | 1 << 1, 3);
            self.lengths[..LITLEN_SYMBOLS].copy_from_slice(&FIXED_LITLEN);
            self.lengths[LITLEN_SYMBOLS..].fill(5);
            self.write_symbols(writer, bytes, sequences);
        } else {
            writer.put(u64::from(last) | 2 << 1, 3);
            self.header.write(writer);
            self.write_symbols(writer, bytes, sequences);
        }
        true
    }

    fn write_symbols(&mut self, writer: &mut BitWriter<'_>, bytes: &[u8], sequences: &[Sequence]) {
        let (litlen_lengths, dist_lengths) = self.lengths.split_at(LITLEN_SYMBOLS);
        codewords(litlen_lengths, &mut self.litlen);
        codewords(dist_lengths, &mut self.dist);
        for (length, code) in LENGTH_CODE.iter().enumerate().take(MATCH_MAX + 1).skip(MATCH_MIN) {
            let code = usize::from(*code);
            let symbol = self.litlen[FIRST_LENGTH + code];
            let (bits, count) = (symbol & 0xff_ffff, symbol >> 24);
            let extra = (length - usize::from(LENGTH_BASE[code])) as u32;
            self.pairs[length] = bits | extra << count | (count + u32::from(LENGTH_EXTRA[code])) << 24;
        }
        let mut rest = bytes;
        for sequence in sequences {
            let Some((literals, behind)) = rest.split_at_checked(sequence.literals as usize) else { return };
            let (fours, few) = literals.as_chunks::<4>();
            for four in fours {
                for &byte in four {
                    let code = self.litlen[usize::from(byte)];
                    writer.add(u64::from(code & 0xff_ffff), code >> 24);
                }
                writer.flush();
            }
            if !few.is_empty() {
                for &byte in few {
                    let code = self.litlen[usize::from(byte)];
                    writer.add(u64::from(code & 0xff_ffff), code >> 24);
                }
                writer.flush();
            }
            if sequence.length > 0 {
                let pair = self.pairs[usize::from(sequence.length & 511)];
                writer.add(u64::from(pair & 0xff_ffff), pair >> 24);
                let dist = usize::from(sequence.dist);
                let code = dist_code(dist) & 31;
                let word = self.dist[code];
                writer.add(u64::from(word & 0xff_ffff), word >> 24);
                let extra = DIST_EXTRA_ROOM[code];
                writer.add((dist.wrapping_sub(1) as u64) & ((1 << extra) - 1), u32::from(extra));
                writer.flush();
            }
            rest = behind.get(usize::from(sequence.length)..).unwrap_or_default();
        }
        let end = self.litlen[END_OF_BLOCK];
        writer.put(u64::from(end & 0xff_ffff), end >> 24);
    }
}

static FIXED_LITLEN: [u8; LITLEN_SYMBOLS] = fixed_litlen_lengths();

/// [`DIST_EXTRA`] with two codes more, so that five bits are always an index. Bases less one are multiples of two to
/// the number of extra bits, so these are the low bits of the distance less one.
static DIST_EXTRA_ROOM: [u8; DIST_SYMBOLS] = {
    let mut room = [0; DIST_SYMBOLS];
    let mut code = 0;
    while code < DIST_EXTRA.len() {
        assert!((DIST_BASE[code] - 1) & ((1 << DIST_EXTRA[code]) - 1) == 0);
        room[code] = DIST_EXTRA[code];
        code += 1;
    }
    room
};

fn cost(counts: &[u32], lengths: &[u8]) -> u64 {
    counts
        .iter()
        .zip(lengths)
        .map(|(&count, &length)| count.wrapping_mul(u32::from(length)))
        .fold(0, u32::wrapping_add)
        .into()
}

fn extra_bits(counts: &Counts) -> u64 {
    let lengths = counts.litlen.get(FIRST_LENGTH..).unwrap_or_default();
    cost(lengths, &LENGTH_EXTRA) + cost(&counts.dist, &DIST_EXTRA)
}

fn write_stored(writer: &mut BitWriter<'_>, bytes: &[u8], last: bool) {
    let mut rest = bytes;
    loop {
        let (part, behind) = rest.split_at(rest.len().min(STORED_MAX));
        writer.put(u64::from(last && behind.is_empty()), 3);
        writer.align();
        let len = part.len() as u64;
        writer.put(len | (!len & 0xffff) << 16, 32);
        writer.bytes(part);
        rest = behind;
        if rest.is_empty() {
            return;
        }
    }
}

impl Header {
    /// Run-length codes both lists as one (RFC 1951, 3.2.7) and makes the code for that.
    fn plan(&mut self, builder: &mut Builder, litlen: &[u8], dist: &[u8]) {
        let used = |lengths: &[u8], least: usize| {
            lengths.iter().rposition(|length| *length > 0).map_or(0, |last| last + 1).max(least)
        };
        self.litlen_len = used(litlen, FIRST_LENGTH);
        self.dist_len = used(dist, 1);
        self.items.clear();
        let mut all = [0u8; LITLEN_SYMBOLS + DIST_SYMBOLS];
        let total = self.litlen_len + self.dist_len;
        let (first, second) = all.split_at_mut(self.litlen_len);
        for (to, from) in first.iter_mut().zip(litlen) {
            *to = *from;
        }
        for (to, from) in second.iter_mut().zip(dist.iter().take(self.dist_len)) {
            *to = *from;
        }
        let mut rest = all.get(..total).unwrap_or_default();
        while let Some((&length, _)) = rest.split_first() {
            let run = rest.iter().take_while(|other| **other == length).count();
            self.run(length, run);
            rest = rest.get(run..).unwrap_or_default();
        }
        let mut counts = [0u32; PRE_SYMBOLS];
        for item in &self.items {
            counts[usize::from(item & 31) % PRE_SYMBOLS] += 1;
        }
        builder.lengths(&counts, PRE_LIMIT, &mut self.pre_lengths);
        self.pre_len = PRE_ORDER
            .iter()
            .rposition(|symbol| self.pre_lengths[*symbol] > 0)
            .map_or(4, |last| (last + 1).max(4));
        let repeats = u64::from(counts[16]) * 2 + u64::from(counts[17]) * 3 + u64::from(counts[18]) * 7;
        // Kind of the block, three numbers, the code for code lengths, the code lengths.
        self.bits = 3 + 14 + 3 * self.pre_len as u64 + cost(&counts, &self.pre_lengths) + repeats;
    }

    fn run(&mut self, length: u8, mut run: usize) {
        if length == 0 {
            while run >= 11 {
                let part = run.min(138);
                self.items.push(18 | ((part - 11) as u16) << 5);
                run -= part;
            }
            if run >= 3 {
                self.items.push(17 | ((run - 3) as u16) << 5);
                run = 0;
            }
        } else if run >= 4 {
            self.items.push(length.into());
            run -= 1;
            while run >= 3 {
                // No rest of one or two that would have to be spelled out where a shorter part avoids it.
                let part = if run == 7 || run == 8 { run - 3 } else { run.min(6) };
                self.items.push(16 | ((part - 3) as u16) << 5);
                run -= part;
            }
        }
        self.items.extend(std::iter::repeat_n(u16::from(length), run));
    }

    fn write(&self, writer: &mut BitWriter<'_>) {
        writer.put((self.litlen_len - FIRST_LENGTH) as u64, 5);
        writer.put((self.dist_len - 1) as u64, 5);
        writer.put((self.pre_len - 4) as u64, 4);
        for &symbol in PRE_ORDER.iter().take(self.pre_len) {
            writer.put(self.pre_lengths[symbol].into(), 3);
        }
        let mut codes = [0; PRE_SYMBOLS];
        codewords(&self.pre_lengths, &mut codes);
        for item in &self.items {
            let symbol = usize::from(item & 31) % PRE_SYMBOLS;
            let extra = match symbol {
                16 => 2,
                17 => 3,
                18 => 7,
                _ => 0,
            };
            writer.add(u64::from(codes[symbol] & 0xff_ffff), codes[symbol] >> 24);
            writer.put(u64::from(item >> 5), extra);
        }
    }
}
