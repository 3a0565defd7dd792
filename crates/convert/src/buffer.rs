//! Buffers for O_DIRECT: aligned without unsafe code, and used again.

use std::sync::{Mutex, PoisonError};

/// Alignment that every O_DIRECT target accepts (a page).
pub(crate) const ALIGN: usize = 4096;

/// Bytes that begin at a multiple of [`ALIGN`] in memory: a larger vector, used from an aligned place on.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Buffer {
    /// `len` bytes of zero.
    pub fn new(len: usize) -> Self {
        let bytes = vec![0; len + ALIGN];
        let start = bytes.as_ptr().align_offset(ALIGN);
        // An address that cannot be aligned would cost O_DIRECT, not correctness.
        let start = if start > ALIGN { 0 } else { start };
        Self { bytes, start, len }
    }

    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(self.start..self.start + self.len).unwrap_or_default()
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start..self.start + self.len).unwrap_or_default()
    }
}

/// Buffers of one size that are not in use.
#[derive(Debug)]
pub(crate) struct Pool {
    len: usize,
    free: Mutex<Vec<Buffer>>,
}

impl Pool {
    pub fn new(len: usize) -> Self {
        Self { len, free: Mutex::default() }
    }

    /// A buffer with whatever it held before.
    pub fn take(&self) -> Buffer {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        free.unwrap_or_else(|| Buffer::new(self.len))
    }

    pub fn put(&self, buffer: Buffer) {
        if buffer.len == self.len {
            self.free.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
        }
    }
}
