//! Kinds of rules: what can be demanded, with the values that a profile gives.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

/// What a rule demands, with its values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum RuleKind {
    /// Every initramfs loads these modules and finds its root disk on these buses.
    InitramfsDrivers {
        /// Kernel module names.
        modules: Vec<String>,
        /// Buses by name: `virtio-blk`, `virtio-scsi`, `nvme`, …
        buses: Vec<String>,
    },
    /// The guest's next initramfs rebuild includes these modules.
    InitramfsPersistence {
        /// Kernel module names.
        modules: Vec<String>,
        /// Where the source wants dracut's setting to stand; coldfit's own drop-in when not given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        dracut_file: Option<String>,
        /// The names as the source spells them for dracut; those of `modules` when not given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        dracut_names: Option<Vec<String>>,
    },
    /// `root=` is a filesystem UUID.
    RootByUuid,
    /// fstab holds no kernel device name that depends on the bus.
    FstabByUuid,
    /// `console=` arguments, in this order; the last one becomes `/dev/console`.
    Console {
        /// Values of the `console=` arguments.
        devices: Vec<String>,
    },
    /// These kernel arguments stand in every boot entry and in what the next entries are made from.
    KernelArgs {
        /// `key` or `key=value` each.
        arguments: Vec<String>,
    },
    /// Parameters of a driver on the kernel command line, each as large as the driver can hold.
    ModuleParameters {
        /// Module whose parameters they are.
        module: String,
        /// Name of the module in kernels that do not have `module`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        older_module: Option<String>,
        /// Names of the parameters.
        parameters: Vec<String>,
        /// Value demanded; a kernel whose parameter holds less gets the most that it holds.
        value: u64,
    },
    /// No swap is configured, and nothing waits for a swap device at boot.
    SwapOff,
    /// A kernel configuration option is `y`, or `m` with its module installed.
    KernelConfig {
        /// `CONFIG_…`.
        option: String,
        /// Module that the option makes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        module: Option<String>,
    },
    /// The hardware clock is in UTC.
    RtcUtc,
    /// Effective settings of the SSH server.
    Sshd {
        /// `Keyword value` each.
        settings: Vec<String>,
        /// For servers older than this version …
        #[serde(default, skip_serializing_if = "Option::is_none")]
        older_than: Option<String>,
        /// … these instead of the settings of the same keyword.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        older_settings: Vec<String>,
    },
    /// The time daemon asks these servers.
    TimeSync {
        /// `auto` (what is installed), `chrony`, `ntp`, `keep`.
        daemon: String,
        /// Server names.
        servers: Vec<String>,
        /// Line for each server in chrony's configuration; `{}` is the name.
        chrony_server: String,
        /// Lines behind the servers in chrony's configuration.
        chrony_lines: Vec<String>,
        /// Lines before the servers in ntpd's configuration.
        ntp_lines: Vec<String>,
        /// Lines for each server in ntpd's configuration; `{}` is the name.
        ntp_server: Vec<String>,
    },
    /// A file has exactly this content.
    FileContent {
        /// Guest path; a symlink there is replaced by a file.
        path: String,
        /// The content.
        content: String,
    },
    /// Services do not start.
    ServiceOff {
        /// Names without suffix.
        services: Vec<String>,
        /// True for what a device, a socket or another unit would start all the same.
        mask: bool,
    },
    /// Services that are installed start at boot.
    ServiceOn {
        /// Each entry lists the names of one service in different distributions, without suffix.
        services: Vec<Vec<String>>,
    },
    /// pip asks this index.
    PipConfig {
        /// `if-present` (only where pip is configured already), `always`, `off`.
        mode: String,
        /// Value of `index-url`.
        index_url: String,
        /// Value of `trusted-host`.
        trusted_host: String,
    },
    /// The first network interface asks for its address, and nothing pins another configuration.
    Network {
        /// Name of the interface.
        interface: String,
        /// `auto` (what the guest runs), `cloud-init`, `ifcfg`, `nm-keyfile`, `netplan`, `networkd`, `ifupdown`, `wicked`,
        /// `keep`.
        stack: String,
        /// Names are kept by the kernel argument `net.ifnames=0`: other names in use go dead.
        #[serde(default, deserialize_with = "flag")]
        kernel_names: bool,
    },
    /// No file binds interface or disk names to one machine's hardware.
    NoPersistentNames,
    /// Effective kernel settings after all sysctl files.
    Sysctl {
        /// `key = value` each.
        settings: Vec<String>,
    },
    /// The password field of root in `/etc/shadow`.
    RootLock {
        /// The field.
        field: String,
    },
    /// SELinux.
    SelinuxMode {
        /// `keep`, `permissive`, `disable`.
        mode: String,
    },
    /// Format of the image file.
    ImageFormat {
        /// `raw`, `qcow2`.
        allowed: Vec<String>,
    },
    /// The root partition ends behind all others.
    RootLast,
    /// Partitions are primary ones, or of a GPT.
    PrimaryPartitions,
    /// One root partition, beside those that firmware and boot loader need.
    OnlyRootPartition,
    /// No LVM, RAID or encryption.
    PlainPartitions,
    /// No swap partition.
    NoSwapPartition {
        /// `keep` or `remove`: whether `fix` may take the partition out of the table.
        partition: String,
    },
    /// Kind of the partition table.
    PartitionTable {
        /// `mbr`, `gpt`.
        allowed: Vec<String>,
    },
    /// Size of the virtual disk.
    DiskSize {
        /// Smallest size in GiB.
        minimum: u64,
        /// Sizes above this many GiB are worth a warning.
        warn_above: u64,
        /// Largest size in GiB.
        maximum: u64,
    },
    /// Kinds of the filesystems that the guest mounts from its disk.
    Filesystems {
        /// Kinds.
        allowed: Vec<String>,
    },
    /// ext4 features that are not accepted.
    Ext4Features {
        /// Features that must be off.
        forbidden: Vec<String>,
        /// Features that must not be on all at once.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        forbidden_together: Vec<String>,
    },
    /// The firmware that boots the image, and the mode that is declared.
    BootMode {
        /// `auto` (what the contents show), `bios`, `uefi`, `uefi-preferred`.
        mode: String,
        /// Architectures that boot by UEFI only.
        uefi_only: Vec<String>,
    },
    /// Room on the guest's filesystems.
    Usage {
        /// Most used bytes, in percent.
        bytes_percent: u64,
        /// Most used inodes, in percent.
        inodes_percent: u64,
    },
    /// A program is installed.
    Software {
        /// What it is, for people.
        name: String,
        /// Guest paths, one of which shows it; `*` stands for any characters within one component.
        paths: Vec<String>,
        /// Package by family (`debian`, `rhel`, `suse`, …); `default` for all others.
        packages: BTreeMap<String, String>,
        /// Lowest version that is usable.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        minimum: Option<String>,
        /// Where to get it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        obtain: Option<String>,
    },
    /// cloud-init runs and finds its data source.
    CloudInit {
        /// Data sources, and nothing else.
        datasources: Vec<String>,
        /// Name of the drop-in below `/etc/cloud/cloud.cfg.d`.
        drop_in: String,
        /// Its content.
        content: String,
        /// `true`, `false` or `unset`: what `ssh_pwauth` must say beside the SSH server's own configuration.
        ssh_pwauth: String,
    },
    /// These paths, where they are symlinks, have relative targets.
    RelativeLinks {
        /// Guest paths.
        paths: Vec<String>,
    },
    /// `/etc/passwd` and `/etc/shadow` can be read and written, and have root.
    AccountFiles,
    /// Platform, version, architecture and kernel are told by the guest's files.
    Identity,
    /// What one machine leaves behind and no other must have.
    Clean {
        /// What it is, for people.
        item: String,
        /// Files and directories removed; `*` stands for any characters within one component.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        remove: Vec<String>,
        /// Files cut to nothing.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        truncate: Vec<String>,
        /// Directories whose content is removed.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        empty: Vec<String>,
        /// One of these must be there, or the item is kept: what makes the removed files anew.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        remade_by: Vec<String>,
    },
}

/// `true` and `false`, also as the text that a switch puts there.
fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Flag {
        Bool(bool),
        Text(String),
    }
    match Flag::deserialize(deserializer)? {
        Flag::Bool(value) => Ok(value),
        Flag::Text(text) => {
            text.parse().map_err(|_| serde::de::Error::custom(format!("{text:?} is no true or false")))
        }
    }
}
