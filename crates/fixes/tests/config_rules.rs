//! Rules on single configuration files: effective afterwards, literal, and nothing left for a second plan.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod support;

use cloudspec::Profile;
use coldfit_fixes::{Finding, Selection, State, apply, plan};
use config::MemoryFiles;
use config::sshd::SshdConfig;
use support::{NOW, content, devices, only, path};
use testkit::DirFs;
use vfs::GuestTree;

const MAIN: &str = "/etc/ssh/sshd_config";
const DROP_IN: &str = "/etc/ssh/sshd_config.d/50-cloud-init.conf";
const SYSCTL: &str = "/etc/sysctl.conf";

fn profile(settings: &[(&str, &str)]) -> Profile {
    let settings: Vec<(String, String)> =
        settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    cloudspec::builtin("alibaba").unwrap().with(&settings).unwrap()
}

/// One rule of the profile, applied; a second plan must change nothing and find what was fixable met.
fn fix_with(fs: DirFs, rule: &str, profile: &Profile) -> (Finding, GuestTree) {
    let mut tree = fs.into_tree();
    let look = |tree: &GuestTree, selection: &Selection| {
        let model = guest::inspect(tree, &devices()).unwrap();
        plan(tree, &devices(), &model, profile, selection).unwrap()
    };
    let planned = look(&tree, &only(&[rule]));
    apply(&planned.edits, &mut tree, NOW).unwrap();
    let again = look(&tree, &only(&[rule]));
    assert_eq!(again.edits, [], "{rule}");
    let before = planned.findings.into_iter().next().unwrap();
    let expected = if before.state == State::Fixable { State::Holds } else { before.state };
    assert_eq!(again.findings[0].state, expected, "{before:?} {:?}", again.findings[0]);
    (before, tree)
}

fn fix(fs: DirFs, rule: &str) -> (Finding, GuestTree) {
    fix_with(fs, rule, &profile(&[]))
}

/// Files on top of an `os-release`; a target behind `->` makes a symlink.
fn guest(os: &str, files: &[(&str, &str)]) -> DirFs {
    let mut fs = DirFs::from_files([("/etc/os-release", os)]);
    for (name, text) in files {
        match text.strip_prefix("->") {
            Some(target) => fs.add_symlink(name, target),
            None => fs.add_file(name, text),
        };
    }
    fs
}

const DEBIAN_12: &str = "ID=debian\nVERSION_ID=\"12\"\n";
const UBUNTU_1404: &str = "ID=ubuntu\nVERSION_ID=\"14.04\"\nID_LIKE=debian\n";
const CENTOS_6: &str = "ID=centos\nVERSION_ID=\"6\"\nID_LIKE=\"rhel fedora\"\n";
const CENTOS_7: &str = "ID=centos\nVERSION_ID=\"7\"\nID_LIKE=\"rhel fedora\"\n";
const ROCKY_9: &str = "ID=rocky\nVERSION_ID=\"9.4\"\nID_LIKE=\"rhel centos fedora\"\n";
const SUSE_15: &str = "ID=\"opensuse-leap\"\nVERSION_ID=\"15.6\"\nID_LIKE=\"suse opensuse\"\n";
const SLES_11: &str = "ID=sles\nVERSION_ID=\"11.4\"\n";

/// What sshd would use with the files of a tree.
fn sshd_says(tree: &GuestTree, files: &[&str], keyword: &str) -> String {
    let mut memory = MemoryFiles::default();
    for file in files {
        memory.put(file, content(tree, file));
    }
    let config = SshdConfig::read(&memory, &path(MAIN)).unwrap();
    assert_eq!(config.problems, Vec::<String>::new());
    config.effective(keyword, None).join(" ")
}

/// `grep -qx`.
fn has_line(tree: &GuestTree, file: &str, line: &str) -> bool {
    content(tree, file).lines().any(|own| own == line)
}

