//! The tree that the kernel makes of all entries: the later entry wins, links are followed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::newc::{Header, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG};

/// Links that one path may follow, as the kernel has it.
const SYMLINKS_MAX: usize = 40;
/// Names that one lookup walks at most: far beyond any real image, and a bound on the work of a hostile one.
const WALK_MAX: usize = 256;
const ROOT: NodeId = NodeId(0);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeId(usize);

/// Data of a regular file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) size: u64,
    /// CRC-32C of all bytes.
    pub(crate) checksum: u32,
    /// `None` when the file was too large to be kept.
    pub(crate) bytes: Option<Arc<[u8]>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    Directory(BTreeMap<Vec<u8>, NodeId>),
    Regular(Content),
    Symlink(Vec<u8>),
    /// Device, FIFO, socket: mode and device number.
    Special(u32, (u32, u32)),
}

#[derive(Debug, Clone)]
struct Inode {
    node: Node,
    mode: u32,
    owner: (u32, u32),
    /// Names that stand for this inode.
    links: u32,
}

/// Inode number, major, minor, mode: what the kernel matches hard links by.
type HardLinkKey = (u32, u32, u32, u32);

#[derive(Debug, Clone)]
pub(crate) struct Tree {
    inodes: Vec<Inode>,
    hard_links: HashMap<HardLinkKey, NodeId>,
}

/// What a path is, for comparing two trees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) mode: u32,
    owner: (u32, u32),
    what: ListedKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum ListedKind {
    Directory,
    Regular { size: u64, checksum: u32 },
    Symlink(Vec<u8>),
    Special((u32, u32)),
}

impl Tree {
    pub(crate) fn new() -> Self {
        let root =
            Inode { node: Node::Directory(BTreeMap::new()), mode: S_IFDIR | 0o755, owner: (0, 0), links: 1 };
        Self { inodes: vec![root], hard_links: HashMap::new() }
    }

    /// What the kernel does at each `TRAILER!!!`.
    pub(crate) fn forget_hard_links(&mut self) {
        self.hard_links.clear();
    }

    /// Applies one entry as `init/initramfs.c` does: what cannot be made is skipped.
    pub(crate) fn apply(&mut self, path: &[u8], header: &Header, content: Content) {
        let kind = header.mode & S_IFMT;
        let Some((parent, name)) = self.resolve_parent(path) else {
            if kind == S_IFDIR && path_components(path).next().is_none() {
                self.set_owner_and_mode(ROOT, header);
            }
            return;
        };
        if kind != S_IFREG && kind != S_IFLNK && header.size != 0 {
            return;
        }
        let existing = self.child(parent, name);
        if kind == S_IFDIR {
            match existing.filter(|id| matches!(self.node(*id), Node::Directory(_))) {
                Some(id) => self.set_owner_and_mode(id, header),
                None => {
                    if self.remove(parent, name) {
                        self.add(parent, name, Node::Directory(BTreeMap::new()), header);
                    }
                }
            }
            return;
        }
        let key = (header.inode, header.device.0, header.device.1, header.mode);
        let linked =
            (header.links >= 2 && kind != S_IFLNK).then(|| self.hard_links.get(&key).copied()).flatten();
        if let Some(id) = linked {
            if existing != Some(id) && !self.remove(parent, name) {
                return;
            }
            self.set_child(parent, name, id);
            // The last link of a file carries the data.
            if content.size > 0 && kind == S_IFREG {
                self.set_node(id, Node::Regular(content));
            }
            return;
        }
        if kind == S_IFREG
            && let Some(id) = existing.filter(|id| matches!(self.node(*id), Node::Regular(_)))
        {
            self.set_node(id, Node::Regular(content));
            self.set_owner_and_mode(id, header);
            self.remember_hard_link(header, key, id);
            return;
        }
        let node = match kind {
            S_IFREG => Node::Regular(content),
            S_IFLNK => match &content.bytes {
                // The kernel cuts the target at its first NUL and skips one that is too long.
                Some(target) => Node::Symlink(target.iter().copied().take_while(|byte| *byte != 0).collect()),
                None => return,
            },
            _ => Node::Special(kind, header.special),
        };
        if self.remove(parent, name) {
            let id = self.add(parent, name, node, header);
            if kind != S_IFLNK {
                self.remember_hard_link(header, key, id);
            }
        }
    }

