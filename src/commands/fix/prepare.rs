//! From an image to its changed disk, sealed: whatever the result goes into.

use std::path::Path;

use cloudspec::Profile;
use fixes::{Plan, Selection};
use report::{Class, Event, Progress};
use stack::{Image, OpenOptions, SealedImage};
use vfs::Timestamp;

use super::edits::EditReport;
use super::report::Report;
use crate::commands::acceptance::Import;
use crate::commands::{disk_map, inspect};
use crate::render::output::{AtImage, Failure};
use crate::session::Timings;

/// What is asked of a guest, with everything that was looked up for it.
pub struct Asked<'a> {
    pub path: &'a Path,
    pub profile: &'a Profile,
    pub selection: &'a Selection,
    pub dry_run: bool,
    /// Put the differences of text files into the report.
    pub diff: bool,
    /// Do the rest where a rule cannot be met.
    pub keep_going: bool,
    /// Time stamped on what changes.
    pub now: Timestamp,
    /// Draw the disk map with so many buckets.
    pub map_buckets: Option<u32>,
    /// The result goes into a new file: it is made even when nothing is to be changed.
    pub makes_file: bool,
}

/// The planned edits, and with them the disk.
pub struct Prepared {
    pub report: Report,
    /// `None` when nothing is to be done.
    pub sealed: Option<SealedImage>,
}

impl Asked<'_> {
    /// Opens, plans and applies, all in memory. Nothing is verified yet.
    pub fn prepare(
        &self,
        options: &OpenOptions,
        timings: &mut Timings,
        progress: &dyn Progress,
    ) -> Result<Prepared, Failure> {
        let &Asked { path, profile, selection, .. } = self;
        let mut image =
            timings.stage("open", progress, || Image::open(path, options, progress)).at_image(path)?;
        let mut tree = timings.stage("mount", progress, || image.open_tree(true)).at_image(path)?;
        image.require_essential_mounts().at_image(path)?;
        let guest = timings
            .stage("inspect", progress, || guest::inspect(&tree, image.device_table()))
            .at_image(path)?;
        let boot_before = inspect::verdict(&image, &guest);
        let plan = timings
            .stage("plan", progress, || fixes::plan(&tree, image.device_table(), &guest, profile, selection))
            .at_image(path)?;
        if !self.keep_going {
            refuse_what_cannot_be_met(&plan).at_image(path)?;
        }
        let edits = plan
            .edits
            .iter()
            .map(|edit| EditReport::new(edit, &tree, self.diff))
            .collect::<Result<_, _>>()
            .at_image(path)?;
        let mut report = Report {
            schema: inspect::SCHEMA,
            coldfit: env!("CARGO_PKG_VERSION"),
            image: path.to_owned(),
            profile: profile.id.clone(),
            dry_run: self.dry_run,
            findings_after: plan.findings.clone(),
            findings: plan.findings.clone(),
            edits,
            disk_edits: plan.disk_edits.iter().map(|planned| planned.edit.to_string()).collect(),
            import: Import::new(profile, &guest, image.device_table(), &boot_before),
            boot_after: boot_before.clone(),
            boot_before,
            verified: Vec::new(),
            commit: None,
            copy: None,
            timings: Timings::default(),
            disk: self
                .map_buckets
                .map(|buckets| disk_map::of(&image, &tree, buckets))
                .transpose()
                .at_image(path)?,
        };
        if plan.is_empty() && !self.makes_file {
            return Ok(Prepared { report, sealed: None });
        }
        let remarks = timings
            .stage("apply", progress, || fixes::apply(&plan.edits, &mut tree, self.now))
            .at_image(path)?;
        remarks.iter().for_each(|remark| progress.event(Event::Note { text: remark }));
        drop(tree);
        let disk_edits: Vec<vfs::DiskEdit> = plan.disk_edits.iter().map(|planned| planned.edit).collect();
        image.edit_disk(&disk_edits).at_image(path)?;
        let sealed = image.seal().at_image(path)?;
        if let Some(map) = &mut report.disk {
            map.mark_changed(sealed.changes().ranges());
        }
        Ok(Prepared { report, sealed: Some(sealed) })
    }
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
