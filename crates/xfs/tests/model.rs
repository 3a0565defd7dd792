//! Random operations against an in-memory model, over the mkfs matrix.
//!
//! After each batch our reader must see what the model says, xfs_repair must be silent and our own check, too.
//! At the end the kernel's mount is walked and compared, and the kernel then writes to the filesystem.
//! `COLDFIT_MODEL_OPS` sets the number of operations over all rows, `COLDFIT_MODEL_SEED` the seed,
//! `COLDFIT_MODEL_ROW` takes one row of the matrix alone.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)] // Helpers of tests fail as tests do.

mod support;

use std::path::Path;

use coldfit_xfs::{Xfs, check};
use report::Diagnose;
use support::memory::{Memory, Node};
use support::*;
use vfs::{FileKind, Filesystem, MetadataChange, NewNode, NodeId, Timestamp, VfsError, WritableFilesystem};

const BATCH: u64 = 100;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// One random walk through all operations.
struct Walk {
    fs: Xfs,
    memory: Memory,
    random: Random,
    now: Timestamp,
    refusals: u64,
    /// The last operation, for failures.
    last: String,
}

/// Entries of an ACL in the form of the system call: tag, permissions, id.
fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut value = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        value.extend_from_slice(&tag.to_le_bytes());
        value.extend_from_slice(&permissions.to_le_bytes());
        value.extend_from_slice(&id.to_le_bytes());
    }
    value
}

fn acl_entries(value: &[u8]) -> Vec<(u16, u16, u32)> {
    let word = |raw: &[u8]| u16::from_le_bytes([raw[0], raw[1]]);
    value[4..]
        .chunks(8)
        .map(|raw| (word(raw), word(&raw[2..]), u32::from_le_bytes([raw[4], raw[5], raw[6], raw[7]])))
        .collect()
}

const ACCESS: &[u8] = b"system.posix_acl_access";
const DEFAULT: &[u8] = b"system.posix_acl_default";
const USER_OBJ: u16 = 1;
const USER: u16 = 2;
const GROUP_OBJ: u16 = 4;
const GROUP: u16 = 8;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;
const NO_ID: u32 = u32::MAX;

/// The tag whose permissions are the group bits of the mode.
fn group_tag(entries: &[(u16, u16, u32)]) -> u16 {
    if entries.iter().any(|entry| entry.0 == MASK) { MASK } else { GROUP_OBJ }
}

fn mode_of_acl(entries: &[(u16, u16, u32)]) -> u16 {
    let of = |tag| entries.iter().find(|entry| entry.0 == tag).map_or(0, |entry| entry.1);
    of(USER_OBJ) << 6 | of(group_tag(entries)) << 3 | of(OTHER)
}

/// chmod of an ACL.
fn acl_with_mode(value: &[u8], mode: u16) -> Vec<u8> {
    let mut entries = acl_entries(value);
    let group = group_tag(&entries);
    for entry in &mut entries {
        match entry.0 {
            USER_OBJ => entry.1 = mode >> 6 & 7,
            OTHER => entry.1 = mode & 7,
            tag if tag == group => entry.1 = mode >> 3 & 7,
            _ => {}
        }
    }
    acl(&entries)
}

impl Walk {
    fn new(image: &Path, seed: u64) -> Self {
        let mut fs = Xfs::open_writable(device(image)).unwrap();
        let now = Timestamp { seconds: 1_700_000_000, nanoseconds: 5 };
        fs.set_clock(now);
        let memory = Memory::import(&fs);
        Self { fs, memory, random: Random::new(seed), now, refusals: 0, last: String::new() }
    }

    /// A time as this filesystem can keep it.
    fn kept(&self, time: Timestamp, like: u64) -> Timestamp {
        let _ = like;
        time
    }

    fn pick(&mut self, wanted: impl Fn(&Node) -> bool) -> Option<u64> {
        let lost_found = self.memory.node(self.memory.root).entries.get(&b".not-there"[..]).copied();
        let found: Vec<u64> = self
            .memory
            .nodes
            .iter()
            .filter(|(number, node)| Some(**number) != lost_found && wanted(node))
            .map(|(number, _)| *number)
            .collect();
        (!found.is_empty()).then(|| found[self.random.below(found.len() as u64) as usize])
    }

