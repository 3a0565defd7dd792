//! Bringing back the bytes from before a commit that kept an undo file.
//!
//! Undoing makes the undo file a hot journal again and rolls back: killed at any point, the next opening of the
//! image either finds no hot journal (new bytes) or rolls back (old bytes).

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use report::{Event, Progress};

use super::commit::{copy_bytes, new_unit_id, write_pointer};
use super::format::{self, FileStart, Header, IMAGES_OFFSET, ImageEntry, MARK_OFFSET};
use super::journal::{Journal, fault, journal_path, parent_dir};
use super::recover::{remove_durably, remove_if_there, roll_back};
use crate::image::Shared;
use crate::{Access, BlockError, Host, HostFile, ImageFile, ImageState, ReadAt, SystemHost};

/// What an undo did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UndoReport {
    /// All images of the unit.
    pub images: Vec<PathBuf>,
    /// Bytes that differed and were written back; 0 when the images held the old bytes already.
    pub restored_bytes: u64,
    /// The undo file. It is gone, unless nothing had to be restored.
    pub undo_file: PathBuf,
}

/// Name of an undo file when none is given: the image's name with `.coldfit-undo` behind it.
pub fn default_undo_path(image: &Path) -> PathBuf {
    let mut name = OsString::from(image.as_os_str());
    name.push(".coldfit-undo");
    PathBuf::from(name)
}

/// Restores the bytes from before the commit that wrote `undo_file` (default: [`default_undo_path`]).
///
/// Refused when an image of the unit was changed since. All images of the unit are restored.
pub fn undo(
    image: &Path,
    undo_file: Option<&Path>,
    progress: &dyn Progress,
) -> Result<UndoReport, BlockError> {
    undo_on(Arc::new(SystemHost), image, undo_file, progress)
}

/// [`undo`] on a given host.
pub fn undo_on(
    host: Arc<dyn Host>,
    image: &Path,
    undo_file: Option<&Path>,
    progress: &dyn Progress,
) -> Result<UndoReport, BlockError> {
    let opened = ImageFile::open_on(Arc::clone(&host), image, Access::Write, progress)?;
    let undo_path = undo_file.map_or_else(|| default_undo_path(opened.path()), Path::to_owned);
    let undo = match open_undo_file(host.as_ref(), &undo_path) {
        Ok(undo) => undo,
        Err(error) => {
            // An undo that was interrupted at its very end was finished by opening the image.
            return match opened.recovered() {
                Some(report) => Ok(UndoReport {
                    images: report.images.clone(),
                    restored_bytes: report.restored_bytes,
                    undo_file: undo_path,
                }),
                None => Err(error),
            };
        }
    };
    let outcome = undo.outcome()?.ok_or_else(|| {
        fault(&undo_path, "transaction.undo.unfinished", "the commit that wrote it never ended")
    })?;
    let images = open_unit(&host, &undo, opened, progress)?;
    let paths: Vec<PathBuf> = images.iter().map(|image| image.path().to_owned()).collect();
    let shared: Vec<&Shared> = images.iter().map(|image| image.shared().as_ref()).collect();
    progress.event(Event::Stage { name: "undo", total: Some(undo.header.records_len) });
    match state_of(&undo, &shared, &outcome)? {
        UnitState::Old => {
            return Ok(UndoReport { images: paths, restored_bytes: 0, undo_file: undo_path });
        }
        UnitState::New => {}
        UnitState::Changed { image, what } => {
            let path = paths.get(image).cloned().unwrap_or_default();
            return Err(fault(
                &path,
                "transaction.undo.changed",
                format!("changed since the commit: {what}"),
            ));
        }
    }
    let journal_path = journal_path(&paths[0]);
    let pointers: Vec<PathBuf> =
        paths.iter().skip(1).map(|path| super::journal::journal_path(path)).collect();
    if let Err(cause) = write_journal(host.as_ref(), &undo, &shared, &journal_path, &pointers) {
        let mut state = ImageState::Untouched;
        for path in std::iter::once(&journal_path).chain(&pointers) {
            if let Err(error) = remove_durably(host.as_ref(), path) {
                state = ImageState::UntouchedWithLeftover(error.to_string());
            }
        }
        return Err(BlockError::Commit { cause: Box::new(cause), state });
    }
    for image in &shared {
        image.close();
    }
    let files: Vec<(usize, &dyn HostFile)> =
        shared.iter().map(|image| image.file.as_ref()).enumerate().collect();
    let restored = Journal::open(host.as_ref(), &journal_path).and_then(|journal| match journal {
        Some(journal) => roll_back(host.as_ref(), &journal, &files),
        None => Err(fault(&journal_path, "transaction.journal.damaged", "disappeared")),
    });
    let report = restored.map_err(|cause| BlockError::Commit {
        state: ImageState::NeedsRecovery("the undo stopped halfway".into()),
        cause: Box::new(cause),
    })?;
    // Should a power failure bring it back, it is recognised as done.
    remove_if_there(host.as_ref(), &undo_path)?;
    Ok(UndoReport { images: paths, restored_bytes: report.restored_bytes, undo_file: undo_path })
}

