//! One image on one lane: the same functions as the commands of their own, and a line of what came out.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use ::batch::{Action, Claims, Finished, Identity, Line, Panicked, ShardOf, TargetFile};
use fixes::{Finding, State};
use guest::{Bus, Verdict};
use report::{Class, Diagnostic, Progress};
use serde::Serialize;
use vfs::Timestamp;

use super::request::Request;
use super::{Budgets, VERSION};
use crate::cli::args::{CopyArgs, ImageArgs, ImageFormat, TargetArgs};
use crate::cli::batch::BatchArgs;
use crate::commands::{check, convert, disk_map, fix};
use crate::render::board::Board;
use crate::render::findings::required_unmet;
use crate::render::output::Failure;

/// What all lanes share.
pub struct Work<'a> {
    pub args: &'a BatchArgs,
    pub budget: &'a Budgets,
    pub shard: Option<ShardOf>,
    pub now: Timestamp,
    pub claims: Mutex<Claims>,
    pub finished: &'a Finished<'a>,
    pub running: &'a AtomicUsize,
    pub waiting: &'a AtomicUsize,
    pub board: &'a Board,
    pub stop: &'a AtomicBool,
}

impl Work<'_> {
    /// Does one image. `None`: it was stopped and left nothing.
    pub fn run(&self, request: &Request<'_>, lane: usize) -> Option<Line> {
        let mut line = self.head(request);
        let progress = self.board.lane(lane, &line.image);
        let started = Instant::now();
        line.source = Identity::of(&request.job.entry.image).ok();
        let outcome = self.dispatch(request, lane, &progress, &mut line);
        line.seconds = started.elapsed().as_secs_f64();
        if let Err(failure) = outcome {
            if failure.diagnostic.code == STOPPED && self.stop.load(Ordering::Acquire) {
                return None;
            }
            line.fail(&failure.diagnostic);
        }
        Some(line)
    }

    /// The line of an image on which we failed ourselves.
    pub fn panicked(&self, request: &Request<'_>, panicked: &Panicked) -> Line {
        let mut line = self.head(request);
        line.source = Identity::of(&request.job.entry.image).ok();
        line.fail(&Diagnostic {
            code: "bug.panic",
            class: Class::Bug,
            message: format!("an internal check failed: {}", panicked.0),
            hint: Some("Nothing of this image was committed. Please report this with the message.".into()),
        });
        line
    }

    fn head(&self, request: &Request<'_>) -> Line {
        let mut line = Line::new(VERSION, &request.job.image_name(), request.job.action, &request.digest);
        line.profile = request.profile.map(|resolved| resolved.profile.id.clone());
        line.profile_digest = request.profile.map(|resolved| resolved.digest.clone());
        line.shard.clone_from(&self.shard);
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        line.started_at = (since.as_secs_f64() * 1000.0).round() / 1000.0;
        line
    }

    fn dispatch(
        &self,
        request: &Request<'_>,
        lane: usize,
        progress: &dyn Progress,
        line: &mut Line,
    ) -> Result<(), Failure> {
        match request.job.action {
            Action::Check => self.check(request, progress, line),
            Action::Fix => self.fix(request, lane, progress, line),
            Action::Convert => self.convert(request, lane, progress, line),
        }
    }

    fn check(&self, request: &Request<'_>, progress: &dyn Progress, line: &mut Line) -> Result<(), Failure> {
        let report = check::check(
            &check::Request {
                path: &request.job.entry.image,
                profile: profile(request)?,
                selection: &request.selection,
                image: &self.image_args(request)?,
                map_buckets: self.map_buckets(),
            },
            progress,
        )?;
        note_findings(line, &report.findings, None);
        note_boot(line, &report.boot);
        line.timings = report.timings.seconds();
        line.disk.clone_from(&report.disk);
        self.keep_full(line, &report)
    }

    fn fix(
        &self,
        request: &Request<'_>,
        lane: usize,
        progress: &dyn Progress,
        line: &mut Line,
    ) -> Result<(), Failure> {
        let entry = &request.job.entry;
        let target = TargetArgs {
            output: entry.output.clone(),
            force: self.may_replace(request)?,
            undo_file: entry.undo_file.clone(),
        };
        let report = fix::fix(
            &fix::Job {
                path: &entry.image,
                profile: profile(request)?,
                selection: &request.selection,
                dry_run: self.args.dry_run,
                diff: false,
                keep_going: self.args.fix_rest,
                target: &target,
                copy: &CopyArgs::default(),
                engine: &self.engine(lane, ::convert::Options::default()),
                image: &self.image_args(request)?,
                now: self.now,
                map_buckets: self.map_buckets(),
            },
            progress,
            self.stop,
        )?;
        let before = report.commit.is_some().then_some(report.findings.as_slice());
        note_findings(line, &report.findings_after, before);
        note_boot(line, &report.boot_after);
        line.timings = report.timings.seconds();
        line.disk.clone_from(&report.disk);
        if let Some(commit) = &report.commit {
            line.bytes.insert("written".into(), commit.written_bytes);
            line.bytes.insert("journal".into(), commit.journal_bytes);
        }
        if request.job.is_in_place() {
            line.source_after = Identity::of(&entry.image).ok();
        }
        note_target(line, entry.output.as_ref().filter(|_| report.commit.is_some()));
        self.keep_full(line, &report)
    }

    fn convert(
        &self,
        request: &Request<'_>,
        lane: usize,
        progress: &dyn Progress,
        line: &mut Line,
    ) -> Result<(), Failure> {
        let missing = || Failure::usage(format!("{}: no conversion", request.job.origin));
        let mut args = request.convert.clone().ok_or_else(missing)?;
        args.target.force = self.may_replace(request)?;
        let options = self.engine(lane, convert::options(&args.engine, args.target.sparse));
        // The map is for looking at: a disk whose guest is not known has none.
        line.disk = self.map_buckets().and_then(|buckets| {
            let image = self.image_args(request).ok()?;
            disk_map::look(&args.input, &image, buckets)
        });
        let report = convert::convert(&args, &options, progress, self.stop)?;
        let outcome = &report.outcome;
        line.bytes = [
            ("virtual", outcome.virtual_bytes),
            ("mapped", outcome.mapped_bytes),
            ("read", outcome.bytes_read),
            ("written", outcome.bytes_written),
        ]
        .map(|(name, bytes)| (name.to_owned(), bytes))
        .into();
        let seconds = |(name, nanoseconds): (&str, u64)| (name.to_owned(), nanoseconds as f64 / 1e9);
        let times = &outcome.times;
        line.timings = [
            ("map", times.map),
            ("read", times.read),
            ("decode", times.decode),
            ("encode", times.encode),
            ("write", times.write),
            ("sync", times.sync),
        ]
        .map(seconds)
        .into();
        if let Some(fixed) = &report.fix {
            note_findings(line, &fixed.findings_after, Some(&fixed.findings));
            note_boot(line, &fixed.boot_after);
        }
        note_target(line, request.job.entry.output.as_ref());
        self.keep_full(line, &report)
    }

    /// With this lane's share of threads and memory.
    fn engine(&self, lane: usize, options: ::convert::Options) -> ::convert::Options {
        let budget = &self.budget.conversions;
        ::convert::Options {
            threads: Some(self.threads(lane)),
            memory: budget.limit() / self.budget.lanes as u64,
            budget: Some(Arc::clone(budget)),
            ..options
        }
    }

    /// Threads of a conversion: all of them on the lane of the largest images, one beside it; once nothing waits, those
    /// that the other running images leave.
    fn threads(&self, lane: usize) -> usize {
        let all = self.budget.threads;
        match (lane, self.waiting.load(Ordering::Acquire)) {
            (0, _) => all,
            (_, 0) => (all / self.running.load(Ordering::Acquire).max(1)).max(1),
            _ => 1,
        }
    }

    fn map_buckets(&self) -> Option<u32> {
        Some(self.args.run.map_buckets).filter(|buckets| *buckets > 0)
    }

    fn image_args(&self, request: &Request<'_>) -> Result<ImageArgs, Failure> {
        use clap::ValueEnum;
        let entry = &request.job.entry;
        let input_format = entry.input_format.as_deref().map(|name| ImageFormat::from_str(name, false));
        let input_format = input_format
            .transpose()
            .map_err(|_| Failure::usage(format!("{}: no such format of an image", request.job.origin)))?;
        Ok(ImageArgs {
            input_format,
            allow_backing: self.args.image.allow_backing.clone(),
            sector_size: None,
            root: entry.root.clone(),
            memory: self.budget.overlay >> 20,
            temp_dir: self.args.image.temp_dir.clone(),
        })
    }

    /// Whether the result may take the place of what is there: by wish, because an earlier run made it, or because a
    /// killed run was making it. For a new one, notes that it is made now.
    fn may_replace(&self, request: &Request<'_>) -> Result<bool, Failure> {
        let entry = &request.job.entry;
        let Some(output) = entry.output.as_deref().filter(|_| !self.args.dry_run) else { return Ok(false) };
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        let is_ours = self.args.run.resume && (claims.was_claimed(output) || self.finished.made(output));
        if !output.exists() || is_ours {
            claims.claim(output)?;
        }
        Ok(entry.force == Some(true) || is_ours)
    }

    fn keep_full(&self, line: &mut Line, report: &impl Serialize) -> Result<(), Failure> {
        if self.args.run.full {
            let value = serde_json::to_value(report)
                .map_err(|error| Failure::new("report.encode", Class::Bug, error.to_string()))?;
            line.report = Some(value);
        }
        Ok(())
    }
}

