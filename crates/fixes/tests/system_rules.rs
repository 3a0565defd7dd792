//! Rules on programs, kernels, accounts, links and SELinux.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod support;

use cloudspec::Profile;
use coldfit_fixes::{Finding, Plan, Selection, State, apply, plan};
use support::*;
use testkit::DirFs;
use vfs::GuestTree;

/// A profile of one rule.
fn rule(body: &str) -> Profile {
    let text = format!(
        "schema = 1\nid = \"t\"\ntitle = \"t\"\n[[rule]]\nid = \"r\"\nseverity = \"must\"\nsummary = \"s\"\n\
         source = \"x\"\ndate = \"2026-11-24\"\ncheck-items = [\"ITEM\"]\n{body}\n"
    );
    Profile::parse(&text, "test").unwrap()
}

fn planned(tree: &GuestTree, profile: &Profile) -> Plan {
    let model = guest::inspect(tree, &devices()).unwrap();
    plan(tree, &devices(), &model, profile, &Selection::default()).unwrap()
}

fn look(fs: DirFs, body: &str) -> Finding {
    let found = planned(&fs.into_tree(), &rule(body));
    assert!(found.is_empty(), "{:?}", found.edits);
    found.findings.into_iter().next().unwrap()
}

/// Applies the plan; the second run changes nothing and finds it met.
fn mend(fs: DirFs, body: &str) -> (Finding, GuestTree) {
    let (mut tree, profile) = (fs.into_tree(), rule(body));
    let first = planned(&tree, &profile);
    apply(&first.edits, &mut tree, NOW).unwrap();
    let second = planned(&tree, &profile);
    assert!(second.is_empty(), "{:?}", second.edits);
    let expected =
        if first.findings[0].state == State::Fixable { State::Holds } else { first.findings[0].state };
    assert_eq!(second.findings[0].state, expected, "{:?}", second.findings);
    (first.findings.into_iter().next().unwrap(), tree)
}

const CLOUD_INIT: &str = "kind = \"software\"\nname = \"cloud-init\"\npaths = [\"/usr/bin/cloud-init\"]\n\
    packages = { suse = \"other\", default = \"cloud-init\" }\nminimum = \"0.7.9\"\nobtain = \"there\"";

#[test]
fn software_is_found_by_files_and_its_version_by_what_tells_it() {
    let with = |version: &str| {
        let mut fs = guest();
        fs.add_file("/usr/bin/cloud-init", "").add_file(
            "/usr/lib/python3/dist-packages/cloudinit/version.py",
            format!("__VERSION__ = \"{version}\"\n"),
        );
        fs
    };
    let found = look(with("22.4.2"), CLOUD_INIT);
    assert_eq!(found.state, State::Holds);
    assert!(found.evidence[0].contains("version 22.4.2 (/usr/lib/python3"), "{found:?}");
    let old = look(with("0.7.6a15"), CLOUD_INIT);
    assert_eq!(old.state, State::NeedsAction);
    assert_eq!(old.evidence[1], "older than 0.7.9");
    let absent = look(guest(), CLOUD_INIT);
    assert_eq!(absent.state, State::NeedsAction);
    assert_eq!(absent.remedy.as_deref(), Some("Install cloud-init in the guest (debian): there."));
    let mut silent = guest();
    silent.add_file("/usr/bin/cloud-init", "");
    let silent = look(silent, CLOUD_INIT);
    assert_eq!(silent.state, State::NeedsAction);
    assert!(silent.evidence[1].contains("unknown"), "{silent:?}");

    let agent = "kind = \"software\"\nname = \"agent\"\npaths = [\"/opt/agent/*/program\"]\npackages = {}\nminimum = \"2.2\"";
    let mut fs = guest();
    fs.add_file("/opt/agent/1.9/program", "").add_file("/opt/agent/2.10.1/program", "");
    fs.add_file("/opt/agent/9/other", "").add_file("/opt/agent/README", "");
    let found = look(fs, agent);
    assert_eq!(found.state, State::Holds);
    assert!(found.evidence[0].starts_with("/opt/agent/2.10.1/program: version 2.10.1"), "{found:?}");
}

