//! Plans how missing modules get into an initramfs: one more segment, every earlier byte kept.

use std::collections::{BTreeMap, BTreeSet};

use crate::addition::Addition;
use crate::encode::{pack, writable};
use crate::index::{DepmodModule, generate_builtin_indexes, generate_indexes};
use crate::kernel_modules::KernelModule;
use crate::module_file::load_module;
use crate::module_name::plain_path;
use crate::{
    Archive, Compression, DriverState, Generator, InitramfsError, KernelModules, Limits, ModuleSource,
    SegmentKind, driver_state, load_lists,
};

/// Our segment begins at a multiple of this.
const SEGMENT_ALIGNMENT: u64 = 512;
/// Zero bytes between segments at least: an lz4 stream has no other end.
const GAP_MIN: u64 = 4;
/// The first kernel that takes zero bytes after an lz4 stream for its end.
const LZ4_PADDING_SINCE: (u32, u32) = (5, 13);

/// Choices of an injection.
#[derive(Debug, Clone, Default)]
pub struct InjectionOptions {
    /// Bounds for reading.
    pub limits: Limits,
    /// Files to add or replace beside the modules, by path in the initramfs (for example an empty udev rule
    /// that pins interface names).
    pub extra_files: BTreeMap<String, Vec<u8>>,
}

/// A module that is added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddedModule {
    /// Name as the kernel has it.
    pub name: String,
    /// Path below the module directory, uncompressed form.
    pub path: String,
    /// Length, bytes.
    pub size: u64,
}

/// The outcome for each wanted name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WantedReport {
    /// Wanted names that are inside the kernel image.
    pub builtin: Vec<String>,
    /// Modules of the closure that are in the initramfs already.
    pub present: Vec<String>,
    /// Wanted names that the kernel does not have at all.
    pub missing: Vec<String>,
    /// Modules of the closure that are blacklisted inside, with the place that says so.
    pub blacklisted: Vec<(String, String)>,
}

/// What to do with one initramfs.
#[derive(Debug, Clone)]
pub enum Injection {
    /// Nothing is missing.
    Nothing(WantedReport),
    /// One segment is to be added.
    Append(Box<Append>),
}

/// A segment to be added.
#[derive(Debug, Clone)]
pub struct Append {
    /// What to append to the file: the segment, behind zero bytes up to the next multiple of 512 unless both
    /// this segment and the last one are gzip or zstd streams.
    pub bytes: Vec<u8>,
    /// Compression of the segment.
    pub compression: Compression,
    /// Modules that it adds, in load order.
    pub added: Vec<AddedModule>,
    /// All files that it adds or replaces, by path in the initramfs.
    pub files: Vec<String>,
    /// The outcome for each wanted name.
    pub report: WantedReport,
    /// Why this kernel would not read an appended segment; then only [`crate::rewrite_last_segment`] will do.
    pub hazard: Option<String>,
    pub(crate) addition: Addition,
}

/// What an injection would have to add.
#[derive(Debug, Clone)]
pub struct Survey {
    /// The outcome for each wanted name.
    pub report: WantedReport,
    /// Modules that are not inside, in load order.
    pub absent: Vec<KernelModule>,
    /// True when a wanted module is inside and the indexes inside do not find it.
    pub lacks_indexes: bool,
    /// Extra files that are not inside with their content, by path.
    pub changed_files: Vec<String>,
}

impl Survey {
    /// True when everything is there.
    pub fn is_complete(&self) -> bool {
        self.absent.is_empty() && !self.lacks_indexes && self.changed_files.is_empty()
    }
}

