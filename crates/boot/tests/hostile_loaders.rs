//! Damaged and hostile files of the other boot loaders: kept exactly, and edits read back as they were asked for.

#![allow(clippy::unwrap_used, reason = "test code")]

use coldfit_boot::{BootError, CommandLine, ExtlinuxConfig, GrubEnv, LegacyConfig, LoaderEntry};

fn edit(line: &mut CommandLine) -> Result<(), BootError> {
    line.set("root", Some("UUID=1-2"))?;
    line.remove("quiet");
    line.set_consoles(&["tty0", "ttyS0,115200n8"]).map(drop)
}

fn holds(line: &CommandLine) {
    assert_eq!(line.value("root").as_deref(), Some("UUID=1-2"));
    assert!(!line.has("quiet"));
}

fn exercise(file: &[u8]) {
    let _ = coldfit_boot::is_unified_kernel_image(file);
    if let Ok(mut entry) = LoaderEntry::parse(file) {
        assert_eq!(entry.to_bytes(), file);
        let mut arguments = entry.arguments(None);
        edit(arguments.line_mut()).unwrap();
        entry.set_arguments(arguments);
        let again = LoaderEntry::parse(&entry.to_bytes()).unwrap();
        assert_eq!(again.kernel(), entry.kernel());
        holds(again.arguments(None).line());
    }
    if let Ok(mut block) = GrubEnv::parse(file) {
        assert_eq!(block.to_bytes(), file);
        if block.set("kernelopts", "a=1 \\ \n b").is_ok() {
            assert_eq!(block.to_bytes().len(), file.len());
            let again = GrubEnv::parse(block.to_bytes()).unwrap();
            assert_eq!(again.get("kernelopts").as_deref(), Some("a=1 \\ \n b"));
        }
    }
    if let Ok(mut config) = LegacyConfig::parse(file) {
        assert_eq!(config.to_bytes(), file);
        for kernel in config.kernels_mut() {
            edit(&mut kernel.arguments).unwrap();
        }
        for template in config.templates_mut() {
            edit(&mut template.arguments).unwrap();
        }
        let again = LegacyConfig::parse(&config.to_bytes()).unwrap();
        assert_eq!(again.kernels().len(), config.kernels().len());
        again.kernels().iter().for_each(|kernel| holds(&kernel.arguments));
    }
    if let Ok(mut config) = ExtlinuxConfig::parse(file) {
        assert_eq!(config.to_bytes(), file);
        for index in 0..config.appends().len() {
            if let Some(append) = config.append_mut(index) {
                edit(&mut append.arguments).unwrap();
            }
        }
        let again = ExtlinuxConfig::parse(&config.to_bytes()).unwrap();
        assert_eq!(again.entries().len(), config.entries().len());
        for entry in again.entries() {
            holds(&again.appends()[entry.append].arguments);
        }
    }
}

const SEEDS: [&[u8]; 4] = [
    include_bytes!("../../../testdata/fuzz/loaders/entry"),
    include_bytes!("../../../testdata/fuzz/loaders/legacy"),
    include_bytes!("../../../testdata/fuzz/loaders/extlinux"),
    include_bytes!("../../../testdata/fuzz/loaders/block"),
];
const PIECES: [&[u8]; 16] = [
    b"\n",
    b"\r\n",
    b" ",
    b"\t",
    b"\"",
    b"\\",
    b"$kernelopts",
    b"#",
    b"=",
    b"--",
    b"options ",
    b"append ",
    b"kernel /k ",
    b"title x\n",
    b"label y\n",
    b"\xff",
];

#[test]
fn mutations_never_panic_and_edits_hold() {
    let mut state = 0x5eed_u64;
    let mut below = |limit: usize| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 33) as usize % limit.max(1)
    };
    for seed in SEEDS {
        exercise(seed);
        for _ in 0..3000 {
            let mut file = seed.to_vec();
            for _ in 0..=below(4) {
                let at = below(file.len());
                match below(3) {
                    0 => drop(file.splice(at..at, PIECES[below(PIECES.len())].iter().copied())),
                    1 => file[at] ^= 1 << below(8),
                    _ => file.truncate(at.max(1)),
                }
            }
            exercise(&file);
        }
    }
}
