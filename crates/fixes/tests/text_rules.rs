//! Rules on text files: exact bytes afterwards, nothing left for a second plan.

#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use coldfit_fixes::{FixError, Selection, State};
use report::Diagnose;
use support::*;

const FSTAB: &str = "/etc/fstab";
const GRUB: &str = "/etc/default/grub";
const CFG: &str = "/boot/grub/grub.cfg";
const OWN: &str = "/etc/default/grub.d/99-coldfit.cfg";

fn fstab(text: &str) -> (State, String) {
    let mut fs = guest();
    fs.add_file(FSTAB, text);
    fix_file(fs, "fstab.by-uuid", FSTAB)
}

#[test]
fn fstab_changes_only_the_names_that_a_bus_changes() {
    let (state, text) = fstab(
        "# /dev/sda1 is the root\r\n/dev/sda1\t/   ext4 errors=remount-ro 0 1\r\n\
         /dev/sda5 none swap sw 0 0 # swap\n/dev/sda6 none swap sw 0 0\nLABEL=data /data ext4 defaults 0 2\n\
         /dev/sdb1 /srv ext4 defaults 0 2\n/dev/sdb2 /opt ext4\n/dev/sdb3 /mnt ext4 noauto 0 0\nbroken\n\
         /dev/sdb4 none swap sw 0 0\n/dev/mapper/vg-lv /home ext4 defaults 0 2",
    );
    let expected = format!(
        "# /dev/sda1 is the root\r\nUUID={ROOT}\t/   ext4 errors=remount-ro 0 1\r\n\
         UUID={SWAP} none swap sw 0 0 # swap\nPARTUUID=1234abcd-06 none swap sw 0 0\n\
         LABEL=data /data ext4 defaults 0 2\n\
         /dev/sdb1 /srv ext4 defaults,nofail 0 2\n/dev/sdb2 /opt ext4 nofail\n/dev/sdb3 /mnt ext4 noauto 0 0\n\
         broken\n/dev/sdb4 none swap sw,nofail 0 0\n/dev/mapper/vg-lv /home ext4 defaults 0 2"
    );
    assert_eq!((state, text), (State::Fixable, expected));
}

#[test]
fn fstab_names_by_place_or_serial_number_are_names_of_the_old_host() {
    let disk = "/dev/disk/by-path/pci-0000:00:03.0-ata-1-part";
    let (state, text) = fstab(&format!(
        "{disk}1 / ext4 defaults 0 1\n{disk}5 none swap sw 0 0\n/dev/disk/by-id/wwn-0x5-part1 /srv ext4 defaults 0 2\n"
    ));
    let expected = format!(
        "UUID={ROOT} / ext4 defaults 0 1\nUUID={SWAP} none swap sw 0 0\n\
         /dev/disk/by-id/wwn-0x5-part1 /srv ext4 defaults,nofail 0 2\n"
    );
    assert_eq!((state, text), (State::Fixable, expected));
}

#[test]
fn fstab_holds_or_is_not_there() {
    let text = format!("UUID={ROOT} / ext4 defaults 0 1\n/dev/sr0 /media udf noauto 0 0\n");
    assert_eq!(fstab(&text), (State::Holds, text));
    // The root is known although its disk was another one; it must never become optional.
    assert_eq!(fstab("/dev/sdb1 / ext4 defaults 0 1\n").1, format!("UUID={ROOT} / ext4 defaults 0 1\n"));
    let bare = testkit::DirFs::from_files([("/etc/os-release", "ID=x\n")]);
    assert_eq!(finding(bare, "fstab.by-uuid").state, State::NotApplicable);
}

fn with_grub(arguments: &str, defaults: &str) -> testkit::DirFs {
    let mut fs = guest();
    fs.add_file(CFG, grub_cfg(arguments)).add_file(GRUB, defaults);
    fs
}

