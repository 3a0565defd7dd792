//! `/lib` and its kin, where they are symlinks, have relative targets: an absolute one leads out of a tree that is
//! mounted somewhere else than at `/`.

use cloudspec::RuleSpec;
use vfs::{GuestPath, GuestTree, VfsError};

use super::path;
use crate::{Finding, FixError, Stage};

pub(super) fn run(spec: &RuleSpec, paths: &[String], stage: &mut Stage<'_>) -> Result<Finding, FixError> {
    let mut changes = Vec::new();
    let mut relative = Vec::new();
    for name in paths {
        let link = path(name);
        let Some(target) = config::Files::link_target(stage, &link)? else { continue };
        let shown = String::from_utf8_lossy(&target).into_owned();
        if target.first() != Some(&b'/') {
            relative.push(format!("{name} is {shown}"));
            continue;
        }
        let new = relative_target(stage.tree(), &link, &target)?;
        let change = format!("{name}: {shown} becomes {}", String::from_utf8_lossy(&new));
        stage.link(&spec.id, &link, new, vec![change.clone()])?;
        changes.push(change);
    }
    let holds = match relative.is_empty() {
        true => "none of them is a symlink".to_owned(),
        false => relative.join(", "),
    };
    Ok(Finding::of_changes(spec, changes, Vec::new(), holds))
}

/// The same place from the directory that holds the link: up to the root, then down.
fn relative_target(tree: &GuestTree, link: &GuestPath, target: &[u8]) -> Result<Vec<u8>, VfsError> {
    let (directory, _) = tree.resolve_parent(link)?;
    let mut parts: Vec<&[u8]> = directory.path.components().map(|_| b"..".as_slice()).collect();
    parts.extend(target.split(|byte| *byte == b'/').filter(|part| !part.is_empty()));
    Ok(match parts.is_empty() {
        true => b".".to_vec(),
        false => parts.join(&b'/'),
    })
}
