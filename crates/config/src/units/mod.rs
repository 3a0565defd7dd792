//! systemd's units: which there are, what starts them, and the links that switch them on and off.
//!
//! Facts: systemd.unit(5) (unit load path, `.wants/`, aliases, drop-ins, `[Install]`), systemctl(1)
//! (`enable`, `disable`, `mask`, `is-enabled`).

mod boot;
mod install;
mod state;
mod unit_file;

use std::collections::BTreeSet;

use vfs::{GuestPath, VfsError};

use crate::Files;

pub use boot::{Starter, StarterKind};
pub use install::UnitChange;
pub use state::UnitState;
pub use unit_file::UnitFile;

/// Where an administrator's units and links are.
pub(crate) const CONFIG: &str = "/etc/systemd/system";

/// Unit load path, highest priority first. The first two are for the running system; what an image has there
/// is gone at boot, except where it was packed with a `/run` of its own, so they are left out.
const SEARCH: [&str; 4] =
    [CONFIG, "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];

/// Endings of directories whose links are dependencies.
const DEPENDENCIES: [&str; 3] = [".wants", ".requires", ".upholds"];

/// Types of units.
const SUFFIXES: [&str; 11] = [
    ".service",
    ".socket",
    ".device",
    ".mount",
    ".automount",
    ".swap",
    ".target",
    ".path",
    ".timer",
    ".slice",
    ".scope",
];

/// Links of one alias followed at most.
const ALIASES_MAX: usize = 8;

/// The units of a guest.
#[derive(Clone, Copy)]
pub struct Units<'f> {
    files: &'f dyn Files,
    /// True when `/lib` leads to `/usr/lib`.
    is_merged: bool,
    /// How `/usr/lib/systemd/system` is spelled in the links of this guest.
    vendor: &'static str,
}

/// A unit as the load path has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Its own name: not that of an alias.
    pub name: String,
    /// File that defines it; the link to `/dev/null` or the empty file when it is masked.
    pub path: String,
    /// True when it cannot be started.
    pub is_masked: bool,
    /// True when it was looked up by another name.
    pub by_alias: bool,
}

impl<'f> Units<'f> {
    /// The units that `files` define.
    pub fn new(files: &'f dyn Files) -> Result<Self, VfsError> {
        let is_merged = files.link_target(&at("/lib"))?.is_some();
        let mut units = Self { files, is_merged, vendor: SEARCH[2] };
        if units.links_spell_lib()? {
            units.vendor = SEARCH[3];
        }
        Ok(units)
    }

    /// True where systemd is installed.
    pub fn has_systemd(&self) -> Result<bool, VfsError> {
        Ok(self.files.has("/usr/lib/systemd/systemd")?
            || self.files.has("/lib/systemd/systemd")?
            || self.files.has("/usr/lib/systemd/system")?
            || self.files.has("/lib/systemd/system")?)
    }

    /// Debian's systemd up to 12 was built for a separate `/lib`, and its links say so.
    fn links_spell_lib(&self) -> Result<bool, VfsError> {
        for directory in self.dependency_directories(CONFIG)? {
            for (_, target) in self.links_in(&directory)? {
                if target.starts_with(SEARCH[3]) {
                    return Ok(true);
                }
                if target.starts_with(SEARCH[2]) {
                    return Ok(false);
                }
            }
        }
        Ok(!self.is_merged && self.files.has(SEARCH[3])?)
    }