fn open_undo_file(host: &dyn Host, path: &Path) -> Result<Journal, BlockError> {
    let resolved = host.resolve(path).map_err(|source| BlockError::io("open", path, source))?;
    let file = host.open(&resolved, Access::Read).map_err(|source| BlockError::io("open", path, source))?;
    let mut magic = [0; 8];
    if file.read_exact_at(&mut magic, 0).is_err() || format::classify(&magic) != FileStart::Journal {
        return Err(fault(path, "transaction.undo.kind", "is no undo file"));
    }
    Journal::open(host, &resolved)?
        .ok_or_else(|| fault(path, "transaction.undo.unfinished", "is no finished undo file"))
}

/// Opens the other images of the unit; returns all in the order of the undo file.
fn open_unit(
    host: &Arc<dyn Host>,
    undo: &Journal,
    opened: ImageFile,
    progress: &dyn Progress,
) -> Result<Vec<ImageFile>, BlockError> {
    let inode = opened.shared().metadata.inode;
    let ours = if undo.images.len() == 1 {
        // A single image may have been moved.
        Some(0)
    } else {
        undo.images
            .iter()
            .position(|entry| entry.path == opened.path())
            .or_else(|| undo.images.iter().position(|entry| entry.inode == inode))
    };
    let Some(ours) = ours else {
        let path = opened.path().display();
        return Err(fault(&undo.path, "transaction.undo.other-image", format!("does not name {path}")));
    };
    let mut opened = Some(opened);
    let mut images = Vec::new();
    for (number, entry) in undo.images.iter().enumerate() {
        match opened.take_if(|_| number == ours) {
            Some(image) => images.push(image),
            None => images.push(ImageFile::open_on(Arc::clone(host), &entry.path, Access::Write, progress)?),
        }
    }
    Ok(images)
}

/// How the images stand against an undo file.
enum UnitState {
    /// As before the commit.
    Old,
    /// As the commit left them.
    New,
    Changed {
        image: usize,
        what: String,
    },
}

fn state_of(undo: &Journal, images: &[&Shared], outcome: &[(i64, u32)]) -> Result<UnitState, BlockError> {
    let mut is_old = true;
    let mut changed: Option<(usize, String)> = None;
    for (number, ((image, entry), modified)) in images.iter().zip(&undo.images).zip(outcome).enumerate() {
        is_old &= image.len() == entry.old_len;
        if image.len() != entry.new_len {
            let what = format!("it has {} bytes, the commit left {}", image.len(), entry.new_len);
            changed.get_or_insert((number, what));
        } else if image.metadata.modified != *modified {
            changed.get_or_insert((number, "it was written to at another time".into()));
        }
    }
    let mut current = Vec::new();
    undo.for_each_record(|record, pre_image, _| {
        let number = record.image as usize;
        let Some(image) = images.get(number) else { return Ok(()) };
        let within = image.len().saturating_sub(record.host_offset).min(u64::from(record.new_len));
        current.resize(within as usize, 0);
        image.read_raw(&mut current, record.host_offset)?;
        is_old &= current.get(..pre_image.len()) == Some(pre_image);
        if within != u64::from(record.new_len) || crc32c::crc32c(&current) != record.new_sum {
            let what = format!("{} bytes at {} are different", record.new_len, record.host_offset);
            // More telling than the time.
            if changed.as_ref().is_none_or(|(_, what)| what.ends_with("another time")) {
                changed = Some((number, what));
            }
        }
        Ok(())
    })?;
    Ok(match changed {
        None => UnitState::New,
        Some(_) if is_old => UnitState::Old,
        Some((image, what)) => UnitState::Changed { image, what },
    })
}

/// Makes a hot journal with the records of `undo` for the images as they are named now.
fn write_journal(
    host: &dyn Host,
    undo: &Journal,
    images: &[&Shared],
    path: &Path,
    pointers: &[PathBuf],
) -> Result<(), BlockError> {
    let entries: Vec<ImageEntry> = images
        .iter()
        .zip(&undo.images)
        .map(|(image, entry)| ImageEntry {
            path: image.path.clone(),
            inode: image.metadata.inode,
            old_len: entry.old_len,
            new_len: entry.new_len,
        })
        .collect();
    let table = format::encode_images(&entries);
    let id = new_unit_id();
    let header = Header {
        id,
        images_len: table.len() as u64,
        images_sum: crc32c::crc32c(&table),
        ..undo.header.clone()
    };
    let file = host.create(path, 0o600).map_err(|source| BlockError::io("create", path, source))?;
    let write = |bytes: &[u8], offset| {
        file.write_all_at(bytes, offset).map_err(|source| BlockError::io("write", path, source))
    };
    let sync = || file.sync().map_err(|source| BlockError::io("sync", path, source));
    file.allocate(header.outcome_offset())
        .map_err(|source| BlockError::io("reserve room for", path, source))?;
    write(&header.encode(), 0)?;
    write(&table, IMAGES_OFFSET)?;
    copy_bytes(
        (undo.file.as_ref(), &undo.path, undo.header.records_offset()),
        (file.as_ref(), path, header.records_offset()),
        header.records_len,
    )?;
    sync()?;
    let dir = parent_dir(path);
    host.sync_dir(dir).map_err(|source| BlockError::io("sync the directory", dir, source))?;
    for pointer in pointers {
        write_pointer(host, pointer, &id, path)?;
    }
    write(&format::encode_mark(&id), MARK_OFFSET)?;
    sync()
}
