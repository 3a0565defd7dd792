#![no_main]
//! Any bytes as a Boot Loader Specification entry, an environment block, a configuration of GRUB legacy or of
//! extlinux: kept exactly, and an edit reads back as it was asked for.

use boot::{BootError, CommandLine, ExtlinuxConfig, GrubEnv, LegacyConfig, LoaderEntry};
use libfuzzer_sys::fuzz_target;

fn edit(line: &mut CommandLine) -> Result<(), BootError> {
    line.set("root", Some("UUID=1-2"))?;
    line.remove("quiet");
    line.set_consoles(&["tty0", "ttyS0,115200n8"]).map(drop)
}

fn holds(line: &CommandLine) {
    assert_eq!(line.value("root").as_deref(), Some("UUID=1-2"));
    assert!(!line.has("quiet"));
}

fuzz_target!(|file: &[u8]| {
    let _ = boot::is_unified_kernel_image(file);
    if let Ok(mut entry) = LoaderEntry::parse(file) {
        assert_eq!(entry.to_bytes(), file);
        let mut arguments = entry.arguments(None);
        edit(arguments.line_mut()).expect("plain arguments can be written");
        entry.set_arguments(arguments);
        let again = LoaderEntry::parse(&entry.to_bytes()).expect("an edit keeps the grammar");
        assert_eq!(again.kernel(), entry.kernel());
        holds(again.arguments(None).line());
    }
    if let Ok(mut block) = GrubEnv::parse(file) {
        assert_eq!(block.to_bytes(), file);
        if block.set("kernelopts", "a=1 \\ \n b").is_ok() {
            assert_eq!(block.to_bytes().len(), file.len());
            let again = GrubEnv::parse(block.to_bytes()).expect("an edit keeps the grammar");
            assert_eq!(again.get("kernelopts").as_deref(), Some("a=1 \\ \n b"));
        }
    }
    if let Ok(mut config) = LegacyConfig::parse(file) {
        assert_eq!(config.to_bytes(), file);
        for kernel in config.kernels_mut() {
            edit(&mut kernel.arguments).expect("plain arguments can be written");
        }
        for template in config.templates_mut() {
            edit(&mut template.arguments).expect("plain arguments can be written");
        }
        let again = LegacyConfig::parse(&config.to_bytes()).expect("an edit keeps the grammar");
        assert_eq!(again.kernels().len(), config.kernels().len());
        again.kernels().iter().for_each(|kernel| holds(&kernel.arguments));
    }
    if let Ok(mut config) = ExtlinuxConfig::parse(file) {
        assert_eq!(config.to_bytes(), file);
        for index in 0..config.appends().len() {
            if let Some(append) = config.append_mut(index) {
                edit(&mut append.arguments).expect("plain arguments can be written");
            }
        }
        let again = ExtlinuxConfig::parse(&config.to_bytes()).expect("an edit keeps the grammar");
        assert_eq!(again.entries().len(), config.entries().len());
        for entry in again.entries() {
            holds(&again.appends()[entry.append].arguments);
        }
    }
});
