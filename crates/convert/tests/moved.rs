//! Compressed clusters that are moved as they are.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use block::{Overlay, ReadAt, WriteAt};
use codec::Algorithm;
use coldfit_convert::{Edited, FastPath, Options, TargetFormat};
use common::*;
use qcow2::Depth;

fn by_qemu(raw: &Path, out: &Path, options: &str, extra: &[&str]) {
    let mut args = vec!["convert", "-q", "-f", "raw", "-O", "qcow2", "-c", "-o", options];
    args.extend(extra);
    args.extend([text(raw), text(out)]);
    tool("qemu-img", &args);
}

fn cases() -> Vec<(&'static str, u32, u32, Algorithm)> {
    vec![
        ("cluster_size=64k", 3, 16, zlib()),
        ("cluster_size=64k,compression_type=zstd", 3, 16, zstd()),
        ("cluster_size=4k", 2, 12, zlib()),
        ("cluster_size=512", 3, 9, zlib()),
        ("cluster_size=2M,compression_type=zstd", 3, 21, zstd()),
    ]
}

#[test]
fn moved_clusters_hold_the_same_disk_whatever_order_they_were_written_in() {
    let dir = tempfile::tempdir().unwrap();
    let (raw, image, out) = (dir.path().join("raw"), dir.path().join("image"), dir.path().join("out"));
    raw_disk(&raw, (9 << 20) + 512, 21);
    for (options, version, bits, algorithm) in cases() {
        for extra in [&[][..], &["-m", "8", "-W"]] {
            by_qemu(&raw, &image, options, extra);
            let mut sums = BTreeSet::new();
            for threads in [1, 2, 8] {
                for unit in [256 << 10, 4 << 20] {
                    let options =
                        Options { threads: Some(threads), unit_bytes: Some(unit), checksum: true, ..quick() };
                    let target = qcow2_target(version, bits, Some(algorithm));
                    let outcome = convert(&qcow2_source(&image, Depth::Chain), &target, &out, &options);
                    assert_eq!(outcome.fast_path, Some(FastPath::PassThrough));
                    assert_eq!(outcome.compressed_clusters, 0);
                    assert!(outcome.moved_clusters > 0);
                    assert_eq!(outcome.times.decode, 0);
                    sums.insert(outcome.sha256.unwrap());
                }
            }
            assert_eq!(sums.len(), 1, "{options}");
            judge(&raw, "raw", &out, "qcow2");
        }
    }
}

#[test]
fn only_edited_clusters_are_encoded_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (raw, image, out) = (dir.path().join("raw"), dir.path().join("image"), dir.path().join("out"));
    raw_disk(&raw, 9 << 20, 22);
    for (options, version, bits, algorithm) in cases() {
        by_qemu(&raw, &image, options, &[]);
        let source = qcow2_source(&image, Depth::Chain);
        let overlay = Arc::new(Overlay::new(source.image().clone() as Arc<dyn ReadAt>, 1 << 20, dir.path()));
        overlay.write_all_at(b"edited", 1_234_567).unwrap();
        overlay.write_all_at(&[0; 300_000], 6 << 20).unwrap();
        let expected = dir.path().join("expected");
        let mut bytes = std::fs::read(&raw).unwrap();
        bytes[1_234_567..1_234_573].copy_from_slice(b"edited");
        bytes[6 << 20..(6 << 20) + 300_000].fill(0);
        std::fs::write(&expected, bytes).unwrap();
        let edited = Edited::new(source, overlay.seal().unwrap());
        let target = qcow2_target(version, bits, Some(algorithm));
        let outcome = convert(&edited, &target, &out, &quick());
        assert!(outcome.moved_clusters > 0);
        assert!(outcome.plain_clusters + outcome.compressed_clusters > 0);
        judge(&expected, "raw", &out, "qcow2");
    }
}

#[test]
fn moving_and_decoding_agree_on_the_digest_and_verify_finds_damage() {
    let dir = tempfile::tempdir().unwrap();
    let (raw, image, out) = (dir.path().join("raw"), dir.path().join("image"), dir.path().join("out"));
    raw_disk(&raw, 9 << 20, 23);
    by_qemu(&raw, &image, "cluster_size=64k", &[]);
    let options = Options { digest: true, ..quick() };
    let moved =
        convert(&qcow2_source(&image, Depth::Chain), &qcow2_target(3, 16, Some(zlib())), &out, &options);
    let decoded = convert(&raw_source(&raw), &TargetFormat::Raw, &out, &options);
    assert_eq!(moved.fast_path, Some(FastPath::PassThrough));
    assert_eq!(moved.digest, decoded.digest);

    let slow = Options { fast_paths: false, ..quick() };
    let outcome =
        convert(&qcow2_source(&image, Depth::Chain), &qcow2_target(3, 16, Some(zlib())), &out, &slow);
    assert_eq!((outcome.fast_path, outcome.moved_clusters), (None, 0));
    judge(&raw, "raw", &out, "qcow2");

    // One payload becomes nonsense: a move does not look, verify does.
    let qcow2 = qcow2_image(&image).0;
    let ranges = qcow2.stored(0..9 << 20, Depth::Chain, 1 << 20).unwrap();
    let payload = ranges.iter().find_map(|range| match range.stored {
        qcow2::Stored::Compressed { host_offset, .. } => Some(host_offset),
        _ => None,
    });
    drop(qcow2);
    let file = std::fs::File::options().write(true).open(&image).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xff; 64], payload.unwrap()).unwrap();
    drop(file);
    let target = qcow2_target(3, 16, Some(zlib()));
    let source = qcow2_source(&image, Depth::Chain);
    convert(&source, &target, &out, &quick());
    let error = try_convert(&source, &target, &out, &Options { verify: true, ..quick() }).unwrap_err();
    let place = error.place().unwrap().clone();
    assert_eq!(place.stage, coldfit_convert::Stage::Decode);
    assert!(place.guest.is_some() && place.host.is_some());
}
