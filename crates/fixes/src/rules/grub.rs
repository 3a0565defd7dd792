//! What several rules share: editing kernel arguments in GRUB's files, both those of the next boot and those
//! from which the guest makes them anew.

use boot::{BootError, CommandLine, DefaultGrub, Edit, EffectiveValue, GrubConfig, SourceFile};

use vfs::VfsError;

use super::path;
use crate::{FixError, Stage};

/// Generated configurations, read at the next boot.
const CONFIGS: [&str; 2] = ["/boot/grub/grub.cfg", "/boot/grub2/grub.cfg"];
/// Configurations of loaders that are known by name and not edited; looked for where there is no `grub.cfg`.
const OTHER_LOADERS: [(&str, &str); 5] = [
    ("/boot/loader/entries", "the Boot Loader Specification"),
    ("/boot/efi/loader/entries", "the Boot Loader Specification"),
    ("/efi/loader/entries", "the Boot Loader Specification"),
    ("/boot/extlinux/extlinux.conf", "extlinux"),
    ("/boot/grub/menu.lst", "GRUB legacy"),
];
const DEFAULTS: &str = "/etc/default/grub";
const DEFAULTS_DIRECTORY: &str = "/etc/default/grub.d";
/// Read after every other file of that directory, by its name.
const OWN_DEFAULTS: &str = "/etc/default/grub.d/99-coldfit.cfg";

/// What was done to GRUB's files.
#[derive(Default)]
pub(super) struct Outcome {
    /// What changes, a line each.
    pub changes: Vec<String>,
    /// What stands in the way, a line each: the demand cannot be met.
    pub obstacles: Vec<String>,
    /// Generated configurations that were found.
    pub configs: usize,
}

/// Edits the arguments of every entry in every generated configuration. `edit` returns what it changed.
pub(super) fn edit_entries(
    rule: &str,
    stage: &mut Stage<'_>,
    outcome: &mut Outcome,
    mut edit: impl FnMut(&mut CommandLine) -> Result<Vec<String>, String>,
) -> Result<(), FixError> {
    let mut stubs = Vec::new();
    let mut edited = 0;
    for name in CONFIGS {
        let file = path(name);
        let Some(text) = stage.read(&file)? else { continue };
        outcome.configs += 1;
        let mut config = match GrubConfig::parse(&text) {
            Ok(config) => config,
            Err(error) => {
                outcome.obstacles.push(format!("{name}: {error}"));
                continue;
            }
        };
        if let Some(line) = config.blscfg_line() {
            outcome.obstacles.push(format!(
                "{name}:{line}: blscfg: entries of the Boot Loader Specification are not edited"
            ));
        }
        if let Some(stub) = config.stub() {
            stubs.push(format!("{name}: leads to {} and has no entries itself", stub.target));
            continue;
        }
        edited += 1;
        let mut changes = Vec::new();
        for kernel in config.kernels_mut() {
            let line = kernel.line;
            match edit(&mut kernel.arguments) {
                Ok(done) => changes.extend(done.into_iter().map(|what| format!("{name}:{line}: {what}"))),
                Err(obstacle) => outcome.obstacles.push(format!("{name}:{line}: {obstacle}")),
            }
        }
        if !changes.is_empty() {
            stage.write(rule, &file, config.to_bytes(), changes.clone())?;
            outcome.changes.append(&mut changes);
        }
    }
    // A stub beside the file that it leads to is no obstacle.
    if edited == 0 {
        outcome.obstacles.append(&mut stubs);
    }
    if outcome.configs == 0 {
        for (name, what) in OTHER_LOADERS {
            if stage.tree().exists(&path(name))? {
                outcome.obstacles.push(format!("{name}: the entries of {what} are not edited"));
            }
        }
    }
    Ok(())
}

/// `/etc/default/grub` and its directory as the plan leaves them; `None` when the guest has no such file, or
/// when it cannot be read, which is an obstacle.
pub(super) fn defaults(stage: &Stage<'_>, outcome: &mut Outcome) -> Result<Option<DefaultGrub>, FixError> {
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
            let obstacle = format!("{DEFAULTS}: {error}");
            if !outcome.obstacles.contains(&obstacle) {
                outcome.obstacles.push(obstacle);
            }
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
pub(super) fn edit_defaults(
    rule: &str,
    stage: &mut Stage<'_>,
    outcome: &mut Outcome,
    variable: &str,
    edit: impl Fn(&mut CommandLine) -> Result<(), BootError>,
) -> Result<(), FixError> {
    let Some(mut defaults) = defaults(stage, outcome)? else { return Ok(()) };
    match defaults.edit(variable, edit) {
        Ok(Edit::Unchanged) => {}
        Ok(Edit::Changed { file }) => {
            let source = &defaults.files()[file];
            let change = format!("{}: {variable}={}", source.path, shown(&defaults, variable));
            stage.write(rule, &path(&source.path), source.text.clone(), vec![change.clone()])?;
            outcome.changes.push(change);
        }
        Ok(Edit::DropIn { reason, .. }) if !reads_directory(stage)? => {
            outcome.obstacles.push(format!(
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
        Err(error) => outcome.obstacles.push(format!("{DEFAULTS}: {variable}: {error}")),
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
