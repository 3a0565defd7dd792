//! Segments, decompressors, cpio, the merged tree and everything it is asked. Errors are fine; panics are bugs.
#![no_main]

use initramfs::{Archive, Limits};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits { unpacked_bytes: 16 << 20, decoder_memory: 8 << 20, ..Limits::default() };
    if let Ok(archive) = Archive::parse(bytes, &limits) {
        archive.entries();
        archive.modules();
        archive.generator();
        archive.module_blacklist();
        archive.has_udev();
    }
});
