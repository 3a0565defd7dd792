//! Programs that rules ask for, found by their files; nothing is run.

use vfs::{GuestTree, VfsError};

use crate::dpkg::dpkg_version;
use crate::reading::{Reader, path};
use crate::version::compare_versions;

/// Where Python looks for modules below `pythonX.Y` or `python3`.
const PYTHON_ROOTS: [&str; 4] = ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64"];
/// Largest `cloudinit/version.py`; real ones have a few hundred bytes.
const VERSION_FILE_MAX: u64 = 64 << 10;
/// Largest program that is searched for its version.
const PROGRAM_MAX: u64 = 32 << 20;

/// A program, daemon or agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Program {
    /// cloud-init.
    CloudInit,
    /// growpart of cloud-utils.
    Growpart,
    /// Alibaba's Cloud Assistant.
    CloudAssistant,
    /// Alibaba's Security Center agent.
    SecurityCenter,
    /// The program that changes passwords.
    Passwd,
    /// OpenSSH's server.
    Sshd,
    /// QEMU's guest agent.
    QemuGuestAgent,
    /// chronyd.
    Chrony,
    /// The reference ntpd.
    Ntp,
    /// ntpsec's ntpd.
    Ntpsec,
    /// systemd-timesyncd.
    Timesyncd,
    /// firewalld.
    Firewalld,
    /// NetworkManager.
    NetworkManager,
    /// netplan's generator.
    Netplan,
    /// systemd-networkd.
    Networkd,
    /// Debian's ifupdown, ifupdown2 or ifupdown-ng.
    Ifupdown,
    /// wicked.
    Wicked,
    /// The `network` service of RHEL's initscripts with its ifcfg files.
    NetworkScripts,
    /// sfdisk of util-linux.
    Sfdisk,
    /// sgdisk of gdisk.
    Sgdisk,
}

/// A program that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// File by which it was found.
    pub file: String,
    /// Its version, where a file tells it.
    pub version: Option<String>,
    /// File or package that tells the version.
    pub version_source: Option<String>,
}

impl Program {
    /// All of them.
    pub const ALL: [Program; 20] = [
        Program::CloudInit,
        Program::Growpart,
        Program::CloudAssistant,
        Program::SecurityCenter,
        Program::Passwd,
        Program::Sshd,
        Program::QemuGuestAgent,
        Program::Chrony,
        Program::Ntp,
        Program::Ntpsec,
        Program::Timesyncd,
        Program::Firewalld,
        Program::NetworkManager,
        Program::Netplan,
        Program::Networkd,
        Program::Ifupdown,
        Program::Wicked,
        Program::NetworkScripts,
        Program::Sfdisk,
        Program::Sgdisk,
    ];

