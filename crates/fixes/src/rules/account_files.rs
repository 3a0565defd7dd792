//! `passwd` and `shadow` can be written, are well formed and have root.

use cloudspec::RuleSpec;
use vfs::{FileKind, VfsError};

use super::path;
use crate::{Finding, FixError, Stage};

const PASSWD: &str = "/etc/passwd";
const SHADOW: &str = "/etc/shadow";
/// Files that a change of password or account writes.
const FILES: [&str; 4] = [PASSWD, SHADOW, "/etc/group", "/etc/gshadow"];
/// Malformed lines that are named for each file.
const NAMED_MAX: usize = 5;

pub(super) fn run(spec: &RuleSpec, stage: &mut Stage<'_>) -> Result<Finding, FixError> {
    let mut changes = Vec::new();
    let mut obstacles = Vec::new();
    for name in FILES {
        let metadata = match stage.tree().stat(&path(name)) {
            Ok(metadata) => metadata,
            Err(VfsError::NotFound { .. } | VfsError::NotADirectory { .. }) => continue,
            Err(error @ VfsError::SymlinkLoop { .. }) => {
                obstacles.push(error.to_string());
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if metadata.kind != FileKind::Regular {
            obstacles.push(format!("{name}: not a regular file"));
            continue;
        }
        if metadata.is_immutable || metadata.is_append_only {
            let attribute =
                if metadata.is_immutable { "immutable (chattr +i)" } else { "append-only (chattr +a)" };
            let change = format!("{name}: {attribute} is taken off");
            stage.unprotect(&spec.id, &path(name), vec![change.clone()])?;
            changes.push(change);
        }
    }
    if !obstacles.is_empty() {
        return Ok(Finding::of_changes(spec, changes, obstacles, ""));
    }
    let Some(passwd) = stage.read(&path(PASSWD))? else {
        let evidence = vec![format!("{PASSWD} is not there")];
        return Ok(Finding::needs_action(
            spec,
            evidence,
            "Restore it from a backup, /etc/passwd- for example.",
        ));
    };
    let passwd = String::from_utf8_lossy(&passwd).into_owned();
    obstacles.extend(malformed(PASSWD, &passwd, &[7]));
    let root = entries(&passwd).map(|(_, fields)| fields).find(|fields| fields.first() == Some(&"root"));
    let mut lacks = Vec::new();
    match root.as_deref() {
        None => lacks.push(format!("{PASSWD} has no account root")),
        Some(fields) if fields.get(2) != Some(&"0") => {
            lacks.push(format!("{PASSWD}: root's number is {}, not 0", fields.get(2).unwrap_or(&"missing")));
        }
        Some(_) => {}
    }
    match stage.read(&path(SHADOW))? {
        Some(shadow) => {
            let shadow = String::from_utf8_lossy(&shadow).into_owned();
            // Nine fields, or five of the older form (shadow(5), shadow(3)).
            obstacles.extend(malformed(SHADOW, &shadow, &[9, 5]));
            if !entries(&shadow).any(|(_, fields)| fields.first() == Some(&"root")) {
                lacks.push(format!("{SHADOW} has no account root"));
            }
        }
        None => lacks.push(format!("{SHADOW} is not there: passwords cannot be set (pwconv(8) makes it)")),
    }
    if obstacles.is_empty() && !lacks.is_empty() {
        lacks.append(&mut changes);
        return Ok(Finding::needs_action(
            spec,
            lacks,
            "Repair the accounts in the guest with pwck and pwconv.",
        ));
    }
    obstacles.append(&mut lacks);
    let holds = "passwd and shadow can be written, are well formed and have root";
    Ok(Finding::of_changes(spec, changes, obstacles, holds))
}

/// Entries with their line numbers; comments, empty lines and NIS entries (`+`, `-`) are none.
fn entries(text: &str) -> impl Iterator<Item = (usize, Vec<&str>)> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty() && !line.starts_with(['#', '+', '-']))
        .map(|(index, line)| (index + 1, line.split(':').collect()))
}

fn malformed(file: &str, text: &str, fields: &[usize]) -> Vec<String> {
    let is_wrong =
        |entry: &[&str]| !fields.contains(&entry.len()) || entry.first().is_none_or(|name| name.is_empty());
    let wrong = entries(text).filter(|(_, entry)| is_wrong(entry));
    wrong
        .take(NAMED_MAX)
        .map(|(line, entry)| format!("{file}:{line}: {} fields, not {}", entry.len(), fields[0]))
        .collect()
}
