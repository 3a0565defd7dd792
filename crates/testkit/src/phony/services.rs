//! Services with the links that enable them, as each release's packages leave them.

use super::release::{Line, Release};
use crate::DirFs;

pub(super) fn install(release: &Release, guest: &mut DirFs) {
    if !release.has_systemd() {
        return upstart(guest);
    }
    let mut units = Units { guest, unit_folder: format!("{}/systemd/system", release.lib()) };
    units.put("multi-user.target", "[Unit]\nDescription=Multi-User System\n", &[]);
    ssh(release, &mut units);
    time(release, &mut units);
    network(release, &mut units);
    firewall(release, &mut units);
    guest_agent(release, &mut units);
    if release.has_cloud_init {
        cloud_init(release, &mut units);
    }
}

struct Units<'g> {
    guest: &'g mut DirFs,
    unit_folder: String,
}

impl Units<'_> {
    /// A unit file, and links to it below `/etc/systemd/system`.
    fn put(&mut self, name: &str, text: &str, links: &[&str]) {
        let path = format!("{}/{name}", self.unit_folder);
        self.guest.add_file(&path, text);
        for link in links {
            self.guest.add_symlink(format!("/etc/systemd/system/{link}"), &path);
        }
    }

    /// A service that `multi-user.target` wants.
    fn enabled(&mut self, name: &str, program: &str, more: &str) {
        self.service(name, program, more, &[&format!("multi-user.target.wants/{name}.service")]);
    }

    fn service(&mut self, name: &str, program: &str, more: &str, links: &[&str]) {
        let text = format!(
            "[Unit]\nDescription={name}\n\n[Service]\nExecStart={program}\n\n[Install]\nWantedBy=multi-user.target\n{more}"
        );
        self.put(&format!("{name}.service"), &text, links);
        self.guest.add_file(program, "");
    }
}

fn ssh(release: &Release, units: &mut Units<'_>) {
    let greeting = format!("phony program\0OpenSSH_{}\0", release.openssh());
    match release.line {
        Line::Ubuntu(24..) => {
            // Started by its socket since 22.10.
            units.service("ssh", "/usr/sbin/sshd", "Alias=sshd.service\n", &[]);
            let socket = "[Unit]\nDescription=OpenBSD Secure Shell server socket\n\n[Socket]\nListenStream=0.0.0.0:22\nAccept=no\n\n[Install]\nWantedBy=sockets.target\nRequiredBy=ssh.service\n";
            units.put(
                "ssh.socket",
                socket,
                &["sockets.target.wants/ssh.socket", "ssh.service.requires/ssh.socket"],
            );
        }
        Line::Ubuntu(_) | Line::Debian(_) => {
            let links = ["multi-user.target.wants/ssh.service", "sshd.service"];
            units.service("ssh", "/usr/sbin/sshd", "Alias=sshd.service\n", &links);
        }
        _ => units.enabled("sshd", "/usr/sbin/sshd", ""),
    }
    units.guest.add_file("/usr/sbin/sshd", greeting);
    if release.el().is_some() {
        let text = "[Unit]\nDescription=OpenSSH %i Server Key Generation\nConditionFileNotEmpty=|!/etc/ssh/ssh_host_%i_key\n\n[Service]\nType=oneshot\nExecStart=/usr/libexec/openssh/sshd-keygen %i\n";
        units.put("sshd-keygen@.service", text, &[]);
    }
    for kind in ["rsa", "ed25519"] {
        let key = format!("/etc/ssh/ssh_host_{kind}_key");
        units.guest.add_file(&key, "-----BEGIN OPENSSH PRIVATE KEY-----\n");
        units.guest.set_mode(&key, 0o600);
        units.guest.add_file(format!("{key}.pub"), format!("ssh-{kind} AAAA old-server\n"));
    }
}

fn time(release: &Release, units: &mut Units<'_>) {
    match release.line {
        Line::Suse(12) => units.enabled("ntpd", "/usr/sbin/ntpd", ""),
        Line::El(_) | Line::Suse(_) => units.enabled("chronyd", "/usr/sbin/chronyd", ""),
        Line::Debian(11) | Line::Ubuntu(16) => units.enabled("ntp", "/usr/sbin/ntpd", ""),
        Line::Debian(12) => {
            let links = ["multi-user.target.wants/chrony.service", "chronyd.service"];
            units.service("chrony", "/usr/sbin/chronyd", "Alias=chronyd.service\n", &links);
        }
        Line::Debian(_) | Line::Ubuntu(_) => {
            let program = format!("{}/systemd/systemd-timesyncd", release.lib());
            let text = format!(
                "[Unit]\nDescription=Network Time Synchronization\n\n[Service]\nExecStart={program}\n\n[Install]\n\
                 WantedBy=sysinit.target\nAlias=dbus-org.freedesktop.timesync1.service\n"
            );
            let links =
                ["sysinit.target.wants/systemd-timesyncd.service", "dbus-org.freedesktop.timesync1.service"];
            units.put("systemd-timesyncd.service", &text, &links);
            units.guest.add_file(program, "");
        }
    }
}

