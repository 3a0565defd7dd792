//! The releases, each with the facts that decide how its installer leaves `/etc` and `/boot`.

/// Kinship, with the generation whose layout the release follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// RHEL and its relatives, by RHEL's major version; Fedora counts as the one branched from it.
    El(u8),
    /// SLES and openSUSE Leap, by major version.
    Suse(u8),
    /// Ubuntu, by year.
    Ubuntu(u8),
    /// Debian, by major version.
    Debian(u8),
}

/// One release of one distribution.
#[derive(Debug, Clone, Copy)]
pub struct Release {
    /// The name of the phony guest.
    pub name: &'static str,
    /// What it descends from.
    pub line: Line,
    /// NAME of os-release.
    pub title: &'static str,
    /// ID; empty when the release has no os-release.
    pub id: &'static str,
    /// ID_LIKE, may be empty.
    pub like: &'static str,
    /// VERSION.
    pub version: &'static str,
    /// VERSION_ID.
    pub version_id: &'static str,
    /// VERSION_CODENAME, may be empty.
    pub codename: &'static str,
    /// PRETTY_NAME.
    pub pretty: &'static str,
    /// The line of redhat-release, or the content of debian_version; empty for others.
    pub line_file: &'static str,
    /// `uname -r` of its kernel.
    pub kver: &'static str,
    /// Has cloud-init and growpart, as its server installer or its own cloud image leaves it.
    pub has_cloud_init: bool,
    /// The hardware clock keeps local time.
    pub has_local_clock: bool,
}

