//! A virtual disk taken apart: partitions, volumes, filesystems, and the guest tree made of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use block::{Overlay, ReadAt, ReadCache, WriteAt};
use partition::PartitionTable;
use report::{Class, Diagnose, Diagnostic, Event, Progress};
use vfs::{Filesystem, GuestPath, GuestTree};

use crate::compose::{self, Unmounted, Wanted};
use crate::esp;
use crate::filesystems::ExtVolume;
use crate::volumes::{self, OneDisk, OpenVolume, Volumes};
use crate::{ImageFormat, StackError};

/// What is needed to take a disk apart, wherever it comes from.
#[derive(Debug, Clone)]
pub(crate) struct DiskOptions {
    pub memory_cap: u64,
    pub spill_dir: PathBuf,
    pub sector_size: Option<u32>,
    pub root: Option<String>,
    pub image_format: ImageFormat,
}

/// Everything between the virtual disk and the guest tree.
pub(crate) struct Disk {
    pub overlay: Arc<Overlay>,
    pub partitions: PartitionTable,
    pub volumes: Volumes,
    /// By volume index. An error is kept as text; opening the volume gives it again.
    pub ext: BTreeMap<usize, Result<ExtVolume, Diagnostic>>,
    /// Where the last composed tree has each volume.
    pub mounted: BTreeMap<usize, GuestPath>,
    pub unmounted: Vec<Unmounted>,
    pub malformed_fstab_lines: Vec<usize>,
    root: Option<usize>,
    options: DiskOptions,
}

/// Contents that the FAT driver reads.
pub(crate) fn is_fat(content: Option<&str>) -> bool {
    content == Some("vfat")
}

/// Contents that the XFS driver reads.
pub(crate) fn is_xfs(content: Option<&str>) -> bool {
    content == Some("xfs")
}

/// Contents that the ext driver reads.
pub(crate) fn is_ext(content: Option<&str>) -> bool {
    matches!(content, Some("ext2" | "ext3" | "ext4"))
}

impl Disk {
    /// Takes `base` apart. Everything written later goes into an overlay.
    pub fn open(
        base: Arc<dyn ReadAt>,
        options: &DiskOptions,
        progress: &dyn Progress,
    ) -> Result<Self, StackError> {
        let base = Arc::new(ReadCache::new(base)) as Arc<dyn ReadAt>;
        let overlay = Arc::new(Overlay::new(base, options.memory_cap / 2, &options.spill_dir));
        let disk = Arc::clone(&overlay) as Arc<dyn WriteAt>;
        let partitions = partition::read(&*disk, options.sector_size)?;
        for finding in &partitions.findings {
            progress.event(Event::Note { text: &format!("partition table: {}", finding.detail) });
        }
        let mut volumes = volumes::find(&[OneDisk { disk: &disk, partitions: &partitions }])?;
        volumes.table.image_format = Some(options.image_format.to_string());
        let mut found = Self {
            overlay,
            partitions,
            volumes,
            ext: BTreeMap::new(),
            mounted: BTreeMap::new(),
            unmounted: Vec::new(),
            malformed_fstab_lines: Vec::new(),
            root: None,
            options: options.clone(),
        };
        found.prepare_filesystems(progress)?;
        found.read_esp()?;
        Ok(found)
    }

    /// Looks for boot programs on the EFI system partition. What is wrong with it is a fact, no failure.
    fn read_esp(&mut self) -> Result<(), StackError> {
        let table = &self.volumes.table;
        let Some(number) = table.firmware.esp_partition else { return Ok(()) };
        let index = table.volumes.iter().position(|volume| volume.is_partition(0, number));
        let mut facts = table.firmware.clone();
        let read = match index {
            Some(index) if self.is_fat(index) => match self.open_filesystem(index, false) {
                Ok(Some(esp)) => esp::read(&*esp, &mut facts)
                    .map_err(|source| StackError::Filesystem { volume: self.name(index), source }),
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            },
            Some(index) => {
                let content = table.volumes.get(index).and_then(|volume| volume.content.as_deref());
                facts.esp_problem = Some(format!(
                    "{}: expected a FAT filesystem, found {}",
                    self.name(index),
                    content.unwrap_or("unknown content")
                ));
                Ok(())
            }
            None => Ok(()),
        };
        match read {
            Ok(()) => {}
            Err(error) if error.class() == Class::Environment => return Err(error),
            Err(error) => facts.esp_problem = Some(error.to_string()),
        }
        self.volumes.table.firmware = facts;
        Ok(())
    }

    fn prepare_filesystems(&mut self, progress: &dyn Progress) -> Result<(), StackError> {
        for index in 0..self.volumes.table.volumes.len() {
            if !self.is_ext(index) {
                continue;
            }
            let prepared = match self.prepare(index) {
                Ok(prepared) => {
                    if let Some(report) = prepared.recovery() {
                        let text = format!(
                            "{}: was not unmounted: {} transactions replayed in memory",
                            self.name(index),
                            report.transactions
                        );
                        progress.event(Event::Note { text: &text });
                    }
                    Ok(prepared)
                }
                // Reading the host file failed: no property of this volume.
                Err(error) if error.class() == Class::Environment => return Err(error),
                Err(error) => Err(Diagnostic::of(&error)),
            };
            self.ext.insert(index, prepared);
        }
        Ok(())
    }

    fn is_ext(&self, index: usize) -> bool {
        is_ext(self.volumes.table.volumes.get(index).and_then(|volume| volume.content.as_deref()))
    }

