//! Writing to the target file: large aligned writes past the page cache, the rest through it.

use std::fs::File;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use block::{BlockError, HostFile};
use rustix::fs::{Advice, FallocateFlags, OFlags};
use rustix::io::Errno;

use crate::buffer::{ALIGN, Buffer};
use crate::error::{Place, Stage};
use crate::{ConvertError, Direct};

/// O_DIRECT writes smaller than this cost more than the page cache does.
const DIRECT_MIN: u64 = 256 << 10;
/// A growing file is made longer in steps, ahead of the writes: a direct write that extends a file is slow.
const GROW_STEP: u64 = 64 << 20;
/// Written bytes after which the page cache is told to write back and drop what lies behind.
const BEHIND: u64 = 32 << 20;
/// Slices of one vectored write (`IOV_MAX` of Linux is 1024).
const MAX_SLICES: usize = 512;

/// What takes the bytes of a target.
pub(crate) trait Sink: Sync {
    /// Writes slices that follow each other.
    fn write(&self, offset: u64, slices: &[&[u8]]) -> Result<(), ConvertError>;
    /// Writes a page of packed output. Returns how many pages were done with: a sink that writes in order keeps some.
    fn write_page(&self, offset: u64, page: Buffer) -> Result<u64, ConvertError>;
    /// Makes a range read as zero. Returns how many pages that were kept are done with.
    fn zero(&self, range: Range<u64>) -> Result<u64, ConvertError>;
    /// The file is this long; pages may be longer.
    fn set_end(&self, end: u64);
}

/// A target file that takes positional writes from many threads.
pub(crate) struct FileSink<'t> {
    file: &'t dyn HostFile,
    path: PathBuf,
    direct: Option<File>,
    /// Cleared by the first write that the host refuses.
    is_direct: AtomicBool,
    must_be_direct: bool,
    wrote_direct: AtomicBool,
    /// Length that the file has at least; `None`: it has a length of its own.
    grown: Option<Mutex<u64>>,
    /// The page cache is told to forget what was written.
    drops_behind: bool,
    /// What is not written reads as zero.
    is_new: bool,
    pub written: AtomicU64,
    highest: AtomicU64,
    advised: Mutex<u64>,
    /// Bytes that the target will take, at most; for errors.
    pub expected: AtomicU64,
    /// Pages are cut off here.
    end: AtomicU64,
}

/// How a [`FileSink`] is to write.
pub(crate) struct SinkOptions {
    pub direct: Direct,
    pub is_new: bool,
    pub drops_behind: bool,
}

impl<'t> FileSink<'t> {
    pub fn new(file: &'t dyn HostFile, path: &Path, options: &SinkOptions) -> Result<Self, ConvertError> {
        let must_be_direct = options.direct == Direct::Always;
        let direct = match options.direct {
            Direct::Never => None,
            Direct::Auto | Direct::Always => open_direct(file, path),
        };
        if must_be_direct && direct.is_none() {
            return Err(not_direct(path));
        }
        Ok(Self {
            file,
            path: path.to_owned(),
            is_direct: AtomicBool::new(direct.is_some()),
            direct,
            must_be_direct,
            wrote_direct: AtomicBool::new(false),
            grown: options.is_new.then(Mutex::default),
            drops_behind: options.drops_behind,
            is_new: options.is_new,
            written: AtomicU64::new(0),
            highest: AtomicU64::new(0),
            advised: Mutex::default(),
            expected: AtomicU64::new(0),
            end: AtomicU64::new(u64::MAX),
        })
    }

    /// True when at least one write went past the page cache.
    pub fn wrote_direct(&self) -> bool {
        self.wrote_direct.load(Ordering::Relaxed)
    }

