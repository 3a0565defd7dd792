//! `check` and the switches of `fix`: the cloud's own report shape, the import call, what is waived and why, what
//! ends a fix and what does not.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test says what it sees and fails by panicking"
)]

mod support;

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use testkit::recipe::Image;

use support::{coldfit, image, partition, same_bytes, text, to_raw, tool};

/// Items of the cloud's image check, as its page lists them.
const ITEMS: [&str; 18] = [
    "GUESTOS.Platform",
    "GUESTOS.OSVersion",
    "GUESTOS.Architecture",
    "GUESTOS.KernelVersion",
    "GUESTOS.SystemImage",
    "GUESTOS.RtcTimeMode",
    "GUESTOS.BootMode",
    "GUESTOS.Virtio",
    "GUESTOS.Nvme",
    "GUESTOS.Fstab",
    "GUESTOS.Grub",
    "GUESTOS.Dhcp",
    "GUESTOS.Selinux",
    "GUESTOS.OnlineResizeFS",
    "GUESTOS.CloudAssistant",
    "GUESTOS.CloudInit",
    "GUESTOS.SecurityCenterAgent",
    "GUESTOS.SupportMocInstanceTypes",
];

fn run(arguments: &[&str], code: i32) -> (String, String) {
    let output = coldfit(arguments);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{out}\n{err}");
    (out, err)
}

fn check(disk: &Path, more: &[&str], code: i32) -> Value {
    let mut arguments = vec!["--format", "json", "check", disk.to_str().unwrap(), "--profile", "alibaba"];
    arguments.extend(more);
    let (out, _) = run(&arguments, code);
    serde_json::from_str(&out).unwrap()
}

fn state<'v>(report: &'v Value, list: &str, rule: &str) -> &'v str {
    let findings = report[list].as_array().unwrap();
    let finding = findings.iter().find(|finding| finding["rule"] == rule).unwrap_or_else(|| panic!("{rule}"));
    finding["state"].as_str().unwrap()
}

#[test]
fn check_changes_nothing_and_reports_in_the_clouds_shape() {
    let dir = tempfile::tempdir().unwrap();
    let disk = image(Image::Mbr, dir.path());
    let before = dir.path().join("before");
    std::fs::copy(&disk, &before).unwrap();
    let report = check(&disk, &[], 1);
    assert!(same_bytes(&disk, &before), "check changed the image");

    assert_eq!(report["platform"], "debian");
    assert_eq!(report["os_big_version"], "12");
    assert!(report["os_small_version"].as_str().is_some());
    assert_eq!(report["architecture"], "x86_64");
    assert_eq!(report["system_disk_size"], 2);
    let items = report["check_items"].as_array().unwrap();
    for item in items {
        for field in ["name", "result", "error_code", "description", "comment"] {
            assert!(item[field].is_string(), "{item}");
        }
        let is_ok = item["result"] == "OK";
        assert!(is_ok || item["result"] == "WARNING" || item["result"] == "FAILED", "{item}");
        assert_eq!(is_ok, item["error_code"] == "", "{item}");
    }
    let named: BTreeSet<&str> = items
        .iter()
        .filter_map(|item| item["name"].as_str())
        .filter(|name| name.starts_with("GUESTOS."))
        .collect();
    assert_eq!(named, ITEMS.into_iter().collect());
    let result = |name: &str| &items.iter().find(|item| item["name"] == name).unwrap()["result"];
    assert_eq!(result("GUESTOS.Virtio"), "FAILED");
    assert_eq!(result("GUESTOS.Nvme"), "FAILED");
    assert_eq!(result("GUESTOS.Fstab"), "FAILED");
    assert_eq!(result("GUESTOS.Grub"), "FAILED");
    assert_eq!(result("GUESTOS.Platform"), "OK");

    let parameters = &report["import"]["parameters"];
    assert_eq!(report["import"]["call"], "ImportImage");
    for (name, value) in [
        ("Architecture", "x86_64"),
        ("BootMode", "BIOS"),
        ("DiskDeviceMapping.1.Format", "QCOW2"),
        ("Features.NvmeSupport", "unsupported"),
        ("Features.ImdsSupport", "v2"),
        ("OSType", "linux"),
        ("Platform", "Debian"),
        ("DetectionStrategy", "Standard"),
    ] {
        assert_eq!(parameters[name], value, "{name}");
    }
    assert_eq!(parameters["DiskDeviceMapping.1.DiskImageSize"], 2);
}

