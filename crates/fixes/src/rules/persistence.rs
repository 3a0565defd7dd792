//! The guest's own next initramfs rebuild keeps the drivers.

use cloudspec::RuleSpec;

use super::path;
use crate::{Finding, FixError, Stage, State};

/// One module name a line (initramfs-tools(7)).
const INITRAMFS_TOOLS_MODULES: &str = "/etc/initramfs-tools/modules";
/// Sourced in the order of names, after `/etc/dracut.conf` (dracut.conf(5)).
const DRACUT_DROP_IN: &str = "/etc/dracut.conf.d/90-coldfit.conf";

pub(super) fn run(spec: &RuleSpec, modules: &[String], stage: &mut Stage<'_>) -> Result<Finding, FixError> {
    let exists = |directory: &str| stage.tree().exists(&path(directory));
    // A generator counts when its program is there, not when its configuration was left behind.
    let has_initramfs_tools = exists("/usr/sbin/mkinitramfs")? || exists("/usr/share/initramfs-tools")?;
    let has_dracut = exists("/usr/bin/dracut")? || exists("/usr/lib/dracut")? || exists("/sbin/dracut")?;
    let other = ["/usr/bin/mkinitcpio", "/sbin/mkinitfs", "/usr/bin/booster", "/sbin/mkinitrd"];
    let mut changes = Vec::new();
    let mut holds = Vec::new();
    if has_initramfs_tools {
        match initramfs_tools(spec, modules, stage)? {
            Some(change) => changes.push(change),
            None => holds.push(format!("{INITRAMFS_TOOLS_MODULES} names every module")),
        }
    }
    if has_dracut {
        match dracut(spec, modules, stage)? {
            Some(change) => changes.push(change),
            None => holds.push(format!("{DRACUT_DROP_IN} names every module")),
        }
    }
    if !changes.is_empty() {
        changes.extend(holds);
        return Ok(Finding::new(spec, State::Fixable, changes));
    }
    if !holds.is_empty() {
        return Ok(Finding::new(spec, State::Holds, holds));
    }
    for program in other {
        if stage.tree().exists(&path(program))? {
            let evidence = vec![format!(
                "the guest makes its initramfs with {program}, whose configuration is not written yet"
            )];
            let finding = Finding::new(spec, State::NotFixable, evidence);
            return Ok(finding.with_remedy(
                "Add the modules to its configuration in the guest, then leave this rule out with --skip.",
            ));
        }
    }
    Ok(Finding::new(
        spec,
        State::NotApplicable,
        vec!["the guest has no program that makes an initramfs".into()],
    ))
}

/// The modules of `wanted` that no word of `text` names; comments do not count.
fn missing<'m>(wanted: &'m [String], text: &str) -> Vec<&'m str> {
    let named: Vec<String> = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default())
        .flat_map(|line| line.split(|c: char| c.is_whitespace() || "\"'=+".contains(c)))
        .filter(|word| !word.is_empty())
        .map(normalized)
        .collect();
    wanted.iter().map(String::as_str).filter(|wanted| !named.contains(&normalized(wanted))).collect()
}

fn initramfs_tools(
    spec: &RuleSpec,
    modules: &[String],
    stage: &mut Stage<'_>,
) -> Result<Option<String>, FixError> {
    let file = path(INITRAMFS_TOOLS_MODULES);
    let mut text = stage.read(&file)?.unwrap_or_default();
    let add = missing(modules, &String::from_utf8_lossy(&text));
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

fn dracut(spec: &RuleSpec, modules: &[String], stage: &mut Stage<'_>) -> Result<Option<String>, FixError> {
    let file = path(DRACUT_DROP_IN);
    let text = stage.read(&file)?.unwrap_or_default();
    if missing(modules, &String::from_utf8_lossy(&text)).is_empty() {
        return Ok(None);
    }
    // The blanks inside the quotes separate these names from those of other files.
    let new = format!("add_drivers+=\" {} \"\n", modules.join(" "));
    let change = format!("{DRACUT_DROP_IN}: add_drivers names {}", modules.join(" "));
    stage.write(&spec.id, &file, new.into_bytes(), vec![change.clone()])?;
    Ok(Some(change))
}

/// Module names are compared with `-` and `_` alike.
fn normalized(name: &str) -> String {
    name.replace('-', "_")
}
