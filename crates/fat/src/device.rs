//! Our devices in the eyes of `hadris-storage`.

use std::sync::Arc;

use block::{BlockError, ReadAt, WriteAt};
use hadris_io::{Error, ErrorType};
use hadris_storage::sync::BlockDevice;
use hadris_storage::{BlockIndex, BlockSize};

/// Unit of access, whatever the filesystem's own sector is.
const BLOCK_BYTES: u32 = 512;

/// A device for reading, or for writing, too.
#[derive(Clone)]
pub(crate) enum Blocks {
    Read(Arc<dyn ReadAt>),
    Write(Arc<dyn WriteAt>),
}

impl Blocks {
    /// The reading side.
    pub(crate) fn reader(&self) -> &dyn ReadAt {
        match self {
            Blocks::Read(device) => device,
            Blocks::Write(device) => device,
        }
    }
}

fn offset(first: BlockIndex) -> u64 {
    first.get().saturating_mul(u64::from(BLOCK_BYTES))
}

impl ErrorType for Blocks {
    type Error = BlockError;
}

impl BlockDevice for Blocks {
    fn block_size(&self) -> BlockSize {
        BlockSize::new(BLOCK_BYTES).unwrap_or_else(|| unreachable!("512 is not zero"))
    }

    fn block_count(&self) -> u64 {
        self.reader().len() / u64::from(BLOCK_BYTES)
    }

    fn writable(&self) -> bool {
        matches!(self, Blocks::Write(_))
    }

    fn read_blocks(&mut self, first: BlockIndex, buf: &mut [u8]) -> Result<(), Error<BlockError>> {
        let read = self.reader().read_exact_at(buf, offset(first));
        read.map_err(|error| Error::device(error, "read"))
    }

    fn write_blocks(&mut self, first: BlockIndex, buf: &[u8]) -> Result<(), Error<BlockError>> {
        match self {
            Blocks::Read(_) => Err(Error::new(hadris_io::ErrorKind::ReadOnly, "opened for reading")),
            Blocks::Write(device) => {
                device.write_all_at(buf, offset(first)).map_err(|error| Error::device(error, "write"))
            }
        }
    }
}
