//! Endian field access, checksums and identifiers: pure functions without I/O.
//!
//! Field readers come in two kinds. `le_u32(buf, at)` is for buffers whose length the caller has
//! already established (a fixed-size structure); it panics when the field lies outside, which is a
//! bug of the caller. `try_le_u32(buf, at)` is for everything whose position comes from an image.

mod checksum;
mod field;
mod ident;

pub use checksum::{crc16_ansi, crc32_be_raw, crc32_ieee, crc32_raw, crc32c_raw, crc32c_standard};
pub use field::*;
pub use ident::{Guid, Uuid};

/// Rounds `value` up to a multiple of `unit`; `None` on overflow or when `unit` is zero.
pub fn checked_align_up(value: u64, unit: u64) -> Option<u64> {
    match value.checked_rem(unit)? {
        0 => Some(value),
        rest => value.checked_add(unit - rest),
    }
}

/// Rounds `value` down to a multiple of `unit`; `None` when `unit` is zero.
pub fn checked_align_down(value: u64, unit: u64) -> Option<u64> {
    Some(value - value.checked_rem(unit)?)
}
