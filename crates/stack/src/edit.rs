//! Edits of the virtual disk itself: its length and its partition table.

use block::{ReadAt, WriteAt};
use partition::PartitionTable;
use vfs::DiskEdit;

use crate::StackError;
use crate::disk::Disk;
use crate::image::{Driver, Image};

/// The largest disk: what signed offsets of the host reach, in whole sectors.
const MAX_DISK_BYTES: u64 = i64::MAX as u64 / 4096 * 4096;

impl Image {
    /// Edits the virtual disk, in this order. To be called between the edits of files and [`Image::seal`], the tree
    /// flushed; [`Image::device_table`] stays as it was when the image was opened, [`crate::SealedImage::device_table`]
    /// tells the new one.
    ///
    /// Growing gives the disk its new end, with the backup of a GPT there; no partition and no filesystem grows. A
    /// partition that is part of the tree is not removed. After an error the image is to be dropped: earlier edits of
    /// the list may have been made.
    pub fn edit_disk(&mut self, edits: &[DiskEdit]) -> Result<(), StackError> {
        for edit in edits {
            match *edit {
                DiskEdit::Grow { to } => self.grow(*edit, to)?,
                DiskEdit::RemovePartition { number } => self.disk.remove_partition(*edit, number)?,
            }
        }
        Ok(())
    }

    fn grow(&mut self, edit: DiskEdit, to: u64) -> Result<(), StackError> {
        let refuse = |code, reason: String| Err(StackError::DiskEdit { edit, code, reason });
        let (now, sector_size) = (self.disk.overlay.len(), u64::from(self.disk.partitions.sector_size));
        if to < now {
            return refuse("stack.disk-edit.shrinks", format!("it has {now}"));
        }
        if !to.is_multiple_of(sector_size) || to > MAX_DISK_BYTES {
            let reason = format!("expected a multiple of {sector_size} up to {MAX_DISK_BYTES}");
            return refuse("stack.disk-edit.length", reason);
        }
        match &self.driver {
            Driver::Raw => {}
            _ if self.is_remade => {}
            Driver::Qcow2(image) => image.check_growable(to)?,
            Driver::Vhd(image) => image.check_growable(to)?,
        }
        self.disk.overlay.grow(to)?;
        partition::fit_to_disk(&*self.disk.overlay, &self.disk.partitions)?;
        self.disk.reread_partitions()
    }
}

impl Disk {
    fn remove_partition(&mut self, edit: DiskEdit, number: u32) -> Result<(), StackError> {
        let volumes = &self.volumes.table.volumes;
        let index = volumes.iter().position(|volume| volume.is_partition(0, number));
        let logical = volumes.iter().filter_map(|volume| volume.logical.as_ref());
        if let Some(logical) =
            logical.into_iter().find(|logical| index.is_some_and(|it| logical.on.contains(&it)))
        {
            let reason = format!("volume group {} lies on it", logical.group);
            return Err(StackError::DiskEdit { edit, code: "stack.disk-edit.in-use", reason });
        }
        if let Some(at) = index.and_then(|index| self.mounted.get(&index)) {
            let (code, reason) = ("stack.disk-edit.mounted", format!("the guest has it at {at}"));
            return Err(StackError::DiskEdit { edit, code, reason });
        }
        partition::remove(&*self.overlay, &self.partitions, number)?;
        self.reread_partitions()
    }

    /// The table as it stands in the overlay now, for the next edit.
    fn reread_partitions(&mut self) -> Result<(), StackError> {
        let sector_size = Some(self.partitions.sector_size);
        self.partitions = partition::read(&*self.overlay as &dyn WriteAt, sector_size)?;
        Ok(())
    }
}

/// What is wrong with `after` and was not with `before`; what a longer disk put right does not count.
pub(crate) fn new_problem(before: &PartitionTable, after: &PartitionTable) -> Option<String> {
    let is_old = |code: &str| before.findings.iter().any(|finding| finding.code == code);
    let new = after.findings.iter().find(|finding| !is_old(finding.code));
    new.map(|finding| finding.detail.clone())
}
