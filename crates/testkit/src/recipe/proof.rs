//! What each recipe promises, proved with reference tools on the finished disk.

use std::collections::BTreeSet;
use std::path::Path;

use super::Image;
use super::disk::{Ext4View, RawDisk};
use crate::error::{LabError, Result, at};
use crate::tool;

/// Modules that a narrow initramfs has and that it lacks.
const OLD_CONTROLLER: &[&str] = &["ahci", "sd_mod", "ext4"];
const NEW_CONTROLLERS: &[&str] = &["virtio_pci", "virtio_blk", "virtio_scsi", "virtio_net", "nvme"];

/// Collects what was proved.
pub(super) struct Proofs {
    image: Image,
    proved: Vec<String>,
}

impl Proofs {
    pub(super) fn new(image: Image) -> Self {
        Self { image, proved: Vec::new() }
    }

    pub(super) fn proved(self) -> Vec<String> {
        self.proved
    }

    pub(super) fn claim(&mut self, claim: &str, holds: bool, found: impl FnOnce() -> String) -> Result<()> {
        if !holds {
            return Err(LabError::Proof {
                image: self.image.name().into(),
                claim: claim.into(),
                found: tool::tail(&found(), 3000).to_owned(),
            });
        }
        self.proved.push(claim.to_owned());
        Ok(())
    }

    /// The example: unstable device names, no serial console, initramfs for the old controller only.
    pub(super) fn example(&mut self, disk: &RawDisk, scratch: &Path) -> Result<()> {
        let root = disk.ext4(1)?;
        self.claim("sfdisk: an MBR partition table", disk.label()? == "dos", || {
            format!("{:?}", disk.label())
        })?;
        self.unstable_names(&root)?;
        self.narrow_initramfs(&root, "/boot", &root, 1, scratch)?;
        self.bios_bootloader(disk)?;
        self.sound(&root)
    }

    pub(super) fn two_kernels(&mut self, disk: &RawDisk, scratch: &Path) -> Result<()> {
        let root = disk.ext4(1)?;
        self.unstable_names(&root)?;
        self.narrow_initramfs(&root, "/boot", &root, 2, scratch)?;
        self.bios_bootloader(disk)?;
        self.sound(&root)
    }

    pub(super) fn separate_boot(&mut self, disk: &RawDisk, scratch: &Path) -> Result<()> {
        self.claim("sfdisk: a GPT", disk.label()? == "gpt", || format!("{:?}", disk.label()))?;
        let (boot, root) = (disk.ext4(2)?, disk.ext4(3)?);
        let config = boot.text("/grub/grub.cfg")?;
        let by_uuid = kernel_lines(&config).all(|line| line.contains("root=UUID=c01df175-"))
            && config.contains("root=UUID=");
        self.claim("grub.cfg: root by UUID in every entry", by_uuid, || config.clone())?;
        self.claim("grub.cfg: no serial console", !config.contains("console=tty"), || config.clone())?;
        let fstab = root.text("/etc/fstab")?;
        self.claim("fstab: /boot by UUID", fstab.contains("000000000002 /boot"), || fstab.clone())?;
        self.narrow_initramfs(&boot, "", &root, 1, scratch)?;
        self.bios_bootloader(disk)?;
        self.sound(&boot)?;
        self.sound(&root)
    }

    pub(super) fn free_space(&mut self, boot: &Ext4View, expected: u64) -> Result<()> {
        let free = boot.superblock_number("Free blocks")? * boot.superblock_number("Block size")?;
        self.claim(&format!("dumpe2fs: {expected} bytes free in /boot"), free == expected, || {
            format!("{free} bytes")
        })
    }

    /// Committed transactions wait in the journal, and a read without them is an old state.
    pub(super) fn needs_recovery(&mut self, disk: &RawDisk) -> Result<()> {
        let root = disk.ext4(1)?;
        let superblock = root.superblock()?;
        let features =
            superblock.lines().find(|line| line.starts_with("Filesystem features")).unwrap_or_default();
        self.claim("dumpe2fs: needs_recovery", features.contains("needs_recovery"), || superblock.clone())?;
        let log = root.debugfs("logdump")?;
        let pending = log.lines().any(|line| line.contains("commit block"));
        self.claim("debugfs logdump: committed transactions wait in the journal", pending, || log.clone())?;
        let revokes = log.contains("revoke");
        self.claim("debugfs logdump: revoke blocks among them", revokes, || log.clone())?;
        Ok(())
    }

    /// Compressed clusters in place of the parent's normal ones, same content.
    pub(super) fn compressed(&mut self, file: &Path, parent: &Path) -> Result<()> {
        let mut check = tool::command("qemu-img", ["check", "--output=json"]);
        let report = tool::finish(check.arg(file))?;
        let value: serde_json::Value = serde_json::from_str(&report)
            .map_err(|error| LabError::Machine(format!("qemu-img check: {error}")))?;
        let (all, compressed) = (value["allocated-clusters"].as_u64(), value["compressed-clusters"].as_u64());
        let mostly = compressed.unwrap_or(0) * 10 > all.unwrap_or(u64::MAX) * 9;
        self.claim("qemu-img check: nine of ten clusters and more are compressed", mostly, || {
            report.clone()
        })?;
        let mut compare = tool::command("qemu-img", ["compare", "-q"]);
        let same = tool::output(compare.args([file, parent]))?.status.success();
        self.claim("qemu-img compare: equal to the example", same, || "differs".into())
    }

