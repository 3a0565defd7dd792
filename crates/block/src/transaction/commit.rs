//! Committing in place.

use std::hash::{BuildHasher, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use report::{Event, Progress};

use super::format::{
    self, Header, IMAGES_OFFSET, ImageEntry, MARK_OFFSET, MAX_IMAGES, MAX_RECORD_BYTES, MAX_RECORDS,
    RECORD_HEAD_BYTES, Record, UnitId,
};
use super::journal::{Journal, fault, journal_path, open_if_there, parent_dir};
use super::recover::{remove_durably, remove_if_there, roll_back};
use super::spool::{Slot, Spool};
use crate::image::Shared;
use crate::{Access, BlockError, Host, HostFile, HostPlan, ImageFile, ImageState, ReadAt};

/// One image of a commit and what is to be written to it.
pub struct CommitUnit {
    /// The image, open with [`Access::Write`].
    pub image: ImageFile,
    /// Host-file writes, made by the image's driver.
    pub plan: HostPlan,
}

/// Choices of a commit in place.
#[derive(Debug, Clone, Default)]
pub struct CommitOptions {
    /// Keep the pre-images in this new file, for [`crate::undo`].
    pub keep_undo: Option<PathBuf>,
}

/// What a commit did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CommitReport {
    /// Images with changes.
    pub images: Vec<PathBuf>,
    /// Bytes written to the images.
    pub written_bytes: u64,
    /// Bytes of the journal file.
    pub journal_bytes: u64,
    /// The undo file, when one was asked for and something was written.
    pub undo_file: Option<PathBuf>,
    /// Time spent waiting for the host to make things durable.
    pub sync_time: Duration,
    /// All of it.
    pub total_time: Duration,
}

/// Brings all plans into their images, all of them or none.
///
/// Consumes the images: their locks are released at the end, and their readers fail from the moment the first
/// byte may change. An error says in which state the images are ([`BlockError::Commit`]).
pub fn commit_in_place(
    units: Vec<CommitUnit>,
    options: &CommitOptions,
    progress: &dyn Progress,
) -> Result<CommitReport, BlockError> {
    let started = Instant::now();
    let units: Vec<CommitUnit> = units.into_iter().filter(|unit| !unit.plan.is_empty()).collect();
    let Some(first) = units.first() else { return Ok(CommitReport::default()) };
    check_units(&units)?;
    let host = Arc::clone(&first.image.shared().host);
    if let Some(undo) = &options.keep_undo
        && open_if_there(host.as_ref(), undo, Access::Read)?.is_some()
    {
        return Err(fault(undo, "transaction.undo.exists", "exists already and is not replaced"));
    }
    let total = units.iter().flat_map(|unit| &unit.plan.writes).map(|write| write.len()).sum::<u64>();
    progress.event(Event::Stage { name: "commit", total: Some(total.saturating_mul(2)) });
    let mut commit = Commit::new(host, units, progress);
    let prepared = commit.prepare();
    if let Err(cause) = prepared {
        let state = match commit.discard() {
            Ok(()) => ImageState::Untouched,
            Err(error) => ImageState::UntouchedWithLeftover(error.to_string()),
        };
        return Err(commit_error(cause, state));
    }
    if commit.records.is_empty() && !commit.changes_length() {
        commit.discard()?;
        return Ok(CommitReport { total_time: started.elapsed(), ..CommitReport::default() });
    }
    if let Err(cause) = commit.make_hot().and_then(|()| commit.write_images()) {
        return Err(commit.undo_now(cause));
    }
    let undo_file = match commit.finish(options.keep_undo.as_deref()) {
        Ok(undo_file) => undo_file,
        Err(cause) => return Err(commit.undo_now(cause)),
    };
    for image in commit.images() {
        // The lock is gone with the last reader at the latest.
        let _ = image.file.unlock();
    }
    Ok(CommitReport {
        images: commit.images().map(|image| image.path.clone()).collect(),
        written_bytes: commit.records.iter().map(|(record, _)| u64::from(record.new_len)).sum(),
        journal_bytes: commit.journal_len,
        undo_file,
        sync_time: commit.sync_time,
        total_time: started.elapsed(),
    })
}

