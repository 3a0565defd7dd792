//! Filesystem drivers on volumes, with their journals replayed apart from the disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use block::{BlockError, Extent, Overlay, ReadAt, Window, WriteAt};
use ext4::{Ext4, RecoveryReport};
use vfs::{Filesystem, VfsError};

/// Bytes copied at a time when a replayed volume is taken over into the disk's overlay.
const COPY_BYTES: u64 = 1 << 20;

/// The volume of one ext filesystem.
///
/// A filesystem that needs recovery is recovered into an overlay of its own. Only when it is written to
/// afterwards does all of that reach the disk's overlay: reading a dirty image plans no write.
pub(crate) enum ExtVolume {
    /// Journal and orphan list are empty.
    Clean(Arc<dyn WriteAt>),
    /// Recovered.
    Recovered { device: Arc<Recovered>, report: RecoveryReport },
}

/// An overlay over a volume that knows whether anything was changed since the recovery.
pub(crate) struct Recovered {
    overlay: Arc<Overlay>,
    below: Arc<Window<Arc<dyn WriteAt>>>,
    is_edited: AtomicBool,
}

impl ExtVolume {
    /// Recovers the filesystem on `below` if it needs that.
    pub fn prepare(
        below: &Arc<Window<Arc<dyn WriteAt>>>,
        memory_cap: u64,
        spill_dir: &std::path::Path,
    ) -> Result<Self, VfsError> {
        if !ext4::needs_recovery(&**below)? {
            return Ok(Self::Clean(Arc::clone(below) as Arc<dyn WriteAt>));
        }
        let base = Arc::clone(below) as Arc<dyn ReadAt>;
        let device = Arc::new(Recovered {
            overlay: Arc::new(Overlay::new(base, memory_cap, spill_dir)),
            below: Arc::clone(below),
            is_edited: AtomicBool::new(false),
        });
        let report = ext4::recover(&(Arc::clone(&device.overlay) as Arc<dyn WriteAt>))?;
        Ok(Self::Recovered { device, report })
    }

    /// The device with the recovered content.
    pub fn device(&self) -> Arc<dyn WriteAt> {
        match self {
            ExtVolume::Clean(device) => Arc::clone(device),
            ExtVolume::Recovered { device, .. } => Arc::clone(device) as Arc<dyn WriteAt>,
        }
    }

    /// What the recovery did.
    pub fn recovery(&self) -> Option<&RecoveryReport> {
        match self {
            ExtVolume::Clean(_) => None,
            ExtVolume::Recovered { report, .. } => Some(report),
        }
    }

    /// Opens the driver.
    pub fn open(&self, writable: bool) -> Result<Box<dyn Filesystem>, VfsError> {
        Ok(Box::new(self.open_ext(writable)?))
    }

    /// Opens the driver, as itself.
    pub fn open_ext(&self, writable: bool) -> Result<Ext4, VfsError> {
        match writable {
            true => Ext4::open_writable(self.device()),
            false => Ext4::open(Arc::new(self.device())),
        }
    }

    /// Brings recovery and edits into the disk's overlay, if there were edits.
    pub fn settle(&self) -> Result<(), BlockError> {
        let ExtVolume::Recovered { device, .. } = self else { return Ok(()) };
        if !device.is_edited.load(Ordering::Acquire) {
            return Ok(());
        }
        let changes = device.overlay.seal()?;
        let disk = changes.disk();
        let mut buf = Vec::new();
        for range in changes.ranges() {
            let mut at = range.start;
            while at < range.end {
                let step = (range.end - at).min(COPY_BYTES);
                buf.resize(step as usize, 0);
                disk.read_exact_at(&mut buf, at)?;
                device.below.write_all_at(&buf, at)?;
                at += step;
            }
        }
        Ok(())
    }
}

impl ReadAt for Recovered {
    fn len(&self) -> u64 {
        self.overlay.len()
    }
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<(), BlockError> {
        self.overlay.read_exact_at(buf, offset)
    }
    fn extents(&self, range: std::ops::Range<u64>) -> Result<Vec<Extent>, BlockError> {
        self.overlay.extents(range)
    }
}

impl WriteAt for Recovered {
    /// Writing what is there already is no edit.
    fn write_all_at(&self, buf: &[u8], offset: u64) -> Result<(), BlockError> {
        if !self.is_edited.load(Ordering::Acquire) {
            let mut old = vec![0; buf.len()];
            self.overlay.read_exact_at(&mut old, offset)?;
            if old == buf {
                return Ok(());
            }
            self.is_edited.store(true, Ordering::Release);
        }
        self.overlay.write_all_at(buf, offset)
    }
    fn flush(&self) -> Result<(), BlockError> {
        self.overlay.flush()
    }
}
