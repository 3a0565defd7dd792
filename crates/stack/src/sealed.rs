//! After the edits: verify, then commit.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use block::{
    Access, ChangeSet, CommitOptions, CommitReport, CommitUnit, HostPlan, ImageFile, NewImageOptions,
    OpenGate, Overlay, ReadAt, Window, WriteAt, commit_in_place, commit_to_new, raw_plan,
};
use partition::PartitionTable;
use qcow2::Qcow2;
use report::{Class, Progress, Silent};
use vfs::{DeviceTable, GuestTree, Volume};
use vhd::Vhd;

use crate::disk::{Disk, DiskOptions, is_ext, is_fat, is_xfs};
use crate::filesystems::ExtVolume;
use crate::free::{self, FreeSpace, RemovedSwap};
use crate::image::{Driver, Image};
use crate::planned::PlannedFile;
use crate::volumes::OpenVolume;
use crate::{ImageFormat, StackError, edit};

/// Where the changes go.
#[derive(Debug, Clone)]
pub enum CommitTarget {
    /// Into the image itself, which was opened with [`Access::Write`].
    InPlace {
        /// Keep the old bytes in this new file.
        undo_file: Option<PathBuf>,
    },
    /// Into a copy; the image stays as it is.
    NewFile {
        /// Path of the copy.
        path: PathBuf,
        /// Replace what is there.
        force: bool,
    },
}

/// What [`SealedImage::check`] found.
#[derive(Debug, Clone)]
pub struct CheckedFilesystem {
    /// `partition 1`, `whole disk`.
    pub volume: String,
    /// Contradictions, one sentence each; the first of them.
    pub problems: Vec<String>,
    /// All contradictions.
    pub problem_count: u64,
}

impl CheckedFilesystem {
    /// True when nothing contradicts anything.
    pub fn is_clean(&self) -> bool {
        self.problem_count == 0
    }
}

/// A filesystem that is checked when edits touch it.
struct Checked {
    name: String,
    place: Place,
    is_fat: bool,
    is_xfs: bool,
}

/// Where a filesystem lies.
enum Place {
    /// In one piece of the disk.
    Piece(Range<u64>),
    /// On the logical volume with this UUID, which lies in these pieces.
    Logical { uuid: String, pieces: Vec<Range<u64>> },
}

impl Checked {
    fn new(volume: &Volume, open: &OpenVolume) -> Self {
        Self {
            name: volume.name(),
            place: match &volume.logical {
                None => Place::Piece(volume.start..volume.end()),
                Some(logical) => Place::Logical {
                    uuid: logical.uuid.clone(),
                    pieces: open.on_disk(&(0..volume.len)).into_iter().map(|(_, range)| range).collect(),
                },
            },
            is_fat: is_fat(volume.content.as_deref()),
            is_xfs: is_xfs(volume.content.as_deref()),
        }
    }
}

impl Place {
    /// Names the place, whatever number its partition has.
    fn key(&self) -> String {
        match self {
            Place::Piece(piece) => piece.start.to_string(),
            Place::Logical { uuid, .. } => uuid.clone(),
        }
    }

    fn touches(&self, range: &Range<u64>) -> bool {
        let pieces = match self {
            Place::Piece(piece) => std::slice::from_ref(piece),
            Place::Logical { pieces, .. } => pieces,
        };
        pieces.iter().any(|piece| range.start < piece.end && piece.start < range.end)
    }
}

/// An image whose edits are complete. Dropping it drops them.
#[must_use = "nothing is written before commit"]
pub struct SealedImage {
    file: ImageFile,
    driver: Driver,
    /// Filesystems that are edited: name and place on the virtual disk.
    filesystems: Vec<Checked>,
    /// The partition table as it was opened, for telling old problems from new ones.
    old_partitions: PartitionTable,
    /// The disk before the edits.
    base: Arc<dyn ReadAt>,
    changes: ChangeSet,
    options: DiskOptions,
    gate: Arc<dyn OpenGate>,
    is_verified: AtomicBool,
    /// Swap partitions as the image was opened.
    swaps: Vec<RemovedSwap>,
    /// Keys of the filesystems that [`SealedImage::verify`] found sound.
    sound: Mutex<BTreeSet<String>>,
    /// Made once: planning reads everything that a commit moves.
    plan: OnceLock<HostPlan>,
}

