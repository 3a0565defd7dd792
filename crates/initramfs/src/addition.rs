//! A segment of our own while it is built: entries for what is not there yet, placed through the archive's links.

use crate::InitramfsError;
use crate::newc::{Header, S_IFDIR, S_IFLNK, S_IFREG, encode_entry, encode_trailer};
use crate::tree::{Content, Node, Tree, path_components};
use ondisk::crc32c_raw;

/// Inode numbers of our entries begin here; they only matter for hard links, of which we make none.
const FIRST_INODE: u32 = 0x4000_0000;
/// Target of the link that takes a name away from a hard-linked file.
const PLACEHOLDER: &[u8] = b"replaced";

/// Entries of one segment, with the tree as it will be after them.
#[derive(Debug, Clone)]
pub(crate) struct Addition {
    tree: Tree,
    entries: Vec<u8>,
    count: u32,
}

impl Addition {
    /// Nothing added yet to `tree`.
    pub(crate) fn to(tree: &Tree) -> Self {
        let mut tree = tree.clone();
        tree.forget_hard_links();
        Self { tree, entries: Vec::new(), count: 0 }
    }

    /// The tree with all additions.
    pub(crate) fn tree(&self) -> &Tree {
        &self.tree
    }

    /// True when there is nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The entries without trailer, beginning at a multiple of 4.
    pub(crate) fn entries(&self) -> &[u8] {
        &self.entries
    }

    /// A whole archive with these entries.
    pub(crate) fn archive(&self) -> Vec<u8> {
        let mut archive = self.entries.clone();
        encode_trailer(&mut archive);
        archive
    }

    /// Adds or replaces a file (root:root); directories above it are made where they are missing.
    pub(crate) fn file(&mut self, path: &str, permissions: u32, data: &[u8]) -> Result<(), InitramfsError> {
        let real = self.prepare_parent(path)?;
        let existing = self.tree.resolve_no_follow(&real);
        if let Some(id) = existing {
            if matches!(self.tree.node(id), Node::Directory(_)) {
                return Err(conflict(path, "a directory stands where a file is to be"));
            }
            // The kernel writes through into every other name of a hard-linked file; a link put there first
            // makes it a file of its own.
            if self.tree.links(id) > 1 {
                self.push(S_IFLNK | 0o777, &real, PLACEHOLDER);
            }
        }
        self.push(S_IFREG | permissions, &real, data);
        Ok(())
    }

    /// Makes missing directories above `path`; the path without links in its directories.
    fn prepare_parent(&mut self, path: &str) -> Result<Vec<u8>, InitramfsError> {
        let components: Vec<&[u8]> = path_components(path.as_bytes()).collect();
        let Some((name, dirs)) = components.split_last() else {
            return Err(conflict(path, "an empty path"));
        };
        let mut real: Vec<u8> = Vec::new();
        for dir in dirs {
            let mut next = real.clone();
            if !next.is_empty() {
                next.push(b'/');
            }
            next.extend_from_slice(dir);
            match (self.tree.resolve(&next), self.tree.real_path(&next)) {
                (Some(id), Some(target)) => {
                    if !matches!(self.tree.node(id), Node::Directory(_)) {
                        return Err(conflict(path, "a file stands where a directory is to be"));
                    }
                    real = target;
                }
                _ if self.tree.resolve_no_follow(&next).is_some() => {
                    return Err(conflict(
                        path,
                        "a link that leads nowhere stands where a directory is to be",
                    ));
                }
                _ => {
                    self.push(S_IFDIR | 0o755, &next, &[]);
                    real = next;
                }
            }
        }
        if !real.is_empty() {
            real.push(b'/');
        }
        real.extend_from_slice(name);
        Ok(real)
    }

    fn push(&mut self, mode: u32, path: &[u8], data: &[u8]) {
        let is_dir = mode & S_IFDIR == S_IFDIR && mode & S_IFREG != S_IFREG;
        let header = Header {
            inode: FIRST_INODE.wrapping_add(self.count),
            mode,
            links: if is_dir { 2 } else { 1 },
            size: u32::try_from(data.len()).unwrap_or(u32::MAX),
            ..Header::default()
        };
        encode_entry(&mut self.entries, &header, path, data);
        let content =
            Content { size: data.len() as u64, checksum: crc32c_raw(0, data), bytes: Some(data.into()) };
        self.tree.apply(path, &header, content);
        self.count += 1;
    }
}

fn conflict(path: &str, detail: &str) -> InitramfsError {
    InitramfsError::Conflict { path: path.to_string(), detail: detail.to_string() }
}