#[test]
fn root_by_uuid_in_every_entry() {
    for name in ["/dev/sda1", "/dev/vda1", "/dev/nvme0n1p1", "/dev/sdb7", "/dev/disk/by-id/ata-X-part1"] {
        let fs = with_grub(&format!("root={name} ro  quiet"), "GRUB_CMDLINE_LINUX=\"quiet\"\n");
        let (planned, tree) = fix(fs, &["boot.root-by-uuid"]);
        assert_eq!(content(&tree, CFG), grub_cfg(&format!("root=UUID={ROOT} ro  quiet")));
        assert_eq!((planned.edits.len(), planned.findings[0].evidence.len()), (1, 3));
    }
    for name in ["LABEL=rootfs", "/dev/mapper/vg-root", "/dev/vg/root", "PARTUUID=1234abcd-01"] {
        let text = grub_cfg(&format!("root={name} ro"));
        let fs = with_grub(&format!("root={name} ro"), "");
        assert_eq!(fix_file(fs, "boot.root-by-uuid", CFG), (State::Holds, text));
    }
}

#[test]
fn root_by_uuid_in_the_defaults_alone() {
    let stable = format!("root=UUID={ROOT} ro");
    for (before, after) in [
        (
            "A=1\nGRUB_CMDLINE_LINUX='a root=/dev/sda1  b' # why\n",
            "A=1\nGRUB_CMDLINE_LINUX='a root=UUID=X  b' # why\n",
        ),
        ("GRUB_DISABLE_LINUX_UUID=true # no UUIDs\n", "GRUB_DISABLE_LINUX_UUID=\"false\" # no UUIDs\n"),
        ("GRUB_DISABLE_LINUX_UUID=\"true\"\nB=2\n", "GRUB_DISABLE_LINUX_UUID=\"false\"\nB=2\n"),
        ("GRUB_DISABLE_LINUX_UUID=false\n", "GRUB_DISABLE_LINUX_UUID=false\n"),
        ("#GRUB_DISABLE_LINUX_UUID=true\n", "#GRUB_DISABLE_LINUX_UUID=true\n"),
    ] {
        let (state, text) = fix_file(with_grub(&stable, before), "boot.root-by-uuid", GRUB);
        assert_eq!(text, after.replace("UUID=X", &format!("UUID={ROOT}")));
        assert_eq!(state, if before == after { State::Holds } else { State::Fixable });
    }
    let mut fs = with_grub(&stable, "GRUB_DEFAULT=0\n");
    fs.add_file("/etc/default/grub.d/50-x.cfg", "# x\nGRUB_DISABLE_LINUX_UUID='true'\n");
    fs.add_dir("/etc/default/grub.d/60-directory.cfg");
    let (_, tree) = fix(fs, &["boot.root-by-uuid"]);
    assert_eq!(content(&tree, "/etc/default/grub.d/50-x.cfg"), "# x\nGRUB_DISABLE_LINUX_UUID='false'\n");
    assert_eq!(content(&tree, GRUB), "GRUB_DEFAULT=0\n");
}

