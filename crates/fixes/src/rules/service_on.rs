//! Services that start at boot where they are installed.

use cloudspec::RuleSpec;

use super::services;
use crate::{Finding, FixError, Stage};

pub(super) fn run(
    spec: &RuleSpec,
    entries: &[Vec<String>],
    stage: &mut Stage<'_>,
) -> Result<Finding, FixError> {
    let (mut changes, mut stuck, mut on) = (Vec::new(), Vec::new(), Vec::new());
    for names in entries {
        let mut installed = Vec::new();
        for name in names {
            if services::is_installed(name, stage)? {
                installed.push(name);
            }
        }
        let mut is_on = false;
        for name in &installed {
            is_on = is_on || services::is_on(name, stage)?;
        }
        let Some(name) = installed.first() else { continue };
        if is_on {
            on.push(name.as_str());
            continue;
        }
        let lines = services::switch_on(&spec.id, name, stage)?;
        if lines.is_empty() {
            stuck.push(format!("{name}: nothing starts it, and it names nothing that should"));
        }
        changes.extend(lines);
    }
    if !stuck.is_empty() && changes.is_empty() {
        return Ok(Finding::needs_action(spec, stuck, "Enable the service in the guest."));
    }
    if on.is_empty() && changes.is_empty() {
        let names: Vec<String> = entries.iter().map(|names| names.join("/")).collect();
        return Ok(Finding::not_applicable(spec, format!("not installed: {}", names.join(", "))));
    }
    changes.extend(if changes.is_empty() { Vec::new() } else { stuck });
    Ok(Finding::of_changes(spec, changes, Vec::new(), format!("start at boot: {}", on.join(", "))))
}