    fn is_fat(&self, index: usize) -> bool {
        is_fat(self.volumes.table.volumes.get(index).and_then(|volume| volume.content.as_deref()))
    }

    fn is_xfs(&self, index: usize) -> bool {
        is_xfs(self.volumes.table.volumes.get(index).and_then(|volume| volume.content.as_deref()))
    }

    fn open_xfs(&self, index: usize, writable: bool) -> Result<Option<Box<dyn Filesystem>>, StackError> {
        let Some(Ok(volume)) = self.volumes.open.get(index) else { return Ok(None) };
        let device = Arc::clone(&volume.device);
        let opened = match writable {
            true => xfs::Xfs::open_writable(device),
            false => xfs::Xfs::open(device),
        };
        match opened {
            Ok(filesystem) => Ok(Some(Box::new(filesystem))),
            Err(source) => Err(StackError::Filesystem { volume: self.name(index), source }),
        }
    }

    fn open_fat(&self, index: usize, writable: bool) -> Result<Option<Box<dyn Filesystem>>, StackError> {
        let Some(Ok(volume)) = self.volumes.open.get(index) else { return Ok(None) };
        let device = Arc::clone(&volume.device);
        let opened = match writable {
            true => fat::Fat::open_writable(device),
            false => fat::Fat::open(device),
        };
        match opened {
            Ok(filesystem) => Ok(Some(Box::new(filesystem))),
            Err(source) => Err(StackError::Filesystem { volume: self.name(index), source }),
        }
    }

    fn prepare(&self, index: usize) -> Result<ExtVolume, StackError> {
        let failed = |source| StackError::Filesystem { volume: self.name(index), source };
        let volume = match self.volumes.open.get(index) {
            Some(Ok(volume)) => volume,
            Some(Err(misplaced)) => return Err(misplaced.error(self.name(index))),
            None => return Err(failed(vfs::VfsError::NotFound { path: self.name(index) })),
        };
        ExtVolume::prepare(&volume.device, self.options.memory_cap / 4, &self.options.spill_dir)
            .map_err(failed)
    }

    /// How reports name a volume.
    pub fn name(&self, index: usize) -> String {
        self.volumes.name(index)
    }

    /// Opens the filesystem of a volume; `None` when it is of a kind that is not read.
    pub fn open_filesystem(
        &self,
        index: usize,
        writable: bool,
    ) -> Result<Option<Box<dyn Filesystem>>, StackError> {
        match self.volumes.open.get(index) {
            Some(Err(not_open)) => return Err(not_open.error(self.name(index))),
            Some(Ok(OpenVolume { read_only: Some(refusal), .. })) if writable => {
                return Err(StackError::Lvm2(Arc::clone(refusal)));
            }
            _ => {}
        }
        if self.is_fat(index) {
            return self.open_fat(index, writable);
        }
        if self.is_xfs(index) {
            return self.open_xfs(index, writable);
        }
        if !self.is_ext(index) {
            return Ok(None);
        }
        match self.ext.get(&index) {
            Some(Ok(volume)) => volume
                .open(writable)
                .map(Some)
                .map_err(|source| StackError::Filesystem { volume: self.name(index), source }),
            // Fails as it did on opening, now with the error itself.
            _ => self
                .prepare(index)?
                .open(false)
                .map(Some)
                .map_err(|source| StackError::Filesystem { volume: self.name(index), source }),
        }
    }

    /// True when what is read of a volume is not what is stored: its journal was replayed in memory.
    pub fn waits_for_recovery(&self, index: usize) -> bool {
        matches!(self.ext.get(&index), Some(Ok(volume)) if volume.recovery().is_some())
    }

    /// True when the guest's kernel recorded errors in an ext filesystem.
    pub fn has_recorded_errors(&self, index: usize) -> Result<bool, StackError> {
        let Some(Ok(volume)) = self.ext.get(&index) else { return Ok(false) };
        let opened = volume
            .open_ext(false)
            .map_err(|source| StackError::Filesystem { volume: self.name(index), source })?;
        Ok(opened.has_error_state())
    }

    /// Index of the volume with the guest's root.
    pub fn find_root(&mut self) -> Result<usize, StackError> {
        if let Some(root) = self.root {
            return Ok(root);
        }
        let table = &self.volumes.table;
        let root = match &self.options.root {
            Some(root) => compose::choose_root(table, root)?,
            None => compose::find_root(table, &|index| self.name(index), &mut |index, _| {
                // FAT holds no symlinks and no owners: never a root.
                if self.is_fat(index) { Ok(None) } else { self.open_filesystem(index, false) }
            })?,
        };
        self.root = Some(root);
        Ok(root)
    }

    /// The guest's files. A writable tree writes into the overlay.
    pub fn open_tree(&mut self, writable: bool) -> Result<GuestTree, StackError> {
        let root = self.find_root()?;
        let table = &self.volumes.table;
        let composed =
            compose::compose(table, root, &|index| self.name(index), &mut |index, wanted| match self
                .open_filesystem(index, writable)
            {
                Err(error) if error.class() == Class::Unsupported && wanted == Wanted::AtLeastRead => {
                    self.open_filesystem(index, false)
                }
                opened => opened,
            })?;
        self.mounted = composed.mounted;
        self.unmounted = composed.unmounted;
        self.malformed_fstab_lines = composed.malformed_lines;
        Ok(composed.tree)
    }

    /// Brings the edits of recovered volumes into the overlay.
    pub fn settle(&self) -> Result<(), StackError> {
        for volume in self.ext.values().flatten() {
            volume.settle()?;
        }
        Ok(())
    }
}
