//! Shell patterns as kmod matches aliases with (`fnmatch` without flags).

/// True when the whole of `text` matches `pattern` (`*`, `?`, `[a-z]`, `[!a]`, `\x`).
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut text_at) = (0, 0);
    // Where to go back to: after the last star, and the text position tried for it.
    let mut star: Option<(usize, usize)> = None;
    loop {
        if pattern.get(at) == Some(&b'*') {
            star = Some((at + 1, text_at));
            at += 1;
            continue;
        }
        let step = match text.get(text_at) {
            Some(byte) => match_one(pattern.get(at..).unwrap_or(&[]), *byte),
            None if at == pattern.len() => return true,
            None => return false,
        };
        match (step, star) {
            (Some(len), _) => (at, text_at) = (at + len, text_at + 1),
            (None, Some((after, tried))) => {
                star = Some((after, tried + 1));
                (at, text_at) = (after, tried + 1);
            }
            (None, None) => return false,
        }
    }
}

/// Length of the pattern's first element when it matches `byte`.
fn match_one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'\\', literal, ..] => (*literal == byte).then_some(2),
        [b'[', rest @ ..] => match bracket(rest, byte) {
            Some((is_match, len)) => is_match.then_some(len + 1),
            // A bracket that nothing closes stands for itself.
            None => (byte == b'[').then_some(1),
        },
        [literal, ..] => (*literal == byte).then_some(1),
    }
}

/// Whether the bracket expression after `[` matches, and its length with the `]`.
fn bracket(pattern: &[u8], byte: u8) -> Option<(bool, usize)> {
    let is_negated = matches!(pattern.first(), Some(b'!' | b'^'));
    let mut at = usize::from(is_negated);
    let mut is_match = false;
    let mut is_first = true;
    loop {
        let low = *pattern.get(at)?;
        if low == b']' && !is_first {
            return Some((is_match != is_negated, at + 1));
        }
        is_first = false;
        match (pattern.get(at + 1), pattern.get(at + 2)) {
            (Some(b'-'), Some(high)) if *high != b']' => {
                is_match |= (low..=*high).contains(&byte);
                at += 3;
            }
            _ => {
                is_match |= low == byte;
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn kernel_aliases() {
        assert!(matches("pci:v00001AF4d*sv*sd*bc*sc*i*", "pci:v00001AF4d00001001sv0sd2bc01sc00i00"));
        assert!(matches("virtio:d00000002v*", "virtio:d00000002v00001AF4"));
        assert!(!matches("virtio:d00000002v*", "virtio:d00000003v00001AF4"));
        assert!(matches("usb:v[0-4]?x*", "usb:v3Zxyz"));
        assert!(!matches("usb:v[0-4]?x*", "usb:v5Zxyz"));
        assert!(matches("a[!b]c", "axc") && !matches("a[!b]c", "abc"));
        assert!(matches("*a*b", "xxaxxab") && !matches("*a*b", "xxbxxa"));
        assert!(matches("", "") && matches("*", "") && !matches("?", ""));
        assert!(matches("a[", "a["));
    }
}