fn commit_error(cause: BlockError, state: ImageState) -> BlockError {
    BlockError::Commit { cause: Box::new(cause), state }
}

/// Refuses plans that do not fit their images; these are faults of the caller.
fn check_units(units: &[CommitUnit]) -> Result<(), BlockError> {
    if units.len() > MAX_IMAGES {
        return Err(BlockError::BadPlan(format!(
            "{} images in one commit, at most {MAX_IMAGES}",
            units.len()
        )));
    }
    for (number, unit) in units.iter().enumerate() {
        let image = unit.image.shared();
        let bad = |why: String| Err(BlockError::BadPlan(format!("{}: {why}", image.path.display())));
        if image.access != Access::Write {
            return bad("opened for reading only".into());
        }
        unit.plan.check(image.len()).or_else(bad)?;
        let is_same = |other: &CommitUnit| {
            let other = other.image.shared().metadata;
            (other.device, other.inode) == (image.metadata.device, image.metadata.inode)
        };
        if units.iter().take(number).any(is_same) {
            return bad("named twice in one commit".into());
        }
    }
    Ok(())
}

/// Random enough to tell two commits apart; nothing secret hangs on it.
pub(crate) fn new_unit_id() -> UnitId {
    let mut id = [0; 16];
    for half in id.chunks_exact_mut(8) {
        let hasher = std::hash::RandomState::new().build_hasher();
        half.copy_from_slice(&hasher.finish().to_le_bytes());
    }
    id
}

struct Commit<'p> {
    host: Arc<dyn Host>,
    units: Vec<CommitUnit>,
    progress: &'p dyn Progress,
    id: UnitId,
    journal_path: PathBuf,
    journal: Option<Box<dyn HostFile>>,
    journal_len: u64,
    /// Pointer files made so far.
    pointers: Vec<PathBuf>,
    spool: Spool,
    records: Vec<(Record, Slot)>,
    done: u64,
    sync_time: Duration,
}

impl<'p> Commit<'p> {
    fn new(host: Arc<dyn Host>, units: Vec<CommitUnit>, progress: &'p dyn Progress) -> Self {
        let first = units.first().map(|unit| unit.image.path().to_owned()).unwrap_or_default();
        let spool = Spool::new(Arc::clone(&host), parent_dir(&first).to_owned());
        Self {
            host,
            units,
            progress,
            id: new_unit_id(),
            journal_path: journal_path(&first),
            journal: None,
            journal_len: 0,
            pointers: Vec::new(),
            spool,
            records: Vec::new(),
            done: 0,
            sync_time: Duration::ZERO,
        }
    }

    fn images(&self) -> impl Iterator<Item = &Arc<Shared>> {
        self.units.iter().map(|unit| unit.image.shared())
    }

    fn changes_length(&self) -> bool {
        self.units.iter().any(|unit| unit.plan.old_len != unit.plan.new_len)
    }

    fn advance(&mut self, bytes: u64) {
        self.done += bytes;
        self.progress.event(Event::Advance { done: self.done });
    }

    fn synced<T>(&mut self, sync: impl FnOnce(&Self) -> Result<T, BlockError>) -> Result<T, BlockError> {
        let started = Instant::now();
        let result = sync(self);
        self.sync_time += started.elapsed();
        result
    }

    fn sync_dir_of(&mut self, path: &Path) -> Result<(), BlockError> {
        self.synced(|commit| {
            let dir = parent_dir(path);
            commit.host.sync_dir(dir).map_err(|source| BlockError::io("sync the directory", dir, source))
        })
    }

    fn journal_file(&self) -> Result<&dyn HostFile, BlockError> {
        self.journal.as_deref().ok_or_else(|| BlockError::Failed { first: "the journal is not open".into() })
    }

    fn write_journal(&self, bytes: &[u8], offset: u64) -> Result<(), BlockError> {
        self.journal_file()?
            .write_all_at(bytes, offset)
            .map_err(|source| BlockError::io("write", &self.journal_path, source))
    }

