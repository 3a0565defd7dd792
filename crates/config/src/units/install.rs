//! The links that `systemctl enable`, `disable` and `mask` make and remove.

use std::collections::BTreeSet;

use vfs::VfsError;

use super::{CONFIG, Unit, UnitFile, Units, base_name, is_unit_name, template_of, with_suffix};

/// Units that follow each other by `Also=` at most.
const ALSO_MAX: usize = 64;
/// Directories below each other in `/etc/systemd/system` that are looked at.
const DEPTH_MAX: usize = 4;

/// A change of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnitChange {
    /// The name goes.
    Remove {
        /// Guest path.
        path: String,
    },
    /// A symlink; whatever link is there is replaced.
    Link {
        /// Guest path.
        path: String,
        /// Target.
        target: String,
    },
}

impl std::fmt::Display for UnitChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            UnitChange::Remove { path } => write!(f, "{path}: removed"),
            UnitChange::Link { path, target } => write!(f, "{path}: link to {target}"),
        }
    }
}

/// What `[Install]` of a unit says.
#[derive(Debug, Clone, Default)]
pub(super) struct Install {
    pub wanted_by: Vec<String>,
    pub required_by: Vec<String>,
    pub upheld_by: Vec<String>,
    pub aliases: Vec<String>,
    pub also: Vec<String>,
    pub default_instance: Option<String>,
}

impl Install {
    pub(super) fn of(file: &UnitFile, name: &str) -> Self {
        let list = |key| {
            let words = file.list("Install", key);
            words.into_iter().filter_map(|word| expand(&word, name)).collect::<Vec<_>>()
        };
        Self {
            wanted_by: list("WantedBy"),
            required_by: list("RequiredBy"),
            upheld_by: list("UpheldBy"),
            aliases: list("Alias"),
            also: list("Also"),
            default_instance: file.last("Install", "DefaultInstance").map(str::to_owned),
        }
    }

    pub(super) fn has_rules(&self) -> bool {
        [&self.wanted_by, &self.required_by, &self.upheld_by, &self.aliases]
            .into_iter()
            .any(|list| !list.is_empty())
    }

    /// Name of the link in a `.wants` directory: of a template its default instance.
    pub(super) fn link_name(&self, name: &str) -> Option<String> {
        if template_of(name).as_deref() != Some(name) {
            return Some(name.to_owned());
        }
        let instance = self.default_instance.as_deref().filter(|instance| !instance.is_empty())?;
        let (prefix, suffix) = name.split_once('@')?;
        Some(format!("{prefix}@{instance}{suffix}"))
    }
}

/// The specifiers that make sense in `[Install]`; `None` for a word with others.
pub(super) fn expand(word: &str, name: &str) -> Option<String> {
    if !word.contains('%') {
        return Some(word.to_owned());
    }
    let without_suffix = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let (prefix, instance) = without_suffix.split_once('@').unwrap_or((without_suffix, ""));
    let mut text = String::new();
    let mut letters = word.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            text.push(letter);
            continue;
        }
        match letters.next()? {
            'i' | 'I' => text.push_str(instance),
            'p' | 'P' => text.push_str(prefix),
            'n' => text.push_str(name),
            'N' => text.push_str(without_suffix),
            'j' => text.push_str(prefix.rsplit('-').next().unwrap_or(prefix)),
            '%' => text.push('%'),
            _ => return None,
        }
    }
    Some(text)
}

