//! Shell files that other menus than GRUB's are made from: Debian's `extlinux-update` and `u-boot-update`, SUSE's
//! perl-Bootloader.

use boot::{CommandLine, DefaultGrub, Edit, EffectiveValue, JoinedLine, SourceFile};

use super::super::path;
use super::Room;
use crate::FixError;

struct Source {
    file: &'static str,
    /// Variable with `root=…`, which comes before the others.
    root: Option<&'static str>,
    parameters: &'static str,
    /// What the program takes when the variable is not set; `None` where it then has none.
    default: Option<&'static str>,
    is_recovery: bool,
}

const SOURCES: [Source; 4] = [
    // extlinux-update(8)
    Source {
        file: "/etc/default/extlinux",
        root: Some("EXTLINUX_ROOT"),
        parameters: "EXTLINUX_PARAMETERS",
        default: Some("ro quiet"),
        is_recovery: false,
    },
    // u-boot-update(8)
    Source {
        file: "/etc/default/u-boot",
        root: Some("U_BOOT_ROOT"),
        parameters: "U_BOOT_PARAMETERS",
        default: Some("ro quiet"),
        is_recovery: false,
    },
    Source {
        file: "/etc/sysconfig/bootloader",
        root: None,
        parameters: "DEFAULT_APPEND",
        default: None,
        is_recovery: false,
    },
    Source {
        file: "/etc/sysconfig/bootloader",
        root: None,
        parameters: "FAILSAFE_APPEND",
        default: None,
        is_recovery: true,
    },
];

pub(super) fn edit(room: &mut Room<'_, '_, '_>) -> Result<(), FixError> {
    SOURCES.iter().try_for_each(|source| edit_one(room, source))
}

fn edit_one(room: &mut Room<'_, '_, '_>, source: &Source) -> Result<(), FixError> {
    let Some(text) = room.read(source.file)? else { return Ok(()) };
    let files = vec![SourceFile { path: source.file.to_owned(), text: text.clone() }];
    let mut defaults = match DefaultGrub::parse(files) {
        Ok(defaults) => defaults,
        Err(error) => {
            room.outcome.obstacle(format!("{}: {error}", source.file));
            return Ok(());
        }
    };
    let parameters = match (defaults.value(source.parameters), source.default) {
        (EffectiveValue::NeedsShell { place }, _) => {
            let name = source.parameters;
            room.outcome.obstacle(format!("{}: {name} needs a shell to evaluate: {place}", source.file));
            return Ok(());
        }
        (EffectiveValue::Unset, None) => return Ok(()),
        (EffectiveValue::Unset, Some(default)) => Some(CommandLine::parse(default.as_bytes())),
        (EffectiveValue::Known(_), _) => defaults.command_line(source.parameters),
    };
    let Some(parameters) = parameters else { return Ok(()) };
    room.outcome.sources += 1;
    let root = source.root.filter(|name| matches!(defaults.value(name), EffectiveValue::Known(_)));
    let root = root.and_then(|name| Some((name, defaults.command_line(name)?)));
    let names: Vec<&str> = root.iter().map(|(name, _)| *name).chain([source.parameters]).collect();
    let lines: Vec<CommandLine> = root.into_iter().map(|(_, line)| line).chain([parameters]).collect();
    let before = lines.clone();
    let mut joined = JoinedLine::new(lines, None);
    let place = format!("{}: {}", source.file, names.join(" "));
    let changes = room.apply(&place, joined.line_mut(), None, source.is_recovery);
    for ((name, line), before) in names.into_iter().zip(joined.split().0).zip(before) {
        if line.arguments().eq(before.arguments()) {
            continue;
        }
        let edited = defaults.edit(name, |whole| {
            *whole = line.clone();
            Ok(())
        });
        match edited {
            Ok(Edit::Unchanged | Edit::Changed { .. }) => {}
            Ok(Edit::DropIn { reason, .. }) => {
                room.outcome.obstacle(format!("{}: {name}: {reason}", source.file));
                return Ok(());
            }
            Err(error) => {
                room.outcome.obstacle(format!("{}: {name}: {error}", source.file));
                return Ok(());
            }
        }
    }
    let Some(new) = defaults.files().first().map(|file| file.text.clone()) else { return Ok(()) };
    if new != text {
        room.stage.write(room.rule, &path(source.file), new, changes.clone())?;
        room.outcome.changes.extend(changes);
    }
    Ok(())
}
