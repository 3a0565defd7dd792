//! GPT tables made by sfdisk, fdisk and sgdisk, then damaged.

mod common;

use coldfit_partition::{GptCopyKind, PartitionError, PartitionType, TableKind, dump, read};
use common::{Disk, codes, memory, numbers};

const CLOUD: &str = "label: gpt\nlabel-id: 0b5a1b0e-94d7-4c4a-a1a4-2c31f2b3c001\n\
    1: start=24576, type=0fc63daf-8483-4772-8e79-3d69d8477de4, uuid=11111111-2222-3333-4444-555555555501, name=\"root ä\"\n\
    14: start=2048, size=6144, type=21686148-6449-6e6f-744e-656564454649, uuid=11111111-2222-3333-4444-555555555514\n\
    15: start=8192, size=16384, type=c12a7328-f81f-11d2-ba4b-00a0c93ec93b, uuid=11111111-2222-3333-4444-555555555515, attrs=\"LegacyBIOSBootable\"\n";
const DISK_BYTES: u64 = 32 << 20;

fn cloud() -> Disk {
    Disk::sfdisk(DISK_BYTES, CLOUD)
}

#[test]
fn numbers_with_holes_are_kept() {
    let disk = cloud();
    let table = disk.read();
    disk.assert_sgdisk_verifies();
    disk.assert_equals_sfdisk(&table);
    assert_eq!((table.kind, table.sector_size), (TableKind::Gpt, 512));
    assert_eq!(numbers(&table), [1, 14, 15]);
    assert_eq!(table.findings, []);
    assert_eq!(table.partition(1).unwrap().name.as_deref(), Some("root ä"));
    assert!(table.partition(14).unwrap().partition_type.is_bios_boot());
    assert!(table.partition(15).unwrap().partition_type.is_esp());
    assert!(table.partition(15).unwrap().is_active);
    let gpt = table.gpt.as_ref().unwrap();
    assert_eq!(gpt.used, GptCopyKind::Primary);
    assert!(gpt.other.is_ok());
    assert!(dump(&table).contains("entry 14 lba 2048 8191"));
}

#[test]
fn encoding_gives_back_every_byte() {
    let disk = cloud();
    let bytes = disk.bytes();
    let gpt = disk.read().gpt.unwrap();
    for copy in [&gpt.copy, gpt.other.as_ref().unwrap()] {
        let encoded = copy.encode();
        let at = |offset: u64, len: usize| &bytes[offset as usize..offset as usize + len];
        assert!(encoded.header == at(encoded.header_offset, encoded.header.len()));
        assert!(encoded.entries == at(encoded.entries_offset, encoded.entries.len()));
    }
}

#[test]
fn an_edited_table_is_right_in_the_eyes_of_sgdisk() {
    let disk = cloud();
    let grown_bytes = DISK_BYTES + (64 << 20);
    let mut gpt = disk.read().gpt.unwrap();
    let mut bytes = disk.bytes();
    bytes.resize(grown_bytes as usize, 0);
    let last_lba = grown_bytes / 512 - 1;
    let old_backup_at = (DISK_BYTES - 512) as usize;
    bytes[old_backup_at..old_backup_at + 512].fill(0);
    let mut backup = gpt.other.unwrap();
    for header in [&mut gpt.copy.header, &mut backup.header] {
        header.last_usable_lba = last_lba - 33;
    }
    gpt.copy.header.alternate_lba = last_lba;
    backup.header.my_lba = last_lba;
    backup.header.entries_lba = last_lba - 32;
    for copy in [&mut gpt.copy, &mut backup] {
        let root = copy.entries.iter_mut().find(|entry| entry.number == 1).unwrap();
        root.last_lba = last_lba - 33;
        copy.entries.retain(|entry| entry.number != 14);
    }
    for copy in [&gpt.copy, &backup] {
        let encoded = copy.encode();
        bytes[encoded.header_offset as usize..][..encoded.header.len()].copy_from_slice(&encoded.header);
        bytes[encoded.entries_offset as usize..][..encoded.entries.len()].copy_from_slice(&encoded.entries);
    }
    bytes[446 + 12..450 + 12].copy_from_slice(&(last_lba as u32).to_le_bytes());
    disk.set_bytes(&bytes);
    disk.assert_sgdisk_verifies();
    let table = disk.read();
    assert_eq!((numbers(&table), codes(&table)), (vec![1, 15], vec![]));
    disk.assert_equals_sfdisk(&table);
}