    fn sync_journal(&mut self) -> Result<(), BlockError> {
        self.synced(|commit| {
            commit
                .journal_file()?
                .sync()
                .map_err(|source| BlockError::io("sync", &commit.journal_path, source))
        })
    }

    /// Reads all new and all old bytes once: the new ones into the spool, the old ones into the journal, which
    /// is complete and durable at the end, but not hot. No image byte changes.
    fn prepare(&mut self) -> Result<(), BlockError> {
        let entries: Vec<ImageEntry> = self
            .units
            .iter()
            .map(|unit| ImageEntry {
                path: unit.image.path().to_owned(),
                inode: unit.image.shared().metadata.inode,
                old_len: unit.plan.old_len,
                new_len: unit.plan.new_len,
            })
            .collect();
        let table = format::encode_images(&entries);
        let records_offset = IMAGES_OFFSET + table.len() as u64;
        self.journal = Some(
            self.host
                .create(&self.journal_path, 0o600)
                .map_err(|source| BlockError::io("create", &self.journal_path, source))?,
        );
        self.journal_file()?
            .allocate(records_offset + self.most_record_bytes() + format::outcome_len(entries.len()) as u64)
            .map_err(|source| BlockError::io("reserve room for", &self.journal_path, source))?;
        let (records_len, records_sum) = self.write_records(records_offset)?;
        self.write_journal(&table, IMAGES_OFFSET)?;
        let header = Header {
            id: self.id,
            image_count: entries.len() as u32,
            images_len: table.len() as u64,
            record_count: self.records.len() as u64,
            records_len,
            images_sum: crc32c::crc32c(&table),
            records_sum,
        };
        self.write_journal(&header.encode(), 0)?;
        self.journal_len = header.outcome_offset();
        self.sync_journal()?;
        let first = self.journal_path.clone();
        self.sync_dir_of(&first)?;
        self.write_pointers()
    }

    /// Upper bound: pieces whose bytes do not change get no record.
    fn most_record_bytes(&self) -> u64 {
        let pieces = |len: u64| len.div_ceil(MAX_RECORD_BYTES as u64);
        self.units
            .iter()
            .flat_map(|unit| unit.plan.writes.iter().map(move |write| (write, unit.plan.old_len)))
            .map(|(write, old_len)| {
                let kept = old_len.saturating_sub(write.host_offset).min(write.len());
                kept + pieces(write.len()) * RECORD_HEAD_BYTES as u64
            })
            .sum()
    }

    /// Returns the length of all records and the sum over them.
    fn write_records(&mut self, records_offset: u64) -> Result<(u64, u32), BlockError> {
        // The units are out of `self` meanwhile, so that it can be changed.
        let units = std::mem::take(&mut self.units);
        let written = self.write_records_of(&units, records_offset);
        self.units = units;
        written
    }

    fn write_records_of(
        &mut self,
        units: &[CommitUnit],
        records_offset: u64,
    ) -> Result<(u64, u32), BlockError> {
        let mut at = records_offset;
        let mut sum = 0;
        let mut new = Vec::new();
        let mut old = Vec::new();
        for (number, unit) in units.iter().enumerate() {
            let (image, plan) = (unit.image.shared(), &unit.plan);
            for write in &plan.writes {
                let mut skip = 0;
                while skip < write.len() {
                    let step = (write.len() - skip).min(MAX_RECORD_BYTES as u64);
                    let host_offset = write.host_offset + skip;
                    let kept = plan.old_len.saturating_sub(host_offset).min(step);
                    new.resize(step as usize, 0);
                    old.resize(kept as usize, 0);
                    plan.read_source(write, skip, &mut new)?;
                    if kept > 0 {
                        image.read_exact_at(&mut old, host_offset)?;
                    }
                    skip += step;
                    self.advance(step);
                    if new == old {
                        continue;
                    }
                    let record = Record {
                        image: number as u32,
                        new_len: step as u32,
                        host_offset,
                        old_len: kept as u32,
                        old_sum: crc32c::crc32c(&old),
                        new_sum: crc32c::crc32c(&new),
                    };
                    let head = record.encode();
                    self.write_journal(&head, at)?;
                    self.write_journal(&old, at + RECORD_HEAD_BYTES as u64)?;
                    sum = crc32c::crc32c_append(crc32c::crc32c_append(sum, &head), &old);
                    at += RECORD_HEAD_BYTES as u64 + kept;
                    let slot = self.spool.append(&new)?;
                    self.records.push((record, slot));
                    if self.records.len() as u64 > MAX_RECORDS {
                        return Err(BlockError::BadPlan(format!("more than {MAX_RECORDS} pieces to write")));
                    }
                }
            }
        }
        Ok((at - records_offset, sum))
    }

