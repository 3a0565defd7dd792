//! Which distribution a guest is: os-release, and what came before it.

use vfs::VfsError;

use crate::reading::{Reader, path};
use crate::{Family, OsInfo};

/// Names as the older release files and `/etc/issue` print them, with the `ID` that os-release would have.
/// Longer names stand before those that they contain.
const NAMES: &[(&str, &str)] = &[
    ("Alibaba Cloud Linux", "alinux"),
    ("Aliyun Linux", "alinux"),
    ("Amazon Linux", "amzn"),
    ("Anolis OS", "anolis"),
    ("AlmaLinux", "almalinux"),
    ("Rocky Linux", "rocky"),
    ("CentOS", "centos"),
    ("CloudLinux", "cloudlinux"),
    ("Oracle Linux", "ol"),
    ("Enterprise Linux Enterprise Linux", "ol"),
    ("Scientific Linux", "scientific"),
    ("openEuler", "openeuler"),
    ("Red Hat Enterprise Linux", "rhel"),
    ("Fedora", "fedora"),
    ("SUSE Linux Enterprise Server", "sles"),
    ("SUSE Linux Enterprise Desktop", "sled"),
    ("openSUSE", "opensuse"),
    ("Ubuntu", "ubuntu"),
    ("Debian", "debian"),
    ("Alpine", "alpine"),
    ("Arch Linux", "arch"),
];

/// Debian's code names, which stand in `debian_version` before a release.
const DEBIAN_NAMES: [(&str, u32); 11] = [
    ("squeeze", 6),
    ("wheezy", 7),
    ("jessie", 8),
    ("stretch", 9),
    ("buster", 10),
    ("bullseye", 11),
    ("bookworm", 12),
    ("trixie", 13),
    ("forky", 14),
    ("duke", 15),
    ("lenny", 5),
];

/// Release files of one line, the most specific first: Oracle Linux also has a `redhat-release`.
const RELEASE_FILES: [&str; 4] =
    ["/etc/oracle-release", "/etc/centos-release", "/etc/redhat-release", "/etc/system-release"];

pub(crate) fn os(reader: &mut Reader<'_>) -> Result<OsInfo, VfsError> {
    let mut os = OsInfo { debian_version: first_line(reader, "/etc/debian_version")?, ..OsInfo::default() };
    for at in ["/etc/os-release", "/usr/lib/os-release"] {
        let Some(text) = reader.text(at)? else { continue };
        let value = |key: &str| assignment(&text, key).filter(|value| !value.is_empty());
        os.id = value("ID").map(|id| id.to_ascii_lowercase());
        os.id_like = value("ID_LIKE")
            .map(|value| value.split_whitespace().map(str::to_ascii_lowercase).collect())
            .unwrap_or_default();
        os.version = value("VERSION_ID");
        os.pretty_name = value("PRETTY_NAME");
        os.codename = value("VERSION_CODENAME");
        os.told_by = Some(at.to_owned());
        break;
    }
    if os.id.is_none() {
        older_files(reader, &mut os)?;
    }
    os.family = Family::of(os.id.as_deref().unwrap_or_default(), &os.id_like);
    (os.major, os.minor) = version_parts(os.version.as_deref().unwrap_or_default());
    refine(reader, &mut os)?;
    os.is_usr_merged = is_usr_merged(reader)?;
    Ok(os)
}

/// What os-release leaves open: CentOS 7 says `7`, Debian says `12`, Debian testing says nothing.
fn refine(reader: &mut Reader<'_>, os: &mut OsInfo) -> Result<(), VfsError> {
    if os.family == Family::Debian && os.id.as_deref() == Some("debian") {
        let text = os.debian_version.clone().unwrap_or_default();
        let (major, minor) = version_parts(&text);
        let name = os.codename.clone().unwrap_or_else(|| text.split('/').next().unwrap_or_default().into());
        os.major = os.major.or(major).or_else(|| debian_by_name(&name));
        if os.minor.is_none() && major == os.major {
            os.minor = minor;
        }
    }
    if os.family.is_red_hat() && os.minor.is_none() {
        for at in RELEASE_FILES {
            let Some((_, version)) = first_line(reader, at)?.as_deref().and_then(named_release) else {
                continue;
            };
            let (major, minor) = version_parts(&version);
            if major.is_some() && (os.major.is_none() || major == os.major) {
                os.major = major;
                os.minor = minor;
                break;
            }
        }
    }
    // Kylin and UOS give the same `ID` to systems made from Debian and from openEuler.
    if matches!(os.id.as_deref(), Some("kylin" | "uos")) {
        let is_rpm = reader.exists("/var/lib/rpm")? || reader.exists("/usr/lib/sysimage/rpm")?;
        os.family = match (is_rpm, os.family) {
            (true, _) => Family::Rhel,
            (false, Family::Ubuntu) => Family::Ubuntu,
            (false, _) => Family::Debian,
        };
    }
    Ok(())
}

