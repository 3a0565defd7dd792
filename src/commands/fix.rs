//! `coldfit fix`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use fixes::{Action, Edit, Finding, Plan, Selection, State};
use guest::{Bus, Verdict};
use report::{Class, Progress};
use serde::Serialize;
use sha2::{Digest, Sha256};
use stack::{Image, SealedImage};
use vfs::GuestTree;

use super::{CommandResult, inspect, profiles};
use crate::cli::args::{ImageArgs, TargetArgs};
use crate::render::diff::unified;
use crate::render::output::{AtImage, Failure, Output, single_line};
use crate::render::progress::Bar;
use crate::session::{self, Committed, Timings};

/// Everything that the command line asks for.
pub struct Request {
    pub path: PathBuf,
    pub profile: String,
    pub dry_run: bool,
    pub diff: bool,
    pub only: Vec<String>,
    pub skip: Vec<String>,
    pub target: TargetArgs,
    pub image: ImageArgs,
}

/// The report (docs/report.md).
#[derive(Debug, Serialize)]
struct Report {
    schema: u32,
    coldfit: &'static str,
    image: PathBuf,
    profile: String,
    dry_run: bool,
    findings: Vec<Finding>,
    edits: Vec<EditReport>,
    boot_before: BTreeMap<Bus, Verdict>,
    boot_after: BTreeMap<Bus, Verdict>,
    verified: Vec<String>,
    commit: Option<Committed>,
    timings: Timings,
}

#[derive(Debug, Serialize)]
struct EditReport {
    path: String,
    rules: Vec<String>,
    kind: &'static str,
    summary: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    old_len: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new_len: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    old_sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new_sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    diff: Option<String>,
}

/// Plans, shows, applies, verifies, commits.
pub fn run(request: &Request, output: &Output) -> CommandResult {
    let profile = profiles::load(&request.profile)?;
    let selection = Selection { only: request.only.clone(), skip: request.skip.clone() };
    let now = session::now()?;
    let path = &request.path;
    let bar = Bar::new(output.quiet);
    let progress: &dyn Progress = &bar;
    let mut timings = Timings::default();

    // A dry run takes the same way up to the commit, with a reader's lock.
    let access = if request.dry_run { block::Access::Read } else { session::access(&request.target) };
    let options = session::options(&request.image, access);
    let mut image =
        timings.stage("open", progress, || Image::open(path, &options, progress)).at_image(path)?;
    let mut tree = timings.stage("mount", progress, || image.open_tree(true)).at_image(path)?;
    image.require_essential_mounts().at_image(path)?;
    let guest =
        timings.stage("inspect", progress, || guest::inspect(&tree, image.device_table())).at_image(path)?;
    let boot_before = inspect::verdict(&image, &guest);
    let plan = timings
        .stage("plan", progress, || fixes::plan(&tree, image.device_table(), &guest, &profile, &selection))
        .at_image(path)?;
    refuse_what_cannot_be_met(&plan).at_image(path)?;
    let edits = plan
        .edits
        .iter()
        .map(|edit| report_edit(edit, &tree, request.diff))
        .collect::<Result<_, _>>()
        .at_image(path)?;

    let mut report = Report {
        schema: inspect::SCHEMA,
        coldfit: env!("CARGO_PKG_VERSION"),
        image: path.clone(),
        profile: profile.id.clone(),
        dry_run: request.dry_run,
        findings: plan.findings.clone(),
        edits,
        boot_after: boot_before.clone(),
        boot_before,
        verified: Vec::new(),
        commit: None,
        timings: Timings::default(),
    };
    if plan.edits.is_empty() && request.target.output.is_none() {
        report.timings = timings;
        return print(&report, output);
    }

    let remarks =
        timings.stage("apply", progress, || fixes::apply(&plan.edits, &mut tree, now)).at_image(path)?;
    remarks.iter().for_each(|remark| output.note(remark));
    drop(tree);
    let devices = image.device_table().clone();
    let sealed = image.seal().at_image(path)?;
    let verification = Verification { profile: &profile, selection: &selection, devices: &devices };
    timings.stage("verify", progress, || verification.run(&sealed, &mut report)).at_image(path)?;
    if !request.dry_run {
        let committed =
            timings.stage("commit", progress, || session::commit(sealed, path, &request.target, progress))?;
        timings.note("sync", committed.sync_seconds);
        report.commit = Some(committed);
    }
    report.timings = timings;
    print(&report, output)
}

/// A rule that must hold and cannot be met offline ends the run before anything is written.
fn refuse_what_cannot_be_met(plan: &Plan) -> Result<(), Failure> {
    let Some(finding) = plan.not_fixable().find(|finding| finding.severity == cloudspec::Severity::Must)
    else {
        return Ok(());
    };
    let message = format!("rule {} cannot be met: {}", finding.rule, finding.evidence.join("; "));
    let remedy = finding.remedy.clone().unwrap_or_default();
    Err(Failure::new("fix.not-fixable", Class::Unsupported, message)
        .with_hint(format!("{remedy} To do all the rest, give --skip {}.", finding.rule)))
}

/// What is checked through the overlay, everything read anew, before the commit.
struct Verification<'a> {
    profile: &'a cloudspec::Profile,
    selection: &'a Selection,
    devices: &'a vfs::DeviceTable,
}

