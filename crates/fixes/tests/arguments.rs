//! Kernel arguments in the files of every loader, as distributions have them. GRUB's own tools judge the outcome.

#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use std::process::Command;

use cloudspec::Profile;
use coldfit_fixes::{Plan, State};
use support::*;
use testkit::DirFs;
use vfs::GuestTree;

/// Consoles, root by UUID, an argument for normal entries, no resume: what a cloud asks for.
fn profile(places: &str) -> Profile {
    let rule = |id: &str, kind: &str, values: &str, places: &str| {
        format!(
            "[[rule]]\nid = \"{id}\"\nkind = \"{kind}\"\nseverity = \"must\"\nsummary = \"s\"\nsource = \"s\"\n\
             date = \"2026-11-24\"\n{values}\n{places}\n"
        )
    };
    let text = format!(
        "schema = 1\nid = \"test\"\ntitle = \"test\"\n[[switch]]\nname = \"rendered\"\n\
         values = [\"loaded\", \"sources\"]\ndefault = \"{places}\"\nsummary = \"s\"\n{}{}{}",
        rule("root", "root-by-uuid", "", "places = \"${rendered}\""),
        rule("names", "kernel-args", "arguments = [\"net.ifnames=0\"]", "places = \"${rendered}\""),
        rule("console", "console", "devices = [\"tty0\", \"ttyS0,115200n8\"]", "places = \"${rendered}\""),
    );
    Profile::parse(&text, "test").unwrap()
}

const CONSOLES: &str = "console=tty0 console=ttyS0,115200n8";

fn bare(files: &[(&str, &str)]) -> DirFs {
    let mut fs = DirFs::from_files([("/etc/os-release", "ID=rhel\nVERSION_ID=\"8.0\"\n")]);
    fs.set_uuid(ROOT);
    for (path, text) in files {
        fs.add_file(*path, *text);
    }
    fs
}

fn refit(fs: DirFs) -> (Plan, GuestTree) {
    fix_by(fs, &profile("loaded"))
}

fn states(planned: &Plan) -> Vec<State> {
    planned.findings.iter().map(|finding| finding.state).collect()
}

fn evidence(planned: &Plan) -> String {
    planned.findings.iter().flat_map(|finding| finding.evidence.clone()).collect::<Vec<_>>().join("\n")
}

/// A block as `grub-editenv` makes it.
fn block(settings: &[&str]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("grubenv");
    let run = |arguments: &[&str]| {
        let status = Command::new("grub-editenv").arg(&file).args(arguments).status();
        assert!(status.expect("grub-editenv (Debian package grub-common) is needed").success());
    };
    run(&["create"]);
    settings.iter().for_each(|setting| run(&["set", setting]));
    std::fs::read_to_string(file).unwrap()
}

/// What `grub-editenv` reads in a block.
fn listed(text: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("grubenv");
    std::fs::write(&file, text).unwrap();
    let output = Command::new("grub-editenv").arg(&file).arg("list").output();
    String::from_utf8(output.expect("grub-editenv (Debian package grub-common) is needed").stdout).unwrap()
}

fn check_script(text: &str) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("grub.cfg");
    std::fs::write(&file, text).unwrap();
    let status = Command::new("grub-script-check").arg(&file).status();
    assert!(status.expect("grub-script-check (Debian package grub-common) is needed").success(), "{text}");
}

const MACHINE: &str = "4ac5f1d1b1d84dd4b3f6a8d3e4f5a6b7";
/// The part of RHEL 8's `grub.cfg` that matters here.
const BLS_CFG: &str = "set pager=1\nif [ -f ${config_directory}/grubenv ]; then\n  load_env -f ${config_directory}/grubenv\n\
    elif [ -s $prefix/grubenv ]; then\n  load_env\nfi\nif [ -z \"${kernelopts}\" ]; then\n\
    \x20 set kernelopts=\"root=/dev/sda1 ro crashkernel=auto resume=/dev/sda5 rhgb quiet \"\nfi\ninsmod blscfg\nblscfg\n";

fn bls(version: &str, options: &str) -> String {
    format!(
        "title Red Hat Enterprise Linux ({version}) 8.0 (Ootpa)\nversion {version}\nlinux /boot/vmlinuz-{version}\n\
         initrd /boot/initramfs-{version}.img $tuned_initrd\noptions {options}\nid rhel-{version}\n\
         grub_users $grub_users\ngrub_arg --unrestricted\ngrub_class kernel\n"
    )
}

