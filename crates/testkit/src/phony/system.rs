//! Who the guest is: release files, accounts, packages, clock, fstab, SELinux.

use super::release::{Line, Release};
use super::{ROOT, modules};
use crate::DirFs;

const PASSWORD: &str = "$6$phony$notthehashofanypassword";

pub(super) fn install(release: &Release, guest: &mut DirFs) {
    programs(release, guest);
    release_files(release, guest);
    accounts(release, guest);
    packages(release, guest);
    guest.add_file("/etc/hostname", "old-server\n");
    guest.add_file("/etc/hosts", "127.0.0.1 localhost\n");
    guest.add_file("/etc/resolv.conf", "nameserver 192.0.2.53\n");
    if release.has_systemd() {
        guest.add_file("/etc/machine-id", "0123456789abcdef0123456789abcdef\n");
    }
    let zone = if release.has_local_clock { "LOCAL" } else { "UTC" };
    match release.line {
        Line::El(6) => {
            guest.add_file("/etc/sysconfig/clock", "ZONE=\"Europe/Berlin\"\nUTC=false\n");
            guest.add_file("/etc/adjtime", "0.009 1700000000 0.0\n1700000000\nLOCAL\n");
        }
        _ => {
            guest.add_file("/etc/adjtime", format!("0.0 0 0.0\n0\n{zone}\n"));
        }
    }
    fstab(release, guest);
    if release.has_selinux() {
        selinux(guest);
    }
}

fn programs(release: &Release, guest: &mut DirFs) {
    if release.is_usr_merged() {
        for name in ["bin", "lib", "lib64", "sbin"] {
            guest.add_dir(format!("/usr/{name}"));
            guest.add_symlink(format!("/{name}"), format!("usr/{name}"));
        }
    } else {
        for directory in ["/bin", "/lib", "/sbin", "/usr/bin", "/usr/lib", "/usr/sbin"] {
            guest.add_dir(directory);
        }
    }
    let bin = if release.is_usr_merged() { "/usr/bin" } else { "/bin" };
    guest.add_file(format!("{bin}/sh"), modules::program(release));
    guest.add_file("/usr/bin/passwd", "");
    guest.add_file(if release.is_usr_merged() { "/usr/sbin/sfdisk" } else { "/sbin/sfdisk" }, "");
    match release.has_systemd() {
        true => {
            let systemd = format!("{}/systemd/systemd", release.lib());
            guest.add_file(&systemd, "");
            let init = if release.is_usr_merged() { "/usr/sbin/init" } else { "/sbin/init" };
            guest.add_symlink(init, systemd);
        }
        false => {
            guest.add_file("/sbin/init", "upstart");
            guest.add_file("/sbin/initctl", "");
            guest.add_file("/etc/init/rcS.conf", "start on startup\n");
            guest.add_file("/etc/inittab", "id:3:initdefault:\n");
        }
    }
    for directory in ["/tmp", "/var/log", "/var/lib", "/root", "/home", "/run", "/proc", "/sys", "/dev"] {
        guest.add_dir(directory);
    }
    if release.has_dracut() {
        let dracut = if release.line == Line::El(6) { "/sbin/dracut" } else { "/usr/bin/dracut" };
        guest.add_file(dracut, "#!/bin/bash\n");
        guest.add_file("/etc/dracut.conf", "# PUT YOUR CONFIG IN separate files\n");
        guest.add_dir("/etc/dracut.conf.d");
    } else {
        guest.add_file("/usr/sbin/mkinitramfs", "#!/bin/sh\n");
        guest.add_file("/usr/share/initramfs-tools/init", "#!/bin/sh\n");
        guest.add_file(
            "/etc/initramfs-tools/modules",
            "# List of modules that you want to include in your initramfs.\n",
        );
        guest.add_file("/etc/initramfs-tools/initramfs.conf", "MODULES=dep\n");
    }
}