#[test]
fn growpart_needs_a_partitioner() {
    let body = "kind = \"software\"\nname = \"growpart\"\npaths = [\"/usr/bin/growpart\"]\npackages = {}";
    let mut fs = guest();
    fs.add_file("/usr/bin/growpart", "");
    assert_eq!(look(fs.clone(), body).state, State::NeedsAction);
    fs.add_file("/usr/sbin/sfdisk", "");
    assert_eq!(look(fs, body).state, State::Holds);
}

#[test]
fn kernel_options_are_judged_for_each_kernel() {
    let body = "kind = \"kernel-config\"\noption = \"CONFIG_FW_CFG_SYSFS\"\nmodule = \"qemu_fw_cfg\"";
    let with_config = |value: &str| {
        let mut fs = guest();
        fs.add_file(
            format!("/boot/config-{KVER}"),
            format!("CONFIG_A=y\n{value}\nCONFIG_FW_CFG_SYSFS_CMDLINE=y\n"),
        );
        fs
    };
    assert_eq!(look(with_config("CONFIG_FW_CFG_SYSFS=y"), body).state, State::Holds);
    let off = look(with_config("# CONFIG_FW_CFG_SYSFS is not set"), body);
    assert_eq!(off.state, State::NeedsAction);
    assert!(off.evidence[0].contains(&format!("not set (/boot/config-{KVER})")), "{off:?}");
    let missing = look(with_config("CONFIG_FW_CFG_SYSFS=m"), body);
    assert_eq!(missing.state, State::NeedsAction);
    assert!(missing.evidence[0].contains("not installed"), "{missing:?}");

    let mut module = with_config("CONFIG_FW_CFG_SYSFS=m");
    add_kernel(&mut module, KVER, &["virtio_pci", "qemu_fw_cfg"]);
    assert_eq!(look(module.clone(), body).state, State::Holds);
    // A second kernel without a configuration is told by its modules.
    add_kernel(&mut module, "5.10.0-1-amd64", &["virtio_pci"]);
    let second = look(module.clone(), body);
    assert_eq!(second.state, State::NeedsAction);
    assert!(second.evidence[0].starts_with("5.10.0-1-amd64: no /boot/config"), "{second:?}");
    module
        .add_file("/lib/modules/5.10.0-1-amd64/modules.builtin", "kernel/drivers/firmware/qemu_fw_cfg.ko\n");
    assert_eq!(look(module.clone(), body).state, State::Holds);
    // A kernel without modules and configuration says nothing.
    module.add_file("/boot/vmlinuz-4.1.0-1", "kernel");
    let unknown = look(module, body);
    assert_eq!(unknown.state, State::NeedsAction);
    assert!(unknown.evidence[0].contains("4.1.0-1: unknown"), "{unknown:?}");
}

#[test]
fn absolute_links_become_relative_ones_to_the_same_place() {
    let body =
        "kind = \"relative-links\"\npaths = [\"/bin\", \"/lib64\", \"/usr/local/lib\", \"/sbin\", \"/lib\"]";
    let mut fs = guest();
    fs.add_file("/usr/lib64/x", "x").add_file("/opt/y", "y");
    fs.add_symlink("/lib64", "/usr/lib64")
        .add_symlink("/usr/local/lib", "/opt/")
        .add_symlink("/sbin", "usr/sbin");
    let (found, tree) = mend(fs, body);
    assert_eq!(found.state, State::Fixable);
    assert_eq!(found.evidence.len(), 2);
    assert_eq!(tree.read_link(&path("/lib64")).unwrap(), b"usr/lib64");
    assert_eq!(tree.read_link(&path("/usr/local/lib")).unwrap(), b"../../opt");
    assert_eq!(
        (content(&tree, "/lib64/x").as_str(), content(&tree, "/usr/local/lib/y").as_str()),
        ("x", "y")
    );
    assert_eq!(look(guest(), body).evidence, ["none of them is a symlink"]);
}

fn accounts(passwd: &str, shadow: &str) -> DirFs {
    let mut fs = guest();
    fs.add_file("/etc/passwd", passwd).add_file("/etc/shadow", shadow);
    fs
}

