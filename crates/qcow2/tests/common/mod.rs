//! Images made by qemu-img and qemu-io, and small helpers around these tools.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)] // Each test binary uses its part.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use block::{AllowBelow, ChangeSet, FileDevice, HostPlan, Overlay, WriteAt};
use coldfit_qcow2::Qcow2;

pub const KIB: u64 = 1024;
pub const MIB: u64 = 1024 * KIB;

/// Runs a reference tool; a missing tool fails the test.
pub fn tool(program: &str, args: &[&str]) -> Output {
    Command::new(program).args(args).output().unwrap_or_else(|error| panic!("{program} cannot run: {error}"))
}

/// Runs a reference tool that has to succeed; its standard output.
pub fn run(program: &str, args: &[&str]) -> String {
    let output = tool(program, args);
    assert!(
        output.status.success(),
        "{program} {args:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A small deterministic generator (xorshift).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 11) % bound.max(1)
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Backing {
    None,
    Raw,
    /// Raw and only half as long as the overlay.
    ShortRaw,
    /// A compressed qcow2 over a raw file.
    Qcow2Chain,
}

/// One image of the matrix.
#[derive(Debug, Clone)]
pub struct Spec {
    pub compat: &'static str,
    pub cluster: u64,
    pub refcount_bits: u32,
    /// `none`, `zlib` or `zstd`.
    pub compression: &'static str,
    pub snapshots: u32,
    pub backing: Backing,
    pub lazy: bool,
    pub preallocation: &'static str,
}

impl Spec {
    pub fn name(&self) -> String {
        format!(
            "compat={} cluster={} refcount={} {} snapshots={} backing={:?}{} prealloc={}",
            self.compat,
            self.cluster,
            self.refcount_bits,
            self.compression,
            self.snapshots,
            self.backing,
            if self.lazy { " lazy" } else { "" },
            self.preallocation
        )
    }

    /// Not a multiple of the cluster size: the last cluster is partial.
    pub fn virtual_size(&self) -> u64 {
        let clusters = match self.cluster {
            512 => 3001,
            1024 => 3001,
            4096 => 1501,
            65_536 => 301,
            _ => 13,
        };
        clusters * self.cluster + if self.cluster > 512 { 512 } else { 0 }
    }

    pub fn options(&self) -> String {
        let mut options = format!(
            "compat={},cluster_size={},refcount_bits={}",
            self.compat, self.cluster, self.refcount_bits
        );
        if self.lazy {
            options += ",lazy_refcounts=on";
        }
        if self.compression == "zstd" {
            options += ",compression_type=zstd";
        }
        options
    }
}

pub fn matrix() -> Vec<Spec> {
    let mut specs = Vec::new();
    let plain = Spec {
        compat: "1.1",
        cluster: 65_536,
        refcount_bits: 16,
        compression: "none",
        snapshots: 0,
        backing: Backing::None,
        lazy: false,
        preallocation: "off",
    };
    for cluster in [512, 1024, 4096, 65_536, 2 * MIB] {
        let base = Spec { cluster, ..plain.clone() };
        specs.push(Spec { compat: "0.10", ..base.clone() });
        specs.push(Spec { compat: "0.10", compression: "zlib", snapshots: 2, ..base.clone() });
        specs.push(Spec { compat: "0.10", backing: Backing::ShortRaw, snapshots: 1, ..base.clone() });
        specs.push(Spec { compression: "zlib", ..base.clone() });
        specs.push(Spec { compression: "zstd", snapshots: 2, ..base.clone() });
        specs.push(Spec { snapshots: 3, refcount_bits: 8, ..base.clone() });
        specs.push(Spec { backing: Backing::Qcow2Chain, lazy: true, ..base.clone() });
    }
    for refcount_bits in [1, 2, 4, 8, 32, 64] {
        let base = Spec { refcount_bits, ..plain.clone() };
        specs.push(Spec { cluster: 512, ..base.clone() });
        // Many small payloads share a cluster: narrow refcounts leave no room for a snapshot of them.
        let snapshots = if refcount_bits >= 32 { 1 } else { 0 };
        specs.push(Spec { cluster: 4096, compression: "zlib", snapshots, ..base.clone() });
        if refcount_bits > 1 {
            specs.push(Spec { cluster: 4096, snapshots: 1, ..base.clone() });
        }
        specs.push(Spec { backing: Backing::Raw, ..base });
    }
    for preallocation in ["metadata", "falloc", "full"] {
        specs.push(Spec { preallocation, cluster: 4096, ..plain.clone() });
        specs.push(Spec { preallocation, lazy: true, snapshots: 1, ..plain.clone() });
    }
    specs
}

/// Compressible, position-dependent content with zero runs; never periodic in the cluster size.
pub fn pattern(len: u64, seed: u64) -> Vec<u8> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut bytes = Vec::with_capacity(len as usize);
    while (bytes.len() as u64) < len {
        let run = (random.below(3000) + 1).min(len - bytes.len() as u64) as usize;
        match random.below(4) {
            0 => bytes.resize(bytes.len() + run, 0),
            1 => bytes.extend(random.bytes(run.min(700))),
            _ => bytes.resize(bytes.len() + run, random.next() as u8),
        }
    }
    bytes
}

/// Makes the image of `spec` in `dir`.
pub fn make(spec: &Spec, dir: &Path) -> PathBuf {
    let size = spec.virtual_size();
    let image = dir.join("image.qcow2");
    let options = spec.options();
    let base = dir.join("base.raw");
    if spec.backing != Backing::None {
        let len = if spec.backing == Backing::ShortRaw { size / 2 / 512 * 512 } else { size };
        std::fs::write(&base, pattern(len, 7)).unwrap();
    }
    match (spec.backing, spec.compression) {
        (Backing::None, "none") => {
            let options = format!("{options},preallocation={}", spec.preallocation);
            run(
                "qemu-img",
                &["create", "-q", "-f", "qcow2", "-o", &options, text(&image), &size.to_string()],
            );
        }
        (Backing::None, _) => {
            let raw = dir.join("source.raw");
            std::fs::write(&raw, pattern(size, 3)).unwrap();
            run(
                "qemu-img",
                &["convert", "-c", "-f", "raw", "-O", "qcow2", "-o", &options, text(&raw), text(&image)],
            );
            std::fs::remove_file(raw).unwrap();
        }
        (Backing::Qcow2Chain, _) => {
            let middle = dir.join("middle.qcow2");
            run("qemu-img", &["create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", text(&middle)]);
            let at = format!("write -P 0x77 {} 300k", 128 * KIB);
            run("qemu-io", &["-f", "qcow2", "-c", &at, "-c", "write -c -P 0x78 64k 64k", text(&middle)]);
            let size = size.to_string();
            run(
                "qemu-img",
                &[
                    "create",
                    "-q",
                    "-f",
                    "qcow2",
                    "-o",
                    &options,
                    "-b",
                    "middle.qcow2",
                    "-F",
                    "qcow2",
                    text(&image),
                    &size,
                ],
            );
        }
        (_, _) => {
            let size = size.to_string();
            run(
                "qemu-img",
                &[
                    "create",
                    "-q",
                    "-f",
                    "qcow2",
                    "-o",
                    &options,
                    "-b",
                    "base.raw",
                    "-F",
                    "raw",
                    text(&image),
                    &size,
                ],
            );
        }
    }
    scribble(spec, &image, 1);
    for snapshot in 0..spec.snapshots {
        run("qemu-img", &["snapshot", "-c", &format!("snap{snapshot}"), text(&image)]);
        scribble(spec, &image, 2 + u64::from(snapshot));
    }
    image
}

/// Writes, zeroes, discards and compressed writes by qemu-io.
fn scribble(spec: &Spec, image: &Path, seed: u64) {
    let mut random = Random(0x1234_5678_9abc_def1 ^ seed << 20);
    let size = spec.virtual_size();
    let sectors = size / 512;
    let mut commands: Vec<String> = Vec::new();
    let mut compressed: Vec<String> = Vec::new();
    for round in 0..14u64 {
        let start = random.below(sectors);
        let most = (spec.cluster * 6 / 512).min(sectors - start).max(1);
        let len = random.below(most) + 1;
        let (start, len) = (start * 512, len * 512);
        commands.push(match round % 7 {
            0..=2 => format!("write -P {} {start} {len}", random.below(255) + 1),
            3 => format!("write -z {start} {len}"),
            4 => format!("write -z -u {start} {len}"),
            5 => format!("discard {start} {len}"),
            _ => {
                let first = (start / spec.cluster).min(size / spec.cluster - 1) * spec.cluster;
                compressed.push(format!("write -c -P {} {first} {}", random.below(255) + 1, spec.cluster));
                continue;
            }
        });
    }
    if spec.compat == "1.1" {
        commands.push(format!("write -z {} {}", spec.cluster * 2, spec.cluster * 2));
    }
    let mut args = vec!["-t", "unsafe", "-f", "qcow2", "-d", "unmap"];
    for command in &commands {
        args.extend(["-c", command.as_str()]);
    }
    args.push(text(image));
    run("qemu-io", &args);
    // QEMU refuses a compressed write into an allocated cluster; some of these get through.
    for command in &compressed {
        tool("qemu-io", &["-t", "unsafe", "-f", "qcow2", "-c", command, text(image)]);
    }
}

pub fn open(path: &Path) -> Qcow2 {
    let gate = AllowBelow::new(path.parent().unwrap()).unwrap();
    Qcow2::open(Arc::new(FileDevice::open_read(path).unwrap()), path, &gate).unwrap()
}

/// The content as `qemu-img convert` reads it; `snapshot` reads an internal snapshot.
pub fn content_by_qemu(image: &Path, snapshot: Option<&str>) -> Vec<u8> {
    let raw = image.with_extension(format!("converted{}", snapshot.unwrap_or_default()));
    let mut args = vec!["convert", "-f", "qcow2", "-O", "raw"];
    if let Some(snapshot) = snapshot {
        args.extend(["-l", snapshot]);
    }
    args.extend([text(image), text(&raw)]);
    run("qemu-img", &args);
    let bytes = std::fs::read(&raw).unwrap();
    std::fs::remove_file(raw).unwrap();
    bytes
}

/// Runs `each` over all items on two threads; panics carry the item's name.
pub fn in_parallel<T: Sync>(items: &[T], each: impl Fn(&T) + Sync) {
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    each(item);
                }
            });
        }
    });
}

