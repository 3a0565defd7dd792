//! The device traits, and devices over files, memory and ranges of other devices.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use crate::{BlockError, Extent, ExtentState};

/// A device that can be read by many threads at once.
pub trait ReadAt: Send + Sync {
    /// Length in bytes.
    fn len(&self) -> u64;

    /// True when the device has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills all of `buf` from `offset`. Never short; a range past the end is an error and reads nothing.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<(), BlockError>;

    /// The extents that cover `range` completely, in order. One `Data` extent is always a right answer.
    fn extents(&self, range: Range<u64>) -> Result<Vec<Extent>, BlockError> {
        Ok(one_extent(range, ExtentState::Data))
    }
}

/// A device that can be written, too.
pub trait WriteAt: ReadAt {
    /// Writes all of `buf` at `offset`; a range past the end is an error and writes nothing.
    fn write_all_at(&self, buf: &[u8], offset: u64) -> Result<(), BlockError>;

    /// Makes `len` bytes from `offset` read back as zero.
    fn write_zeroes(&self, offset: u64, len: u64) -> Result<(), BlockError> {
        let zeroes = [0u8; 65536];
        let mut done = 0;
        while done < len {
            let step = (len - done).min(zeroes.len() as u64);
            self.write_all_at(&zeroes[..step as usize], offset + done)?;
            done += step;
        }
        Ok(())
    }

    /// The content of the range is no longer needed: a hint, undefined content afterwards.
    fn discard(&self, _offset: u64, _len: u64) -> Result<(), BlockError> {
        Ok(())
    }

    /// Everything written so far is durable when this returns.
    fn flush(&self) -> Result<(), BlockError>;
}

impl<T: ReadAt + ?Sized> ReadAt for Arc<T> {
    fn len(&self) -> u64 {
        (**self).len()
    }
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<(), BlockError> {
        (**self).read_exact_at(buf, offset)
    }
    fn extents(&self, range: Range<u64>) -> Result<Vec<Extent>, BlockError> {
        (**self).extents(range)
    }
}

impl<T: WriteAt + ?Sized> WriteAt for Arc<T> {
    fn write_all_at(&self, buf: &[u8], offset: u64) -> Result<(), BlockError> {
        (**self).write_all_at(buf, offset)
    }
    fn write_zeroes(&self, offset: u64, len: u64) -> Result<(), BlockError> {
        (**self).write_zeroes(offset, len)
    }
    fn discard(&self, offset: u64, len: u64) -> Result<(), BlockError> {
        (**self).discard(offset, len)
    }
    fn flush(&self) -> Result<(), BlockError> {
        (**self).flush()
    }
}

pub(crate) fn one_extent(range: Range<u64>, state: ExtentState) -> Vec<Extent> {
    if range.end <= range.start {
        return Vec::new();
    }
    vec![Extent { offset: range.start, len: range.end - range.start, state }]
}

/// `Ok` when `len` bytes at `offset` lie inside `device_len`.
pub(crate) fn check_range(layer: &str, offset: u64, len: u64, device_len: u64) -> Result<(), BlockError> {
    match offset.checked_add(len) {
        Some(end) if end <= device_len => Ok(()),
        _ => Err(BlockError::PastEnd { layer: layer.to_owned(), offset, len, device_len }),
    }
}

/// A host file or block device.
#[derive(Debug)]
pub struct FileDevice {
    file: File,
    path: PathBuf,
    len: u64,
}

impl FileDevice {
    /// Takes an open file; its length is read once, now.
    pub fn new(file: File, path: impl Into<PathBuf>) -> Result<Self, BlockError> {
        let path = path.into();
        let mut seeker = &file;
        let len = io::Seek::seek(&mut seeker, io::SeekFrom::End(0))
            .map_err(|source| BlockError::io("find the length", &path, source))?;
        Ok(Self { file, path, len })
    }

    /// Opens `path` for reading.
    pub fn open_read(path: &Path) -> Result<Self, BlockError> {
        Self::new(File::open(path).map_err(|source| BlockError::io("open", path, source))?, path)
    }

    /// Opens `path` for reading and writing.
    pub fn open_write(path: &Path) -> Result<Self, BlockError> {
        let file = File::options()
            .read(true)
            .write(true)
            .open(path)
            .map_err(|source| BlockError::io("open for writing", path, source))?;
        Self::new(file, path)
    }

