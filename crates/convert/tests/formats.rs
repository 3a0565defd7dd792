//! VHD and compressed streams as sources and targets: every pair holds the same disk, by the tools that made it or read it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use archive::{Container, Limits};
use coldfit_convert::{
    ArchiveSource, ContainerTarget, ConvertError, Destination, LayoutMaker, Options, Outcome, TargetFormat,
    VhdSource, VhdTarget,
};
use common::*;
use report::Diagnose;

const GZ: Container = Container::Gz { level: 1 };
const XZ: Container = Container::Xz { level: 0 };
const ZST: Container = Container::Zst { level: 1 };
const TAR_GZ: Container = Container::TarGz { level: 1 };

fn other(maker: impl LayoutMaker + 'static) -> TargetFormat {
    TargetFormat::Other(Arc::new(maker))
}

fn fixed() -> TargetFormat {
    other(VhdTarget::Fixed { sparse_bytes: 4096 })
}

fn container(container: Container) -> TargetFormat {
    other(ContainerTarget(container))
}

fn shell(dir: &Path, script: &str) {
    tool("bash", &["-euo", "pipefail", "-c", &format!("cd {}; {script}", text(dir))]);
}

fn vhd_source(path: &Path) -> VhdSource {
    let file = open(path);
    let image = Arc::new(vhd::Vhd::open(file.reader(), file.path()).unwrap());
    VhdSource::new(image, Some(file.handle()))
}

/// Converts whatever `kind` says about the source.
fn convert_from(
    path: &Path,
    kind: &str,
    target: &TargetFormat,
    out: &Path,
    options: &Options,
) -> Result<Outcome, ConvertError> {
    let destination = Destination::NewFile { path: out.to_owned(), force: true };
    let stop = AtomicBool::new(false);
    match kind {
        "stream" => {
            let mut source = ArchiveSource::of_file(&open(path), None, &Limits::default())?;
            coldfit_convert::convert_stream(
                &mut source,
                target,
                &destination,
                options,
                &report::Silent,
                &stop,
            )
        }
        "pipe" => {
            let pipe = Box::new(std::fs::File::open(path).unwrap());
            let mut source = ArchiveSource::of_pipe(pipe, None, &Limits::default())?;
            coldfit_convert::convert_stream(
                &mut source,
                target,
                &destination,
                options,
                &report::Silent,
                &stop,
            )
        }
        "vpc" => try_convert(&vhd_source(path), target, out, options),
        _ => try_convert(&*source(path, kind), target, out, options),
    }
}

/// One disk in all ways that the reference tools can store it: name, file, kind.
fn inputs(dir: &Path, raw: &str) -> Vec<(&'static str, PathBuf, &'static str)> {
    shell(
        dir,
        &format!(
            "rm -f disk.raw; cp --sparse=always {raw} disk.raw
             qemu-img convert -q -f raw -O qcow2 -c disk.raw zlib.qcow2
             qemu-img convert -q -f raw -O vpc -o subformat=fixed,force_size=on disk.raw fixed.vhd
             qemu-img convert -q -f raw -O vpc -o subformat=dynamic,force_size=on disk.raw dynamic.vhd
             gzip -1 -c disk.raw > disk.gz
             (head -c 1000000 disk.raw | gzip -1; tail -c +1000001 disk.raw | gzip -1) > members.gz
             xz -0 -c disk.raw > disk.xz
             zstd -q -1 -f disk.raw -o disk.zst
             tar --format=oldgnu -Sczf sparse.tar.gz disk.raw
             tar --format=posix -cf plain.tar disk.raw"
        ),
    );
    [
        ("raw", "disk.raw", "raw"),
        ("qcow2", "zlib.qcow2", "qcow2"),
        ("vhd-fixed", "fixed.vhd", "vpc"),
        ("vhd-dynamic", "dynamic.vhd", "vpc"),
        ("raw-pipe", "disk.raw", "pipe"),
        ("gz", "disk.gz", "stream"),
        ("gz-members", "members.gz", "pipe"),
        ("xz", "disk.xz", "stream"),
        ("zst", "disk.zst", "pipe"),
        ("tar-gz-sparse", "sparse.tar.gz", "stream"),
        ("tar", "plain.tar", "pipe"),
    ]
    .into_iter()
    .map(|(name, file, kind)| (name, dir.join(file), kind))
    .collect()
}

fn targets() -> Vec<(&'static str, TargetFormat)> {
    vec![
        ("raw", TargetFormat::Raw),
        ("qcow2", qcow2_target(3, 16, None)),
        ("qcow2-zstd", qcow2_target(3, 16, Some(zstd()))),
        ("vhd-fixed", fixed()),
        ("vhd-dynamic", other(VhdTarget::Dynamic)),
        ("gz", container(GZ)),
        ("xz", container(XZ)),
        ("zst", container(ZST)),
        ("tar.gz", container(TAR_GZ)),
    ]
}

