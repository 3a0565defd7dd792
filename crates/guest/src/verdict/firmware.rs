//! From the firmware to the boot loader: which firmware starts this disk, by its contents.

use serde::Serialize;
use vfs::{DeviceTable, EfiFile, EfiMachine, EfiProgram};

use super::{Grounds, Reason};
use crate::Guest;

/// Whether one kind of firmware starts the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "boots", rename_all = "kebab-case")]
pub enum BootMode {
    /// Everything that it starts from is there.
    Yes,
    /// Something is not there.
    No {
        /// What.
        reason: Reason,
    },
    /// It cannot be told.
    Unknown {
        /// Why.
        reason: Reason,
    },
}

impl BootMode {
    /// True for [`BootMode::Yes`].
    pub fn boots(&self) -> bool {
        *self == BootMode::Yes
    }

    /// The reason; none for [`BootMode::Yes`].
    pub fn reason(&self) -> Option<&Reason> {
        match self {
            BootMode::Yes => None,
            BootMode::No { reason } | BootMode::Unknown { reason } => Some(reason),
        }
    }
}

/// What each firmware does with a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BootModes {
    /// A PC BIOS.
    pub bios: BootMode,
    /// UEFI firmware without settings, as after an import: only the fallback path counts.
    pub uefi: BootMode,
}

fn no(code: &'static str, message: impl Into<String>) -> BootMode {
    BootMode::No { reason: Reason::new(code, message) }
}

fn unknown(code: &'static str, message: impl Into<String>) -> BootMode {
    BootMode::Unknown { reason: Reason::new(code, message) }
}

/// Which firmware starts the disk, by its contents alone.
pub fn boot_modes(guest: &Guest, devices: &DeviceTable) -> BootModes {
    BootModes { bios: bios(guest, devices), uefi: uefi(guest, devices) }
}

fn bios(guest: &Guest, devices: &DeviceTable) -> BootMode {
    if let Some(other @ ("aarch64" | "riscv64" | "loongarch64")) = guest.architecture.as_deref() {
        return no("boot.firmware.no-bios", format!("machines of the architecture {other} have no BIOS"));
    }
    match devices.firmware.mbr_boot_code.as_deref() {
        Some("grub") => BootMode::Yes,
        Some("grub-no-core") => no(
            "boot.firmware.no-core",
            "the first sector has GRUB's boot code, and the core image that it loads is not there",
        ),
        Some(other) => unknown(
            "boot.firmware.other-code",
            format!("the first sector has boot code that is not GRUB's ({other})"),
        ),
        None => no("boot.firmware.none", "the first sector has no boot code"),
    }
}

/// Name of the program that firmware without settings starts from `EFI/BOOT` (UEFI 2.10, 3.5.1.1), and the machine that
/// it must be for, by the architecture of the guest.
pub fn efi_fallback(architecture: Option<&str>) -> (&'static str, EfiMachine) {
    match architecture {
        Some("aarch64") => ("BOOTAA64.EFI", EfiMachine::Aarch64),
        Some("i686") => ("BOOTIA32.EFI", EfiMachine::Ia32),
        Some("riscv64") => ("BOOTRISCV64.EFI", EfiMachine::Riscv64),
        Some("loongarch64") => ("BOOTLOONGARCH64.EFI", EfiMachine::Loongarch64),
        _ => ("BOOTX64.EFI", EfiMachine::X64),
    }
}

fn uefi(guest: &Guest, devices: &DeviceTable) -> BootMode {
    let firmware = &devices.firmware;
    let Some(esp) = firmware.esp_partition else {
        return no("boot.firmware.no-esp", "there is no EFI system partition");
    };
    let Some(files) = &firmware.efi_files else {
        let why = firmware.esp_problem.clone().unwrap_or_else(|| "its files cannot be read".into());
        return unknown(
            "boot.firmware.esp-not-read",
            format!("partition {esp} is an EFI system partition: {why}"),
        );
    };
    let (wanted, machine) = efi_fallback(guest.architecture.as_deref());
    let path = format!("EFI/BOOT/{wanted}");
    let Some(program) = find(files, &path) else {
        // The firmware's variables do not travel with the disk: a vendor's directory alone is not looked into.
        let others: Vec<&str> = files.iter().map(|file| &*file.path).take(4).collect();
        let rest = match &others[..] {
            [] => String::new(),
            others => format!("; what there is ({}) needs settings of the firmware", others.join(", ")),
        };
        return no(
            "boot.firmware.no-fallback",
            format!(
                "partition {esp} has no {path}, the only file that firmware without settings starts{rest}"
            ),
        );
    };
    match program.machine {
        Some(found) if found == machine => {}
        Some(found) => {
            let message = format!("{}: is a program for {found:?}, not for {machine:?}", program.path);
            return no("boot.firmware.machine", message);
        }
        None => return no("boot.firmware.no-program", format!("{}: is no EFI program", program.path)),
    }
    let suffix = wanted.trim_start_matches("BOOT").trim_end_matches(".EFI").to_ascii_lowercase();
    match program.program {
        Some(EfiProgram::Shim) => behind_shim(files, &firmware.loader_files, program, &suffix),
        Some(EfiProgram::Grub) => grub(&firmware.loader_files, program),
        Some(EfiProgram::SystemdBoot) => systemd_boot(files, &firmware.loader_files, program),
        Some(EfiProgram::GrubWithConfig | EfiProgram::KernelImage) => BootMode::Yes,
        None => unknown(
            "boot.firmware.other-program",
            format!("{}: is neither shim nor GRUB nor systemd-boot", program.path),
        ),
    }
}