    fn failed(&self, operation: &'static str, range: Range<u64>, error: io::Error) -> ConvertError {
        if error.kind() == io::ErrorKind::StorageFull || error.kind() == io::ErrorKind::QuotaExceeded {
            let missing =
                self.expected.load(Ordering::Relaxed).saturating_sub(self.written.load(Ordering::Relaxed));
            let available = free_bytes(&self.path);
            return ConvertError::NoSpace {
                path: self.path.clone(),
                needed: missing.max(range.end - range.start),
                available,
            };
        }
        ConvertError::host(Place::of(Stage::Write).host(range), BlockError::io(operation, &self.path, error))
    }

    fn make_room(&self, end: u64) -> Result<(), ConvertError> {
        let Some(grown) = &self.grown else { return Ok(()) };
        let mut len = grown.lock().unwrap_or_else(PoisonError::into_inner);
        if end > *len {
            let new = end.div_ceil(GROW_STEP).saturating_mul(GROW_STEP);
            self.file.set_len(new).map_err(|error| self.failed("grow", *len..new, error))?;
            *len = new;
        }
        Ok(())
    }

    /// Sets the length; a new file is this long from the start or at the end.
    pub fn set_len(&self, len: u64) -> Result<(), ConvertError> {
        self.file.set_len(len).map_err(|error| self.failed("set the length", 0..len, error))?;
        if let Some(grown) = &self.grown {
            *grown.lock().unwrap_or_else(PoisonError::into_inner) = len;
        }
        Ok(())
    }

    fn write_buffered(&self, offset: u64, slices: &[&[u8]]) -> io::Result<()> {
        match (self.file.system_file(), slices) {
            (Some(file), [_, _, ..]) => write_slices(file, offset, slices),
            _ => {
                let mut at = offset;
                for slice in slices {
                    self.file.write_all_at(slice, at)?;
                    at += slice.len() as u64;
                }
                Ok(())
            }
        }
    }

    /// Starts writing back what is 32 MiB behind, and forgets what is clean already. `POSIX_FADV_DONTNEED` does both:
    /// it starts writing dirty pages and drops clean ones (Linux, mm/fadvise.c).
    pub fn drop_behind(&self, all: bool) {
        let Some(file) = self.file.system_file() else { return };
        let highest = self.highest.load(Ordering::Relaxed);
        let mut advised = self.advised.lock().unwrap_or_else(PoisonError::into_inner);
        if !all && highest < advised.saturating_add(2 * BEHIND) {
            return;
        }
        let from = if all { 0 } else { advised.saturating_sub(BEHIND) };
        let len = std::num::NonZeroU64::new(highest.saturating_sub(from));
        *advised = highest.saturating_sub(BEHIND);
        drop(advised);
        // A hint: what the host makes of it is no concern of the copy.
        let _ = rustix::fs::fadvise(file, from, len, Advice::DontNeed);
    }

    /// Reserves the whole file, where the host can.
    pub fn allocate(&self, len: u64) -> Result<(), ConvertError> {
        self.file.allocate(len).map_err(|error| self.failed("reserve", 0..len, error))
    }

    /// Everything written is durable when this returns.
    pub fn sync(&self) -> Result<(), ConvertError> {
        self.file.sync().map_err(|error| {
            ConvertError::host(Place::of(Stage::Sync), BlockError::io("sync", &self.path, error))
        })
    }
}

