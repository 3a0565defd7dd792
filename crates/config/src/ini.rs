//! Files that Python's configparser reads: sections, keys, values over several lines.

use crate::Lines;

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Line number, from 1.
    pub line: usize,
    /// The last line of the value.
    pub last_line: usize,
    /// Section that it stands in.
    pub section: String,
    /// Key in lower case.
    pub key: String,
    /// Value, its lines joined with `\n`.
    pub value: String,
}

/// A file without contradictions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ini {
    lines: Lines,
    sections: Vec<(String, usize)>,
    entries: Vec<Entry>,
}

impl Ini {
    /// Parses as configparser does when it is strict; an error names the line that it refuses.
    pub fn parse(text: &[u8]) -> Result<Self, (usize, String)> {
        let lines = Lines::parse(text);
        let mut sections: Vec<(String, usize)> = Vec::new();
        let mut entries: Vec<Entry> = Vec::new();
        // Indentation of the key that a deeper line goes on with.
        let mut open: Option<usize> = None;
        for (number, line) in lines.iter() {
            let text = line.trim();
            if text.starts_with(['#', ';']) {
                continue;
            }
            if text.is_empty() {
                continue;
            }
            let indentation = line.len() - line.trim_start().len();
            if let (Some(own), Some(entry)) = (open, entries.last_mut())
                && indentation > own
            {
                entry.value = format!("{}\n{text}", entry.value);
                entry.last_line = number;
                continue;
            }
            if let Some((name, _)) = text.strip_prefix('[').and_then(|rest| rest.rsplit_once(']')) {
                if sections.iter().any(|(known, _)| known == name) {
                    return Err((number, format!("section [{name}] stands here again")));
                }
                sections.push((name.to_owned(), number));
                open = None;
                continue;
            }
            let Some((section, _)) = sections.last() else {
                return Err((number, "a line before the first section".into()));
            };
            let Some(at) = text.find(['=', ':']).filter(|at| *at > 0) else {
                return Err((number, "neither section nor key with value".into()));
            };
            let (key, value) = text.split_at(at);
            let key = key.trim().to_lowercase();
            if entries.iter().any(|known| known.section == *section && known.key == key) {
                return Err((number, format!("{key} stands in [{section}] again")));
            }
            let value = value.get(1..).unwrap_or_default().trim().to_owned();
            entries.push(Entry { line: number, last_line: number, section: section.clone(), key, value });
            open = Some(indentation);
        }
        Ok(Self { lines, sections, entries })
    }

    /// A key of a section; `-` and `_` are alike, as pip has it.
    pub fn get(&self, section: &str, key: &str) -> Option<&Entry> {
        let same = |known: &str| known.replace('_', "-") == key.replace('_', "-");
        self.entries.iter().find(|entry| entry.section == section && same(&entry.key))
    }

    /// The file with a key set where it stands, else at the end of its section, else in a new section.
    pub fn with(&self, section: &str, key: &str, value: &str) -> Vec<u8> {
        let mut lines = self.lines.clone();
        let text = format!("{key} = {value}");
        match (self.get(section, key), self.sections.iter().find(|(name, _)| name == section)) {
            (Some(entry), _) => {
                // A line that went on with the old value would go on with the new one.
                for number in entry.line + 1..=entry.last_line {
                    lines.comment_out(number);
                }
                lines.set(entry.line, text);
            }
            (None, Some((_, header))) => {
                let last =
                    self.entries.iter().filter(|entry| entry.section == section).map(|entry| entry.last_line);
                lines.insert(last.max().unwrap_or(*header) + 1, text);
            }
            (None, None) => {
                lines.push(format!("[{section}]"));
                lines.push(text);
            }
        }
        lines.to_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_merged_and_the_rest_stays() {
        let text =
            b"# mine\n[global]\ntimeout = 60\nindex_url : http://a\n    http://b\n\n[list]\nformat=x\n";
        let ini = Ini::parse(text).unwrap();
        assert_eq!(ini.get("global", "index-url").unwrap().value, "http://a\nhttp://b");
        let new = ini.with("global", "index-url", "http://c");
        assert_eq!(
            new,
            b"# mine\n[global]\ntimeout = 60\nindex-url = http://c\n#    http://b\n\n[list]\nformat=x\n"
        );
        let new = Ini::parse(&new).unwrap().with("install", "trusted-host", "c");
        assert!(new.ends_with(b"format=x\n[install]\ntrusted-host = c\n"));
        let new = Ini::parse(&new).unwrap().with("global", "a", "b");
        assert!(String::from_utf8(new).unwrap().contains("index-url = http://c\na = b\n#"));
    }

    #[test]
    fn what_configparser_refuses_is_named_by_line() {
        for (text, line) in [
            (&b"a = b\n"[..], 1),
            (b"[a]\nx\n", 2),
            (b"[a]\n[a]\n", 2),
            (b"[a]\nx = 1\nX: 2\n", 3),
            (b"[a]\n= 1\n", 2),
        ] {
            assert_eq!(Ini::parse(text).unwrap_err().0, line);
        }
    }
}
