//! `coldfit batch`: many images in one run. What is done with each is what `check`, `fix` and `convert` do.

mod request;
mod work;

use std::io::stdin;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use ::batch::{
    Action, Claims, Finished, Lanes, Line, Outcome, Pool, Store, Template, collect, plan, shard, worst_exit,
};
use report::Class;
use serde::Serialize;

use self::request::{Request, Requests};
use self::work::Work;
use super::CommandResult;
use crate::cli::batch::{BatchArgs, RunArgs};
use crate::render::board::Board;
use crate::render::output::{Failure, Output};

/// What a check or fix takes beside changed blocks: unpacked initramfs files, tables, caches.
const WORKING_MEMORY: u64 = 128 << 20;
/// Changed blocks of one image in memory, at least; more go to a temporary file.
const OVERLAY_MEMORY: u64 = 32 << 20;
/// What a conversion needs to go on.
const CONVERT_MEMORY: u64 = 32 << 20;

/// What is printed at the end.
#[derive(Debug, Serialize)]
struct Summary {
    schema: u32,
    coldfit: &'static str,
    report: PathBuf,
    images: usize,
    /// Finished by an earlier run.
    skipped: usize,
    done: usize,
    unmet: usize,
    failed: usize,
    /// Not begun, or begun and not ended.
    left: usize,
    exit: u8,
    seconds: f64,
}

/// Runs a batch.
pub fn run(args: &BatchArgs, output: &Output) -> CommandResult {
    let started = std::time::Instant::now();
    let (entries, inputs) = collect(&args.inputs, &mut stdin().lock())?;
    let template = Template::parse(&args.target.name)?;
    let folder = args.target.output_dir.as_deref().map(std::path::absolute).transpose();
    let folder = folder.map_err(|error| Failure::usage(format!("--output-dir: {error}")))?;
    let naming = folder.as_deref().map(|folder| (folder, &template));
    let jobs = plan(entries, &inputs, &request::common(args), naming)?;
    if let Some(file) = &args.run.write_manifest {
        return write_manifest(file, &jobs, output);
    }
    let assignment =
        args.run.shard.map(|mine| shard(&jobs, mine.count).map(|all| (mine, all))).transpose()?;
    // Before anything is done, every profile and switch is known to be right.
    let requests = Requests::new(&jobs, args)?;
    let mine: Vec<Request<'_>> = requests
        .of_jobs(&jobs)?
        .into_iter()
        .enumerate()
        .filter(|(index, _)| {
            assignment.as_ref().is_none_or(|(shard, all)| all.shard_of.get(*index) == Some(&shard.index))
        })
        .map(|(_, request)| request)
        .collect();
    make_folders(&mine)?;

    let (store, earlier) = open_report(&args.run)?;
    let finished = Finished::new(&earlier);
    let (skipped, todo): (Vec<_>, Vec<_>) = mine
        .iter()
        .map(|request| (request, finished.find(&request.job.entry.image, &request.digest, VERSION)))
        .partition(|(_, line)| line.is_some());
    let skipped_exits: Vec<u8> = skipped.iter().filter_map(|(_, line)| line.map(|line| line.exit)).collect();
    let todo: Vec<&Request<'_>> = todo.into_iter().map(|(request, _)| request).collect();

    let stop = crate::interrupt::flag()?;
    let budget = Budgets::new(&todo, &args.run);
    let (running, waiting) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let board =
        Board::new(output, todo.len(), budget.lanes, todo.iter().map(|todo| todo.job.allocated).sum());
    let work = Work {
        args,
        budget: &budget,
        shard: assignment.as_ref().map(|(shard, all)| all.of(*shard)),
        now: crate::session::now()?,
        claims: Mutex::new(Claims::open(&args.run.report)?),
        finished: &finished,
        running: &running,
        waiting: &waiting,
        board: &board,
        stop: &stop,
    };
    let weights: Vec<u64> = todo.iter().map(|request| request.job.allocated).collect();
    let keep_going = args.run.keep_going;
    let pool = Pool { lanes: budget.lanes, keep_going, stop: &stop, running: &running, waiting: &waiting };
    let mut tally = Tally { store, exits: Vec::new(), counts: [0; 3], discarded: 0 };
    let work_on = |index: usize, lane: usize| todo.get(index).and_then(|request| work.run(request, lane));
    let end = ::batch::run(&weights, &pool, work_on, |index, outcome| {
        let Some(request) = todo.get(index) else { return Ok(false) };
        let line = outcome.unwrap_or_else(|panicked| Some(work.panicked(request, &panicked)));
        tally.take(line, request, &board)
    })?;
    work.claims.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).close()?;
    board.finish();

    let [done, unmet, failed] = tally.counts;
    let summary = Summary {
        schema: 1,
        coldfit: VERSION,
        report: args.run.report.clone(),
        images: mine.len(),
        skipped: skipped.len(),
        done,
        unmet,
        failed,
        left: end.left + tally.discarded,
        exit: worst_exit(tally.exits.iter().copied().chain(skipped_exits)),
        seconds: started.elapsed().as_secs_f64(),
    };
    output.either(&summary, text)?;
    if stop.load(Ordering::Acquire) {
        let message = format!("stopped: {} of {} images are left", summary.left, summary.images);
        return Err(Failure::new("batch.stopped", Class::Environment, message).with_hint(
            "The report is complete as far as it goes: the same command with --resume does the rest.",
        ));
    }
    Ok(summary.exit)
}

