//! Host-file writes that bring a change set into an image file.

use std::sync::Arc;

use crate::{BlockError, ChangeSet, ReadAt};

/// Where the bytes of a [`HostWrite`] come from.
#[derive(Clone)]
pub enum WriteSource {
    /// These bytes.
    Bytes(Vec<u8>),
    /// `len` bytes of the virtual disk (through the overlay) from this guest offset; read when written,
    /// so that a plan stays small.
    Virtual {
        /// Guest offset, bytes.
        guest_offset: u64,
        /// Bytes.
        len: u64,
    },
}

/// One write to the host file.
#[derive(Clone)]
pub struct HostWrite {
    /// Position in the host file, bytes.
    pub host_offset: u64,
    /// What is written there.
    pub source: WriteSource,
}

impl HostWrite {
    /// Bytes written.
    pub fn len(&self) -> u64 {
        match &self.source {
            WriteSource::Bytes(bytes) => bytes.len() as u64,
            WriteSource::Virtual { len, .. } => *len,
        }
    }

    /// True when nothing is written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// All host-file writes of one commit: data first, then metadata, the header last. No two overlap.
#[derive(Clone)]
pub struct HostPlan {
    /// In the order in which they are to be written.
    pub writes: Vec<HostWrite>,
    /// Length of the host file before.
    pub old_len: u64,
    /// Length of the host file afterwards; never less than `old_len`.
    pub new_len: u64,
    /// The virtual disk with all changes, which [`WriteSource::Virtual`] reads.
    pub virtual_disk: Arc<dyn ReadAt>,
}

impl HostPlan {
    /// True when committing would change no byte.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.old_len == self.new_len
    }

    /// Says what is wrong when the plan does not fit an image of `len` bytes or contradicts itself.
    pub(crate) fn check(&self, len: u64) -> Result<(), String> {
        if self.old_len != len {
            return Err(format!("planned for a file of {} bytes, it has {len}", self.old_len));
        }
        if self.new_len < self.old_len {
            return Err(format!("shrinks from {} to {} bytes", self.old_len, self.new_len));
        }
        let mut ranges = Vec::with_capacity(self.writes.len());
        for write in self.writes.iter().filter(|write| !write.is_empty()) {
            match write.host_offset.checked_add(write.len()) {
                Some(end) if end <= self.new_len => ranges.push((write.host_offset, end)),
                _ => {
                    let (at, bytes) = (write.host_offset, write.len());
                    return Err(format!("{bytes} bytes at {at} lie behind the new end {}", self.new_len));
                }
            }
        }
        ranges.sort_unstable();
        for pair in ranges.windows(2) {
            if let [(_, end), (start, _)] = pair
                && start < end
            {
                return Err(format!("two writes overlap at {start}"));
            }
        }
        Ok(())
    }

    /// Fills `buf` with the bytes of `write` from `skip` bytes on.
    pub fn read_source(&self, write: &HostWrite, skip: u64, buf: &mut [u8]) -> Result<(), BlockError> {
        crate::device::check_range("planned write", skip, buf.len() as u64, write.len())?;
        match &write.source {
            WriteSource::Bytes(bytes) => {
                let start = skip as usize;
                buf.copy_from_slice(&bytes[start..start + buf.len()]);
                Ok(())
            }
            WriteSource::Virtual { guest_offset, .. } => {
                self.virtual_disk.read_exact_at(buf, guest_offset + skip)
            }
        }
    }
}

/// The plan for a raw image file of `host_len` bytes: guest offsets are host offsets. A disk that became longer makes
/// the file longer.
pub fn raw_plan(changes: &ChangeSet, host_len: u64) -> HostPlan {
    let writes = changes
        .ranges()
        .iter()
        .map(|range| HostWrite {
            host_offset: range.start,
            source: WriteSource::Virtual { guest_offset: range.start, len: range.end - range.start },
        })
        .collect();
    let virtual_disk = changes.disk();
    HostPlan { writes, old_len: host_len, new_len: host_len.max(virtual_disk.len()), virtual_disk }
}
