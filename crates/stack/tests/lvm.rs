//! Root on logical volumes. Groups are made by LVM2's tools on loop devices, which needs root.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod common;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use block::{Access, ReadAt};
use coldfit_stack::{CommitTarget, Image, Layer, VolumeGroupLayer};
use common::*;
use report::{Diagnose, Silent};
use testkit::lvm::{LoopDevice, Lvm};

const PV_AT: u64 = 10 * MIB;
const PV_LEN: u64 = 60 * MIB;
const DISK_LEN: u64 = 72 * MIB;

/// A filesystem with these files, as bytes.
fn filesystem(lab: &Lab, len: u64, mkfs: &str, files: &[(&str, &str)]) -> Vec<u8> {
    let path = lab.path("filesystem");
    File::create(&path).unwrap().set_len(len).unwrap();
    lab.make(&path, &Fs { start: 0, len, mkfs, files });
    std::fs::read(&path).unwrap()
}

/// Writes `bytes` into extents of the physical volume at `at` of `image`; its data area begins at 1 MiB.
fn fill(image: &Path, at: u64, extent: u64, bytes: &[u8]) {
    File::options().write(true).open(image).unwrap().write_all_at(bytes, at + (1 + extent) * MIB).unwrap();
}

/// GPT, `/boot` on a partition, root and home on group `my-vg` in the second one.
fn guest_on_lvm(lab: &Lab) -> PathBuf {
    let script = "label: gpt\nunit: sectors\n1: start=2048, size=16384\n2: start=20480, size=122880\n";
    let boot = Fs {
        start: MIB,
        len: 8 * MIB,
        mkfs: &format!("mke2fs -t ext2 -U {BOOT_UUID}"),
        files: &[("/vmlinuz", "kernel")],
    };
    let path = lab.disk("lvm.raw", DISK_LEN, script, &[boot]);
    {
        let lvm = Lvm::new(vec![LoopDevice::attach(&path, PV_AT, PV_LEN)]);
        lvm.run("vgcreate -s 1M my-vg @0");
        lvm.create("-l 10 -n ro-ot my-vg");
        lvm.create("-l 4 -n home my-vg");
        lvm.run("lvextend -l +10 my-vg/ro-ot");
        lvm.create("-l 2 -n swap my-vg");
    }
    let fstab = format!(
        "/dev/mapper/my--vg-ro--ot / ext4 defaults 0 1\nUUID={BOOT_UUID} /boot ext2 defaults 0 2\n\
         /dev/my-vg/home /home ext4 defaults 0 2\n/dev/mapper/my--vg-swap none swap sw 0 0\n"
    );
    let files = [
        ("/etc/fstab", &*fstab),
        ("/etc/os-release", "ID=debian\n"),
        ("/sbin/init", "-> /lib/systemd/systemd"),
        ("/boot/x", "hidden"),
        ("/home/x", "hidden"),
    ];
    let root = filesystem(lab, 20 * MIB, &format!("mke2fs -t ext4 -U {ROOT_UUID}"), &files);
    let (first, second) = root.split_at(10 * MIB as usize);
    fill(&path, PV_AT, 0, first);
    fill(&path, PV_AT, 14, second);
    fill(&path, PV_AT, 10, &filesystem(lab, 4 * MIB, "mke2fs -t ext4", &[("/user/file", "mine")]));
    fill(&path, PV_AT, 24, &filesystem(lab, 2 * MIB, "mkswap -q -L sw", &[]));
    path
}

fn groups(image: &Image) -> Vec<VolumeGroupLayer> {
    let layers = image.layers().into_iter();
    layers
        .filter_map(|layer| match layer {
            Layer::VolumeGroup(group) => Some(*group),
            _ => None,
        })
        .collect()
}

