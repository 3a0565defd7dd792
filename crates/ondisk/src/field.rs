//! Fixed-width integers at a byte position.

/// The little-endian `u16` at byte `at`; panics outside `buf` (see the crate documentation).
#[inline]
pub fn le_u16(buf: &[u8], at: usize) -> u16 {
    let mut raw = [0u8; 2];
    raw.copy_from_slice(&buf[at..at + 2]);
    u16::from_le_bytes(raw)
}

/// The little-endian `u16` at byte `at`, or `None` when it lies outside `buf`.
#[inline]
pub fn try_le_u16(buf: &[u8], at: usize) -> Option<u16> {
    let raw = buf.get(at..at.checked_add(2)?)?;
    Some(le_u16(raw, 0))
}

/// Stores `value` little-endian at byte `at`; panics outside `buf` (see the crate documentation).
#[inline]
pub fn put_le_u16(buf: &mut [u8], at: usize, value: u16) {
    buf[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

/// The little-endian `u32` at byte `at`; panics outside `buf` (see the crate documentation).
#[inline]
pub fn le_u32(buf: &[u8], at: usize) -> u32 {
    let mut raw = [0u8; 4];
    raw.copy_from_slice(&buf[at..at + 4]);
    u32::from_le_bytes(raw)
}

/// The little-endian `u32` at byte `at`, or `None` when it lies outside `buf`.
#[inline]
pub fn try_le_u32(buf: &[u8], at: usize) -> Option<u32> {
    let raw = buf.get(at..at.checked_add(4)?)?;
    Some(le_u32(raw, 0))
}

/// Stores `value` little-endian at byte `at`; panics outside `buf` (see the crate documentation).
#[inline]
pub fn put_le_u32(buf: &mut [u8], at: usize, value: u32) {
    buf[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// The little-endian `u64` at byte `at`; panics outside `buf` (see the crate documentation).
#[inline]
pub fn le_u64(buf: &[u8], at: usize) -> u64 {
    let mut raw = [0u8; 8];
    raw.copy_from_slice(&buf[at..at + 8]);
    u64::from_le_bytes(raw)
}

/// The little-endian `u64` at byte `at`, or `None` when it lies outside `buf`.
#[inline]
pub fn try_le_u64(buf: &[u8], at: usize) -> Option<u64> {
    let raw = buf.get(at..at.checked_add(8)?)?;
    Some(le_u64(raw, 0))
}

/// Stores `value` little-endian at byte `at`; panics outside `buf` (see the crate documentation).
#[inline]
pub fn put_le_u64(buf: &mut [u8], at: usize, value: u64) {
    buf[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// The big-endian `u16` at byte `at`; panics outside `buf` (see the crate documentation).
#[inline]
pub fn be_u16(buf: &[u8], at: usize) -> u16 {
    let mut raw = [0u8; 2];
    raw.copy_from_slice(&buf[at..at + 2]);
    u16::from_be_bytes(raw)
}

/// The big-endian `u16` at byte `at`, or `None` when it lies outside `buf`.
#[inline]
pub fn try_be_u16(buf: &[u8], at: usize) -> Option<u16> {
    let raw = buf.get(at..at.checked_add(2)?)?;
    Some(be_u16(raw, 0))
}

/// Stores `value` big-endian at byte `at`; panics outside `buf` (see the crate documentation).
#[inline]
pub fn put_be_u16(buf: &mut [u8], at: usize, value: u16) {
    buf[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// The big-endian `u32` at byte `at`; panics outside `buf` (see the crate documentation).
#[inline]
pub fn be_u32(buf: &[u8], at: usize) -> u32 {
    let mut raw = [0u8; 4];
    raw.copy_from_slice(&buf[at..at + 4]);
    u32::from_be_bytes(raw)
}

/// The big-endian `u32` at byte `at`, or `None` when it lies outside `buf`.
#[inline]
pub fn try_be_u32(buf: &[u8], at: usize) -> Option<u32> {
    let raw = buf.get(at..at.checked_add(4)?)?;
    Some(be_u32(raw, 0))
}

/// Stores `value` big-endian at byte `at`; panics outside `buf` (see the crate documentation).
#[inline]
pub fn put_be_u32(buf: &mut [u8], at: usize, value: u32) {
    buf[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

/// The big-endian `u64` at byte `at`; panics outside `buf` (see the crate documentation).
#[inline]
pub fn be_u64(buf: &[u8], at: usize) -> u64 {
    let mut raw = [0u8; 8];
    raw.copy_from_slice(&buf[at..at + 8]);
    u64::from_be_bytes(raw)
}

/// The big-endian `u64` at byte `at`, or `None` when it lies outside `buf`.
#[inline]
pub fn try_be_u64(buf: &[u8], at: usize) -> Option<u64> {
    let raw = buf.get(at..at.checked_add(8)?)?;
    Some(be_u64(raw, 0))
}

/// Stores `value` big-endian at byte `at`; panics outside `buf` (see the crate documentation).
#[inline]
pub fn put_be_u64(buf: &mut [u8], at: usize, value: u64) {
    buf[at..at + 8].copy_from_slice(&value.to_be_bytes());
}
