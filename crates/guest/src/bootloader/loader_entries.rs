//! Entries of the Boot Loader Specification, for whichever loader reads them.

use std::collections::BTreeMap;

use boot::{Argument, CommandLine, GrubConfig, GrubEnv, LoaderEntry};
use vfs::VfsError;

use super::Scene;
use super::entry::{Place, Written, complete};
use crate::reading::TEXT_MAX;
use crate::{BootEntry, BootFileKind, Bootloader, Problem};

/// An entry's file name without `.conf`, its fields, and the entry of the model that it makes.
pub(super) struct Found {
    pub name: String,
    pub entry: LoaderEntry,
    pub written: Written,
}

impl Found {
    /// True when a default names this entry: by file name or title.
    pub fn is_named(&self, specification: &str) -> bool {
        self.name == specification.strip_suffix(".conf").unwrap_or(specification)
            || self.entry.title() == specification
    }
}

/// What variables of the loader stand for.
pub(super) enum Variables {
    /// The loader has none: `$x` goes to the kernel as it is.
    Literal,
    /// GRUB's; `Err` for those that are computed. What is not set is empty.
    Known(BTreeMap<String, Result<String, String>>),
}

impl Variables {
    pub fn of_grub(config: &GrubConfig, environment: &GrubEnv) -> Self {
        let mut known = BTreeMap::new();
        for (key, value) in environment.variables() {
            known.insert(key.to_owned(), Ok(value.to_owned()));
        }
        // The script sets them after it has loaded the block; kernelopts only where that has none.
        for name in ["kernelopts", "default_kernelopts", "tuned_params", "tuned_initrd"] {
            if name == "kernelopts" && known.contains_key(name) {
                continue;
            }
            if let Some(value) = config.variable(name) {
                known.insert(name.to_owned(), value.map(str::to_owned).map_err(str::to_owned));
            }
        }
        Self::Known(known)
    }

    /// Arguments with whole-word variables replaced; the second is a variable whose value is not known.
    fn expand(&self, line: &CommandLine) -> (Vec<Argument>, Option<String>) {
        let Self::Known(known) = self else { return (line.arguments().collect(), None) };
        let mut arguments = Vec::new();
        let mut unknown = None;
        for argument in line.arguments() {
            let name = match (&argument.value, argument.has_variable) {
                (None, true) => whole_variable(&argument.key),
                _ => None,
            };
            match (name, name.and_then(|name| known.get(name))) {
                (Some(_), Some(Ok(value))) => {
                    arguments.extend(CommandLine::parse_loader_options(value.as_bytes()).arguments());
                }
                (Some(_), None) => {}
                (Some(name), Some(Err(_))) => unknown = Some(name.to_owned()),
                (None, _) => {
                    if argument.has_variable {
                        unknown = Some(argument.key.clone());
                    }
                    arguments.push(argument);
                }
            }
        }
        (arguments, unknown)
    }
}

/// The name in `$name` or `${name}`.
fn whole_variable(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('$')?;
    let name = inner.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')).unwrap_or(inner);
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_').then_some(name)
}

