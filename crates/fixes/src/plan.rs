//! From a guest and a profile to findings and edits.

use cloudspec::{Profile, RuleSpec};
use guest::Guest;
use vfs::{DeviceTable, GuestTree};

use crate::rules;
use crate::{Edit, Finding, FixError, PlannedDiskEdit, Stage, State};

/// Everything that a rule may look at.
pub(crate) struct Context<'a> {
    /// The guest as it is.
    pub guest: &'a Guest,
    /// The disk's volumes.
    pub devices: &'a DeviceTable,
}

impl Context<'_> {
    /// Why a rule is not for this guest.
    fn exclusion(&self, spec: &RuleSpec) -> Option<String> {
        let family = self.guest.os.family.name();
        if !spec.families.is_empty() && !spec.families.iter().any(|known| known == family) {
            return Some(format!(
                "the rule is for {}; this guest is of family {family}",
                spec.families.join(", ")
            ));
        }
        let architecture = self.guest.architecture.as_deref().unwrap_or("unknown");
        if !spec.architectures.is_empty() && !spec.architectures.iter().any(|known| known == architecture) {
            return Some(format!(
                "the rule is for {}; this guest is {architecture}",
                spec.architectures.join(", ")
            ));
        }
        None
    }
}

/// Which rules of a profile are meant.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Only these, when not empty.
    pub only: Vec<String>,
    /// Not these.
    pub skip: Vec<String>,
}

impl Selection {
    /// Refuses names that the profile does not have.
    fn check(&self, profile: &Profile) -> Result<(), FixError> {
        for name in self.only.iter().chain(&self.skip) {
            if !profile.rules.iter().any(|rule| rule.id == *name) {
                let known = profile.rules.iter().map(|rule| rule.id.as_str()).collect::<Vec<_>>().join(", ");
                return Err(FixError::UnknownRule { rule: name.clone(), profile: profile.id.clone(), known });
            }
        }
        Ok(())
    }

    fn includes(&self, rule: &RuleSpec) -> bool {
        (self.only.is_empty() || self.only.contains(&rule.id)) && !self.skip.contains(&rule.id)
    }
}

/// Findings of all rules and the edits that meet them.
#[derive(Debug, Clone)]
pub struct Plan {
    /// One for each rule that was selected.
    pub findings: Vec<Finding>,
    /// One for each file, by path.
    pub edits: Vec<Edit>,
    /// Changes of the virtual disk below the files.
    pub disk_edits: Vec<PlannedDiskEdit>,
}

impl Plan {
    /// True when nothing is to be changed.
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty() && self.disk_edits.is_empty()
    }

    /// Findings that the edits should meet and cannot.
    pub fn not_fixable(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.state == State::NotFixable)
    }
}

/// Checks the guest against the selected rules of `profile` and plans what meets them. Changes nothing.
pub fn plan(
    tree: &GuestTree,
    devices: &DeviceTable,
    guest: &Guest,
    profile: &Profile,
    selection: &Selection,
) -> Result<Plan, FixError> {
    selection.check(profile)?;
    let context = Context { guest, devices };
    let mut stage = Stage::new(tree);
    let mut findings = Vec::new();
    for spec in profile.rules.iter().filter(|rule| selection.includes(rule)) {
        findings.push(match (&spec.waived, context.exclusion(spec)) {
            (Some(because), _) => Finding::waived(spec, because),
            (None, Some(why)) => Finding::not_applicable(spec, why),
            (None, None) => rules::run(spec, &context, &mut stage)?,
        });
    }
    for refused in stage.finish_injections()? {
        for finding in findings.iter_mut().filter(|finding| refused.rules.contains(&finding.rule)) {
            finding.state = State::NotFixable;
            finding.evidence.insert(0, refused.line.clone());
        }
    }
    let (edits, disk_edits) = stage.into_edits();
    Ok(Plan { findings, edits, disk_edits })
}
