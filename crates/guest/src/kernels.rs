//! Kernels, their module directories and images.

use std::collections::BTreeSet;

use initramfs::{InitramfsError, KernelModules, Lookup, ModuleSource};
use vfs::{GuestPath, GuestTree, VfsError};

use crate::archive_drivers::{CRC32C, DRIVERS};
use crate::reading::{Reader, path};
use crate::{DriverOnDisk, Kernel};

/// Kernels that are looked at.
pub(crate) const KERNELS_MAX: usize = 32;
/// The largest file of a module directory that is read; index files stay below a few MiB.
const MODULE_FILE_MAX: u64 = 128 << 20;

/// The module directory of one kernel inside a guest tree.
pub struct TreeModules<'t> {
    tree: &'t GuestTree,
    directory: GuestPath,
}

impl<'t> TreeModules<'t> {
    /// The directory `/lib/modules/KVER`, or wherever `directory` says.
    pub fn new(tree: &'t GuestTree, directory: GuestPath) -> Self {
        Self { tree, directory }
    }
}

impl ModuleSource for TreeModules<'_> {
    fn read(&self, relative: &str) -> Result<Option<Vec<u8>>, InitramfsError> {
        match self.tree.read_if_exists(&self.directory.join(relative), MODULE_FILE_MAX) {
            Err(VfsError::SymlinkLoop { .. } | VfsError::IsADirectory { .. }) => Ok(None),
            other => other.map_err(|error| InitramfsError::Source(Box::new(error))),
        }
    }
}

/// A kernel with what was read of it for looking into its initramfs.
pub(crate) struct LoadedKernel {
    pub kernel: Kernel,
    pub modules: Option<KernelModules>,
    /// Options that are `y` in its configuration; `None` when there is no configuration.
    pub config: Option<BTreeSet<String>>,
}

impl LoadedKernel {
    /// True when the driver is inside the kernel image.
    pub fn is_builtin(&self, driver: &str) -> bool {
        let by_list = self.modules.as_ref().is_some_and(|modules| match driver {
            CRC32C => matches!(modules.lookup("crypto-crc32c"), Lookup::BuiltIn),
            _ => modules.is_builtin(driver),
        });
        let option = DRIVERS.iter().find(|known| known.name == driver).map(|known| known.config);
        by_list || option.is_some_and(|option| self.config.as_ref().is_some_and(|set| set.contains(option)))
    }
}

pub(crate) fn load(reader: &mut Reader<'_>) -> Result<Vec<LoadedKernel>, VfsError> {
    let mut versions = BTreeSet::new();
    for version in reader.names("/lib/modules")? {
        let has_index = reader.exists(&format!("/lib/modules/{version}/modules.dep"))?
            || reader.exists(&format!("/lib/modules/{version}/modules.dep.bin"))?;
        if has_index {
            versions.insert(version);
        } else if reader.exists(&format!("/lib/modules/{version}/kernel"))? {
            reader.problem(
                "guest.kernel.no-index",
                format!("/lib/modules/{version}: modules without modules.dep; depmod never ran"),
            );
        }
    }
    for name in reader.names("/boot")? {
        let version = ["vmlinuz-", "vmlinux-"].iter().find_map(|prefix| name.strip_prefix(prefix));
        // Arch names a package, not a version; dracut's rescue images name a machine, and say themselves which kernel
        // they are.
        let is_version =
            |name: &&str| name.starts_with(|c: char| c.is_ascii_digit()) && !name.starts_with("0-rescue-");
        if let Some(version) = version.filter(is_version) {
            versions.insert(version.to_owned());
        }
    }
    let mut versions: Vec<String> = versions.into_iter().collect();
    versions.sort_by(|one, other| version_order(other, one));
    if versions.len() > KERNELS_MAX {
        let count = versions.len();
        reader
            .problem("guest.kernel.many", format!("{count} kernels; the newest {KERNELS_MAX} are looked at"));
        versions.truncate(KERNELS_MAX);
    }
    versions.into_iter().map(|version| load_one(reader, version)).collect()
}

fn load_one(reader: &mut Reader<'_>, version: String) -> Result<LoadedKernel, VfsError> {
    let named = |suffixes: &[&str]| -> Vec<String> {
        suffixes.iter().map(|suffix| suffix.replace("KVER", &version)).collect()
    };
    let image = first_file(
        reader,
        &named(&["/boot/vmlinuz-KVER", "/boot/vmlinux-KVER", "/lib/modules/KVER/vmlinuz"]),
    )?;
    let config_path = first_file(reader, &named(&["/boot/config-KVER", "/lib/modules/KVER/config"]))?;
    let config = match &config_path {
        Some(file) => reader.text(file)?.map(|text| {
            let built_in = |line: &str| line.strip_suffix("=y").map(str::to_owned);
            text.lines().filter_map(built_in).collect()
        }),
        None => None,
    };
    let directory = format!("/lib/modules/{version}");
    let mut module_directory = None;
    let mut modules = None;
    if let Ok(location) = reader.tree.resolve(&path(&directory)) {
        match KernelModules::load(&version, &TreeModules::new(reader.tree, location.path.clone())) {
            Ok(loaded) => {
                module_directory = Some(location.path.to_string());
                modules = Some(loaded);
            }
            Err(InitramfsError::NoModules { .. }) => {}
            Err(error) => {
                let code = report::Diagnose::code(&error);
                reader.problem(code, format!("{directory}: {error}"));
            }
        }
    }
    if image.is_none() {
        reader.problem("guest.kernel.no-image", format!("{directory}: no kernel image of this version"));
    } else if module_directory.is_none() {
        reader.problem("guest.kernel.no-modules", format!("kernel {version} has no modules in {directory}"));
    }
    let kernel = Kernel {
        version,
        module_directory,
        image,
        config: config_path,
        initramfs: None,
        drivers: Vec::new(),
    };
    let mut loaded = LoadedKernel { kernel, modules, config };
    loaded.kernel.drivers = DRIVERS
        .iter()
        .map(|driver| DriverOnDisk {
            name: driver.name.to_owned(),
            is_builtin: loaded.is_builtin(driver.name),
            path: loaded.modules.as_ref().and_then(|modules| on_disk(modules, driver.name)),
        })
        .collect();
    Ok(loaded)
}

