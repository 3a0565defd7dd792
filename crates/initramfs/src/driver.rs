//! Whether a driver is there before the root filesystem is.

use crate::index::{AliasLine, decode_index, parse_aliases, parse_deps};
use crate::kernel_modules::alias_lines_of_binary;
use crate::module_name::{module_name, normalized, normalized_alias};
use crate::{Archive, KernelModules, Lookup};

/// Where a driver is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DriverState {
    /// Inside the kernel image.
    BuiltIn,
    /// A module in the initramfs; usable when nothing stands against it.
    InInitramfs {
        /// Why it would not be loaded all the same.
        problems: Vec<DriverProblem>,
    },
    /// A module on the disk alone, so of no use before the root filesystem is mounted.
    OnDiskOnly,
    /// This kernel has no such driver.
    Absent,
}

impl DriverState {
    /// True when the driver works before the root filesystem is mounted.
    pub fn is_usable(&self) -> bool {
        match self {
            DriverState::BuiltIn => true,
            DriverState::InInitramfs { problems } => problems.is_empty(),
            DriverState::OnDiskOnly | DriverState::Absent => false,
        }
    }
}

/// Why a module in the initramfs would not be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DriverProblem {
    /// A module that it needs is not inside.
    DependencyMissing {
        /// Name of the module that is needed.
        name: String,
    },
    /// The index of modules inside does not list it, or lists other dependencies.
    NotInDependencyIndex {
        /// Which index file.
        file: String,
    },
    /// The index of aliases inside has none of its aliases, so no device brings it in.
    NotInAliasIndex {
        /// Which index file.
        file: String,
    },
    /// It is blacklisted inside.
    Blacklisted {
        /// File and line.
        place: String,
    },
}

impl DriverProblem {
    /// True when generating the indexes anew would solve it.
    pub fn is_index(&self) -> bool {
        matches!(self, DriverProblem::NotInDependencyIndex { .. } | DriverProblem::NotInAliasIndex { .. })
    }
}

/// Where the driver `name` is for this kernel and initramfs.
pub fn driver_state(archive: &Archive, kernel: &KernelModules, name: &str) -> DriverState {
    let name = normalized(name);
    let inside: Vec<_> =
        archive.modules().into_iter().filter(|module| module.kver == kernel.kver()).collect();
    if !inside.iter().any(|module| module.name == name) {
        return match kernel.lookup(&name) {
            Lookup::BuiltIn => DriverState::BuiltIn,
            Lookup::Modules(_) => DriverState::OnDiskOnly,
            Lookup::Absent => DriverState::Absent,
        };
    }
    let mut problems = Vec::new();
    for dep in kernel.dependencies(&name) {
        if !inside.iter().any(|module| module.name == dep.name) {
            problems.push(DriverProblem::DependencyMissing { name: dep.name });
        }
    }
    let indexes =
        ArchiveIndexes { archive, dir: archive.module_dir(kernel.kver()).unwrap_or_default(), kernel };
    let (file, listed) = indexes.dependencies(&name);
    let needs: Vec<String> = kernel.dependencies(&name).into_iter().map(|dep| dep.name).collect();
    if !listed.is_some_and(|listed| needs.iter().all(|dep| listed.contains(dep))) {
        problems.push(DriverProblem::NotInDependencyIndex { file });
    }
    if kernel.aliases_of(&name).next().is_some() {
        let (file, has_alias) = indexes.has_alias(&name);
        if !has_alias {
            problems.push(DriverProblem::NotInAliasIndex { file });
        }
    }
    if let Some(place) = archive.module_blacklist().place(&name) {
        problems.push(DriverProblem::Blacklisted { place: place.to_string() });
    }
    DriverState::InInitramfs { problems }
}

/// Modules that the alias index inside the image names for a device's modalias.
pub fn modules_for_alias_inside(archive: &Archive, kernel: &KernelModules, alias: &str) -> Vec<String> {
    let dir = archive.module_dir(kernel.kver()).unwrap_or_default();
    let alias = normalized_alias(alias).unwrap_or_else(|| alias.to_string());
    let (_, lines) = ArchiveIndexes { archive, dir, kernel }.aliases();
    let mut names: Vec<String> = lines
        .iter()
        .filter(|line| crate::kernel_modules::alias_matches(&line.pattern, &alias))
        .map(|line| normalized(&line.module))
        .collect();
    names.sort();
    names.dedup();
    names
}

/// The index files inside an image: kmod reads the binary form, busybox the text.
struct ArchiveIndexes<'a> {
    archive: &'a Archive,
    dir: String,
    kernel: &'a KernelModules,
}

impl ArchiveIndexes<'_> {
    /// Which index was looked into, and the names of what `name` needs by it.
    fn dependencies(&self, name: &str) -> (String, Option<Vec<String>>) {
        let binary = format!("{}/modules.dep.bin", self.dir);
        let line_deps = |text: &[u8]| {
            parse_deps(self.kernel.kver(), text)
                .into_iter()
                .find(|line| module_name(&line.path).as_deref() == Some(name))
                .map(|line| line.deps.iter().filter_map(|path| module_name(path)).collect())
        };
        if let Some(bytes) = self.archive.read_file(&binary) {
            let entries = decode_index(&binary, &bytes).unwrap_or_default();
            let entry = entries.into_iter().find(|entry| entry.key == name);
            let line = entry.and_then(|entry| entry.values.into_iter().next());
            return (binary, line.and_then(|(_, line)| line_deps(line.as_bytes())));
        }
        let text = format!("{}/modules.dep", self.dir);
        let deps = self.archive.read_file(&text).and_then(|content| line_deps(&content));
        (text, deps)
    }

    fn has_alias(&self, name: &str) -> (String, bool) {
        let (file, lines) = self.aliases();
        let has_alias = lines.iter().any(|line| normalized(&line.module) == name);
        (file, has_alias)
    }

    fn aliases(&self) -> (String, Vec<AliasLine>) {
        let binary = format!("{}/modules.alias.bin", self.dir);
        if let Some(bytes) = self.archive.read_file(&binary) {
            let lines = alias_lines_of_binary(&binary, &bytes).unwrap_or_default();
            return (binary, lines);
        }
        let text = format!("{}/modules.alias", self.dir);
        let lines = self.archive.read_file(&text).map(|content| parse_aliases(&content)).unwrap_or_default();
        (text, lines)
    }
}
