//! One file a rule.

mod console;
mod drivers;
mod fstab_by_uuid;
mod grub;
mod persistence;
mod root_by_uuid;

use cloudspec::{RuleKind, RuleSpec};
use vfs::GuestPath;

pub use drivers::{InjectionPlan, inject_modules};

use crate::plan::Context;
use crate::{Finding, FixError, Stage};

/// Checks one rule and stages what meets it.
pub(crate) fn run(
    spec: &RuleSpec,
    context: &Context<'_>,
    stage: &mut Stage<'_>,
) -> Result<Finding, FixError> {
    match &spec.kind {
        RuleKind::InitramfsDrivers { modules, buses } => drivers::run(spec, modules, buses, context, stage),
        RuleKind::InitramfsPersistence { modules, .. } => persistence::run(spec, modules, stage),
        RuleKind::RootByUuid => root_by_uuid::run(spec, context, stage),
        RuleKind::FstabByUuid => fstab_by_uuid::run(spec, context, stage),
        RuleKind::Console { devices } => console::run(spec, devices, stage),
        // Being built; each kind gets its own arm and file.
        _ => {
            Ok(Finding::needs_action(spec, vec!["not examined by this version".into()], "Check it by hand."))
        }
    }
}

/// A path that is written in the source.
fn path(literal: &str) -> GuestPath {
    GuestPath::root().join(literal)
}
