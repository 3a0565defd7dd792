//! Damaged and hostile files: no panic, bounded time, and edits that read back as they were asked for.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::time::{Duration, Instant};

use coldfit_boot::{BootError, CommandLine, DefaultGrub, Edit, GrubConfig, GrubEnv, SourceFile};

const SEEDS: [&[u8]; 5] = [
    include_bytes!("../../../testdata/fuzz/grub/entry"),
    include_bytes!("../../../testdata/fuzz/grub/grubenv"),
    include_bytes!("../../../testdata/fuzz/grub/default"),
    include_bytes!("../../../testdata/fuzz/grub/cmdline"),
    include_bytes!("../../../testdata/fuzz/grub/stub"),
];

/// xorshift64*: the same sequence on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit.max(1)
    }
}

fn edit(line: &mut CommandLine) -> Result<(), BootError> {
    line.set("root", Some("UUID=1-2"))?;
    line.remove("quiet");
    line.set("dyndbg", Some("file a +p"))?;
    line.set_consoles(&["tty0", "ttyS0,115200n8"]).map(drop)
}

fn exercise(file: &[u8]) {
    let mut line = CommandLine::parse(file);
    assert_eq!(line.to_bytes(), file);
    edit(&mut line).unwrap();
    assert!(!CommandLine::parse(&line.to_bytes()).has("quiet"));
    let environment = GrubEnv::parse(file).unwrap_or_default();
    if let Ok(mut config) = GrubConfig::parse(file) {
        assert_eq!(config.to_bytes(), file);
        let _ = config.default_entry(&environment);
        config.kernels_mut().for_each(|kernel| edit(&mut kernel.arguments).unwrap());
        let edited = config.to_bytes();
        let mut again = GrubConfig::parse(&edited).unwrap();
        assert_eq!(again.entries().len(), config.entries().len());
        again.kernels_mut().for_each(|kernel| edit(&mut kernel.arguments).unwrap());
        assert_eq!(again.to_bytes(), edited, "{}", String::from_utf8_lossy(file));
    }
    let source = SourceFile { path: "/etc/default/grub".into(), text: file.to_vec() };
    if let Ok(mut defaults) = DefaultGrub::parse(vec![source])
        && let Ok(Edit::Changed { .. }) = defaults.edit("GRUB_CMDLINE_LINUX", edit)
    {
        let again = defaults.edit("GRUB_CMDLINE_LINUX", edit);
        assert_eq!(again, Ok(Edit::Unchanged), "{}", String::from_utf8_lossy(file));
    }
}

#[test]
fn mutations_never_panic_and_edits_hold() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let pieces: [&[u8]; 22] = [
        b"\"",
        b"'",
        b"\\",
        b"\n",
        b" ",
        b"{",
        b"}",
        b";",
        b"#",
        b"$",
        b"${",
        b"`",
        b"$(",
        b")",
        b"=",
        b"\\\n",
        b"--",
        b"\0",
        b"\xff",
        b"quiet",
        b"console=tty0",
        b"linux /k ",
    ];
    for round in 0..6000 {
        let mut file = SEEDS[round % SEEDS.len()].to_vec();
        for _ in 0..=random.below(6) {
            let at = random.below(file.len() + 1);
            match random.below(4) {
                0 => file.truncate(at),
                1 => drop(file.splice(at..at, pieces[random.below(pieces.len())].iter().copied())),
                2 => drop(file.drain(at..(at + random.below(20)).min(file.len()))),
                _ => {
                    let from = random.below(file.len() + 1);
                    let piece = file[from..(from + random.below(40)).min(file.len())].to_vec();
                    drop(file.splice(at..at, piece));
                }
            }
        }
        exercise(&file);
    }
}

#[test]
fn large_and_repetitive_files_end_soon() {
    let started = Instant::now();
    let repeat = |piece: &str, bytes: usize| piece.repeat(bytes / piece.len());
    let entry = |inside: String| format!("menuentry x {{\nlinux /k {inside}\n}}\n");
    for text in [
        entry(repeat("quiet ", 1 << 20)),
        entry(repeat("console=ttyS0 ", 1 << 20)),
        entry(repeat("root=a console=tty0 ", 1 << 20)),
        repeat("menuentry x { linux /k a\n}\n", 1 << 20),
        repeat("menuentry x {\n", 1 << 20),
        repeat("{", 1 << 20),
        repeat("\\\n", 1 << 20),
        repeat("a\"b\"", 1 << 20),
        repeat("set default=1\n", 1 << 20),
        repeat("A=$A$A\n", 200 << 10),
        format!("GRUB_A=aaaaaaaa\n{}", repeat("GRUB_A=$GRUB_A$GRUB_A\n", 80 << 10)),
        repeat("$(", 200 << 10),
        repeat("`", 200 << 10),
        repeat("if ", 200 << 10),
        format!(
            "menuentry x {{\n{}}}\n",
            (0..60_000).map(|n| format!("search -u {n}\n")).collect::<String>()
        ),
    ] {
        exercise(text.as_bytes());
    }
    assert!(GrubConfig::parse(&vec![b' '; (4 << 20) + 1]).is_err());
    assert!(started.elapsed() < Duration::from_secs(40), "{:?}", started.elapsed());
}