#[test]
fn sshd_values_are_set_where_they_stand_and_stand_once() {
    let text = "#UseDNS yes\nPort 22\nPermitRootLogin no\nPasswordAuthentication yes\nPermitRootLogin yes\n\
                Match user git\n\tPasswordAuthentication no\n";
    let (found, tree) = fix_with(
        guest(CENTOS_7, &[(MAIN, text)]),
        "ssh.password-root",
        &profile(&[("ssh-login", "password-root")]),
    );
    assert_eq!(found.state, State::Fixable);
    assert!(found.evidence.iter().any(|line| line.contains(":7: Match user git")), "{found:?}");
    assert_eq!(
        content(&tree, MAIN),
        "#UseDNS yes\nPort 22\nPermitRootLogin yes\nPasswordAuthentication yes\n#PermitRootLogin yes\n\
         Match user git\n\tPasswordAuthentication no\n"
    );
    let (_, tree) = fix(guest(CENTOS_7, &[(MAIN, text)]), "ssh.server");
    let lines: Vec<String> = content(&tree, MAIN).lines().take(2).map(str::to_owned).collect();
    assert_eq!(lines, ["#UseDNS yes", "UseDNS no"]);
    for line in ["UseDNS no", "AddressFamily inet", "SyslogFacility AUTHPRIV"] {
        assert!(has_line(&tree, MAIN, line));
    }
    assert_eq!(sshd_says(&tree, &[MAIN], "syslogfacility"), "AUTHPRIV");
}

#[test]
fn sshd_drop_ins_lose_against_the_main_file() {
    let main = "Include /etc/ssh/sshd_config.d/*.conf\nPasswordAuthentication yes\nUsePAM yes\n";
    let fs = guest(DEBIAN_12, &[(MAIN, main), (DROP_IN, "PasswordAuthentication yes\nX11Forwarding no\n")]);
    let (found, tree) = fix(fs, "ssh.key-only");
    assert_eq!(found.state, State::Fixable);
    assert!(has_line(&tree, MAIN, "PasswordAuthentication no"));
    assert_eq!(content(&tree, DROP_IN), "#PasswordAuthentication yes\nX11Forwarding no\n");
    assert_eq!(sshd_says(&tree, &[MAIN, DROP_IN], "passwordauthentication"), "no");
    // cloud-init writes its file anew at the first boot: it comes too late.
    let mut memory = MemoryFiles::new([(DROP_IN, "PasswordAuthentication yes\n")]);
    memory.put(MAIN, content(&tree, MAIN));
    let config = SshdConfig::read(&memory, &path(MAIN)).unwrap();
    assert_eq!(config.effective("passwordauthentication", None), ["no"]);
}

#[test]
fn sshd_match_all_and_a_line_behind_match_count_as_openssh_has_it() {
    let text = "PasswordAuthentication no\nMatch all\nPasswordAuthentication yes\n";
    let (_, tree) = fix(guest(DEBIAN_12, &[(MAIN, text)]), "ssh.key-only");
    assert_eq!(content(&tree, MAIN), "PasswordAuthentication no\nMatch all\n#PasswordAuthentication yes\n");
    // Appended behind a Match block the line would hold for that user alone.
    let text = "UsePAM yes\nMatch user a\nX11Forwarding no\n";
    let (_, tree) = fix(guest(DEBIAN_12, &[(MAIN, text)]), "ssh.key-only");
    assert_eq!(
        content(&tree, MAIN),
        "UsePAM yes\nPasswordAuthentication no\nMatch user a\nX11Forwarding no\n"
    );
}

#[test]
fn sshd_of_suse_gets_a_file_that_includes_the_vendor_s() {
    let vendor = "/usr/etc/ssh/sshd_config";
    let fs = guest(SUSE_15, &[(vendor, "PasswordAuthentication yes\nUsePAM yes\n")]);
    let (_, tree) = fix(fs, "ssh.key-only");
    assert!(has_line(&tree, MAIN, "PasswordAuthentication no"));
    assert_eq!(sshd_says(&tree, &[MAIN, vendor], "passwordauthentication"), "no");
    assert_eq!(sshd_says(&tree, &[MAIN, vendor], "usepam"), "yes");
    assert_eq!(content(&tree, vendor), "PasswordAuthentication yes\nUsePAM yes\n");
}

#[test]
fn sshd_of_older_versions_gets_the_older_word() {
    let setting = profile(&[("ssh-login", "key-only")]);
    for (version, word) in [("OpenSSH_6.6.1p1", "without-password"), ("OpenSSH_9.2p1", "prohibit-password")] {
        let program = format!("\x7fELF\0{version}\0");
        let fs = guest(UBUNTU_1404, &[(MAIN, "UsePAM yes\n"), ("/usr/sbin/sshd", &program)]);
        let (_, tree) = fix_with(fs, "ssh.permit-root-explicit", &setting);
        assert!(has_line(&tree, MAIN, &format!("PermitRootLogin {word}")), "{}", content(&tree, MAIN));
    }
}

