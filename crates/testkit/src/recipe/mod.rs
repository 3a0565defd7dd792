//! Disk images made from Debian packages, each with a property that its recipe proves.
//!
//! Everything that an installer would do inside the machine (bootloader, initramfs for this
//! machine's controller, `grub.cfg`) is done by the guest's own tools in one boot on an emulated
//! AHCI controller. See [`Image`] for the list.

mod base;
mod cloud;
mod cloud_proof;
mod cloud_tree;
mod debian12;
mod disk;
mod proof;

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use self::disk::{Ext4View, RawDisk, Slot};
pub use self::proof::module_files;
use crate::cache::{Cache, file_digest};
use crate::error::{LabError, Result, at};

/// Told what a long build is doing.
pub type Progress<'a> = &'a dyn Fn(&str);

/// The images of the lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Image {
    /// The example: MBR, BIOS GRUB, one ext4 root, `/dev/sda1` everywhere, initramfs for AHCI only.
    Mbr,
    /// GPT with a BIOS boot partition, `/boot` of its own, everything by UUID, initramfs for AHCI only.
    Gpt,
    /// The example with two kernels and so two narrow initramfs.
    TwoKernels,
    /// `Gpt` with a `/boot` in which no appended segment has room, but a better compressed initramfs has.
    BootFullRewrite,
    /// `Gpt` with a `/boot` in which neither has room.
    BootFullNeither,
    /// The example, switched off while it was writing: the journal must be replayed.
    Dirty,
    /// The example in compressed clusters.
    Compressed,
    /// Debian 12 with cloud-init, MBR, BIOS, swap before root, ifupdown, chrony, firewalld: all set wrong.
    CloudBios,
    /// Debian 12 with cloud-init, GPT, UEFI by the fallback path, netplan, timesyncd: set wrong in other ways.
    CloudUefi,
    /// Debian 13 with cloud-init, GPT, BIOS, NetworkManager, no `/etc/sysctl.conf`: set wrong in yet other ways.
    Cloud13,
}

impl Image {
    /// Every image, cheap ones after those they are derived from.
    pub const ALL: [Image; 10] = [
        Image::Mbr,
        Image::Gpt,
        Image::TwoKernels,
        Image::BootFullRewrite,
        Image::BootFullNeither,
        Image::Dirty,
        Image::Compressed,
        Image::CloudBios,
        Image::CloudUefi,
        Image::Cloud13,
    ];

    /// The name on the command line and in the cache.
    pub fn name(self) -> &'static str {
        match self {
            Image::Mbr => "debian12-mbr",
            Image::Gpt => "debian12-gpt",
            Image::TwoKernels => "debian12-two-kernels",
            Image::BootFullRewrite => "debian12-boot-full-rewrite",
            Image::BootFullNeither => "debian12-boot-full-neither",
            Image::Dirty => "debian12-dirty",
            Image::Compressed => "debian12-qcow2-compressed",
            Image::CloudBios => "debian12-cloud-bios",
            Image::CloudUefi => "debian12-cloud-uefi",
            Image::Cloud13 => "debian13-cloud",
        }
    }

    /// The image of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|image| image.name() == name)
    }

    /// Builds the image, or finds it in the cache.
    pub fn build(self, cache: &Cache, progress: Progress<'_>) -> Result<Built> {
        let _only_one = cache.lock("build")?;
        match self {
            Image::CloudBios | Image::CloudUefi | Image::Cloud13 => cloud::build(self, cache, progress),
            _ => debian12::build(self, cache, progress),
        }
    }
}

/// A finished image in the cache. It is shared: work on a copy.
#[derive(Debug, Clone)]
pub struct Built {
    /// The qcow2 file.
    pub path: PathBuf,
    /// What its recipe proved.
    pub record: Record,
}

/// Kept beside each image.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// The image's name.
    pub image: String,
    /// SHA-256 of the file.
    pub sha256: String,
    /// Each property that was proved, with what proved it.
    pub proved: Vec<String>,
}

impl Built {
    /// A copy of the image in `folder`, free to be changed.
    pub fn copy_to(&self, folder: &Path) -> Result<PathBuf> {
        let name = self.path.file_name().unwrap_or_default();
        let copy = folder.join(name);
        fs::copy(&self.path, &copy).map_err(at(&copy))?;
        let mut permissions = fs::metadata(&copy).map_err(at(&copy))?.permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
        fs::set_permissions(&copy, permissions).map_err(at(&copy))?;
        Ok(copy)
    }
}

/// Where an image of this recipe digest lives in the cache.
struct Place {
    image: PathBuf,
    record: PathBuf,
}

impl Place {
    fn new(cache: &Cache, image: Image, digest: &str) -> Result<Self> {
        Ok(Self {
            image: cache.path(&format!("images/{}-{digest}.qcow2", image.name()))?,
            record: cache.path(&format!("images/{}-{digest}.json", image.name()))?,
        })
    }

    fn find(&self) -> Option<Built> {
        let text = fs::read_to_string(&self.record).ok()?;
        let record = serde_json::from_str(&text).ok()?;
        self.image.exists().then(|| Built { path: self.image.clone(), record })
    }

    /// Moves a finished file into the cache, write-protected; the record last, as it marks success.
    fn keep(&self, image: Image, file: &Path, proved: Vec<String>) -> Result<Built> {
        let mut permissions = fs::metadata(file).map_err(at(file))?.permissions();
        permissions.set_readonly(true);
        fs::set_permissions(file, permissions).map_err(at(file))?;
        fs::rename(file, &self.image).map_err(at(&self.image))?;
        let record = Record { image: image.name().into(), sha256: file_digest(&self.image)?, proved };
        let text = serde_json::to_string_pretty(&record)
            .map_err(|error| LabError::Machine(format!("record: {error}")))?;
        fs::write(&self.record, text).map_err(at(&self.record))?;
        Ok(Built { path: self.image.clone(), record })
    }
}