fn rhel_8(kernelopts: &str, extra: &[(&str, &str)]) -> DirFs {
    let mut fs = bare(extra);
    fs.add_file("/boot/grub2/grub.cfg", BLS_CFG);
    fs.add_file("/boot/grub2/grubenv", block(&["saved_entry=x", &format!("kernelopts={kernelopts}")]));
    for version in ["4.18.0-80.el8.x86_64", "4.18.0-193.el8.x86_64", "0-rescue"] {
        fs.add_file(
            format!("/boot/loader/entries/{MACHINE}-{version}.conf"),
            bls(version, "$kernelopts $tuned_params"),
        );
    }
    fs
}

#[test]
fn rhel_8_has_its_arguments_in_the_environment_block() {
    let defaults = "GRUB_CMDLINE_LINUX=\"crashkernel=auto rhgb quiet\"\nGRUB_ENABLE_BLSCFG=true\n";
    let fs = rhel_8("root=/dev/sda1 ro crashkernel=auto rhgb quiet ", &[("/etc/default/grub", defaults)]);
    let (planned, tree) = refit(fs);
    assert_eq!(states(&planned), [State::Fixable; 3], "{}", evidence(&planned));
    assert_eq!(edited(&planned), ["/boot/grub2/grub.cfg", "/boot/grub2/grubenv", "/etc/default/grub"]);
    let environment = content(&tree, "/boot/grub2/grubenv");
    assert_eq!(environment.len(), 1024);
    let kernelopts = format!("root=UUID={ROOT} ro crashkernel=auto rhgb quiet net.ifnames=0 {CONSOLES} ");
    assert_eq!(listed(&environment), format!("saved_entry=x\nkernelopts={kernelopts}\n"));
    let script = content(&tree, "/boot/grub2/grub.cfg");
    check_script(&script);
    assert!(script.contains(&format!("set kernelopts=\"root=UUID={ROOT} ro crashkernel=auto")), "{script}");
    assert!(script.contains(&format!("net.ifnames=0 {CONSOLES} \"\nfi")), "{script}");
    let entry = format!("/boot/loader/entries/{MACHINE}-4.18.0-80.el8.x86_64.conf");
    assert_eq!(content(&tree, &entry), bls("4.18.0-80.el8.x86_64", "$kernelopts $tuned_params"));
}

#[test]
fn what_an_entry_says_behind_the_variable_wins_and_is_edited_there() {
    let mut fs = rhel_8("root=/dev/sda1 ro", &[]);
    let entry = format!("/boot/loader/entries/{MACHINE}-4.18.0-80.el8.x86_64.conf");
    fs.add_file(&entry, bls("4.18.0-80.el8.x86_64", "$kernelopts net.ifnames=1"));
    let (planned, tree) = refit(fs);
    // The entries differ in what they make of the block: the newer one adds the argument there.
    assert!(states(&planned)[1] == State::NotFixable, "{}", evidence(&planned));
    assert!(evidence(&planned).contains("/boot/grub2/grubenv"), "{}", evidence(&planned));
    assert!(content(&tree, &entry).contains("$kernelopts net.ifnames=0"));
}

#[test]
fn a_full_environment_block_is_an_obstacle_with_its_byte_counts() {
    let short = format!("root=UUID={ROOT} ro ");
    let empty = block(&["saved_entry=x", &format!("kernelopts={short}")]);
    let free = empty.bytes().rev().take_while(|byte| *byte == b'#').count();
    // Enough for `net.ifnames=0`, too little for the consoles.
    let long = format!("{short}{}", "x".repeat(free - 20));
    let (planned, tree) = refit(rhel_8(&long, &[]));
    let text = content(&tree, "/boot/grub2/grubenv");
    assert!(listed(&text).contains(&long) && text.len() == 1024);
    assert_eq!(planned.findings[2].state, State::NotFixable);
    assert!(evidence(&planned).contains("the block has 1024"), "{}", evidence(&planned));
}

