//! `coldfit check`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use batch::DiskMap;
use block::Access;
use cloudspec::Profile;
use fixes::{Finding, Selection};
use guest::{Bus, Verdict};
use report::Progress;
use serde::Serialize;
use stack::Image;

use super::acceptance::{CheckItem, Identity, Import, check_items};
use super::{CommandResult, disk_map, inspect, profiles};
use crate::cli::args::{ImageArgs, RuleArgs};
use crate::render::findings::{self, Tense};
use crate::render::output::{AtImage, Failure, Output};
use crate::render::progress::Bar;
use crate::session::{self, Timings};

/// Exit code when a required rule does not hold.
pub const RULE_UNMET: u8 = 1;

/// The report (docs/report.md): a superset of the cloud's own.
#[derive(Debug, Serialize)]
pub struct Report {
    schema: u32,
    coldfit: &'static str,
    image: PathBuf,
    profile: String,
    #[serde(flatten)]
    identity: Identity,
    check_items: Vec<CheckItem>,
    pub findings: Vec<Finding>,
    pub boot: BTreeMap<Bus, Verdict>,
    #[serde(skip_serializing_if = "Option::is_none")]
    import: Option<Import>,
    notes: Vec<String>,
    pub timings: Timings,
    /// Asked for by `batch` only.
    #[serde(skip)]
    pub disk: Option<DiskMap>,
}

impl Report {
    /// True when a rule of severity `must` does not hold.
    pub fn is_short(&self) -> bool {
        findings::required_unmet(&self.findings).next().is_some()
    }
}

/// What is to be checked, and against what.
pub struct Request<'a> {
    pub path: &'a Path,
    pub profile: &'a Profile,
    pub selection: &'a Selection,
    pub image: &'a ImageArgs,
    /// Draw the disk map with so many buckets.
    pub map_buckets: Option<u32>,
}

/// Checks images one after the other; the first failure ends it.
pub fn run(images: &[PathBuf], rules: &RuleArgs, args: &ImageArgs, output: &Output) -> CommandResult {
    let profile = profiles::load(&rules.profile)?.with(&rules.set)?;
    let selection = rules.selection();
    let mut reports = Vec::new();
    let mut is_short = false;
    for (index, path) in images.iter().enumerate() {
        let request =
            Request { path, profile: &profile, selection: &selection, image: args, map_buckets: None };
        let report = check(&request, &Bar::new(output.quiet))?;
        is_short |= report.is_short();
        if output.is_json() {
            reports.push(report);
            continue;
        }
        if index > 0 {
            output.text("\n")?;
        }
        output.text(&text(&report, rules.explain))?;
    }
    if output.is_json() {
        match reports.as_slice() {
            [one] => output.json(one)?,
            all => output.json(&all)?,
        }
    }
    Ok(if is_short { RULE_UNMET } else { 0 })
}

/// Checks one image; prints nothing.
pub fn check(request: &Request<'_>, progress: &dyn Progress) -> Result<Report, Failure> {
    let &Request { path, profile, selection, .. } = request;
    let mut timings = Timings::default();
    let options = session::options(request.image, Access::Read);
    let mut image =
        timings.stage("open", progress, || Image::open(path, &options, progress)).at_image(path)?;
    let tree = timings.stage("mount", progress, || image.open_tree(false)).at_image(path)?;
    image.require_essential_mounts().at_image(path)?;
    let devices = image.device_table();
    let guest = timings.stage("inspect", progress, || guest::inspect(&tree, devices)).at_image(path)?;
    let plan = timings
        .stage("check", progress, || fixes::plan(&tree, devices, &guest, profile, selection))
        .at_image(path)?;
    let boot = inspect::verdict(&image, &guest);
    let disk =
        request.map_buckets.map(|buckets| disk_map::of(&image, &tree, buckets)).transpose().at_image(path)?;
    Ok(Report {
        schema: inspect::SCHEMA,
        coldfit: env!("CARGO_PKG_VERSION"),
        image: path.to_owned(),
        profile: profile.id.clone(),
        identity: Identity::new(&guest, devices),
        check_items: check_items(&plan.findings),
        findings: plan.findings,
        import: Import::new(profile, &guest, devices, &boot),
        boot,
        notes: image.notes(),
        timings,
        disk,
    })
}

fn text(report: &Report, explain: bool) -> String {
    let mut text = format!("{}: profile {}\n", report.image.display(), report.profile);
    text.push_str(&findings::text(&report.findings, Tense::Check, explain));
    text.push_str(&inspect::boot_text(&report.boot));
    if let Some(import) = &report.import {
        text.push_str(&import.text());
    }
    text.push('\n');
    text.push_str(&match findings::shortfall(&report.findings) {
        Some(shortfall) => format!("{shortfall}\n"),
        None => "every required rule holds\n".to_owned(),
    });
    text
}
