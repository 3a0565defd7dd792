//! Writing a plan to the guest tree.

use std::collections::BTreeSet;

use vfs::{FileKind, GuestPath, GuestTree, MetadataChange, NewNode, NodeId, Timestamp, VfsError};

use crate::labels::Labels;
use crate::{Action, Edit, FixError};

/// Modes of what is made anew.
const FILE_MODE: u16 = 0o644;
const DIRECTORY_MODE: u16 = 0o755;
const LINK_MODE: u16 = 0o777;

/// Writes all edits and flushes every filesystem that was written. Changed files keep owner, mode and
/// extended attributes; new ones belong to root and take the SELinux label that the guest's policy has for them.
/// Returns remarks for people.
///
/// What the guest protects (`chattr +i`, `+a`) is refused before the first write.
pub fn apply(edits: &[Edit], tree: &mut GuestTree, now: Timestamp) -> Result<Vec<String>, FixError> {
    for edit in edits {
        check_unprotected(edit, tree)?;
    }
    let mut written = BTreeSet::new();
    let mut labels = Labels::of(tree)?;
    for edit in edits {
        written.insert(apply_one(edit, tree, now, &mut labels)?);
    }
    let (remarks, relabelled) = labels.finish(tree, now)?;
    written.extend(relabelled);
    for mount in written {
        tree.writable(mount)?.flush()?;
    }
    Ok(remarks)
}

/// Refuses an edit of a protected file, or a new or removed name in a protected directory.
fn check_unprotected(edit: &Edit, tree: &mut GuestTree) -> Result<(), FixError> {
    let mut path = edit.path.clone();
    let location = loop {
        match tree.resolve_no_follow(&path) {
            Ok(location) => break location,
            Err(error @ (VfsError::NotFound { .. } | VfsError::NotADirectory { .. })) => {
                path = path.parent().ok_or(error)?;
            }
            Err(error) => return Err(error.into()),
        }
    };
    let is_new = path != edit.path;
    tree.writable(location.mount)?;
    if !is_new && edit.unprotect {
        return Ok(());
    }
    let changes_name = matches!(edit.action, Action::Remove { .. } | Action::Link { .. });
    let parent = (!is_new && changes_name).then(|| path.parent()).flatten();
    for (place, may_append) in [(Some(path), is_new), (parent, false)] {
        let Some(place) = place else { continue };
        let metadata = tree.stat_no_follow(&place)?;
        let attribute = match (metadata.is_immutable, metadata.is_append_only) {
            (true, _) => "immutable (chattr +i)",
            (_, true) if !may_append => "append-only (chattr +a)",
            _ => continue,
        };
        let detail = format!("{attribute}; {} cannot be written", edit.path);
        return Err(VfsError::WrongKind { path: place.to_string(), detail }.into());
    }
    Ok(())
}

