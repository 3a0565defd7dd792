//! Changing files of a guest: `cp`, `write`, `rm`, `mkdir`, `chmod`, `chown`, `ln`.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use report::Class;
use vfs::{FileKind, GuestPath, GuestTree, Metadata, MetadataChange, NewNode, VfsError};

use super::{CommandResult, look};
use crate::cli::address::{Address, Place};
use crate::cli::args::{ImageArgs, TargetArgs};
use crate::cli::mode::{ModeChange, Owner};
use crate::render::output::{Failure, Output};
use crate::session;

/// Largest file that is read from the host into a guest: it passes through memory once.
const COPY_LIMIT: u64 = 4 << 30;

/// Mode of a file that comes from standard input.
const FILE_MODE: u16 = 0o644;

/// Copies between host and guest.
pub fn cp(
    source: &Place,
    destination: &Place,
    target: &TargetArgs,
    args: &ImageArgs,
    output: &Output,
) -> CommandResult {
    match (source, destination) {
        (Place::Guest(from), Place::Host(to)) => copy_to_host(from, to, args, output),
        (Place::Host(from), Place::Guest(to)) => {
            let (content, mode) = read_host(from)?;
            let name = from.file_name().map(|name| name.as_encoded_bytes().to_vec());
            store(to, name, &content, mode, target, args, output)
        }
        (Place::Guest(from), Place::Guest(to)) => {
            let opened = session::open_for_reading(&from.image, args, output)?;
            let mut content = Vec::new();
            look::copy_out(&opened.tree, from, |chunk| {
                content.extend_from_slice(chunk);
                within_limit(content.len() as u64)
            })?;
            let mode = opened.tree.stat(&from.path)?.mode;
            drop(opened);
            store(to, from.path.file_name().map(<[u8]>::to_vec), &content, mode, target, args, output)
        }
        (Place::Host(_), Place::Host(_)) => {
            Err(Failure::usage("neither side is IMAGE:/path").with_hint("Use cp(1) on the host."))
        }
    }
}

fn within_limit(len: u64) -> Result<(), Failure> {
    if len <= COPY_LIMIT {
        return Ok(());
    }
    Err(Failure::new(
        "copy.too-large",
        Class::Unsupported,
        format!("larger than the {COPY_LIMIT} bytes that are copied at most"),
    ))
}

fn copy_to_host(from: &Address, to: &Path, args: &ImageArgs, output: &Output) -> CommandResult {
    let opened = session::open_for_reading(&from.image, args, output)?;
    if to == Path::new("-") {
        look::copy_out(&opened.tree, from, |chunk| output.bytes(chunk))?;
        return Ok(0);
    }
    let name = from.path.file_name().unwrap_or_default();
    let to = if to.is_dir() {
        to.join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(name))
    } else {
        to.to_owned()
    };
    // Nothing is made on the host before the guest's file is known to be there.
    opened.tree.stat(&from.path)?;
    let mut file = File::create(&to).map_err(|error| Failure::host("create", &to, &error))?;
    look::copy_out(&opened.tree, from, |chunk| {
        file.write_all(chunk).map_err(|error| Failure::host("write", &to, &error))
    })?;
    Ok(0)
}

/// Content and mode of a host file, or of standard input.
fn read_host(path: &Path) -> Result<(Vec<u8>, u16), Failure> {
    let fail = |error: &std::io::Error| Failure::host("read", path, error);
    let mut content = Vec::new();
    if path == Path::new("-") {
        std::io::stdin()
            .lock()
            .take(COPY_LIMIT + 1)
            .read_to_end(&mut content)
            .map_err(|error| fail(&error))?;
        within_limit(content.len() as u64)?;
        return Ok((content, FILE_MODE));
    }
    let file = File::open(path).map_err(|error| fail(&error))?;
    let metadata = file.metadata().map_err(|error| fail(&error))?;
    if metadata.is_dir() {
        return Err(Failure::usage(format!(
            "{}: is a directory; files are copied one by one",
            path.display()
        )));
    }
    file.take(COPY_LIMIT + 1).read_to_end(&mut content).map_err(|error| fail(&error))?;
    within_limit(content.len() as u64)?;
    Ok((content, (std::os::unix::fs::MetadataExt::mode(&metadata) & 0o777) as u16))
}