fn find<'f>(files: &'f [EfiFile], path: &str) -> Option<&'f EfiFile> {
    files.iter().find(|file| file.path.eq_ignore_ascii_case(path))
}

/// shim starts `grub….efi` of its own directory; as a fallback program it tries `fb….efi` first, which starts what a
/// `BOOT….CSV` in a vendor's directory names (shim's `fallback.c`).
fn behind_shim(files: &[EfiFile], others: &[String], shim: &EfiFile, suffix: &str) -> BootMode {
    let has_csv = others.iter().any(|other| {
        let name = other.rsplit('/').next().unwrap_or_default().to_ascii_uppercase();
        name == format!("BOOT{}.CSV", suffix.to_ascii_uppercase()) || name == "BOOT.CSV"
    });
    if find(files, &format!("EFI/BOOT/fb{suffix}.efi")).is_some() && has_csv {
        return BootMode::Yes;
    }
    match find(files, &format!("EFI/BOOT/grub{suffix}.efi")) {
        Some(next) if next.program == Some(EfiProgram::Grub) => grub(others, next),
        Some(_) => BootMode::Yes,
        None => no(
            "boot.firmware.shim-alone",
            format!("{}: is shim, and grub{suffix}.efi, which it starts, is not beside it", shim.path),
        ),
    }
}

/// GRUB without commands of its own reads `grub.cfg` in the directory that it was built with. Builds that look beside
/// themselves first (`fw_path` of Red Hat's patches, `cmdpath` of SUSE's) do so whatever that directory is.
fn grub(others: &[String], program: &EfiFile) -> BootMode {
    let has = |path: &str| others.iter().any(|other| other.eq_ignore_ascii_case(path));
    let built_in = program.grub_prefix.as_deref().filter(|prefix| prefix.starts_with('/'));
    let has_config = match built_in {
        Some(prefix) => has(&format!("{}/grub.cfg", prefix.trim_matches('/'))),
        None => others.iter().any(|other| {
            let other = other.to_ascii_lowercase();
            other.starts_with("efi/") && other.ends_with("/grub.cfg")
        }),
    };
    let beside =
        program.path.rsplit_once('/').is_some_and(|(directory, _)| has(&format!("{directory}/grub.cfg")));
    match has_config || beside {
        true => BootMode::Yes,
        false => unknown(
            "boot.firmware.grub-config",
            format!("{}: is GRUB, and the partition has no grub.cfg that leads it on", program.path),
        ),
    }
}

/// systemd-boot reads `loader/entries` and lists the kernels of `EFI/Linux` (systemd-boot(7)).
fn systemd_boot(files: &[EfiFile], others: &[String], program: &EfiFile) -> BootMode {
    let has_entry = others.iter().any(|other| {
        let other = other.to_ascii_lowercase();
        other.starts_with("loader/entries/") && other.ends_with(".conf")
    });
    let has_kernel = files.iter().any(|file| file.path.to_ascii_lowercase().starts_with("efi/linux/"));
    match has_entry || has_kernel {
        true => BootMode::Yes,
        false => unknown(
            "boot.firmware.systemd-boot-entries",
            format!("{}: is systemd-boot, and the partition has no entry for it", program.path),
        ),
    }
}

/// One firmware that starts the disk is enough.
pub(super) fn check(guest: &Guest, devices: &DeviceTable, grounds: &mut Grounds) {
    let BootModes { bios, uefi } = boot_modes(guest, devices);
    if bios.boots() || uefi.boots() {
        return;
    }
    // With an EFI system partition its side says more; else the boot code does.
    let has_esp = devices.firmware.esp_partition.is_some();
    match (bios, uefi) {
        (BootMode::Unknown { reason }, uefi) if !has_esp || !matches!(uefi, BootMode::Unknown { .. }) => {
            grounds.unknown(reason)
        }
        (_, BootMode::Unknown { reason }) => grounds.unknown(reason),
        (_, BootMode::No { reason }) if has_esp || is_uefi_only(guest) => grounds.against(reason),
        (BootMode::No { reason }, _) => grounds.against(reason),
        _ => {}
    }
}

fn is_uefi_only(guest: &Guest) -> bool {
    matches!(guest.architecture.as_deref(), Some("aarch64" | "riscv64" | "loongarch64"))
}
