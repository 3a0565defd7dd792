#![no_main]
//! A superblock and what follows it as the start of the log: head, tail and replay, checksums made not to count.

use std::sync::Arc;

use block::{MemoryDevice, WriteAt};
use libfuzzer_sys::fuzz_target;

const SECTOR: usize = 512;
const MOST_BYTES: u64 = 32 << 20;

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |state, byte| {
        (0..8).fold(state ^ u32::from(*byte), |state, _| (state >> 1) ^ (0x82f6_3b78 & (state & 1).wrapping_neg()))
    })
}

fn place(superblock: &[u8]) -> Option<(u64, usize)> {
    let word = |at: usize| Some(u32::from_be_bytes(superblock.get(at..at + 4)?.try_into().ok()?));
    let long = |at: usize| Some(u64::from_be_bytes(superblock.get(at..at + 8)?.try_into().ok()?));
    let block = u64::from(word(4)?);
    let len = long(8)?.checked_mul(block).filter(|len| *len <= MOST_BYTES)?;
    let log = (*superblock.get(124)?).min(63);
    let start = long(48)?;
    let linear = (start >> log).checked_mul(u64::from(word(84)?))?.checked_add(start & ((1 << log) - 1))?;
    Some((len, linear.checked_mul(block).filter(|at| *at < len)? as usize))
}

fuzz_target!(|input: &[u8]| {
    let Some((superblock, log)) = input.split_at_checked(SECTOR) else { return };
    let Some((len, at)) = place(superblock) else { return };
    let mut disk = vec![0; len as usize];
    if disk.len() < SECTOR {
        return;
    }
    disk[..SECTOR].copy_from_slice(superblock);
    disk[224..228].fill(0);
    let sum = crc32c(&disk[..SECTOR]).to_le_bytes();
    disk[224..228].copy_from_slice(&sum);
    let room = log.len().min(disk.len() - at);
    let part = &mut disk[at..at + room];
    part.copy_from_slice(&log[..room]);
    for sector in part.chunks_exact_mut(SECTOR).filter(|sector| sector.starts_with(&[0xfe, 0xed, 0xba, 0xbe])) {
        // A checksum of 0 is not looked at.
        sector[32..36].fill(0);
    }
    let _ = xfs::recover(&(Arc::new(MemoryDevice::new(disk)) as Arc<dyn WriteAt>));
});
