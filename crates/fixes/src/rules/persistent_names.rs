//! No file binds interface or disk names to one machine's hardware: udev rules and `.link` files, on the disk and
//! in every initramfs.
//!
//! Facts: udev(7), systemd.link(5); `75-persistent-net-generator.rules` of udev before systemd 209 writes
//! `70-persistent-net.rules` anew for each address that it meets.

use cloudspec::RuleSpec;
use config::Files;
use config::units::UnitFile;
use vfs::GuestPath;

use super::path;
use crate::plan::Context;
use crate::{Finding, FixError, Stage};

const RULES: &str = "/etc/udev/rules.d";
const LINKS: &str = "/etc/systemd/network";
/// Written by a generator for the hardware that it met.
const GENERATED: [&str; 4] = [
    "70-persistent-net.rules",
    "70-persistent-cd.rules",
    "z25_persistent-net.rules",
    "z25_persistent-cd.rules",
];
const GENERATOR: &str = "75-persistent-net-generator.rules";

#[derive(Default)]
struct Outcome {
    changes: Vec<String>,
    obstacles: Vec<String>,
    remarks: Vec<String>,
}

pub(super) fn run(
    spec: &RuleSpec,
    context: &Context<'_>,
    stage: &mut Stage<'_>,
) -> Result<Finding, FixError> {
    let mut outcome = Outcome::default();
    udev_rules(&spec.id, stage, &mut outcome)?;
    generator(&spec.id, stage, &mut outcome)?;
    link_files(&spec.id, stage, &mut outcome)?;
    // udev passes over empty files, those of either kind.
    let empty = |name: &str, content: &[u8]| binds(name, &String::from_utf8_lossy(content)).then(Vec::new);
    let mut inside = stage.edit_inside(&spec.id, context.guest, is_candidate, empty)?;
    outcome.changes.append(&mut inside.changes);
    outcome.obstacles.append(&mut inside.obstacles);
    outcome.remarks.append(&mut inside.remarks);
    let mut finding =
        Finding::of_changes(spec, outcome.changes, outcome.obstacles, "no file binds a name to hardware");
    finding.evidence.extend(outcome.remarks);
    Ok(finding)
}

/// Names that files on the disk give to pieces of network hardware: a configuration by such a name goes dead with
/// the file.
pub(super) fn pinned(stage: &Stage<'_>) -> Result<Vec<String>, FixError> {
    let mut names = Vec::new();
    // What cannot be read is said by the rule itself.
    let mut unread = Outcome::default();
    for name in stage.names(RULES)?.into_iter().filter(|name| name.ends_with(".rules")) {
        let Some(text) = text(&path(RULES).join(&name), stage, &mut unread)? else { continue };
        let rules = lines_of(&text).filter(|(_, line)| is_pinning_rule(line));
        names.extend(rules.filter_map(|(_, line)| assigned(&line, "NAME").map(str::to_owned)));
    }
    for name in stage.names(LINKS)?.into_iter().filter(|name| name.ends_with(".link")) {
        let Some(text) = text(&path(LINKS).join(&name), stage, &mut unread)? else { continue };
        if is_pinning_link(&text) {
            names.extend(UnitFile::parse(&text).last("Link", "Name").map(|name| name.to_string()));
        }
    }
    Ok(names)
}

/// True for files in an initramfs that may bind a name.
fn is_candidate(inside: &str) -> bool {
    let Some((directory, name)) = inside.rsplit_once('/') else { return false };
    match name.rsplit('.').next() {
        Some("rules") => directory.ends_with("udev/rules.d"),
        Some("link") => directory.ends_with("systemd/network"),
        _ => false,
    }
}

/// True when the file gives a name to a piece of hardware that no other machine has.
fn binds(name: &str, text: &str) -> bool {
    let base = name.rsplit('/').next().unwrap_or(name);
    if base.ends_with(".link") {
        return is_pinning_link(text);
    }
    lines_of(text).any(|(_, line)| is_pinning_rule(&line))
        || (GENERATED.contains(&base) && lines_of(text).any(|(_, line)| has_assignment(&line)))
}

/// A `.link` file that a hardware address or a bus path selects, or that sets an address.
fn is_pinning_link(text: &str) -> bool {
    let file = UnitFile::parse(text);
    let matches = ["MACAddress", "PermanentMACAddress", "Path"];
    // A pattern (systemd's own 73-usb-net-by-mac.link) means a kind of hardware, not a piece of it.
    let is_exact = |value: &String| !value.contains(['*', '?', '[']);
    let is_bound = matches.iter().any(|key| file.list("Match", key).iter().any(is_exact));
    let names = ["Name", "NamePolicy", "AlternativeName"];
    (is_bound && names.iter().any(|key| file.last("Link", key).is_some()))
        || file.last("Link", "MACAddress").is_some()
}

/// Rules with their first line's number; a rule may go on behind a backslash.
fn lines_of(text: &str) -> impl Iterator<Item = (std::ops::Range<usize>, String)> {
    let mut lines = text.lines().enumerate();
    std::iter::from_fn(move || {
        let (start, first) = lines.next()?;
        let mut whole = first.to_owned();
        let mut end = start + 1;
        while whole.ends_with('\\') {
            whole.pop();
            let Some((at, next)) = lines.next() else { break };
            whole.push_str(next);
            end = at + 1;
        }
        Some((start..end, whole))
    })
    .filter(|(_, line)| !line.trim_start().starts_with('#') && !line.trim().is_empty())
}

