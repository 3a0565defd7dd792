//! Phony guests of every distribution against the profile `alibaba`: findings before, edits, a diff of every text file,
//! findings after. The texts are in testdata/golden; COLDFIT_BLESS=1 writes them anew, to be reviewed as a change.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test says what it sees and fails by panicking"
)]

use std::fs;
use std::path::{Path, PathBuf};

use cloudspec::{Profile, Severity};
use coldfit_fixes::{Action, Edit, Finding, Plan, Selection, State, apply, plan};
use similar::TextDiff;
use testkit::phony::{self, RELEASES};
use vfs::{DeviceTable, DiskEdit, GuestTree, Timestamp};

const NOW: Timestamp = Timestamp { seconds: 1_800_000_000, nanoseconds: 0 };

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/golden")
}

fn profile() -> Profile {
    cloudspec::builtin("alibaba").unwrap()
}

fn planned(tree: &GuestTree, devices: &DeviceTable, profile: &Profile) -> Plan {
    let guest = guest::inspect(tree, devices).unwrap();
    plan(tree, devices, &guest, profile, &Selection::default()).unwrap()
}

fn word(state: State) -> &'static str {
    match state {
        State::Holds => "holds",
        State::Fixable => "fixable",
        State::NotFixable => "NOT FIXABLE",
        State::NeedsAction => "needs action",
        State::NotApplicable => "not applicable",
        State::Waived => "waived",
    }
}

fn findings(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings.iter().filter(|finding| finding.state != State::Waived) {
        text.push_str(&format!("{}: {}\n", finding.rule, word(finding.state)));
        for line in &finding.evidence {
            text.push_str(&format!("    {line}\n"));
        }
    }
    masked(&text)
}

/// The cloud's package index is named in the profile only.
fn masked(text: &str) -> String {
    let index = profile().rules.iter().find_map(|rule| match &rule.kind {
        cloudspec::RuleKind::PipConfig { trusted_host, .. } => Some(trusted_host.clone()),
        _ => None,
    });
    text.replace(&index.unwrap(), "mirrors.${vpc}")
}

fn edit(edit: &Edit) -> String {
    let path = &edit.path;
    let mode = edit.mode.map(|mode| format!(" mode {mode:04o}")).unwrap_or_default();
    let head = |what: &str| format!("{what} {path}{mode} ({})\n", edit.rules.join(", "));
    match &edit.action {
        Action::Text { old, new } => {
            let before = String::from_utf8_lossy(old.as_deref().unwrap_or_default()).into_owned();
            let after = String::from_utf8_lossy(new);
            let diff = TextDiff::from_lines(before.as_str(), &after);
            let what = if old.is_some() { "change" } else { "create" };
            let diff = diff.unified_diff().context_radius(1).to_string();
            format!("{}{}", head(what), without_hashes(&masked(&diff)))
        }
        Action::Append { .. } => head("append to"),
        Action::Rewrite { .. } => head("rewrite"),
        Action::Create { .. } => head("make"),
        Action::Link { target, .. } => {
            head("link").replace('\n', &format!(" -> {}\n", String::from_utf8_lossy(target)))
        }
        Action::Remove { .. } => head("remove"),
        Action::Empty { .. } => head("empty"),
        Action::Attributes => head("attributes of"),
    }
}

fn without_hashes(diff: &str) -> String {
    let masked = diff.lines().map(|line| match line.split(':').nth(1) {
        Some(hash) if hash.starts_with("$6$") => line.replacen(hash, "(hash)", 1),
        _ => line.to_owned(),
    });
    masked.collect::<Vec<_>>().join("\n") + "\n"
}

/// What a disk is after the plan's edits of it.
fn edited(mut devices: DeviceTable, plan: &Plan) -> DeviceTable {
    for planned in &plan.disk_edits {
        match planned.edit {
            DiskEdit::Grow { to } => devices.disk_len = to,
            DiskEdit::RemovePartition { number } => {
                devices.volumes.retain(|volume| volume.partition != Some(number));
            }
        }
    }
    devices
}