fn debian_by_name(name: &str) -> Option<u32> {
    DEBIAN_NAMES.iter().find(|(known, _)| *known == name).map(|(_, major)| *major)
}

/// Systems of before 2012 have no os-release, CentOS 6 among them.
fn older_files(reader: &mut Reader<'_>, os: &mut OsInfo) -> Result<(), VfsError> {
    for at in RELEASE_FILES {
        if let Some(line) = first_line(reader, at)?
            && take_name(os, &line, at)
        {
            return Ok(());
        }
    }
    if let Some(text) = reader.text("/etc/SuSE-release")? {
        let line = text.lines().next().unwrap_or_default();
        if take_name(os, line, "/etc/SuSE-release") {
            let field = |name: &str| {
                let (_, value) = text
                    .lines()
                    .filter_map(|line| line.split_once('='))
                    .find(|(key, _)| key.trim() == name)?;
                Some(value.trim().to_owned())
            };
            os.version = match (field("VERSION"), field("PATCHLEVEL").as_deref()) {
                (Some(version), None | Some("0")) => Some(version),
                (Some(version), Some(level)) => Some(format!("{version}.{level}")),
                (None, _) => os.version.take(),
            };
            return Ok(());
        }
    }
    // Ubuntu has a debian_version as well, so this file is asked first.
    if let Some(text) = reader.text("/etc/lsb-release")?
        && let Some(id) = assignment(&text, "DISTRIB_ID").filter(|id| !id.is_empty())
    {
        let known = NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(&id));
        os.id = Some(known.map_or_else(|| id.to_ascii_lowercase(), |(_, known)| (*known).to_owned()));
        os.version = assignment(&text, "DISTRIB_RELEASE").filter(|version| !version.is_empty());
        os.codename = assignment(&text, "DISTRIB_CODENAME").filter(|name| !name.is_empty());
        os.pretty_name = assignment(&text, "DISTRIB_DESCRIPTION").filter(|name| !name.is_empty());
        os.told_by = Some("/etc/lsb-release".into());
        return Ok(());
    }
    if let Some(version) = &os.debian_version {
        os.id = Some("debian".into());
        os.version = version.starts_with(|first: char| first.is_ascii_digit()).then(|| version.clone());
        os.told_by = Some("/etc/debian_version".into());
        return Ok(());
    }
    if let Some(version) = first_line(reader, "/etc/alpine-release")? {
        os.id = Some("alpine".into());
        os.version = Some(version);
        os.told_by = Some("/etc/alpine-release".into());
        return Ok(());
    }
    if let Some(text) = reader.text("/etc/issue")? {
        for line in text.lines() {
            if take_name(os, line, "/etc/issue") {
                break;
            }
        }
    }
    Ok(())
}

fn take_name(os: &mut OsInfo, line: &str, at: &str) -> bool {
    let Some((id, version)) = named_release(line) else { return false };
    os.id = Some(id.to_owned());
    os.version = Some(version).filter(|version| !version.is_empty());
    let name = line.trim_start_matches("Welcome to ").split('\\').next().unwrap_or_default().trim();
    os.pretty_name = Some(name.to_owned());
    os.told_by = Some(at.to_owned());
    true
}

/// Distribution and version of a line like `CentOS release 6.10 (Final)`, or of an issue's first line.
fn named_release(line: &str) -> Option<(&'static str, String)> {
    let (name, id) = NAMES.iter().find(|(name, _)| line.contains(name))?;
    let after = line.split_once(name).map(|(_, after)| after).unwrap_or_default();
    let mut words = after.split(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | '\\'));
    let number = words.find(|word| word.starts_with(|c: char| c.is_ascii_digit())).unwrap_or_default();
    // `SUSE Linux Enterprise Server 11 SP4`
    let pack = words
        .next()
        .and_then(|word| word.strip_prefix("SP"))
        .filter(|level| !level.is_empty() && level.bytes().all(|b| b.is_ascii_digit()));
    Some((id, pack.map_or_else(|| number.to_owned(), |level| format!("{number}.{level}"))))
}

