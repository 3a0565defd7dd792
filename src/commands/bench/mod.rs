//! `coldfit bench`: what this host makes of one image.

mod flow;
mod measure;
mod plot;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;

use convert::{Outcome, StageTimes};
use serde::Serialize;

use self::flow::{Sources, Way, convert_to};
use self::measure::{Cost, Spread, Who, cpu_model, measured};
use self::plot::Line;
use super::CommandResult;
use crate::cli::bench::{BenchArgs, Flow};
use crate::render::output::{Failure, Output};
use crate::render::table::{bytes, columns};

/// One counted run: a line of JSON.
#[derive(Debug, Serialize)]
struct Run<'a> {
    kind: &'static str,
    flow: &'static str,
    run: u16,
    #[serde(flatten)]
    cost: Cost,
    cache: &'static str,
    cpu_model: Option<&'a str>,
    version: &'static str,
    nanoseconds_per_byte: Stages,
    outcome: &'a Outcome,
}

/// Stage times divided by the bytes of data.
#[derive(Debug, Serialize)]
struct Stages {
    read: f64,
    decode: f64,
    zero: f64,
    encode: f64,
    fold: f64,
    write: f64,
    sync: f64,
}

/// One flow at one number of threads.
struct Row {
    flow: Flow,
    threads: usize,
    cpu: Spread,
    wall: Spread,
    peak: Option<u64>,
    /// Of the last run.
    outcome: Outcome,
}

/// One pair of runs: a line of JSON.
#[derive(Debug, Serialize)]
struct Pair<'a> {
    kind: &'static str,
    flow: &'static str,
    run: u16,
    own: Cost,
    own_bytes: u64,
    against: Cost,
    against_bytes: u64,
    command: &'a str,
    cpu_ratio: f64,
    wall_ratio: f64,
}

/// The ratios of all pairs.
#[derive(Debug, Serialize)]
struct Ratios {
    kind: &'static str,
    flow: &'static str,
    cpu_ratio: Spread,
    wall_ratio: Spread,
    own_bytes: u64,
    against_bytes: u64,
}

/// Runs `bench`.
pub fn run(args: &BenchArgs, output: &Output) -> CommandResult {
    let stop = crate::interrupt::flag()?;
    let flows = if args.flow.is_empty() { Flow::ALL.to_vec() } else { args.flow.clone() };
    if args.against.is_some() && flows.len() != 1 {
        return Err(Failure::usage("--against takes part in one flow").with_hint("Name it with --flow."));
    }
    let beside = args.image.parent().filter(|parent| !parent.as_os_str().is_empty());
    let dir = args.dir.as_deref().or(beside).unwrap_or(Path::new("."));
    let way = Way { threads: None, memory: args.memory, buffered: args.buffered };
    output.note("making the sources");
    let sources = Sources::make(&args.image, dir, &flows, way, &stop)?;
    if let Some(command) = &args.against {
        let way = Way { threads: args.threads.first().map(|threads| usize::from(*threads)), ..way };
        return pairs(args, flows[0], command, &sources, way, &stop, output);
    }
    let model = cpu_model();
    let mut rows = Vec::new();
    for &flow in &flows {
        for threads in threads(args) {
            output.note(&format!("{}, {threads} threads", flow.name()));
            rows.push(row(args, flow, threads, &sources, &stop, model.as_deref(), output)?);
        }
    }
    let lines = lines(&rows);
    if let Some(path) = &args.plot {
        std::fs::write(path, plot::svg(&lines)).map_err(|error| Failure::host("write", path, &error))?;
    }
    if !output.is_json() {
        output.text(&summary(&rows, &lines, model.as_deref(), args))?;
    }
    Ok(0)
}

/// 1, 2, 4, … and all.
fn threads(args: &BenchArgs) -> Vec<usize> {
    if !args.threads.is_empty() {
        return args.threads.iter().map(|threads| usize::from(*threads)).collect();
    }
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    let mut numbers: Vec<usize> = std::iter::successors(Some(1), |threads| Some(threads * 2))
        .take_while(|threads| *threads < all)
        .collect();
    numbers.push(all);
    numbers
}

