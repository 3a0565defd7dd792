//! The whole qcow2 driver on one image in memory. Errors are fine; panics, hangs and large allocations
//! are bugs. A commit of an image that checks clean has to leave it clean.

#![no_main]

use std::path::Path;
use std::sync::Arc;

use block::{DenyAll, MemoryDevice, Overlay, ReadAt, WriteAt};
use libfuzzer_sys::fuzz_target;
use qcow2::Qcow2;

fn open(bytes: Vec<u8>) -> Option<Qcow2> {
    Qcow2::open(Arc::new(MemoryDevice::new(bytes)), Path::new("fuzz.qcow2"), &DenyAll).ok()
}

fuzz_target!(|bytes: &[u8]| {
    Qcow2::probe(bytes);
    let Some(image) = open(bytes.to_vec()) else { return };
    let image = Arc::new(image);
    image.info();
    let _ = image.dump(&mut std::io::sink());
    let is_clean = image.check().is_ok_and(|report| report.is_clean());
    let _ = image.extents(0..image.len());
    let mut buf = vec![0; 100_000];
    for at in [0, image.len() / 2, image.len().saturating_sub(buf.len() as u64)] {
        let len = (image.len() - at).min(buf.len() as u64) as usize;
        let _ = image.read_exact_at(&mut buf[..len], at);
    }

    let overlay = Arc::new(Overlay::new(Arc::clone(&image) as Arc<_>, 1 << 20, std::env::temp_dir()));
    for (at, len) in [(0, 700), (image.len() / 2, 513), (image.len().saturating_sub(9), 9)] {
        let _ = overlay.write_all_at(&vec![0xa5; len], at);
    }
    let Ok(changes) = overlay.seal() else { return };
    let Ok(plan) = image.plan_commit(&changes) else { return };
    if !is_clean || plan.new_len > 64 << 20 {
        return;
    }
    let mut edited = bytes.to_vec();
    edited.resize(plan.new_len as usize, 0);
    for write in &plan.writes {
        let start = write.host_offset as usize;
        let target = &mut edited[start..start + write.len() as usize];
        plan.read_source(write, 0, target).expect("all that a plan reads was read while planning");
    }
    let again = open(edited).expect("a committed image opens");
    assert!(again.check().expect("a committed image is checked").is_clean());
});
