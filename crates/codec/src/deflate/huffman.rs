//! Optimal prefix codes of bounded length.

/// Most symbols of one code.
const SYMBOLS_MAX: usize = 288;
/// Low bits of a sort key: the symbol.
const SYMBOL_BITS: u32 = 9;
const SYMBOL_MASK: u32 = (1 << SYMBOL_BITS) - 1;
/// Greatest depth that is counted; deeper trees go to package-merge in any case.
const DEPTHS: usize = 64;

/// Memory that building codes needs, kept from block to block.
pub(super) struct Builder {
    keys: Vec<u32>,
    spare: Vec<u32>,
    weights: Vec<u32>,
    parents: Vec<u16>,
}

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            keys: Vec::with_capacity(SYMBOLS_MAX),
            spare: Vec::with_capacity(SYMBOLS_MAX),
            weights: Vec::with_capacity(2 * SYMBOLS_MAX),
            parents: Vec::with_capacity(2 * SYMBOLS_MAX),
        }
    }

    /// Code lengths of least total cost, none above `limit`; 0 for symbols that do not occur. Two symbols at least
    /// get a code, since some readers want a complete one.
    pub(super) fn lengths(&mut self, counts: &[u32], limit: u32, lengths: &mut [u8]) {
        lengths.fill(0);
        self.keys.clear();
        self.keys.extend(
            (0u32..)
                .zip(counts)
                .filter(|&(_, &count)| count > 0)
                .map(|(symbol, &count)| count << SYMBOL_BITS | symbol),
        );
        if self.keys.len() < 2 {
            let only = self.keys.first().map_or(0, |key| (key & SYMBOL_MASK) as usize);
            let other = usize::from(only == 0);
            for symbol in [only, other] {
                if let Some(length) = lengths.get_mut(symbol) {
                    *length = 1;
                }
            }
            return;
        }
        self.sort_keys();
        let mut per_length = [0u32; DEPTHS];
        let depth = self.tree_depths(&mut per_length);
        if depth > limit {
            package_merge(&self.keys, limit, &mut per_length);
        }
        // Rare symbols come first, so they take the longest codes.
        let mut keys = self.keys.iter();
        for (length, count) in (0..DEPTHS as u8).zip(per_length).rev() {
            for key in keys.by_ref().take(count as usize) {
                if let Some(place) = lengths.get_mut((key & SYMBOL_MASK) as usize) {
                    *place = length;
                }
            }
        }
    }

    /// Sorts by count, then symbol. Keys arrive by symbol, and most counts are small: these are put in order by
    /// counting, which keeps the order of symbols.
    fn sort_keys(&mut self) {
        const SMALL: usize = 64;
        let mut starts = [0u32; SMALL + 1];
        for key in &self.keys {
            let bucket = ((key >> SYMBOL_BITS) as usize).min(SMALL);
            starts[bucket] += 1;
        }
        let mut next = 0;
        for start in &mut starts {
            next += std::mem::replace(start, next);
        }
        let large = starts[SMALL] as usize;
        self.spare.clear();
        self.spare.resize(self.keys.len(), 0);
        for &key in &self.keys {
            let bucket = ((key >> SYMBOL_BITS) as usize).min(SMALL);
            let to = starts[bucket];
            starts[bucket] += 1;
            if let Some(place) = self.spare.get_mut(to as usize) {
                *place = key;
            }
        }
        std::mem::swap(&mut self.keys, &mut self.spare);
        if let Some(tail) = self.keys.get_mut(large..) {
            tail.sort_unstable();
        }
    }

    /// Huffman's tree over sorted keys by two queues; counts leaves by depth and returns the greatest.
    fn tree_depths(&mut self, per_length: &mut [u32; DEPTHS]) -> u32 {
        let leaves = self.keys.len();
        let nodes = 2 * leaves - 1;
        self.weights.clear();
        self.weights.extend(self.keys.iter().map(|key| key >> SYMBOL_BITS));
        self.weights.push(u32::MAX);
        self.parents.clear();
        self.parents.resize(nodes, 0);
        // Inner nodes are made with rising weights: a queue of their own behind the leaves. The sentinel between
        // both queues ends the leaves.
        let (mut leaf, mut inner) = (0, leaves + 1);
        let weights = &mut self.weights;
        for node in leaves..nodes {
            let mut sum = 0u32;
            for _ in 0..2 {
                let leaf_weight = weights.get(leaf).copied().unwrap_or(u32::MAX);
                let inner_weight = weights.get(inner).copied().unwrap_or(u32::MAX);
                let child = if leaf_weight <= inner_weight {
                    leaf += 1;
                    leaf - 1
                } else {
                    inner += 1;
                    inner - 2
                };
                sum = sum.wrapping_add(leaf_weight.min(inner_weight));
                if let Some(parent) = self.parents.get_mut(child) {
                    *parent = node as u16;
                }
            }
            weights.push(sum);
        }
        // Depths from the root down take the weights' place.
        let depths = weights;
        if let Some(root) = depths.get_mut(nodes - 1) {
            *root = 0;
        }
        let mut greatest = 0;
        for node in (0..nodes - 1).rev() {
            let parent = usize::from(self.parents[node]);
            let depth = depths[parent] + 1;
            depths[node] = depth;
            if node < leaves {
                per_length[(depth as usize).min(DEPTHS - 1)] += 1;
                greatest = greatest.max(depth);
            }
        }
        greatest
    }
}

