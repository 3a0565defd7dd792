//! An open image: host file, format, and the disk inside.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use block::{Access, AllowBelow, DenyAll, ImageFile, OpenGate, ReadAt};
use partition::PartitionTable;
use qcow2::Qcow2;
use report::{Event, Progress};
use vfs::{DeviceTable, GuestTree};
use vhd::Vhd;

use crate::compose::Unmounted;
use crate::disk::{Disk, DiskOptions};
use crate::format::format_of;
use crate::layers::{self, ImageLayer, Layer};
use crate::sealed::SealedImage;
use crate::{Content, ImageFormat, StackError};

/// How to open an image.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// Format of the file; `None` recognises it once, at the top.
    pub format: Option<ImageFormat>,
    /// [`Access::Write`] for a commit in place; everything else, edits for a new file included, reads.
    pub access: Access,
    /// Directory below which backing files may be opened; `None` opens none.
    pub allow_backing: Option<PathBuf>,
    /// Bytes of changed blocks held in memory, about; the rest goes to a temporary file.
    pub memory_cap: u64,
    /// Where the temporary file is made.
    pub spill_dir: PathBuf,
    /// Bytes per logical sector; `None` recognises it where a GPT tells, else 512.
    pub sector_size: Option<u32>,
    /// The root filesystem: partition number, `UUID=…`, or what else fstab could say; `None` finds it.
    pub root: Option<String>,
    /// Edits go into a file that is made anew: what is only read of this one's format is no obstacle then.
    pub is_remade: bool,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            format: None,
            access: Access::Read,
            allow_backing: None,
            memory_cap: 256 << 20,
            spill_dir: PathBuf::from("/var/tmp"),
            sector_size: None,
            root: None,
            is_remade: false,
        }
    }
}

impl OpenOptions {
    /// The same way, for a look at another image file.
    pub fn for_a_look(&self) -> Self {
        Self { format: None, access: Access::Read, is_remade: false, ..self.clone() }
    }
}

/// How the host file is read.
pub(crate) enum Driver {
    Raw,
    Qcow2(Arc<Qcow2>),
    Vhd(Arc<Vhd>),
}

impl Driver {
    pub fn format(&self) -> ImageFormat {
        match self {
            Driver::Raw => ImageFormat::Raw,
            Driver::Qcow2(_) => ImageFormat::Qcow2,
            Driver::Vhd(_) => ImageFormat::Vhd,
        }
    }
}

/// A volume as a device, for checks and dumps.
pub struct VolumeDevice {
    /// `partition 1`, `whole disk`.
    pub name: String,
    /// Index in the [`DeviceTable`].
    pub index: usize,
    /// What it looks like.
    pub content: Option<Content>,
    /// The bytes as they are stored.
    pub stored: Arc<dyn ReadAt>,
    /// The bytes after its journal was replayed; `None` when that was not needed or not possible.
    pub recovered: Option<Arc<dyn ReadAt>>,
}

/// An open image. Nothing of the host file changes before [`SealedImage::commit`].
pub struct Image {
    pub(crate) file: ImageFile,
    pub(crate) driver: Driver,
    pub(crate) is_format_probed: bool,
    pub(crate) disk: Disk,
    pub(crate) options: DiskOptions,
    pub(crate) is_remade: bool,
    pub(crate) gate: Arc<dyn OpenGate>,
}

impl Image {
    /// Opens, locks and takes apart the image at `path`.
    pub fn open(path: &Path, options: &OpenOptions, progress: &dyn Progress) -> Result<Self, StackError> {
        let file = ImageFile::open(path, options.access, progress)?;
        let format = format_of(&file, options.format)?;
        let gate: Arc<dyn OpenGate> = match &options.allow_backing {
            Some(root) => Arc::new(AllowBelow::new(root)?),
            None => Arc::new(DenyAll),
        };
        let (driver, base) = match format {
            ImageFormat::Raw => (Driver::Raw, file.reader()),
            ImageFormat::Qcow2 => {
                let image = Arc::new(Qcow2::open(file.reader(), file.path(), &*gate)?);
                (Driver::Qcow2(Arc::clone(&image)), image as Arc<dyn ReadAt>)
            }
            ImageFormat::Vhd => {
                let image = Arc::new(Vhd::open(file.reader(), file.path())?);
                for problem in image.footer_problems() {
                    progress.event(Event::Note { text: &format!("{}: {problem}", file.path().display()) });
                }
                (Driver::Vhd(Arc::clone(&image)), image as Arc<dyn ReadAt>)
            }
        };
        let disk_options = DiskOptions {
            memory_cap: options.memory_cap,
            spill_dir: options.spill_dir.clone(),
            sector_size: options.sector_size,
            root: options.root.clone(),
            image_format: format,
        };
        let disk = Disk::open(base, &disk_options, progress)?;
        Ok(Self {
            file,
            driver,
            is_format_probed: options.format.is_none(),
            disk,
            options: disk_options,
            is_remade: options.is_remade,
            gate,
        })
    }

