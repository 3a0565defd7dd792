//! States and links of units, judged by `systemctl --root`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod support;

use std::path::Path;

use config::units::{UnitChange, Units};
use support::*;
use testkit::tool;

const CONFIG: &str = "/etc/systemd/system";

/// Units with the `[Install]` sections of real distributions.
const UNITS: &[(&str, &str)] = &[
    (
        "firewalld.service",
        "[Service]\nBusName=org.fedoraproject.FirewallD1\n[Install]\nWantedBy=multi-user.target\nAlias=dbus-org.fedoraproject.FirewallD1.service\n",
    ),
    ("chronyd.service", "[Unit]\nDescription=NTP\n[Install]\nWantedBy=multi-user.target\n"),
    ("chrony.service", "[Install]\nAlias=chronyd.service\nWantedBy=multi-user.target\n"),
    ("ssh.service", "[Install]\nWantedBy=multi-user.target\nAlias=sshd.service\n"),
    ("ssh.socket", "[Socket]\nListenStream=22\nAccept=no\n[Install]\nWantedBy=sockets.target\n"),
    ("ssh@.service", "[Unit]\nDescription=per connection\n"),
    ("qemu-guest-agent.service", "[Unit]\nDescription=agent\n[Service]\nExecStart=-/usr/sbin/qemu-ga\n"),
    ("qga-el.service", "[Install]\nWantedBy=dev-virtio\\x2dports-org.qemu.guest_agent.0.device\n"),
    ("cloud-init.service", "[Install]\nWantedBy=cloud-init.target\n"),
    ("cloud-init-local.service", "[Install]\nWantedBy=cloud-init.target\n"),
    ("cloud-config.service", "[Install]\nWantedBy=cloud-init.target\n"),
    ("cloud-final.service", "[Install]\nWantedBy=cloud-init.target\n"),
    ("cloud-init.target", "[Unit]\nDescription=cloud-init\n"),
    (
        "NetworkManager.service",
        "[Install]\nWantedBy=multi-user.target\nAlias=dbus-org.freedesktop.NetworkManager.service\nAlso=NetworkManager-dispatcher.service NetworkManager-wait-online.service\n",
    ),
    (
        "NetworkManager-dispatcher.service",
        "[Install]\n# by its name on the bus\nAlias=dbus-org.freedesktop.nm-dispatcher.service\n",
    ),
    ("NetworkManager-wait-online.service", "[Install]\nWantedBy=network-online.target\n"),
    (
        "systemd-networkd.service",
        "[Install]\nWantedBy=multi-user.target\nAlso=systemd-networkd.socket\nAlias=dbus-org.freedesktop.network1.service\nAlso=systemd-networkd-wait-online.service\n",
    ),
    ("systemd-networkd.socket", "[Install]\nWantedBy=sockets.target\n"),
    ("systemd-networkd-wait-online.service", "[Install]\nWantedBy=network-online.target\n"),
    (
        "systemd-timesyncd.service",
        "[Install]\nWantedBy=sysinit.target\nAlias=dbus-org.freedesktop.timesync1.service\n",
    ),
    ("systemd-resolved.service", "[Install]\nWantedBy=sysinit.target \\\n  multi-user.target\n"),
    ("getty@.service", "[Install]\nWantedBy=getty.target\nDefaultInstance=tty1\n"),
    ("serial-getty@.service", "[Install]\nWantedBy=getty.target\n"),
    ("fstrim.timer", "[Timer]\nOnCalendar=weekly\n[Install]\nWantedBy=timers.target\n"),
    ("fstrim.service", "[Service]\nType=oneshot\n"),
    ("rsyslog.service", "[Install]\nWantedBy=multi-user.target\nAlias=syslog.service\n"),
    (
        "wicked.service",
        "[Install]\nWantedBy=multi-user.target\nAlias=network.service\nAlso=wickedd.service\n",
    ),
    ("wickedd.service", "[Install]\nAlso=wickedd-nanny.service\n"),
    ("wickedd-nanny.service", "[Unit]\nDescription=nanny\n"),
    ("libvirtd.socket", "[Install]\nWantedBy=sockets.target\nRequiredBy=virt-guest-shutdown.target\n"),
    ("reset.service", "[Install]\nWantedBy=a.target\nWantedBy=\nWantedBy=b.target\n"),
    ("instance@.service", "[Install]\nWantedBy=%i.target multi-user.target\n"),
    ("empty.service", ""),
    ("multi-user.target", "[Unit]\nRequires=basic.target\n"),
];

