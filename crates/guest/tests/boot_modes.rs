//! Which firmware starts a disk, by what is on it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod support;

use coldfit_guest::{BootMode, Bus, Guest, Verdict, boot_modes, inspect, verdict};
use support::*;
use vfs::{DeviceTable, EfiFile, EfiMachine, EfiProgram, GuestTree};

fn guest() -> Guest {
    let tree = GuestTree::new(
        Box::new(old_server(&format!("UUID={ROOT}"), &format!("UUID={ROOT} / ext4 defaults 0 1\n"), &ALL)),
        "partition 1",
    );
    inspect(&tree, &devices()).unwrap()
}

fn code(mode: &BootMode) -> &'static str {
    match mode {
        BootMode::Yes => "yes",
        BootMode::No { reason } => reason.code,
        BootMode::Unknown { reason } => match reason.code {
            "boot.firmware.esp-not-read" => "? esp-not-read",
            "boot.firmware.grub-config" => "? grub-config",
            "boot.firmware.systemd-boot-entries" => "? systemd-boot-entries",
            "boot.firmware.other-program" => "? other-program",
            other => panic!("{other}"),
        },
    }
}

fn esp(files: &[(&str, EfiMachine, Option<EfiProgram>)], others: &[&str]) -> DeviceTable {
    let mut table = devices();
    table.firmware.mbr_boot_code = None;
    table.firmware.esp_partition = Some(15);
    let file = |(path, machine, program): &(&str, EfiMachine, Option<EfiProgram>)| EfiFile {
        path: (*path).into(),
        machine: Some(*machine),
        program: *program,
        grub_prefix: None,
    };
    table.firmware.efi_files = Some(files.iter().map(file).collect());
    table.firmware.loader_files = others.iter().map(|other| (*other).into()).collect();
    table
}

#[test]
fn uefi_needs_the_fallback_path_and_what_it_starts() {
    use EfiMachine::{Aarch64, X64};
    use EfiProgram::{Grub, GrubWithConfig, KernelImage, Shim, SystemdBoot};
    let boot = "EFI/BOOT/BOOTX64.EFI";
    let guest = guest();
    for (files, others, expected) in [
        (&[][..], &[][..], "boot.firmware.no-fallback"),
        (&[("EFI/debian/shimx64.efi", X64, Some(Shim))], &[], "boot.firmware.no-fallback"),
        (&[(boot, Aarch64, Some(Grub))], &[], "boot.firmware.machine"),
        (&[(boot, X64, Some(Shim))], &["EFI/debian/grub.cfg"], "boot.firmware.shim-alone"),
        (
            &[("efi/boot/bootx64.efi", X64, Some(Shim)), ("EFI/BOOT/grubx64.efi", X64, Some(Grub))],
            &["EFI/debian/grub.cfg"],
            "yes",
        ),
        (&[(boot, X64, Some(Shim)), ("EFI/BOOT/grubx64.efi", X64, Some(Grub))], &[], "? grub-config"),
        (&[(boot, X64, Some(Shim)), ("EFI/BOOT/fbx64.efi", X64, None)], &["EFI/fedora/BOOTX64.CSV"], "yes"),
        (&[(boot, X64, Some(Shim)), ("EFI/BOOT/fbx64.efi", X64, None)], &[], "boot.firmware.shim-alone"),
        (&[(boot, X64, Some(GrubWithConfig))], &[], "yes"),
        (&[(boot, X64, Some(Grub))], &["EFI/debian/grub.cfg"], "yes"),
        (&[(boot, X64, Some(Grub))], &["grub.cfg"], "? grub-config"),
        (&[(boot, X64, Some(SystemdBoot))], &["loader/entries/a.conf"], "yes"),
        (&[(boot, X64, Some(SystemdBoot)), ("EFI/Linux/a.efi", X64, Some(KernelImage))], &[], "yes"),
        (&[(boot, X64, Some(SystemdBoot))], &["loader/loader.conf"], "? systemd-boot-entries"),
        (&[(boot, X64, Some(KernelImage))], &[], "yes"),
        (&[(boot, X64, None)], &[], "? other-program"),
    ] {
        let table = esp(files, others);
        let modes = boot_modes(&guest, &table);
        assert_eq!(code(&modes.uefi), expected, "{files:?} {others:?}");
        assert_eq!(code(&modes.bios), "boot.firmware.none");
        let verdict = &verdict(&guest, &table)[&Bus::Ahci];
        assert_eq!(matches!(verdict, Verdict::Boots), expected == "yes", "{verdict:?}");
        assert_eq!(matches!(verdict, Verdict::Unknown { .. }), expected.starts_with('?'), "{verdict:?}");
    }
    let mut table = esp(&[(boot, X64, None)], &[]);
    table.firmware.efi_files.as_mut().unwrap()[0].machine = None;
    assert_eq!(code(&boot_modes(&guest, &table).uefi), "boot.firmware.no-program");
    table.firmware.efi_files = None;
    table.firmware.esp_problem = Some("it is damaged".into());
    let modes = boot_modes(&guest, &table);
    assert_eq!(code(&modes.uefi), "? esp-not-read");
    assert!(modes.uefi.reason().unwrap().message.contains("it is damaged"));
    // The BIOS boots it all the same.
    table.firmware.mbr_boot_code = Some("grub".into());
    assert!(boot_modes(&guest, &table).bios.boots());
    assert!(verdict(&guest, &table)[&Bus::Ahci].boots());
}

#[test]
fn an_arm_guest_knows_no_bios() {
    let mut guest = guest();
    guest.architecture = Some("aarch64".into());
    let mut table = devices();
    assert_eq!(code(&boot_modes(&guest, &table).bios), "boot.firmware.no-bios");
    assert_eq!(code(&boot_modes(&guest, &table).uefi), "boot.firmware.no-esp");
    let file = ("EFI/BOOT/BOOTAA64.EFI", EfiMachine::Aarch64, Some(EfiProgram::GrubWithConfig));
    table = esp(&[file], &[]);
    assert!(boot_modes(&guest, &table).uefi.boots());
}
