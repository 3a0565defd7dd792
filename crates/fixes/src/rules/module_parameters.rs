//! Parameters of a driver on the kernel command line, each as large as the driver of that kernel holds.
//!
//! A module says the type of a parameter in its `.modinfo` (`parmtype=NAME:uint`, `__MODULE_PARM_TYPE` in the kernel's
//! `include/linux/moduleparam.h`); of drivers inside the kernel image `modules.builtin.modinfo` tells it.

use std::collections::BTreeMap;

use cloudspec::RuleSpec;
use guest::{Kernel, TreeModules};
use initramfs::KernelModules;

use super::arguments::{self, Outcome};
use super::kernel_args::{Wanted, set_all, set_in_sources};
use super::path;
use super::root_by_uuid::conclude;
use crate::plan::Context;
use crate::{Finding, FixError, Stage};

/// What the rule demands.
pub(super) struct Demand<'a> {
    pub module: &'a str,
    pub older_module: Option<&'a str>,
    pub parameters: &'a [String],
    pub value: u64,
}

pub(super) fn run(
    spec: &RuleSpec,
    demand: &Demand<'_>,
    context: &Context<'_>,
    stage: &mut Stage<'_>,
) -> Result<Finding, FixError> {
    // Module directories that a removed kernel left behind do not boot.
    let kernels = context.guest.kernels.iter().filter(|kernel| kernel.image.is_some());
    let mut by_version: BTreeMap<&str, Vec<Wanted>> = BTreeMap::new();
    let mut remarks = Vec::new();
    for kernel in kernels {
        let (wanted, remark) = of_kernel(kernel, demand, stage)?;
        by_version.insert(&kernel.version, wanted);
        remarks.extend(remark);
    }
    let common = smallest(by_version.values());
    if by_version.values().all(Vec::is_empty) {
        let why = format!(
            "no kernel of the guest has parameters {} of {}",
            demand.parameters.join(", "),
            demand.module
        );
        let mut finding = Finding::not_applicable(spec, why);
        finding.evidence.extend(remarks);
        return Ok(finding);
    }
    let mut outcome = Outcome::new(spec, context);
    arguments::edit_entries(&spec.id, stage, &mut outcome, |entry| {
        let known = entry.kernel_version.and_then(|version| by_version.get(version));
        match entry.is_recovery {
            true => Ok(Vec::new()),
            false => set_all(known.unwrap_or(&common), entry.arguments),
        }
    })?;
    set_in_sources(&spec.id, &common, stage, &mut outcome)?;
    let mut finding = conclude(spec, outcome, "every boot entry has them");
    finding.evidence.extend(remarks);
    Ok(finding)
}

/// The arguments for one kernel, and what should be known of it.
fn of_kernel(
    kernel: &Kernel,
    demand: &Demand<'_>,
    stage: &Stage<'_>,
) -> Result<(Vec<Wanted>, Vec<String>), FixError> {
    let version = &kernel.version;
    let Some(directory) = &kernel.module_directory else {
        return Ok((Vec::new(), vec![format!("{version}: has no modules; its parameters cannot be told")]));
    };
    let source = TreeModules::new(stage.tree(), path(directory));
    let fail = |source| FixError::Initramfs { path: directory.clone(), source };
    let modules = KernelModules::load(version, &source).map_err(fail)?;
    let (mut wanted, mut remarks) = (Vec::new(), Vec::new());
    for parameter in demand.parameters {
        let mut found = None;
        for module in std::iter::once(demand.module).chain(demand.older_module) {
            match modules.parameter_type(&source, module, parameter) {
                Ok(Some(kind)) => {
                    found = Some((module, kind));
                    break;
                }
                Ok(None) => {}
                // A damaged module is the drivers' rule's business; here its type is not known.
                Err(error) if report::Diagnose::class(&error) != report::Class::Bug => {
                    remarks.push(format!("{version}: {error}"));
                }
                Err(error) => return Err(fail(error)),
            }
        }
        let Some((module, kind)) = found else {
            remarks.push(format!("{version}: {} has no parameter {parameter}", demand.module));
            continue;
        };
        let Some(most) = largest(&kind) else {
            remarks.push(format!("{version}: {module}.{parameter} is a {kind}, not a number"));
            continue;
        };
        let value = demand.value.min(most);
        if value < demand.value {
            remarks.push(format!("{version}: {module}.{parameter} is a {kind} and holds {value} at most"));
        }
        wanted.push(Wanted { key: format!("{module}.{parameter}"), value: Some(value.to_string()) });
    }
    Ok((wanted, remarks))
}

/// The largest value that a parameter type holds (`param_ops_*` in the kernel's `kernel/params.c`).
fn largest(kind: &str) -> Option<u64> {
    Some(match kind {
        "byte" => u64::from(u8::MAX),
        "short" => i16::MAX as u64,
        "ushort" => u64::from(u16::MAX),
        "int" => i32::MAX as u64,
        "uint" => u64::from(u32::MAX),
        "long" => i64::MAX as u64,
        "ulong" | "ullong" => u64::MAX,
        _ => return None,
    })
}

/// For each argument the value that every kernel holds.
fn smallest<'a>(all: impl Iterator<Item = &'a Vec<Wanted>>) -> Vec<Wanted> {
    let number = |wanted: &Wanted| wanted.value.as_ref().and_then(|value| value.parse::<u64>().ok());
    let mut common: Vec<Wanted> = Vec::new();
    for wanted in all.flatten() {
        match common.iter_mut().find(|known| known.key == wanted.key) {
            Some(known) if number(wanted) < number(known) => known.value.clone_from(&wanted.value),
            Some(_) => {}
            None => common.push(wanted.clone()),
        }
    }
    common
}
