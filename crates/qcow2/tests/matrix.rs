//! The matrix: images by qemu-img and qemu-io, judged by qemu-img.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)] // Helpers of tests are not exempt.

mod common;

use std::path::Path;
use std::sync::Arc;

use block::{HostPlan, HostWrite, ReadAt, WriteSource};
use coldfit_qcow2::Qcow2;
use common::{
    Random, Spec, apply, check_like_qemu, content_by_qemu, edit, in_parallel, make, matrix, open, run, text,
};

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
    assert_eq!(check_like_qemu(&path, &name), (0, 0), "{name}");
    let info = image.info();
    assert_eq!(info.cluster_size, spec.cluster);
    assert_eq!(info.refcount_bits, spec.refcount_bits);
    assert_eq!(info.snapshots.len(), spec.snapshots as usize);
    assert_eq!(info.has_lazy_refcounts, spec.lazy);
    drop(image);

    let snapshots: Vec<String> = (0..spec.snapshots).map(|snapshot| format!("snap{snapshot}")).collect();
    let snapshots_before: Vec<Vec<u8>> =
        snapshots.iter().map(|snapshot| content_by_qemu(&path, Some(snapshot))).collect();
    let mut model = before;
    for round in 0..2u64 {
        let seed = 0xc0ff_ee00 + (round << 24) + spec.cluster * 31 + u64::from(spec.refcount_bits);
        let image = Arc::new(open(&path));
        let changes = edit(&image, &mut model, spec, seed);
        let plan = image.plan_commit(&changes).unwrap_or_else(|error| panic!("{name}: {error}"));
        check_order(&plan, &name);
        apply(&plan, &path);

        assert_eq!(check_like_qemu(&path, &name), (0, 0), "{name}");
        let raw = dir.join("model.raw");
        std::fs::write(&raw, &model).unwrap();
        run("qemu-img", &["compare", "-q", "-f", "qcow2", "-F", "raw", text(&path), text(&raw)]);
        for (snapshot, before) in snapshots.iter().zip(&snapshots_before) {
            assert!(content_by_qemu(&path, Some(snapshot)) == *before, "{name}: {snapshot} changed");
        }

        let image = Arc::new(open(&path));
        check_reader(&image, &model, &name);
        let again = edit(&image, &mut model, spec, seed);
        assert!(image.plan_commit(&again).unwrap().is_empty(), "{name}: the same edit again");
    }
}

/// Invariant 3 of `plan_commit`, as far as a plan shows it.
fn check_order(plan: &HostPlan, name: &str) {
    let mut places: Vec<(u64, u64)> =
        plan.writes.iter().map(|write| (write.host_offset, write.len())).collect();
    if let Some(header) = places.iter().position(|(at, _)| *at == 0) {
        assert_eq!(header, places.len() - 1, "{name}: the header is last");
    }
    let is_data = |write: &HostWrite| matches!(write.source, WriteSource::Virtual { .. });
    let last_data = plan.writes.iter().rposition(is_data).unwrap();
    let offsets = &places[..=last_data];
    assert!(offsets.is_sorted(), "{name}: data in host order, before all tables");
    places.sort_unstable();
    assert!(places.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0), "{name}: writes overlap");
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
