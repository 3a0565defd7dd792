//! SHA-256 of a finished file, in a pass of its own: writes come in any order.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use block::{BlockError, HostFile};
use sha2::{Digest, Sha256};

use crate::ConvertError;
use crate::error::{Place, Stage};

/// SHA-256 of the first `len` bytes.
pub(crate) fn checksum(
    file: &dyn HostFile,
    path: &Path,
    len: u64,
    stop: &AtomicBool,
) -> Result<String, ConvertError> {
    let mut hash = Sha256::new();
    let mut buf = vec![0; 1 << 20];
    let mut at = 0;
    while at < len {
        if stop.load(Ordering::Relaxed) {
            return Err(ConvertError::Stopped);
        }
        let step = (len - at).min(buf.len() as u64);
        let part = buf.get_mut(..step as usize).unwrap_or_default();
        file.read_exact_at(part, at).map_err(|error| {
            ConvertError::host(
                Place::of(Stage::Read).host(at..at + step),
                BlockError::io("read back", path, error),
            )
        })?;
        hash.update(part);
        at += step;
    }
    Ok(crate::digest::hex(&hash.finalize()))
}
