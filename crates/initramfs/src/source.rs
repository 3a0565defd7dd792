//! Where a kernel's modules are read from.

use crate::InitramfsError;

/// The guest's `/lib/modules/KVER`, however it is reached.
pub trait ModuleSource {
    /// Content of the file at `relative` below the module directory; `None` when there is no such file.
    ///
    /// Symlinks are followed inside the guest. Wrap errors of the layer below in [`InitramfsError::Source`].
    fn read(&self, relative: &str) -> Result<Option<Vec<u8>>, InitramfsError>;
}
