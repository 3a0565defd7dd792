//! The modules of one kernel, as the index files of its module directory list them.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::index::{
    AliasLine, DepLine, SoftDep, decode_index, lines, parse_aliases, parse_deps, parse_softdeps,
    parse_weakdeps,
};
use crate::module_file::load_module;
use crate::module_name::{module_name, normalized, normalized_alias};
use crate::{InitramfsError, Limits, ModuleSource, pattern};

/// An index file of real kernels stays below 8 MiB.
const INDEX_FILE_MAX: usize = 64 << 20;
/// Chain of dependencies and soft dependencies; real ones stay below 15.
const DEPTH_MAX: usize = 64;

/// A module of a kernel.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelModule {
    /// Name as the kernel has it.
    pub name: String,
    /// Path below the module directory.
    pub path: String,
}

/// What a name or an alias stands for in a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// These modules (a name has one, an alias may have several).
    Modules(Vec<KernelModule>),
    /// A driver inside the kernel image.
    BuiltIn,
    /// Nothing.
    Absent,
}

/// Everything that must be loaded for a set of wanted modules.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Closure {
    /// Modules in the order in which they can be loaded.
    pub modules: Vec<KernelModule>,
    /// Wanted names that are inside the kernel image.
    pub builtin: Vec<String>,
    /// Wanted names that the kernel does not have.
    pub missing: Vec<String>,
}

/// The index files of one kernel.
#[derive(Debug, Clone)]
pub struct KernelModules {
    kver: String,
    modules: Vec<KernelModule>,
    deps: Vec<Vec<String>>,
    by_name: HashMap<String, usize>,
    by_path: HashMap<String, usize>,
    aliases: Vec<AliasLine>,
    softdeps: HashMap<String, Vec<SoftDep>>,
    weakdeps: HashMap<String, Vec<String>>,
    builtin: HashSet<String>,
    builtin_aliases: Vec<AliasLine>,
    order: Vec<u8>,
    builtin_files: BTreeMap<&'static str, Vec<u8>>,
}

impl KernelModules {
    /// Reads `modules.dep`, `.alias`, `.softdep`, `.weakdep`, `.builtin`, `.builtin.modinfo` and `.order`.
    pub fn load(kver: &str, source: &dyn ModuleSource) -> Result<Self, InitramfsError> {
        let read = |name: &str| -> Result<Option<Vec<u8>>, InitramfsError> {
            match source.read(name)? {
                Some(content) if content.len() > INDEX_FILE_MAX => Err(InitramfsError::Index {
                    file: name.to_string(),
                    detail: format!("{} bytes; expected at most {INDEX_FILE_MAX}", content.len()),
                }),
                content => Ok(content),
            }
        };
        let dep_lines = match read("modules.dep")? {
            Some(text) => parse_deps(kver, &text),
            None => match read("modules.dep.bin")? {
                Some(bytes) => dep_lines_of_binary(kver, &bytes)?,
                None => {
                    return Err(InitramfsError::NoModules {
                        kver: kver.to_string(),
                        detail: "its module directory has no modules.dep".into(),
                    });
                }
            },
        };
        let aliases = match read("modules.alias")? {
            Some(text) => parse_aliases(&text),
            None => match read("modules.alias.bin")? {
                Some(bytes) => alias_lines_of_binary("modules.alias.bin", &bytes)?,
                None => Vec::new(),
            },
        };
        let mut this = Self {
            kver: kver.to_string(),
            modules: Vec::new(),
            deps: Vec::new(),
            by_name: HashMap::new(),
            by_path: HashMap::new(),
            aliases,
            softdeps: HashMap::new(),
            weakdeps: HashMap::new(),
            builtin: HashSet::new(),
            builtin_aliases: Vec::new(),
            order: read("modules.order")?.unwrap_or_default(),
            builtin_files: BTreeMap::new(),
        };
        for line in dep_lines {
            let Some(name) = module_name(&line.path) else { continue };
            let index = this.modules.len();
            this.by_path.insert(line.path.clone(), index);
            // depmod writes one line for each name.
            this.by_name.entry(name.clone()).or_insert(index);
            this.modules.push(KernelModule { name, path: line.path });
            this.deps.push(line.deps);
        }
        for softdep in parse_softdeps(&read("modules.softdep")?.unwrap_or_default()) {
            this.softdeps.entry(normalized(&softdep.module)).or_default().push(softdep);
        }
        for (module, deps) in parse_weakdeps(&read("modules.weakdep")?.unwrap_or_default()) {
            this.weakdeps.entry(normalized(&module)).or_default().extend(deps);
        }
        for name in
            ["modules.builtin", "modules.builtin.modinfo", "modules.builtin.bin", "modules.builtin.alias.bin"]
        {
            if let Some(content) = read(name)? {
                this.builtin_files.insert(name, content);
            }
        }
        this.read_builtin();
        Ok(this)
    }

