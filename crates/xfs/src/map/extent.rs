//! An extent in 128 bits: unwritten 1, file block 54, filesystem block 52, count 21 bits.

use ondisk::{be_u64, put_be_u64};

/// Most blocks of one extent.
pub(crate) const MAX_EXTENT_BLOCKS: u64 = (1 << 21) - 1;
/// End of what a file can map.
pub(crate) const MAX_FILE_BLOCK: u64 = 1 << 54;

/// A run of blocks of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    /// First file block.
    pub offset: u64,
    /// First filesystem block.
    pub block: u64,
    /// Blocks.
    pub len: u64,
    /// Reads as zero.
    pub is_unwritten: bool,
}

impl Extent {
    pub(crate) fn decode(raw: &[u8]) -> Self {
        let (high, low) = (be_u64(raw, 0), be_u64(raw, 8));
        Self {
            offset: high >> 9 & ((1 << 54) - 1),
            block: (high & 0x1ff) << 43 | low >> 21,
            len: low & MAX_EXTENT_BLOCKS,
            is_unwritten: high >> 63 != 0,
        }
    }

    pub(crate) fn encode(&self, raw: &mut [u8]) {
        let high = u64::from(self.is_unwritten) << 63 | self.offset << 9 | self.block >> 43;
        put_be_u64(raw, 0, high);
        put_be_u64(raw, 8, self.block << 21 | self.len);
    }

    /// File block behind it.
    pub(crate) fn end(&self) -> u64 {
        self.offset + self.len
    }

    /// The part of it in `start..end` of the file, if any.
    pub(crate) fn cut(&self, start: u64, end: u64) -> Option<Self> {
        let (from, to) = (self.offset.max(start), self.end().min(end));
        (from < to).then(|| Self {
            offset: from,
            block: self.block + (from - self.offset),
            len: to - from,
            is_unwritten: self.is_unwritten,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_where_the_format_says() {
        let extent = Extent {
            offset: (1 << 54) - 1,
            block: (1 << 52) - 3,
            len: MAX_EXTENT_BLOCKS,
            is_unwritten: true,
        };
        let mut raw = [0; 16];
        extent.encode(&mut raw);
        assert_eq!(Extent::decode(&raw), extent);
        assert_eq!(be_u64(&raw, 0) >> 63, 1);
        let small = Extent { offset: 1, block: 2, len: 3, is_unwritten: false };
        small.encode(&mut raw);
        assert_eq!(be_u64(&raw, 0), 1 << 9);
        assert_eq!(be_u64(&raw, 8), 2 << 21 | 3);
    }
}
