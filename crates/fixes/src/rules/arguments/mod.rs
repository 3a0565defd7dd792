//! One editing room for all rules on kernel arguments: every entry of every loader that is in the image, and what
//! the guest makes its next entries from.

mod defaults;
mod loader_entries;
mod plain;
mod scripts;
mod shell_sources;

use boot::CommandLine;
use cloudspec::{Places, RuleSpec};
use guest::{BootFileKind, Guest};
use vfs::VfsError;

pub(super) use defaults::{defaults, edit_defaults};

use super::path;
use crate::plan::Context;
use crate::{FixError, Stage};

/// Configurations that are known by name and not edited.
const OTHER_LOADERS: [(&str, &str); 1] = [("/etc/zipl.conf", "zipl")];

/// The arguments of one entry, or of what entries are made from.
pub(super) struct Entry<'a> {
    /// Edits are made here; they count only when the edit succeeds.
    pub arguments: &'a mut CommandLine,
    /// The kernel that gets them; `None` where it is not known, or when entries of any kernel will have them.
    pub kernel_version: Option<&'a str>,
    /// An entry for repairs.
    pub is_recovery: bool,
}

/// What was done to boot configuration files.
pub(super) struct Outcome<'a> {
    /// What changes, a line each.
    pub changes: Vec<String>,
    /// What stands in the way, a line each: the demand cannot be met.
    pub obstacles: Vec<String>,
    /// Files of boot loaders in the image.
    pub loader_files: usize,
    /// Files that the next entries are made from.
    pub sources: usize,
    /// Rendered files stay as they are.
    pub sources_only: bool,
    guest: &'a Guest,
}

impl<'a> Outcome<'a> {
    /// For a rule whose profile may say where it edits.
    pub fn new(spec: &RuleSpec, context: &Context<'a>) -> Self {
        Self { sources_only: spec.places == Some(Places::Sources), ..Self::everywhere(context) }
    }

    /// For edits of whatever is there.
    pub fn everywhere(context: &Context<'a>) -> Self {
        Self {
            changes: Vec::new(),
            obstacles: Vec::new(),
            loader_files: context.guest.bootloader.files.len(),
            sources: 0,
            sources_only: false,
            guest: context.guest,
        }
    }

    /// Adds an obstacle, each once: several edits of one rule meet the same.
    fn obstacle(&mut self, line: String) {
        if !self.obstacles.contains(&line) {
            self.obstacles.push(line);
        }
    }
}

/// What an edit says: what changed, a line each, or what stands in the way.
type EditResult = Result<Vec<String>, String>;

/// One rule at work on all files.
struct Room<'r, 't, 'g> {
    rule: &'r str,
    stage: &'r mut Stage<'t>,
    outcome: &'r mut Outcome<'g>,
    edit: &'r mut dyn FnMut(Entry<'_>) -> EditResult,
}

/// Edits the arguments of every entry of every loader, and of `/etc/kernel/cmdline` and the magic comments of GRUB
/// legacy, which the next entries are made from. `edit` returns what it changed.
pub(super) fn edit_entries(
    rule: &str,
    stage: &mut Stage<'_>,
    outcome: &mut Outcome<'_>,
    mut edit: impl FnMut(Entry<'_>) -> EditResult,
) -> Result<(), FixError> {
    let mut room = Room { rule, stage, outcome, edit: &mut edit };
    if !room.outcome.sources_only {
        scripts::edit(&mut room)?;
        loader_entries::edit(&mut room)?;
        plain::extlinux(&mut room)?;
        room.name_what_is_not_edited()?;
    }
    plain::legacy(&mut room)?;
    shell_sources::edit(&mut room)?;
    plain::kernel_cmdline(&mut room)
}

impl<'g> Room<'_, '_, 'g> {
    /// Paths of the guest's files of one kind.
    fn files(&self, kind: BootFileKind) -> Vec<&'g str> {
        let guest: &'g Guest = self.outcome.guest;
        let files = guest.bootloader.files.iter().filter(|file| file.kind == kind);
        files.map(|file| file.path.as_str()).collect()
    }

    /// Content of a file as the plan leaves it; what cannot be read is an obstacle.
    fn read(&mut self, file: &str) -> Result<Option<Vec<u8>>, FixError> {
        match self.stage.read(&path(file)) {
            Ok(text) => Ok(text),
            Err(
                error @ (VfsError::Limit { .. }
                | VfsError::WrongKind { .. }
                | VfsError::IsADirectory { .. }
                | VfsError::SymlinkLoop { .. }),
            ) => {
                self.outcome.obstacle(error.to_string());
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Runs the edit; an obstacle leaves the arguments as they are. Changes are said with `place` before them.
    fn apply(
        &mut self,
        place: &str,
        arguments: &mut CommandLine,
        kernel_version: Option<&str>,
        is_recovery: bool,
    ) -> Vec<String> {
        let mut edited = arguments.clone();
        match (self.edit)(Entry { arguments: &mut edited, kernel_version, is_recovery }) {
            Ok(changes) => {
                *arguments = edited;
                changes.into_iter().map(|what| format!("{place}: {what}")).collect()
            }
            Err(obstacle) => {
                self.outcome.obstacle(format!("{place}: {obstacle}"));
                Vec::new()
            }
        }
    }

    /// Plans new content; nothing is said when the edits have left it as it was.
    fn write(
        &mut self,
        file: &str,
        old: &[u8],
        new: Vec<u8>,
        mut changes: Vec<String>,
    ) -> Result<(), FixError> {
        if old != new {
            self.stage.write(self.rule, &path(file), new, changes.clone())?;
            self.outcome.changes.append(&mut changes);
        }
        Ok(())
    }

    /// The kernel that an entry starts: as the model found it, or else by the name of its image.
    fn version_of(&self, file: &str, kernel: &str) -> Option<&'g str> {
        let guest: &'g Guest = self.outcome.guest;
        let mut known =
            guest.boot_entries.iter().filter(|entry| entry.file == file && entry.kernel == kernel);
        let by_entry = known.find_map(|entry| entry.kernel_version.as_deref());
        let (directory, name) = kernel.rsplit_once('/').unwrap_or(("", kernel));
        let is_named = |version: &&str| {
            name.strip_suffix(version).is_some_and(|head| head.ends_with('-'))
                || directory.rsplit('/').next() == Some(*version)
        };
        by_entry.or_else(|| guest.kernels.iter().map(|kernel| kernel.version.as_str()).find(is_named))
    }

    fn name_what_is_not_edited(&mut self) -> Result<(), FixError> {
        for file in self.files(BootFileKind::UnifiedKernel) {
            self.outcome.obstacle(format!(
                "{file}: a unified kernel image holds its arguments itself, signed with its kernel; it is not edited"
            ));
        }
        if self.outcome.loader_files == 0 {
            for (file, what) in OTHER_LOADERS {
                if self.stage.tree().exists(&path(file))? {
                    self.outcome.obstacle(format!("{file}: the entries of {what} are not edited"));
                }
            }
        }
        Ok(())
    }
}

/// True for the initramfs of a kernel that only writes a crash dump.
fn is_for_kdump<'a>(mut initrds: impl Iterator<Item = &'a String>) -> bool {
    initrds.any(|file| file.contains("kdump"))
}
