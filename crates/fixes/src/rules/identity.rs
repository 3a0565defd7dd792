//! Platform, version, architecture and kernel, as the cloud's check reads them from the image's files.

use cloudspec::RuleSpec;

use crate::plan::Context;
use crate::{Finding, State};

pub(super) fn run(spec: &RuleSpec, context: &Context<'_>) -> Finding {
    let os = &context.guest.os;
    let mut evidence = Vec::new();
    let mut unknown = Vec::new();
    let mut note = |what: &str, value: Option<String>| match value {
        Some(value) => evidence.push(format!("{what}: {value}")),
        None => unknown.push(format!("{what}: cannot be told from the image's files")),
    };
    note("distribution", os.id.clone());
    note("version", os.version.clone());
    note("architecture", context.guest.architecture.clone());
    let kernels: Vec<&str> = context.guest.kernels.iter().map(|kernel| kernel.version.as_str()).collect();
    note("kernel", (!kernels.is_empty()).then(|| kernels.join(", ")));
    if unknown.is_empty() {
        return Finding::new(spec, State::Holds, evidence);
    }
    unknown.append(&mut evidence);
    let remedy = "Restore /etc/os-release and the release files of the distribution, and install a kernel.";
    Finding::needs_action(spec, unknown, remedy)
}
