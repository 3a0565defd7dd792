//! Files of the other boot loaders, in the forms that distributions have them.

#![allow(clippy::unwrap_used, reason = "test code")]

use coldfit_boot::{
    CommandLine, ExtlinuxConfig, LegacyConfig, LoaderEntry, grub_menu_order, set_shell_variable,
    systemd_boot_order, version_order,
};

fn text(bytes: impl AsRef<[u8]>) -> String {
    String::from_utf8(bytes.as_ref().to_vec()).unwrap()
}

fn refit(line: &mut CommandLine) {
    if line.has("root") {
        line.set("root", Some("UUID=1-2")).unwrap();
    }
    line.remove("resume");
    line.set("net.ifnames", Some("0")).unwrap();
    line.set_consoles(&["tty0", "ttyS0,115200n8"]).unwrap();
}

const RHEL_9: &str = "title Red Hat Enterprise Linux (5.14.0-362.8.1.el9_3.x86_64) 9.3 (Plow)\n\
    version 5.14.0-362.8.1.el9_3.x86_64\nlinux /vmlinuz-5.14.0-362.8.1.el9_3.x86_64\n\
    initrd /initramfs-5.14.0-362.8.1.el9_3.x86_64.img $tuned_initrd\n\
    options root=/dev/mapper/rhel-root ro crashkernel=1G-4G:192M resume=/dev/mapper/rhel-swap rhgb quiet $tuned_params\n\
    grub_users $grub_users\ngrub_arg --unrestricted\ngrub_class rhel\n";

#[test]
fn an_entry_with_its_own_arguments() {
    let mut entry = LoaderEntry::parse(RHEL_9.as_bytes()).unwrap();
    assert_eq!(text(entry.to_bytes()), RHEL_9);
    assert_eq!(entry.kernel().as_deref(), Some("/vmlinuz-5.14.0-362.8.1.el9_3.x86_64"));
    assert_eq!(entry.initrds(), ["/initramfs-5.14.0-362.8.1.el9_3.x86_64.img", "$tuned_initrd"]);
    assert_eq!((entry.kernel_line(), entry.initrd_line(), entry.options_line()), (3, Some(4), 5));
    assert!(!entry.refers_to("kernelopts") && entry.refers_to("tuned_params"));
    let mut arguments = entry.arguments(None);
    refit(arguments.line_mut());
    assert_eq!(entry.set_arguments(arguments), None);
    let expected = RHEL_9
        .replace("/dev/mapper/rhel-root", "UUID=1-2")
        .replace("resume=/dev/mapper/rhel-swap ", "")
        .replace("$tuned_params", "$tuned_params net.ifnames=0 console=tty0 console=ttyS0,115200n8");
    assert_eq!(text(entry.to_bytes()), expected);
}

#[test]
fn an_entry_whose_arguments_stand_in_the_environment_block() {
    let rhel_8 = "title Red Hat Enterprise Linux (4.18.0-80.el8.x86_64) 8.0 (Ootpa)\nversion 4.18.0-80.el8.x86_64\n\
        linux /boot/vmlinuz-4.18.0-80.el8.x86_64\ninitrd /boot/initramfs-4.18.0-80.el8.x86_64.img\n\
        options $kernelopts $tuned_params\nid rhel-20190313123447-4.18.0-80.el8.x86_64\n";
    let mut entry = LoaderEntry::parse(rhel_8.as_bytes()).unwrap();
    assert!(entry.refers_to("kernelopts"));
    let kernelopts = CommandLine::parse_loader_options(b"root=/dev/sda1 ro console=ttyS0 resume=/dev/sda2 ");
    let mut arguments = entry.arguments(Some(("kernelopts", kernelopts)));
    assert_eq!(arguments.line().value("root").as_deref(), Some("/dev/sda1"));
    refit(arguments.line_mut());
    let kernelopts = entry.set_arguments(arguments).unwrap();
    assert_eq!(
        text(kernelopts.to_bytes()),
        "root=UUID=1-2 ro console=tty0 console=ttyS0,115200n8 net.ifnames=0 "
    );
    assert_eq!(text(entry.to_bytes()), rhel_8);
}

