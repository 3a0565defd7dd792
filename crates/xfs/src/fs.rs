//! One open filesystem: device, superblock, geometry, and the units that an operation changes.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use block::{ReadAt, WriteAt};
use vfs::{NodeId, Timestamp, VfsError};

use crate::error::{Result, corrupt, unsupported};
use crate::geometry::Geometry;
use crate::inode::Inode;
use crate::log;
use crate::superblock::Superblock;

/// The device below, with or without its writing side.
#[derive(Clone)]
pub(crate) enum Device {
    Read(Arc<dyn ReadAt>),
    Write(Arc<dyn WriteAt>),
}

impl Device {
    pub(crate) fn reader(&self) -> &dyn ReadAt {
        match self {
            Device::Read(dev) => dev,
            Device::Write(dev) => dev,
        }
    }
}

/// An XFS filesystem.
pub struct Xfs {
    pub(crate) device: Device,
    pub(crate) superblock: Superblock,
    pub(crate) geo: Geometry,
    /// Units changed by the operation under way, by their byte on the device, stamped.
    pub(crate) pending: BTreeMap<u64, Vec<u8>>,
    /// Blocks that the kernel sets aside for its B+trees, by group.
    pub(crate) reserves: OnceLock<Vec<u32>>,
    /// The operation under way has changed what quota counts.
    pub(crate) accounting_changed: bool,
    pub(crate) now: Timestamp,
}

impl Xfs {
    /// Opens for reading. Refuses a log that must be replayed first (`xfs.log.dirty`).
    pub fn open(dev: Arc<dyn ReadAt>) -> Result<Self> {
        let fs = Self::load(Device::Read(dev))?;
        fs.require_clean_log()?;
        Ok(fs)
    }

    /// Opens for writing. Refuses features that are not written and a log that must be replayed first.
    pub fn open_writable(dev: Arc<dyn WriteAt>) -> Result<Self> {
        let fs = Self::load_writable(dev)?;
        fs.require_clean_log()?;
        Ok(fs)
    }

    /// Opens without looking at the log: for replaying it and for the check.
    pub(crate) fn load(device: Device) -> Result<Self> {
        let superblock = Superblock::read(device.reader())?;
        let geo = Geometry::new(&superblock, device.reader().len())?;
        Ok(Self {
            device,
            superblock,
            geo,
            pending: BTreeMap::new(),
            reserves: OnceLock::new(),
            accounting_changed: false,
            now: Timestamp::default(),
        })
    }

    /// Opens for writing without looking at the log: for replaying it.
    pub(crate) fn load_writable(dev: Arc<dyn WriteAt>) -> Result<Self> {
        let fs = Self::load(Device::Write(dev))?;
        fs.superblock.features().require_writable()?;
        Ok(fs)
    }

    fn require_clean_log(&self) -> Result<()> {
        if log::is_clean(self)? {
            return Ok(());
        }
        Err(unsupported("xfs.log.dirty", "a log that must be replayed", ": it was not replayed"))
    }

    /// The superblock as it is now.
    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// Reads and checks an inode, whether it is in use or not.
    pub(crate) fn read_inode(&self, number: u64) -> Result<Inode> {
        let Some((group, agino)) = self.geo.split_inode(number) else {
            return Err(corrupt(
                "xfs.inode.number",
                format!("inode {number}"),
                "lies outside the filesystem",
            ));
        };
        let byte = self.geo.inode_byte(group, agino);
        let raw = self.read_unit(byte, self.geo.inode_size)?;
        Inode::parse(self, number, byte, raw)
    }

    /// Reads an inode that a name or a caller says is in use.
    pub(crate) fn live_inode(&self, number: u64) -> Result<Inode> {
        let inode = self.read_inode(number)?;
        if inode.mode() == 0 || inode.links() == 0 {
            return Err(corrupt(
                "xfs.inode.unused",
                format!("inode {number}"),
                format!("in use expected, {} links and mode {:#o} found", inode.links(), inode.mode()),
            ));
        }
        Ok(inode)
    }

    /// The inode that a node of the `vfs` interface means.
    pub(crate) fn file_node(&self, node: NodeId) -> Result<Inode> {
        if self.geo.split_inode(node.0).is_none() {
            return Err(VfsError::NotFound { path: format!("inode {}", node.0) });
        }
        self.live_inode(node.0)
    }
}
