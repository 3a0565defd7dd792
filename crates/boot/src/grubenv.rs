//! `grubenv`: the variables that GRUB keeps between boots.

use crate::BootError;

/// First line of the block, as GRUB's `grub-core/lib/envblk.c` defines it.
const SIGNATURE: &[u8] = b"# GRUB Environment Block\n";
/// Bytes that are read at most; GRUB's tools write 1024.
const MAX_BYTES: usize = 64 << 10;

/// The variables of an environment block.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GrubEnv {
    variables: Vec<(String, String)>,
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
        let Some(mut rest) = block.strip_prefix(SIGNATURE) else {
            return Err(BootError::Syntax {
                file: "grubenv",
                line: 1,
                detail: "expected the line \"# GRUB Environment Block\"".into(),
            });
        };
        let mut variables = Vec::new();
        while let Some(first) = rest.first() {
            let (line, after) = logical_line(rest);
            rest = after;
            if *first == b'#' {
                continue;
            }
            let text = String::from_utf8_lossy(&line).into_owned();
            if let Some((key, value)) = text.split_once('=') {
                variables.push((key.to_owned(), value.to_owned()));
            }
        }
        Ok(Self { variables })
    }

    /// The value of a variable; of several the last one counts, as `load_env` sets them in order.
    pub fn get(&self, key: &str) -> Option<String> {
        self.variables.iter().rev().find(|(have, _)| have == key).map(|(_, value)| value.clone())
    }

    /// All variables in order.
    pub fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.variables.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

/// One line with `\` escapes removed (an escaped newline belongs to it), and what follows.
fn logical_line(text: &[u8]) -> (Vec<u8>, &[u8]) {
    let mut line = Vec::new();
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        at += 1;
        match byte {
            b'\n' => break,
            b'\\' => {
                line.extend(text.get(at));
                at = (at + 1).min(text.len());
            }
            other => line.push(*other),
        }
    }
    (line, &text[at..])
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
        assert!(GrubEnv::parse(&vec![0; MAX_BYTES + 1]).is_err());
    }
}
