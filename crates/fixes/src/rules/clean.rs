//! What one machine leaves behind: removed, cut to nothing, or emptied.

use cloudspec::RuleSpec;
use config::{Files, glob};
use vfs::{FileKind, GuestPath, Metadata, VfsError};

use super::path;
use crate::{Action, Finding, FixError, Stage};

/// Names looked at for one rule; what is behind them is left, and said.
const NAMES_MAX: usize = 100_000;
/// Paths told one by one; of more only the number is told.
const TOLD_MAX: usize = 8;
/// Longer files are cut as data, not shown as text.
const SHOWN_MAX: u64 = 64 << 10;

/// Paths of one clean-up item.
pub(super) struct Item<'s> {
    /// What it is, for people.
    pub name: &'s str,
    /// Removed.
    pub remove: &'s [String],
    /// Cut to nothing.
    pub truncate: &'s [String],
    /// Emptied.
    pub empty: &'s [String],
    /// One of these must be there.
    pub remade_by: &'s [String],
}

/// An empty file makes systemd take a new id; a missing one makes it apply the presets of units, which switches
/// on again what was switched off. machine-id(5), "First Boot Semantics".
const MACHINE_ID: &str = "/etc/machine-id";
const MACHINE_ID_MODE: u16 = 0o444;

#[derive(Default)]
struct Work {
    told: Vec<String>,
    count: usize,
    bytes: u64,
    remarks: Vec<String>,
    names_left: usize,
}

impl Work {
    fn note(&mut self, line: String, bytes: u64) {
        self.count += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        if self.told.len() < TOLD_MAX {
            self.told.push(line);
        }
    }
}

pub(super) fn run(spec: &RuleSpec, item: &Item<'_>, stage: &mut Stage<'_>) -> Result<Finding, FixError> {
    let mut work = Work { names_left: NAMES_MAX, ..Work::default() };
    let removed = all(item.remove, stage, &mut work)?;
    if !item.remade_by.is_empty() && !removed.is_empty() && all(item.remade_by, stage, &mut work)?.is_empty()
    {
        let mut evidence: Vec<String> = removed.iter().take(TOLD_MAX).map(ToString::to_string).collect();
        evidence.push(format!("kept: nothing in the guest makes {} anew", item.name));
        return Ok(Finding::needs_action(spec, evidence, "Remove them where something makes new ones."));
    }
    for target in removed {
        remove(&spec.id, &target, stage, &mut work)?;
    }
    for target in all(item.truncate, stage, &mut work)? {
        truncate(&spec.id, &target, stage, &mut work)?;
    }
    if item.truncate.iter().any(|target| target == MACHINE_ID) {
        machine_id(&spec.id, stage, &mut work)?;
    }
    for directory in all(item.empty, stage, &mut work)? {
        empty(&spec.id, &directory, stage, &mut work)?;
    }
    if work.names_left == 0 {
        work.remarks.push(format!("more than {NAMES_MAX} names: some were not looked at"));
    }
    if work.count == 0 {
        let mut finding = Finding::of_changes(spec, Vec::new(), Vec::new(), "nothing left behind");
        finding.evidence.extend(work.remarks);
        return Ok(finding);
    }
    let mut evidence = work.told;
    if work.count > evidence.len() {
        evidence.push(format!("and {} more", work.count - evidence.len()));
    }
    evidence.push(format!("{}: {} paths, {} bytes", item.name, work.count, work.bytes));
    evidence.extend(work.remarks);
    Ok(Finding::of_changes(spec, evidence, Vec::new(), ""))
}

fn remove(rule: &str, at: &GuestPath, stage: &mut Stage<'_>, work: &mut Work) -> Result<(), FixError> {
    // A link to the machine's id is right on any machine.
    if let Some(target) = stage.link_target(at)?
        && target.ends_with(b"/machine-id")
    {
        return Ok(());
    }
    let Some(metadata) = metadata(at, stage)? else { return Ok(()) };
    unprotect(rule, at, &metadata, stage)?;
    let line = format!("{at}: removed");
    let bytes = if metadata.kind == FileKind::Regular { metadata.len } else { 0 };
    stage.remove(rule, at, vec![line.clone()])?;
    work.note(line, bytes);
    Ok(())
}

fn truncate(rule: &str, at: &GuestPath, stage: &mut Stage<'_>, work: &mut Work) -> Result<(), FixError> {
    if stage.link_target(at)?.is_some() {
        if at.as_bytes() != MACHINE_ID.as_bytes() {
            work.remarks.push(format!("{at}: a symlink, left as it is"));
        }
        return Ok(());
    }
    let Some(metadata) = metadata(at, stage)? else {
        // Made by an earlier rule of this plan.
        return Ok(());
    };
    if metadata.kind != FileKind::Regular || metadata.len == 0 {
        return Ok(());
    }
    unprotect(rule, at, &metadata, stage)?;
    let line = format!("{at}: cut to nothing");
    let is_text = metadata.len <= SHOWN_MAX
        && stage.read(at)?.is_none_or(|content| std::str::from_utf8(&content).is_ok());
    if is_text {
        stage.write_no_follow(rule, at, Vec::new(), vec![line.clone()])?;
    } else {
        let action = Action::Rewrite { old_len: metadata.len, new: Vec::new() };
        stage.change_large(rule, at, action, vec![line.clone()])?;
    }
    work.note(line, metadata.len);
    Ok(())
}

