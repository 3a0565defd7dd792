//! Which distribution, version and init a guest has, by the files of real releases.

#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use coldfit_guest::{Family, Guest, inspect};
use support::devices;
use testkit::DirFs;

fn look(files: &[(&str, &str)]) -> Guest {
    look_at(DirFs::from_files(files.iter().copied()))
}

fn look_at(mut fs: DirFs) -> Guest {
    fs.add_file("/etc/hostname", "guest\n");
    inspect(&fs.into_tree(), &devices()).unwrap()
}

/// Family, id, major, minor.
type System<Id> = (Family, Id, Option<u32>, Option<u32>);

fn system(files: &[(&str, &str)]) -> System<String> {
    let os = look(files).os;
    (os.family, os.id.unwrap_or_default(), os.major, os.minor)
}

#[test]
fn releases_with_os_release() {
    let cases: &[(&str, System<&str>)] = &[
        (
            "PRETTY_NAME=\"Ubuntu 22.04.4 LTS\"\nNAME=\"Ubuntu\"\nVERSION_ID=\"22.04\"\nVERSION_CODENAME=jammy\n\
             ID=ubuntu\nID_LIKE=debian\n",
            (Family::Ubuntu, "ubuntu", Some(22), Some(4)),
        ),
        (
            "NAME=\"Red Hat Enterprise Linux\"\nVERSION=\"9.4 (Plow)\"\nID=\"rhel\"\nID_LIKE=\"fedora\"\nVERSION_ID=\"9.4\"\n",
            (Family::Rhel, "rhel", Some(9), Some(4)),
        ),
        (
            "NAME=\"Rocky Linux\"\nID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\nVERSION_ID=\"9.3\"\n",
            (Family::Rhel, "rocky", Some(9), Some(3)),
        ),
        (
            "NAME=\"Oracle Linux Server\"\nID=\"ol\"\nID_LIKE=\"fedora\"\nVERSION_ID=\"8.9\"\n",
            (Family::Rhel, "ol", Some(8), Some(9)),
        ),
        (
            "NAME=\"Alibaba Cloud Linux (Aliyun Linux)\"\nVERSION=\"2.1903 LTS (Hunting Beagle)\"\nID=\"alinux\"\n\
             ID_LIKE=\"rhel fedora centos anolis\"\nVERSION_ID=\"2.1903\"\n",
            (Family::Alinux, "alinux", Some(2), Some(1903)),
        ),
        (
            "NAME=\"Anolis OS\"\nID=\"anolis\"\nID_LIKE=\"rhel fedora centos\"\nVERSION_ID=\"8.8\"\n",
            (Family::Anolis, "anolis", Some(8), Some(8)),
        ),
        (
            "NAME=\"Fedora Linux\"\nVERSION=\"40 (Cloud Edition)\"\nID=fedora\nVERSION_ID=40\n",
            (Family::Fedora, "fedora", Some(40), None),
        ),
        (
            "NAME=\"SLES\"\nVERSION=\"15-SP5\"\nVERSION_ID=\"15.5\"\nID=\"sles\"\nID_LIKE=\"suse\"\n",
            (Family::Suse, "sles", Some(15), Some(5)),
        ),
        (
            "NAME=\"openSUSE Leap\"\nID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"\nVERSION_ID=\"15.6\"\n",
            (Family::Suse, "opensuse-leap", Some(15), Some(6)),
        ),
        ("NAME=\"Arch Linux\"\nID=arch\nBUILD_ID=rolling\n", (Family::Arch, "arch", None, None)),
        (
            "NAME=\"Alpine Linux\"\nID=alpine\nVERSION_ID=3.20.1\n",
            (Family::Alpine, "alpine", Some(3), Some(20)),
        ),
        (
            "NAME=\"Linux Mint\"\nID=linuxmint\nID_LIKE=\"ubuntu debian\"\nVERSION_ID=\"21.3\"\n",
            (Family::Ubuntu, "linuxmint", Some(21), Some(3)),
        ),
        ("NAME=NixOS\nID=nixos\nVERSION_ID=\"24.05\"\n", (Family::Other, "nixos", Some(24), Some(5))),
        ("ID=Debian'\n\0\nVERSION_ID", (Family::Other, "debian'", None, None)),
    ];
    for (text, (family, id, major, minor)) in cases {
        let found = system(&[("/usr/lib/os-release", text)]);
        assert_eq!(found, (*family, (*id).to_owned(), *major, *minor), "{text}");
    }
}

#[test]
fn the_point_release_comes_from_where_the_distribution_keeps_it() {
    let debian = "ID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\n";
    assert_eq!(
        system(&[("/etc/os-release", debian), ("/etc/debian_version", "12.9\n")]),
        (Family::Debian, "debian".into(), Some(12), Some(9))
    );
    // Between releases Debian has no number at all.
    let testing = "ID=debian\nVERSION_CODENAME=trixie\n";
    assert_eq!(
        system(&[("/etc/os-release", testing), ("/etc/debian_version", "trixie/sid\n")]),
        (Family::Debian, "debian".into(), Some(13), None)
    );
    let centos = "NAME=\"CentOS Linux\"\nID=\"centos\"\nID_LIKE=\"rhel fedora\"\nVERSION_ID=\"7\"\n";
    let release = "CentOS Linux release 7.9.2009 (Core)\n";
    assert_eq!(
        system(&[("/etc/os-release", centos), ("/etc/redhat-release", release)]),
        (Family::Rhel, "centos".into(), Some(7), Some(9))
    );
    // Ubuntu's debian_version is that of the Debian it was made from.
    let ubuntu = "ID=ubuntu\nID_LIKE=debian\nVERSION_ID=\"20.04\"\n";
    assert_eq!(
        system(&[("/etc/os-release", ubuntu), ("/etc/debian_version", "bullseye/sid\n")]),
        (Family::Ubuntu, "ubuntu".into(), Some(20), Some(4))
    );
}