#[allow(clippy::too_many_arguments, reason = "a row of the table below")]
const fn release(
    name: &'static str,
    line: Line,
    os: [&'static str; 7],
    line_file: &'static str,
    kver: &'static str,
    has_cloud_init: bool,
    has_local_clock: bool,
) -> Release {
    let [title, id, like, version, version_id, codename, pretty] = os;
    Release {
        name,
        line,
        title,
        id,
        like,
        version,
        version_id,
        codename,
        pretty,
        line_file,
        kver,
        has_cloud_init,
        has_local_clock,
    }
}

use Line::{Debian, El, Suse, Ubuntu};

const DEBIAN: &str = "Debian GNU/Linux";
const RHEL: &str = "Red Hat Enterprise Linux";

/// Every release, in the order of the golden files.
#[rustfmt::skip]
pub const RELEASES: &[Release] = &[
    release("centos6", El(6), ["CentOS", "", "", "", "", "", ""],
        "CentOS release 6.10 (Final)", "2.6.32-754.el6.x86_64", false, false),
    release("centos7", El(7), ["CentOS Linux", "centos", "rhel fedora", "7 (Core)", "7", "", "CentOS Linux 7 (Core)"],
        "CentOS Linux release 7.9.2009 (Core)", "3.10.0-1160.el7.x86_64", true, true),
    release("centos8", El(8), ["CentOS Linux", "centos", "rhel fedora", "8", "8", "", "CentOS Linux 8"],
        "CentOS Linux release 8.5.2111", "4.18.0-348.el8.x86_64", false, false),
    release("rhel8", El(8), [RHEL, "rhel", "fedora", "8.10 (Ootpa)", "8.10", "", "Red Hat Enterprise Linux 8.10 (Ootpa)"],
        "Red Hat Enterprise Linux release 8.10 (Ootpa)", "4.18.0-553.el8_10.x86_64", true, false),
    release("rhel9", El(9), [RHEL, "rhel", "fedora", "9.5 (Plow)", "9.5", "", "Red Hat Enterprise Linux 9.5 (Plow)"],
        "Red Hat Enterprise Linux release 9.5 (Plow)", "5.14.0-503.11.1.el9_5.x86_64", false, false),
    release("rhel10", El(10), [RHEL, "rhel", "centos fedora", "10.0 (Coughlan)", "10.0", "", "Red Hat Enterprise Linux 10.0 (Coughlan)"],
        "Red Hat Enterprise Linux release 10.0 (Coughlan)", "6.12.0-55.9.1.el10_0.x86_64", true, false),
    release("alinux2", El(7), ["Alibaba Cloud Linux (Aliyun Linux)", "alinux", "rhel fedora centos anolis", "2.1903 LTS (Hunting Beagle)", "2.1903", "", "Alibaba Cloud Linux (Aliyun Linux) 2.1903 LTS (Hunting Beagle)"],
        "Alibaba Cloud Linux (Aliyun Linux) release 2.1903 LTS (Hunting Beagle)", "4.19.91-27.al7.x86_64", true, false),
    release("alinux3", El(8), ["Alibaba Cloud Linux", "alinux", "rhel fedora centos anolis", "3 (OpenAnolis Edition)", "3", "", "Alibaba Cloud Linux 3.2104 U10 (OpenAnolis Edition)"],
        "Alibaba Cloud Linux release 3 (OpenAnolis Edition) ", "5.10.134-16.al8.x86_64", true, false),
    release("anolis8", El(8), ["Anolis OS", "anolis", "rhel fedora centos", "8.9", "8.9", "", "Anolis OS 8.9"],
        "Anolis OS release 8.9", "5.10.134-16.2.an8.x86_64", false, false),
    release("rocky9", El(9), ["Rocky Linux", "rocky", "rhel centos fedora", "9.4 (Blue Onyx)", "9.4", "", "Rocky Linux 9.4 (Blue Onyx)"],
        "Rocky Linux release 9.4 (Blue Onyx)", "5.14.0-427.13.1.el9_4.x86_64", true, false),
    release("alma9", El(9), ["AlmaLinux", "almalinux", "rhel centos fedora", "9.4 (Seafoam Ocelot)", "9.4", "", "AlmaLinux 9.4 (Seafoam Ocelot)"],
        "AlmaLinux release 9.4 (Seafoam Ocelot)", "5.14.0-427.13.1.el9_4.x86_64", false, false),
    release("fedora41", El(10), ["Fedora Linux", "fedora", "", "41 (Server Edition)", "41", "", "Fedora Linux 41 (Server Edition)"],
        "Fedora release 41 (Forty One)", "6.11.4-301.fc41.x86_64", false, false),
    release("opensuse15", Suse(15), ["openSUSE Leap", "opensuse-leap", "suse opensuse", "15.6", "15.6", "", "openSUSE Leap 15.6"],
        "", "6.4.0-150600.21-default", false, false),
    release("sles12", Suse(12), ["SLES", "sles", "suse", "12-SP5", "12.5", "", "SUSE Linux Enterprise Server 12 SP5"],
        "", "4.12.14-120-default", false, false),
    release("sles15", Suse(15), ["SLES", "sles", "suse", "15-SP6", "15.6", "", "SUSE Linux Enterprise Server 15 SP6"],
        "", "6.4.0-150600.21-default", true, true),
    release("ubuntu1604", Ubuntu(16), ["Ubuntu", "ubuntu", "debian", "16.04.7 LTS (Xenial Xerus)", "16.04", "xenial", "Ubuntu 16.04.7 LTS"],
        "stretch/sid", "4.4.0-210-generic", false, false),
    release("ubuntu1804", Ubuntu(18), ["Ubuntu", "ubuntu", "debian", "18.04.6 LTS (Bionic Beaver)", "18.04", "bionic", "Ubuntu 18.04.6 LTS"],
        "buster/sid", "4.15.0-213-generic", true, false),
    release("ubuntu2004", Ubuntu(20), ["Ubuntu", "ubuntu", "debian", "20.04.6 LTS (Focal Fossa)", "20.04", "focal", "Ubuntu 20.04.6 LTS"],
        "bullseye/sid", "5.4.0-216-generic", true, false),
    release("ubuntu2204", Ubuntu(22), ["Ubuntu", "ubuntu", "debian", "22.04.5 LTS (Jammy Jellyfish)", "22.04", "jammy", "Ubuntu 22.04.5 LTS"],
        "bookworm/sid", "5.15.0-130-generic", true, false),
    release("ubuntu2404", Ubuntu(24), ["Ubuntu", "ubuntu", "debian", "24.04.1 LTS (Noble Numbat)", "24.04", "noble", "Ubuntu 24.04.1 LTS"],
        "trixie/sid", "6.8.0-51-generic", true, false),
    release("ubuntu2604", Ubuntu(26), ["Ubuntu", "ubuntu", "debian", "26.04 LTS (Resolute Raccoon)", "26.04", "resolute", "Ubuntu 26.04 LTS"],
        "forky/sid", "7.0.0-14-generic", true, false),
    release("debian9", Debian(9), [DEBIAN, "debian", "", "9 (stretch)", "9", "stretch", "Debian GNU/Linux 9 (stretch)"],
        "9.13", "4.9.0-19-amd64", false, false),
    release("debian10", Debian(10), [DEBIAN, "debian", "", "10 (buster)", "10", "buster", "Debian GNU/Linux 10 (buster)"],
        "10.13", "4.19.0-27-amd64", true, true),
    release("debian11", Debian(11), [DEBIAN, "debian", "", "11 (bullseye)", "11", "bullseye", "Debian GNU/Linux 11 (bullseye)"],
        "11.11", "5.10.0-34-amd64", false, false),
    release("debian12", Debian(12), [DEBIAN, "debian", "", "12 (bookworm)", "12", "bookworm", "Debian GNU/Linux 12 (bookworm)"],
        "12.9", "6.1.0-28-amd64", true, false),
    release("debian12-arm64", Debian(12), [DEBIAN, "debian", "", "12 (bookworm)", "12", "bookworm", "Debian GNU/Linux 12 (bookworm)"],
        "12.9", "6.1.0-28-arm64", true, false),
    release("debian13", Debian(13), [DEBIAN, "debian", "", "13 (trixie)", "13", "trixie", "Debian GNU/Linux 13 (trixie)"],
        "13.1", "6.12.48+deb13-amd64", true, false),
];

impl Release {
    /// RHEL's major version, when the release follows RHEL.
    pub fn el(&self) -> Option<u8> {
        match self.line {
            El(version) => Some(version),
            _ => None,
        }
    }

    /// Fedora, which is ahead of the RHEL that is branched from it.
    pub fn is_fedora(&self) -> bool {
        self.id == "fedora"
    }

    /// Debian or Ubuntu.
    pub fn is_debian_like(&self) -> bool {
        matches!(self.line, Debian(_) | Ubuntu(_))
    }

    /// 64-bit ARM instead of x86.
    pub fn is_arm64(&self) -> bool {
        self.kver.ends_with("-arm64")
    }

    /// `/bin` and `/lib` are links into `/usr` on a new installation.
    pub fn is_usr_merged(&self) -> bool {
        match self.line {
            El(version) => version >= 7,
            Suse(_) => false,
            Ubuntu(year) => year >= 20,
            Debian(version) => version >= 10,
        }
    }

    /// Upstart in RHEL 6, systemd in all others.
    pub fn has_systemd(&self) -> bool {
        self.el() != Some(6)
    }

    /// `Include /etc/ssh/sshd_config.d/*.conf` stands in the shipped sshd_config.
    pub fn has_sshd_include(&self) -> bool {
        match self.line {
            El(version) => version >= 9,
            Suse(version) => version >= 15,
            Ubuntu(year) => year >= 20,
            Debian(version) => version >= 11,
        }
    }

    /// SELinux is installed and enforcing.
    pub fn has_selinux(&self) -> bool {
        // Alibaba's own images come with SELinux disabled.
        self.el().is_some() && self.id != "alinux"
    }

    /// The initramfs is made by dracut.
    pub fn has_dracut(&self) -> bool {
        match self.line {
            El(_) | Suse(_) => true,
            Ubuntu(year) => year >= 26,
            Debian(_) => false,
        }
    }

    /// Path of the initramfs.
    pub fn initramfs(&self) -> String {
        match self.line {
            El(_) => format!("/boot/initramfs-{}.img", self.kver),
            Suse(_) => format!("/boot/initrd-{}", self.kver),
            _ => format!("/boot/initrd.img-{}", self.kver),
        }
    }
}
