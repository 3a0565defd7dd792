//! The wrong states of the images for the proof on real guests, shown by `debugfs` and `sfdisk`.

use std::path::Path;

use super::disk::{Ext4View, RawDisk};
use super::proof::Proofs;
use crate::error::Result;

/// A file, a text that it must hold, and what that means.
type Claim<'a> = (&'a str, &'a str, &'a str);

/// What all three share.
const ANY: &[Claim<'static>] = &[
    ("/etc/machine-id", "c01df175c01df175c01df175c01df175", "a machine-id from before"),
    ("/etc/shadow", "root:$6$", "root has a password"),
    ("/var/lib/cloud/data/instance-id", "old-instance", "an instance of cloud-init from before"),
    ("/etc/ssh/ssh_host_ed25519_key.pub", "ssh-ed25519 ", "ssh host keys from before"),
    ("/etc/initramfs-tools/conf.d/driver-policy", "MODULES=dep", "a targeted initramfs"),
    ("/var/lib/dpkg/info/cloud-init.list", "/usr/bin/cloud-init", "dpkg: cloud-init is installed"),
    ("/var/lib/dpkg/info/openssh-server.list", "/usr/sbin/sshd", "dpkg: openssh-server is installed"),
];

impl Proofs {
    pub(super) fn cloud_bios(&mut self, disk: &RawDisk, scratch: &Path) -> Result<()> {
        let root = disk.ext4(2)?;
        self.label(disk, "dos")?;
        self.bios_bootloader(disk)?;
        self.common(&root, scratch)?;
        self.holds(
            &root,
            &[
                ("/etc/adjtime", "\nLOCAL\n", "the clock runs in local time"),
                ("/etc/network/interfaces", "hwaddress ether", "a static address, pinned to a MAC"),
                ("/etc/systemd/network/10-lan0.link", "MACAddress=", "a name pinned to a MAC"),
                (
                    "/etc/ssh/sshd_config.d/10-site.conf",
                    "PermitRootLogin yes",
                    "a drop-in read before sshd_config",
                ),
                ("/etc/ssh/sshd_config", "\nPermitRootLogin no\n", "sshd_config says the contrary, in vain"),
                ("/etc/sysctl.d/99-zz-site.conf", "vm.swappiness = 60", "a sysctl file that overrides"),
                ("/etc/fstab", "/dev/sda2       /               ext4", "fstab: root by device name"),
                ("/etc/fstab", "/dev/sda1       none            swap", "fstab: swap by device name"),
                (
                    "/etc/initramfs-tools/conf.d/resume",
                    "RESUME=/dev/sda1",
                    "initramfs-tools waits for the swap",
                ),
                (
                    "/boot/grub/grub.cfg",
                    "root=/dev/sda2 ro resume=/dev/sda1",
                    "grub.cfg: device names and resume",
                ),
                ("/etc/cloud/cloud.cfg.d/99-installer.cfg", "datasource_list: [ None ]", "no datasource"),
                ("/var/lib/dpkg/info/qemu-guest-agent.list", "/usr/sbin/qemu-ga", "dpkg: qemu-guest-agent"),
                ("/var/lib/dpkg/info/chrony.list", "/usr/sbin/chronyd", "dpkg: chrony"),
                ("/var/lib/dpkg/info/ifupdown.list", "/sbin/ifup", "dpkg: ifupdown"),
            ],
        )?;
        self.enabled(&root, "multi-user.target.wants", "firewalld.service")?;
        self.sound(&root)
    }

    pub(super) fn cloud_uefi(&mut self, disk: &RawDisk, scratch: &Path) -> Result<()> {
        let root = disk.ext4(2)?;
        self.label(disk, "gpt")?;
        self.fallback_loader(disk)?;
        self.common(&root, scratch)?;
        self.holds(
            &root,
            &[
                ("/etc/adjtime", "\nLOCAL\n", "the clock runs in local time"),
                ("/etc/netplan/01-site.yaml", "macaddress:", "a static address, pinned to a MAC"),
                ("/etc/ssh/sshd_config", "\nMatch Group sftponly\n", "sshd_config ends in a Match block"),
                ("/etc/sysctl.d/60-site.conf", "tcp_max_syn_backlog = 128", "another sysctl value"),
                ("/etc/fstab", "/dev/sda1       /boot/efi", "fstab: the ESP by device name"),
                (
                    "/etc/default/grub.d/50-site.cfg",
                    "GRUB_CMDLINE_LINUX=",
                    "a drop-in decides the kernel line",
                ),
                ("/boot/grub/grub.cfg", "biosdevname=0", "grub.cfg follows the drop-in"),
                ("/var/lib/dpkg/info/netplan.io.list", "/usr/sbin/netplan", "dpkg: netplan"),
                ("/var/lib/dpkg/info/systemd-timesyncd.list", "systemd-timesyncd", "dpkg: timesyncd"),
            ],
        )?;
        let names = root.names("/etc/cloud")?;
        self.claim(
            "cloud-init.disabled is there",
            names.iter().any(|name| name == "cloud-init.disabled"),
            || names.join(" "),
        )?;
        self.enabled(&root, "sysinit.target.wants", "systemd-timesyncd.service")?;
        self.sound(&root)
    }

