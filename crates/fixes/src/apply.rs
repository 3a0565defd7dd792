//! Writing a plan to the guest tree.

use vfs::{FileKind, GuestPath, GuestTree, NewNode, NodeId, Timestamp, VfsError};

use crate::{Action, Edit, FixError};

/// Modes of what is made anew.
const FILE_MODE: u16 = 0o644;
const DIRECTORY_MODE: u16 = 0o755;

/// Writes all edits and flushes every filesystem that was written. Changed files keep owner, mode and
/// extended attributes; new ones belong to root and take the SELinux label of a sibling where there is one.
///
/// What the guest protects (`chattr +i`, `+a`) is refused before the first write.
pub fn apply(edits: &[Edit], tree: &mut GuestTree, now: Timestamp) -> Result<(), FixError> {
    for edit in edits {
        check_unprotected(edit, tree)?;
    }
    let mut written: Vec<usize> = Vec::new();
    for edit in edits {
        let mount = apply_one(edit, tree, now)?;
        if !written.contains(&mount) {
            written.push(mount);
        }
    }
    for mount in written {
        tree.writable(mount)?.flush()?;
    }
    Ok(())
}

/// Refuses an edit of a protected file, or a new file in a protected directory.
fn check_unprotected(edit: &Edit, tree: &mut GuestTree) -> Result<(), FixError> {
    let mut path = edit.path.clone();
    let location = loop {
        match tree.resolve(&path) {
            Ok(location) => break location,
            Err(error @ VfsError::NotFound { .. }) => path = path.parent().ok_or(error)?,
            Err(error) => return Err(error.into()),
        }
    };
    let metadata = tree.stat_at(&location)?;
    let is_new = path != edit.path;
    let attribute = match (metadata.is_immutable, metadata.is_append_only) {
        (true, _) => "immutable (chattr +i)",
        (_, true) if !is_new => "append-only (chattr +a)",
        _ => {
            tree.writable(location.mount)?;
            return Ok(());
        }
    };
    let detail = format!("{attribute}; {} cannot be written", edit.path);
    Err(VfsError::WrongKind { path: path.to_string(), detail }.into())
}

fn apply_one(edit: &Edit, tree: &mut GuestTree, now: Timestamp) -> Result<usize, FixError> {
    match tree.resolve(&edit.path) {
        Ok(location) => {
            let filesystem = tree.writable(location.mount)?;
            filesystem.set_clock(now);
            match &edit.action {
                Action::Text { new, .. } | Action::Rewrite { new, .. } => {
                    filesystem.replace_content(location.node, new)?
                }
                Action::Append { old_len, bytes } => filesystem.write_at(location.node, *old_len, bytes)?,
            }
            Ok(location.mount)
        }
        Err(VfsError::NotFound { .. }) => {
            let Action::Text { new, .. } = &edit.action else {
                return Err(VfsError::NotFound { path: edit.path.to_string() }.into());
            };
            let (mount, node) = create(tree, &edit.path, NewNode::Regular(new), FILE_MODE, now)?;
            copy_label(tree, mount, node, &edit.path)?;
            Ok(mount)
        }
        Err(error) => Err(error.into()),
    }
}

/// Makes a node and the directories above it that are missing.
fn create(
    tree: &mut GuestTree,
    path: &GuestPath,
    content: NewNode<'_>,
    mode: u16,
    now: Timestamp,
) -> Result<(usize, NodeId), FixError> {
    if let Some(parent) = path.parent()
        && !tree.exists(&parent)?
    {
        let (mount, node) = create(tree, &parent, NewNode::Directory, DIRECTORY_MODE, now)?;
        copy_label(tree, mount, node, &parent)?;
    }
    let (directory, name) = tree.resolve_parent(path)?;
    let filesystem = tree.writable(directory.mount)?;
    filesystem.set_clock(now);
    let node = filesystem.create(directory.node, &name, content, mode, 0, 0)?;
    Ok((directory.mount, node))
}

/// Gives a new node the SELinux label of a sibling of its kind, else of its directory; none where neither has one.
fn copy_label(tree: &mut GuestTree, mount: usize, node: NodeId, path: &GuestPath) -> Result<(), FixError> {
    const LABEL: &[u8] = b"security.selinux";
    let (directory, _) = tree.resolve_parent(path)?;
    let filesystem = &tree.mounts()[mount].filesystem;
    let kind = filesystem.stat(node)?.kind;
    let label = |of: NodeId| -> Result<Option<Vec<u8>>, VfsError> {
        Ok(filesystem.xattrs(of)?.into_iter().find(|xattr| xattr.name == LABEL).map(|xattr| xattr.value))
    };
    let mut found = None;
    for entry in filesystem.list(directory.node)? {
        let is_like = entry.node != node && entry.kind.unwrap_or(FileKind::Socket) == kind;
        if is_like && let Some(value) = label(entry.node)? {
            found = Some(value);
            break;
        }
    }
    let found = match found {
        Some(value) => Some(value),
        None => label(directory.node)?,
    };
    if let Some(value) = found {
        tree.writable(mount)?.set_xattr(node, LABEL, &value)?;
    }
    Ok(())
}