#[test]
fn entries_with_their_own_arguments_and_the_file_that_makes_the_next() {
    // RHEL 9 and later, Rocky, Fedora, Alibaba Cloud Linux 3, and arm64 with its own serial port.
    for version in ["5.14.0-362.8.1.el9_3.x86_64", "6.11.4-301.fc41.aarch64", "5.10.134-16.al8.x86_64"] {
        let entry = format!("/boot/loader/entries/{MACHINE}-{version}.conf");
        let rescue = format!("/boot/loader/entries/{MACHINE}-0-rescue.conf");
        let fs = bare(&[
            ("/boot/grub2/grub.cfg", "insmod blscfg\nblscfg\n"),
            (&entry, &bls(version, "root=/dev/vda1 ro rhgb quiet $tuned_params")),
            (&rescue, &bls("0-rescue", "root=/dev/vda1 ro")),
            ("/etc/kernel/cmdline", "root=/dev/vda1 ro rhgb quiet\n"),
            ("/boot/grub2/grubenv", &block(&["saved_entry=x"])),
        ]);
        let (planned, tree) = refit(fs);
        assert_eq!(states(&planned), [State::Fixable; 3], "{}", evidence(&planned));
        let wanted = format!("root=UUID={ROOT} ro rhgb quiet $tuned_params net.ifnames=0 {CONSOLES}");
        assert_eq!(content(&tree, &entry), bls(version, &wanted));
        // An entry for repairs gets root and consoles, nothing else.
        let wanted = format!("root=UUID={ROOT} ro {CONSOLES}");
        assert_eq!(content(&tree, &rescue), bls("0-rescue", &wanted));
        assert_eq!(
            content(&tree, "/etc/kernel/cmdline"),
            format!("root=UUID={ROOT} ro rhgb quiet net.ifnames=0 {CONSOLES}\n")
        );
    }
}

#[test]
fn the_configuration_on_the_esp_is_edited_and_a_stub_beside_it_is_left() {
    // CentOS 7 under UEFI has the whole script there; Ubuntu and SUSE have a stub.
    let script = "menuentry 'CentOS Linux (3.10.0-1160.el7.x86_64) 7 (Core)' {\n\
        \tlinuxefi /vmlinuz-3.10.0-1160.el7.x86_64 root=/dev/sda1 ro crashkernel=auto rhgb quiet LANG=en_US.UTF-8\n\
        \tinitrdefi /initramfs-3.10.0-1160.el7.x86_64.img\n}\n\
        menuentry 'CentOS Linux (0-rescue-4ac5) 7 (Core)' {\n\
        \tlinuxefi /vmlinuz-0-rescue-4ac5 root=/dev/sda1 ro rhgb quiet\n\
        \tinitrdefi /initramfs-0-rescue-4ac5.img\n}\n\
        menuentry 'Memory test' {\n\tlinux16 /memtest86+.bin\n}\n";
    let fs = bare(&[("/boot/efi/EFI/centos/grub.cfg", script)]);
    let (planned, tree) = refit(fs);
    assert_eq!(states(&planned), [State::Fixable; 3], "{}", evidence(&planned));
    let expected = script
        .replace("root=/dev/sda1", &format!("root=UUID={ROOT}"))
        .replace("LANG=en_US.UTF-8", &format!("LANG=en_US.UTF-8 net.ifnames=0 {CONSOLES}"))
        .replace("ro rhgb quiet\n", &format!("ro rhgb quiet {CONSOLES}\n"));
    assert_eq!(content(&tree, "/boot/efi/EFI/centos/grub.cfg"), expected);
    check_script(&expected);

    let stub = "search.fs_uuid 0f6b1c6e-53b5-4f6e-9d4b-1f9bb3a6a001 root hd0,gpt2\nset prefix=($root)'/boot/grub'\n\
        configfile $prefix/grub.cfg\n";
    let mut fs = guest();
    fs.add_file("/boot/efi/EFI/ubuntu/grub.cfg", stub);
    let (planned, tree) = refit(fs);
    assert_eq!(states(&planned), [State::Fixable; 3], "{}", evidence(&planned));
    assert_eq!(content(&tree, "/boot/efi/EFI/ubuntu/grub.cfg"), stub);
    assert_eq!(content(&tree, "/boot/grub/grub.cfg").matches(CONSOLES).count(), 3);
    // A stub that leads to nothing in the image.
    let (planned, _) = refit(bare(&[("/boot/efi/EFI/ubuntu/grub.cfg", stub)]));
    assert_eq!(states(&planned), [State::NotFixable; 3]);
    assert!(evidence(&planned).contains("leads to"), "{}", evidence(&planned));
}

