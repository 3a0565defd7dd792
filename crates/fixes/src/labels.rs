//! SELinux labels of what is made.

use selinux::{Lookup, Mode, Policy};
use vfs::{FileKind, GuestPath, GuestTree, NewNode, NodeId, Timestamp, VfsError};

use crate::FixError;

const LABEL: &[u8] = b"security.selinux";
/// Asks the guest to label everything anew at its next boot (fixfiles(8)).
const AUTORELABEL: &str = "/.autorelabel";

/// Where labels come from, and what got none.
pub(crate) struct Labels {
    policy: Option<Policy>,
    /// Paths whose label nobody can tell, with why.
    unknown: Vec<String>,
}

impl Labels {
    pub(crate) fn of(tree: &GuestTree) -> Result<Self, VfsError> {
        Ok(Self { policy: Policy::read(tree)?, unknown: Vec::new() })
    }

    /// The label that a node has.
    pub(crate) fn kept(tree: &GuestTree, mount: usize, node: NodeId) -> Result<Option<Vec<u8>>, VfsError> {
        let xattrs = tree.mounts()[mount].filesystem.xattrs(node)?;
        Ok(xattrs.into_iter().find(|xattr| xattr.name == LABEL).map(|xattr| xattr.value))
    }

    /// Labels a new node: as what it replaces, which is of the same kind, was labelled; else as the guest's policy
    /// says; else as a sibling of its kind or its directory is.
    pub(crate) fn give(
        &mut self,
        tree: &mut GuestTree,
        (mount, node): (usize, NodeId),
        path: &GuestPath,
        kept: Option<Vec<u8>>,
    ) -> Result<(), FixError> {
        let mut label = kept;
        if label.is_none()
            && let Some(policy) = &self.policy
        {
            let kind = tree.mounts()[mount].filesystem.stat(node)?.kind;
            match policy.label(path, kind) {
                // The kernel keeps the value with the NUL that ends it.
                Lookup::Label(value) => label = Some([value.as_bytes(), b"\0"].concat()),
                Lookup::NoLabel => return Ok(()),
                Lookup::NoMatch | Lookup::Unknown(_) => {}
            }
        }
        let label = match label {
            Some(label) => Some(label),
            None => of_neighbour(tree, mount, node, path)?,
        };
        let Some(label) = label else {
            if let Some(policy) = &self.policy
                && policy.config.mode != Some(Mode::Disabled)
            {
                self.unknown.push(path.to_string());
            }
            return Ok(());
        };
        match tree.writable(mount)?.set_xattr(node, LABEL, &label) {
            // FAT, and ext4 made without the feature: there is no label for SELinux to ask for.
            Err(VfsError::Unsupported { .. }) => Ok(()),
            other => Ok(other?),
        }
    }

    /// Asks for a relabelling when some label could not be told; returns remarks and the mount that was written.
    pub(crate) fn finish(
        self,
        tree: &mut GuestTree,
        now: Timestamp,
    ) -> Result<(Vec<String>, Option<usize>), FixError> {
        let path = GuestPath::root().join(AUTORELABEL);
        if self.unknown.is_empty() || tree.exists(&path)? {
            return Ok((Vec::new(), None));
        }
        let (root, name) = tree.resolve_parent(&path)?;
        let filesystem = tree.writable(root.mount)?;
        filesystem.set_clock(now);
        filesystem.create(root.node, &name, NewNode::Regular(b""), 0o600, 0, 0)?;
        let remark = format!(
            "{AUTORELABEL} was made: the policy has no SELinux label for {}; the guest labels all files at its next \
             boot and boots once more",
            self.unknown.join(", ")
        );
        Ok((vec![remark], Some(root.mount)))
    }
}

/// Label of a sibling of the same kind, else of the directory.
fn of_neighbour(
    tree: &GuestTree,
    mount: usize,
    node: NodeId,
    path: &GuestPath,
) -> Result<Option<Vec<u8>>, VfsError> {
    let (directory, _) = tree.resolve_parent(path)?;
    let filesystem = &tree.mounts()[mount].filesystem;
    let kind = filesystem.stat(node)?.kind;
    for entry in filesystem.list(directory.node)? {
        let is_like = entry.node != node && entry.kind.unwrap_or(FileKind::Socket) == kind;
        if is_like && let Some(value) = Labels::kept(tree, mount, entry.node)? {
            return Ok(Some(value));
        }
    }
    Labels::kept(tree, mount, directory.node)
}