#[test]
fn sshd_files_that_the_server_refuses_are_left_alone() {
    for (text, place) in [
        ("UsePAM yes\nBanner \"x\n", "sshd_config:2:"),
        ("PermitRootLogin maybe\n", "sshd_config:1:"),
        ("Match user a\nUseDNS no\n", "sshd_config:2:"),
    ] {
        let (found, tree) = fix(guest(DEBIAN_12, &[(MAIN, text)]), "ssh.server");
        assert_eq!((found.state, content(&tree, MAIN)), (State::NotFixable, text.to_owned()));
        assert!(found.evidence[0].contains(place), "{found:?}");
    }
    assert_eq!(fix(guest(DEBIAN_12, &[]), "ssh.server").0.state, State::NeedsAction);
}

#[test]
fn sshd_listens_on_the_port_beside_others() {
    let (found, _) = fix(guest(DEBIAN_12, &[(MAIN, "UsePAM yes\n")]), "ssh.port");
    assert_eq!(found.state, State::Holds);
    let (_, tree) = fix(guest(DEBIAN_12, &[(MAIN, "Port 2222\n")]), "ssh.port");
    assert_eq!(sshd_says(&tree, &[MAIN], "port"), "2222 22");
}

#[test]
fn sysctl_goes_into_the_file_that_is_read() {
    let link = ("/etc/sysctl.d/99-sysctl.conf", "->../sysctl.conf");
    let own = "vm.swappiness = 60\nnet.core.somaxconn = 4096\n";
    let (found, tree) = fix(guest(ROCKY_9, &[(SYSCTL, own), link]), "kernel.sysctl");
    assert_eq!(found.state, State::Fixable);
    let text = content(&tree, SYSCTL);
    assert!(text.starts_with("vm.swappiness = 0\nnet.core.somaxconn = 4096\nkernel.sysrq = 1\n"), "{text}");
    assert!(has_line(&tree, SYSCTL, "net.ipv4.tcp_slow_start_after_idle = 0"));
    assert_eq!(tree.list(&path("/etc/sysctl.d")).unwrap().len(), 1);

    // Debian 13 has neither file nor link: the link makes systemd read the file.
    let (_, tree) =
        fix(guest(DEBIAN_12, &[("/usr/lib/sysctl.d/50-x.conf", "vm.swappiness = 7\n")]), "kernel.sysctl");
    assert_eq!(tree.read_link(&path("/etc/sysctl.d/99-sysctl.conf")).unwrap(), b"../sysctl.conf");
    assert!(has_line(&tree, SYSCTL, "vm.swappiness = 0"));

    // A file that nobody reads stays unread when it says more; ours is then read from a place of its own.
    let (_, tree) = fix(guest(DEBIAN_12, &[(SYSCTL, "net.ipv4.ip_forward = 1\n")]), "kernel.sysctl");
    assert!(has_line(&tree, SYSCTL, "vm.swappiness = 0"));
    assert!(has_line(&tree, "/etc/sysctl.d/99-coldfit.conf", "vm.swappiness = 0"));
    assert!(!has_line(&tree, "/etc/sysctl.d/99-coldfit.conf", "net.ipv4.ip_forward = 1"));
}

#[test]
fn sysctl_files_that_come_later_lose() {
    let link = ("/etc/sysctl.d/99-sysctl.conf", "->../sysctl.conf");
    let fs = guest(
        ROCKY_9,
        &[
            (SYSCTL, "# mine\n"),
            link,
            ("/etc/sysctl.d/99-zz.conf", "vm.swappiness = 10\nvm.dirty_ratio = 5\n"),
            ("/usr/lib/sysctl.d/zy.conf", "kernel.sysrq = 0\n"),
            ("/usr/lib/sysctl.d/50-default.conf", "net.ipv4.conf.*.rp_filter = 2\n"),
        ],
    );
    let (found, tree) = fix(fs, "kernel.sysctl");
    assert_eq!(found.state, State::Fixable);
    assert_eq!(content(&tree, "/etc/sysctl.d/99-zz.conf"), "#vm.swappiness = 10\nvm.dirty_ratio = 5\n");
    assert_eq!(content(&tree, "/usr/lib/sysctl.d/zy.conf"), "kernel.sysrq = 0\n");
    assert_eq!(content(&tree, "/etc/sysctl.d/zz-coldfit.conf"), "kernel.sysrq = 1\n");
    let note = found.evidence.iter().find(|line| line.contains("50-default.conf:1:")).unwrap();
    assert!(note.contains("rp_filter 2"), "{note}");
}

