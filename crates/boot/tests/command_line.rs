//! Splitting and editing of kernel arguments.

#![allow(clippy::unwrap_used, reason = "test code")]

use coldfit_boot::{CommandLine, GrubConfig};

fn edited(text: &str, edit: impl FnOnce(&mut CommandLine)) -> String {
    let mut line = CommandLine::parse(text.as_bytes());
    edit(&mut line);
    String::from_utf8(line.to_bytes()).unwrap()
}

/// GRUB refuses it, too; anything put behind would become part of the last word.
#[test]
fn a_script_that_ends_in_an_escape_is_refused() {
    for script in ["linux /k\\", "linux /k ro x\\"] {
        let error = GrubConfig::parse(script.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("escape"), "{error}");
    }
    assert!(GrubConfig::parse(b"linux /k ro x\\\\\n").is_ok());
}

#[test]
fn nothing_is_added_inside_an_open_quote() {
    let mut line = CommandLine::parse(b"ro dyndbg=\"file a");
    line.set("root", Some("UUID=1")).unwrap();
    assert_eq!(line.to_bytes(), b"ro dyndbg=\"file a\" root=UUID=1");
    let again = CommandLine::parse(&line.to_bytes());
    assert_eq!(again.value("root").as_deref(), Some("UUID=1"));
    assert_eq!(again.value("dyndbg").as_deref(), Some("file a"));
}

#[test]
fn splits_as_the_kernel_does() {
    let text =
        " quiet  dyndbg=\"file a.c +p\" \"foo=a b\" bar=\"x\ty\" a\"b c\"=d root=UUID=1-2\t-- root=no\n";
    let line = CommandLine::parse(text.as_bytes());
    assert_eq!(line.to_bytes(), text.as_bytes());
    let found: Vec<_> = line.arguments().map(|argument| (argument.key, argument.value)).collect();
    let some = |text: &str| Some(text.to_owned());
    let expected = [
        ("quiet", None),
        ("dyndbg", some("file a.c +p")),
        ("foo", some("a b")),
        ("bar", some("x\ty")),
        ("a\"b c\"", some("d")),
        ("root", some("UUID=1-2")),
    ]
    .map(|(key, value)| (key.to_owned(), value));
    assert_eq!(found, expected);
    assert_eq!(line.value("root").as_deref(), Some("UUID=1-2"));
}

#[test]
fn set_replaces_in_place_and_drops_duplicates() {
    let set = |text: &str, key: &str, value: Option<&str>| {
        edited(text, |line| {
            line.set(key, value).unwrap();
        })
    };
    assert_eq!(set("root=/dev/sda1 ro  quiet", "root", Some("UUID=1")), "root=UUID=1 ro  quiet");
    assert_eq!(set("a root=x  b root=y c\n", "root", Some("z")), "a  b root=z c\n");
    assert_eq!(set("", "quiet", None), "quiet");
    assert_eq!(set("a -- single", "b", None), "a b -- single");
    assert_eq!(set("a-b=1", "a_b", Some("1")), "a-b=1");
    assert_eq!(set("a", "dyndbg", Some("x y")), "a dyndbg=\"x y\"");
    assert_eq!(set("rd.lvm.lv=a", "rd.lvm.lv", Some("b")), "rd.lvm.lv=a rd.lvm.lv=b");
    assert!(!CommandLine::parse(b"a root=x").set("root", Some("x")).unwrap());
    assert!(CommandLine::parse(b"a").set("x\"", None).is_err());
}

#[test]
fn remove_keeps_the_other_blanks() {
    assert_eq!(edited("  a b   c ", |line| assert_eq!(line.remove("a"), 1)), "  b   c ");
    assert_eq!(edited("  a b   c ", |line| assert_eq!(line.remove("c"), 1)), "  a b ");
    assert_eq!(edited(" a ", |line| assert_eq!(line.remove("a"), 1)), "  ");
    assert_eq!(edited("x=1 x=2", |line| assert_eq!(line.remove_value("x", "1"), 1)), "x=2");
    assert_eq!(
        edited("resume=/dev/sda5 x", |line| {
            assert_eq!(line.replace_value("resume", "/dev/sda5", "UUID=9").unwrap(), 1);
        }),
        "resume=UUID=9 x"
    );
}

#[test]
fn consoles_end_in_the_order_asked_for() {
    let want = ["tty0", "ttyS0,115200n8"];
    let cases = [
        ("ro  quiet", "ro  quiet console=tty0 console=ttyS0,115200n8"),
        ("", "console=tty0 console=ttyS0,115200n8"),
        ("console=ttyS0,9600 ro", "console=tty0 console=ttyS0,9600 ro"),
        ("console=ttyS0 ro console=tty0", "console=tty0 console=ttyS0,115200n8 ro"),
        ("console=tty0 a console=ttyS0,115200n8 b", "console=tty0 a console=ttyS0,115200n8 b"),
        ("console=tty0 console=hvc0 x", "console=hvc0 console=tty0 console=ttyS0,115200n8 x"),
        ("console=ttyS1 x", "console=ttyS1 console=tty0 console=ttyS0,115200n8 x"),
        ("a -- b", "a console=tty0 console=ttyS0,115200n8 -- b"),
    ];
    for (before, after) in cases {
        let once = edited(before, |line| assert_eq!(line.set_consoles(&want).unwrap(), before != after));
        assert_eq!(once, after);
        assert_eq!(edited(&once, |line| assert!(!line.set_consoles(&want).unwrap())), once);
    }
}
