//! `root=` names the filesystem by UUID, now and after the guest's next `update-grub`.

use boot::{CommandLine, EffectiveValue};
use cloudspec::RuleSpec;
use vfs::DeviceTable;

use super::arguments::{self, Outcome};
use crate::plan::Context;
use crate::{Finding, FixError, Stage, State};

/// Makes `grub-mkconfig` write device names instead of UUIDs when it is `true`.
const DISABLE_UUID: &str = "GRUB_DISABLE_LINUX_UUID";

pub(super) fn run(
    spec: &RuleSpec,
    context: &Context<'_>,
    stage: &mut Stage<'_>,
) -> Result<Finding, FixError> {
    let root_uuid = stage.tree().mounts().first().and_then(|mount| mount.filesystem.info().uuid);
    let by_uuid = |device: &str| -> Option<String> {
        let named =
            context.devices.resolve(device).and_then(|index| context.devices.volumes[index].uuid.clone());
        // A name that is not of this disk (`sdb1`) can only mean the root that was found.
        named.or_else(|| root_uuid.clone()).map(|uuid| format!("UUID={uuid}"))
    };
    let mut outcome = Outcome::new(spec, context);
    arguments::edit_entries(&spec.id, stage, &mut outcome, |entry| {
        let Some(root) = entry.arguments.value("root") else { return Ok(Vec::new()) };
        if !is_unstable(&root) {
            return Ok(Vec::new());
        }
        let wanted = by_uuid(&root).ok_or_else(|| format!("root={root}: its filesystem has no UUID"))?;
        match entry.arguments.set("root", Some(&wanted)) {
            Ok(_) => Ok(vec![format!("root={root} is root={wanted}")]),
            Err(error) => Err(error.to_string()),
        }
    })?;
    for variable in ["GRUB_CMDLINE_LINUX", "GRUB_CMDLINE_LINUX_DEFAULT"] {
        let unstable = |line: &CommandLine| line.value("root").filter(|root| is_unstable(root));
        let found = arguments::defaults(stage, &mut outcome)?
            .and_then(|defaults| defaults.command_line(variable))
            .and_then(|line| unstable(&line));
        if let Some(wanted) = found.and_then(|root| by_uuid(&root)) {
            arguments::edit_defaults(&spec.id, stage, &mut outcome, variable, |line| match unstable(line) {
                Some(_) => line.set("root", Some(&wanted)).map(drop),
                None => Ok(()),
            })?;
        }
    }
    let writes_names = |value: EffectiveValue| matches!(value, EffectiveValue::Known(text) if text == "true");
    if arguments::defaults(stage, &mut outcome)?
        .is_some_and(|defaults| writes_names(defaults.value(DISABLE_UUID)))
    {
        arguments::edit_defaults(&spec.id, stage, &mut outcome, DISABLE_UUID, |line| {
            line.remove("true");
            if line.has("false") { Ok(()) } else { line.append("false", None) }
        })?;
    }
    Ok(conclude(spec, outcome, "every boot entry names the root filesystem by a name that no bus changes"))
}

/// A name that depends on the bus, or that the host decides.
fn is_unstable(device: &str) -> bool {
    DeviceTable::is_unstable_name(device) || DeviceTable::host_name(device).is_some()
}

/// The finding that an outcome on boot configuration files amounts to.
pub(super) fn conclude(spec: &RuleSpec, outcome: Outcome<'_>, holds: &str) -> Finding {
    if !outcome.obstacles.is_empty() {
        let finding = Finding::new(
            spec,
            State::NotFixable,
            outcome.obstacles.into_iter().chain(outcome.changes).collect(),
        );
        return finding.with_remedy("Change the kernel arguments in the guest itself, then look again.");
    }
    if !outcome.changes.is_empty() {
        return Finding::new(spec, State::Fixable, outcome.changes);
    }
    if outcome.loader_files == 0 {
        let why = "the guest has no file of a boot loader that is known".to_owned();
        return Finding::new(spec, State::NotApplicable, vec![why]);
    }
    if !outcome.sources_only {
        return Finding::new(spec, State::Holds, vec![holds.to_owned()]);
    }
    match outcome.sources {
        0 => {
            let why = "only what the next boot entries are made from is to be edited, and there is none";
            let finding = Finding::new(spec, State::NotFixable, vec![why.to_owned()]);
            finding.with_remedy("Let the profile's rendered-config be \"loaded\".")
        }
        _ => {
            let held =
                "what the next boot entries are made from has it; the entries themselves were not looked at";
            Finding::new(spec, State::Holds, vec![held.to_owned()])
        }
    }
}