    fn remember_hard_link(&mut self, header: &Header, key: HardLinkKey, id: NodeId) {
        if header.links >= 2 {
            self.hard_links.insert(key, id);
        }
    }

    /// Frees a name; false when a directory that is not empty stands there.
    fn remove(&mut self, parent: NodeId, name: &[u8]) -> bool {
        if let Some(id) = self.child(parent, name)
            && matches!(self.node(id), Node::Directory(children) if !children.is_empty())
        {
            return false;
        }
        if let Some(Node::Directory(children)) = self.node_mut(parent)
            && let Some(removed) = children.remove(name)
        {
            self.count_link(removed, |links| links.saturating_sub(1));
        }
        true
    }

    fn add(&mut self, parent: NodeId, name: &[u8], node: Node, header: &Header) -> NodeId {
        let id = NodeId(self.inodes.len());
        self.inodes.push(Inode { node, mode: header.mode, owner: (header.uid, header.gid), links: 0 });
        self.set_child(parent, name, id);
        id
    }

    fn set_child(&mut self, parent: NodeId, name: &[u8], id: NodeId) {
        if let Some(Node::Directory(children)) = self.node_mut(parent) {
            let replaced = children.insert(name.to_vec(), id);
            self.count_link(id, |links| links.saturating_add(1));
            if let Some(replaced) = replaced {
                self.count_link(replaced, |links| links.saturating_sub(1));
            }
        }
    }

    fn count_link(&mut self, id: NodeId, count: impl Fn(u32) -> u32) {
        if let Some(inode) = self.inodes.get_mut(id.0) {
            inode.links = count(inode.links);
        }
    }

    /// How many names stand for a node.
    pub(crate) fn links(&self, id: NodeId) -> u32 {
        self.inodes[id.0].links
    }

    fn set_node(&mut self, id: NodeId, node: Node) {
        if let Some(slot) = self.node_mut(id) {
            *slot = node;
        }
    }

    fn set_owner_and_mode(&mut self, id: NodeId, header: &Header) {
        if let Some(inode) = self.inodes.get_mut(id.0) {
            inode.mode = header.mode;
            inode.owner = (header.uid, header.gid);
        }
    }

    fn node_mut(&mut self, id: NodeId) -> Option<&mut Node> {
        self.inodes.get_mut(id.0).map(|inode| &mut inode.node)
    }

    pub(crate) fn node(&self, id: NodeId) -> &Node {
        // Identifiers come from this tree alone and nodes are never taken out of the table.
        &self.inodes[id.0].node
    }

    pub(crate) fn mode(&self, id: NodeId) -> u32 {
        self.inodes[id.0].mode
    }

    pub(crate) fn child(&self, dir: NodeId, name: &[u8]) -> Option<NodeId> {
        match self.node(dir) {
            Node::Directory(children) => children.get(name).copied(),
            _ => None,
        }
    }

    /// The node at `path`, every symlink followed.
    pub(crate) fn resolve(&self, path: &[u8]) -> Option<NodeId> {
        self.walk_to(path).map(|(id, _)| id)
    }

    /// The node at `path`, symlinks followed in its directories alone.
    pub(crate) fn resolve_no_follow(&self, path: &[u8]) -> Option<NodeId> {
        let (parent, name) = self.resolve_parent(path)?;
        self.child(parent, name)
    }

    /// The path of the directory or file at `path` without symlinks in it.
    pub(crate) fn real_path(&self, path: &[u8]) -> Option<Vec<u8>> {
        self.walk_to(path).map(|(_, names)| names.join(&b'/'))
    }

