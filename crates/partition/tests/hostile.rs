//! Damaged tables end in an error or in findings, quickly and without a panic.

#![allow(clippy::unwrap_used, clippy::single_range_in_vec_init, reason = "helpers of tests fail the test")]

mod common;

use std::time::{Duration, Instant};

use block::{MemoryDevice, WriteAt};
use coldfit_partition::{dump, read};
use common::Disk;

struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below
    }
}

/// Makes the checksums of the header at `at` right again, so that damage gets past them.
fn fix_checksums(bytes: &mut [u8], at: usize, sector_size: usize) {
    let field = |bytes: &[u8], offset: usize| ondisk::le_u32(bytes, at + offset) as usize;
    let entries = ondisk::le_u64(bytes, at + 72);
    let len = field(bytes, 80).saturating_mul(field(bytes, 84));
    let start = usize::try_from(entries).unwrap_or(usize::MAX).saturating_mul(sector_size);
    if let Some(array) = bytes.get(start..start.saturating_add(len)) {
        let crc = ondisk::crc32_ieee(array);
        ondisk::put_le_u32(bytes, at + 88, crc);
    }
    let header_size = field(bytes, 12).min(sector_size);
    ondisk::put_le_u32(bytes, at + 16, 0);
    let crc = ondisk::crc32_ieee(&bytes[at..at + header_size]);
    ondisk::put_le_u32(bytes, at + 16, crc);
}

/// Interesting values for a damaged field.
fn value(random: &mut Random) -> [u8; 8] {
    match random.next(6) {
        0 => [0xff; 8],
        1 => [0; 8],
        2 => (random.next(1 << 16) as u64).to_le_bytes(),
        3 => (1u64 << random.next(64)).to_le_bytes(),
        4 => u64::from(u32::MAX).to_le_bytes(),
        _ => (random.next(1 << 30) as u64 * 0x1_0001_0001).to_le_bytes(),
    }
}

fn survive(
    bytes: &[u8],
    places: &[std::ops::Range<usize>],
    headers: &[usize],
    sector_size: usize,
    seed: u64,
) {
    let device = MemoryDevice::new(bytes.to_vec());
    let mut random = Random(seed);
    let (mut read_well, mut slowest) = (0, Duration::ZERO);
    for _ in 0..2000 {
        let mut damaged: Vec<u8> = places.iter().flat_map(|place| bytes[place.clone()].to_vec()).collect();
        for _ in 0..=random.next(4) {
            let width = [1, 2, 4, 8][random.next(4)];
            let at = random.next(damaged.len() - width);
            damaged[at..at + width].copy_from_slice(&value(&mut random)[..width]);
        }
        let mut image = bytes.to_vec();
        let mut taken = 0;
        for place in places {
            image[place.clone()].copy_from_slice(&damaged[taken..taken + place.len()]);
            taken += place.len();
        }
        if random.next(4) != 0 {
            headers.iter().for_each(|at| fix_checksums(&mut image, *at, sector_size));
        }
        // One device for all rounds: only the damaged places differ.
        for place in places {
            device.write_all_at(&image[place.clone()], place.start as u64).unwrap();
        }
        let begin = Instant::now();
        if let Ok(table) = read(&device, None) {
            read_well += 1;
            assert!(dump(&table).len() < 16 << 20);
            assert!(table.findings.len() < 1000);
            for partition in table.partitions.iter().filter(|partition| partition.fits_disk) {
                assert!(partition.start + partition.len <= table.disk_len);
            }
        }
        slowest = slowest.max(begin.elapsed());
    }
    assert!(read_well > 100, "only {read_well} of the damaged tables were read at all");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
}

#[test]
fn damaged_gpt() {
    let disk = Disk::sfdisk(2 << 20, "label: gpt\nsize=100K\nsize=100K\nsize=100K\n");
    let bytes = disk.bytes();
    let end = bytes.len();
    let places = [446..512, 512..604, 1024..1024 + 512, end - 512..end - 420];
    survive(&bytes, &places, &[512, end - 512], 512, 1);
}

#[test]
fn damaged_gpt_with_sectors_of_4096_bytes() {
    let disk = Disk::fdisk_4096(4 << 20, "g\nn\n1\n\n+100K\nn\n7\n\n+200K\nw\n");
    let bytes = disk.bytes();
    let end = bytes.len();
    let places = [446..512, 4096..4188, 8192..8192 + 1024, end - 4096..end - 4004];
    survive(&bytes, &places, &[4096, end - 4096], 4096, 2);
}

#[test]
fn damaged_chain_of_logical_partitions() {
    let script = "label: dos\n1: start=1, size=40\n2: start=64, size=3000, type=5\n";
    let logicals: String = (5..=9).map(|number| format!("{number}: size=64\n")).collect();
    let disk = Disk::sfdisk(2 << 20, &format!("unit: sectors\n{script}{logicals}"));
    let table = disk.read();
    assert_eq!(table.ebrs.len(), 5);
    let mut places = Vec::from([0..512usize]);
    places.extend(table.ebrs.iter().map(|ebr| ebr.lba as usize * 512 + 440..ebr.lba as usize * 512 + 512));
    survive(&disk.bytes(), &places, &[], 512, 3);
}