/// The machine's id is an empty file of its own, neither missing nor a link to what another program keeps.
fn machine_id(rule: &str, stage: &mut Stage<'_>, work: &mut Work) -> Result<(), FixError> {
    let at = path(MACHINE_ID);
    let is_link = stage.link_target(&at)?.is_some();
    let has_systemd = config::units::Units::new(stage)?.has_systemd()?;
    if !is_link && (stage.exists(&at)? || !has_systemd) {
        return Ok(());
    }
    let line = format!("{MACHINE_ID}: an empty file, so that the next boot is not taken for the first");
    stage.write_no_follow(rule, &at, Vec::new(), vec![line.clone()])?;
    stage.write_with_mode(rule, &at, Vec::new(), MACHINE_ID_MODE, vec![line.clone()])?;
    work.note(line, 0);
    Ok(())
}

fn empty(rule: &str, at: &GuestPath, stage: &mut Stage<'_>, work: &mut Work) -> Result<(), FixError> {
    if stage.link_target(at)?.is_some() {
        work.remarks.push(format!("{at}: a symlink, left as it is"));
        return Ok(());
    }
    let names = stage.list(at)?;
    if names.is_empty() {
        return Ok(());
    }
    let (mut files, mut bytes) = (0, 0);
    measure(at, stage, work, &mut files, &mut bytes)?;
    let line = format!("{at}: emptied, {files} files");
    stage.empty(rule, at, vec![line.clone()])?;
    work.note(line, bytes);
    Ok(())
}

/// Files below a directory and their bytes, links not followed.
fn measure(
    top: &GuestPath,
    stage: &Stage<'_>,
    work: &mut Work,
    files: &mut u64,
    bytes: &mut u64,
) -> Result<(), FixError> {
    let mut todo = vec![top.clone()];
    while let Some(directory) = todo.pop() {
        for name in stage.list(&directory)? {
            if work.names_left == 0 {
                return Ok(());
            }
            work.names_left -= 1;
            let at = directory.join(&name);
            match metadata(&at, stage)? {
                Some(metadata) if metadata.kind == FileKind::Directory => todo.push(at),
                Some(metadata) => {
                    *files += 1;
                    *bytes = bytes.saturating_add(metadata.len);
                }
                None => *files += 1,
            }
        }
    }
    Ok(())
}

fn unprotect(rule: &str, at: &GuestPath, metadata: &Metadata, stage: &mut Stage<'_>) -> Result<(), FixError> {
    if metadata.kind == FileKind::Regular && (metadata.is_immutable || metadata.is_append_only) {
        stage.unprotect(rule, at, vec![format!("{at}: no longer protected (chattr)")])?;
    }
    Ok(())
}

/// Of what the tree has at a path, its last component not followed.
fn metadata(at: &GuestPath, stage: &Stage<'_>) -> Result<Option<Metadata>, FixError> {
    match stage.tree().stat_no_follow(at) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(VfsError::NotFound { .. } | VfsError::NotADirectory { .. } | VfsError::SymlinkLoop { .. }) => {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// What is there for patterns, each component on its own.
fn all(patterns: &[String], stage: &Stage<'_>, work: &mut Work) -> Result<Vec<GuestPath>, FixError> {
    let mut found = Vec::new();
    for pattern in patterns {
        let mut paths = vec![GuestPath::root()];
        let mut is_any = false;
        for component in pattern.split('/').filter(|component| !component.is_empty()) {
            let mut next = Vec::new();
            for at in &paths {
                // Where a pattern led, a link may be a user's own and lead anywhere.
                if is_any && stage.link_target(at)?.is_some() {
                    continue;
                }
                if !glob::is_pattern(component) {
                    next.push(at.join(component));
                    continue;
                }
                let names = list(at, stage)?;
                work.names_left = work.names_left.saturating_sub(names.len());
                if work.names_left == 0 {
                    return Ok(found);
                }
                let names = names.into_iter().filter(|name| glob::name_matches(component, name));
                next.extend(names.map(|name| at.join(name)));
            }
            is_any |= glob::is_pattern(component);
            paths = next;
        }
        for at in paths {
            let is_there = stage.link_target(&at)?.is_some() || exists(&at, stage)?;
            if is_there && !at.is_root() && !found.contains(&at) {
                found.push(at);
            }
        }
    }
    Ok(found)
}

fn list(at: &GuestPath, stage: &Stage<'_>) -> Result<Vec<Vec<u8>>, FixError> {
    match stage.list(at) {
        Err(VfsError::SymlinkLoop { .. }) => Ok(Vec::new()),
        other => Ok(other?),
    }
}

fn exists(at: &GuestPath, stage: &Stage<'_>) -> Result<bool, FixError> {
    match stage.exists(at) {
        Err(VfsError::SymlinkLoop { .. }) => Ok(false),
        other => Ok(other?),
    }
}
