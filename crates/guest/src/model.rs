//! What a guest is, as plain data.

use serde::Serialize;

use crate::Family;

/// Everything that inspection finds out about one guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Guest {
    /// Operating system.
    pub os: OsInfo,
    /// Architecture as `uname -m` prints it: the kernel's, else that of the guest's programs; `None` when neither tells.
    pub architecture: Option<String>,
    /// `/etc/hostname`.
    pub hostname: Option<String>,
    /// State of `/etc/machine-id`.
    pub machine_id: MachineId,
    /// Program that runs as process 1, as far as files tell: `systemd`, `upstart`, `sysvinit`, `openrc`, `runit`,
    /// `busybox`.
    pub init: Option<String>,
    /// UUID of the filesystem that holds `/`.
    pub root_uuid: Option<String>,
    /// Every kernel with a module directory or an image, newest version first.
    pub kernels: Vec<Kernel>,
    /// Every initramfs file that a boot entry or a kernel's name leads to.
    pub initramfs: Vec<InitramfsInfo>,
    /// Boot loader.
    pub bootloader: Bootloader,
    /// Entries that start Linux; the default one first, the others in the order of the file.
    pub boot_entries: Vec<BootEntry>,
    /// Entries of `/etc/fstab`.
    pub fstab: Vec<FstabRow>,
    /// Entries of `/etc/crypttab`.
    pub crypttab: Vec<CryptEntry>,
    /// Network configuration systems that have configuration.
    pub network: Vec<NetworkSystem>,
    /// Installed guest agents and cloud tools.
    pub agents: Vec<String>,
    /// Package manager: `dpkg`, `rpm`, `apk`, `pacman`.
    pub package_manager: Option<String>,
    /// What could not be read or does not fit together.
    pub problems: Vec<Problem>,
}

/// Operating system of the guest.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct OsInfo {
    /// Distributions with the same layout.
    pub family: Family,
    /// `ID` of os-release in lower case, or the same name by an older release file.
    pub id: Option<String>,
    /// `ID_LIKE` of os-release.
    pub id_like: Vec<String>,
    /// `VERSION_ID` of os-release, or the version in an older release file.
    pub version: Option<String>,
    /// First number of the version.
    pub major: Option<u32>,
    /// Second number of the version; from the release file where os-release has none (CentOS 7, Debian).
    pub minor: Option<u32>,
    /// `VERSION_CODENAME` of os-release.
    pub codename: Option<String>,
    /// `PRETTY_NAME` of os-release, or the line of an older release file.
    pub pretty_name: Option<String>,
    /// `/etc/debian_version`.
    pub debian_version: Option<String>,
    /// File that told the distribution.
    pub told_by: Option<String>,
    /// True when `/bin` and `/lib` lead to `/usr/bin` and `/usr/lib`.
    pub is_usr_merged: bool,
}

/// State of the machine id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MachineId {
    /// No file.
    Missing,
    /// An empty file or `uninitialized`: made at the next boot.
    Unset,
    /// 32 hexadecimal digits.
    Set,
    /// Something else.
    Malformed,
}

/// Something that inspection noticed and that is no failure of inspection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Stable dotted code.
    pub code: String,
    /// What, and where.
    pub message: String,
}

/// One kernel of the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kernel {
    /// Version: the name of its module directory.
    pub version: String,
    /// Module directory with all symlinks resolved; `None` when it has none with a `modules.dep`.
    pub module_directory: Option<String>,
    /// Path of the image.
    pub image: Option<String>,
    /// Path of its configuration.
    pub config: Option<String>,
    /// Path of its initramfs: what its boot entry names, else by name.
    pub initramfs: Option<String>,
    /// The drivers that matter for booting, as the module directory has them.
    pub drivers: Vec<DriverOnDisk>,
}

/// A driver of a kernel, the initramfs left aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DriverOnDisk {
    /// Name with underscores.
    pub name: String,
    /// True when it is inside the kernel image.
    pub is_builtin: bool,
    /// Path below the module directory, for a module.
    pub path: Option<String>,
}

/// One initramfs file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InitramfsInfo {
    /// Guest path with all symlinks resolved.
    pub path: String,
    /// Version of the kernel that it is for.
    pub kernel: Option<String>,
    /// Length in bytes.
    pub size: u64,
    /// Why it cannot be read; everything below is empty then.
    pub error: Option<Problem>,
    /// Program that made it.
    pub generator: Option<String>,
    /// True when udev is inside and loads drivers by alias.
    pub has_udev: bool,
    /// True for the file of a crash kernel, which is never the one that boots.
    pub is_kdump: bool,
    /// Kernels that it has modules for.
    pub module_versions: Vec<String>,
    /// Segments in order.
    pub segments: Vec<SegmentInfo>,
    /// The drivers that matter for booting, as this file has them for its kernel.
    pub drivers: Vec<InitramfsDriver>,
    /// Where its programs look for `/`, `/usr` on LVM, RAID or encrypted devices: tools that are inside.
    pub storage_tools: Vec<String>,
}

/// One segment of an initramfs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SegmentInfo {
    /// Position in the file.
    pub offset: u64,
    /// `early` (microcode) or `main`.
    pub kind: String,
    /// Compression by name.
    pub compression: String,
    /// Bytes in the file.
    pub stored_len: u64,
    /// Bytes unpacked.
    pub unpacked_len: u64,
    /// cpio entries.
    pub entries: usize,
}