    fn read_builtin(&mut self) {
        let file = |name: &str| self.builtin_files.get(name).map(Vec::as_slice).unwrap_or(&[]);
        let mut builtin: HashSet<String> =
            lines(file("modules.builtin")).iter().filter_map(|path| module_name(path)).collect();
        let mut aliases = Vec::new();
        for text in file("modules.builtin.modinfo").split(|byte| *byte == 0) {
            let text = String::from_utf8_lossy(text);
            let Some((key, value)) = text.split_once('=') else { continue };
            match key.rsplit_once('.') {
                Some((module, "alias")) => {
                    let alias = AliasLine { pattern: value.to_string(), module: normalized(module) };
                    aliases.push(alias);
                }
                Some((module, "name")) if value == module => {
                    builtin.insert(normalized(module));
                }
                _ => {}
            }
        }
        self.builtin = builtin;
        self.builtin_aliases = aliases;
    }

    /// Type of a module's parameter as the module itself (or, of a driver inside the kernel image,
    /// `modules.builtin.modinfo`) tells it: `uint`, `byte`, …; `None` when there is no such module or parameter.
    pub fn parameter_type(
        &self,
        source: &dyn ModuleSource,
        module: &str,
        parameter: &str,
    ) -> Result<Option<String>, InitramfsError> {
        let of = |value: &str| {
            let (name, kind) = value.split_once(':')?;
            (name == parameter).then(|| kind.to_owned())
        };
        if let Some(module) = self.module(module) {
            let Some(stored) = source.read(&module.path)? else { return Ok(None) };
            let (_, elf) = load_module(&self.kver, &module.path, &stored, &Limits::default())?;
            return Ok(elf.values("parmtype").find_map(of));
        }
        if !self.is_builtin(module) {
            return Ok(None);
        }
        let file = self.builtin_files.get("modules.builtin.modinfo").map(Vec::as_slice).unwrap_or(&[]);
        let wanted = normalized(module);
        Ok(file.split(|byte| *byte == 0).find_map(|text| {
            let text = String::from_utf8_lossy(text);
            let (key, value) = text.split_once('=')?;
            let (owner, "parmtype") = key.rsplit_once('.')? else { return None };
            if normalized(owner) == wanted { of(value) } else { None }
        }))
    }

    /// Machine that the modules are for (`e_machine` of ELF), by the first one that can be read.
    pub fn machine(&self, source: &dyn ModuleSource) -> Result<Option<u16>, InitramfsError> {
        const TRIED: usize = 4;
        for module in self.modules.iter().take(TRIED) {
            let Some(stored) = source.read(&module.path)? else { continue };
            if let Ok((_, elf)) = load_module(&self.kver, &module.path, &stored, &Limits::default()) {
                return Ok(Some(elf.machine));
            }
        }
        Ok(None)
    }

    /// Version of the kernel.
    pub fn kver(&self) -> &str {
        &self.kver
    }

    /// Every module, in the order of `modules.dep`.
    pub fn modules(&self) -> &[KernelModule] {
        &self.modules
    }

    /// The module with this name; `-` and `_` are the same.
    pub fn module(&self, name: &str) -> Option<&KernelModule> {
        self.by_name.get(&normalized(name)).and_then(|index| self.modules.get(*index))
    }

    /// True when a driver of this name is inside the kernel image.
    pub fn is_builtin(&self, name: &str) -> bool {
        self.builtin.contains(&normalized(name))
    }

    /// What a module name, or else an alias, stands for.
    pub fn lookup(&self, name_or_alias: &str) -> Lookup {
        if let Some(module) = self.module(name_or_alias) {
            return Lookup::Modules(vec![module.clone()]);
        }
        if self.is_builtin(name_or_alias) {
            return Lookup::BuiltIn;
        }
        let modules = self.modules_for_alias(name_or_alias);
        if !modules.is_empty() {
            return Lookup::Modules(modules);
        }
        let alias = normalized_alias(name_or_alias).unwrap_or_else(|| name_or_alias.to_string());
        match self.builtin_aliases.iter().any(|line| alias_matches(&line.pattern, &alias)) {
            true => Lookup::BuiltIn,
            false => Lookup::Absent,
        }
    }

    /// Modules whose alias patterns match `alias` (for example a device's modalias).
    pub fn modules_for_alias(&self, alias: &str) -> Vec<KernelModule> {
        let alias = normalized_alias(alias).unwrap_or_else(|| alias.to_string());
        let mut found: Vec<KernelModule> = Vec::new();
        for line in self.aliases.iter().filter(|line| alias_matches(&line.pattern, &alias)) {
            if let Some(module) = self.module(&line.module).filter(|module| !found.contains(module)) {
                found.push(module.clone());
            }
        }
        found
    }

