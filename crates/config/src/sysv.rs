//! Services by start scripts: the `S` and `K` links of runlevels, and OpenRC's.
//!
//! Facts: init(8) of sysvinit, chkconfig(8) (`# chkconfig: LEVELS START STOP`), the LSB's comment block
//! (`Default-Start`), update-rc.d(8), systemd-sysv-generator(8) (a script without a unit starts when a runlevel
//! has an `S` link), OpenRC's `/etc/runlevels`.

use vfs::VfsError;

use crate::Files;
use crate::files::{names_tolerant, read_tolerant};
use crate::units::{UnitChange, at};

/// Runlevels in which services of several users run.
const LEVELS: [char; 4] = ['2', '3', '4', '5'];
/// Where a link starts when the script says nothing.
const START_DEFAULT: u32 = 20;

/// A start script with its links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Its file.
    pub path: String,
    /// Links that start it.
    pub starts: Vec<String>,
}

/// The script of a service, where there is one.
pub fn find(files: &dyn Files, name: &str) -> Result<Option<Script>, VfsError> {
    let mut path = format!("/etc/init.d/{name}");
    if !files.exists(&at(&path))? {
        path = format!("/etc/rc.d/init.d/{name}");
        if !files.exists(&at(&path))? {
            return Ok(None);
        }
    }
    let mut starts = Vec::new();
    for level in LEVELS {
        let Some(directory) = directory(files, level)? else { continue };
        let names = names_tolerant(files, &directory)?;
        let is_start = |link: &String| split(link).is_some_and(|(kind, _, rest)| kind == 'S' && rest == name);
        starts.extend(names.into_iter().filter(is_start).map(|link| format!("{directory}/{link}")));
    }
    for level in names_tolerant(files, "/etc/runlevels")? {
        let link = format!("/etc/runlevels/{level}/{name}");
        if files.link_target(&at(&link))?.is_some() {
            starts.push(link);
        }
    }
    Ok(Some(Script { path, starts }))
}

/// `S` links become `K` links, OpenRC's go.
pub fn disable(files: &dyn Files, name: &str) -> Result<Vec<UnitChange>, VfsError> {
    let Some(script) = find(files, name)? else { return Ok(Vec::new()) };
    let stop = header(files, &script.path)?.stop;
    let mut changes = Vec::new();
    for path in script.starts {
        let target = files.link_target(&at(&path))?;
        let (directory, link) = path.rsplit_once('/').unwrap_or(("", &path));
        if let (Some((_, number, _)), Some(target)) = (split(link).filter(|_| !is_openrc(&path)), target) {
            let number = stop.unwrap_or(100 - number.min(99));
            let target = String::from_utf8_lossy(&target).into_owned();
            changes.push(UnitChange::Link { path: format!("{directory}/K{number:02}{name}"), target });
        }
        changes.push(UnitChange::Remove { path });
    }
    Ok(changes)
}

/// The `S` links that the script's header asks for; nothing when it starts in some runlevel.
pub fn enable(files: &dyn Files, name: &str) -> Result<Vec<UnitChange>, VfsError> {
    let Some(script) = find(files, name)?.filter(|script| script.starts.is_empty()) else {
        return Ok(Vec::new());
    };
    if files.has("/etc/runlevels/default")? {
        let path = format!("/etc/runlevels/default/{name}");
        return Ok(vec![UnitChange::Link { path, target: script.path }]);
    }
    let header = header(files, &script.path)?;
    let mut changes = Vec::new();
    for level in header.levels {
        let Some(directory) = directory(files, level)? else { continue };
        for link in names_tolerant(files, &directory)? {
            if split(&link).is_some_and(|(kind, _, rest)| kind == 'K' && rest == name) {
                changes.push(UnitChange::Remove { path: format!("{directory}/{link}") });
            }
        }
        let number = header.start.unwrap_or(START_DEFAULT);
        let path = format!("{directory}/S{number:02}{name}");
        changes.push(UnitChange::Link { path, target: format!("../init.d/{name}") });
    }
    Ok(changes)
}