/// A driver as one initramfs has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InitramfsDriver {
    /// Name with underscores.
    pub name: String,
    /// What is there.
    pub state: DriverState,
    /// Path below the module directory, where there is a module.
    pub path: Option<String>,
    /// Modules that it needs and that are not inside.
    pub missing_dependencies: Vec<String>,
    /// All modules that it needs, itself left out.
    pub dependencies: Vec<String>,
    /// True when the programs inside find it, by alias or because a list names it.
    pub is_found: bool,
    /// Where the image itself forbids it, for example `etc/modprobe.d/x.conf:3`.
    pub blacklisted: Option<String>,
}

/// Where a driver is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DriverState {
    /// Inside the kernel image.
    BuiltIn,
    /// A module inside the initramfs.
    InInitramfs,
    /// A module on the guest's disk only.
    OnDisk,
    /// The kernel does not have it.
    Absent,
}

/// The boot loader and its files.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Bootloader {
    /// `grub`, `grub-legacy`, `extlinux`, `systemd-boot`, `boot-loader-specification` (entries whose reader is not
    /// in the tree), `unified-kernel`.
    pub kind: Option<String>,
    /// Path of the configuration that has the entries, or of the directory that holds them.
    pub config: Option<String>,
    /// Every file that a boot loader reads, those that only lead to others included.
    pub files: Vec<BootFile>,
    /// Names of platforms that GRUB has modules for: `i386-pc`, `x86_64-efi`.
    pub platforms: Vec<String>,
    /// Files of the shell defaults, in the order in which they are read.
    pub defaults: Vec<String>,
    /// Programs on the EFI system partition, upper or lower case as found.
    pub efi_files: Vec<String>,
    /// True when the EFI system partition was read.
    pub esp_visible: bool,
    /// Why the entries cannot be known; none are listed then.
    pub unsupported: Option<Problem>,
}

/// A file that a boot loader reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BootFile {
    /// Guest path, symlinks resolved.
    pub path: String,
    /// Its grammar and use.
    pub kind: BootFileKind,
}

/// Grammar and use of a boot loader's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootFileKind {
    /// GRUB's generated script, or a stub that leads to it.
    GrubConfig,
    /// A script that the generated one takes in.
    GrubAddition,
    /// GRUB's environment block.
    GrubEnvironment,
    /// An entry of the Boot Loader Specification.
    LoaderEntry,
    /// `menu.lst` or `grub.conf` of GRUB legacy.
    LegacyConfig,
    /// `extlinux.conf` or `syslinux.cfg`.
    ExtlinuxConfig,
    /// A program that holds kernel, initramfs and arguments.
    UnifiedKernel,
}

/// An entry that starts Linux.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BootEntry {
    /// Title as it is shown.
    pub title: String,
    /// Id of the entry.
    pub id: Option<String>,
    /// File that has it.
    pub file: String,
    /// Line of its kernel, counted from 1.
    pub line: usize,
    /// True for the one that starts when nobody touches the menu.
    pub is_default: bool,
    /// A recovery or rescue entry.
    pub is_recovery: bool,
    /// Kernel as it is written.
    pub kernel: String,
    /// Guest path of the kernel, symlinks resolved; `None` when it is not there.
    pub kernel_path: Option<String>,
    /// Version of that kernel.
    pub kernel_version: Option<String>,
    /// Line of the initramfs.
    pub initrd_line: Option<usize>,
    /// Initramfs files in order.
    pub initrds: Vec<InitrdFile>,
    /// Kernel arguments as the file has them.
    pub command_line: String,
    /// Kernel arguments one by one, as the kernel sees them.
    pub arguments: Vec<String>,
    /// The value of `root=`.
    pub root: Option<String>,
    /// Why not everything about the entry is known.
    pub uncertain: Option<Problem>,
    /// UUID or label that the entry searches and that no volume has, when it sets no other device.
    pub missing_search: Option<String>,
}

/// A file of an `initrd` line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InitrdFile {
    /// As it is written.
    pub written: String,
    /// Guest path, symlinks resolved; `None` when it is not there.
    pub path: Option<String>,
}

/// What the device of an fstab entry means on this disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resolution {
    /// A volume, by a name that no bus changes.
    Stable,
    /// A volume, by a kernel name.
    Unstable,
    /// No volume of this image.
    Missing,
    /// No disk at all: `tmpfs`, NFS, a bind mount, a swap file.
    NotADisk,
    /// Cannot be told from this disk: device mapper, RAID, names that the host decides.
    Unknown,
}

/// An entry of fstab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FstabRow {
    /// Line, counted from 1.
    pub line: usize,
    /// What is mounted.
    pub device: String,
    /// Where.
    pub mount_point: String,
    /// Filesystem type.
    pub fs_type: String,
    /// Options as written.
    pub options: String,
    /// What the device means on this disk.
    pub resolution: Resolution,
    /// Partition that it leads to.
    pub partition: Option<u32>,
    /// True when the boot does not wait for it: `nofail`, `noauto`, an automount, a network filesystem.
    pub is_optional: bool,
}

/// An entry of crypttab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CryptEntry {
    /// Line, counted from 1.
    pub line: usize,
    /// Name below `/dev/mapper`.
    pub name: String,
    /// Device that is decrypted.
    pub device: String,
}

/// A network configuration system with the files that it reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NetworkSystem {
    /// `ifupdown`, `netplan`, `systemd-networkd`, `networkmanager`, `ifcfg`.
    pub name: String,
    /// Files that configure interfaces.
    pub files: Vec<String>,
    /// True when some interface has a fixed address.
    pub has_static: bool,
    /// True when some interface asks for its address.
    pub has_dynamic: bool,
    /// Interface names that the files use.
    pub interfaces: Vec<String>,
    /// Hardware addresses that the files are bound to.
    pub hardware_addresses: Vec<String>,
}