    pub(super) fn cloud_13(&mut self, disk: &RawDisk, scratch: &Path) -> Result<()> {
        let root = disk.ext4(2)?;
        self.label(disk, "gpt")?;
        self.bios_bootloader(disk)?;
        self.common(&root, scratch)?;
        let connection = "/etc/NetworkManager/system-connections/lan.nmconnection";
        self.holds(
            &root,
            &[
                ("/etc/debian_version", "13.", "Debian 13"),
                (connection, "method=manual", "a static address"),
                (connection, "mac-address=", "pinned to a MAC"),
                ("/etc/ssh/sshd_config", "\nPermitRootLogin yes\n", "sshd: root may log in"),
                (
                    "/etc/sysctl.d/99-zz-site.conf",
                    "tcp_slow_start_after_idle = 1",
                    "a sysctl file that overrides",
                ),
                ("/etc/fstab", "/dev/disk/by-path/", "fstab: root by path of the controller"),
                ("/etc/cloud/cloud.cfg.d/99-installer.cfg", "[ NoCloud, None ]", "another datasource"),
                ("/boot/grub/grub.cfg", "net.ifnames=1", "grub.cfg: predictable names"),
                ("/var/lib/dpkg/info/network-manager.list", "NetworkManager", "dpkg: NetworkManager"),
                ("/var/lib/dpkg/info/qemu-guest-agent.list", "/usr/sbin/qemu-ga", "dpkg: qemu-guest-agent"),
            ],
        )?;
        let names = root.names("/etc")?;
        self.claim("no /etc/sysctl.conf", !names.iter().any(|name| name == "sysctl.conf"), || {
            names.join(" ")
        })?;
        self.sound(&root)
    }

    fn label(&mut self, disk: &RawDisk, label: &str) -> Result<()> {
        let found = disk.label()?;
        self.claim(&format!("sfdisk: a {label} partition table"), found == label, || found.clone())
    }

    fn common(&mut self, root: &Ext4View, scratch: &Path) -> Result<()> {
        self.narrow_initramfs(root, "/boot", root, 1, scratch)?;
        let config = root.text("/boot/grub/grub.cfg")?;
        self.claim("grub.cfg: no serial console", !config.contains("console=ttyS"), || config.clone())?;
        self.enabled(root, "multi-user.target.wants", "coldfit-live.service")?;
        self.holds(root, ANY)
    }

    fn holds(&mut self, root: &Ext4View, claims: &[Claim<'_>]) -> Result<()> {
        for (path, expected, meaning) in claims {
            let text = root.text(path)?;
            self.claim(&format!("{path}: {meaning}"), text.contains(expected), || text.clone())?;
        }
        Ok(())
    }

    fn enabled(&mut self, root: &Ext4View, wants: &str, unit: &str) -> Result<()> {
        let names = root.names(&format!("/etc/systemd/system/{wants}"))?;
        self.claim(&format!("{unit} is enabled"), names.iter().any(|name| name == unit), || names.join(" "))
    }

    /// `\EFI\BOOT\BOOTX64.EFI` on the first partition, read by mtools.
    fn fallback_loader(&mut self, disk: &RawDisk) -> Result<()> {
        let slot = disk.slot(1)?;
        let drive = format!("{}@@{}", disk.path().display(), slot.start);
        let listing = crate::tool::run("mdir", ["-b", "-i", &drive, "::/EFI/BOOT"])?;
        self.claim("mdir: EFI/BOOT/BOOTX64.EFI", listing.contains("BOOTX64.EFI"), || listing.clone())
    }
}
