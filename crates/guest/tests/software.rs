//! Programs and versions, found by files alone; versions judged by dpkg.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::cmp::Ordering;
use std::process::Command;

use coldfit_guest::{Program, compare_versions, find_program};
use testkit::DirFs;

fn find(fs: DirFs, program: Program) -> Option<(String, Option<String>)> {
    find_program(&fs.into_tree(), program).unwrap().map(|found| (found.file, found.version))
}

#[test]
fn versions_compare_as_dpkg_compares_them() {
    let versions = [
        "0",
        "0.7.5",
        "0.7.6a15",
        "0.7.6a9",
        "0.7.9",
        "0.7.9-1",
        "0.7.9-1~bpo8+1",
        "17.1",
        "18.5-21-g8ee294d5",
        "19.1.7",
        "19.1.3",
        "22.4.2",
        "22.4.2-1",
        "22.4.2-1+deb12u2",
        "23.2.2",
        "23.2.2-0ubuntu0~22.04.1",
        "23.02",
        "1:9.2p1-2+deb12u7",
        "1:9.2p1-2",
        "0:9.2p1-2",
        "9.2p1",
        "9.2",
        "1.0~rc1",
        "1.0",
        "1.0a",
        "1.0+x",
        "1.00",
        "001",
        "1",
        "1.0.0",
        "a",
        "~",
        "~~",
        "1.0~",
        "10.0",
        "2:1",
        "99999999999999999999999999",
        "1-1-1",
        "4.2.2.1-1",
        "1.0-0",
    ];
    for a in versions {
        for b in versions {
            let holds = |operator: &str| {
                let status = Command::new("dpkg")
                    .args(["--compare-versions", a, operator, b])
                    .stderr(std::process::Stdio::null())
                    .status()
                    .expect("dpkg is there");
                status.code().filter(|code| *code < 2).unwrap_or_else(|| panic!("dpkg refuses {a} or {b}"))
                    == 0
            };
            let theirs = match (holds("lt"), holds("gt")) {
                (true, false) => Ordering::Less,
                (false, true) => Ordering::Greater,
                _ => Ordering::Equal,
            };
            assert_eq!(compare_versions(a, b), theirs, "{a} {b}");
        }
    }
}

#[test]
fn cloud_init_below_any_python() {
    let program = ("/usr/bin/cloud-init", "#!/usr/bin/python3\n");
    let version = "__VERSION__ = \"23.2.2\"\n_PACKAGED_VERSION = '@@PACKAGED_VERSION@@'\n";
    for at in [
        "/usr/lib/python3/dist-packages/cloudinit/version.py",
        "/usr/lib/python3.9/site-packages/cloudinit/version.py",
        "/usr/lib/python2.7/site-packages/cloud_init-19.1.7-py2.7.egg/cloudinit/version.py",
        "/usr/local/lib/python3.11/dist-packages/cloudinit/version.py",
    ] {
        let found = find(DirFs::from_files([program, (at, version)]), Program::CloudInit);
        assert_eq!(found, Some(("/usr/bin/cloud-init".into(), Some("23.2.2".into()))), "{at}");
    }
    // A module that was left behind is no cloud-init; a program without its module has no version.
    let left = DirFs::from_files([("/usr/lib/python3/dist-packages/cloudinit/version.py", version)]);
    assert_eq!(find(left, Program::CloudInit), None);
    assert_eq!(find(DirFs::from_files([program]), Program::CloudInit).unwrap().1, None);
    let status = "Package: cloud-init\nStatus: install ok installed\nVersion: 22.4.2-1\n";
    let by_package = DirFs::from_files([program, ("/var/lib/dpkg/status", status)]);
    assert_eq!(find(by_package, Program::CloudInit).unwrap().1.as_deref(), Some("22.4.2-1"));
}

#[test]
fn the_version_of_sshd_is_found_wherever_it_stands_in_the_program() {
    // As in a real program: patterns for other servers' versions stand beside its own.
    let mut program = b"\x7fELFOpenSSH_6.6.1*\0OpenSSH_6.5*,OpenSSH_6.6*\0OpenSSH_\0".to_vec();
    program.resize((256 << 10) - 9, b'.');
    program.extend_from_slice(b"\0OpenSSH_9.2p1 Debian-2+deb12u7\0");
    program.resize(600 << 10, 0);
    let mut fs = DirFs::new();
    fs.add_file("/usr/sbin/sshd", program);
    assert_eq!(find(fs, Program::Sshd), Some(("/usr/sbin/sshd".into(), Some("9.2p1".into()))));
    let mut without = DirFs::new();
    without.add_file("/usr/sbin/sshd", "OpenSSH_7.*\0");
    assert_eq!(find(without, Program::Sshd), Some(("/usr/sbin/sshd".into(), None)));
}

#[test]
fn cloud_assistant_by_its_newest_version() {
    let fs = DirFs::from_files([
        ("/usr/local/share/aliyun-assist/2.2.3.309/aliyun-service", ""),
        ("/usr/local/share/aliyun-assist/2.2.3.1101/aliyun-service", ""),
        ("/usr/local/share/aliyun-assist/2.2.4.1/removed", ""),
        ("/usr/local/share/aliyun-assist/config/x", ""),
    ]);
    assert_eq!(
        find(fs, Program::CloudAssistant),
        Some(("/usr/local/share/aliyun-assist/2.2.3.1101/aliyun-service".into(), Some("2.2.3.1101".into())))
    );
    let watchdog = DirFs::from_files([("/usr/local/share/assist-daemon/assist_daemon", "")]);
    assert_eq!(find(watchdog, Program::CloudAssistant), None);
}

#[test]
fn programs_that_share_a_file_are_told_apart() {
    let ntp = || DirFs::from_files([("/usr/sbin/ntpd", "")]);
    assert!(find(ntp(), Program::Ntp).is_some() && find(ntp(), Program::Ntpsec).is_none());
    let mut ntpsec = ntp();
    ntpsec.add_file("/etc/ntpsec/ntp.conf", "");
    assert!(find(ntpsec.clone(), Program::Ntp).is_none() && find(ntpsec, Program::Ntpsec).is_some());
    // RHEL's initscripts have an `ifup`, too.
    let rhel = || DirFs::from_files([("/usr/sbin/ifup", ""), ("/etc/init.d/network", "")]);
    assert!(find(rhel(), Program::Ifupdown).is_none() && find(rhel(), Program::NetworkScripts).is_some());
}

#[test]
fn every_program_has_a_name_of_its_own() {
    for program in Program::ALL {
        assert_eq!(Program::by_name(program.name()), Some(program));
    }
    assert_eq!(Program::by_name("nothing"), None);
}