/// Writes one edit; returns the mount that it is on.
fn apply_one(
    edit: &Edit,
    tree: &mut GuestTree,
    now: Timestamp,
    labels: &mut Labels,
) -> Result<usize, FixError> {
    let found = match tree.resolve_no_follow(&edit.path) {
        Ok(location) => {
            let kind = tree.stat_at(&location)?.kind;
            let filesystem = tree.writable(location.mount)?;
            filesystem.set_clock(now);
            if edit.unprotect {
                filesystem.set_immutable(location.node, false)?;
            }
            Some((location, kind))
        }
        Err(VfsError::NotFound { .. } | VfsError::NotADirectory { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let missing = || FixError::from(VfsError::NotFound { path: edit.path.to_string() });
    match (&edit.action, found) {
        (Action::Text { new, .. }, Some((location, kind))) if kind != FileKind::Symlink => {
            tree.writable(location.mount)?.replace_content(location.node, new)?;
            set_mode(tree, location.mount, location.node, edit.mode)?;
            Ok(location.mount)
        }
        (Action::Text { new, .. }, replaced) => {
            // Only a symlink is replaced, whose label is not that of a file.
            if replaced.is_some() {
                remove_name(tree, &edit.path)?;
            }
            let mode = edit.mode.unwrap_or(FILE_MODE);
            let made = create(tree, &edit.path, NewNode::Regular(new), mode, now, labels)?;
            labels.give(tree, made, &edit.path, None)?;
            Ok(made.0)
        }
        (Action::Create { new }, None) => {
            let mode = edit.mode.unwrap_or(FILE_MODE);
            let made = create(tree, &edit.path, NewNode::Regular(new), mode, now, labels)?;
            labels.give(tree, made, &edit.path, None)?;
            Ok(made.0)
        }
        (Action::Rewrite { new, .. } | Action::Create { new }, Some((location, _))) => {
            tree.writable(location.mount)?.replace_content(location.node, new)?;
            Ok(location.mount)
        }
        (Action::Append { old_len, bytes }, Some((location, _))) => {
            tree.writable(location.mount)?.write_at(location.node, *old_len, bytes)?;
            Ok(location.mount)
        }
        (Action::Link { target, .. }, replaced) => {
            let mut kept = None;
            if let Some((location, kind)) = replaced {
                if kind == FileKind::Symlink {
                    kept = Labels::kept(tree, location.mount, location.node)?;
                }
                remove_name(tree, &edit.path)?;
            }
            let made = create(tree, &edit.path, NewNode::Symlink(target), LINK_MODE, now, labels)?;
            labels.give(tree, made, &edit.path, kept)?;
            Ok(made.0)
        }
        (Action::Remove { .. }, Some((location, _))) => {
            remove_name(tree, &edit.path)?;
            Ok(location.mount)
        }
        (Action::Empty { .. }, Some((location, _))) => {
            for name in tree.list(&edit.path)? {
                remove_name(tree, &edit.path.join(name))?;
            }
            Ok(location.mount)
        }
        (Action::Attributes, Some((location, _))) => {
            set_mode(tree, location.mount, location.node, edit.mode)?;
            Ok(location.mount)
        }
        (_, None) => Err(missing()),
    }
}

fn set_mode(tree: &mut GuestTree, mount: usize, node: NodeId, mode: Option<u16>) -> Result<(), FixError> {
    if let Some(mode) = mode {
        let change = MetadataChange { mode: Some(mode), ..MetadataChange::default() };
        tree.writable(mount)?.set_metadata(node, change)?;
    }
    Ok(())
}

/// Removes a name with everything below it. A mount point stays, which is an error.
fn remove_name(tree: &mut GuestTree, path: &GuestPath) -> Result<(), FixError> {
    let (directory, name) = tree.resolve_parent(path)?;
    let own = directory.path.join(&name);
    if let Some(mount) = tree.mounts().iter().find(|mount| !mount.at.is_root() && mount.at.starts_with(&own))
    {
        let detail = format!("{} is mounted there", mount.device);
        return Err(VfsError::WrongKind { path: mount.at.to_string(), detail }.into());
    }
    let filesystem = tree.writable(directory.mount)?;
    // Directories still to be removed, with the names that are left in each: no recursion on guest data.
    let mut open: Vec<(NodeId, Vec<u8>, NodeId)> = Vec::new();
    let mut next = Some((directory.node, name));
    while let Some((parent, name)) = next.take() {
        let missing = || VfsError::NotFound { path: String::from_utf8_lossy(&name).into_owned() };
        let node = filesystem.lookup(parent, &name)?.ok_or_else(missing)?;
        if filesystem.stat(node)?.kind == FileKind::Directory {
            open.push((parent, name, node));
        } else {
            filesystem.unlink(parent, &name)?;
        }
        while let Some((parent, name, node)) = open.last() {
            if let Some(entry) = filesystem.list(*node)?.into_iter().next() {
                next = Some((*node, entry.name));
                break;
            }
            filesystem.remove_dir(*parent, name)?;
            open.pop();
        }
    }
    Ok(())
}

/// Makes a node and the directories above it that are missing.
fn create(
    tree: &mut GuestTree,
    path: &GuestPath,
    content: NewNode<'_>,
    mode: u16,
    now: Timestamp,
    labels: &mut Labels,
) -> Result<(usize, NodeId), FixError> {
    if let Some(parent) = path.parent()
        && !tree.exists(&parent)?
    {
        let made = create(tree, &parent, NewNode::Directory, DIRECTORY_MODE, now, labels)?;
        labels.give(tree, made, &parent, None)?;
    }
    let (directory, name) = tree.resolve_parent(path)?;
    let filesystem = tree.writable(directory.mount)?;
    filesystem.set_clock(now);
    let node = filesystem.create(directory.node, &name, content, mode, 0, 0)?;
    Ok((directory.mount, node))
}
