//! The EFI system partition: part of the tree where fstab says so, read for its loaders in any case.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use block::Access;
use coldfit_stack::{CommitTarget, Image};
use common::*;
use report::Silent;
use vfs::{EfiFile, EfiMachine, EfiProgram};

const ESP_AT: u64 = MIB;
const ESP_LEN: u64 = 16 * MIB;
const ROOT_FROM: u64 = 18 * MIB;

/// A PE program for x86-64 with this text in it.
fn program(text: &str) -> Vec<u8> {
    let mut bytes = vec![0; 0x80];
    bytes[..2].copy_from_slice(b"MZ");
    bytes[0x3c] = 0x80;
    bytes.extend(b"PE\0\0\x64\x86");
    bytes.extend(text.as_bytes());
    bytes
}

/// ESP and root; `fstab` is the root's.
fn disk(lab: &Lab, fstab: &str) -> PathBuf {
    let script = "label: gpt\nunit: sectors\n\
        1: start=2048, size=32768, type=c12a7328-f81f-11d2-ba4b-00a0c93ec93b\n2: start=36864, size=49152\n";
    let files = [("/etc/fstab", fstab), ("/etc/os-release", "ID=debian\n"), ("/boot/efi/under", "hidden")];
    let esp = Fs { start: ESP_AT, len: ESP_LEN, mkfs: "mkfs.fat -F 16 -i 12345678 -n ESP", files: &[] };
    let root = Fs { start: ROOT_FROM, len: 24 * MIB, mkfs: "mke2fs -t ext4", files: &files };
    let path = lab.disk("disk", 48 * MIB, script, &[esp, root]);
    let at = format!("{}@@{ESP_AT}", path.display());
    run(Command::new("mmd").arg("-i").arg(&at).args(["::/EFI", "::/EFI/BOOT", "::/EFI/debian"]));
    for (name, content) in [
        ("BOOT/BOOTX64.EFI", program("UEFI SHIM\n$Version: 15 $")),
        ("debian/grubx64.efi", program("Welcome to GRUB!")),
        ("debian/grub.cfg", b"configfile /boot/grub/grub.cfg\n".to_vec()),
        ("debian/notes.efi", b"no program".to_vec()),
    ] {
        let source = lab.path("source");
        fs::write(&source, content).unwrap();
        run(Command::new("mcopy").arg("-i").arg(&at).arg(&source).arg(format!("::/EFI/{name}")));
    }
    path
}

fn fsck(lab: &Lab, path: &Path) {
    let part = lab.extract(path, ESP_AT, ESP_LEN);
    run(Command::new("fsck.fat").arg("-n").arg(&part));
}

#[test]
fn loaders_are_listed_whether_fstab_names_the_partition_or_not() {
    let lab = Lab::new();
    for fstab in ["UUID=1234-5678 /boot/efi vfat umask=0077 0 1\n", "# nothing\n"] {
        let image = open(&disk(&lab, fstab));
        let firmware = &image.device_table().firmware;
        let file =
            |path: &str, machine, program| EfiFile { path: path.into(), machine, program, grub_prefix: None };
        let x64 = Some(EfiMachine::X64);
        assert_eq!(
            firmware.efi_files.as_deref().unwrap(),
            [
                file("EFI/BOOT/BOOTX64.EFI", x64, Some(EfiProgram::Shim)),
                file("EFI/debian/grubx64.efi", x64, Some(EfiProgram::Grub)),
                file("EFI/debian/notes.efi", None, None),
            ]
        );
        assert_eq!(firmware.loader_files, ["EFI/debian/grub.cfg"]);
        assert_eq!((firmware.esp_partition, &firmware.esp_problem), (Some(1), &None));
        let facts = volumes(&image)[0].filesystem.clone().unwrap();
        assert_eq!((facts.kind, facts.inodes), ("vfat", 0));
    }
}

