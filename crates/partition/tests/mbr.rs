//! MBR tables made by sfdisk and fdisk.

mod common;

use coldfit_partition::{BootCode, PartitionRole, TableKind, dump, read};
use common::{Disk, codes, logical_numbers, memory, numbers};

const MIB: usize = 1 << 20;

fn with_logicals() -> Disk {
    let script = "label: dos\nlabel-id: 0x1234abcd\n\
        1: start=2048, size=8M, type=83, bootable\n2: start=20480, size=204800, type=5\n\
        3: start=300000, size=4M, type=82\n";
    let logicals: String = (5..=12).map(|number| format!("{number}: size=4M, type=83\n")).collect();
    Disk::sfdisk(256 << 20, &format!("{script}{logicals}"))
}

#[test]
fn four_primaries() {
    let disk = Disk::sfdisk(
        64 << 20,
        "label: dos\nlabel-id: 0xdeadbeef\nsize=4M,type=83,bootable\nsize=4M,type=82\nsize=4M,type=8e\nsize=4M,type=ef\n",
    );
    let table = disk.read();
    assert_eq!(table.kind, TableKind::Mbr);
    assert_eq!(table.findings, []);
    assert_eq!(table.boot_code, BootCode::None);
    disk.assert_equals_sfdisk(&table);
    assert_eq!(table.partition(3).unwrap().partuuid, "deadbeef-03");
    assert!(table.partition(1).unwrap().is_active && !table.partition(2).unwrap().is_active);
    assert!(table.partition(4).unwrap().partition_type.is_esp());
    assert_eq!(table.partition(1).unwrap().start, 2048 * 512);
}

#[test]
fn logical_partitions_to_number_twelve() {
    let disk = with_logicals();
    let table = disk.read();
    disk.assert_equals_sfdisk(&table);
    assert_eq!(logical_numbers(&table), [5, 6, 7, 8, 9, 10, 11, 12]);
    assert_eq!(table.partition(2).unwrap().role, PartitionRole::Extended);
    assert_eq!(table.partition(12).unwrap().partuuid, "1234abcd-0c");
    assert_eq!(table.findings, []);
    assert_eq!(dump(&table), dump(&disk.read()));
    assert_eq!(dump(&table).matches("\nebr lba").count(), 8);
}

#[test]
fn damaged_chains_end_and_are_reported() {
    let disk = with_logicals();
    let bytes = disk.bytes();
    let table = disk.read();
    let ebr_at = |index: usize| table.ebrs[index].lba as usize * 512;

    // The third EBR links to the first.
    let mut cyclic = bytes.clone();
    cyclic[ebr_at(2) + 446 + 16 + 8..][..4].fill(0);
    let found = read(&memory(&cyclic), None).unwrap();
    assert_eq!(logical_numbers(&found), [5, 6, 7]);
    assert_eq!(codes(&found), ["mbr.ebr.cycle"]);

    let mut unsigned = bytes.clone();
    unsigned[ebr_at(4) + 510] = 0;
    let found = read(&memory(&unsigned), None).unwrap();
    assert_eq!(logical_numbers(&found), [5, 6, 7, 8]);
    assert_eq!(codes(&found), ["mbr.ebr.signature"]);

    let mut outside = bytes.clone();
    outside[ebr_at(1) + 446 + 16 + 8..][..4].copy_from_slice(&0x7fff_ffffu32.to_le_bytes());
    let found = read(&memory(&outside), None).unwrap();
    assert_eq!(logical_numbers(&found), [5, 6]);
    assert_eq!(codes(&found), ["mbr.ebr.range"]);
}

