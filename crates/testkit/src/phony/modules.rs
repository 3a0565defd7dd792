//! Kernel modules, kernels and initramfs of phony guests: small, but well formed.

use std::fs;
use std::path::Path;

use super::release::{Line, Release};
use crate::DirFs;
use crate::tool;

/// Path below the module directory, what it needs, alias, option in the kernel's configuration.
type Module = (&'static str, &'static [&'static str], &'static str, &'static str);

const MODULES: &[Module] = &[
    ("kernel/drivers/virtio/virtio.ko", &[], "", "VIRTIO"),
    ("kernel/drivers/virtio/virtio_ring.ko", &["virtio"], "", "VIRTIO"),
    ("kernel/drivers/virtio/virtio_pci_legacy_dev.ko", &[], "", "VIRTIO_PCI_LIB_LEGACY"),
    ("kernel/drivers/virtio/virtio_pci_modern_dev.ko", &[], "", "VIRTIO_PCI_LIB"),
    (
        "kernel/drivers/virtio/virtio_pci.ko",
        &["virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_ring", "virtio"],
        "pci:v00001AF4d*sv*sd*bc*sc*i*",
        "VIRTIO_PCI",
    ),
    ("kernel/drivers/block/virtio_blk.ko", &["virtio_ring", "virtio"], "virtio:d00000002v*", "VIRTIO_BLK"),
    ("kernel/drivers/net/virtio_net.ko", &["virtio_ring", "virtio"], "virtio:d00000001v*", "VIRTIO_NET"),
    (
        "kernel/drivers/char/virtio_console.ko",
        &["virtio_ring", "virtio"],
        "virtio:d00000003v*",
        "VIRTIO_CONSOLE",
    ),
    ("kernel/drivers/scsi/scsi_mod.ko", &[], "", "SCSI"),
    (
        "kernel/drivers/scsi/virtio_scsi.ko",
        &["virtio_ring", "virtio", "scsi_mod"],
        "virtio:d00000008v*",
        "SCSI_VIRTIO",
    ),
    ("kernel/drivers/scsi/sd_mod.ko", &["scsi_mod"], "scsi:t-0x00*", "BLK_DEV_SD"),
    ("kernel/drivers/nvme/host/nvme-core.ko", &[], "", "NVME_CORE"),
    ("kernel/drivers/nvme/host/nvme.ko", &["nvme_core"], "pci:v*d*sv*sd*bc01sc08i02*", "BLK_DEV_NVME"),
    ("kernel/drivers/ata/libata.ko", &["scsi_mod"], "", "ATA"),
    ("kernel/drivers/ata/libahci.ko", &["libata", "scsi_mod"], "", "SATA_AHCI"),
    (
        "kernel/drivers/ata/ahci.ko",
        &["libahci", "libata", "scsi_mod"],
        "pci:v*d*sv*sd*bc01sc06i01*",
        "SATA_AHCI",
    ),
    (
        "kernel/drivers/scsi/vmw_pvscsi.ko",
        &["scsi_mod"],
        "pci:v000015ADd000007C0sv*sd*bc*sc*i*",
        "VMWARE_PVSCSI",
    ),
    ("kernel/fs/mbcache.ko", &[], "", "FS_MBCACHE"),
    ("kernel/fs/jbd2/jbd2.ko", &[], "", "JBD2"),
    ("kernel/fs/ext4/ext4.ko", &["mbcache", "jbd2"], "fs-ext4", "EXT4_FS"),
    ("kernel/fs/xfs/xfs.ko", &["libcrc32c"], "fs-xfs", "XFS_FS"),
    ("kernel/lib/libcrc32c.ko", &["crc32c_generic"], "", "LIBCRC32C"),
    ("kernel/crypto/crc32c_generic.ko", &[], "crypto-crc32c", "CRYPTO_CRC32C"),
    ("kernel/drivers/firmware/qemu_fw_cfg.ko", &[], "acpi*:QEMU0002:*", "FW_CFG_SYSFS"),
];

/// What the generator takes for a VMware guest with an AHCI or paravirtual adapter.
const NARROW: &[&str] = &["ahci", "vmw_pvscsi", "sd_mod", "crc32c_generic"];

fn name_of(path: &str) -> String {
    path.rsplit('/').next().unwrap_or_default().trim_end_matches(".ko").replace('-', "_")
}

/// The kernel of one release: what is a module and what is built in.
pub(super) struct PhonyKernel<'r> {
    release: &'r Release,
    modules: Vec<(&'static str, Vec<&'static str>, &'static str)>,
    builtin: Vec<&'static Module>,
    absent: Vec<&'static Module>,
}

impl<'r> PhonyKernel<'r> {
    pub(super) fn new(release: &'r Release) -> Self {
        let mut kernel = Self { release, modules: Vec::new(), builtin: Vec::new(), absent: Vec::new() };
        for module in MODULES {
            let name = name_of(module.0);
            if kernel.lacks(&name) {
                kernel.absent.push(module);
            } else if kernel.has_builtin(&name) {
                kernel.builtin.push(module);
            } else {
                let path = match module.0 {
                    // Before 4.4 the driver was one file, among the block devices.
                    "kernel/drivers/nvme/host/nvme.ko" if release.el() == Some(6) => {
                        "kernel/drivers/block/nvme.ko"
                    }
                    path => path,
                };
                kernel.modules.push((path, Vec::new(), module.2));
            }
        }
        let is_module =
            |need: &str, kernel: &Self| kernel.modules.iter().any(|(path, ..)| name_of(path) == need);
        for index in 0..kernel.modules.len() {
            let name = name_of(kernel.modules[index].0);
            let needs =
                MODULES.iter().find(|module| name_of(module.0) == name).map_or(&[][..], |module| module.1);
            kernel.modules[index].1 = needs.iter().copied().filter(|need| is_module(need, &kernel)).collect();
        }
        kernel
    }

    fn lacks(&self, name: &str) -> bool {
        let line = self.release.line;
        match name {
            "virtio_pci_modern_dev" => !self.is_from(5, 14),
            "virtio_pci_legacy_dev" => !self.is_from(5, 17),
            "nvme_core" => line == Line::El(6),
            "virtio_scsi" => line == Line::El(6),
            "qemu_fw_cfg" => !self.is_from(4, 6) && line != Line::El(7),
            "vmw_pvscsi" => self.release.is_arm64(),
            _ => false,
        }
    }

    /// Built into the kernel by the distribution's configuration.
    fn has_builtin(&self, name: &str) -> bool {
        let line = self.release.line;
        match name {
            "scsi_mod" | "sd_mod" | "libata" | "ext4" | "mbcache" | "jbd2" => {
                matches!(line, Line::Ubuntu(_))
            }
            "virtio" | "virtio_ring" | "virtio_pci" => matches!(line, Line::Ubuntu(_) | Line::El(9 | 10)),
            "virtio_pci_modern_dev" | "virtio_pci_legacy_dev" => {
                matches!(line, Line::Ubuntu(_) | Line::El(9 | 10))
            }
            "virtio_blk" | "virtio_net" => matches!(line, Line::Ubuntu(..22)),
            "virtio_console" => matches!(line, Line::Ubuntu(_)),
            "qemu_fw_cfg" => matches!(line, Line::El(_)),
            _ => false,
        }
    }

    fn is_from(&self, major: u32, minor: u32) -> bool {
        let mut numbers = self.release.kver.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
    }

    /// The compressor of module files, with its suffix.
    fn module_compressor(&self) -> Option<(&'static str, &'static [&'static str])> {
        const XZ: &[&str] = &["xz", "--check=crc32", "-0"];
        const ZSTD: &[&str] = &["zstd", "-q", "-1"];
        match self.release.line {
            Line::El(7..) => Some((".xz", XZ)),
            Line::Debian(13..) => Some((".xz", XZ)),
            Line::Suse(15..) | Line::Ubuntu(24..) => Some((".zst", ZSTD)),
            _ => None,
        }
    }

    fn suffix(&self) -> &'static str {
        self.module_compressor().map_or("", |(suffix, _)| suffix)
    }

    /// A relocatable ELF file with `.modinfo` and the names of its sections.
    fn module(&self, path: &str, alias: &str, needs: &[&str]) -> Vec<u8> {
        let name = name_of(path);
        let mut info = format!("license=GPL\0depends={}\0", needs.join(","));
        if !alias.is_empty() {
            info.push_str(&format!("alias={alias}\0"));
        }
        // Before 4.15 the parameters were bytes; the driver of before 4.4 has them itself.
        let owner = if self.release.el() == Some(6) { "nvme" } else { "nvme_core" };
        if name == owner {
            let kind = if self.is_from(4, 12) || self.release.line == Line::El(7) { "uint" } else { "byte" };
            for parameter in ["io_timeout", "admin_timeout"] {
                info.push_str(&format!("parmtype={parameter}:{kind}\0parm={parameter}:timeout in seconds\0"));
            }
            if self.is_from(4, 15) {
                info.push_str("parmtype=multipath:bool\0parm=multipath:turn on native support\0");
            }
        }
        let machine = if self.release.is_arm64() { "aarch64" } else { "mod_unload modversions" };
        info.push_str(&format!("name={name}\0vermagic={} SMP {machine} \0", self.release.kver));
        elf(&[(".modinfo", info.as_bytes())], if self.release.is_arm64() { 183 } else { 62 })
    }

    fn indexes(&self, names: Option<&[String]>) -> [(&'static str, String); 3] {
        let chosen = |path: &str| names.is_none_or(|names| names.contains(&name_of(path)));
        let suffix = self.suffix();
        let path_of = |name: &str| {
            let found = self.modules.iter().find(|(path, ..)| name_of(path) == name);
            found.map_or(String::new(), |(path, ..)| format!("{path}{suffix}"))
        };
        let mut deps = String::new();
        let mut aliases = String::from("# Aliases extracted from modules themselves.\n");
        for (path, needs, alias) in self.modules.iter().filter(|(path, ..)| chosen(path)) {
            let needs: Vec<String> = needs.iter().map(|need| path_of(need)).collect();
            deps.push_str(format!("{path}{suffix}: {}", needs.join(" ")).trim_end());
            deps.push('\n');
            if !alias.is_empty() {
                aliases.push_str(&format!("alias {alias} {}\n", name_of(path)));
            }
        }
        let builtin = self.builtin.iter().map(|module| format!("{}\n", module.0)).collect();
        [("modules.dep", deps), ("modules.alias", aliases), ("modules.builtin", builtin)]
    }

    /// Module files as stored: path below the module directory with suffix, content.
    fn files(&self) -> Vec<(String, Vec<u8>)> {
        let plain: Vec<(String, Vec<u8>)> = self
            .modules
            .iter()
            .map(|(path, needs, alias)| ((*path).to_owned(), self.module(path, alias, needs)))
            .collect();
        let Some((suffix, command)) = self.module_compressor() else { return plain };
        let contents: Vec<&[u8]> = plain.iter().map(|(_, content)| content.as_slice()).collect();
        let packed = compress(&contents, command, suffix);
        plain
            .into_iter()
            .zip(packed)
            .map(|((path, _), content)| (format!("{path}{suffix}"), content))
            .collect()
    }

    fn config(&self) -> String {
        let mut lines = vec!["CONFIG_64BIT=y".to_owned(), "CONFIG_RD_GZIP=y".into(), "CONFIG_RD_XZ=y".into()];
        if self.is_from(5, 9) {
            lines.push("CONFIG_RD_ZSTD=y".into());
        }
        let mut option = |option: &str, value: &str| {
            let line = if value.is_empty() {
                format!("# CONFIG_{option} is not set")
            } else {
                format!("CONFIG_{option}={value}")
            };
            if !lines.contains(&line) {
                lines.push(line);
            }
        };
        self.builtin.iter().for_each(|module| option(module.3, "y"));
        for (path, ..) in &self.modules {
            if let Some(module) = MODULES.iter().find(|module| name_of(module.0) == name_of(path)) {
                option(module.3, "m");
            }
        }
        self.absent.iter().for_each(|module| option(module.3, ""));
        lines.join("\n") + "\n"
    }

    /// The names that the generator packs, with all that they need.
    fn narrow(&self) -> Vec<String> {
        let filesystem = if self.release.root_filesystem() == "xfs" { "xfs" } else { "ext4" };
        let mut names = Vec::new();
        for wanted in NARROW.iter().chain(&[filesystem]) {
            let mut todo = vec![(*wanted).to_owned()];
            while let Some(name) = todo.pop() {
                let Some((_, needs, _)) = self.modules.iter().find(|(path, ..)| name_of(path) == name) else {
                    continue;
                };
                todo.extend(needs.iter().map(|need| (*need).to_owned()));
                names.push(name);
            }
        }
        names.sort();
        names.dedup();
        names
    }

    /// Adds kernel, configuration, modules and initramfs.
    pub(super) fn install(&self, guest: &mut DirFs) {
        let kver = self.release.kver;
        let modules = if self.release.is_usr_merged() { "/usr/lib/modules" } else { "/lib/modules" };
        let directory = format!("{modules}/{kver}");
        let files = self.files();
        for (path, content) in &files {
            guest.add_file(format!("{directory}/{path}"), content);
        }
        for (name, text) in self.indexes(None) {
            guest.add_file(format!("{directory}/{name}"), text);
        }
        guest.add_file(format!("/boot/vmlinuz-{kver}"), self.image());
        guest.add_file(format!("/boot/config-{kver}"), self.config());
        guest.add_file(format!("/boot/System.map-{kver}"), "0000000000000000 D __per_cpu_start\n");
        let names = self.narrow();
        let mut entries = self.frame();
        let below = if self.release.is_usr_merged() && self.release.has_dracut() { "usr/lib" } else { "lib" };
        for (path, content) in
            files.iter().filter(|(path, _)| names.contains(&name_of(path.trim_end_matches(self.suffix()))))
        {
            entries.push((format!("{below}/modules/{kver}/{path}"), content.clone()));
        }
        for (name, text) in self.indexes(Some(&names)) {
            entries.push((format!("{below}/modules/{kver}/{name}"), text.into_bytes()));
        }
        let archive = super::initramfs::cpio(&entries);
        let packed = match self.initramfs_compressor() {
            Some(command) => compress(&[&archive], command, "").remove(0),
            None => archive,
        };
        guest.add_file(self.release.initramfs(), packed);
    }

    fn initramfs_compressor(&self) -> Option<&'static [&'static str]> {
        const GZIP: &[&str] = &["gzip", "-n", "-6"];
        const ZSTD: &[&str] = &["zstd", "-q", "-3"];
        const XZ: &[&str] = &["xz", "--check=crc32", "-0"];
        const LZ4: &[&str] = &["lz4", "-q", "-m", "-l", "-9"];
        Some(match self.release.line {
            Line::El(..10) | Line::Debian(..12) | Line::Ubuntu(..20) => GZIP,
            Line::Ubuntu(20) => LZ4,
            Line::Suse(12) => XZ,
            _ => ZSTD,
        })
    }

    /// What tells the generator by the files that it always packs.
    fn frame(&self) -> Vec<(String, Vec<u8>)> {
        super::initramfs::frame(self.release)
            .into_iter()
            .map(|(path, text)| (path.to_owned(), text.as_bytes().to_vec()))
            .collect()
    }

    /// A kernel image that says its version: a bzImage header (Documentation/arch/x86/boot.rst), or an
    /// arm64 Image header (Documentation/arch/arm64/booting.rst).
    fn image(&self) -> Vec<u8> {
        let mut image = vec![0u8; 0x400];
        if self.release.is_arm64() {
            image[..2].copy_from_slice(b"MZ");
            image[0x38..0x3c].copy_from_slice(b"ARM\x64");
            image.extend_from_slice(format!("Linux version {} (phony)\n\0", self.release.kver).as_bytes());
            return image;
        }
        image[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x20e..0x210].copy_from_slice(&0x200u16.to_le_bytes());
        image.extend_from_slice(format!("{} (phony) #1 SMP\0", self.release.kver).as_bytes());
        image
    }
}

/// An ELF file (relocatable, 64 bit, little endian) with these sections.
fn elf(sections: &[(&str, &[u8])], machine: u16) -> Vec<u8> {
    let mut names = vec![0u8];
    let mut headers: Vec<[u64; 4]> = vec![[0; 4]];
    let mut body = Vec::new();
    let mut put = |name: &str, kind: u64, content: &[u8], names: &mut Vec<u8>| {
        let name_at = names.len() as u64;
        names.extend_from_slice(name.as_bytes());
        names.push(0);
        headers.push([name_at, kind, 64 + body.len() as u64, content.len() as u64]);
        body.extend_from_slice(content);
    };
    for (name, content) in sections {
        put(name, 1, content, &mut names);
    }
    let mut all_names = names.clone();
    all_names.extend_from_slice(b".shstrtab\0");
    put(".shstrtab", 3, &all_names, &mut names);
    let table_at = (64 + body.len()).next_multiple_of(8);
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend([1u16, machine].iter().flat_map(|half| half.to_le_bytes()));
    file.extend(1u32.to_le_bytes());
    file.extend([0, 0, table_at as u64].iter().flat_map(|long| long.to_le_bytes()));
    file.extend(0u32.to_le_bytes());
    let count = headers.len() as u16;
    file.extend([64, 0, 0, 64, count, count - 1].iter().flat_map(|half: &u16| half.to_le_bytes()));
    file.extend_from_slice(&body);
    file.resize(table_at, 0);
    for [name, kind, at, len] in headers {
        file.extend([name as u32, kind as u32].iter().flat_map(|word| word.to_le_bytes()));
        file.extend([0, 0, at, len].iter().flat_map(|long: &u64| long.to_le_bytes()));
        file.extend([0u32, 0].iter().flat_map(|word| word.to_le_bytes()));
        file.extend([1u64, 0].iter().flat_map(|long| long.to_le_bytes()));
    }
    file
}

/// An ELF program header alone, for `/bin/sh` and its like.
pub(super) fn program(release: &Release) -> Vec<u8> {
    elf(&[], if release.is_arm64() { 183 } else { 62 })
}

/// Each content through a compressor, one run for all.
#[allow(clippy::panic, reason = "a phony guest that cannot be made is a bug of the test or a missing tool")]
fn compress(contents: &[&[u8]], command: &[&str], suffix: &str) -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("temporary folder: {error}"));
    let suffix = match (suffix, command[0]) {
        ("", "gzip") => ".gz",
        ("", "zstd") => ".zst",
        ("", "xz") => ".xz",
        ("", "lz4") => ".lz4",
        (suffix, _) => suffix,
    };
    let names: Vec<String> = (0..contents.len()).map(|number| format!("file{number:03}")).collect();
    for (name, content) in names.iter().zip(contents) {
        fs::write(folder.path().join(name), content).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let mut run = tool::command(command[0], &command[1..]);
    run.args(&names).current_dir(folder.path());
    if let Err(error) = tool::finish(&mut run) {
        panic!("{error}");
    }
    let read = |name: &String| {
        let path = Path::new(folder.path()).join(format!("{name}{suffix}"));
        fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    names.iter().map(read).collect()
}