#[test]
fn the_esp_and_the_root_change_in_one_transaction() {
    let lab = Lab::new();
    let path = disk(&lab, "UUID=1234-5678 /boot/efi vfat umask=0077 0 1\n");
    let qcow2 = lab.path("disk.qcow2");
    convert(&path, &qcow2, &["-O", "qcow2"]);
    for path in [path, qcow2] {
        let mut image = Image::open(&path, &options(Access::Write), &Silent).unwrap();
        let mut tree = image.open_tree(true).unwrap();
        assert_eq!(read(&tree, "/boot/efi/EFI/debian/grub.cfg"), "configfile /boot/grub/grub.cfg\n");
        assert!(!tree.exists(&guest("/boot/efi/under")).unwrap());
        tree.write(&guest("/boot/efi/efi/DEBIAN/grub.cfg"), b"set timeout=1\n", 0o644).unwrap();
        tree.write(&guest("/boot/efi/EFI/BOOT/grubx64.efi"), &program("Welcome to GRUB!"), 0o644).unwrap();
        tree.write(&guest("/etc/motd"), b"hello\n", 0o644).unwrap();
        tree.flush().unwrap();
        drop(tree);
        image.require_essential_mounts().unwrap();
        let sealed = image.seal().unwrap();
        assert_eq!(sealed.changed_filesystems(), ["partition 1", "partition 2"]);
        assert!(sealed.check().unwrap().iter().all(|checked| checked.is_clean()));
        sealed.verify().unwrap();
        let files = sealed.device_table().unwrap().firmware.efi_files.unwrap();
        assert!(files.iter().any(|file| file.path == "EFI/BOOT/grubx64.efi"));
        sealed.commit(CommitTarget::InPlace { undo_file: None }, &Silent).unwrap();

        let raw = lab.path("as-raw");
        convert(&path, &raw, &["-O", "raw"]);
        fsck(&lab, &raw);
        lab.assert_e2fsck_clean(&raw, ROOT_FROM, 24 * MIB);
        let at = format!("{}@@{ESP_AT}", raw.display());
        let shown = run(Command::new("mtype").arg("-i").arg(&at).arg("::/EFI/debian/grub.cfg")).stdout;
        assert_eq!(shown, b"set timeout=1\n");
    }
}

#[test]
fn an_esp_that_fstab_does_not_mount_is_read_and_written_beside_the_tree() {
    let lab = Lab::new();
    for fstab in ["# nothing\n", "UUID=1234-5678 /no/such/place vfat umask=0077 0 1\n"] {
        let path = disk(&lab, fstab);
        let mut image = Image::open(&path, &options(Access::Write), &Silent).unwrap();
        let mut tree = image.open_tree(true).unwrap();
        let config = guest(vfs::DETACHED_ESP).join("EFI/debian/grub.cfg");
        assert_eq!(tree.read(&config, 100).unwrap(), b"configfile /boot/grub/grub.cfg\n");
        // It takes no name away from the guest, and shows none.
        assert_eq!(read(&tree, "/boot/efi/under"), "hidden");
        assert!(
            !tree.list(&guest("/")).unwrap().iter().any(|name| vfs::DETACHED_ESP.as_bytes().ends_with(name))
        );
        tree.write(&config, b"set timeout=1\n", 0o644).unwrap();
        tree.flush().unwrap();
        drop(tree);
        let sealed = image.seal().unwrap();
        assert_eq!(sealed.changed_filesystems(), ["partition 1"]);
        sealed.verify().unwrap();
        sealed.commit(CommitTarget::InPlace { undo_file: None }, &Silent).unwrap();
        fsck(&lab, &path);
        let at = format!("{}@@{ESP_AT}", path.display());
        let shown = run(Command::new("mtype").arg("-i").arg(&at).arg("::/EFI/debian/grub.cfg")).stdout;
        assert_eq!(shown, b"set timeout=1\n");
    }
}

#[test]
fn an_edit_elsewhere_leaves_the_esp_byte_for_byte() {
    let lab = Lab::new();
    for kind in ["-F 16", "-F 32 -s 1"] {
        let path = disk(&lab, "UUID=1234-5678 /boot/efi vfat umask=0077 0 1\n");
        if kind != "-F 16" {
            lab.make(
                &path,
                &Fs {
                    start: ESP_AT,
                    len: ESP_LEN,
                    mkfs: &format!("mkfs.fat {kind} -i 12345678"),
                    files: &[],
                },
            );
        }
        let mut image = Image::open(&path, &options(Access::Write), &Silent).unwrap();
        let mut tree = image.open_tree(true).unwrap();
        assert!(
            tree.exists(&guest("/boot/efi")).unwrap() && !tree.exists(&guest("/boot/efi/under")).unwrap()
        );
        tree.flush().unwrap();
        drop(tree);
        let sealed = image.seal().unwrap();
        assert!(sealed.changes().is_empty(), "{kind}: {:?}", sealed.changes().ranges());
    }
}

#[test]
fn a_damaged_esp_is_a_fact_and_no_failure() {
    let lab = Lab::new();
    let path = disk(&lab, "UUID=1234-5678 /boot/efi vfat umask=0077 0 1\n");
    // The length of the FATs, with the boot sector's signature kept.
    let file = fs::File::options().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xff, 0xff], ESP_AT + 22).unwrap();
    drop(file);
    let mut image = open(&path);
    let firmware = &image.device_table().firmware;
    assert!(firmware.efi_files.is_none() && firmware.esp_problem.is_some());
    let tree = image.open_tree(false).unwrap();
    assert_eq!(read(&tree, "/boot/efi/under"), "hidden");
    assert_eq!(image.unmounted().len(), 1, "{:?}", image.notes());
}
