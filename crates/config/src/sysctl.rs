//! Kernel settings at boot: which files are read in which order, and what holds in the end (sysctl.d(5),
//! sysctl(8)).
//!
//! Keys are kept as systemd keeps them: as paths below `/proc/sys`, `net/ipv4/ip_forward`.

use vfs::{GuestPath, VfsError};

use crate::glob::{is_pattern, path_matches};
use crate::{Files, Lines};

/// Directories of files; a name in an earlier one hides the same name in a later one.
const DIRECTORIES: [&str; 5] =
    ["/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d", "/lib/sysctl.d"];
/// The old file, which systemd reads through a link in `/etc/sysctl.d` alone.
pub const MAIN: &str = "/etc/sysctl.conf";
/// Files read at most.
const FILES_MAX: usize = 1024;

/// The program that sets kernel settings at boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// `systemd-sysctl`.
    Systemd,
    /// `sysctl --system` of procps: the same directories, then `/etc/sysctl.conf`.
    Procps,
    /// RHEL 6: `/etc/sysctl.conf`, then all of `/etc/sysctl.d`.
    Initscripts,
}

/// A line that sets a key, or takes it out of the patterns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// File by the name under which it is read.
    pub file: GuestPath,
    /// Line number, from 1.
    pub line: usize,
    /// Key as a path below `/proc/sys`; may be a pattern.
    pub key: String,
    /// Value; `None` for `-key`, which takes the key out of patterns.
    pub value: Option<String>,
}

impl Assignment {
    /// `FILE:LINE`.
    pub fn place(&self) -> String {
        format!("{}:{}", self.file, self.line)
    }
}

/// Everything that is read at boot, in that order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SysctlConfig {
    /// Files in the order in which they are read.
    pub files: Vec<GuestPath>,
    /// Their lines.
    pub assignments: Vec<Assignment>,
    /// Lines that are neither assignment nor comment, `FILE:LINE`; the readers pass over them.
    pub ignored: Vec<String>,
}

impl SysctlConfig {
    /// Reads what `reader` reads.
    pub fn read(files: &dyn Files, reader: Reader) -> Result<Self, VfsError> {
        let mut config = Self { files: order(files, reader)?, ..Self::default() };
        for file in config.files.clone() {
            // A directory of that name is passed over by all of them.
            let content = match files.read(&file) {
                Ok(content) => content.unwrap_or_default(),
                Err(VfsError::IsADirectory { .. } | VfsError::WrongKind { .. }) => continue,
                Err(error) => return Err(error),
            };
            for (number, text) in Lines::parse(&content).iter() {
                match parse_line(text) {
                    Parsed::Nothing => {}
                    Parsed::Assignment(key, value) => {
                        config.assignments.push(Assignment { file: file.clone(), line: number, key, value });
                    }
                    Parsed::Other => config.ignored.push(format!("{file}:{number}")),
                }
            }
        }
        Ok(config)
    }

    /// The line that decides about a key: the last that names it; else the last pattern that fits it.
    pub fn winner(&self, key: &str) -> Option<&Assignment> {
        let key = normalized(key);
        let by_name = self.assignments.iter().rev().find(|line| line.key == key);
        by_name.or_else(|| {
            self.assignments.iter().rev().find(|line| is_pattern(&line.key) && path_matches(&line.key, &key))
        })
    }

    /// The value that a key gets at boot; `None` where the kernel's own stays.
    pub fn effective(&self, key: &str) -> Option<&str> {
        self.winner(key)?.value.as_deref()
    }

    /// True when the file that a path leads to is read, under this or another name.
    pub fn reads(&self, files: &dyn Files, wanted: &GuestPath) -> Result<Option<GuestPath>, VfsError> {
        for file in &self.files {
            if file == wanted || leads_to(files, file)? == *wanted {
                return Ok(Some(file.clone()));
            }
        }
        Ok(None)
    }
}

