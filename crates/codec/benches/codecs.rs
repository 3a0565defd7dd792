//! Speed and size of every encoder and decoder on clusters of real files, beside C zlib and zlib-rs.
//!
//! `cargo bench -p coldfit-codec` takes files below `/usr` by a fixed recipe, cuts them into 64 KiB clusters, and
//! runs every subject once a round, in turn, so that a busy machine slows all of them. Figures are user CPU time;
//! clusters that do not shrink count in full. `-- WORD...` keeps only subjects whose name has one of the words.
//! `COLDFIT_BENCH_MIB` sets the payload, `COLDFIT_BENCH_ROUNDS` the rounds.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    reason = "a bench says what it sees and fails by panicking"
)]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use coldfit_codec::{Algorithm, Decoder, Encoder, Kind, Window, ZlibLevel, ZstdLevel};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use nix::sys::resource::{UsageWho, getrusage};

const CLUSTER: usize = 65536;

fn user_seconds() -> f64 {
    let time = getrusage(UsageWho::RUSAGE_SELF).unwrap().user_time();
    time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6
}

/// Regular files below a folder, in the order of their names.
fn files(below: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(below) else { return };
    let mut entries: Vec<_> = entries.flatten().collect();
    entries.sort_by_key(|entry| entry.file_name());
    for entry in entries {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files(&entry.path(), found),
            Ok(kind) if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
}

/// Files of at most 4 MiB, spread evenly over all there are, each beginning at a multiple of 4 KiB as in a filesystem.
fn payload(bytes: usize) -> Vec<u8> {
    let mut all = Vec::new();
    for part in ["bin", "lib", "share", "include"] {
        files(&Path::new("/usr").join(part), &mut all);
    }
    let mut out = Vec::new();
    for stride in [97, 89, 83, 79, 73, 71] {
        for path in all.iter().step_by(stride) {
            if out.len() >= bytes {
                out.truncate(bytes / CLUSTER * CLUSTER);
                return out;
            }
            if let Some(content) = std::fs::read(path).ok().filter(|content| content.len() <= 4 << 20) {
                out.extend(content);
                out.resize(out.len().next_multiple_of(4096), 0);
            }
        }
    }
    out.truncate(out.len() / CLUSTER * CLUSTER);
    out
}

/// C zlib as QEMU uses it: a fresh context for each cluster, window of 2^12.
const PEER: &str = r"
import sys, time, zlib
data = open(sys.argv[1], 'rb').read()
clusters = [data[at:at + 65536] for at in range(0, len(data), 65536)]
packed = []
for line in sys.stdin:
    verb, level = line.split()
    start = time.process_time()
    if verb == 'encode':
        size = 0
        made = []
        for cluster in clusters:
            stream = zlib.compressobj(int(level), zlib.DEFLATED, -12, 9)
            out = stream.compress(cluster) + stream.flush()
            size += min(len(out), 65536)
            made.append(out)
        packed = made
    else:
        size = sum(len(zlib.decompress(one, -12, 65536)) for one in packed)
    print(time.process_time() - start, size, flush=True)
";

struct Peer {
    child: Child,
    answers: BufReader<std::process::ChildStdout>,
}

impl Peer {
    fn start(payload: &Path) -> Self {
        let mut child = Command::new("python3")
            .args(["-c", PEER])
            .arg(payload)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Self { child, answers }
    }

    fn run(&mut self, verb: &str, level: u32) -> (f64, usize) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{verb} {level}").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        let (seconds, size) = line.trim().split_once(' ').unwrap();
        (seconds.parse().unwrap(), size.parse().unwrap())
    }
}

type Run = Box<dyn FnMut() -> (f64, usize)>;

struct Subject {
    name: String,
    run: Run,
    seconds: Vec<f64>,
    size: usize,
}

fn timed(work: impl FnOnce() -> usize) -> (f64, usize) {
    let start = user_seconds();
    let size = work();
    (user_seconds() - start, size)
}

fn encode(name: String, payload: &'static [u8], algorithm: Algorithm) -> Subject {
    let mut encoder = Encoder::new(algorithm, CLUSTER).unwrap();
    let mut out = Vec::new();
    let run = move || {
        timed(|| {
            let clusters = payload.chunks(CLUSTER);
            clusters
                .map(|cluster| {
                    out.clear();
                    if encoder.encode(cluster, &mut out).unwrap() { out.len() } else { cluster.len() }
                })
                .sum()
        })
    };
    Subject { name, run: Box::new(run), seconds: Vec::new(), size: 0 }
}

fn zlib_rs(payload: &'static [u8], level: u32) -> Subject {
    let mut stream = Compress::new_with_window_bits(Compression::new(level), false, 12);
    let mut out = Vec::with_capacity(2 * CLUSTER);
    let run = move || {
        timed(|| {
            let clusters = payload.chunks(CLUSTER);
            clusters
                .map(|cluster| {
                    stream.reset();
                    out.clear();
                    stream.compress_vec(cluster, &mut out, FlushCompress::Finish).unwrap();
                    out.len().min(cluster.len())
                })
                .sum()
        })
    };
    Subject {
        name: format!("zlib-rs {level}, w12, reused"),
        run: Box::new(run),
        seconds: Vec::new(),
        size: 0,
    }
}

