//! The file is the disk.

use std::ops::Range;

use super::{End, Finish, Layout, Placed, Zeroes};
use crate::ConvertError;

/// Guest offsets are host offsets.
pub(crate) struct RawLayout {
    cluster_len: u64,
    /// The target may hold other bytes where the source holds zero.
    is_dirty: bool,
    /// Written from front to back.
    is_ordered: bool,
    decided: u64,
}

impl RawLayout {
    /// `cluster_len` is the shortest run of zero that becomes a hole.
    pub fn new(cluster_len: u64, is_dirty: bool, is_ordered: bool) -> Self {
        Self { cluster_len, is_dirty, is_ordered, decided: 0 }
    }
}

impl Layout for RawLayout {
    fn cluster_len(&self) -> u64 {
        self.cluster_len
    }

    fn zeroes(&self) -> Zeroes {
        if self.is_dirty || self.is_ordered { Zeroes::All } else { Zeroes::Implied }
    }

    fn is_packed(&self) -> bool {
        self.is_ordered
    }

    fn is_ordered(&self) -> bool {
        self.is_ordered
    }

    fn place_plain(&mut self, guest: Range<u64>, placed: &mut Placed) -> Result<(), ConvertError> {
        placed.push_data(guest.start, guest.end - guest.start);
        self.decided = guest.end;
        Ok(())
    }

    fn place_zeroes(&mut self, guest: Range<u64>, placed: &mut Placed) -> Result<(), ConvertError> {
        self.decided = guest.end;
        match placed.zeroes.last_mut() {
            Some(last) if last.end == guest.start => last.end = guest.end,
            _ => placed.zeroes.push(guest),
        }
        Ok(())
    }

    fn decided(&self) -> u64 {
        self.decided
    }

    fn finish(&mut self, end: &End, _placed: &mut Placed) -> Result<Finish, ConvertError> {
        Ok(Finish { file_len: end.virtual_len, header: None })
    }
}
