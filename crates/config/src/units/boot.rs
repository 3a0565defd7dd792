//! What starts a unit: the dependencies that the default target pulls in, sockets, timers, devices, D-Bus.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use vfs::VfsError;

use super::{DEPENDENCIES, Units, base_name, template_of, with_suffix};

/// Units followed at most.
const UNITS_MAX: usize = 4000;
/// udev rules and D-Bus services looked at, each.
const FILES_MAX: usize = 2000;

/// Targets of a normal boot, also where an image has none of systemd's own files.
const BOOT_TARGETS: [&str; 7] = [
    "multi-user.target",
    "basic.target",
    "sysinit.target",
    "sockets.target",
    "timers.target",
    "paths.target",
    "local-fs.target",
];
/// Targets of which there is no way to the others.
const RESCUE_TARGETS: [&str; 3] = ["rescue.target", "emergency.target", "poweroff.target"];

/// Settings of `[Unit]` that start another unit. systemd.unit(5).
const STARTING: [&str; 4] = ["Wants", "Requires", "BindsTo", "Upholds"];

/// Programs that make units at boot, with the unit and the file that keeps them from it. systemd.generator(7).
const GENERATORS: [(&str, &str, &str); 1] =
    [("cloud-init-generator", "cloud-init.target", "/etc/cloud/cloud-init.disabled")];

const UDEV_DIRECTORIES: [&str; 4] =
    ["/etc/udev/rules.d", "/usr/local/lib/udev/rules.d", "/usr/lib/udev/rules.d", "/lib/udev/rules.d"];
const BUS_DIRECTORIES: [&str; 2] =
    ["/usr/local/share/dbus-1/system-services", "/usr/share/dbus-1/system-services"];

/// How a unit is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StarterKind {
    /// A link in a `.wants`, `.requires` or `.upholds` directory of a unit that is started.
    Link,
    /// A setting in the file of a unit that is started.
    Unit,
    /// A socket, timer or path unit that is started.
    Trigger,
    /// A udev rule: a device that appears.
    Device,
    /// A D-Bus name that is called.
    Bus,
    /// A program that makes units at boot.
    Generator,
    /// It is the default target, or one of those under it.
    Boot,
}

/// Something that starts a unit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Starter {
    /// How.
    pub kind: StarterKind,
    /// The link, unit or file.
    pub by: String,
}

impl std::fmt::Display for Starter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.kind {
            StarterKind::Link => write!(f, "link {}", self.by),
            StarterKind::Unit => write!(f, "wanted by {}", self.by),
            StarterKind::Trigger => write!(f, "started by {}", self.by),
            StarterKind::Device => write!(f, "started for a device by {}", self.by),
            StarterKind::Bus => write!(f, "started for a D-Bus name by {}", self.by),
            StarterKind::Generator => write!(f, "started by what {} makes", self.by),
            StarterKind::Boot => write!(f, "part of every boot"),
        }
    }
}

/// Dependencies found so far: unit, and what starts it.
#[derive(Default)]
struct Walk {
    starters: BTreeMap<String, BTreeSet<Starter>>,
    todo: VecDeque<String>,
    done: BTreeSet<String>,
}

impl Walk {
    fn add(&mut self, name: &str, kind: StarterKind, by: impl Into<String>) {
        let by = Starter { kind, by: by.into() };
        self.starters.entry(name.to_owned()).or_default().insert(by);
        if !self.done.contains(name) {
            self.todo.push_back(name.to_owned());
        }
    }
}