/// A rule that names a network interface by its address or place.
fn is_pinning_rule(line: &str) -> bool {
    let keys: Vec<(&str, bool)> = keys(line).collect();
    let is_bound = keys.iter().any(|(key, is_match)| {
        *is_match
            && (["ATTR{address}", "ATTRS{address}", "SYSFS{address}"].contains(key)
                || (*key == "ID" || *key == "KERNELS" || *key == "DEVPATH"))
    });
    let is_net = line.contains("\"net\"");
    is_net && is_bound && keys.iter().any(|(key, is_match)| *key == "NAME" && !is_match)
}

/// The value that a rule assigns to a key.
fn assigned<'l>(line: &'l str, wanted: &str) -> Option<&'l str> {
    let mut parts = line.split('"');
    while let (Some(before), Some(value)) = (parts.next(), parts.next()) {
        let mut keys = keys(before);
        if keys.next() == Some((wanted, false)) {
            return Some(value);
        }
    }
    None
}

fn has_assignment(line: &str) -> bool {
    keys(line)
        .any(|(key, is_match)| !is_match && (key == "NAME" || key == "SYMLINK" || key.starts_with("ENV{")))
}

/// Keys of a rule, and whether each is compared.
fn keys(line: &str) -> impl Iterator<Item = (&str, bool)> {
    // Values stand in quotes, so every second part is outside of them.
    line.split('"').step_by(2).filter_map(|part| {
        let part = part.trim_start_matches([',', ' ', '\t']).trim_end();
        let is_match = part.ends_with("==") || part.ends_with("!=");
        let key = part.trim_end_matches(['=', '!', '+', ':', '-']).trim_end();
        (!key.is_empty() && part.ends_with('=')).then_some((key, is_match))
    })
}

fn udev_rules(rule: &str, stage: &mut Stage<'_>, outcome: &mut Outcome) -> Result<(), FixError> {
    for name in stage.names(RULES)? {
        let at = path(RULES).join(&name);
        if !name.ends_with(".rules") || stage.link_target(&at)?.is_some() {
            continue;
        }
        let Some(text) = text(&at, stage, outcome)? else { continue };
        if GENERATED.contains(&name.as_str()) && binds(&name, &text) {
            let line = format!("{at}: removed, it names this machine's devices");
            stage.remove(rule, &at, vec![line.clone()])?;
            outcome.changes.push(line);
            continue;
        }
        let all: Vec<_> = lines_of(&text).collect();
        let pinned: Vec<_> = all.iter().filter(|(_, line)| is_pinning_rule(line)).collect();
        let Some((first, _)) = pinned.first() else { continue };
        let number = first.start + 1;
        if pinned.len() == all.len() {
            let line = format!("{at}: removed, line {number} names an interface by its hardware");
            stage.remove(rule, &at, vec![line.clone()])?;
            outcome.changes.push(line);
            continue;
        }
        let is_kept = |number: &usize| !pinned.iter().any(|(lines, _)| lines.contains(number));
        let kept: String = text
            .split_inclusive('\n')
            .enumerate()
            .filter(|(n, _)| is_kept(n))
            .map(|(_, line)| line)
            .collect();
        let line = format!("{at}: {} rules that name an interface by its hardware taken out", pinned.len());
        stage.write(rule, &at, kept.into_bytes(), vec![line.clone()])?;
        outcome.changes.push(line);
    }
    Ok(())
}

/// What writes such rules at each boot gets an empty file of its name in the directory that wins.
fn generator(rule: &str, stage: &mut Stage<'_>, outcome: &mut Outcome) -> Result<(), FixError> {
    let own = path(RULES).join(GENERATOR);
    if stage.link_target(&own)?.is_some() {
        return Ok(());
    }
    let is_active = match text(&own, stage, outcome)? {
        Some(text) => lines_of(&text).next().is_some(),
        None => {
            stage.has(&format!("/lib/udev/rules.d/{GENERATOR}"))?
                || stage.has(&format!("/usr/lib/udev/rules.d/{GENERATOR}"))?
        }
    };
    if is_active {
        let line = format!("{own}: empty, so that no names are bound at the next boot");
        stage.write(rule, &own, Vec::new(), vec![line.clone()])?;
        outcome.changes.push(line);
    }
    Ok(())
}

fn link_files(rule: &str, stage: &mut Stage<'_>, outcome: &mut Outcome) -> Result<(), FixError> {
    for name in stage.names(LINKS)? {
        let at = path(LINKS).join(&name);
        if !name.ends_with(".link") || stage.link_target(&at)?.is_some() {
            continue;
        }
        let Some(text) = text(&at, stage, outcome)? else { continue };
        if is_pinning_link(&text) {
            let line = format!("{at}: removed, it names an interface by its hardware");
            stage.remove(rule, &at, vec![line.clone()])?;
            outcome.changes.push(line);
        }
    }
    Ok(())
}

fn text(at: &GuestPath, stage: &Stage<'_>, outcome: &mut Outcome) -> Result<Option<String>, FixError> {
    match stage.read(at) {
        Ok(content) => Ok(content.map(|content| String::from_utf8_lossy(&content).into_owned())),
        Err(error @ (vfs::VfsError::Limit { .. } | vfs::VfsError::WrongKind { .. })) => {
            outcome.remarks.push(format!("{at}: {error}"));
            Ok(None)
        }
        Err(vfs::VfsError::IsADirectory { .. } | vfs::VfsError::SymlinkLoop { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
