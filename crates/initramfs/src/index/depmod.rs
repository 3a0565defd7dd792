//! What `depmod` makes of a set of modules: load order, dependencies, aliases, symbols.

use std::collections::{BTreeMap, HashMap};

use crate::InitramfsError;
use crate::elf::ModuleElf;
use crate::index::{encode_index, lines};
use crate::module_name::{module_name, normalized_alias};

/// A module as depmod sees it.
#[derive(Debug, Clone)]
pub struct DepmodModule {
    name: String,
    path: String,
    aliases: Vec<String>,
    softdeps: Vec<String>,
    exports: Vec<String>,
    needs: Vec<String>,
}

impl DepmodModule {
    /// Reads an uncompressed module file; `path` is where it lies below the module directory.
    pub fn parse(path: &str, bytes: &[u8]) -> Result<Self, InitramfsError> {
        let elf = ModuleElf::parse(bytes).map_err(|detail| InitramfsError::Module {
            path: path.to_string(),
            code: "initramfs.module.elf",
            detail,
        })?;
        Ok(Self::new(path, &elf))
    }

    pub(crate) fn new(path: &str, elf: &ModuleElf) -> Self {
        let collect = |key: &str| elf.values(key).map(str::to_string).collect();
        Self {
            name: module_name(path).unwrap_or_else(|| path.to_string()),
            path: path.to_string(),
            aliases: collect("alias"),
            softdeps: collect("softdep"),
            exports: elf.exports.clone(),
            needs: elf.needs.clone(),
        }
    }
}

/// The index files of one module directory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IndexFiles {
    /// File name below the module directory and content.
    pub files: BTreeMap<&'static str, Vec<u8>>,
}

/// Generates what `depmod` would for these modules; `order` is the content of `modules.order`.
///
/// Modules that `order` does not list come last, sorted by path.
pub fn generate_indexes(mut modules: Vec<DepmodModule>, order: &[u8]) -> Result<IndexFiles, InitramfsError> {
    sort_as_listed(&mut modules, order);
    let graph = Graph::new(&modules);
    let mut files = BTreeMap::new();
    let dep_lines: Vec<String> = (0..modules.len()).map(|index| graph.dep_line(&modules, index)).collect();
    let with_priority = || (0u32..).zip(&modules);
    let mut text = String::new();
    for line in &dep_lines {
        text.push_str(line);
        text.push('\n');
    }
    files.insert("modules.dep", text.into_bytes());
    let entries = with_priority().zip(&dep_lines);
    let entries = entries.map(|((priority, module), line)| (module.name.as_str(), priority, line.as_str()));
    files.insert("modules.dep.bin", encode_index("modules.dep.bin", entries)?);

    let mut text = "# Aliases extracted from modules themselves.\n".to_string();
    let mut aliases = Vec::new();
    for (priority, module) in with_priority() {
        for alias in &module.aliases {
            text.push_str(&format!("alias {alias} {}\n", module.name));
            // depmod warns about unpaired brackets and leaves the alias out of the binary form.
            aliases.extend(normalized_alias(alias).map(|alias| (alias, priority, &module.name)));
        }
    }
    files.insert("modules.alias", text.into_bytes());
    let entries = aliases.iter().map(|(alias, priority, name)| (alias.as_str(), *priority, name.as_str()));
    files.insert("modules.alias.bin", encode_index("modules.alias.bin", entries)?);

    let mut text = "# Soft dependencies extracted from modules themselves.\n".to_string();
    for module in &modules {
        for softdep in &module.softdeps {
            text.push_str(&format!("softdep {} {softdep}\n", module.name));
        }
    }
    files.insert("modules.softdep", text.into_bytes());

    let mut text = "# Aliases for symbols, used by symbol_request().\n".to_string();
    let mut symbols = Vec::new();
    for (symbol, owner) in graph.symbols_in_table_order() {
        if let Some(module) = modules.get(owner) {
            text.push_str(&format!("alias symbol:{symbol} {}\n", module.name));
            symbols.push((format!("symbol:{symbol}"), owner as u32, module.name.as_str()));
        }
    }
    files.insert("modules.symbols", text.into_bytes());
    let entries = symbols.iter().map(|(key, priority, name)| (key.as_str(), *priority, *name));
    files.insert("modules.symbols.bin", encode_index("modules.symbols.bin", entries)?);
    Ok(IndexFiles { files })
}

/// Generates `modules.builtin.bin` and `modules.builtin.alias.bin` from `modules.builtin` and its modinfo.
pub fn generate_builtin_indexes(builtin: &[u8], modinfo: &[u8]) -> Result<IndexFiles, InitramfsError> {
    let names: Vec<String> = lines(builtin).iter().filter_map(|path| module_name(path)).collect();
    let mut aliases = Vec::new();
    for text in modinfo.split(|byte| *byte == 0) {
        let text = String::from_utf8_lossy(text);
        let Some((key, value)) = text.split_once('=') else { continue };
        if let Some((module, "alias")) = key.rsplit_once('.') {
            aliases.extend(normalized_alias(value).map(|alias| (alias, module.to_string())));
        }
    }
    let mut files = BTreeMap::new();
    let entries = names.iter().map(|name| (name.as_str(), 0, ""));
    files.insert("modules.builtin.bin", encode_index("modules.builtin.bin", entries)?);
    let entries = aliases.iter().map(|(alias, module)| (alias.as_str(), 0, module.as_str()));
    files.insert("modules.builtin.alias.bin", encode_index("modules.builtin.alias.bin", entries)?);
    Ok(IndexFiles { files })
}

