//! A program is installed, in a version that is usable.

use std::collections::BTreeMap;

use cloudspec::RuleSpec;
use guest::{Program, compare_versions, dpkg_version, find_program};
use vfs::{GuestPath, GuestTree, VfsError};

use super::path;
use crate::plan::Context;
use crate::{Finding, FixError, Stage, State};

/// Matches of one path with wildcards that are looked at.
const MATCHES_MAX: usize = 256;

/// What the profile says of the program.
pub(super) struct Demand<'a> {
    pub name: &'a str,
    pub paths: &'a [String],
    pub packages: &'a BTreeMap<String, String>,
    pub minimum: Option<&'a str>,
    pub obtain: Option<&'a str>,
}

/// A path that is there, and what its wildcards stand for.
struct Match {
    path: String,
    captured: Vec<String>,
}

pub(super) fn run(
    spec: &RuleSpec,
    demand: &Demand<'_>,
    context: &Context<'_>,
    stage: &Stage<'_>,
) -> Result<Finding, FixError> {
    let tree = stage.tree();
    let family = context.guest.os.family.name();
    let package = demand.packages.get(family).or_else(|| demand.packages.get("default"));
    let remedy = match (package, demand.obtain) {
        (Some(package), Some(obtain)) => format!("Install {package} in the guest ({family}): {obtain}."),
        (Some(package), None) => format!("Install the package {package} in the guest ({family})."),
        (None, Some(obtain)) => format!("Install it in the guest: {obtain}."),
        (None, None) => format!("Install {} in the guest.", demand.name),
    };
    let mut found = Vec::new();
    for pattern in demand.paths {
        found.extend(matches(tree, pattern)?);
    }
    let Some(newest) = found.iter().max_by(|one, other| compare_versions(captured(one), captured(other)))
    else {
        let evidence = vec![format!("{} is not installed: no {}", demand.name, demand.paths.join(", "))];
        return Ok(Finding::needs_action(spec, evidence, remedy));
    };
    let version = version(tree, newest, package)?;
    let mut evidence = vec![match &version {
        Some((version, source)) => format!("{}: version {version} ({source})", newest.path),
        None => format!("{} is there", newest.path),
    }];
    if let Some(minimum) = demand.minimum {
        match &version {
            Some((version, _)) if compare_versions(upstream(version), minimum).is_ge() => {}
            Some(_) => {
                evidence.push(format!("older than {minimum}"));
                return Ok(Finding::needs_action(spec, evidence, remedy));
            }
            None => {
                evidence
                    .push(format!("its version is unknown: no file tells it; {minimum} or later is needed"));
                return Ok(Finding::needs_action(spec, evidence, remedy));
            }
        }
    }
    // growpart is a script that leaves the work to one of these.
    if newest.path.ends_with("/growpart")
        && find_program(tree, Program::Sfdisk)?.is_none()
        && find_program(tree, Program::Sgdisk)?.is_none()
    {
        evidence.push("neither sfdisk nor sgdisk is installed, without which growpart does nothing".into());
        return Ok(Finding::needs_action(spec, evidence, "Install fdisk or gdisk in the guest."));
    }
    Ok(Finding::new(spec, State::Holds, evidence))
}

fn captured(found: &Match) -> &str {
    found.captured.first().map_or("", String::as_str)
}

/// A version without its epoch, which upstream's bounds do not have.
fn upstream(version: &str) -> &str {
    version.split_once(':').map_or(version, |(_, rest)| rest)
}

/// Version and the file or package that tells it: what the program's own files say, a directory named after it,
/// the package.
fn version(
    tree: &GuestTree,
    found: &Match,
    package: Option<&String>,
) -> Result<Option<(String, String)>, VfsError> {
    if let Some(program) = Program::at(&found.path)
        && let Some(installed) = find_program(tree, program)?
        && let (Some(version), Some(source)) = (installed.version, installed.version_source)
    {
        return Ok(Some((version, source)));
    }
    let is_version = |text: &str| text.starts_with(|first: char| first.is_ascii_digit());
    if let Some(version) = found.captured.iter().find(|text| is_version(text)) {
        return Ok(Some((version.clone(), "the name of its directory".into())));
    }
    match package {
        Some(package) => {
            Ok(dpkg_version(tree, package)?.map(|version| (version, format!("dpkg: {package}"))))
        }
        None => Ok(None),
    }
}

/// Paths that are there. `*` stands for any characters within one component.
fn matches(tree: &GuestTree, pattern: &str) -> Result<Vec<Match>, VfsError> {
    let mut open = vec![Match { path: String::new(), captured: Vec::new() }];
    for component in pattern.split('/').filter(|component| !component.is_empty()) {
        let mut next = Vec::new();
        for place in open {
            let Some((before, after)) = component.split_once('*') else {
                next.push(Match { path: format!("{}/{component}", place.path), ..place });
                continue;
            };
            let names = match tree.list(&path(&place.path)) {
                Ok(names) => names,
                Err(
                    VfsError::NotFound { .. } | VfsError::NotADirectory { .. } | VfsError::SymlinkLoop { .. },
                ) => Vec::new(),
                Err(error) => return Err(error),
            };
            for name in names.into_iter().filter_map(|name| String::from_utf8(name).ok()) {
                let middle =
                    name.strip_prefix(before).and_then(|rest| rest.strip_suffix(after)).map(str::to_owned);
                if let Some(middle) = middle
                    && next.len() < MATCHES_MAX
                {
                    let mut captured = place.captured.clone();
                    captured.push(middle);
                    next.push(Match { path: format!("{}/{name}", place.path), captured });
                }
            }
        }
        open = next;
    }
    let mut found = Vec::new();
    for place in open {
        match tree.exists(&GuestPath::root().join(&place.path)) {
            Ok(true) => found.push(place),
            Ok(false) | Err(VfsError::SymlinkLoop { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}
