#![no_main]
//! Any small image with a journal: recovery ends, and a second one has nothing to do. Errors are fine.
//!
//! The input is a sparse image: records of a 64-byte unit's number (`u16`, little-endian) and its bytes.
//! The checksums of both superblocks are put right, since random bytes would never pass them.

use std::sync::Arc;

use block::{MemoryDevice, Overlay, ReadAt, WriteAt};
use ext4::RecoveryReport;
use libfuzzer_sys::fuzz_target;
use ondisk::{be_u32, crc32c_raw, put_be_u32, put_le_u32};

const IMAGE_BYTES: usize = 4 << 20;
const UNIT_BYTES: usize = 64;
const JOURNAL_MAGIC: u32 = 0xc03b_3998;

fn image(input: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; IMAGE_BYTES];
    for record in input.chunks_exact(2 + UNIT_BYTES) {
        let at = usize::from(u16::from_le_bytes([record[0], record[1]])) * UNIT_BYTES;
        if let Some(unit) = bytes.get_mut(at..at + UNIT_BYTES) {
            unit.copy_from_slice(&record[2..]);
        }
    }
    let sum = crc32c_raw(!0, &bytes[1024..1024 + 0x3fc]);
    put_le_u32(&mut bytes[1024..2048], 0x3fc, sum);
    for block in bytes.chunks_exact_mut(1024) {
        if be_u32(block, 0) == JOURNAL_MAGIC && be_u32(block, 4) == 4 {
            put_be_u32(block, 0xfc, 0);
            let sum = crc32c_raw(!0, block);
            put_be_u32(block, 0xfc, sum);
        }
    }
    bytes
}

fuzz_target!(|input: &[u8]| {
    let base: Arc<dyn ReadAt> = Arc::new(MemoryDevice::new(image(input)));
    let overlay: Arc<dyn WriteAt> = Arc::new(Overlay::new(base, 4 << 20, std::env::temp_dir()));
    let _ = ext4::needs_recovery(&*overlay);
    if ext4::recover(&overlay).is_ok() && ext4::needs_recovery(&*overlay).is_ok() {
        assert!(!ext4::needs_recovery(&*overlay).unwrap_or(true));
        assert_eq!(ext4::recover(&overlay).ok(), Some(RecoveryReport::default()));
        let _ = ext4::check(&*overlay);
    }
});
