//! Where one block ends and the next begins.
//!
//! Each chunk begins as a block of its own. Neighbours are joined, the pair that saves most first, as long as one
//! code for both with one header costs less than two: estimated by the entropy of the counts.

use super::tokens::{Chunk, Counts};

/// Bits of a block's header beside the code lengths.
const HEADER_BITS: f32 = 70.0;
/// Bits of a header for each symbol that occurs.
const SYMBOL_BITS: f32 = 3.2;

/// Bits that the symbols cost by their entropy, with a header.
fn bits<const N: usize>(counts: &[u32; N]) -> f32 {
    const LANES: usize = 8;
    let (mut plogp, mut total, mut used) = ([0f32; LANES], [0i32; LANES], [0i32; LANES]);
    for part in counts.as_chunks::<LANES>().0 {
        for lane in 0..LANES {
            let count = part[lane] as i32;
            plogp[lane] += count as f32 * log2(count);
            total[lane] = total[lane].wrapping_add(count);
            used[lane] = used[lane].wrapping_add(i32::from(count > 0));
        }
    }
    let total = total.iter().sum::<i32>();
    total as f32 * log2(total) - plogp.iter().sum::<f32>() + SYMBOL_BITS * used.iter().sum::<i32>() as f32
}

/// Binary logarithm to within 0.01: a number's exponent, and a parabola for the mantissa.
#[inline(always)]
fn log2(count: i32) -> f32 {
    let bits = (count as f32).to_bits();
    let mantissa = (bits & 0x7f_ffff) as i32 as f32 * (1.0 / 8_388_608.0);
    let exponent = (bits >> 23) as i32 as f32 - 127.0;
    exponent + mantissa + 0.346 * mantissa * (1.0 - mantissa)
}

fn cost(counts: &Counts) -> f32 {
    HEADER_BITS + bits(&counts.litlen) + bits(&counts.dist)
}

fn gain(left: &Chunk, right: &Chunk) -> f32 {
    let mut both = left.counts.clone();
    both.add(&right.counts);
    left.cost + right.cost - cost(&both)
}

/// Joins chunks; those whose numbers stay in `blocks` are the blocks.
pub(super) fn join(chunks: &mut [Chunk], blocks: &mut Vec<usize>) {
    blocks.clear();
    blocks.extend(0..chunks.len());
    for chunk in chunks.iter_mut() {
        chunk.cost = cost(&chunk.counts);
    }
    for left in 1..chunks.len() {
        chunks[left - 1].gain = gain(&chunks[left - 1], &chunks[left]);
    }
    while blocks.len() > 1 {
        let candidates = blocks[..blocks.len() - 1].iter().enumerate();
        let Some((place, gained)) = candidates
            .map(|(place, &left)| (place, chunks[left].gain))
            .reduce(|best, other| if other.1 > best.1 { other } else { best })
        else {
            break;
        };
        if gained <= 0.0 {
            break;
        }
        let (left, right) = (blocks[place], blocks[place + 1]);
        blocks.remove(place + 1);
        let (head, tail) = chunks.split_at_mut(right);
        let (into, from) = (&mut head[left], &tail[0]);
        into.counts.add(&from.counts);
        into.cost = into.cost + from.cost - gained;
        into.sequences = from.sequences;
        into.bytes = from.bytes;
        if let Some(&next) = blocks.get(place + 1) {
            chunks[left].gain = gain(&chunks[left], &chunks[next]);
        }
        if place > 0 {
            let before = blocks[place - 1];
            chunks[before].gain = gain(&chunks[before], &chunks[left]);
        }
    }
}