/// Larmore and Hirschberg's coin collector: which leaves take part at each of `limit` levels.
fn package_merge(keys: &[u32], limit: u32, per_length: &mut [u32; DEPTHS]) {
    let leaves: Vec<u64> = keys.iter().map(|key| u64::from(key >> SYMBOL_BITS)).collect();
    let mut lists: Vec<Vec<(u64, bool)>> = Vec::new();
    for _ in 0..limit {
        let packages: Vec<u64> = lists
            .last()
            .map(|below| below.chunks_exact(2).map(|pair| pair.iter().map(|item| item.0).sum()).collect())
            .unwrap_or_default();
        let (mut a, mut b) = (leaves.iter().peekable(), packages.iter().peekable());
        let mut merged = Vec::with_capacity(leaves.len() + packages.len());
        loop {
            match (a.peek(), b.peek()) {
                (Some(leaf), Some(package)) if leaf <= package => merged.extend(a.next().map(|w| (*w, true))),
                (Some(_), None) => merged.extend(a.next().map(|w| (*w, true))),
                (_, Some(_)) => merged.extend(b.next().map(|w| (*w, false))),
                (None, None) => break,
            }
        }
        lists.push(merged);
    }
    // Each leaf taken at a level makes its code one bit longer; leaves are taken from the lightest on.
    per_length.fill(0);
    let mut take = 2 * leaves.len() - 2;
    let mut longer = Vec::new();
    for list in lists.iter().rev() {
        let taken = list.iter().take(take).filter(|item| item.1).count();
        longer.push(taken);
        take = 2 * (take - taken);
    }
    // `longer` falls: so many leaves have at least 1, 2, ... bits.
    for (index, &at_least) in longer.iter().enumerate() {
        let more = longer.get(index + 1).copied().unwrap_or(0);
        per_length[index + 1] = (at_least - more) as u32;
    }
}

/// Canonical codes (RFC 1951, 3.2.2), bits reversed as the stream wants them; length in the top byte.
pub(super) fn codewords(lengths: &[u8], codes: &mut [u32]) {
    let mut per_length = [0u32; 16];
    for &length in lengths {
        per_length[usize::from(length & 15)] += 1;
    }
    per_length[0] = 0;
    let mut next = [0u32; 16];
    for length in 1..16 {
        next[length] = (next[length - 1] + per_length[length - 1]) << 1;
    }
    for (&length, code) in lengths.iter().zip(codes) {
        let place = &mut next[usize::from(length & 15)];
        *code = if length == 0 {
            0
        } else {
            u32::from((*place as u16).reverse_bits()) >> (16 - u32::from(length)) | u32::from(length) << 24
        };
        *place += 1;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;

    fn kraft(lengths: &[u8]) -> u64 {
        lengths.iter().filter(|length| **length > 0).map(|length| 1 << (32 - u32::from(*length))).sum()
    }

    #[test]
    fn codes_are_complete_bounded_and_no_shorter_ones_are_cheaper() {
        let mut builder = Builder::new();
        let mut state = 1u32;
        for round in 0..400 {
            let symbols = 2 + round % 285;
            let counts: Vec<u32> = (0..symbols)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    1 + (state >> 16) % (1 << (state >> 8 & 15))
                })
                .collect();
            let mut free = vec![0; symbols];
            builder.lengths(&counts, 40, &mut free);
            assert_eq!(kraft(&free), 1 << 32);
            let cost = |lengths: &[u8]| -> u64 {
                lengths
                    .iter()
                    .zip(&counts)
                    .map(|(length, count)| u64::from(*length) * u64::from(*count))
                    .sum()
            };
            let mut bounded = vec![0; symbols];
            builder.lengths(&counts, 9, &mut bounded);
            assert_eq!(kraft(&bounded), 1 << 32);
            assert!(bounded.iter().all(|length| *length <= 9));
            // Package-merge without a bound that counts gives what Huffman's tree gives.
            let mut keys: Vec<u32> = counts
                .iter()
                .enumerate()
                .map(|(symbol, count)| count << SYMBOL_BITS | symbol as u32)
                .collect();
            keys.sort_unstable();
            let mut per_length = [0; DEPTHS];
            package_merge(&keys, 40, &mut per_length);
            let merged: u64 = {
                let mut keys = keys.iter();
                (0..DEPTHS)
                    .rev()
                    .map(|length| {
                        let taken = keys.by_ref().take(per_length[length] as usize);
                        taken.map(|key| u64::from(key >> SYMBOL_BITS) * length as u64).sum::<u64>()
                    })
                    .sum()
            };
            assert_eq!(merged, cost(&free));
            assert!(cost(&bounded) >= cost(&free));
        }
    }

    #[test]
    fn fibonacci_counts_meet_the_bound() {
        let mut counts = vec![1u32, 1];
        for at in 2..24 {
            counts.push(counts[at - 1] + counts[at - 2]);
        }
        let mut lengths = vec![0; counts.len()];
        let mut builder = Builder::new();
        builder.lengths(&counts, 32, &mut lengths);
        assert_eq!(*lengths.iter().max().unwrap(), 23);
        builder.lengths(&counts, 7, &mut lengths);
        assert_eq!(*lengths.iter().max().unwrap(), 7);
        assert_eq!(kraft(&lengths), 1 << 32);
    }

    #[test]
    fn one_symbol_or_none_still_makes_a_complete_code() {
        let mut builder = Builder::new();
        for counts in [[0u32, 0, 0], [5, 0, 0], [0, 0, 9]] {
            let mut lengths = [7; 3];
            builder.lengths(&counts, 15, &mut lengths);
            assert_eq!(kraft(&lengths), 1 << 32);
        }
    }
}
