//! The host file operations that the transaction is made of.
//!
//! Everything in [`crate::transaction`] goes through [`Host`] and [`HostFile`], so that a simulated host can stop
//! at every operation, tear and reorder what was not synced, and show that recovery still works.
//! [`SystemHost`] is the real one.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FallocateFlags, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::lock::{self, LockOutcome};
use crate::{BlockError, Extent, ExtentState};

/// What an image is opened for; decides which locks are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading; others may read, too.
    Read,
    /// Committing in place; nobody else may have the image open.
    Write,
}

/// Kind of a host file, as far as images care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostFileKind {
    /// A regular file.
    Regular,
    /// A block device.
    BlockDevice,
    /// Anything else; never an image.
    Other,
}

/// Facts about an open host file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostMetadata {
    /// Length, bytes.
    pub len: u64,
    /// Number of the filesystem or device that holds the file.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Owner.
    pub owner: u32,
    /// Permission bits.
    pub mode: u32,
    /// Time of the last change of content: seconds and nanoseconds.
    pub modified: (i64, u32),
    /// Time of the last change of content or inode, which no program can set back.
    pub changed: (i64, u32),
    /// What it is.
    pub kind: HostFileKind,
}

/// An open host file.
pub trait HostFile: Send + Sync {
    /// Facts, read anew.
    fn metadata(&self) -> io::Result<HostMetadata>;
    /// Fills all of `buf`.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `buf`; the file grows when needed.
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;
    /// Sets the length; new bytes read as zero.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Reserves room for `len` bytes without changing the length. A host that cannot reserve says `Ok`.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Content, length and times are durable when this returns. The name is not: see [`Host::sync_dir`].
    fn sync(&self) -> io::Result<()>;
    /// Takes the locks for `access`, or says who stands in the way.
    fn lock(&self, access: Access) -> io::Result<LockOutcome>;
    /// Gives up all locks.
    fn unlock(&self) -> io::Result<()>;
    /// Data and holes of `range`.
    fn extents(&self, range: Range<u64>) -> Result<Vec<Extent>, BlockError> {
        Ok(crate::device::one_extent(range, ExtentState::Data))
    }
    /// The file of the operating system, when there is one.
    fn system_file(&self) -> Option<&File> {
        None
    }
}

/// A host with files and directories.
pub trait Host: Send + Sync {
    /// The path with all symbolic links resolved.
    fn resolve(&self, path: &Path) -> io::Result<PathBuf>;
    /// Opens an existing file. Symbolic links are not followed: resolve first.
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn HostFile>>;
    /// Makes a new file for reading and writing; an existing one is an error.
    fn create(&self, path: &Path, mode: u32) -> io::Result<Box<dyn HostFile>>;
    /// Makes a file without a name in `dir`; it is gone when it is closed.
    fn scratch(&self, dir: &Path) -> io::Result<Box<dyn HostFile>>;
    /// Renames, replacing what is at `to`.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Renames; `AlreadyExists` when there is something at `to`.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Paths in `dir` whose file names begin with `prefix`. A host that cannot list says that there are none.
    fn names_with_prefix(&self, _dir: &Path, _prefix: &OsStr) -> io::Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }
    /// Names made, renamed and removed in `dir` are durable when this returns.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// The operating system's files.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemHost;

struct SystemFile {
    file: File,
    path: PathBuf,
}

impl HostFile for SystemFile {
    fn metadata(&self) -> io::Result<HostMetadata> {
        let metadata = self.file.metadata()?;
        let file_type = metadata.file_type();
        let kind = if file_type.is_file() {
            HostFileKind::Regular
        } else if file_type.is_block_device() {
            HostFileKind::BlockDevice
        } else {
            HostFileKind::Other
        };
        let len = match kind {
            // stat gives 0 for a block device; seeking to its end gives the length.
            HostFileKind::BlockDevice => io::Seek::seek(&mut &self.file, io::SeekFrom::End(0))?,
            _ => metadata.len(),
        };
        Ok(HostMetadata {
            len,
            device: metadata.dev(),
            inode: metadata.ino(),
            owner: metadata.uid(),
            mode: metadata.mode() & 0o777,
            modified: (metadata.mtime(), u32::try_from(metadata.mtime_nsec()).unwrap_or(0)),
            changed: (metadata.ctime(), u32::try_from(metadata.ctime_nsec()).unwrap_or(0)),
            kind,
        })
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(buf, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        match rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, 0, len) {
            Ok(()) | Err(Errno::NOTSUP | Errno::NOSYS | Errno::INVAL) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn lock(&self, access: Access) -> io::Result<LockOutcome> {
        lock::lock(&self.file, access)
    }

    fn unlock(&self) -> io::Result<()> {
        lock::unlock(&self.file)
    }

    fn extents(&self, range: Range<u64>) -> Result<Vec<Extent>, BlockError> {
        crate::extent::host_extents(&self.file, &self.path, range)
    }

    fn system_file(&self) -> Option<&File> {
        Some(&self.file)
    }
}

fn boxed(file: File, path: &Path) -> Box<dyn HostFile> {
    Box::new(SystemFile { file, path: path.to_owned() })
}

impl Host for SystemHost {
    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        path.canonicalize()
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn HostFile>> {
        // A FIFO would block, a terminal would become ours: neither may happen by a wrong path.
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
        let file =
            OpenOptions::new().read(true).write(access == Access::Write).custom_flags(flags).open(path)?;
        Ok(boxed(file, path))
    }

    fn create(&self, path: &Path, mode: u32) -> io::Result<Box<dyn HostFile>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(mode).open(path)?;
        Ok(boxed(file, path))
    }

    fn scratch(&self, dir: &Path) -> io::Result<Box<dyn HostFile>> {
        Ok(boxed(tempfile::tempfile_in(dir)?, dir))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(()),
            Err(Errno::INVAL | Errno::NOSYS) => {
                // A filesystem without the flag: a hard link fails when the name is taken.
                std::fs::hard_link(from, to)?;
                std::fs::remove_file(from)
            }
            Err(errno) => Err(errno.into()),
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn names_with_prefix(&self, dir: &Path, prefix: &OsStr) -> io::Result<Vec<PathBuf>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(prefix.as_encoded_bytes()) {
                names.push(entry.path());
            }
        }
        Ok(names)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        match File::open(dir)?.sync_all() {
            // Filesystems that cannot sync a directory (some FUSE and network ones) order names themselves.
            Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => Ok(()),
            other => other,
        }
    }
}
