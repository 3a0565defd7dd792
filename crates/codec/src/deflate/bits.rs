//! Writing bits, lowest first.

/// Bits gather in 64 and go out eight bytes at a time. The caller sees to it that `out` has room: what does
/// not fit is dropped and [`BitWriter::finish`] says so.
pub(super) struct BitWriter<'a> {
    out: &'a mut [u8],
    at: usize,
    bits: u64,
    count: u32,
}

impl<'a> BitWriter<'a> {
    pub(super) fn new(out: &'a mut [u8]) -> Self {
        Self { out, at: 0, bits: 0, count: 0 }
    }

    /// Adds `count` bits; at most 63 may gather between two calls of [`BitWriter::flush`], 56 of them after it.
    #[inline(always)]
    pub(super) fn add(&mut self, bits: u64, count: u32) {
        self.bits |= bits << (self.count & 63);
        self.count = self.count.wrapping_add(count);
    }

    /// Moves whole bytes out; at most 7 bits stay.
    #[inline(always)]
    pub(super) fn flush(&mut self) {
        let at = self.at;
        if let Some(room) = self.out.get_mut(at..at.wrapping_add(8)) {
            room.copy_from_slice(&self.bits.to_le_bytes());
        }
        let whole = self.count >> 3;
        self.at = at.wrapping_add(whole as usize);
        self.bits = self.bits.wrapping_shr(whole << 3 & 63);
        self.count &= 7;
    }

    pub(super) fn put(&mut self, bits: u64, count: u32) {
        self.add(bits, count);
        self.flush();
    }

    /// Fills the last byte with zero bits.
    pub(super) fn align(&mut self) {
        self.count = self.count.next_multiple_of(8);
        self.flush();
    }

    /// Copies whole bytes; only after [`BitWriter::align`].
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        if let Some(room) = self.out.get_mut(self.at..self.at + bytes.len()) {
            room.copy_from_slice(bytes);
        }
        self.at += bytes.len();
    }

    /// Bits written so far.
    pub(super) fn len_bits(&self) -> u64 {
        self.at as u64 * 8 + u64::from(self.count)
    }

    /// Bytes of the stream; `None` when they did not fit.
    pub(super) fn finish(mut self) -> Option<usize> {
        self.align();
        // Whole words are written, so the last bytes before the end count as no room.
        (self.at + 8 <= self.out.len()).then_some(self.at)
    }
}
