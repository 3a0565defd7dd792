//! Kernel arguments with a given value, now and after the guest's next regeneration.

use boot::{BootError, CommandLine};
use cloudspec::RuleSpec;

use super::arguments::{self, Outcome};
use super::root_by_uuid::conclude;
use crate::plan::Context;
use crate::{Finding, FixError, Stage};

/// Variables that `grub-mkconfig` puts into entries: the first into all of them, the second behind it into the
/// normal ones.
const VARIABLE: &str = "GRUB_CMDLINE_LINUX";
const DEFAULT_VARIABLE: &str = "GRUB_CMDLINE_LINUX_DEFAULT";

/// `key` or `key=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub key: String,
    pub value: Option<String>,
}

impl Wanted {
    fn parse(text: &str) -> Self {
        match text.split_once('=') {
            Some((key, value)) => Self { key: key.to_owned(), value: Some(value.to_owned()) },
            None => Self { key: text.to_owned(), value: None },
        }
    }

    /// As it stands on the command line.
    fn text(&self) -> String {
        match &self.value {
            Some(value) => format!("{}={value}", self.key),
            None => self.key.clone(),
        }
    }

    /// Sets the argument; says what it was when something changed.
    fn set(&self, line: &mut CommandLine) -> Result<Option<String>, BootError> {
        let before = line.values(&self.key);
        if !line.set(&self.key, self.value.as_deref())? {
            return Ok(None);
        }
        Ok(Some(match before.first() {
            Some(before) => format!("{}={before} is {}", self.key, self.text()),
            None => format!("{} added", self.text()),
        }))
    }
}

pub(super) fn run(
    spec: &RuleSpec,
    arguments: &[String],
    context: &Context<'_>,
    stage: &mut Stage<'_>,
) -> Result<Finding, FixError> {
    let wanted: Vec<Wanted> = arguments.iter().map(|text| Wanted::parse(text)).collect();
    let mut outcome = Outcome::new(spec, context);
    arguments::edit_entries(&spec.id, stage, &mut outcome, |entry| match entry.is_recovery {
        true => Ok(Vec::new()),
        false => set_all(&wanted, entry.arguments),
    })?;
    set_in_sources(&spec.id, &wanted, stage, &mut outcome)?;
    let texts: Vec<String> = wanted.iter().map(Wanted::text).collect();
    Ok(conclude(spec, outcome, &format!("every normal boot entry has {}", texts.join(" "))))
}

/// Sets all arguments of one entry; what changed, a line each.
pub(super) fn set_all(wanted: &[Wanted], line: &mut CommandLine) -> Result<Vec<String>, String> {
    let mut changes = Vec::new();
    for wanted in wanted {
        changes.extend(wanted.set(line).map_err(|error| error.to_string())?);
    }
    Ok(changes)
}

/// Sets arguments in what the next entries are made from.
pub(super) fn set_in_sources(
    rule: &str,
    wanted: &[Wanted],
    stage: &mut Stage<'_>,
    outcome: &mut Outcome<'_>,
) -> Result<(), FixError> {
    if wanted.is_empty() {
        return Ok(());
    }
    // An argument of the second variable stands behind that of the first, so its value would win.
    let rivals: Vec<&Wanted> = match arguments::defaults(stage, outcome)?
        .and_then(|defaults| defaults.command_line(DEFAULT_VARIABLE))
    {
        Some(line) => wanted.iter().filter(|wanted| line.has(&wanted.key)).collect(),
        None => Vec::new(),
    };
    let set = |wanted: &[&Wanted], line: &mut CommandLine| {
        wanted.iter().try_for_each(|wanted| wanted.set(line).map(drop))
    };
    let all: Vec<&Wanted> = wanted.iter().collect();
    arguments::edit_defaults(rule, stage, outcome, VARIABLE, |line| set(&all, line))?;
    if !rivals.is_empty() {
        arguments::edit_defaults(rule, stage, outcome, DEFAULT_VARIABLE, |line| set(&rivals, line))?;
    }
    Ok(())
}

/// Takes arguments out of what the next entries are made from.
pub(super) fn remove_from_sources(
    rule: &str,
    keys: &[&str],
    stage: &mut Stage<'_>,
    outcome: &mut Outcome<'_>,
) -> Result<(), FixError> {
    for variable in [VARIABLE, DEFAULT_VARIABLE] {
        let has_any = arguments::defaults(stage, outcome)?
            .and_then(|defaults| defaults.command_line(variable))
            .is_some_and(|line| keys.iter().any(|key| line.has(key)));
        if has_any {
            arguments::edit_defaults(rule, stage, outcome, variable, |line| {
                keys.iter().for_each(|key| {
                    line.remove(key);
                });
                Ok(())
            })?;
        }
    }
    Ok(())
}