/// The first two numbers of a version; `22.04` is 22 and 4, `12-SP5` is 12 and 5.
fn version_parts(version: &str) -> (Option<u32>, Option<u32>) {
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).filter(|part| !part.is_empty());
    if !version.starts_with(|first: char| first.is_ascii_digit()) {
        return (None, None);
    }
    let mut next = || numbers.next().and_then(|part| part.parse().ok());
    (next(), next())
}

/// Value of `KEY=value` in os-release, quotes and escapes removed.
fn assignment(text: &str, key: &str) -> Option<String> {
    let line = text.lines().rev().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='))?;
    let line = line.trim();
    let quoted = |quote: char| line.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    if let Some(inside) = quoted('\'') {
        return Some(inside.to_owned());
    }
    let inside = quoted('"').unwrap_or(line);
    let mut value = String::with_capacity(inside.len());
    let mut characters = inside.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => value.extend(characters.next()),
            other => value.push(other),
        }
    }
    Some(value)
}

pub(crate) fn first_line(reader: &mut Reader<'_>, at: &str) -> Result<Option<String>, VfsError> {
    let text = reader.text(at)?;
    Ok(text.and_then(|text| text.lines().next().map(|line| line.trim().to_owned())).filter(|l| !l.is_empty()))
}

/// True when `/bin` and `/lib` are the directories of the same name below `/usr`.
fn is_usr_merged(reader: &Reader<'_>) -> Result<bool, VfsError> {
    for (link, target) in [("/bin", "/usr/bin"), ("/lib", "/usr/lib")] {
        match reader.tree.resolve(&path(link)) {
            Ok(location) if location.path == path(target) => {}
            Ok(_)
            | Err(
                VfsError::NotFound { .. } | VfsError::NotADirectory { .. } | VfsError::SymlinkLoop { .. },
            ) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_release_values() {
        let text = "NAME=x\nID=debian\nPRETTY_NAME=\"A \\\"b\\\" c\"\nVERSION_ID='12'\n# ID=no\n";
        assert_eq!(assignment(text, "ID").as_deref(), Some("debian"));
        assert_eq!(assignment(text, "PRETTY_NAME").as_deref(), Some("A \"b\" c"));
        assert_eq!(assignment(text, "VERSION_ID").as_deref(), Some("12"));
        assert_eq!(assignment(text, "NOTHING"), None);
    }

    #[test]
    fn names_of_older_release_files() {
        let of = |line: &str| named_release(line).map(|(id, version)| (id, version.clone()));
        let some = |id: &'static str, version: &str| Some((id, version.to_owned()));
        assert_eq!(of("CentOS release 6.10 (Final)"), some("centos", "6.10"));
        assert_eq!(of("CentOS Linux release 7.9.2009 (Core)"), some("centos", "7.9.2009"));
        assert_eq!(of("Red Hat Enterprise Linux Server release 6.10 (Santiago)"), some("rhel", "6.10"));
        assert_eq!(of("Oracle Linux Server release 6.10"), some("ol", "6.10"));
        assert_eq!(of("Welcome to SUSE Linux Enterprise Server 11 SP4  (x86_64)."), some("sles", "11.4"));
        assert_eq!(of("SUSE Linux Enterprise Server 11 (x86_64)"), some("sles", "11"));
        assert_eq!(of("Ubuntu 10.04.4 LTS \\n \\l"), some("ubuntu", "10.04.4"));
        assert_eq!(of("Debian GNU/Linux 6.0 \\n \\l"), some("debian", "6.0"));
        assert_eq!(of("My own system 3"), None);
    }

    #[test]
    fn versions() {
        assert_eq!(version_parts("22.04"), (Some(22), Some(4)));
        assert_eq!(version_parts("2.1903"), (Some(2), Some(1903)));
        assert_eq!(version_parts("12-SP5"), (Some(12), Some(5)));
        assert_eq!(version_parts("9"), (Some(9), None));
        assert_eq!(version_parts("trixie/sid"), (None, None));
        assert_eq!(version_parts("99999999999.1"), (None, Some(1)));
        assert_eq!(version_parts(""), (None, None));
    }
}
