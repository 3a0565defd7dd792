//! `/etc/adjtime`: whether the hardware clock runs in UTC or in local time (adjtime_config(5)).

use crate::Lines;

/// Drift values of a clock that was never adjusted.
const FRESH: [&str; 3] = ["0.0 0 0.0", "0", "UTC"];

/// True when the third line says local time; everything else, and a missing file or line, means UTC.
pub fn is_local(text: &[u8]) -> bool {
    Lines::parse(text).get(3).is_some_and(|line| line.trim() == "LOCAL")
}

/// True when the third line is there and says UTC.
pub fn says_utc(text: &[u8]) -> bool {
    Lines::parse(text).get(3) == Some("UTC")
}

/// The file with `UTC` in its third line; what it knows about the clock's drift stays.
pub fn with_utc(text: &[u8]) -> Vec<u8> {
    let mut lines = Lines::parse(text);
    for line in FRESH.iter().skip(lines.len()) {
        lines.push(*line);
    }
    lines.set(3, "UTC");
    lines.to_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_line_alone_decides() {
        for (before, local, after) in [
            (&b""[..], false, &b"0.0 0 0.0\n0\nUTC\n"[..]),
            (b"1.5 1700000000 0.0\n1700000000\nLOCAL\n", true, b"1.5 1700000000 0.0\n1700000000\nUTC\n"),
            (b"1.5 17 0.0\n17", false, b"1.5 17 0.0\n17\nUTC\n"),
            (b"1.5 17 0.0", false, b"1.5 17 0.0\n0\nUTC\n"),
            (b"0.0 0 0\n0\nUTC", false, b"0.0 0 0\n0\nUTC"),
            (b"LOCAL\n", false, b"LOCAL\n0\nUTC\n"),
        ] {
            assert_eq!((is_local(before), with_utc(before)), (local, after.to_vec()));
            assert!(says_utc(after) && with_utc(after) == after);
        }
    }
}