/// Path of a driver's module below the module directory.
pub(crate) fn on_disk(modules: &KernelModules, driver: &str) -> Option<String> {
    match driver {
        CRC32C => match modules.lookup("crypto-crc32c") {
            Lookup::Modules(found) => found.first().map(|module| module.path.clone()),
            _ => None,
        },
        _ => modules.module(driver).map(|module| module.path.clone()),
    }
}

/// Architecture that kernels run on: by the modules of the newest that tells, else by its image.
pub(crate) fn architecture(
    reader: &Reader<'_>,
    kernels: &[LoadedKernel],
) -> Result<Option<&'static str>, VfsError> {
    for LoadedKernel { kernel, modules, .. } in kernels {
        if let (Some(modules), Some(directory)) = (modules, &kernel.module_directory) {
            let source = TreeModules::new(reader.tree, GuestPath::root().join(directory));
            // Modules that cannot be read are named where they are needed.
            if let Ok(Some(machine)) = modules.machine(&source) {
                // Module files of these machines are little-endian, but for s390.
                return Ok(elf_machine(machine, machine == 22));
            }
        }
        if let Some(image) = &kernel.image
            && let Some(found) = image_architecture(reader, image)?
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Name as `uname -m` prints it of `e_machine` of an ELF file.
pub(crate) fn elf_machine(machine: u16, is_big_endian: bool) -> Option<&'static str> {
    Some(match (machine, is_big_endian) {
        (62, false) => "x86_64",
        (3, false) => "i686",
        (183, false) => "aarch64",
        (40, false) => "armv7l",
        (243, false) => "riscv64",
        (258, false) => "loongarch64",
        (21, false) => "ppc64le",
        (22, true) => "s390x",
        _ => return None,
    })
}

/// By the header that loaders read: arm64's `Image` (Documentation/arch/arm64/booting.rst) has its magic at 56; a
/// bzImage tells at 0x236 whether it can be started in 64-bit mode (Documentation/arch/x86/boot.rst, `xloadflags`).
fn image_architecture(reader: &Reader<'_>, image: &str) -> Result<Option<&'static str>, VfsError> {
    let mut header = [0; 0x240];
    let len = reader.peek(image, 0, &mut header)?;
    let header = &header[..len];
    if header.get(56..60) == Some(b"ARM\x64") {
        return Ok(Some("aarch64"));
    }
    if header.get(0x202..0x206) == Some(b"HdrS") && header.len() > 0x236 {
        return Ok(Some(if header[0x236] & 1 != 0 { "x86_64" } else { "i686" }));
    }
    Ok(None)
}

fn first_file(reader: &Reader<'_>, candidates: &[String]) -> Result<Option<String>, VfsError> {
    for candidate in candidates {
        if let Some(real) = reader.real_file(candidate)? {
            return Ok(Some(real));
        }
    }
    Ok(None)
}

/// Orders versions as people do: numbers by value, everything else by its characters.
pub(crate) fn version_order(one: &str, other: &str) -> std::cmp::Ordering {
    let parts = |text: &str| -> Vec<(u64, String)> {
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let number = rest[..digits].parse().unwrap_or(if digits == 0 { 0 } else { u64::MAX });
            rest = &rest[digits..];
            let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
            parts.push((number, rest[..letters].to_owned()));
            rest = &rest[letters..];
        }
        parts
    };
    parts(one).cmp(&parts(other))
}

/// Version that a bzImage says of itself (`Documentation/arch/x86/boot.rst`, `kernel_version`).
pub(crate) fn image_version(reader: &Reader<'_>, image: &str) -> Result<Option<String>, VfsError> {
    let mut header = [0; 0x210];
    if reader.peek(image, 0, &mut header)? < header.len() || &header[0x202..0x206] != b"HdrS" {
        return Ok(None);
    }
    let offset = u64::from(u16::from_le_bytes([header[0x20e], header[0x20f]])) + 0x200;
    let mut text = [0; 128];
    let len = reader.peek(image, offset, &mut text)?;
    let version: Vec<u8> = text[..len].iter().copied().take_while(|byte| byte.is_ascii_graphic()).collect();
    Ok(String::from_utf8(version).ok().filter(|version| !version.is_empty() && version.len() < 128))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_version_is_the_greatest() {
        let mut versions = ["6.1.0-9-amd64", "6.1.0-28-amd64", "5.10.0-30-amd64", "6.1.0-28-cloud-amd64"];
        versions.sort_by(|one, other| version_order(one, other));
        assert_eq!(versions, ["5.10.0-30-amd64", "6.1.0-9-amd64", "6.1.0-28-amd64", "6.1.0-28-cloud-amd64"]);
    }
}
