//! Length of the virtual disk.

use cloudspec::{RuleSpec, Severity};
use vfs::DiskEdit;

use crate::plan::Context;
use crate::{Finding, Stage, State};

const GIB: u64 = 1 << 30;

/// Bounds of a disk in GiB.
pub(super) struct Bounds {
    pub minimum: u64,
    pub warn_above: u64,
    pub maximum: u64,
}

fn gib(bytes: u64) -> String {
    match bytes.is_multiple_of(GIB) {
        true => format!("{} GiB", bytes / GIB),
        false => format!("{:.2} GiB", bytes as f64 / GIB as f64),
    }
}

pub(super) fn run(spec: &RuleSpec, bounds: &Bounds, context: &Context<'_>, stage: &mut Stage<'_>) -> Finding {
    let len = context.devices.disk_len;
    let bytes = |gib: u64| gib.saturating_mul(GIB);
    if len < bytes(bounds.minimum) {
        let to = bytes(bounds.minimum);
        stage.edit_disk(&spec.id, DiskEdit::Grow { to });
        let line = format!(
            "the virtual disk of {} becomes {} long; the guest grows its last partition on the first boot",
            gib(len),
            gib(to)
        );
        return Finding::new(spec, State::Fixable, vec![line]);
    }
    let (evidence, severity) = match len {
        _ if len > bytes(bounds.maximum) => (
            format!("the virtual disk has {}; at most {} GiB are accepted", gib(len), bounds.maximum),
            spec.severity,
        ),
        _ if len > bytes(bounds.warn_above) => (
            format!(
                "the virtual disk has {}; some ways of import take {} GiB at most",
                gib(len),
                bounds.warn_above
            ),
            // Accepted, and worth a word.
            Severity::Optional,
        ),
        _ => {
            return Finding::new(spec, State::Holds, vec![format!("the virtual disk has {}", gib(len))]);
        }
    };
    let finding = Finding::needs_action(spec, vec![evidence], "Build the image on a smaller disk.");
    Finding { severity, ..finding }
}
