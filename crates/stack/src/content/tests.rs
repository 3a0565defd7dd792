//! Judged by `blkid -p` on images made by each format's own tool.

use std::path::Path;
use std::process::Command;

use block::FileDevice;

use super::{Content, probe};

const UUID: &str = "0b5a1b0e-94d7-4c4a-a1a4-2c31f2b3c001";

fn run(command: &str, image: &Path) -> String {
    let out = Command::new("sh").arg("-ec").arg(command).arg("sh").arg(image).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{command}: {text}{}", String::from_utf8_lossy(&out.stderr));
    text
}

/// What `blkid` says, in our names.
fn blkid(image: &Path) -> Content {
    let said = run("blkid -p -o export \"$1\"", image);
    let value = |key: &str| {
        said.lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
            .map(|value| value.replace('\\', ""))
    };
    let kind = match value("TYPE").as_deref() {
        Some("LVM2_member") => "lvm2-pv",
        Some("crypto_LUKS") => "luks",
        Some("linux_raid_member") => "md-raid",
        Some(kind) => &*kind.to_owned().leak(),
        None => panic!("{said}"),
    };
    Content { kind, uuid: value("UUID"), label: value("LABEL") }
}

fn assert_as_blkid(image: &Path, what: &str) -> Content {
    let found = probe(&FileDevice::open_read(image).unwrap()).unwrap();
    assert_eq!(found, [blkid(image)], "{what}");
    found.into_iter().next().unwrap()
}

#[test]
fn names_uuids_and_labels_are_those_of_blkid() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    std::fs::create_dir(&tree).unwrap();
    std::fs::write(tree.join("file"), "content").unwrap();
    for (what, bytes, command) in [
        ("ext2", 8 << 20, format!("mkfs.ext2 -q -F -U {UUID} -L 'my root' \"$1\"")),
        ("ext3", 8 << 20, format!("mkfs.ext3 -q -F -U {UUID} \"$1\"")),
        ("ext4", 8 << 20, format!("mkfs.ext4 -q -F -U {UUID} -L 0123456789abcdef \"$1\"")),
        ("jbd", 8 << 20, "mke2fs -q -F -O journal_dev \"$1\"".into()),
        ("xfs", 320 << 20, format!("mkfs.xfs -q -m uuid={UUID} -L xfs-root \"$1\"")),
        ("btrfs", 128 << 20, format!("mkfs.btrfs -q -U {UUID} -L 'b tr' \"$1\"")),
        ("vfat", 4 << 20, "mkfs.vfat -F 12 -i 1234abcd -n ESP12 \"$1\"".into()),
        ("vfat", 16 << 20, "mkfs.vfat -F 16 -i 1234abcd -n 'EF I' \"$1\"".into()),
        ("vfat", 40 << 20, "mkfs.vfat -F 32 -i 1234abcd -n ESP \"$1\"".into()),
        ("vfat", 40 << 20, "mkfs.vfat -F 32 \"$1\"".into()),
        ("ntfs", 8 << 20, "mkntfs -q -F -s 512 -p 0 -H 0 -S 0 -Q \"$1\"".into()),
        ("swap", 1 << 20, format!("mkswap -q -U {UUID} -L swap1 \"$1\"")),
        ("swap", 1 << 20, format!("mkswap -q -p 65536 -U {UUID} \"$1\"")),
        ("f2fs", 64 << 20, format!("mkfs.f2fs -q -l flash -U {UUID} \"$1\"")),
        ("erofs", 0, format!("mkfs.erofs --quiet -U {UUID} \"$1\" \"$(dirname \"$1\")/tree\"")),
        ("squashfs", 0, "rm \"$1\"; mksquashfs \"$(dirname \"$1\")/tree\" \"$1\" -quiet".into()),
        ("iso9660", 0, "xorriso -as mkisofs -quiet -V CIDATA -o \"$1\" \"$(dirname \"$1\")/tree\"".into()),
        (
            "luks",
            20 << 20,
            format!(
                "printf key | cryptsetup luksFormat -q --type luks1 --uuid {UUID} --pbkdf-force-iterations 1000 \
                 --key-file - \"$1\""
            ),
        ),
        (
            "luks",
            20 << 20,
            format!(
                "printf key | cryptsetup luksFormat -q --type luks2 --uuid {UUID} --label 'se cret' --pbkdf pbkdf2 \
                 --pbkdf-force-iterations 1000 --key-file - \"$1\""
            ),
        ),
    ] {
        let image = dir.path().join("image");
        std::fs::File::create(&image).unwrap().set_len(bytes).unwrap();
        run(&command, &image);
        let content = assert_as_blkid(&image, &command);
        assert_eq!(content.kind, what);
        assert_eq!(content.is_container(), what == "luks");
        std::fs::remove_file(&image).unwrap();
    }
}

