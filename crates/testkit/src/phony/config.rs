//! SSH server, kernel settings, time, message of the day, pip, leftovers.

use super::release::{Line, Release};
use crate::DirFs;

pub(super) fn install(release: &Release, guest: &mut DirFs) {
    sshd(release, guest);
    sysctl(release, guest);
    time(release, guest);
    match release.line {
        Line::Debian(_) => {
            guest.add_file("/etc/motd", "\nThe programs included with the system are free software.\n");
        }
        // pam_motd shows what is made at each login.
        Line::Ubuntu(_) => {
            guest.add_symlink("/etc/motd", "/run/motd.dynamic");
            guest.add_file("/etc/update-motd.d/00-header", "#!/bin/sh\n");
        }
        _ => {
            guest.add_file("/etc/motd", "");
        }
    }
    if matches!(release.name, "centos7" | "debian12" | "ubuntu2204") {
        guest.add_file(
            "/root/.pip/pip.conf",
            "[global]\ntimeout = 60\nindex-url = http://index.old.example/simple\n",
        );
    }
    if release.is_debian_like() {
        guest.add_file("/etc/initramfs-tools/conf.d/resume", format!("RESUME=UUID={}\n", super::SWAP));
        guest.add_file("/var/lib/dhcp/dhclient.eth0.leases", "lease {\n}\n");
    }
    if release.el().is_some() {
        guest.add_file("/root/anaconda-ks.cfg", "lang en_US.UTF-8\n");
    }
}

fn sshd(release: &Release, guest: &mut DirFs) {
    let include = "Include /etc/ssh/sshd_config.d/*.conf\n";
    let text = match release.line {
        Line::El(6..=8) => "#Port 22\n#AddressFamily any\nHostKey /etc/ssh/ssh_host_rsa_key\nSyslogFacility AUTHPRIV\n#PermitRootLogin yes\nPasswordAuthentication yes\nChallengeResponseAuthentication no\nGSSAPIAuthentication yes\nUsePAM yes\nX11Forwarding yes\n#UseDNS yes\nAcceptEnv LANG LC_CTYPE\nSubsystem sftp /usr/libexec/openssh/sftp-server\n".to_owned(),
        Line::El(_) => format!("{include}\n#Port 22\n#AddressFamily any\n#PermitRootLogin prohibit-password\nAuthorizedKeysFile .ssh/authorized_keys\n#PasswordAuthentication yes\n#UseDNS no\nSubsystem sftp /usr/libexec/openssh/sftp-server\n"),
        Line::Suse(_) if release.has_sshd_include() => format!("{include}\n#Port 22\nAuthorizedKeysFile .ssh/authorized_keys\n#PermitRootLogin yes\nUsePAM yes\nX11Forwarding yes\nSubsystem sftp /usr/lib/ssh/sftp-server\n"),
        Line::Suse(_) => "#Port 22\nAuthorizedKeysFile .ssh/authorized_keys\nPasswordAuthentication no\nUsePAM yes\nX11Forwarding yes\nSubsystem sftp /usr/lib/ssh/sftp-server\n".to_owned(),
        Line::Ubuntu(16) => "Port 22\nProtocol 2\nHostKey /etc/ssh/ssh_host_rsa_key\nSyslogFacility AUTH\nLogLevel INFO\nPermitRootLogin prohibit-password\nStrictModes yes\nUsePAM yes\nX11Forwarding yes\nSubsystem sftp /usr/lib/openssh/sftp-server\n".to_owned(),
        _ => format!("{}\n#Port 22\n#AddressFamily any\n#SyslogFacility AUTH\n#PermitRootLogin prohibit-password\n#PasswordAuthentication yes\nKbdInteractiveAuthentication no\nUsePAM yes\nX11Forwarding yes\n#UseDNS no\nAcceptEnv LANG LC_*\nSubsystem sftp /usr/lib/openssh/sftp-server\n", if release.has_sshd_include() { include } else { "" }),
    };
    guest.add_file("/etc/ssh/sshd_config", text);
    if !release.has_sshd_include() {
        return;
    }
    guest.add_dir("/etc/ssh/sshd_config.d");
    match release.line {
        Line::El(9..) => {
            let text = "SyslogFacility AUTHPRIV\nChallengeResponseAuthentication no\nUsePAM yes\nX11Forwarding yes\nPrintMotd no\n";
            guest.add_file("/etc/ssh/sshd_config.d/50-redhat.conf", text);
            guest.add_file("/etc/ssh/sshd_config.d/01-permitrootlogin.conf", "PermitRootLogin yes\n");
        }
        Line::Ubuntu(20..) if release.has_cloud_init => {
            guest.add_file("/etc/ssh/sshd_config.d/50-cloud-init.conf", "PasswordAuthentication yes\n");
        }
        _ => {}
    }
}