    /// Alias patterns of one module.
    pub fn aliases_of<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        let name = normalized(name);
        self.aliases
            .iter()
            .filter(move |line| normalized(&line.module) == name)
            .map(|line| line.pattern.as_str())
    }

    /// Everything that a module needs by `modules.dep`, the nearest first.
    pub fn dependencies(&self, name: &str) -> Vec<KernelModule> {
        let Some(index) = self.by_name.get(&normalized(name)) else { return Vec::new() };
        let paths = self.deps.get(*index).map(Vec::as_slice).unwrap_or(&[]);
        paths.iter().filter_map(|path| self.module_at(path)).cloned().collect()
    }

    /// The module whose file is at `path`, compressed or not.
    pub fn module_at(&self, path: &str) -> Option<&KernelModule> {
        let index = self.by_path.get(path).copied().or_else(|| {
            let name = module_name(path)?;
            self.by_name.get(&name).copied()
        })?;
        self.modules.get(index)
    }

    /// Everything that must be there for `wanted` names or aliases: dependencies, soft dependencies, weak ones.
    pub fn closure<S: AsRef<str>>(&self, wanted: &[S]) -> Result<Closure, InitramfsError> {
        let mut closure = Closure::default();
        let mut seen = HashSet::new();
        for name in wanted.iter().map(AsRef::as_ref) {
            match self.lookup(name) {
                Lookup::BuiltIn => closure.builtin.push(name.to_string()),
                Lookup::Absent => closure.missing.push(name.to_string()),
                Lookup::Modules(modules) => {
                    for module in modules {
                        self.visit(&module, 0, &mut seen, &mut closure.modules)?;
                    }
                }
            }
        }
        Ok(closure)
    }

    fn visit(
        &self,
        module: &KernelModule,
        depth: usize,
        seen: &mut HashSet<String>,
        order: &mut Vec<KernelModule>,
    ) -> Result<(), InitramfsError> {
        if !seen.insert(module.name.clone()) {
            return Ok(());
        }
        if depth > DEPTH_MAX {
            return Err(InitramfsError::Index {
                file: "modules.dep".into(),
                detail: format!("a chain of more than {DEPTH_MAX} dependencies ends at {}", module.name),
            });
        }
        let softdeps = self.softdeps.get(&module.name).map(Vec::as_slice).unwrap_or(&[]);
        for name in softdeps.iter().flat_map(|softdep| &softdep.pre) {
            self.visit_name(name, depth, seen, order)?;
        }
        // The line lists the farthest last, and the farthest is loaded first.
        for dep in self.dependencies(&module.name).iter().rev() {
            self.visit(dep, depth + 1, seen, order)?;
        }
        order.push(module.clone());
        let weak = self.weakdeps.get(&module.name).map(Vec::as_slice).unwrap_or(&[]);
        for name in softdeps.iter().flat_map(|softdep| &softdep.post).chain(weak) {
            self.visit_name(name, depth, seen, order)?;
        }
        Ok(())
    }

    fn visit_name(
        &self,
        name: &str,
        depth: usize,
        seen: &mut HashSet<String>,
        order: &mut Vec<KernelModule>,
    ) -> Result<(), InitramfsError> {
        if let Lookup::Modules(modules) = self.lookup(name) {
            for module in modules {
                self.visit(&module, depth + 1, seen, order)?;
            }
        }
        Ok(())
    }

    /// Content of `modules.order`.
    pub(crate) fn order(&self) -> &[u8] {
        &self.order
    }

    /// Content of one of the `modules.builtin*` files.
    pub(crate) fn builtin_file(&self, name: &str) -> Option<&[u8]> {
        self.builtin_files.get(name).map(Vec::as_slice)
    }
}

/// Whether a pattern of a text index matches an alias that is normalized already.
pub(crate) fn alias_matches(pattern: &str, normalized: &str) -> bool {
    // Nearly all patterns differ from the alias before the first wildcard: the colon ends their bus.
    let head = pattern.split(['*', '?', '[', '-', '_', '\\']).next().unwrap_or("");
    normalized.starts_with(head)
        && normalized_alias(pattern).is_some_and(|pattern| pattern::matches(&pattern, normalized))
}

fn dep_lines_of_binary(kver: &str, bytes: &[u8]) -> Result<Vec<DepLine>, InitramfsError> {
    let mut lines: Vec<(u32, String)> =
        decode_index("modules.dep.bin", bytes)?.into_iter().flat_map(|entry| entry.values).collect();
    lines.sort();
    Ok(lines.iter().flat_map(|(_, line)| parse_deps(kver, line.as_bytes())).collect())
}

/// Aliases of a binary index.
pub(crate) fn alias_lines_of_binary(file: &str, bytes: &[u8]) -> Result<Vec<AliasLine>, InitramfsError> {
    let line = |key: &String, value: String| AliasLine { pattern: key.clone(), module: value };
    let mut aliases = Vec::new();
    for entry in decode_index(file, bytes)? {
        aliases.extend(entry.values.into_iter().map(|(_, value)| line(&entry.key, value)));
    }
    Ok(aliases)
}