impl Units<'_> {
    /// Everything that starts a unit in a normal boot or later, for a device or a D-Bus name; nothing for a unit that is masked or
    /// not there.
    pub fn starters(&self, name: &str) -> Result<Vec<Starter>, VfsError> {
        let name = with_suffix(name);
        let Some(unit) = self.find(&name)?.filter(|unit| !unit.is_masked) else { return Ok(Vec::new()) };
        let mut found = self.boot()?.remove(&unit.name).unwrap_or_default();
        for (wanted, file) in self.devices()? {
            if self.is_same(&wanted, &unit.name)? {
                found.insert(Starter { kind: StarterKind::Device, by: file });
            }
        }
        for (wanted, file) in self.bus_services()? {
            if self.is_same(&wanted, &unit.name)? {
                found.insert(Starter { kind: StarterKind::Bus, by: file });
            }
        }
        Ok(found.into_iter().collect())
    }

    /// True when a normal boot starts the unit, or a socket that it belongs to.
    pub fn starts_at_boot(&self, name: &str) -> Result<bool, VfsError> {
        let starters = self.starters(name)?;
        Ok(starters.iter().any(|by| !matches!(by.kind, StarterKind::Device | StarterKind::Bus)))
    }

    fn is_same(&self, name: &str, unit: &str) -> Result<bool, VfsError> {
        Ok(name == unit || self.find(name)?.is_some_and(|found| found.name == unit))
    }

    /// All units that the default target starts, with what starts each.
    fn boot(&self) -> Result<BTreeMap<String, BTreeSet<Starter>>, VfsError> {
        let mut walk = Walk::default();
        let default = self.find("default.target")?.map_or("multi-user.target".into(), |unit| unit.name);
        walk.add(&default, StarterKind::Boot, "default.target");
        if !RESCUE_TARGETS.contains(&default.as_str()) {
            for target in BOOT_TARGETS {
                walk.add(target, StarterKind::Boot, target);
            }
        }
        for (generator, target, disabled) in GENERATORS {
            if !self.files.has(disabled)? {
                for directory in ["/usr/lib", "/lib"] {
                    let path = format!("{directory}/systemd/system-generators/{generator}");
                    if self.files.has(&path)? {
                        walk.add(target, StarterKind::Generator, path);
                        break;
                    }
                }
            }
        }
        let links = self.all_dependency_links()?;
        while let Some(name) = walk.todo.pop_front() {
            if walk.done.len() >= UNITS_MAX || !walk.done.insert(name.clone()) {
                continue;
            }
            self.follow(&name, &links, &mut walk)?;
        }
        Ok(walk.starters)
    }

    /// Adds what one started unit starts.
    fn follow(
        &self,
        name: &str,
        links: &BTreeMap<String, Vec<(String, String)>>,
        walk: &mut Walk,
    ) -> Result<(), VfsError> {
        let unit = self.find(name)?;
        if unit.as_ref().is_some_and(|unit| unit.is_masked) {
            return Ok(());
        }
        let own = unit.as_ref().map_or(name, |unit| unit.name.as_str()).to_owned();
        if own != name {
            let by = walk.starters.get(name).cloned().unwrap_or_default();
            walk.starters.entry(own.clone()).or_default().extend(by);
            if walk.done.contains(&own) {
                return Ok(());
            }
        }
        let mut names = vec![own.clone()];
        names.extend((own != name).then(|| name.to_owned()));
        names.extend(template_of(&own));
        for name in names {
            for (wanted, path) in links.get(&name).into_iter().flatten() {
                walk.add(wanted, StarterKind::Link, path.clone());
            }
        }
        let Some(unit) = unit else { return Ok(()) };
        let file = self.load(&unit)?;
        for key in STARTING {
            for wanted in file.list("Unit", key) {
                if let Some(wanted) = super::install::expand(&wanted, &own) {
                    walk.add(&wanted, StarterKind::Unit, own.clone());
                }
            }
        }
        let stem = own.rsplit_once('.').map_or(own.as_str(), |(stem, _)| stem);
        let (section, key) = match own.rsplit('.').next() {
            Some("socket") => ("Socket", "Service"),
            Some("timer") => ("Timer", "Unit"),
            Some("path") => ("Path", "Unit"),
            _ => return Ok(()),
        };
        let is_accepting = matches!(file.last("Socket", "Accept"), Some("yes" | "true" | "1" | "on"));
        let default = if is_accepting { format!("{stem}@.service") } else { format!("{stem}.service") };
        let triggered = file.last(section, key).filter(|name| !name.is_empty()).unwrap_or(&default);
        walk.add(triggered, StarterKind::Trigger, own.clone());
        Ok(())
    }

    /// By the name of the unit that has them, its dependency links: name and path.
    fn all_dependency_links(&self) -> Result<BTreeMap<String, Vec<(String, String)>>, VfsError> {
        let mut all: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
        for directory in self.directories() {
            for place in self.dependency_directories(directory)? {
                let base = base_name(&place);
                let owner = DEPENDENCIES.iter().find_map(|suffix| base.strip_suffix(suffix)).unwrap_or(base);
                for (name, _) in self.links_in(&place)? {
                    let path = format!("{place}/{name}");
                    all.entry(owner.to_owned()).or_default().push((name, path));
                }
            }
        }
        Ok(all)
    }

    /// Units that udev rules ask for, and the file. A file of the same name in a directory before hides another.
    fn devices(&self) -> Result<Vec<(String, String)>, VfsError> {
        let mut found = Vec::new();
        let mut seen = BTreeSet::new();
        for directory in UDEV_DIRECTORIES {
            for name in self.names(directory)?.into_iter().take(FILES_MAX) {
                if !name.ends_with(".rules") || !seen.insert(name.clone()) {
                    continue;
                }
                let path = format!("{directory}/{name}");
                let Some(content) = self.read(&path)? else { continue };
                let text = String::from_utf8_lossy(&content).into_owned();
                for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
                    let values = line.split("SYSTEMD_WANTS}").skip(1).filter_map(|rest| {
                        let rest = rest.trim_start_matches(['+', ':', '=', ' ']);
                        rest.strip_prefix('"')?.split('"').next()
                    });
                    let units = values.flat_map(str::split_whitespace);
                    found.extend(units.map(|unit| (with_suffix(unit), path.clone())));
                }
            }
        }
        Ok(found)
    }

    /// Units that D-Bus starts for a name, and the file.
    fn bus_services(&self) -> Result<Vec<(String, String)>, VfsError> {
        let mut found = Vec::new();
        for directory in BUS_DIRECTORIES {
            for name in self.names(directory)?.into_iter().take(FILES_MAX) {
                let path = format!("{directory}/{name}");
                let Some(content) = self.read(&path)?.filter(|_| name.ends_with(".service")) else {
                    continue;
                };
                let file = super::UnitFile::parse(&String::from_utf8_lossy(&content));
                if let Some(unit) = file.last("D-BUS Service", "SystemdService") {
                    found.push((unit.to_owned(), path));
                }
            }
        }
        Ok(found)
    }
}
