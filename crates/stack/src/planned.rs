//! An image file as it will be after a commit, for checking it before.

use std::path::Path;
use std::sync::Arc;

use block::{BlockError, HostPlan, ReadAt};

/// The host file with the writes of a plan over it. Nothing is written.
pub(crate) struct PlannedFile {
    file: Arc<dyn ReadAt>,
    plan: HostPlan,
    /// Indexes of the plan's writes by host offset; no two writes overlap.
    by_offset: Vec<usize>,
    name: String,
}

impl PlannedFile {
    pub fn new(file: Arc<dyn ReadAt>, plan: HostPlan, path: &Path) -> Self {
        let mut by_offset: Vec<usize> = (0..plan.writes.len()).collect();
        by_offset.sort_by_key(|index| plan.writes.get(*index).map(|write| write.host_offset));
        Self { file, plan, by_offset, name: format!("{} after the commit", path.display()) }
    }
}

impl ReadAt for PlannedFile {
    fn len(&self) -> u64 {
        self.plan.new_len
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<(), BlockError> {
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= self.len());
        let Some(end) = end else {
            return Err(BlockError::PastEnd {
                layer: self.name.clone(),
                offset,
                len: buf.len() as u64,
                device_len: self.len(),
            });
        };
        // Behind the old end of the file there are zeroes and planned writes.
        let present = self.file.len().saturating_sub(offset).min(buf.len() as u64) as usize;
        let (old, new) = buf.split_at_mut(present);
        new.fill(0);
        if !old.is_empty() {
            self.file.read_exact_at(old, offset)?;
        }
        let writes = || self.by_offset.iter().filter_map(|index| self.plan.writes.get(*index));
        let first = self.by_offset.partition_point(|index| {
            self.plan.writes.get(*index).is_some_and(|write| write.host_offset + write.len() <= offset)
        });
        for write in writes().skip(first).take_while(|write| write.host_offset < end) {
            let from = write.host_offset.max(offset);
            let to = (write.host_offset + write.len()).min(end);
            let place = (from - offset) as usize..(to - offset) as usize;
            if let Some(target) = buf.get_mut(place) {
                self.plan.read_source(write, from - write.host_offset, target)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use block::{HostWrite, MemoryDevice, WriteSource};

    #[test]
    fn reads_as_the_file_with_the_writes_applied() {
        let old: Vec<u8> = (0..100).collect();
        let virtual_disk: Arc<dyn ReadAt> = Arc::new(MemoryDevice::new((100..200).collect()));
        let plan = HostPlan {
            writes: vec![
                HostWrite { host_offset: 90, source: WriteSource::Bytes(vec![1; 30]) },
                HostWrite { host_offset: 10, source: WriteSource::Virtual { guest_offset: 50, len: 5 } },
            ],
            old_len: 100,
            new_len: 150,
            virtual_disk,
        };
        let mut expected = old.clone();
        expected.resize(150, 0);
        expected[90..120].fill(1);
        expected[10..15].copy_from_slice(&[150, 151, 152, 153, 154]);
        let planned = PlannedFile::new(Arc::new(MemoryDevice::new(old)), plan, Path::new("x"));
        for start in 0..150 {
            for end in start..=150 {
                let mut got = vec![0xee; end - start];
                planned.read_exact_at(&mut got, start as u64).unwrap();
                assert_eq!(got, expected[start..end], "{start}..{end}");
            }
        }
        assert!(planned.read_exact_at(&mut [0; 2], 149).is_err());
    }
}
