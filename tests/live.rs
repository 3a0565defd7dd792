//! The specification proved on real guests: Debian systems in a wrong state, checked, fixed while they are cold, and
//! booted on a host that looks like the cloud. What the booted guest says of itself is held against the profile's
//! rules.
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

#[path = "support/live_values.rs"]
mod live_values;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use testkit::cache::Cache;
use testkit::live::{Live, boot_live};
use testkit::qemu::{BootOutcome, Bus, End, Firmware};
use testkit::recipe::{Image, RawDisk};

use live_values::{Clock, PROFILE, Rules, compare, host, literal_lines};
use support::{image, text, tool};

/// A swap partition before root stays unless it is asked for.
const SETTING: &str = "swap-partition=remove";
/// The agent is the vendor's own package, which no test image has: `check` names it, `fix` cannot bring it.
const VENDORS_OWN: &str = "software.cloud-assistant";
/// In all images something comes before root.
const ROOT: u64 = 2;

/// One of the images, and what its recipe made wrong.
struct Guest {
    image: Image,
    firmware: Firmware,
    clock: Clock,
    label: &'static str,
    grub_defaults: &'static str,
    /// What `check` says that does not hold: rules of this state.
    fixable: &'static [&'static str],
    needs_action: &'static [&'static str],
    /// What the booted guest says that is wrong: words at the start of complaints.
    wrong: &'static [&'static str],
}

impl Guest {
    fn boot(&self, disk: &Path, bus: Bus) -> BootOutcome {
        let outcome = boot_live(&Cache::open().unwrap(), disk, bus, self.firmware, &host()).unwrap();
        let name = self.image.name();
        eprintln!("{name} on {}: {:?} after {:.0} s", bus.name(), outcome.end, outcome.seconds);
        outcome
    }

    fn live(&self, disk: &Path, bus: Bus) -> Live {
        let outcome = self.boot(disk, bus);
        let name = self.image.name();
        assert!(outcome.reached.is_some(), "{name} on {}\n{}", bus.name(), outcome.log());
        let live = Live::from_serial(&outcome.serial).unwrap();
        assert_eq!(live.get("boot.bus"), if bus == Bus::Ahci { "ata" } else { bus.name() });
        let firmware = if self.firmware == Firmware::Uefi { "uefi" } else { "bios" };
        assert_eq!(live.get("boot.firmware"), firmware);
        live
    }
}

fn run(command: &str, disk: &Path, more: &[&str], code: i32) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_coldfit"))
        // A fixed clock: equal images stay equal, and their boots are known.
        .env("SOURCE_DATE_EPOCH", "1750000000")
        .args(["--format", "json", command, "--profile", PROFILE])
        .args(more)
        .arg(disk)
        .output()
        .unwrap();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{command} {more:?}\n{out}\n{err}");
    serde_json::from_str(&out).unwrap()
}

/// Rules that do not hold, by state.
fn unmet(findings: &Value) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut unmet: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for finding in findings.as_array().unwrap() {
        let state = finding["state"].as_str().unwrap();
        if !matches!(state, "holds" | "waived" | "not-applicable") {
            unmet.entry(state).or_default().insert(finding["rule"].as_str().unwrap());
        }
    }
    unmet
}