/// Their tools want devices, so the labels are written here; `blkid` judges.
#[test]
fn raid_and_lvm_labels() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    let check = |bytes: &[u8], kind: &str| {
        std::fs::write(&image, bytes).unwrap();
        assert_eq!(assert_as_blkid(&image, kind).kind, kind);
    };

    // blkid looks for neither on a disk as small as a floppy.
    let mut label = vec![0u8; 4 << 20];
    label[512..520].copy_from_slice(b"LABELONE");
    label[520..528].copy_from_slice(&1u64.to_le_bytes());
    label[532..536].copy_from_slice(&32u32.to_le_bytes());
    label[536..544].copy_from_slice(b"LVM2 001");
    label[544..576].copy_from_slice(b"abcdefGHIJ0123456789klmnopQRSTUV");
    let crc = lvm_crc(&label[532..1024]);
    label[528..532].copy_from_slice(&crc.to_le_bytes());
    check(&label, "lvm2-pv");

    let len = 4 << 20;
    for (offset, sector) in [(0, 0u64), (4096, 8), (len - 8192, (len as u64 - 8192) / 512)] {
        let mut raid = vec![0u8; len];
        let superblock = &mut raid[offset..offset + 4096];
        superblock[0..4].copy_from_slice(&0xa92b_4efc_u32.to_le_bytes());
        superblock[4..8].copy_from_slice(&1u32.to_le_bytes());
        superblock[16..32].copy_from_slice(&std::array::from_fn::<u8, 16, _>(|index| index as u8 + 1));
        superblock[32..40].copy_from_slice(b"host:md0");
        superblock[144..152].copy_from_slice(&sector.to_le_bytes());
        superblock[220..224].copy_from_slice(&0u32.to_le_bytes());
        let sum = md_checksum(superblock);
        superblock[216..220].copy_from_slice(&sum.to_le_bytes());
        check(&raid, "md-raid");
    }
    let mut raid = vec![0u8; len];
    let superblock = &mut raid[len - 65536..];
    superblock[0..4].copy_from_slice(&0xa92b_4efc_u32.to_le_bytes());
    superblock[8..12].copy_from_slice(&90u32.to_le_bytes());
    for (index, at) in [20, 52, 56, 60].into_iter().enumerate() {
        superblock[at..at + 4].copy_from_slice(&(0x1122_3344u32 + index as u32).to_le_bytes());
    }
    check(&raid, "md-raid");
}

/// CRC of LVM2 (`lib/misc/crc.c`): CRC-32 without inversions, from 0xf597a6cf.
fn lvm_crc(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0xf597_a6cf, |state: u32, byte| {
        (0..8).fold(state ^ u32::from(*byte), |state, _| {
            (state >> 1) ^ (0xedb8_8320 & (state & 1).wrapping_neg())
        })
    })
}

/// Sum of MD version 1 over 256 bytes, folded once.
fn md_checksum(superblock: &[u8]) -> u32 {
    let words = superblock[..256].chunks_exact(4);
    let sum: u64 = words.map(|word| u64::from(u32::from_le_bytes(word.try_into().unwrap()))).sum();
    (sum as u32).wrapping_add((sum >> 32) as u32)
}

#[test]
fn a_filesystem_inside_a_mirror_is_the_mirror_first() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    std::fs::File::create(&image).unwrap().set_len(8 << 20).unwrap();
    run("mkfs.ext4 -q -F \"$1\"", &image);
    let mut bytes = std::fs::read(&image).unwrap();
    let at = bytes.len() - 8192;
    bytes[at..at + 4].copy_from_slice(&0xa92b_4efc_u32.to_le_bytes());
    bytes[at + 4] = 1;
    let kinds: Vec<_> =
        probe(&block::MemoryDevice::new(bytes)).unwrap().iter().map(|content| content.kind).collect();
    assert_eq!(kinds, ["md-raid", "ext4"]);
}

#[test]
fn random_and_short_volumes_are_nothing_and_no_panic() {
    let mut seed = 7u32;
    for len in [0usize, 1, 511, 512, 1023, 1024, 4095, 4096, 65536, 70_000] {
        let bytes: Vec<u8> = (0..len)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 24) as u8
            })
            .collect();
        assert_eq!(probe(&block::MemoryDevice::new(bytes)).unwrap(), []);
    }
    // A FAT boot sector with every field at its largest.
    let mut boot = vec![0xffu8; 1024];
    boot[0] = 0xeb;
    boot[11..14].copy_from_slice(&[0x00, 0x10, 0x80]);
    boot[16] = 2;
    boot[22..24].fill(0);
    boot[0x42] = 0x29;
    boot[510..512].copy_from_slice(&[0x55, 0xaa]);
    assert_eq!(probe(&block::MemoryDevice::new(boot)).unwrap()[0].kind, "vfat");
}
