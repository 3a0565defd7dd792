//! VHD targets, fixed and dynamic.
//!
//! Both name the exact size of the disk; their unique number follows from the content, so that equal disks give equal
//! images and different ones do not look alike to whoever goes by that number.

use std::ops::Range;

use vhd::{DynamicLayout, FixedLayout, Identity, VhdError};

use super::{End, Finish, Layout, LayoutMaker, Placed, Zeroes};
use crate::ConvertError;
use crate::error::{Place, Stage};

/// Makes VHD images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VhdTarget {
    /// The disk, then a footer. Runs of zero of at least this length become holes of the file.
    Fixed {
        /// Bytes.
        sparse_bytes: u64,
    },
    /// Only blocks that are not zero.
    Dynamic,
}

impl LayoutMaker for VhdTarget {
    fn name(&self) -> &'static str {
        "vhd"
    }

    fn layout(&self, virtual_len: Option<u64>, is_new: bool) -> Result<Box<dyn Layout>, ConvertError> {
        match self {
            VhdTarget::Fixed { sparse_bytes } => {
                // A stream whose length is not known is judged at its end.
                if let Some(len) = virtual_len {
                    FixedLayout::new(len).map_err(refused)?;
                }
                let cluster_len = (*sparse_bytes).clamp(4096, 4 << 20).next_power_of_two();
                Ok(Box::new(Fixed { cluster_len, is_new, decided: 0 }))
            }
            VhdTarget::Dynamic => {
                let Some(len) = virtual_len else { return Err(super::length_needed("a dynamic VHD image")) };
                let layout = DynamicLayout::new(len).map_err(refused)?;
                Ok(Box::new(Dynamic { layout, len, stored: Vec::new() }))
            }
        }
    }
}

fn refused(error: VhdError) -> ConvertError {
    ConvertError::Source { place: Place::of(Stage::Open), cause: Box::new(error) }
}

fn identity(end: &End) -> Identity {
    Identity::of_digest(&end.digest.unwrap_or_default())
}

struct Fixed {
    cluster_len: u64,
    is_new: bool,
    decided: u64,
}

impl Layout for Fixed {
    fn cluster_len(&self) -> u64 {
        self.cluster_len
    }

    fn zeroes(&self) -> Zeroes {
        if self.is_new { Zeroes::Implied } else { Zeroes::All }
    }

    fn wants_digest(&self) -> bool {
        true
    }

    fn place_plain(&mut self, guest: Range<u64>, placed: &mut Placed) -> Result<(), ConvertError> {
        placed.push_data(guest.start, guest.end - guest.start);
        self.decided = guest.end;
        Ok(())
    }

    fn place_zeroes(&mut self, guest: Range<u64>, placed: &mut Placed) -> Result<(), ConvertError> {
        self.decided = guest.end;
        placed.zeroes.push(guest);
        Ok(())
    }

    fn decided(&self) -> u64 {
        self.decided
    }

    fn finish(&mut self, end: &End, _placed: &mut Placed) -> Result<Finish, ConvertError> {
        let layout = FixedLayout::new(end.virtual_len).map_err(refused)?;
        let footer = layout.footer(identity(end)).to_vec();
        Ok(Finish { file_len: layout.file_len(), header: Some((layout.footer_offset(), footer)) })
    }
}

struct Dynamic {
    layout: DynamicLayout,
    len: u64,
    /// Numbers of the blocks that have a place, ascending.
    stored: Vec<u32>,
}

impl Dynamic {
    fn count(&self) -> u32 {
        // No more than the layout has blocks, which is 32 bits.
        self.stored.len() as u32
    }
}

impl Layout for Dynamic {
    fn cluster_len(&self) -> u64 {
        self.layout.block_size()
    }

    fn pads_last_cluster(&self) -> bool {
        true
    }

    fn wants_digest(&self) -> bool {
        true
    }

    fn place_plain(&mut self, guest: Range<u64>, placed: &mut Placed) -> Result<(), ConvertError> {
        let block_size = self.layout.block_size();
        for block in guest.start / block_size..guest.end.div_ceil(block_size) {
            let place = self.count();
            placed.push_data(self.layout.data_offset(place), block_size);
            placed.tables.push((self.layout.bitmap_offset(place), self.layout.bitmap()));
            self.stored.push(block as u32);
        }
        Ok(())
    }

    fn place_zeroes(&mut self, _guest: Range<u64>, _placed: &mut Placed) -> Result<(), ConvertError> {
        Ok(())
    }

    fn decided(&self) -> u64 {
        self.layout.footer_offset(self.count())
    }

    fn finish(&mut self, end: &End, placed: &mut Placed) -> Result<Finish, ConvertError> {
        if end.virtual_len != self.len {
            return Err(super::length_changed(self.len, end.virtual_len));
        }
        let identity = identity(end);
        placed.tables.push((self.layout.footer_offset(self.count()), self.layout.footer(identity).to_vec()));
        let head = self.layout.head(self.stored.iter().copied(), identity);
        Ok(Finish { file_len: self.layout.file_len(self.count()), header: Some((0, head)) })
    }
}
