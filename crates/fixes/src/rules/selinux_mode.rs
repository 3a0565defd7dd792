//! What SELinux does at the next boot.

use cloudspec::RuleSpec;
use selinux::{Config, Mode};

use super::path;
use crate::plan::Context;
use crate::{Finding, FixError, Stage, State};

pub(super) fn run(
    spec: &RuleSpec,
    wanted: &str,
    context: &Context<'_>,
    stage: &mut Stage<'_>,
) -> Result<Finding, FixError> {
    let file = path(Config::PATH);
    let Some(text) = stage.read(&file)? else {
        let evidence = vec![format!("SELinux is not configured: no {}", Config::PATH)];
        return Ok(Finding::new(spec, State::Holds, evidence));
    };
    let config = Config::parse(&String::from_utf8_lossy(&text));
    let arguments = Arguments::of(context);
    let effective = arguments.effective(config.mode);
    let now = match (effective, &arguments.place) {
        (mode, Some(place)) => format!("SELinux is {} ({place})", mode.name()),
        (mode, None) => format!("SELinux is {} (policy {}, {})", mode.name(), config.policy, Config::PATH),
    };
    let wanted = match wanted {
        "permissive" => Mode::Permissive,
        "disable" => Mode::Disabled,
        _ => return Ok(keep(spec, effective, now)),
    };
    // Less than what is wanted is met, too: what is off denies nothing.
    if effective == wanted || effective == Mode::Disabled {
        return Ok(Finding::new(spec, State::Holds, vec![now]));
    }
    if let Some(place) = &arguments.place {
        let evidence = vec![now, format!("the kernel argument decides over {}", Config::PATH)];
        let remedy = format!("Remove that argument from {place}, then look again.");
        return Ok(Finding::needs_action(spec, evidence, remedy));
    }
    let change = format!(
        "{}: SELINUX={} becomes {}",
        Config::PATH,
        config.mode.map_or("nothing", Mode::name),
        wanted.name()
    );
    stage.write(&spec.id, &file, with_mode(&text, &config, wanted), vec![change.clone()])?;
    Ok(Finding::new(spec, State::Fixable, vec![change]))
}

/// Kept as it is; what the cloud's check says of it is a line of evidence, not a failure.
fn keep(spec: &RuleSpec, effective: Mode, now: String) -> Finding {
    let mut evidence = vec![now];
    if effective != Mode::Disabled {
        let items = match spec.check_items.is_empty() {
            true => "the cloud's check".to_owned(),
            false => spec.check_items.join(", "),
        };
        evidence
            .push(format!("warning: {items} recommends it off; kept, and everything written is labelled"));
    }
    Finding::new(spec, State::Holds, evidence)
}

/// The file with its mode changed; every other byte stays.
fn with_mode(text: &[u8], config: &Config, mode: Mode) -> Vec<u8> {
    let setting = format!("SELINUX={}", mode.name());
    let mut new = Vec::with_capacity(text.len() + setting.len());
    for (index, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        if Some(index + 1) == config.mode_line {
            let end = line.len() - line.iter().rev().take_while(|byte| matches!(byte, b'\n' | b'\r')).count();
            new.extend_from_slice(setting.as_bytes());
            new.extend_from_slice(&line[end..]);
        } else {
            new.extend_from_slice(line);
        }
    }
    if config.mode_line.is_none() {
        if new.last().is_some_and(|byte| *byte != b'\n') {
            new.push(b'\n');
        }
        new.extend_from_slice(format!("{setting}\n").as_bytes());
    }
    new
}

/// What the default boot entry's arguments say (kernel-parameters.txt: `selinux=`, `enforcing=`).
struct Arguments {
    is_off: bool,
    enforcing: Option<bool>,
    /// File and line of the argument that decides.
    place: Option<String>,
}

impl Arguments {
    fn of(context: &Context<'_>) -> Self {
        let mut found = Self { is_off: false, enforcing: None, place: None };
        let entries = &context.guest.boot_entries;
        let Some(entry) = entries.iter().find(|entry| entry.is_default).or_else(|| entries.first()) else {
            return found;
        };
        let place = |argument: &str| Some(format!("{argument} in {}:{}", entry.file, entry.line));
        let value = |key: &str| {
            entry
                .arguments
                .iter()
                .rev()
                .find(|argument| argument.strip_prefix(key).is_some_and(|rest| rest.starts_with('=')))
        };
        if let Some(argument) = value("enforcing") {
            found.enforcing = Some(!argument.ends_with("=0"));
            found.place = place(argument);
        }
        if let Some(argument) = value("selinux")
            && argument.ends_with("=0")
        {
            found.is_off = true;
            found.place = place(argument);
        }
        found
    }

    fn effective(&self, configured: Option<Mode>) -> Mode {
        match (self.is_off, self.enforcing, configured) {
            (true, ..) | (_, _, Some(Mode::Disabled)) => Mode::Disabled,
            (_, Some(true), _) => Mode::Enforcing,
            (_, Some(false), _) => Mode::Permissive,
            // Without the setting the loader of the policy leaves the kernel permissive.
            (_, None, configured) => configured.unwrap_or(Mode::Permissive),
        }
    }
}
