//! The binary form: a radix tree, big-endian, as kmod's `libkmod/libkmod-index.c` documents it.

use std::collections::BTreeMap;
use std::collections::HashSet;

use ondisk::try_be_u32;

use crate::InitramfsError;

const MAGIC: u32 = 0xb007_f457;
const VERSION: u32 = 0x0002_0001;
const HAS_PREFIX: u32 = 0x8000_0000;
const HAS_VALUES: u32 = 0x4000_0000;
const HAS_CHILDREN: u32 = 0x2000_0000;
const OFFSET_MASK: u32 = 0x0fff_ffff;
/// Longest key; modalias patterns stay well below it.
const KEY_MAX: usize = 1024;
/// Decoded keys and values together.
const DECODED_MAX: usize = 64 << 20;

/// One key of an index with its values, lowest priority number first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexEntry {
    /// Module name, alias pattern or `symbol:NAME`.
    pub key: String,
    /// Priority and value.
    pub values: Vec<(u32, String)>,
}

/// All entries of a `modules.*.bin` file, sorted by key.
pub fn decode_index(file: &str, bytes: &[u8]) -> Result<Vec<IndexEntry>, InitramfsError> {
    let fail = |detail: String| InitramfsError::Index { file: file.to_string(), detail };
    let word = |at: usize| {
        try_be_u32(bytes, at)
            .ok_or_else(|| fail(format!("the file ends before byte {}", at.saturating_add(4))))
    };
    if word(0)? != MAGIC {
        return Err(fail(format!("magic {:#010x}; expected {MAGIC:#010x}", word(0)?)));
    }
    if word(4)? >> 16 != VERSION >> 16 {
        return Err(fail(format!("version {:#010x}; expected {VERSION:#010x}", word(4)?)));
    }
    let mut entries = Vec::new();
    let mut seen = HashSet::new();
    let mut decoded = 0usize;
    let mut todo = vec![(word(8)?, Vec::new())];
    while let Some((reference, mut key)) = todo.pop() {
        let offset = reference & OFFSET_MASK;
        if offset == 0 {
            continue;
        }
        if !seen.insert(offset) {
            return Err(fail(format!("two references to the node at {offset}")));
        }
        let mut at = offset as usize;
        if reference & HAS_PREFIX != 0 {
            let prefix = c_string(bytes, at).ok_or_else(|| fail(format!("no end of the string at {at}")))?;
            key.extend_from_slice(prefix);
            at += prefix.len() + 1;
        }
        decoded += key.len();
        if key.len() > KEY_MAX || decoded > DECODED_MAX {
            return Err(fail(format!(
                "keys longer than {KEY_MAX} bytes, or more than {DECODED_MAX} bytes in all"
            )));
        }
        if reference & HAS_CHILDREN != 0 {
            let (Some(first), Some(last)) = (bytes.get(at), bytes.get(at + 1)) else {
                return Err(fail(format!("the file ends before byte {}", at + 2)));
            };
            at += 2;
            for letter in *first..=*last {
                let child = word(at)?;
                at += 4;
                if child != 0 {
                    let mut child_key = key.clone();
                    child_key.push(letter);
                    todo.push((child, child_key));
                }
            }
        }
        if reference & HAS_VALUES != 0 {
            let count = word(at)?;
            at += 4;
            let mut values = Vec::new();
            for _ in 0..count {
                let priority = word(at)?;
                let value =
                    c_string(bytes, at + 4).ok_or_else(|| fail(format!("no end of the string at {at}")))?;
                at += 4 + value.len() + 1;
                decoded += value.len() + 8;
                if decoded > DECODED_MAX {
                    return Err(fail(format!("more than {DECODED_MAX} bytes of values")));
                }
                values.push((priority, String::from_utf8_lossy(value).into_owned()));
            }
            entries.push(IndexEntry { key: String::from_utf8_lossy(&key).into_owned(), values });
        }
    }
    entries.sort_by(|left, right| left.key.cmp(&right.key));
    Ok(entries)
}

fn c_string(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let rest = bytes.get(at..)?;
    rest.get(..rest.iter().position(|byte| *byte == 0)?)
}

/// A node of the radix tree while it is built.
#[derive(Debug, Default)]
struct Node {
    prefix: Vec<u8>,
    children: BTreeMap<u8, Node>,
    values: Vec<(u32, String)>,
}

impl Node {
    fn leaf(prefix: &[u8], value: (u32, String)) -> Self {
        Node { prefix: prefix.to_vec(), children: BTreeMap::new(), values: vec![value] }
    }

    fn add_value(&mut self, value: (u32, String)) {
        // Among equal priorities the value that came last stands first.
        let at = self.values.partition_point(|(priority, _)| *priority < value.0);
        self.values.insert(at, value);
    }