const PASSWD: &str =
    "root:x:0:0:root:/root:/bin/bash\n+nis::::::\n# a comment\ndaemon:x:1:1::/:/usr/sbin/nologin\n";
const SHADOW: &str = "root:$6$x$y:19000:0:99999:7:::\ndaemon:*:19000:0:99999:7:::\n";

#[test]
fn protected_account_files_are_opened_and_keep_their_content() {
    let body = "kind = \"account-files\"";
    let mut fs = accounts(PASSWD, SHADOW);
    fs.set_mode("/etc/shadow", 0).add_immutable("/etc/shadow");
    let (found, tree) = mend(fs, body);
    assert_eq!(found.state, State::Fixable);
    let stat = tree.stat(&path("/etc/shadow")).unwrap();
    assert_eq!((stat.is_immutable, stat.mode), (false, 0));
    assert_eq!(content(&tree, "/etc/shadow"), SHADOW);
    assert_eq!(look(accounts(PASSWD, SHADOW), body).state, State::Holds);
}

#[test]
fn broken_account_files_are_named_and_left_alone() {
    let body = "kind = \"account-files\"";
    let broken = look(accounts(PASSWD, "root:$6$x$y:19000:0:99999:7:::\ndaemon\n"), body);
    assert_eq!(
        (broken.state, broken.evidence[0].as_str()),
        (State::NotFixable, "/etc/shadow:2: 1 fields, not 9")
    );
    let renamed = look(accounts(&PASSWD.replace("root:x:0", "toor:x:0"), SHADOW), body);
    assert_eq!(renamed.state, State::NeedsAction);
    assert_eq!(renamed.evidence, ["/etc/passwd has no account root"]);
    let mut without = guest();
    without.add_file("/etc/passwd", PASSWD);
    assert!(look(without, body).evidence[0].starts_with("/etc/shadow is not there"));
    assert_eq!(look(guest(), body).evidence, ["/etc/passwd is not there"]);
}

const SELINUX: &str =
    "# This file controls SELinux.\n#SELINUX=disabled\nSELINUX=enforcing\r\nSELINUXTYPE=targeted\n";

fn with_selinux(arguments: &str) -> DirFs {
    let mut fs = guest();
    fs.add_file("/etc/selinux/config", SELINUX).add_file("/boot/grub/grub.cfg", grub_cfg(arguments));
    fs
}

#[test]
fn selinux_is_kept_with_a_warning_or_set_where_no_argument_decides() {
    let body = |mode: &str| format!("kind = \"selinux-mode\"\nmode = \"{mode}\"");
    let kept = look(with_selinux("ro"), &body("keep"));
    assert_eq!(kept.state, State::Holds);
    assert!(kept.evidence[1].starts_with("warning: ITEM recommends"), "{kept:?}");
    for (mode, word) in [("permissive", "permissive"), ("disable", "disabled")] {
        let (found, tree) = mend(with_selinux("ro"), &body(mode));
        assert_eq!(found.state, State::Fixable);
        assert_eq!(
            content(&tree, "/etc/selinux/config"),
            SELINUX.replacen("SELINUX=enforcing", &format!("SELINUX={word}"), 1)
        );
    }
    let decided = look(with_selinux("ro enforcing=1"), &body("permissive"));
    assert_eq!(decided.state, State::NeedsAction);
    assert!(decided.evidence[0].contains("enforcing=1 in /boot/grub/grub.cfg:"), "{decided:?}");
    assert_eq!(look(with_selinux("ro selinux=0"), &body("permissive")).state, State::Holds);
    assert_eq!(look(with_selinux("ro enforcing=0"), &body("permissive")).state, State::Holds);
    assert_eq!(look(with_selinux("ro selinux=0"), &body("keep")).evidence.len(), 1);
    assert_eq!(look(guest(), &body("disable")).state, State::Holds);
    let mut unset = guest();
    unset.add_file("/etc/selinux/config", "SELINUXTYPE=targeted");
    let (_, tree) = mend(unset, &body("disable"));
    assert_eq!(content(&tree, "/etc/selinux/config"), "SELINUXTYPE=targeted\nSELINUX=disabled\n");
}
