//! `console=` arguments, now and after the guest's next `update-grub`.

use boot::CommandLine;
use cloudspec::RuleSpec;

use super::arguments::{self, Outcome};
use super::root_by_uuid::conclude;
use crate::plan::Context;
use crate::{Finding, FixError, Stage};

pub(super) fn run(
    spec: &RuleSpec,
    devices: &[String],
    context: &Context<'_>,
    stage: &mut Stage<'_>,
) -> Result<Finding, FixError> {
    let devices: Vec<&str> = devices.iter().map(String::as_str).collect();
    let mut outcome = Outcome::new(spec, context);
    arguments::edit_entries(&spec.id, stage, &mut outcome, |entry| {
        let before = consoles(entry.arguments);
        match entry.arguments.set_consoles(&devices) {
            Ok(true) => Ok(vec![format!("{} is {}", before, consoles(entry.arguments))]),
            Ok(false) => Ok(Vec::new()),
            Err(error) => Err(error.to_string()),
        }
    })?;
    arguments::edit_defaults(&spec.id, stage, &mut outcome, "GRUB_CMDLINE_LINUX", |line| {
        line.set_consoles(&devices).map(drop)
    })?;
    // `grub-mkconfig` puts these behind the others: consoles among them would come last.
    let has_own = |line: CommandLine| line.has("console");
    const DEFAULT: &str = "GRUB_CMDLINE_LINUX_DEFAULT";
    if arguments::defaults(stage, &mut outcome)?
        .and_then(|defaults| defaults.command_line(DEFAULT))
        .is_some_and(has_own)
    {
        arguments::edit_defaults(&spec.id, stage, &mut outcome, DEFAULT, |line| {
            line.set_consoles(&devices).map(drop)
        })?;
    }
    Ok(conclude(spec, outcome, "every boot entry has the consoles in this order"))
}

fn consoles(arguments: &CommandLine) -> String {
    let values = arguments.values("console");
    if values.is_empty() {
        return "no console=".into();
    }
    values.iter().map(|value| format!("console={value}")).collect::<Vec<_>>().join(" ")
}