fn network(release: &Release, units: &mut Units<'_>) {
    match release.line {
        Line::El(_) => {
            let more =
                "Alias=dbus-org.freedesktop.NetworkManager.service\nAlso=NetworkManager-dispatcher.service\n";
            units.enabled("NetworkManager", "/usr/sbin/NetworkManager", more);
            units
                .guest
                .add_file("/etc/NetworkManager/NetworkManager.conf", "[main]\n#plugins=keyfile,ifcfg-rh\n");
        }
        Line::Suse(_) => {
            let text = "[Unit]\nDescription=wicked managed network interfaces\n\n[Service]\nExecStart=/usr/sbin/wicked ifup all\n\n[Install]\nWantedBy=network-online.target\nAlias=network.service\n";
            units.put(
                "wicked.service",
                text,
                &["network.service", "network-online.target.wants/wicked.service"],
            );
        }
        Line::Ubuntu(18..) | Line::Debian(13..) => {
            let program = format!("{}/systemd/systemd-networkd", release.lib());
            let more = "Alias=dbus-org.freedesktop.network1.service\n";
            let links =
                ["multi-user.target.wants/systemd-networkd.service", "dbus-org.freedesktop.network1.service"];
            units.service("systemd-networkd", &program, more, &links);
        }
        Line::Ubuntu(_) | Line::Debian(_) => {
            let text = "[Unit]\nDescription=Raise network interfaces\n\n[Service]\nType=oneshot\nExecStart=/sbin/ifup -a --read-environment\n\n[Install]\nWantedBy=multi-user.target\nWantedBy=network-online.target\n";
            let links = [
                "multi-user.target.wants/networking.service",
                "network-online.target.wants/networking.service",
            ];
            units.put("networking.service", text, &links);
        }
    }
}

fn firewall(release: &Release, units: &mut Units<'_>) {
    if !matches!(release.line, Line::El(_) | Line::Suse(15)) || release.id == "alinux" {
        return;
    }
    let more = "Alias=dbus-org.fedoraproject.FirewallD1.service\n";
    let links = ["multi-user.target.wants/firewalld.service", "dbus-org.fedoraproject.FirewallD1.service"];
    units.service("firewalld", "/usr/sbin/firewalld", more, &links);
}

/// Started by its device: by a link on Red Hat's side, by a udev rule on Debian's.
fn guest_agent(release: &Release, units: &mut Units<'_>) {
    const DEVICE: &str = "dev-virtio\\x2dports-org.qemu.guest_agent.0.device";
    match release.line {
        Line::El(_) => {
            let text = format!(
                "[Unit]\nDescription=QEMU Guest Agent\nBindsTo={DEVICE}\nAfter={DEVICE}\n\n[Service]\n\
                 ExecStart=/usr/bin/qemu-ga\n\n[Install]\nWantedBy={DEVICE}\n"
            );
            units.put(
                "qemu-guest-agent.service",
                &text,
                &[&format!("{DEVICE}.wants/qemu-guest-agent.service")],
            );
            units.guest.add_file("/usr/bin/qemu-ga", "");
        }
        Line::Debian(_) => {
            let text = format!(
                "[Unit]\nDescription=QEMU Guest Agent\nBindsTo={DEVICE}\nAfter={DEVICE}\n\n[Service]\nExecStart=/usr/sbin/qemu-ga\n"
            );
            units.put("qemu-guest-agent.service", &text, &[]);
            let rule = "SUBSYSTEM==\"virtio-ports\", ATTR{name}==\"org.qemu.guest_agent.0\", TAG+=\"systemd\" ENV{SYSTEMD_WANTS}=\"qemu-guest-agent.service\"\n";
            units.guest.add_file(format!("{}/udev/rules.d/60-qemu-guest-agent.rules", release.lib()), rule);
            units.guest.add_file("/usr/sbin/qemu-ga", "");
        }
        _ => {}
    }
}