/// The reference tool finds the disk `raw` in `out`, with its exact length, and nothing wrong.
fn judge_target(raw: &Path, out: &Path, label: &str) {
    let dir = out.parent().unwrap();
    let (raw, name) = (text(raw), text(out));
    match label {
        "raw" => shell(dir, &format!("cmp {raw} {name}")),
        "qcow2" | "qcow2-zstd" => {
            judge(Path::new(raw), "raw", out, "qcow2");
        }
        "vhd-fixed" | "vhd-dynamic" => {
            judge(Path::new(raw), "raw", out, "vpc");
            let info = tool("qemu-img", &["info", "-f", "vpc", "--output=json", name]);
            let info: serde_json::Value = serde_json::from_str(&info).unwrap();
            assert_eq!(info["virtual-size"], std::fs::metadata(raw).unwrap().len(), "{label}");
            let image = vhd_source(out);
            assert!(image.image().check().unwrap().is_clean());
            let is_fixed = image.image().kind() == vhd::DiskKind::Fixed;
            assert_eq!(is_fixed, label == "vhd-fixed");
        }
        "gz" => shell(dir, &format!("gzip -t < {name}; gzip -dc < {name} | cmp - {raw}")),
        "xz" => shell(dir, &format!("xz -t < {name}; xz -dc < {name} | cmp - {raw}")),
        "zst" => shell(dir, &format!("zstd -q -t < {name}; zstd -dc < {name} | cmp - {raw}")),
        _ => shell(
            dir,
            &format!(
                "gzip -t < {name}; test \"$(tar -tf {name})\" = disk.raw; tar -xOzf {name} | cmp - {raw}"
            ),
        ),
    }
}

#[test]
fn every_pair_with_vhd_and_streams_holds_the_same_disk() {
    for (size, seed) in [((5 << 20) + 512, 21), (6 << 20, 22)] {
        let dir = tempfile::tempdir().unwrap();
        let raw = dir.path().join("original");
        raw_disk(&raw, size, seed);
        let (inputs, targets) = (inputs(dir.path(), text(&raw)), targets());
        let pairs: Vec<_> =
            inputs.iter().flat_map(|input| targets.iter().map(move |target| (input, target))).collect();
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for worker in 0..2 {
                let (pairs, next, raw) = (&pairs, &next, &raw);
                let out = dir.path().join(format!("out-{worker}"));
                scope.spawn(move || {
                    while let Some(((from, path, kind), (to, target))) =
                        pairs.get(next.fetch_add(1, Ordering::Relaxed))
                    {
                        eprintln!("{size}: {from} -> {to}");
                        match convert_from(path, kind, target, &out, &quick()) {
                            Ok(outcome) => {
                                assert_eq!(outcome.virtual_bytes, size, "{from} -> {to}");
                                assert_eq!(
                                    outcome.target_bytes,
                                    out.metadata().unwrap().len(),
                                    "{from} -> {to}"
                                );
                                judge_target(raw, &out, to);
                            }
                            // Streams that say their length at the end only, to formats that need it at the start.
                            Err(error) => {
                                let needs_length = matches!(*to, "vhd-dynamic" | "tar.gz");
                                let tells_late =
                                    matches!(*kind, "stream" | "pipe") && !from.starts_with("tar");
                                assert!(needs_length && tells_late, "{from} -> {to}: {error}");
                                assert_eq!(error.code(), "convert.target.length");
                            }
                        }
                    }
                });
            }
        });
    }
}

#[test]
fn threads_units_and_the_kind_of_source_do_not_show_in_the_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("original");
    raw_disk(&raw, (13 << 20) + 512, 5);
    let inputs = inputs(dir.path(), text(&raw));
    let (out, first) = (dir.path().join("out"), dir.path().join("first"));
    for (to, target) in targets().iter().skip(3) {
        let options = Options { threads: Some(1), unit_bytes: Some(1 << 20), ..quick() };
        convert_from(&inputs[0].1, "raw", target, &first, &options).unwrap();
        let expected = std::fs::read(&first).unwrap();
        for threads in [1, 2, 8] {
            for unit in [256 << 10, 1 << 20, 4 << 20] {
                let options = Options { threads: Some(threads), unit_bytes: Some(unit), ..quick() };
                convert_from(&inputs[0].1, "raw", target, &out, &options).unwrap();
                assert!(std::fs::read(&out).unwrap() == expected, "{to}: {threads} threads, units of {unit}");
            }
        }
        for (from, path, kind) in &inputs {
            if convert_from(path, kind, target, &out, &quick()).is_ok() {
                assert!(std::fs::read(&out).unwrap() == expected, "{from} -> {to}");
            }
        }
    }
}

