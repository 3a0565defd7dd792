//! Entries of the Boot Loader Specification, and GRUB's environment block, whose `kernelopts` they may refer to.

use boot::{CommandLine, GrubConfig, GrubEnv, LoaderEntry};
use guest::BootFileKind;

use super::{Room, is_for_kdump};
use crate::FixError;

const KERNELOPTS: &str = "kernelopts";

/// One file with an entry.
struct Loaded<'g> {
    file: &'g str,
    text: Vec<u8>,
    entry: LoaderEntry,
    version: Option<String>,
    is_recovery: bool,
    changes: Vec<String>,
}

/// One environment block that sets `kernelopts`.
struct Block<'g> {
    file: &'g str,
    environment: GrubEnv,
    options: CommandLine,
}

/// What an edit makes of an entry.
struct Edited {
    entry: LoaderEntry,
    /// What it makes of the options that the entry refers to.
    options: Option<CommandLine>,
    changes: Vec<String>,
}

pub(super) fn edit(room: &mut Room<'_, '_, '_>) -> Result<(), FixError> {
    let mut entries = load(room)?;
    if entries.is_empty() {
        return Ok(());
    }
    let (has_default, scripted) = fallbacks(room)?;
    let (referring, own): (Vec<_>, Vec<_>) =
        entries.iter_mut().partition(|loaded| loaded.entry.refers_to(KERNELOPTS));
    for loaded in own {
        // GRUB gives such an entry the default options of its script, which have been edited there.
        if has_default && loaded.entry.value("options").is_none() {
            continue;
        }
        let version = loaded.version.clone();
        let edited = edit_entry(room, loaded, version.as_deref(), None);
        loaded.take(edited);
    }
    edit_referring(room, referring, scripted)?;
    for loaded in entries {
        let Loaded { file, text, entry, changes, .. } = loaded;
        room.write(file, &text, entry.to_bytes(), changes)?;
    }
    Ok(())
}

fn load<'g>(room: &mut Room<'_, '_, 'g>) -> Result<Vec<Loaded<'g>>, FixError> {
    let mut entries = Vec::new();
    for file in room.files(BootFileKind::LoaderEntry) {
        let Some(text) = room.read(file)? else { continue };
        let entry = match LoaderEntry::parse(&text) {
            Ok(entry) => entry,
            Err(error) => {
                room.outcome.obstacle(format!("{file}: {error}"));
                continue;
            }
        };
        let Some(kernel) = entry.kernel() else {
            if let Some(image) = entry.value("uki") {
                room.outcome.obstacle(format!(
                    "{file}: starts {image}, a unified kernel image, which holds its arguments itself"
                ));
            }
            continue;
        };
        if boot::is_other_program(&kernel) || is_for_kdump(entry.initrds().iter()) {
            continue;
        }
        let version = room.version_of(file, &kernel).map(str::to_owned).or_else(|| entry.value("version"));
        let name = file.rsplit('/').next().unwrap_or(file);
        let is_recovery = name.ends_with("-rescue.conf") || entry.title().to_lowercase().contains("rescue");
        entries.push(Loaded { file, text, entry, version, is_recovery, changes: Vec::new() });
    }
    Ok(entries)
}

/// What GRUB's scripts set: whether there are default options, and the arguments of `kernelopts`.
fn fallbacks(room: &mut Room<'_, '_, '_>) -> Result<(bool, Option<CommandLine>), FixError> {
    let (mut has_default, mut scripted) = (false, None);
    for file in room.files(BootFileKind::GrubConfig) {
        let Some(text) = room.read(file)? else { continue };
        // A script that cannot be read is an obstacle already.
        let Ok(config) = GrubConfig::parse(&text) else { continue };
        for options in config.options() {
            match options.name.as_str() {
                KERNELOPTS => {
                    let text = options.arguments.to_bytes();
                    scripted.get_or_insert_with(|| CommandLine::parse_loader_options(&text));
                }
                _ => has_default = true,
            }
        }
    }
    Ok((has_default, scripted))
}

fn blocks<'g>(room: &mut Room<'_, '_, 'g>) -> Result<Vec<Block<'g>>, FixError> {
    let mut blocks = Vec::new();
    for file in room.files(BootFileKind::GrubEnvironment) {
        let Some(block) = room.read(file)? else { continue };
        match GrubEnv::parse(&block) {
            Ok(environment) => {
                if let Some(value) = environment.get(KERNELOPTS) {
                    let options = CommandLine::parse_loader_options(value.as_bytes());
                    blocks.push(Block { file, environment, options });
                }
            }
            // Entries refer to what it may hold.
            Err(error) => room.outcome.obstacle(format!("{file}: {error}")),
        }
    }
    Ok(blocks)
}

