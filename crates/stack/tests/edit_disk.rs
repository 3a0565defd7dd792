//! The disk grows and loses partitions in the same transaction as the files; the reference tools judge.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use block::Access;
use coldfit_stack::{CommitTarget, Image, SealedImage};
use common::*;
use report::{Diagnose, Silent};
use vfs::DiskEdit;

const GIB: u64 = 1 << 30;

/// Edits a file, then the disk; sealed and verified.
fn edit(path: &Path, access: Access, edits: &[DiskEdit]) -> SealedImage {
    let mut image = Image::open(path, &options(access), &Silent).unwrap();
    let mut tree = image.open_tree(true).unwrap();
    tree.write(&guest("/etc/hostname"), b"new\n", 0o644).unwrap();
    tree.flush().unwrap();
    drop(tree);
    image.edit_disk(edits).unwrap();
    let sealed = image.seal().unwrap();
    sealed.verify().unwrap();
    sealed
}

fn as_raw(lab: &Lab, image: &Path) -> PathBuf {
    let raw = lab.path("as-raw");
    convert(image, &raw, &["-O", "raw"]);
    raw
}

fn virtual_size(path: &Path) -> u64 {
    let info = run(Command::new("qemu-img").args(["info", "--output=json"]).arg(path)).stdout;
    serde_json::from_slice::<serde_json::Value>(&info).unwrap()["virtual-size"].as_u64().unwrap()
}

/// Partition numbers as sfdisk lists them; both sfdisk and sgdisk find the table sound.
fn judged_partitions(raw: &Path, is_gpt: bool) -> Vec<u32> {
    let verified = run(Command::new("sfdisk").arg("--verify").arg(raw)).stdout;
    let verified = String::from_utf8(verified).unwrap();
    assert!(verified.contains("No errors detected"), "{verified}");
    if is_gpt {
        let text = String::from_utf8(run(Command::new("sgdisk").arg("-v").arg(raw)).stdout).unwrap();
        assert!(text.contains("No problems found"), "{text}");
    }
    let json = run(Command::new("sfdisk").arg("--json").arg(raw)).stdout;
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let partitions = json["partitiontable"]["partitions"].as_array().unwrap().clone();
    let number = |one: &serde_json::Value| {
        one["node"].as_str().unwrap().strip_prefix(raw.to_str().unwrap()).unwrap().parse().unwrap()
    };
    partitions.iter().map(number).collect()
}

