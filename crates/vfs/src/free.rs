//! Space without content, as sorted runs in bounded memory.

use std::ops::Range;

/// Runs kept at most: 8 MiB of them.
const MAX_RANGES: usize = 1 << 19;

/// Sorted, disjoint, non-adjacent ranges of bytes that hold no content.
///
/// It never holds more than a fixed number of runs, whatever a filesystem says: where there would be more, short ones
/// are left out, the shortest first. To leave one out is always right: it counts as content then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreeRanges {
    ranges: Vec<Range<u64>>,
    most: usize,
    least_len: u64,
    left_out: u64,
}

impl Default for FreeRanges {
    fn default() -> Self {
        Self { ranges: Vec::new(), most: MAX_RANGES, least_len: 1, left_out: 0 }
    }
}

impl FreeRanges {
    /// No range.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a range, which must not begin before the end of the last one: what does is cut off.
    pub fn push(&mut self, range: Range<u64>) {
        match self.ranges.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ if range.start < range.end => {
                self.drop_short_last();
                self.ranges.push(range);
            }
            _ => {}
        }
    }

    /// The last range is complete when another one follows.
    fn drop_short_last(&mut self) {
        let len = |range: &Range<u64>| range.end - range.start;
        if let Some(last) = self.ranges.last().filter(|last| len(last) < self.least_len) {
            self.left_out += len(last);
            self.ranges.pop();
        }
        while self.ranges.len() >= self.most {
            self.least_len = self.least_len.saturating_mul(2);
            let least = self.least_len;
            let before = self.bytes();
            self.ranges.retain(|range| len(range) >= least);
            self.left_out += before - self.bytes();
        }
    }

    /// The ranges in bytes.
    pub fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }

    /// True when there is no range.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Bytes in all ranges.
    pub fn bytes(&self) -> u64 {
        self.ranges.iter().map(|range| range.end - range.start).sum()
    }

    /// Bytes that are free and were left out because there were too many short ranges.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// These ranges, of which only whole units of `unit` bytes are kept.
    pub fn whole_units(&self, unit: u64) -> Self {
        let mut whole = Self { left_out: self.left_out, ..Self::default() };
        for range in &self.ranges {
            let start = range.start.checked_next_multiple_of(unit.max(1)).unwrap_or(range.end);
            whole.push(start..range.end - range.end % unit.max(1));
        }
        whole
    }

    /// The bytes that are in both.
    pub fn intersection(&self, other: &Self) -> Self {
        let mut both = Self { left_out: self.left_out.max(other.left_out), ..Self::default() };
        let mut others = other.ranges.iter().peekable();
        for range in &self.ranges {
            while let Some(there) = others.peek().filter(|there| there.start < range.end) {
                both.push(range.start.max(there.start)..range.end.min(there.end));
                if there.end > range.end {
                    break;
                }
                others.next();
            }
        }
        both
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_join_and_what_lies_before_the_last_one_is_no_second_range() {
        let mut free = FreeRanges::new();
        for range in [5..10, 10..20, 30..30, 15..25, 40..41] {
            free.push(range);
        }
        assert_eq!(free.ranges(), [5..25, 40..41]);
        assert_eq!((free.bytes(), free.left_out()), (21, 0));
    }

    #[test]
    fn memory_is_bounded_and_long_ranges_survive() {
        let mut free = FreeRanges { most: 16, ..FreeRanges::default() };
        let mut pushed = 0;
        for number in 0..10_000u64 {
            let len = if number % 1000 == 7 { 500 } else { 1 + number % 3 };
            pushed += len;
            free.push(number * 1000..number * 1000 + len);
            assert!(free.ranges().len() <= 16);
        }
        let long = free.ranges().iter().filter(|range| range.end - range.start == 500).count();
        assert_eq!(long, 10);
        assert_eq!(free.bytes() + free.left_out(), pushed);
    }

    #[test]
    fn only_whole_units_are_kept() {
        let mut free = FreeRanges::new();
        for range in [1..63, 100..300, 320..384, u64::MAX - 3..u64::MAX] {
            free.push(range);
        }
        assert_eq!(free.whole_units(64).ranges(), [128..256, 320..384]);
    }

    #[test]
    fn an_intersection_equals_the_one_counted_byte_by_byte() {
        let sets: Vec<FreeRanges> = (0u64..64)
            .map(|seed| {
                let mut free = FreeRanges::new();
                let mut at = 0;
                for step in 0..12 {
                    at += (seed.wrapping_mul(2_654_435_761 + step) >> 7) % 9;
                    let end = at + (seed.wrapping_mul(40_503 + step) >> 5) % 11;
                    free.push(at..end);
                    at = end + 1;
                }
                free
            })
            .collect();
        let has = |free: &FreeRanges, byte: u64| free.ranges().iter().any(|range| range.contains(&byte));
        for one in &sets {
            for other in &sets {
                let both = one.intersection(other);
                for byte in 0..300 {
                    assert_eq!(has(&both, byte), has(one, byte) && has(other, byte));
                }
            }
        }
    }
}