fn edit_referring(
    room: &mut Room<'_, '_, '_>,
    mut entries: Vec<&mut Loaded<'_>>,
    scripted: Option<CommandLine>,
) -> Result<(), FixError> {
    if entries.is_empty() {
        return Ok(());
    }
    let blocks = blocks(room)?;
    if blocks.is_empty() {
        for loaded in entries {
            // The script's options are for all kernels, and have been edited so.
            let edited = edit_entry(room, loaded, None, scripted.as_ref());
            if !loaded.is_recovery && bytes(edited.options.as_ref()) != bytes(scripted.as_ref()) {
                room.outcome.obstacle(format!(
                    "{}:{}: $kernelopts is set in grub.cfg, and would have to be another for this entry",
                    loaded.file,
                    loaded.entry.options_line()
                ));
            }
            loaded.take(edited);
        }
        return Ok(());
    }
    for (index, block) in blocks.into_iter().enumerate() {
        let mut results: Vec<Edited> = Vec::new();
        for loaded in &entries {
            results.push(edit_entry(room, loaded, loaded.version.as_deref(), Some(&block.options)));
        }
        if wanted(&entries, &results).is_none() {
            // Their kernels want different values, and share them: what suits all is asked for.
            results.clear();
            for loaded in &entries {
                results.push(edit_entry(room, loaded, None, Some(&block.options)));
            }
        }
        write_block(room, block, wanted(&entries, &results))?;
        // What an entry says itself is edited once: with the block that GRUB reads first.
        if index == 0 {
            entries.iter_mut().zip(results).for_each(|(loaded, edited)| loaded.take(edited));
        }
    }
    Ok(())
}

fn bytes(line: Option<&CommandLine>) -> Option<Vec<u8>> {
    line.map(CommandLine::to_bytes)
}

/// What all entries make of the options that they share, with what changed; `None` when they do not agree. An entry
/// for repairs has a say only where there is no other.
fn wanted(entries: &[&mut Loaded<'_>], results: &[Edited]) -> Option<(CommandLine, Vec<String>)> {
    let has_normal = entries.iter().any(|loaded| !loaded.is_recovery);
    let mut voters = entries
        .iter()
        .zip(results)
        .filter(|(loaded, _)| !(has_normal && loaded.is_recovery))
        .map(|(_, edited)| edited);
    let first = voters.next()?;
    let options = first.options.as_ref()?;
    voters
        .all(|other| bytes(other.options.as_ref()) == Some(options.to_bytes()))
        .then(|| (options.clone(), first.changes.clone()))
}

fn write_block(
    room: &mut Room<'_, '_, '_>,
    block: Block<'_>,
    wanted: Option<(CommandLine, Vec<String>)>,
) -> Result<(), FixError> {
    let Block { file, mut environment, options: before } = block;
    let line = environment.line(KERNELOPTS).unwrap_or(1);
    let Some((options, changes)) = wanted else {
        room.outcome.obstacle(format!(
            "{file}:{line}: kernelopts is for all entries, and they need different arguments"
        ));
        return Ok(());
    };
    if options.to_bytes() == before.to_bytes() {
        return Ok(());
    }
    let old = environment.to_bytes().to_vec();
    let value = String::from_utf8_lossy(&options.to_bytes()).into_owned();
    match environment.set(KERNELOPTS, &value) {
        Ok(_) => {
            let said = changes.into_iter().map(|what| format!("{file}:{line}: kernelopts: {what}")).collect();
            room.write(file, &old, environment.to_bytes().to_vec(), said)
        }
        Err(error) => {
            room.outcome.obstacle(format!("{file}:{line}: {error}"));
            Ok(())
        }
    }
}

/// Edits the arguments as the kernel gets them, `options` in the place of the variable that stands for them.
fn edit_entry(
    room: &mut Room<'_, '_, '_>,
    loaded: &Loaded<'_>,
    version: Option<&str>,
    options: Option<&CommandLine>,
) -> Edited {
    let mut entry = loaded.entry.clone();
    let mut arguments = entry.arguments(options.map(|options| (KERNELOPTS, options.clone())));
    let place = format!("{}:{}", loaded.file, entry.options_line());
    let prefix = format!("{place}: ");
    let changes = room.apply(&place, arguments.line_mut(), version, loaded.is_recovery);
    let options = entry.set_arguments(arguments);
    let what = |line: String| line.strip_prefix(&prefix).map_or(line.clone(), str::to_owned);
    Edited { entry, options, changes: changes.into_iter().map(what).collect() }
}

impl Loaded<'_> {
    /// Takes over what an edit made of the entry itself; what it made of shared options is said there.
    fn take(&mut self, edited: Edited) {
        if edited.entry.to_bytes() != self.entry.to_bytes() {
            let place = format!("{}:{}", self.file, self.entry.options_line());
            self.changes.extend(edited.changes.into_iter().map(|what| format!("{place}: {what}")));
            self.entry = edited.entry;
        }
    }
}