impl SealedImage {
    pub(crate) fn new(image: Image) -> Result<Self, StackError> {
        image.disk.settle()?;
        let sector_size = Some(image.disk.partitions.sector_size);
        let old_partitions = partition::read(&**image.disk.overlay.base(), sector_size)?;
        let changes = image.disk.overlay.seal()?;
        let table = &image.disk.volumes.table;
        let filesystems = table
            .volumes
            .iter()
            .zip(&image.disk.volumes.open)
            .filter(|(volume, _)| {
                let content = volume.content.as_deref();
                is_ext(content) || is_fat(content) || is_xfs(content)
            })
            .filter_map(|(volume, open)| Some((volume, open.as_ref().ok()?)))
            .map(|(volume, open)| Checked::new(volume, open))
            .collect();
        let swaps = table
            .volumes
            .iter()
            .enumerate()
            .filter(|(index, volume)| {
                volume.content.as_deref() == Some("swap")
                    && volume.logical.is_none()
                    && matches!(image.disk.volumes.open.get(*index), Some(Ok(open)) if open.contents.len() == 1)
            })
            .map(|(index, volume)| RemovedSwap {
                name: image.disk.name(index),
                place: volume.start..volume.end(),
            })
            .collect();
        Ok(Self {
            file: image.file,
            driver: image.driver,
            filesystems,
            old_partitions,
            base: Arc::clone(image.disk.overlay.base()),
            changes,
            options: image.options,
            gate: image.gate,
            is_verified: AtomicBool::new(false),
            swaps,
            sound: Mutex::new(BTreeSet::new()),
            plan: OnceLock::new(),
        })
    }

    /// The image file, locked as long as this lives.
    pub fn file(&self) -> &ImageFile {
        &self.file
    }

    /// Format of the image file.
    pub fn format(&self) -> ImageFormat {
        self.driver.format()
    }

    /// The qcow2 layer as it was opened.
    pub fn qcow2(&self) -> Option<&Arc<Qcow2>> {
        match &self.driver {
            Driver::Qcow2(image) => Some(image),
            Driver::Raw | Driver::Vhd(_) => None,
        }
    }

    /// The VHD layer as it was opened.
    pub fn vhd(&self) -> Option<&Arc<Vhd>> {
        match &self.driver {
            Driver::Vhd(image) => Some(image),
            Driver::Raw | Driver::Qcow2(_) => None,
        }
    }

    /// What the edits change on the virtual disk.
    pub fn changes(&self) -> &ChangeSet {
        &self.changes
    }

    /// The guest's files as they will be: everything is read anew from the partition table up.
    pub fn reopen_tree(&self) -> Result<GuestTree, StackError> {
        Disk::open(self.changes.disk(), &self.options, &Silent)?.open_tree(false)
    }

    /// The volumes as they will be, read anew.
    pub fn device_table(&self) -> Result<DeviceTable, StackError> {
        Ok(Disk::open(self.changes.disk(), &self.options, &Silent)?.volumes.table)
    }

    /// Names of the filesystems that the edits touch.
    pub fn changed_filesystems(&self) -> Vec<&str> {
        self.changed().map(|one| &*one.name).collect()
    }

    fn changed(&self) -> impl Iterator<Item = &Checked> {
        let ranges = self.changes.ranges();
        self.filesystems.iter().filter(move |one| ranges.iter().any(|range| one.place.touches(range)))
    }

    /// The volume of a filesystem on a disk; writes go nowhere.
    fn volume(
        &self,
        disk: Arc<dyn ReadAt>,
        one: &Checked,
    ) -> Result<Arc<Window<Arc<dyn WriteAt>>>, StackError> {
        match &one.place {
            Place::Piece(place) => {
                let cap = self.options.memory_cap / 4;
                let scratch = Arc::new(Overlay::new(disk, cap, &self.options.spill_dir)) as Arc<dyn WriteAt>;
                let window = Window::new(scratch, place.start, place.end - place.start, one.name.clone())?;
                Ok(Arc::new(window))
            }
            Place::Logical { uuid, .. } => {
                let disk = Disk::open(disk, &self.options, &Silent)?;
                let volumes = disk.volumes.table.volumes.iter().zip(&disk.volumes.open);
                let found = volumes.filter_map(|(volume, open)| {
                    let logical = volume.logical.as_ref()?;
                    open.as_ref().ok().filter(|_| logical.uuid == *uuid)
                });
                let found = found.map(|open| Arc::clone(&open.device)).next();
                found.ok_or_else(|| StackError::Verification {
                    layer: one.name.clone(),
                    first: "is not there any more".into(),
                    count: 1,
                    class: Class::Bug,
                })
            }
        }
    }

