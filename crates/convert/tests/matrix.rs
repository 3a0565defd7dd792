//! Every pair of source and target: the reference tool finds the same disk and nothing wrong.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod common;

use std::path::{Path, PathBuf};

use coldfit_convert::TargetFormat;
use common::*;

const DISK: u64 = (5 << 20) + 512;

struct Input {
    name: &'static str,
    path: PathBuf,
    format: &'static str,
}

/// Images of the same kind of disk in all ways that the reference tool can store it.
fn inputs(dir: &Path) -> Vec<Input> {
    let raw = dir.join("disk.raw");
    raw_disk(&raw, DISK, 11);
    let mut inputs = vec![Input { name: "raw", path: raw.clone(), format: "raw" }];
    let mut add = |name: &'static str, path: PathBuf| inputs.push(Input { name, path, format: "qcow2" });
    let stored: [(&'static str, &[&str]); 8] = [
        ("plain", &[]),
        ("v2", &["-o", "compat=0.10"]),
        ("zlib", &["-c"]),
        ("zstd", &["-c", "-o", "compression_type=zstd"]),
        ("zlib-4k", &["-c", "-o", "cluster_size=4k"]),
        ("zstd-2m", &["-c", "-o", "compression_type=zstd,cluster_size=2M"]),
        ("512", &["-o", "cluster_size=512"]),
        ("extended-l2", &["-o", "extended_l2=on,cluster_size=128k"]),
    ];
    for (name, options) in stored {
        let path = dir.join(format!("{name}.qcow2"));
        let mut args = vec!["convert", "-q", "-f", "raw", "-O", "qcow2"];
        args.extend(options);
        args.extend([text(&raw), text(&path)]);
        tool("qemu-img", &args);
        add(name, path);
    }
    // A chain: zero clusters and writes over a compressed image over a shorter raw one.
    let base = dir.join("base.raw");
    raw_disk(&base, 4 << 20, 12);
    let middle = dir.join("middle.qcow2");
    tool("qemu-img", &["create", "-q", "-f", "qcow2", "-b", text(&base), "-F", "raw", text(&middle), "5M"]);
    qemu_io(
        &middle,
        &["write -P 7 1M 300k", "write -c -P 9 2M 64k", "write -z 3M 256k", "write -P 1 4900k 64k"],
    );
    let top = dir.join("chain.qcow2");
    let size = DISK.to_string();
    tool("qemu-img", &["create", "-q", "-f", "qcow2", "-b", text(&middle), "-F", "qcow2", text(&top), &size]);
    qemu_io(&top, &["write -z 1M 64k", "write -P 3 100k 1k", "write -P 4 5M 512"]);
    add("chain", top);
    inputs
}

fn qemu_io(image: &Path, commands: &[&str]) {
    for command in commands {
        tool("qemu-io", &["-f", "qcow2", "-c", command, text(image)]);
    }
}

fn targets() -> Vec<(String, TargetFormat)> {
    let mut targets = vec![("raw".to_owned(), TargetFormat::Raw)];
    for cluster_bits in [9, 12, 16, 21] {
        for (version, name, compression) in [
            (2, "none", None),
            (2, "zlib", Some(zlib())),
            (3, "none", None),
            (3, "zlib", Some(zlib())),
            (3, "zstd", Some(zstd())),
        ] {
            let label = format!("v{version}-{cluster_bits}-{name}");
            targets.push((label, qcow2_target(version, cluster_bits, compression)));
        }
    }
    targets
}

#[test]
fn every_pair_of_formats_holds_the_same_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (inputs, targets) = (inputs(dir.path()), targets());
    let mut pairs = Vec::new();
    for input in &inputs {
        for target in &targets {
            pairs.push((input, target));
        }
    }
    assert!(pairs.len() >= 200, "{}", pairs.len());
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for worker in 0..2 {
            let (pairs, next, dir) = (&pairs, &next, dir.path());
            scope.spawn(move || {
                while let Some((input, (label, target))) =
                    pairs.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
                {
                    let out = dir.join(format!("out-{worker}"));
                    let outcome = convert(&*source(&input.path, input.format), target, &out, &quick());
                    assert_eq!(outcome.target_bytes, out.metadata().unwrap().len(), "{} {label}", input.name);
                    eprintln!("{} -> {label}", input.name);
                    judge(&input.path, input.format, &out, format_name(target));
                }
            });
        }
    });
}
