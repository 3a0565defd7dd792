//! Committing to a new image; the source stays as it is.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use report::{Event, Progress};
use rustix::io::Errno;

use super::commit::CommitReport;
use super::format::MAX_RECORD_BYTES;
use super::journal::parent_dir;
use super::new_file::NewFile;
use crate::image::Shared;
use crate::{BlockError, HostFile, HostPlan, ImageFile, ImageState, ReadAt};

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
    let target = NewFile::create(
        Arc::clone(&source.host),
        out,
        &[source.metadata],
        options.force,
        source.metadata.mode,
        progress,
    )?;
    progress.event(Event::Stage { name: "commit", total: Some(plan.new_len) });
    let (written_bytes, mut sync_time) = make(&target, source, plan, progress)?;
    let path = target.finish(false)?;
    let sync_started = Instant::now();
    let dir = parent_dir(&path);
    host.sync_dir(dir).map_err(|error| BlockError::Commit {
        cause: Box::new(BlockError::io("sync the directory", dir, error)),
        state: ImageState::Written,
    })?;
    sync_time += sync_started.elapsed();
    Ok(CommitReport {
        images: vec![path],
        written_bytes,
        sync_time,
        total_time: started.elapsed(),
        ..CommitReport::default()
    })
}

/// Returns the bytes that the plan wrote and the time for making them durable.
fn make(
    target: &NewFile,
    source: &Shared,
    plan: &HostPlan,
    progress: &dyn Progress,
) -> Result<(u64, Duration), BlockError> {
    let (file, partial) = (target.file(), target.partial_path());
    let write_error = |error| BlockError::io("write", partial, error);
    if !clone_whole(source, file) {
        file.set_len(plan.old_len).map_err(write_error)?;
        copy_data(source, file, partial, progress)?;
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
