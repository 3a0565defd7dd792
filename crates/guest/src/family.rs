//! Families of distributions that keep their configuration in the same places.

use serde::Serialize;

use crate::OsInfo;

/// Distributions whose files, package names and tools are alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// Debian and what is made from it, Ubuntu left aside.
    Debian,
    /// Ubuntu and what is made from it.
    Ubuntu,
    /// RHEL, CentOS, Rocky, Alma, Oracle, Amazon, openEuler and others that follow RHEL's layout.
    Rhel,
    /// Alibaba Cloud Linux, Aliyun Linux.
    Alinux,
    /// Anolis OS.
    Anolis,
    /// Fedora.
    Fedora,
    /// SLES, SLED, openSUSE.
    Suse,
    /// Arch Linux and what is made from it.
    Arch,
    /// Alpine Linux.
    Alpine,
    /// None of these, or not known.
    #[default]
    Other,
}

/// `ID` values of os-release whose family does not follow from `ID_LIKE`, or follows wrongly.
const IDS: &[(&str, Family)] = &[
    ("debian", Family::Debian),
    ("devuan", Family::Debian),
    ("kali", Family::Debian),
    ("raspbian", Family::Debian),
    ("deepin", Family::Debian),
    ("ubuntu", Family::Ubuntu),
    ("rhel", Family::Rhel),
    ("redhat", Family::Rhel),
    ("centos", Family::Rhel),
    ("rocky", Family::Rhel),
    ("almalinux", Family::Rhel),
    ("ol", Family::Rhel),
    ("scientific", Family::Rhel),
    ("cloudlinux", Family::Rhel),
    ("eurolinux", Family::Rhel),
    ("virtuozzo", Family::Rhel),
    ("amzn", Family::Rhel),
    ("openeuler", Family::Rhel),
    ("opencloudos", Family::Rhel),
    ("tencentos", Family::Rhel),
    ("alinux", Family::Alinux),
    ("anolis", Family::Anolis),
    ("fedora", Family::Fedora),
    ("sles", Family::Suse),
    ("sled", Family::Suse),
    ("sles_sap", Family::Suse),
    ("suse", Family::Suse),
    ("opensuse", Family::Suse),
    ("opensuse-leap", Family::Suse),
    ("opensuse-tumbleweed", Family::Suse),
    ("sl-micro", Family::Suse),
    ("arch", Family::Arch),
    ("archarm", Family::Arch),
    ("manjaro", Family::Arch),
    ("alpine", Family::Alpine),
];

impl Family {
    /// Family of a distribution by the `ID` and `ID_LIKE` of os-release(5). `ID_LIKE` is ordered, the nearest
    /// relative first.
    pub(crate) fn of(id: &str, id_like: &[String]) -> Self {
        let by_id = |id: &str| IDS.iter().find(|(known, _)| *known == id).map(|(_, family)| *family);
        by_id(id).or_else(|| id_like.iter().find_map(|like| by_id(like))).unwrap_or_default()
    }

    /// RHEL and its relatives: rpm, `/etc/sysconfig`, dracut, `grub2-` tools.
    pub fn is_red_hat(self) -> bool {
        matches!(self, Family::Rhel | Family::Alinux | Family::Anolis | Family::Fedora)
    }

    /// Debian and Ubuntu: dpkg, `/etc/default`, initramfs-tools.
    pub fn is_debian_like(self) -> bool {
        matches!(self, Family::Debian | Family::Ubuntu)
    }

    /// Short name, as it is serialised.
    pub fn name(self) -> &'static str {
        match self {
            Family::Debian => "debian",
            Family::Ubuntu => "ubuntu",
            Family::Rhel => "rhel",
            Family::Alinux => "alinux",
            Family::Anolis => "anolis",
            Family::Fedora => "fedora",
            Family::Suse => "suse",
            Family::Arch => "arch",
            Family::Alpine => "alpine",
            Family::Other => "other",
        }
    }
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl OsInfo {
    /// True when the version is known and `major.minor` or later. A version without a minor part counts as
    /// `major.0`.
    pub fn is_at_least(&self, major: u32, minor: u32) -> bool {
        self.major.is_some_and(|own| (own, self.minor.unwrap_or(0)) >= (major, minor))
    }

    /// The RHEL major version whose layout this system follows; `None` outside that kinship.
    ///
    /// Alibaba Cloud Linux 2 is made from CentOS 7, 3 from CentOS 8, 4 and Anolis 23 from newer Fedora
    /// releases; Amazon Linux 2 follows 7, 2023 follows 9; openEuler 20.03 and 22.03 follow 8.
    pub fn el_generation(&self) -> Option<u32> {
        let major = self.major?;
        match (self.family, self.id.as_deref()) {
            (Family::Rhel, Some("amzn")) => Some(match major {
                2 => 7,
                2018 | 2017 => 6,
                _ => 9,
            }),
            (Family::Rhel, Some("openeuler")) => Some(if major >= 24 { 9 } else { 8 }),
            (Family::Rhel, _) => Some(major),
            (Family::Alinux, _) => Some(match major {
                2 => 7,
                3 => 8,
                17.. => 7,
                _ => 9,
            }),
            (Family::Anolis, _) => Some(if major >= 23 { 9 } else { major }),
            // RHEL 7, 8, 9 and 10 were branched from Fedora 19, 28, 34 and 40.
            (Family::Fedora, _) => Some(match major {
                40.. => 10,
                34.. => 9,
                28.. => 8,
                19.. => 7,
                _ => 6,
            }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_by_id_then_by_nearest_relative() {
        let of = |id: &str, like: &str| {
            Family::of(id, &like.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        };
        assert_eq!(of("linuxmint", "ubuntu debian"), Family::Ubuntu);
        assert_eq!(of("alinux", "rhel fedora centos anolis"), Family::Alinux);
        assert_eq!(of("rhel", "fedora"), Family::Rhel);
        assert_eq!(of("kylin", "fedora"), Family::Fedora);
        assert_eq!(of("endeavouros", "arch"), Family::Arch);
        assert_eq!(of("sle-micro", "suse"), Family::Suse);
        assert_eq!(of("nixos", ""), Family::Other);
        assert!(Family::Alinux.is_red_hat() && !Family::Suse.is_red_hat());
    }

    #[test]
    fn generations() {
        let os = |id: &str, family, major, minor| OsInfo {
            id: Some(id.into()),
            family,
            major: Some(major),
            minor,
            ..OsInfo::default()
        };
        assert_eq!(os("alinux", Family::Alinux, 2, Some(1903)).el_generation(), Some(7));
        assert_eq!(os("alinux", Family::Alinux, 3, None).el_generation(), Some(8));
        assert_eq!(os("rocky", Family::Rhel, 9, Some(4)).el_generation(), Some(9));
        assert_eq!(os("ubuntu", Family::Ubuntu, 22, Some(4)).el_generation(), None);
        let ubuntu = os("ubuntu", Family::Ubuntu, 20, Some(4));
        assert!(ubuntu.is_at_least(20, 4) && ubuntu.is_at_least(18, 10) && !ubuntu.is_at_least(20, 10));
        assert!(!OsInfo::default().is_at_least(0, 0));
    }
}
