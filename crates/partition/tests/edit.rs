//! Tables follow a longer disk and lose partitions; sgdisk, sfdisk and fdisk judge.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod common;

use std::fs::File;

use block::{FileDevice, ReadAt, WriteAt};
use coldfit_partition::{PartitionTable, fit_to_disk, read, remove};
use common::{Disk, codes, memory, numbers, run};
use report::Diagnose;

const MIB: u64 = 1 << 20;
const CLOUD: &str = "label: gpt\nlabel-id: 0b5a1b0e-94d7-4c4a-a1a4-2c31f2b3c001\n\
    1: start=24576, type=0fc63daf-8483-4772-8e79-3d69d8477de4, uuid=11111111-2222-3333-4444-555555555501, name=\"root\"\n\
    14: start=2048, size=6144, type=21686148-6449-6e6f-744e-656564454649, uuid=11111111-2222-3333-4444-555555555514\n\
    15: start=8192, size=16384, type=c12a7328-f81f-11d2-ba4b-00a0c93ec93b, uuid=11111111-2222-3333-4444-555555555515\n";
const LOGICAL: &str = "label: dos\nlabel-id: 0x1234abcd\nunit: sectors\n1: start=2048, size=20480, bootable\n\
    2: start=24574, size=36866, type=5\n5: start=24576, size=8192\n6: start=34816, size=8192, type=82\n\
    7: start=45056, size=16384\n";

fn grow(disk: &Disk, to: u64) {
    let table = disk.read();
    File::options().write(true).open(&disk.path).unwrap().set_len(to).unwrap();
    fit_to_disk(&FileDevice::open_write(&disk.path).unwrap(), &table).unwrap();
}

/// What no edit may change: partitions with all that is known of them.
fn partitions(table: &PartitionTable) -> Vec<coldfit_partition::Partition> {
    table.partitions.clone()
}

#[test]
fn a_gpt_follows_a_longer_disk() {
    for more in [512, 8 * 512, 33 * 512, MIB, 20 << 30, 3 << 40] {
        let disk = Disk::sfdisk(32 * MIB, CLOUD);
        let before = disk.read();
        grow(&disk, 32 * MIB + more);
        let table = disk.read();
        assert_eq!(codes(&table), [] as [&str; 0], "{more}");
        assert_eq!(partitions(&table), partitions(&before), "{more}");
        disk.assert_sgdisk_verifies();
        disk.assert_equals_sfdisk(&table);
        let verified = run("sfdisk", &["--verify"], &disk.path);
        assert!(verified.contains("No errors detected"), "{verified}");
        // sfdisk, told to move the backup to the end, finds nothing to do; nor do we.
        let ours = ends(&disk);
        run("sfdisk", &["-q", "--relocate", "gpt-bak-std"], &disk.path);
        assert!(ends(&disk) == ours, "{more}");
        grow(&disk, 32 * MIB + more);
        assert!(ends(&disk) == ours, "{more}");
    }
}

/// The sectors of both copies.
fn ends(disk: &Disk) -> (Vec<u8>, Vec<u8>) {
    let device = FileDevice::open_read(&disk.path).unwrap();
    let mut ends = (vec![0; 34 * 512], vec![0; 33 * 512]);
    device.read_exact_at(&mut ends.0, 0).unwrap();
    device.read_exact_at(&mut ends.1, device.len() - 33 * 512).unwrap();
    ends
}

#[test]
fn a_gpt_in_sectors_of_4096_bytes_follows_a_longer_disk() {
    let disk = Disk::fdisk_4096(64 * MIB, "g\nn\n3\n\n+16M\nn\n7\n\n+8M\nw\n");
    let before = disk.read();
    assert_eq!(before.sector_size, 4096);
    grow(&disk, 256 * MIB);
    let table = disk.read();
    assert_eq!(codes(&table), [] as [&str; 0]);
    assert_eq!(partitions(&table), partitions(&before));
    disk.assert_equals_fdisk_4096(&table);
    let header = table.gpt.unwrap().copy.header;
    assert_eq!((header.alternate_lba, header.last_usable_lba), (65_535, 65_535 - 5));
}

#[test]
fn bytes_without_a_meaning_stay_and_the_old_backup_goes() {
    let disk = Disk::sfdisk(32 * MIB, CLOUD);
    let mut bytes = disk.bytes();
    bytes[512 + 200..512 + 232].fill(0x5a);
    bytes[100..300].fill(0xc3);
    disk.set_bytes(&bytes);
    grow(&disk, 64 * MIB);
    let after = disk.bytes();
    assert!(after[512 + 200..512 + 232].iter().all(|byte| *byte == 0x5a));
    assert!(after[100..300].iter().all(|byte| *byte == 0xc3));
    assert!(after[1024..34 * 512] == bytes[1024..34 * 512]);
    let old_backup = (32 * MIB as usize - 33 * 512)..32 * MIB as usize;
    assert!(after[old_backup].iter().all(|byte| *byte == 0));
}

#[test]
fn a_missing_backup_is_made_anew_and_a_damaged_primary_refused() {
    let disk = Disk::sfdisk(32 * MIB, CLOUD);
    let mut bytes = disk.bytes();
    let at = bytes.len() - 512;
    bytes[at..].fill(0);
    disk.set_bytes(&bytes);
    assert_eq!(codes(&disk.read()), ["gpt.header.signature"]);
    let device = FileDevice::open_write(&disk.path).unwrap();
    assert_eq!(remove(&device, &disk.read(), 15).unwrap_err().code(), "partition.edit.damaged");
    assert!(disk.bytes() == bytes);
    grow(&disk, 64 * MIB);
    disk.assert_sgdisk_verifies();

    let mut bytes = disk.bytes();
    bytes[512] = b'X';
    disk.set_bytes(&bytes);
    let table = disk.read();
    let device = FileDevice::open_write(&disk.path).unwrap();
    assert_eq!(fit_to_disk(&device, &table).unwrap_err().code(), "partition.edit.damaged");
    assert_eq!(remove(&device, &table, 1).unwrap_err().code(), "partition.edit.damaged");
    assert!(disk.bytes() == bytes, "nothing was written");
}

