//! Images, made by the reference tool, and conversions of them.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use block::{Access, AllowBelow, ImageFile};
use codec::{Algorithm, Window, ZlibLevel, ZstdLevel};
use coldfit_convert::{
    ConvertError, Destination, Options, Outcome, Qcow2Source, Qcow2Target, RawSource, Source, TargetFormat,
};
use qcow2::{Depth, Qcow2};

/// Runs a reference tool; a missing one fails the test.
pub fn tool(name: &str, args: &[&str]) -> String {
    testkit::tool::run(name, args).unwrap_or_else(|error| panic!("{name} {args:?}: {error}"))
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The same bytes on every run.
pub struct Noise(u64);

impl Noise {
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }

    /// Bytes that compress to about a third.
    pub fn words(&mut self, len: usize) -> Vec<u8> {
        const WORDS: [&str; 12] = [
            "kernel",
            "root",
            "/usr/lib",
            "module",
            "\n",
            "=",
            "#",
            "network",
            "0x",
            "interface",
            "static",
            " ",
        ];
        let mut bytes = Vec::with_capacity(len + 16);
        while bytes.len() < len {
            bytes.extend(WORDS[self.next() as usize % WORDS.len()].as_bytes());
            if self.next().is_multiple_of(5) {
                bytes.extend((self.next() as u32 % 1000).to_string().as_bytes());
            }
        }
        bytes.truncate(len);
        bytes
    }
}

/// A raw disk with text, noise, zero, holes and single bytes in odd places. `len` is at least 4 MiB.
pub fn raw_disk(path: &Path, len: u64, seed: u64) {
    let file = std::fs::File::create(path).unwrap();
    file.set_len(len).unwrap();
    let mut noise = Noise::new(seed);
    let mut at = 0;
    while at + 400_000 < len {
        let piece = match noise.next() % 6 {
            0 => noise.bytes(150_000),
            1 => vec![0; 100_000],
            2 => vec![noise.next() as u8; 70_000],
            3 => {
                at += 300_000;
                vec![1]
            }
            _ => noise.words(200_000),
        };
        file.write_all_at(&piece, at).unwrap();
        at += piece.len() as u64 + noise.next() % 5000;
    }
    file.write_all_at(&[0xaa; 3], len - 3).unwrap();
}

pub fn open(path: &Path) -> ImageFile {
    ImageFile::open(path, Access::Read, &report::Silent).unwrap()
}

pub fn raw_source(path: &Path) -> RawSource {
    RawSource::new(&open(path))
}

pub fn qcow2_image(path: &Path) -> (Arc<Qcow2>, ImageFile) {
    let file = open(path);
    let gate = AllowBelow::new(path.parent().unwrap()).unwrap();
    (Arc::new(Qcow2::open(file.reader(), file.path(), &gate).unwrap()), file)
}

pub fn qcow2_source(path: &Path, depth: Depth) -> Qcow2Source {
    let (image, file) = qcow2_image(path);
    Qcow2Source::new(image, Some(file.handle()), depth)
}

pub fn source(path: &Path, format: &str) -> Box<dyn Source> {
    match format {
        "raw" => Box::new(raw_source(path)),
        _ => Box::new(qcow2_source(path, Depth::Chain)),
    }
}

pub fn zlib() -> Algorithm {
    Algorithm::Zlib { level: ZlibLevel::new(2).unwrap(), window: Window::Strict, fast: false }
}

pub fn zstd() -> Algorithm {
    Algorithm::Zstd { level: ZstdLevel::default() }
}

pub fn qcow2_target(version: u32, cluster_bits: u32, compression: Option<Algorithm>) -> TargetFormat {
    TargetFormat::Qcow2(Qcow2Target { version, cluster_bits, compression, backing: None })
}

pub fn try_convert(
    source: &dyn Source,
    format: &TargetFormat,
    path: &Path,
    options: &Options,
) -> Result<Outcome, ConvertError> {
    let destination = Destination::NewFile { path: path.to_owned(), force: true };
    coldfit_convert::convert(source, format, &destination, options, &report::Silent, &AtomicBool::new(false))
}

pub fn convert(source: &dyn Source, format: &TargetFormat, path: &Path, options: &Options) -> Outcome {
    try_convert(source, format, path, options).unwrap_or_else(|error| panic!("{format:?}: {error}"))
}

/// Tests need no durability.
pub fn quick() -> Options {
    Options { sync: false, ..Options::default() }
}

/// The reference tool finds nothing wrong with `target`, and the same disk in it as in `source`.
pub fn judge(source: &Path, source_format: &str, target: &Path, target_format: &str) {
    if target_format == "qcow2" {
        tool("qemu-img", &["check", "-q", "-f", "qcow2", text(target)]);
    }
    let args = ["compare", "-q", "-f", source_format, "-F", target_format, text(source), text(target)];
    tool("qemu-img", &args);
}

pub fn format_name(format: &TargetFormat) -> &'static str {
    match format {
        TargetFormat::Raw => "raw",
        _ => "qcow2",
    }
}

/// Names in a directory.
pub fn names(dir: &Path) -> Vec<PathBuf> {
    let mut names: Vec<PathBuf> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    names
}