#[test]
fn a_gpt_disk_grows_and_loses_its_swap_raw_and_qcow2_in_place_and_new_with_undo() {
    let lab = Lab::new();
    let raw = usual_guest(&lab);
    let qcow2 = lab.path("guest.qcow2");
    convert(&raw, &qcow2, &["-O", "qcow2", "-c"]);
    let edits = [DiskEdit::RemovePartition { number: 3 }, DiskEdit::Grow { to: 20 * GIB }];
    for path in [&raw, &qcow2] {
        let before = fs::read(path).unwrap();
        let sealed = edit(path, Access::Write, &edits);
        let table = sealed.device_table().unwrap();
        assert_eq!(table.disk_len, 20 * GIB);
        assert_eq!(table.volumes.iter().map(|one| one.partition.unwrap()).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(read(&sealed.reopen_tree().unwrap(), "/etc/hostname"), "new\n");
        let undo_file = lab.path("undo");
        let target = CommitTarget::InPlace { undo_file: Some(undo_file.clone()) };
        sealed.commit(target, &Silent).unwrap();
        assert_eq!(virtual_size(path), 20 * GIB);
        if path == &qcow2 {
            run(Command::new("qemu-img").args(["check", "-q"]).arg(path));
        }
        let judged = as_raw(&lab, path);
        assert_eq!(judged_partitions(&judged, true), [1, 2]);
        lab.assert_e2fsck_clean(&judged, ROOT_AT, ROOT_LEN);
        assert_eq!(lab.debugfs_cat(&judged, ROOT_AT, ROOT_LEN, "/etc/hostname"), "new\n");
        // The same edits again: the length is there, the partition is gone.
        let mut again = Image::open(path, &options(Access::Read), &Silent).unwrap();
        again.edit_disk(&edits[1..]).unwrap();
        assert_eq!(again.edit_disk(&edits[..1]).unwrap_err().code(), "partition.remove.not-found");
        assert!(again.seal().unwrap().changes().is_empty());

        block::undo(path, Some(&undo_file), &Silent).unwrap();
        assert!(fs::read(path).unwrap() == before, "undo brings back length and bytes");

        let copy = lab.path("copy");
        let target = CommitTarget::NewFile { path: copy.clone(), force: true };
        edit(path, Access::Read, &edits).commit(target, &Silent).unwrap();
        assert!(fs::read(path).unwrap() == before);
        run(Command::new("qemu-img").args(["compare", "-q"]).arg(&copy).arg(&judged));
    }
}

#[test]
fn an_mbr_disk_loses_its_swap_and_the_extended_partition_around_it() {
    let lab = Lab::new();
    let script = "label: dos\nlabel-id: 0x1234abcd\nunit: sectors\n1: start=2048, size=49152\n\
        2: start=53246, size=10242, type=5\n5: start=53248, size=10240, type=82\n";
    let fstab = "/dev/sda1 / ext4 defaults 0 1\n/dev/sda5 none swap sw 0 0\n";
    let files = [("/etc/fstab", fstab), ("/etc/os-release", "ID=debian\n"), ("/etc/hostname", "old\n")];
    let root = Fs { start: MIB, len: 24 * MIB, mkfs: "mke2fs -t ext4", files: &files };
    let swap = Fs { start: 26 * MIB, len: 5 * MIB, mkfs: "mkswap -q", files: &[] };
    let path = lab.disk("disk", 32 * MIB, script, &[root, swap]);
    let edits = [DiskEdit::RemovePartition { number: 5 }, DiskEdit::Grow { to: 64 * MIB }];
    edit(&path, Access::Write, &edits).commit(CommitTarget::InPlace { undo_file: None }, &Silent).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), 64 * MIB);
    assert_eq!(judged_partitions(&path, false), [1]);
    lab.assert_e2fsck_clean(&path, MIB, 24 * MIB);
}

#[test]
fn what_cannot_be_done_is_refused_by_name() {
    let lab = Lab::new();
    let path = usual_guest(&lab);
    let before = fs::read(&path).unwrap();
    for (edit, code) in [
        (DiskEdit::Grow { to: GUEST_LEN - 512 }, "stack.disk-edit.shrinks"),
        (DiskEdit::Grow { to: GIB + 5 }, "stack.disk-edit.length"),
        (DiskEdit::Grow { to: u64::MAX }, "stack.disk-edit.length"),
        (DiskEdit::RemovePartition { number: 2 }, "stack.disk-edit.mounted"),
        (DiskEdit::RemovePartition { number: 9 }, "partition.remove.not-found"),
    ] {
        let mut image = Image::open(&path, &options(Access::Write), &Silent).unwrap();
        drop(image.open_tree(true).unwrap());
        let error = image.edit_disk(&[edit]).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
    }
    assert!(fs::read(&path).unwrap() == before);
}

#[test]
fn qemu_reads_the_backup_table_at_the_new_end() {
    let lab = Lab::new();
    let raw = usual_guest(&lab);
    let qcow2 = lab.path("guest.qcow2");
    convert(&raw, &qcow2, &["-O", "qcow2", "-o", "compat=0.10"]);
    let edits = [DiskEdit::Grow { to: 20 * GIB }];
    edit(&qcow2, Access::Write, &edits).commit(CommitTarget::InPlace { undo_file: None }, &Silent).unwrap();
    let show = format!("read -v {} 512", 20 * GIB - 512);
    let out = run(Command::new("qemu-io").args(["-r", "-f", "qcow2", "-c", &show]).arg(&qcow2)).stdout;
    assert!(String::from_utf8_lossy(&out).contains("45 46 49 20 50 41 52 54"));
}
