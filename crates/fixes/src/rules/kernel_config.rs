//! A kernel configuration option is `y`, or `m` with its module installed.

use cloudspec::RuleSpec;
use guest::{Kernel, TreeModules};
use initramfs::KernelModules;
use vfs::VfsError;

use super::path;
use crate::plan::Context;
use crate::{Finding, FixError, Stage, State};

/// Distributions' configurations have 250 to 300 KB.
const CONFIG_MAX: u64 = 4 << 20;

/// What one kernel has of the option.
enum Has {
    Yes(String),
    No(String),
    Unknown(String),
}

pub(super) fn run(
    spec: &RuleSpec,
    option: &str,
    module: Option<&str>,
    context: &Context<'_>,
    stage: &Stage<'_>,
) -> Result<Finding, FixError> {
    // Module directories that a removed kernel left behind do not boot.
    let kernels: Vec<&Kernel> =
        context.guest.kernels.iter().filter(|kernel| kernel.image.is_some()).collect();
    if kernels.is_empty() {
        return Ok(Finding::not_applicable(spec, "the guest has no kernel"));
    }
    let (mut yes, mut no, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
    for kernel in kernels {
        let version = &kernel.version;
        match of_kernel(kernel, option, module, stage)? {
            Has::Yes(how) => yes.push(format!("{version}: {how}")),
            Has::No(why) => no.push(format!("{version}: {why}")),
            Has::Unknown(why) => unknown.push(format!("{version}: unknown: {why}")),
        }
    }
    let is_met = no.is_empty() && unknown.is_empty();
    let evidence = no.into_iter().chain(unknown).chain(yes).collect();
    Ok(match is_met {
        true => Finding::new(spec, State::Holds, evidence),
        false => Finding::needs_action(spec, evidence, format!("Install a kernel that has {option}.")),
    })
}

fn of_kernel(
    kernel: &Kernel,
    option: &str,
    module: Option<&str>,
    stage: &Stage<'_>,
) -> Result<Has, FixError> {
    let tree = stage.tree();
    let modules = match &kernel.module_directory {
        Some(directory) => {
            KernelModules::load(&kernel.version, &TreeModules::new(tree, path(directory))).ok()
        }
        None => None,
    };
    let in_image = |name: &str| modules.as_ref().is_some_and(|modules| modules.is_builtin(name));
    let on_disk = |name: &str| {
        modules.as_ref().and_then(|modules| modules.module(name)).map(|module| module.path.clone())
    };
    let config = match &kernel.config {
        Some(file) => match tree.read_if_exists(&path(file), CONFIG_MAX) {
            Ok(text) => text.map(|text| (file, setting(&String::from_utf8_lossy(&text), option))),
            Err(VfsError::Limit { .. } | VfsError::WrongKind { .. }) => None,
            Err(error) => return Err(error.into()),
        },
        None => None,
    };
    Ok(match (config, module) {
        (Some((file, Some('y'))), _) => Has::Yes(format!("{option}=y ({file})")),
        (Some((file, Some('m'))), Some(name)) => match on_disk(name) {
            Some(at) => Has::Yes(format!("{option}=m ({file}), module {at}")),
            None => Has::No(format!("{option}=m ({file}), and the module {name} is not installed")),
        },
        (Some((file, Some('m'))), None) => Has::Yes(format!("{option}=m ({file})")),
        (Some((file, _)), _) => Has::No(format!("{option} is not set ({file})")),
        (None, Some(name)) if in_image(name) => Has::Yes(format!("{name} is in modules.builtin")),
        (None, Some(name)) => match (on_disk(name), &modules) {
            (Some(at), _) => Has::Yes(format!("module {at}")),
            (None, Some(_)) => Has::No(format!(
                "no /boot/config-{}, and {name} is neither in modules.builtin nor a module",
                kernel.version
            )),
            (None, None) => Has::Unknown("it has neither configuration nor module directory".into()),
        },
        (None, None) => Has::Unknown(format!("no /boot/config-{}", kernel.version)),
    })
}

/// `y`, `m`, or what else the first character of the option's value is.
fn setting(config: &str, option: &str) -> Option<char> {
    let line = config.lines().find_map(|line| line.strip_prefix(option)?.strip_prefix('='))?;
    line.chars().next()
}