    fn resolve_parent<'p>(&self, path: &'p [u8]) -> Option<(NodeId, &'p [u8])> {
        let components: Vec<&[u8]> = path_components(path).collect();
        let (name, dirs) = components.split_last()?;
        if *name == b".." {
            return None;
        }
        let parent = self.resolve(&dirs.join(&b'/'))?;
        matches!(self.node(parent), Node::Directory(_)).then_some((parent, *name))
    }

    fn walk_to<'p>(&'p self, path: &'p [u8]) -> Option<(NodeId, Vec<&'p [u8]>)> {
        let mut todo: Vec<&[u8]> = path_components(path).rev().collect();
        let mut walked: Vec<(NodeId, &[u8])> = Vec::new();
        let mut links = 0;
        let mut steps = 0;
        while let Some(name) = todo.pop() {
            steps += 1;
            if steps + todo.len() > WALK_MAX {
                return None;
            }
            let at = walked.last().map_or(ROOT, |(id, _)| *id);
            if name == b".." {
                walked.pop();
                continue;
            }
            let id = self.child(at, name)?;
            match self.node(id) {
                Node::Symlink(target) => {
                    links += 1;
                    if links > SYMLINKS_MAX {
                        return None;
                    }
                    if target.starts_with(b"/") {
                        walked.clear();
                    }
                    todo.extend(path_components(target).rev());
                }
                _ => walked.push((id, name)),
            }
        }
        let id = walked.last().map_or(ROOT, |(id, _)| *id);
        Some((id, walked.into_iter().map(|(_, name)| name).collect()))
    }

    /// Every path below `dir` (the root's is empty) with its node, parents first, no symlink followed.
    pub(crate) fn below(&self, dir: NodeId) -> Vec<(Vec<u8>, NodeId)> {
        let mut found = Vec::new();
        let mut todo = vec![(Vec::new(), dir)];
        while let Some((path, id)) = todo.pop() {
            let Node::Directory(children) = self.node(id) else { continue };
            for (name, child) in children {
                let mut child_path: Vec<u8> = path.clone();
                if !child_path.is_empty() {
                    child_path.push(b'/');
                }
                child_path.extend_from_slice(name);
                if matches!(self.node(*child), Node::Directory(_)) {
                    todo.push((child_path.clone(), *child));
                }
                found.push((child_path, *child));
            }
        }
        found
    }

    /// Bytes that the paths of [`Tree::below`] for the root take: links can make them long in a small archive.
    pub(crate) fn path_bytes(&self) -> u64 {
        let mut total = 0;
        let mut todo = vec![(0u64, ROOT)];
        while let Some((len, id)) = todo.pop() {
            let Node::Directory(children) = self.node(id) else { continue };
            for (name, child) in children {
                let child_len = len + 1 + name.len() as u64;
                total += child_len;
                todo.push((child_len, *child));
            }
        }
        total
    }

    /// The whole tree, for comparing two of them.
    pub(crate) fn listing(&self) -> BTreeMap<Vec<u8>, Listed> {
        let mut listing = BTreeMap::new();
        for (path, id) in self.below(ROOT) {
            listing.insert(path, self.listed(id));
        }
        listing.insert(Vec::new(), self.listed(ROOT));
        listing
    }

    fn listed(&self, id: NodeId) -> Listed {
        let inode = &self.inodes[id.0];
        let what = match &inode.node {
            Node::Directory(_) => ListedKind::Directory,
            Node::Regular(content) => ListedKind::Regular { size: content.size, checksum: content.checksum },
            Node::Symlink(target) => ListedKind::Symlink(target.clone()),
            Node::Special(_, device) => ListedKind::Special(*device),
        };
        Listed { mode: inode.mode, owner: inode.owner, what }
    }
}

/// Names of a path, empty ones and `.` left out.
pub(crate) fn path_components(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".")
}
