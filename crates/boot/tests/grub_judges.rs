//! `grub-mkconfig` and `grub-script-check` judge the parser and its edits.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod support;

use coldfit_boot::{BootError, CommandLine, DefaultGrub, Edit, GrubConfig, GrubEnv, SourceFile};
use support::{Generator, ROOT_UUID, grub_accepts};

fn edit_everything(line: &mut CommandLine) -> Result<(), BootError> {
    line.set("root", Some(&format!("UUID={ROOT_UUID}")))?;
    line.set_consoles(&["tty0", "ttyS0,115200n8"])?;
    line.set("dyndbg", Some("file a.c +p; $x"))?;
    line.remove("quiet");
    Ok(())
}

const DEFAULT: &str = "GRUB_DEFAULT=0\nGRUB_TIMEOUT=5\nGRUB_DISTRIBUTOR=`echo Debian`\n\
    GRUB_CMDLINE_LINUX_DEFAULT=\"quiet\"\nGRUB_CMDLINE_LINUX=\"net.ifnames=0\"\nGRUB_DISABLE_LINUX_UUID=true\n";

#[test]
fn a_generated_configuration_is_read_and_edited() {
    let generator = Generator::new();
    generator.write("etc/default/grub", DEFAULT);
    let script = generator.run();
    let mut config = GrubConfig::parse(&script).unwrap();
    assert_eq!(config.to_bytes(), script);
    assert_eq!(config.blscfg_line(), None);
    assert_eq!(config.stub(), None);

    let shape: Vec<_> = config
        .entries()
        .iter()
        .map(|entry| (entry.parent.is_some(), entry.is_submenu, entry.is_recovery, entry.kernels.len()))
        .collect();
    let (simple, menu) = ((false, false, false, 1), (false, true, false, 0));
    let (normal, recovery) = ((true, false, false, 1), (true, false, true, 1));
    assert_eq!(shape, [simple, menu, normal, recovery, normal, recovery]);
    let first = config.default_entry(&GrubEnv::default()).unwrap().unwrap().clone();
    assert_eq!(first.id.0, 0);
    assert_eq!(first.title, "Debian GNU/Linux");
    assert!(first.menu_id.as_deref().unwrap().starts_with("gnulinux-simple-"));
    assert_eq!(first.search_uuids, [ROOT_UUID]);
    assert_eq!(first.set_root.as_deref(), Some("hd0,msdos1"));
    assert_eq!(first.initrds[0].paths, ["/boot/initrd.img-6.1.0-28-amd64"]);
    let kernel = &config.kernels()[0];
    assert_eq!(kernel.kernel, "/boot/vmlinuz-6.1.0-28-amd64");
    assert_eq!(kernel.arguments.value("root").as_deref(), Some("/dev/sda1"));
    let line = script.split(|byte| *byte == b'\n').nth(kernel.line - 1).unwrap();
    assert!(String::from_utf8_lossy(line).contains("vmlinuz-6.1.0-28-amd64 root=/dev/sda1"));

    assert!(grub_accepts(&script));
    for kernel in config.kernels_mut() {
        edit_everything(&mut kernel.arguments).unwrap();
    }
    let edited = config.to_bytes();
    assert!(grub_accepts(&edited));
    // Only lines with a kernel differ, and they say what was asked for.
    let lines = |script: &[u8]| -> Vec<String> {
        String::from_utf8_lossy(script).lines().map(str::to_owned).collect()
    };
    let (before, after) = (lines(&script), lines(&edited));
    assert_eq!(before.len(), after.len());
    let differing: Vec<_> = before.iter().zip(&after).filter(|(one, other)| one != other).collect();
    assert_eq!(differing.len(), 5);
    for (before, after) in differing {
        assert!(before.trim_start().starts_with("linux\t"), "{before}");
        assert!(after.contains(&format!("root=UUID={ROOT_UUID} ro ")), "{after}");
        let tail = "console=tty0 console=ttyS0,115200n8 dyndbg=\"file a.c +p; \\$x\"";
        assert!(after.trim_end().ends_with(tail), "{after}");
    }
    let mut again = GrubConfig::parse(&edited).unwrap();
    for kernel in again.kernels_mut() {
        edit_everything(&mut kernel.arguments).unwrap();
    }
    assert_eq!(again.to_bytes(), edited);
}

