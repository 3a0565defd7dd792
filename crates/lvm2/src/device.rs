//! A logical volume as a device: extents of physical volumes put together.

use std::ops::Range;
use std::sync::Arc;

use block::{BlockError, Extent, ReadAt, WriteAt};

/// Bytes of a logical volume, made of ranges of the devices below.
pub struct LogicalDevice {
    pub(crate) name: String,
    pub(crate) len: u64,
    /// In order, without gaps.
    pub(crate) runs: Vec<Run>,
    pub(crate) footprint: Vec<(usize, Range<u64>)>,
}

/// A run of bytes that is mapped in one way.
pub(crate) struct Run {
    pub start: u64,
    pub len: u64,
    pub map: Map,
}

/// How a run is mapped.
pub(crate) enum Map {
    /// Chunks of the columns by turns.
    Stripes { chunk: u64, columns: Vec<Place> },
    /// The same bytes on each leg; the first one is read.
    Legs(Vec<Place>),
}

/// Where a column or leg begins.
pub(crate) struct Place {
    pub below: Below,
    pub offset: u64,
}

/// What a column or leg lies on.
pub(crate) enum Below {
    /// A physical volume, with its index in the list that was assembled.
    Physical(usize, Arc<dyn WriteAt>),
    /// Another logical volume.
    Logical(Arc<LogicalDevice>),
}

impl Place {
    fn device(&self) -> &dyn WriteAt {
        match &self.below {
            Below::Physical(_, device) => &**device,
            Below::Logical(device) => &**device,
        }
    }
}

/// A contiguous piece of a request.
struct Piece<'p> {
    /// First byte within the logical volume.
    at: u64,
    len: u64,
    /// Where it lies: one place, or all legs.
    places: &'p [Place],
    /// Added to the place's offset.
    within: u64,
}

impl LogicalDevice {
    fn check(&self, offset: u64, len: u64) -> Result<(), BlockError> {
        match offset.checked_add(len) {
            Some(end) if end <= self.len => Ok(()),
            _ => Err(BlockError::PastEnd { layer: self.name.clone(), offset, len, device_len: self.len }),
        }
    }

    /// Calls `work` for each piece of a range that was checked.
    fn pieces(
        &self,
        offset: u64,
        len: u64,
        mut work: impl FnMut(Piece<'_>) -> Result<(), BlockError>,
    ) -> Result<(), BlockError> {
        let (mut at, end) = (offset, offset + len);
        let mut index = self.runs.partition_point(|run| run.start + run.len <= offset);
        while at < end {
            let Some(run) = self.runs.get(index) else { return self.check(at, self.len.max(1)) };
            let (inside, left) = (at - run.start, (end - at).min(run.start + run.len - at));
            let piece = match &run.map {
                Map::Legs(legs) => Piece { at, len: left, places: legs, within: inside },
                Map::Stripes { chunk, columns } => {
                    let (row, count) = (inside / chunk, columns.len() as u64);
                    let column = (row % count) as usize;
                    Piece {
                        at,
                        len: left.min(chunk - inside % chunk),
                        places: columns.get(column..=column).unwrap_or_default(),
                        within: row / count * chunk + inside % chunk,
                    }
                }
            };
            at += piece.len;
            if at == run.start + run.len {
                index += 1;
            }
            work(piece)?;
        }
        Ok(())
    }

    /// Everything that it lies on, legs and all: index of the physical volume in the list that was assembled, and bytes
    /// there.
    pub fn footprint(&self) -> &[(usize, Range<u64>)] {
        &self.footprint
    }

    /// Where exactly a range lies, on all legs: index of the physical volume and bytes there. `None` where columns take
    /// turns, which would be very many pieces.
    pub fn locate(&self, range: Range<u64>) -> Option<Vec<(usize, Range<u64>)>> {
        let mut found = Vec::new();
        self.locate_into(range, &mut found).then_some(found)
    }

    fn locate_into(&self, range: Range<u64>, found: &mut Vec<(usize, Range<u64>)>) -> bool {
        let is_striped = |run: &Run| matches!(&run.map, Map::Stripes { columns, .. } if columns.len() > 1);
        let len = range.end.saturating_sub(range.start);
        if self.runs.iter().any(is_striped) || self.check(range.start, len).is_err() {
            return false;
        }
        let mut is_known = true;
        let walked = self.pieces(range.start, len, |piece| {
            for place in piece.places {
                let start = place.offset + piece.within;
                match &place.below {
                    Below::Physical(index, _) => found.push((*index, start..start + piece.len)),
                    Below::Logical(device) => {
                        is_known &= device.locate_into(start..start + piece.len, found);
                    }
                }
            }
            Ok(())
        });
        is_known && walked.is_ok()
    }
}

impl ReadAt for LogicalDevice {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<(), BlockError> {
        self.check(offset, buf.len() as u64)?;
        self.pieces(offset, buf.len() as u64, |piece| {
            let start = (piece.at - offset) as usize;
            let part = buf.get_mut(start..start + piece.len as usize).unwrap_or_default();
            match piece.places.first() {
                Some(place) => place.device().read_exact_at(part, place.offset + piece.within),
                None => Ok(()),
            }
        })
    }

    fn extents(&self, range: Range<u64>) -> Result<Vec<Extent>, BlockError> {
        let len = range.end.saturating_sub(range.start);
        self.check(range.start, len)?;
        let mut extents: Vec<Extent> = Vec::new();
        self.pieces(range.start, len, |piece| {
            let Some(place) = piece.places.first() else { return Ok(()) };
            let start = place.offset + piece.within;
            for below in place.device().extents(start..start + piece.len)? {
                let offset = below.offset - start + piece.at;
                match extents.last_mut() {
                    Some(last) if last.state == below.state && last.offset + last.len == offset => {
                        last.len += below.len;
                    }
                    _ => extents.push(Extent { offset, ..below }),
                }
            }
            Ok(())
        })?;
        Ok(extents)
    }
}

impl WriteAt for LogicalDevice {
    fn write_all_at(&self, buf: &[u8], offset: u64) -> Result<(), BlockError> {
        self.check(offset, buf.len() as u64)?;
        self.pieces(offset, buf.len() as u64, |piece| {
            let start = (piece.at - offset) as usize;
            let part = buf.get(start..start + piece.len as usize).unwrap_or_default();
            piece
                .places
                .iter()
                .try_for_each(|place| place.device().write_all_at(part, place.offset + piece.within))
        })
    }

    fn write_zeroes(&self, offset: u64, len: u64) -> Result<(), BlockError> {
        self.check(offset, len)?;
        self.pieces(offset, len, |piece| {
            piece
                .places
                .iter()
                .try_for_each(|place| place.device().write_zeroes(place.offset + piece.within, piece.len))
        })
    }

    fn discard(&self, offset: u64, len: u64) -> Result<(), BlockError> {
        self.check(offset, len)?;
        self.pieces(offset, len, |piece| {
            piece
                .places
                .iter()
                .try_for_each(|place| place.device().discard(place.offset + piece.within, piece.len))
        })
    }

    fn flush(&self) -> Result<(), BlockError> {
        for run in &self.runs {
            let (Map::Legs(places) | Map::Stripes { columns: places, .. }) = &run.map;
            places.iter().try_for_each(|place| place.device().flush())?;
        }
        Ok(())
    }
}