#[test]
fn switches_decide_and_what_lost_is_printed() {
    let dir = tempfile::tempdir().unwrap();
    let disk = image(Image::Mbr, dir.path());
    let path = disk.to_str().unwrap();
    let (plain, _) = run(&["check", path, "--profile", "alibaba"], 1);
    assert!(plain.contains("\n  waived: ssh.password-root because ssh.key-only\n"), "{plain}");
    assert!(plain.contains("\nnot met, coldfit fix does it ("), "{plain}");
    let (compat, _) = run(&["check", path, "--profile", "alibaba-compat"], 1);
    assert!(compat.contains("\n  waived: ssh.key-only because ssh.password-root\n"), "{compat}");
    let (set, _) = run(&["check", path, "--profile", "alibaba", "--set", "ssh-login=password-root"], 1);
    assert!(set.contains("\n  waived: ssh.key-only because ssh.password-root\n"), "{set}");
    let (_, error) = run(&["check", path, "--profile", "alibaba", "--set", "colour=red"], 2);
    assert!(error.contains("error[profile.switch.unknown]") && error.contains("ssh-login"), "{error}");
    let (_, error) = run(&["fix", path, "--profile", "alibaba", "--set", "root=red"], 2);
    assert!(error.contains("error[profile.switch.value]") && error.contains("lock, keep"), "{error}");
    let (explained, _) =
        run(&["check", path, "--profile", "alibaba", "--explain", "--only", "fstab.by-uuid"], 1);
    assert!(
        explained.contains("source: ") && explained.contains("looked at by: GUESTOS.Fstab"),
        "{explained}"
    );
}

#[test]
fn a_profile_file_may_extend_and_its_errors_name_file_and_line() {
    let dir = tempfile::tempdir().unwrap();
    let disk = image(Image::Mbr, dir.path());
    let file = dir.path().join("mine.toml");
    let profile = "schema = 1\nid = \"mine\"\ntitle = \"Ours\"\nextends = \"alibaba\"\n\n[defaults]\nfirewall = \"keep\"\n";
    std::fs::write(&file, profile).unwrap();
    let (disk, name) = (disk.to_str().unwrap(), file.to_str().unwrap());
    let (out, _) = run(&["check", disk, "--profile", name], 1);
    assert!(out.contains("waived: services.firewalld because firewall=keep"), "{out}");
    std::fs::write(&file, profile.replace("keep", "up")).unwrap();
    let (_, error) = run(&["check", disk, "--profile", name], 2);
    assert!(error.contains("mine.toml:7: firewall is one of off, keep, not \"up\""), "{error}");
}

/// A file that no rule may guess about ends a fix, or is left alone while the rest is done.
#[test]
fn a_file_that_cannot_be_parsed_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let disk = image(Image::Mbr, dir.path());
    let path = disk.to_str().unwrap();
    let broken = dir.path().join("shadow");
    std::fs::write(&broken, "this is no shadow file\n").unwrap();
    run(&["cp", broken.to_str().unwrap(), &format!("{path}:/etc/shadow")], 0);
    let before = dir.path().join("before");
    std::fs::copy(&disk, &before).unwrap();
    let (_, error) = run(&["fix", path, "--profile", "alibaba"], 3);
    assert!(error.contains("error[fix.not-fixable]") && error.contains("/etc/shadow:1"), "{error}");
    assert!(error.contains("--keep-going"), "{error}");
    assert!(same_bytes(&disk, &before), "a refused fix changed the image");

    let arguments = ["--format", "json", "fix", path, "--profile", "alibaba", "--keep-going"];
    let (out, _) = run(&arguments, 1);
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(state(&report, "findings", "accounts.files"), "not-fixable");
    assert_eq!(state(&report, "findings_after", "fstab.by-uuid"), "holds");
    assert!(report["commit"].is_object());
    let (shadow, _) = run(&["cat", &format!("{path}:/etc/shadow")], 0);
    assert_eq!(shadow, "this is no shadow file\n");
}

