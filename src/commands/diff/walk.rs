//! Two guest trees side by side.

use std::collections::BTreeMap;

use vfs::{FileKind, GuestPath, GuestTree, Location, Metadata, VfsError};

use super::files::{Change, Difference, FileChange};
use crate::commands::look::{SeenDirectories, kind_name, value_text};
use crate::render::diff::unified;
use crate::render::output::Failure;

/// Bytes of each file that are compared at a time.
const CHUNK: usize = 256 << 10;
/// Files up to this size are shown line by line.
const TEXT_MAX: u64 = 1 << 20;

/// The trees that are compared.
pub struct Pair<'t> {
    pub old: &'t GuestTree,
    pub new: &'t GuestTree,
    /// Text files line by line.
    pub with_content: bool,
}

/// Takes each file that differs.
pub type Sink<'s> = dyn FnMut(FileChange) -> Result<(), Failure> + 's;

/// A node with its metadata.
struct Node {
    location: Location,
    metadata: Metadata,
}

/// What `path` itself is; a symlink in its last component is not followed.
pub fn find(tree: &GuestTree, path: &GuestPath) -> Result<Option<Location>, VfsError> {
    match tree.resolve_no_follow(path) {
        Ok(location) => Ok(Some(location)),
        Err(VfsError::NotFound { .. } | VfsError::NotADirectory { .. } | VfsError::SymlinkLoop { .. }) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn node(tree: &GuestTree, location: Option<Location>) -> Result<Option<Node>, VfsError> {
    location.map(|location| Ok(Node { metadata: tree.stat_at(&location)?, location })).transpose()
}

/// Names in a directory with what they lead to, a mount point to what is mounted there.
fn children(tree: &GuestTree, node: Option<&Node>) -> Result<BTreeMap<Vec<u8>, Location>, VfsError> {
    let mut names = BTreeMap::new();
    let Some(node) = node.filter(|node| node.metadata.kind == FileKind::Directory) else { return Ok(names) };
    let Location { mount, node, path } = &node.location;
    for entry in tree.mounts()[*mount].filesystem.list(*node)? {
        let below = path.join(&entry.name);
        let covering = tree.mounts().iter().rposition(|other| other.at == below);
        let location = match covering {
            Some(mount) => Location { mount, node: tree.mounts()[mount].filesystem.root(), path: below },
            None => Location { mount: *mount, node: entry.node, path: below },
        };
        names.insert(entry.name, location);
    }
    // An EFI system partition that fstab does not mount is in no listing.
    for (mount, attached) in tree.mounts().iter().enumerate().skip(1) {
        if let Some(name) = attached.at.file_name().filter(|_| attached.at.parent().as_ref() == Some(path)) {
            let root = attached.filesystem.root();
            let location = || Location { mount, node: root, path: attached.at.clone() };
            names.entry(name.to_vec()).or_insert_with(location);
        }
    }
    Ok(names)
}

impl Pair<'_> {
    /// Compares `start` and everything below it, in the order of paths.
    pub fn walk(&self, start: &GuestPath, sink: &mut Sink<'_>) -> Result<(), Failure> {
        let (mut seen_old, mut seen_new) = (SeenDirectories::default(), SeenDirectories::default());
        let mut todo = vec![(start.clone(), find(self.old, start)?, find(self.new, start)?)];
        while let Some((path, old, new)) = todo.pop() {
            let (old, new) = (node(self.old, old)?, node(self.new, new)?);
            if let Some(change) = self.compare(&path, old.as_ref(), new.as_ref())? {
                sink(change)?;
            }
            let is_directory = |node: &Option<Node>| {
                node.as_ref().is_some_and(|node| node.metadata.kind == FileKind::Directory)
            };
            if is_directory(&old) {
                seen_old.enter(self.old, &path)?;
            }
            if is_directory(&new) {
                seen_new.enter(self.new, &path)?;
            }
            let mut below: BTreeMap<Vec<u8>, (Option<Location>, Option<Location>)> = BTreeMap::new();
            for (name, location) in children(self.old, old.as_ref())? {
                below.entry(name).or_default().0 = Some(location);
            }
            for (name, location) in children(self.new, new.as_ref())? {
                below.entry(name).or_default().1 = Some(location);
            }
            // The next one to be looked at is the last of the list.
            todo.extend(below.into_iter().rev().map(|(name, (old, new))| (path.join(name), old, new)));
        }
        Ok(())
    }

    fn compare(
        &self,
        path: &GuestPath,
        old: Option<&Node>,
        new: Option<&Node>,
    ) -> Result<Option<FileChange>, Failure> {
        let change = |change, kind: FileKind, differences, diff| FileChange {
            path: path.to_string(),
            change,
            kind: kind_name(kind),
            differences,
            diff,
        };
        Ok(match (old, new) {
            (None, None) => None,
            (Some(old), None) => Some(change(
                Change::Removed,
                old.metadata.kind,
                Vec::new(),
                self.diff(path, Some(old), None)?,
            )),
            (None, Some(new)) => {
                Some(change(Change::Added, new.metadata.kind, Vec::new(), self.diff(path, None, Some(new))?))
            }
            (Some(old), Some(new)) => {
                let differences = self.differences(old, new)?;
                let has_content =
                    differences.iter().any(|found| matches!(found.what.as_str(), "content" | "kind"));
                let diff = if has_content { self.diff(path, Some(old), Some(new))? } else { None };
                (!differences.is_empty())
                    .then(|| change(Change::Changed, new.metadata.kind, differences, diff))
            }
        })
    }

    /// What differs between two nodes. Times, numbers and where the bytes lie are no differences.
    fn differences(&self, old: &Node, new: &Node) -> Result<Vec<Difference>, VfsError> {
        let mut found = Vec::new();
        let mut put = |what: &str, old: Option<String>, new: Option<String>| {
            if old != new {
                found.push(Difference { what: what.to_owned(), old, new });
            }
        };
        let (a, b) = (&old.metadata, &new.metadata);
        put("kind", Some(kind_name(a.kind).into()), Some(kind_name(b.kind).into()));
        put("mode", Some(format!("{:04o}", a.mode)), Some(format!("{:04o}", b.mode)));
        put("owner", Some(format!("{}:{}", a.uid, a.gid)), Some(format!("{}:{}", b.uid, b.gid)));
        let device = |node: &Metadata| node.device.map(|(major, minor)| format!("{major}, {minor}"));
        put("device", device(a), device(b));
        let flags = |node: &Metadata| {
            let set = [(node.is_immutable, "immutable"), (node.is_append_only, "append-only")];
            let names: Vec<&str> =
                set.into_iter().filter(|(is_set, _)| *is_set).map(|(_, name)| name).collect();
            (!names.is_empty()).then(|| names.join(" "))
        };
        put("flags", flags(a), flags(b));
        put("target", target(self.old, old)?, target(self.new, new)?);
        let (old_xattrs, new_xattrs) = (xattrs(self.old, old)?, xattrs(self.new, new)?);
        for name in old_xattrs.keys().chain(new_xattrs.keys().filter(|name| !old_xattrs.contains_key(*name)))
        {
            let value = |of: &BTreeMap<Vec<u8>, Vec<u8>>| of.get(name).map(|value| value_text(value));
            put(&format!("xattr {}", String::from_utf8_lossy(name)), value(&old_xattrs), value(&new_xattrs));
        }
        let is_file = a.kind == FileKind::Regular && b.kind == FileKind::Regular;
        if is_file && !self.has_same_content(old, new)? {
            let size = |node: &Metadata| Some(format!("{} bytes", node.len));
            found.push(Difference { what: "content".into(), old: size(a), new: size(b) });
        }
        Ok(found)
    }

    fn has_same_content(&self, old: &Node, new: &Node) -> Result<bool, VfsError> {
        if old.metadata.len != new.metadata.len {
            return Ok(false);
        }
        let mut buffers = (vec![0; CHUNK], vec![0; CHUNK]);
        let mut offset = 0;
        while offset < old.metadata.len {
            let wanted = (old.metadata.len - offset).min(CHUNK as u64) as usize;
            let one = read(self.old, old, offset, &mut buffers.0[..wanted])?;
            let other = read(self.new, new, offset, &mut buffers.1[..wanted])?;
            if one != other || buffers.0[..one] != buffers.1[..other] {
                return Ok(false);
            }
            if one == 0 {
                break;
            }
            offset += one as u64;
        }
        Ok(true)
    }

    /// A unified diff of regular files of moderate size; `None` when it was not asked for.
    fn diff(
        &self,
        path: &GuestPath,
        old: Option<&Node>,
        new: Option<&Node>,
    ) -> Result<Option<String>, Failure> {
        if !self.with_content {
            return Ok(None);
        }
        let is_file = |node: &&Node| node.metadata.kind == FileKind::Regular;
        let (old, new) = (old.filter(is_file), new.filter(is_file));
        if old.is_none() && new.is_none() {
            return Ok(None);
        }
        let name = path.to_string();
        let len = |node: Option<&Node>| node.map_or(0, |node| node.metadata.len);
        if len(old).max(len(new)) > TEXT_MAX {
            return Ok(Some(format!("Large file {name}: {} to {} bytes\n", len(old), len(new))));
        }
        let content = |tree: &GuestTree, node: Option<&Node>| -> Result<Option<Vec<u8>>, VfsError> {
            let Some(node) = node else { return Ok(None) };
            let mut bytes = vec![0; node.metadata.len as usize];
            let filled = read(tree, node, 0, &mut bytes)?;
            bytes.truncate(filled);
            Ok(Some(bytes))
        };
        let (old, new) = (content(self.old, old)?, content(self.new, new)?);
        // A NUL is UTF-8, and no text.
        let is_binary = |bytes: &Option<Vec<u8>>| bytes.as_ref().is_some_and(|bytes| bytes.contains(&0));
        if is_binary(&old) || is_binary(&new) {
            let len = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
            return Ok(Some(format!("Binary file {name}: {} to {} bytes\n", len(&old), len(&new))));
        }
        Ok(Some(unified(&name, old.as_deref(), &new.unwrap_or_default())))
    }
}

/// Fills `buffer` as far as the file goes.
fn read(tree: &GuestTree, node: &Node, offset: u64, buffer: &mut [u8]) -> Result<usize, VfsError> {
    tree.mounts()[node.location.mount].filesystem.read_at(node.location.node, offset, buffer)
}

fn target(tree: &GuestTree, node: &Node) -> Result<Option<String>, VfsError> {
    if node.metadata.kind != FileKind::Symlink {
        return Ok(None);
    }
    let target = tree.mounts()[node.location.mount].filesystem.read_link(node.location.node)?;
    Ok(Some(String::from_utf8_lossy(&target).into_owned()))
}

fn xattrs(tree: &GuestTree, node: &Node) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, VfsError> {
    let all = tree.mounts()[node.location.mount].filesystem.xattrs(node.location.node)?;
    Ok(all.into_iter().map(|xattr| (xattr.name, xattr.value)).collect())
}
