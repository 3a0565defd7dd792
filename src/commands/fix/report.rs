//! What `fix` reports.

use std::collections::BTreeMap;
use std::path::PathBuf;

use batch::DiskMap;
use fixes::Finding;
use guest::{Bus, Verdict};
use serde::Serialize;

use super::copy::{Copied, FreeReport};
use super::edits::EditReport;
use crate::commands::acceptance::Import;
use crate::commands::check::RULE_UNMET;
use crate::commands::inspect;
use crate::render::findings::{self, Tense};
use crate::render::table::bytes;
use crate::session::{Committed, Timings};

/// The report (docs/report.md).
#[derive(Debug, Serialize)]
pub struct Report {
    pub schema: u32,
    pub coldfit: &'static str,
    pub image: PathBuf,
    pub profile: String,
    pub dry_run: bool,
    pub findings: Vec<Finding>,
    pub findings_after: Vec<Finding>,
    pub edits: Vec<EditReport>,
    pub disk_edits: Vec<String>,
    pub boot_before: BTreeMap<Bus, Verdict>,
    pub boot_after: BTreeMap<Bus, Verdict>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub import: Option<Import>,
    pub verified: Vec<String>,
    pub commit: Option<Committed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copy: Option<Copied>,
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

    /// 1 when a required rule does not hold, else 0.
    pub fn exit_code(&self) -> u8 {
        if self.is_short() { RULE_UNMET } else { 0 }
    }

    /// True when no edit is planned.
    fn is_empty(&self) -> bool {
        self.edits.is_empty() && self.disk_edits.is_empty()
    }

    /// For people.
    pub fn text(&self, explain: bool) -> String {
        let mut text = format!("{}: profile {}\n", self.image.display(), self.profile);
        let tense = if self.dry_run { Tense::Would } else { Tense::Done };
        text.push_str(&findings::text(&self.findings, tense, explain));
        text.push_str(&self.edits_text());
        text.push_str(&inspect::boot_text(&self.boot_after));
        if let Some(import) = &self.import {
            text.push_str(&import.text());
        }
        text.push('\n');
        text.push_str(&self.outcome_text());
        if let Some(shortfall) = findings::shortfall(&self.findings_after) {
            text.push_str(&format!("{shortfall}\n"));
        }
        text
    }

    fn edits_text(&self) -> String {
        let mut text = String::new();
        for edit in &self.edits {
            if let Some(diff) = &edit.diff {
                text.push('\n');
                text.push_str(diff);
            }
        }
        if self.is_empty() {
            return text;
        }
        text.push('\n');
        for edit in &self.disk_edits {
            text.push_str(&format!("  disk: {edit}\n"));
        }
        for edit in &self.edits {
            text.push_str(&match (edit.old_len, edit.new_len) {
                (old, Some(new)) => {
                    format!("  {} {}: {} to {new} bytes\n", edit.kind, edit.path, old.unwrap_or(0))
                }
                _ => format!("  {} {}\n", edit.kind, edit.path),
            });
        }
        text
    }

    fn outcome_text(&self) -> String {
        if let Some(copy) = &self.copy {
            return copy.text();
        }
        match (&self.commit, self.is_empty(), self.dry_run) {
            // Converted: the conversion says where to.
            (Some(commit), ..) if commit.is_conversion => String::new(),
            (Some(commit), ..) => {
                let undo = commit
                    .undo_file
                    .as_ref()
                    .map(|file| format!(", bytes from before in {}", file.display()));
                format!(
                    "committed to {}: {} bytes written{}\n",
                    commit.target.display(),
                    commit.written_bytes,
                    undo.unwrap_or_default()
                )
            }
            (None, true, _) => "nothing to do; the image was not touched\n".into(),
            (None, false, _) => "dry run: verified, and nothing was written\n".into(),
        }
    }
}

impl Copied {
    fn text(&self) -> String {
        let outcome = &self.outcome;
        let target = outcome.target.as_ref().map_or_else(|| "-".into(), |path| path.display().to_string());
        let mut text = format!("copied to {target}: {} written", bytes(outcome.bytes_written));
        if outcome.fast_path == Some(convert::FastPath::PassThrough) {
            text.push_str(", untouched compressed clusters as they were");
        }
        if !outcome.synced {
            text.push_str(" (not synced)");
        }
        text.push('\n');
        text.push_str(
            &self.free_space.as_ref().map_or("free space was copied, too\n".into(), FreeReport::text),
        );
        text
    }
}

impl FreeReport {
    /// For people.
    pub fn text(&self) -> String {
        let mut text = format!("free space left out: {}\n", bytes(self.bytes));
        for volume in &self.volumes {
            if let Some(why_not) = &volume.why_not {
                text.push_str(&format!("  {} counts as content: {}\n", volume.volume, why_not.reason));
            }
        }
        text
    }
}
