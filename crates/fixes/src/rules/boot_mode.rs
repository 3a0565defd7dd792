//! The firmware that boots the image, and the mode that is declared.

use cloudspec::RuleSpec;
use guest::{BootMode, BootModes, boot_modes};

use super::boot_fallback::{Supplied, supply};
use crate::plan::Context;
use crate::{Finding, FixError, Stage, State};

/// Reasons that a file of the guest's own vendor directory takes away.
const SUPPLIED: [&str; 3] =
    ["boot.firmware.no-fallback", "boot.firmware.shim-alone", "boot.firmware.grub-config"];

pub(super) fn run(
    spec: &RuleSpec,
    mode: &str,
    uefi_only: &[String],
    context: &Context<'_>,
    stage: &mut Stage<'_>,
) -> Result<Finding, FixError> {
    let BootModes { bios, uefi } = boot_modes(context.guest, context.devices);
    let architecture = context.guest.architecture.as_deref();
    let needs_uefi = architecture.is_some_and(|known| uefi_only.iter().any(|one| one == known));
    let say = |name: &str, mode: &BootMode| match mode {
        BootMode::Yes => format!("{name} boots it"),
        BootMode::No { reason } => format!("{name} does not boot it: {} [{}]", reason.message, reason.code),
        BootMode::Unknown { reason } => {
            format!("whether {name} boots it cannot be told: {} [{}]", reason.message, reason.code)
        }
    };
    let mut evidence = vec![say("BIOS", &bios), say("UEFI", &uefi)];
    let is_met = match mode {
        "bios" => bios.boots(),
        "uefi" => uefi.boots(),
        "uefi-preferred" => bios.boots() && uefi.boots(),
        _ => bios.boots() || uefi.boots(),
    };
    let declared = mode != "auto";
    if declared {
        evidence.insert(0, format!("declared is {mode}"));
    }
    if needs_uefi && !uefi.boots() {
        evidence.insert(0, format!("{} boots by UEFI only", architecture.unwrap_or_default()));
    }
    if is_met && (!needs_uefi || uefi.boots()) {
        return Ok(Finding::new(spec, State::Holds, evidence));
    }
    let is_bios_missing = matches!(mode, "bios") || (mode == "uefi-preferred" && !bios.boots());
    let lacks_file = uefi.reason().is_some_and(|reason| SUPPLIED.contains(&reason.code));
    if lacks_file && !is_bios_missing {
        match supply(&spec.id, context, stage)? {
            Supplied::Planned(lines) => {
                return Ok(Finding::new(spec, State::Fixable, lines.into_iter().chain(evidence).collect()));
            }
            Supplied::Obstacle(why) => evidence.insert(0, format!("not supplied: {why}")),
            Supplied::Nothing => {}
        }
    }
    let wants_uefi = needs_uefi || matches!(mode, "uefi" | "uefi-preferred");
    let remedy = match (declared && !needs_uefi && (bios.boots() || uefi.boots()), wants_uefi) {
        (true, _) => {
            "Declare the mode that the contents show, or install the boot loader for the declared one."
        }
        (false, true) => {
            "Install the boot loader to the fallback path in the guest: grub-install --removable, or copy shim and GRUB to \
             EFI/BOOT of the EFI system partition."
        }
        (false, false) => "Install a boot loader in the guest, for example with grub-install.",
    };
    Ok(Finding::needs_action(spec, evidence, remedy))
}
