//! GRUB legacy.

use boot::LegacyConfig;
use vfs::VfsError;

use super::Scene;
use super::entry::{Place, Written, complete};
use crate::reading::TEXT_MAX;
use crate::{BootEntry, BootFileKind, Bootloader, Problem};

pub(super) fn inspect(
    scene: &mut Scene<'_, '_>,
    loader: &mut Bootloader,
    entries: &mut Vec<BootEntry>,
) -> Result<(), VfsError> {
    let Some(file) = loader.files.iter().find(|file| file.kind == BootFileKind::LegacyConfig) else {
        return Ok(());
    };
    let config = file.path.clone();
    let Some(text) = scene.reader.read(&config, TEXT_MAX)? else { return Ok(()) };
    loader.kind = Some("grub-legacy".into());
    loader.config = Some(config.clone());
    let parsed = match LegacyConfig::parse(&text) {
        Ok(parsed) => parsed,
        Err(error) => {
            let code = report::Diagnose::code(&error).to_owned();
            loader.unsupported = Some(Problem { code, message: format!("{config}: {error}") });
            return Ok(());
        }
    };
    // `savedefault` writes the number of the entry there.
    let saved = config.rsplit_once('/').map(|(directory, _)| format!("{directory}/default"));
    let saved = match saved {
        Some(saved) => scene.reader.read(&saved, TEXT_MAX)?,
        None => None,
    };
    let default = parsed.default_entry(saved.as_deref()).map(|entry| entry.id);
    for kernel in parsed.kernels().iter().filter(|kernel| !boot::is_other_program(&kernel.kernel)) {
        let Some(entry) = parsed.entry_of(kernel) else { continue };
        let set_root = entry.set_root.as_deref();
        let written = Written {
            title: entry.title.clone(),
            id: None,
            file: config.clone(),
            line: kernel.line,
            is_default: Some(entry.id) == default,
            is_recovery: entry.is_recovery,
            kernel: kernel.kernel.clone(),
            version: None,
            initrd_line: entry.initrds.first().map(|line| line.line),
            initrds: entry.initrds.iter().flat_map(|line| line.paths.clone()).collect(),
            command_line: String::from_utf8_lossy(kernel.arguments.to_bytes().trim_ascii()).into_owned(),
            arguments: kernel.arguments.arguments().collect(),
            place: Place::searched(&entry.search_uuids, &[], set_root, scene.devices),
            doubt: None,
        };
        let entry = complete(scene, written)?;
        scene.add(entry, entries);
    }
    Ok(())
}
