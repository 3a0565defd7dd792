//! The recipes. Each one ends with proofs of what the image is for.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::base::Base;
use super::disk::RawDisk;
use super::proof::Proofs;
use super::{Built, Image, Place, Progress};
use crate::cache::{Cache, RecipeDigest};
use crate::error::{LabError, Result, at};
use crate::qemu::{Boot, Bus, DirectKernel, script_disk};
use crate::tool;

const DISK_MIB: u64 = 2048;

const MBR_TABLE: &str = "label: dos\nlabel-id: 0xc01df175\nstart=2048, type=83, bootable\n";
const GPT_TABLE: &str = "label: gpt\nlabel-id: C01DF175-0000-4000-8000-0000000000AA\n\
    start=2048, size=2048, type=21686148-6449-6E6F-744E-656564454649, uuid=C01DF175-0000-4000-8000-0000000000A1\n\
    start=4096, size=196608, type=L, uuid=C01DF175-0000-4000-8000-0000000000A2, name=boot\n\
    start=200704, size=3989504, type=L, uuid=C01DF175-0000-4000-8000-0000000000A3, name=root\n";

pub(super) const CUSTOMISE: &str = include_str!("../../assets/customise-common.sh");
const CUSTOMISE_MBR: &str = include_str!("../../assets/customise-mbr.sh");
const CUSTOMISE_GPT: &str = include_str!("../../assets/customise-gpt.sh");
const SWITCH_OFF: &str = include_str!("../../assets/customise-dirty.sh");

/// Bytes that stay free in a full `/boot`: too few for any segment with modules.
const LEFT_FREE_FOR_REWRITE: u64 = 64 * 1024;
const LEFT_FREE_FOR_NOTHING: u64 = 0;

pub(super) fn build(image: Image, cache: &Cache, progress: Progress<'_>) -> Result<Built> {
    let recipe = Recipe { image, cache, progress };
    match image {
        Image::Mbr => recipe.installed(MBR_TABLE, 1, CUSTOMISE_MBR, Kernels::One, Proofs::example),
        Image::TwoKernels => recipe.installed(MBR_TABLE, 1, CUSTOMISE_MBR, Kernels::Two, Proofs::two_kernels),
        Image::Gpt => recipe.installed(GPT_TABLE, 3, CUSTOMISE_GPT, Kernels::One, Proofs::separate_boot),
        Image::BootFullRewrite => recipe.boot_full(&["gzip", "-1", "-n"], LEFT_FREE_FOR_REWRITE),
        Image::BootFullNeither => recipe.boot_full(&["xz", "-9e", "--check=crc32"], LEFT_FREE_FOR_NOTHING),
        Image::Dirty => recipe.dirty(),
        Image::Compressed => recipe.compressed(),
        other => Err(LabError::Machine(format!("{} has a recipe of its own", other.name()))),
    }
}

#[derive(Clone, Copy)]
enum Kernels {
    One,
    Two,
}

struct Recipe<'a> {
    image: Image,
    cache: &'a Cache,
    progress: Progress<'a>,
}

