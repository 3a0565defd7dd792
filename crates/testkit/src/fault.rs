//! A device that fails on purpose.

use std::sync::atomic::{AtomicU64, Ordering};

use block::{BlockError, ReadAt, WriteAt};

/// Passes everything on to the device below until a number of operations is used up; from then on everything fails
/// with [`BlockError::Io`].
#[derive(Debug)]
pub struct FaultDevice<D> {
    below: D,
    left: AtomicU64,
}

impl<D> FaultDevice<D> {
    /// The first `operations` reads and writes succeed.
    pub fn new(below: D, operations: u64) -> Self {
        Self { below, left: AtomicU64::new(operations) }
    }

    /// Lets `operations` more succeed.
    pub fn allow(&self, operations: u64) {
        self.left.store(operations, Ordering::SeqCst);
    }

    fn take(&self, operation: &'static str) -> Result<(), BlockError> {
        let took = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        match took {
            Ok(_) => Ok(()),
            Err(_) => {
                Err(BlockError::io(operation, "fault device", std::io::Error::other("failed on purpose")))
            }
        }
    }
}

impl<D: ReadAt> ReadAt for FaultDevice<D> {
    fn len(&self) -> u64 {
        self.below.len()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<(), BlockError> {
        self.take("read")?;
        self.below.read_exact_at(buf, offset)
    }
}

impl<D: WriteAt> WriteAt for FaultDevice<D> {
    fn write_all_at(&self, buf: &[u8], offset: u64) -> Result<(), BlockError> {
        self.take("write")?;
        self.below.write_all_at(buf, offset)
    }

    fn flush(&self) -> Result<(), BlockError> {
        self.take("sync")?;
        self.below.flush()
    }
}
