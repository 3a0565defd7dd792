//! Which drivers an initramfs has for its kernel, and whether its programs find them.

use std::collections::{BTreeMap, BTreeSet};

use initramfs::{
    Archive, InitramfsError, KernelModules, Limits, Lookup, ModuleSource, SegmentKind, module_name,
};

use crate::kernels::{LoadedKernel, on_disk};
use crate::{DriverState, InitramfsDriver, InitramfsInfo, Problem, SegmentInfo};

/// Stands for whatever provides crc32c: ext4 of kernels up to 6.13 cannot mount without it.
pub(crate) const CRC32C: &str = "crc32c";

/// A driver that matters for booting.
pub(crate) struct KnownDriver {
    pub name: &'static str,
    /// Option that puts it into the kernel image.
    pub config: &'static str,
    /// Alias by which udev or the kernel asks for it.
    pub alias: &'static str,
}

const fn driver(name: &'static str, config: &'static str, alias: &'static str) -> KnownDriver {
    KnownDriver { name, config, alias }
}

/// Aliases are those of QEMU's devices.
pub(crate) const DRIVERS: [KnownDriver; 12] = [
    driver("virtio_pci", "CONFIG_VIRTIO_PCI", "pci:v00001AF4d00001042sv00001AF4sd00001100bc01sc00i00"),
    driver("virtio_blk", "CONFIG_VIRTIO_BLK", "virtio:d00000002v00001AF4"),
    driver("virtio_scsi", "CONFIG_SCSI_VIRTIO", "virtio:d00000008v00001AF4"),
    driver("virtio_net", "CONFIG_VIRTIO_NET", "virtio:d00000001v00001AF4"),
    driver("nvme", "CONFIG_BLK_DEV_NVME", "pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02"),
    driver("ahci", "CONFIG_SATA_AHCI", "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01"),
    driver("ata_piix", "CONFIG_ATA_PIIX", "pci:v00008086d00007010sv00001AF4sd00001100bc01sc01i80"),
    driver("sd_mod", "CONFIG_BLK_DEV_SD", "scsi:t-0x00"),
    driver("ext4", "CONFIG_EXT4_FS", "fs-ext4"),
    driver("xfs", "CONFIG_XFS_FS", "fs-xfs"),
    driver("btrfs", "CONFIG_BTRFS_FS", "fs-btrfs"),
    driver(CRC32C, "CONFIG_CRYPTO_CRC32C", "crypto-crc32c"),
];

/// Programs that make `/` reachable on something other than a partition.
const STORAGE_TOOLS: [(&str, &[&str]); 3] = [
    ("lvm", &["sbin/lvm", "usr/sbin/lvm", "usr/bin/lvm"]),
    ("mdadm", &["sbin/mdadm", "usr/sbin/mdadm", "usr/bin/mdadm"]),
    ("cryptsetup", &["sbin/cryptsetup", "usr/sbin/cryptsetup", "usr/lib/systemd/systemd-cryptsetup"]),
];

/// The indexes that the programs inside read: kmod takes the binary form where it is there.
struct ArchiveModules<'a> {
    archive: &'a Archive,
    directory: String,
}

impl ModuleSource for ArchiveModules<'_> {
    fn read(&self, relative: &str) -> Result<Option<Vec<u8>>, InitramfsError> {
        let at = |name: &str| format!("{}/{name}", self.directory);
        let binary = at(&format!("{relative}.bin"));
        if self.archive.exists(&binary) {
            return Ok(None);
        }
        Ok(self.archive.read_file(&at(relative)).map(|content| content.to_vec()))
    }
}

/// Indexes inside an initramfs are smaller, and nothing else of it is read but short texts.
const KEPT_FILE_MAX: u64 = 4 << 20;

