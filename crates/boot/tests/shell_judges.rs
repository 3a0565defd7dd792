//! The shell judges what the assignments of `/etc/default/grub` are worth, before an edit and after it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::process::Command;

use coldfit_boot::{CommandLine, DefaultGrub, Edit, EffectiveValue, SourceFile};

/// What a POSIX shell makes of the variable; `None` when it refuses the file.
fn shell_value(text: &str) -> Option<String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    // Without a path no command that a random file names can run.
    let script = ". \"$1\"; printf %s \"$GRUB_CMDLINE_LINUX\"";
    let mut command = Command::new("/bin/sh");
    command.env_clear().env("PATH", "/nonexistent").args(["-c", script, "sh"]).arg(file.path());
    let output = command.output().unwrap();
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn parse(text: &str) -> Option<DefaultGrub> {
    let source = SourceFile { path: "/etc/default/grub".into(), text: text.as_bytes().to_vec() };
    DefaultGrub::parse(vec![source]).ok()
}

struct Random(u64);

impl Random {
    fn pick<'a>(&mut self, pieces: &[&'a str]) -> &'a str {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        pieces[(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % pieces.len()]
    }
}

#[test]
fn random_files_are_worth_what_the_shell_says() {
    const NAMES: [&str; 3] = ["GRUB_CMDLINE_LINUX", "GRUB_X", "Y"];
    const PARTS: [&str; 26] = [
        "quiet",
        "a=1",
        " ",
        " ",
        "  ",
        "\"",
        "\"",
        "'",
        "'",
        "\\\"",
        "\\\\",
        "\\$",
        "\\ ",
        "$GRUB_X",
        "${GRUB_X}",
        "$GRUB_CMDLINE_LINUX",
        "${Y}",
        "$",
        "#",
        " #",
        "\\\n",
        "\n",
        ";",
        "`echo z`",
        "$(echo w)",
        "~",
    ];
    const ENDS: [&str; 6] = ["\n", "\n", "\n", " # end\n", "; ", "\n\n"];
    let mut random = Random(0x0dd_ba11);
    let (mut known, mut edited) = (0, 0);
    for _ in 0..600 {
        let mut text = String::new();
        for _ in 0..4 {
            let quote = random.pick(&["\"", "\"", "'", ""]);
            text.push_str(random.pick(&NAMES));
            text.push('=');
            text.push_str(quote);
            for _ in 0..random.pick(&["", "1", "22", "333"]).len() + 1 {
                text.push_str(random.pick(&PARTS));
            }
            text.push_str(quote);
            text.push_str(random.pick(&ENDS));
        }
        let (Some(shell), Some(mut defaults)) = (shell_value(&text), parse(&text)) else { continue };
        match defaults.value("GRUB_CMDLINE_LINUX") {
            EffectiveValue::Known(value) => assert_eq!(value, shell, "{text}"),
            EffectiveValue::Unset => assert_eq!(shell, "", "{text}"),
            EffectiveValue::NeedsShell { .. } => continue,
        }
        known += 1;
        let edit = |line: &mut CommandLine| {
            line.remove("quiet");
            line.set("root", Some("UUID=1"))?;
            line.set("dyndbg", Some("file a +p"))?;
            line.set_consoles(&["tty0", "ttyS0"]).map(drop)
        };
        let Some(mut wanted) = defaults.command_line("GRUB_CMDLINE_LINUX") else { continue };
        edit(&mut wanted).unwrap();
        // A value that ends in the middle of an escape is refused.
        let Ok(outcome) = defaults.edit("GRUB_CMDLINE_LINUX", edit) else { continue };
        match outcome {
            Edit::Changed { .. } => {
                let after = String::from_utf8(defaults.files()[0].text.clone()).unwrap();
                let value = shell_value(&after).unwrap_or_else(|| panic!("{text}\n->\n{after}"));
                let EffectiveValue::Known(ours) = defaults.value("GRUB_CMDLINE_LINUX") else {
                    panic!("{after}")
                };
                assert_eq!(ours, value, "{text}\n->\n{after}");
                assert!(
                    defaults.command_line("GRUB_CMDLINE_LINUX").unwrap().arguments().eq(wanted.arguments())
                );
                edited += 1;
            }
            Edit::DropIn { text: own, .. } => {
                let value = shell_value(&format!("{text}\n{own}")).unwrap();
                let whole = parse(&format!("GRUB_CMDLINE_LINUX='{value}'\n"));
                // A value with ' in it cannot be wrapped like that.
                if !value.contains('\'') {
                    let line = whole.unwrap().command_line("GRUB_CMDLINE_LINUX").unwrap();
                    assert!(line.arguments().eq(wanted.arguments()), "{text}\n->\n{own}");
                }
            }
            Edit::Unchanged => panic!("{text}"),
        }
    }
    assert!(known > 150 && edited > 100, "too few files were judged: {known} known, {edited} edited");
}
