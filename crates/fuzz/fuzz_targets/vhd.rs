//! The VHD driver on one image in memory. Errors are fine; panics, hangs and large allocations are bugs. The map,
//! the extents and the reads agree, and a planned edit of a fixed image leaves one that reads as edited.

#![no_main]

use std::path::Path;
use std::sync::Arc;

use block::{MemoryDevice, Overlay, ReadAt, WriteAt};
use libfuzzer_sys::fuzz_target;
use vhd::{Stored, Vhd};

fn open(bytes: Vec<u8>) -> Option<Vhd> {
    Vhd::open(Arc::new(MemoryDevice::new(bytes)), Path::new("fuzz.vhd")).ok()
}

fuzz_target!(|bytes: &[u8]| {
    let _ = vhd::probe(&MemoryDevice::new(bytes.to_vec()));
    let Some(image) = open(bytes.to_vec()) else { return };
    let image = Arc::new(image);
    image.info();
    let _ = image.check();
    let mut buf = vec![0; 100_000];
    for at in [0, image.len() / 2, image.len().saturating_sub(buf.len() as u64)] {
        let len = (image.len() - at).min(buf.len() as u64);
        let buf = &mut buf[..len as usize];
        image.read_exact_at(buf, at).expect("what is in the file can be read");
        let mut end = at;
        for piece in image.map(at..at + len).expect("what is in the file is mapped") {
            assert_eq!(piece.offset, end);
            end += piece.len;
            let part = &buf[(piece.offset - at) as usize..(end - at) as usize];
            match piece.stored {
                Stored::Hole => assert!(part.iter().all(|byte| *byte == 0)),
                Stored::At { host_offset } => {
                    assert_eq!(part, &bytes[host_offset as usize..host_offset as usize + part.len()]);
                }
                Stored::Mixed => {}
            }
        }
        assert_eq!(end, at + len);
    }
    if image.check_writable().is_err() {
        return;
    }
    let overlay = Arc::new(Overlay::new(Arc::clone(&image) as Arc<_>, 1 << 20, std::env::temp_dir()));
    let len = image.len() + if bytes.len() % 2 == 0 { 4096 } else { 0 };
    if overlay.grow(len).is_err() || overlay.write_all_at(&[0xa5; 9], len - 9).is_err() {
        return;
    }
    let Ok(changes) = overlay.seal() else { return };
    let Ok(plan) = image.plan_commit(&changes) else { return };
    let mut edited = bytes.to_vec();
    edited.resize(plan.new_len as usize, 0);
    for write in &plan.writes {
        let start = write.host_offset as usize;
        let target = &mut edited[start..start + write.len() as usize];
        plan.read_source(write, 0, target).expect("the plan reads the disk");
    }
    let Some(again) = open(edited) else { return };
    assert_eq!(again.len(), len);
    let mut last = [0; 9];
    again.read_exact_at(&mut last, len - 9).expect("the end can be read");
    assert_eq!(last, [0xa5; 9]);
});
