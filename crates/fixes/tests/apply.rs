//! Writing a plan: what is made, what is kept, what is refused before anything is written.

#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use coldfit_fixes::{FixError, Selection, Stage, apply};
use support::*;
use testkit::DirFs;
use vfs::{GuestTree, VfsError};

const LABEL: &str = "security.selinux";

#[test]
fn new_files_take_a_label_and_old_ones_keep_everything() {
    let mut fs = guest();
    fs.add_file("/usr/bin/dracut", "").add_file("/etc/other.conf", "");
    fs.add_dir("/etc/other.d").add_xattr("/etc/other.d", LABEL, "etc_dir_t\0");
    fs.add_xattr("/etc/other.conf", LABEL, "etc_file_t\0");
    fs.set_mode("/etc/fstab", 0o600).set_owner("/etc/fstab", 3, 4);
    fs.add_xattr("/etc/fstab", LABEL, "fstab_t\0").add_xattr("/etc/fstab", "user.note", "kept");
    let (_, tree) = fix(fs, &["fstab.by-uuid", "initramfs.persistence"]);
    let stat = tree.stat(&path("/etc/fstab")).unwrap();
    assert_eq!((stat.mode, stat.uid, stat.gid, stat.mtime), (0o600, 3, 4, NOW));
    let xattrs = tree.xattrs(&path("/etc/fstab")).unwrap();
    let values: Vec<_> = xattrs.iter().map(|xattr| xattr.value.as_slice()).collect();
    assert_eq!(values, [b"fstab_t\0".as_slice(), b"kept"]);
    // The directory is new: labelled like its sibling; the file in it has no sibling and takes the directory's.
    for (name, mode) in [("/etc/dracut.conf.d", 0o755), ("/etc/dracut.conf.d/90-coldfit.conf", 0o644)] {
        let stat = tree.stat(&path(name)).unwrap();
        assert_eq!((stat.mode, stat.uid, stat.gid), (mode, 0, 0));
        let xattrs = tree.xattrs(&path(name)).unwrap();
        assert_eq!(xattrs.len(), 1);
        assert_eq!(
            (xattrs[0].name.as_slice(), xattrs[0].value.as_slice()),
            (LABEL.as_bytes(), b"etc_dir_t\0".as_slice())
        );
    }
}