    /// Beside every image but the first: where the journal is.
    fn write_pointers(&mut self) -> Result<(), BlockError> {
        for number in 1..self.units.len() {
            let path = journal_path(self.units[number].image.path());
            self.pointers.push(path.clone());
            self.synced(|commit| {
                write_pointer(commit.host.as_ref(), &path, &commit.id, &commit.journal_path)
            })?;
        }
        Ok(())
    }

    /// Removes the journal that is not hot and the pointers to it.
    fn discard(&mut self) -> Result<(), BlockError> {
        if self.journal.take().is_some() {
            remove_durably(self.host.as_ref(), &self.journal_path)?;
        }
        for pointer in &self.pointers {
            remove_durably(self.host.as_ref(), pointer)?;
        }
        Ok(())
    }

    /// From here on recovery rolls back.
    fn make_hot(&mut self) -> Result<(), BlockError> {
        for image in self.images() {
            image.close();
        }
        self.write_journal(&format::encode_mark(&self.id), MARK_OFFSET)?;
        self.sync_journal()
    }

    fn write_images(&mut self) -> Result<(), BlockError> {
        for unit in &self.units {
            if unit.plan.new_len != unit.plan.old_len {
                let image = unit.image.shared();
                image
                    .file
                    .set_len(unit.plan.new_len)
                    .map_err(|source| BlockError::io("set the length", &image.path, source))?;
            }
        }
        let mut buf = Vec::new();
        for index in 0..self.records.len() {
            let (record, slot) = self.records[index];
            buf.resize(record.new_len as usize, 0);
            self.spool.read(slot, &mut buf)?;
            let image = self.units[record.image as usize].image.shared();
            image
                .file
                .write_all_at(&buf, record.host_offset)
                .map_err(|source| BlockError::io("write", &image.path, source))?;
            self.advance(u64::from(record.new_len));
        }
        self.synced(|commit| {
            for image in commit.images() {
                image.file.sync().map_err(|source| BlockError::io("sync", &image.path, source))?;
            }
            Ok(())
        })
    }

    /// Ends the commit by taking the journal away; with `keep`, by giving it another name.
    fn finish(&mut self, keep: Option<&Path>) -> Result<Option<PathBuf>, BlockError> {
        let Some(keep) = keep else {
            self.journal = None;
            self.take_away(|commit| {
                commit
                    .host
                    .remove(&commit.journal_path)
                    .map_err(|source| BlockError::io("remove", &commit.journal_path, source))
            })?;
            return Ok(None);
        };
        let mut modified = Vec::new();
        for image in self.images() {
            let metadata =
                image.file.metadata().map_err(|source| BlockError::io("inspect", &image.path, source))?;
            modified.push(metadata.modified);
        }
        let outcome = format::encode_outcome(&self.id, &modified);
        self.write_journal(&outcome, self.journal_len)?;
        self.sync_journal()?;
        let renamed = self.host.rename_new(&self.journal_path, keep);
        match renamed {
            Ok(()) => self.sync_dir_of(keep).map_err(|cause| commit_error(cause, ImageState::Written))?,
            Err(error) if error.kind() == std::io::ErrorKind::CrossesDevices => self.copy_journal(keep)?,
            Err(source) => return Err(BlockError::io("keep the undo file", keep, source)),
        }
        self.take_away(|commit| remove_if_there(commit.host.as_ref(), &commit.journal_path))?;
        self.journal = None;
        Ok(Some(keep.to_owned()))
    }

