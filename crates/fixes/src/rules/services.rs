//! Services by whatever starts them: systemd, Upstart, runlevels.

use config::units::{UnitChange, UnitState, Units};
use config::{sysv, upstart};

use super::path;
use crate::{FixError, Stage};

/// Stages changes of links; a line for each.
pub(super) fn apply(
    rule: &str,
    changes: Vec<UnitChange>,
    stage: &mut Stage<'_>,
) -> Result<Vec<String>, FixError> {
    let mut lines = Vec::new();
    for change in changes {
        let line = change.to_string();
        match change {
            UnitChange::Remove { path: at } => stage.remove(rule, &path(&at), vec![line.clone()])?,
            UnitChange::Link { path: at, target } => {
                stage.link(rule, &path(&at), target, vec![line.clone()])?;
            }
        }
        lines.push(line);
    }
    Ok(lines)
}

fn apply_text(
    rule: &str,
    change: Option<(String, String)>,
    what: &str,
    stage: &mut Stage<'_>,
) -> Result<Vec<String>, FixError> {
    let Some((at, text)) = change else { return Ok(Vec::new()) };
    let line = format!("{at}: {what}");
    stage.write(rule, &path(&at), text.into_bytes(), vec![line.clone()])?;
    Ok(vec![line])
}

/// True where the guest has a unit, job or script of this name.
pub(super) fn is_installed(name: &str, stage: &Stage<'_>) -> Result<bool, FixError> {
    Ok(Units::new(stage)?.find(&format!("{name}.service"))?.is_some()
        || upstart::starts(stage, name)?.is_some()
        || sysv::find(stage, name)?.is_some())
}

/// What starts the service, a line each.
pub(super) fn starters(name: &str, stage: &Stage<'_>) -> Result<Vec<String>, FixError> {
    let units = Units::new(stage)?;
    let has_unit = units.find(&format!("{name}.service"))?.is_some();
    let mut lines: Vec<String> = units.starters(name)?.iter().map(|by| format!("{name}: {by}")).collect();
    if upstart::starts(stage, name)? == Some(true) {
        lines.push(format!("{name}: job /etc/init/{name}.conf"));
    }
    // A unit of the same name takes the place of the script.
    if !(has_unit && units.has_systemd()?)
        && let Some(script) = sysv::find(stage, name)?
    {
        lines.extend(script.starts.iter().map(|link| format!("{name}: link {link}")));
    }
    Ok(lines)
}

/// True when a normal boot starts the service, or something that starts it when it is asked for.
pub(super) fn is_on(name: &str, stage: &Stage<'_>) -> Result<bool, FixError> {
    let units = Units::new(stage)?;
    Ok(units.state(name)? == UnitState::Enabled || !starters(name, stage)?.is_empty())
}

/// Keeps a service from starting: a mask where that is asked for or something would start it all the same.
pub(super) fn switch_off(
    rule: &str,
    name: &str,
    is_mask_wanted: bool,
    stage: &mut Stage<'_>,
) -> Result<Result<Vec<String>, String>, FixError> {
    let units = Units::new(stage)?;
    let state = units.state(name)?;
    let mut lines = Vec::new();
    if state != UnitState::Masked {
        let changes = units.disable(name)?;
        lines.extend(apply(rule, changes, stage)?);
    }
    if !matches!(state, UnitState::Masked | UnitState::NotFound) {
        let units = Units::new(stage)?;
        let unit = units.find(&format!("{name}.service"))?;
        let own_name = unit.map(|unit| unit.name).filter(|_| state == UnitState::Alias);
        let target = own_name.unwrap_or_else(|| name.to_owned());
        let is_still_started = !units.starters(&target)?.is_empty();
        if is_mask_wanted || is_still_started {
            match units.mask(&target)? {
                Ok(changes) => lines.extend(apply(rule, changes, stage)?),
                Err(obstacle) if is_still_started => return Ok(Err(obstacle)),
                Err(_) => {}
            }
        }
    }
    let change = upstart::disable(stage, name)?;
    lines.extend(apply_text(rule, change, "manual", stage)?);
    let changes = sysv::disable(stage, name)?;
    lines.extend(apply(rule, changes, stage)?);
    Ok(Ok(lines))
}

/// Lets a service start at boot, in the way that its package foresees.
pub(super) fn switch_on(rule: &str, name: &str, stage: &mut Stage<'_>) -> Result<Vec<String>, FixError> {
    let changes = Units::new(stage)?.unmask(name)?;
    let mut lines = apply(rule, changes, stage)?;
    let units = Units::new(stage)?;
    if units.find(&format!("{name}.service"))?.is_some() {
        let changes = units.enable(name)?;
        lines.extend(apply(rule, changes, stage)?);
        return Ok(lines);
    }
    if upstart::starts(stage, name)?.is_some() {
        let change = upstart::enable(stage, name)?;
        lines.extend(apply_text(rule, change, "no longer manual", stage)?);
        return Ok(lines);
    }
    let changes = sysv::enable(stage, name)?;
    lines.extend(apply(rule, changes, stage)?);
    Ok(lines)
}