/// The root filesystem out of its extents.
fn root_of(lab: &Lab, image: &Path) -> PathBuf {
    let mut bytes = std::fs::read(lab.extract(image, PV_AT + MIB, 10 * MIB)).unwrap();
    bytes.extend(std::fs::read(lab.extract(image, PV_AT + 15 * MIB, 10 * MIB)).unwrap());
    let path = lab.path("root");
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn the_guest_tree_is_composed_from_logical_volumes_by_their_names() {
    let lab = Lab::new();
    let mut image = open(&guest_on_lvm(&lab));
    let tree = image.open_tree(false).unwrap();
    assert_eq!(read(&tree, "/boot/vmlinuz"), "kernel");
    assert_eq!(read(&tree, "/home/user/file"), "mine");
    assert!(!tree.exists(&guest("/home/x")).unwrap());
    assert_eq!(image.unmounted().len(), 0, "{:?}", image.notes());
    let found: Vec<_> = volumes(&image)
        .into_iter()
        .map(|volume| (volume.name, volume.content.unwrap(), volume.mounted_at.unwrap_or_default()))
        .collect();
    let row = |name: &str, content: &str, at: &str| (name.to_owned(), content.to_owned(), at.to_owned());
    assert_eq!(
        found,
        [
            row("partition 1", "ext2", "/boot"),
            row("partition 2", "lvm2-pv", ""),
            row("logical volume my-vg/home", "ext4", "/home"),
            row("logical volume my-vg/ro-ot", "ext4", "/"),
            row("logical volume my-vg/swap", "swap", ""),
        ]
    );
    let [group] = &groups(&image)[..] else { panic!("one group") };
    assert_eq!((&*group.name, group.physical_volumes.as_slice()), ("my-vg", &["partition 2".to_owned()][..]));
    assert_eq!(group.logical_volumes, ["my-vg/home", "my-vg/ro-ot", "my-vg/swap"]);
    // 59 extents of 1 MiB, 26 of them used.
    assert_eq!(group.free_bytes, Some(33 * MIB));
    for root in ["/dev/my-vg/ro-ot", "/dev/mapper/my--vg-ro--ot", &format!("UUID={ROOT_UUID}")] {
        let chosen = coldfit_stack::OpenOptions { root: Some(root.into()), ..options(Access::Read) };
        let mut image = Image::open(image.file().path(), &chosen, &Silent).unwrap();
        assert!(image.open_tree(false).unwrap().exists(&guest("/etc/fstab")).unwrap(), "{root}");
    }
}

#[test]
fn an_edit_on_a_logical_volume_is_one_commit_that_fsck_and_lvm_accept() {
    let lab = Lab::new();
    let path = guest_on_lvm(&lab);
    let qcow2 = lab.path("lvm.qcow2");
    convert(&path, &qcow2, &["-O", "qcow2"]);
    for path in [path, qcow2] {
        let mut image = Image::open(&path, &options(Access::Write), &Silent).unwrap();
        let mut tree = image.open_tree(true).unwrap();
        // More than what is left in the first ten extents.
        let content = vec![b'x'; 9 * MIB as usize];
        tree.write(&guest("/etc/large"), &content, 0o644).unwrap();
        tree.write(&guest("/etc/motd"), b"hello\n", 0o644).unwrap();
        tree.flush().unwrap();
        drop(tree);
        let sealed = image.seal().unwrap();
        assert_eq!(sealed.changed_filesystems(), ["logical volume my-vg/ro-ot"]);
        assert!(sealed.check().unwrap().iter().all(|checked| checked.is_clean()));
        sealed.verify().unwrap();
        assert_eq!(read(&sealed.reopen_tree().unwrap(), "/etc/motd"), "hello\n");
        sealed.commit(CommitTarget::InPlace { undo_file: None }, &Silent).unwrap();

        let raw = lab.path("as-raw");
        convert(&path, &raw, &["-O", "raw"]);
        let root = root_of(&lab, &raw);
        lab.assert_e2fsck_clean(&root, 0, 20 * MIB);
        assert_eq!(lab.debugfs_cat(&root, 0, 20 * MIB, "/etc/motd"), "hello\n");
        assert_eq!(lab.debugfs_cat(&root, 0, 20 * MIB, "/etc/large").len(), content.len());
        let lvm = Lvm::new(vec![LoopDevice::attach(&raw, PV_AT, PV_LEN)]);
        lvm.run("vgck my-vg");
    }
}

#[test]
fn free_space_is_that_of_the_group_and_of_the_filesystems_in_its_extents() {
    let lab = Lab::new();
    let path = guest_on_lvm(&lab);
    let space = open(&path).seal().unwrap().free_space().unwrap();
    assert!(space.volumes.iter().all(|volume| volume.why_not.is_none()), "{:?}", space.volumes);
    // What is free can be anything: both filesystems are as they were, in the eyes of e2fsck and debugfs.
    let file = File::options().write(true).open(&path).unwrap();
    for range in space.ranges.ranges() {
        file.write_all_at(&vec![0xee; (range.end - range.start) as usize], range.start).unwrap();
    }
    assert!(space.ranges.bytes() > 33 * MIB + 12 * MIB, "{}", space.ranges.bytes());
    let root = root_of(&lab, &path);
    lab.assert_e2fsck_clean(&root, 0, 20 * MIB);
    assert!(lab.debugfs_cat(&root, 0, 20 * MIB, "/etc/fstab").contains("my--vg"));
    lab.assert_e2fsck_clean(&path, PV_AT + 11 * MIB, 4 * MIB);
    let tree = open(&path).open_tree(false).unwrap();
    assert_eq!(read(&tree, "/home/user/file"), "mine");
    let lvm = Lvm::new(vec![LoopDevice::attach(&path, PV_AT, PV_LEN)]);
    lvm.run("vgck my-vg");
}

#[test]
fn a_partition_that_a_group_lies_on_is_not_taken_out() {
    let lab = Lab::new();
    let mut image = open(&guest_on_lvm(&lab));
    let error = image.edit_disk(&[vfs::DiskEdit::RemovePartition { number: 2 }]).unwrap_err();
    assert_eq!(error.code(), "stack.disk-edit.in-use");
}

#[test]
fn a_group_on_a_logical_volume_is_found_and_one_without_partition_table() {
    let lab = Lab::new();
    let path = lab.disk("nested.raw", 64 * MIB, "", &[]);
    {
        let lvm = Lvm::over(&[&path]);
        lvm.run("vgcreate -s 1M outer @0");
        lvm.create("-l 40 -n inner outer");
    }
    {
        let lvm = Lvm::new(vec![LoopDevice::attach(&path, MIB, 40 * MIB)]);
        lvm.run("vgcreate -s 1M guest @0");
        lvm.create("-l 20 -n root guest");
    }
    let files = [("/etc/fstab", "/dev/guest/root / ext4\n"), ("/etc/os-release", "ID=debian\n")];
    fill(&path, MIB, 0, &filesystem(&lab, 20 * MIB, "mke2fs -t ext4", &files));
    let mut image = Image::open(&path, &options(Access::Write), &Silent).unwrap();
    let mut tree = image.open_tree(true).unwrap();
    tree.write(&guest("/etc/motd"), b"hello\n", 0o644).unwrap();
    tree.flush().unwrap();
    drop(tree);
    assert_eq!(groups(&image).len(), 2);
    let sealed = image.seal().unwrap();
    assert_eq!(sealed.changed_filesystems(), ["logical volume guest/root"]);
    sealed.commit(CommitTarget::InPlace { undo_file: None }, &Silent).unwrap();
    lab.assert_e2fsck_clean(&path, 2 * MIB, 20 * MIB);
}

#[test]
fn twenty_guests_with_the_same_group_and_the_same_uuids_never_meet() {
    let lab = Lab::new();
    let first = guest_on_lvm(&lab);
    let copies: Vec<PathBuf> = (0..20)
        .map(|number| {
            let copy = lab.path(&format!("guest{number}"));
            convert(&first, &copy, &["-O", "qcow2"]);
            copy
        })
        .collect();
    std::thread::scope(|scope| {
        for (number, path) in copies.iter().enumerate() {
            scope.spawn(move || {
                let mut image = Image::open(path, &options(Access::Write), &Silent).unwrap();
                let mut tree = image.open_tree(true).unwrap();
                tree.write(&guest("/etc/hostname"), format!("guest{number}").as_bytes(), 0o644).unwrap();
                tree.flush().unwrap();
                drop(tree);
                let sealed = image.seal().unwrap();
                sealed.commit(CommitTarget::InPlace { undo_file: None }, &Silent).unwrap();
            });
        }
    });
    for (number, path) in copies.iter().enumerate() {
        let tree = open(path).open_tree(false).unwrap();
        assert_eq!(read(&tree, "/etc/hostname"), format!("guest{number}"));
    }
    // Whoever looks from outside sees it in the extents themselves.
    let raw = lab.path("as-raw");
    convert(&copies[13], &raw, &["-O", "raw"]);
    let root = root_of(&lab, &raw);
    assert_eq!(lab.debugfs_cat(&root, 0, 20 * MIB, "/etc/hostname"), "guest13");
}

#[test]
fn a_volume_that_is_not_written_is_named_and_the_image_stays_as_it_is() {
    let lab = Lab::new();
    let path = guest_on_lvm(&lab);
    {
        let lvm = Lvm::new(vec![LoopDevice::attach(&path, PV_AT, PV_LEN)]);
        lvm.run("vgexport my-vg");
    }
    let mut image = open(&path);
    assert!(image.open_tree(false).is_ok());
    let error = image.open_tree(true).err().unwrap();
    assert_eq!(error.code(), "lvm2.vg.exported");
    assert!(image.virtual_disk().len() == DISK_LEN && image.seal().unwrap().changes().is_empty());
}