/// All entries that are read without error.
pub(super) fn read(
    scene: &mut Scene<'_, '_>,
    loader: &Bootloader,
    variables: &Variables,
) -> Result<Vec<Found>, VfsError> {
    let mut found = Vec::new();
    for file in loader.files.iter().filter(|file| file.kind == BootFileKind::LoaderEntry) {
        let Some(text) = scene.reader.read(&file.path, TEXT_MAX)? else { continue };
        let entry = match LoaderEntry::parse(&text) {
            Ok(entry) => entry,
            Err(error) => {
                let code = report::Diagnose::code(&error);
                scene.reader.problem(code, format!("{}: {error}", file.path));
                continue;
            }
        };
        let Some(kernel) = entry.kernel() else { continue };
        let line = entry.arguments(None).line().clone();
        let (arguments, unknown) = variables.expand(&line);
        let at = format!("{}:{}", file.path, entry.options_line());
        let doubt = unknown.map(|name| Problem {
            code: "boot.entry.variable".into(),
            message: format!("{at}: what the boot loader's variable {name} stands for is not known"),
        });
        let name = file.path.rsplit('/').next().unwrap_or_default();
        let name = name.strip_suffix(".conf").unwrap_or(name).to_owned();
        let title = entry.title();
        let initrds = entry.initrds().into_iter().filter(|initrd| !initrd.starts_with('$')).collect();
        let written = Written {
            is_recovery: name.ends_with("-rescue") || title.to_lowercase().contains("rescue"),
            title,
            id: Some(name.clone()),
            file: file.path.clone(),
            line: entry.options_line(),
            is_default: false,
            kernel,
            version: entry.value("version"),
            initrd_line: entry.initrd_line(),
            initrds,
            command_line: printed(&arguments),
            arguments,
            place: Place::beside(scene.reader, &file.path)?,
            doubt,
        };
        found.push(Found { name, entry, written });
    }
    Ok(found)
}

fn printed(arguments: &[Argument]) -> String {
    let one = |argument: &Argument| match &argument.value {
        Some(value) if value.contains(' ') => format!("{}=\"{value}\"", argument.key),
        Some(value) => format!("{}={value}", argument.key),
        None => argument.key.clone(),
    };
    arguments.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// systemd-boot, or a loader whose own configuration is not in the tree.
pub(super) fn inspect(
    scene: &mut Scene<'_, '_>,
    loader: &mut Bootloader,
    entries: &mut Vec<BootEntry>,
) -> Result<(), VfsError> {
    let mut found = read(scene, loader, &Variables::Literal)?;
    let Some(first) = found.first() else { return Ok(()) };
    let directory = first.written.file.rsplit_once('/').map_or("", |(directory, _)| directory).to_owned();
    let settings = directory.replace("/entries", "/loader.conf");
    let settings = scene.reader.text(&settings)?;
    let is_systemd = settings.is_some()
        || loader.efi_files.iter().any(|file| file.to_ascii_lowercase().contains("systemd-boot"));
    loader.kind = Some(if is_systemd { "systemd-boot" } else { "boot-loader-specification" }.into());
    loader.config = Some(directory);
    found
        .sort_by(|one, other| boot::systemd_boot_order((&one.name, &one.entry), (&other.name, &other.entry)));
    let wanted = settings.as_deref().and_then(default_pattern);
    let matches = |found: &Found| {
        wanted.is_some_and(|wanted| matches_glob(wanted.strip_suffix(".conf").unwrap_or(wanted), &found.name))
    };
    let default = found.iter().position(matches).unwrap_or(0);
    for (position, entry) in found.into_iter().enumerate() {
        let written = Written { is_default: position == default, ..entry.written };
        if !boot::is_other_program(&written.kernel) {
            let entry = complete(scene, written)?;
            scene.add(entry, entries);
        }
    }
    Ok(())
}

/// `default` of loader.conf(5); `@saved` and the like live in the firmware's variables.
fn default_pattern(settings: &str) -> Option<&str> {
    let line = settings.lines().rev().find_map(|line| line.trim().strip_prefix("default"))?;
    Some(line.trim()).filter(|pattern| !pattern.is_empty() && !pattern.starts_with('@'))
}

/// `*` stands for any characters and `?` for one; each `*` is tried in turn from the left.
fn matches_glob(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut at, mut of) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while at < name.len() {
        match pattern.get(of) {
            Some(b'*') => {
                star = Some((of, at));
                of += 1;
            }
            Some(byte) if *byte == b'?' || *byte == name[at] => {
                at += 1;
                of += 1;
            }
            _ => match star {
                Some((place, from)) => {
                    star = Some((place, from + 1));
                    (of, at) = (place + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[of..].iter().all(|byte| *byte == b'*')
}