#[test]
fn releases_of_before_os_release() {
    let centos = look(&[
        ("/etc/redhat-release", "CentOS release 6.10 (Final)\n"),
        ("/etc/centos-release", "CentOS release 6.10 (Final)\n"),
        ("/sbin/init", "\x7fELF"),
        ("/etc/inittab", "id:3:initdefault:\n"),
        ("/etc/init/rcS.conf", "start on startup\n"),
    ]);
    assert_eq!((centos.os.family, centos.os.id.as_deref()), (Family::Rhel, Some("centos")));
    assert_eq!((centos.os.major, centos.os.minor), (Some(6), Some(10)));
    assert_eq!(centos.os.told_by.as_deref(), Some("/etc/centos-release"));
    assert_eq!(centos.os.pretty_name.as_deref(), Some("CentOS release 6.10 (Final)"));
    assert_eq!(centos.init.as_deref(), Some("upstart"));
    assert_eq!(centos.os.el_generation(), Some(6));

    let oracle = system(&[
        ("/etc/redhat-release", "Red Hat Enterprise Linux Server release 6.9 (Santiago)\n"),
        ("/etc/oracle-release", "Oracle Linux Server release 6.9\n"),
    ]);
    assert_eq!(oracle, (Family::Rhel, "ol".into(), Some(6), Some(9)));
    let sles = system(&[(
        "/etc/SuSE-release",
        "SUSE Linux Enterprise Server 11 (x86_64)\nVERSION = 11\nPATCHLEVEL = 4\n",
    )]);
    assert_eq!(sles, (Family::Suse, "sles".into(), Some(11), Some(4)));
    let ubuntu = system(&[
        (
            "/etc/lsb-release",
            "DISTRIB_ID=Ubuntu\nDISTRIB_RELEASE=10.04\nDISTRIB_CODENAME=lucid\nDISTRIB_DESCRIPTION=\"Ubuntu 10.04.4 LTS\"\n",
        ),
        ("/etc/debian_version", "squeeze/sid\n"),
    ]);
    assert_eq!(ubuntu, (Family::Ubuntu, "ubuntu".into(), Some(10), Some(4)));
    let debian = system(&[("/etc/debian_version", "6.0.10\n")]);
    assert_eq!(debian, (Family::Debian, "debian".into(), Some(6), Some(0)));
    let issue = system(&[(
        "/etc/issue",
        "\nWelcome to SUSE Linux Enterprise Server 11 SP3  (x86_64) - Kernel \\r (\\l).\n",
    )]);
    assert_eq!(issue, (Family::Suse, "sles".into(), Some(11), Some(3)));
    let unknown = look(&[("/etc/issue", "My own system\n")]);
    assert_eq!((unknown.os.family, unknown.os.id, unknown.os.told_by), (Family::Other, None, None));
}

#[test]
fn names_that_two_systems_share_are_told_apart_by_their_package_database() {
    let uos = "ID=uos\nVERSION_ID=\"20\"\n";
    assert_eq!(system(&[("/etc/os-release", uos), ("/var/lib/dpkg/status", "")]).0, Family::Debian);
    assert_eq!(system(&[("/etc/os-release", uos), ("/var/lib/rpm/Packages", "")]).0, Family::Rhel);
}

#[test]
fn init_by_the_program_that_starts_first() {
    let init = |fs: DirFs| look_at(fs).init;
    let with_systemd = || DirFs::from_files([("/lib/systemd/systemd", "")]);
    let mut linked = with_systemd();
    linked.add_symlink("/sbin/init", "/lib/systemd/systemd");
    assert_eq!(init(linked).as_deref(), Some("systemd"));
    // systemd's files are there, but a program of another is process 1.
    let mut trusty = with_systemd();
    trusty.add_file("/sbin/init", "\x7fELF").add_file("/etc/init/rc-sysinit.conf", "");
    assert_eq!(init(trusty).as_deref(), Some("upstart"));
    let mut wheezy = DirFs::from_files([("/sbin/init", "\x7fELF"), ("/etc/inittab", "")]);
    wheezy.add_file("/etc/rc2.d/S01rsyslog", "");
    assert_eq!(init(wheezy).as_deref(), Some("sysvinit"));
    let mut alpine = DirFs::from_files([("/bin/busybox", ""), ("/sbin/openrc", ""), ("/etc/inittab", "")]);
    alpine.add_symlink("/sbin/init", "/bin/busybox");
    assert_eq!(init(alpine).as_deref(), Some("openrc"));
    let mut busybox = DirFs::from_files([("/bin/busybox", "")]);
    busybox.add_symlink("/sbin/init", "../bin/busybox");
    assert_eq!(init(busybox).as_deref(), Some("busybox"));
    assert_eq!(init(DirFs::new()), None);
}

#[test]
fn a_merged_usr_is_seen_by_where_the_links_lead() {
    let merged = |links: &[(&str, &str)]| {
        let mut fs = DirFs::from_files([("/usr/bin/sh", ""), ("/usr/lib/x", "")]);
        for (at, target) in links {
            fs.add_symlink(at, target);
        }
        look_at(fs).os.is_usr_merged
    };
    assert!(merged(&[("/bin", "usr/bin"), ("/lib", "/usr/lib")]));
    assert!(!merged(&[("/bin", "usr/bin")]));
    assert!(!merged(&[("/bin", "usr/lib"), ("/lib", "usr/lib")]));
    assert!(!merged(&[("/bin", "bin"), ("/lib", "usr/lib")]));
}
