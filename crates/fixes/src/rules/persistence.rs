//! The guest's own next initramfs rebuild keeps the drivers.

use cloudspec::RuleSpec;

mod other_generators;

use super::path;
use crate::{Finding, FixError, Stage, State};

/// One module name a line (initramfs-tools(7)).
const INITRAMFS_TOOLS_MODULES: &str = "/etc/initramfs-tools/modules";
/// Sourced in the order of names, after `/etc/dracut.conf` (dracut.conf(5)).
const DRACUT_DROP_IN: &str = "/etc/dracut.conf.d/90-coldfit.conf";

/// What is to be kept, and how the source of the rule spells it for dracut.
pub(super) struct Demand<'a> {
    pub modules: &'a [String],
    /// Where the source wants dracut's setting; our own drop-in when it does not say.
    pub dracut_file: Option<&'a str>,
    /// Names as the source spells them for dracut; dracut takes `-` and `_` alike.
    pub dracut_names: Option<&'a [String]>,
}

pub(super) fn run(spec: &RuleSpec, demand: &Demand<'_>, stage: &mut Stage<'_>) -> Result<Finding, FixError> {
    let modules = demand.modules;
    let exists = |directory: &str| stage.tree().exists(&path(directory));
    // A generator counts when its program is there, not when its configuration was left behind.
    let has_initramfs_tools = exists("/usr/sbin/mkinitramfs")? || exists("/usr/share/initramfs-tools")?;
    let has_dracut = exists("/usr/bin/dracut")? || exists("/usr/lib/dracut")? || exists("/sbin/dracut")?;
    let mut changes = Vec::new();
    let mut holds = Vec::new();
    if has_initramfs_tools {
        match initramfs_tools(spec, modules, stage)? {
            Some(change) => changes.push(change),
            None => holds.push(format!("{INITRAMFS_TOOLS_MODULES} names every module")),
        }
    }
    if has_dracut {
        let file = demand.dracut_file.unwrap_or(DRACUT_DROP_IN);
        match dracut(spec, file, demand.dracut_names.unwrap_or(modules), stage)? {
            Some(change) => changes.push(change),
            None => holds.push(format!("{file} names every module")),
        }
    }
    if !has_initramfs_tools && !has_dracut {
        for generator in other_generators::ALL {
            match generator.keep(spec, modules, stage)? {
                Kept::Change(change) => changes.push(change),
                Kept::Holds(why) => holds.push(why),
                Kept::NotInstalled => {}
                Kept::Obstacle(why) => {
                    let finding = Finding::new(spec, State::NotFixable, vec![why]);
                    return Ok(finding.with_remedy(
                        "Add the modules to its configuration in the guest, then leave this rule out with --skip.",
                    ));
                }
            }
        }
    }
    if !changes.is_empty() {
        changes.extend(holds);
        return Ok(Finding::new(spec, State::Fixable, changes));
    }
    if !holds.is_empty() {
        return Ok(Finding::new(spec, State::Holds, holds));
    }
    Ok(Finding::new(
        spec,
        State::NotApplicable,
        vec!["the guest has no program that makes an initramfs".into()],
    ))
}

/// What became of one generator's configuration.
enum Kept {
    /// The guest does not have this generator.
    NotInstalled,
    /// Its configuration names every module.
    Holds(String),
    /// What is written.
    Change(String),
    /// Why it cannot be written.
    Obstacle(String),
}

/// The modules of `wanted` that are not among `named`.
fn missing<'m>(wanted: &'m [String], named: &[String]) -> Vec<&'m str> {
    wanted.iter().map(String::as_str).filter(|wanted| !named.contains(&normalized(wanted))).collect()
}

/// Lines without their comments.
fn code_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(|line| line.split('#').next().unwrap_or_default())
}

/// Modules of an initramfs-tools list: the first word of each line, its parameters behind it.
fn listed(text: &str) -> Vec<String> {
    code_lines(text).filter_map(|line| line.split_whitespace().next()).map(normalized).collect()
}

/// Modules that the assignments to `add_drivers` of a dracut file name.
fn added_drivers(text: &str) -> Vec<String> {
    let values = code_lines(text).filter_map(|line| line.trim_start().strip_prefix("add_drivers+="));
    values
        .flat_map(|value| value.split(|c: char| c.is_whitespace() || c == '"' || c == '\''))
        .filter(|word| !word.is_empty())
        .map(normalized)
        .collect()
}

fn initramfs_tools(
    spec: &RuleSpec,
    modules: &[String],
    stage: &mut Stage<'_>,
) -> Result<Option<String>, FixError> {
    let file = path(INITRAMFS_TOOLS_MODULES);
    let mut text = stage.read(&file)?.unwrap_or_default();
    let add = missing(modules, &listed(&String::from_utf8_lossy(&text)));
    if add.is_empty() {
        return Ok(None);
    }
    if !text.is_empty() && !text.ends_with(b"\n") {
        text.push(b'\n');
    }
    for module in &add {
        text.extend_from_slice(format!("{module}\n").as_bytes());
    }
    let change = format!("{INITRAMFS_TOOLS_MODULES}: {} added", add.join(" "));
    stage.write(&spec.id, &file, text, vec![change.clone()])?;
    Ok(Some(change))
}

fn dracut(
    spec: &RuleSpec,
    name: &str,
    modules: &[String],
    stage: &mut Stage<'_>,
) -> Result<Option<String>, FixError> {
    let file = path(name);
    let mut text = stage.read(&file)?.unwrap_or_default();
    let add = missing(modules, &added_drivers(&String::from_utf8_lossy(&text)));
    if add.is_empty() {
        return Ok(None);
    }
    if !text.is_empty() && !text.ends_with(b"\n") {
        text.push(b'\n');
    }
    // The blanks inside the quotes separate these names from those of other files.
    text.extend_from_slice(format!("add_drivers+=\" {} \"\n", add.join(" ")).as_bytes());
    let change = format!("{name}: add_drivers names {}", add.join(" "));
    stage.write(&spec.id, &file, text, vec![change.clone()])?;
    Ok(Some(change))
}

/// Module names are compared with `-` and `_` alike.
fn normalized(name: &str) -> String {
    name.replace('-', "_")
}