impl Recipe<'_> {
    fn say(&self, what: &str) {
        (self.progress)(&format!("{}: {what}", self.image.name()));
    }

    fn digest(&self) -> RecipeDigest {
        RecipeDigest::default().with("image", self.image.name())
    }

    /// A disk on which the guest itself installs bootloader and initramfs.
    fn installed(
        &self,
        table: &str,
        root: u64,
        customise: &str,
        kernels: Kernels,
        prove: fn(&mut Proofs, &RawDisk, &Path) -> Result<()>,
    ) -> Result<Built> {
        let base = Base::build(self.cache, self.progress)?;
        let script = format!("{CUSTOMISE}{customise}");
        let digest =
            self.digest().with("base", base.digest()).with("table", table).with("script", &script).short();
        let place = Place::new(self.cache, self.image, &digest)?;
        if let Some(built) = place.find() {
            return Ok(built);
        }
        let scratch = self.cache.scratch()?;
        let disk = RawDisk::partitioned(&scratch.path().join("disk.raw"), DISK_MIB, table)?;
        let filesystem = match kernels {
            Kernels::One => base.one_kernel(),
            Kernels::Two => base.two_kernels(),
        };
        disk.fill_partition(root, &filesystem, scratch.path())?;
        self.say("the guest installs its bootloader and initramfs (about a minute and a half)");
        let arguments =
            format!("root=/dev/sda{root} ro console=ttyS0 panic=-1 init=/bin/sh mitigations=off -- /dev/sr0");
        let boot = Boot::new(disk.path(), Bus::Ahci)
            .kernel(DirectKernel { kernel: base.kernel(), initramfs: base.initramfs(), arguments })
            .cd(script_disk(&script, scratch.path())?)
            .writable()
            .until_power_off();
        let marker = "COLDFIT-CUSTOMISED";
        let outcome = boot.marker(marker).timeout(Duration::from_secs(600)).run(self.cache)?;
        if outcome.reached.is_none() {
            return Err(LabError::Guest {
                stage: self.image.name().into(),
                marker: marker.into(),
                log: tool::tail(&outcome.log(), 6000).to_owned(),
            });
        }
        self.say("proving");
        let mut proofs = Proofs::new(self.image);
        prove(&mut proofs, &disk, scratch.path())?;
        let file = scratch.path().join("disk.qcow2");
        disk.to_qcow2(&file, &[])?;
        place.keep(self.image, &file, proofs.proved())
    }

    /// `Gpt` with its initramfs compressed by `compressor` and `/boot` filled up to `free` bytes.
    fn boot_full(&self, compressor: &[&str], free: u64) -> Result<Built> {
        let parent = super::debian12::build(Image::Gpt, self.cache, self.progress)?;
        let digest = self
            .digest()
            .with("parent", parent.path.as_os_str().as_encoded_bytes())
            .with("compressor", compressor.join(" "))
            .with("free", free.to_string())
            .short();
        let place = Place::new(self.cache, self.image, &digest)?;
        if let Some(built) = place.find() {
            return Ok(built);
        }
        self.say("filling /boot");
        let scratch = self.cache.scratch()?;
        let disk = RawDisk::from_image(&parent.path, &scratch.path().join("disk.raw"))?;
        let boot = disk.ext4(2)?;
        let name = boot
            .names("/")?
            .into_iter()
            .find(|name| name.starts_with("initrd.img-"))
            .ok_or_else(|| LabError::Machine("no initramfs in /boot".into()))?;
        let initramfs = scratch.path().join("initramfs");
        boot.extract(&format!("/{name}"), &initramfs)?;
        let recompressed = recompress(&initramfs, compressor)?;
        boot.debugfs_write(&[
            format!("rm /{name}"),
            format!("write {} /{name}", recompressed.display()),
            format!("set_inode_field /{name} mode 0100644"),
        ])?;
        let block_len = boot.superblock_number("Block size")?;
        // Block addresses of the filler take a few blocks themselves; it is made a little too small,
        // then single blocks follow.
        let spare = 8;
        let to_fill = boot.superblock_number("Free blocks")?.saturating_sub(free / block_len + spare);
        fill(&boot, scratch.path(), "backup.tar", to_fill * block_len)?;
        let rest = boot.superblock_number("Free blocks")?.saturating_sub(free / block_len);
        if rest > 0 {
            fill(&boot, scratch.path(), "backup.log", rest * block_len)?;
        }
        let mut proofs = Proofs::new(self.image);
        proofs.separate_boot(&disk, scratch.path())?;
        proofs.free_space(&boot, free)?;
        let file = scratch.path().join("disk.qcow2");
        disk.to_qcow2(&file, &[])?;
        place.keep(self.image, &file, proofs.proved())
    }

    /// The example, switched off between two writes.
    fn dirty(&self) -> Result<Built> {
        let base = Base::build(self.cache, self.progress)?;
        let parent = super::debian12::build(Image::Mbr, self.cache, self.progress)?;
        let digest = self
            .digest()
            .with("parent", parent.path.as_os_str().as_encoded_bytes())
            .with("script", SWITCH_OFF)
            .short();
        let place = Place::new(self.cache, self.image, &digest)?;
        if let Some(built) = place.find() {
            return Ok(built);
        }
        self.say("switching the guest off while it writes");
        let scratch = self.cache.scratch()?;
        let disk = RawDisk::from_image(&parent.path, &scratch.path().join("disk.raw"))?;
        let arguments =
            "root=/dev/sda1 ro console=ttyS0 panic=-1 init=/bin/sh mitigations=off -- /dev/sr0".into();
        let marker = "COLDFIT-SWITCH-OFF";
        let outcome = Boot::new(disk.path(), Bus::Ahci)
            .kernel(DirectKernel { kernel: base.kernel(), initramfs: base.initramfs(), arguments })
            .cd(script_disk(SWITCH_OFF, scratch.path())?)
            .writable()
            .marker(marker)
            .run(self.cache)?;
        if outcome.reached.is_none() {
            return Err(LabError::Guest {
                stage: self.image.name().into(),
                marker: marker.into(),
                log: tool::tail(&outcome.log(), 6000).to_owned(),
            });
        }
        let mut proofs = Proofs::new(self.image);
        proofs.needs_recovery(&disk)?;
        let file = scratch.path().join("disk.qcow2");
        disk.to_qcow2(&file, &[])?;
        place.keep(self.image, &file, proofs.proved())
    }

    fn compressed(&self) -> Result<Built> {
        let parent = super::debian12::build(Image::Mbr, self.cache, self.progress)?;
        let digest = self.digest().with("parent", parent.path.as_os_str().as_encoded_bytes()).short();
        let place = Place::new(self.cache, self.image, &digest)?;
        if let Some(built) = place.find() {
            return Ok(built);
        }
        self.say("compressing");
        let scratch = self.cache.scratch()?;
        let file = scratch.path().join("disk.qcow2");
        let mut command = tool::command("qemu-img", ["convert", "-c", "-O", "qcow2"]);
        tool::finish(command.args([&parent.path, &file]))?;
        let mut proofs = Proofs::new(self.image);
        proofs.compressed(&file, &parent.path)?;
        place.keep(self.image, &file, proofs.proved())
    }
}

/// One compressed archive, stored again by another compressor.
fn recompress(initramfs: &Path, compressor: &[&str]) -> Result<PathBuf> {
    let (plain, packed) = (initramfs.with_extension("cpio"), initramfs.with_extension("packed"));
    let mut unpack = tool::command("zstd", ["-q", "-d", "-f", "-o"]);
    tool::finish(unpack.arg(&plain).arg(initramfs))?;
    let (program, options) = compressor.split_first().unwrap_or((&"cat", &[]));
    let target = fs::File::create(&packed).map_err(at(&packed))?;
    let source = fs::File::open(&plain).map_err(at(&plain))?;
    tool::finish(tool::command(program, options).arg("-c").stdin(source).stdout(target))?;
    Ok(packed)
}

fn fill(boot: &super::Ext4View, scratch: &Path, name: &str, len: u64) -> Result<()> {
    let path = scratch.join(name);
    // Not zeroes: debugfs would leave holes.
    fs::write(&path, vec![b'.'; len as usize]).map_err(at(&path))?;
    boot.debugfs_write(&[format!("write {} /{name}", path.display())])
}