#[test]
fn sysctl_without_systemd_is_read_as_the_init_scripts_do() {
    let fs =
        guest(CENTOS_6, &[(SYSCTL, "kernel.sysrq = 0\n"), ("/etc/sysctl.d/a.conf", "kernel.sysrq = 16\n")]);
    let (_, tree) = fix(fs, "kernel.sysctl");
    assert!(has_line(&tree, SYSCTL, "kernel.sysrq = 1"));
    assert_eq!(content(&tree, "/etc/sysctl.d/a.conf"), "#kernel.sysrq = 16\n");
}

const CHRONYD: (&str, &str) = ("/usr/sbin/chronyd", "\x7fELF");
const UNIT: &str = "[Service]\nExecStart=/x\n[Install]\nWantedBy=multi-user.target\n";

#[test]
fn chrony_asks_the_servers_and_no_others() {
    let main = "/etc/chrony/chrony.conf";
    let text = "confdir /etc/chrony/conf.d\npool 2.debian.pool.ntp.org iburst\nsourcedir /run/chrony-dhcp\n\
                sourcedir /etc/chrony/sources.d\nkeyfile /etc/chrony/chrony.keys\n\
                driftfile /var/lib/chrony/chrony.drift\nlogdir /var/log/chrony\nrtcsync\nmakestep 1 3\n";
    let fs = guest(
        DEBIAN_12,
        &[
            CHRONYD,
            (main, text),
            ("/etc/chrony/sources.d/a.sources", "server a.example iburst\n"),
            ("/etc/chrony/conf.d/b.conf", "peer b.example\nmaxslewrate 500\n"),
        ],
    );
    let (found, tree) = fix(fs, "time.servers");
    assert_eq!(found.state, State::Fixable);
    let now = content(&tree, main);
    assert!(now.contains("#pool 2.debian.pool.ntp.org iburst\n") && now.contains("#makestep 1 3\n"), "{now}");
    assert!(now.contains("\ndriftfile /var/lib/chrony/chrony.drift\n"));
    assert!(!has_line(&tree, main, "driftfile /var/lib/chrony/drift"), "{now}");
    for line in
        ["rtcsync", "makestep 10 3", "bindcmdaddress ::1", "logdir /var/log/chrony", "#allow 192.168/16"]
    {
        assert_eq!(now.lines().filter(|own| *own == line).count(), 1, "{line}");
    }
    assert_eq!(now.lines().filter(|line| line.starts_with("server ")).count(), 20);
    assert_eq!(content(&tree, "/etc/chrony/sources.d/a.sources"), "#server a.example iburst\n");
    assert_eq!(content(&tree, "/etc/chrony/conf.d/b.conf"), "#peer b.example\nmaxslewrate 500\n");
}

#[test]
fn one_daemon_alone_runs() {
    let wants = "/etc/systemd/system/multi-user.target.wants";
    let fs = guest(
        CENTOS_7,
        &[
            CHRONYD,
            ("/usr/sbin/ntpd", "\x7fELF"),
            ("/etc/chrony.conf", "server 0.centos.pool.ntp.org iburst\ndriftfile /var/lib/chrony/drift\n"),
            ("/etc/ntp.conf", "server x\n"),
            ("/usr/lib/systemd/systemd", "\x7fELF"),
            ("/usr/lib/systemd/system/multi-user.target", "[Unit]\n"),
            ("/usr/lib/systemd/system/default.target", "->multi-user.target"),
            ("/usr/lib/systemd/system/chronyd.service", UNIT),
            ("/usr/lib/systemd/system/ntpd.service", UNIT),
            (&format!("{wants}/chronyd.service"), "->/usr/lib/systemd/system/chronyd.service"),
            (&format!("{wants}/ntpd.service"), "->/usr/lib/systemd/system/ntpd.service"),
        ],
    );
    let (_, tree) = fix(fs, "time.servers");
    let names = tree.list(&path(wants)).unwrap();
    assert_eq!(names, [b"chronyd.service"]);
    assert_eq!(content(&tree, "/etc/ntp.conf"), "server x\n");
    assert!(has_line(&tree, "/etc/chrony.conf", "driftfile /var/lib/chrony/drift"));
}