fn packed(payload: &[u8], algorithm: Algorithm) -> &'static [Vec<u8>] {
    let mut encoder = Encoder::new(algorithm, CLUSTER).unwrap();
    let clusters = payload.chunks(CLUSTER).map(|cluster| {
        let mut out = Vec::new();
        encoder.encode(cluster, &mut out).unwrap();
        out
    });
    clusters.filter(|out| !out.is_empty()).collect::<Vec<_>>().leak()
}

fn decode(name: String, packed: &'static [Vec<u8>], kind: Kind) -> Subject {
    let mut decoder = Decoder::new(kind).unwrap();
    let mut cluster = vec![0; CLUSTER];
    let run = move || {
        timed(|| {
            for one in packed {
                decoder.decode(one, &mut cluster).unwrap();
            }
            packed.len() * CLUSTER
        })
    };
    Subject { name, run: Box::new(run), seconds: Vec::new(), size: 0 }
}

fn inflate_zlib_rs(packed: &'static [Vec<u8>]) -> Subject {
    let mut stream = Decompress::new(false);
    let mut cluster = vec![0; CLUSTER];
    let run = move || {
        timed(|| {
            for one in packed {
                stream.reset(false);
                stream.decompress(one, &mut cluster, FlushDecompress::Finish).unwrap();
            }
            packed.len() * CLUSTER
        })
    };
    Subject { name: "inflate: zlib-rs, reused".into(), run: Box::new(run), seconds: Vec::new(), size: 0 }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn number(name: &str, otherwise: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let payload: &'static [u8] = payload(number("COLDFIT_BENCH_MIB", 64) << 20).leak();
    let rounds = number("COLDFIT_BENCH_ROUNDS", 3);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), payload).unwrap();
    let mut peer = Peer::start(file.path());

    let zlib = |level, window, fast| Algorithm::Zlib { level: ZlibLevel::new(level).unwrap(), window, fast };
    let zstd = |level| Algorithm::Zstd { level: ZstdLevel::new(level).unwrap() };
    let mut subjects = Vec::new();
    for level in 1..=9 {
        subjects.push(encode(format!("own {level}, strict"), payload, zlib(level, Window::Strict, false)));
    }
    subjects.push(encode("own fast, strict".into(), payload, zlib(1, Window::Strict, true)));
    for level in [1, 4, 6, 9] {
        subjects.push(encode(format!("own {level}, wide"), payload, zlib(level, Window::Wide, false)));
    }
    for level in [1, 2, 3, 6, 9] {
        subjects.push(zlib_rs(payload, level));
    }
    for level in [1, 2, 3, 4, 6] {
        subjects.push(encode(format!("zstd {level}, reused"), payload, zstd(level)));
    }
    let deflated = packed(payload, zlib(6, Window::Strict, false));
    subjects.push(decode("inflate: own".into(), deflated, Kind::Deflate));
    subjects.push(inflate_zlib_rs(deflated));
    subjects.push(decode("zstd decode, reused".into(), packed(payload, zstd(3)), Kind::Zstd));
    subjects.retain(|subject| words.is_empty() || words.iter().any(|word| subject.name.contains(word)));

    let (mut base, mut base_size, mut base_out) = (Vec::new(), 0, Vec::new());
    for _ in 0..rounds {
        let (seconds, size) = peer.run("encode", 6);
        base.push(seconds);
        base_size = size;
        base_out.push(peer.run("decode", 6).0);
        for subject in &mut subjects {
            let (seconds, size) = (subject.run)();
            subject.seconds.push(seconds);
            subject.size = size;
        }
    }
    let mib = payload.len() as f64 / 1e6;
    println!("{:.0} MB in {} clusters, {rounds} rounds", mib, payload.len() / CLUSTER);
    println!(
        "{:<28} {:>7.1} MB/s  size {:.4}",
        "C zlib 6, w12, fresh",
        mib / median(&base),
        base_size as f64 / payload.len() as f64
    );
    println!("{:<28} {:>7.1} MB/s", "C inflate, fresh", mib / median(&base_out));
    for subject in &subjects {
        let decoder = subject.name.contains("inflate") || subject.name.contains("decode");
        let base = if decoder { &base_out } else { &base };
        let mut ratios: Vec<f64> = base.iter().zip(&subject.seconds).map(|(base, own)| base / own).collect();
        ratios.sort_by(f64::total_cmp);
        let amount = if decoder { subject.size as f64 / 1e6 } else { mib };
        print!(
            "{:<28} {:>7.1} MB/s  ratio {:.2} ({:.2} to {:.2})",
            subject.name,
            amount / median(&subject.seconds),
            median(&ratios),
            ratios[0],
            ratios[ratios.len() - 1]
        );
        if decoder {
            println!();
        } else {
            println!("  size {:+.2} %", (subject.size as f64 / base_size as f64 - 1.0) * 100.0);
        }
    }
}
