//! What a rule found.

use cloudspec::{RuleSpec, Severity};
use serde::Serialize;

/// State of a rule on this image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The demand is met.
    Holds,
    /// It is not met; the plan's edits meet it.
    Fixable,
    /// It is not met, and cannot be met offline: see the remedy.
    NotFixable,
    /// The demand has no meaning for this guest.
    NotApplicable,
}

/// A rule with its state on this image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Id of the rule.
    pub rule: String,
    /// How much the rule binds.
    pub severity: Severity,
    /// State on this image.
    pub state: State,
    /// What the rule demands, one sentence.
    pub summary: String,
    /// What was seen, a line each.
    pub evidence: Vec<String>,
    /// What to do, where the plan cannot do it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Where the demand stands, with the date at which it was read.
    pub source: String,
}

impl Finding {
    pub(crate) fn new(spec: &RuleSpec, state: State, evidence: Vec<String>) -> Self {
        Self {
            rule: spec.id.clone(),
            severity: spec.severity,
            state,
            summary: spec.summary.clone(),
            evidence,
            remedy: None,
            source: format!("{} ({})", spec.source, spec.date),
        }
    }

    pub(crate) fn with_remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}