#[test]
fn ntp_gets_its_block() {
    let text = "driftfile /var/lib/ntp/drift\nrestrict default nomodify # old\nserver 0.centos.pool.ntp.org iburst\n\
                restrict ::1\nincludefile /etc/ntp/crypto/pw\n";
    let fs = guest(CENTOS_6, &[("/usr/sbin/ntpd", "\x7fELF"), ("/etc/ntp.conf", text)]);
    let (_, tree) = fix(fs, "time.servers");
    let now = content(&tree, "/etc/ntp.conf");
    assert!(
        now.starts_with(
            "driftfile  /var/lib/ntp/drift\n#restrict default nomodify # old\n#server 0.centos.pool.ntp.org iburst\nrestrict ::1\n"
        ),
        "{now}"
    );
    assert!(has_line(&tree, "/etc/ntp.conf", "fudge  127.127.1.0 stratum 10"));
    assert!(has_line(&tree, "/etc/ntp.conf", "server 127.127.1.0"));
    assert_eq!(now.lines().filter(|line| line.starts_with("server ")).count(), 21);
}

#[test]
fn timesyncd_serves_where_it_is_alone_and_nothing_serves_where_nothing_is_there() {
    let fs = guest(
        DEBIAN_12,
        &[("/lib/systemd/systemd-timesyncd", "\x7fELF"), ("/etc/systemd/timesyncd.conf", "[Time]\nNTP=a\n")],
    );
    let (found, tree) = fix(fs, "time.servers");
    assert_eq!(found.state, State::Fixable);
    let text = content(&tree, "/etc/systemd/timesyncd.conf.d/99-coldfit.conf");
    assert_eq!(text.lines().last().unwrap().split_whitespace().count(), 20, "{text}");
    let (found, _) = fix(guest(DEBIAN_12, &[]), "time.servers");
    assert_eq!(found.state, State::NeedsAction);
    assert!(found.remedy.unwrap().contains("chrony"));
    let ntpsec = [("/usr/sbin/ntpd", "\x7fELF"), ("/etc/ntpsec/ntp.conf", "pool x\n")];
    let (found, tree) = fix(guest(DEBIAN_12, &ntpsec), "time.servers");
    assert_eq!(found.state, State::NeedsAction);
    assert_eq!(content(&tree, "/etc/ntpsec/ntp.conf"), "pool x\n");
    let (found, _) = fix_with(guest(DEBIAN_12, &[]), "time.servers", &profile(&[("time", "keep")]));
    assert!(matches!(found.state, State::NotApplicable | State::Waived), "{found:?}");
}

#[test]
fn the_clock_is_in_utc_in_every_file_that_says_so() {
    let rule = "clock.rtc-utc";
    let local = ("/etc/adjtime", "1.5 1700000000 0.0\n1700000000\nLOCAL\n");
    for (os, file, before, after) in [
        (DEBIAN_12, "/etc/default/rcS", "UTC=no\n", "UTC=no\n"),
        (UBUNTU_1404, "/etc/default/rcS", "A=1\nUTC=no\n", "A=1\nUTC=yes\n"),
        (
            CENTOS_6,
            "/etc/sysconfig/clock",
            "ZONE=\"Asia/Tokyo\"\nUTC=false\n",
            "ZONE=\"Asia/Tokyo\"\nUTC=true\n",
        ),
        (SLES_11, "/etc/sysconfig/clock", "HWCLOCK=\"--localtime\"\n", "HWCLOCK=\"-u\"\n"),
    ] {
        let (found, tree) = fix(guest(os, &[local, (file, before)]), rule);
        assert_eq!(found.state, State::Fixable);
        assert_eq!(content(&tree, "/etc/adjtime"), "1.5 1700000000 0.0\n1700000000\nUTC\n");
        assert_eq!(content(&tree, file), after);
    }
    let (_, tree) = fix(guest(ROCKY_9, &[]), rule);
    assert_eq!(content(&tree, "/etc/adjtime"), "0.0 0 0.0\n0\nUTC\n");
    let (found, _) = fix(guest(ROCKY_9, &[("/etc/adjtime", "0.0 0 0.0\n0\nUTC\n")]), rule);
    assert_eq!(found.state, State::Holds);
}

