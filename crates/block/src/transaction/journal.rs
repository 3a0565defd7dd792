//! Finding, verifying and reading the journal beside an image.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::format::{
    self, FileStart, HEADER_BYTES, Header, HeaderFault, IMAGES_OFFSET, ImageEntry, MARK_BYTES, MARK_OFFSET,
    MAX_POINTER_BYTES, RECORD_HEAD_BYTES, Record, UnitId,
};
use crate::{Access, BlockError, Host, HostFile, HostMetadata};

/// The directory that holds `path`.
pub(crate) fn parent_dir(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Name of the journal, or of the pointer to it, beside an image.
pub(crate) fn journal_path(image: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(image.file_name().unwrap_or_default());
    name.push(".coldfit-journal");
    parent_dir(image).join(name)
}

pub(crate) fn fault(path: &Path, code: &'static str, detail: impl Into<String>) -> BlockError {
    BlockError::Journal { path: path.to_owned(), code, detail: detail.into() }
}

fn damaged(path: &Path, detail: impl Into<String>) -> BlockError {
    fault(path, "transaction.journal.damaged", detail)
}

pub(crate) fn open_if_there(
    host: &dyn Host,
    path: &Path,
    access: Access,
) -> Result<Option<Box<dyn HostFile>>, BlockError> {
    match host.open(path, access) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(BlockError::io("open", path, source)),
    }
}

/// A complete journal or undo file, its header and image table verified.
pub(crate) struct Journal {
    pub path: PathBuf,
    pub file: Box<dyn HostFile>,
    pub header: Header,
    pub images: Vec<ImageEntry>,
}

impl Journal {
    /// Opens the file at `path`. `None`: there is none, or it was never finished, so that no image byte was
    /// touched in its name.
    pub(crate) fn open(host: &dyn Host, path: &Path) -> Result<Option<Self>, BlockError> {
        let Some(file) = open_if_there(host, path, Access::Read)? else { return Ok(None) };
        let len = file.metadata().map_err(|source| BlockError::io("inspect", path, source))?.len;
        let read = |buf: &mut [u8], offset| {
            file.read_exact_at(buf, offset).map_err(|source| BlockError::io("read", path, source))
        };
        if len < MARK_OFFSET + MARK_BYTES as u64 {
            return Ok(None);
        }
        let mut mark = [0; MARK_BYTES];
        read(&mut mark, MARK_OFFSET)?;
        // A torn mark counts, too: whoever began to write it had made everything else durable before.
        if mark.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let mut head = [0; HEADER_BYTES];
        read(&mut head, 0)?;
        let header = match Header::parse(&head) {
            Ok(header) => header,
            Err(HeaderFault::Damaged(detail)) => return Err(damaged(path, detail)),
            Err(HeaderFault::Version(version)) => {
                return Err(fault(
                    path,
                    "transaction.journal.version",
                    format!(
                        "journal version {version} is newer than this program: use the one that wrote it"
                    ),
                ));
            }
        };
        if format::parse_mark(&mark).is_some_and(|id| id != header.id) {
            return Err(damaged(path, "the mark belongs to another journal"));
        }
        if header.outcome_offset() > len {
            return Err(damaged(path, format!("{} bytes expected, {len} found", header.outcome_offset())));
        }
        let mut table = vec![0; header.images_len as usize];
        read(&mut table, IMAGES_OFFSET)?;
        if crc32c::crc32c(&table) != header.images_sum {
            return Err(damaged(path, "the image table does not match its sum"));
        }
        let images = format::parse_images(&table, header.image_count)
            .ok_or_else(|| damaged(path, "the image table contradicts itself"))?;
        Ok(Some(Self { path: path.to_owned(), file, header, images }))
    }

    /// Calls `each` with every record, its pre-image and the position of the pre-image in the file; every sum
    /// is checked. The sum over all records is checked at the end: run once without effect first.
    pub(crate) fn for_each_record(
        &self,
        mut each: impl FnMut(&Record, &[u8], u64) -> Result<(), BlockError>,
    ) -> Result<(), BlockError> {
        let mut at = self.header.records_offset();
        let end = self.header.outcome_offset();
        let mut sum = 0;
        let mut pre_image = Vec::new();
        for number in 0..self.header.record_count {
            if end - at < RECORD_HEAD_BYTES as u64 {
                return Err(damaged(&self.path, format!("record {number} is cut off")));
            }
            let mut head = [0; RECORD_HEAD_BYTES];
            self.read(&mut head, at)?;
            at += RECORD_HEAD_BYTES as u64;
            let record = Record::parse(&head, &self.images)
                .filter(|record| u64::from(record.old_len) <= end - at)
                .ok_or_else(|| damaged(&self.path, format!("record {number} is damaged")))?;
            pre_image.resize(record.old_len as usize, 0);
            self.read(&mut pre_image, at)?;
            if crc32c::crc32c(&pre_image) != record.old_sum {
                return Err(damaged(&self.path, format!("the pre-image of record {number} is damaged")));
            }
            sum = crc32c::crc32c_append(crc32c::crc32c_append(sum, &head), &pre_image);
            each(&record, &pre_image, at)?;
            at += u64::from(record.old_len);
        }
        if at != end || sum != self.header.records_sum {
            return Err(damaged(&self.path, "the records do not match their sum"));
        }
        Ok(())
    }

    pub(crate) fn read(&self, buf: &mut [u8], offset: u64) -> Result<(), BlockError> {
        self.file.read_exact_at(buf, offset).map_err(|source| BlockError::io("read", &self.path, source))
    }

