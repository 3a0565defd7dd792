//! Edits are sealed, verified and committed; the reference tools judge the result.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use block::Access;
use coldfit_stack::{CommitTarget, Image, SealedImage, StackError};
use common::*;
use report::{Class, Diagnose, Silent};
use vfs::Timestamp;

/// Opens for writing, edits a file on `/` and one on `/boot`, seals.
fn edit(path: &Path, access: Access) -> SealedImage {
    let mut image = Image::open(path, &options(access), &Silent).unwrap();
    let mut tree = image.open_tree(true).unwrap();
    for mount in tree.mounts_mut() {
        mount.filesystem.writable().unwrap().set_clock(Timestamp { seconds: 1_700_000_000, nanoseconds: 0 });
    }
    tree.write(&guest("/etc/hostname"), b"new\n", 0o644).unwrap();
    tree.write(&guest("/boot/grub/custom.cfg"), &vec![b'#'; 50_000], 0o600).unwrap();
    tree.flush().unwrap();
    drop(tree);
    image.seal().unwrap()
}

fn assert_edited(lab: &Lab, raw: &Path) {
    for (start, len) in [(BOOT_AT, BOOT_LEN), (ROOT_AT, ROOT_LEN)] {
        lab.assert_e2fsck_clean(raw, start, len);
    }
    assert_eq!(lab.debugfs_cat(raw, ROOT_AT, ROOT_LEN, "/etc/hostname"), "new\n");
    assert_eq!(lab.debugfs_cat(raw, BOOT_AT, BOOT_LEN, "/grub/custom.cfg"), "#".repeat(50_000));
    assert_eq!(lab.debugfs_cat(raw, BOOT_AT, BOOT_LEN, "/grub/grub.cfg"), "set timeout=5\n");
}

fn as_raw(lab: &Lab, image: &Path) -> std::path::PathBuf {
    let raw = lab.path("as-raw");
    convert(image, &raw, &["-O", "raw"]);
    raw
}

#[test]
fn raw_in_place_with_undo() {
    let lab = Lab::new();
    let path = usual_guest(&lab);
    let before = fs::read(&path).unwrap();
    let sealed = edit(&path, Access::Write);
    assert_eq!(sealed.changed_filesystems(), ["partition 1", "partition 2"]);
    sealed.verify().unwrap();
    assert!(sealed.check().unwrap().iter().all(|checked| checked.is_clean()));
    let tree = sealed.reopen_tree().unwrap();
    assert_eq!(read(&tree, "/etc/hostname"), "new\n");
    drop(tree);
    assert!(fs::read(&path).unwrap() == before, "the image changed before the commit");

    let ranges = sealed.changes().ranges().to_vec();
    let undo_file = lab.path("undo");
    let target = CommitTarget::InPlace { undo_file: Some(undo_file.clone()) };
    let report = sealed.commit(target, &Silent).unwrap();
    assert_eq!(report.undo_file.as_ref(), Some(&undo_file.canonicalize().unwrap()));
    let after = fs::read(&path).unwrap();
    assert_edited(&lab, &path);
    // What no edit needed is byte-identical.
    let mut expected = before.clone();
    for range in ranges {
        let range = range.start as usize..range.end as usize;
        expected[range.clone()].copy_from_slice(&after[range]);
    }
    assert!(after == expected);
    // The same edit again changes nothing.
    let again = edit(&path, Access::Write);
    assert!(again.plan().unwrap().writes.iter().map(|write| write.len()).sum::<u64>() < 64 << 10);
    drop(again);

    block::undo(&path, Some(&undo_file), &Silent).unwrap();
    assert!(fs::read(&path).unwrap() == before);
}

#[test]
fn qcow2_in_place_and_raw_to_a_new_file_hold_the_same_disk() {
    let lab = Lab::new();
    let raw = usual_guest(&lab);
    let before = fs::read(&raw).unwrap();
    let qcow2 = lab.path("guest.qcow2");
    convert(&raw, &qcow2, &["-O", "qcow2", "-c"]);

    let sealed = edit(&qcow2, Access::Write);
    sealed.verify().unwrap();
    sealed.commit(CommitTarget::InPlace { undo_file: None }, &Silent).unwrap();
    run(Command::new("qemu-img").args(["check", "-q"]).arg(&qcow2));
    assert_edited(&lab, &as_raw(&lab, &qcow2));

    let copy = lab.path("copy.raw");
    let to_copy = |force| CommitTarget::NewFile { path: copy.clone(), force };
    edit(&raw, Access::Read).commit(to_copy(false), &Silent).unwrap();
    assert!(fs::read(&raw).unwrap() == before, "the source changed");
    assert_edited(&lab, &copy);
    run(Command::new("qemu-img").args(["compare", "-q"]).arg(&copy).arg(&qcow2));
    assert!(edit(&raw, Access::Read).commit(to_copy(false), &Silent).is_err());
    edit(&raw, Access::Read).commit(to_copy(true), &Silent).unwrap();

    // Opened for reading, the image itself is not written.
    let error =
        edit(&raw, Access::Read).commit(CommitTarget::InPlace { undo_file: None }, &Silent).unwrap_err();
    assert_eq!(error.code(), "image.read-only");
    assert!(fs::read(&raw).unwrap() == before);
}

