//! The firmware that boots the image, and the mode that is declared.

use cloudspec::RuleSpec;
use guest::{BootMode, BootModes, boot_modes};

use crate::plan::Context;
use crate::{Finding, State};

pub(super) fn run(spec: &RuleSpec, mode: &str, uefi_only: &[String], context: &Context<'_>) -> Finding {
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
        return Finding::new(spec, State::Holds, evidence);
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
    Finding::needs_action(spec, evidence, remedy)
}
