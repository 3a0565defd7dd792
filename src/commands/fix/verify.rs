//! What is checked before a commit, and of a copy before it gets its name.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use fixes::{Finding, Selection};
use guest::{Bus, Verdict};
use report::{Class, Diagnose, Diagnostic, Silent};
use stack::{Image, OpenOptions, SealedImage};
use vfs::{DeviceTable, GuestTree};

use super::edits::digest_of_file;
use super::report::Report;
use crate::commands::acceptance::Import;
use crate::render::output::Failure;

/// Looks at the guest as it will be, or as it is in a copy.
#[derive(Clone)]
pub struct Judge {
    profile: Arc<cloudspec::Profile>,
    selection: Selection,
}

/// What the judge saw.
pub struct Seen {
    pub findings: Vec<Finding>,
    pub boot: BTreeMap<Bus, Verdict>,
    pub import: Option<Import>,
}

/// What must be found.
#[derive(Clone)]
struct Expected {
    /// Paths and digests of the changed files.
    files: Vec<(String, String)>,
    boot_before: BTreeMap<Bus, Verdict>,
}

impl Expected {
    fn new(report: &Report) -> Self {
        let files = report.edits.iter();
        Self {
            files: files.filter_map(|edit| Some((edit.path.clone(), edit.new_sha256.clone()?))).collect(),
            boot_before: report.boot_before.clone(),
        }
    }
}

impl Judge {
    /// A judge by these rules.
    pub fn new(profile: &cloudspec::Profile, selection: &Selection) -> Self {
        Self { profile: Arc::new(profile.clone()), selection: selection.clone() }
    }

    /// Checks the sealed image, everything read anew through the overlay; the report takes over what was seen.
    /// A file that is made anew needs no check of the image file's own tables.
    pub fn before(&self, sealed: &SealedImage, is_remade: bool, report: &mut Report) -> Result<(), Failure> {
        match is_remade {
            true => sealed.verify_disk()?,
            false => sealed.verify()?,
        }
        for name in sealed.changed_filesystems() {
            report.verified.push(format!("{name}: the structure of its filesystem is sound"));
        }
        let (tree, devices) = (sealed.reopen_tree()?, sealed.device_table()?);
        let seen = self.look(&tree, &devices, &Expected::new(report))?;
        report.verified.push(format!("{} changed files read back as planned", report.edits.len()));
        report.verified.push("a second run would change nothing".into());
        report.verified.push("every bus that it booted on is still one that it boots on".into());
        report.take(seen);
        Ok(())
    }

    /// Looks at a complete copy before it gets its name.
    ///
    /// In the same format it must give the same findings; another format may be what a rule is about.
    pub fn of_copy(&self, options: OpenOptions, report: &Report, is_same_format: bool) -> CopyJudge {
        CopyJudge {
            findings: is_same_format.then(|| report.findings_after.clone()),
            judge: self.clone(),
            options,
            expected: Expected::new(report),
            boot_after: report.boot_after.clone(),
            seen: Arc::default(),
        }
    }

    fn look(&self, tree: &GuestTree, devices: &DeviceTable, expected: &Expected) -> Result<Seen, Failure> {
        for (path, planned) in &expected.files {
            let found = digest_of_file(tree, path)?;
            if found != *planned {
                return Err(bug(format!("{path}: reads back as {found}, planned was {planned}")));
            }
        }
        let guest = guest::inspect(tree, devices)?;
        let again = fixes::plan(tree, devices, &guest, &self.profile, &self.selection)?;
        if let Some(planned) = again.disk_edits.first() {
            return Err(bug(format!("the disk would be changed again: {}", planned.edit)));
        }
        if let Some(edit) = again.edits.first() {
            return Err(bug(format!("{}: would be changed again: {}", edit.path, edit.summary.join("; "))));
        }
        let boot = guest::verdict(&guest, devices);
        let is_lost = |bus: &Bus| !boot.get(bus).is_some_and(Verdict::boots);
        let mut booted = expected.boot_before.iter().filter(|(_, verdict)| verdict.boots());
        if let Some((bus, _)) = booted.find(|(bus, _)| is_lost(bus)) {
            return Err(bug(format!("the guest would no longer boot on {bus}")));
        }
        let import = Import::new(&self.profile, &guest, devices, &boot);
        Ok(Seen { findings: again.findings, boot, import })
    }
}

/// A judge of one copy.
#[derive(Clone)]
pub struct CopyJudge {
    judge: Judge,
    options: OpenOptions,
    expected: Expected,
    boot_after: BTreeMap<Bus, Verdict>,
    findings: Option<Vec<Finding>>,
    seen: Arc<Mutex<Option<Seen>>>,
}

impl CopyJudge {
    /// As the engine asks.
    pub fn accept(&self) -> convert::Accept {
        let judge = self.clone();
        Arc::new(move |path| match judge.look(path) {
            Ok(seen) => {
                *judge.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
                Ok(())
            }
            Err(failure) => Err(Box::new(Objection(failure.diagnostic)) as Box<dyn Diagnose + Send + Sync>),
        })
    }

    /// What was seen in the copy.
    pub fn seen(&self) -> Option<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn look(&self, path: &Path) -> Result<Seen, Failure> {
        let mut image = Image::open(path, &self.options, &Silent)?;
        if let Some(qcow2) = image.qcow2() {
            let report = qcow2.check()?;
            if !report.is_clean() {
                let first = report.problems.first().cloned().unwrap_or_else(|| "leaked clusters".into());
                return Err(bug(format!("the copy contradicts itself: {first}")));
            }
        }
        let tree = image.open_tree(false)?;
        let seen = self.judge.look(&tree, image.device_table(), &self.expected)?;
        if seen.boot != self.boot_after {
            return Err(bug("the copy boots otherwise than what it was made from".into()));
        }
        if self.findings.as_ref().is_some_and(|findings| *findings != seen.findings) {
            return Err(bug("the copy gives other findings than what it was made from".into()));
        }
        Ok(seen)
    }
}

impl Report {
    /// Takes over what was seen of the changed guest.
    pub fn take(&mut self, seen: Seen) {
        self.findings_after = seen.findings;
        self.boot_after = seen.boot;
        self.import = seen.import;
    }
}

/// Why a copy was not accepted, as the engine hands it on.
#[derive(Debug)]
struct Objection(Diagnostic);

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Objection {}

impl Diagnose for Objection {
    fn code(&self) -> &'static str {
        self.0.code
    }
    fn class(&self) -> Class {
        self.0.class
    }
    fn hint(&self) -> Option<String> {
        self.0.hint.clone()
    }
}

fn bug(message: String) -> Failure {
    Failure::new("bug.verify", Class::Bug, message).with_hint("Nothing was committed. Please report this.")
}