fn cloud_init(release: &Release, units: &mut Units<'_>) {
    let target = match release.line {
        Line::El(7) | Line::Suse(12) => "multi-user.target",
        _ => "cloud-init.target",
    };
    for name in ["cloud-init-local", "cloud-init", "cloud-config", "cloud-final"] {
        let text = format!(
            "[Unit]\nDescription={name}\n\n[Service]\nType=oneshot\nExecStart=/usr/bin/cloud-init\n\n[Install]\nWantedBy={target}\n"
        );
        let link = format!("{target}.wants/{name}.service");
        units.put(&format!("{name}.service"), &text, &[&link]);
    }
    if target == "cloud-init.target" {
        units.put(
            "cloud-init.target",
            "[Unit]\nDescription=Cloud-init target\nAfter=multi-user.target\n",
            &[],
        );
        units.guest.add_file(format!("{}/systemd/system-generators/cloud-init-generator", release.lib()), "");
    }
    units.guest.add_file("/usr/bin/cloud-init", "#!/usr/bin/python3\n");
    units.guest.add_file("/usr/bin/growpart", "#!/bin/sh\n");
    let (folder, version) = match release.line {
        Line::El(7) => ("/usr/lib/python2.7/site-packages", "19.4"),
        Line::El(8) => ("/usr/lib/python3.6/site-packages", "23.4"),
        Line::El(_) => ("/usr/lib/python3.9/site-packages", "24.1"),
        Line::Suse(_) => ("/usr/lib/python3.6/site-packages", "23.3"),
        Line::Debian(10) => ("/usr/lib/python3/dist-packages", "20.2"),
        _ => ("/usr/lib/python3/dist-packages", "23.1"),
    };
    let text = format!("__VERSION__ = \"{version}\"\n_PACKAGED_VERSION = \"{version}\"\n");
    units.guest.add_file(format!("{folder}/cloudinit/version.py"), text);
    let config = "users:\n   - default\ndisable_root: true\nssh_pwauth: false\npreserve_hostname: false\n\
                  cloud_init_modules:\n - seed_random\n - bootcmd\n - growpart\n - resizefs\n - ssh\n\
                  cloud_config_modules:\n - runcmd\ncloud_final_modules:\n - final-message\n\
                  system_info:\n   distro: phony\n   default_user:\n     name: cloud-user\n     lock_passwd: True\n";
    units.guest.add_file("/etc/cloud/cloud.cfg", config);
    if release.is_debian_like() {
        let text = "# to update this file, run dpkg-reconfigure cloud-init\ndatasource_list: [ NoCloud, ConfigDrive, OpenStack, Ec2, None ]\n";
        units.guest.add_file("/etc/cloud/cloud.cfg.d/90_dpkg.cfg", text);
    }
    units.guest.add_file("/var/lib/cloud/instance/boot-finished", "old\n");
    units.guest.add_file("/var/lib/cloud/data/instance-id", "iid-old\n");
    units.guest.add_file("/var/log/cloud-init.log", "old\n");
}

/// CentOS 6: System V scripts with runlevel links, Upstart jobs beside them.
fn upstart(guest: &mut DirFs) {
    for (name, start, stop, program) in [
        ("sshd", 55, 25, "/usr/sbin/sshd"),
        ("ntpd", 58, 74, "/usr/sbin/ntpd"),
        ("iptables", 8, 92, "/sbin/iptables"),
        ("network", 10, 90, "/sbin/ifup"),
        ("qemu-ga", 90, 20, "/usr/bin/qemu-ga"),
    ] {
        let text = format!(
            "#!/bin/bash\n#\n# {name}\n#\n# chkconfig: 2345 {start:02} {stop:02}\n# description: {name}\n#\n\
             ### BEGIN INIT INFO\n# Provides: {name}\n# Default-Start: 2 3 4 5\n# Default-Stop: 0 1 6\n### END INIT INFO\n"
        );
        let path = format!("/etc/rc.d/init.d/{name}");
        guest.add_file(&path, text);
        guest.set_mode(&path, 0o755);
        guest.add_file(program, if name == "sshd" { "phony program\0OpenSSH_5.3p1\0" } else { "" });
        for level in 0..=6 {
            let link = match level {
                2..=5 => format!("S{start:02}{name}"),
                _ => format!("K{stop:02}{name}"),
            };
            guest.add_symlink(format!("/etc/rc.d/rc{level}.d/{link}"), format!("../init.d/{name}"));
        }
    }
    guest.add_symlink("/etc/init.d", "rc.d/init.d");
    for level in 0..=6 {
        guest.add_symlink(format!("/etc/rc{level}.d"), format!("rc.d/rc{level}.d"));
    }
    for name in ["/etc/ssh/ssh_host_rsa_key", "/etc/ssh/ssh_host_key"] {
        guest.add_file(name, "old key\n");
        guest.set_mode(name, 0o600);
        guest.add_file(format!("{name}.pub"), "old key\n");
    }
}
