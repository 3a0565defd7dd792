//! Committing to a new image; the source stays as it is.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use report::{Event, Progress};
use rustix::io::Errno;

use super::commit::{CommitReport, new_unit_id};
use super::format::MAX_RECORD_BYTES;
use super::journal::{fault, journal_path, open_if_there, parent_dir};
use crate::image::Shared;
use crate::{Access, BlockError, Host, HostFile, HostPlan, ImageFile, ImageState, ReadAt};

/// Unit in which zeroes are left out of a copy that cannot ask the host for holes.
const ZERO_UNIT: usize = 64 << 10;

/// Choices of a commit to a new image.
#[derive(Debug, Clone, Copy, Default)]
pub struct NewImageOptions {
    /// Replace a target that exists.
    pub force: bool,
}

/// Copies `image` to `out`, holes kept, and applies `plan` to the copy.
///
/// The target appears under its name only when it is complete and durable; after an error nothing is left of it.
pub fn commit_to_new(
    image: &ImageFile,
    plan: &HostPlan,
    out: &Path,
    options: &NewImageOptions,
    progress: &dyn Progress,
) -> Result<CommitReport, BlockError> {
    let started = Instant::now();
    let source = image.shared();
    let host = source.host.as_ref();
    plan.check(source.len()).map_err(BlockError::BadPlan)?;
    let target = Target::check(image, out, options, progress)?;
    progress.event(Event::Stage { name: "commit", total: Some(plan.new_len) });
    let partial = target.partial_path();
    let made = make(host, source, plan, &partial, progress).and_then(|(written_bytes, sync_time)| {
        let renamed = match &target.replaced {
            Some(_) => host.rename(&partial, &target.path),
            None => host.rename_new(&partial, &target.path),
        };
        match renamed {
            Ok(()) => Ok((written_bytes, sync_time)),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(target.exists()),
            Err(error) => Err(BlockError::io("rename to", &target.path, error)),
        }
    });
    let (written_bytes, mut sync_time) = match made {
        Ok(made) => made,
        Err(error) => {
            // The first error counts; the partial file has no name that anybody uses.
            let _ = host.remove(&partial);
            return Err(error);
        }
    };
    let sync_started = Instant::now();
    let dir = parent_dir(&target.path);
    host.sync_dir(dir).map_err(|error| BlockError::Commit {
        cause: Box::new(BlockError::io("sync the directory", dir, error)),
        state: ImageState::Written,
    })?;
    sync_time += sync_started.elapsed();
    Ok(CommitReport {
        images: vec![target.path],
        written_bytes,
        sync_time,
        total_time: started.elapsed(),
        ..CommitReport::default()
    })
}

struct Target {
    path: PathBuf,
    /// The file to be replaced, locked, so that nobody uses it.
    replaced: Option<ImageFile>,
}

impl Target {
    fn check(
        image: &ImageFile,
        out: &Path,
        options: &NewImageOptions,
        progress: &dyn Progress,
    ) -> Result<Self, BlockError> {
        let host = &image.shared().host;
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
                return Ok(Self { path, replaced: None });
            }
            Err(source) => return Err(BlockError::io("open", out, source)),
        }
        if path == image.path() {
            return Err(refuse("is the source itself"));
        }
        let there = host
            .open(&path, Access::Read)
            .and_then(|file| file.metadata())
            .map_err(|source| BlockError::io("open", &path, source))?;
        let source = image.shared().metadata;
        if (there.device, there.inode) == (source.device, source.inode) {
            return Err(refuse("is the source itself"));
        }
        if !options.force {
            return Err(refuse("exists already; it is replaced only when told so"));
        }
        let replaced = ImageFile::open_on(host.clone(), &path, Access::Write, progress)?;
        Ok(Self { path, replaced: Some(replaced) })
    }

    fn exists(&self) -> BlockError {
        BlockError::Target { path: self.path.clone(), reason: "appeared while it was being made" }
    }

    fn partial_path(&self) -> PathBuf {
        let mut name = OsString::from(".");
        name.push(self.path.file_name().unwrap_or_default());
        name.push(format!(".coldfit-new-{:016x}", u128::from_le_bytes(new_unit_id()) as u64));
        parent_dir(&self.path).join(name)
    }
}

