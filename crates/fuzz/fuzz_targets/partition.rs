#![no_main]
//! A disk of any content, its checksums made right when the first byte asks for it.

use block::MemoryDevice;
use libfuzzer_sys::fuzz_target;

/// Stores the checksums of a GPT header at `at` as its own fields define them.
fn fix_checksums(disk: &mut [u8], at: usize, sector_size: usize) -> Option<()> {
    let field = |disk: &[u8], offset: usize| {
        let raw = disk.get(at + offset..at + offset + 4)?;
        Some(u32::from_le_bytes(raw.try_into().ok()?) as usize)
    };
    let start = field(disk, 72)?.checked_mul(sector_size)?;
    let len = field(disk, 80)?.checked_mul(field(disk, 84)?)?;
    if let Some(array) = disk.get(start..start.checked_add(len)?) {
        let crc = ondisk_crc32(array);
        disk.get_mut(at + 88..at + 92)?.copy_from_slice(&crc.to_le_bytes());
    }
    let header_size = field(disk, 12)?.min(sector_size);
    disk.get_mut(at + 16..at + 20)?.fill(0);
    let crc = ondisk_crc32(disk.get(at..at + header_size)?);
    disk.get_mut(at + 16..at + 20)?.copy_from_slice(&crc.to_le_bytes());
    Some(())
}

/// CRC-32, reflected 0x04c11db7, bit by bit.
fn ondisk_crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |state, byte| {
        (0..8).fold(state ^ u32::from(*byte), |state, _| {
            (state >> 1) ^ (0xedb8_8320 & (state & 1).wrapping_neg())
        })
    })
}

fuzz_target!(|input: &[u8]| {
    let Some((mode, content)) = input.split_first() else { return };
    let sector_size = if mode & 2 == 0 { 512 } else { 4096 };
    // Small inputs stand for the start of a disk of 1 MiB.
    let mut disk = content.to_vec();
    disk.resize(content.len().max(1 << 20), 0);
    if mode & 1 != 0 {
        fix_checksums(&mut disk, sector_size, sector_size);
    }
    let sector_size = (mode & 4 != 0).then_some(sector_size as u32);
    if let Ok(table) = partition::read(&MemoryDevice::new(disk), sector_size) {
        for one in table.partitions.iter().filter(|one| one.fits_disk) {
            assert!(one.start + one.len <= table.disk_len);
        }
        partition::dump(&table);
        if let Some(gpt) = &table.gpt {
            let encoded = gpt.copy.encode();
            assert_eq!(encoded.header, gpt.copy.raw_header());
            assert_eq!(encoded.entries, gpt.copy.raw_entries());
        }
    }
});
