//! `coldfit convert` beside `qemu-img convert` with its best options, on the same files in one run.
//!
//! `cargo bench --bench convert` makes payloads (a tree of real files in ext4, noise, fragments, a mostly empty disk of
//! 1 TiB), and for each flow runs both in turn: the ratio is taken pair by pair, its median stands with the least and
//! the greatest. The source is read before each run, the target is deleted after it, every target is compared with
//! the source once. Synced runs stand beside `-t none`, buffered ones beside the default.
//!
//! `COLDFIT_BENCH_PAIRS` sets the pairs (5), `COLDFIT_BENCH_MIB` the size of the payloads (1200),
//! `COLDFIT_BENCH_TREE` the tree (`/usr`), `COLDFIT_BENCH_DIR` the folder (the target directory). `-- WORD...` keeps
//! only rows whose name has one of the words.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a bench says what it sees and fails by panicking"
)]

mod support;

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use support::{AnyError, Figure, Subject, measure, measured_child};

fn number(name: &str, otherwise: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// Runs a line of shell with positional parameters; what it prints.
fn shell(line: &str, parameters: &[&Path]) -> Result<(), AnyError> {
    let output = Command::new("sh").args(["-ec", line, "sh"]).args(parameters).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{line}: {}", String::from_utf8_lossy(&output.stderr)).into())
}

/// Regular files of a tree in the order of their names, up to an amount.
fn collect(below: &Path, left: &mut u64, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(below) else { return };
    let mut entries: Vec<_> = entries.flatten().collect();
    entries.sort_by_key(|entry| entry.file_name());
    for entry in entries {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => collect(&entry.path(), left, found),
            Ok(kind) if kind.is_file() => {
                let len = entry.metadata().map_or(0, |metadata| metadata.len());
                if len <= 16 << 20 && len <= *left {
                    *left -= len;
                    found.push(entry.path());
                }
            }
            _ => {}
        }
    }
}

/// ext4 with real files, as `mke2fs` lays them out.
fn real_files(dir: &Path, mib: usize) -> Result<PathBuf, AnyError> {
    let tree = PathBuf::from(std::env::var_os("COLDFIT_BENCH_TREE").unwrap_or_else(|| "/usr".into()));
    let (mut left, mut files) = ((mib as u64) << 20, Vec::new());
    collect(&tree, &mut left, &mut files);
    let stage = dir.join("stage");
    for (index, file) in files.iter().enumerate() {
        let folder = stage.join(format!("{:03}", index / 200));
        std::fs::create_dir_all(&folder)?;
        std::fs::copy(file, folder.join(format!("{index}")))?;
    }
    let image = dir.join("files.raw");
    shell("mke2fs -q -t ext4 -E root_owner=0:0 -d \"$1\" \"$2\" 4G; rm -r \"$1\"", &[&stage, &image])?;
    Ok(image)
}

fn noise(len: usize) -> Result<Vec<u8>, AnyError> {
    let mut bytes = vec![0; len];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Pieces of `content` spread over a sparse file of `len` bytes.
fn scattered(image: &Path, content: &[u8], piece: usize, len: u64) -> Result<(), AnyError> {
    let mut file = File::create(image)?;
    file.set_len(len)?;
    let count = content.len().div_ceil(piece) as u64;
    for (index, part) in (0u64..).zip(content.chunks(piece)) {
        // Steps by an odd number visit every place once, far from the one before.
        let place = index * 2_654_435_761 % count;
        file.seek(SeekFrom::Start(len / count * place / 65_536 * 65_536))?;
        file.write_all(part)?;
    }
    Ok(())
}

/// One flow: names, files and the options of both.
struct Row<'a> {
    name: &'a str,
    source: &'a Path,
    format: &'a str,
    own: &'a [&'a str],
    peer: &'a [&'a str],
    /// Another peer than qemu-img: a line of shell, the files as `$1` and `$2`.
    line: Option<&'a str>,
}

/// A row beside qemu-img.
fn flow<'a>(
    name: &'a str,
    source: &'a Path,
    format: &'a str,
    own: &'a [&'a str],
    peer: &'a [&'a str],
) -> Row<'a> {
    Row { name, source, format, own, peer, line: None }
}

struct Bench {
    coldfit: PathBuf,
    dir: PathBuf,
    pairs: usize,
    words: Vec<String>,
}