#[test]
fn a_stub_s_target_is_edited_wherever_it_is() {
    let stub = "set prefix=(hd0,gpt1)/boot/odd\nconfigfile $prefix/grub.cfg\n";
    let script = "menuentry 'Linux' {\n\tlinux /boot/vmlinuz-1 root=/dev/sda1 ro\n}\n";
    let fs = bare(&[("/boot/grub/grub.cfg", stub), ("/boot/odd/grub.cfg", script)]);
    let (planned, tree) = refit(fs);
    assert_eq!(states(&planned), [State::Fixable; 3], "{}", evidence(&planned));
    assert!(content(&tree, "/boot/odd/grub.cfg").contains(&format!("root=UUID={ROOT} ro net.ifnames=0")));
}

#[test]
fn grub_legacy_and_its_magic_comments() {
    // CentOS 6.
    let grub_conf = "# grub.conf generated by anaconda\n#boot=/dev/sda\ndefault=0\ntimeout=5\n\
        splashimage=(hd0,0)/grub/splash.xpm.gz\nhiddenmenu\ntitle CentOS (2.6.32-754.el6.x86_64)\n\troot (hd0,0)\n\
        \tkernel /vmlinuz-2.6.32-754.el6.x86_64 ro root=/dev/sda1 rd_NO_LUKS rhgb quiet\n\
        \tinitrd /initramfs-2.6.32-754.el6.x86_64.img\n";
    let (planned, tree) = refit(bare(&[("/boot/grub/grub.conf", grub_conf)]));
    assert_eq!(states(&planned), [State::Fixable; 3], "{}", evidence(&planned));
    let expected = grub_conf
        .replace("root=/dev/sda1", &format!("root=UUID={ROOT}"))
        .replace("rhgb quiet", &format!("rhgb quiet net.ifnames=0 {CONSOLES}"));
    assert_eq!(content(&tree, "/boot/grub/grub.conf"), expected);

    // Old Debian: what the next `update-grub` uses, too.
    let menu = "default\t\t0\n### BEGIN AUTOMAGIC KERNELS LIST\n## ## Start Default Options ##\n\
        # kopt=root=/dev/sda1 ro\n# defoptions=quiet console=tty1\n# lockalternative=false\n## ## End Default Options ##\n\
        title\t\tDebian GNU/Linux, kernel 2.6.26-2-686\nroot\t\t(hd0,0)\n\
        kernel\t\t/boot/vmlinuz-2.6.26-2-686 root=/dev/sda1 ro quiet console=tty1\n\
        initrd\t\t/boot/initrd.img-2.6.26-2-686\n### END DEBIAN AUTOMAGIC KERNELS LIST\n";
    let (planned, tree) = refit(bare(&[("/boot/grub/menu.lst", menu)]));
    assert_eq!(states(&planned), [State::Fixable; 3], "{}", evidence(&planned));
    let text = content(&tree, "/boot/grub/menu.lst");
    assert!(text.contains(&format!("# kopt=root=UUID={ROOT} ro net.ifnames=0 {CONSOLES}\n")), "{text}");
    assert!(text.contains(&format!("# defoptions=quiet console=tty1 {CONSOLES}\n")), "{text}");
    assert!(
        text.contains(&format!("root=UUID={ROOT} ro quiet console=tty1 {CONSOLES} net.ifnames=0\n")),
        "{text}"
    );
}

#[test]
fn extlinux_entries_with_arguments_of_their_own_and_shared_ones() {
    let file = "/boot/extlinux/extlinux.conf";
    let text = "DEFAULT linux\nAPPEND root=/dev/sda1 ro\nLABEL linux\n  LINUX /vmlinuz-1\n  INITRD /initrd-1\n\
        LABEL other\n  LINUX /vmlinuz-2\n  APPEND root=/dev/sda1 quiet\n";
    let (planned, tree) = refit(bare(&[(file, text)]));
    assert_eq!(states(&planned), [State::Fixable; 3], "{}", evidence(&planned));
    let expected = text
        .replace("root=/dev/sda1", &format!("root=UUID={ROOT}"))
        .replace(" ro\n", &format!(" ro net.ifnames=0 {CONSOLES}\n"))
        .replace(" quiet\n", &format!(" quiet net.ifnames=0 {CONSOLES}\n"));
    assert_eq!(content(&tree, file), expected);
    let (planned, _) = refit(bare(&[(file, &format!("{text}INCLUDE more.conf\n"))]));
    assert_eq!(states(&planned), [State::NotFixable; 3]);
    assert!(evidence(&planned).contains("extlinux.conf:9: takes in more.conf"), "{}", evidence(&planned));
}

