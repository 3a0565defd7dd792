//! Time stamps: seconds and nanoseconds in 32 bits each, or nanoseconds since 1901 in 64 bits (bigtime).

use ondisk::{be_u32, be_u64, put_be_u32, put_be_u64};
use vfs::Timestamp;

use super::{Inode, InodeFlags2};

const ATIME: usize = 32;
const MTIME: usize = 40;
const CTIME: usize = 48;
const CRTIME: usize = 144;
/// Seconds of the bigtime epoch before 1970.
const BIGTIME_EPOCH: i64 = 1 << 31;
const NANOS: u64 = 1_000_000_000;

fn decode(raw: &[u8], at: usize, is_big: bool) -> Timestamp {
    if is_big {
        let value = be_u64(raw, at);
        let seconds = (value / NANOS) as i64 - BIGTIME_EPOCH;
        return Timestamp { seconds, nanoseconds: (value % NANOS) as u32 };
    }
    let nanoseconds = be_u32(raw, at + 4).min(999_999_999);
    Timestamp { seconds: (be_u32(raw, at) as i32).into(), nanoseconds }
}

fn encode(raw: &mut [u8], at: usize, is_big: bool, time: Timestamp) {
    let nanoseconds = time.nanoseconds.min(999_999_999);
    if is_big {
        let most = (u64::MAX / NANOS) as i64;
        let seconds = time.seconds.saturating_add(BIGTIME_EPOCH).clamp(0, most - 1) as u64;
        put_be_u64(raw, at, seconds * NANOS + u64::from(nanoseconds));
    } else {
        put_be_u32(raw, at, time.seconds.clamp(i32::MIN.into(), i32::MAX.into()) as i32 as u32);
        put_be_u32(raw, at + 4, nanoseconds);
    }
}

impl Inode {
    fn has_bigtime(&self) -> bool {
        self.flags2().contains(InodeFlags2::BIGTIME)
    }

    fn time(&self, at: usize) -> Timestamp {
        decode(&self.raw, at, self.has_bigtime())
    }

    fn set_time(&mut self, at: usize, time: Timestamp) {
        let is_big = self.has_bigtime();
        encode(&mut self.raw, at, is_big, time);
    }

    /// Last access.
    pub fn atime(&self) -> Timestamp {
        self.time(ATIME)
    }
    /// Last change of content.
    pub fn mtime(&self) -> Timestamp {
        self.time(MTIME)
    }
    /// Last change of the inode.
    pub fn ctime(&self) -> Timestamp {
        self.time(CTIME)
    }
    /// Creation; version 3 only.
    pub fn crtime(&self) -> Option<Timestamp> {
        self.is_v3().then(|| self.time(CRTIME))
    }
    pub(crate) fn set_atime(&mut self, time: Timestamp) {
        self.set_time(ATIME, time);
    }
    pub(crate) fn set_mtime(&mut self, time: Timestamp) {
        self.set_time(MTIME, time);
    }
    pub(crate) fn set_ctime(&mut self, time: Timestamp) {
        self.set_time(CTIME, time);
    }
    pub(crate) fn set_crtime(&mut self, time: Timestamp) {
        if self.is_v3() {
            self.set_time(CRTIME, time);
        }
    }

    /// Takes the four stamps of an inode of version 3 over to bigtime, all together.
    pub(crate) fn upgrade_to_bigtime(&mut self) {
        if self.has_bigtime() || !self.is_v3() {
            return;
        }
        let all = [ATIME, MTIME, CTIME, CRTIME].map(|at| (at, self.time(at)));
        self.set_flags2(self.flags2() | InodeFlags2::BIGTIME);
        for (at, time) in all {
            self.set_time(at, time);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_encodings_keep_what_they_can() {
        let mut raw = [0; 8];
        for is_big in [false, true] {
            for seconds in [i64::from(i32::MIN), -1, 0, 1, i64::from(i32::MAX)] {
                let time = Timestamp { seconds, nanoseconds: 999_999_999 };
                encode(&mut raw, 0, is_big, time);
                assert_eq!(decode(&raw, 0, is_big), time);
            }
        }
        let far = Timestamp { seconds: 10_000_000_000, nanoseconds: 7 };
        encode(&mut raw, 0, true, far);
        assert_eq!(decode(&raw, 0, true), far);
        encode(&mut raw, 0, false, far);
        assert_eq!(decode(&raw, 0, false).seconds, i32::MAX.into());
    }
}
