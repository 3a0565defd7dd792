//! One open filesystem: device, superblock, descriptors, and the blocks that an operation changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use block::{ReadAt, WriteAt};
use vfs::{NodeId, Timestamp, VfsError};

use crate::alloc::Allocator;
use crate::error::{Result, corrupt, device, unsupported};
use crate::feature::{Incompat, RoCompat};
use crate::group::{Descriptor, GroupFlags};
use crate::inode::Inode;
use crate::superblock::Superblock;

/// `s_state`: errors were seen by the kernel.
const STATE_ERROR: u16 = 2;
/// First block of an MMP block in which nobody holds the filesystem.
const MMP_CLEAN: u32 = 0xff4d_4d50;
const MMP_MAGIC: u32 = 0x004d_4d50;

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

/// An ext2, ext3 or ext4 filesystem.
pub struct Ext4 {
    pub(crate) device: Device,
    pub(crate) superblock: Superblock,
    pub(crate) descriptors: Vec<Descriptor>,
    /// Which descriptors had a right checksum and sensible places when they were read.
    pub(crate) sound: Vec<bool>,
    /// Metadata blocks changed by the operation under way, by block number.
    pub(crate) pending: BTreeMap<u64, Vec<u8>>,
    pub(crate) allocator: Allocator,
    pub(crate) now: Timestamp,
}

impl Ext4 {
    /// Opens for reading.
    ///
    /// Refuses a journal that needs recovery (`ext4.journal.needs-recovery`).
    pub fn open(dev: Arc<dyn ReadAt>) -> Result<Self> {
        let fs = Self::load(Device::Read(dev))?;
        fs.require_clean_journal()?;
        Ok(fs)
    }

    /// Opens for writing.
    ///
    /// Refuses features that are not written, a journal that needs recovery, and orphans that wait to be
    /// processed. Whether to write to a filesystem in error state ([`Ext4::has_error_state`]) is the
    /// caller's choice.
    pub fn open_writable(dev: Arc<dyn WriteAt>) -> Result<Self> {
        let fs = Self::load_writable(dev)?;
        fs.require_clean_journal()?;
        if fs.superblock.last_orphan() != 0
            || fs.superblock.features().ro_compat.contains(RoCompat::ORPHAN_PRESENT)
        {
            return Err(unsupported(
                "ext4.orphans.pending",
                "a filesystem with orphaned inodes",
                " for writing before they are processed",
            ));
        }
        Ok(fs)
    }

    /// Opens without looking at the journal: for reading the journal itself and for the check.
    pub(crate) fn load(device: Device) -> Result<Self> {
        let superblock = Superblock::read(device.reader())?;
        let (descriptors, sound) = superblock.read_descriptors(device.reader())?;
        Ok(Self {
            device,
            superblock,
            descriptors,
            sound,
            pending: BTreeMap::new(),
            allocator: Allocator::new(),
            now: Timestamp::default(),
        })
    }

    /// Opens for writing without looking at journal and orphans: for processing these.
    pub(crate) fn load_writable(dev: Arc<dyn WriteAt>) -> Result<Self> {
        let mut fs = Self::load(Device::Write(dev))?;
        fs.superblock.features().require_writable()?;
        if fs.superblock.journal_device() != 0 {
            return Err(unsupported("ext4.feature.unsupported", "an external journal", " for writing"));
        }
        if let Some(group) = fs.sound.iter().position(|sound| !sound) {
            fs.superblock.check_descriptor(group as u32, &fs.descriptors[group])?;
        }
        fs.require_no_other_user()?;
        // The kernel leaves the totals stale and sums the descriptors up when it mounts.
        fs.settle_totals();
        Ok(fs)
    }

    fn require_clean_journal(&self) -> Result<()> {
        if self.superblock.features().incompat.contains(Incompat::RECOVER) {
            return Err(unsupported(
                "ext4.journal.needs-recovery",
                "a journal that needs recovery",
                ": it was not replayed",
            ));
        }
        Ok(())
    }

    /// Refuses a filesystem that multi-mount protection says is in use.
    pub(crate) fn require_no_other_user(&self) -> Result<()> {
        if !self.superblock.features().incompat.contains(Incompat::MMP) {
            return Ok(());
        }
        let block = self.superblock.mmp_block();
        let raw = self.read_block(block)?;
        let (magic, sequence) = (ondisk::le_u32(&raw, 0), ondisk::le_u32(&raw, 4));
        if magic != MMP_MAGIC {
            return Err(corrupt(
                "ext4.mmp.magic",
                format!("MMP block {block}"),
                format!("magic {MMP_MAGIC:#x} expected, {magic:#x} found"),
            ));
        }
        if sequence != MMP_CLEAN {
            return Err(unsupported(
                "ext4.mmp.in-use",
                "a filesystem that multi-mount protection marks as in use",
                format!(" (sequence {sequence:#x})"),
            ));
        }
        Ok(())
    }