    /// Checks the structure of every filesystem that the edits touch, whole.
    pub fn check(&self) -> Result<Vec<CheckedFilesystem>, StackError> {
        self.changed().map(|one| check_volume(self.volume(self.changes.disk(), one)?, one)).collect()
    }

    /// Checks every filesystem that the edits touch, and the structure of the image file as it will be.
    /// The first contradiction is an error; [`SealedImage::commit`] does this when it was not done.
    ///
    /// Damage that was there before the edits has class [`Class::Damaged`], other damage is a bug.
    pub fn verify(&self) -> Result<(), StackError> {
        self.verify_disk()?;
        self.verify_image()?;
        self.is_verified.store(true, Ordering::Release);
        Ok(())
    }

    /// The part of [`SealedImage::verify`] that looks at the virtual disk: enough when the disk goes into a file that is
    /// made anew.
    pub fn verify_disk(&self) -> Result<(), StackError> {
        for one in self.changed() {
            let report = check_volume(self.volume(self.changes.disk(), one)?, one)?;
            let Some(first) = report.problems.first() else {
                self.sound.lock().unwrap_or_else(PoisonError::into_inner).insert(one.place.key());
                continue;
            };
            let before = self.check_base(one)?;
            return Err(StackError::Verification {
                layer: one.name.clone(),
                first: first.clone(),
                count: report.problem_count,
                class: if before.is_clean() { Class::Bug } else { Class::Damaged },
            });
        }
        self.verify_partitions()
    }

    /// Space of the virtual disk, as it will be, that holds no content: everything is read anew, and each filesystem
    /// that gives its free space passes the structural check first.
    pub fn free_space(&self) -> Result<FreeSpace, StackError> {
        let disk = Disk::open(self.changes.disk(), &self.options, &Silent)?;
        let is_there = |place: &Range<u64>| {
            let mut volumes = disk.volumes.table.volumes.iter();
            volumes.any(|volume| {
                volume.logical.is_none() && volume.start == place.start && volume.end() == place.end
            })
        };
        let removed: Vec<RemovedSwap> =
            self.swaps.iter().filter(|swap| !is_there(&swap.place)).cloned().collect();
        free::of_disk(&disk, &removed, &mut |index| {
            let table = &disk.volumes.table.volumes;
            let (Some(volume), Some(Ok(open))) = (table.get(index), disk.volumes.open.get(index)) else {
                return Ok(Ok(()));
            };
            let one = Checked::new(volume, open);
            if self.sound.lock().unwrap_or_else(PoisonError::into_inner).contains(&one.place.key()) {
                return Ok(Ok(()));
            }
            let report = check_volume(Arc::clone(&open.device), &one)?;
            let first = report.problems.first().cloned().unwrap_or_default();
            Ok(if report.is_clean() { Ok(()) } else { Err((first, report.problem_count)) })
        })
    }

    /// The partition table has no problem that it did not have before.
    fn verify_partitions(&self) -> Result<(), StackError> {
        let after = partition::read(&*self.changes.disk(), Some(self.old_partitions.sector_size))?;
        match edit::new_problem(&self.old_partitions, &after) {
            None => Ok(()),
            Some(first) => Err(StackError::Verification {
                layer: "partition table".into(),
                first,
                count: 1,
                class: Class::Bug,
            }),
        }
    }

    /// Refcounts and tables of a qcow2 image with all planned writes in place. Leaks are no contradiction.
    fn verify_image(&self) -> Result<(), StackError> {
        let Driver::Qcow2(image) = &self.driver else { return Ok(()) };
        let plan = self.plan()?;
        if plan.is_empty() {
            return Ok(());
        }
        let planned = PlannedFile::new(self.file.reader(), plan, self.file.path());
        let report = Qcow2::open(Arc::new(planned), self.file.path(), &*self.gate)?.check()?;
        if report.corruptions == 0 {
            return Ok(());
        }
        let before = image.check()?;
        Err(StackError::Verification {
            layer: self.file.path().display().to_string(),
            first: report.problems.first().cloned().unwrap_or_default(),
            count: report.corruptions,
            class: if before.corruptions == 0 { Class::Bug } else { Class::Damaged },
        })
    }