#[test]
fn overlap_and_out_of_range() {
    let disk = Disk::sfdisk(64 << 20, "label: dos\nsize=4M\nsize=4M\nsize=4M\n");
    let mut bytes = disk.bytes();
    bytes[446 + 12..][..4].copy_from_slice(&9000u32.to_le_bytes());
    bytes[446 + 32 + 12..][..4].copy_from_slice(&0xffff_ff00u32.to_le_bytes());
    let table = read(&memory(&bytes), None).unwrap();
    assert_eq!(codes(&table), ["partition.out-of-range", "partition.overlap"]);
    assert!(table.findings[1].detail.contains("1 and 2"));
    assert_eq!(numbers(&table), [1, 2, 3]);
    assert!(!table.partition(3).unwrap().fits_disk);
    assert_eq!(table.partitions.iter().map(|one| one.overlaps).collect::<Vec<_>>(), [true, true, false]);
}

#[test]
fn sectors_of_4096_bytes_are_counted_when_given() {
    let disk =
        Disk::fdisk_4096(128 << 20, "o\nn\np\n1\n\n+10M\nn\ne\n2\n\n+80M\nn\nl\n\n+10M\nn\nl\n\n+10M\nw\n");
    let device = block::FileDevice::open_read(&disk.path).unwrap();
    let table = read(&device, Some(4096)).unwrap();
    disk.assert_equals_fdisk_4096(&table);
    assert_eq!(logical_numbers(&table), [5, 6]);
    assert_eq!(table.findings, []);
    assert_eq!(table.partition(1).unwrap().start, table.partition(1).unwrap().start_lba * 4096);
    assert!(read(&device, Some(1024)).is_err());
}

#[test]
fn what_is_no_table() {
    for content in [vec![], vec![0; 100], vec![0; MIB]] {
        let table = read(&memory(&content), None).unwrap();
        assert_eq!((table.kind, table.partitions.len()), (TableKind::None, 0));
    }
    // A FAT filesystem over the whole disk ends its first sector like an MBR.
    let disk = Disk::empty(8 << 20);
    common::run("mkfs.vfat", &[], &disk.path);
    assert_eq!(disk.read().kind, TableKind::None);
    let disk = Disk::empty(8 << 20);
    common::run("mkfs.ext4", &["-q", "-F"], &disk.path);
    assert_eq!(disk.read().kind, TableKind::None);
    // A wrong boot indicator: other boot code than an MBR's.
    let disk = Disk::sfdisk(8 << 20, "label: dos\nsize=4M\n");
    let mut bytes = disk.bytes();
    bytes[446] = 0x21;
    assert_eq!(read(&memory(&bytes), None).unwrap().kind, TableKind::None);
}

#[test]
fn grub_boot_code_and_its_core_image() {
    let boot = std::fs::read("/usr/lib/grub/i386-pc/boot.img").expect("grub-pc-bin is needed");
    let disk = Disk::sfdisk(8 << 20, "label: dos\nsize=4M\n");
    let core_path = disk.path.with_extension("core");
    let arguments = ["-O", "i386-pc", "-p", "(hd0,msdos1)/boot/grub", "biosdisk", "part_msdos", "ext2", "-o"];
    common::run("grub-mkimage", &arguments, &core_path);
    let core = std::fs::read(&core_path).unwrap();
    let mut bytes = disk.bytes();
    bytes[..440].copy_from_slice(&boot[..440]);
    let without = read(&memory(&bytes), None).unwrap();
    assert_eq!(without.boot_code, BootCode::Grub { core_sector: 1, is_core_found: false });
    bytes[512..512 + core.len()].copy_from_slice(&core);
    let with = read(&memory(&bytes), None).unwrap();
    assert_eq!(with.boot_code, BootCode::Grub { core_sector: 1, is_core_found: true });
    // The rest of the core was overwritten.
    bytes[1024..1536].fill(0);
    let broken = read(&memory(&bytes), None).unwrap();
    assert_eq!(broken.boot_code, BootCode::Grub { core_sector: 1, is_core_found: false });
    bytes[..440].fill(0x90);
    assert_eq!(read(&memory(&bytes), None).unwrap().boot_code, BootCode::Other);
    assert_eq!(with.partitions, without.partitions);
}