    /// True when the kernel recorded errors on this filesystem.
    pub fn has_error_state(&self) -> bool {
        self.superblock.state() & STATE_ERROR != 0 || self.superblock.error_count() != 0
    }

    /// The superblock as it is now, changes that wait for `flush` included.
    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// The descriptor of a group; an error when its checksum or places are wrong.
    pub fn descriptor(&self, group: u32) -> Result<&Descriptor> {
        let index = group as usize;
        match (self.descriptors.get(index), self.sound.get(index)) {
            (Some(descriptor), Some(true)) => Ok(descriptor),
            (Some(descriptor), _) => {
                self.superblock.check_descriptor(group, descriptor)?;
                Ok(descriptor)
            }
            _ => Err(corrupt(
                "ext4.group.number",
                format!("group {group}"),
                format!("the filesystem has {} groups", self.superblock.groups()),
            )),
        }
    }

    /// Flags of a group; none without group checksums.
    pub(crate) fn group_flags(&self, group: u32) -> Result<GroupFlags> {
        let flags = self.descriptor(group)?.flags();
        Ok(if self.superblock.features().has_group_checksums() { flags } else { GroupFlags::empty() })
    }

    pub(crate) fn block_size(&self) -> usize {
        self.superblock.block_size() as usize
    }

    /// Reads one block, as the operation under way has changed it.
    pub fn read_block(&self, block: u64) -> Result<Vec<u8>> {
        if let Some(changed) = self.pending.get(&block) {
            return Ok(changed.clone());
        }
        let mut raw = vec![0; self.block_size()];
        self.read_bytes(block, 0, &mut raw)?;
        Ok(raw)
    }

    /// Fills `buf` with content of blocks from `block` on, `skip` bytes in; for file data.
    pub(crate) fn read_bytes(&self, block: u64, skip: u64, buf: &mut [u8]) -> Result<()> {
        let bs = u64::from(self.superblock.block_size());
        let end = (skip + buf.len() as u64).div_ceil(bs).checked_add(block);
        if block < u64::from(self.superblock.first_data_block())
            || end.is_none_or(|end| end > self.superblock.blocks())
        {
            return Err(corrupt(
                "ext4.block.range",
                format!("block {block}"),
                format!("outside the filesystem's {} blocks", self.superblock.blocks()),
            ));
        }
        self.device.reader().read_exact_at(buf, block * bs + skip).map_err(device)
    }

    /// Block of the inode table that holds an inode, and the inode's byte in it.
    pub(crate) fn inode_place(&self, number: u32) -> Result<(u64, usize)> {
        let Some((group, index)) = self.superblock.group_of_inode(number) else {
            return Err(corrupt(
                "ext4.inode.number",
                format!("inode {number}"),
                format!("the filesystem has inodes 1..={}", self.superblock.inodes()),
            ));
        };
        let table = self.descriptor(group)?.inode_table();
        let byte = u64::from(index) * u64::from(self.superblock.inode_size());
        let bs = u64::from(self.superblock.block_size());
        Ok((table + byte / bs, (byte % bs) as usize))
    }

    /// Reads and checks an inode.
    pub fn inode(&self, number: u32) -> Result<Inode> {
        let (block, at) = self.inode_place(number)?;
        let len = usize::from(self.superblock.inode_size());
        let raw = match self.pending.get(&block) {
            Some(changed) => changed.get(at..at + len).map(<[u8]>::to_vec).unwrap_or_default(),
            None => {
                let mut raw = vec![0; len];
                self.read_bytes(block, at as u64, &mut raw)?;
                raw
            }
        };
        Inode::parse(&self.superblock, number, raw)
    }

    /// Reads an inode that a name or a caller says is in use.
    pub(crate) fn live_inode(&self, number: u32) -> Result<Inode> {
        let inode = self.inode(number)?;
        if inode.links() == 0 || inode.mode() == 0 {
            return Err(corrupt(
                "ext4.inode.unused",
                format!("inode {number}"),
                format!("in use expected, {} links and mode {:#o} found", inode.links(), inode.mode()),
            ));
        }
        Ok(inode)
    }

    /// The inode that a node of the `vfs` interface means.
    pub(crate) fn node(&self, node: NodeId) -> Result<Inode> {
        let number =
            u32::try_from(node.0).map_err(|_| VfsError::NotFound { path: format!("inode {}", node.0) })?;
        self.live_inode(number)
    }
}
