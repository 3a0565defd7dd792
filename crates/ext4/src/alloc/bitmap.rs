//! Bits of one group.

/// A bitmap of a whole block, of which the first bits mean something.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Bitmap {
    bytes: Vec<u8>,
    bits: u32,
    is_dirty: bool,
}

impl Bitmap {
    /// Takes the bytes of a block; `bits` of them mean something.
    pub(crate) fn new(bytes: Vec<u8>, bits: u32) -> Self {
        let bits = bits.min(u32::try_from(bytes.len() * 8).unwrap_or(u32::MAX));
        Self { bytes, bits, is_dirty: false }
    }

    /// A bitmap in which all bits past `bits` are set, as padding must be.
    pub(crate) fn empty(block_bytes: usize, bits: u32) -> Self {
        let mut map = Self::new(vec![0; block_bytes], bits);
        map.fill_padding();
        map.is_dirty = true;
        map
    }

    fn fill_padding(&mut self) {
        let bits = self.bits as usize;
        if let Some(partial) = self.bytes.get_mut(bits / 8) {
            *partial |= !0u8 << (bits % 8);
        }
        let next = bits / 8 + 1;
        if let Some(rest) = self.bytes.get_mut(next..) {
            rest.fill(0xff);
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn is_dirty(&self) -> bool {
        self.is_dirty
    }

    pub(crate) fn set_clean(&mut self) {
        self.is_dirty = false;
    }

    /// Bits past the end count as set.
    pub(crate) fn get(&self, bit: u32) -> bool {
        bit >= self.bits || self.bytes.get(bit as usize / 8).is_none_or(|byte| byte >> (bit % 8) & 1 == 1)
    }

    pub(crate) fn set(&mut self, bit: u32, value: bool) {
        if bit < self.bits
            && let Some(byte) = self.bytes.get_mut(bit as usize / 8)
        {
            let mask = 1u8 << (bit % 8);
            if value {
                *byte |= mask
            } else {
                *byte &= !mask
            }
            self.is_dirty = true;
        }
    }

    /// True when every bit of the range has `value`.
    pub(crate) fn all(&self, start: u32, end: u32, value: bool) -> bool {
        (start..end).all(|bit| self.get(bit) == value)
    }

    pub(crate) fn set_range(&mut self, start: u32, end: u32, value: bool) {
        for bit in start..end {
            self.set(bit, value);
        }
    }

    /// Clear bits.
    pub(crate) fn free(&self) -> u32 {
        let whole = self.bits as usize / 8;
        let ones: u32 = self.bytes.iter().take(whole).map(|byte| byte.count_ones()).sum();
        let rest = (whole as u32 * 8..self.bits).filter(|bit| self.get(*bit)).count() as u32;
        self.bits - ones - rest
    }

    /// First clear bit from `from` on.
    pub(crate) fn first_free(&self, from: u32) -> Option<u32> {
        let mut bit = from;
        while bit < self.bits {
            if bit.is_multiple_of(8) && self.bytes.get(bit as usize / 8) == Some(&0xff) {
                bit += 8;
            } else if self.get(bit) {
                bit += 1;
            } else {
                return Some(bit);
            }
        }
        None
    }

    /// Clear bits from `start` on, counted up to `most`.
    pub(crate) fn run_len(&self, start: u32, most: u32) -> u32 {
        let end = self.bits.min(start.saturating_add(most));
        let mut bit = start;
        while bit < end {
            if bit.is_multiple_of(8) && bit + 8 <= end && self.bytes.get(bit as usize / 8) == Some(&0) {
                bit += 8;
            } else if self.get(bit) {
                break;
            } else {
                bit += 1;
            }
        }
        bit - start
    }

    /// First run of at least `wanted` clear bits from `from` on, or the longest run; with its length.
    pub(crate) fn find_run(&self, from: u32, wanted: u32) -> Option<(u32, u32)> {
        let mut best: Option<(u32, u32)> = None;
        let mut at = from;
        while let Some(start) = self.first_free(at) {
            let len = self.run_len(start, u32::MAX);
            if best.is_none_or(|(_, longest)| len > longest) {
                best = Some((start, len));
            }
            if len >= wanted {
                return Some((start, len));
            }
            at = start + len;
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_and_padding() {
        let mut map = Bitmap::empty(8, 37);
        assert_eq!((map.free(), map.bytes()[4], map.bytes()[5]), (37, 0b1110_0000, 0xff));
        map.set_range(3, 20, true);
        assert_eq!(map.free(), 20);
        assert_eq!(map.find_run(0, 3), Some((0, 3)));
        assert_eq!(map.find_run(0, 4), Some((20, 17)));
        assert_eq!(map.find_run(0, 100), Some((20, 17)));
        assert_eq!(map.first_free(3), Some(20));
        assert_eq!(map.run_len(20, 5), 5);
        assert!(map.get(37) && map.all(0, 3, false) && !map.all(2, 4, true));
        map.set(40, false);
        assert_eq!(map.bytes()[5], 0xff);
    }
}