/// Directory of a runlevel: Red Hat's, SUSE's, Debian's.
fn directory(files: &dyn Files, level: char) -> Result<Option<String>, VfsError> {
    for directory in ["/etc/rc.d", "/etc/init.d", "/etc"] {
        let path = format!("{directory}/rc{level}.d");
        if files.exists(&at(&path))? {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

fn is_openrc(path: &str) -> bool {
    path.starts_with("/etc/runlevels/")
}

/// `S20name` in its parts.
fn split(link: &str) -> Option<(char, u32, &str)> {
    let kind = link.chars().next().filter(|kind| matches!(kind, 'S' | 'K'))?;
    let number = link.get(1..3)?.parse().ok()?;
    Some((kind, number, link.get(3..)?))
}

struct Header {
    levels: Vec<char>,
    start: Option<u32>,
    stop: Option<u32>,
}

/// What the script's comments say about its links.
fn header(files: &dyn Files, path: &str) -> Result<Header, VfsError> {
    let mut header = Header { levels: LEVELS.to_vec(), start: None, stop: None };
    let content = read_tolerant(files, &at(path))?.unwrap_or_default();
    let text = String::from_utf8_lossy(&content).into_owned();
    let digits = |word: &str| word.chars().filter(|digit| LEVELS.contains(digit)).collect::<Vec<_>>();
    for line in text.lines().filter_map(|line| line.trim().strip_prefix('#')) {
        let line = line.trim();
        if let Some(rest) = line.strip_prefix("Default-Start:") {
            let levels = digits(rest);
            if !levels.is_empty() {
                header.levels = levels;
            }
        } else if let Some(rest) = line.strip_prefix("chkconfig:") {
            let words: Vec<&str> = rest.split_whitespace().collect();
            if let [levels, start, stop, ..] = words[..] {
                let levels = digits(levels);
                if !levels.is_empty() {
                    header.levels = levels;
                }
                header.start = start.parse().ok().filter(|number| *number < 100);
                header.stop = stop.parse().ok().filter(|number| *number < 100);
                break;
            }
        }
    }
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryFiles;

    fn shown(changes: Vec<UnitChange>) -> Vec<String> {
        changes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn chkconfig_lines_give_the_numbers() {
        let mut files =
            MemoryFiles::new([("/etc/rc.d/init.d/iptables", "#!/bin/sh\n#\n# chkconfig: 2345 08 92\n")]);
        files.link("/etc/init.d", "rc.d/init.d");
        files.put("/etc/rc.d/rc3.d/K92iptables", "");
        files.link("/etc/rc.d/rc5.d/S08iptables", "../init.d/iptables");
        assert_eq!(
            shown(disable(&files, "iptables").unwrap()),
            [
                "/etc/rc.d/rc5.d/K92iptables: link to ../init.d/iptables",
                "/etc/rc.d/rc5.d/S08iptables: removed"
            ]
        );
        files.remove("/etc/rc.d/rc5.d/S08iptables");
        assert!(disable(&files, "iptables").unwrap().is_empty());
        assert_eq!(
            shown(enable(&files, "iptables").unwrap()),
            [
                "/etc/rc.d/rc3.d/K92iptables: removed",
                "/etc/rc.d/rc3.d/S08iptables: link to ../init.d/iptables"
            ]
        );
    }

    #[test]
    fn lsb_headers_and_openrc() {
        let mut files = MemoryFiles::new([
            ("/etc/init.d/ssh", "#!/bin/sh\n### BEGIN INIT INFO\n# Default-Start:\t2 3\n"),
            ("/etc/rc2.d/README", ""),
            ("/etc/rc3.d/README", ""),
            ("/etc/rc5.d/README", ""),
        ]);
        assert_eq!(
            shown(enable(&files, "ssh").unwrap()),
            ["/etc/rc2.d/S20ssh: link to ../init.d/ssh", "/etc/rc3.d/S20ssh: link to ../init.d/ssh"]
        );
        files.link("/etc/rc2.d/S02ssh", "../init.d/ssh");
        assert_eq!(
            shown(disable(&files, "ssh").unwrap()),
            ["/etc/rc2.d/K98ssh: link to ../init.d/ssh", "/etc/rc2.d/S02ssh: removed"]
        );
        let mut files = MemoryFiles::new([("/etc/init.d/sshd", "#!/sbin/openrc-run\n")]);
        files.link("/etc/runlevels/default/sshd", "/etc/init.d/sshd");
        assert_eq!(shown(disable(&files, "sshd").unwrap()), ["/etc/runlevels/default/sshd: removed"]);
        assert!(find(&files, "none").unwrap().is_none());
    }
}