    fn unstable_names(&mut self, root: &Ext4View) -> Result<()> {
        let config = root.text("/boot/grub/grub.cfg")?;
        let by_name = kernel_lines(&config).all(|line| line.contains("root=/dev/sda1 "))
            && config.contains("root=/dev/sda1");
        self.claim("grub.cfg: root=/dev/sda1 in every entry", by_name, || config.clone())?;
        self.claim("grub.cfg: no serial console", !config.contains("console=tty"), || config.clone())?;
        let fstab = root.text("/etc/fstab")?;
        self.claim("fstab: / on /dev/sda1", fstab.contains("\n/dev/sda1 "), || fstab.clone())?;
        let interfaces = root.text("/etc/network/interfaces")?;
        self.claim("interfaces: a static address", interfaces.contains("inet static"), || interfaces.clone())
    }

    /// Every initramfs drives the old controller, none a new one, whose modules are on disk all the same.
    pub(super) fn narrow_initramfs(
        &mut self,
        boot: &Ext4View,
        folder: &str,
        root: &Ext4View,
        kernels: usize,
        scratch: &Path,
    ) -> Result<()> {
        let names = boot.names(if folder.is_empty() { "/" } else { folder })?;
        let versions: Vec<&str> = names.iter().filter_map(|name| name.strip_prefix("initrd.img-")).collect();
        self.claim(&format!("{kernels} initramfs in /boot"), versions.len() == kernels, || names.join(" "))?;
        for version in versions {
            let file = scratch.join("proof.initramfs");
            boot.extract(&format!("{folder}/initrd.img-{version}"), &file)?;
            let modules = module_files(&file)?;
            let inside = |name: &&str| modules.contains(*name);
            let narrow = OLD_CONTROLLER.iter().all(inside) && !NEW_CONTROLLERS.iter().any(inside);
            let claim = format!(
                "lsinitramfs {version}: has {}, lacks {}",
                OLD_CONTROLLER.join(" "),
                NEW_CONTROLLERS.join(" ")
            );
            self.claim(&claim, narrow, || format!("{modules:?}"))?;
            // One of them may be built in (virtio_pci in Debian 13); the disk's own driver never is.
            let index = |name: &str| root.text(&format!("/usr/lib/modules/{version}/{name}"));
            let mut known = module_names(&index("modules.dep")?);
            self.claim(
                &format!("modules.dep {version}: virtio_blk and nvme are modules on disk"),
                ["virtio_blk", "nvme"].iter().all(|name| known.contains(*name)),
                || format!("{known:?}"),
            )?;
            known.extend(module_names(&index("modules.builtin")?));
            let all = OLD_CONTROLLER.iter().chain(NEW_CONTROLLERS).all(|name| known.contains(*name));
            self.claim(&format!("{version}: the kernel has all of them"), all, || format!("{known:?}"))?;
            std::fs::remove_file(&file).map_err(at(&file))?;
        }
        Ok(())
    }

    pub(super) fn bios_bootloader(&mut self, disk: &RawDisk) -> Result<()> {
        use std::os::unix::fs::FileExt;
        let mut sector = [0; 512];
        let file = std::fs::File::open(disk.path()).map_err(at(disk.path()))?;
        file.read_exact_at(&mut sector, 0).map_err(at(disk.path()))?;
        let grub = sector[0x180..0x1b8].windows(4).any(|word| word == b"GRUB");
        self.claim("sector 0: GRUB's boot code", grub, || format!("{sector:02x?}"))
    }

    pub(super) fn sound(&mut self, filesystem: &Ext4View) -> Result<()> {
        filesystem.check()?;
        self.proved.push("e2fsck -fn: sound".into());
        Ok(())
    }
}

fn kernel_lines(config: &str) -> impl Iterator<Item = &str> {
    config
        .lines()
        .map(str::trim_start)
        .filter(|line| line.starts_with("linux\t") || line.starts_with("linux "))
}

/// Names of the modules in an initramfs, as `lsinitramfs` lists it; `-` is `_` as for the kernel.
pub fn module_files(initramfs: &Path) -> Result<BTreeSet<String>> {
    let listing = tool::run("lsinitramfs", [initramfs])?;
    Ok(listing.lines().filter_map(module_name).map(|name| name.replace('-', "_")).collect())
}

/// The modules of `modules.dep` or `modules.builtin`, whose lines begin with a path.
fn module_names(index: &str) -> BTreeSet<String> {
    let paths = index.lines().map(|line| line.split_once(':').map_or(line, |(path, _)| path));
    paths.filter_map(module_name).map(|name| name.replace('-', "_")).collect()
}

fn module_name(path: &str) -> Option<&str> {
    let file = path.rsplit('/').next()?;
    let (name, suffix) = file.split_once(".ko")?;
    matches!(suffix, "" | ".xz" | ".zst" | ".gz").then_some(name)
}