    /// Format of the host file.
    pub fn format(&self) -> ImageFormat {
        self.driver.format()
    }

    /// The qcow2 layer, for checks and dumps.
    pub fn qcow2(&self) -> Option<&Arc<Qcow2>> {
        match &self.driver {
            Driver::Qcow2(image) => Some(image),
            Driver::Raw | Driver::Vhd(_) => None,
        }
    }

    /// The VHD layer, for checks.
    pub fn vhd(&self) -> Option<&Arc<Vhd>> {
        match &self.driver {
            Driver::Vhd(image) => Some(image),
            Driver::Raw | Driver::Qcow2(_) => None,
        }
    }

    /// The host file.
    pub fn file(&self) -> &ImageFile {
        &self.file
    }

    /// The virtual disk, edits included.
    pub fn virtual_disk(&self) -> Arc<dyn ReadAt> {
        Arc::clone(&self.disk.overlay) as Arc<dyn ReadAt>
    }

    /// The partition table.
    pub fn partition_table(&self) -> &PartitionTable {
        &self.disk.partitions
    }

    /// The volumes, for everything above that only sees files.
    pub fn device_table(&self) -> &DeviceTable {
        &self.disk.volumes.table
    }

    /// Facts about every layer, from the host file up.
    pub fn layers(&self) -> Vec<Layer> {
        let mut layers = vec![Layer::Image(Box::new(ImageLayer {
            path: self.file.path().to_owned(),
            format: self.format(),
            is_format_probed: self.is_format_probed,
            file_bytes: self.file.len(),
            virtual_bytes: self.disk.overlay.len(),
            qcow2: self.qcow2().map(|image| image.info()),
            vhd: self.vhd().map(|image| image.info()),
            had_interrupted_commit: self.file.recovered().is_some() || self.file.is_rolled_back_view(),
        }))];
        layers.extend(layers::of_disk(&self.disk));
        layers
    }

    /// What should be known beside the layers: ambiguous signatures, mounts that are not part of the tree.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = self.disk.volumes.notes.clone();
        notes.extend(
            self.disk.malformed_fstab_lines.iter().map(|line| format!("/etc/fstab line {line}: no entry")),
        );
        notes.extend(self.disk.unmounted.iter().map(ToString::to_string));
        notes
    }

    /// Every volume that lies on the disk, as a device.
    pub fn filesystems(&self) -> Vec<VolumeDevice> {
        let volumes = self.disk.volumes.open.iter().enumerate();
        volumes
            .filter_map(|(index, volume)| Some((index, volume.as_ref().ok()?)))
            .map(|(index, volume)| VolumeDevice {
                name: volume.name.clone(),
                index,
                content: volume.contents.first().cloned(),
                stored: Arc::clone(&volume.device) as Arc<dyn ReadAt>,
                recovered: match self.disk.ext.get(&index) {
                    Some(Ok(ext)) if ext.recovery().is_some() => Some(Arc::new(ext.device())),
                    _ => None,
                },
            })
            .collect()
    }

    /// The guest's files: root filesystem and everything that its fstab mounts and that can be read.
    ///
    /// A writable tree writes into the overlay, whatever the access of the image is. One writable tree at a
    /// time: flush it and drop it before [`Image::seal`] or before the next tree is opened.
    pub fn open_tree(&mut self, writable: bool) -> Result<GuestTree, StackError> {
        match &self.driver {
            // A copy of an image that is marked corrupt would not be marked any more.
            Driver::Qcow2(image) if writable && (!self.is_remade || image.is_corrupt()) => {
                image.check_writable()?
            }
            Driver::Vhd(image) if writable && !self.is_remade => image.check_writable()?,
            _ => {}
        }
        self.disk.open_tree(writable)
    }

    /// Mounts of the guest's fstab that are not part of the tree; known once a tree was opened.
    pub fn unmounted(&self) -> &[Unmounted] {
        &self.disk.unmounted
    }

    /// Fails when something that the guest boots from (`/boot`, `/usr`, …) is not part of the tree that was
    /// opened: judging or fixing the guest without it would be a guess.
    pub fn require_essential_mounts(&self) -> Result<(), StackError> {
        match self.disk.unmounted.iter().find(|mount| mount.is_essential()) {
            Some(mount) => Err(StackError::EssentialMount(mount.clone())),
            None => Ok(()),
        }
    }

    /// Ends editing.
    pub fn seal(self) -> Result<SealedImage, StackError> {
        SealedImage::new(self)
    }
}