/// Returns the bytes that the plan wrote and the time for making them durable.
fn make(
    host: &dyn Host,
    source: &Shared,
    plan: &HostPlan,
    partial: &Path,
    progress: &dyn Progress,
) -> Result<(u64, Duration), BlockError> {
    let write_error = |error| BlockError::io("write", partial, error);
    let file = host
        .create(partial, source.metadata.mode)
        .map_err(|error| BlockError::io("create", partial, error))?;
    if !clone_whole(source, file.as_ref()) {
        file.set_len(plan.old_len).map_err(write_error)?;
        copy_data(source, file.as_ref(), partial, progress)?;
    }
    if plan.new_len != plan.old_len {
        file.set_len(plan.new_len).map_err(write_error)?;
    }
    let mut written = 0;
    let mut buf = Vec::new();
    for write in &plan.writes {
        let mut skip = 0;
        while skip < write.len() {
            let step = (write.len() - skip).min(MAX_RECORD_BYTES as u64);
            buf.resize(step as usize, 0);
            plan.read_source(write, skip, &mut buf)?;
            file.write_all_at(&buf, write.host_offset + skip).map_err(write_error)?;
            skip += step;
            written += step;
        }
    }
    progress.event(Event::Advance { done: plan.new_len });
    let sync_started = Instant::now();
    file.sync().map_err(|error| BlockError::io("sync", partial, error))?;
    Ok((written, sync_started.elapsed()))
}

/// Shares all blocks with the source where the filesystem can.
fn clone_whole(source: &Shared, target: &dyn HostFile) -> bool {
    match (source.file.system_file(), target.system_file()) {
        (Some(from), Some(to)) if !source.has_view() => rustix::fs::ioctl_ficlone(to, from).is_ok(),
        _ => false,
    }
}

fn copy_data(
    source: &Shared,
    target: &dyn HostFile,
    partial: &Path,
    progress: &dyn Progress,
) -> Result<(), BlockError> {
    let mut buf = vec![0; MAX_RECORD_BYTES];
    for extent in source.extents(0..source.len())?.into_iter().filter(|extent| !extent.state.reads_zero()) {
        let end = extent.offset + extent.len;
        let mut at = extent.offset;
        if !source.has_view() {
            at = copy_in_kernel(source, target, at, end, partial)?;
            progress.event(Event::Advance { done: at });
        }
        while at < end {
            let step = (end - at).min(buf.len() as u64) as usize;
            let piece = &mut buf[..step];
            source.read_exact_at(piece, at)?;
            for (number, unit) in piece.chunks(ZERO_UNIT).enumerate() {
                if unit.iter().any(|byte| *byte != 0) {
                    target
                        .write_all_at(unit, at + (number * ZERO_UNIT) as u64)
                        .map_err(|error| BlockError::io("write", partial, error))?;
                }
            }
            at += step as u64;
            progress.event(Event::Advance { done: at });
        }
    }
    Ok(())
}

/// Copies without the bytes passing through this process; returns how far it came.
fn copy_in_kernel(
    source: &Shared,
    target: &dyn HostFile,
    from: u64,
    end: u64,
    partial: &Path,
) -> Result<u64, BlockError> {
    let (Some(input), Some(output)) = (source.file.system_file(), target.system_file()) else {
        return Ok(from);
    };
    let mut at = from;
    while at < end {
        let (mut read_at, mut write_at) = (at, at);
        let step = usize::try_from(end - at).unwrap_or(usize::MAX).min(1 << 30);
        match rustix::fs::copy_file_range(input, Some(&mut read_at), output, Some(&mut write_at), step) {
            Ok(0) | Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => break,
            Ok(copied) => at += copied as u64,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(BlockError::io("copy to", partial, errno.into())),
        }
    }
    Ok(at)
}
