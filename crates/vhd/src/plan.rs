//! Edits of a fixed image in place, as host-file writes.

use std::ops::Range;

use block::{ChangeSet, HostPlan, HostWrite, ReadAt, WriteSource};

use crate::footer::{DiskKind, Footer};
use crate::image::{Form, Vhd};
use crate::layout::FixedLayout;
use crate::{Refused, SECTOR_BYTES, VhdError};

impl Vhd {
    /// Ok when [`Vhd::plan_commit`] can plan edits of this image.
    pub fn check_writable(&self) -> Result<(), VhdError> {
        let refuse = |feature| Err(VhdError::Unsupported { path: self.path.clone(), feature });
        match &self.form {
            Form::Dynamic(_) => refuse(Refused::WriteDynamic),
            // What the saved machine holds in memory would be written over the edits.
            Form::Fixed if self.footer.is_saved_state => refuse(Refused::WriteSavedState),
            Form::Fixed => Ok(()),
        }
    }

    /// Ok when the disk can become `size` bytes long.
    pub fn check_growable(&self, size: u64) -> Result<(), VhdError> {
        self.check_writable()?;
        FixedLayout::new(size).map(|_| ())
    }

    /// Host-file writes that bring the changes into the image: guest offsets are host offsets, and a disk that became
    /// longer gets a new footer behind its new end.
    pub fn plan_commit(&self, changes: &ChangeSet) -> Result<HostPlan, VhdError> {
        self.check_writable()?;
        let virtual_disk = changes.disk();
        let old_len = self.file.len();
        let mut ranges: Vec<Range<u64>> = changes.ranges().to_vec();
        let (mut new_len, mut footer) = (old_len, None);
        if virtual_disk.len() > self.size {
            let layout = FixedLayout::new(virtual_disk.len())?;
            new_len = layout.file_len();
            if new_len < old_len {
                // The file holds more than disk and footer; what that is, nobody says.
                return Err(VhdError::Damaged {
                    path: self.path.clone(),
                    code: "vhd.fixed.trailing",
                    host_offset: layout.file_len(),
                    detail: format!("the file has {old_len} bytes, a disk of this size takes {new_len}"),
                });
            }
            // What stood behind the old end (the footer) becomes part of the disk and is overwritten with it.
            let old_tail = self.size..old_len.min(layout.footer_offset());
            ranges = with_gaps_filled(&ranges, old_tail);
            footer = Some(HostWrite {
                host_offset: layout.footer_offset(),
                source: WriteSource::Bytes(self.grown_footer(virtual_disk.len()).to_bytes().to_vec()),
            });
        }
        let writes = ranges.iter().map(|range| HostWrite {
            host_offset: range.start,
            source: WriteSource::Virtual { guest_offset: range.start, len: range.end - range.start },
        });
        let writes = writes.chain(footer).collect();
        Ok(HostPlan { writes, old_len, new_len, virtual_disk })
    }

    /// The footer with another size, which is exact whoever reads it; everything else stays as it is.
    fn grown_footer(&self, size: u64) -> Footer {
        let exact = Footer::new(DiskKind::Fixed, size, self.footer.identity);
        Footer { features: self.footer.features, original_size: self.footer.original_size, ..exact }
    }
}

/// `ranges` (sorted, disjoint) with `also` covered, too.
fn with_gaps_filled(ranges: &[Range<u64>], also: Range<u64>) -> Vec<Range<u64>> {
    let mut filled = Vec::with_capacity(ranges.len() + 2);
    let mut at = also.start;
    for range in ranges {
        let gap = at..range.start.min(also.end);
        if gap.start < gap.end {
            filled.push(gap);
        }
        filled.push(range.clone());
        at = at.max(range.end);
    }
    if at < also.end {
        filled.push(at..also.end);
    }
    filled
}

const _: () = assert!(SECTOR_BYTES == crate::footer::FOOTER_BYTES as u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_filled_once() {
        let covers =
            |ranges: &[Range<u64>], at: u64| ranges.iter().filter(|range| range.contains(&at)).count();
        let cases: [&[(u64, u64)]; 6] =
            [&[], &[(0, 4)], &[(0, 12)], &[(11, 12), (14, 15)], &[(2, 3), (18, 25)], &[(30, 40)]];
        for case in cases {
            let ranges: Vec<Range<u64>> = case.iter().map(|(start, end)| *start..*end).collect();
            let filled = with_gaps_filled(&ranges, 10..20);
            for at in 0..50 {
                let expected = usize::from((10..20).contains(&at) || covers(&ranges, at) == 1);
                assert_eq!(covers(&filled, at), expected, "{ranges:?} at {at}: {filled:?}");
            }
            assert!(filled.windows(2).all(|pair| pair[0].end <= pair[1].start), "{filled:?}");
        }
    }
}
