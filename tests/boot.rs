//! Real Debian systems in QEMU: what boots before `fix`, what boots after it, and that `inspect` said so.
//!
//! Outcomes are cached by the image's bytes, so a second run boots only what changed.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test says what it sees and fails by panicking"
)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use serde_json::Value;
use testkit::cache::{Cache, file_digest};
use testkit::qemu::{Boot, BootOutcome, Bus, DirectKernel, boot_cached, script_disk};
use testkit::recipe::{Ext4View, Image, RawDisk, module_files};

use support::{coldfit_json, image, text};

/// The drivers that profile `kvm` puts into every initramfs.
const WANTED: [&str; 4] = ["virtio_pci", "virtio_blk", "virtio_scsi", "nvme"];

fn boot(image: &Path, bus: Bus) -> BootOutcome {
    let outcome = boot_cached(&Cache::open().unwrap(), image, bus).unwrap();
    eprintln!(
        "{} on {}: {:?} after {:.0} s",
        image.display(),
        bus.name(),
        outcome.reached.as_ref().map_or_else(|| format!("{:?}", outcome.end), Clone::clone),
        outcome.seconds
    );
    outcome
}

/// `fix --profile kvm` with a fixed clock, so that equal images stay equal.
fn fix(image: &Path) -> Output {
    std::process::Command::new(env!("CARGO_BIN_EXE_coldfit"))
        .env("SOURCE_DATE_EPOCH", "1750000000")
        .args(["--format", "json", "fix", "--profile", "kvm"])
        .arg(image)
        .output()
        .unwrap()
}

fn fixed(which: Image, folder: &Path) -> PathBuf {
    let path = image(which, folder);
    let output = fix(&path);
    assert!(output.status.success(), "{}: {}", which.name(), text(&output.stderr));
    path
}

/// The verdict of `inspect` for one bus, with the text of its reasons.
fn verdict(inspected: &Value, bus: Bus) -> (String, String) {
    let verdict = &inspected[0]["boot"][bus.name()];
    let word =
        verdict["verdict"].as_str().unwrap_or_else(|| panic!("no verdict on {}: {inspected}", bus.name()));
    (word.to_owned(), verdict["reasons"].to_string())
}

fn inspect(image: &Path) -> Value {
    coldfit_json(["inspect".as_ref(), image.as_os_str()])
}

/// Boots on `bus` and holds the outcome against both the expectation and the verdict of `inspect`.
fn assert_boot(image: &Path, inspected: &Value, bus: Bus, expected: bool) -> BootOutcome {
    let (word, reasons) = verdict(inspected, bus);
    let outcome = boot(image, bus);
    assert_eq!(
        outcome.reached.is_some(),
        expected,
        "{} on {}\n{}",
        image.display(),
        bus.name(),
        outcome.log()
    );
    let says = if expected { "boots" } else { "does-not-boot" };
    assert_eq!(word, says, "inspect on {}: {reasons}", bus.name());
    if let Some(line) = &outcome.reached {
        assert!(line.contains(&format!(" bus={} ", bus.name())), "{line}");
    }
    outcome
}

#[test]
fn the_example_boots_on_its_old_controller_only_and_after_fix_on_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = image(Image::Mbr, folder.path());

    let before = inspect(&path);
    assert_boot(&path, &before, Bus::Ahci, true);
    for (bus, module) in [(Bus::VirtioBlk, "virtio_blk"), (Bus::Nvme, "nvme")] {
        let outcome = assert_boot(&path, &before, bus, false);
        // Not any failure: the initramfs found no root disk.
        assert!(outcome.log().contains("/dev/sda1 does not exist"), "{}", outcome.log());
        let (_, reasons) = verdict(&before, bus);
        assert!(reasons.contains(module) && reasons.contains("initrd.img-"), "{reasons}");
    }

    let output = fix(&path);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let after = inspect(&path);
    for bus in [Bus::Ahci, Bus::VirtioBlk, Bus::VirtioScsi, Bus::Nvme] {
        let line = assert_boot(&path, &after, bus, true).reached.unwrap();
        assert!(line.contains("root=UUID=") && line.contains("console=ttyS0"), "{line}");
    }
}

/// The kernel and initramfs that the image's default entry starts, copied out of it.
fn kernel_of(root: &Ext4View, folder: &Path, arguments: &str) -> DirectKernel {
    let names = root.names("/boot").unwrap();
    let version = names.iter().find_map(|name| name.strip_prefix("vmlinuz-")).expect("a kernel").to_owned();
    let direct = DirectKernel {
        kernel: folder.join("vmlinuz"),
        initramfs: folder.join("initrd.img"),
        arguments: arguments.to_owned(),
    };
    root.extract(&format!("/boot/vmlinuz-{version}"), &direct.kernel).unwrap();
    root.extract(&format!("/boot/initrd.img-{version}"), &direct.initramfs).unwrap();
    direct
}