/// Where a path leads when its last symlinks are followed.
fn leads_to(files: &dyn Files, file: &GuestPath) -> Result<GuestPath, VfsError> {
    let mut here = file.clone();
    for _ in 0..8 {
        let Some(target) = files.link_target(&here)? else { break };
        let mut next = match target.first() {
            Some(b'/') => GuestPath::root(),
            _ => here.parent().unwrap_or_else(GuestPath::root),
        };
        for part in target.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".") {
            next = match part {
                b".." => next.parent().unwrap_or_else(GuestPath::root),
                name => next.join(name),
            };
        }
        here = next;
    }
    Ok(here)
}

fn order(files: &dyn Files, reader: Reader) -> Result<Vec<GuestPath>, VfsError> {
    let mut chosen: Vec<(Vec<u8>, GuestPath)> = Vec::new();
    let directories = match reader {
        Reader::Initscripts => &DIRECTORIES[..1],
        Reader::Systemd | Reader::Procps => &DIRECTORIES[..],
    };
    for directory in directories {
        let directory = GuestPath::root().join(directory);
        for name in files.list(&directory)? {
            let is_ours = name.ends_with(b".conf") && !name.starts_with(b".");
            if is_ours && !chosen.iter().any(|(known, _)| *known == name) && chosen.len() < FILES_MAX {
                let file = directory.join(&name);
                chosen.push((name, file));
            }
        }
    }
    chosen.sort();
    let mut order: Vec<GuestPath> = chosen.into_iter().map(|(_, file)| file).collect();
    let main = GuestPath::root().join(MAIN);
    match reader {
        Reader::Systemd => {}
        Reader::Procps if files.exists(&main)? => order.push(main),
        Reader::Initscripts if files.exists(&main)? => order.insert(0, main),
        Reader::Procps | Reader::Initscripts => {}
    }
    Ok(order)
}

enum Parsed {
    Nothing,
    Assignment(String, Option<String>),
    Other,
}

fn parse_line(text: &str) -> Parsed {
    let text = text.trim();
    if text.is_empty() || text.starts_with(['#', ';']) {
        return Parsed::Nothing;
    }
    let (key, value) = match text.split_once('=') {
        Some((key, value)) => (key, Some(value.trim().to_owned())),
        None if text.starts_with('-') => (text, None),
        None => return Parsed::Other,
    };
    // With a value, `-` says that a failure does not matter.
    let key = key.strip_prefix('-').unwrap_or(key).trim();
    match key.is_empty() {
        true => Parsed::Other,
        false => Parsed::Assignment(normalized(key), value),
    }
}