/// A tree as Debian 12 has it, or with `/usr/lib` in its links as all others.
fn tree(is_merged: bool) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let vendor = if is_merged { "/usr/lib/systemd/system" } else { "/lib/systemd/system" };
    for (name, text) in UNITS {
        put(root.path(), &format!("{vendor}/{name}"), text);
    }
    if is_merged {
        link(root.path(), "/lib", "usr/lib");
    }
    // systemctl of Debian 12 spells the vendor's directory so, and its links tell it.
    link(
        root.path(),
        "/etc/systemd/system/getty.target.wants/getty@tty1.service",
        "/lib/systemd/system/getty@.service",
    );
    std::fs::create_dir_all(root.path().join("etc/systemd/system")).unwrap();
    root
}

fn systemctl(root: &Path, verb: &str, unit: &str) -> String {
    let root = format!("--root={}", root.display());
    let output = tool::output(&mut tool::command("systemctl", [root.as_str(), verb, unit])).unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn make(root: &Path, changes: &[UnitChange]) {
    for change in changes {
        match change {
            UnitChange::Remove { path } => std::fs::remove_file(root.join(&path[1..])).unwrap(),
            UnitChange::Link { path, target } => link(root, path, target),
        }
    }
}

/// Does the same with `systemctl` on one tree and by our changes on another; the links must be equal.
fn compare(prepare: &dyn Fn(&Path), verb: &str, unit: &str, is_merged: bool) {
    let (theirs, ours) = (tree(is_merged), tree(is_merged));
    prepare(theirs.path());
    prepare(ours.path());
    systemctl(theirs.path(), verb, unit);
    let files = memory(ours.path());
    let units = Units::new(&files).unwrap();
    let changes = match verb {
        "enable" => units.enable(unit).unwrap(),
        "disable" => units.disable(unit).unwrap(),
        "mask" => units.mask(unit).unwrap().unwrap(),
        _ => units.unmask(unit).unwrap(),
    };
    make(ours.path(), &changes);
    assert_eq!(links(ours.path(), CONFIG), links(theirs.path(), CONFIG), "{verb} {unit}");
    let files = memory(ours.path());
    let units = Units::new(&files).unwrap();
    for (name, _) in UNITS {
        let expected = systemctl(theirs.path(), "is-enabled", name);
        assert_eq!(units.state(name).unwrap().name(), expected, "is-enabled {name} after {verb} {unit}");
    }
    let again = match verb {
        "enable" => units.enable(unit).unwrap(),
        "disable" => units.disable(unit).unwrap(),
        "mask" => units.mask(unit).unwrap().unwrap(),
        _ => units.unmask(unit).unwrap(),
    };
    assert_eq!(again, [], "a second {verb} {unit}");
}

fn all() -> impl Iterator<Item = &'static str> {
    UNITS
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| *name != "empty.service" && *name != "instance@.service")
}

#[test]
fn enabling_makes_the_links_that_systemctl_makes() {
    for unit in all().chain(["instance@multi-user.service", "serial-getty@ttyS0.service"]) {
        compare(&|_| {}, "enable", unit, unit.len() % 2 == 0);
    }
}

