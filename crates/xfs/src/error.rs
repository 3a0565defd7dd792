//! Short ways to make the errors of this driver.

use block::BlockError;
use vfs::VfsError;

/// Name of this layer in every error.
pub(crate) const LAYER: &str = "xfs";

/// Result of everything in this crate.
pub(crate) type Result<T> = std::result::Result<T, VfsError>;

/// The filesystem contradicts itself at `structure`.
pub(crate) fn corrupt(
    code: &'static str,
    structure: impl Into<String>,
    detail: impl Into<String>,
) -> VfsError {
    VfsError::Corrupt { layer: LAYER, code, structure: structure.into(), detail: detail.into() }
}

/// A feature that is known by name and not handled; `detail` starts with its own separator.
pub(crate) fn unsupported(
    code: &'static str,
    feature: impl Into<String>,
    detail: impl Into<String>,
) -> VfsError {
    VfsError::Unsupported { layer: LAYER, code, feature: feature.into(), detail: detail.into() }
}

/// The device below failed.
pub(crate) fn device(error: BlockError) -> VfsError {
    VfsError::Device(Box::new(error))
}

/// A name or number as errors show it.
pub(crate) fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).chars().flat_map(char::escape_debug).collect()
}
