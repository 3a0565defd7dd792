//! Text files as lines that keep their bytes.

/// The lines of a file, each with its own ending; what is not edited stays byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lines {
    lines: Vec<Line>,
    /// False for a file that is not UTF-8: each byte is then the character of its value, and goes back as such.
    is_utf8: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    text: String,
    ending: &'static str,
}

impl Lines {
    /// Any bytes.
    pub fn parse(bytes: &[u8]) -> Self {
        let (text, is_utf8) = match std::str::from_utf8(bytes) {
            Ok(text) => (text.to_owned(), true),
            Err(_) => (bytes.iter().map(|byte| char::from(*byte)).collect(), false),
        };
        let lines = text.split_inclusive('\n').map(|line| {
            let (text, ending) = match (line.strip_suffix("\r\n"), line.strip_suffix('\n')) {
                (Some(text), _) => (text, "\r\n"),
                (None, Some(text)) => (text, "\n"),
                (None, None) => (line, ""),
            };
            Line { text: text.to_owned(), ending }
        });
        Self { lines: lines.collect(), is_utf8 }
    }

    /// Numbers, from 1, and texts without line ends.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (usize, &str)> {
        self.lines.iter().enumerate().map(|(index, line)| (index + 1, line.text.as_str()))
    }

    /// How many lines.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// True for an empty file.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The text of a line, counted from 1.
    pub fn get(&self, number: usize) -> Option<&str> {
        Some(self.lines.get(number.checked_sub(1)?)?.text.as_str())
    }

    /// True when a line is exactly this.
    pub fn has(&self, text: &str) -> bool {
        self.lines.iter().any(|line| line.text == text)
    }

    /// Replaces the text of a line; its ending stays.
    pub fn set(&mut self, number: usize, text: impl Into<String>) {
        if let Some(line) = number.checked_sub(1).and_then(|index| self.lines.get_mut(index)) {
            line.text = text.into();
        }
    }

    /// Puts a comment sign before a line.
    pub fn comment_out(&mut self, number: usize) {
        if let Some(text) = self.get(number).map(|text| format!("#{text}")) {
            self.set(number, text);
        }
    }

    /// Puts a line before the one of this number; a number past the end adds it behind the last.
    pub fn insert(&mut self, number: usize, text: impl Into<String>) {
        let index = number.saturating_sub(1).min(self.lines.len());
        // The last line may lack its end.
        if index > 0
            && let Some(before) = self.lines.get_mut(index - 1)
            && before.ending.is_empty()
        {
            before.ending = "\n";
        }
        self.lines.insert(index, Line { text: text.into(), ending: "\n" });
    }

    /// Adds a line at the end.
    pub fn push(&mut self, text: impl Into<String>) {
        self.insert(self.lines.len() + 1, text);
    }

    /// The file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for Line { text, ending } in &self.lines {
            match self.is_utf8 {
                true => bytes.extend_from_slice(text.as_bytes()),
                false => text.chars().for_each(|sign| match u8::try_from(sign) {
                    Ok(byte) => bytes.push(byte),
                    Err(_) => bytes.extend_from_slice(sign.encode_utf8(&mut [0; 4]).as_bytes()),
                }),
            }
            bytes.extend_from_slice(ending.as_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_stay_whatever_they_are() {
        for bytes in [&b""[..], b"a", b"a\n", b"a\r\n\n b\r", b"\xff\xfe=\n\xc3\xa4\r\nz", "ä\n".as_bytes()]
        {
            assert_eq!(Lines::parse(bytes).to_bytes(), bytes);
        }
    }

    #[test]
    fn edits_touch_their_own_line() {
        let mut lines = Lines::parse(b"a \xff\r\nb");
        lines.comment_out(1);
        lines.insert(3, "d");
        lines.insert(3, "c");
        lines.set(9, "nothing");
        assert_eq!(lines.to_bytes(), b"#a \xff\r\nb\nc\nd\n");
        assert!(lines.has("c") && !lines.has("C") && lines.get(0).is_none());
    }
}