/// Version that lines carry.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

fn open_report(run: &RunArgs) -> Result<(Store, Vec<Line>), Failure> {
    Ok(if run.resume { Store::resume(&run.report)? } else { (Store::create(&run.report)?, Vec::new()) })
}

/// Folders of results are made at once: that one cannot be made is no surprise of the middle of the night.
fn make_folders(requests: &[Request<'_>]) -> Result<(), Failure> {
    let mut folders: Vec<_> =
        requests.iter().filter_map(|request| request.job.entry.output.as_deref()?.parent()).collect();
    folders.sort();
    folders.dedup();
    for folder in folders {
        std::fs::create_dir_all(folder).map_err(|error| Failure::host("make the folder", folder, &error))?;
    }
    Ok(())
}

fn write_manifest(file: &std::path::Path, jobs: &[::batch::Job], output: &Output) -> CommandResult {
    let mut text = String::new();
    for job in jobs {
        let mut entry = job.entry.clone();
        entry.allocated = Some(job.allocated);
        let line = serde_json::to_string(&entry)
            .map_err(|error| Failure::new("report.encode", Class::Bug, error.to_string()))?;
        text.push_str(&line);
        text.push('\n');
    }
    std::fs::write(file, text).map_err(|error| Failure::host("write the manifest", file, &error))?;
    output.note(&format!("{}: {} images", file.display(), jobs.len()));
    Ok(0)
}

/// How threads and memory are divided.
struct Budgets {
    lanes: usize,
    threads: usize,
    /// Changed blocks of one check or fix.
    overlay: u64,
    /// Bytes in flight of all conversions together.
    conversions: std::sync::Arc<::convert::Budget>,
}

impl Budgets {
    fn new(todo: &[&Request<'_>], run: &RunArgs) -> Self {
        let threads = run.threads.map_or_else(
            || std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            usize::from,
        );
        let memory = run.memory << 20;
        let is_plain =
            |request: &&&Request<'_>| request.job.action == Action::Convert && request.profile.is_none();
        let plain = todo.iter().filter(is_plain).count();
        // Conversions alone have all of it; beside others, half.
        let (for_conversions, for_others) = match plain {
            0 => (0, memory),
            all if all == todo.len() => (memory, 0),
            _ => (memory / 2, memory / 2),
        };
        let least = WORKING_MEMORY + OVERLAY_MEMORY;
        let lanes = match for_others {
            0 => Lanes::new(threads, memory, CONVERT_MEMORY, todo.len()),
            others => Lanes::new(threads, others, least, todo.len()),
        };
        let overlay = lanes.memory_each.saturating_sub(WORKING_MEMORY).max(OVERLAY_MEMORY);
        let conversions = std::sync::Arc::new(::convert::Budget::new(for_conversions.max(CONVERT_MEMORY)));
        Self { lanes: lanes.count, threads, overlay, conversions }
    }
}

/// What came out so far.
struct Tally {
    store: Store,
    exits: Vec<u8>,
    counts: [usize; 3],
    discarded: usize,
}

impl Tally {
    fn take(&mut self, line: Option<Line>, request: &Request<'_>, board: &Board) -> Result<bool, Failure> {
        let Some(line) = line else {
            self.discarded += 1;
            return Ok(false);
        };
        self.store.append(&line)?;
        self.exits.push(line.exit);
        if let Some(count) = self.counts.get_mut(line.result as usize) {
            *count += 1;
        }
        board.ended(&line, request.job.allocated);
        Ok(line.result == Outcome::Failed)
    }
}

fn text(summary: &Summary) -> String {
    let mut parts = vec![format!("{} done", summary.done)];
    for (count, word) in [
        (summary.unmet, "with a required rule unmet"),
        (summary.failed, "failed"),
        (summary.skipped, "finished before"),
        (summary.left, "left"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {word}"));
        }
    }
    format!(
        "{} images: {} in {:.1} s; report in {}\n",
        summary.images,
        parts.join(", "),
        summary.seconds,
        summary.report.display()
    )
}