/// Looks what [`plan_injection`] would add, without reading a module or packing anything. Refuses what it refuses by
/// name.
pub fn survey_injection(
    archive: &Archive,
    kernel: &KernelModules,
    wanted: &[String],
    extra_files: &BTreeMap<String, Vec<u8>>,
) -> Result<Survey, InitramfsError> {
    supported_generator(archive)?;
    check_kernel(archive, kernel)?;
    let closure = kernel.closure(wanted)?;
    let inside = modules_inside(archive, kernel);
    let blacklist = archive.module_blacklist();
    let place = |name: &String| blacklist.place(name).map(|place| (name.clone(), place.to_string()));
    let report = WantedReport {
        builtin: closure.builtin,
        present: closure
            .modules
            .iter()
            .map(|module| &module.name)
            .filter(|name| inside.contains_key(*name))
            .cloned()
            .collect(),
        missing: closure.missing,
        blacklisted: closure.modules.iter().filter_map(|module| place(&module.name)).collect(),
    };
    let is_unindexed = |name: &String| match driver_state(archive, kernel, name) {
        DriverState::InInitramfs { problems } => problems.iter().any(|problem| problem.is_index()),
        _ => false,
    };
    let is_there =
        |path: &String, content: &Vec<u8>| archive.read_file(path).is_some_and(|old| *old == **content);
    Ok(Survey {
        lacks_indexes: report.present.iter().any(is_unindexed),
        absent: closure.modules.into_iter().filter(|module| !inside.contains_key(&module.name)).collect(),
        changed_files: extra_files
            .iter()
            .filter(|(path, content)| !is_there(path, content))
            .map(|(path, _)| path.clone())
            .collect(),
        report,
    })
}

/// Plans the injection of `wanted` modules (names or aliases) and everything they need.
///
/// The planned file is parsed again and its tree compared with the intended one before this returns.
pub fn plan_injection(
    original: &[u8],
    archive: &Archive,
    kernel: &KernelModules,
    source: &dyn ModuleSource,
    wanted: &[String],
    options: &InjectionOptions,
) -> Result<Injection, InitramfsError> {
    let Survey { report, absent, lacks_indexes, .. } =
        survey_injection(archive, kernel, wanted, &options.extra_files)?;
    let generator = supported_generator(archive)?;
    let inside = modules_inside(archive, kernel);

    let mut addition = Addition::to(archive.tree());
    let mut files = Files { archive, addition: &mut addition, changed: BTreeSet::new() };
    let mut added = Vec::new();
    if !absent.is_empty() || lacks_indexes {
        let dir =
            archive.module_dir(kernel.kver()).unwrap_or_else(|| format!("lib/modules/{}", kernel.kver()));
        let mut set = ModuleSet::new(kernel.kver(), &options.limits);
        for module in absent {
            let stored = source.read(&module.path)?.ok_or_else(|| {
                unreadable(&module.path, "listed in modules.dep, but there is no such file")
            })?;
            let path = plain_path(&module.path);
            let bytes = set.add(path, &stored)?;
            files.put(&format!("{dir}/{path}"), 0o644, &bytes)?;
            let size = bytes.len() as u64;
            added.push(AddedModule { name: module.name.clone(), path: path.to_string(), size });
        }
        for path in inside.values() {
            let stored = match archive.read_file(&format!("{dir}/{path}")) {
                Some(stored) => stored,
                None => source
                    .read(path)?
                    .ok_or_else(|| unreadable(path, "too large to be kept, and not on the disk"))?
                    .into(),
            };
            set.add(path, &stored)?;
        }
        let order = archive.read_file(&format!("{dir}/modules.order"));
        let indexes = generate_indexes(set.modules, order.as_deref().unwrap_or(kernel.order()))?;
        for (name, content) in &indexes.files {
            files.put(&format!("{dir}/{name}"), 0o644, content)?;
        }
        for (name, content) in builtin_files(kernel)? {
            if archive.file_size(&format!("{dir}/{name}")).is_none() {
                files.put(&format!("{dir}/{name}"), 0o644, &content)?;
            }
        }
        let names: Vec<&str> = added.iter().map(|module| module.name.as_str()).collect();
        for (path, content) in load_lists::load_lists(archive, generator, &names) {
            files.put(&path, 0o644, &content)?;
        }
    }
    for (path, content) in &options.extra_files {
        files.put(path, 0o644, content)?;
    }
    let files: Vec<String> = files.changed.into_iter().collect();
    if addition.is_empty() {
        return Ok(Injection::Nothing(report));
    }
    let compression = writable(main_compression(archive));
    let bytes = appended(original.len() as u64, archive, &addition, compression, kernel.kver())?;
    verify(original, &bytes, &addition, &options.limits)?;
    let hazard = hazard(archive, kernel.kver());
    Ok(Injection::Append(Box::new(Append { bytes, compression, added, files, report, hazard, addition })))
}