    fn pick_dir(&mut self) -> u64 {
        self.pick(|node| node.kind == FileKind::Directory).unwrap_or(self.memory.root)
    }

    /// A directory, a name in it and what it names.
    fn pick_name(&mut self, wanted: impl Fn(&Node) -> bool) -> Option<(u64, Vec<u8>, u64)> {
        let memory = &self.memory;
        let has_wanted = |node: &Node| {
            node.entries.iter().any(|(name, child)| name != b".not-there" && wanted(&memory.nodes[child]))
        };
        let dirs: Vec<u64> =
            memory.nodes.iter().filter(|(_, node)| has_wanted(node)).map(|(number, _)| *number).collect();
        if dirs.is_empty() {
            return None;
        }
        let dir = dirs[self.random.below(dirs.len() as u64) as usize];
        let names: Vec<(Vec<u8>, u64)> = memory.nodes[&dir]
            .entries
            .iter()
            .filter(|(name, child)| *name != b".not-there" && wanted(&memory.nodes[child]))
            .map(|(name, child)| (name.clone(), *child))
            .collect();
        let (name, child) = names[self.random.below(names.len() as u64) as usize].clone();
        Some((dir, name, child))
    }

    /// A name: short, long, or with bytes from 0x80 on.
    fn name(&mut self) -> Vec<u8> {
        let len = match self.random.below(10) {
            0 => 200 + self.random.below(56),
            1..=3 => 20 + self.random.below(60),
            _ => 1 + self.random.below(12),
        };
        let is_high = self.random.chance(25);
        let name: Vec<u8> = (0..len)
            .map(|_| match self.random.below(26) as u8 {
                byte if is_high => 0x80 | byte << 2 | 1,
                byte => b'a' + byte,
            })
            .collect();
        name
    }

    fn content(&mut self) -> Vec<u8> {
        let len = match self.random.below(20) {
            0 => 0,
            1 => 60_000 + self.random.below(240_000),
            2..=6 => self.random.below(20_000),
            _ => self.random.below(300),
        };
        let mut content = self.random.bytes(len as usize);
        if self.random.chance(10) && len > 100 {
            content[50..].fill(0);
        }
        content
    }

    fn step(&mut self) {
        self.now.seconds += 1;
        self.now.nanoseconds = self.random.below(1_000_000_000) as u32;
        self.fs.set_clock(self.now);
        match self.random.below(100) {
            0..=24 => self.create(),
            25..=34 => self.write(),
            35..=39 => self.truncate(),
            40..=45 => self.replace(),
            46..=51 => self.link(),
            52..=64 => self.unlink(),
            65..=68 => self.remove_dir(),
            69..=78 => self.rename(),
            79..=85 => self.set_metadata(),
            86..=92 => self.set_xattr(),
            93..=94 => self.remove_xattr(),
            95..=97 => self.set_acl(),
            _ => self.set_immutable(),
        }
    }

