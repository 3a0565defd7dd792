//! Length and distance codes of deflate (RFC 1951, 3.2.5).

/// Literals, end of block and length codes, with the two that no stream uses.
pub(crate) const LITLEN_SYMBOLS: usize = 288;
/// Distance codes, with the two that no stream uses.
pub(crate) const DIST_SYMBOLS: usize = 32;
/// Symbols of the code for code lengths.
pub(crate) const PRE_SYMBOLS: usize = 19;
/// Ends a block.
pub(crate) const END_OF_BLOCK: usize = 256;
/// First length code: lengths of 3.
pub(crate) const FIRST_LENGTH: usize = 257;
/// Shortest match.
pub(crate) const MATCH_MIN: usize = 3;
/// Longest match.
pub(crate) const MATCH_MAX: usize = 258;
/// Order in which a dynamic block lists the lengths of its code for code lengths.
pub(crate) const PRE_ORDER: [usize; PRE_SYMBOLS] =
    [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// Base length of each length code, from 257 on.
pub(crate) const LENGTH_BASE: [u16; 29] = [
    3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195,
    227, 258,
];

/// Extra bits of each length code, from 257 on.
pub(crate) const LENGTH_EXTRA: [u8; 29] =
    [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];

/// Base distance of each distance code.
pub(crate) const DIST_BASE: [u16; 30] = [
    1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073,
    4097, 6145, 8193, 12289, 16385, 24577,
];

/// Extra bits of each distance code.
pub(crate) const DIST_EXTRA: [u8; 30] =
    [0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13];

/// Length code less 257 of each length; lengths below 3 have none.
pub(crate) const LENGTH_CODE: [u8; 512] = length_codes();

const fn length_codes() -> [u8; 512] {
    let mut codes = [0; 512];
    let mut code = 0;
    while code < 29 {
        let mut length = LENGTH_BASE[code] as usize;
        // 258 has a code of its own, though the code before it could say it, too.
        while length <= MATCH_MAX {
            codes[length] = code as u8;
            length += 1;
        }
        code += 1;
    }
    codes
}

/// Distance code of a distance from 1 on: two codes for each power of two.
#[inline(always)]
pub(crate) fn dist_code(dist: usize) -> usize {
    let from_zero = (dist.wrapping_sub(1) | 1) as u32;
    if dist <= 2 {
        return dist.wrapping_sub(1) & 1;
    }
    let power = (31 - from_zero.leading_zeros()) as usize;
    let half = (dist - 1) >> (power - 1) & 1;
    (2 * power + half) & (DIST_SYMBOLS - 1)
}

/// Code lengths of fixed blocks (RFC 1951, 3.2.6).
pub(crate) const fn fixed_litlen_lengths() -> [u8; LITLEN_SYMBOLS] {
    let mut lengths = [8; LITLEN_SYMBOLS];
    let mut symbol = 144;
    while symbol < 280 {
        lengths[symbol] = if symbol < 256 { 9 } else { 7 };
        symbol += 1;
    }
    lengths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_and_distance_lies_in_the_range_of_its_code() {
        for (length, code) in LENGTH_CODE.iter().enumerate().take(MATCH_MAX + 1).skip(MATCH_MIN) {
            let code = usize::from(*code);
            let base = usize::from(LENGTH_BASE[code]);
            assert!((base..base + (1 << LENGTH_EXTRA[code])).contains(&length), "{length}");
        }
        assert_eq!(LENGTH_CODE[MATCH_MAX], 28);
        for dist in 1..=32768 {
            let code = dist_code(dist);
            let base = usize::from(DIST_BASE[code]);
            assert!((base..base + (1 << DIST_EXTRA[code])).contains(&dist), "{dist}");
        }
    }
}