impl Verification<'_> {
    fn run(&self, sealed: &SealedImage, report: &mut Report) -> Result<(), Failure> {
        sealed.verify()?;
        for name in sealed.changed_filesystems() {
            report.verified.push(format!("{name}: the structure of its filesystem is sound"));
        }
        let tree = sealed.reopen_tree()?;
        for edit in &report.edits {
            let Some(planned) = &edit.new_sha256 else { continue };
            let found = digest_of_file(&tree, &edit.path)?;
            if found != *planned {
                return Err(bug(format!("{}: reads back as {found}, planned was {planned}", edit.path)));
            }
        }
        report.verified.push(format!("{} changed files read back as planned", report.edits.len()));
        let guest = guest::inspect(&tree, self.devices)?;
        let again = fixes::plan(&tree, self.devices, &guest, self.profile, self.selection)?;
        if let Some(edit) = again.edits.first() {
            return Err(bug(format!("{}: would be changed again: {}", edit.path, edit.summary.join("; "))));
        }
        report.verified.push("a second run would change nothing".into());
        report.boot_after = guest::verdict(&guest, self.devices);
        let lost = report
            .boot_before
            .iter()
            .find(|(bus, verdict)| verdict.boots() && !report.boot_after[bus].boots());
        if let Some((bus, _)) = lost {
            return Err(bug(format!("the guest would no longer boot on {bus}")));
        }
        report.verified.push("every bus that it booted on is still one that it boots on".into());
        Ok(())
    }
}

fn bug(message: String) -> Failure {
    Failure::new("bug.verify", Class::Bug, message).with_hint("Nothing was committed. Please report this.")
}

fn hex(digest: &[u8]) -> String {
    digest.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

fn digest(parts: &[&[u8]]) -> String {
    let mut hasher = Sha256::new();
    parts.iter().for_each(|part| hasher.update(part));
    hex(&hasher.finalize())
}

/// Digest of a guest file, read piece by piece.
fn digest_of_file(tree: &GuestTree, path: &str) -> Result<String, Failure> {
    let location = tree.resolve(&vfs::GuestPath::root().join(path))?;
    let filesystem = &tree.mounts()[location.mount].filesystem;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut offset = 0;
    loop {
        let got = filesystem.read_at(location.node, offset, &mut buffer)?;
        if got == 0 {
            return Ok(hex(&hasher.finalize()));
        }
        hasher.update(&buffer[..got]);
        offset += got as u64;
    }
}

fn report_edit(edit: &Edit, tree: &GuestTree, with_diff: bool) -> Result<EditReport, Failure> {
    let path = edit.path.to_string();
    let mut report = EditReport {
        path: path.clone(),
        rules: edit.rules.clone(),
        kind: "attributes",
        summary: edit.summary.clone(),
        old_len: None,
        new_len: None,
        old_sha256: None,
        new_sha256: None,
        target: None,
        mode: edit.mode.map(|mode| format!("{mode:04o}")),
        diff: None,
    };
    match &edit.action {
        Action::Text { old, new } => {
            report.kind = if old.is_some() { "text" } else { "create" };
            report.diff = with_diff.then(|| unified(&path, old.as_deref(), new));
            report.old_len = old.as_ref().map(|old| old.len() as u64);
            report.new_len = Some(new.len() as u64);
            report.old_sha256 = old.as_ref().map(|old| digest(&[old]));
            report.new_sha256 = Some(digest(&[new]));
        }
        Action::Append { old_len, bytes } => {
            let old = tree.read(&edit.path, *old_len)?;
            report.kind = "append";
            report.old_len = Some(*old_len);
            report.new_len = Some(old_len + bytes.len() as u64);
            report.old_sha256 = Some(digest(&[&old]));
            report.new_sha256 = Some(digest(&[&old, bytes]));
        }
        Action::Rewrite { old_len, new } => {
            report.kind = "rewrite";
            report.old_len = Some(*old_len);
            report.new_len = Some(new.len() as u64);
            report.old_sha256 = Some(digest_of_file(tree, &path)?);
            report.new_sha256 = Some(digest(&[new]));
        }
        Action::Link { target, .. } => {
            report.kind = "link";
            report.target = Some(String::from_utf8_lossy(target).into_owned());
        }
        Action::Remove { old } => {
            report.kind = "remove";
            report.old_len = old.as_ref().map(|old| old.len() as u64);
        }
        Action::Empty { .. } => report.kind = "empty",
        Action::Attributes => {}
    }
    Ok(report)
}

fn print(report: &Report, output: &Output) -> CommandResult {
    output.either(report, text)?;
    Ok(0)
}

fn text(report: &Report) -> String {
    let mut text = format!("{}: profile {}\n", report.image.display(), report.profile);
    for finding in &report.findings {
        let word = match finding.state {
            State::Holds => "holds",
            State::Fixable if report.dry_run => "would be fixed",
            State::Fixable => "fixed",
            State::NotFixable => "NOT met",
            State::NeedsAction => "not met, needs you",
            State::NotApplicable => "not applicable",
            State::Waived => "waived",
        };
        text.push_str(&format!("  {}: {word}\n", finding.rule));
        for line in &finding.evidence {
            text.push_str(&format!("    {}\n", single_line(line)));
        }
        if let Some(remedy) = &finding.remedy {
            text.push_str(&format!("    remedy: {remedy}\n"));
        }
    }
    for edit in &report.edits {
        if let Some(diff) = &edit.diff {
            text.push('\n');
            text.push_str(diff);
        }
    }
    if !report.edits.is_empty() {
        text.push('\n');
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
    text.push('\n');
    text.push_str(&match (&report.commit, report.edits.is_empty(), report.dry_run) {
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
    text
}
