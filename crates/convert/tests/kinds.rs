//! Targets that exist, streams, kept backing files, edits and free space.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod common;

use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use block::{Overlay, ReadAt, WriteAt};
use coldfit_convert::{
    BackingName, ConvertError, Destination, Edited, FreeSkipped, Outcome, Qcow2Target, Source, StreamSource,
    TargetFormat,
};
use common::*;
use qcow2::Depth;
use report::Diagnose;

fn into_existing(source: &dyn Source, path: &Path) -> Result<Outcome, ConvertError> {
    let destination = Destination::Existing(path.to_owned());
    coldfit_convert::convert(
        source,
        &TargetFormat::Raw,
        &destination,
        &quick(),
        &report::Silent,
        &AtomicBool::new(false),
    )
}

#[test]
fn an_existing_file_keeps_its_length_and_loses_its_old_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (raw, out) = (dir.path().join("raw"), dir.path().join("out"));
    raw_disk(&raw, 8 << 20, 1);
    std::fs::write(&out, vec![0xee; 9 << 20]).unwrap();
    into_existing(&raw_source(&raw), &out).unwrap();
    let (expected, found) = (std::fs::read(&raw).unwrap(), std::fs::read(&out).unwrap());
    assert!(found[..8 << 20] == expected[..]);
    assert!(found[8 << 20..].iter().all(|byte| *byte == 0xee));

    std::fs::File::options().write(true).open(&out).unwrap().set_len(1 << 20).unwrap();
    let error = into_existing(&raw_source(&raw), &out).unwrap_err();
    assert_eq!(error.code(), "convert.target.too-small");
    let error = into_existing(&raw_source(&raw), &raw).unwrap_err();
    assert_eq!(error.code(), "target.refused");
}

/// A file read from front to back.
struct Piped {
    file: std::fs::File,
    len: Option<u64>,
}

impl StreamSource for Piped {
    fn len(&self) -> Option<u64> {
        self.len
    }

    fn fill(&mut self, buf: &mut [u8]) -> Result<usize, ConvertError> {
        let mut filled = 0;
        while filled < buf.len() {
            match self.file.read(&mut buf[filled..]).unwrap() {
                0 => break,
                step => filled += step,
            }
        }
        Ok(filled)
    }
}

fn from_pipe(
    path: &Path,
    len: Option<u64>,
    target: &TargetFormat,
    out: &Path,
) -> Result<Outcome, ConvertError> {
    let mut source = Piped { file: std::fs::File::open(path).unwrap(), len };
    let destination = Destination::NewFile { path: out.to_owned(), force: true };
    coldfit_convert::convert_stream(
        &mut source,
        target,
        &destination,
        &quick(),
        &report::Silent,
        &AtomicBool::new(false),
    )
}

#[test]
fn a_stream_gives_the_same_bytes_as_a_file_whether_its_length_is_known_or_not() {
    let dir = tempfile::tempdir().unwrap();
    let (raw, out) = (dir.path().join("raw"), dir.path().join("out"));
    raw_disk(&raw, (8 << 20) + 512, 2);
    for target in [TargetFormat::Raw, qcow2_target(3, 16, None), qcow2_target(3, 16, Some(zstd()))] {
        convert(&raw_source(&raw), &target, &out, &quick());
        let expected = std::fs::read(&out).unwrap();
        for len in [None, Some((8 << 20) + 512)] {
            from_pipe(&raw, len, &target, &out).unwrap();
            assert!(std::fs::read(&out).unwrap() == expected, "{target:?} {len:?}");
        }
    }
    let error = from_pipe(&raw, Some(9 << 20), &TargetFormat::Raw, &out).unwrap_err();
    assert_eq!(error.code(), "convert.decode");
}