fn release_files(release: &Release, guest: &mut DirFs) {
    if !release.id.is_empty() {
        let mut text = format!(
            "NAME=\"{}\"\nVERSION=\"{}\"\nID=\"{}\"\nVERSION_ID=\"{}\"\nPRETTY_NAME=\"{}\"\n",
            release.title, release.version, release.id, release.version_id, release.pretty
        );
        if !release.like.is_empty() {
            text.push_str(&format!("ID_LIKE=\"{}\"\n", release.like));
        }
        if !release.codename.is_empty() {
            text.push_str(&format!("VERSION_CODENAME={}\n", release.codename));
        }
        guest.add_file("/usr/lib/os-release", text);
        guest.add_symlink("/etc/os-release", "../usr/lib/os-release");
    }
    let shown = if release.pretty.is_empty() { release.line_file } else { release.pretty };
    guest.add_file("/etc/issue", format!("{shown}\nKernel \\r on an \\m\n\n"));
    match release.line {
        Line::El(_) => {
            guest.add_file("/etc/redhat-release", format!("{}\n", release.line_file));
            guest.add_symlink("/etc/system-release", "redhat-release");
            if release.id == "centos" || release.id.is_empty() {
                guest.add_file("/etc/centos-release", format!("{}\n", release.line_file));
            }
        }
        Line::Debian(_) | Line::Ubuntu(_) => {
            guest.add_file("/etc/debian_version", format!("{}\n", release.line_file));
        }
        Line::Suse(_) => {}
    }
}

fn accounts(release: &Release, guest: &mut DirFs) {
    guest.add_file(
        "/etc/passwd",
        "root:x:0:0:root:/root:/bin/bash\nadmin:x:1000:1000::/home/admin:/bin/bash\n",
    );
    guest.add_file("/etc/group", "root:x:0:\nadmin:x:1000:\n");
    let shadow = format!("root:{PASSWORD}:19000:0:99999:7:::\nadmin:{PASSWORD}:19000:0:99999:7:::\n");
    let mode = if release.el().is_some() { 0o000 } else { 0o640 };
    for name in ["/etc/shadow", "/etc/shadow-"] {
        guest.add_file(name, &shadow);
        guest.set_mode(name, mode);
    }
    guest.add_file("/etc/gshadow", "root:::\nadmin:!::\n");
    guest.set_mode("/etc/gshadow", mode);
    guest.add_file("/root/.bash_history", "passwd\n");
    guest.add_dir("/home/admin");
}

fn packages(release: &Release, guest: &mut DirFs) {
    if !release.is_debian_like() {
        guest.add_file("/var/lib/rpm/Packages", "phony rpm database\n");
        return;
    }
    let mut packages =
        vec![("base-files", "1"), ("openssh-server", release.ssh_package()), ("passwd", "1:4")];
    if release.has_cloud_init {
        packages.extend([("cloud-init", "23.1-0"), ("cloud-guest-utils", "0.33-1")]);
    }
    let status: Vec<String> = packages
        .iter()
        .map(|(name, version)| {
            format!("Package: {name}\nStatus: install ok installed\nArchitecture: all\nVersion: {version}\n")
        })
        .collect();
    guest.add_file("/var/lib/dpkg/status", status.join("\n"));
}

fn fstab(release: &Release, guest: &mut DirFs) {
    let (root, swap) = (release.root_name(), release.swap_name());
    let filesystem = release.root_filesystem();
    let options = match release.line {
        Line::Debian(_) | Line::Ubuntu(_) if filesystem == "ext4" => "errors=remount-ro",
        _ => "defaults",
    };
    let mut text =
        format!("# /etc/fstab: static file system information.\n{root} / {filesystem} {options} 0 1\n");
    if release.is_arm64() {
        text.push_str("UUID=C01D-F175 /boot/efi vfat umask=0077 0 2\n");
        guest.add_dir("/boot/efi");
    } else {
        text.push_str(&format!("{swap} none swap sw 0 0\n"));
    }
    if release.line == Line::El(6) {
        text.push_str("tmpfs /dev/shm tmpfs defaults 0 0\n");
    }
    guest.add_file("/etc/fstab", text);
}