#[test]
fn only_the_sources_are_edited_where_the_profile_says_so() {
    let mut fs = guest();
    fs.add_file("/etc/kernel/cmdline", "root=/dev/sda1 ro\n");
    let rendered = grub_cfg("root=/dev/sda1 ro quiet");
    let (planned, tree) = fix_by(fs, &profile("sources"));
    assert_eq!(states(&planned), [State::Fixable; 3], "{}", evidence(&planned));
    assert_eq!(edited(&planned), ["/etc/default/grub", "/etc/kernel/cmdline"]);
    assert_eq!(content(&tree, "/boot/grub/grub.cfg"), rendered);
    // Without any source the demand cannot be met so.
    let fs = bare(&[("/boot/grub2/grub.cfg", "menuentry 'x' {\n\tlinux /vmlinuz root=/dev/sda1\n}\n")]);
    let (planned, _) = fix_by(fs, &profile("sources"));
    assert_eq!(states(&planned), [State::NotFixable; 3]);
    assert!(planned.edits.is_empty());
}

#[test]
fn a_unified_kernel_image_is_named_and_left() {
    let mut image = b"MZ".to_vec();
    image.resize(0x3c, 0);
    image.extend(0x40u32.to_le_bytes());
    image.extend(b"PE\0\0\x64\x86\x01\0");
    image.resize(0x40 + 24, 0);
    image.extend(b".linux\0\0");
    image.resize(image.len() + 64, 0);
    let mut fs = bare(&[]);
    fs.add_file("/boot/efi/EFI/Linux/fedora-6.11.efi", image.clone());
    let (planned, _) = refit(fs);
    assert_eq!(states(&planned), [State::NotFixable; 3]);
    assert!(evidence(&planned).contains("/boot/efi/EFI/Linux/fedora-6.11.efi: a unified kernel image"));
    assert!(planned.edits.is_empty());
}

#[test]
fn what_other_menus_are_made_from_is_edited_too() {
    let conf = "default l0\nlabel l0\n  linux /boot/vmlinuz\n  append root=/dev/sda1 ro quiet\n";
    let menu = ("/boot/extlinux/extlinux.conf", conf);
    let ifnames = "net.ifnames=0";
    for (file, before, after) in [
        (
            "/etc/default/u-boot",
            "## defaults\nU_BOOT_ROOT=\"root=/dev/sda1\"\nU_BOOT_PARAMETERS=\"ro splash\"\n".to_owned(),
            format!(
                "## defaults\nU_BOOT_ROOT=\"root=UUID={ROOT}\"\nU_BOOT_PARAMETERS=\"ro splash {ifnames} {CONSOLES}\"\n"
            ),
        ),
        // What is not set has the program's own value, which stays.
        (
            "/etc/default/extlinux",
            "#EXTLINUX_PARAMETERS=\"ro quiet\"\n".to_owned(),
            format!(
                "#EXTLINUX_PARAMETERS=\"ro quiet\"\nEXTLINUX_PARAMETERS=\"ro quiet {ifnames} {CONSOLES}\"\n"
            ),
        ),
        (
            "/etc/sysconfig/bootloader",
            "LOADER_TYPE=\"grub\"\nDEFAULT_APPEND=\"splash=silent quiet\"\nFAILSAFE_APPEND=\"ide=nodma\"\n"
                .to_owned(),
            format!(
                "LOADER_TYPE=\"grub\"\nDEFAULT_APPEND=\"splash=silent quiet {ifnames} {CONSOLES}\"\n\
                 FAILSAFE_APPEND=\"ide=nodma {CONSOLES}\"\n"
            ),
        ),
    ] {
        let (planned, tree) = refit(bare(&[menu, (file, &before)]));
        assert_eq!(content(&tree, file), after, "{:?}", evidence(&planned));
    }
    let shell = bare(&[menu, ("/etc/default/u-boot", "U_BOOT_PARAMETERS=\"$(cat /x)\"\n")]);
    let (planned, _) = refit(shell);
    assert!(evidence(&planned).contains("needs a shell"), "{planned:?}");
}