/// Code of the engine's error when it was told to stop.
const STOPPED: &str = "convert.stopped";

fn profile<'a>(request: &Request<'a>) -> Result<&'a cloudspec::Profile, Failure> {
    // Planning refuses jobs that lack one.
    let missing = || Failure::usage(format!("{}: no profile", request.job.origin));
    request.profile.map(|resolved| &resolved.profile).ok_or_else(missing)
}

fn note_target(line: &mut Line, path: Option<&PathBuf>) {
    line.target = path
        .and_then(|path| Identity::of(path).ok().map(|identity| TargetFile { path: path.clone(), identity }));
}

/// States of the rules; `before`: the states from before a fix that was committed.
fn note_findings(line: &mut Line, findings: &[Finding], before: Option<&[Finding]>) {
    for finding in findings {
        let was_unmet = before.is_some_and(|before| {
            before.iter().any(|earlier| earlier.rule == finding.rule && earlier.state.is_unmet())
        });
        let state = match finding.state {
            State::Holds if was_unmet => "fixed".to_owned(),
            state => serde_json::to_value(state)
                .ok()
                .and_then(|state| state.as_str().map(str::to_owned))
                .unwrap_or_default(),
        };
        *line.findings.entry(state.clone()).or_default() += 1;
        line.rules.insert(finding.rule.clone(), state);
    }
    let unmet: Vec<String> = required_unmet(findings).map(|finding| finding.rule.clone()).collect();
    if !unmet.is_empty() {
        line.fall_short(unmet);
    }
}

fn note_boot(line: &mut Line, boot: &BTreeMap<Bus, Verdict>) {
    let word = |verdict: &Verdict| match verdict {
        Verdict::Boots => "boots",
        Verdict::DoesNotBoot { .. } => "does-not-boot",
        Verdict::Unknown { .. } => "unknown",
    };
    line.boot = boot.iter().map(|(bus, verdict)| (bus.name().to_owned(), word(verdict).to_owned())).collect();
}