    /// Passes `Ok` on; a refusal must be a plain one, and the model stays as it is.
    fn accept<T>(&mut self, result: Result<T, VfsError>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(VfsError::NoSpace { needed_bytes, free_bytes, .. }) => {
                assert!(needed_bytes > free_bytes, "{}: {needed_bytes} {free_bytes}", self.last);
                self.refusals += 1;
                None
            }
            Err(VfsError::NoInodes { .. }) => {
                assert_eq!(self.fs.space().unwrap().free_inodes, 0, "{}", self.last);
                self.refusals += 1;
                None
            }
            Err(VfsError::Limit { .. }) => {
                self.refusals += 1;
                None
            }
            Err(error) => panic!("{}: {}: {error}", self.last, error.code()),
        }
    }

    /// Asserts that an operation on an immutable node is refused.
    fn expect_refusal<T>(&mut self, result: Result<T, VfsError>) {
        match result {
            Err(VfsError::WrongKind { .. }) => {}
            Err(error) => panic!("{}: refused with {error}", self.last),
            Ok(_) => panic!("{}: not refused", self.last),
        }
    }

    fn touch(&mut self, number: u64) {
        let now = self.kept(self.now, number);
        self.memory.change(number).mtime = now;
    }

    fn create(&mut self) {
        let dir = self.pick_dir();
        let name = self.name();
        let content = self.content();
        let target_len =
            if self.random.chance(70) { 1 + self.random.below(59) } else { 60 + self.random.below(900) };
        let target: Vec<u8> =
            self.random.bytes(target_len as usize).iter().map(|byte| byte % 26 + b'a').collect();
        let (major, minor) = if self.random.chance(50) { (8, 17) } else { (300, 70_000) };
        let (kind, node) = match self.random.below(20) {
            0..=10 => (FileKind::Regular, NewNode::Regular(&content)),
            11..=14 => (FileKind::Directory, NewNode::Directory),
            15..=16 => (FileKind::Symlink, NewNode::Symlink(&target)),
            17 => (FileKind::BlockDevice, NewNode::Special(FileKind::BlockDevice, major, minor)),
            18 => (FileKind::CharDevice, NewNode::Special(FileKind::CharDevice, major, minor)),
            _ if self.random.chance(50) => (FileKind::Fifo, NewNode::Special(FileKind::Fifo, 0, 0)),
            _ => (FileKind::Socket, NewNode::Special(FileKind::Socket, 0, 0)),
        };
        let mode = self.random.below(0o10000) as u16;
        let (uid, gid) = (self.random.below(100_000) as u32, self.random.below(70_000) as u32);
        self.last = format!("create {kind:?} in {dir} of {} bytes", content.len());
        let result = self.fs.create(NodeId(dir), &name, node, mode, uid, gid);
        if self.memory.node(dir).is_immutable {
            return self.expect_refusal(result);
        }
        if self.memory.node(dir).entries.contains_key(&name) {
            assert!(matches!(result, Err(VfsError::Exists { .. })));
            return;
        }
        let Some(NodeId(number)) = self.accept(result) else { return };
        let time = self.kept(self.now, number);
        let mut new = Node {
            kind,
            mode,
            uid,
            gid,
            atime: time,
            mtime: time,
            content: match kind {
                FileKind::Regular => content,
                FileKind::Symlink => target,
                _ => Vec::new(),
            },
            device: matches!(kind, FileKind::BlockDevice | FileKind::CharDevice).then_some((major, minor)),
            entries: Default::default(),
            xattrs: Default::default(),
            is_immutable: false,
            links: if kind == FileKind::Directory { 2 } else { 1 },
        };
        if kind != FileKind::Symlink
            && let Some(default) = self.memory.node(dir).xattrs.get(DEFAULT).cloned()
        {
            inherit(&mut new, &default);
        }
        assert!(self.memory.nodes.insert(number, new).is_none(), "node {number} was in use");
        let parent = self.memory.change(dir);
        parent.entries.insert(name, number);
        parent.links += u64::from(kind == FileKind::Directory);
        self.touch(dir);
    }

    fn write(&mut self) {
        let Some(number) = self.pick(|node| node.kind == FileKind::Regular) else { return };
        let len = self.memory.node(number).content.len() as u64;
        let data = self.content();
        // Append, overwrite within, or leave a gap.
        let offset = match self.random.below(3) {
            0 => len,
            1 => self.random.below(len + 1),
            _ => len + self.random.below(30_000),
        };
        self.last = format!("write {} bytes at {offset} of {number} ({len} bytes)", data.len());
        let result = self.fs.write_at(NodeId(number), offset, &data);
        if self.memory.node(number).is_immutable {
            return self.expect_refusal(result);
        }
        if self.accept(result).is_none() || data.is_empty() {
            return;
        }
        let node = self.memory.change(number);
        let (start, end) = (offset as usize, offset as usize + data.len());
        let is_same = node.content.get(start..end) == Some(&data[..]);
        if node.content.len() < end {
            node.content.resize(end, 0);
        }
        node.content[start..end].copy_from_slice(&data);
        if !is_same {
            self.touch(number);
        }
    }

    fn truncate(&mut self) {
        let Some(number) = self.pick(|node| node.kind == FileKind::Regular) else { return };
        let old = self.memory.node(number).content.len() as u64;
        let len =
            if self.random.chance(60) { self.random.below(old + 1) } else { old + self.random.below(50_000) };
        self.last = format!("truncate {number} from {old} to {len}");
        let result = self.fs.truncate(NodeId(number), len);
        if self.memory.node(number).is_immutable {
            return self.expect_refusal(result);
        }
        if self.accept(result).is_some() && len != old {
            self.memory.change(number).content.resize(len as usize, 0);
            self.touch(number);
        }
    }

    fn replace(&mut self) {
        let Some(number) = self.pick(|node| node.kind == FileKind::Regular) else { return };
        let content = self.content();
        self.last = format!("replace {number} by {} bytes", content.len());
        let result = self.fs.replace_content(NodeId(number), &content);
        if self.memory.node(number).is_immutable {
            return self.expect_refusal(result);
        }
        if self.accept(result).is_some() && self.memory.node(number).content != content {
            self.memory.change(number).content = content;
            self.touch(number);
        }
    }

    fn link(&mut self) {
        let Some(number) = self.pick(|node| node.kind != FileKind::Directory) else { return };
        let (dir, name) = (self.pick_dir(), self.name());
        self.last = format!("link {number} in {dir}");
        let result = self.fs.link(NodeId(number), NodeId(dir), &name);
        if self.memory.node(dir).is_immutable || self.memory.node(number).is_immutable {
            return self.expect_refusal(result);
        }
        if self.memory.node(dir).entries.contains_key(&name) {
            assert!(matches!(result, Err(VfsError::Exists { .. })));
        } else if self.accept(result).is_some() {
            self.memory.change(dir).entries.insert(name, number);
            self.memory.change(number).links += 1;
            self.touch(dir);
        }
    }

    fn forget(&mut self, number: u64) {
        let node = self.memory.change(number);
        node.links -= 1;
        if node.links == 0 {
            self.memory.nodes.remove(&number);
        }
    }

    fn unlink(&mut self) {
        let Some((dir, name, number)) = self.pick_name(|node| node.kind != FileKind::Directory) else {
            return;
        };
        self.last = format!("unlink {number} from {dir}");
        let result = self.fs.unlink(NodeId(dir), &name);
        if self.memory.node(dir).is_immutable || self.memory.node(number).is_immutable {
            return self.expect_refusal(result);
        }
        if self.accept(result).is_some() {
            self.memory.change(dir).entries.remove(&name);
            self.forget(number);
            self.touch(dir);
        }
    }

    fn remove_dir(&mut self) {
        let Some((dir, name, number)) = self.pick_name(|node| node.kind == FileKind::Directory) else {
            return;
        };
        self.last = format!("rmdir {number} from {dir}");
        let result = self.fs.remove_dir(NodeId(dir), &name);
        if self.memory.node(dir).is_immutable || self.memory.node(number).is_immutable {
            return self.expect_refusal(result);
        }
        if !self.memory.node(number).entries.is_empty() {
            assert!(matches!(result, Err(VfsError::NotEmpty { .. })), "{}", self.last);
        } else if self.accept(result).is_some() {
            self.memory.nodes.remove(&number);
            let parent = self.memory.change(dir);
            parent.entries.remove(&name);
            parent.links -= 1;
            self.touch(dir);
        }
    }

    /// True when directory `dir` is `top` or lies below it.
    fn is_below(&self, dir: u64, top: u64) -> bool {
        let children = |number: u64| {
            self.memory
                .node(number)
                .entries
                .values()
                .copied()
                .filter(|child| self.memory.node(*child).kind == FileKind::Directory)
        };
        let mut todo = vec![top];
        while let Some(number) = todo.pop() {
            if number == dir {
                return true;
            }
            todo.extend(children(number));
        }
        false
    }

    fn rename(&mut self) {
        let Some((from_dir, from, number)) = self.pick_name(|_| true) else { return };
        let is_dir = self.memory.node(number).kind == FileKind::Directory;
        let over = if self.random.chance(30) { self.pick_name(|_| true) } else { None };
        let (to_dir, to, replaced) = match over {
            Some((dir, name, old)) => (dir, name, Some(old)),
            None => (self.pick_dir(), self.name(), None),
        };
        let replaced = replaced.or_else(|| self.memory.node(to_dir).entries.get(&to).copied());
        self.last = format!("rename {number} from {from_dir} to {to_dir} over {replaced:?}");
        let result = self.fs.rename(NodeId(from_dir), &from, NodeId(to_dir), &to);
        let immutable = [Some(from_dir), Some(to_dir), Some(number), replaced]
            .into_iter()
            .flatten()
            .any(|number| self.memory.node(number).is_immutable);
        if immutable {
            // Any refusal will do: which of several reasons counts is not laid down.
            assert!(result.is_err() || replaced == Some(number), "{}", self.last);
            return;
        }
        if replaced == Some(number) {
            assert!(result.is_ok(), "{}", self.last);
            return;
        }
        if is_dir && self.is_below(to_dir, number) {
            assert!(result.is_err(), "{}", self.last);
            return;
        }
        if let Some(old) = replaced {
            let old = self.memory.node(old);
            let old_is_dir = old.kind == FileKind::Directory;
            if old_is_dir != is_dir || !old.entries.is_empty() {
                assert!(result.is_err(), "{}", self.last);
                return;
            }
        }
        if self.accept(result).is_none() {
            return;
        }
        if let Some(old) = replaced {
            if is_dir {
                self.memory.nodes.remove(&old);
                self.memory.change(to_dir).links -= 1;
            } else {
                self.forget(old);
            }
        }
        self.memory.change(from_dir).entries.remove(&from);
        self.memory.change(to_dir).entries.insert(to, number);
        if is_dir {
            self.memory.change(from_dir).links -= 1;
            self.memory.change(to_dir).links += 1;
        }
        self.touch(from_dir);
        self.touch(to_dir);
    }

    fn set_metadata(&mut self) {
        let Some(number) = self.pick(|_| true) else { return };
        let time = Timestamp {
            seconds: self.random.below(1 << 32) as i64 - (1 << 31),
            nanoseconds: self.random.below(1_000_000_000) as u32,
        };
        let is_symlink = self.memory.node(number).kind == FileKind::Symlink;
        let change = MetadataChange {
            mode: (self.random.chance(50) && !is_symlink).then(|| self.random.below(0o10000) as u16),
            uid: self.random.chance(30).then(|| self.random.below(1 << 32) as u32),
            gid: self.random.chance(30).then(|| self.random.below(1 << 32) as u32),
            atime: self.random.chance(30).then_some(time),
            mtime: self.random.chance(30).then_some(time),
        };
        self.last = format!("set_metadata {number} {change:?}");
        let result = self.fs.set_metadata(NodeId(number), change);
        if self.memory.node(number).is_immutable {
            return self.expect_refusal(result);
        }
        if self.accept(result).is_none() {
            return;
        }
        let time = self.kept(time, number);
        let node = self.memory.change(number);
        if let Some(mode) = change.mode {
            node.mode = mode;
            if let Some(value) = node.xattrs.get_mut(ACCESS) {
                *value = acl_with_mode(value, mode);
            }
        }
        node.uid = change.uid.unwrap_or(node.uid);
        node.gid = change.gid.unwrap_or(node.gid);
        node.atime = change.atime.map_or(node.atime, |_| time);
        node.mtime = change.mtime.map_or(node.mtime, |_| time);
    }

    fn set_xattr(&mut self) {
        let Some(number) = self.pick(|_| true) else { return };
        let kind = self.memory.node(number).kind;
        let is_plain = matches!(kind, FileKind::Regular | FileKind::Directory);
        let len = match self.random.below(20) {
            0 => 0,
            1 | 2 => 300 + self.random.below(400),
            3 => 3000 + self.random.below(6000),
            4 => 60_000 + self.random.below(5_537),
            _ => self.random.below(40),
        } as usize;
        let value = self.random.bytes(len);
        let (name, value) = match self.random.below(6) {
            0 if kind == FileKind::Regular => {
                // VFS_CAP_REVISION_2 without the effective bit.
                let mut capability = vec![0u8; 20];
                capability[3] = 2;
                capability[4] = value.len() as u8;
                (b"security.capability".to_vec(), capability)
            }
            1 => (b"security.selinux".to_vec(), b"system_u:object_r:etc_t:s0\0".to_vec()),
            2 => (b"trusted.overlay".to_vec(), value),
            _ if is_plain => (format!("user.name{}", self.random.below(40)).into_bytes(), value),
            _ => (b"trusted.other".to_vec(), value),
        };
        self.last = format!("set_xattr {number} {} of {} bytes", String::from_utf8_lossy(&name), value.len());
        let result = self.fs.set_xattr(NodeId(number), &name, &value);
        if self.memory.node(number).is_immutable {
            return self.expect_refusal(result);
        }
        if self.accept(result).is_some() {
            self.memory.change(number).xattrs.insert(name, value);
        }
    }

    fn remove_xattr(&mut self) {
        let Some(number) = self.pick(|node| !node.xattrs.is_empty()) else { return };
        let name = {
            let names: Vec<Vec<u8>> = self.memory.node(number).xattrs.keys().cloned().collect();
            names[self.random.below(names.len() as u64) as usize].clone()
        };
        self.last = format!("remove_xattr {number} {}", String::from_utf8_lossy(&name));
        let result = self.fs.remove_xattr(NodeId(number), &name);
        if self.memory.node(number).is_immutable {
            return self.expect_refusal(result);
        }
        if self.accept(result).is_some() {
            self.memory.change(number).xattrs.remove(&name);
        }
        assert!(self.memory.nodes.contains_key(&number));
    }

    fn set_acl(&mut self) {
        let is_plain = |node: &Node| matches!(node.kind, FileKind::Regular | FileKind::Directory);
        let Some(number) = self.pick(is_plain) else { return };
        let mut bits = || self.random.below(8) as u16;
        let mut entries = vec![(USER_OBJ, bits(), NO_ID)];
        let (named, group, other) = (bits(), bits(), bits());
        let is_extended = self.random.chance(80);
        if is_extended {
            entries.push((USER, named, 1000));
        }
        entries.push((GROUP_OBJ, group, NO_ID));
        if is_extended {
            entries.push((GROUP, named, 2000));
            entries.push((MASK, group | named, NO_ID));
        }
        entries.push((OTHER, other, NO_ID));
        let is_default = self.memory.node(number).kind == FileKind::Directory && self.random.chance(50);
        let (name, value) = (if is_default { DEFAULT } else { ACCESS }, acl(&entries));
        self.last = format!("set_acl {number} {entries:?}");
        let result = self.fs.set_xattr(NodeId(number), name, &value);
        if self.memory.node(number).is_immutable {
            return self.expect_refusal(result);
        }
        if self.accept(result).is_none() {
            return;
        }
        let node = self.memory.change(number);
        if !is_default {
            node.mode = node.mode & !0o777 | mode_of_acl(&entries);
        }
        if is_default || is_extended {
            node.xattrs.insert(name.to_vec(), value);
        } else {
            node.xattrs.remove(name);
        }
    }

    fn set_immutable(&mut self) {
        let root = self.memory.root;
        let to = !self.random.chance(70);
        let Some(number) = self.pick(|node| {
            node.is_immutable != to && matches!(node.kind, FileKind::Regular | FileKind::Directory)
        }) else {
            return;
        };
        if number == root {
            return;
        }
        self.last = format!("set_immutable {number} {to}");
        let result = self.fs.set_immutable(NodeId(number), to);
        if self.accept(result).is_some() {
            self.memory.change(number).is_immutable = to;
        }
    }
}