    /// When each image was last changed by the commit; only a finished undo file knows.
    pub(crate) fn outcome(&self) -> Result<Option<Vec<(i64, u32)>>, BlockError> {
        let metadata =
            self.file.metadata().map_err(|source| BlockError::io("inspect", &self.path, source))?;
        let outcome_len = format::outcome_len(self.images.len());
        if metadata.len < self.header.outcome_offset() + outcome_len as u64 {
            return Ok(None);
        }
        let mut buf = vec![0; outcome_len];
        self.read(&mut buf, self.header.outcome_offset())?;
        Ok(format::parse_outcome(&buf, &self.header.id))
    }

    /// Paths of all images, the first one beside the journal.
    pub(crate) fn image_path(&self, number: usize) -> PathBuf {
        match (number, self.images.get(number)) {
            (0, Some(image)) => parent_dir(&self.path).join(image.path.file_name().unwrap_or_default()),
            (_, Some(image)) => image.path.clone(),
            (_, None) => PathBuf::new(),
        }
    }
}

/// What lies beside an image.
pub(crate) enum Beside {
    Nothing,
    /// A journal or pointer in whose name no image byte was touched, or whose commit is over.
    Leftover(PathBuf),
    /// A commit was interrupted; the image is number `image` of its unit.
    Hot {
        journal: Box<Journal>,
        image: usize,
    },
}

/// Looks for a journal, or a pointer to one, beside the resolved `image`.
pub(crate) fn look_beside(
    host: &dyn Host,
    image: &Path,
    metadata: &HostMetadata,
) -> Result<Beside, BlockError> {
    let path = journal_path(image);
    let Some(file) = open_if_there(host, &path, Access::Read)? else { return Ok(Beside::Nothing) };
    let found = file.metadata().map_err(|source| BlockError::io("inspect", &path, source))?;
    if !owner_is_trusted(found.owner, metadata.owner) {
        return Err(fault(
            &path,
            "transaction.journal.owner",
            format!("belongs to user {}, the image to user {}: not trusted", found.owner, metadata.owner),
        ));
    }
    let mut start = vec![0; usize::try_from(found.len).unwrap_or(usize::MAX).min(MAX_POINTER_BYTES)];
    file.read_exact_at(&mut start, 0).map_err(|source| BlockError::io("read", &path, source))?;
    let journal = if format::classify(&start) == FileStart::Pointer {
        let target = format::parse_pointer(&start);
        drop(file);
        match target {
            Some((id, journal)) => Journal::open(host, &journal)?.filter(|journal| journal.header.id == id),
            None => None,
        }
    } else {
        Journal::open(host, &path)?
    };
    let Some(journal) = journal else { return Ok(Beside::Leftover(path)) };
    let number = (0..journal.images.len()).find(|number| journal.image_path(*number) == image);
    match number {
        Some(image_number) => {
            check_identity(&journal, image_number, metadata)?;
            Ok(Beside::Hot { journal: Box::new(journal), image: image_number })
        }
        None if journal.path == path => Err(fault(
            &path,
            "transaction.journal.other-image",
            "names other images than the one it lies beside: move it back beside its own",
        )),
        None => Ok(Beside::Leftover(path)),
    }
}

/// The journal's owner could write the image anyway: its owner, root, or the user who runs this.
fn owner_is_trusted(journal_owner: u32, image_owner: u32) -> bool {
    journal_owner == image_owner || journal_owner == 0 || journal_owner == rustix::process::geteuid().as_raw()
}

/// Refuses to bring pre-images into a file that is not the one they came from.
pub(crate) fn check_identity(
    journal: &Journal,
    number: usize,
    metadata: &HostMetadata,
) -> Result<(), BlockError> {
    let Some(entry) = journal.images.get(number) else {
        return Err(damaged(&journal.path, format!("there is no image number {number}")));
    };
    let (shortest, longest) = (entry.old_len.min(entry.new_len), entry.old_len.max(entry.new_len));
    let detail = if entry.inode != metadata.inode {
        format!(
            "was written for inode {}, but {} is inode {}",
            entry.inode,
            entry.path.display(),
            metadata.inode
        )
    } else if metadata.len < shortest || metadata.len > longest {
        format!(
            "was written for a file of {shortest} to {longest} bytes, but {} has {}",
            entry.path.display(),
            metadata.len
        )
    } else {
        return Ok(());
    };
    Err(fault(&journal.path, "transaction.journal.other-image", detail))
}

/// True when the pointer beside `image` names the unit `id`.
pub(crate) fn has_pointer(host: &dyn Host, image: &Path, id: &UnitId) -> Result<bool, BlockError> {
    let path = journal_path(image);
    let Some(file) = open_if_there(host, &path, Access::Read)? else { return Ok(false) };
    let len = file.metadata().map_err(|source| BlockError::io("inspect", &path, source))?.len;
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX).min(MAX_POINTER_BYTES)];
    file.read_exact_at(&mut bytes, 0).map_err(|source| BlockError::io("read", &path, source))?;
    Ok(format::parse_pointer(&bytes).is_some_and(|(found, _)| found == *id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_those_who_could_write_the_image_anyway_may_own_its_journal() {
        let me = rustix::process::geteuid().as_raw();
        let (stranger, owner) = (me + 1000, me + 2000);
        assert!(!owner_is_trusted(stranger, owner) && !owner_is_trusted(stranger, me));
        assert!(owner_is_trusted(owner, owner) && owner_is_trusted(0, owner) && owner_is_trusted(me, owner));
    }

    #[test]
    fn the_journal_lies_beside_the_image() {
        assert_eq!(journal_path(Path::new("/a/b.raw")), Path::new("/a/.b.raw.coldfit-journal"));
        assert_eq!(parent_dir(Path::new("b.raw")), Path::new("."));
    }
}
