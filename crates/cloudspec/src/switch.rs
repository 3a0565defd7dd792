//! Switches: where a source contradicts itself, or leaves a choice.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A choice that rules depend on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Switch {
    /// Name, as `--set NAME=VALUE` gives it.
    pub name: String,
    /// Values that can be chosen.
    pub values: Vec<String>,
    /// The value when nothing is chosen.
    pub default: String,
    /// What the choice is about.
    pub summary: String,
    /// The rule that wins, by value: named as the reason for rules that do not count then.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub because: BTreeMap<String, String>,
    /// The value in force.
    #[serde(default, skip_deserializing)]
    pub value: String,
}

impl Switch {
    /// Why a rule that wants another value does not count.
    pub(crate) fn reason(&self) -> String {
        match self.because.get(&self.value) {
            Some(rule) => rule.clone(),
            None => format!("{}={}", self.name, self.value),
        }
    }
}
