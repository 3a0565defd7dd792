//! One line of a report: the outcome of one image (docs/batch.md).

use std::collections::BTreeMap;
use std::path::PathBuf;

use report::Diagnostic;
use serde::{Deserialize, Serialize};

use crate::manifest::Action;
use crate::{DiskMap, Identity};

/// Version of the line.
pub const SCHEMA: u32 = 1;

/// Exit codes from the best to the worst: done; a rule unmet; no room in the guest; unsupported; damaged;
/// environment; usage; bug.
const WORSE: [u8; 8] = [0, 1, 6, 3, 4, 5, 2, 70];

/// The exit code of a whole batch.
pub fn worst_exit(codes: impl IntoIterator<Item = u8>) -> u8 {
    let rank = |code: &u8| WORSE.iter().position(|known| known == code).unwrap_or(WORSE.len());
    codes.into_iter().max_by_key(rank).unwrap_or(0)
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Done, and every required rule holds.
    Done,
    /// Done as far as possible, and a required rule does not hold.
    Unmet,
    /// Not done.
    Failed,
}

/// A file that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetFile {
    /// Its path.
    pub path: PathBuf,
    /// As it was when it was finished.
    #[serde(flatten)]
    pub identity: Identity,
}

/// Which shard did it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardOf {
    /// From 1.
    pub index: u32,
    /// How many there are.
    pub count: u32,
    /// Digest of the whole distribution: shards with different ones do not fit together.
    pub plan: String,
}

/// One image's outcome.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Line {
    /// Version of this form.
    pub schema: u32,
    /// Version of the tool.
    pub coldfit: String,
    /// Absolute path of the image.
    pub image: String,
    /// What was asked for.
    #[serde(rename = "do")]
    pub action: Action,
    /// Name of the profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Digest of the profile with its switches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile_digest: Option<String>,
    /// Digest of everything that was asked for, the profile included.
    pub job_digest: String,
    /// The shard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<ShardOf>,
    /// How it ended.
    pub result: Outcome,
    /// `ok`, `rules.unmet`, or the stable code of the error.
    pub code: String,
    /// Exit code that the command would have had for this image alone.
    pub exit: u8,
    /// Class of the error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// The error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// When it began, seconds since 1970.
    pub started_at: f64,
    /// How long it took.
    pub seconds: f64,
    /// Seconds by stage.
    #[serde(default)]
    pub timings: BTreeMap<String, f64>,
    /// Bytes by what was done with them (`written`, `journal`, `read`, …).
    #[serde(default)]
    pub bytes: BTreeMap<String, u64>,
    /// The image before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Identity>,
    /// The image after a change in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_after: Option<Identity>,
    /// The file that was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetFile>,
    /// How many rules are in which state.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub findings: BTreeMap<String, u64>,
    /// State of each rule; `fixed` for what did not hold before and does now.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rules: BTreeMap<String, String>,
    /// Required rules that do not hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unmet: Vec<String>,
    /// Verdict for each bus.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub boot: BTreeMap<String, String>,
    /// The disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskMap>,
    /// What the command itself would have printed with `--format json`; with `--full`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<serde_json::Value>,
}

impl Line {
    /// An outcome with nothing but its head; it counts as done.
    pub fn new(version: &str, image: &str, action: Action, job_digest: &str) -> Self {
        Self {
            schema: SCHEMA,
            coldfit: version.to_owned(),
            image: image.to_owned(),
            action,
            profile: None,
            profile_digest: None,
            job_digest: job_digest.to_owned(),
            shard: None,
            result: Outcome::Done,
            code: "ok".to_owned(),
            exit: 0,
            class: None,
            message: None,
            hint: None,
            started_at: 0.0,
            seconds: 0.0,
            timings: BTreeMap::new(),
            bytes: BTreeMap::new(),
            source: None,
            source_after: None,
            target: None,
            findings: BTreeMap::new(),
            rules: BTreeMap::new(),
            unmet: Vec::new(),
            boot: BTreeMap::new(),
            disk: None,
            report: None,
        }
    }

    /// Makes it a failure.
    pub fn fail(&mut self, diagnostic: &Diagnostic) {
        self.result = Outcome::Failed;
        self.code = diagnostic.code.to_owned();
        self.exit = diagnostic.class.exit_code();
        self.class =
            serde_json::to_value(diagnostic.class).ok().and_then(|class| class.as_str().map(str::to_owned));
        self.message = Some(diagnostic.message.clone());
        self.hint.clone_from(&diagnostic.hint);
    }

    /// Makes it an outcome with required rules that do not hold.
    pub fn fall_short(&mut self, rules: Vec<String>) {
        self.result = Outcome::Unmet;
        self.code = "rules.unmet".to_owned();
        self.exit = 1;
        self.unmet = rules;
    }

    /// Whether another try may end otherwise with the same image: what the host or a bug of ours did.
    pub fn is_worth_another_try(&self) -> bool {
        matches!(self.exit, 2 | 5 | 70)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_exit_code_counts() {
        assert_eq!(worst_exit([]), 0);
        assert_eq!(worst_exit([0, 1, 0]), 1);
        assert_eq!(worst_exit([1, 6, 3]), 3);
        assert_eq!(worst_exit([6, 1]), 6);
        assert_eq!(worst_exit([4, 5, 3]), 5);
        assert_eq!(worst_exit([5, 70, 0]), 70);
    }
}
