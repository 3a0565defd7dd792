//! Files of shell assignments, `KEY=value`, that init scripts source: the last assignment counts.

use crate::Lines;

/// Key and value of a line; quotes around the whole value are taken off.
fn assignment(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.trim_start().split_once('=')?;
    let is_name =
        |key: &str| !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let value = match value.strip_prefix(['"', '\'']) {
        Some(rest) => rest.split(['"', '\'']).next().unwrap_or_default(),
        None => value.split_whitespace().next().unwrap_or_default(),
    };
    is_name(key).then_some((key, value))
}

/// The value that a key has in the end.
pub fn value(text: &[u8], key: &str) -> Option<String> {
    let lines = Lines::parse(text);
    let found = lines.iter().rev().filter_map(|(_, line)| assignment(line)).find(|(known, _)| *known == key);
    found.map(|(_, value)| value.to_owned())
}

/// The file with the last assignment of a key changed, or one added.
pub fn with(text: &[u8], key: &str, assignment_line: &str) -> Vec<u8> {
    let mut lines = Lines::parse(text);
    let last = lines.iter().rev().find(|(_, line)| assignment(line).is_some_and(|(known, _)| known == key));
    match last.map(|(number, _)| number) {
        Some(number) => lines.set(number, assignment_line),
        None => lines.push(assignment_line),
    }
    lines.to_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_assignment_counts() {
        let text = b"# UTC=no\nUTC=yes\nUTC=\"no\" # really\nUTC_X=1\n";
        assert_eq!(value(text, "UTC").as_deref(), Some("no"));
        assert_eq!(value(text, "ZONE"), None);
        assert_eq!(with(text, "UTC", "UTC=yes"), b"# UTC=no\nUTC=yes\nUTC=yes\nUTC_X=1\n");
        assert_eq!(with(b"A=1", "UTC", "UTC=yes"), b"A=1\nUTC=yes\n");
    }
}