    /// The commit counts as done when `remove` is durable. An error behind `remove` leaves the new bytes.
    fn take_away(&mut self, remove: impl FnOnce(&Self) -> Result<(), BlockError>) -> Result<(), BlockError> {
        remove(self)?;
        let journal = self.journal_path.clone();
        self.sync_dir_of(&journal).map_err(|cause| commit_error(cause, ImageState::Written))?;
        for pointer in std::mem::take(&mut self.pointers) {
            remove_if_there(self.host.as_ref(), &pointer)
                .map_err(|cause| commit_error(cause, ImageState::Written))?;
        }
        Ok(())
    }

    /// The undo file lies on another filesystem.
    fn copy_journal(&mut self, keep: &Path) -> Result<(), BlockError> {
        let target =
            self.host.create(keep, 0o600).map_err(|source| BlockError::io("create", keep, source))?;
        let len = self.journal_len + format::outcome_len(self.units.len()) as u64;
        let copied = self.copy_to(target.as_ref(), len, keep);
        if copied.is_err() {
            // The first error counts; a half-made undo file would only mislead.
            let _ = self.host.remove(keep);
        }
        copied?;
        self.sync_dir_of(keep)
    }

    fn copy_to(&mut self, target: &dyn HostFile, len: u64, keep: &Path) -> Result<(), BlockError> {
        copy_bytes((self.journal_file()?, &self.journal_path, 0), (target, keep, 0), len)?;
        self.synced(|_| target.sync().map_err(|source| BlockError::io("sync", keep, source)))
    }

    /// After an error with a hot journal: rolls back at once when that is possible.
    fn undo_now(&mut self, cause: BlockError) -> BlockError {
        if matches!(cause, BlockError::Commit { .. }) {
            return cause;
        }
        let state = match self.try_roll_back() {
            Ok(()) => ImageState::RolledBack,
            Err(error) => ImageState::NeedsRecovery(error.to_string()),
        };
        commit_error(cause, state)
    }

    fn try_roll_back(&mut self) -> Result<(), BlockError> {
        let Some(journal) = Journal::open(self.host.as_ref(), &self.journal_path)? else {
            // The mark never reached the file: no image byte was written.
            return self.discard();
        };
        let files: Vec<(usize, &dyn HostFile)> =
            self.images().map(|image| image.file.as_ref()).enumerate().collect();
        roll_back(self.host.as_ref(), &journal, &files).map(drop)
    }
}

/// Makes a durable pointer file.
pub(crate) fn write_pointer(
    host: &dyn Host,
    path: &Path,
    id: &UnitId,
    journal: &Path,
) -> Result<(), BlockError> {
    let file = host.create(path, 0o600).map_err(|source| BlockError::io("create", path, source))?;
    file.write_all_at(&format::encode_pointer(id, journal), 0)
        .map_err(|source| BlockError::io("write", path, source))?;
    file.sync().map_err(|source| BlockError::io("sync", path, source))?;
    let dir = parent_dir(path);
    host.sync_dir(dir).map_err(|source| BlockError::io("sync the directory", dir, source))
}

/// Copies `len` bytes between two files, each given with its path and the place to start at.
pub(crate) fn copy_bytes(
    (source, source_path, source_at): (&dyn HostFile, &Path, u64),
    (target, target_path, target_at): (&dyn HostFile, &Path, u64),
    len: u64,
) -> Result<(), BlockError> {
    let mut buf = vec![0; MAX_RECORD_BYTES];
    let mut done = 0;
    while done < len {
        let step = (len - done).min(buf.len() as u64) as usize;
        let piece = &mut buf[..step];
        source
            .read_exact_at(piece, source_at + done)
            .map_err(|error| BlockError::io("read", source_path, error))?;
        target
            .write_all_at(piece, target_at + done)
            .map_err(|error| BlockError::io("write", target_path, error))?;
        done += step as u64;
    }
    Ok(())
}
