//! Whole-process figures of coldfit beside its peers, on the same files in one run.
//!
//! `cargo bench --bench side_by_side` prints a table; `docs/performance.md` keeps a copy with the command and
//! the machine. Every row is the median of several runs after one that is not counted, A and B in turn.
//! A peer that is not installed is said to be missing, never skipped in silence.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test says what it sees and fails by panicking"
)]

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use testkit::cache::Cache;
use testkit::recipe::Image;

/// Counted runs of each command.
const RUNS: usize = 5;

type AnyError = Box<dyn std::error::Error>;

/// One run of a whole process.
#[derive(Clone, Copy)]
struct Figure {
    wall: f64,
    cpu: f64,
    peak_mib: f64,
}

/// A command to measure, with what has to be done before each run.
struct Subject<'a> {
    name: &'a str,
    prepare: &'a dyn Fn() -> Result<(), AnyError>,
    command: Vec<OsString>,
}

/// Runs the command below a fresh copy of this program, so that its children's account is that one command's.
fn measure(subject: &Subject<'_>) -> Result<Figure, AnyError> {
    (subject.prepare)()?;
    let output = Command::new(std::env::current_exe()?).arg("--measure").args(&subject.command).output()?;
    let text = String::from_utf8(output.stdout)?;
    let figures: Vec<f64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    match figures[..] {
        [wall, cpu, peak_mib] => Ok(Figure { wall, cpu, peak_mib }),
        _ => Err(format!("{}: {}", subject.name, String::from_utf8_lossy(&output.stderr)).into()),
    }
}

/// The inner half of [`measure`]: prints wall seconds, CPU seconds, peak MiB.
fn measured_child(command: &[OsString]) -> Result<(), AnyError> {
    let (program, arguments) = command.split_first().ok_or("nothing to measure")?;
    let started = Instant::now();
    let status = Command::new(program).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).status()?;
    let wall = started.elapsed().as_secs_f64();
    if !status.success() {
        return Err(format!("{program:?} {arguments:?}: {status}").into());
    }
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    let cpu = seconds(usage.user_time()) + seconds(usage.system_time());
    println!("{wall} {cpu} {}", usage.max_rss() as f64 / 1024.0);
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn report(name: &str, figures: &[Figure]) {
    let column = |of: fn(&Figure) -> f64| median(figures.iter().map(of).collect());
    println!(
        "{name:<44} wall {:>8.3} s   cpu {:>8.3} s   peak {:>7.1} MiB",
        column(|f| f.wall),
        column(|f| f.cpu),
        column(|f| f.peak_mib)
    );
}