/// Puts `content` at the address, or below it under `name` when it is a directory.
fn store(
    to: &Address,
    name: Option<Vec<u8>>,
    content: &[u8],
    mode: u16,
    target: &TargetArgs,
    args: &ImageArgs,
    output: &Output,
) -> CommandResult {
    session::change(&to.image, args, target, output, |tree| {
        let is_directory =
            matches!(tree.stat(&to.path), Ok(metadata) if metadata.kind == FileKind::Directory);
        let path = match (&name, is_directory) {
            (Some(name), true) => to.path.join(name),
            _ => to.path.clone(),
        };
        put(tree, &path, content, mode)
    })
}

/// Replaces the content of a file that is there, else makes it.
fn put(tree: &mut GuestTree, path: &GuestPath, content: &[u8], mode: u16) -> Result<(), Failure> {
    let (directory, _) = tree.resolve_parent(path)?;
    tree.writable(directory.mount)?.set_clock(session::now()?);
    if let Ok(location) = tree.resolve(path) {
        let metadata = tree.stat_at(&location)?;
        if metadata.kind != FileKind::Regular {
            let detail = format!("a {} stands there", look::kind_name(metadata.kind));
            return Err(VfsError::WrongKind { path: path.to_string(), detail }.into());
        }
        tree.writable(location.mount)?.set_clock(session::now()?);
    }
    Ok(tree.write(path, content, mode)?)
}

/// Writes standard input to a file.
pub fn write(
    address: &Address,
    append: bool,
    mode: &ModeChange,
    target: &TargetArgs,
    args: &ImageArgs,
    output: &Output,
) -> CommandResult {
    let (content, _) = read_host(Path::new("-"))?;
    session::change(&address.image, args, target, output, |tree| {
        if append && let Ok(location) = tree.resolve(&address.path) {
            let metadata = tree.stat_at(&location)?;
            let filesystem = tree.writable(location.mount)?;
            filesystem.set_clock(session::now()?);
            return Ok(filesystem.write_at(location.node, metadata.len, &content)?);
        }
        put(tree, &address.path, &content, mode.apply(0, false))
    })
}

/// Removes a file, or a directory with everything in it.
pub fn rm(
    address: &Address,
    recursive: bool,
    target: &TargetArgs,
    args: &ImageArgs,
    output: &Output,
) -> CommandResult {
    session::change(&address.image, args, target, output, |tree| {
        let metadata = tree.stat_no_follow(&address.path)?;
        if metadata.kind == FileKind::Directory && !recursive {
            return Err(Failure::from(VfsError::IsADirectory { path: address.path.to_string() })
                .with_hint("Give --recursive to remove a directory with everything in it."));
        }
        remove(tree, &address.path)
    })
}

/// Removes a path and, depth first, everything below it. A mount point of the guest is refused.
fn remove(tree: &mut GuestTree, path: &GuestPath) -> Result<(), Failure> {
    // Directories once seen are pushed again, to be removed when they are empty.
    let mut todo = vec![(path.clone(), false)];
    let mut seen = look::SeenDirectories::default();
    while let Some((path, is_emptied)) = todo.pop() {
        let (directory, name) = tree.resolve_parent(&path)?;
        let location = tree.resolve_no_follow(&path)?;
        if location.mount != directory.mount {
            return Err(VfsError::CrossesFilesystems { path: path.to_string() }.into());
        }
        let is_directory = tree.stat_at(&location)?.kind == FileKind::Directory;
        if is_directory && !is_emptied {
            seen.enter(tree, &path)?;
            let names = tree.list(&path)?;
            todo.push((path.clone(), true));
            todo.extend(names.iter().map(|name| (path.join(name), false)));
            continue;
        }
        let filesystem = tree.writable(directory.mount)?;
        filesystem.set_clock(session::now()?);
        if is_directory {
            filesystem.remove_dir(directory.node, &name)?;
        } else {
            filesystem.unlink(directory.node, &name)?;
        }
    }
    Ok(())
}