/// Looks into one initramfs file, which may hold `unpacked_max` bytes.
pub(crate) fn look_into(
    path: &str,
    bytes: &[u8],
    kernel: Option<&LoadedKernel>,
    unpacked_max: u64,
) -> InitramfsInfo {
    let name = path.rsplit('/').next().unwrap_or(path);
    let mut info = InitramfsInfo {
        path: path.to_owned(),
        kernel: kernel.map(|kernel| kernel.kernel.version.clone()),
        size: bytes.len() as u64,
        error: None,
        generator: None,
        has_udev: false,
        is_kdump: name.contains("kdump"),
        module_versions: Vec::new(),
        segments: Vec::new(),
        drivers: Vec::new(),
        storage_tools: Vec::new(),
    };
    let defaults = Limits::default();
    let limits = Limits {
        unpacked_bytes: defaults.unpacked_bytes.min(unpacked_max),
        kept_file_bytes: KEPT_FILE_MAX,
        ..defaults
    };
    let archive = match Archive::parse(bytes, &limits) {
        Ok(archive) => archive,
        Err(error) => {
            let code = report::Diagnose::code(&error).to_owned();
            info.error = Some(Problem { code, message: format!("{path}: {error}") });
            return info;
        }
    };
    let generator = archive.generator();
    info.generator = Some(generator.name().to_owned());
    info.has_udev = archive.has_udev();
    info.module_versions = archive.kernel_versions();
    info.segments = archive.segments().iter().map(segment_info).collect();
    let has_one = |files: &[&str]| files.iter().any(|file| archive.exists(file));
    let tools = STORAGE_TOOLS.iter().filter(|(_, files)| has_one(files));
    info.storage_tools = tools.map(|(tool, _)| (*tool).to_owned()).collect();
    if let Some(file) = dropped_index(&archive) {
        let message = format!("{path}: {file} is beyond what is kept while reading");
        info.error = Some(Problem { code: "initramfs.limit".into(), message });
    } else if let Some(kernel) = kernel {
        info.drivers = drivers(&archive, kernel);
    }
    info
}

/// A module index that is inside and was too much to keep: without it nothing can be said about drivers.
fn dropped_index(archive: &Archive) -> Option<String> {
    let versions = archive.kernel_versions();
    let files = versions.iter().flat_map(|version| {
        ["dep", "dep.bin", "alias", "alias.bin"].map(|index| format!("lib/modules/{version}/modules.{index}"))
    });
    let mut both = files.flat_map(|file| [format!("usr/{file}"), file]);
    both.find(|file| archive.file_size(file).is_some() && archive.read_file(file).is_none())
}

fn segment_info(segment: &initramfs::Segment) -> SegmentInfo {
    SegmentInfo {
        offset: segment.offset,
        kind: match segment.kind {
            SegmentKind::Early => "early".into(),
            SegmentKind::Main => "main".into(),
        },
        compression: segment.compression.name().to_owned(),
        stored_len: segment.stored_len,
        unpacked_len: segment.unpacked_len,
        entries: segment.entries.len(),
    }
}