/// Seeded writes of all kinds over an overlay on `image`; the same ones are made in `model`.
pub fn edit(image: &Arc<Qcow2>, model: &mut [u8], spec: &Spec, seed: u64) -> ChangeSet {
    let overlay = Arc::new(Overlay::new(Arc::clone(image) as Arc<_>, 64 * MIB, std::env::temp_dir()));
    let mut random = Random(seed | 1);
    let size = model.len() as u64;
    let mut write = |at: u64, bytes: &[u8]| {
        overlay.write_all_at(bytes, at).unwrap();
        model[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
    };
    for round in 0..24 {
        let at = random.below(size);
        let most = match round % 6 {
            0 => 40,
            1 => spec.cluster,
            2 => spec.cluster * 4,
            3 => size / 8,
            _ => 5000,
        };
        let len = (random.below(most) + 1).min(size - at) as usize;
        match random.below(5) {
            0 => write(at, &vec![0; len]),
            1 => write(
                at / spec.cluster * spec.cluster,
                &vec![0; spec.cluster.min(size - at / spec.cluster * spec.cluster) as usize],
            ),
            _ => write(at, &random.bytes(len)),
        }
    }
    write(size - 3, b"end");
    overlay.seal().unwrap()
}

/// Applies a plan to the file that it was made for, as a transaction does, without its journal.
pub fn apply(plan: &HostPlan, path: &Path) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    assert_eq!(file.metadata().unwrap().len(), plan.old_len);
    assert!(plan.new_len >= plan.old_len);
    file.set_len(plan.new_len).unwrap();
    for write in &plan.writes {
        assert!(write.host_offset + write.len() <= plan.new_len);
        let mut bytes = vec![0; write.len() as usize];
        plan.read_source(write, 0, &mut bytes).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &bytes, write.host_offset).unwrap();
    }
}

/// Our check and `qemu-img check` say the same about the image; returns leaks and corruptions.
pub fn check_like_qemu(path: &Path, what: &str) -> (u64, u64) {
    let output = tool("qemu-img", &["check", "-f", "qcow2", "--output=json", text(path)]);
    let theirs: serde_json::Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{what}: qemu-img check: {error}: {output:?}"));
    let field = |name: &str| theirs.get(name).and_then(serde_json::Value::as_u64).unwrap_or(0);
    let ours = open(path).check().unwrap();
    let pairs = [
        ("corruptions", ours.corruptions),
        ("leaks", ours.leaks),
        ("total-clusters", ours.total_clusters),
        ("allocated-clusters", ours.allocated_clusters),
        ("compressed-clusters", ours.compressed_clusters),
        ("image-end-offset", ours.image_end_offset),
    ];
    for (name, value) in pairs {
        assert_eq!(value, field(name), "{what}: {name}: {:?} {theirs}", ours.problems);
    }
    (ours.leaks, ours.corruptions)
}
