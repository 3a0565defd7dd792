//! The in-memory model of a filesystem, and its comparison with our reader and with the kernel's mount.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use vfs::{FileKind, Filesystem, NodeId, Timestamp};

/// What a node must look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub kind: FileKind,
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub atime: Timestamp,
    pub mtime: Timestamp,
    /// Bytes of a file, or the target of a symlink.
    pub content: Vec<u8>,
    pub device: Option<(u32, u32)>,
    pub entries: BTreeMap<Vec<u8>, u64>,
    pub xattrs: Xattrs,
    pub is_immutable: bool,
    /// Names of it; of a directory 2 and its subdirectories.
    pub links: u64,
}

/// Attributes by name.
type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// All nodes by number.
pub struct Memory {
    pub nodes: BTreeMap<u64, Node>,
    pub root: u64,
}

fn read_node(fs: &dyn Filesystem, number: u64) -> Result<Node, String> {
    let node = NodeId(number);
    let context = |error: vfs::VfsError| format!("node {number}: {error}");
    let stat = fs.stat(node).map_err(context)?;
    let mut content = Vec::new();
    let mut entries = BTreeMap::new();
    match stat.kind {
        FileKind::Regular => {
            content = vec![0; stat.len as usize];
            let got = fs.read_at(node, 0, &mut content).map_err(context)?;
            if got != content.len() {
                return Err(format!("node {number}: {got} of {} bytes read", content.len()));
            }
        }
        FileKind::Symlink => content = fs.read_link(node).map_err(context)?,
        FileKind::Directory => {
            for entry in fs.list(node).map_err(context)? {
                if fs.lookup(node, &entry.name).map_err(context)? != Some(entry.node) {
                    return Err(format!("node {number}: {:?} is listed, but not found", entry.name));
                }
                if entries.insert(entry.name.clone(), entry.node.0).is_some() {
                    return Err(format!("node {number}: {:?} is listed twice", entry.name));
                }
            }
        }
        _ => {}
    }
    let xattrs =
        fs.xattrs(node).map_err(context)?.into_iter().map(|xattr| (xattr.name, xattr.value)).collect();
    Ok(Node {
        kind: stat.kind,
        mode: stat.mode,
        uid: stat.uid,
        gid: stat.gid,
        atime: stat.atime,
        mtime: stat.mtime,
        content,
        device: stat.device,
        entries,
        xattrs,
        is_immutable: stat.is_immutable,
        links: stat.links,
    })
}

impl Memory {
    /// Takes over a whole filesystem.
    pub fn import(fs: &dyn Filesystem) -> Self {
        let root = fs.root().0;
        let mut nodes = BTreeMap::new();
        let mut todo = vec![root];
        while let Some(number) = todo.pop() {
            let node = read_node(fs, number).unwrap_or_else(|error| panic!("{error}"));
            todo.extend(node.entries.values().filter(|child| !nodes.contains_key(*child)));
            nodes.insert(number, node);
        }
        Self { nodes, root }
    }

    pub fn node(&self, number: u64) -> &Node {
        &self.nodes[&number]
    }

    pub fn change(&mut self, number: u64) -> &mut Node {
        self.nodes.get_mut(&number).expect("a node of the model")
    }

    /// First difference to what our reader sees.
    pub fn difference(&self, fs: &dyn Filesystem) -> Option<String> {
        let mut todo = vec![self.root];
        let mut seen = std::collections::BTreeSet::new();
        while let Some(number) = todo.pop() {
            if !seen.insert(number) {
                continue;
            }
            let expected = &self.nodes[&number];
            match read_node(fs, number) {
                Ok(found) if found == *expected => todo.extend(expected.entries.values()),
                Ok(found) => return Some(format!("node {number}:\n{}", explain(expected, &found))),
                Err(error) => return Some(error),
            }
        }
        (seen.len() != self.nodes.len())
            .then(|| format!("{} nodes reached of {}", seen.len(), self.nodes.len()))
    }

    /// First difference to a mount by the kernel. Times of access are left out: the walk changes them.
    pub fn difference_to_mount(&self, at: &Path) -> Option<String> {
        let xattrs = mounted_xattrs(at);
        let mut todo = vec![(self.root, Vec::<u8>::new())];
        while let Some((number, path)) = todo.pop() {
            let node = &self.nodes[&number];
            let full = if path.is_empty() { at.to_path_buf() } else { at.join(OsStr::from_bytes(&path)) };
            if let Some(text) = mounted_difference(node, number, &full, &xattrs) {
                return Some(format!("{}: {text}", full.display()));
            }
            for (name, child) in &node.entries {
                let mut below = path.clone();
                if !below.is_empty() {
                    below.push(b'/');
                }
                below.extend_from_slice(name);
                todo.push((*child, below));
            }
        }
        None
    }
}

