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
        let alike = self.alike(section, key);
        alike.iter().find(|entry| entry.key == key).or(alike.first()).copied()
    }

    fn alike(&self, section: &str, key: &str) -> Vec<&Entry> {
        let same = |known: &str| known.replace('_', "-") == key.replace('_', "-");
        self.entries.iter().filter(|entry| entry.section == section && same(&entry.key)).collect()
    }

    /// The file with a key set where it stands, else at the end of its section, else in a new section.
    pub fn with(&self, section: &str, key: &str, value: &str) -> Vec<u8> {
        let mut lines = self.lines.clone();
        // A line goes on with the value above it when it is indented deeper: what is put in is as deep as what
        // stands there.
        let text = |like: usize| {
            let like = self.lines.get(like).unwrap_or_default();
            let indentation = like.get(..like.len() - like.trim_start().len()).unwrap_or_default();
            format!("{indentation}{key} = {value}")
        };
        let header = self.sections.iter().find(|(name, _)| name == section).map(|(_, line)| *line);
        let last = self.entries.iter().rfind(|entry| entry.section == section);
        match (self.get(section, key), last, header) {
            (Some(entry), _, _) => {
                for other in self.alike(section, key) {
                    let first = if other == entry { other.line + 1 } else { other.line };
                    (first..=other.last_line).for_each(|number| lines.comment_out(number));
                }
                lines.set(entry.line, text(entry.line));
            }
            (None, Some(last), _) => lines.insert(last.last_line + 1, text(last.line)),
            (None, None, Some(header)) => {
                let is_next = |(number, line): &(usize, &str)| {
                    let line = line.trim();
                    *number > header && !line.is_empty() && !line.starts_with(['#', ';'])
                };
                let next = self.lines.iter().find(is_next).map_or(0, |(number, _)| number);
                lines.insert(header + 1, text(next));
            }
            (None, None, None) => {
                lines.push(format!("[{section}]"));
                lines.push(text(0));
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
