//! Who decides whether a file named by an image may be opened.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::{BlockError, FileDevice};

/// Decides whether a file *named by an image* (a backing file) may be opened, and opens it for reading.
pub trait OpenGate: Send + Sync {
    /// `image` is the file that holds `named`; a relative name is relative to the image's directory.
    fn open(&self, image: &Path, named: &[u8]) -> Result<(FileDevice, PathBuf), BlockError>;
}

/// Opens nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct DenyAll;

impl OpenGate for DenyAll {
    fn open(&self, image: &Path, named: &[u8]) -> Result<(FileDevice, PathBuf), BlockError> {
        Err(denied(image, named, "files named by an image are not opened unless a root directory is allowed"))
    }
}

/// Opens files below one directory, all symlinks resolved.
#[derive(Debug, Clone)]
pub struct AllowBelow {
    root: PathBuf,
}

impl AllowBelow {
    /// Allows files below `root`, which must exist.
    pub fn new(root: &Path) -> Result<Self, BlockError> {
        let root = root.canonicalize().map_err(|source| BlockError::io("resolve", root, source))?;
        Ok(Self { root })
    }
}

impl OpenGate for AllowBelow {
    fn open(&self, image: &Path, named: &[u8]) -> Result<(FileDevice, PathBuf), BlockError> {
        let named_path = Path::new(OsStr::from_bytes(named));
        let joined = image.parent().unwrap_or(Path::new("")).join(named_path);
        let real = joined.canonicalize().map_err(|source| BlockError::io("resolve", &joined, source))?;
        if !real.starts_with(&self.root) {
            return Err(denied(image, named, &format!("it lies outside {}", self.root.display())));
        }
        let kind = real.metadata().map_err(|source| BlockError::io("inspect", &real, source))?;
        if !kind.is_file() {
            return Err(denied(image, named, "it is no regular file"));
        }
        Ok((FileDevice::open_read(&real)?, real))
    }
}

fn denied(image: &Path, named: &[u8], reason: &str) -> BlockError {
    BlockError::GateDenied {
        path: image.to_owned(),
        named: String::from_utf8_lossy(named).into_owned(),
        reason: reason.to_owned(),
    }
}