/// The whole way of one image: check, boots before, fix, structure, text, boots after.
fn prove(guest: &Guest) {
    let folder = tempfile::tempdir().unwrap();
    let disk = image(guest.image, folder.path());
    let rules = Rules::of(PROFILE, &[SETTING]);

    let report = run("check", &disk, &[], 1);
    let mut expected = BTreeMap::new();
    for (state, rules) in [("fixable", guest.fixable), ("needs-action", guest.needs_action)] {
        if !rules.is_empty() {
            expected.insert(state, rules.iter().copied().collect());
        }
    }
    assert_eq!(unmet(&report["findings"]), expected);

    let before = guest.live(&disk, Bus::Ahci);
    compare(&before, &rules, &host(), guest.clock).assert_has(guest.wrong);
    // Under UEFI the screen is no text screen, and this guest has no serial console yet: its failure would
    // show as silence alone.
    if guest.firmware == Firmware::Bios {
        let refused = guest.boot(&disk, Bus::VirtioBlk);
        assert!(matches!(refused.end, End::DeadEnd(_)), "{}", refused.log());
    }

    let how = ["--set", SETTING, "--skip", VENDORS_OWN];
    let fixed = folder.path().join("fixed.qcow2");
    let into = [how.as_slice(), &["--output", fixed.to_str().unwrap()]].concat();
    run("fix", &disk, &into, 0);
    let again = run("fix", &fixed, &how, 0);
    for list in ["edits", "disk_edits"] {
        assert_eq!(again[list].as_array().map(Vec::len), Some(0), "{}", again[list]);
    }
    assert!(again["commit"].is_null(), "{}", again["commit"]);

    structure(guest, &fixed, folder.path(), &rules);

    let lives = [Bus::VirtioBlk, Bus::Nvme].map(|bus| {
        let live = guest.live(&fixed, bus);
        compare(&live, &rules, &host(), guest.clock).assert_none(&format!(
            "{} on {}",
            guest.image.name(),
            bus.name()
        ));
        live
    });
    is_a_new_machine(&before, &lives[0]);
    is_a_new_machine(&before, &lives[1]);
    // Both boots were the first one of the same image: what they made themselves differs.
    is_a_new_machine(&lives[0], &lives[1]);
}

/// Disk, partition table and filesystem after the fix, by their own tools.
fn structure(guest: &Guest, disk: &Path, folder: &Path, rules: &Rules) {
    tool("qemu-img", ["check".as_ref(), disk.as_os_str()]);
    let raw = RawDisk::from_image(disk, &folder.join("fixed.raw")).unwrap();
    let size = std::fs::metadata(raw.path()).unwrap().len();
    for rule in rules.of_kind("disk-size") {
        assert_eq!(size, rule["minimum"].as_u64().unwrap() << 30);
    }
    assert_eq!(raw.label().unwrap(), guest.label);
    if guest.label == "gpt" {
        let said = tool("sgdisk", ["-v".as_ref(), raw.path().as_os_str()]);
        assert!(said.contains("No problems found"), "{said}");
    }
    let table: Value =
        serde_json::from_str(&tool("sfdisk", ["--json".as_ref(), raw.path().as_os_str()])).unwrap();
    for partition in table["partitiontable"]["partitions"].as_array().unwrap() {
        let kind = partition["type"].as_str().unwrap();
        assert!(!["82", "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F"].contains(&kind), "swap: {table}");
    }
    let root = raw.ext4(ROOT).unwrap();
    root.check().unwrap();
    literal_lines(&root, rules, guest.clock, guest.grub_defaults).assert_none(guest.image.name());
    std::fs::remove_file(raw.path()).unwrap();
}

/// The first boot made an identity of its own, and nothing took it for a boot that presets apply to.
fn is_a_new_machine(old: &Live, new: &Live) {
    let id = new.get("id.machine");
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    assert_ne!(id, old.get("id.machine"));
    let keys = new.all("id.ssh");
    assert!(keys.len() > 1, "{keys:?}");
    assert!(keys.iter().all(|key| !old.all("id.ssh").contains(key)), "{keys:?}");
    // An empty machine-id is filled in; a missing one makes systemd apply its presets, which
    // switch services on again (machine-id(5), "First boot semantics").
    assert_eq!(new.get("boot.first"), "no");
}

#[test]
fn debian_12_from_bios_with_swap_ifupdown_and_chrony_becomes_what_the_profile_wants() {
    prove(&Guest {
        image: Image::CloudBios,
        firmware: Firmware::Bios,
        clock: Clock::Chrony,
        label: "dos",
        grub_defaults: "/etc/default/grub",
        fixable: &[
            "disk.size",
            "drivers.virtio",
            "drivers.nvme",
            "drivers.persistence",
            "drivers.nvme-persistence",
            "boot.root-by-uuid",
            "fstab.by-uuid",
            "swap.off",
            "boot.ifnames",
            "boot.console-x86",
            "nvme.timeouts",
            "nvme.multipath",
            "cloud-init.datasource",
            "services.firewalld",
            "services.qemu-guest-agent",
            "network.dhcp",
            "network.no-persistent-names",
            "clock.rtc-utc",
            "ssh.server",
            "ssh.key-only",
            "ssh.permit-root-explicit",
            "accounts.root-lock",
            "time.servers",
            "files.motd",
            "pip.index",
            "kernel.sysctl",
            "clean.host-keys",
            "clean.machine-id",
            "clean.leases",
            "clean.cloud-init",
            "clean.shadow-backups",
        ],
        needs_action: &[
            "disk.no-swap-partition",
            "disk.ext4-64bit",
            "software.cloud-assistant",
            "software.security-center",
        ],
        wrong: &[
            "vm.swappiness",
            "kernel.sysrq",
            "net.ipv4.tcp_syncookies",
            "net.ipv4.conf.all.rp_filter",
            "sshd: UseDNS yes",
            "sshd: PasswordAuthentication yes",
            "sshd: PermitRootLogin yes",
            "net.ifnames=0 is not in",
            "root= is not by UUID",
            "it still resumes",
            "firewalld: enabled",
            "qemu-guest-agent: static",
            "timedatectl, LocalRTC",
            "chronyd -p",
            "links",
            "swap",
            "cloud-init's instance",
            "root's password",
        ],
    });
}

