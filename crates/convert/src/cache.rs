//! The page cache of the host, left as it was found.

use std::fs::File;

use rustix::fs::Advice;
use rustix::io::{Errno, ReadWriteFlags};

use crate::{PieceKind, Source};

/// Places that are looked at.
const SAMPLES: usize = 32;
/// Pieces of the map that are looked at.
const SAMPLED_PIECES: usize = 1024;

/// True when the source is not in the page cache: then what is read is forgotten behind the reader. Says at once that
/// the files are read from front to back.
///
/// A read that must not wait (`RWF_NOWAIT`) says `EAGAIN` where it would have to go to the disk.
pub(crate) fn is_cold(source: &dyn Source) -> bool {
    for file in 0..source.host_files() {
        if let Some(file) = source.system_file(file) {
            let _ = rustix::fs::fadvise(file, 0, None, Advice::Sequential);
        }
    }
    let Ok(pieces) = source.map(0..source.len(), SAMPLED_PIECES) else { return false };
    let stored: Vec<(usize, u64)> = pieces
        .iter()
        .filter_map(|piece| match piece.kind {
            PieceKind::Host { file, host_offset } => Some((file, host_offset + piece.len / 2)),
            PieceKind::Compressed { file, host_offset, .. } => Some((file, host_offset)),
            _ => None,
        })
        .collect();
    let step = stored.len().div_ceil(SAMPLES).max(1);
    let (mut cached, mut cold) = (0, 0);
    for (file, offset) in stored.iter().step_by(step) {
        match source.system_file(*file).map(|file| is_cached(file, *offset)) {
            Some(Some(true)) => cached += 1,
            Some(Some(false)) => cold += 1,
            _ => {}
        }
    }
    cold > cached
}

/// `None` where the host cannot tell.
fn is_cached(file: &File, offset: u64) -> Option<bool> {
    let mut byte = [0];
    let mut slices = [std::io::IoSliceMut::new(&mut byte)];
    match rustix::io::preadv2(file, &mut slices, offset, ReadWriteFlags::NOWAIT) {
        Ok(read) => (read > 0).then_some(true),
        Err(Errno::AGAIN) => Some(false),
        Err(_) => None,
    }
}

/// Forgets a range that was read.
pub(crate) fn forget(source: &dyn Source, file: usize, offset: u64, len: u64) {
    if let (Some(file), Some(len)) = (source.system_file(file), std::num::NonZeroU64::new(len)) {
        // A hint: what the host makes of it is no concern of the copy.
        let _ = rustix::fs::fadvise(file, offset, Some(len), Advice::DontNeed);
    }
}
