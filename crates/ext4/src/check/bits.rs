//! Bitmaps over blocks and inodes whose parts come into being when a bit in them is set.

/// Bits in one part.
const PART_BITS: u64 = 32_768;
const PART_WORDS: usize = (PART_BITS / 64) as usize;

/// A bitmap that costs memory only where bits are set.
pub(crate) struct SparseBits {
    parts: Vec<Option<Box<[u64; PART_WORDS]>>>,
}

impl SparseBits {
    /// All zero, for `bits` bits.
    pub(crate) fn new(bits: u64) -> Self {
        let parts = usize::try_from(bits.div_ceil(PART_BITS)).unwrap_or(usize::MAX);
        Self { parts: vec![None; parts] }
    }

    /// Sets a bit; `true` when it was set before. Bits past the end are ignored and count as set.
    pub(crate) fn set(&mut self, bit: u64) -> bool {
        let (part, word, mask) = Self::position(bit);
        let Some(slot) = self.parts.get_mut(part) else { return true };
        let words = slot.get_or_insert_with(|| Box::new([0; PART_WORDS]));
        let was = words[word] & mask != 0;
        words[word] |= mask;
        was
    }

    /// True when a bit is set.
    pub(crate) fn get(&self, bit: u64) -> bool {
        let (part, word, mask) = Self::position(bit);
        self.parts.get(part).and_then(Option::as_ref).is_some_and(|words| words[word] & mask != 0)
    }

    /// Number of bits set.
    pub(crate) fn count(&self) -> u64 {
        let ones =
            |words: &[u64; PART_WORDS]| words.iter().map(|word| u64::from(word.count_ones())).sum::<u64>();
        self.parts.iter().flatten().map(|part| ones(part)).sum()
    }

    fn position(bit: u64) -> (usize, usize, u64) {
        let part = usize::try_from(bit / PART_BITS).unwrap_or(usize::MAX);
        let within = bit % PART_BITS;
        (part, (within / 64) as usize, 1 << (within % 64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_kept_apart() {
        let mut bits = SparseBits::new(100_000);
        for bit in [0, 63, 64, 32_767, 32_768, 99_999] {
            assert!(!bits.get(bit));
            assert!(!bits.set(bit));
            assert!(bits.set(bit));
            assert!(bits.get(bit));
        }
        assert_eq!(bits.count(), 6);
        assert!(!bits.get(1) && !bits.get(65));
        assert!(bits.set(1 << 40), "past the end");
    }
}
