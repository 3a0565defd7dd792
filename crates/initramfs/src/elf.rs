//! What a module file says about itself: `.modinfo`, exported and needed symbols (ELF, both classes and byte orders).

const ELF_MAGIC: &[u8] = b"\x7fELF";
const TYPE_RELOCATABLE: u64 = 1;
const SECTION_SYMBOLS: u64 = 2;
const SECTION_UNDEFINED: u64 = 0;
/// Length of a symbol in either class.
const SYMBOL_LEN_32: usize = 16;
const SYMBOL_LEN_64: usize = 24;

/// A parsed module file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ModuleElf {
    /// `e_machine`.
    pub(crate) machine: u16,
    /// `key=value` strings of `.modinfo` in their order.
    pub(crate) info: Vec<(String, String)>,
    /// Names of exported symbols.
    pub(crate) exports: Vec<String>,
    /// Names of undefined symbols in the order of the symbol table.
    pub(crate) needs: Vec<String>,
}

impl ModuleElf {
    /// Values of one `.modinfo` key.
    pub(crate) fn values<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.info.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Parses a module; the text says what is wrong.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let elf = Elf::new(bytes)?;
        let mut module = ModuleElf { machine: elf.machine, ..ModuleElf::default() };
        let info = elf.section(".modinfo").ok_or("no .modinfo section")?;
        for text in strings(info) {
            if let Some((key, value)) = text.split_once('=') {
                module.info.push((key.to_string(), value.to_string()));
            }
        }
        if let Some((symbols, names)) = elf.symbols() {
            for symbol in symbols.chunks_exact(elf.symbol_len()).skip(1) {
                let (name_at, section) = elf.symbol(symbol);
                let rest = names.get(name_at..).unwrap_or(&[]);
                if section == SECTION_UNDEFINED {
                    module.needs.extend(first_string(rest).filter(|name| !name.is_empty()));
                } else if let Some(exported) = rest.strip_prefix(b"__crc_") {
                    module.exports.extend(first_string(exported));
                }
            }
        }
        if module.exports.is_empty() {
            module.exports = elf.section("__ksymtab_strings").map(strings).unwrap_or_default();
        }
        Ok(module)
    }
}

/// NUL-separated strings; the zero bytes between them are padding.
fn strings(section: &[u8]) -> Vec<String> {
    section
        .split(|byte| *byte == 0)
        .filter(|text| !text.is_empty())
        .map(|text| String::from_utf8_lossy(text).into_owned())
        .collect()
}

fn first_string(table: &[u8]) -> Option<String> {
    let end = table.iter().position(|byte| *byte == 0)?;
    Some(String::from_utf8_lossy(table.get(..end)?).into_owned())
}

struct Section<'a> {
    name_at: usize,
    kind: u64,
    link: usize,
    bytes: &'a [u8],
}

struct Elf<'a> {
    bytes: &'a [u8],
    is_64: bool,
    is_big_endian: bool,
    machine: u16,
    sections: Vec<Section<'a>>,
    names: &'a [u8],
}

impl<'a> Elf<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, String> {
        if !bytes.starts_with(ELF_MAGIC) {
            return Err("not an ELF file".into());
        }
        let is_64 = match bytes.get(4) {
            Some(1) => false,
            Some(2) => true,
            other => return Err(format!("ELF class {other:?}; expected 1 or 2")),
        };
        let is_big_endian = match bytes.get(5) {
            Some(1) => false,
            Some(2) => true,
            other => return Err(format!("ELF byte order {other:?}; expected 1 or 2")),
        };
        let mut elf = Elf { bytes, is_64, is_big_endian, machine: 0, sections: Vec::new(), names: &[] };
        elf.machine = elf.number(18, 2)? as u16;
        if elf.number(16, 2)? != TYPE_RELOCATABLE {
            return Err("not a relocatable ELF file".into());
        }
        let (table_at, sizes_at) = if is_64 { (elf.number(40, 8)?, 58) } else { (elf.number(32, 4)?, 46) };
        let header_len = elf.number(sizes_at, 2)?;
        let count = elf.number(sizes_at + 2, 2)?;
        let names_index = elf.number(sizes_at + 4, 2)?;
        let header_len_min = if is_64 { 64 } else { 40 };
        if header_len < header_len_min {
            return Err(format!("section headers of {header_len} bytes; expected {header_len_min}"));
        }
        for index in 0..count {
            let at = index.checked_mul(header_len).and_then(|at| at.checked_add(table_at));
            let at = at.and_then(|at| usize::try_from(at).ok()).ok_or("section header out of range")?;
            let section = elf.section_header(at)?;
            elf.sections.push(section);
        }
        let names = elf.sections.get(usize::try_from(names_index).unwrap_or(usize::MAX));
        elf.names = names.ok_or("no section names")?.bytes;
        Ok(elf)
    }

    fn section_header(&self, at: usize) -> Result<Section<'a>, String> {
        const KIND_NO_BITS: u64 = 8;
        let name_at = self.number(at, 4)? as usize;
        let kind = self.number(at + 4, 4)?;
        let (offset, len, link) = if self.is_64 {
            (self.number(at + 24, 8)?, self.number(at + 32, 8)?, self.number(at + 40, 4)?)
        } else {
            (self.number(at + 16, 4)?, self.number(at + 20, 4)?, self.number(at + 24, 4)?)
        };
        let range = || {
            let start = usize::try_from(offset).ok()?;
            self.bytes.get(start..start.checked_add(usize::try_from(len).ok()?)?)
        };
        let bytes = match kind {
            0 | KIND_NO_BITS => &[],
            _ => range()
                .ok_or_else(|| format!("a section of {len} bytes at {offset} lies outside the file"))?,
        };
        Ok(Section { name_at, kind, link: link as usize, bytes })
    }

    fn section(&self, name: &str) -> Option<&'a [u8]> {
        let is_named = |section: &&Section<'_>| {
            let rest = self.names.get(section.name_at..).unwrap_or(&[]);
            rest.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
        };
        self.sections.iter().find(is_named).map(|section| section.bytes)
    }

    /// The symbol table and its names.
    fn symbols(&self) -> Option<(&'a [u8], &'a [u8])> {
        let symbols = self.sections.iter().find(|section| section.kind == SECTION_SYMBOLS)?;
        Some((symbols.bytes, self.sections.get(symbols.link)?.bytes))
    }

    fn symbol_len(&self) -> usize {
        if self.is_64 { SYMBOL_LEN_64 } else { SYMBOL_LEN_32 }
    }

    /// Position of the name and section index of one symbol.
    fn symbol(&self, symbol: &[u8]) -> (usize, u64) {
        let section_at = if self.is_64 { 6 } else { 14 };
        let number = |at, len| number_at(symbol, at, len, self.is_big_endian).unwrap_or(0);
        (number(0, 4) as usize, number(section_at, 2))
    }

    fn number(&self, at: usize, len: usize) -> Result<u64, String> {
        number_at(self.bytes, at, len, self.is_big_endian)
            .ok_or_else(|| format!("the file ends before byte {}", at.saturating_add(len)))
    }
}

fn number_at(bytes: &[u8], at: usize, len: usize, is_big_endian: bool) -> Option<u64> {
    let raw = bytes.get(at..at.checked_add(len)?)?;
    let join = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
    Some(if is_big_endian { raw.iter().fold(0, join) } else { raw.iter().rev().fold(0, join) })
}