#[test]
fn entries_are_found_as_grub_finds_them() {
    let generator = Generator::new();
    generator.write("etc/default/grub", format!("{DEFAULT}GRUB_DEFAULT=saved\n"));
    let config = GrubConfig::parse(&generator.run()).unwrap();
    let environment = |variables: &str| {
        GrubEnv::parse(format!("# GRUB Environment Block\n{variables}#####").as_bytes()).unwrap()
    };
    let submenu = config.entries()[1].menu_id.clone().unwrap();
    let old = config.entries()[4].menu_id.clone().unwrap();
    let title = config.entries()[4].title.clone();
    for (variables, index) in [
        (String::new(), 0),
        (format!("saved_entry={submenu}>{old}\n"), 4),
        ("saved_entry=1>2\n".into(), 4),
        (format!("saved_entry=1>{title}\n"), 4),
        ("saved_entry=1\n".into(), 2),
        ("saved_entry=gone\n".into(), 0),
        ("saved_entry=0\nnext_entry=1>1\n".into(), 3),
    ] {
        let found = config.default_entry(&environment(&variables)).unwrap().unwrap();
        assert_eq!(found.id.0, index, "{variables}");
    }
}

/// What the generator makes of the edited defaults is what the edit asked for.
#[test]
fn edited_defaults_reach_the_generated_configuration() {
    let cases: [(&str, Option<&str>, bool); 9] = [
        (DEFAULT, None, true),
        ("GRUB_CMDLINE_LINUX=''\n", None, true),
        ("GRUB_CMDLINE_LINUX='a=\"b c\"  d'", None, true),
        ("GRUB_CMDLINE_LINUX=quiet\n", None, true),
        ("GRUB_TIMEOUT=1", None, true),
        ("GRUB_CMDLINE_LINUX=\"a\\\"b c\\\"=1 quiet\" # why\n", Some("GRUB_CMDLINE_LINUX=\"x\"'y' \n"), true),
        ("GRUB_CMDLINE_LINUX=\"a=1\"\n", Some("GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX b=2\"\n"), true),
        ("GRUB_CMDLINE_LINUX=\"quiet\"\n", Some("GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX b=2\"\n"), false),
        ("GRUB_CMDLINE_LINUX=\"$(echo a=1)\"\n", None, false),
    ];
    for (main, dropped, in_place) in cases {
        let generator = Generator::new();
        let mut files = vec![("etc/default/grub", main)];
        files.extend(dropped.map(|text| ("etc/default/grub.d/50-x.cfg", text)));
        let sources = files
            .iter()
            .map(|(path, text)| SourceFile { path: (*path).into(), text: text.as_bytes().to_vec() })
            .collect();
        let mut defaults = DefaultGrub::parse(sources).unwrap();
        let known = defaults.command_line("GRUB_CMDLINE_LINUX");
        let write = |defaults: &DefaultGrub| {
            for file in defaults.files() {
                generator.write(&file.path, &file.text);
            }
        };
        write(&defaults);
        let arguments = |script: &[u8]| GrubConfig::parse(script).unwrap().kernels()[0].arguments.clone();
        let before = arguments(&generator.run());
        if let Some(known) = &known {
            let generated: Vec<_> = before.arguments().skip(2).collect();
            assert!(known.arguments().eq(generated.into_iter().take(known.arguments().count())), "{main}");
        }

        let edit = |line: &mut CommandLine| {
            line.remove("quiet");
            line.set("dyndbg", Some("file a.c +p"))?;
            line.set_consoles(&["tty0", "ttyS0"]).map(drop)
        };
        match defaults.edit("GRUB_CMDLINE_LINUX", edit).unwrap() {
            Edit::Changed { .. } => assert!(in_place, "{main}"),
            Edit::DropIn { text, reason } => {
                assert!(!in_place, "{main}: {reason}");
                generator.write("etc/default/grub.d/99-coldfit.cfg", text);
            }
            Edit::Unchanged => panic!("{main}: nothing to do"),
        }
        write(&defaults);
        let script = generator.run();
        assert!(grub_accepts(&script));
        let mut wanted = known.unwrap_or_else(|| CommandLine::parse(b"a=1"));
        edit(&mut wanted).unwrap();
        let after: Vec<_> = arguments(&script).arguments().skip(2).collect();
        let wanted: Vec<_> = wanted.arguments().collect();
        assert_eq!(after.get(..wanted.len()), Some(&wanted[..]), "{main}");
        if in_place {
            assert_eq!(defaults.edit("GRUB_CMDLINE_LINUX", edit).unwrap(), Edit::Unchanged, "{main}");
        }
    }
}

