#![no_main]
//! Any bytes as `grub.cfg`, grubenv, `/etc/default/grub` and a kernel command line: kept exactly, and an edit
//! reads back as it was asked for.

use boot::{BootError, CommandLine, DefaultGrub, Edit, GrubConfig, GrubEnv, SourceFile};
use libfuzzer_sys::fuzz_target;

fn edit(line: &mut CommandLine) -> Result<(), BootError> {
    line.set("root", Some("UUID=1-2"))?;
    line.remove("quiet");
    line.set("dyndbg", Some("file a +p"))?;
    line.set_consoles(&["tty0", "ttyS0,115200n8"]).map(drop)
}

fuzz_target!(|file: &[u8]| {
    let mut line = CommandLine::parse(file);
    assert_eq!(line.to_bytes(), file);
    edit(&mut line).expect("plain arguments can be written");
    let again = CommandLine::parse(&line.to_bytes());
    assert_eq!(again.value("root").as_deref(), Some("UUID=1-2"));
    assert!(!again.has("quiet"));

    let environment = GrubEnv::parse(file).unwrap_or_default();
    if let Ok(mut config) = GrubConfig::parse(file) {
        assert_eq!(config.to_bytes(), file);
        let _ = config.default_entry(&environment);
        for kernel in config.kernels_mut() {
            edit(&mut kernel.arguments).expect("plain arguments can be written");
        }
        let edited = config.to_bytes();
        let mut again = GrubConfig::parse(&edited).expect("an edit keeps the grammar");
        assert_eq!(again.entries().len(), config.entries().len());
        assert_eq!(again.kernels().len(), config.kernels().len());
        for kernel in again.kernels_mut() {
            edit(&mut kernel.arguments).expect("plain arguments can be written");
        }
        assert_eq!(again.to_bytes(), edited);
    }

    let source = SourceFile { path: "/etc/default/grub".into(), text: file.to_vec() };
    if let Ok(mut defaults) = DefaultGrub::parse(vec![source]) {
        if let Ok(Edit::Changed { .. }) = defaults.edit("GRUB_CMDLINE_LINUX", edit) {
            let held = defaults.command_line("GRUB_CMDLINE_LINUX").expect("it was known before");
            assert_eq!(held.value("root").as_deref(), Some("UUID=1-2"));
            assert_eq!(defaults.edit("GRUB_CMDLINE_LINUX", edit), Ok(Edit::Unchanged));
        }
    }
});
