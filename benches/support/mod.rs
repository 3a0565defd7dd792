//! Running whole processes in turn and taking their accounts.
#![allow(dead_code, reason = "each bench uses a part")]

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};

/// Counted runs of each command.
pub const RUNS: usize = 5;

pub type AnyError = Box<dyn std::error::Error>;

/// One run of a whole process.
#[derive(Clone, Copy)]
pub struct Figure {
    pub wall: f64,
    pub cpu: f64,
    pub peak_mib: f64,
}

/// A command to measure, with what has to be done before each run.
pub struct Subject<'a> {
    pub name: &'a str,
    pub prepare: &'a dyn Fn() -> Result<(), AnyError>,
    pub command: Vec<OsString>,
}

/// Runs the command below a fresh copy of this program, so that its children's account is that one command's.
pub fn measure(subject: &Subject<'_>) -> Result<Figure, AnyError> {
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
pub fn measured_child(command: &[OsString]) -> Result<(), AnyError> {
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

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

pub fn report(name: &str, figures: &[Figure]) {
    let column = |of: fn(&Figure) -> f64| median(figures.iter().map(of).collect());
    println!(
        "{name:<44} wall {:>8.3} s   cpu {:>8.3} s   peak {:>7.1} MiB",
        column(|f| f.wall),
        column(|f| f.cpu),
        column(|f| f.peak_mib)
    );
}

/// Runs the subjects in turn and prints a row each, then the ratios to the first.
pub fn compare(subjects: &[Subject<'_>], runs: usize) -> Result<(), AnyError> {
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

pub fn words(parts: &[&dyn AsRef<std::ffi::OsStr>]) -> Vec<OsString> {
    parts.iter().map(|part| part.as_ref().to_owned()).collect()
}

/// A copy that shares nothing with a page cache state of the original: plain `cp --sparse`.
pub fn fresh_copy(from: &Path, to: &Path) -> Result<(), AnyError> {
    let status = Command::new("cp").arg("--sparse=always").arg(from).arg(to).status()?;
    if status.success() { Ok(()) } else { Err(format!("cp {}: {status}", from.display()).into()) }
}

pub fn has(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}