    /// The file below.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Host path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl ReadAt for FileDevice {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<(), BlockError> {
        check_range(&self.path.to_string_lossy(), offset, buf.len() as u64, self.len)?;
        self.file.read_exact_at(buf, offset).map_err(|source| BlockError::io("read", &self.path, source))
    }

    fn extents(&self, range: Range<u64>) -> Result<Vec<Extent>, BlockError> {
        crate::extent::host_extents(&self.file, &self.path, range)
    }
}

impl WriteAt for FileDevice {
    fn write_all_at(&self, buf: &[u8], offset: u64) -> Result<(), BlockError> {
        check_range(&self.path.to_string_lossy(), offset, buf.len() as u64, self.len)?;
        self.file.write_all_at(buf, offset).map_err(|source| BlockError::io("write", &self.path, source))
    }

    fn flush(&self) -> Result<(), BlockError> {
        self.file.sync_data().map_err(|source| BlockError::io("sync", &self.path, source))
    }
}

/// A device in memory, for tests and small structures.
#[derive(Debug, Default)]
pub struct MemoryDevice {
    bytes: RwLock<Vec<u8>>,
}

impl MemoryDevice {
    /// A device with this content; its length stays as it is.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes: RwLock::new(bytes) }
    }

    /// A copy of the whole content.
    pub fn to_vec(&self) -> Vec<u8> {
        self.bytes.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

impl ReadAt for MemoryDevice {
    fn len(&self) -> u64 {
        self.bytes.read().unwrap_or_else(std::sync::PoisonError::into_inner).len() as u64
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<(), BlockError> {
        let bytes = self.bytes.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        check_range("memory", offset, buf.len() as u64, bytes.len() as u64)?;
        let start = offset as usize;
        buf.copy_from_slice(&bytes[start..start + buf.len()]);
        Ok(())
    }
}

impl WriteAt for MemoryDevice {
    fn write_all_at(&self, buf: &[u8], offset: u64) -> Result<(), BlockError> {
        let mut bytes = self.bytes.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        check_range("memory", offset, buf.len() as u64, bytes.len() as u64)?;
        let start = offset as usize;
        bytes[start..start + buf.len()].copy_from_slice(buf);
        Ok(())
    }

    fn flush(&self) -> Result<(), BlockError> {
        Ok(())
    }
}

/// A range of another device, for example one partition of a disk.
#[derive(Debug, Clone)]
pub struct Window<D> {
    below: D,
    start: u64,
    len: u64,
    name: String,
}

impl<D: ReadAt> Window<D> {
    /// `len` bytes of `below` from `start`; the range must lie inside `below`.
    pub fn new(below: D, start: u64, len: u64, name: impl Into<String>) -> Result<Self, BlockError> {
        let name = name.into();
        check_range(&name, start, len, below.len())?;
        Ok(Self { below, start, len, name })
    }

    /// Position of the window on the device below, bytes.
    pub fn start(&self) -> u64 {
        self.start
    }
}

impl<D: ReadAt> ReadAt for Window<D> {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<(), BlockError> {
        check_range(&self.name, offset, buf.len() as u64, self.len)?;
        self.below.read_exact_at(buf, self.start + offset)
    }

    fn extents(&self, range: Range<u64>) -> Result<Vec<Extent>, BlockError> {
        check_range(&self.name, range.start, range.end.saturating_sub(range.start), self.len)?;
        let mut extents = self.below.extents(self.start + range.start..self.start + range.end)?;
        for extent in &mut extents {
            extent.offset -= self.start;
        }
        Ok(extents)
    }
}

impl<D: WriteAt> WriteAt for Window<D> {
    fn write_all_at(&self, buf: &[u8], offset: u64) -> Result<(), BlockError> {
        check_range(&self.name, offset, buf.len() as u64, self.len)?;
        self.below.write_all_at(buf, self.start + offset)
    }

    fn write_zeroes(&self, offset: u64, len: u64) -> Result<(), BlockError> {
        check_range(&self.name, offset, len, self.len)?;
        self.below.write_zeroes(self.start + offset, len)
    }

    fn discard(&self, offset: u64, len: u64) -> Result<(), BlockError> {
        check_range(&self.name, offset, len, self.len)?;
        self.below.discard(self.start + offset, len)
    }

    fn flush(&self) -> Result<(), BlockError> {
        self.below.flush()
    }
}