/// A key as a path: where the first separator is a point, points and slashes change places.
pub fn normalized(key: &str) -> String {
    let swapped: String = match key.find(['/', '.']).and_then(|at| key.get(at..=at)) {
        Some(".") => key
            .chars()
            .map(|sign| match sign {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect(),
        _ => key.to_owned(),
    };
    swapped.split('/').filter(|part| !part.is_empty() && *part != ".").collect::<Vec<_>>().join("/")
}

/// Key and value of a demanded `key = value`.
pub fn demanded(setting: &str) -> Option<(String, String)> {
    match parse_line(setting) {
        Parsed::Assignment(key, Some(value)) => Some((key, value)),
        _ => None,
    }
}

/// Puts the settings into a file: the last line of each key gets the value, others of that key become comments,
/// what is missing is added at the end. Says what was done, `LINE: what`.
pub fn place_settings(text: &[u8], settings: &[String]) -> (Vec<u8>, Vec<String>) {
    let mut lines = Lines::parse(text);
    let mut changes = Vec::new();
    for setting in settings {
        let Some((key, _)) = demanded(setting) else { continue };
        let of_key = |text: &str| matches!(parse_line(text), Parsed::Assignment(known, _) if known == key);
        let numbers: Vec<usize> =
            lines.iter().filter(|(_, text)| of_key(text)).map(|(number, _)| number).collect();
        let Some((last, others)) = numbers.split_last() else {
            lines.push(setting.as_str());
            changes.push(format!("{setting} added"));
            continue;
        };
        for number in others {
            changes.push(format!(
                "{number}: {} is a comment now",
                lines.get(*number).unwrap_or_default().trim()
            ));
            lines.comment_out(*number);
        }
        let before = lines.get(*last).unwrap_or_default();
        if before != setting {
            changes.push(format!("{last}: {} is {setting}", before.trim()));
            lines.set(*last, setting.as_str());
        }
    }
    (lines.to_bytes(), changes)
}

/// True when a file assigns nothing but these keys.
pub fn has_only(text: &[u8], keys: &[String]) -> bool {
    Lines::parse(text).iter().all(|(_, text)| match parse_line(text) {
        Parsed::Nothing => true,
        Parsed::Assignment(key, _) => keys.contains(&key),
        Parsed::Other => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryFiles;

    #[test]
    fn keys_have_one_spelling() {
        for (key, path) in [
            ("net.ipv4.conf.eth0/1.x", "net/ipv4/conf/eth0.1/x"),
            ("net/ipv4/conf/eth0.1/x", "net/ipv4/conf/eth0.1/x"),
            ("/net/ipv4//x", "net/ipv4/x"),
            ("kernel.sysrq", "kernel/sysrq"),
        ] {
            assert_eq!(normalized(key), path);
        }
        assert_eq!(demanded("-vm.swappiness=0"), Some(("vm/swappiness".into(), "0".into())));
        assert_eq!(demanded("vm.swappiness"), None);
    }

    #[test]
    fn the_readers_differ_in_the_main_file() {
        let files = MemoryFiles::new([
            ("/etc/sysctl.conf", "vm.swappiness = 1\nkernel.sysrq = 1\n"),
            ("/etc/sysctl.d/50-a.conf", "vm.swappiness = 2\n"),
            ("/usr/lib/sysctl.d/50-a.conf", "vm.swappiness = 3\n"),
            ("/usr/lib/sysctl.d/60-b.conf", "nonsense\nkernel.* = 4\n-kernel.panic\n"),
        ]);
        let read = |reader| SysctlConfig::read(&files, reader).unwrap();
        let (systemd, procps) = (read(Reader::Systemd), read(Reader::Procps));
        assert_eq!(
            (systemd.effective("vm.swappiness"), procps.effective("vm.swappiness")),
            (Some("2"), Some("1"))
        );
        assert_eq!(read(Reader::Initscripts).effective("vm.swappiness"), Some("2"));
        assert_eq!((systemd.effective("kernel.sysrq"), systemd.effective("kernel.panic")), (Some("4"), None));
        assert_eq!(systemd.ignored, ["/usr/lib/sysctl.d/60-b.conf:1"]);
        let main = GuestPath::root().join(MAIN);
        assert_eq!(systemd.reads(&files, &main).unwrap(), None);
        assert_eq!(procps.reads(&files, &main).unwrap(), Some(main.clone()));
        let mut linked = files.clone();
        linked.link("/etc/sysctl.d/99-sysctl.conf", "../sysctl.conf");
        let systemd = SysctlConfig::read(&linked, Reader::Systemd).unwrap();
        assert_eq!(systemd.effective("vm.swappiness"), Some("1"));
        assert!(systemd.reads(&linked, &main).unwrap().is_some());
    }

    #[test]
    fn lines_are_merged_where_they_stand() {
        let settings = ["vm.swappiness = 0".to_owned(), "kernel.sysrq = 1".to_owned()];
        let text = b"# x\nvm/swappiness=5\nnet.a = 1\n-vm.swappiness = 9\r\n";
        let (new, changes) = place_settings(text, &settings);
        assert_eq!(new, b"# x\n#vm/swappiness=5\nnet.a = 1\nvm.swappiness = 0\r\nkernel.sysrq = 1\n");
        assert_eq!(changes.len(), 3);
        assert_eq!(place_settings(&new, &settings), (new.clone(), Vec::new()));
        let keys = ["vm/swappiness".to_owned(), "kernel/sysrq".to_owned()];
        assert!(!has_only(&new, &keys) && has_only(b"#a\nvm.swappiness=1\n", &keys));
    }
}