/// Makes a directory.
pub fn mkdir(
    address: &Address,
    parents: bool,
    mode: &ModeChange,
    target: &TargetArgs,
    args: &ImageArgs,
    output: &Output,
) -> CommandResult {
    session::change(&address.image, args, target, output, |tree| {
        let mut wanted = Vec::new();
        let mut path = Some(address.path.clone());
        while let Some(directory) = path.filter(|directory| !directory.is_root()) {
            path = if parents { directory.parent() } else { None };
            wanted.push(directory);
        }
        for directory in wanted.iter().rev() {
            match tree.stat(directory) {
                Ok(metadata) if parents && metadata.kind == FileKind::Directory => continue,
                Ok(_) => return Err(VfsError::Exists { path: directory.to_string() }.into()),
                Err(VfsError::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            let (above, name) = tree.resolve_parent(directory)?;
            let filesystem = tree.writable(above.mount)?;
            filesystem.set_clock(session::now()?);
            filesystem.create(above.node, &name, NewNode::Directory, mode.apply(0, true), 0, 0)?;
        }
        Ok(())
    })
}

/// Changes metadata of one file.
fn alter(
    address: &Address,
    follow: bool,
    target: &TargetArgs,
    args: &ImageArgs,
    output: &Output,
    change: impl FnOnce(&GuestTree, &Metadata) -> Result<MetadataChange, Failure>,
) -> CommandResult {
    session::change(&address.image, args, target, output, |tree| {
        let location =
            if follow { tree.resolve(&address.path)? } else { tree.resolve_no_follow(&address.path)? };
        let change = change(tree, &tree.stat_at(&location)?)?;
        let filesystem = tree.writable(location.mount)?;
        filesystem.set_clock(session::now()?);
        Ok(filesystem.set_metadata(location.node, change)?)
    })
}

/// Changes permission bits.
pub fn chmod(
    mode: &ModeChange,
    address: &Address,
    target: &TargetArgs,
    args: &ImageArgs,
    output: &Output,
) -> CommandResult {
    alter(address, true, target, args, output, |_, metadata| {
        let bits = mode.apply(metadata.mode, metadata.kind == FileKind::Directory);
        Ok(MetadataChange { mode: Some(bits), ..MetadataChange::default() })
    })
}

/// Changes owner and group.
pub fn chown(
    owner: &Owner,
    address: &Address,
    target: &TargetArgs,
    args: &ImageArgs,
    output: &Output,
) -> CommandResult {
    alter(address, false, target, args, output, |tree, _| {
        let uid = owner.user.as_ref().map(|name| look_up(tree, "/etc/passwd", name)).transpose()?;
        let gid = owner.group.as_ref().map(|name| look_up(tree, "/etc/group", name)).transpose()?;
        Ok(MetadataChange { uid, gid, ..MetadataChange::default() })
    })
}

/// The number of a user or group: digits as they are, names from the third field of the guest's file.
fn look_up(tree: &GuestTree, file: &str, name: &str) -> Result<u32, Failure> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let path = GuestPath::root().join(file);
    let text = tree.read_if_exists(&path, 16 << 20)?.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let number =
        text.lines().map(|line| line.split(':').collect::<Vec<_>>()).find_map(|fields| match fields[..] {
            [entry, _, number, ..] if entry == name => number.parse().ok(),
            _ => None,
        });
    number.ok_or_else(|| {
        Failure::new("guest.name.unknown", Class::Usage, format!("{name}: not in the guest's {file}"))
    })
}

/// Makes a hard or symbolic link.
pub fn ln(
    symbolic: bool,
    leads_to: &str,
    address: &Address,
    target: &TargetArgs,
    args: &ImageArgs,
    output: &Output,
) -> CommandResult {
    session::change(&address.image, args, target, output, |tree| {
        let (directory, name) = tree.resolve_parent(&address.path)?;
        if symbolic {
            let filesystem = tree.writable(directory.mount)?;
            filesystem.set_clock(session::now()?);
            filesystem.create(directory.node, &name, NewNode::Symlink(leads_to.as_bytes()), 0o777, 0, 0)?;
            return Ok(());
        }
        let existing =
            GuestPath::new(leads_to).map_err(|error| Failure::usage(format!("{leads_to}: {error}")))?;
        let location = tree.resolve_no_follow(&existing)?;
        if location.mount != directory.mount {
            return Err(VfsError::CrossesFilesystems { path: leads_to.to_owned() }.into());
        }
        let filesystem = tree.writable(directory.mount)?;
        filesystem.set_clock(session::now()?);
        Ok(filesystem.link(location.node, directory.node, &name)?)
    })
}