#[test]
fn disabling_removes_the_links_that_systemctl_removes() {
    for unit in all() {
        let enable = |root: &Path| {
            systemctl(root, "enable", unit);
            systemctl(root, "enable", "systemd-timesyncd.service");
            // Left behind by an older version of the package.
            link(
                root,
                &format!("{CONFIG}/graphical.target.wants/{unit}"),
                &format!("/usr/lib/systemd/system/{unit}"),
            );
            link(root, &format!("{CONFIG}/default.target.requires/{unit}"), "/nowhere/gone.service");
        };
        compare(&enable, "disable", unit, true);
    }
}

#[test]
fn masks_come_and_go_as_with_systemctl() {
    for unit in ["firewalld.service", "qemu-guest-agent.service", "ssh.socket", "chrony.service"] {
        compare(&|_| {}, "mask", unit, true);
        compare(&|root| drop(systemctl(root, "mask", unit)), "unmask", unit, true);
        compare(&|root| drop(systemctl(root, "mask", unit)), "disable", unit, true);
    }
}

#[test]
fn drop_ins_units_from_elsewhere_and_overrides() {
    let prepare = |root: &Path| {
        put(
            root,
            &format!("{CONFIG}/chronyd.service.d/10-early.conf"),
            "[Install]\nWantedBy=sysinit.target\n",
        );
        put(root, &format!("{CONFIG}/rsyslog.service"), "[Install]\nWantedBy=graphical.target\n");
        put(root, "/opt/thing/thing.service", "[Install]\nWantedBy=multi-user.target\n");
        link(root, &format!("{CONFIG}/thing.service"), "/opt/thing/thing.service");
    };
    for unit in ["chronyd.service", "rsyslog.service", "thing.service"] {
        compare(&prepare, "enable", unit, true);
    }
    let enabled = |root: &Path| {
        prepare(root);
        for unit in ["chronyd.service", "rsyslog.service", "thing.service"] {
            systemctl(root, "enable", unit);
        }
    };
    for unit in ["chronyd.service", "rsyslog.service", "thing.service"] {
        compare(&enabled, "disable", unit, true);
    }
}

#[test]
fn what_starts_a_unit_all_the_same_is_found() {
    let root = tree(true);
    put(
        root.path(),
        "/usr/lib/udev/rules.d/99-qga.rules",
        "# SYSTEMD_WANTS}=\"not\"\nSUBSYSTEM==\"virtio-ports\", ENV{SYSTEMD_WANTS}+=\"qemu-guest-agent.service\"\n",
    );
    put(
        root.path(),
        "/usr/share/dbus-1/system-services/org.fedoraproject.FirewallD1.service",
        "[D-BUS Service]\nName=x\nSystemdService=dbus-org.fedoraproject.FirewallD1.service\n",
    );
    put(root.path(), "/usr/lib/systemd/system-generators/cloud-init-generator", "");
    for unit in ["ssh.socket", "cloud-init.service", "fstrim.timer", "firewalld.service"] {
        systemctl(root.path(), "enable", unit);
    }
    let files = memory(root.path());
    let units = Units::new(&files).unwrap();
    let starters =
        |unit: &str| units.starters(unit).unwrap().iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(starters("qemu-guest-agent"), ["started for a device by /usr/lib/udev/rules.d/99-qga.rules"]);
    assert_eq!(
        starters("firewalld"),
        [
            format!("link {CONFIG}/multi-user.target.wants/firewalld.service"),
            "started for a D-Bus name by /usr/share/dbus-1/system-services/org.fedoraproject.FirewallD1.service".into()
        ]
    );
    assert_eq!(starters("ssh.service"), ["started by ssh.socket"]);
    assert_eq!(starters("fstrim"), ["started by fstrim.timer"]);
    assert!(
        units.starts_at_boot("cloud-init").unwrap() && !units.starts_at_boot("qemu-guest-agent").unwrap()
    );
    assert_eq!(starters("chronyd"), [""; 0]);
    // Without its links the D-Bus name leads nowhere.
    systemctl(root.path(), "disable", "firewalld");
    let files = memory(root.path());
    assert_eq!(Units::new(&files).unwrap().starters("firewalld").unwrap(), []);
}
