//! What is copied to the fallback path, from which vendor, and what is refused; by the guest's architecture alone.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod support;

use coldfit_fixes::{Action, FixError, Plan, Selection, State, plan};
use report::{Class, Diagnose};
use support::*;
use testkit::DirFs;
use vfs::{DeviceTable, EfiFile, EfiMachine, EfiProgram, GuestTree};

const VALUES: &str = "mode = \"auto\"\nuefi-only = [\"aarch64\"]";

struct Esp<'a> {
    /// Path, program, GRUB's directory.
    programs: &'a [(&'a str, Option<EfiProgram>, Option<&'a str>)],
    others: &'a [&'a str],
    machine: EfiMachine,
}

impl Esp<'_> {
    /// A guest whose EFI system partition no fstab mounts.
    fn guest(&self, fs: DirFs, free: Option<u64>) -> (GuestTree, DeviceTable) {
        let mut files = DirFs::new();
        for (path, ..) in self.programs {
            files.add_file(format!("/{path}"), format!("program {path}"));
        }
        for path in self.others {
            files.add_file(format!("/{path}"), format!("text {path}"));
        }
        if let Some(free) = free {
            files.limit_free_bytes(free);
        }
        let mut table = devices();
        table.firmware.esp_partition = Some(9);
        table.firmware.efi_files = Some(
            self.programs
                .iter()
                .map(|(path, program, prefix)| EfiFile {
                    path: (*path).into(),
                    machine: Some(self.machine),
                    program: *program,
                    grub_prefix: prefix.map(str::to_owned),
                })
                .collect(),
        );
        table.firmware.loader_files = self.others.iter().map(|path| (*path).into()).collect();
        let mut tree = fs.into_tree();
        tree.attach(&path(vfs::DETACHED_ESP), Box::new(files), "partition 9").unwrap();
        (tree, table)
    }

    fn plan(&self, fs: DirFs, free: Option<u64>) -> Result<Plan, FixError> {
        let (tree, table) = self.guest(fs, free);
        let model = guest::inspect(&tree, &table).unwrap();
        plan(&tree, &table, &model, &profile_of("boot-mode", VALUES), &Selection::default())
    }

    /// Path below the partition and content of each file that is made.
    fn made(&self, fs: DirFs) -> Vec<(String, String)> {
        let planned = self.plan(fs, None).unwrap();
        assert_eq!(planned.findings[0].state, State::Fixable, "{planned:?}");
        let one = |edit: &coldfit_fixes::Edit| {
            let Action::Create { new } = &edit.action else { panic!("{edit:?}") };
            let path = edit.path.to_string();
            let path = path.strip_prefix(vfs::DETACHED_ESP).unwrap().trim_start_matches('/').to_owned();
            (path, String::from_utf8(new.clone()).unwrap())
        };
        planned.edits.iter().map(one).collect()
    }

    fn refusal(&self, fs: DirFs) -> String {
        let planned = self.plan(fs, None).unwrap();
        assert_eq!((planned.findings[0].state, planned.edits.len()), (State::NeedsAction, 0));
        planned.findings[0].evidence.join("\n")
    }
}

fn copied(to: &str, from: &str) -> (String, String) {
    (to.to_owned(), format!("program {from}"))
}

const SHIM: Option<EfiProgram> = Some(EfiProgram::Shim);
const GRUB: Option<EfiProgram> = Some(EfiProgram::Grub);

#[test]
fn shim_grub_and_mok_manager_of_the_vendor() {
    let programs = [
        ("EFI/centos/shimx64.efi", SHIM, None),
        ("EFI/centos/shimx64-centos.efi", SHIM, None),
        ("EFI/centos/grubx64.efi", GRUB, Some("/EFI/centos")),
        ("EFI/centos/mmx64.efi", None, None),
    ];
    let esp = Esp {
        programs: &programs,
        others: &["EFI/centos/grub.cfg", "EFI/centos/BOOTX64.CSV"],
        machine: EfiMachine::X64,
    };
    assert_eq!(
        esp.made(guest()),
        [
            copied("EFI/BOOT/BOOTX64.EFI", "EFI/centos/shimx64.efi"),
            copied("EFI/BOOT/grubx64.efi", "EFI/centos/grubx64.efi"),
            copied("EFI/BOOT/mmx64.efi", "EFI/centos/mmx64.efi"),
        ]
    );
    // shim's fallback program leads to the vendor's own files.
    let with_fallback = [&programs[..], &[("EFI/BOOT/fbx64.efi", None, None)]].concat();
    let esp = Esp { programs: &with_fallback, ..esp };
    assert_eq!(esp.made(guest()), [copied("EFI/BOOT/BOOTX64.EFI", "EFI/centos/shimx64.efi")]);
    let esp = Esp { others: &["EFI/centos/grub.cfg"], ..esp };
    assert!(esp.refusal(guest()).contains("CSV"));
}

