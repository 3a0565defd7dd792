//! Bounded reading of guest files.

use vfs::{FileKind, GuestPath, GuestTree, VfsError};

use crate::Problem;

/// Configuration files larger than this are left alone.
pub(crate) const TEXT_MAX: u64 = 1 << 20;
/// Names of one directory that are looked at.
pub(crate) const NAMES_MAX: usize = 4096;

/// The guest's files, with a list of what was odd about them.
pub(crate) struct Reader<'t> {
    pub tree: &'t GuestTree,
    pub problems: Vec<Problem>,
}

/// A path that is written in the source, or made of names found in the guest.
pub(crate) fn path(text: &str) -> GuestPath {
    GuestPath::root().join(text)
}

impl<'t> Reader<'t> {
    pub(crate) fn new(tree: &'t GuestTree) -> Self {
        Self { tree, problems: Vec::new() }
    }

    pub(crate) fn problem(&mut self, code: &str, message: impl Into<String>) {
        self.problems.push(Problem { code: code.into(), message: message.into() });
    }

    /// True when the path leads to something.
    pub(crate) fn exists(&self, at: &str) -> Result<bool, VfsError> {
        match self.tree.exists(&path(at)) {
            Err(VfsError::SymlinkLoop { .. }) => Ok(false),
            other => other,
        }
    }

    /// Content of a regular file, or `None` when there is none. Too large, not regular, a loop of links: noted,
    /// and `None`.
    pub(crate) fn read(&mut self, at: &str, limit: u64) -> Result<Option<Vec<u8>>, VfsError> {
        match self.tree.read_if_exists(&path(at), limit) {
            Err(
                error @ (VfsError::Limit { .. }
                | VfsError::WrongKind { .. }
                | VfsError::IsADirectory { .. }
                | VfsError::SymlinkLoop { .. }),
            ) => {
                self.problem("guest.file.not-read", error.to_string());
                Ok(None)
            }
            other => other,
        }
    }

    /// A text file, lossily decoded.
    pub(crate) fn text(&mut self, at: &str) -> Result<Option<String>, VfsError> {
        Ok(self.read(at, TEXT_MAX)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Names in a directory that are UTF-8, sorted; none when there is no such directory.
    pub(crate) fn names(&mut self, at: &str) -> Result<Vec<String>, VfsError> {
        let names = match self.tree.list(&path(at)) {
            Ok(names) => names,
            Err(
                VfsError::NotFound { .. } | VfsError::NotADirectory { .. } | VfsError::SymlinkLoop { .. },
            ) => {
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        };
        if names.len() > NAMES_MAX {
            let count = names.len();
            self.problem("guest.directory.large", format!("{at}: {count} names, {NAMES_MAX} are looked at"));
        }
        Ok(names.into_iter().take(NAMES_MAX).filter_map(|name| String::from_utf8(name).ok()).collect())
    }

    /// Full paths of the files of a directory whose names end in `suffix`, sorted.
    pub(crate) fn files_with_suffix(&mut self, at: &str, suffix: &str) -> Result<Vec<String>, VfsError> {
        let names = self.names(at)?;
        Ok(names.iter().filter(|name| name.ends_with(suffix)).map(|name| format!("{at}/{name}")).collect())
    }

    /// Where a path leads, all symlinks resolved, when a regular file is there.
    pub(crate) fn real_file(&self, at: &str) -> Result<Option<String>, VfsError> {
        let location = match self.tree.resolve(&path(at)) {
            Ok(location) => location,
            Err(
                VfsError::NotFound { .. } | VfsError::NotADirectory { .. } | VfsError::SymlinkLoop { .. },
            ) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let is_file = self.tree.stat_at(&location)?.kind == FileKind::Regular;
        Ok(is_file.then(|| String::from_utf8_lossy(location.path.as_bytes()).into_owned()))
    }

    /// Up to `buffer.len()` bytes from `offset` of a regular file; how many there were.
    pub(crate) fn peek(&self, at: &str, offset: u64, buffer: &mut [u8]) -> Result<usize, VfsError> {
        let location = self.tree.resolve(&path(at))?;
        if self.tree.stat_at(&location)?.kind != FileKind::Regular {
            return Ok(0);
        }
        match self.tree.mounts().get(location.mount) {
            Some(mount) => mount.filesystem.read_at(location.node, offset, buffer),
            None => Ok(0),
        }
    }
}