#[test]
fn odd_entries_keep_their_bytes_and_take_arguments() {
    for (before, after) in [
        ("linux /k\n", "linux /k\noptions a=1\n"),
        ("linux /k", "linux /k\noptions a=1\n"),
        ("linux /k\noptions\n", "linux /k\noptions a=1\n"),
        (
            "# options x\r\n\toptions\t  b  \r\noptions c\r\n",
            "# options x\r\n\toptions\t  b  \r\noptions c a=1\r\n",
        ),
    ] {
        let mut entry = LoaderEntry::parse(before.as_bytes()).unwrap();
        assert_eq!(text(entry.to_bytes()), before);
        let unchanged = entry.arguments(None);
        entry.set_arguments(unchanged);
        assert_eq!(text(entry.to_bytes()), before);
        let mut arguments = entry.arguments(None);
        arguments.line_mut().set("a", Some("1")).unwrap();
        entry.set_arguments(arguments);
        assert_eq!(text(entry.to_bytes()), after);
    }
    let mut line = CommandLine::parse_loader_options(b"ro");
    assert!(line.set("x", Some("$y")).is_err() && line.set("x", Some("a;b")).is_err());
    line.set("x", Some("a b")).unwrap();
    assert_eq!(text(line.to_bytes()), "ro x=\"a b\"");
    assert!(LoaderEntry::parse(b"linux /k\0\n").is_err());
}

#[test]
fn versions_and_menus_are_in_order() {
    for (older, newer) in [
        ("4.18.0-80.el8", "4.18.0-193.el8"),
        ("5.9", "5.10"),
        ("1.0~rc1", "1.0"),
        ("1.0", "1.0^git1"),
        ("a", "1"),
        ("1.0", "1.0.1"),
        ("007", "8"),
    ] {
        assert_eq!(version_order(older, newer), std::cmp::Ordering::Less, "{older} {newer}");
        assert_eq!(version_order(newer, older), std::cmp::Ordering::Greater, "{older} {newer}");
    }
    assert_eq!(version_order("1.01", "1-1"), std::cmp::Ordering::Equal);
    let machine = "4ac5f1d1b1d84dd4b3f6a8d3e4f5a6b7";
    let name = |rest: &str| format!("{machine}-{rest}");
    let mut names = [
        name("0-rescue"),
        name("4.18.0-80.el8.x86_64"),
        name("4.18.0-193.28.1.el8_2.x86_64"),
        name("4.18.0-193.el8.x86_64"),
    ];
    names.sort_by(|one, other| grub_menu_order(one, other));
    let expected =
        ["4.18.0-193.28.1.el8_2.x86_64", "4.18.0-193.el8.x86_64", "4.18.0-80.el8.x86_64", "0-rescue"];
    assert_eq!(names, expected.map(name));
    let entry = |text: &str| LoaderEntry::parse(text.as_bytes()).unwrap();
    let mut entries = [
        ("b", entry("version 9\n")),
        ("a", entry("sort-key fedora\nversion 6.5\n")),
        ("c", entry("sort-key fedora\nversion 6.10\n")),
    ];
    entries.sort_by(|one, other| systemd_boot_order((one.0, &one.1), (other.0, &other.1)));
    assert_eq!(entries.map(|(name, _)| name), ["c", "a", "b"]);
}

const CENTOS_6: &str = "# grub.conf generated by anaconda\n#\n# Note that you do not have to rerun grub after making changes to this file\n\
    #boot=/dev/sda\ndefault=1\ntimeout=5\nsplashimage=(hd0,0)/grub/splash.xpm.gz\nhiddenmenu\n\
    title CentOS (2.6.32-754.el6.x86_64)\n\troot (hd0,0)\n\tkernel /vmlinuz-2.6.32-754.el6.x86_64 ro root=/dev/sda2 rd_NO_LUKS LANG=en_US.UTF-8 quiet\n\
    \tinitrd /initramfs-2.6.32-754.el6.x86_64.img\ntitle CentOS (2.6.32-696.el6.x86_64)\n\troot (hd0,0)\n\
    \tkernel --no-mem-option /vmlinuz-2.6.32-696.el6.x86_64\n\tinitrd /initramfs-2.6.32-696.el6.x86_64.img\n\
    title Other\n\trootnoverify (hd0,1)\n\tchainloader +1";