fn sysctl(release: &Release, guest: &mut DirFs) {
    let default =
        format!("{}/sysctl.d/50-default.conf", if release.is_usr_merged() { "/usr/lib" } else { "/lib" });
    match release.line {
        Line::El(6) => {
            let text = "net.ipv4.ip_forward = 0\nnet.ipv4.conf.default.rp_filter = 1\nnet.ipv4.conf.default.accept_source_route = 0\nkernel.sysrq = 0\nkernel.core_uses_pid = 1\nnet.ipv4.tcp_syncookies = 1\n";
            guest.add_file("/etc/sysctl.conf", text);
        }
        Line::El(_) => {
            guest.add_file("/etc/sysctl.conf", "# sysctl settings are defined through files in\n# /usr/lib/sysctl.d/, /run/sysctl.d/, and /etc/sysctl.d/.\n");
            guest.add_symlink("/etc/sysctl.d/99-sysctl.conf", "../sysctl.conf");
            guest.add_file("/usr/lib/sysctl.d/50-default.conf", "kernel.sysrq = 16\nkernel.core_uses_pid = 1\nnet.ipv4.conf.default.rp_filter = 2\nnet.ipv4.conf.*.rp_filter = 2\n-net.ipv4.conf.all.rp_filter\n");
            // What an administrator left: it is read after 99-sysctl.conf.
            if release.name == "rhel9" {
                guest.add_file(
                    "/etc/sysctl.d/99-zz-tuning.conf",
                    "vm.swappiness = 60\nnet.ipv4.tcp_max_tw_buckets = 262144\n",
                );
            }
        }
        Line::Suse(_) => {
            guest.add_file("/etc/sysctl.conf", "# /etc/sysctl.conf is meant for local sysctl settings\n");
            guest.add_file(
                default,
                "net.ipv4.icmp_echo_ignore_broadcasts = 1\nnet.ipv4.conf.all.rp_filter = 2\n",
            );
            guest.add_file("/etc/sysctl.d/70-yast.conf", "net.ipv4.ip_forward = 0\nkernel.sysrq = 184\n");
        }
        Line::Debian(13..) => {
            guest.add_file(default, "kernel.sysrq = 0x01b6\nnet.ipv4.conf.default.rp_filter = 2\n");
            guest.add_dir("/etc/sysctl.d");
        }
        _ => {
            guest.add_file("/etc/sysctl.conf", "#\n# /etc/sysctl.conf - Configuration file for setting system variables\n#\n#net.ipv4.tcp_syncookies=1\n#kernel.sysrq=438\n");
            guest.add_symlink("/etc/sysctl.d/99-sysctl.conf", "../sysctl.conf");
            if release.is_debian_like() && matches!(release.line, Line::Ubuntu(_)) {
                guest.add_file("/etc/sysctl.d/10-magic-sysrq.conf", "kernel.sysrq = 176\n");
                guest.add_file(
                    "/etc/sysctl.d/10-network-security.conf",
                    "net.ipv4.conf.default.rp_filter=2\nnet.ipv4.conf.all.rp_filter=2\n",
                );
            }
        }
    }
    if release.el() == Some(6) {
        guest.add_file("/sbin/sysctl", "");
    }
}

fn time(release: &Release, guest: &mut DirFs) {
    let chrony = |pool: &str| {
        format!(
            "# Use public servers from the pool.ntp.org project.\npool {pool} iburst\ndriftfile /var/lib/chrony/drift\nmakestep 1.0 3\nrtcsync\nkeyfile /etc/chrony.keys\nleapsectz right/UTC\nlogdir /var/log/chrony\n"
        )
    };
    match release.line {
        Line::El(6) => {
            guest.add_file("/etc/ntp.conf", "driftfile /var/lib/ntp/drift\nrestrict default kod nomodify notrap nopeer noquery\nrestrict 127.0.0.1\nserver 0.centos.pool.ntp.org iburst\nserver 1.centos.pool.ntp.org iburst\nincludefile /etc/ntp/crypto/pw\nkeys /etc/ntp/keys\n");
        }
        Line::Suse(12) => {
            guest.add_file("/etc/ntp.conf", "driftfile /var/lib/ntp/drift/ntp.drift\nlogfile /var/log/ntp\nkeys /etc/ntp.keys\nrestrict default nomodify notrap nopeer noquery\nrestrict 127.0.0.1\nserver 0.suse.pool.ntp.org iburst\n");
        }
        Line::Suse(_) => {
            guest.add_file("/etc/chrony.conf", "driftfile /var/lib/chrony/drift\nmakestep 1.0 3\nrtcsync\nkeyfile /etc/chrony.keys\nlogdir /var/log/chrony\ninclude /etc/chrony.d/*.conf\n");
            guest.add_file("/etc/chrony.d/pool.conf", "pool 2.suse.pool.ntp.org iburst\n");
        }
        Line::El(_) => {
            guest.add_file("/etc/chrony.conf", chrony("2.rhel.pool.ntp.org"));
        }
        Line::Debian(11) | Line::Ubuntu(16) => {
            guest.add_file("/etc/ntp.conf", "driftfile /var/lib/ntp/ntp.drift\npool 0.debian.pool.ntp.org iburst\npool 1.debian.pool.ntp.org iburst\nrestrict -4 default kod notrap nomodify nopeer noquery limited\nrestrict 127.0.0.1\nrestrict ::1\n");
        }
        Line::Debian(12) => {
            guest.add_file("/etc/chrony/chrony.conf", "confdir /etc/chrony/conf.d\npool 2.debian.pool.ntp.org iburst\nsourcedir /run/chrony-dhcp\nsourcedir /etc/chrony/sources.d\nkeyfile /etc/chrony/chrony.keys\ndriftfile /var/lib/chrony/chrony.drift\nntsdumpdir /var/lib/chrony\nlogdir /var/log/chrony\nmaxupdateskew 100.0\nrtcsync\nmakestep 1 3\nleapsectz right/UTC\n");
            guest.add_file("/etc/chrony/conf.d/README", "Add *.conf files here.\n");
        }
        _ => {
            guest.add_file("/etc/systemd/timesyncd.conf", "[Time]\n#NTP=\n#FallbackNTP=ntp.ubuntu.com\n");
        }
    }
}