#[test]
fn acls_and_capabilities_stay_whatever_way_a_file_is_written() {
    const KEPT: [(&str, &str); 3] = [
        ("security.capability", "\u{1}\0\0\u{2}\0\u{4}\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
        ("security.selinux", "own_t\0"),
        ("system.posix_acl_access", "\u{2}\0\0\0\u{1}\0\u{6}\0"),
    ];
    let initrd = format!("/boot/initrd.img-{KVER}");
    let mut fs = guest();
    for file in ["/etc/fstab", initrd.as_str(), "/boot/grub/grub.cfg"] {
        for (name, value) in KEPT {
            fs.add_xattr(file, name, value);
        }
    }
    let before = fs.clone().into_tree();
    let (planned, tree) = fix(fs, &["fstab.by-uuid", "initramfs.drivers", "boot.console"]);
    assert!(planned.edits.len() >= 3);
    for file in ["/etc/fstab", initrd.as_str(), "/boot/grub/grub.cfg"] {
        let content = |tree: &GuestTree| tree.read(&path(file), 1 << 24).unwrap();
        assert_ne!(content(&before), content(&tree), "{file}");
        let mut kept: Vec<_> = tree
            .xattrs(&path(file))
            .unwrap()
            .into_iter()
            .map(|xattr| (String::from_utf8(xattr.name).unwrap(), String::from_utf8(xattr.value).unwrap()))
            .collect();
        kept.sort();
        assert_eq!(kept, KEPT.map(|(name, value)| (name.to_owned(), value.to_owned())), "{file}");
    }
}

/// Label of the name itself, without the NUL that ends it.
fn label(tree: &GuestTree, at: &str) -> Option<String> {
    let location = tree.resolve_no_follow(&path(at)).unwrap();
    let xattrs = tree.mounts()[location.mount].filesystem.xattrs(location.node).unwrap();
    let value = xattrs.into_iter().find(|xattr| xattr.name == LABEL.as_bytes())?.value;
    Some(String::from_utf8(value).unwrap().strip_suffix('\0').unwrap().to_owned())
}

#[test]
fn the_guests_policy_labels_what_is_made() {
    let policy = "/.*\tany_t\n/etc(/.*)?\tetc_t\n/etc/new\\.d(/.*)?\tnew_t\n/etc/new\\.d -d new_dir_t\n\
        /etc/none -- <<none>>\n/etc/link -l link_t\n/etc/made -- made_t\n";
    let mut fs = DirFs::from_files([
        ("/etc/selinux/config", "SELINUX=enforcing\nSELINUXTYPE=targeted\n"),
        ("/etc/selinux/targeted/contexts/files/file_contexts", policy),
        ("/etc/kept", "old"),
        ("/etc/sibling", ""),
    ]);
    fs.add_xattr("/etc/kept", LABEL, "own_t\0").add_xattr("/etc/sibling", LABEL, "sibling_t\0");
    fs.add_symlink("/etc/made", "/elsewhere").add_xattr("/etc/made", LABEL, "of_link_t\0");
    fs.add_symlink("/etc/again", "/old").add_xattr("/etc/again", LABEL, "again_t\0");
    let mut tree = fs.into_tree();
    let mut stage = Stage::new(&tree);
    for file in ["/etc/kept", "/etc/new.d/x/file", "/etc/none", "/etc/plain"] {
        stage.write("r", &path(file), b"new".to_vec(), vec![]).unwrap();
    }
    stage.write_no_follow("r", &path("/etc/made"), b"new".to_vec(), vec![]).unwrap();
    stage.link("r", &path("/etc/link"), "/dev/null", vec![]).unwrap();
    stage.link("r", &path("/etc/again"), "/dev/null", vec![]).unwrap();
    let (edits, _) = stage.into_edits();
    assert_eq!(apply(&edits, &mut tree, NOW).unwrap(), [""; 0]);
    let expected = [
        ("/etc/kept", Some("own_t")),
        ("/etc/new.d", Some("new_dir_t")),
        ("/etc/new.d/x", Some("new_t")),
        ("/etc/new.d/x/file", Some("new_t")),
        ("/etc/none", None),
        ("/etc/plain", Some("etc_t")),
        ("/etc/made", Some("made_t")),
        ("/etc/link", Some("link_t")),
        ("/etc/again", Some("again_t")),
    ];
    for (at, expected) in expected {
        assert_eq!(label(&tree, at).as_deref(), expected, "{at}");
    }
    assert!(!tree.exists(&path("/.autorelabel")).unwrap());
}

#[test]
fn a_label_that_nobody_can_tell_is_made_by_the_guest() {
    let make = |mode: &str| {
        let config = format!("SELINUX={mode}\nSELINUXTYPE=targeted\n");
        let mut tree = DirFs::from_files([
            ("/etc/selinux/config", config.as_str()),
            ("/etc/selinux/targeted/contexts/files/file_contexts", "/usr(/.*)? usr_t\n"),
        ])
        .into_tree();
        let mut stage = Stage::new(&tree);
        stage.write("r", &path("/etc/new"), b"new".to_vec(), vec![]).unwrap();
        let (edits, _) = stage.into_edits();
        let remarks = apply(&edits, &mut tree, NOW).unwrap();
        (remarks, tree.exists(&path("/.autorelabel")).unwrap())
    };
    let (remarks, is_asked) = make("enforcing");
    assert!(remarks.len() == 1 && remarks[0].contains("/etc/new") && is_asked, "{remarks:?}");
    assert_eq!(make("disabled"), (vec![], false));
}

#[test]
fn a_protected_file_or_directory_is_refused_before_any_write() {
    let prepare = |protected: &str| {
        let mut fs = guest();
        fs.add_file("/usr/bin/dracut", "");
        fs.add_immutable(protected);
        fs.into_tree()
    };
    // The last edit by path, and the directory of a file that would be made.
    for protected in ["/etc/initramfs-tools/modules", "/etc"] {
        let mut tree = prepare(protected);
        let planned = try_plan(&tree, &Selection::default()).unwrap();
        assert!(planned.edits.len() > 4);
        let error = apply(&planned.edits, &mut tree, NOW).unwrap_err();
        assert!(
            matches!(&error, FixError::Guest(VfsError::WrongKind { path, .. }) if path == protected),
            "{error}"
        );
        assert!(error.to_string().contains("immutable (chattr +i)"), "{error}");
        let untouched = guest().into_tree();
        for edit in &planned.edits {
            assert_eq!(
                tree.read_if_exists(&edit.path, 1 << 24).unwrap(),
                untouched.read_if_exists(&edit.path, 1 << 24).unwrap(),
                "{}",
                edit.path
            );
        }
    }
    let mut fs = guest();
    fs.read_only();
    let mut tree = fs.into_tree();
    let planned = try_plan(&tree, &only(&["fstab.by-uuid"])).unwrap();
    assert!(matches!(apply(&planned.edits, &mut tree, NOW), Err(FixError::Guest(VfsError::ReadOnly { .. }))));
}