#[test]
fn stubs_and_bls_are_told_apart() {
    let stub = format!(
        "search.fs_uuid {ROOT_UUID} root hd0,gpt2 \nset prefix=($root)'/boot/grub'\n\
                        configfile $prefix/grub.cfg\n"
    );
    assert!(grub_accepts(stub.as_bytes()));
    let config = GrubConfig::parse(stub.as_bytes()).unwrap();
    let found = config.stub().unwrap();
    assert_eq!(found.search_uuid.as_deref(), Some(ROOT_UUID));
    assert_eq!(found.prefix.as_deref(), Some("($root)/boot/grub"));
    assert_eq!(found.target, "$prefix/grub.cfg");

    let bls = "insmod blscfg\nblscfg\nif [ -s $prefix/grubenv ]; then\n load_env\nfi\n";
    assert!(grub_accepts(bls.as_bytes()));
    assert_eq!(GrubConfig::parse(bls.as_bytes()).unwrap().blscfg_line(), Some(2));

    // openSUSE's stub reads the other file as a part of itself; RHEL's full configuration reads a custom one so.
    let suse = format!(
        "search --fs-uuid --set=root {ROOT_UUID}\nset prefix=(${{root}})/boot/grub2\n\
                        source \"${{prefix}}/grub.cfg\"\n"
    );
    assert!(grub_accepts(suse.as_bytes()));
    let config = GrubConfig::parse(suse.as_bytes()).unwrap();
    assert_eq!(config.stub().unwrap().target, "${prefix}/grub.cfg");
    let full = "blscfg\nsource $prefix/custom.cfg\n";
    assert_eq!(GrubConfig::parse(full.as_bytes()).unwrap().stub(), None);
}

#[test]
fn odd_words_are_read_as_grub_reads_them() {
    let script = "menuentry 'It'\\''s > \"x\"' --class a --id \"q\\\"i\" {\n\
        \tlinux /vmlinuz root=\"/dev/sda1\" a='b c' \\\n\t  d\\ e $extra \"${more}x\"  # comment \" here\n\
        \tinitrd /intel-ucode.img /initrd.img\n}\n";
    assert!(grub_accepts(script.as_bytes()));
    let mut config = GrubConfig::parse(script.as_bytes()).unwrap();
    assert_eq!(config.to_bytes(), script.as_bytes());
    let entry = &config.entries()[0];
    assert_eq!((entry.title.as_str(), entry.menu_id.as_deref()), ("It's > \"x\"", Some("q\"i")));
    assert_eq!(entry.initrds[0].paths, ["/intel-ucode.img", "/initrd.img"]);
    let arguments: Vec<_> = config.kernels()[0]
        .arguments
        .arguments()
        .map(|argument| (argument.key, argument.value.unwrap_or_default(), argument.has_variable))
        .collect();
    let expected = [
        ("root", "/dev/sda1", false),
        ("a", "b c", false),
        ("d e", "", false),
        ("$extra", "", true),
        ("${more}x", "", true),
    ]
    .map(|(key, value, variable)| (key.to_owned(), value.to_owned(), variable));
    assert_eq!(arguments, expected);
    let kernel = config.kernels_mut().next().unwrap();
    kernel.arguments.set("root", Some("UUID=1")).unwrap();
    kernel.arguments.append("ro", None).unwrap();
    let edited = config.to_bytes();
    let expected = script.replace("root=\"/dev/sda1\"", "root=UUID=1").replace("${more}x\"", "${more}x\" ro");
    assert_eq!(String::from_utf8(edited.clone()).unwrap(), expected);
    assert!(grub_accepts(&edited));

    let bare = GrubConfig::parse(b"menuentry x {\nlinux /k\n}").map(|mut config| {
        config.kernels_mut().next().unwrap().arguments.set_consoles(&["ttyS0"]).unwrap();
        config.to_bytes()
    });
    assert_eq!(bare.unwrap(), b"menuentry x {\nlinux /k console=ttyS0\n}");
}

