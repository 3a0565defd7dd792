//! Clean-up and persistent names.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod support;

use coldfit_fixes::{Action, State};
use initramfs::{Archive, Limits};
use support::*;
use testkit::DirFs;

const PERSISTENT: &str = "# made by generator\nSUBSYSTEM==\"net\", ACTION==\"add\", ATTR{address}==\"52:54:00:12:34:56\", NAME=\"eth1\"\n";

fn clean(values: &str) -> cloudspec::Profile {
    profile_of("clean", &format!("item = \"things\"\n{values}"))
}

#[test]
fn the_machine_id_is_cut_and_never_removed() {
    let profile = clean("truncate = [\"/etc/machine-id\"]\nremove = [\"/var/lib/dbus/machine-id\"]");
    let base = || {
        let mut fs = DirFs::from_files([("/usr/lib/systemd/systemd", "")]);
        fs.add_dir("/etc").add_dir("/var/lib/dbus");
        fs
    };
    let mut fs = base();
    fs.add_file("/etc/machine-id", "0123456789abcdef0123456789abcdef\n");
    fs.add_file("/var/lib/dbus/machine-id", "0123456789abcdef0123456789abcdef\n");
    let (planned, tree) = fix_by(fs, &profile);
    assert_eq!((planned.findings[0].state, content(&tree, "/etc/machine-id").as_str()), (State::Fixable, ""));
    assert!(!tree.exists(&path("/var/lib/dbus/machine-id")).unwrap());
    // A link to what another program keeps would leave the old id; what it leads to is not touched.
    let mut fs = base();
    fs.add_file("/var/lib/other/id", "0123").add_symlink("/etc/machine-id", "/var/lib/other/id");
    fs.add_symlink("/var/lib/dbus/machine-id", "/etc/machine-id");
    let (_, tree) = fix_by(fs, &profile);
    assert_eq!(
        (content(&tree, "/etc/machine-id"), content(&tree, "/var/lib/other/id")),
        (String::new(), "0123".into())
    );
    assert!(tree.read_link(&path("/etc/machine-id")).is_err());
    assert!(tree.read_link(&path("/var/lib/dbus/machine-id")).is_ok());
    // Missing means first boot, with all presets.
    let (_, tree) = fix_by(base(), &profile);
    assert_eq!(tree.stat(&path("/etc/machine-id")).unwrap().mode, 0o444);
    let (planned, _) = fix_by(DirFs::from_files([("/etc/issue", "")]), &profile);
    assert_eq!(planned.findings[0].state, State::Holds);
}

#[test]
fn host_keys_go_only_where_something_makes_new_ones() {
    let profile = clean(
        "remove = [\"/etc/ssh/ssh_host_*_key\", \"/etc/ssh/ssh_host_*_key.pub\"]\nremade-by = [\"/usr/bin/cloud-init\"]",
    );
    let keys = || {
        DirFs::from_files([
            ("/etc/ssh/ssh_host_rsa_key", "secret"),
            ("/etc/ssh/ssh_host_rsa_key.pub", "public"),
            ("/etc/ssh/sshd_config", ""),
        ])
    };
    let (planned, _) = fix_by(keys(), &profile);
    assert_eq!((planned.findings[0].state, planned.edits.len()), (State::NeedsAction, 0));
    let mut fs = keys();
    fs.add_file("/usr/bin/cloud-init", "");
    let (planned, tree) = fix_by(fs, &profile);
    assert_eq!(edited(&planned), ["/etc/ssh/ssh_host_rsa_key", "/etc/ssh/ssh_host_rsa_key.pub"]);
    assert!(tree.exists(&path("/etc/ssh/sshd_config")).unwrap());
    let (planned, _) = fix_by(DirFs::from_files([("/etc/issue", "")]), &profile);
    assert_eq!(planned.findings[0].state, State::Holds);
}

#[test]
fn links_of_users_lead_nowhere_else() {
    let mut fs = DirFs::from_files([
        ("/etc/keep/authorized_keys", "x"),
        ("/home/a/.bash_history", "ls"),
        ("/home/b/.profile", ""),
        ("/srv/kept", "x"),
        ("/var/spool/z", "x"),
    ]);
    fs.add_symlink("/home/b/.ssh", "/etc/keep");
    fs.add_symlink("/home/b/.bash_history", "/etc/keep/authorized_keys");
    fs.add_symlink("/etc/resolv.conf", "/srv/kept").add_symlink("/var/tmp", "/srv");
    let profile = clean(
        "remove = [\"/home/*/.ssh/authorized_keys\", \"/home/*/.bash_history\"]\ntruncate = [\"/etc/resolv.conf\"]\n\
         empty = [\"/var/tmp\", \"/var/spool\"]",
    );
    let (planned, tree) = fix_by(fs, &profile);
    assert_eq!(edited(&planned), ["/home/a/.bash_history", "/home/b/.bash_history", "/var/spool"]);
    assert_eq!(content(&tree, "/srv/kept"), "x");
    assert_eq!(content(&tree, "/etc/keep/authorized_keys"), "x");
    let evidence = &planned.findings[0].evidence;
    assert!(evidence.contains(&"things: 3 paths, 3 bytes".to_owned()), "{evidence:?}");
}

