//! Network configuration: which program of the guest reads which, and DHCP for the first card in its own form.

pub mod ifcfg;
pub mod ifupdown;
mod ini;
pub mod keyfile;
pub mod netplan;
pub mod networkd;
mod stack;
pub mod suse;

use vfs::VfsError;

pub use ini::Ini;
pub use stack::{Stack, Stacks};

use crate::Files;
use crate::files::{names_tolerant, read_tolerant};
use crate::units::at;

/// Files of one directory that are looked at.
const FILES_MAX: usize = 512;

/// What is demanded of the first card.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Its name.
    pub interface: &'a str,
    /// True when the kernel's names are kept: others are then names of the same card that no longer exist.
    pub kernel_names: bool,
    /// Names that files give to pieces of hardware, and that are gone with these files.
    pub pinned: &'a [String],
    /// True when the stack must ask for an address; else what it has for the card goes only where it is stale.
    pub ask: bool,
}

/// A change of a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetChange {
    /// New content.
    Write {
        /// Guest path.
        path: String,
        /// Content.
        text: String,
        /// Permission bits that the reader demands.
        mode: Option<u16>,
        /// What changes, a line each.
        why: Vec<String>,
    },
    /// The file goes.
    Remove {
        /// Guest path.
        path: String,
        /// Why.
        why: String,
    },
}

/// What one stack needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Changes; none when the demand is met.
    pub changes: Vec<NetChange>,
    /// What is there beside and stays, a line each.
    pub kept: Vec<String>,
    /// What keeps the change from being made, with file and line.
    pub obstacles: Vec<String>,
}

impl Outcome {
    /// A file as text; `None` when it is not there, or when it is an obstacle now.
    fn read(&mut self, files: &dyn Files, path: &str) -> Result<Option<String>, VfsError> {
        Ok(match text(files, path)? {
            Some(Err(why)) => {
                self.obstacles.push(why);
                None
            }
            other => other.and_then(Result::ok),
        })
    }

    fn remove(&mut self, path: impl Into<String>, why: impl Into<String>) {
        self.changes.push(NetChange::Remove { path: path.into(), why: why.into() });
    }

    fn write(
        &mut self,
        path: impl Into<String>,
        text: impl Into<String>,
        mode: Option<u16>,
        why: Vec<String>,
    ) {
        self.changes.push(NetChange::Write { path: path.into(), text: text.into(), mode, why });
    }

    /// Changes of a stack that has an obstacle are not made by half.
    fn finish(mut self) -> Self {
        if !self.obstacles.is_empty() {
            self.changes.clear();
        }
        self
    }

    /// Takes over what another stack needs.
    pub fn join(&mut self, other: Outcome) {
        self.changes.extend(other.changes);
        self.kept.extend(other.kept);
        self.obstacles.extend(other.obstacles);
    }
}

impl Wanted<'_> {
    /// True for the interface itself, and for names that the same card had before.
    pub fn is_card(&self, name: &str) -> bool {
        name == self.interface
            || (self.kernel_names && is_predictable(name))
            || self.pinned.iter().any(|pinned| pinned == name)
    }
}

/// Names that udev gives Ethernet cards by their place: `ens3`, `enp1s0`, `eno1`, `enx…`; and `em1`, `p1p1` of
/// biosdevname. systemd.net-naming-scheme(7).
pub fn is_predictable(name: &str) -> bool {
    let is_digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_digit);
    let bytes = name.as_bytes();
    if !bytes.iter().all(u8::is_ascii_alphanumeric) {
        return false;
    }
    match bytes {
        [b'e', b'n', b'x', rest @ ..] => rest.len() == 12 && rest.iter().all(u8::is_ascii_hexdigit),
        [b'e', b'n', b'o' | b's' | b'p' | b'P' | b'v' | b'd' | b'c' | b'a' | b'i' | b'u', rest @ ..] => {
            is_digit(rest.first())
        }
        [b'e', b'm', rest @ ..] => !rest.is_empty() && rest.iter().all(u8::is_ascii_digit),
        [b'p', rest @ ..] => {
            let slot = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            slot > 0 && rest.get(slot) == Some(&b'p') && is_digit(rest.get(slot + 1))
        }
        _ => false,
    }
}

/// A shell pattern for interface names.
fn is_match(pattern: &str, name: &str) -> bool {
    crate::glob::name_matches(pattern, name.as_bytes())
}

/// A file as text; `Err` with a line for people when it is no UTF-8.
fn text(files: &dyn Files, path: &str) -> Result<Option<Result<String, String>>, VfsError> {
    let content = read_tolerant(files, &at(path))?;
    Ok(content.map(|content| String::from_utf8(content).map_err(|_| format!("{path}: not UTF-8"))))
}

fn names(files: &dyn Files, directory: &str) -> Result<Vec<String>, VfsError> {
    let mut names = names_tolerant(files, directory)?;
    names.truncate(FILES_MAX);
    Ok(names)
}

/// The switch that keeps cloud-init from writing a network configuration at boot, with the file that has it.
/// cloud-init documentation, "Network configuration", "Disabling network configuration".
pub fn cloud_init_switch(files: &dyn Files) -> Result<Option<String>, VfsError> {
    let mut paths = vec!["/etc/cloud/cloud.cfg".to_owned()];
    for name in names(files, "/etc/cloud/cloud.cfg.d")? {
        if name.ends_with(".cfg") {
            paths.push(format!("/etc/cloud/cloud.cfg.d/{name}"));
        }
    }
    for path in paths {
        let Some(Ok(text)) = text(files, &path)? else { continue };
        let Ok(value) = crate::yaml::read(&text) else { continue };
        let config = value.get("network").and_then(|network| network.get("config"));
        if config.and_then(yaml_serde::Value::as_str) == Some("disabled") {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_by_place() {
        for name in ["ens3", "enp1s0", "eno1", "enx525400123456", "em1", "p1p1", "enP2p1s0", "ens3f0np0"] {
            assert!(is_predictable(name), "{name}");
        }
        for name in
            ["eth0", "eth1", "br0", "bond0", "wg0", "lo", "ens3.100", "enable", "ppp0", "em", "wlp2s0"]
        {
            assert!(!is_predictable(name), "{name}");
        }
    }
}
