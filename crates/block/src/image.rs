//! An image file: resolved, locked, and recovered before the first byte is read.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use report::{Event, Progress};

use crate::device::{check_range, one_extent};
use crate::lock::LockOutcome;
use crate::transaction::journal::{Beside, Journal, look_beside};
use crate::transaction::recover::{RecoveryReport, remove_durably, roll_back};
use crate::{
    Access, BlockError, Extent, ExtentState, Host, HostFile, HostFileKind, HostMetadata, ReadAt, SystemHost,
};

/// An image file, open and locked.
///
/// With [`Access::Write`] an interrupted commit was rolled back on opening; with [`Access::Read`] nothing on the
/// host is written, and every read sees the bytes from before the interrupted commit.
pub struct ImageFile {
    shared: Arc<Shared>,
    recovered: Option<RecoveryReport>,
}

pub(crate) struct Shared {
    pub host: Arc<dyn Host>,
    pub file: Box<dyn HostFile>,
    pub path: PathBuf,
    pub access: Access,
    pub metadata: HostMetadata,
    len: u64,
    view: Option<RolledBackView>,
    closed: AtomicBool,
}

/// Pre-images of an interrupted commit, read in place of the bytes in the image.
struct RolledBackView {
    journal: Box<Journal>,
    /// Sorted by host offset, disjoint.
    pieces: Vec<Piece>,
}

#[derive(Clone, Copy)]
struct Piece {
    host_offset: u64,
    len: u64,
    journal_offset: u64,
}

impl ImageFile {
    /// Opens and locks an image, and deals with what an interrupted commit left beside it.
    pub fn open(path: &Path, access: Access, progress: &dyn Progress) -> Result<Self, BlockError> {
        Self::open_on(Arc::new(SystemHost), path, access, progress)
    }

    /// [`ImageFile::open`] on a given host.
    pub fn open_on(
        host: Arc<dyn Host>,
        path: &Path,
        access: Access,
        progress: &dyn Progress,
    ) -> Result<Self, BlockError> {
        let path = host.resolve(path).map_err(|source| BlockError::io("open", path, source))?;
        let operation = if access == Access::Write { "open for writing" } else { "open" };
        let file = host.open(&path, access).map_err(|source| BlockError::io(operation, &path, source))?;
        let inspect =
            |file: &dyn HostFile| file.metadata().map_err(|source| BlockError::io("inspect", &path, source));
        check_kind(inspect(file.as_ref())?.kind, &path, access)?;
        match file.lock(access).map_err(|source| BlockError::io("lock", &path, source))? {
            LockOutcome::Held => {}
            LockOutcome::InUse(detail) => return Err(BlockError::InUse { path, detail }),
            LockOutcome::NotSupported => progress.event(Event::Note {
                text: &format!(
                    "{}: its filesystem has no byte-range locks, so nothing keeps other programs out",
                    path.display()
                ),
            }),
        }
        // What was read before the lock was held may be out of date.
        let metadata = inspect(file.as_ref())?;
        let named = host.open(&path, Access::Read).and_then(|file| file.metadata());
        if !named.is_ok_and(|named| (named.device, named.inode) == (metadata.device, metadata.inode)) {
            return Err(BlockError::InUse { path, detail: "another program replaced it just now".into() });
        }
        let mut recovered = None;
        let mut view = None;
        let mut len = metadata.len;
        match look_beside(host.as_ref(), &path, &metadata)? {
            Beside::Nothing => {}
            Beside::Leftover(leftover) => {
                if access == Access::Write {
                    remove_durably(host.as_ref(), &leftover)?;
                }
            }
            Beside::Hot { journal, image } if access == Access::Write => {
                let report = roll_back(host.as_ref(), &journal, &[(image, file.as_ref())])?;
                progress.event(Event::Note {
                    text: &format!("{}: an interrupted commit was rolled back", path.display()),
                });
                recovered = Some(report);
                len = inspect(file.as_ref())?.len;
            }
            Beside::Hot { journal, image } => {
                progress.event(Event::Note {
                    text: &format!(
                        "{}: a commit was interrupted; this shows the bytes from before it",
                        path.display()
                    ),
                });
                len = journal.images.get(image).map_or(len, |entry| entry.old_len);
                view = Some(RolledBackView::new(journal, image)?);
            }
        }
        let closed = AtomicBool::new(false);
        let shared = Arc::new(Shared { host, file, path, access, metadata, len, view, closed });
        Ok(Self { shared, recovered })
    }

    /// Resolved host path.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// What it was opened for.
    pub fn access(&self) -> Access {
        self.shared.access
    }

    /// The rollback that opening did; `None` when there was nothing to roll back.
    pub fn recovered(&self) -> Option<&RecoveryReport> {
        self.recovered.as_ref()
    }

    /// True when reads see the bytes from before an interrupted commit, by way of its journal.
    pub fn is_rolled_back_view(&self) -> bool {
        self.shared.view.is_some()
    }

    /// The same image for a driver or an overlay. It keeps the file open; once a commit starts to write, every
    /// read fails.
    pub fn reader(&self) -> Arc<dyn ReadAt> {
        Arc::clone(&self.shared) as Arc<dyn ReadAt>
    }