/// The fields that differ, shortened.
fn explain(expected: &Node, found: &Node) -> String {
    let mut text = String::new();
    let mut field = |name: &str, expected: String, found: String| {
        if expected != found {
            let cut = |value: String| value.chars().take(600).collect::<String>();
            text.push_str(&format!("  {name}: expected {}\n    found {}\n", cut(expected), cut(found)));
        }
    };
    field("kind", format!("{:?}", expected.kind), format!("{:?}", found.kind));
    field("mode", format!("{:o}", expected.mode), format!("{:o}", found.mode));
    field("owner", format!("{}:{}", expected.uid, expected.gid), format!("{}:{}", found.uid, found.gid));
    field("atime", format!("{:?}", expected.atime), format!("{:?}", found.atime));
    field("mtime", format!("{:?}", expected.mtime), format!("{:?}", found.mtime));
    field("length", expected.content.len().to_string(), found.content.len().to_string());
    if expected.content != found.content {
        let at = expected.content.iter().zip(&found.content).position(|(left, right)| left != right);
        field("content differs from byte", format!("{at:?}"), String::new());
    }
    field("device", format!("{:?}", expected.device), format!("{:?}", found.device));
    let lost = |left: &Node, right: &Node| {
        let names: Vec<String> = left
            .entries
            .iter()
            .filter(|(name, child)| right.entries.get(*name) != Some(child))
            .map(|(name, child)| format!("{} → {child}", String::from_utf8_lossy(name)))
            .collect();
        names.join(", ")
    };
    field("entries", lost(expected, found), lost(found, expected));
    field("xattrs", format!("{:?}", expected.xattrs), format!("{:?}", found.xattrs));
    field("immutable", expected.is_immutable.to_string(), found.is_immutable.to_string());
    field("links", expected.links.to_string(), found.links.to_string());
    text
}

fn mounted_difference(
    node: &Node,
    number: u64,
    path: &Path,
    xattrs: &BTreeMap<Vec<u8>, Xattrs>,
) -> Option<String> {
    let stat = match std::fs::symlink_metadata(path) {
        Ok(stat) => stat,
        Err(error) => return Some(error.to_string()),
    };
    let kind = stat.file_type();
    let is_kind = match node.kind {
        FileKind::Regular => kind.is_file(),
        FileKind::Directory => kind.is_dir(),
        FileKind::Symlink => kind.is_symlink(),
        FileKind::BlockDevice => kind.is_block_device(),
        FileKind::CharDevice => kind.is_char_device(),
        FileKind::Fifo => kind.is_fifo(),
        FileKind::Socket => kind.is_socket(),
    };
    let mtime = Timestamp { seconds: stat.mtime(), nanoseconds: stat.mtime_nsec() as u32 };
    let device = node.device.map(|(major, minor)| {
        u64::from(minor & 0xff) | u64::from(major & 0xfff) << 8 | u64::from(minor & !0xff) << 12
    });
    for (what, is_right) in [
        ("kind", is_kind),
        ("inode", stat.ino() == number),
        ("mode", stat.mode() & 0o7777 == u32::from(node.mode)),
        ("owner", (stat.uid(), stat.gid()) == (node.uid, node.gid)),
        ("mtime", mtime == node.mtime),
        ("links", stat.nlink() == node.links),
        ("device", device.is_none_or(|device| stat.rdev() == device)),
    ] {
        if !is_right {
            return Some(format!("{what}: expected {node:?}, found {stat:?}").chars().take(3000).collect());
        }
    }
    let is_same = match node.kind {
        FileKind::Regular => std::fs::read(path).is_ok_and(|content| content == node.content),
        FileKind::Symlink => {
            std::fs::read_link(path).is_ok_and(|target| target.as_os_str().as_bytes() == node.content)
        }
        FileKind::Directory => {
            let names = std::fs::read_dir(path).map(|entries| {
                let mut names: Vec<Vec<u8>> = entries
                    .map(|entry| entry.map(|entry| entry.file_name().as_bytes().to_vec()).unwrap_or_default())
                    .collect();
                names.sort();
                names
            });
            names.is_ok_and(|names| names.iter().eq(node.entries.keys()))
        }
        _ => true,
    };
    if !is_same {
        return Some("content, target or entries differ".into());
    }
    let none = BTreeMap::new();
    let found = xattrs.get(path.as_os_str().as_bytes()).unwrap_or(&none);
    (*found != node.xattrs).then(|| format!("xattrs: expected {:?}, found {found:?}", node.xattrs))
}

/// All attributes below a mount by path, as getfattr prints them.
fn mounted_xattrs(at: &Path) -> BTreeMap<Vec<u8>, Xattrs> {
    let output = super::tool(
        "getfattr",
        &["-R", "-P", "-h", "-d", "-m", "-", "-e", "hex", "--absolute-names", at.to_str().expect("a path")],
    );
    assert!(output.status.success(), "{}", super::text(&output));
    let mut all = BTreeMap::new();
    let mut current: Option<(Vec<u8>, Xattrs)> = None;
    for line in output.stdout.split(|byte| *byte == b'\n') {
        if let Some(name) = line.strip_prefix(b"# file: ") {
            all.extend(current.take());
            current = Some((unescape(name), BTreeMap::new()));
        } else if line.starts_with(b"trusted.SGI_ACL_") {
            // The stored form of an ACL, which the kernel lists beside it.
        } else if let Some((_, xattrs)) = current.as_mut().filter(|_| !line.is_empty()) {
            let end = line.iter().position(|byte| *byte == b'=').unwrap_or(line.len());
            let name = &line[..end];
            let value = String::from_utf8_lossy(line.get(end + 1..).unwrap_or_default());
            let digits = value.trim_start_matches("0x");
            let bytes = (0..digits.len() / 2)
                .map(|index| u8::from_str_radix(&digits[2 * index..2 * index + 2], 16).expect("hex"))
                .collect();
            xattrs.insert(unescape(name), bytes);
        }
    }
    all.extend(current);
    all
}

/// Undoes the octal escapes of getfattr.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let octal = (*first == b'\\')
            .then(|| tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok()))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal {
            Some(byte) => {
                out.push(byte);
                rest = &tail[3..];
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}
