//! chrony.conf(5) and ntp.conf(5): which lines the daemons read, and where.

use vfs::{GuestPath, VfsError};

use crate::glob::{glob, is_pattern};
use crate::{Files, Lines};

/// Deepest nesting of included files that is followed.
const DEPTH_MAX: usize = 10;
/// Files read at most.
const FILES_MAX: usize = 256;
/// Directives that name a server to ask.
const SOURCES: [&str; 3] = ["server", "pool", "peer"];

/// Whose configuration it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Daemon {
    /// chronyd: comment signs at the start of a line only, directives in any case.
    Chrony,
    /// ntpd: `#` begins a comment anywhere.
    Ntp,
}

/// A line that says something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeLine {
    /// File that it stands in.
    pub file: GuestPath,
    /// Line number, from 1.
    pub line: usize,
    /// Directive and arguments with single blanks.
    pub text: String,
}

impl TimeLine {
    /// `FILE:LINE`.
    pub fn place(&self) -> String {
        format!("{}:{}", self.file, self.line)
    }

    /// True when it names a server to ask.
    pub fn is_source(&self) -> bool {
        is_source(&self.text)
    }
}

/// True when a line names a server to ask.
pub fn is_source(text: &str) -> bool {
    text.split(' ').next().is_some_and(|directive| SOURCES.contains(&directive))
}

/// All lines in the order in which the daemon reads them.
pub fn read(files: &dyn Files, main: &GuestPath, daemon: Daemon) -> Result<Vec<TimeLine>, VfsError> {
    let mut reading = Reading { files, daemon, lines: Vec::new(), files_read: 0 };
    reading.file(main, 0)?;
    Ok(reading.lines)
}

/// A line with single blanks, its directive in lower case; `None` for a comment.
pub fn normalized(text: &str, daemon: Daemon) -> Option<String> {
    let text = match daemon {
        Daemon::Chrony if text.trim_start().starts_with(['!', ';', '#', '%']) => "",
        Daemon::Chrony => text,
        Daemon::Ntp => text.split('#').next().unwrap_or_default(),
    };
    let mut words = text.split_whitespace();
    let directive = words.next()?.to_ascii_lowercase();
    Some(std::iter::once(directive.as_str()).chain(words).collect::<Vec<_>>().join(" "))
}

/// What a line is about: lines of one subject take each other's place.
///
/// For most it is the directive; for `restrict` and `fudge` the address, too.
pub fn subject(text: &str) -> String {
    let mut words = text.split(' ');
    let directive = words.next().unwrap_or_default();
    let address: Vec<&str> = match directive {
        "restrict" => {
            let mut words = words.peekable();
            let family = words.next_if(|word| matches!(*word, "-4" | "-6"));
            family.into_iter().chain(words.next()).collect()
        }
        "fudge" => words.next().into_iter().collect(),
        _ => Vec::new(),
    };
    std::iter::once(directive).chain(address).collect::<Vec<_>>().join(" ")
}

struct Reading<'f> {
    files: &'f dyn Files,
    daemon: Daemon,
    lines: Vec<TimeLine>,
    files_read: usize,
}

impl Reading<'_> {
    fn file(&mut self, file: &GuestPath, depth: usize) -> Result<(), VfsError> {
        if self.files_read >= FILES_MAX || depth > DEPTH_MAX {
            return Ok(());
        }
        let Some(content) = self.files.read(file)? else { return Ok(()) };
        self.files_read += 1;
        for (number, text) in Lines::parse(&content).iter() {
            let Some(text) = normalized(text, self.daemon) else { continue };
            let mut words = text.split(' ').map(str::to_owned);
            let directive = words.next().unwrap_or_default();
            let arguments: Vec<String> = words.collect();
            self.lines.push(TimeLine { file: file.clone(), line: number, text });
            match (self.daemon, directive.as_str()) {
                (Daemon::Chrony, "include") | (Daemon::Ntp, "includefile") => {
                    for included in self.included(&arguments)? {
                        self.file(&included, depth + 1)?;
                    }
                }
                (Daemon::Chrony, "confdir") => self.directories(&arguments, ".conf", depth)?,
                (Daemon::Chrony, "sourcedir") => self.directories(&arguments, ".sources", depth)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn included(&self, arguments: &[String]) -> Result<Vec<GuestPath>, VfsError> {
        let Some(name) = arguments.first().filter(|name| name.starts_with('/')) else {
            return Ok(Vec::new());
        };
        match self.daemon == Daemon::Chrony && is_pattern(name) {
            true => glob(self.files, name),
            false => Ok(vec![GuestPath::root().join(name)]),
        }
    }

    /// Files of several directories in the order of their names; of equal names the first directory's is read.
    fn directories(&mut self, directories: &[String], suffix: &str, depth: usize) -> Result<(), VfsError> {
        let mut chosen: Vec<(Vec<u8>, GuestPath)> = Vec::new();
        for directory in directories {
            let directory = GuestPath::root().join(directory);
            for name in self.files.list(&directory)? {
                if name.ends_with(suffix.as_bytes()) && !chosen.iter().any(|(known, _)| *known == name) {
                    let file = directory.join(&name);
                    chosen.push((name, file));
                }
            }
        }
        chosen.sort();
        for (_, file) in chosen {
            self.file(&file, depth + 1)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryFiles;

    #[test]
    fn chrony_reads_included_files_and_directories() {
        let files = MemoryFiles::new([
            (
                "/etc/chrony/chrony.conf",
                "confdir /etc/chrony/conf.d /run/c\n! x\n  Pool  a  iburst # b\ninclude /etc/x*.conf\nsourcedir /etc/s\n",
            ),
            ("/etc/chrony/conf.d/b.conf", "server b\n"),
            ("/run/c/a.conf", "server a\n"),
            ("/run/c/b.conf", "server hidden\n"),
            ("/etc/x1.conf", "server x1\ninclude /etc/x1.conf\n"),
            ("/etc/s/y.sources", "server y\n"),
            ("/etc/s/y.conf", "server no\n"),
        ]);
        let main = GuestPath::root().join("/etc/chrony/chrony.conf");
        let lines = read(&files, &main, Daemon::Chrony).unwrap();
        let sources: Vec<&str> =
            lines.iter().filter(|line| line.is_source()).map(|line| line.text.as_str()).collect();
        let own: Vec<&str> = sources.iter().copied().filter(|text| *text != "server x1").collect();
        assert_eq!(own, ["server a", "server b", "pool a iburst # b", "server y"]);
    }

    #[test]
    fn ntp_lines_and_their_subjects() {
        assert_eq!(normalized("driftfile  /a # b", Daemon::Ntp).as_deref(), Some("driftfile /a"));
        assert_eq!(normalized("# x", Daemon::Ntp), None);
        assert_eq!(subject("restrict -6 default kod"), "restrict -6 default");
        assert_eq!(subject("restrict 10.0.0.0 mask 255.0.0.0"), "restrict 10.0.0.0");
        assert_eq!(subject("fudge 127.127.1.0 stratum 10"), "fudge 127.127.1.0");
        assert_eq!(subject("makestep 10 3"), "makestep");
    }
}
