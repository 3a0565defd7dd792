//! Services that do not start.

use cloudspec::RuleSpec;

use super::services;
use crate::{Finding, FixError, Stage};

pub(super) fn run(
    spec: &RuleSpec,
    names: &[String],
    mask: bool,
    stage: &mut Stage<'_>,
) -> Result<Finding, FixError> {
    let (mut changes, mut obstacles, mut installed) = (Vec::new(), Vec::new(), Vec::new());
    for name in names {
        let why = services::starters(name, stage)?;
        if services::is_installed(name, stage)? {
            installed.push(name.as_str());
        }
        match services::switch_off(&spec.id, name, mask, stage)? {
            Ok(lines) if lines.is_empty() => {}
            Ok(lines) => {
                changes.extend(why);
                changes.extend(lines);
            }
            Err(obstacle) => obstacles.push(obstacle),
        }
    }
    let holds = match installed.is_empty() {
        true => format!("not installed: {}", names.join(", ")),
        false => format!("nothing starts {}", installed.join(", ")),
    };
    Ok(Finding::of_changes(spec, changes, obstacles, holds))
}
