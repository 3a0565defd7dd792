//! The text format of LVM2's metadata (lvm.conf(5), "SYNTAX"): `key = value`, `section { … }`, comments.

use std::collections::BTreeMap;
use std::fmt;

/// Metadata that is larger is refused; a group with a thousand volumes has about one MiB.
pub(crate) const MAX_BYTES: usize = 16 << 20;
/// Sections within sections; LVM2 writes four levels.
const MAX_DEPTH: usize = 16;
/// Keys, sections and list items of one text.
const MAX_ITEMS: usize = 1 << 20;

/// A value or a section.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// Whole number.
    Int(i64),
    /// Number with a decimal point.
    Float(f64),
    /// Quoted text.
    Text(String),
    /// `[…]`
    List(Vec<Node>),
    /// `{…}`
    Section(Section),
}

/// Named nodes in the order of their names.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Section {
    /// Line on which it begins, counted from 1.
    pub line: usize,
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone, PartialEq)]
struct Entry {
    line: usize,
    node: Node,
}

/// Where a text is none, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextError {
    /// Line, counted from 1.
    pub line: usize,
    /// What was expected and found.
    pub detail: String,
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.detail)
    }
}

impl Section {
    /// The node of this name.
    pub fn get(&self, name: &str) -> Option<&Node> {
        self.entries.get(name).map(|entry| &entry.node)
    }

    /// Line of the node of this name, else of the section.
    pub fn line_of(&self, name: &str) -> usize {
        self.entries.get(name).map_or(self.line, |entry| entry.line)
    }

    /// Sections within, by name.
    pub fn sections(&self) -> impl Iterator<Item = (&str, &Section)> {
        self.entries.iter().filter_map(|(name, entry)| match &entry.node {
            Node::Section(section) => Some((&**name, section)),
            _ => None,
        })
    }

    fn wrong(&self, name: &str, expected: &str) -> TextError {
        let detail = match self.entries.contains_key(name) {
            true => format!("`{name}` is no {expected}"),
            false => format!("`{name}` is missing"),
        };
        TextError { line: self.line_of(name), detail }
    }

    /// A text that must be there.
    pub fn text(&self, name: &str) -> Result<&str, TextError> {
        match self.get(name) {
            Some(Node::Text(text)) => Ok(text),
            _ => Err(self.wrong(name, "text")),
        }
    }

    /// A whole number from 0 up that must be there.
    pub fn number(&self, name: &str) -> Result<u64, TextError> {
        match self.get(name) {
            Some(Node::Int(number)) => {
                u64::try_from(*number).map_err(|_| self.wrong(name, "number from 0 up"))
            }
            _ => Err(self.wrong(name, "number")),
        }
    }

    /// A section that must be there.
    pub fn section(&self, name: &str) -> Result<&Section, TextError> {
        match self.get(name) {
            Some(Node::Section(section)) => Ok(section),
            _ => Err(self.wrong(name, "section")),
        }
    }

    /// A list, or a single value as a list of one; empty when it is not there.
    pub fn list(&self, name: &str) -> Result<&[Node], TextError> {
        match self.get(name) {
            None => Ok(&[]),
            Some(Node::List(items)) => Ok(items),
            Some(Node::Section(_)) => Err(self.wrong(name, "list")),
            Some(single) => Ok(std::slice::from_ref(single)),
        }
    }

    /// A list of texts; empty when it is not there.
    pub fn texts(&self, name: &str) -> Result<Vec<String>, TextError> {
        let items = self.list(name)?.iter();
        items
            .map(|item| match item {
                Node::Text(text) => Ok(text.clone()),
                _ => Err(self.wrong(name, "list of texts")),
            })
            .collect()
    }
}

/// Parses a whole text; what stands behind a NUL is no part of it.
pub fn parse(bytes: &[u8]) -> Result<Section, TextError> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let bytes = &bytes[..end];
    let mut parser = Parser { bytes, at: 0, line: 1, items: 0 };
    if bytes.len() > MAX_BYTES {
        return Err(parser.fail(format!("{} bytes are more than {MAX_BYTES}", bytes.len())));
    }
    parser.section_body(0, 1)
}

struct Parser<'t> {
    bytes: &'t [u8],
    at: usize,
    line: usize,
    items: usize,
}