#[test]
fn motd_is_a_file_with_exactly_these_bytes() {
    let wanted = "\nWelcome to Alibaba Cloud Elastic Compute Service ! \n\n";
    for files in [&[][..], &[("/etc/motd", "old\n")], &[("/etc/motd", "->../run/motd"), ("/run/motd", "x\n")]]
    {
        let (found, tree) = fix(guest(DEBIAN_12, files), "files.motd");
        assert_eq!((found.state, content(&tree, "/etc/motd").as_str()), (State::Fixable, wanted));
        let metadata = tree.stat_no_follow(&path("/etc/motd")).unwrap();
        assert_eq!((metadata.kind, metadata.mode), (vfs::FileKind::Regular, 0o644));
    }
    let (found, _) = fix(guest(DEBIAN_12, &[("/etc/motd", wanted)]), "files.motd");
    assert_eq!(found.state, State::Holds);
}

#[test]
fn pip_is_set_only_where_it_is_configured() {
    let (index, host) = profile(&[])
        .rules
        .into_iter()
        .find_map(|rule| match rule.kind {
            cloudspec::RuleKind::PipConfig { index_url, trusted_host, .. } => Some((index_url, trusted_host)),
            _ => None,
        })
        .unwrap();
    assert_eq!(fix(guest(DEBIAN_12, &[]), "pip.index").0.state, State::NotApplicable);
    let fs = guest(
        DEBIAN_12,
        &[
            ("/etc/pip.conf", "[global]\ntimeout = 9\nindex-url = https://x/simple\n"),
            ("/home/a/.config/pip/pip.conf", "[install]\nindex_url = https://y\n"),
        ],
    );
    let (_, tree) = fix(fs, "pip.index");
    assert_eq!(
        content(&tree, "/etc/pip.conf"),
        format!("[global]\ntimeout = 9\nindex-url = {index}\n[install]\ntrusted-host = {host}\n")
    );
    let home = content(&tree, "/home/a/.config/pip/pip.conf");
    assert_eq!(home.matches(index.as_str()).count(), 2, "{home}");
    let (_, tree) = fix_with(guest(DEBIAN_12, &[]), "pip.index", &profile(&[("pip", "always")]));
    assert!(has_line(&tree, "/root/.pip/pip.conf", &format!("trusted-host = {host}")));
    let bad = "index-url = x\n";
    let (found, tree) = fix(guest(DEBIAN_12, &[("/etc/pip.conf", bad)]), "pip.index");
    assert_eq!((found.state, content(&tree, "/etc/pip.conf").as_str()), (State::NotFixable, bad));
    assert!(found.evidence[0].starts_with("/etc/pip.conf:1:"), "{found:?}");
}

#[test]
fn root_is_locked_in_its_own_line_and_the_file_keeps_mode_and_owner() {
    let rule = "accounts.root-lock";
    let passwd = ("/etc/passwd", "root:x:0:0::/root:/bin/sh\ntoroot:x:1:1::/:/bin/sh\n");
    let shadow = "toroot:$6$a:1:0:99999:7:::\nroot:$6$b:1:0:99999:7:::\n";
    let mut fs = guest(DEBIAN_12, &[passwd, ("/etc/shadow", shadow)]);
    fs.set_mode("/etc/shadow", 0o640).set_owner("/etc/shadow", 0, 42);
    fs.add_xattr("/etc/shadow", "security.selinux", "system_u:object_r:shadow_t:s0\0");
    fs.add_immutable("/etc/shadow");
    let (found, tree) = fix(fs, rule);
    assert_eq!(found.state, State::Fixable);
    assert!(!found.evidence.iter().any(|line| line.contains("$6$")), "{found:?}");
    assert_eq!(content(&tree, "/etc/shadow"), shadow.replace("$6$b", "*"));
    let metadata = tree.stat(&path("/etc/shadow")).unwrap();
    assert_eq!((metadata.mode, metadata.uid, metadata.gid), (0o640, 0, 42));
    for (shadow, place) in [
        ("root:x\n", "/etc/shadow:1:"),
        ("a:b:1::::::\nroot:!:1::::::\nroot:!:1::::::\n", "/etc/shadow:3:"),
        ("a:b:1::::::\n", "/etc/shadow:"),
    ] {
        let (found, tree) = fix(guest(DEBIAN_12, &[passwd, ("/etc/shadow", shadow)]), rule);
        assert_eq!((found.state, content(&tree, "/etc/shadow").as_str()), (State::NotFixable, shadow));
        assert!(found.evidence[0].starts_with(place), "{found:?}");
    }
}
