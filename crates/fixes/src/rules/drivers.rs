//! Every initramfs holds the drivers, and everything that they need, for its kernel.

use cloudspec::RuleSpec;
use guest::{Bus, Guest};
use initramfs::WantedReport;
use vfs::GuestTree;

use crate::injection::{Answer, Asked, NoTarget, targets};
use crate::plan::Context;
use crate::{Edit, Finding, FixError, Stage, State};

/// What is to be in every initramfs.
struct Request<'a> {
    rule: &'a str,
    /// Modules to add, with all that they need.
    modules: &'a [String],
    /// Those without which the request has failed.
    needed: &'a [String],
}

/// What became of all initramfs files.
#[derive(Default)]
struct Outcome {
    changes: Vec<String>,
    remarks: Vec<String>,
    obstacles: Vec<String>,
    looked_at: usize,
}

/// A planned injection into every initramfs.
#[derive(Debug, Default)]
pub struct InjectionPlan {
    /// One for each file that changes.
    pub edits: Vec<Edit>,
    /// What stands in the way, a line each: not all that was asked for can be done.
    pub obstacles: Vec<String>,
    /// What should be known beside, a line each.
    pub remarks: Vec<String>,
}

/// Plans the injection of `modules` into the initramfs of every kernel.
pub fn inject_modules(
    tree: &GuestTree,
    guest: &Guest,
    modules: &[String],
) -> Result<InjectionPlan, FixError> {
    let mut stage = Stage::new(tree);
    let request = Request { rule: "initramfs.inject", modules, needed: modules };
    let Outcome { remarks, mut obstacles, .. } = inject(&request, guest, &mut stage)?;
    obstacles.extend(stage.finish_injections()?.into_iter().map(|refused| refused.line));
    let (edits, _) = stage.into_edits();
    Ok(InjectionPlan { edits, obstacles, remarks })
}

pub(super) fn run(
    spec: &RuleSpec,
    modules: &[String],
    buses: &[String],
    context: &Context<'_>,
    stage: &mut Stage<'_>,
) -> Result<Finding, FixError> {
    let mut needed: Vec<String> = Vec::new();
    for name in buses {
        let bus = Bus::from_name(name)
            .ok_or_else(|| FixError::UnknownBus { rule: spec.id.clone(), bus: name.clone() })?;
        needed.extend(bus.drivers().iter().map(|driver| (*driver).to_owned()));
    }
    // What a bus needs is wanted, whether the profile lists it or not.
    let mut wanted = modules.to_vec();
    wanted.extend(needed.iter().filter(|driver| !is_among(driver, modules)).cloned());
    wanted.dedup();
    let request = Request { rule: &spec.id, modules: &wanted, needed: &needed };
    let outcome = inject(&request, context.guest, stage)?;
    if !outcome.obstacles.is_empty() {
        let evidence = outcome.obstacles.into_iter().chain(outcome.changes).chain(outcome.remarks).collect();
        let finding = Finding::new(spec, State::NotFixable, evidence);
        return Ok(finding
            .with_remedy("Rebuild that initramfs in the guest with these drivers, or remove the kernel."));
    }
    if !outcome.changes.is_empty() {
        return Ok(Finding::new(
            spec,
            State::Fixable,
            outcome.changes.into_iter().chain(outcome.remarks).collect(),
        ));
    }
    if outcome.looked_at == 0 {
        let evidence =
            std::iter::once("the guest has no initramfs".to_owned()).chain(outcome.remarks).collect();
        return Ok(Finding::new(spec, State::NotApplicable, evidence));
    }
    let holds = std::iter::once("every initramfs has every driver".to_owned());
    Ok(Finding::new(spec, State::Holds, holds.chain(outcome.remarks).collect()))
}

fn inject(request: &Request<'_>, guest: &Guest, stage: &mut Stage<'_>) -> Result<Outcome, FixError> {
    let mut outcome = Outcome::default();
    let asked =
        Asked { rule: request.rule.to_owned(), modules: request.modules.to_vec(), ..Asked::default() };
    for target in targets(guest) {
        let target = match target {
            Ok(target) => target,
            Err(NoTarget::Obstacle(line)) => {
                outcome.obstacles.push(line);
                continue;
            }
            Err(NoTarget::Remark(line)) => {
                outcome.remarks.push(line);
                continue;
            }
        };
        outcome.looked_at += 1;
        let name = &target.info.path;
        match stage.inject(&target, &asked)? {
            Answer::Nothing(report) => note_limits(name, &report, request.needed, &mut outcome),
            Answer::Planned { summary, report } => {
                note_limits(name, &report, request.needed, &mut outcome);
                outcome.changes.push(summary);
            }
            Answer::Refused(line) => outcome.obstacles.push(line),
        }
    }
    Ok(outcome)
}

/// What injection cannot change: names that this kernel does not have, and modules that the image forbids.
fn note_limits(name: &str, report: &WantedReport, needed: &[String], outcome: &mut Outcome) {
    for module in &report.missing {
        let line = format!("{name}: its kernel has no {module}, neither built in nor as a module");
        if is_among(module, needed) { outcome.obstacles.push(line) } else { outcome.remarks.push(line) }
    }
    for (module, place) in &report.blacklisted {
        let line = format!("{name}: {module} is blacklisted inside, by {place}");
        if is_among(module, needed) { outcome.obstacles.push(line) } else { outcome.remarks.push(line) }
    }
}

/// Module names are compared with `-` and `_` alike.
fn is_among(module: &str, names: &[String]) -> bool {
    names.iter().any(|name| name.replace('-', "_") == module.replace('-', "_"))
}