/// What a new node takes from the default ACL of its directory.
fn inherit(new: &mut Node, default: &[u8]) {
    let mut entries = acl_entries(default);
    let group = group_tag(&entries);
    for entry in &mut entries {
        match entry.0 {
            USER_OBJ => entry.1 &= new.mode >> 6,
            OTHER => entry.1 &= new.mode,
            tag if tag == group => entry.1 &= new.mode >> 3,
            _ => {}
        }
    }
    new.mode = new.mode & !0o777 | mode_of_acl(&entries);
    if entries.len() > 3 {
        new.xattrs.insert(ACCESS.to_vec(), acl(&entries));
    }
    if new.kind == FileKind::Directory {
        new.xattrs.insert(DEFAULT.to_vec(), default.to_vec());
    }
}

/// What the kernel makes before the walk: an indexed directory, ACLs, sparse and preallocated files.
fn prepare_by_kernel(image: &Path, names: usize) {
    let mount = KernelMount::new(image, "defaults");
    let big = mount.at.join("indexed");
    std::fs::create_dir(&big).unwrap();
    for index in 0..names {
        std::fs::write(big.join(format!("entry-{index:05}-é")), b"").unwrap();
    }
    let sparse = std::fs::File::create(mount.at.join("sparse")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", 3_000_000).unwrap();
    drop(sparse);
    let point = mount.at.to_str().unwrap();
    // Where the mapping is by blocks, the kernel cannot preallocate.
    tool("fallocate", &["-l", "100000", &format!("{point}/preallocated")]);
    run("setfattr", &["-n", "user.kernel", "-v", "value", &format!("{point}/sparse")]);
}

/// Runs one row; the seed is in every failure.
fn run_row(image: &Path, row: &Row, operations: u64, seed: u64, is_kernel_there: bool) -> u64 {
    mkfs(image, row);
    let by_kernel = is_kernel_there && row.mounts;
    if by_kernel {
        prepare_by_kernel(image, 1200);
    }
    let context = format!("{} / seed {seed}", row.args);
    assert_repair_clean(image, &context);
    let mut walk = Walk::new(image, seed);
    let mut done = 0;
    while done < operations {
        for _ in 0..BATCH.min(operations - done) {
            let step = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| walk.step()));
            if let Err(cause) = step {
                eprintln!("{context}: operation {done}: {}", walk.last);
                std::panic::resume_unwind(cause);
            }
            done += 1;
        }
        walk.fs.flush().unwrap_or_else(|error| panic!("{context}: {error}"));
        let context = format!("{context} / {done} operations, the last: {}", walk.last);
        assert_repair_clean(image, &context);
        let report = check(reader(image)).unwrap();
        assert!(report.is_clean(), "{context}: {:?}", report.problems.first());
        let read = Xfs::open(reader(image)).unwrap();
        if let Some(difference) = walk.memory.difference(&read) {
            panic!("{context}: {difference}");
        }
    }
    let Walk { memory, refusals, .. } = walk;
    if by_kernel {
        judge_by_kernel(image, &memory, &context);
    }
    refusals
}

