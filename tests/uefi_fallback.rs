//! A UEFI disk whose fallback path is gone boots nowhere after an import; `fix` supplies it from the vendor's directory,
//! and the disk boots under OVMF with empty variables.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test says what it sees and fails by panicking"
)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use testkit::cache::Cache;
use testkit::qemu::{Boot, BootOutcome, Bus, Firmware};
use testkit::recipe::{Image, RawDisk};
use testkit::{deb, tool};

use support::{coldfit, coldfit_json, cut_partition, image, text};

/// The root filesystem of that image.
const ROOT: u64 = 2;

/// A raw disk with the vendor's directory, without `EFI/BOOT`.
struct Disk {
    raw: RawDisk,
    esp: String,
}

impl Disk {
    fn new(folder: &Path) -> Self {
        let raw = RawDisk::from_image(&image(Image::CloudUefi, folder), &folder.join("disk.raw")).unwrap();
        let esp = format!("{}@@{}", raw.path().display(), raw.slot(1).unwrap().start);
        let disk = Self { raw, esp };
        disk.mtool("mdeltree", &["::/EFI/BOOT"]);
        disk
    }

    fn mtool(&self, name: &str, args: &[&str]) -> String {
        let (options, files): (Vec<&str>, Vec<&str>) = args.iter().partition(|arg| arg.starts_with('-'));
        let mut command = tool::command(name, options);
        tool::finish(command.arg("-i").arg(&self.esp).args(files)).unwrap()
    }

    fn put(&self, from: &Path, to: &str) {
        self.mtool("mcopy", &["-o", from.to_str().unwrap(), to]);
    }

    fn uuid(&self) -> String {
        let superblock = self.raw.ext4(ROOT).unwrap().superblock().unwrap();
        let line = superblock.lines().find_map(|line| line.strip_prefix("Filesystem UUID:")).unwrap();
        line.trim().to_owned()
    }

    fn boot(&self, timeout: u64) -> BootOutcome {
        let cache = Cache::open().unwrap();
        Boot::new(self.raw.path(), Bus::VirtioBlk)
            .firmware(Firmware::Uefi)
            .timeout(Duration::from_secs(timeout))
            .run(&cache)
            .unwrap()
    }

    /// Firmware finds nothing before, `fix` says what it supplies, and the guest is up afterwards.
    fn must_boot_after_fix(&self, supplied: &[&str]) {
        let path = self.raw.path().to_str().unwrap();
        let before = coldfit_json(["inspect", path]);
        assert!(before.to_string().contains("boot.firmware.no-fallback"), "{before}");
        let outcome = self.boot(120);
        assert!(outcome.reached.is_none(), "{}", outcome.log());

        let fixed = coldfit(["--format", "json", "fix", "--profile", "kvm", path]);
        assert!(fixed.status.success(), "{}", text(&fixed.stderr));
        let listing = self.mtool("mdir", &["-b", "::/EFI/BOOT"]).to_ascii_uppercase();
        let names: Vec<&str> = listing.lines().filter_map(|line| line.rsplit('/').next()).collect();
        assert_eq!(names.len(), supplied.len(), "{listing}");
        assert!(supplied.iter().all(|name| names.contains(name)), "{listing}");
        let part = self.raw.path().with_extension("esp");
        cut_partition(self.raw.path(), 1, &part);
        tool::run("fsck.fat", ["-n".as_ref(), part.as_os_str()]).unwrap();

        let after = coldfit_json(["inspect", path]);
        assert_eq!(after[0]["boot"]["virtio-blk"]["verdict"], "boots", "{after}");
        let outcome = self.boot(400);
        eprintln!("{:?} after {:.0} s", outcome.reached, outcome.seconds);
        assert!(outcome.reached.is_some(), "{}", outcome.log());
    }
}

fn package(name: &str, file: &str) -> PathBuf {
    deb::cached(name).unwrap().join(file)
}

#[test]
fn grub_alone_becomes_the_fallback_program_on_an_esp_that_fstab_does_not_mount() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path());
    let vendor = disk.mtool("mdir", &["-b", "::/EFI/debian"]);
    assert!(vendor.contains("grubx64.efi"), "{vendor}");
    let root = disk.raw.ext4(ROOT).unwrap();
    let fstab: String = root
        .text("/etc/fstab")
        .unwrap()
        .lines()
        .filter(|line| !line.contains("/boot/efi"))
        .fold(String::new(), |text, line| format!("{text}{line}\n"));
    let file = folder.path().join("fstab");
    fs::write(&file, fstab).unwrap();
    root.debugfs_write(&["rm /etc/fstab".into(), format!("write {} /etc/fstab", file.display())]).unwrap();
    disk.must_boot_after_fix(&["BOOTX64.EFI"]);
}

#[test]
fn signed_shim_and_grub_of_debian_become_the_fallback_chain() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path());
    let vendor = "::/EFI/debian/";
    let grub = package("grub-efi-amd64-signed", "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed");
    disk.put(&grub, &format!("{vendor}grubx64.efi"));
    disk.put(&package("shim-signed", "usr/lib/shim/shimx64.efi.signed"), &format!("{vendor}shimx64.efi"));
    for name in ["mmx64.efi", "fbx64.efi"] {
        let file = package("shim-helpers-amd64-signed", &format!("usr/lib/shim/{name}.signed"));
        disk.put(&file, &format!("{vendor}{name}"));
    }
    // As Debian's grub-install leaves it.
    let stub = format!(
        "search.fs_uuid {} root \nset prefix=($root)'/boot/grub'\nconfigfile $prefix/grub.cfg\n",
        disk.uuid()
    );
    let file = folder.path().join("stub");
    fs::write(&file, &stub).unwrap();
    disk.put(&file, &format!("{vendor}grub.cfg"));
    disk.must_boot_after_fix(&["BOOTX64.EFI", "GRUBX64.EFI", "MMX64.EFI"]);
    // The forwarding configuration was followed and is as it was.
    assert_eq!(disk.mtool("mtype", &["::/EFI/debian/grub.cfg"]), stub);
}
