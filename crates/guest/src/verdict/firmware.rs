//! From the firmware to the boot loader.

use vfs::DeviceTable;

use super::{Grounds, Reason};
use crate::Guest;

pub(super) fn check(guest: &Guest, devices: &DeviceTable, grounds: &mut Grounds) {
    let bios = match devices.firmware.mbr_boot_code.as_deref() {
        Some("grub") => Ok(()),
        Some("grub-no-core") => Err((
            true,
            Reason::new(
                "boot.firmware.no-core",
                "the first sector has GRUB's boot code, and the core image that it loads is not there",
            ),
        )),
        Some(other) => Err((
            false,
            Reason::new(
                "boot.firmware.other-code",
                format!("the first sector has boot code that is not GRUB's ({other})"),
            ),
        )),
        None => Err((true, Reason::new("boot.firmware.none", "the first sector has no boot code"))),
    };
    let Err((bios_certain, bios_reason)) = bios else { return };
    let Some(esp) = devices.firmware.esp_partition else {
        match bios_certain {
            true => grounds.against(bios_reason),
            false => grounds.unknown(bios_reason),
        }
        return;
    };
    let loader = &guest.bootloader;
    if !loader.esp_visible {
        grounds.unknown(Reason::new(
            "boot.firmware.esp-not-read",
            format!("partition {esp} is an EFI system partition; its files cannot be read"),
        ));
        return;
    }
    let wanted = match guest.architecture.as_deref() {
        Some("aarch64") => "BOOTAA64.EFI",
        Some("i686") => "BOOTIA32.EFI",
        Some("riscv64") => "BOOTRISCV64.EFI",
        _ => "BOOTX64.EFI",
    };
    // The firmware's variables do not travel with the disk, so only the fallback path counts.
    let fallback = format!("EFI/BOOT/{wanted}");
    if !loader.efi_files.iter().any(|file| file.eq_ignore_ascii_case(&fallback)) {
        grounds.against(Reason::new(
            "boot.firmware.no-fallback",
            format!("partition {esp} has no {fallback}, the only file that firmware without settings starts"),
        ));
    }
}