#[test]
fn consoles_end_in_the_profile_s_order() {
    for (before, after) in [
        ("root=LABEL=x ro", "root=LABEL=x ro console=tty0 console=ttyS0,115200n8"),
        ("console=ttyS0,9600 ro", "console=tty0 console=ttyS0,9600 ro"),
        ("console=ttyS0 console=tty0", "console=tty0 console=ttyS0,115200n8"),
        ("console=tty0 console=ttyS1 x", "console=ttyS1 console=tty0 console=ttyS0,115200n8 x"),
    ] {
        let (_, tree) = fix(with_grub(before, "GRUB_DEFAULT=0"), &["boot.console"]);
        let cfg = content(&tree, CFG);
        assert_eq!(cfg.matches("console=tty0 console=ttyS0").count(), 3, "{cfg}");
        // Where an argument was taken away, its blank may stay at the end of the line.
        let line = format!("/boot/vmlinuz-{KVER} {after}");
        assert!(cfg.lines().any(|found| found.trim_end().ends_with(&line)), "{cfg}");
        assert_eq!(
            content(&tree, GRUB),
            "GRUB_DEFAULT=0\nGRUB_CMDLINE_LINUX=\"console=tty0 console=ttyS0,115200n8\"\n"
        );
    }
    // Consoles of the other variable come behind: they are put in order too.
    let defaults = "GRUB_CMDLINE_LINUX_DEFAULT=\"quiet console=tty1\"\nGRUB_CMDLINE_LINUX=\"\"\n";
    let (_, text) = fix_file(with_grub("ro", defaults), "boot.console", GRUB);
    assert_eq!(
        text,
        "GRUB_CMDLINE_LINUX_DEFAULT=\"quiet console=tty1 console=tty0 console=ttyS0,115200n8\"\n\
         GRUB_CMDLINE_LINUX=\"console=tty0 console=ttyS0,115200n8\"\n"
    );
}

#[test]
fn a_value_that_needs_a_shell_gets_a_file_of_its_own() {
    let defaults = "GRUB_CMDLINE_LINUX=\"$(cat /etc/args)\"\n";
    let (planned, tree) = fix(with_grub("ro", defaults), &["boot.console"]);
    assert_eq!(planned.findings[0].state, State::Fixable);
    assert_eq!(content(&tree, GRUB), defaults);
    assert_eq!(
        content(&tree, OWN),
        "GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX console=tty0 console=ttyS0,115200n8\"\n"
    );
    // Where grub-mkconfig does not read the directory, such a file would do nothing.
    let mut fs = with_grub("ro", defaults);
    fs.add_file("/usr/sbin/grub2-mkconfig", ". /etc/default/grub\n");
    let found = finding(fs, "boot.console");
    assert_eq!(found.state, State::NotFixable);
    assert!(found.evidence[0].contains("needs a shell"), "{found:?}");
}

#[test]
fn loaders_and_files_that_are_not_edited_are_named() {
    for rule in ["boot.root-by-uuid", "boot.console"] {
        let mut fs = guest();
        fs.add_file(CFG, "menuentry 'x' {\n");
        let found = finding(fs, rule);
        assert_eq!(found.state, State::NotFixable);
        assert!(found.evidence[0].contains("grub.cfg:1") && found.remedy.is_some(), "{found:?}");

        let found = finding(with_grub("root=UUID=1 ro", "GRUB_CMDLINE_LINUX=\"open\n"), rule);
        assert_eq!(found.state, State::NotFixable);
        assert!(found.evidence[0].contains("not closed"), "{found:?}");

        let found = finding(guest_of(&[("/etc/zipl.conf", "[defaultboot]\n")]), rule);
        assert_eq!(found.state, State::NotFixable);
        assert!(found.evidence[0].contains("zipl"), "{found:?}");
        let bare = guest_of(&[("/boot/grub", "no directory")]);
        assert_eq!(finding(bare, rule).state, State::NotApplicable);
    }
}

#[test]
fn persistence_for_both_generators() {
    const LIST: &str = "/etc/initramfs-tools/modules";
    const DROP_IN: &str = "/etc/dracut.conf.d/90-coldfit.conf";
    let mut fs = guest();
    fs.add_file(LIST, "# virtio_net\nvirtio-blk  # named\ndummy nvme=1\nvirtio_pci")
        .add_file("/usr/bin/dracut", "#!/bin/sh\n")
        .add_file(DROP_IN, "# kept\nadd_drivers+=\" virtio_blk nvme \"\nomit_drivers+=\" sd_mod \"\n");
    let (planned, tree) = fix(fs, &["initramfs.persistence"]);
    assert_eq!(planned.findings[0].state, State::Fixable);
    assert_eq!(
        content(&tree, LIST),
        "# virtio_net\nvirtio-blk  # named\ndummy nvme=1\nvirtio_pci\nvirtio_scsi\nvirtio_net\nnvme\nsd_mod\n"
    );
    assert_eq!(
        content(&tree, DROP_IN),
        "# kept\nadd_drivers+=\" virtio_blk nvme \"\nomit_drivers+=\" sd_mod \"\n\
         add_drivers+=\" virtio_pci virtio_scsi virtio_net sd_mod \"\n"
    );
    let left_behind = testkit::DirFs::from_files([("/etc/os-release", "ID=x\n"), (LIST, "")]);
    assert_eq!(finding(left_behind, "initramfs.persistence").state, State::NotApplicable);
}