#[test]
fn a_dirty_filesystem_is_recovered_with_its_first_edit() {
    let lab = Lab::new();
    let path = usual_guest(&lab);
    // An empty transaction is enough to need recovery.
    let part = lab.extract(&path, ROOT_AT, ROOT_LEN);
    let block = lab.path("block");
    let hostname = run(Command::new("debugfs").args(["-R", "blocks /etc/hostname"]).arg(&part)).stdout;
    let hostname = String::from_utf8(hostname).unwrap().trim().to_owned();
    let mut content = b"replayed\n".to_vec();
    content.resize(4096, 0);
    fs::write(&block, content).unwrap();
    let commands = lab.path("commands");
    fs::write(&commands, format!("jo\njw -b {hostname} {}\njc\n", block.display())).unwrap();
    run(Command::new("debugfs").args(["-w", "-f"]).arg(&commands).arg(&part));
    let file = fs::File::options().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &fs::read(&part).unwrap(), ROOT_AT).unwrap();
    drop(file);

    // An edit of /boot alone leaves the root filesystem as it is.
    let mut image = Image::open(&path, &options(Access::Write), &Silent).unwrap();
    let mut tree = image.open_tree(true).unwrap();
    tree.write(&guest("/boot/grub/grub.cfg"), b"set timeout=1\n", 0o644).unwrap();
    tree.flush().unwrap();
    drop(tree);
    let sealed = image.seal().unwrap();
    assert_eq!(sealed.changed_filesystems(), ["partition 1"]);
    drop(sealed);

    let sealed = edit(&path, Access::Write);
    sealed.verify().unwrap();
    sealed.commit(CommitTarget::InPlace { undo_file: None }, &Silent).unwrap();
    assert_edited(&lab, &path);
}

#[test]
fn damage_from_before_the_edits_is_told_from_ours() {
    let lab = Lab::new();
    let path = usual_guest(&lab);
    // A link count that is wrong, by debugfs.
    let part = lab.extract(&path, ROOT_AT, ROOT_LEN);
    run(Command::new("debugfs").args(["-w", "-R", "sif /etc/os-release links_count 7"]).arg(&part));
    let file = fs::File::options().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &fs::read(&part).unwrap(), ROOT_AT).unwrap();
    drop(file);
    let error = edit(&path, Access::Write).verify().unwrap_err();
    assert_eq!((error.code(), error.class()), ("stack.verification", Class::Damaged));
    assert!(matches!(error, StackError::Verification { layer, .. } if layer == "partition 2"));
}

#[test]
fn a_copy_beside_another_directory_keeps_its_backing_file() {
    let lab = Lab::new();
    usual_guest(&lab);
    let top = lab.path("top.qcow2");
    let mut create = Command::new("qemu-img");
    create.current_dir(top.parent().unwrap());
    run(create.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b", "guest.raw", "top.qcow2"]));
    let mut allowed = options(Access::Read);
    allowed.allow_backing = Some(top.parent().unwrap().to_owned());
    let elsewhere = tempfile::tempdir().unwrap();
    for (dir, is_portable) in [(elsewhere.path(), false), (top.parent().unwrap(), true)] {
        let sealed = Image::open(&top, &allowed, &Silent).unwrap().seal().unwrap();
        let target = CommitTarget::NewFile { path: dir.join("copy.qcow2"), force: false };
        match sealed.commit(target, &Silent) {
            Ok(_) => assert!(is_portable),
            Err(error) => assert_eq!((error.code(), is_portable), ("image.backing.relative", false)),
        }
    }
}

#[test]
fn a_filesystem_that_is_only_read_is_mounted_for_reading() {
    let lab = Lab::new();
    let script = "label: gpt\nunit: sectors\n1: start=2048, size=20480\n2: start=22528, size=20480\n";
    let make = |at: &str| {
        let fstab = format!("/dev/sda1 / ext4\n/dev/sda2 {at} ext4\n");
        let files = [("/etc/fstab", &*fstab), ("/srv/x", ""), ("/boot/x", "")];
        let bigalloc = "mke2fs -t ext4 -O bigalloc -C 16384";
        lab.disk(
            "disk",
            24 * MIB,
            script,
            &[
                Fs { start: MIB, len: 10 * MIB, mkfs: "mke2fs -t ext4", files: &files },
                Fs { start: 11 * MIB, len: 10 * MIB, mkfs: bigalloc, files: &[("/file", "content")] },
            ],
        )
    };
    let path = make("/srv");
    let mut image = Image::open(&path, &options(Access::Write), &Silent).unwrap();
    let mut tree = image.open_tree(true).unwrap();
    assert_eq!(read(&tree, "/srv/file"), "content");
    assert_eq!(tree.write(&guest("/srv/file"), b"x", 0o644).unwrap_err().code(), "guest.read-only");
    tree.write(&guest("/etc/motd"), b"x", 0o644).unwrap();
    image.require_essential_mounts().unwrap();
    drop((tree, image));

    let path = make("/boot");
    let mut image = Image::open(&path, &options(Access::Write), &Silent).unwrap();
    image.open_tree(true).unwrap();
    let error = image.require_essential_mounts().unwrap_err();
    assert!(error.to_string().contains("bigalloc"), "{error}");
}