    /// The same check of the filesystem before the edits, its journal replayed.
    fn check_base(&self, one: &Checked) -> Result<CheckedFilesystem, StackError> {
        let device = self.volume(Arc::clone(&self.base), one)?;
        if one.is_fat || one.is_xfs {
            return check_volume(device, one);
        }
        let failed = |source| StackError::Filesystem { volume: one.name.clone(), source };
        let volume = ExtVolume::prepare(&device, self.options.memory_cap / 4, &self.options.spill_dir)
            .map_err(failed)?;
        Ok(of_ext(one, ext4::check(&volume.device()).map_err(failed)?))
    }

    /// Host-file writes that bring the changes into the image.
    pub fn plan(&self) -> Result<HostPlan, StackError> {
        if let Some(plan) = self.plan.get() {
            return Ok(plan.clone());
        }
        let plan = match &self.driver {
            Driver::Raw => raw_plan(&self.changes, self.file.len()),
            Driver::Qcow2(image) => image.plan_commit(&self.changes)?,
            Driver::Vhd(image) => image.plan_commit(&self.changes)?,
        };
        Ok(self.plan.get_or_init(|| plan).clone())
    }

    /// Writes the changes: all of them, or none. Verifies first, unless [`SealedImage::verify`] has done so.
    pub fn commit(self, target: CommitTarget, progress: &dyn Progress) -> Result<CommitReport, StackError> {
        if !self.is_verified.load(Ordering::Acquire) {
            self.verify()?;
        }
        let plan = self.plan()?;
        match target {
            CommitTarget::InPlace { undo_file } => {
                if self.file.access() != Access::Write {
                    return Err(StackError::ReadOnly { path: self.file.path().to_owned() });
                }
                let unit = CommitUnit { image: self.file, plan };
                Ok(commit_in_place(vec![unit], &CommitOptions { keep_undo: undo_file }, progress)?)
            }
            CommitTarget::NewFile { path, force } => {
                self.require_portable_backing(&path)?;
                Ok(commit_to_new(&self.file, &plan, &path, &NewImageOptions { force }, progress)?)
            }
        }
    }

    /// Fails when a copy at `target` that names the same backing file would mean another one: a relative name does, in
    /// another directory.
    pub fn require_portable_backing(&self, target: &Path) -> Result<(), StackError> {
        let Driver::Qcow2(image) = &self.driver else { return Ok(()) };
        let Some(backing) = image.info().backing else { return Ok(()) };
        let dir_of = |path: &Path| match path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir.canonicalize().ok(),
            _ => Path::new(".").canonicalize().ok(),
        };
        if Path::new(&backing.name).is_relative() && dir_of(target) != dir_of(self.file.path()) {
            return Err(StackError::RelativeBacking { path: target.to_owned(), backing: backing.name });
        }
        Ok(())
    }
}

fn check_volume(
    device: Arc<Window<Arc<dyn WriteAt>>>,
    one: &Checked,
) -> Result<CheckedFilesystem, StackError> {
    let failed = |source| StackError::Filesystem { volume: one.name.clone(), source };
    if one.is_xfs {
        let report = xfs::check(device).map_err(failed)?;
        return Ok(CheckedFilesystem {
            volume: one.name.clone(),
            problems: report.problems.iter().map(ToString::to_string).collect(),
            problem_count: report.problem_count,
        });
    }
    if !one.is_fat {
        return Ok(of_ext(one, ext4::check(&*device).map_err(failed)?));
    }
    let report = fat::check(&(device as Arc<dyn ReadAt>)).map_err(failed)?;
    Ok(CheckedFilesystem {
        volume: one.name.clone(),
        problems: report.problems,
        problem_count: report.problem_count,
    })
}

fn of_ext(one: &Checked, report: ext4::CheckReport) -> CheckedFilesystem {
    CheckedFilesystem {
        volume: one.name.clone(),
        problems: report.problems.iter().map(ToString::to_string).collect(),
        problem_count: report.problem_count,
    }
}