fn row(
    args: &BenchArgs,
    flow: Flow,
    threads: usize,
    sources: &Sources,
    stop: &AtomicBool,
    model: Option<&str>,
    output: &Output,
) -> Result<Row, Failure> {
    let (from, to) = flow.forms();
    let way = Way { threads: Some(threads), memory: args.memory, buffered: args.buffered };
    let (mut costs, mut last) = (Vec::new(), Outcome::default());
    for run in 0..=args.runs {
        sources.warm(from)?;
        let target = sources.target();
        let (outcome, cost) = measured(Who::Own, || convert_to(&sources.path(from), to, &target, way, stop))?;
        remove(&target)?;
        if run == 0 {
            continue;
        }
        if output.is_json() {
            let line = Run {
                kind: "run",
                flow: flow.name(),
                run,
                cost,
                cache: "warm",
                cpu_model: model,
                version: env!("CARGO_PKG_VERSION"),
                nanoseconds_per_byte: stages(&outcome),
                outcome: &outcome,
            };
            json_line(output, &line)?;
        }
        costs.push(cost);
        last = outcome;
    }
    let spread = |of: fn(&Cost) -> f64| {
        Spread::of(costs.iter().map(of)).ok_or_else(|| Failure::usage("--runs 0 measures nothing"))
    };
    Ok(Row {
        flow,
        threads,
        cpu: spread(Cost::cpu_seconds)?,
        wall: spread(|cost| cost.wall_seconds)?,
        peak: costs.iter().filter_map(|cost| cost.peak_rss_bytes).max(),
        outcome: last,
    })
}

fn stages(outcome: &Outcome) -> Stages {
    let StageTimes { read, decode, zero, encode, fold, write, sync, .. } = outcome.times;
    let each = |nanoseconds: u64| nanoseconds as f64 / outcome.mapped_bytes.max(1) as f64;
    Stages {
        read: each(read),
        decode: each(decode),
        zero: each(zero),
        encode: each(encode),
        fold: each(fold),
        write: each(write),
        sync: each(sync),
    }
}

fn json_line(output: &Output, line: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(line)
        .map_err(|error| Failure::new("report.encode", report::Class::Bug, error.to_string()))?;
    output.text(&(text + "\n"))
}

fn remove(path: &Path) -> Result<(), Failure> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::host("remove", path, &error))
        }
        _ => Ok(()),
    }
}

/// `text` in single quotes, for `sh`.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "'\\''"))
}

fn pairs(
    args: &BenchArgs,
    flow: Flow,
    command: &str,
    sources: &Sources,
    way: Way,
    stop: &AtomicBool,
    output: &Output,
) -> CommandResult {
    let (from, to) = flow.forms();
    let (input, target) = (sources.path(from), sources.target());
    let filled = command.replace("{in}", &quoted(&input)).replace("{out}", &quoted(&target));
    let length = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    let (mut cpu, mut wall, mut sizes) = (Vec::new(), Vec::new(), (0, 0));
    for run in 0..=args.runs {
        sources.warm(from)?;
        let (_, own) = measured(Who::Own, || convert_to(&input, to, &target, way, stop))?;
        let own_bytes = length(&target);
        remove(&target)?;
        sources.warm(from)?;
        let (_, against) = measured(Who::Children, || shell(&filled))?;
        let against_bytes = length(&target);
        remove(&target)?;
        if run == 0 {
            continue;
        }
        let pair = Pair {
            kind: "pair",
            flow: flow.name(),
            run,
            own,
            own_bytes,
            against,
            against_bytes,
            command,
            cpu_ratio: against.cpu_seconds() / own.cpu_seconds().max(1e-6),
            wall_ratio: against.wall_seconds / own.wall_seconds.max(1e-6),
        };
        if output.is_json() {
            json_line(output, &pair)?;
        } else {
            output.text(&format!(
                "{run:>3}  cpu {:.2} s against {:.2} s: {:.2}   wall {:.2} s against {:.2} s: {:.2}\n",
                own.cpu_seconds(),
                against.cpu_seconds(),
                pair.cpu_ratio,
                own.wall_seconds,
                against.wall_seconds,
                pair.wall_ratio
            ))?;
        }
        cpu.push(pair.cpu_ratio);
        wall.push(pair.wall_ratio);
        sizes = (own_bytes, against_bytes);
    }
    let (Some(cpu_ratio), Some(wall_ratio)) = (Spread::of(cpu), Spread::of(wall)) else { return Ok(0) };
    let ratios = Ratios {
        kind: "ratios",
        flow: flow.name(),
        cpu_ratio,
        wall_ratio,
        own_bytes: sizes.0,
        against_bytes: sizes.1,
    };
    if output.is_json() {
        json_line(output, &ratios)?;
    } else {
        let text = |spread: Spread| format!("{:.2} ({:.2} to {:.2})", spread.median, spread.min, spread.max);
        output.text(&format!(
            "cpu ratio {}, wall ratio {}; {} against {}\n",
            text(cpu_ratio),
            text(wall_ratio),
            bytes(sizes.0),
            bytes(sizes.1)
        ))?;
    }
    Ok(0)
}