#[test]
fn the_guests_own_rebuild_keeps_the_drivers() {
    let folder = tempfile::tempdir().unwrap();
    let path = fixed(Image::Mbr, folder.path());
    let disk = RawDisk::from_image(&path, &folder.path().join("disk.raw")).unwrap();
    let root = disk.ext4(1).unwrap();

    // What an upgrade of the kernel package runs: depmod, initramfs-tools and update-grub hooks.
    let script = "export PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive HOME=/root\n\
        exec </dev/null >/dev/ttyS0 2>&1\nset -eux\nmount -o remount,rw /\n\
        rm /boot/initrd.img-$(uname -r)\necho '# from before' >> /boot/grub/grub.cfg\n\
        /var/lib/dpkg/info/linux-image-$(uname -r).postinst configure 0\n\
        sync\nmount -o remount,ro /\necho COLDFIT-REBUILT\npoweroff -f\n";
    let arguments = "root=/dev/vda1 ro console=ttyS0 panic=-1 init=/bin/sh mitigations=off -- /dev/vdb";
    let outcome = Boot::new(disk.path(), Bus::VirtioBlk)
        .kernel(kernel_of(&root, folder.path(), arguments))
        .second_disk(script_disk(script, folder.path()).unwrap())
        .writable()
        .until_power_off()
        .marker("COLDFIT-REBUILT")
        .timeout(Duration::from_secs(600))
        .run(&Cache::open().unwrap())
        .unwrap();
    assert!(outcome.reached.is_some(), "{}", outcome.log());

    let rebuilt = kernel_of(&root, folder.path(), "");
    let modules = module_files(&rebuilt.initramfs).unwrap();
    assert!(WANTED.iter().all(|name| modules.contains(*name)), "{modules:?}");
    let config = root.text("/boot/grub/grub.cfg").unwrap();
    assert!(!config.contains("# from before"), "update-grub did not run");
    let default = config.lines().find(|line| line.trim_start().starts_with("linux\t")).unwrap();
    assert!(default.contains("root=UUID=") && default.contains("console=ttyS0"), "{default}");
    let line = boot(disk.path(), Bus::Nvme).reached.expect("the rebuilt system boots on nvme");
    assert!(line.contains(" bus=nvme "), "{line}");
}

#[test]
fn gpt_with_boot_partition() {
    let folder = tempfile::tempdir().unwrap();
    let path = image(Image::Gpt, folder.path());
    let (word, _) = verdict(&inspect(&path), Bus::VirtioScsi);
    assert_eq!(word, "does-not-boot");
    let output = fix(&path);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let after = inspect(&path);
    assert_boot(&path, &after, Bus::VirtioScsi, true);
    assert_boot(&path, &after, Bus::Nvme, true);
}

/// Every initramfs in `/boot` of the image's first partition, by kernel version.
fn initramfs_files(image: &Path, folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let disk = RawDisk::from_image(image, &folder.join("disk.raw")).unwrap();
    let root = disk.ext4(1).unwrap();
    let names = root.names("/boot").unwrap();
    let versions = names.iter().filter_map(|name| name.strip_prefix("initrd.img-"));
    versions
        .map(|version| {
            let file = folder.join("initrd.img");
            root.extract(&format!("/boot/initrd.img-{version}"), &file).unwrap();
            (version.to_owned(), fs::read(&file).unwrap())
        })
        .collect()
}

#[test]
fn each_of_two_kernels_gets_the_drivers() {
    let folder = tempfile::tempdir().unwrap();
    let path = image(Image::TwoKernels, folder.path());
    let before = initramfs_files(&path, folder.path());
    assert_eq!(before.len(), 2);
    let output = fix(&path);
    assert!(output.status.success(), "{}", text(&output.stderr));
    for (version, content) in initramfs_files(&path, folder.path()) {
        let added = content.strip_prefix(before[&version].as_slice()).expect("the old bytes stay in front");
        // lsinitramfs of Debian 12 stops at the first compressed segment: it gets the new one alone.
        let start = added.iter().position(|byte| *byte != 0).expect("a segment");
        let segment = folder.path().join("segment");
        fs::write(&segment, &added[start..]).unwrap();
        let modules = module_files(&segment).unwrap();
        assert!(WANTED.iter().all(|name| modules.contains(*name)), "{version}: {modules:?}");
    }
    assert_boot(&path, &inspect(&path), Bus::VirtioBlk, true);
}

#[test]
fn a_full_boot_partition_gets_a_rewritten_initramfs() {
    let folder = tempfile::tempdir().unwrap();
    let path = fixed(Image::BootFullRewrite, folder.path());
    assert_boot(&path, &inspect(&path), Bus::VirtioBlk, true);
}

#[test]
fn a_boot_partition_without_any_room_is_refused_with_byte_counts() {
    let folder = tempfile::tempdir().unwrap();
    let path = image(Image::BootFullNeither, folder.path());
    let before = file_digest(&path).unwrap();
    let output = fix(&path);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(6), "{said}");
    assert!(said.contains("bytes") && said.chars().any(|letter| letter.is_ascii_digit()), "{said}");
    assert_eq!(file_digest(&path).unwrap(), before, "nothing may be written");
}

#[test]
fn a_journal_is_replayed_before_the_fix() {
    let folder = tempfile::tempdir().unwrap();
    let path = fixed(Image::Dirty, folder.path());
    let disk = RawDisk::from_image(&path, &folder.path().join("disk.raw")).unwrap();
    let root = disk.ext4(1).unwrap();
    root.check().unwrap();
    let fstab = root.text("/etc/fstab").unwrap();
    assert!(fstab.contains("# written just before the power cut"), "{fstab}");
    fs::remove_file(disk.path()).unwrap();
    assert_boot(&path, &inspect(&path), Bus::VirtioBlk, true);
}

#[test]
fn compressed_clusters_are_read_and_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = fixed(Image::Compressed, folder.path());
    assert_boot(&path, &inspect(&path), Bus::Nvme, true);
}