/// Name and path of each module inside; of two files for one name the one that the kernel's `modules.dep` lists.
fn modules_inside(archive: &Archive, kernel: &KernelModules) -> BTreeMap<String, String> {
    let mut inside = BTreeMap::new();
    for module in archive.modules().into_iter().filter(|module| module.kver == kernel.kver()) {
        let listed = kernel.module(&module.name).map(|module| plain_path(&module.path));
        if !inside.contains_key(&module.name) || listed == Some(plain_path(&module.path)) {
            inside.insert(module.name, module.path);
        }
    }
    inside
}

/// Adds files whose content is not there already.
struct Files<'a> {
    archive: &'a Archive,
    addition: &'a mut Addition,
    changed: BTreeSet<String>,
}

impl Files<'_> {
    fn put(&mut self, path: &str, permissions: u32, content: &[u8]) -> Result<(), InitramfsError> {
        if self.archive.read_file(path).is_some_and(|old| *old == *content) {
            return Ok(());
        }
        self.addition.file(path, permissions, content)?;
        self.changed.insert(path.to_string());
        Ok(())
    }
}

/// The modules that the indexes are made for; all of one kernel and one machine.
struct ModuleSet<'a> {
    kver: &'a str,
    limits: &'a Limits,
    machine: Option<u16>,
    modules: Vec<DepmodModule>,
}

impl<'a> ModuleSet<'a> {
    fn new(kver: &'a str, limits: &'a Limits) -> Self {
        Self { kver, limits, machine: None, modules: Vec::new() }
    }

    /// Takes one module in and returns its unpacked bytes.
    fn add(&mut self, path: &str, stored: &[u8]) -> Result<Vec<u8>, InitramfsError> {
        let (bytes, elf) = load_module(self.kver, path, stored, self.limits)?;
        let machine = *self.machine.get_or_insert(elf.machine);
        if machine != elf.machine {
            let detail = format!("ELF machine {}; expected {machine}", elf.machine);
            let code = "initramfs.module.machine";
            return Err(InitramfsError::Module { path: path.to_string(), code, detail });
        }
        self.modules.push(DepmodModule::new(path, &elf));
        Ok(bytes)
    }
}

/// Generators whose images are known to load appended modules.
fn supported_generator(archive: &Archive) -> Result<Generator, InitramfsError> {
    let generator = archive.generator();
    let detail = match generator {
        Generator::InitramfsTools | Generator::Dracut | Generator::Mkinitcpio | Generator::AlpineMkinitfs => {
            return Ok(generator);
        }
        Generator::Booster => {
            "its init knows modules by booster.alias and etc/booster.init.yaml alone, which only booster writes"
        }
        Generator::Nash => "its init loads a fixed list of modules",
        Generator::SuseMkinitrd => "that its scripts load appended modules is not proven",
        Generator::Unknown => "how it loads modules is not known",
    };
    Err(InitramfsError::GeneratorUnsupported { generator, detail })
}

fn check_kernel(archive: &Archive, kernel: &KernelModules) -> Result<(), InitramfsError> {
    let found = archive.kernel_versions();
    match found.is_empty() || found.iter().any(|kver| kver == kernel.kver()) {
        true => Ok(()),
        false => Err(InitramfsError::OtherKernel { kver: kernel.kver().to_string(), found }),
    }
}

fn unreadable(path: &str, detail: &str) -> InitramfsError {
    let code = "initramfs.module.unreadable";
    InitramfsError::Module { path: path.to_string(), code, detail: detail.to_string() }
}

/// The `modules.builtin*` files of the kernel, those that it lacks generated.
fn builtin_files(kernel: &KernelModules) -> Result<BTreeMap<&'static str, Vec<u8>>, InitramfsError> {
    let mut files = BTreeMap::new();
    for name in ["modules.builtin", "modules.builtin.modinfo"] {
        if let Some(content) = kernel.builtin_file(name) {
            files.insert(name, content.to_vec());
        }
    }
    let list = kernel.builtin_file("modules.builtin").unwrap_or(&[]);
    let info = kernel.builtin_file("modules.builtin.modinfo").unwrap_or(&[]);
    for (name, generated) in generate_builtin_indexes(list, info)?.files {
        files.insert(name, kernel.builtin_file(name).map_or(generated, <[u8]>::to_vec));
    }
    Ok(files)
}

