//! `coldfit fix`.

mod edits;
mod verify;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use batch::DiskMap;
use cloudspec::Profile;
use fixes::{Finding, Plan, Selection};
use guest::{Bus, Verdict};
use report::{Class, Event, Progress};
use serde::Serialize;
use stack::Image;
use vfs::Timestamp;

use self::edits::EditReport;
use self::verify::Verification;
use super::acceptance::Import;
use super::check::RULE_UNMET;
use super::{CommandResult, disk_map, inspect, profiles};
use crate::cli::args::{ImageArgs, RuleArgs, TargetArgs};
use crate::render::findings::{self, Tense};
use crate::render::output::{AtImage, Failure, Output};
use crate::render::progress::Bar;
use crate::session::{self, Committed, Timings};

/// Everything that the command line asks for.
pub struct Request {
    pub path: PathBuf,
    pub dry_run: bool,
    pub diff: bool,
    pub keep_going: bool,
    pub rules: RuleArgs,
    pub target: TargetArgs,
    pub image: ImageArgs,
}

/// The report (docs/report.md).
#[derive(Debug, Serialize)]
pub struct Report {
    schema: u32,
    coldfit: &'static str,
    image: PathBuf,
    profile: String,
    dry_run: bool,
    pub findings: Vec<Finding>,
    pub findings_after: Vec<Finding>,
    edits: Vec<EditReport>,
    disk_edits: Vec<String>,
    boot_before: BTreeMap<Bus, Verdict>,
    pub boot_after: BTreeMap<Bus, Verdict>,
    #[serde(skip_serializing_if = "Option::is_none")]
    import: Option<Import>,
    verified: Vec<String>,
    pub commit: Option<Committed>,
    pub timings: Timings,
    /// Asked for by `batch` only.
    #[serde(skip)]
    pub disk: Option<DiskMap>,
}

impl Report {
    /// True when a rule of severity `must` still does not hold.
    pub fn is_short(&self) -> bool {
        findings::required_unmet(&self.findings_after).next().is_some()
    }
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
    pub image: &'a ImageArgs,
    /// Time stamped on what changes.
    pub now: Timestamp,
    /// Draw the disk map with so many buckets.
    pub map_buckets: Option<u32>,
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
        image: &request.image,
        now: session::now()?,
        map_buckets: None,
    };
    let report = fix(&job, &Bar::new(output.quiet))?;
    output.either(&report, |report| text(report, request.rules.explain))?;
    Ok(if report.is_short() { RULE_UNMET } else { 0 })
}

/// Fixes one image; prints nothing.
pub fn fix(job: &Job<'_>, progress: &dyn Progress) -> Result<Report, Failure> {
    let &Job { path, profile, selection, .. } = job;
    let mut timings = Timings::default();

    // A dry run takes the same way up to the commit, with a reader's lock.
    let access = if job.dry_run { block::Access::Read } else { session::access(job.target) };
    let options = session::options(job.image, access);
    let mut image =
        timings.stage("open", progress, || Image::open(path, &options, progress)).at_image(path)?;
    let mut tree = timings.stage("mount", progress, || image.open_tree(true)).at_image(path)?;
    image.require_essential_mounts().at_image(path)?;
    let guest =
        timings.stage("inspect", progress, || guest::inspect(&tree, image.device_table())).at_image(path)?;
    let boot_before = inspect::verdict(&image, &guest);
    let plan = timings
        .stage("plan", progress, || fixes::plan(&tree, image.device_table(), &guest, profile, selection))
        .at_image(path)?;
    if !job.keep_going {
        refuse_what_cannot_be_met(&plan).at_image(path)?;
    }
    let edits = plan
        .edits
        .iter()
        .map(|edit| EditReport::new(edit, &tree, job.diff))
        .collect::<Result<_, _>>()
        .at_image(path)?;

    let mut report = Report {
        schema: inspect::SCHEMA,
        coldfit: env!("CARGO_PKG_VERSION"),
        image: path.to_owned(),
        profile: profile.id.clone(),
        dry_run: job.dry_run,
        findings_after: plan.findings.clone(),
        findings: plan.findings.clone(),
        edits,
        disk_edits: plan.disk_edits.iter().map(|planned| planned.edit.to_string()).collect(),
        import: Import::new(profile, &guest, image.device_table(), &boot_before),
        boot_after: boot_before.clone(),
        boot_before,
        verified: Vec::new(),
        commit: None,
        timings: Timings::default(),
        disk: job
            .map_buckets
            .map(|buckets| disk_map::of(&image, &tree, buckets))
            .transpose()
            .at_image(path)?,
    };
    if plan.is_empty() && job.target.output.is_none() {
        report.timings = timings;
        return Ok(report);
    }

    let remarks =
        timings.stage("apply", progress, || fixes::apply(&plan.edits, &mut tree, job.now)).at_image(path)?;
    remarks.iter().for_each(|remark| progress.event(Event::Note { text: remark }));
    drop(tree);
    let disk_edits: Vec<vfs::DiskEdit> = plan.disk_edits.iter().map(|planned| planned.edit).collect();
    image.edit_disk(&disk_edits).at_image(path)?;
    let sealed = image.seal().at_image(path)?;
    if let Some(map) = &mut report.disk {
        map.mark_changed(sealed.changes().ranges());
    }
    let devices = sealed.device_table().at_image(path)?;
    let verification = Verification { profile, selection, devices: &devices };
    timings.stage("verify", progress, || verification.run(&sealed, &mut report)).at_image(path)?;
    if !job.dry_run {
        let committed =
            timings.stage("commit", progress, || session::commit(sealed, path, job.target, progress))?;
        timings.note("sync", committed.sync_seconds);
        report.commit = Some(committed);
    }
    report.timings = timings;
    Ok(report)
}