#[test]
fn the_configuration_of_grub_legacy() {
    let mut config = LegacyConfig::parse(CENTOS_6.as_bytes()).unwrap();
    assert_eq!(text(config.to_bytes()), CENTOS_6);
    assert_eq!(config.entries().len(), 3);
    assert_eq!(config.default_entry(None).unwrap().title, "CentOS (2.6.32-696.el6.x86_64)");
    let entry = &config.entries()[0];
    assert_eq!(entry.set_root.as_deref(), Some("hd0,1"));
    assert_eq!(entry.initrds[0].paths, ["/initramfs-2.6.32-754.el6.x86_64.img"]);
    assert_eq!(config.entries()[2].chainloader.as_deref(), Some("+1"));
    let kernels: Vec<_> =
        config.kernels().iter().map(|kernel| (kernel.line, kernel.kernel.clone())).collect();
    assert_eq!(
        kernels,
        [
            (11, "/vmlinuz-2.6.32-754.el6.x86_64".to_owned()),
            (15, "/vmlinuz-2.6.32-696.el6.x86_64".to_owned())
        ]
    );
    config.kernels_mut().for_each(|kernel| refit(&mut kernel.arguments));
    let expected = CENTOS_6
        .replace("root=/dev/sda2", "root=UUID=1-2")
        .replace("quiet\n", "quiet net.ifnames=0 console=tty0 console=ttyS0,115200n8\n")
        .replace(
            "696.el6.x86_64\n\tinitrd",
            "696.el6.x86_64 net.ifnames=0 console=tty0 console=ttyS0,115200n8\n\tinitrd",
        );
    assert_eq!(text(config.to_bytes()), expected);
    for (text, saved, index) in [
        ("default saved\ntitle a\nkernel /k\ntitle b\nkernel /k\n", Some("1\n#\n"), 1),
        ("default saved\ntitle a\nkernel /k\n", None, 0),
        ("default 7\ntitle a\nkernel /k\n", None, 0),
    ] {
        let config = LegacyConfig::parse(text.as_bytes()).unwrap();
        assert_eq!(config.default_entry(saved.map(str::as_bytes)).unwrap().id.0, index, "{text}");
    }
    assert!(
        LegacyConfig::parse(b"title a\nkernel /k \\\n a=1\n").unwrap_err().to_string().contains("line 2")
    );
    let xen = "title x\nkernel /xen.gz dom0_mem=1\nmodule /vmlinuz-3 root=/dev/sda1\nmodule /initrd-3\n";
    let config = LegacyConfig::parse(xen.as_bytes()).unwrap();
    assert_eq!((config.kernels().len(), config.kernels()[0].line), (1, 3));
    assert_eq!(config.entries()[0].initrds[0].paths, ["/initrd-3"]);
}

#[test]
fn the_magic_comments_of_debian() {
    let before = "default\t\t0\n### BEGIN AUTOMAGIC KERNELS LIST\n## e.g. kopt=root=/dev/hda1 ro\n\
        # kopt=root=/dev/sda1 ro\n## additional options\n# defoptions=quiet splash\n# altoptions=(single) single\n\
        # xenkopt=console=tty0\n## ## End Default Options ##\n\
        title Debian GNU/Linux, kernel 2.6.26-2-amd64\nroot (hd0,0)\nkernel /boot/vmlinuz-2.6.26-2-amd64 root=/dev/sda1 ro quiet splash\n\
        initrd /boot/initrd.img-2.6.26-2-amd64\n### END DEBIAN AUTOMAGIC KERNELS LIST\n";
    let mut config = LegacyConfig::parse(before.as_bytes()).unwrap();
    assert_eq!(text(config.to_bytes()), before);
    let names: Vec<_> =
        config.templates_mut().map(|template| (template.line, template.name.clone())).collect();
    assert_eq!(names, [(4, "kopt".to_owned()), (6, "defoptions".to_owned())]);
    refit(&mut config.templates_mut().next().unwrap().arguments);
    let expected = before.replace(
        "# kopt=root=/dev/sda1 ro\n",
        "# kopt=root=UUID=1-2 ro net.ifnames=0 console=tty0 console=ttyS0,115200n8\n",
    );
    assert_eq!(text(config.to_bytes()), expected);
    // Without the marker, update-grub has no say.
    assert_eq!(LegacyConfig::parse(b"# kopt=root=x\n").unwrap().templates_mut().count(), 0);
}

