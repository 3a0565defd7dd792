//! The matrix: images by qemu-img and qemu-io, judged by qemu-img.

mod common;

use std::path::Path;

use block::ReadAt;
use coldfit_qcow2::Qcow2;
use common::{Random, Spec, content_by_qemu, in_parallel, make, matrix, open};

/// Our reader agrees with `expected`, in reads of many sizes and by extents.
fn check_reader(image: &Qcow2, expected: &[u8], what: &str) {
    assert_eq!(image.len(), expected.len() as u64, "{what}");
    let mut random = Random(99);
    let mut at = 0;
    while at < expected.len() {
        let len = (random.below(300_000) as usize + 1).min(expected.len() - at);
        let mut got = vec![0xaa; len];
        image.read_exact_at(&mut got, at as u64).unwrap();
        assert!(got == expected[at..at + len], "{what}: bytes at {at}");
        at += len;
    }
    let extents = image.extents(0..image.len()).unwrap();
    let mut end = 0;
    for extent in &extents {
        assert_eq!(extent.offset, end, "{what}: extents have gaps");
        assert!(extent.len > 0);
        end += extent.len;
        if extent.state.reads_zero() {
            let bytes = &expected[extent.offset as usize..end as usize];
            assert!(bytes.iter().all(|byte| *byte == 0), "{what}: {extent:?} is not zero");
        }
    }
    assert_eq!(end, image.len(), "{what}: extents end early");
}

fn edit_and_judge(spec: &Spec, dir: &Path) {
    let path = make(spec, dir);
    let name = spec.name();
    let image = open(&path);
    let before = content_by_qemu(&path, None);
    check_reader(&image, &before, &name);
    let info = image.info();
    assert_eq!(info.cluster_size, spec.cluster);
    assert_eq!(info.refcount_bits, spec.refcount_bits);
    assert_eq!(info.snapshots.len(), spec.snapshots as usize);
    assert_eq!(info.has_lazy_refcounts, spec.lazy);
}

#[test]
fn every_image_of_the_matrix() {
    let specs = matrix();
    assert!(specs.len() >= 40);
    in_parallel(&specs, |spec| {
        let dir = tempfile::tempdir().unwrap();
        let judged = std::panic::catch_unwind(|| edit_and_judge(spec, dir.path()));
        if let Err(panic) = judged {
            eprintln!("image: {}", spec.name());
            std::panic::resume_unwind(panic);
        }
    });
}
