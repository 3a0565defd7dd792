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
    /// It is not met and an edit would meet it, but the edit cannot be made: see the evidence. Ends a fix.
    NotFixable,
    /// It is not met, and no edit of the image meets it: see the remedy. Does not end a fix.
    NeedsAction,
    /// The demand has no meaning for this guest.
    NotApplicable,
    /// Another rule or a switch takes its place.
    Waived,
}

impl State {
    /// True when the image as it is does not meet the demand.
    pub fn is_unmet(self) -> bool {
        matches!(self, State::Fixable | State::NotFixable | State::NeedsAction)
    }
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
    /// Row of the specification's table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row: Option<String>,
    /// Items of the cloud's own image check that look at the same.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub check_items: Vec<String>,
    /// The rule or switch in whose favour the demand is waived.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
}

impl Finding {
    /// A demand that no edit meets; the remedy is the rule's own where the profile gives one.
    pub(crate) fn needs_action(spec: &RuleSpec, evidence: Vec<String>, remedy: impl Into<String>) -> Self {
        let remedy = spec.remedy.clone().unwrap_or_else(|| remedy.into());
        Self::new(spec, State::NeedsAction, evidence).with_remedy(remedy)
    }

    /// A demand that has no meaning for this guest.
    pub(crate) fn not_applicable(spec: &RuleSpec, why: impl Into<String>) -> Self {
        Self::new(spec, State::NotApplicable, vec![why.into()])
    }

    /// A demand that another rule or a switch takes the place of.
    pub(crate) fn waived(spec: &RuleSpec, because: &str) -> Self {
        let evidence = vec![format!("waived: {} because {because}", spec.id)];
        Self { because: Some(because.to_owned()), ..Self::new(spec, State::Waived, evidence) }
    }

    /// The finding that follows from planned changes and from what stands in their way.
    pub(crate) fn of_changes(
        spec: &RuleSpec,
        changes: Vec<String>,
        obstacles: Vec<String>,
        holds: impl Into<String>,
    ) -> Self {
        match (obstacles.is_empty(), changes.is_empty()) {
            (false, _) => {
                let evidence = obstacles.into_iter().chain(changes).collect();
                Self::new(spec, State::NotFixable, evidence)
                    .with_remedy("Correct the named file in the guest, then look again.")
            }
            (true, false) => Self::new(spec, State::Fixable, changes),
            (true, true) => Self::new(spec, State::Holds, vec![holds.into()]),
        }
    }

    pub(crate) fn new(spec: &RuleSpec, state: State, evidence: Vec<String>) -> Self {
        Self {
            rule: spec.id.clone(),
            severity: spec.severity,
            state,
            summary: spec.summary.clone(),
            evidence,
            remedy: None,
            source: format!("{} ({})", spec.source, spec.date),
            row: spec.row.clone(),
            check_items: spec.check_items.clone(),
            because: None,
        }
    }

    pub(crate) fn with_remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}