fn drivers(archive: &Archive, kernel: &LoadedKernel) -> Vec<InitramfsDriver> {
    let version = &kernel.kernel.version;
    let inside: BTreeMap<String, String> = archive
        .modules()
        .into_iter()
        .filter(|module| module.kver == *version)
        .map(|module| (module.name, module.path))
        .collect();
    let directory = ["lib/modules", "usr/lib/modules"]
        .iter()
        .map(|root| format!("{root}/{version}"))
        .find(|directory| archive.exists(directory));
    let index = directory
        .and_then(|directory| KernelModules::load(version, &ArchiveModules { archive, directory }).ok());
    let listed = listed_modules(archive);
    let loads_by_alias = archive.loads_by_alias();
    let blacklist = archive.module_blacklist();
    let one = |known: &KnownDriver| -> InitramfsDriver {
        let mut found = InitramfsDriver {
            name: known.name.to_owned(),
            state: DriverState::Absent,
            path: kernel.modules.as_ref().and_then(|modules| on_disk(modules, known.name)),
            missing_dependencies: Vec::new(),
            dependencies: Vec::new(),
            is_found: false,
            blacklisted: None,
        };
        if kernel.is_builtin(known.name) {
            return InitramfsDriver { state: DriverState::BuiltIn, is_found: true, ..found };
        }
        let Some(module) = module_inside(known.name, &inside, kernel) else {
            if found.path.is_some() {
                found.state = DriverState::OnDisk;
            }
            return found;
        };
        found.state = DriverState::InInitramfs;
        found.path = inside.get(&module).cloned();
        // The guest's own list is the better witness: an index inside cannot name what is not there.
        let dependencies = match &kernel.modules {
            Some(modules) if modules.module(&module).is_some() => modules.dependencies(&module),
            _ => index.as_ref().map(|index| index.dependencies(&module)).unwrap_or_default(),
        };
        found.dependencies = dependencies.into_iter().map(|dependency| dependency.name).collect();
        let is_there = |name: &String| inside.contains_key(name) || kernel.is_builtin(name);
        found.missing_dependencies =
            found.dependencies.iter().filter(|name| !is_there(name)).cloned().collect();
        found.is_found = index.as_ref().is_some_and(|index| {
            let asks_by_alias = loads_by_alias || known.alias.starts_with("fs-") || known.name == CRC32C;
            let by_alias = asks_by_alias
                && index.modules_for_alias(known.alias).iter().any(|candidate| candidate.name == module);
            index.module(&module).is_some() && (by_alias || listed.contains(&module))
        });
        found.blacklisted = blacklist.place(&module).map(str::to_owned);
        found
    };
    DRIVERS.iter().map(one).collect()
}

/// Name of the module inside that is, or provides, a driver.
fn module_inside(driver: &str, inside: &BTreeMap<String, String>, kernel: &LoadedKernel) -> Option<String> {
    if driver != CRC32C {
        return inside.contains_key(driver).then(|| driver.to_owned());
    }
    match kernel.modules.as_ref()?.lookup("crypto-crc32c") {
        Lookup::Modules(providers) => {
            providers.into_iter().map(|module| module.name).find(|name| inside.contains_key(name))
        }
        _ => None,
    }
}

/// Modules that a list inside has loaded whatever hardware is there.
fn listed_modules(archive: &Archive) -> BTreeSet<String> {
    let mut lists: Vec<String> = vec!["conf/modules".into(), "etc/modules".into()];
    for directory in ["etc/modules-load.d", "usr/lib/modules-load.d", "lib/modules-load.d"] {
        let names = archive.list_dir(directory);
        lists.extend(names.iter().map(|name| format!("{directory}/{}", String::from_utf8_lossy(name))));
    }
    let mut found = BTreeSet::new();
    for list in lists {
        let Some(content) = archive.read_file(&list) else { continue };
        for line in String::from_utf8_lossy(&content).lines() {
            let name = line.split_whitespace().next().unwrap_or_default();
            if !name.starts_with(['#', ';']) {
                found.extend(module_name(&format!("{name}.ko")));
            }
        }
    }
    // mkinitcpio's list, a shell assignment.
    if archive.exists("hooks")
        && let Some(content) = archive.read_file("config")
    {
        let text = String::from_utf8_lossy(&content).into_owned();
        let values = text.lines().filter_map(|line| line.trim().strip_prefix("MODULES="));
        let words =
            values.flat_map(|value| value.split(|c: char| c.is_whitespace() || c == '"' || c == '\''));
        found.extend(words.filter_map(|name| module_name(&format!("{name}.ko"))));
    }
    for name in archive.list_dir("etc/cmdline.d") {
        let path = format!("etc/cmdline.d/{}", String::from_utf8_lossy(&name));
        let Some(content) = archive.read_file(&path) else { continue };
        let line = boot::CommandLine::parse(&content);
        for key in ["rd.driver.pre", "rd.driver.post"] {
            for value in line.values(key) {
                found.extend(value.split(',').filter_map(|name| module_name(&format!("{name}.ko"))));
            }
        }
    }
    found
}
