//! Reading files of a guest: `ls`, `cat`, `stat`.

use std::collections::HashSet;

use report::Class;
use serde::Serialize;
use vfs::{FileKind, GuestPath, GuestTree, Metadata, NodeId, VfsError};

use super::CommandResult;
use crate::cli::address::Address;
use crate::cli::args::ImageArgs;
use crate::render::output::{AtImage, Failure, Output, single_line};
use crate::render::table::{columns, utc};
use crate::session;

/// Bytes read and printed at a time.
const CHUNK: usize = 1 << 20;

/// Everything about one file, for JSON and text.
#[derive(Debug, Serialize)]
struct Entry {
    path: String,
    kind: &'static str,
    mode: String,
    uid: u32,
    gid: u32,
    size: u64,
    links: u64,
    allocated: u64,
    inode: u64,
    modified: String,
    changed: String,
    accessed: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<(u32, u32)>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    flags: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    xattrs: Vec<(String, String)>,
}

pub(super) fn kind_name(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Regular => "file",
        FileKind::Directory => "directory",
        FileKind::Symlink => "symlink",
        FileKind::BlockDevice => "block-device",
        FileKind::CharDevice => "char-device",
        FileKind::Fifo => "fifo",
        FileKind::Socket => "socket",
    }
}

/// `drwxr-xr-x` as ls(1) prints it.
fn mode_text(metadata: &Metadata) -> String {
    let kind = match metadata.kind {
        FileKind::Regular => '-',
        FileKind::Directory => 'd',
        FileKind::Symlink => 'l',
        FileKind::BlockDevice => 'b',
        FileKind::CharDevice => 'c',
        FileKind::Fifo => 'p',
        FileKind::Socket => 's',
    };
    let mut text = String::from(kind);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = metadata.mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        let execute = bits & 1 != 0;
        text.push(match (metadata.mode & special != 0, execute) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

fn entry(tree: &GuestTree, path: &GuestPath, with_xattrs: bool) -> Result<Entry, VfsError> {
    let location = tree.resolve_no_follow(path)?;
    let filesystem = &tree.mounts()[location.mount].filesystem;
    let metadata = filesystem.stat(location.node)?;
    let target = match metadata.kind {
        FileKind::Symlink => {
            Some(String::from_utf8_lossy(&filesystem.read_link(location.node)?).into_owned())
        }
        _ => None,
    };
    let xattrs = if with_xattrs { filesystem.xattrs(location.node)? } else { Vec::new() };
    let flags = [(metadata.is_immutable, "immutable"), (metadata.is_append_only, "append-only")];
    let stamp =
        |time: vfs::Timestamp| format!("{}.{:09}Z", utc(time.seconds).replace(' ', "T"), time.nanoseconds);
    Ok(Entry {
        path: path.to_string(),
        kind: kind_name(metadata.kind),
        mode: mode_text(&metadata),
        uid: metadata.uid,
        gid: metadata.gid,
        size: metadata.len,
        links: metadata.links,
        allocated: metadata.allocated,
        inode: metadata.node.0,
        modified: stamp(metadata.mtime),
        changed: stamp(metadata.ctime),
        accessed: stamp(metadata.atime),
        created: metadata.crtime.map(stamp),
        target,
        device: metadata.device,
        flags: flags.iter().filter(|(is_set, _)| *is_set).map(|(_, name)| *name).collect(),
        xattrs: xattrs
            .iter()
            .map(|xattr| (String::from_utf8_lossy(&xattr.name).into_owned(), value_text(&xattr.value)))
            .collect(),
    })
}

/// A value as text when it is printable (a final NUL aside), else as hexadecimal digits.
pub(super) fn value_text(value: &[u8]) -> String {
    let text = value.strip_suffix(&[0]).unwrap_or(value);
    match std::str::from_utf8(text) {
        Ok(text) if !text.is_empty() && !text.chars().any(char::is_control) => text.to_owned(),
        _ => value.iter().fold(String::from("0x"), |hex, byte| format!("{hex}{byte:02x}")),
    }
}

/// Lists a directory, or names a file.
pub fn ls(
    address: &Address,
    long: bool,
    recursive: bool,
    args: &ImageArgs,
    output: &Output,
) -> CommandResult {
    let opened = session::open_for_reading(&address.image, args, output)?;
    let tree = &opened.tree;
    let metadata = tree.stat(&address.path).at_image(&address.image)?;
    if metadata.kind != FileKind::Directory {
        let entries = vec![entry(tree, &address.path, false).at_image(&address.image)?];
        return print(&entries, long, output);
    }
    // Directories are printed one by one, so that a whole tree never stands in memory; JSON needs them all.
    let mut collected = Vec::new();
    let mut todo = vec![address.path.clone()];
    let mut seen = SeenDirectories::default();
    while let Some(directory) = todo.pop() {
        seen.enter(tree, &directory)?;
        let mut entries = Vec::new();
        let mut below = Vec::new();
        for name in tree.list(&directory).at_image(&address.image)? {
            let path = directory.join(&name);
            let entry = entry(tree, &path, false).at_image(&address.image)?;
            if recursive && entry.kind == "directory" {
                below.push(path);
            }
            entries.push(entry);
        }
        below.reverse();
        todo.extend(below);
        if output.is_json() {
            collected.append(&mut entries);
            continue;
        }
        if recursive {
            output.text(&format!("{}:\n", single_line(&directory.to_string())))?;
        }
        print(&entries, long, output)?;
        if recursive && !todo.is_empty() {
            output.text("\n")?;
        }
    }
    if output.is_json() {
        output.json(&collected)?;
    }
    Ok(0)
}

/// Directories that a walk has entered. Each has one name; one that is met again has two, or lies in a circle
/// that a walk would never leave.
#[derive(Debug, Default)]
pub(super) struct SeenDirectories(HashSet<(usize, NodeId)>);

impl SeenDirectories {
    /// Notes a directory, which must not have been entered before.
    pub(super) fn enter(&mut self, tree: &GuestTree, path: &GuestPath) -> Result<(), Failure> {
        let location = tree.resolve(path)?;
        if self.0.insert((location.mount, location.node)) {
            return Ok(());
        }
        let message = format!("{path}: inode {} is a directory with several names", location.node.0);
        Err(Failure::new("guest.directory.names", Class::Damaged, message)
            .with_hint("Repair the filesystem with e2fsck first."))
    }
}

fn print(entries: &[Entry], long: bool, output: &Output) -> CommandResult {
    if output.is_json() {
        output.json(&entries)?;
        return Ok(0);
    }
    let name = |entry: &Entry| {
        let name = entry.path.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("/");
        match &entry.target {
            Some(target) if long => format!("{} -> {}", single_line(name), single_line(target)),
            _ => single_line(name),
        }
    };
    if !long {
        output.text(&entries.iter().map(|entry| format!("{}\n", name(entry))).collect::<String>())?;
        return Ok(0);
    }
    let row = |entry: &Entry| {
        let size =
            entry.device.map_or_else(|| entry.size.to_string(), |(major, minor)| format!("{major}, {minor}"));
        let modified = entry.modified.get(..16).unwrap_or_default().replace('T', " ");
        let numbers = [entry.links.to_string(), entry.uid.to_string(), entry.gid.to_string(), size];
        std::iter::once(entry.mode.clone()).chain(numbers).chain([modified, name(entry)]).collect::<Vec<_>>()
    };
    output.text(&columns(&entries.iter().map(row).collect::<Vec<_>>(), 0))?;
    Ok(0)
}

/// Prints a file's bytes.
pub fn cat(address: &Address, args: &ImageArgs, output: &Output) -> CommandResult {
    let opened = session::open_for_reading(&address.image, args, output)?;
    copy_out(&opened.tree, address, |chunk| output.bytes(chunk))?;
    Ok(0)
}

/// Hands the file's content to `sink` piece by piece; holes come as zeroes.
pub(super) fn copy_out(
    tree: &GuestTree,
    address: &Address,
    mut sink: impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let location = tree.resolve(&address.path).at_image(&address.image)?;
    let filesystem = &tree.mounts()[location.mount].filesystem;
    let metadata = filesystem.stat(location.node).at_image(&address.image)?;
    match metadata.kind {
        FileKind::Regular => {}
        FileKind::Directory => {
            return Err(VfsError::IsADirectory { path: address.path.to_string() }).at_image(&address.image);
        }
        kind => {
            let detail = format!("a {}, not a file with content", kind_name(kind));
            return Err(VfsError::WrongKind { path: address.path.to_string(), detail })
                .at_image(&address.image);
        }
    }
    let mut buffer = vec![0; CHUNK];
    let mut offset = 0;
    loop {
        let got = filesystem.read_at(location.node, offset, &mut buffer).at_image(&address.image)?;
        if got == 0 {
            return Ok(());
        }
        sink(&buffer[..got])?;
        offset += got as u64;
    }
}

/// Shows everything about one file.
pub fn stat(address: &Address, args: &ImageArgs, output: &Output) -> CommandResult {
    let opened = session::open_for_reading(&address.image, args, output)?;
    let entry = entry(&opened.tree, &address.path, true).at_image(&address.image)?;
    output.either(&entry, |entry| {
        let mut rows = vec![
            vec!["path".into(), single_line(&entry.path)],
            vec!["kind".into(), entry.kind.into()],
            vec!["mode".into(), entry.mode.clone()],
            vec!["owner".into(), format!("{}:{}", entry.uid, entry.gid)],
            vec!["size".into(), format!("{} bytes, {} allocated", entry.size, entry.allocated)],
            vec!["inode".into(), format!("{}, {} links", entry.inode, entry.links)],
            vec!["modified".into(), entry.modified.clone()],
            vec!["changed".into(), entry.changed.clone()],
            vec!["accessed".into(), entry.accessed.clone()],
        ];
        rows.extend(entry.created.iter().map(|time| vec!["created".into(), time.clone()]));
        rows.extend(entry.target.iter().map(|target| vec!["target".into(), single_line(target)]));
        rows.extend(
            entry.device.iter().map(|(major, minor)| vec!["device".into(), format!("{major}, {minor}")]),
        );
        rows.extend(entry.flags.iter().map(|flag| vec!["flag".into(), (*flag).into()]));
        rows.extend(
            entry.xattrs.iter().map(|(name, value)| vec!["xattr".into(), format!("{name} = {value}")]),
        );
        columns(&rows, 0)
    })?;
    Ok(0)
}