fn judge_by_kernel(image: &Path, memory: &Memory, context: &str) {
    let mount = KernelMount::new(image, "ro,norecovery");
    if let Some(difference) = memory.difference_to_mount(&mount.at) {
        panic!("{context}: the kernel: {difference}");
    }
    drop(mount);
    let mount = KernelMount::new(image, "defaults");
    std::fs::write(mount.at.join("written-by-the-kernel"), b"x").unwrap_or_else(|error| {
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{context}: {error}");
    });
    let indexed = mount.at.join("indexed");
    if indexed.is_dir() {
        std::fs::write(indexed.join("one-more"), b"").ok();
    }
    drop(mount);
    assert_repair_clean(image, &format!("{context} / after the kernel wrote"));
}

#[test]
fn random_operations_over_the_matrix_agree_with_the_model() {
    let total = setting("COLDFIT_MODEL_OPS", 10_000);
    let seed = setting("COLDFIT_MODEL_SEED", 1);
    let rows: Vec<&Row> = MATRIX.iter().filter(|row| row.refused.is_none()).collect();
    let each = total.div_ceil(rows.len() as u64);
    let is_kernel_there = may_mount();
    let dir = scratch();
    let image = dir.path().join("image");
    let only = std::env::var("COLDFIT_MODEL_ROW").ok().and_then(|row| row.parse::<usize>().ok());
    for (index, row) in rows.iter().enumerate() {
        if only.is_some_and(|only| only != index) {
            continue;
        }
        run_row(&image, row, each, seed + index as u64, is_kernel_there);
    }
}

#[test]
fn rows_that_are_not_written_are_refused_by_name_without_a_change() {
    let dir = scratch();
    let image = dir.path().join("image");
    for row in MATRIX {
        let Some(feature) = row.refused else { continue };
        mkfs(&image, row);
        let before = std::fs::read(&image).unwrap();
        let error = match Xfs::open_writable(device(&image)) {
            Ok(_) => panic!("{}: not refused", row.args),
            Err(error) => error,
        };
        assert_eq!(error.code(), feature, "{}: {error}", row.args);
        assert!(before == std::fs::read(&image).unwrap(), "{}: changed", row.args);
    }
}