#[test]
fn debian_12_from_uefi_with_netplan_and_timesyncd_becomes_what_the_profile_wants() {
    prove(&Guest {
        image: Image::CloudUefi,
        firmware: Firmware::Uefi,
        clock: Clock::Timesyncd,
        label: "gpt",
        grub_defaults: "/etc/default/grub.d/50-site.cfg",
        fixable: &[
            "disk.size",
            "drivers.virtio",
            "drivers.nvme",
            "drivers.persistence",
            "drivers.nvme-persistence",
            "fstab.by-uuid",
            "boot.ifnames",
            "boot.console-x86",
            "nvme.timeouts",
            "nvme.multipath",
            "cloud-init.datasource",
            "services.firewalld",
            "services.qemu-guest-agent",
            "network.dhcp",
            "clock.rtc-utc",
            "ssh.server",
            "ssh.key-only",
            "ssh.permit-root-explicit",
            "accounts.root-lock",
            "time.servers",
            "files.motd",
            "kernel.sysctl",
            "clean.host-keys",
            "clean.machine-id",
            "clean.leases",
            "clean.cloud-init",
            "clean.shadow-backups",
        ],
        needs_action: &["disk.ext4-64bit", "software.cloud-assistant", "software.security-center"],
        wrong: &[
            "net.ipv4.tcp_max_syn_backlog",
            "net.ipv4.conf.default.arp_announce",
            "vm.swappiness",
            "sshd: PasswordAuthentication yes",
            "net.ifnames=0 is not in",
            "qemu-guest-agent: static",
            "timedatectl, LocalRTC",
            "timesyncd's servers",
            "links",
            "cloud-init's instance",
            "root's password",
        ],
    });
}

#[test]
fn debian_13_with_network_manager_and_no_sysctl_conf_becomes_what_the_profile_wants() {
    prove(&Guest {
        image: Image::Cloud13,
        firmware: Firmware::Bios,
        clock: Clock::Chrony,
        label: "gpt",
        grub_defaults: "/etc/default/grub",
        fixable: &[
            "disk.size",
            "drivers.virtio",
            "drivers.nvme",
            "drivers.persistence",
            "drivers.nvme-persistence",
            "fstab.by-uuid",
            "boot.ifnames",
            "boot.console-x86",
            "nvme.timeouts",
            "nvme.multipath",
            "cloud-init.datasource",
            "services.qemu-guest-agent",
            "network.dhcp",
            "network.no-persistent-names",
            "clock.rtc-utc",
            "ssh.server",
            "ssh.key-only",
            "ssh.permit-root-explicit",
            "accounts.root-lock",
            "time.servers",
            "files.motd",
            "kernel.sysctl",
            "clean.host-keys",
            "clean.machine-id",
            "clean.leases",
            "clean.cloud-init",
            "clean.shadow-backups",
        ],
        needs_action: &["disk.ext4-64bit", "software.cloud-assistant", "software.security-center"],
        wrong: &[
            "net.ipv4.tcp_slow_start_after_idle",
            "net.ipv4.conf.default.rp_filter",
            "sshd: PermitRootLogin yes",
            "net.ifnames=0 is not in",
            "qemu-guest-agent: static",
            "chronyd -p",
            "links",
            "cloud-init's instance",
            "root's password",
        ],
    });
}