#[test]
fn damage_to_one_copy_is_named_and_the_other_used() {
    let disk = cloud();
    let bytes = disk.bytes();
    let good = disk.read();
    let end = DISK_BYTES as usize;
    let cases: [(&str, usize, GptCopyKind); 8] = [
        ("gpt.header.signature", 512, GptCopyKind::Backup),
        ("gpt.header.crc", 512 + 40, GptCopyKind::Backup),
        ("gpt.header.size", 512 + 14, GptCopyKind::Backup),
        ("gpt.entries.crc", 1024 + 13 * 128 + 57, GptCopyKind::Backup),
        ("gpt.entries.crc", 1024 + 127 * 128, GptCopyKind::Backup),
        ("gpt.header.signature", end - 512, GptCopyKind::Primary),
        ("gpt.header.crc", end - 512 + 60, GptCopyKind::Primary),
        ("gpt.entries.crc", end - 33 * 512, GptCopyKind::Primary),
    ];
    for (code, at, used) in cases {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x55;
        let table = read(&memory(&damaged), None).unwrap();
        assert_eq!(codes(&table), [code], "byte {at}");
        assert_eq!(table.partitions, good.partitions);
        let gpt = table.gpt.unwrap();
        assert_eq!(gpt.used, used);
        assert_eq!(gpt.other.unwrap_err().code, code);
    }
    let mut damaged = bytes.clone();
    damaged[512 + 60] ^= 1;
    damaged[end - 500] ^= 1;
    match read(&memory(&damaged), None) {
        Err(PartitionError::NoValidGpt { primary, backup }) => {
            assert_eq!((primary.code, backup.code), ("gpt.header.crc", "gpt.header.crc"))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn copies_that_are_valid_and_differ() {
    let disk = cloud();
    let old = disk.bytes();
    common::run("sgdisk", &["-c", "1:renamed"], &disk.path);
    let mut mixed = disk.bytes();
    let end = mixed.len();
    mixed[end - 33 * 512..].copy_from_slice(&old[end - 33 * 512..]);
    let table = read(&memory(&mixed), None).unwrap();
    assert_eq!(codes(&table), ["gpt.copies-differ"]);
    assert_eq!(table.partition(1).unwrap().name.as_deref(), Some("renamed"));
}

#[test]
fn a_grown_image_is_read_from_either_copy() {
    let disk = cloud();
    let good = disk.read();
    let mut bytes = disk.bytes();
    bytes.resize(bytes.len() + (16 << 20), 0);
    let table = read(&memory(&bytes), None).unwrap();
    assert_eq!(table.partitions, good.partitions);
    assert_eq!(codes(&table), ["gpt.backup-not-at-end", "gpt.protective-mbr-size"]);
    // The primary is lost: the backup is found by what the primary or the protective MBR still says.
    for damage in [512 + 60, 512] {
        let mut damaged = bytes.clone();
        damaged[damage] ^= 1;
        if damage == 512 {
            damaged[512..1024].fill(0);
        }
        let table = read(&memory(&damaged), None).unwrap();
        assert_eq!(table.partitions, good.partitions);
        assert_eq!(table.gpt.unwrap().used, GptCopyKind::Backup);
    }
}

#[test]
fn a_truncated_image_is_refused() {
    let disk = cloud();
    let bytes = disk.bytes();
    let error = read(&memory(&bytes[..20 << 20]), None).unwrap_err();
    assert!(error.to_string().contains("do not fit a disk of 40960 sectors"), "{error}");
}

#[test]
fn hybrid_mbr() {
    let disk = cloud();
    common::run("sgdisk", &["-h", "1:15"], &disk.path);
    let table = disk.read();
    assert_eq!(table.kind, TableKind::HybridGpt);
    assert_eq!(numbers(&table), [1, 14, 15]);
    assert_eq!(codes(&table), ["gpt.hybrid-mbr"]);
    assert!(matches!(table.partition(1).unwrap().partition_type, PartitionType::Gpt(_)));
}

#[test]
fn a_gpt_without_protective_entry_is_ignored_as_the_kernel_does() {
    let disk = cloud();
    let mut bytes = disk.bytes();
    bytes[446..510].fill(0);
    let table = read(&memory(&bytes), None).unwrap();
    assert_eq!(codes(&table), ["gpt.not-protected"]);
    assert_eq!(table.partitions, []);
}

#[test]
fn sectors_of_4096_bytes_are_recognised() {
    let disk = Disk::fdisk_4096(128 << 20, "g\nn\n1\n\n+50M\nn\n7\n\n+20M\nw\n");
    let table = disk.read();
    assert_eq!((table.sector_size, table.kind), (4096, TableKind::Gpt));
    assert_eq!(codes(&table), [] as [&str; 0]);
    disk.assert_equals_fdisk_4096(&table);
    assert_eq!(table.partition(7).unwrap().start % 4096, 0);
    // Only the backup is left.
    let mut bytes = disk.bytes();
    bytes[4096..8192].fill(0);
    let backup = read(&memory(&bytes), None).unwrap();
    assert_eq!((backup.sector_size, &backup.partitions), (4096, &table.partitions));
}

#[test]
fn unusual_entry_sizes_and_counts() {
    // Rebuild the primary with entries of 256 bytes, of which the last 128 hold something unknown.
    let disk = cloud();
    let mut bytes = disk.bytes();
    let mut entries = vec![0u8; 64 * 256];
    for index in 0..64 {
        entries[index * 256..index * 256 + 128].copy_from_slice(&bytes[1024 + index * 128..][..128]);
        entries[index * 256 + 200] = 0xab;
    }
    bytes[1024..1024 + entries.len()].copy_from_slice(&entries);
    let fix = |bytes: &mut [u8], count: u32, size: u32, entries: &[u8]| {
        bytes[512 + 80..][..4].copy_from_slice(&count.to_le_bytes());
        bytes[512 + 84..][..4].copy_from_slice(&size.to_le_bytes());
        bytes[512 + 88..][..4].copy_from_slice(&ondisk::crc32_ieee(entries).to_le_bytes());
        bytes[512 + 16..][..4].fill(0);
        let crc = ondisk::crc32_ieee(&bytes[512..512 + 92]);
        bytes[512 + 16..][..4].copy_from_slice(&crc.to_le_bytes());
    };
    fix(&mut bytes, 64, 256, &entries);
    let table = read(&memory(&bytes), None).unwrap();
    assert_eq!(numbers(&table), [1, 14, 15]);
    assert_eq!(codes(&table), ["gpt.copies-differ", "gpt.entries.size-unusual"]);
    let gpt = table.gpt.unwrap();
    assert_eq!(gpt.used, GptCopyKind::Primary);
    let encoded = gpt.copy.encode();
    assert!(encoded.entries == entries && encoded.header == bytes[512..1024]);

    for (count, size, code) in [
        (u32::MAX, 128, "gpt.entries.count"),
        (u32::MAX, 4096, "gpt.entries.count"),
        (0, 128, "gpt.entries.count"),
        (128, 0, "gpt.entries.size"),
        (128, 192, "gpt.entries.size"),
        (128, 8192, "gpt.entries.size"),
    ] {
        fix(&mut bytes, count, size, &entries);
        let gpt = read(&memory(&bytes), None).unwrap().gpt.unwrap();
        assert_eq!(gpt.used, GptCopyKind::Backup);
        assert_eq!(gpt.other.unwrap_err().code, code, "{count} of {size}");
    }
}