#[test]
fn an_image_says_that_it_is_another_one_when_its_disk_is() {
    let dir = tempfile::tempdir().unwrap();
    let mut ids = Vec::new();
    for seed in [1, 2] {
        let raw = dir.path().join("raw");
        raw_disk(&raw, 5 << 20, seed);
        for target in [fixed(), other(VhdTarget::Dynamic)] {
            let out = dir.path().join("out");
            convert(&raw_source(&raw), &target, &out, &quick());
            ids.push(vhd_source(&out).image().footer().identity.unique_id);
        }
    }
    assert_eq!(ids[0], ids[1], "one disk, fixed and dynamic");
    assert_ne!(ids[0], ids[2]);
}

#[test]
fn zeroes_of_a_stream_stay_holes_in_the_target() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    shell(
        dir.path(),
        "truncate -s 96M disk.raw; printf x | dd of=disk.raw conv=notrunc bs=1M seek=50 status=none",
    );
    shell(dir.path(), "gzip -1 -k disk.raw; tar --format=gnu -Scf disk.tar disk.raw");
    let out = dir.path().join("out");
    for (file, kind) in [("disk.gz", "stream"), ("disk.tar", "pipe")] {
        let path = dir.path().join(if file == "disk.gz" { "disk.raw.gz" } else { file });
        for (to, target) in targets().iter().take(5) {
            if convert_from(&path, kind, target, &out, &quick()).is_ok() {
                let stored = out.metadata().unwrap().blocks() * 512;
                assert!(stored <= 3 << 20, "{file} -> {to}: {stored} bytes stored");
                judge_target(&dir.path().join("disk.raw"), &out, to);
            }
        }
    }
}

#[test]
fn disks_that_a_format_cannot_hold_are_refused_and_nothing_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let (raw, out) = (dir.path().join("raw"), dir.path().join("out"));
    for (size, expected) in
        [(0u64, "vhd.size"), ((5 << 20) + 100, "vhd.size"), ((2040 << 30) + 512, "vhd.size")]
    {
        std::fs::File::create(&raw).unwrap().set_len(size).unwrap();
        for target in [fixed(), other(VhdTarget::Dynamic)] {
            let error = try_convert(&raw_source(&raw), &target, &out, &quick()).unwrap_err();
            assert_eq!(error.code(), expected, "{size}");
            // A stream says so at its end.
            if size < 1 << 30 {
                let error = convert_from(&raw, "pipe", &target, &out, &quick()).unwrap_err();
                assert!(matches!(error.code(), "vhd.size" | "convert.target.length"), "{error}");
            }
            assert_eq!(names(dir.path()), [raw.as_path()]);
        }
    }
    // Streams hold any length.
    std::fs::write(&raw, Noise::new(3).words(2_100_001)).unwrap();
    for (to, target) in targets().iter().skip(5) {
        convert(&raw_source(&raw), target, &out, &quick());
        judge_target(&raw, &out, to);
    }
    std::fs::write(&raw, b"").unwrap();
    for (to, target) in targets().iter().skip(5) {
        convert(&raw_source(&raw), target, &out, &quick());
        judge_target(&raw, &out, to);
    }
}

#[test]
fn damaged_and_truncated_streams_leave_no_target() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("original");
    raw_disk(&raw, 6 << 20, 9);
    inputs(dir.path(), text(&raw));
    for file in ["disk.gz", "disk.xz", "disk.zst", "sparse.tar.gz", "plain.tar"] {
        let whole = std::fs::read(dir.path().join(file)).unwrap();
        let cut = dir.path().join("cut");
        std::fs::write(&cut, &whole[..whole.len() * 2 / 3]).unwrap();
        let before = names(dir.path());
        for target in [TargetFormat::Raw, qcow2_target(3, 16, None), fixed()] {
            let out = dir.path().join("target");
            let error = convert_from(&cut, "stream", &target, &out, &quick()).unwrap_err();
            assert_eq!(error.code(), "archive.truncated", "{file}");
            assert_eq!(names(dir.path()), before, "{file}");
        }
    }
}

#[test]
fn a_mostly_empty_terabyte_becomes_a_small_dynamic_image_with_its_exact_size() {
    let dir = tempfile::tempdir().unwrap();
    let (raw, out) = (dir.path().join("raw"), dir.path().join("out"));
    let size = (1 << 40) + (1 << 20);
    let file = std::fs::File::create(&raw).unwrap();
    file.set_len(size).unwrap();
    for at in [0, 700 << 30, size - 512] {
        std::os::unix::fs::FileExt::write_all_at(&file, &[0x77; 512], at).unwrap();
    }
    let outcome = convert(&raw_source(&raw), &other(VhdTarget::Dynamic), &out, &quick());
    assert!(outcome.target_bytes < 16 << 20, "{}", outcome.target_bytes);
    judge_target(&raw, &out, "vhd-dynamic");
    let back = dir.path().join("back.qcow2");
    convert(&vhd_source(&out), &qcow2_target(3, 16, None), &back, &quick());
    judge(&raw, "raw", &back, "qcow2");
}