#[test]
fn broken_scripts_are_refused_with_their_line() {
    for (script, line) in [
        ("set a=b\nmenuentry 'x {\n", 2),
        ("menuentry x {\n linux /a \"b\n}\n", 2),
        ("menuentry x {\n linux /a\n", 2),
        ("a\n}\n", 1),
    ] {
        assert!(!grub_accepts(script.as_bytes()), "{script}");
        match GrubConfig::parse(script.as_bytes()) {
            Err(BootError::Syntax { line: found, .. }) => assert_eq!(found, line, "{script}"),
            other => panic!("{script}: {other:?}"),
        }
    }
}

/// RHEL 8 keeps the arguments of all entries in a variable, in the script as a fallback.
#[test]
fn arguments_in_a_variable_are_edited() {
    let script = "if [ -z \"${kernelopts}\" ]; then\n  set kernelopts=\"root=/dev/sda1 ro  quiet \"\nfi\n\
        set tuned_params=\"\"\nset x=\"$y\"\ninsmod blscfg\nblscfg\n";
    assert!(grub_accepts(script.as_bytes()));
    let mut config = GrubConfig::parse(script.as_bytes()).unwrap();
    assert_eq!(config.to_bytes(), script.as_bytes());
    assert_eq!(config.variable("tuned_params"), Some(Ok("")));
    assert_eq!(config.variable("x"), Some(Err("$y")));
    let options = config.options_mut().next().unwrap();
    assert_eq!((options.line, options.name.as_str()), (2, "kernelopts"));
    edit_everything(&mut options.arguments).unwrap_err();
    options.arguments.set("root", Some("UUID=1")).unwrap();
    options.arguments.set_consoles(&["tty0", "ttyS0,115200n8"]).unwrap();
    let edited = config.to_bytes();
    let expected = script
        .replace("root=/dev/sda1", "root=UUID=1")
        .replace("quiet ", "quiet console=tty0 console=ttyS0,115200n8 ");
    assert_eq!(String::from_utf8(edited.clone()).unwrap(), expected);
    assert!(grub_accepts(&edited));
}

/// What GRUB accepts, it accepts after an edit, with the same entries.
#[test]
fn edits_of_odd_scripts_stay_acceptable() {
    const SEED: &str = include_str!("../../../testdata/fuzz/grub/entry");
    const PIECES: [&str; 20] = [
        "'a b'",
        "\"c\\\"d\"",
        "\\ ",
        "$x",
        "${y}",
        " # z\n",
        ";",
        " ; ",
        "\n",
        "\\\n",
        "a=b",
        "#",
        "\"\"",
        "{",
        "}",
        "if true; then echo; fi\n",
        "'",
        "\"",
        "--",
        "&&",
    ];
    let mut state = 0x5eed_u64;
    let mut below = |limit: usize| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 33) as usize % limit
    };
    let (mut accepted, mut read) = (0, 0);
    for _ in 0..500 {
        let mut script = SEED.to_owned();
        for _ in 0..=below(3) {
            script.insert_str(below(script.len()), PIECES[below(PIECES.len())]);
        }
        let Ok(mut config) = GrubConfig::parse(script.as_bytes()) else {
            assert!(!grub_accepts(script.as_bytes()), "GRUB reads it and we do not: {script}");
            continue;
        };
        read += 1;
        if !grub_accepts(script.as_bytes()) {
            continue;
        }
        accepted += 1;
        for kernel in config.kernels_mut() {
            edit_everything(&mut kernel.arguments).unwrap();
        }
        let edited = config.to_bytes();
        let shown = String::from_utf8_lossy(&edited);
        assert!(grub_accepts(&edited), "{script}\n->\n{shown}");
        let again = GrubConfig::parse(&edited).unwrap();
        assert_eq!(again.entries().len(), config.entries().len(), "{shown}");
        for (kernel, wanted) in again.kernels().iter().zip(config.kernels()) {
            assert!(kernel.arguments.arguments().eq(wanted.arguments.arguments()), "{script}\n->\n{shown}");
        }
    }
    assert!(accepted > 200 && read > 250, "too few scripts were judged: {accepted} of {read}");
}
