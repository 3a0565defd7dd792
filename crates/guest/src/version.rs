//! Comparing versions.

use std::cmp::Ordering;

/// Compares two versions as dpkg does (deb-version(7)): epoch, upstream version, revision; runs of digits by
/// value, letters before other signs, `~` before everything, the end included.
///
/// Upstream versions without epoch and revision compare as one expects: `0.7.6a15` before `0.7.9`, `22.4`
/// before `22.4.2`.
pub fn compare_versions(a: &str, b: &str) -> Ordering {
    let (a, b) = (split(a), split(b));
    let zeros = |text: &str| text.trim_start_matches('0').len();
    // Epochs are small numbers; by length, then by digits, no size is too large.
    let epoch = |text: &str| (zeros(text), text.trim_start_matches('0').to_owned());
    epoch(a.0)
        .cmp(&epoch(b.0))
        .then_with(|| compare_part(a.1.as_bytes(), b.1.as_bytes()))
        .then_with(|| compare_part(a.2.as_bytes(), b.2.as_bytes()))
}

/// Epoch, upstream version, revision.
fn split(version: &str) -> (&str, &str, &str) {
    let version = version.trim();
    let (epoch, rest) = match version.split_once(':') {
        Some((epoch, rest)) if !epoch.is_empty() && epoch.bytes().all(|byte| byte.is_ascii_digit()) => {
            (epoch, rest)
        }
        _ => ("", version),
    };
    match rest.rsplit_once('-') {
        Some((upstream, revision)) => (epoch, upstream, revision),
        None => (epoch, rest, ""),
    }
}

/// Order of a sign outside numbers; a digit ends such a run and counts as its end.
fn weight(sign: Option<&u8>) -> i32 {
    match sign {
        None => 0,
        Some(byte) if byte.is_ascii_digit() => 0,
        Some(b'~') => -1,
        Some(byte) if byte.is_ascii_alphabetic() => i32::from(*byte),
        Some(byte) => i32::from(*byte) + 256,
    }
}

fn compare_part(mut a: &[u8], mut b: &[u8]) -> Ordering {
    let is_digit = |text: &[u8]| text.first().is_some_and(u8::is_ascii_digit);
    while !a.is_empty() || !b.is_empty() {
        while (!a.is_empty() && !is_digit(a)) || (!b.is_empty() && !is_digit(b)) {
            let order = weight(a.first()).cmp(&weight(b.first()));
            if order != Ordering::Equal {
                return order;
            }
            a = a.get(1..).unwrap_or_default();
            b = b.get(1..).unwrap_or_default();
        }
        let number = |text: &mut &[u8]| {
            let len = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let (digits, rest) = text.split_at(len);
            *text = rest;
            let zeros = digits.iter().take_while(|byte| **byte == b'0').count();
            digits[zeros..].to_vec()
        };
        let (x, y) = (number(&mut a), number(&mut b));
        let order = x.len().cmp(&y.len()).then_with(|| x.cmp(&y));
        if order != Ordering::Equal {
            return order;
        }
    }
    Ordering::Equal
}