impl Sink for FileSink<'_> {
    fn write(&self, offset: u64, slices: &[&[u8]]) -> Result<(), ConvertError> {
        let len: u64 = slices.iter().map(|slice| slice.len() as u64).sum();
        let end = offset + len;
        self.make_room(end)?;
        let aligned =
            |slice: &&[u8]| slice.len().is_multiple_of(ALIGN) && slice.as_ptr().align_offset(ALIGN) == 0;
        let can_be_direct = len >= DIRECT_MIN
            && offset.is_multiple_of(ALIGN as u64)
            && self.is_direct.load(Ordering::Relaxed)
            && slices.iter().all(aligned);
        let direct = self.direct.as_ref().filter(|_| can_be_direct);
        let is_written = match direct.map(|file| write_slices(file, offset, slices)) {
            Some(Ok(())) => {
                self.wrote_direct.store(true, Ordering::Relaxed);
                true
            }
            Some(Err(error)) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                if self.must_be_direct {
                    return Err(not_direct(&self.path));
                }
                self.is_direct.store(false, Ordering::Relaxed);
                false
            }
            Some(Err(error)) => return Err(self.failed("write", offset..end, error)),
            None => false,
        };
        if !is_written {
            self.write_buffered(offset, slices).map_err(|error| self.failed("write", offset..end, error))?;
        }
        self.written.fetch_add(len, Ordering::Relaxed);
        self.highest.fetch_max(end, Ordering::Relaxed);
        if !is_written && self.drops_behind {
            self.drop_behind(false);
        }
        Ok(())
    }

    fn write_page(&self, offset: u64, page: Buffer) -> Result<u64, ConvertError> {
        let bytes = page.bytes();
        let len = self.end.load(Ordering::Relaxed).saturating_sub(offset).min(bytes.len() as u64);
        // The last page may be cut off at its sector: through the page cache then.
        self.write(offset, &[bytes.get(..len as usize).unwrap_or_default()])?;
        Ok(1)
    }

    fn zero(&self, range: Range<u64>) -> Result<u64, ConvertError> {
        if self.is_new {
            return self.make_room(range.end).map(|()| 0);
        }
        if let Some(file) = self.file.system_file() {
            let len = range.end - range.start;
            let is_device = self.file.metadata().is_ok_and(|it| it.kind == block::HostFileKind::BlockDevice);
            // A hole in a file; on a device, the zero range that reads back as zero.
            let flags = match is_device {
                true => FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
                false => FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
            };
            match rustix::fs::fallocate(file, flags, range.start, len) {
                Ok(()) => return Ok(0),
                Err(Errno::NOTSUP | Errno::NOSYS | Errno::INVAL | Errno::NODEV) => {}
                Err(errno) => return Err(self.failed("zero", range, errno.into())),
            }
        }
        let zeroes = vec![0; BEHIND.min(range.end - range.start).min(1 << 20) as usize];
        let mut at = range.start;
        while at < range.end {
            let step = (range.end - at).min(zeroes.len() as u64);
            self.write(at, &[zeroes.get(..step as usize).unwrap_or_default()])?;
            at += step;
        }
        Ok(0)
    }

    fn set_end(&self, end: u64) {
        self.end.store(end, Ordering::Relaxed);
    }
}

fn not_direct(path: &Path) -> ConvertError {
    ConvertError::Target {
        code: "convert.target.direct",
        what: format!("{}: its filesystem does not take O_DIRECT writes", path.display()),
    }
}

/// The same file once more, past the page cache. Only where the file is one of the operating system.
fn open_direct(file: &dyn HostFile, path: &Path) -> Option<File> {
    let ours = file.metadata().ok()?;
    file.system_file()?;
    let flags = i32::try_from((OFlags::DIRECT | OFlags::NOFOLLOW | OFlags::CLOEXEC).bits()).ok()?;
    let direct = File::options().write(true).custom_flags(flags).open(path).ok()?;
    let there = direct.metadata().ok()?;
    use std::os::unix::fs::MetadataExt;
    ((there.dev(), there.ino()) == (ours.device, ours.inode)).then_some(direct)
}

fn write_slices(file: &File, offset: u64, slices: &[&[u8]]) -> io::Result<()> {
    if let [one] = slices {
        return file.write_all_at(one, offset);
    }
    let mut at = offset;
    for group in slices.chunks(MAX_SLICES) {
        let mut vectors: Vec<IoSlice<'_>> = group.iter().map(|slice| IoSlice::new(slice)).collect();
        let mut rest = vectors.as_mut_slice();
        while !rest.is_empty() {
            let written = match rustix::io::pwritev(file, rest, at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => written,
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            at += written as u64;
            IoSlice::advance_slices(&mut rest, written);
        }
    }
    Ok(())
}

/// Bytes that this user may still write on the filesystem of `path`.
pub(crate) fn free_bytes(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    stat.f_bavail.checked_mul(stat.f_frsize)
}