/// Listed modules first, in the order of the list, which names them uncompressed.
fn sort_as_listed(modules: &mut [DepmodModule], order: &[u8]) {
    let listed = lines(order);
    let places: HashMap<&str, usize> =
        listed.iter().enumerate().map(|(place, path)| (path.as_str(), place)).collect();
    modules.sort_by(|left, right| {
        let place = |module: &DepmodModule| {
            places.get(crate::module_name::plain_path(&module.path)).copied().unwrap_or(usize::MAX)
        };
        (place(left), &left.path).cmp(&(place(right), &right.path))
    });
}

/// Buckets of depmod's table of symbols.
const SYMBOL_BUCKETS: u32 = 2048;

/// Paul Hsieh's "SuperFastHash", which orders that table.
fn superfast_hash(key: &[u8]) -> u32 {
    let half = |pair: &[u8]| pair.iter().rev().fold(0u32, |value, byte| value << 8 | u32::from(*byte));
    let mut hash = key.len() as u32;
    let mut fours = key.chunks_exact(4);
    for four in fours.by_ref() {
        let (low, high) = four.split_at(2);
        hash = hash.wrapping_add(half(low));
        hash = hash << 16 ^ half(high) << 11 ^ hash;
        hash = hash.wrapping_add(hash >> 11);
    }
    match *fours.remainder() {
        [first, second, third] => {
            hash = hash.wrapping_add(half(&[first, second]));
            hash ^= hash << 16;
            hash ^= u32::from(third) << 18;
            hash = hash.wrapping_add(hash >> 11);
        }
        [first, second] => {
            hash = hash.wrapping_add(half(&[first, second]));
            hash ^= hash << 11;
            hash = hash.wrapping_add(hash >> 17);
        }
        [only] => {
            hash = hash.wrapping_add(u32::from(only));
            hash ^= hash << 10;
            hash = hash.wrapping_add(hash >> 1);
        }
        _ => {}
    }
    hash ^= hash << 3;
    hash = hash.wrapping_add(hash >> 5);
    hash ^= hash << 4;
    hash = hash.wrapping_add(hash >> 17);
    hash ^= hash << 25;
    hash.wrapping_add(hash >> 6)
}

/// Who needs whom.
struct Graph<'m> {
    owners: HashMap<&'m str, usize>,
    deps: Vec<Vec<usize>>,
    /// Position of each module in one order of the whole graph in which users come before what they use.
    sorted: Vec<usize>,
}

impl<'m> Graph<'m> {
    fn new(modules: &'m [DepmodModule]) -> Self {
        let mut owners = HashMap::new();
        for (index, module) in modules.iter().enumerate() {
            for symbol in &module.exports {
                owners.insert(symbol.as_str(), index);
            }
        }
        let mut deps: Vec<Vec<usize>> = Vec::with_capacity(modules.len());
        let mut users = vec![0usize; modules.len()];
        for module in modules {
            let mut own: Vec<usize> = Vec::new();
            for owner in module.needs.iter().filter_map(|symbol| owners.get(symbol.as_str())) {
                if !own.contains(owner) {
                    own.push(*owner);
                    if let Some(count) = users.get_mut(*owner) {
                        *count += 1;
                    }
                }
            }
            deps.push(own);
        }
        let sorted = sort_users_first(&deps, users);
        Self { owners, deps, sorted }
    }

    /// The module's path and the paths of everything it needs, users before what they use.
    fn dep_line(&self, modules: &[DepmodModule], index: usize) -> String {
        let direct = |index: usize| self.deps.get(index).map(Vec::as_slice).unwrap_or(&[]);
        let mut needed = Vec::new();
        let mut todo = direct(index).to_vec();
        let mut seen = vec![false; modules.len()];
        while let Some(dep) = todo.pop() {
            if let Some(is_seen) = seen.get_mut(dep).filter(|is_seen| !**is_seen) {
                *is_seen = true;
                needed.push(dep);
                todo.extend_from_slice(direct(dep));
            }
        }
        needed.sort_by_key(|dep| self.sorted.get(*dep));
        let path = |index: usize| modules.get(index).map_or("", |module| module.path.as_str());
        let mut line = format!("{}:", path(index));
        for dep in needed {
            line.push(' ');
            line.push_str(path(dep));
        }
        line
    }

    /// Every exported symbol with its owner, in the order in which depmod's hash table holds them.
    fn symbols_in_table_order(&self) -> Vec<(&'m str, usize)> {
        let mut symbols: Vec<_> = self.owners.iter().map(|(symbol, owner)| (*symbol, *owner)).collect();
        symbols.sort_by_key(|(symbol, _)| (superfast_hash(symbol.as_bytes()) % SYMBOL_BUCKETS, *symbol));
        symbols
    }
}

/// Kahn's order with a stack: modules that nobody uses first, the last of them at the top.
fn sort_users_first(deps: &[Vec<usize>], mut users: Vec<usize>) -> Vec<usize> {
    let mut places = vec![usize::MAX; deps.len()];
    let mut roots: Vec<usize> = (0..deps.len()).filter(|index| users.get(*index) == Some(&0)).collect();
    let mut next = 0;
    while let Some(index) = roots.pop() {
        if let Some(place) = places.get_mut(index) {
            *place = next;
        }
        next += 1;
        for dep in deps.get(index).map(Vec::as_slice).unwrap_or(&[]) {
            if let Some(count) = users.get_mut(*dep) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    roots.push(*dep);
                }
            }
        }
    }
    places
}
