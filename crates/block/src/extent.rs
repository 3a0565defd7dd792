//! What a range of a device is made of.

use std::fs::File;
use std::ops::Range;
use std::path::Path;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use crate::BlockError;

/// State of an [`Extent`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExtentState {
    /// Stored bytes.
    Data,
    /// Stored as explicit zeroes: reads back as zero.
    Zero,
    /// Nothing stored: reads back as zero.
    Hole,
    /// Stored compressed.
    Compressed,
}

impl ExtentState {
    /// True when the range is known to read as zero without reading it.
    pub fn reads_zero(self) -> bool {
        matches!(self, ExtentState::Zero | ExtentState::Hole)
    }
}

/// Contiguous range with one state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Extent {
    /// First byte.
    pub offset: u64,
    /// Bytes, never 0.
    pub len: u64,
    /// State of the whole range.
    pub state: ExtentState,
}

/// Data and holes of a host file by `SEEK_DATA`/`SEEK_HOLE`; one data extent where the host cannot tell.
pub(crate) fn host_extents(file: &File, path: &Path, range: Range<u64>) -> Result<Vec<Extent>, BlockError> {
    let mut extents = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let data = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(data) => data.min(range.end),
            Err(Errno::NXIO) => range.end,
            Err(Errno::INVAL | Errno::NOTSUP) => at,
            Err(errno) => return Err(BlockError::io("look for data", path, errno.into())),
        };
        if data > at {
            extents.push(Extent { offset: at, len: data - at, state: ExtentState::Hole });
            at = data;
            continue;
        }
        let hole = match rustix::fs::seek(file, SeekFrom::Hole(at)) {
            Ok(hole) if hole > at => hole.min(range.end),
            Ok(_) | Err(Errno::INVAL | Errno::NOTSUP | Errno::NXIO) => range.end,
            Err(errno) => return Err(BlockError::io("look for holes", path, errno.into())),
        };
        extents.push(Extent { offset: at, len: hole - at, state: ExtentState::Data });
        at = hole;
    }
    Ok(extents)
}