/// Compression of the last segment that is no early one.
fn main_compression(archive: &Archive) -> Compression {
    let main = archive.segments().iter().rev().find(|segment| segment.kind == SegmentKind::Main);
    main.map_or(Compression::None, |segment| segment.compression)
}

fn appended(
    original_len: u64,
    archive: &Archive,
    addition: &Addition,
    compression: Compression,
    kver: &str,
) -> Result<Vec<u8>, InitramfsError> {
    let mut gap = original_len.next_multiple_of(SEGMENT_ALIGNMENT) - original_len;
    if gap + archive.trailing_zeros() < GAP_MIN {
        gap += SEGMENT_ALIGNMENT;
    }
    let last = archive.segments().last().map(|segment| segment.compression);
    if last == Some(compression) && joins_without_gap(compression) && archive.trailing_zeros() == 0 {
        gap = 0;
    }
    let mut bytes = vec![0u8; usize::try_from(gap).unwrap_or(0)];
    bytes.extend(pack(compression, &addition.archive())?);
    if compression == Compression::Lz4Legacy && takes_lz4_padding(kver) {
        // Whatever a bootloader puts behind must not be taken for a chunk.
        let end = bytes.len().next_multiple_of(4) + GAP_MIN as usize;
        bytes.resize(end, 0);
    }
    Ok(bytes)
}

/// True where the kernel's decoder ends exactly with its stream and the compressor's own program reads streams
/// that follow each other, but no zero bytes between them: `lsinitramfs` and `unmkinitramfs` try that program on
/// the whole file.
fn joins_without_gap(compression: Compression) -> bool {
    matches!(compression, Compression::Gzip | Compression::Zstd)
}

/// Parses what the file will be and compares its tree with the intended one.
fn verify(
    original: &[u8],
    appended: &[u8],
    addition: &Addition,
    limits: &Limits,
) -> Result<(), InitramfsError> {
    let mut whole = Vec::with_capacity(original.len() + appended.len());
    whole.extend_from_slice(original);
    whole.extend_from_slice(appended);
    verify_file(&whole, addition, limits)
}

pub(crate) fn verify_file(file: &[u8], addition: &Addition, limits: &Limits) -> Result<(), InitramfsError> {
    let found = Archive::parse(file, limits)?.tree().listing();
    let intended = addition.tree().listing();
    if found == intended {
        return Ok(());
    }
    let differs = |path: &&Vec<u8>| found.get(*path) != intended.get(*path);
    let path = found.keys().chain(intended.keys()).find(differs).cloned().unwrap_or_default();
    Err(InitramfsError::Verify { detail: format!("/{} is not as intended", String::from_utf8_lossy(&path)) })
}

fn hazard(archive: &Archive, kver: &str) -> Option<String> {
    let last = archive.segments().last()?;
    (last.compression == Compression::Lz4Legacy && !takes_lz4_padding(kver)).then(|| {
        format!("kernels before 5.13 (this is {kver}) read nothing after an lz4 segment, so the segment is rewritten whole")
    })
}

fn takes_lz4_padding(kver: &str) -> bool {
    let mut numbers = kver.split(|letter: char| !letter.is_ascii_digit()).map(|number| number.parse::<u32>());
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= LZ4_PADDING_SINCE,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::takes_lz4_padding;

    #[test]
    fn kernels_that_read_on_after_lz4() {
        for kver in ["5.13.0", "5.15.0-91-generic", "6.1.0-56-cloud-amd64", "10.0"] {
            assert!(takes_lz4_padding(kver), "{kver}");
        }
        for kver in ["5.12.9", "5.4.0-42-generic", "4.18.0-305.el8.x86_64", "next"] {
            assert!(!takes_lz4_padding(kver), "{kver}");
        }
    }
}
