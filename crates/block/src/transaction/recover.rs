//! Bringing the images of an interrupted commit back to their old bytes.

use std::path::{Path, PathBuf};

use super::format::Record;
use super::journal::{Journal, check_identity, fault, has_pointer, journal_path, parent_dir};
use crate::lock::LockOutcome;
use crate::{Access, BlockError, Host, HostFile};

/// What a rollback did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveryReport {
    /// The journal that was rolled back; it is gone now.
    pub journal: PathBuf,
    /// All images of the unit, now as they were before the interrupted commit.
    pub images: Vec<PathBuf>,
    /// Bytes that differed and were written back.
    pub restored_bytes: u64,
}

/// An image of the unit, open for writing and locked.
enum Member<'f> {
    Caller(&'f dyn HostFile),
    Opened(Box<dyn HostFile>),
}

impl Member<'_> {
    fn file(&self) -> &dyn HostFile {
        match self {
            Member::Caller(file) => *file,
            Member::Opened(file) => file.as_ref(),
        }
    }
}

/// Restores all images that `journal` names and removes it. `ours` are the images that the caller has open and
/// locked already, by their number in the journal; the others are opened and locked here.
pub(crate) fn roll_back(
    host: &dyn Host,
    journal: &Journal,
    ours: &[(usize, &dyn HostFile)],
) -> Result<RecoveryReport, BlockError> {
    // The whole journal is verified before the first image byte is written.
    journal.for_each_record(|_, _, _| Ok(()))?;
    let mut members = Vec::new();
    for number in 0..journal.images.len() {
        members.push(match ours.iter().find(|(ours, _)| *ours == number) {
            Some((_, file)) => Member::Caller(*file),
            None => Member::Opened(open_member(host, journal, number)?),
        });
    }
    let mut restored_bytes = 0;
    let mut current = Vec::new();
    journal.for_each_record(|record, pre_image, _| {
        let Some(member) = members.get(record.image as usize) else { return Ok(()) };
        restored_bytes += restore(
            member.file(),
            &journal.image_path(record.image as usize),
            record,
            pre_image,
            &mut current,
        )?;
        Ok(())
    })?;
    for (number, (member, entry)) in members.iter().zip(&journal.images).enumerate() {
        let path = journal.image_path(number);
        let file = member.file();
        let len = file.metadata().map_err(|source| BlockError::io("inspect", &path, source))?.len;
        if len != entry.old_len {
            file.set_len(entry.old_len).map_err(|source| BlockError::io("set the length", &path, source))?;
        }
        file.sync().map_err(|source| BlockError::io("sync", &path, source))?;
    }
    remove_files(host, journal)?;
    Ok(RecoveryReport {
        journal: journal.path.clone(),
        images: (0..journal.images.len()).map(|number| journal.image_path(number)).collect(),
        restored_bytes,
    })
}

fn open_member(host: &dyn Host, journal: &Journal, number: usize) -> Result<Box<dyn HostFile>, BlockError> {
    let path = journal.image_path(number);
    let missing = |detail: String| fault(&journal.path, "transaction.journal.image-missing", detail);
    if number > 0 && !has_pointer(host, &path, &journal.header.id)? {
        // Without it anybody's journal could name any file of this user.
        return Err(missing(format!("{} has no pointer to this journal beside it", path.display())));
    }
    let file = host
        .open(&path, Access::Write)
        .map_err(|source| missing(format!("its image {} cannot be opened: {source}", path.display())))?;
    match file.lock(Access::Write).map_err(|source| BlockError::io("lock", &path, source))? {
        LockOutcome::Held | LockOutcome::NotSupported => {}
        LockOutcome::InUse(detail) => return Err(BlockError::InUse { path, detail }),
    }
    let metadata = file.metadata().map_err(|source| BlockError::io("inspect", &path, source))?;
    check_identity(journal, number, &metadata)?;
    Ok(file)
}

/// Writes only what differs: a hole that the commit never reached stays one, so that a full host can roll back.
fn restore(
    file: &dyn HostFile,
    path: &Path,
    record: &Record,
    pre_image: &[u8],
    current: &mut Vec<u8>,
) -> Result<u64, BlockError> {
    const STEP: usize = 4096;
    current.resize(pre_image.len(), 0);
    file.read_exact_at(current, record.host_offset).map_err(|source| BlockError::io("read", path, source))?;
    let mut written = 0;
    let mut at = record.host_offset;
    for (old, now) in pre_image.chunks(STEP).zip(current.chunks(STEP)) {
        if old != now {
            file.write_all_at(old, at).map_err(|source| BlockError::io("write", path, source))?;
            written += old.len() as u64;
        }
        at += old.len() as u64;
    }
    Ok(written)
}

/// Removes the journal, then the pointers to it. The removal of the journal ends the rollback.
fn remove_files(host: &dyn Host, journal: &Journal) -> Result<(), BlockError> {
    remove_durably(host, &journal.path)?;
    for number in 1..journal.images.len() {
        remove_if_there(host, &journal_path(&journal.image_path(number)))?;
    }
    Ok(())
}

/// Removes a file that may be gone already. After a power failure it may be back, which does no harm when it is a
/// pointer to a journal that is gone.
pub(crate) fn remove_if_there(host: &dyn Host, path: &Path) -> Result<(), BlockError> {
    match host.remove(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(BlockError::io("remove", path, source))
        }
        _ => Ok(()),
    }
}

/// Removes a file that may be gone already; it stays gone.
pub(crate) fn remove_durably(host: &dyn Host, path: &Path) -> Result<(), BlockError> {
    remove_if_there(host, path)?;
    let dir = parent_dir(path);
    host.sync_dir(dir).map_err(|source| BlockError::io("sync the directory", dir, source))
}