#[test]
fn a_grub_that_looks_elsewhere_gets_one_line_that_leads_on() {
    let programs = [("EFI/opensuse/shim.efi", SHIM, None), ("EFI/opensuse/grub.efi", GRUB, None)];
    let esp = Esp { programs: &programs, others: &["EFI/opensuse/grub.cfg"], machine: EfiMachine::X64 };
    let made = esp.made(guest());
    assert_eq!(made[0], copied("EFI/BOOT/BOOTX64.EFI", "EFI/opensuse/shim.efi"));
    assert_eq!(made[2], copied("EFI/BOOT/grub.efi", "EFI/opensuse/grub.efi"));
    let (file, text) = &made[1];
    assert!(file == "EFI/BOOT/grub.cfg" && text.ends_with("\nconfigfile /EFI/opensuse/grub.cfg\n"), "{text}");
    // A configuration that is there is never written.
    let esp = Esp { others: &["EFI/opensuse/grub.cfg", "EFI/BOOT/grub.cfg"], ..esp };
    assert_eq!(esp.made(guest()).len(), 2);
    let esp = Esp { others: &[], ..esp };
    assert!(esp.refusal(guest()).contains("no grub.cfg"));
}

#[test]
fn of_several_vendors_the_one_named_as_the_guest() {
    let two = [
        ("EFI/debian/grubx64.efi", Some(EfiProgram::GrubWithConfig), None),
        ("EFI/fedora/grubx64.efi", Some(EfiProgram::GrubWithConfig), None),
    ];
    let esp = Esp { programs: &two, others: &[], machine: EfiMachine::X64 };
    assert_eq!(esp.made(guest()), [copied("EFI/BOOT/BOOTX64.EFI", "EFI/debian/grubx64.efi")]);
    let mut other = guest();
    other.add_file("/etc/os-release", "ID=gentoo\n");
    assert!(esp.refusal(other).contains("EFI/debian, EFI/fedora"));
}

#[test]
fn an_esp_without_room_is_refused_with_its_byte_counts() {
    let programs = [("EFI/debian/grubx64.efi", Some(EfiProgram::GrubWithConfig), None)];
    let esp = Esp { programs: &programs, others: &[], machine: EfiMachine::X64 };
    let error = esp.plan(guest(), Some(4096)).unwrap_err();
    assert_eq!((error.code(), error.class()), ("fix.no-room", Class::NoSpace));
    assert!(error.to_string().contains("4096 bytes are left"), "{error}");
}

/// The guest's modules say that it is arm64; this machine is asked nothing.
#[test]
fn an_arm64_guest_gets_its_own_path_console_and_modules() {
    let phony = testkit::phony::guest("debian12-arm64").unwrap();
    let programs = [
        ("EFI/debian/shimaa64.efi", SHIM, None),
        ("EFI/debian/grubaa64.efi", GRUB, Some("/EFI/debian")),
        ("EFI/debian/mmaa64.efi", None, None),
    ];
    let esp = Esp { programs: &programs, others: &["EFI/debian/grub.cfg"], machine: EfiMachine::Aarch64 };
    let (mut tree, mut table) = esp.guest(phony.files, None);
    let firmware = table.firmware.clone();
    table = phony.devices;
    table.firmware = firmware;
    let model = guest::inspect(&tree, &table).unwrap();
    assert_eq!(model.architecture.as_deref(), Some("aarch64"));
    let planned = plan(&tree, &table, &model, &kvm(), &Selection::default()).unwrap();
    let state = |rule: &str| planned.findings.iter().find(|finding| finding.rule == rule).unwrap().state;
    assert_eq!(state("boot.mode"), State::Fixable);
    assert_eq!(state("boot.console"), State::NotApplicable);
    assert_eq!(state("boot.console-arm"), State::Fixable);
    assert_eq!(state("initramfs.drivers"), State::Fixable);
    coldfit_fixes::apply(&planned.edits, &mut tree, NOW).unwrap();
    let boot = path(vfs::DETACHED_ESP).join("EFI/BOOT");
    assert_eq!(tree.list(&boot).unwrap(), [&b"BOOTAA64.EFI"[..], b"grubaa64.efi", b"mmaa64.efi"]);
    let config = content(&tree, "/boot/grub/grub.cfg");
    assert!(config.contains("console=tty0 console=ttyAMA0") && !config.contains("ttyS0"), "{config}");
}

/// Decisions follow the guest: nothing asks for the machine that coldfit itself runs on.
#[test]
fn no_source_asks_for_the_architecture_of_this_machine() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut todo = vec![root.join("src")];
    for name in std::fs::read_dir(root.join("crates")).unwrap() {
        todo.push(name.unwrap().path().join("src"));
    }
    let mut seen = 0;
    while let Some(folder) = todo.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries {
            let file = entry.unwrap().path();
            if file.is_dir() {
                todo.push(file);
            } else if file.extension().is_some_and(|extension| extension == "rs") {
                // The lab runs on x86-64, and its seccomp filter must know the machine.
                if file.components().any(|part| part.as_os_str() == "testkit") {
                    continue;
                }
                let text = std::fs::read_to_string(&file).unwrap();
                let asked = ["target_arch", "consts::ARCH", "target_endian"];
                assert!(!asked.iter().any(|word| text.contains(word)), "{}", file.display());
                seen += 1;
            }
        }
    }
    assert!(seen > 100, "{seen} files");
}
