//! What keeps modules from being loaded: `modprobe.d` and kernel arguments.

use std::collections::BTreeMap;

use crate::module_name::normalized;

/// Blacklisted module names, each with where it is said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Blacklist {
    by_name: BTreeMap<String, String>,
}

impl Blacklist {
    /// Takes over the `blacklist NAME` and disabling `install NAME /bin/false` lines of one file.
    pub fn read_modprobe_conf(&mut self, path: &str, content: &[u8]) {
        let text = String::from_utf8_lossy(content);
        let mut line_number = 0;
        let mut lines = text.lines();
        while let Some(first) = lines.next() {
            line_number += 1;
            let at = line_number;
            let mut line = first.to_string();
            while line.ends_with('\\') {
                line.pop();
                let Some(next) = lines.next() else { break };
                line_number += 1;
                line.push_str(next);
            }
            let mut words = line.split_whitespace();
            match (words.next(), words.next()) {
                (Some("blacklist"), Some(name)) => self.add(name, format!("{path}:{at}")),
                (Some("install"), Some(name)) => {
                    if matches!(
                        words.next(),
                        Some(
                            "/bin/false"
                                | "/bin/true"
                                | "/usr/bin/false"
                                | "/usr/bin/true"
                                | "false"
                                | "true"
                                | ":"
                        )
                    ) {
                        self.add(name, format!("{path}:{at}"));
                    }
                }
                _ => {}
            }
        }
    }

    /// Takes over `module_blacklist=`, `modprobe.blacklist=`, `rd.driver.blacklist=` and `rdblacklist=`.
    pub fn read_kernel_arguments<'a>(&mut self, arguments: impl IntoIterator<Item = &'a str>) {
        for argument in arguments {
            let Some((key, value)) = argument.split_once('=') else { continue };
            let is_blacklist = matches!(
                key.replace('-', "_").as_str(),
                "module_blacklist" | "modprobe.blacklist" | "rd.driver.blacklist" | "rdblacklist"
            );
            if is_blacklist {
                for name in value.trim_matches('"').split(',').filter(|name| !name.is_empty()) {
                    self.add(name, format!("kernel argument {key}="));
                }
            }
        }
    }

    /// Adds one name; the first place that names it stays.
    pub fn add(&mut self, name: &str, place: String) {
        self.by_name.entry(normalized(name)).or_insert(place);
    }

    /// Where `name` is blacklisted; `None` when it is not.
    pub fn place(&self, name: &str) -> Option<&str> {
        self.by_name.get(&normalized(name)).map(String::as_str)
    }

    /// All names with their places.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.by_name.iter().map(|(name, place)| (name.as_str(), place.as_str()))
    }

    /// True when nothing is blacklisted.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modprobe_lines_and_arguments() {
        let mut blacklist = Blacklist::default();
        let conf = b"# blacklist no\nblacklist virtio-blk\ninstall nvme \\\n /bin/false\ninstall ok /sbin/modprobe x\n";
        blacklist.read_modprobe_conf("etc/modprobe.d/a.conf", conf);
        blacklist.read_kernel_arguments([
            "quiet",
            "rd.driver.blacklist=virtio_scsi,floppy",
            "module-blacklist=pcspkr",
        ]);
        assert_eq!(blacklist.place("virtio_blk"), Some("etc/modprobe.d/a.conf:2"));
        assert_eq!(blacklist.place("nvme"), Some("etc/modprobe.d/a.conf:3"));
        assert_eq!(blacklist.place("ok"), None);
        assert_eq!(blacklist.place("virtio-scsi"), Some("kernel argument rd.driver.blacklist="));
        assert_eq!(blacklist.place("pcspkr"), Some("kernel argument module-blacklist="));
        assert_eq!(blacklist.iter().count(), 5);
    }
}