fn spread(values: impl Iterator<Item = f64>) -> String {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    format!("{:.2} ({:.2} to {:.2})", values[values.len() / 2], values[0], values[values.len() - 1])
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

impl Bench {
    fn row(&self, row: &Row<'_>) -> Result<(), AnyError> {
        if !self.words.is_empty() && !self.words.iter().any(|word| row.name.contains(word.as_str())) {
            return Ok(());
        }
        let target = self.dir.join("target");
        let warm = || {
            let _ = std::fs::remove_file(&target);
            // Holes are skipped by cp, so that reading a mostly empty disk takes no hour.
            shell("cp --sparse=always \"$1\" /dev/null 2>/dev/null || true", &[row.source])
        };
        let command = |program: &[&str], options: &[&str]| -> Vec<OsString> {
            let mut all: Vec<OsString> = program.iter().map(OsString::from).collect();
            all.extend(options.iter().map(OsString::from));
            all.extend(["-O".into(), row.format.into(), row.source.into(), target.clone().into()]);
            all
        };
        let coldfit = self.coldfit.display().to_string();
        let own = Subject {
            name: "coldfit",
            prepare: &warm,
            command: command(&[&coldfit, "convert", "--quiet"], row.own),
        };
        let peer = Subject {
            name: "peer",
            prepare: &warm,
            command: match row.line {
                Some(line) => ["sh".into(), "-ec".into(), line.into(), "sh".into(), row.source.into()]
                    .into_iter()
                    .chain([target.clone().into()])
                    .collect(),
                None => command(&["qemu-img", "convert"], row.peer),
            },
        };
        let mut figures: Vec<(Figure, Figure)> = Vec::new();
        let (mut own_bytes, mut peer_bytes) = (0, 0);
        for pair in 0..=self.pairs {
            let first = measure(&own)?;
            own_bytes = allocated(&target)?;
            if pair == 0 {
                self.verify(row, &target)?;
            }
            let second = measure(&peer)?;
            peer_bytes = allocated(&target)?;
            if pair > 0 {
                figures.push((first, second));
            }
        }
        std::fs::remove_file(&target)?;
        println!(
            "| {} | {:.2} | {:.2} | {} | {} | {:.0} | {:.0} | {:.0} | {:.0} |",
            row.name,
            median(figures.iter().map(|(own, _)| own.cpu)),
            median(figures.iter().map(|(_, peer)| peer.cpu)),
            spread(figures.iter().map(|(own, peer)| peer.cpu / own.cpu)),
            spread(figures.iter().map(|(own, peer)| peer.wall / own.wall)),
            own_bytes as f64 / 1e6,
            peer_bytes as f64 / 1e6,
            figures.iter().map(|(own, _)| own.peak_mib).fold(0.0, f64::max),
            figures.iter().map(|(_, peer)| peer.peak_mib).fold(0.0, f64::max),
        );
        Ok(())
    }

    fn verify(&self, row: &Row<'_>, target: &Path) -> Result<(), AnyError> {
        if row.format == "qcow2" {
            shell("qemu-img check -q \"$1\"", &[target])?;
        }
        shell("qemu-img compare -q \"$1\" \"$2\"", &[row.source, target])
    }

    /// A compressed or plain qcow2 of a raw disk, made by the peer.
    fn made(&self, raw: &Path, name: &str, options: &str) -> Result<PathBuf, AnyError> {
        let path = self.dir.join(name);
        shell(&format!("qemu-img convert -O qcow2 -m 8 -W {options} \"$1\" \"$2\""), &[raw, &path])?;
        Ok(path)
    }
}

fn allocated(path: &Path) -> Result<u64, AnyError> {
    use std::os::unix::fs::MetadataExt;
    Ok(std::fs::metadata(path)?.blocks() * 512)
}

const BUFFERED: &[&str] = &["--direct", "never", "--no-sync"];
const ZLIB: &[&str] = &["--compress", "zlib"];
const ZSTD: &[&str] = &["--compress", "zstd"];
const PEER: &[&str] = &["-m", "16", "-W"];
const PEER_DIRECT: &[&str] = &["-m", "16", "-W", "-t", "none"];
const PEER_ZLIB: &[&str] = &["-m", "16", "-W", "-c"];
const PEER_ZSTD: &[&str] = &["-m", "16", "-W", "-c", "-o", "compression_type=zstd"];

fn main() -> Result<(), AnyError> {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "--measure") {
        return measured_child(&arguments[1..]);
    }
    let base = std::env::var_os("COLDFIT_BENCH_DIR")
        .map_or_else(|| env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from);
    std::fs::create_dir_all(&base)?;
    let dir = tempfile::tempdir_in(base)?;
    let bench = Bench {
        coldfit: env!("CARGO_BIN_EXE_coldfit").into(),
        dir: dir.path().to_owned(),
        pairs: number("COLDFIT_BENCH_PAIRS", 5),
        words: arguments
            .iter()
            .filter_map(|word| word.to_str())
            .filter(|word| !word.starts_with("--"))
            .map(str::to_owned)
            .collect(),
    };
    let mib = number("COLDFIT_BENCH_MIB", 1200);

    println!(
        "| flow | CPU s | peer CPU s | CPU ratio (min to max) | wall ratio (min to max) | MB | peer MB | peak MiB | peer peak MiB |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let raw = real_files(dir.path(), mib)?;
    let plain = bench.made(&raw, "plain.qcow2", "")?;
    bench.row(&flow("files: raw to raw, buffered", &raw, "raw", BUFFERED, PEER))?;
    bench.row(&flow("files: raw to raw, direct", &raw, "raw", &[], PEER_DIRECT))?;
    bench.row(&Row {
        name: "files: raw to raw, direct, beside cp and sync",
        source: &raw,
        format: "raw",
        own: &[],
        peer: &[],
        line: Some("cp --sparse=always \"$1\" \"$2\"; sync \"$2\""),
    })?;
    bench.row(&flow("files: raw to qcow2, buffered", &raw, "qcow2", BUFFERED, PEER))?;
    bench.row(&flow("files: qcow2 to raw, buffered", &plain, "raw", BUFFERED, PEER))?;
    bench.row(&flow("files: qcow2 to raw, direct", &plain, "raw", &[], PEER_DIRECT))?;
    std::fs::remove_file(plain)?;
    let zlib = bench.made(&raw, "zlib.qcow2", "-c")?;
    bench.row(&flow("files: zlib to raw, buffered", &zlib, "raw", BUFFERED, PEER))?;
    bench.row(&flow("files: zlib to raw, direct", &zlib, "raw", &[], PEER_DIRECT))?;
    bench.row(&flow("files: zlib to zlib", &zlib, "qcow2", ZLIB, PEER_ZLIB))?;
    std::fs::remove_file(zlib)?;
    let zstd = bench.made(&raw, "zstd.qcow2", "-c -o compression_type=zstd")?;
    bench.row(&flow("files: zstd to raw, buffered", &zstd, "raw", BUFFERED, PEER))?;
    bench.row(&flow("files: zstd to raw, direct", &zstd, "raw", &[], PEER_DIRECT))?;
    bench.row(&flow("files: zstd to zstd", &zstd, "qcow2", ZSTD, PEER_ZSTD))?;
    std::fs::remove_file(zstd)?;
    bench.row(&flow("files: raw to zlib", &raw, "qcow2", ZLIB, PEER_ZLIB))?;
    bench.row(&flow("files: raw to zstd", &raw, "qcow2", ZSTD, PEER_ZSTD))?;
    bench.row(&flow(
        "files: raw to zlib, 16 threads",
        &raw,
        "qcow2",
        &["--compress", "zlib", "-m", "16"],
        PEER_ZLIB,
    ))?;

    let mut content = vec![0; mib.min(256) << 20];
    File::open(&raw)?.read_exact(&mut content)?;
    std::fs::remove_file(&raw)?;
    let fragments = dir.path().join("fragments.raw");
    scattered(&fragments, &content, 65_536, 4 * content.len() as u64)?;
    bench.row(&flow("fragments: raw to qcow2, buffered", &fragments, "qcow2", BUFFERED, PEER))?;
    bench.row(&flow("fragments: raw to zlib", &fragments, "qcow2", ZLIB, PEER_ZLIB))?;
    std::fs::remove_file(&fragments)?;

    let empty = dir.path().join("empty.raw");
    scattered(&empty, &content, content.len() / 64, 1 << 40)?;
    bench.row(&flow("1 TiB, mostly empty: raw to qcow2, buffered", &empty, "qcow2", BUFFERED, PEER))?;
    bench.row(&flow("1 TiB, mostly empty: raw to zstd", &empty, "qcow2", ZSTD, PEER_ZSTD))?;
    let threads = &["--compress", "zstd", "-m", "16"];
    bench.row(&flow("1 TiB, mostly empty: raw to zstd, 16 threads", &empty, "qcow2", threads, PEER_ZSTD))?;
    std::fs::remove_file(&empty)?;

    let random = dir.path().join("noise.raw");
    std::fs::write(&random, noise(mib.min(512) << 20)?)?;
    bench.row(&flow("noise: raw to zlib", &random, "qcow2", ZLIB, PEER_ZLIB))?;
    bench.row(&flow("noise: raw to zstd", &random, "qcow2", ZSTD, PEER_ZSTD))?;
    Ok(())
}