    /// What a copy needs beside the bytes: the operating system's file, and whether it stayed as it was.
    pub fn handle(&self) -> ImageHandle {
        ImageHandle { shared: Arc::clone(&self.shared) }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

/// An open image file for those that copy it; keeps the file open and locked.
#[derive(Clone)]
pub struct ImageHandle {
    shared: Arc<Shared>,
}

impl ImageHandle {
    /// Resolved host path.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// The file of the operating system; `None` where its bytes are not what a reader sees: behind a view of an
    /// interrupted commit, and on a simulated host.
    pub fn system_file(&self) -> Option<&std::fs::File> {
        match self.shared.view {
            Some(_) => None,
            None => self.shared.file.system_file(),
        }
    }

    /// Facts from when the file was opened and locked.
    pub fn metadata(&self) -> HostMetadata {
        self.shared.metadata
    }

    /// Fails when length, content or inode of the file changed since it was locked: whoever did it did not ask for
    /// the lock, and what was read is a mixture.
    pub fn check_unchanged(&self) -> Result<(), BlockError> {
        let path = &self.shared.path;
        let now = self.shared.file.metadata().map_err(|source| BlockError::io("inspect", path, source))?;
        match now == self.shared.metadata {
            true => Ok(()),
            false => Err(BlockError::Changed { path: path.clone() }),
        }
    }
}

fn check_kind(kind: HostFileKind, path: &Path, access: Access) -> Result<(), BlockError> {
    let refuse = |reason| Err(BlockError::NotAnImageFile { path: path.to_owned(), reason });
    match (kind, access) {
        (HostFileKind::Regular, _) | (HostFileKind::BlockDevice, Access::Read) => Ok(()),
        (HostFileKind::BlockDevice, Access::Write) => refuse(
            "a block device is not committed to in place: beside it a journal would not outlive a crash",
        ),
        (HostFileKind::Other, _) => refuse("it is neither a regular file nor a block device"),
    }
}

impl ReadAt for ImageFile {
    fn len(&self) -> u64 {
        self.shared.len
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<(), BlockError> {
        self.shared.read_exact_at(buf, offset)
    }

    fn extents(&self, range: Range<u64>) -> Result<Vec<Extent>, BlockError> {
        self.shared.extents(range)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Closing would do, were it not for children between fork and exec that share the lock for a moment.
        let _ = self.file.unlock();
    }
}

impl Shared {
    /// From now on nobody reads: the bytes are about to change.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub(crate) fn has_view(&self) -> bool {
        self.view.is_some()
    }

    /// The name of a layer in range errors.
    fn layer(&self) -> String {
        self.path.display().to_string()
    }

    fn check_open(&self) -> Result<(), BlockError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(BlockError::Failed {
                first: format!("{} was committed: open it anew", self.layer()),
            });
        }
        Ok(())
    }

    /// Reads while a commit runs, past [`Shared::close`].
    pub(crate) fn read_raw(&self, buf: &mut [u8], offset: u64) -> Result<(), BlockError> {
        self.file.read_exact_at(buf, offset).map_err(|source| BlockError::io("read", &self.path, source))
    }
}

impl ReadAt for Shared {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<(), BlockError> {
        let wanted = buf.len() as u64;
        match offset.checked_add(wanted) {
            Some(end) if end <= self.len => {}
            _ => check_range(&self.layer(), offset, wanted, self.len)?,
        }
        self.check_open()?;
        self.read_raw(buf, offset)?;
        if let Some(view) = &self.view {
            view.read_over(buf, offset)?;
        }
        // A commit that began meanwhile may have changed what was read.
        self.check_open()
    }

    fn extents(&self, range: Range<u64>) -> Result<Vec<Extent>, BlockError> {
        check_range(&self.layer(), range.start, range.end.saturating_sub(range.start), self.len)?;
        self.check_open()?;
        if self.view.is_some() {
            return Ok(one_extent(range, ExtentState::Data));
        }
        self.file.extents(range)
    }
}

impl RolledBackView {
    fn new(journal: Box<Journal>, image: usize) -> Result<Self, BlockError> {
        let mut pieces = Vec::new();
        journal.for_each_record(|record, pre_image, journal_offset| {
            if record.image as usize == image && !pre_image.is_empty() {
                let len = pre_image.len() as u64;
                pieces.push(Piece { host_offset: record.host_offset, len, journal_offset });
            }
            Ok(())
        })?;
        pieces.sort_by_key(|piece| piece.host_offset);
        Ok(Self { journal, pieces })
    }

    /// Replaces the parts of `buf`, read from `offset`, of which the journal holds pre-images.
    fn read_over(&self, buf: &mut [u8], offset: u64) -> Result<(), BlockError> {
        let end = offset + buf.len() as u64;
        let first = self.pieces.partition_point(|piece| piece.host_offset + piece.len <= offset);
        for piece in self.pieces.iter().skip(first).take_while(|piece| piece.host_offset < end) {
            let from = piece.host_offset.max(offset);
            let to = (piece.host_offset + piece.len).min(end);
            if from >= to {
                continue;
            }
            let target = &mut buf[(from - offset) as usize..(to - offset) as usize];
            self.journal.read(target, piece.journal_offset + (from - piece.host_offset))?;
        }
        Ok(())
    }
}