/// The guide maps every rule, every row and every switch.
#[test]
fn the_guide_names_every_rule_row_and_contradiction() {
    let guide =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/alibaba.md")).unwrap();
    let (out, _) = run(&["--format", "json", "profiles", "show", "alibaba"], 0);
    let profile: Value = serde_json::from_str(&out).unwrap();
    for rule in profile["rules"].as_array().unwrap() {
        let id = rule["id"].as_str().unwrap();
        assert!(guide.contains(&format!("`{id}`")), "docs/alibaba.md does not name rule {id}");
        let row = rule["row"].as_str().unwrap();
        assert!(guide.contains(&format!("\n| {row} |")), "docs/alibaba.md has no row {row}");
    }
    let switches = profile["switches"].as_array().unwrap();
    for number in 1..=21 {
        let numbered =
            |switch: &&Value| switch["summary"].as_str().unwrap().starts_with(&format!("{number}: "));
        let switch = switches.iter().find(numbered).unwrap_or_else(|| panic!("contradiction {number}"));
        let line = guide.lines().find(|line| line.starts_with(&format!("| {number} |"))).unwrap();
        assert!(line.contains(&format!("`{}`", switch["name"].as_str().unwrap())), "{line}");
    }
}

/// The EFI system partition is part of what is told and of what is checked.
#[test]
fn the_efi_system_partition_is_told_and_checked() {
    let dir = tempfile::tempdir().unwrap();
    let disk = image(Image::CloudUefi, dir.path());
    let (out, _) = run(&["--format", "json", "inspect", disk.to_str().unwrap()], 0);
    let inspected: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(inspected[0]["firmware"]["uefi"]["boots"], "yes", "{}", inspected[0]["firmware"]);
    assert_eq!(inspected[0]["firmware"]["bios"]["boots"], "no", "{}", inspected[0]["firmware"]);
    let raw = dir.path().join("disk.raw");
    to_raw(&disk, &raw);
    let fsck = |code| -> Value {
        let (out, _) = run(&["--format", "json", "fsck", raw.to_str().unwrap()], code);
        serde_json::from_str(&out).unwrap()
    };
    let layer = |report: &Value| {
        let layers = report["layers"].as_array().unwrap();
        layers.iter().find(|layer| layer["checked"] == "vfat").unwrap_or_else(|| panic!("{report}")).clone()
    };
    let sound = fsck(0);
    assert_eq!(layer(&sound)["problems"].as_array().unwrap().len(), 0, "{sound}");
    // Chains of the first FAT lead astray; the second copy still has them.
    use std::os::unix::fs::FileExt;
    let (start, _) = partition(&raw, 1);
    let file = std::fs::File::options().read(true).write(true).open(&raw).unwrap();
    let mut reserved = [0; 2];
    file.read_exact_at(&mut reserved, start + 14).unwrap();
    let first_fat = start + u64::from(u16::from_le_bytes(reserved)) * 512;
    file.write_all_at(&[0x55; 64], first_fat + 12).unwrap();
    let damaged = fsck(1);
    assert!(!layer(&damaged)["problems"].as_array().unwrap().is_empty(), "{damaged}");
}

/// Features that the import page bans, by what mke2fs really makes.
#[test]
fn banned_ext4_features_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    std::fs::create_dir_all(tree.join("etc")).unwrap();
    std::fs::create_dir_all(tree.join("sbin")).unwrap();
    std::fs::write(tree.join("etc/os-release"), "ID=debian\nVERSION_ID=\"12\"\n").unwrap();
    std::fs::write(tree.join("etc/fstab"), "LABEL=root / ext4 defaults 0 1\n").unwrap();
    std::fs::write(tree.join("sbin/init"), "").unwrap();
    let rules = "disk.ext4-64bit,disk.ext4-project-quota";
    for (features, wide, quota) in [
        ("^64bit", "holds", "holds"),
        ("64bit", "needs-action", "holds"),
        ("^64bit,quota", "holds", "holds"),
        ("^64bit,quota,project", "holds", "needs-action"),
    ] {
        let image = dir.path().join("fs.raw");
        let (tree, path) = (tree.to_str().unwrap(), image.to_str().unwrap());
        let _ = std::fs::remove_file(&image);
        tool(
            "mke2fs",
            ["-q", "-t", "ext4", "-I", "256", "-L", "root", "-O", features, "-d", tree, path, "16M"],
        );
        // The rules only recommend it, unless the switch says otherwise.
        let report = check(&image, &["--only", rules], 0);
        assert_eq!(state(&report, "findings", "disk.ext4-64bit"), wide, "{features}");
        assert_eq!(state(&report, "findings", "disk.ext4-project-quota"), quota, "{features}");
        let is_banned = wide != "holds" || quota != "holds";
        check(&image, &["--only", rules, "--set", "strict-fs=on"], i32::from(is_banned));
    }
}