#[test]
fn protected_and_large_files_are_cut_too() {
    let mut fs = DirFs::from_files([("/etc/resolv.conf", "nameserver 192.0.2.1\n")]);
    fs.add_immutable("/etc/resolv.conf");
    fs.add_file("/var/log/wtmp", vec![0xff_u8; 300_000]);
    for number in 0..30 {
        fs.add_file(format!("/var/log/old-{number}.gz"), "x");
    }
    let profile = clean("truncate = [\"/etc/resolv.conf\", \"/var/log/wtmp\"]\nremove = [\"/var/log/*.gz\"]");
    let (planned, tree) = fix_by(fs, &profile);
    assert_eq!(content(&tree, "/etc/resolv.conf"), "");
    assert_eq!(tree.stat(&path("/var/log/wtmp")).unwrap().len, 0);
    assert!(planned.edits.iter().any(|edit| matches!(edit.action, Action::Rewrite { .. })));
    assert!(planned.findings[0].evidence.len() < 12);
}

#[test]
fn rules_and_link_files_that_bind_names_go() {
    let profile = profile_of("no-persistent-names", "");
    let custom = "# site\nKERNEL==\"sda\", SYMLINK+=\"mine\"\nSUBSYSTEM==\"net\", \\\n ATTR{address}==\"52:54:00:aa:bb:cc\", NAME=\"lan0\"\n";
    let mut fs = guest();
    fs.add_file("/etc/udev/rules.d/70-persistent-net.rules", PERSISTENT)
        .add_file("/etc/udev/rules.d/70-persistent-cd.rules", "# nothing\n")
        .add_file("/etc/udev/rules.d/10-site.rules", custom)
        .add_file(
            "/etc/udev/rules.d/60-mac.rules",
            "SUBSYSTEM==\"net\", ATTR{address}==\"*\", NAME!=\"x\", RUN+=\"y\"\n",
        )
        .add_file(
            "/lib/udev/rules.d/75-persistent-net-generator.rules",
            "ACTION==\"add\", IMPORT{program}=\"write_net_rules\"\n",
        )
        .add_file(
            "/etc/systemd/network/10-lan.link",
            "[Match]\nMACAddress=52:54:00:aa:bb:cc\n[Link]\nName=lan0\n",
        )
        .add_file(
            "/etc/systemd/network/99-default.link",
            "[Match]\nOriginalName=*\n[Link]\nNamePolicy=keep\n",
        );
    let inside = [
        ("etc/udev/rules.d/70-persistent-net.rules", PERSISTENT),
        ("etc/systemd/network/10-lan.link", "[Match]\nMACAddress=52:54:00:aa:bb:cc\n[Link]\nName=lan0\n"),
        ("usr/lib/udev/rules.d/50-udev-default.rules", "SUBSYSTEM==\"net\", OPTIONS=\"x\"\n"),
    ];
    let initrd = format!("/boot/initrd.img-{KVER}");
    fs.add_file(&initrd, initramfs(&inside));
    let (planned, tree) = fix_by(fs, &profile);
    assert_eq!(planned.findings[0].state, State::Fixable);
    assert_eq!(
        edited(&planned),
        [
            initrd.as_str(),
            "/etc/systemd/network/10-lan.link",
            "/etc/udev/rules.d/10-site.rules",
            "/etc/udev/rules.d/70-persistent-net.rules",
            "/etc/udev/rules.d/75-persistent-net-generator.rules",
        ]
    );
    assert_eq!(
        content(&tree, "/etc/udev/rules.d/10-site.rules"),
        "# site\nKERNEL==\"sda\", SYMLINK+=\"mine\"\n"
    );
    assert_eq!(content(&tree, "/etc/udev/rules.d/75-persistent-net-generator.rules"), "");
    let bytes = tree.read(&path(&initrd), 1 << 24).unwrap();
    let archive = Archive::parse(&bytes, &Limits::default()).unwrap();
    for (name, text) in inside {
        let now = archive.read_file(name).unwrap();
        let expected = if name.contains("50-udev") { text } else { "" };
        assert_eq!(std::str::from_utf8(&now).unwrap(), expected, "{name}");
    }
}

#[test]
fn an_initramfs_of_unknown_make_is_an_obstacle() {
    let mut fs = guest();
    let files = [
        ("init".to_owned(), b"#!/bin/sh\n".to_vec()),
        ("etc/udev/rules.d/70-persistent-net.rules".to_owned(), PERSISTENT.into()),
    ];
    fs.add_file(format!("/boot/initrd.img-{KVER}"), cpio(&files));
    let (planned, _) = fix_by(fs, &profile_of("no-persistent-names", ""));
    assert_eq!((planned.findings[0].state, planned.edits.len()), (State::NotFixable, 0));
}
