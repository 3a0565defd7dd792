//! `grubenv`: the variables that GRUB keeps between boots.

use std::ops::Range;

use crate::BootError;

/// First line of the block, as GRUB's `grub-core/lib/envblk.c` defines it.
const SIGNATURE: &[u8] = b"# GRUB Environment Block\n";
/// Bytes that are read at most; GRUB's tools write 1024.
const MAX_BYTES: usize = 64 << 10;

/// The variables of an environment block, and the block itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GrubEnv {
    block: Vec<u8>,
    variables: Vec<Variable>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Variable {
    key: String,
    value: String,
    /// Line, counted from 1.
    line: usize,
    /// Where the value stands in the block, escapes included.
    place: Range<usize>,
}

impl GrubEnv {
    /// Reads the whole file `block`.
    pub fn parse(block: &[u8]) -> Result<Self, BootError> {
        if block.len() > MAX_BYTES {
            return Err(BootError::TooLarge {
                file: "grubenv",
                what: "bytes",
                found: block.len(),
                limit: MAX_BYTES,
            });
        }
        if !block.starts_with(SIGNATURE) {
            return Err(BootError::Syntax {
                file: "grubenv",
                line: 1,
                detail: "expected the line \"# GRUB Environment Block\"".into(),
            });
        }
        let mut variables = Vec::new();
        let mut at = SIGNATURE.len();
        let mut line = 2;
        while at < block.len() {
            let end = line_end(block, at);
            let text = &block[at..end];
            if !text.starts_with(b"#")
                && let Some(equals) = text.iter().position(|byte| *byte == b'=')
            {
                let text_of = |bytes: &[u8]| String::from_utf8_lossy(&unescaped(bytes)).into_owned();
                let (key, value) = (text_of(&text[..equals]), text_of(&text[equals + 1..]));
                variables.push(Variable { key, value, line, place: at + equals + 1..end });
            }
            line += 1 + text.iter().filter(|byte| **byte == b'\n').count();
            at = end + 1;
        }
        Ok(Self { block: block.to_vec(), variables })
    }

    /// The value of a variable; of several the last one counts, as `load_env` sets them in order.
    pub fn get(&self, key: &str) -> Option<String> {
        self.last(key).map(|variable| variable.value.clone())
    }

    /// Line of a variable, counted from 1.
    pub fn line(&self, key: &str) -> Option<usize> {
        self.last(key).map(|variable| variable.line)
    }

    /// All variables in order.
    pub fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.variables.iter().map(|variable| (variable.key.as_str(), variable.value.as_str()))
    }

    /// The block, as long as it was.
    pub fn to_bytes(&self) -> &[u8] {
        &self.block
    }

    /// Sets a variable. The block keeps its length: its end is filled with `#`, which gives way. Returns whether
    /// anything changed.
    pub fn set(&mut self, key: &str, value: &str) -> Result<bool, BootError> {
        if self.get(key).as_deref() == Some(value) {
            return Ok(false);
        }
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if key.is_empty() || !key.bytes().all(is_name) || value.contains('\0') {
            return Err(BootError::Argument {
                argument: format!("{key}={value}"),
                detail: "it is no variable of GRUB",
            });
        }
        let length = self.block.len();
        let used = length - self.block.iter().rev().take_while(|byte| **byte == b'#').count();
        // A line end that is escaped belongs to its line, and then the filling does, too.
        let content = self.block.get(..used).filter(|_| starts_line(&self.block, used));
        let Some(content) = content else {
            return Err(BootError::Syntax {
                file: "grubenv",
                line: 1 + self.block.iter().filter(|byte| **byte == b'\n').count(),
                detail: "expected a line end before the # that fill the block".into(),
            });
        };
        let escaped = escaped(value);
        let mut new = match self.last(key) {
            Some(variable) if variable.place.end < used => {
                [&content[..variable.place.start], &escaped, &content[variable.place.end..]].concat()
            }
            _ => [content, key.as_bytes(), b"=", &escaped, b"\n"].concat(),
        };
        if new.len() > length {
            return Err(BootError::NoRoom { file: "grubenv", needed: new.len(), room: length });
        }
        new.resize(length, b'#');
        *self = Self::parse(&new)?;
        Ok(true)
    }

    fn last(&self, key: &str) -> Option<&Variable> {
        self.variables.iter().rev().find(|variable| variable.key == key)
    }
}

/// End of the line that starts at `start`, its newline left out; an escaped newline belongs to it.
fn line_end(block: &[u8], start: usize) -> usize {
    let mut at = start;
    // GRUB looks for the end of a comment in the same way.
    while let Some(byte) = block.get(at) {
        match byte {
            b'\n' => return at,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    block.len()
}

/// True when a line starts at `place`, or would.
fn starts_line(block: &[u8], place: usize) -> bool {
    let mut at = SIGNATURE.len();
    while at < place {
        at = line_end(block, at) + 1;
    }
    at == place
}

/// Without the `\` before each escaped byte.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => plain.extend(bytes.next()),
            other => plain.push(*other),
        }
    }
    plain
}

/// With a `\` before what would end the value.
fn escaped(value: &str) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(value.len());
    for byte in value.bytes() {
        if matches!(byte, b'\\' | b'\n') {
            escaped.push(b'\\');
        }
        escaped.push(byte);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_grub_editenv_writes() {
        let mut block = SIGNATURE.to_vec();
        block.extend_from_slice(
            b"# WARNING: Do not edit\nsaved_entry=gnulinux-advanced-1>x\\\\y\nkernelopts=a=b c\n",
        );
        block.resize(1024, b'#');
        let environment = GrubEnv::parse(&block).unwrap();
        assert_eq!(environment.get("saved_entry").as_deref(), Some("gnulinux-advanced-1>x\\y"));
        assert_eq!(environment.get("kernelopts").as_deref(), Some("a=b c"));
        assert_eq!(environment.variables().count(), 2);
        assert!(GrubEnv::parse(b"x=y").is_err());
        for open in [&b"saved_entry=x\\\n"[..], b"# note\\\n", b"a=b"] {
            let mut block = [SIGNATURE, open].concat();
            block.resize(1024, b'#');
            let mut environment = GrubEnv::parse(&block).unwrap();
            assert!(environment.set("kernelopts", "quiet").is_err(), "{open:?}");
        }
        assert!(GrubEnv::parse(&vec![0; MAX_BYTES + 1]).is_err());
    }
}