fn golden(name: &str, profile: &Profile) -> String {
    let guest = phony::guest(name).unwrap();
    let (mut tree, devices) = (guest.files.into_tree(), guest.devices);
    let before = planned(&tree, &devices, profile);
    let stuck: Vec<&str> = before.not_fixable().map(|finding| finding.rule.as_str()).collect();
    assert!(stuck.is_empty(), "{name}: not fixable: {stuck:?}\n{}", findings(&before.findings));
    apply(&before.edits, &mut tree, NOW).unwrap_or_else(|error| panic!("{name}: {error}"));
    let devices = edited(devices, &before);
    let after = planned(&tree, &devices, profile);
    let again: Vec<String> = after.edits.iter().map(edit).collect();
    assert!(after.is_empty(), "{name}: a second run would change\n{}", again.concat());
    for (old, new) in before.findings.iter().zip(&after.findings) {
        let is_met = old.state != State::Fixable || new.state == State::Holds;
        assert!(
            is_met || old.severity != Severity::Must,
            "{name}: {} is {} after\n{:?}",
            new.rule,
            word(new.state),
            new.evidence
        );
    }
    let mut text =
        format!("# {}\n\n== findings before\n{}", guest.release.pretty, findings(&before.findings));
    text.push_str("\n== edits\n");
    for planned in &before.disk_edits {
        text.push_str(&format!("disk: {} ({})\n", planned.edit, planned.rule));
    }
    before.edits.iter().for_each(|planned| text.push_str(&edit(planned)));
    text.push_str("\n== findings after\n");
    for finding in after.findings.iter().filter(|finding| finding.state != State::Waived) {
        text.push_str(&format!("{}: {}\n", finding.rule, word(finding.state)));
    }
    text
}

#[test]
fn every_distribution_is_fixed_as_reviewed_and_a_second_run_plans_nothing() {
    let profile = profile();
    let is_blessing = std::env::var_os("COLDFIT_BLESS").is_some();
    let only = std::env::var("COLDFIT_GOLDEN").unwrap_or_default();
    let mut differ = Vec::new();
    for release in RELEASES.iter().filter(|release| release.name.contains(&only)) {
        let text = golden(release.name, &profile);
        let file = folder().join(format!("{}.txt", release.name));
        if is_blessing {
            fs::create_dir_all(folder()).unwrap();
            fs::write(&file, text).unwrap();
            continue;
        }
        let reviewed = fs::read_to_string(&file).unwrap_or_default();
        if reviewed != text {
            let diff = TextDiff::from_lines(&reviewed, &text);
            eprintln!("{}", diff.unified_diff().context_radius(2).header(&file.display().to_string(), "now"));
            differ.push(release.name);
        }
    }
    assert!(differ.is_empty(), "differ from what was reviewed: {differ:?}; COLDFIT_BLESS=1 writes them anew");
}

#[test]
fn the_releases_are_those_that_the_issue_of_support_names() {
    let names: Vec<&str> = RELEASES.iter().map(|release| release.name).collect();
    for wanted in [
        "centos6",
        "centos7",
        "centos8",
        "rhel8",
        "rhel9",
        "rhel10",
        "alinux2",
        "alinux3",
        "anolis8",
        "rocky9",
        "alma9",
        "fedora41",
        "opensuse15",
        "sles12",
        "sles15",
        "ubuntu1604",
        "ubuntu1804",
        "ubuntu2004",
        "ubuntu2204",
        "ubuntu2404",
        "ubuntu2604",
        "debian9",
        "debian10",
        "debian11",
        "debian12",
        "debian13",
        "debian12-arm64",
    ] {
        assert!(names.contains(&wanted), "{wanted}");
        assert!(folder().join(format!("{wanted}.txt")).is_file(), "{wanted} has no golden text");
    }
}