    fn insert(&mut self, key: &[u8], value: (u32, String)) {
        let mut node = self;
        let mut rest = key;
        loop {
            let common = node.prefix.iter().zip(rest).take_while(|(left, right)| left == right).count();
            if common < node.prefix.len() {
                node.split(common);
            }
            let (_, after) = rest.split_at(common);
            let Some((letter, after)) = after.split_first() else {
                return node.add_value(value);
            };
            rest = after;
            match node.children.entry(*letter) {
                std::collections::btree_map::Entry::Vacant(slot) => {
                    slot.insert(Node::leaf(rest, value));
                    return;
                }
                std::collections::btree_map::Entry::Occupied(slot) => node = slot.into_mut(),
            }
        }
    }

    /// Keeps the first `len` bytes of the prefix and moves all else into one child.
    fn split(&mut self, len: usize) {
        let rest = self.prefix.split_off(len);
        if let Some((letter, prefix)) = rest.split_first() {
            let child = Node {
                prefix: prefix.to_vec(),
                children: std::mem::take(&mut self.children),
                values: std::mem::take(&mut self.values),
            };
            self.children.insert(*letter, child);
        }
    }

    /// Appends the node after its children and returns the reference to it.
    fn encode(&self, out: &mut Vec<u8>) -> u32 {
        let references: BTreeMap<u8, u32> =
            self.children.iter().map(|(letter, child)| (*letter, child.encode(out))).collect();
        // Files stay far below the 256 MiB that a reference can reach: the caller bounds what goes in.
        let mut reference = out.len() as u32 & OFFSET_MASK;
        if !self.prefix.is_empty() {
            reference |= HAS_PREFIX;
            push_string(out, &self.prefix);
        }
        if let (Some(first), Some(last)) = (references.keys().next(), references.keys().next_back()) {
            reference |= HAS_CHILDREN;
            out.extend_from_slice(&[*first, *last]);
            for letter in *first..=*last {
                out.extend_from_slice(&references.get(&letter).copied().unwrap_or(0).to_be_bytes());
            }
        }
        if !self.values.is_empty() {
            reference |= HAS_VALUES;
            out.extend_from_slice(&(self.values.len() as u32).to_be_bytes());
            for (priority, value) in &self.values {
                out.extend_from_slice(&priority.to_be_bytes());
                push_string(out, value.as_bytes());
            }
        }
        reference
    }
}

fn push_string(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(text);
    out.push(0);
}

/// Keys with priority and value, in the order of insertion, as a `modules.*.bin` file.
///
/// Children stand before their parent, as kmod before 34 writes; every kmod reads both.
pub fn encode_index<'a>(
    file: &str,
    entries: impl IntoIterator<Item = (&'a str, u32, &'a str)>,
) -> Result<Vec<u8>, InitramfsError> {
    let fail = |detail: String| InitramfsError::Index { file: file.to_string(), detail };
    let mut root = Node::default();
    let mut len = 0usize;
    for (key, priority, value) in entries {
        len += key.len() + value.len();
        if !key.is_ascii()
            || key.len() > KEY_MAX
            || key.contains('\0')
            || value.contains('\0')
            || len > DECODED_MAX
        {
            return Err(fail(format!("the key {key:?} does not fit the binary form")));
        }
        root.insert(key.as_bytes(), (priority, value.to_string()));
    }
    let mut out = Vec::new();
    for word in [MAGIC, VERSION, 0] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    let reference = root.encode(&mut out);
    if let Some(slot) = out.get_mut(8..12) {
        slot.copy_from_slice(&reference.to_be_bytes());
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let entries = [("virtio_blk", 1, "b"), ("virtio", 0, "a"), ("virtio_blk", 0, "c"), ("vfat", 5, "d")];
        let bytes = encode_index("t", entries).unwrap();
        let decoded = decode_index("t", &bytes).unwrap();
        let keys: Vec<&str> = decoded.iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!(keys, ["vfat", "virtio", "virtio_blk"]);
        assert_eq!(decoded[2].values, [(0, "c".to_string()), (1, "b".to_string())]);
    }

    #[test]
    fn loops_and_cuts_are_refused() {
        let mut bytes = encode_index("t", [("ab", 0, "x"), ("ac", 0, "y")]).unwrap();
        assert!(decode_index("t", &bytes[..bytes.len() - 3]).is_err());
        // The root's child points back to the root.
        let root = bytes[8..12].to_vec();
        let at = bytes.len() - 4;
        bytes[at..].copy_from_slice(&root);
        assert!(decode_index("t", &bytes).is_err());
    }
}
