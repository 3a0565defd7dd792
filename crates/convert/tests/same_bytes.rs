//! E-2: threads, unit size and timing leave no trace; E-3: memory is bounded.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod common;

use std::collections::BTreeSet;
use std::os::unix::fs::FileExt;
use std::path::Path;

use coldfit_convert::{Options, Outcome, Source, TargetFormat};
use common::*;
use qcow2::Depth;

fn targets() -> Vec<TargetFormat> {
    vec![
        TargetFormat::Raw,
        qcow2_target(3, 16, None),
        qcow2_target(3, 16, Some(zlib())),
        qcow2_target(3, 12, Some(zstd())),
        qcow2_target(2, 9, Some(zlib())),
        qcow2_target(3, 21, Some(zstd())),
    ]
}

#[test]
fn threads_and_unit_sizes_leave_no_trace_in_target_and_digest() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("raw");
    raw_disk(&raw, (24 << 20) + 1000, 5);
    let out = dir.path().join("out");
    let mut digests = BTreeSet::new();
    for target in targets() {
        let mut sums = BTreeSet::new();
        for threads in [1, 2, 8] {
            for unit in [256 << 10, 1 << 20, 4 << 20] {
                let options = Options {
                    threads: Some(threads),
                    unit_bytes: Some(unit),
                    digest: true,
                    checksum: true,
                    ..quick()
                };
                let outcome = convert(&raw_source(&raw), &target, &out, &options);
                sums.insert(outcome.sha256.unwrap());
                digests.insert(outcome.digest.unwrap());
            }
        }
        assert_eq!(sums.len(), 1, "{target:?}");
        // What was written has the digest of what was read.
        let again = dir.path().join("again");
        let options = Options { digest: true, ..quick() };
        digests.insert(
            convert(&*source(&out, format_name(&target)), &TargetFormat::Raw, &again, &options)
                .digest
                .unwrap(),
        );
    }
    // A length of whole sectors is part of the digest: qcow2 has no other.
    assert!(digests.len() <= 2, "{digests:?}");
}

#[test]
fn the_digest_is_that_of_its_description() {
    use sha2::{Digest, Sha256};
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("raw");
    raw_disk(&raw, (6 << 20) + 512, 8);
    let outcome = convert(
        &raw_source(&raw),
        &TargetFormat::Raw,
        &dir.path().join("out"),
        &Options { digest: true, ..quick() },
    );
    let bytes = std::fs::read(&raw).unwrap();
    let mut whole = Sha256::new();
    for (number, leaf) in bytes.chunks(256 << 10).enumerate() {
        if leaf.iter().any(|byte| *byte != 0) {
            let mut leaf = leaf.to_vec();
            leaf.resize(256 << 10, 0);
            whole.update((number as u64).to_le_bytes());
            whole.update(Sha256::digest(&leaf));
        }
    }
    whole.update((bytes.len() as u64).to_le_bytes());
    let expected: String = whole.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(outcome.digest.unwrap(), expected);
}

fn sixteen() -> Options {
    Options { threads: Some(16), memory: 128 << 20, ..quick() }
}

fn assert_bounded(outcome: &Outcome) {
    // What tables and pages need beside units must not wait; it is a few pages.
    let slack = 4 << 20;
    assert!(outcome.high_water_bytes <= (128 << 20) + slack, "{}", outcome.high_water_bytes);
    assert_eq!(outcome.threads, 16);
}

/// 1 TiB with data in 64 places.
fn mostly_empty(path: &Path) {
    let file = std::fs::File::create(path).unwrap();
    file.set_len(1 << 40).unwrap();
    let mut noise = Noise::new(3);
    for place in 0..64u64 {
        let bytes = [noise.words(300_000), noise.bytes(100_000)].concat();
        file.write_all_at(&bytes, place * (16 << 30) + 12_345).unwrap();
    }
}

#[test]
fn a_terabyte_that_is_mostly_empty_takes_bounded_memory_and_few_units() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("raw");
    mostly_empty(&raw);
    let back = dir.path().join("back");
    let out = dir.path().join("out");
    for target in [qcow2_target(3, 16, None), qcow2_target(3, 16, Some(zstd()))] {
        let outcome = convert(&raw_source(&raw), &target, &out, &sixteen());
        assert_bounded(&outcome);
        assert!(outcome.units <= 64 * 3, "{}", outcome.units);
        judge(&raw, "raw", &out, "qcow2");
        let source = qcow2_source(&out, Depth::Chain);
        let outcome = convert(&source, &TargetFormat::Raw, &back, &sixteen());
        assert_bounded(&outcome);
        assert!(outcome.units <= 64 * 3, "{}", outcome.units);
        judge(&raw, "raw", &back, "raw");
    }
}

#[test]
fn many_threads_with_little_memory_come_to_an_end_with_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("raw");
    raw_disk(&raw, 20 << 20, 6);
    let mut sums = BTreeSet::new();
    for memory in [1, 1 << 20, 3 << 20, 128 << 20] {
        let options = Options { threads: Some(8), memory, checksum: true, ..quick() };
        let source: Box<dyn Source> = Box::new(raw_source(&raw));
        let outcome =
            convert(&*source, &qcow2_target(3, 16, Some(zlib())), &dir.path().join("out"), &options);
        sums.insert(outcome.sha256.unwrap());
    }
    assert_eq!(sums.len(), 1);
}
