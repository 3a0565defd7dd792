//! Services off and on, in the layouts of several families.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod support;

use coldfit_fixes::State;
use support::*;
use testkit::DirFs;

const CONFIG: &str = "/etc/systemd/system";

fn off(services: &str, mask: bool) -> cloudspec::Profile {
    profile_of("service-off", &format!("services = {services}\nmask = {mask}"))
}

fn systemd(files: &[(&str, &str)], links: &[(&str, &str)]) -> DirFs {
    let mut fs = DirFs::from_files(files.iter().copied());
    fs.add_file("/usr/lib/systemd/systemd", "");
    for (path, target) in links {
        fs.add_symlink(path, target);
    }
    fs
}

#[test]
fn firewalld_goes_by_its_links() {
    let fs = systemd(
        &[(
            "/usr/lib/systemd/system/firewalld.service",
            "[Install]\nWantedBy=multi-user.target\nAlias=dbus-org.fedoraproject.FirewallD1.service\n",
        )],
        &[
            (
                &format!("{CONFIG}/multi-user.target.wants/firewalld.service"),
                "/usr/lib/systemd/system/firewalld.service",
            ),
            (
                &format!("{CONFIG}/dbus-org.fedoraproject.FirewallD1.service"),
                "/usr/lib/systemd/system/firewalld.service",
            ),
        ],
    );
    let (planned, tree) = fix_by(fs, &off("[\"firewalld\"]", false));
    assert_eq!(planned.findings[0].state, State::Fixable);
    assert_eq!(
        edited(&planned),
        [
            format!("{CONFIG}/dbus-org.fedoraproject.FirewallD1.service"),
            format!("{CONFIG}/multi-user.target.wants/firewalld.service")
        ]
    );
    assert!(tree.list(&path(CONFIG)).unwrap().contains(&b"multi-user.target.wants".to_vec()));
    assert!(tree.list(&path(&format!("{CONFIG}/multi-user.target.wants"))).unwrap().is_empty());
}

#[test]
fn what_a_device_starts_is_masked() {
    let fs = || {
        systemd(
            &[
                (
                    "/usr/lib/systemd/system/qemu-guest-agent.service",
                    "[Service]\nExecStart=/usr/sbin/qemu-ga\n",
                ),
                (
                    "/usr/lib/udev/rules.d/60-qemu-guest-agent.rules",
                    "SUBSYSTEM==\"virtio-ports\", TAG+=\"systemd\", ENV{SYSTEMD_WANTS}=\"qemu-guest-agent.service\"\n",
                ),
            ],
            &[],
        )
    };
    for mask in [true, false] {
        let (_, tree) = fix_by(fs(), &off("[\"qemu-guest-agent\"]", mask));
        let link = path(&format!("{CONFIG}/qemu-guest-agent.service"));
        assert_eq!(tree.read_link(&link).unwrap(), b"/dev/null");
    }
    let (planned, _) = fix_by(systemd(&[], &[]), &off("[\"qemu-guest-agent\"]", true));
    assert_eq!((planned.findings[0].state, planned.edits.len()), (State::Holds, 0));
    // A unit file of the administrator would have to be deleted for the mask.
    let mut own = fs();
    own.add_file(format!("{CONFIG}/qemu-guest-agent.service"), "[Service]\nExecStart=/opt/qga\n");
    let (planned, _) = fix_by(own, &off("[\"qemu-guest-agent\"]", true));
    assert_eq!((planned.findings[0].state, planned.edits.len()), (State::NotFixable, 0));
}

#[test]
fn runlevels_and_upstart_jobs() {
    let mut fs = DirFs::from_files([
        ("/etc/rc.d/init.d/iptables", "#!/bin/sh\n# chkconfig: 2345 08 92\n"),
        ("/etc/init/qemu-guest-agent.conf", "start on runlevel [2345]\n"),
        ("/sbin/init", "upstart"),
    ]);
    fs.add_symlink("/etc/init.d", "rc.d/init.d");
    fs.add_symlink("/etc/rc.d/rc3.d/S08iptables", "../init.d/iptables");
    let (planned, tree) = fix_by(fs, &off("[\"iptables\", \"qemu-guest-agent\"]", false));
    assert_eq!(
        edited(&planned),
        ["/etc/init/qemu-guest-agent.override", "/etc/rc.d/rc3.d/K92iptables", "/etc/rc.d/rc3.d/S08iptables"]
    );
    assert_eq!(content(&tree, "/etc/init/qemu-guest-agent.override"), "manual\n");
}

#[test]
fn services_that_are_installed_are_switched_on() {
    let profile =
        profile_of("service-on", "services = [[\"sshd\", \"ssh\"], [\"chronyd\", \"chrony\"], [\"aliyun\"]]");
    let ssh = (
        "/usr/lib/systemd/system/ssh.service",
        "[Install]\nWantedBy=multi-user.target\nAlias=sshd.service\n",
    );
    let chrony = ("/usr/lib/systemd/system/chronyd.service", "[Install]\nWantedBy=multi-user.target\n");
    let masked = format!("{CONFIG}/chronyd.service");
    let fs = systemd(&[ssh, chrony], &[(&masked, "/dev/null")]);
    let (planned, tree) = fix_by(fs, &profile);
    assert_eq!(planned.findings[0].state, State::Fixable);
    for link in
        ["multi-user.target.wants/ssh.service", "multi-user.target.wants/chronyd.service", "sshd.service"]
    {
        assert!(
            tree.read_link(&path(&format!("{CONFIG}/{link}")))
                .unwrap()
                .starts_with(b"/usr/lib/systemd/system/")
        );
    }
    // A socket starts it: nothing to do.
    let socket = (
        "/usr/lib/systemd/system/ssh.socket",
        "[Socket]\nListenStream=22\n[Install]\nWantedBy=sockets.target\n",
    );
    let link = format!("{CONFIG}/sockets.target.wants/ssh.socket");
    let fs = systemd(&[ssh, socket], &[(&link, "/usr/lib/systemd/system/ssh.socket")]);
    assert_eq!(fix_by(fs, &profile).0.findings[0].state, State::Holds);
    assert_eq!(fix_by(systemd(&[], &[]), &profile).0.findings[0].state, State::NotApplicable);
}