/// A guest with these files, and the modules of the profile on disk.
fn guest_of(files: &[(&str, &str)]) -> testkit::DirFs {
    let mut fs = testkit::DirFs::from_files([("/etc/os-release", "ID=x\n")]);
    add_kernel(&mut fs, KVER, &MODULES);
    files.iter().for_each(|(file, text)| {
        fs.add_file(*file, *text);
    });
    fs
}

#[test]
fn persistence_for_mkinitcpio_with_and_without_a_directory() {
    const CONF: &str = "/etc/mkinitcpio.conf";
    const DROP_IN: &str = "/etc/mkinitcpio.conf.d/90-coldfit.conf";
    let (rule, old) = (["initramfs.persistence"], ("/usr/bin/mkinitcpio", "_f_config=x\n"));
    let new = ("/usr/bin/mkinitcpio", "_d_config=\"${_f_config}.d\"\n");
    let conf =
        "# vim:set ft=sh\n#MODULES=(sd_mod)\nMODULES=(virtio-blk\n  virtio_pci?) # both\nHOOKS=(base udev)\n";
    let more = ("/etc/mkinitcpio.conf.d/10-site.conf", "MODULES+=(nvme)\n");
    let (_, tree) = fix(guest_of(&[new, (CONF, conf), more]), &rule);
    assert_eq!(content(&tree, CONF), conf);
    assert_eq!(content(&tree, DROP_IN), "MODULES+=(virtio_scsi virtio_net sd_mod)\n");
    let (_, tree) = fix(guest_of(&[old, (CONF, conf), more]), &rule);
    assert_eq!(content(&tree, CONF), format!("{conf}MODULES+=(virtio_scsi virtio_net nvme sd_mod)\n"));
    let string = "MODULES=\"virtio_blk nvme\"";
    let (_, tree) = fix(guest_of(&[old, (CONF, string)]), &rule);
    assert_eq!(
        content(&tree, CONF),
        format!("{string}\nMODULES=\"$MODULES virtio_pci virtio_scsi virtio_net sd_mod\"\n")
    );
    // bash itself says what the array is then.
    for (file, tree) in [(CONF, fix(guest_of(&[old, (CONF, conf)]), &rule).1), (CONF, tree)] {
        let script = format!("{}\necho ${{MODULES[@]}}", content(&tree, file));
        let said = testkit::tool::run("bash", ["-c", &script]).unwrap();
        for module in MODULES {
            assert!(
                said.replace('-', "_").split_whitespace().any(|word| word.trim_end_matches('?') == module),
                "{said}"
            );
        }
    }
}