    /// Short name, as profiles write it.
    pub fn name(self) -> &'static str {
        match self {
            Program::CloudInit => "cloud-init",
            Program::Growpart => "growpart",
            Program::CloudAssistant => "cloud-assistant",
            Program::SecurityCenter => "security-center",
            Program::Passwd => "passwd",
            Program::Sshd => "sshd",
            Program::QemuGuestAgent => "qemu-guest-agent",
            Program::Chrony => "chrony",
            Program::Ntp => "ntp",
            Program::Ntpsec => "ntpsec",
            Program::Timesyncd => "systemd-timesyncd",
            Program::Firewalld => "firewalld",
            Program::NetworkManager => "network-manager",
            Program::Netplan => "netplan",
            Program::Networkd => "systemd-networkd",
            Program::Ifupdown => "ifupdown",
            Program::Wicked => "wicked",
            Program::NetworkScripts => "network-scripts",
            Program::Sfdisk => "sfdisk",
            Program::Sgdisk => "sgdisk",
        }
    }

    /// The program of this name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|program| program.name() == name)
    }

    /// The program that this file shows.
    pub fn at(file: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|program| program.files().contains(&file))
    }

    /// Files of which one is enough.
    fn files(self) -> &'static [&'static str] {
        match self {
            Program::CloudInit => &["/usr/bin/cloud-init", "/usr/local/bin/cloud-init"],
            Program::Growpart => &["/usr/bin/growpart", "/usr/sbin/growpart", "/usr/local/bin/growpart"],
            Program::CloudAssistant => &[],
            Program::SecurityCenter => &["/usr/local/aegis/aegis_client"],
            Program::Passwd => &["/usr/bin/passwd", "/bin/passwd"],
            Program::Sshd => &["/usr/sbin/sshd", "/usr/bin/sshd"],
            Program::QemuGuestAgent => &["/usr/sbin/qemu-ga", "/usr/bin/qemu-ga"],
            Program::Chrony => &["/usr/sbin/chronyd", "/usr/bin/chronyd"],
            Program::Ntp | Program::Ntpsec => &["/usr/sbin/ntpd", "/usr/bin/ntpd"],
            Program::Timesyncd => &["/lib/systemd/systemd-timesyncd", "/usr/lib/systemd/systemd-timesyncd"],
            Program::Firewalld => &["/usr/sbin/firewalld", "/usr/bin/firewalld"],
            Program::NetworkManager => &["/usr/sbin/NetworkManager", "/usr/bin/NetworkManager"],
            Program::Netplan => {
                &["/usr/sbin/netplan", "/usr/libexec/netplan/generate", "/lib/netplan/generate"]
            }
            Program::Networkd => &["/lib/systemd/systemd-networkd", "/usr/lib/systemd/systemd-networkd"],
            // `ifup` alone is also a script of RHEL's initscripts and of wicked.
            Program::Ifupdown => &[
                "/sbin/ifquery",
                "/usr/sbin/ifquery",
                "/lib/ifupdown/settle-dad.sh",
                "/usr/share/ifupdown2/__main__.py",
            ],
            Program::Wicked => &["/usr/sbin/wickedd", "/usr/sbin/wicked"],
            Program::NetworkScripts => &["/etc/init.d/network", "/etc/rc.d/init.d/network"],
            Program::Sfdisk => &["/usr/sbin/sfdisk", "/sbin/sfdisk", "/usr/bin/sfdisk"],
            Program::Sgdisk => &["/usr/sbin/sgdisk", "/sbin/sgdisk", "/usr/bin/sgdisk"],
        }
    }

    /// Package of Debian and Ubuntu whose version is the program's.
    fn dpkg_package(self) -> Option<&'static str> {
        Some(match self {
            Program::CloudInit => "cloud-init",
            Program::Growpart => "cloud-guest-utils",
            Program::CloudAssistant => "aliyun-assist",
            Program::Passwd => "passwd",
            Program::Sshd => "openssh-server",
            Program::QemuGuestAgent => "qemu-guest-agent",
            Program::Chrony => "chrony",
            Program::Ntp => "ntp",
            Program::Ntpsec => "ntpsec",
            Program::Firewalld => "firewalld",
            Program::NetworkManager => "network-manager",
            Program::Netplan => "netplan.io",
            Program::Ifupdown => "ifupdown",
            Program::Sfdisk => "fdisk",
            Program::Sgdisk => "gdisk",
            _ => return None,
        })
    }
}

/// Looks for a program; `None` when its files are not there. What dpkg says counts for the version alone, since
/// its database outlives files that somebody deleted.
pub fn find_program(tree: &GuestTree, program: Program) -> Result<Option<Installed>, VfsError> {
    let mut reader = Reader::new(tree);
    let mut file = None;
    for candidate in program.files() {
        if file.is_none() && reader.exists(candidate)? {
            file = Some((*candidate).to_owned());
        }
    }
    let is_ntpd = matches!(program, Program::Ntp | Program::Ntpsec);
    if program == Program::CloudAssistant {
        return cloud_assistant(&mut reader);
    }
    if is_ntpd && is_ntpsec(&reader)? != (program == Program::Ntpsec) {
        return Ok(None);
    }
    let Some(file) = file else { return Ok(None) };
    let own = match program {
        Program::CloudInit => cloud_init_version(&mut reader)?,
        Program::Sshd => sshd_version(&reader, &file)?.map(|version| (version, file.clone())),
        _ => None,
    };
    let told = match (own, program.dpkg_package()) {
        (Some(own), _) => Some(own),
        (None, Some(package)) => {
            dpkg_version(tree, package)?.map(|version| (version, format!("dpkg: {package}")))
        }
        (None, None) => None,
    };
    let (version, version_source) = told.unzip();
    Ok(Some(Installed { file, version, version_source }))
}

