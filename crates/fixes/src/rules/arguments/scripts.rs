//! GRUB's scripts: the generated ones, wherever they lie, and `custom.cfg`.

use boot::GrubConfig;
use guest::BootFileKind;

use super::{Room, is_for_kdump};
use crate::FixError;

pub(super) fn edit(room: &mut Room<'_, '_, '_>) -> Result<(), FixError> {
    let mut stubs = Vec::new();
    let mut edited = 0;
    let generated = room.files(BootFileKind::GrubConfig);
    for file in generated.into_iter().chain(room.files(BootFileKind::GrubAddition)) {
        let Some(text) = room.read(file)? else { continue };
        let mut config = match GrubConfig::parse(&text) {
            Ok(config) => config,
            Err(error) => {
                room.outcome.obstacle(format!("{file}: {error}"));
                continue;
            }
        };
        if let Some(stub) = config.stub() {
            stubs.push(format!("{file}: leads to {} and has no entries itself", stub.target));
            continue;
        }
        edited += 1;
        let changes = edit_config(room, file, &mut config);
        room.write(file, &text, config.to_bytes(), changes)?;
    }
    // A stub beside the file that it leads to is no obstacle.
    if edited == 0 {
        stubs.into_iter().for_each(|stub| room.outcome.obstacle(stub));
    }
    Ok(())
}

fn edit_config(room: &mut Room<'_, '_, '_>, file: &str, config: &mut GrubConfig) -> Vec<String> {
    // Whether it is for repairs, and whether it is none of a rule's business.
    let about = |kernel: &boot::KernelLine| match config.entry_of(kernel) {
        Some(entry) => (entry.is_recovery, is_for_kdump(entry.initrds.iter().flat_map(|line| &line.paths))),
        None => (false, false),
    };
    let facts: Vec<(bool, bool)> = config.kernels().iter().map(about).collect();
    let mut changes = Vec::new();
    for (kernel, (is_recovery, is_for_kdump)) in config.kernels_mut().zip(facts) {
        if is_for_kdump || boot::is_other_program(&kernel.kernel) {
            continue;
        }
        let version = room.version_of(file, &kernel.kernel);
        let place = format!("{file}:{}", kernel.line);
        changes.extend(room.apply(&place, &mut kernel.arguments, version, is_recovery));
    }
    // What entries of the Boot Loader Specification fall back on, whatever their kernel.
    for options in config.options_mut() {
        let place = format!("{file}:{}: {}", options.line, options.name);
        changes.extend(room.apply(&place, &mut options.arguments, None, false));
    }
    changes
}
