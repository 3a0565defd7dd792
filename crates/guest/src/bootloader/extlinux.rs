//! EXTLINUX, SYSLINUX, and U-Boot with the same file.

use boot::ExtlinuxConfig;
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
    let Some(file) = loader.files.iter().find(|file| file.kind == BootFileKind::ExtlinuxConfig) else {
        return Ok(());
    };
    let config = file.path.clone();
    let Some(text) = scene.reader.read(&config, TEXT_MAX)? else { return Ok(()) };
    loader.kind = Some("extlinux".into());
    loader.config = Some(config.clone());
    let parsed = match ExtlinuxConfig::parse(&text) {
        Ok(parsed) => parsed,
        Err(error) => {
            let code = report::Diagnose::code(&error).to_owned();
            loader.unsupported = Some(Problem { code, message: format!("{config}: {error}") });
            return Ok(());
        }
    };
    for (line, file) in parsed.includes() {
        let message = format!("{config}:{line}: takes in {file}, which is not read");
        scene.reader.problem("boot.config.include", message);
    }
    let default = parsed.default_entry().map(|entry| entry.label.clone());
    for entry in parsed.entries().iter().filter(|entry| !boot::is_other_program(&entry.kernel)) {
        let Some(append) = parsed.appends().get(entry.append) else { continue };
        let title = entry.title.clone();
        let written = Written {
            is_recovery: ["recovery", "rescue"].iter().any(|word| title.to_lowercase().contains(word)),
            title,
            id: Some(entry.label.clone()),
            file: config.clone(),
            line: append.line,
            is_default: default.as_ref() == Some(&entry.label),
            kernel: entry.kernel.clone(),
            version: None,
            initrd_line: entry.initrd_line,
            initrds: entry.initrds.clone(),
            command_line: String::from_utf8_lossy(append.arguments.to_bytes().trim_ascii()).into_owned(),
            arguments: append.arguments.arguments().collect(),
            place: Place::beside(scene.reader, &config)?,
            doubt: None,
        };
        let entry = complete(scene, written)?;
        scene.add(entry, entries);
    }
    Ok(())
}