/// ntpsec keeps the program's name; its configuration and units do not.
fn is_ntpsec(reader: &Reader<'_>) -> Result<bool, VfsError> {
    for sign in [
        "/etc/ntpsec/ntp.conf",
        "/lib/systemd/system/ntpsec.service",
        "/usr/lib/systemd/system/ntpsec.service",
        "/usr/share/doc/ntpsec",
    ] {
        if reader.exists(sign)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Cloud Assistant lives in a directory named after its version; several may lie side by side after updates. Its
/// watchdog (`assist-daemon`) alone is no agent.
fn cloud_assistant(reader: &mut Reader<'_>) -> Result<Option<Installed>, VfsError> {
    let mut newest: Option<(String, String)> = None;
    for directory in ["/usr/local/share/aliyun-assist", "/opt/local/share/aliyun-assist"] {
        for version in reader.names(directory)? {
            let file = format!("{directory}/{version}/aliyun-service");
            let is_newer = newest.as_ref().is_none_or(|(known, _)| compare_versions(known, &version).is_lt());
            if version.starts_with(|first: char| first.is_ascii_digit())
                && is_newer
                && reader.exists(&file)?
            {
                newest = Some((version, file));
            }
        }
    }
    Ok(newest.map(|(version, file)| Installed {
        version_source: Some(file.clone()),
        file,
        version: Some(version),
    }))
}

/// Version of cloud-init as its own `version.py` has it, with the file that has it.
///
/// `_PACKAGED_VERSION` is filled in by distributions and names their build; before, it holds `@@…@@`. Releases of
/// before 0.7.7 have neither name and pass the version to `StrictVersion`.
fn cloud_init_version(reader: &mut Reader<'_>) -> Result<Option<(String, String)>, VfsError> {
    for root in PYTHON_ROOTS {
        for python in reader.names(root)?.into_iter().filter(|name| name.starts_with("python")) {
            for packages in ["dist-packages", "site-packages"] {
                let directory = format!("{root}/{python}/{packages}");
                let mut homes = vec![format!("{directory}/cloudinit")];
                for name in reader.names(&directory)? {
                    if name.starts_with("cloud_init-") && name.ends_with(".egg") {
                        homes.push(format!("{directory}/{name}/cloudinit"));
                    }
                }
                for home in homes {
                    let file = format!("{home}/version.py");
                    let Some(text) = reader.read(&file, VERSION_FILE_MAX)? else { continue };
                    if let Some(version) = version_of_python(&String::from_utf8_lossy(&text)) {
                        return Ok(Some((version, file)));
                    }
                }
            }
        }
    }
    Ok(None)
}

fn version_of_python(text: &str) -> Option<String> {
    let quoted = |rest: &str| {
        let rest = rest.trim_start();
        let quote = rest.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
        let inside = rest.get(1..)?.split(quote).next()?;
        (!inside.is_empty() && !inside.starts_with("@@")).then(|| inside.to_owned())
    };
    let assigned = |name: &str| {
        let values = text.lines().filter_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix('='));
        values.filter_map(quoted).next()
    };
    assigned("_PACKAGED_VERSION")
        .or_else(|| assigned("__VERSION__"))
        .or_else(|| text.split("StrictVersion(").skip(1).find_map(quoted))
}

/// The version string that sshd sends as its greeting: `OpenSSH_9.2p1` stands in the program as it is.
fn sshd_version(reader: &Reader<'_>, file: &str) -> Result<Option<String>, VfsError> {
    const MARK: &[u8] = b"OpenSSH_";
    const TAIL: usize = 32;
    let Ok(location) = reader.tree.resolve(&path(file)) else { return Ok(None) };
    let len = reader.tree.stat_at(&location)?.len;
    if len > PROGRAM_MAX {
        return Ok(None);
    }
    let mut chunk = vec![0; 256 << 10];
    let mut offset = 0;
    while offset < len {
        let filled = reader.peek(file, offset, &mut chunk)?;
        if filled == 0 {
            break;
        }
        let bytes = &chunk[..filled];
        for at in bytes.windows(MARK.len()).enumerate().filter(|(_, w)| *w == MARK).map(|(at, _)| at) {
            let after = &bytes[at + MARK.len()..];
            let end =
                after.iter().take(TAIL).take_while(|b| b.is_ascii_alphanumeric() || **b == b'.').count();
            // `OpenSSH_` also stands in patterns for other versions; a version has digits and a point, and ends.
            let version = String::from_utf8_lossy(&after[..end]).into_owned();
            let is_whole = after.get(end).is_some_and(|byte| matches!(byte, 0 | b' ' | b'\n'));
            let is_version = version.starts_with(|c: char| c.is_ascii_digit()) && version.contains('.');
            if is_whole && is_version && version.contains('p') {
                return Ok(Some(version));
            }
        }
        // Read again what may stand across the border.
        let step = if filled == chunk.len() { filled - MARK.len() - TAIL } else { filled };
        offset += step as u64;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::version_of_python;

    #[test]
    fn versions_of_cloud_init() {
        let of = |text: &str| version_of_python(text);
        let debian = "from cloudinit import features\n\n__VERSION__ = \"22.4.2\"\n_PACKAGED_VERSION = \"22.4.2-1+deb12u2\"\n";
        assert_eq!(of(debian).as_deref(), Some("22.4.2-1+deb12u2"));
        let upstream = "__VERSION__ = \"23.2.2\"\n_PACKAGED_VERSION = '@@PACKAGED_VERSION@@'\n";
        assert_eq!(of(upstream).as_deref(), Some("23.2.2"));
        let old = "from distutils import version as vr\n\n\ndef version():\n    return vr.StrictVersion(\"0.7.5\")\n";
        assert_eq!(of(old).as_deref(), Some("0.7.5"));
        assert_eq!(of("__VERSION__ = 'x"), Some("x".into()));
        assert_eq!(of("__VERSION__ = version()\n"), None);
    }
}