#[test]
fn a_kept_backing_file_shows_through_and_zero_over_it_stays_zero() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("base.raw");
    raw_disk(&base, 8 << 20, 3);
    for (number, options) in
        ["cluster_size=64k", "extended_l2=on,cluster_size=64k", "compat=0.10"].iter().enumerate()
    {
        let top = dir.path().join(format!("top{number}.qcow2"));
        let args = ["create", "-q", "-f", "qcow2", "-o", options, "-b", text(&base), "-F", "raw", text(&top)];
        tool("qemu-img", &args);
        for command in [
            "write -P 9 1M 4k",
            "write -z 2M 192k",
            "write -z 2300k 4k",
            "write -c -P 5 4M 64k",
            "write -P 0 5M 64k",
        ] {
            tool("qemu-io", &["-f", "qcow2", "-c", command, text(&top)]);
        }
        for (version, cluster_bits, compression) in [
            (3, 16, None),
            (3, 17, Some(zlib())),
            (3, 12, Some(zstd())),
            (2, 16, None),
            (2, 14, Some(zlib())),
        ] {
            let backing = Some(BackingName { name: text(&base).into(), format: "raw".into() });
            let target = TargetFormat::Qcow2(Qcow2Target { version, cluster_bits, compression, backing });
            let out = dir.path().join("out.qcow2");
            let outcome = convert(&qcow2_source(&top, Depth::Top), &target, &out, &quick());
            judge(&top, "qcow2", &out, "qcow2");
            assert!(outcome.mapped_bytes < 1 << 20, "{outcome:?}");
            let info = tool("qemu-img", &["info", "-f", "qcow2", text(&out)]);
            assert!(info.contains("backing file format: raw"), "{info}");
        }
    }
}

#[test]
fn edits_are_in_the_copy_and_not_in_the_source() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("raw");
    raw_disk(&raw, 8 << 20, 4);
    let compressed = dir.path().join("zlib.qcow2");
    tool("qemu-img", &["convert", "-q", "-c", "-O", "qcow2", "-f", "raw", text(&raw), text(&compressed)]);
    let before = std::fs::read(&compressed).unwrap();
    let source = qcow2_source(&compressed, Depth::Chain);
    let overlay = Arc::new(Overlay::new(source.image().clone() as Arc<dyn ReadAt>, 1 << 20, dir.path()));
    let mut expected = std::fs::read(&raw).unwrap();
    overlay.grow((9 << 20) + 512).unwrap();
    expected.resize((9 << 20) + 512, 0);
    for (offset, len, byte) in
        [(5usize, 3usize, 1u8), (3 << 20, 200_000, 0), (4_444_444, 70_000, 7), (9 << 20, 512, 2)]
    {
        overlay.write_all_at(&vec![byte; len], offset as u64).unwrap();
        expected[offset..offset + len].fill(byte);
    }
    let expected_path = dir.path().join("expected");
    std::fs::write(&expected_path, &expected).unwrap();
    let edited = Edited::new(source, overlay.seal().unwrap());
    for target in [TargetFormat::Raw, qcow2_target(3, 16, Some(zlib())), qcow2_target(3, 12, None)] {
        let out = dir.path().join("out");
        convert(&edited, &target, &out, &quick());
        judge(&expected_path, "raw", &out, format_name(&target));
    }
    assert!(std::fs::read(&compressed).unwrap() == before);
}

#[test]
fn free_ranges_become_holes_and_nothing_else_changes() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("raw");
    raw_disk(&raw, 8 << 20, 7);
    let free = vec![1_000_000..1_500_000, 0..4096, 3_000_000..3_000_001, 1_400_000..2_000_000];
    let expected = dir.path().join("expected");
    std::fs::copy(&raw, &expected).unwrap();
    let file = std::fs::File::options().write(true).open(&expected).unwrap();
    for range in &free {
        file.write_all_at(&vec![0; (range.end - range.start) as usize], range.start).unwrap();
    }
    let compressed = dir.path().join("zlib.qcow2");
    convert(&raw_source(&raw), &qcow2_target(3, 16, Some(zlib())), &compressed, &quick());
    let out = dir.path().join("out");
    for source in
        [Box::new(raw_source(&raw)) as Box<dyn Source>, Box::new(qcow2_source(&compressed, Depth::Chain))]
    {
        let source = FreeSkipped::new(source, free.clone());
        for target in [TargetFormat::Raw, qcow2_target(3, 16, Some(zlib()))] {
            convert(&source, &target, &out, &quick());
            judge(&expected, "raw", &out, format_name(&target));
        }
    }
}
