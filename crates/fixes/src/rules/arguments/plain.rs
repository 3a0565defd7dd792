//! Configurations whose arguments go to the kernel as they stand there: GRUB legacy, extlinux, and
//! `/etc/kernel/cmdline`, which `kernel-install` gives to the entries that it makes.

use boot::{CommandLine, ExtlinuxConfig, JoinedLine, LegacyConfig};
use guest::BootFileKind;

use super::{Room, is_for_kdump};
use crate::FixError;

const KERNEL_CMDLINE: &str = "/etc/kernel/cmdline";

pub(super) fn legacy(room: &mut Room<'_, '_, '_>) -> Result<(), FixError> {
    for file in room.files(BootFileKind::LegacyConfig) {
        let Some(text) = room.read(file)? else { continue };
        let mut config = match LegacyConfig::parse(&text) {
            Ok(config) => config,
            Err(error) => {
                room.outcome.obstacle(format!("{file}: {error}"));
                continue;
            }
        };
        let mut changes = Vec::new();
        if !room.outcome.sources_only {
            let about = |kernel: &boot::KernelLine| match config.entry_of(kernel) {
                Some(entry) => {
                    (entry.is_recovery, is_for_kdump(entry.initrds.iter().flat_map(|line| &line.paths)))
                }
                None => (false, false),
            };
            let facts: Vec<(bool, bool)> = config.kernels().iter().map(about).collect();
            for (kernel, (is_recovery, is_for_kdump)) in config.kernels_mut().zip(facts) {
                if is_for_kdump || boot::is_other_program(&kernel.kernel) {
                    continue;
                }
                let version = room.version_of(file, &kernel.kernel);
                let place = format!("{file}:{}", kernel.line);
                changes.extend(room.apply(&place, &mut kernel.arguments, version, is_recovery));
            }
        }
        changes.extend(templates(room, file, &mut config));
        room.write(file, &text, config.to_bytes(), changes)?;
    }
    Ok(())
}

/// Debian's magic comments. `kopt` is for all entries; `defoptions` comes behind it in the normal ones, so that what
/// it says wins.
fn templates(room: &mut Room<'_, '_, '_>, file: &str, config: &mut LegacyConfig) -> Vec<String> {
    let mut changes = Vec::new();
    let mut common: Option<CommandLine> = None;
    for template in config.templates_mut().filter(|template| template.name != "defoptions") {
        room.outcome.sources += 1;
        let place = format!("{file}:{}: {}", template.line, template.name);
        changes.extend(room.apply(&place, &mut template.arguments, None, false));
        if template.name == "kopt" {
            common = Some(template.arguments.clone());
        }
    }
    for template in config.templates_mut().filter(|template| template.name == "defoptions") {
        let place = format!("{file}:{}: {}", template.line, template.name);
        let lines = common.iter().cloned().chain([template.arguments.clone()]).collect();
        let mut joined = JoinedLine::new(lines, None);
        let said = room.apply(&place, joined.line_mut(), None, false);
        // `kopt` keeps what it has: entries for repairs have nothing else.
        let Some(own) = joined.split().0.pop() else { continue };
        if own.to_bytes() != template.arguments.to_bytes() {
            template.arguments = own;
            changes.extend(said);
        }
    }
    changes
}

pub(super) fn extlinux(room: &mut Room<'_, '_, '_>) -> Result<(), FixError> {
    for file in room.files(BootFileKind::ExtlinuxConfig) {
        let Some(text) = room.read(file)? else { continue };
        let mut config = match ExtlinuxConfig::parse(&text) {
            Ok(config) => config,
            Err(error) => {
                room.outcome.obstacle(format!("{file}: {error}"));
                continue;
            }
        };
        for (line, other) in config.includes() {
            room.outcome.obstacle(format!("{file}:{line}: takes in {other}, which is not edited"));
        }
        let mut changes = Vec::new();
        for index in 0..config.appends().len() {
            // Entries without arguments of their own share the global ones.
            let users = config.entries().iter().filter(|entry| {
                entry.append == index
                    && !boot::is_other_program(&entry.kernel)
                    && !is_for_kdump(entry.initrds.iter())
            });
            let mut versions = Vec::new();
            let mut is_recovery = true;
            for entry in users {
                versions.push(room.version_of(file, &entry.kernel));
                let title = entry.title.to_lowercase();
                is_recovery &= title.contains("recovery") || title.contains("rescue");
            }
            let Some(first) = versions.first().copied() else { continue };
            let version = first.filter(|_| versions.iter().all(|version| *version == first));
            let Some(append) = config.append_mut(index) else { continue };
            let place = format!("{file}:{}", append.line);
            changes.extend(room.apply(&place, &mut append.arguments, version, is_recovery));
        }
        room.write(file, &text, config.to_bytes(), changes)?;
    }
    Ok(())
}

pub(super) fn kernel_cmdline(room: &mut Room<'_, '_, '_>) -> Result<(), FixError> {
    let Some(text) = room.read(KERNEL_CMDLINE)? else { return Ok(()) };
    room.outcome.sources += 1;
    let mut line = CommandLine::parse(&text);
    let changes = room.apply(KERNEL_CMDLINE, &mut line, None, false);
    room.write(KERNEL_CMDLINE, &text, line.to_bytes(), changes)
}