#[test]
fn persistence_for_mkinitfs_booster_and_suse() {
    let rule = ["initramfs.persistence"];
    let (_, tree) = fix(
        guest_of(&[("/sbin/mkinitfs", ""), ("/etc/mkinitfs/mkinitfs.conf", "features=\"ata base ext4\"\n")]),
        &rule,
    );
    assert_eq!(content(&tree, "/etc/mkinitfs/mkinitfs.conf"), "features=\"ata base ext4 coldfit\"\n");
    let feature = content(&tree, "/etc/mkinitfs/features.d/coldfit.modules");
    assert_eq!(feature.lines().count(), MODULES.len());
    assert!(feature.lines().any(|line| line == "kernel/virtio_blk.ko*"), "{feature}");

    const BOOSTER: &str = "/etc/booster.yaml";
    for (before, after) in [
        ("", "modules: virtio_pci,virtio_blk,virtio_scsi,virtio_net,nvme,sd_mod\n"),
        (
            "universal: false\nmodules: -*,nvme,virtio-blk # mine\nstrip: true\n",
            "universal: false\nmodules: -*,nvme,virtio-blk,virtio_pci,virtio_scsi,virtio_net,sd_mod # mine\nstrip: true\n",
        ),
    ] {
        let (_, tree) = fix(guest_of(&[("/usr/bin/booster", ""), (BOOSTER, before)]), &rule);
        assert_eq!(content(&tree, BOOSTER), after);
    }
    let list = guest_of(&[("/usr/bin/booster", ""), (BOOSTER, "modules: [nvme]\n")]);
    assert_eq!(finding(list, rule[0]).state, State::NotFixable);

    const KERNEL: &str = "/etc/sysconfig/kernel";
    let text = "## Type: string\nINITRD_MODULES=\"ata_piix virtio_blk\"\nDOMU_INITRD_MODULES=\"xennet\"\n";
    let (_, tree) = fix(guest_of(&[("/sbin/mkinitrd", ""), (KERNEL, text)]), &rule);
    let added = "ata_piix virtio_blk virtio_pci virtio_scsi virtio_net nvme sd_mod";
    assert_eq!(content(&tree, KERNEL), text.replace("ata_piix virtio_blk", added));
    let nash = guest_of(&[("/sbin/mkinitrd", "")]);
    assert_eq!(finding(nash, rule[0]).state, State::NotFixable);
}

#[test]
fn several_rules_on_one_file_make_one_edit() {
    let (planned, tree) = fix(guest(), &["boot.root-by-uuid", "boot.console"]);
    let edit = planned.edits.iter().find(|edit| edit.path == path(CFG)).unwrap();
    assert_eq!(edit.rules, ["boot.root-by-uuid", "boot.console"]);
    assert_eq!(edit.summary.len(), 6);
    let expected = grub_cfg(&format!("root=UUID={ROOT} ro quiet console=tty0 console=ttyS0,115200n8"));
    // A recovery entry has its own argument before the consoles.
    let recovery = |text: &str| text.replace(" single", "").replace("  ", " ");
    assert_eq!(recovery(&content(&tree, CFG)), recovery(&expected));
    assert_eq!(content(&tree, CFG).matches(" quiet single console=tty0").count(), 1);
}

#[test]
fn selection_of_rules() {
    let tree = guest().into_tree();
    let all = try_plan(&tree, &Selection::default()).unwrap();
    let (fixable, rest): (Vec<_>, Vec<_>) =
        all.findings.iter().partition(|finding| finding.state == State::Fixable);
    // This guest is no arm64, and nothing of its disk starts.
    let rest: Vec<(&str, State)> = rest.iter().map(|finding| (&*finding.rule, finding.state)).collect();
    assert_eq!(rest, [("boot.console-arm", State::NotApplicable), ("boot.mode", State::NeedsAction)]);
    assert_eq!(fixable.len(), 5);
    let some = Selection { only: Vec::new(), skip: vec!["initramfs.drivers".into()] };
    let planned = try_plan(&tree, &some).unwrap();
    assert_eq!(planned.findings.len(), 6);
    assert!(planned.edits.iter().all(|edit| edit.rules != ["initramfs.drivers"]));
    let error = try_plan(&tree, &only(&["boot.consoles"])).unwrap_err();
    assert!(matches!(error, FixError::UnknownRule { .. }), "{error}");
    assert_eq!(error.code(), "profile.rule.unknown");
    assert!(error.to_string().ends_with("boot.console, boot.console-arm, boot.mode"), "{error}");
}
