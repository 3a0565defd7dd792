//! `/etc/default/grub` and its directory: what the guest makes its next entries from.

use boot::{BootError, CommandLine, DefaultGrub, Edit, EffectiveValue, SourceFile};
use vfs::VfsError;

use super::super::path;
use super::Outcome;
use crate::{FixError, Stage};

const DEFAULTS: &str = "/etc/default/grub";
const DEFAULTS_DIRECTORY: &str = "/etc/default/grub.d";
/// Read after every other file of that directory, by its name.
const OWN_DEFAULTS: &str = "/etc/default/grub.d/99-coldfit.cfg";

/// `/etc/default/grub` and its directory as the plan leaves them; `None` when the guest has no such file, or
/// when it cannot be read, which is an obstacle.
pub(in crate::rules) fn defaults(
    stage: &Stage<'_>,
    outcome: &mut Outcome<'_>,
) -> Result<Option<DefaultGrub>, FixError> {
    let Some(text) = stage.read(&path(DEFAULTS))? else { return Ok(None) };
    let mut files = vec![SourceFile { path: DEFAULTS.to_owned(), text }];
    for name in stage.list(&path(DEFAULTS_DIRECTORY))? {
        let file = path(DEFAULTS_DIRECTORY).join(&name);
        if !name.ends_with(b".cfg") {
            continue;
        }
        match stage.read(&file) {
            Ok(Some(text)) => files.push(SourceFile { path: file.to_string(), text }),
            Ok(None) | Err(VfsError::IsADirectory { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    match DefaultGrub::parse(files) {
        Ok(defaults) => Ok(Some(defaults)),
        Err(error) => {
            outcome.obstacle(format!("{DEFAULTS}: {error}"));
            Ok(None)
        }
    }
}

/// False when the guest's `grub-mkconfig` reads `/etc/default/grub` alone: the directory is Debian's addition.
fn reads_directory(stage: &Stage<'_>) -> Result<bool, FixError> {
    for program in ["/usr/sbin/grub-mkconfig", "/usr/sbin/grub2-mkconfig"] {
        if let Some(script) = stage.read(&path(program))? {
            let wanted = b"default/grub.d";
            return Ok(script.windows(wanted.len()).any(|window| window == wanted));
        }
    }
    Ok(true)
}

/// Edits the arguments in one variable of `/etc/default/grub`, so that the guest's next `update-grub` keeps them.
pub(in crate::rules) fn edit_defaults(
    rule: &str,
    stage: &mut Stage<'_>,
    outcome: &mut Outcome<'_>,
    variable: &str,
    edit: impl Fn(&mut CommandLine) -> Result<(), BootError>,
) -> Result<(), FixError> {
    let Some(mut defaults) = defaults(stage, outcome)? else { return Ok(()) };
    outcome.sources += 1;
    match defaults.edit(variable, edit) {
        Ok(Edit::Unchanged) => {}
        Ok(Edit::Changed { file }) => {
            let source = &defaults.files()[file];
            let change = format!("{}: {variable}={}", source.path, shown(&defaults, variable));
            stage.write(rule, &path(&source.path), source.text.clone(), vec![change.clone()])?;
            outcome.changes.push(change);
        }
        Ok(Edit::DropIn { reason, .. }) if !reads_directory(stage)? => {
            outcome.obstacle(format!(
                "{DEFAULTS}: {variable} ({reason}), and grub-mkconfig reads no file of {DEFAULTS_DIRECTORY}"
            ));
        }
        Ok(Edit::DropIn { reason, text }) => {
            let own = path(OWN_DEFAULTS);
            let mut content = stage.read(&own)?.unwrap_or_default();
            // Once there, the same statement must not be added again: this file is the last one that is read.
            if !content.windows(text.len()).any(|window| window == text.as_bytes()) {
                if content.last().is_some_and(|byte| *byte != b'\n') {
                    content.push(b'\n');
                }
                content.extend_from_slice(text.as_bytes());
                let change = format!("{OWN_DEFAULTS}: {} ({reason})", text.trim_end());
                stage.write(rule, &own, content, vec![change.clone()])?;
                outcome.changes.push(change);
            }
        }
        Err(error) => outcome.obstacle(format!("{DEFAULTS}: {variable}: {error}")),
    }
    Ok(())
}

fn shown(defaults: &DefaultGrub, variable: &str) -> String {
    match defaults.value(variable) {
        EffectiveValue::Known(text) => format!("\"{text}\""),
        EffectiveValue::Unset => "\"\"".into(),
        EffectiveValue::NeedsShell { place } => format!("(needs a shell: {place})"),
    }
}