#[test]
fn a_gpt_partition_is_removed_from_both_copies() {
    for number in [1, 14, 15] {
        let disk = Disk::sfdisk(32 * MIB, CLOUD);
        let (before, bytes) = (disk.read(), disk.bytes());
        remove(&FileDevice::open_write(&disk.path).unwrap(), &before, number).unwrap();
        let table = disk.read();
        assert_eq!(codes(&table), [] as [&str; 0]);
        let mut expected = partitions(&before);
        expected.retain(|one| one.number != number);
        assert_eq!(partitions(&table), expected);
        disk.assert_sgdisk_verifies();
        disk.assert_equals_sfdisk(&table);
        // The same edit by sgdisk gives the same bytes.
        let peer = Disk::empty(bytes.len() as u64);
        peer.set_bytes(&bytes);
        run("sgdisk", &["-d", &number.to_string()], &peer.path);
        assert!(disk.bytes() == peer.bytes(), "{number}");
    }
}

#[test]
fn a_primary_partition_is_removed_and_the_others_keep_their_numbers() {
    let script = "label: dos\nlabel-id: 0x1234abcd\n1: start=2048, size=2048\n2: start=4096, size=2048, type=82\n\
        3: start=8192, size=2048\n";
    let disk = Disk::sfdisk(8 * MIB, script);
    let bytes = disk.bytes();
    remove(&FileDevice::open_write(&disk.path).unwrap(), &disk.read(), 2).unwrap();
    let table = disk.read();
    assert_eq!(numbers(&table), [1, 3]);
    disk.assert_equals_sfdisk(&table);
    let mut expected = bytes;
    expected[446 + 16..446 + 32].fill(0);
    assert!(disk.bytes() == expected);
}

#[test]
fn the_last_logical_partition_is_removed_and_no_number_changes() {
    let disk = Disk::sfdisk(32 * MIB, LOGICAL);
    let device = FileDevice::open_write(&disk.path).unwrap();
    let before = disk.bytes();
    for number in [5, 6] {
        let error = remove(&device, &disk.read(), number).unwrap_err();
        assert_eq!(error.code(), "partition.remove.renumbers", "{error}");
    }
    assert_eq!(remove(&device, &disk.read(), 2).unwrap_err().code(), "partition.remove.extended");
    assert_eq!(remove(&device, &disk.read(), 9).unwrap_err().code(), "partition.remove.not-found");
    assert!(disk.bytes() == before);
    for (number, left) in [(7, &[1, 2, 5, 6][..]), (6, &[1, 2, 5]), (5, &[1])] {
        remove(&device, &disk.read(), number).unwrap();
        let table = disk.read();
        assert_eq!(numbers(&table), left);
        assert_eq!(codes(&table), [] as [&str; 0]);
        disk.assert_equals_sfdisk(&table);
        let verified = run("sfdisk", &["--verify"], &disk.path);
        assert!(verified.contains("No errors detected"), "{verified}");
    }
    // Only the three tables were touched.
    let after = disk.bytes();
    let differs: Vec<usize> =
        (0..before.len() / 512).filter(|at| before[at * 512..][..512] != after[at * 512..][..512]).collect();
    assert!(differs.len() <= 4, "{differs:?}");
}

#[test]
fn an_mbr_and_an_empty_disk_need_nothing() {
    for script in [LOGICAL, ""] {
        let disk = match script {
            "" => Disk::empty(MIB),
            script => Disk::sfdisk(32 * MIB, script),
        };
        let table = disk.read();
        let mut bytes = disk.bytes();
        bytes.resize(bytes.len() * 2, 0);
        let grown = memory(&bytes);
        fit_to_disk(&grown, &table).unwrap();
        assert!(grown.to_vec() == bytes);
    }
}

#[test]
fn a_hybrid_mbr_is_left_alone() {
    let disk = Disk::sfdisk(32 * MIB, CLOUD);
    run("sgdisk", &["-h", "1"], &disk.path);
    let table = disk.read();
    let mbr = disk.bytes()[..512].to_vec();
    let device = FileDevice::open_write(&disk.path).unwrap();
    assert_eq!(remove(&device, &table, 1).unwrap_err().code(), "partition.remove.hybrid");
    grow(&disk, 64 * MIB);
    assert!(disk.bytes()[..512] == mbr);
    assert_eq!(partitions(&disk.read()), partitions(&table));
}

#[test]
fn hostile_tables_are_edited_without_a_panic() {
    let mut seed = 0x1234_5678_9abc_def1_u64;
    let mut next = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for script in [CLOUD, LOGICAL] {
        let bytes = Disk::sfdisk(32 * MIB, script).bytes();
        let device = memory(&bytes);
        for _ in 0..400 {
            // Damage gathers: what an edit of a damaged table leaves is edited again.
            for _ in 0..1 + next() % 4 {
                let sector = [0, 1, 2, 24_574, 34_815, 65_503, 65_535][(next() % 7) as usize];
                device.write_all_at(&[next() as u8], sector * 512 + next() % 512).unwrap();
            }
            let Ok(table) = read(&device, None) else {
                device.write_all_at(&bytes[..34 * 512], 0).unwrap();
                continue;
            };
            for number in [1, 5, 6, 7, 14] {
                let _ = remove(&device, &table, number);
            }
            let _ = fit_to_disk(&device, &table);
        }
    }
}