/// Runs the subjects in turn and prints a row each, then the ratios to the first.
fn compare(subjects: &[Subject<'_>], runs: usize) -> Result<(), AnyError> {
    let mut figures: Vec<Vec<Figure>> = vec![Vec::new(); subjects.len()];
    for run in 0..=runs {
        for (subject, figures) in subjects.iter().zip(&mut figures) {
            let figure = measure(subject)?;
            if run > 0 {
                figures.push(figure);
            }
        }
    }
    for (subject, figures) in subjects.iter().zip(&figures) {
        report(subject.name, figures);
    }
    for (subject, other) in subjects.iter().zip(&figures).skip(1) {
        let ratios = other.iter().zip(&figures[0]).map(|(other, own)| other.wall / own.wall).collect();
        println!(
            "{:<44} wall ratio {:.1}",
            format!("  {} / {}", subject.name, subjects[0].name),
            median(ratios)
        );
    }
    Ok(())
}

fn words(parts: &[&dyn AsRef<std::ffi::OsStr>]) -> Vec<OsString> {
    parts.iter().map(|part| part.as_ref().to_owned()).collect()
}

/// A copy that shares nothing with a page cache state of the original: plain `cp --sparse`.
fn fresh_copy(from: &Path, to: &Path) -> Result<(), AnyError> {
    let status = Command::new("cp").arg("--sparse=always").arg(from).arg(to).status()?;
    if status.success() { Ok(()) } else { Err(format!("cp {}: {status}", from.display()).into()) }
}

fn has(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

fn main() -> Result<(), AnyError> {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "--measure") {
        return measured_child(&arguments[1..]);
    }
    let coldfit = PathBuf::from(env!("CARGO_BIN_EXE_coldfit"));
    let example = Image::Mbr.build(&Cache::open()?, &|step| eprintln!("{step}"))?.path;
    let dir = tempfile::tempdir()?;
    let qcow2 = dir.path().join("work.qcow2");
    let raw = dir.path().join("work.raw");
    let huge = dir.path().join("huge.qcow2");
    let raw_original = dir.path().join("original.raw");
    let mut convert = Command::new("qemu-img");
    convert.args(["convert", "-O", "raw"]).arg(&example).arg(&raw_original);
    if !convert.status()?.success() {
        return Err("qemu-img convert failed".into());
    }
    fresh_copy(&example, &huge)?;
    if !Command::new("qemu-img").args(["resize", "-q"]).arg(&huge).arg("1T").status()?.success() {
        return Err("qemu-img resize failed".into());
    }
    let copy_qcow2 = || fresh_copy(&example, &qcow2);
    let copy_raw = || fresh_copy(&raw_original, &raw);
    let nothing = || Ok(());

    println!("inspect and fix of the example image (median of {RUNS})");
    let inspect = |name, image: &Path| Subject {
        name,
        prepare: &nothing,
        command: words(&[&coldfit, &"inspect", &"--quiet", &image]),
    };
    compare(&[inspect("inspect, qcow2 of 2 GiB", &example)], RUNS)?;
    compare(&[inspect("inspect, raw of 2 GiB", &raw_original)], RUNS)?;
    compare(&[inspect("inspect, qcow2 of 1 TiB, sparse", &huge)], RUNS)?;
    // Exit code 1 says that the image does not meet the profile yet.
    let check = "\"$0\" check --quiet --profile alibaba \"$1\"; test $? = 1";
    let check = Subject {
        name: "check --profile alibaba, qcow2 of 2 GiB",
        prepare: &nothing,
        command: words(&[&"sh", &"-c", &check, &coldfit, &example]),
    };
    compare(&[check], RUNS)?;
    let fix = |name, prepare, image: &Path, more: &[&str]| Subject {
        name,
        prepare,
        command: words(&[&coldfit, &"fix", &"--quiet", &"--profile", &"kvm", &image])
            .into_iter()
            .chain(more.iter().map(OsString::from))
            .collect(),
    };
    compare(&[fix("fix in place, raw", &copy_raw, &raw, &[])], RUNS)?;
    let pair_name = "fix in place, qcow2";
    let own = fix(pair_name, &copy_qcow2, &qcow2, &[]);
    compare(&[own], RUNS)?;
    let edit = Subject {
        name: "virt-customize, one trivial edit, qcow2",
        prepare: &copy_qcow2,
        command: words(&[
            &"env",
            &"LIBGUESTFS_BACKEND=direct",
            // What both sides have here: no KVM.
            &"LIBGUESTFS_BACKEND_SETTINGS=force_tcg",
            &"virt-customize",
            &"-a",
            &qcow2,
            &"--write",
            &"/etc/motd:x",
        ]),
    };
    if !has("virt-customize") {
        println!(
            "virt-customize: not installed, not compared (apt-get install --no-remove libguestfs-tools)"
        );
    } else if let Err(error) = measure(&edit) {
        println!("virt-customize: does not run here, not compared: {error}");
    } else {
        compare(&[fix(pair_name, &copy_qcow2, &qcow2, &[]), edit], 1)?;
    }
    // Replaces this process, so that the table ends with the share of the time that is sync.
    copy_qcow2()?;
    println!("one more fix, its own account of time:");
    let error = Command::new("sh")
        .arg("-c")
        .arg("\"$0\" fix --quiet --format json --profile kvm \"$1\" | grep -A12 '\"timings\"'; rm -rf \"$2\"")
        .args([coldfit.as_os_str(), qcow2.as_os_str(), dir.keep().as_os_str()])
        .exec();
    Err(error.into())
}