#[test]
fn the_configuration_of_extlinux() {
    let before = "# Generated\nDEFAULT menu.c32\nPROMPT 0\nMENU TITLE Alpine/Linux Boot Menu\nMENU INCLUDE theme.conf\n\
        LABEL lts\n  MENU DEFAULT\n  MENU LABEL Linux ^lts\n  TEXT HELP\n  append is no keyword here\n  ENDTEXT\n\
        \x20 Linux vmlinuz-lts\n  INITRD initramfs-lts\n  Append root=/dev/sda3 modules=ext4  quiet\n\
        LABEL bare\n\tKERNEL /boot/vmlinuz\nlabel none\n\tlinux /k\n\tappend -\nlabel memory\n kernel memtest.bin\n\
        label last\n linux ../k\n append initrd=a,b";
    let mut config = ExtlinuxConfig::parse(before.as_bytes()).unwrap();
    assert_eq!(text(config.to_bytes()), before);
    let labels: Vec<_> = config.entries().iter().map(|entry| entry.label.as_str()).collect();
    assert_eq!(labels, ["lts", "bare", "none", "last"]);
    assert_eq!(config.includes(), [(5, "theme.conf".to_owned())]);
    let entry = config.default_entry().unwrap();
    assert_eq!(
        (entry.title.as_str(), entry.kernel.as_str(), entry.kernel_line),
        ("Linux lts", "vmlinuz-lts", 12)
    );
    assert_eq!(entry.initrds, ["initramfs-lts"]);
    assert_eq!(config.entries()[3].initrds, ["a", "b"]);
    for index in 0..config.appends().len() {
        refit(&mut config.append_mut(index).unwrap().arguments);
    }
    let added = "net.ifnames=0 console=tty0 console=ttyS0,115200n8";
    let expected = before
        .replace("root=/dev/sda3", "root=UUID=1-2")
        .replace("quiet\n", &format!("quiet {added}\n"))
        .replace("KERNEL /boot/vmlinuz\n", &format!("KERNEL /boot/vmlinuz\n\tappend {added}\n"))
        .replace("append -\n", &format!("append {added}\n"))
        .replace("initrd=a,b", &format!("initrd=a,b {added}"));
    assert_eq!(text(config.to_bytes()), expected);
    assert_eq!(text(ExtlinuxConfig::parse(expected.as_bytes()).unwrap().to_bytes()), expected);

    // Arguments before the first label are those of every entry without its own.
    let global = "default b\nappend ro\nlabel a\nlinux /k\nlabel b\nlinux /k\nappend rw\n";
    let config = ExtlinuxConfig::parse(global.as_bytes()).unwrap();
    let of = |index: usize| text(config.appends()[config.entries()[index].append].arguments.to_bytes());
    assert_eq!((of(0), of(1)), ("ro".into(), "rw".into()));
    assert_eq!(config.default_entry().unwrap().label, "b");
    let error = ExtlinuxConfig::parse(b"label a\nkernel /k ro\n").unwrap_err();
    assert!(error.to_string().contains("line 2"), "{error}");
}

#[test]
fn a_variable_of_a_shell_file_gets_a_value() {
    let set = |before: &str| set_shell_variable(before.as_bytes(), "RESUME", "none").unwrap().map(text);
    assert_eq!(set("RESUME=UUID=1-2 # swap\n").as_deref(), Some("RESUME=none # swap\n"));
    assert_eq!(
        set("export RESUME=\"a b\"\nX=1\nRESUME='y'").as_deref(),
        Some("export RESUME=none\nX=1\nRESUME=none")
    );
    assert_eq!(set("RESUME=none\nRESUME=\"none\"\n# RESUME=x\n"), None);
    assert_eq!(set("RESUME=$(cat x)\n").as_deref(), Some("RESUME=none\n"));
    assert!(set_shell_variable(b"RESUME=\"x\n", "RESUME", "none").is_err());
}
