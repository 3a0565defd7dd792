//! Writing a plan: what is made, what is kept, what is refused before anything is written.

#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use coldfit_fixes::{FixError, Selection, apply};
use support::*;
use vfs::VfsError;

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