/// A policy of a few lines in the form of the targeted policy.
fn selinux(guest: &mut DirFs) {
    guest.add_file("/etc/selinux/config", "SELINUX=enforcing\nSELINUXTYPE=targeted\n");
    let contexts = "/etc/selinux/targeted/contexts/files/file_contexts";
    let rules = [
        ("/.*", "default_t"),
        ("/etc(/.*)?", "etc_t"),
        ("/etc/ssh(/.*)?", "etc_t"),
        ("/etc/cloud(/.*)?", "etc_t"),
        ("/etc/sysconfig/network-scripts(/.*)?", "net_conf_t"),
        ("/etc/NetworkManager(/.*)?", "NetworkManager_etc_t"),
        ("/etc/NetworkManager/system-connections(/.*)?", "NetworkManager_etc_rw_t"),
        ("/etc/dracut\\.conf\\.d(/.*)?", "dracut_etc_t"),
        ("/etc/systemd/system(/.*)?", "systemd_unit_file_t"),
        ("/etc/adjtime", "adjtime_t"),
        ("/boot(/.*)?", "boot_t"),
        ("/usr(/.*)?", "usr_t"),
        ("/var(/.*)?", "var_t"),
        ("/root(/.*)?", "admin_home_t"),
    ];
    let text: String =
        rules.iter().map(|(pattern, kind)| format!("{pattern}\tsystem_u:object_r:{kind}:s0\n")).collect();
    guest.add_file(contexts, text);
}

impl Release {
    /// The filesystem that the installer makes for root.
    pub fn root_filesystem(&self) -> &'static str {
        match self.line {
            Line::El(7..) | Line::Suse(15) => "xfs",
            _ => "ext4",
        }
    }

    /// Version of OpenSSH.
    pub(super) fn openssh(&self) -> &'static str {
        match self.line {
            Line::El(6) => "5.3p1",
            Line::El(7) => "7.4p1",
            Line::El(8) => "8.0p1",
            Line::El(9) => "8.7p1",
            Line::El(_) => "9.9p1",
            Line::Suse(12) => "7.2p2",
            Line::Suse(_) => "9.6p1",
            Line::Ubuntu(16) => "7.2p2",
            Line::Ubuntu(18) => "7.6p1",
            Line::Ubuntu(20) => "8.2p1",
            Line::Ubuntu(22) => "8.9p1",
            Line::Ubuntu(24) => "9.6p1",
            Line::Ubuntu(_) => "10.0p1",
            Line::Debian(9) => "7.4p1",
            Line::Debian(10) => "7.9p1",
            Line::Debian(11) => "8.4p1",
            Line::Debian(12) => "9.2p1",
            Line::Debian(_) => "10.0p1",
        }
    }

    fn ssh_package(&self) -> &'static str {
        // dpkg's epoch and revision around the same number.
        match self.openssh() {
            "7.2p2" => "1:7.2p2-4ubuntu2.10",
            "7.4p1" => "1:7.4p1-10+deb9u7",
            "7.6p1" => "1:7.6p1-4ubuntu0.7",
            "7.9p1" => "1:7.9p1-10+deb10u2",
            "8.2p1" => "1:8.2p1-4ubuntu0.13",
            "8.4p1" => "1:8.4p1-5+deb11u5",
            "8.9p1" => "1:8.9p1-3ubuntu0.14",
            "9.2p1" => "1:9.2p1-2+deb12u7",
            "9.6p1" => "1:9.6p1-3ubuntu13.14",
            _ => "1:10.0p1-7",
        }
    }

    /// UUID of root as arguments name it, or its device.
    pub(super) fn root_argument(&self) -> String {
        match self.line {
            Line::El(6) | Line::Suse(12) | Line::Debian(9) => format!("root={}", self.root_device()),
            _ => format!("root=UUID={ROOT}"),
        }
    }
}