/// A rule that an edit should meet and cannot ends the run before anything is written.
fn refuse_what_cannot_be_met(plan: &Plan) -> Result<(), Failure> {
    let Some(finding) = plan.not_fixable().next() else { return Ok(()) };
    let others = match plan.not_fixable().count() {
        1 => String::new(),
        count => format!(" (and {} other rules)", count - 1),
    };
    let message = format!("cannot fix {}{others}: {}", finding.rule, finding.evidence.join("; "));
    let remedy = finding.remedy.clone().unwrap_or_default();
    let rest = format!("To do all the rest, give --keep-going, or --skip {}.", finding.rule);
    Err(Failure::new("fix.not-fixable", Class::Unsupported, message).with_hint(format!("{remedy} {rest}")))
}

fn text(report: &Report, explain: bool) -> String {
    let mut text = format!("{}: profile {}\n", report.image.display(), report.profile);
    let tense = if report.dry_run { Tense::Would } else { Tense::Done };
    text.push_str(&findings::text(&report.findings, tense, explain));
    for edit in &report.edits {
        if let Some(diff) = &edit.diff {
            text.push('\n');
            text.push_str(diff);
        }
    }
    if !report.edits.is_empty() || !report.disk_edits.is_empty() {
        text.push('\n');
        for edit in &report.disk_edits {
            text.push_str(&format!("  disk: {edit}\n"));
        }
        for edit in &report.edits {
            text.push_str(&match (edit.old_len, edit.new_len) {
                (old, Some(new)) => {
                    format!("  {} {}: {} to {new} bytes\n", edit.kind, edit.path, old.unwrap_or(0))
                }
                _ => format!("  {} {}\n", edit.kind, edit.path),
            });
        }
    }
    text.push_str(&inspect::boot_text(&report.boot_after));
    if let Some(import) = &report.import {
        text.push_str(&import.text());
    }
    text.push('\n');
    text.push_str(&match (
        &report.commit,
        report.edits.is_empty() && report.disk_edits.is_empty(),
        report.dry_run,
    ) {
        (Some(commit), ..) => {
            let undo =
                commit.undo_file.as_ref().map(|file| format!(", bytes from before in {}", file.display()));
            format!(
                "committed to {}: {} bytes written{}\n",
                commit.target.display(),
                commit.written_bytes,
                undo.unwrap_or_default()
            )
        }
        (None, true, _) => "nothing to do; the image was not touched\n".into(),
        (None, false, _) => "dry run: verified, and nothing was written\n".into(),
    });
    if let Some(shortfall) = findings::shortfall(&report.findings_after) {
        text.push_str(&format!("{shortfall}\n"));
    }
    text
}
