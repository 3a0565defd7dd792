//! `coldfit fix`.

pub mod copy;
mod edits;
pub mod prepare;
pub mod report;
pub mod verify;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use ::convert::{Destination, Options};
use ::report::{Event, Progress};
use cloudspec::Profile;
use fixes::Selection;
use stack::{OpenOptions, SealedImage};
use vfs::Timestamp;

use self::copy::{Copy, Target};
use self::prepare::{Asked, Prepared};
pub use self::report::Report;
use self::verify::Judge;
use super::{CommandResult, profiles};
use crate::cli::args::{CopyArgs, ImageArgs, RuleArgs, TargetArgs};
use crate::render::output::{AtImage, Failure, Output};
use crate::render::progress::Bar;
use crate::session::{self, Timings};

/// Everything that the command line asks for.
pub struct Request {
    pub path: PathBuf,
    pub dry_run: bool,
    pub diff: bool,
    pub keep_going: bool,
    pub rules: RuleArgs,
    pub target: TargetArgs,
    pub copy: CopyArgs,
    pub image: ImageArgs,
}

/// One fix, with everything that was looked up for it.
pub struct Job<'a> {
    pub path: &'a Path,
    pub profile: &'a Profile,
    pub selection: &'a Selection,
    pub dry_run: bool,
    /// Put the differences of text files into the report.
    pub diff: bool,
    /// Do the rest where a rule cannot be met.
    pub keep_going: bool,
    pub target: &'a TargetArgs,
    pub copy: &'a CopyArgs,
    /// How the copy engine works.
    pub engine: &'a Options,
    pub image: &'a ImageArgs,
    /// Time stamped on what changes.
    pub now: Timestamp,
    /// Draw the disk map with so many buckets.
    pub map_buckets: Option<u32>,
}

/// Where the changes go.
enum Way {
    /// Into the image itself.
    InPlace,
    /// Into a copy of the file.
    FileCopy,
    /// Into a file that the copy engine makes.
    Engine(Target),
}

/// Plans, shows, applies, verifies, commits.
pub fn run(request: &Request, output: &Output) -> CommandResult {
    let profile = profiles::load(&request.rules.profile)?.with(&request.rules.set)?;
    let job = Job {
        path: &request.path,
        profile: &profile,
        selection: &request.rules.selection(),
        dry_run: request.dry_run,
        diff: request.diff,
        keep_going: request.keep_going,
        target: &request.target,
        copy: &request.copy,
        engine: &Options::default(),
        image: &request.image,
        now: session::now()?,
        map_buckets: None,
    };
    // A commit in place must not be stopped between: it ends as it would without a signal.
    let never = AtomicBool::new(false);
    let flag = request.target.output.is_some().then(crate::interrupt::flag).transpose()?;
    let report = fix(&job, &Bar::new(output.quiet), flag.as_deref().unwrap_or(&never))?;
    output.either(&report, |report| report.text(request.rules.explain))?;
    Ok(report.exit_code())
}

/// Fixes one image; prints nothing.
pub fn fix(job: &Job<'_>, progress: &dyn Progress, stop: &AtomicBool) -> Result<Report, Failure> {
    let path = job.path;
    let mut timings = Timings::default();
    if let Some(file) = &job.target.output {
        copy::refuse_early(path, file, job.target.force).at_image(path)?;
    }
    // A dry run takes the same way up to the commit, with a reader's lock.
    let access = if job.dry_run { block::Access::Read } else { session::access(job.target) };
    let makes_file = job.target.output.is_some();
    let options = OpenOptions { is_remade: makes_file, ..session::options(job.image, access) };
    let asked = Asked {
        path,
        profile: job.profile,
        selection: job.selection,
        dry_run: job.dry_run,
        diff: job.diff,
        keep_going: job.keep_going,
        now: job.now,
        map_buckets: job.map_buckets,
        makes_file,
    };
    let Prepared { mut report, sealed } = asked.prepare(&options, &mut timings, progress)?;
    let Some(sealed) = sealed else {
        report.timings = timings;
        return Ok(report);
    };
    let judge = Judge::new(job.profile, job.selection);
    let way = way(job, &sealed, progress).at_image(path)?;
    let is_remade = matches!(way, Way::Engine(_));
    timings.stage("verify", progress, || judge.before(&sealed, is_remade, &mut report)).at_image(path)?;
    match (way, &job.target.output) {
        _ if job.dry_run => {}
        (Way::Engine(target), Some(file)) => {
            let copy = Copy {
                target: &target,
                destination: &Destination::NewFile { path: file.clone(), force: job.target.force },
                options: job.engine,
                skips_free: !job.copy.keep_free,
            };
            let copied = copy
                .judged(&sealed, &judge, &options, &mut report, &mut timings, (progress, stop))
                .at_image(path)?;
            report.copy = Some(copied);
        }
        _ => {
            let committed =
                timings.stage("commit", progress, || session::commit(sealed, path, job.target, progress))?;
            timings.note("sync", committed.sync_seconds);
            report.commit = Some(committed);
        }
    }
    report.timings = timings;
    Ok(report)
}

/// Chooses how the result is written.
fn way(job: &Job<'_>, sealed: &SealedImage, progress: &dyn Progress) -> Result<Way, Failure> {
    let Some(file) = &job.target.output else { return Ok(Way::InPlace) };
    let snapshots = sealed.qcow2().map_or(0, |image| image.info().snapshots.len());
    let target = match snapshots > 0 && !job.copy.drop_snapshots {
        true => Err(format!("it has {snapshots} internal snapshots")),
        false => copy::same_format(sealed)?,
    };
    match target {
        Ok(target) => {
            if target.depth == qcow2::Depth::Top {
                sealed.require_portable_backing(file)?;
            }
            Ok(Way::Engine(target))
        }
        Err(why) => {
            let text = format!("the image file is copied as it is, free space included: {why}");
            progress.event(Event::Note { text: &text });
            Ok(Way::FileCopy)
        }
    }
}
