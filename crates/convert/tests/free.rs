//! What is free is not copied: the target equals the source with these ranges zeroed, and nothing else is missing.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod common;

use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use coldfit_convert::{FreeSkipped, PieceKind, Source, TargetFormat};
use common::*;
use qcow2::Depth;

const LEN: u64 = 16 << 20;
const CLUSTER: u64 = 65_536;

/// From single sectors to many clusters, some at the edges of clusters and of the disk.
fn free() -> Vec<Range<u64>> {
    let mut ranges =
        vec![0..512, LEN - CLUSTER..LEN, 5 * CLUSTER..7 * CLUSTER, 9 * CLUSTER - 512..9 * CLUSTER];
    let mut noise = Noise::new(11);
    let mut at = 12 * CLUSTER;
    while at < LEN - 8 * CLUSTER {
        let len = 512 * (1 + noise.next() % 400);
        ranges.push(at..at + len);
        at += len + 512 * (1 + noise.next() % 300);
    }
    ranges
}

fn zeroed(from: &Path, to: &Path, ranges: &[Range<u64>]) {
    std::fs::copy(from, to).unwrap();
    let file = std::fs::File::options().write(true).open(to).unwrap();
    for range in ranges {
        file.write_all_at(&vec![0; (range.end - range.start) as usize], range.start).unwrap();
    }
}

#[test]
fn the_target_has_zeroes_in_free_ranges_and_everything_else() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    raw_disk(&at("disk.raw"), LEN, 3);
    zeroed(&at("disk.raw"), &at("expected.raw"), &free());
    tool("qemu-img", &["convert", "-c", "-O", "qcow2", text(&at("disk.raw")), text(&at("disk.qcow2"))]);
    for (name, format) in [("disk.raw", "raw"), ("disk.qcow2", "qcow2")] {
        for target in [TargetFormat::Raw, qcow2_target(3, 16, None), qcow2_target(3, 12, Some(zlib()))] {
            let source = FreeSkipped::new(source(&at(name), format), free());
            let outcome = convert(&source, &target, &at("out"), &quick());
            judge(&at("expected.raw"), "raw", &at("out"), format_name(&target));
            let whole = convert(&*common::source(&at(name), format), &target, &at("out"), &quick());
            assert!(outcome.mapped_bytes < whole.mapped_bytes, "{name} to {target:?}");
        }
    }
}

#[test]
fn clusters_that_are_to_be_moved_are_left_out_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    raw_disk(&at("disk.raw"), LEN, 3);
    tool("qemu-img", &["convert", "-c", "-O", "qcow2", text(&at("disk.raw")), text(&at("disk.qcow2"))]);
    let stored = qcow2_source(&at("disk.qcow2"), Depth::Chain).map(0..LEN, usize::MAX).unwrap();
    let compressed: Vec<Range<u64>> = stored
        .iter()
        .filter(|piece| matches!(piece.kind, PieceKind::Compressed { .. }))
        .map(|piece| piece.offset..piece.end())
        .collect();
    let is_compressed = |byte: u64| compressed.iter().any(|cluster| cluster.contains(&byte));
    // Free parts of compressed clusters count only where the whole cluster is free.
    let mut expected = Vec::new();
    for range in free() {
        let mut at = range.start;
        while at < range.end {
            let cluster = at - at % CLUSTER;
            let end = (cluster + CLUSTER).min(range.end);
            if !is_compressed(at) || (range.start <= cluster && range.end >= cluster + CLUSTER) {
                expected.push(at..end);
            }
            at = end;
        }
    }
    zeroed(&at("disk.raw"), &at("expected.raw"), &expected);
    let source = FreeSkipped::new(qcow2_source(&at("disk.qcow2"), Depth::Chain), free()).keep_clusters();
    let pieces = source.map(0..LEN, usize::MAX).unwrap();
    let mut next = 0;
    for piece in &pieces {
        assert_eq!(piece.offset, next);
        next = piece.end();
        if matches!(piece.kind, PieceKind::Compressed { .. }) {
            assert_eq!((piece.offset % CLUSTER, piece.len), (0, CLUSTER));
        }
    }
    assert_eq!(next, LEN);
    assert!(pieces.iter().filter(|piece| matches!(piece.kind, PieceKind::Compressed { .. })).count() > 20);
    convert(&source, &qcow2_target(3, 16, Some(zlib())), &at("out"), &quick());
    judge(&at("expected.raw"), "raw", &at("out"), "qcow2");
    // A map of any part is that part of the map.
    for start in (0..LEN).step_by(40_960) {
        for piece in source.map(start..(start + 100_000).min(LEN), usize::MAX).unwrap() {
            let whole =
                pieces.iter().find(|whole| (whole.offset..whole.end()).contains(&piece.offset)).unwrap();
            assert_eq!(whole.reads_zero(), piece.reads_zero(), "{piece:?} is not {whole:?}");
        }
    }
}