impl Units<'_> {
    pub(super) fn install(&self, unit: &Unit) -> Result<Install, VfsError> {
        Ok(Install::of(&self.load(unit)?, &unit.name))
    }

    /// The unit and all that its `[Install]` names by `Also=`, those that are not there by name alone.
    fn with_also(&self, name: &str) -> Result<Vec<(String, Option<Unit>)>, VfsError> {
        let mut todo = vec![with_suffix(name)];
        let mut all: Vec<(String, Option<Unit>)> = Vec::new();
        while let Some(name) = todo.pop() {
            if all.iter().any(|(known, _)| *known == name) || all.len() >= ALSO_MAX {
                continue;
            }
            let unit = self.find(&name)?;
            if let Some(unit) = &unit {
                todo.extend(self.install(unit)?.also.into_iter().rev());
                if unit.name != name {
                    todo.push(unit.name.clone());
                }
            }
            all.push((name, unit));
        }
        Ok(all)
    }

    /// What `systemctl disable` removes: every link below `/etc/systemd/system` that has the name of the unit
    /// or leads to it, and those of the units that go with it. A masked unit keeps its links.
    pub fn disable(&self, name: &str) -> Result<Vec<UnitChange>, VfsError> {
        let mut marked = BTreeSet::new();
        for (name, unit) in self.with_also(name)? {
            if unit.is_none_or(|unit| !unit.is_masked) {
                marked.insert(name);
            }
        }
        let links = self.config_links(CONFIG, 0)?;
        let mut removed: Vec<String> = Vec::new();
        loop {
            let before = removed.len();
            for (path, target) in &links {
                let is_marked = [path.as_str(), base_name(path), target.as_str(), base_name(target)]
                    .into_iter()
                    .any(|name| marked.contains(name));
                if is_marked && !removed.contains(path) {
                    removed.push(path.clone());
                    // An alias of the link that goes leads nowhere then.
                    marked.insert(path.clone());
                }
            }
            if removed.len() == before {
                removed.sort();
                return Ok(removed.into_iter().map(|path| UnitChange::Remove { path }).collect());
            }
        }
    }

    fn config_links(&self, directory: &str, depth: usize) -> Result<Vec<(String, String)>, VfsError> {
        let mut links = Vec::new();
        for name in self.names(directory)? {
            let path = format!("{directory}/{name}");
            match self.link(&path)? {
                Some(target) if is_unit_name(&name) => links.push((path, target)),
                Some(_) => {}
                None if depth < DEPTH_MAX => links.extend(self.config_links(&path, depth + 1)?),
                None => {}
            }
        }
        Ok(links)
    }

    /// What `systemctl enable` makes, for the unit and those that go with it. Nothing for a unit that is
    /// masked or not there.
    pub fn enable(&self, name: &str) -> Result<Vec<UnitChange>, VfsError> {
        let mut changes = Vec::new();
        for (name, unit) in self.with_also(name)? {
            let Some(unit) = unit.filter(|unit| !unit.is_masked && unit.name == name) else { continue };
            let install = self.install(&unit)?;
            let suffix = unit.name.rsplit('.').next();
            for alias in &install.aliases {
                // A template may be called by templates and instances only, any other unit by neither (systemd.unit(5)).
                let is_fitting = is_unit_name(alias)
                    && alias.rsplit('.').next() == suffix
                    && alias.contains('@') == unit.name.contains('@');
                if is_fitting && *alias != unit.name {
                    self.add_link(format!("{CONFIG}/{alias}"), &unit.path, false, &mut changes)?;
                }
            }
            let Some(link_name) = install.link_name(&unit.name) else { continue };
            let lists = [
                (&install.wanted_by, "wants"),
                (&install.required_by, "requires"),
                (&install.upheld_by, "upholds"),
            ];
            for (targets, kind) in lists {
                for target in targets.iter().filter(|target| is_unit_name(target)) {
                    let path = format!("{CONFIG}/{target}.{kind}/{link_name}");
                    self.add_link(path, &unit.path, true, &mut changes)?;
                }
            }
        }
        Ok(changes)
    }

    /// A link where none with that meaning is. An alias that another unit has is left to it.
    fn add_link(
        &self,
        path: String,
        target: &str,
        replaces: bool,
        changes: &mut Vec<UnitChange>,
    ) -> Result<(), VfsError> {
        let is_same = |now: &str| {
            let strip = |path: &str| path.strip_prefix("/usr").unwrap_or(path).to_owned();
            now == target || (self.is_merged && strip(now) == strip(target))
        };
        match self.link(&path)? {
            Some(now) if is_same(&now) => Ok(()),
            Some(_) if !replaces => Ok(()),
            None if self.files.exists(&super::at(&path))? => Ok(()),
            _ => {
                changes.push(UnitChange::Link { path, target: target.to_owned() });
                Ok(())
            }
        }
    }

    /// What `systemctl mask` makes; an error text when a unit file of the administrator stands in the way.
    pub fn mask(&self, name: &str) -> Result<Result<Vec<UnitChange>, String>, VfsError> {
        let path = format!("{CONFIG}/{}", with_suffix(name));
        match self.link(&path)? {
            Some(target) if target == "/dev/null" => Ok(Ok(Vec::new())),
            None if self.files.exists(&super::at(&path))? => {
                let is_empty = self.read(&path)?.is_some_and(|content| content.trim_ascii().is_empty());
                Ok(if is_empty {
                    Ok(Vec::new())
                } else {
                    Err(format!("{path}: a unit file of this machine stands where the mask would"))
                })
            }
            _ => Ok(Ok(vec![UnitChange::Link { path, target: "/dev/null".into() }])),
        }
    }

    /// What `systemctl unmask` removes.
    pub fn unmask(&self, name: &str) -> Result<Vec<UnitChange>, VfsError> {
        let path = format!("{CONFIG}/{}", with_suffix(name));
        let is_masked = match self.link(&path)? {
            Some(target) => target == "/dev/null",
            None => self.read(&path)?.is_some_and(|content| content.is_empty()),
        };
        Ok(if is_masked { vec![UnitChange::Remove { path }] } else { Vec::new() })
    }
}
