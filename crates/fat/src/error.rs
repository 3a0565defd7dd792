//! Errors of the FAT driver as those of the tree.

use block::BlockError;
use hadris_io::{Error, ErrorKind};
use vfs::VfsError;

const LAYER: &str = "fat";

/// What `structure` (a name, for people) cannot be or cannot do.
pub(crate) fn unsupported(code: &'static str, feature: impl Into<String>) -> VfsError {
    VfsError::Unsupported { layer: LAYER, code, feature: feature.into(), detail: String::new() }
}

/// The filesystem contradicts itself at `structure`.
pub(crate) fn corrupt(structure: impl Into<String>, detail: impl Into<String>) -> VfsError {
    VfsError::Corrupt {
        layer: LAYER,
        code: "fat.damaged",
        structure: structure.into(),
        detail: detail.into(),
    }
}

/// The error of an operation on `name`.
pub(crate) fn of(error: Error<BlockError>, name: &[u8]) -> VfsError {
    let path = String::from_utf8_lossy(name).into_owned();
    let kind = error.kind();
    match kind {
        ErrorKind::Io => {
            // The error itself is not given away: its text is.
            let text = error.device_error().map_or_else(|| error.to_string(), ToString::to_string);
            VfsError::Device(Box::new(BlockError::Failed { first: text }))
        }
        ErrorKind::NotFound => VfsError::NotFound { path },
        ErrorKind::AlreadyExists => VfsError::Exists { path },
        ErrorKind::NotADirectory => VfsError::NotADirectory { path },
        ErrorKind::IsADirectory => VfsError::IsADirectory { path },
        ErrorKind::DirectoryNotEmpty => VfsError::NotEmpty { path },
        ErrorKind::InvalidInput | ErrorKind::NameTooLong => {
            VfsError::BadName { name: path, detail: "FAT cannot hold such a name" }
        }
        ErrorKind::NoSpace => VfsError::Limit { path, limit: "no room left on the FAT filesystem".into() },
        ErrorKind::FileTooLarge => VfsError::Limit { path, limit: "FAT files end below 4 GiB".into() },
        ErrorKind::LimitExceeded => VfsError::Limit { path, limit: error.to_string() },
        ErrorKind::ReadOnly => {
            VfsError::ReadOnly { filesystem: LAYER.into(), reason: "it was opened for reading".into() }
        }
        ErrorKind::Unsupported | ErrorKind::Symlink => {
            unsupported("fat.operation.unsupported", error.to_string())
        }
        _ => corrupt(path, error.to_string()),
    }
}