impl Parser<'_> {
    fn fail(&self, detail: impl Into<String>) -> TextError {
        TextError { line: self.line, detail: detail.into() }
    }

    fn count(&mut self) -> Result<(), TextError> {
        self.items += 1;
        match self.items > MAX_ITEMS {
            true => Err(self.fail(format!("more than {MAX_ITEMS} keys and values"))),
            false => Ok(()),
        }
    }

    /// The next byte that is neither blank nor comment.
    fn peek(&mut self) -> Option<u8> {
        while let Some(byte) = self.bytes.get(self.at) {
            match byte {
                b'\n' => self.line += 1,
                b' ' | b'\t' | b'\r' => {}
                b'#' => {
                    let rest = self.bytes.get(self.at..).unwrap_or_default();
                    self.at += rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
                    continue;
                }
                other => return Some(*other),
            }
            self.at += 1;
        }
        None
    }

    /// Entries up to the closing brace, or up to the end at depth 0.
    fn section_body(&mut self, depth: usize, line: usize) -> Result<Section, TextError> {
        if depth > MAX_DEPTH {
            return Err(self.fail(format!("sections nested deeper than {MAX_DEPTH}")));
        }
        let mut section = Section { line, entries: BTreeMap::new() };
        loop {
            match self.peek() {
                None if depth == 0 => return Ok(section),
                None => return Err(self.fail(format!("the section of line {line} does not end"))),
                Some(b'}') if depth > 0 => {
                    self.at += 1;
                    return Ok(section);
                }
                Some(_) => {}
            }
            self.count()?;
            let (line, name) = (self.line, self.name()?);
            let node = match self.peek() {
                Some(b'=') => {
                    self.at += 1;
                    self.value()?
                }
                Some(b'{') => {
                    self.at += 1;
                    Node::Section(self.section_body(depth + 1, line)?)
                }
                _ => return Err(self.fail(format!("expected `=` or `{{` behind `{name}`"))),
            };
            if section.entries.contains_key(&name) {
                return Err(TextError { line, detail: format!("`{name}` stands twice in one section") });
            }
            section.entries.insert(name, Entry { line, node });
        }
    }

    fn name(&mut self) -> Result<String, TextError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let is_sign = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.+-/".contains(byte);
        let len = rest.iter().take_while(|byte| is_sign(byte)).count();
        let name = String::from_utf8_lossy(&rest[..len]).into_owned();
        if name.is_empty() {
            let found = rest.first().map_or(String::new(), |byte| byte.escape_ascii().to_string());
            return Err(self.fail(format!("expected a name, found `{found}`")));
        }
        self.at += len;
        Ok(name)
    }

    fn value(&mut self) -> Result<Node, TextError> {
        if self.peek() != Some(b'[') {
            return self.single();
        }
        self.at += 1;
        let mut items = Vec::new();
        loop {
            if self.peek() == Some(b']') {
                self.at += 1;
                return Ok(Node::List(items));
            }
            self.count()?;
            items.push(self.single()?);
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {}
                _ => return Err(self.fail("expected `,` or `]` in a list")),
            }
        }
    }

    fn single(&mut self) -> Result<Node, TextError> {
        match self.peek() {
            Some(quote @ (b'"' | b'\'')) => self.quoted(quote),
            Some(b'0'..=b'9' | b'-' | b'+' | b'.') => self.number(),
            _ => Err(self.fail("expected a number, a text or a list")),
        }
    }

    /// Double quotes know `\"` and `\\`; single ones no escapes.
    fn quoted(&mut self, quote: u8) -> Result<Node, TextError> {
        let start = self.line;
        let mut text = Vec::new();
        self.at += 1;
        while let Some(byte) = self.bytes.get(self.at) {
            self.at += 1;
            match byte {
                byte if *byte == quote => {
                    return match String::from_utf8(text) {
                        Ok(text) => Ok(Node::Text(text)),
                        Err(_) => Err(self.fail("a text that is no UTF-8")),
                    };
                }
                b'\\' if quote == b'"' => {
                    let Some(next) = self.bytes.get(self.at) else { break };
                    self.at += 1;
                    text.push(*next);
                }
                byte => {
                    self.line += usize::from(*byte == b'\n');
                    text.push(*byte);
                }
            }
        }
        Err(TextError { line: start, detail: "a text without its closing quote".into() })
    }

    fn number(&mut self) -> Result<Node, TextError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let len =
            rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte)).count();
        let word = String::from_utf8_lossy(&rest[..len]).into_owned();
        self.at += len;
        let node = match word.contains('.') {
            true => word.parse().ok().map(Node::Float),
            false => word.parse().ok().map(Node::Int),
        };
        node.ok_or_else(|| self.fail(format!("`{word}` is no number")))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;

    #[test]
    fn everything_that_lvm_writes() {
        let text = b"# Generated\nvg { # here\n\tid = \"a\\\"b\\\\\"\n seqno=3\n flags = []\n list = [\"pv0\", 0,\n 'x\\']\n
            tiny = -1 f = 0.5 r-1.x+y_z { } }\ncontents = \"Text\"\n\0 behind";
        let section = parse(text).unwrap();
        let vg = section.section("vg").unwrap();
        assert_eq!((vg.text("id").unwrap(), vg.number("seqno").unwrap()), ("a\"b\\", 3));
        assert_eq!(vg.list("flags").unwrap(), []);
        assert_eq!(
            vg.list("list").unwrap(),
            [Node::Text("pv0".into()), Node::Int(0), Node::Text("x\\".into())]
        );
        assert_eq!((vg.get("f"), vg.get("tiny")), (Some(&Node::Float(0.5)), Some(&Node::Int(-1))));
        assert_eq!(vg.section("r-1.x+y_z").unwrap().line, 9);
        assert!(vg.number("tiny").is_err() && vg.text("none").is_err());
        assert_eq!(section.texts("contents").unwrap(), ["Text"]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let deep = "a {\n".repeat(30);
        for (text, line, detail) in [
            ("a = 1\nb", 2, "expected `=` or `{` behind `b`"),
            ("a = 1\n\nb = }", 3, "expected a number, a text or a list"),
            ("a = 1\na = 2", 2, "`a` stands twice in one section"),
            ("x {\n a = 1\n", 3, "the section of line 1 does not end"),
            ("\n}", 2, "expected a name, found `}`"),
            ("a = [1\n 2]", 2, "expected `,` or `]` in a list"),
            ("a = \"x\ny", 1, "a text without its closing quote"),
            ("a = 12x", 1, "`12x` is no number"),
            ("a = 99999999999999999999", 1, "`99999999999999999999` is no number"),
            (&deep, 17, "sections nested deeper than 16"),
        ] {
            assert_eq!(parse(text.as_bytes()), Err(TextError { line, detail: detail.into() }), "{text}");
        }
        let error = parse(b"vg {\n seqno = \"1\"\n}").unwrap().section("vg").unwrap().number("seqno");
        assert_eq!(error.unwrap_err().to_string(), "line 2: `seqno` is no number");
    }
}