fn shell(command: &str) -> Result<(), Failure> {
    let output = Command::new("sh").args(["-c", command]).stdin(Stdio::null()).output();
    let failed = |detail: String| {
        Failure::new("bench.against", report::Class::Environment, format!("{command}: {detail}"))
    };
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            Err(failed(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim())))
        }
        Err(error) => Err(failed(error.to_string())),
    }
}

fn data(outcome: &Outcome) -> u64 {
    outcome.mapped_bytes.saturating_sub(outcome.zero_bytes)
}

fn rate(row: &Row) -> f64 {
    data(&row.outcome) as f64 / 1e6 / row.wall.median.max(1e-6)
}

fn lines(rows: &[Row]) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for row in rows {
        let point = (row.threads, rate(row));
        match lines.last_mut().filter(|line| line.name == row.flow.name()) {
            Some(line) => line.points.push(point),
            None => lines.push(Line { name: row.flow.name(), points: vec![point] }),
        }
    }
    lines
}

/// What most of the workers' time went into, and of which kind that is.
fn bound(row: &Row) -> String {
    let times = &row.outcome.times;
    let stages = [
        ("read", times.read, "source"),
        ("decode", times.decode, "processor"),
        ("zero test", times.zero, "processor"),
        ("digest", times.digest, "processor"),
        ("encode", times.encode, "processor"),
        ("layout", times.fold, "one thread at a time"),
        ("write", times.write, "target"),
        ("sync", times.sync, "target"),
        ("waiting for memory", times.wait, "--memory"),
    ];
    let all: u64 = stages.iter().map(|stage| stage.1).sum();
    let Some((name, most, kind)) = stages.into_iter().max_by_key(|stage| stage.1) else {
        return String::new();
    };
    if all == 0 {
        return "the kernel's copy".into();
    }
    format!("{kind} ({name} {:.0} %)", most as f64 / all as f64 * 100.0)
}

fn summary(rows: &[Row], lines: &[Line], model: Option<&str>, args: &BenchArgs) -> String {
    let mut table: Vec<Vec<String>> = vec![
        [
            "flow",
            "threads",
            "cpu s",
            "wall s",
            "min to max",
            "peak",
            "in flight",
            "read",
            "written",
            "size",
            "bound by",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    for row in rows {
        let outcome = &row.outcome;
        table.push(vec![
            row.flow.name().into(),
            row.threads.to_string(),
            format!("{:.2}", row.cpu.median),
            format!("{:.2}", row.wall.median),
            format!("{:.2} to {:.2}", row.wall.min, row.wall.max),
            row.peak.map_or("-".into(), bytes),
            bytes(outcome.high_water_bytes),
            bytes(outcome.bytes_read),
            bytes(outcome.bytes_written),
            bytes(outcome.target_bytes),
            bound(row),
        ]);
    }
    let first = rows.first().map(|row| &row.outcome);
    format!(
        "{}, {} runs each, source in the page cache, target {}; {} of data in a disk of {}\n\n{}\n{}",
        model.unwrap_or("unknown processor"),
        args.runs,
        if args.buffered { "through the page cache and not synced" } else { "synced" },
        bytes(first.map_or(0, data)),
        bytes(first.map_or(0, |outcome| outcome.virtual_bytes)),
        columns(&table, 0),
        plot::text(lines)
    )
}