    /// Directories of the load path, highest priority first.
    fn directories(&self) -> Vec<&'static str> {
        match (self.is_merged, self.vendor == SEARCH[3]) {
            (true, true) => vec![SEARCH[0], SEARCH[1], SEARCH[3]],
            (true, false) => vec![SEARCH[0], SEARCH[1], SEARCH[2]],
            (false, true) => vec![SEARCH[0], SEARCH[1], SEARCH[3], SEARCH[2]],
            (false, false) => SEARCH.to_vec(),
        }
    }

    /// The unit that a name leads to: through aliases, and to the template of an instance.
    pub fn find(&self, name: &str) -> Result<Option<Unit>, VfsError> {
        let mut current = name.to_owned();
        for _ in 0..ALIASES_MAX {
            let Some((path, link)) = self.entry(&current)? else {
                return match template_of(&current) {
                    Some(template) if template != current => {
                        Ok(self.find_plain(&template)?.map(|unit| Unit { name: current.clone(), ..unit }))
                    }
                    _ => Ok(None),
                };
            };
            let by_alias = current != name;
            let Some(target) = link else {
                let is_masked = self.read(&path)?.is_none_or(|content| content.trim_ascii().is_empty());
                return Ok(Some(Unit { name: current, path, is_masked, by_alias }));
            };
            if target == "/dev/null" {
                return Ok(Some(Unit { name: current, path, is_masked: true, by_alias }));
            }
            let base = base_name(&target).to_owned();
            let is_in_path = SEARCH.iter().any(|directory| parent(&target) == *directory);
            if base == current || !is_unit_name(&base) || !is_in_path {
                // A unit file that stands elsewhere, or the same name further down the load path.
                let is_masked = self.read(&target)?.is_none_or(|content| content.trim_ascii().is_empty());
                return Ok(Some(Unit { name: current, path: target, is_masked, by_alias }));
            }
            current = base;
        }
        Ok(None)
    }

    fn find_plain(&self, name: &str) -> Result<Option<Unit>, VfsError> {
        let Some((path, link)) = self.entry(name)? else { return Ok(None) };
        let is_masked = link.as_deref() == Some("/dev/null");
        Ok(Some(Unit { name: name.to_owned(), path, is_masked, by_alias: false }))
    }

    /// The first entry of the load path with this name, and where it leads when it is a link.
    fn entry(&self, name: &str) -> Result<Option<(String, Option<String>)>, VfsError> {
        for directory in self.directories() {
            let path = format!("{directory}/{name}");
            if let Some(target) = self.link(&path)? {
                return Ok(Some((path, Some(target))));
            }
            if self.files.exists(&at(&path))? {
                return Ok(Some((path, None)));
            }
        }
        Ok(None)
    }

    /// A unit's file with its drop-ins over it.
    pub fn load(&self, unit: &Unit) -> Result<UnitFile, VfsError> {
        let mut file = UnitFile::default();
        if unit.is_masked {
            return Ok(file);
        }
        if let Some(content) = self.read(&unit.path)? {
            file.add(&String::from_utf8_lossy(&content));
        }
        for path in self.drop_ins(&unit.name)? {
            if let Some(content) = self.read(&path)? {
                file.add(&String::from_utf8_lossy(&content));
            }
        }
        Ok(file)
    }

    /// Drop-ins in the order of their names; of one name the one of the highest priority.
    fn drop_ins(&self, name: &str) -> Result<Vec<String>, VfsError> {
        let mut directories = vec![format!("{name}.d")];
        directories.extend(template_of(name).filter(|t| t != name).map(|template| format!("{template}.d")));
        let mut seen = BTreeSet::new();
        let mut found = Vec::new();
        for sub in directories {
            for directory in self.directories() {
                let directory = format!("{directory}/{sub}");
                for file in self.names(&directory)? {
                    if file.ends_with(".conf") && seen.insert(file.clone()) {
                        found.push((file.clone(), format!("{directory}/{file}")));
                    }
                }
            }
        }
        found.sort();
        Ok(found.into_iter().map(|(_, path)| path).collect())
    }

    /// Directories of dependency links below one directory of the load path.
    fn dependency_directories(&self, directory: &str) -> Result<Vec<String>, VfsError> {
        let names = self.names(directory)?;
        let is_dependency = |name: &String| DEPENDENCIES.iter().any(|suffix| name.ends_with(suffix));
        Ok(names.into_iter().filter(is_dependency).map(|name| format!("{directory}/{name}")).collect())
    }

    /// Symlinks in a directory whose names are those of units: name and absolute target.
    fn links_in(&self, directory: &str) -> Result<Vec<(String, String)>, VfsError> {
        let mut links = Vec::new();
        for name in self.names(directory)? {
            if is_unit_name(&name)
                && let Some(target) = self.link(&format!("{directory}/{name}"))?
            {
                links.push((name, target));
            }
        }
        Ok(links)
    }

    /// Target of a symlink as an absolute path.
    fn link(&self, path: &str) -> Result<Option<String>, VfsError> {
        let target = self.files.link_target(&at(path))?;
        Ok(target.map(|target| absolute(parent(path), &String::from_utf8_lossy(&target))))
    }

    /// Names in a directory; none also where links lead in a circle.
    fn names(&self, directory: &str) -> Result<Vec<String>, VfsError> {
        crate::files::names_tolerant(self.files, directory)
    }

    /// Content of a unit file; `None` also for what is no file of a reasonable size.
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, VfsError> {
        crate::files::read_tolerant(self.files, &at(path))
    }
}

pub(crate) fn at(path: &str) -> GuestPath {
    GuestPath::root().join(path)
}

pub(crate) fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// `target` seen from `directory`, `.` and `..` resolved by name.
fn absolute(directory: &str, target: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let whole = if target.starts_with('/') { target.to_owned() } else { format!("{directory}/{target}") };
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    format!("/{}", parts.join("/"))
}

/// True for a name that can be a unit's.
fn is_unit_name(name: &str) -> bool {
    SUFFIXES.iter().any(|suffix| name.len() > suffix.len() && name.ends_with(suffix))
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte))
}

/// `a@.service` of `a@b.service` and of itself; `None` for a name without `@`.
fn template_of(name: &str) -> Option<String> {
    let (prefix, rest) = name.split_once('@')?;
    let suffix = SUFFIXES.iter().find(|suffix| rest.ends_with(**suffix))?;
    Some(format!("{prefix}@{suffix}"))
}

/// A name with the suffix of a service where it has none.
pub(crate) fn with_suffix(name: &str) -> String {
    if SUFFIXES.iter().any(|suffix| name.ends_with(suffix)) {
        name.to_owned()
    } else {
        format!("{name}.service")
    }
}
