//! Images are opened, and the guest's files found.

mod common;

use std::fs;
use std::process::Command;

use block::Access;
use coldfit_stack::{Image, ImageFormat, Layer, OpenOptions, StackError};
use common::*;
use report::{Class, Diagnose, Silent};
use vfs::TableKind;

#[test]
fn root_and_boot_of_a_gpt_disk_raw_and_qcow2() {
    let lab = Lab::new();
    let raw = usual_guest(&lab);
    let qcow2 = lab.path("guest.qcow2");
    convert(&raw, &qcow2, &["-O", "qcow2", "-c"]);
    for (path, format) in [(&raw, ImageFormat::Raw), (&qcow2, ImageFormat::Qcow2)] {
        let mut image = open(path);
        assert_eq!(image.format(), format);
        assert_eq!(image.qcow2().is_some(), format == ImageFormat::Qcow2);
        let tree = image.open_tree(false).unwrap();
        assert_eq!(read(&tree, "/etc/hostname"), "old\n");
        assert_eq!(read(&tree, "/boot/grub/grub.cfg"), "set timeout=5\n");
        assert!(!tree.exists(&guest("/boot/hidden")).unwrap());
        assert_eq!(image.notes(), [] as [&str; 0]);
        image.require_essential_mounts().unwrap();

        let table = image.device_table();
        assert_eq!(table.table, TableKind::Gpt);
        let contents: Vec<_> = table.volumes.iter().map(|one| one.content.as_deref().unwrap()).collect();
        assert_eq!(contents, ["ext2", "ext4", "swap"]);
        assert_eq!(table.resolve("/dev/vda2"), Some(1));
        let volumes = volumes(&image);
        assert_eq!(volumes[0].mounted_at.as_deref(), Some("/boot"));
        assert_eq!(volumes[1].uuid.as_deref(), Some(ROOT_UUID));
        let filesystem = volumes[1].filesystem.as_ref().unwrap();
        assert!(filesystem.features.iter().any(|feature| feature == "extent"), "{:?}", filesystem.features);
        assert!(filesystem.recovery.is_none() && filesystem.free_bytes < filesystem.total_bytes);
        match &image.layers()[0] {
            Layer::Image(layer) => {
                assert_eq!((layer.virtual_bytes, layer.is_format_probed), (GUEST_LEN, true));
                assert_eq!(layer.qcow2.is_some(), format == ImageFormat::Qcow2);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn logical_root_and_a_dirty_journal() {
    let lab = Lab::new();
    let script = "label: dos\nlabel-id: 0x1234abcd\nunit: sectors\n1: start=2048, size=2048, type=82\n\
        2: start=4096, size=61440, type=5\n5: start=6144, size=8192\n6: start=16384, size=40960\n";
    let (start, len) = (16384 * 512, 40960 * 512);
    let files = [
        ("/etc/fstab", "/dev/sda6 / ext4 defaults 0 1\nPARTUUID=1234abcd-05 /srv ext4 defaults\n"),
        ("/srv/under", "x"),
        ("/etc/motd", "before the crash"),
    ];
    let path =
        lab.disk("disk", 40 * MIB, script, &[Fs { start, len, mkfs: "mke2fs -t ext4", files: &files }]);
    // A log with one committed transaction that replaces the block of /etc/motd.
    let part = lab.extract(&path, start, len);
    let new = lab.path("new-block");
    let mut block = b"after the replay".to_vec();
    block.resize(1024, 0);
    fs::write(&new, block).unwrap();
    let bmap = run(Command::new("debugfs").args(["-R", "blocks /etc/motd"]).arg(&part)).stdout;
    let motd_block = String::from_utf8(bmap).unwrap().trim().to_owned();
    let commands = lab.path("commands");
    fs::write(&commands, format!("jo\njw -b {motd_block} {}\njc\n", new.display())).unwrap();
    run(Command::new("debugfs").args(["-w", "-f"]).arg(&commands).arg(&part));
    let dirty = fs::read(&part).unwrap();
    std::os::unix::fs::FileExt::write_all_at(
        &fs::File::options().write(true).open(&path).unwrap(),
        &dirty,
        start,
    )
    .unwrap();
    let before = fs::read(&path).unwrap();

    let mut image = Image::open(&path, &options(Access::Write), &Silent).unwrap();
    let tree = image.open_tree(false).unwrap();
    assert_eq!(read(&tree, "/etc/motd"), "after the replay");
    assert_eq!(
        image.device_table().volumes.iter().map(|one| one.partition.unwrap()).collect::<Vec<_>>(),
        [1, 5, 6]
    );
    let table = image.device_table();
    assert_eq!(table.volumes.iter().map(|one| one.is_logical).collect::<Vec<_>>(), [false, true, true]);
    assert_eq!((table.disk_len, table.sector_size), (40 * MIB, 512));
    assert_eq!(table.volumes[2].end(), start + len);
    let recovery = volumes(&image)[2].filesystem.clone().unwrap().recovery.unwrap();
    assert_eq!((recovery.transactions, recovery.blocks), (1, 1));
    assert_eq!(
        image.notes(),
        ["/etc/fstab line 2: /srv: partition 5 (unknown content) is not readable yet, not mounted"]
    );
    // Reading plans no write, the replay included.
    drop(tree);
    let sealed = image.seal().unwrap();
    assert!(sealed.changes().is_empty());
    assert!(sealed.plan().unwrap().is_empty());
    drop(sealed);
    assert!(fs::read(&path).unwrap() == before);
}

#[test]
fn a_filesystem_without_partition_table() {
    let lab = Lab::new();
    let files = [("/etc/fstab", "/dev/sda / ext3 defaults 0 1\n"), ("/etc/os-release", "ID=x\n")];
    let path = lab.disk(
        "disk",
        16 * MIB,
        "",
        &[Fs { start: 0, len: 16 * MIB, mkfs: "mke2fs -t ext3 -L whole", files: &files }],
    );
    let mut image = open(&path);
    let tree = image.open_tree(false).unwrap();
    assert_eq!(read(&tree, "/etc/os-release"), "ID=x\n");
    let table = image.device_table();
    assert_eq!((table.table, table.volumes[0].partition), (TableKind::None, None));
    assert_eq!(table.volumes[0].label.as_deref(), Some("whole"));
    assert_eq!(volumes(&image)[0].name, "whole disk");
}

#[test]
fn sectors_of_4096_bytes() {
    let lab = Lab::new();
    let path = lab.disk("disk", 40 * MIB, "", &[]);
    run_with_input(Command::new("fdisk").args(["-b", "4096"]).arg(&path), "g\nn\n3\n\n+20M\nw\n");
    let start = 256 * 4096;
    let files = [("/etc/fstab", "/dev/vda3 / ext4\n")];
    lab.make(&path, &Fs { start, len: 20 * MIB, mkfs: "mke2fs -t ext4", files: &files });
    let mut image = open(&path);
    assert_eq!(image.partition_table().sector_size, 4096);
    let tree = image.open_tree(false).unwrap();
    assert_eq!(read(&tree, "/etc/fstab"), "/dev/vda3 / ext4\n");
}

#[test]
fn what_is_not_handled_is_refused_by_name() {
    let lab = Lab::new();
    let raw_image = usual_guest(&lab);
    for (format, name) in [("vmdk", "VMDK (sparse)"), ("vhdx", "VHDX"), ("vdi", "VDI")] {
        let path = lab.path(format);
        convert(&raw_image, &path, &["-O", format]);
        match open_error(&path, &options(Access::Read)) {
            StackError::Format { format, .. } => assert_eq!(format, name),
            other => panic!("{other}"),
        }
    }
    let gzip = lab.path("image.gz");
    fs::write(&gzip, run(Command::new("gzip").args(["-1", "-c"]).arg(&raw_image)).stdout).unwrap();
    let error = open_error(&gzip, &options(Access::Read));
    assert_eq!((error.code(), error.class()), ("image.format.unsupported", Class::Unsupported));
    assert!(error.hint().unwrap().contains("coldfit convert"));
    // Said to be raw, it is raw: an empty disk without a guest.
    let mut as_raw = Image::open(&gzip, &raw(), &Silent).unwrap();
    assert_eq!(as_raw.open_tree(false).err().unwrap().code(), "guest.root.not-found");

    // LVM, LUKS and XFS where the root would be.
    let script = "label: dos\nunit: sectors\n1: start=2048, size=40960\n2: start=43008, size=34816\n";
    let luks = "cryptsetup luksFormat -q --type luks1 --pbkdf-force-iterations 1000 --key-file /etc/passwd";
    let path = lab.disk(
        "luks",
        40 * MIB,
        script,
        &[
            Fs { start: MIB, len: 20 * MIB, mkfs: luks, files: &[] },
            Fs { start: 21 * MIB, len: 16 * MIB, mkfs: "mke2fs -t ext4", files: &[("/vmlinuz", "x")] },
        ],
    );
    match open(&path).open_tree(false) {
        Err(StackError::RootUnsupported { volumes }) => assert_eq!(volumes, ["partition 1 (luks)"]),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("a tree without root"),
    }
}

#[test]
fn boot_on_a_filesystem_that_is_not_read_is_said() {
    let lab = Lab::new();
    let script = "label: gpt\nunit: sectors\n1: start=2048, size=40960\n2: start=43008, size=32768\n";
    let files = [
        ("/etc/fstab", "/dev/sda1 / ext4\n/dev/sda2 /boot ntfs\nUUID=dead /usr ext4\n"),
        ("/boot/x", ""),
        ("/usr/x", ""),
    ];
    let path = lab.disk(
        "disk",
        40 * MIB,
        script,
        &[
            Fs { start: MIB, len: 20 * MIB, mkfs: "mke2fs -t ext4", files: &files },
            Fs { start: 21 * MIB, len: 16 * MIB, mkfs: "mkfs.ntfs -F -Q -q", files: &[] },
        ],
    );
    let mut image = open(&path);
    image.open_tree(false).unwrap();
    assert_eq!(image.unmounted().len(), 2);
    let error = image.require_essential_mounts().unwrap_err();
    assert_eq!((error.code(), error.class()), ("guest.mount.essential", Class::Unsupported));
    assert!(error.to_string().contains("/boot: partition 2 (ntfs)"), "{error}");
}

#[test]
fn several_roots_need_a_choice() {
    let lab = Lab::new();
    let script = "label: gpt\nunit: sectors\n1: start=2048, size=20480\n2: start=22528, size=20480\n";
    let files = |name| [("/etc/os-release", name)];
    let path = lab.disk(
        "disk",
        24 * MIB,
        script,
        &[
            Fs { start: MIB, len: 10 * MIB, mkfs: "mke2fs -t ext4 -L one", files: &files("ID=one\n") },
            Fs { start: 11 * MIB, len: 10 * MIB, mkfs: "mke2fs -t ext4 -L two", files: &files("ID=two\n") },
        ],
    );
    match open(&path).open_tree(false) {
        Err(StackError::RootAmbiguous { volumes }) => assert_eq!(volumes, ["partition 1", "partition 2"]),
        _ => panic!("one of two roots was taken"),
    }
    for root in ["2", "LABEL=two", "/dev/sda2"] {
        let options = OpenOptions { root: Some(root.into()), ..options(Access::Read) };
        let mut image = Image::open(&path, &options, &Silent).unwrap();
        let tree = image.open_tree(false).unwrap();
        assert_eq!(read(&tree, "/etc/os-release"), "ID=two\n");
    }
}

#[test]
fn damage_in_one_filesystem_does_not_hide_the_guest() {
    let lab = Lab::new();
    let path = usual_guest(&lab);
    // The superblock of /boot: a checksummed ext4 is refused, so make its block size nonsense.
    let file = fs::File::options().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xff; 4], BOOT_AT + 1024 + 24).unwrap();
    drop(file);
    let mut image = open(&path);
    let tree = image.open_tree(false).unwrap();
    assert_eq!(read(&tree, "/etc/hostname"), "old\n");
    assert!(image.require_essential_mounts().is_err());
    assert_eq!(volumes(&image)[0].problem.as_ref().unwrap().class, Class::Damaged);
}

#[test]
fn overlapping_partitions_are_not_read() {
    let lab = Lab::new();
    let path = usual_guest(&lab);
    // Partition 1 of an MBR disk with the same places, grown into the root.
    let bytes = fs::read(&path).unwrap();
    let script = "label: dos\nunit: sectors\n1: start=2048, size=16384\n2: start=18432, size=49152\n";
    let mbr = lab.disk("mbr", GUEST_LEN, script, &[]);
    let mut mixed = bytes.clone();
    mixed[..512].copy_from_slice(&fs::read(&mbr).unwrap()[..512]);
    let path = lab.path("overlapping");
    fs::write(&path, &mixed).unwrap();
    assert!(open(&path).open_tree(false).is_ok());
    mixed[446 + 12..446 + 16].copy_from_slice(&20_000u32.to_le_bytes());
    fs::write(&path, &mixed).unwrap();
    let mut image = open(&path);
    let error = image.open_tree(false).err().unwrap();
    assert_eq!((error.code(), error.class()), ("partition.overlap", Class::Damaged));
    assert_eq!(image.notes()[0], "partition 1: overlaps another partition and is not read");
}

#[test]
fn backing_files_need_permission() {
    let lab = Lab::new();
    let raw = usual_guest(&lab);
    let top = lab.path("top.qcow2");
    run(Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
        .arg(&raw)
        .arg(&top));
    let error = open_error(&top, &options(Access::Read));
    assert_eq!(error.code(), "image.gate-denied");
    let allowed =
        OpenOptions { allow_backing: Some(raw.parent().unwrap().to_owned()), ..options(Access::Read) };
    let mut image = Image::open(&top, &allowed, &Silent).unwrap();
    let tree = image.open_tree(false).unwrap();
    assert_eq!(read(&tree, "/etc/hostname"), "old\n");
}
