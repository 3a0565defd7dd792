//! A file that appears under its name only when it is complete.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use report::Progress;

use super::commit::new_unit_id;
use super::journal::{fault, journal_path, open_if_there, parent_dir};
use crate::{Access, BlockError, Host, HostFile, HostMetadata, ImageFile, LockOutcome};

/// Part of the names of files that are not complete.
const PARTIAL: &str = ".coldfit-new-";

/// A new file being made under a hidden name beside its real one. Dropping it removes it.
///
/// What a killed process left for the same name is removed when the next one starts; the lock tells it from a file
/// that is still being made.
#[must_use = "the file vanishes unless it is finished"]
pub struct NewFile {
    host: Arc<dyn Host>,
    path: PathBuf,
    partial: PathBuf,
    file: Box<dyn HostFile>,
    /// The file to be replaced, locked, so that nobody uses it.
    replaced: Option<ImageFile>,
    is_named: bool,
}

impl NewFile {
    /// Begins the file that will be `out`. What is there is replaced only with `force`, and never when it is one of
    /// `sources`.
    pub fn create(
        host: Arc<dyn Host>,
        out: &Path,
        sources: &[HostMetadata],
        force: bool,
        mode: u32,
        progress: &dyn Progress,
    ) -> Result<Self, BlockError> {
        let (path, replaced) = check(&host, out, sources, force, progress)?;
        let prefix = partial_prefix(&path);
        remove_leftovers(host.as_ref(), &path, &prefix);
        let mut name = prefix;
        name.push(format!("{:016x}", u128::from_le_bytes(new_unit_id()) as u64));
        let partial = parent_dir(&path).join(name);
        let file =
            host.create(&partial, mode).map_err(|source| BlockError::io("create", &partial, source))?;
        let new = Self { host, path, partial, file, replaced, is_named: false };
        match new.file.lock(Access::Write).map_err(|source| BlockError::io("lock", &new.partial, source))? {
            LockOutcome::Held | LockOutcome::NotSupported => Ok(new),
            LockOutcome::InUse(detail) => Err(BlockError::InUse { path: new.partial.clone(), detail }),
        }
    }

    /// The name that it will have.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name that it has until then.
    pub fn partial_path(&self) -> &Path {
        &self.partial
    }

    /// The file itself.
    pub fn file(&self) -> &dyn HostFile {
        self.file.as_ref()
    }

    /// Lets others open the file for reading, for a look at it before it gets its name.
    pub fn let_readers_in(&self) -> Result<(), BlockError> {
        match self.file.lock(Access::Read).map_err(|source| BlockError::io("lock", &self.partial, source))? {
            LockOutcome::Held | LockOutcome::NotSupported => Ok(()),
            LockOutcome::InUse(detail) => Err(BlockError::InUse { path: self.partial.clone(), detail }),
        }
    }

    /// Gives the file its name. With `is_durable` the name survives a power failure when this returns; content is
    /// the caller's to sync before.
    pub fn finish(mut self, is_durable: bool) -> Result<PathBuf, BlockError> {
        let renamed = match &self.replaced {
            Some(_) => self.host.rename(&self.partial, &self.path),
            None => self.host.rename_new(&self.partial, &self.path),
        };
        match renamed {
            Ok(()) => self.is_named = true,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                let reason = "appeared while it was being made";
                return Err(BlockError::Target { path: self.path.clone(), reason });
            }
            Err(error) => return Err(BlockError::io("rename to", &self.path, error)),
        }
        if is_durable {
            let dir = parent_dir(&self.path);
            self.host.sync_dir(dir).map_err(|error| BlockError::io("sync the directory", dir, error))?;
        }
        Ok(self.path.clone())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.is_named {
            // The first error counts; a leftover has no name that anybody uses.
            let _ = self.host.remove(&self.partial);
        }
        // Closing would do, were it not for children between fork and exec that share the lock for a moment.
        let _ = self.file.unlock();
    }
}

fn partial_prefix(path: &Path) -> OsString {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or(OsStr::new("")));
    name.push(PARTIAL);
    name
}

/// Best effort: a leftover that stays does no harm.
fn remove_leftovers(host: &dyn Host, path: &Path, prefix: &OsStr) {
    for leftover in host.names_with_prefix(parent_dir(path), prefix).unwrap_or_default() {
        let is_free = host
            .open(&leftover, Access::Write)
            .is_ok_and(|file| matches!(file.lock(Access::Write), Ok(LockOutcome::Held)));
        if is_free {
            let _ = host.remove(&leftover);
        }
    }
}

fn check(
    host: &Arc<dyn Host>,
    out: &Path,
    sources: &[HostMetadata],
    force: bool,
    progress: &dyn Progress,
) -> Result<(PathBuf, Option<ImageFile>), BlockError> {
    let refuse = |reason| BlockError::Target { path: out.to_owned(), reason };
    let name = out.file_name().ok_or_else(|| refuse("names no file"))?;
    let dir = parent_dir(out);
    let dir = host.resolve(dir).map_err(|source| BlockError::io("open", dir, source))?;
    let mut path = dir.join(name);
    match host.resolve(out) {
        // What is really there is replaced, not a symbolic link to it.
        Ok(resolved) => path = resolved,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let journal = journal_path(&path);
            if open_if_there(host.as_ref(), &journal, Access::Read)?.is_some() {
                return Err(fault(
                    &journal,
                    "transaction.journal.other-image",
                    "lies where the target would be taken for its image: move it away first",
                ));
            }
            return Ok((path, None));
        }
        Err(source) => return Err(BlockError::io("open", out, source)),
    }
    let there = host
        .open(&path, Access::Read)
        .and_then(|file| file.metadata())
        .map_err(|source| BlockError::io("open", &path, source))?;
    if sources.iter().any(|source| (source.device, source.inode) == (there.device, there.inode)) {
        return Err(refuse("is the source itself"));
    }
    if !force {
        return Err(refuse("exists already; it is replaced only when told so"));
    }
    let replaced = ImageFile::open_on(Arc::clone(host), &path, Access::Write, progress)?;
    Ok((path, Some(replaced)))
}
