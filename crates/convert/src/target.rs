//! Opening what the target is written to.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use block::{Access, BlockError, Host, HostFile, HostFileKind, HostMetadata, ImageFile, LockOutcome};
use report::Progress;

use crate::ConvertError;
use crate::error::{Place, Stage};

/// A file or block device that is there already.
pub(crate) struct Existing {
    pub file: Box<dyn HostFile>,
    pub path: PathBuf,
    pub metadata: HostMetadata,
    /// Keeps a file locked, and has dealt with what an interrupted commit left beside it.
    _locked: Option<ImageFile>,
}

impl Existing {
    /// Opens and locks it.
    pub fn open(
        host: &Arc<dyn Host>,
        path: &Path,
        sources: &[HostMetadata],
        progress: &dyn Progress,
    ) -> Result<Self, ConvertError> {
        let failed = |error| ConvertError::host(Place::of(Stage::Open), error);
        let io = |operation, error| failed(BlockError::io(operation, path, error));
        let refuse = |reason| Err(failed(BlockError::Target { path: path.to_owned(), reason }));
        let path = host.resolve(path).map_err(|error| io("open", error))?;
        let inspect = |file: &dyn HostFile| file.metadata().map_err(|error| io("inspect", error));
        let read_only = host.open(&path, Access::Read).map_err(|error| io("open", error))?;
        let there = inspect(read_only.as_ref())?;
        if sources.iter().any(|source| (source.device, source.inode) == (there.device, there.inode)) {
            return refuse("is the source itself");
        }
        let locked = match there.kind {
            HostFileKind::Regular => {
                Some(ImageFile::open_on(Arc::clone(host), &path, Access::Write, progress).map_err(failed)?)
            }
            HostFileKind::BlockDevice => None,
            HostFileKind::Other => return refuse("is neither a file nor a block device"),
        };
        let file = host.open(&path, Access::Write).map_err(|error| io("open for writing", error))?;
        if locked.is_none()
            && let LockOutcome::InUse(detail) = file.lock(Access::Write).map_err(|error| io("lock", error))?
        {
            return Err(failed(BlockError::InUse { path, detail }));
        }
        let metadata = inspect(file.as_ref())?;
        Ok(Self { file, path, metadata, _locked: locked })
    }
}
