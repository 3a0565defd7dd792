//! Format of the image file.

use cloudspec::RuleSpec;

use crate::plan::Context;
use crate::{Finding, State};

pub(super) fn run(spec: &RuleSpec, allowed: &[String], context: &Context<'_>) -> Finding {
    let Some(format) = &context.devices.image_format else {
        return Finding::not_applicable(spec, "no image file is meant");
    };
    if allowed.contains(format) {
        return Finding::new(spec, State::Holds, vec![format!("the image is {format}")]);
    }
    let evidence = vec![format!("the image is {format}; accepted: {}", allowed.join(", "))];
    Finding::needs_action(spec, evidence, "Convert the image, for example with qemu-img convert.")
}
