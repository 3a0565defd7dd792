//! Copy-on-write pages over a base that is never written.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::device::{check_range, one_extent};
use crate::{BlockError, Extent, ExtentState, ReadAt, WriteAt};

/// Bytes of an overlay page.
pub const PAGE_BYTES: usize = 4096;

/// Unit in which a change set tells changed from unchanged bytes.
const SECTOR_BYTES: usize = 512;

/// Most pages that are compared with the base by one read.
const SEAL_RUN_PAGES: usize = 64;

/// Where a dirty page lives.
enum Page {
    Memory(Box<[u8; PAGE_BYTES]>),
    /// Slot number in the spill file.
    Spilled(u64),
}

struct State {
    pages: BTreeMap<u64, Page>,
    in_memory: usize,
    /// Index of the page last moved out; the next victim is looked for behind it.
    spill_hand: u64,
    spill: Option<File>,
    free_slots: Vec<u64>,
    slots: u64,
    sealed: bool,
}

/// A writable view of `base` that keeps everything written to itself.
///
/// Invariants: no byte of the base changes; a read returns the newest written byte, else the base, else, behind the
/// end of a base that the overlay has outgrown, zero; at most `cap` bytes of pages are held in memory, the rest in an unlinked temporary file; after the
/// first error every later call fails with [`BlockError::Failed`].
pub struct Overlay {
    base: Arc<dyn ReadAt>,
    /// Changes under the lock of `state` only; never less than the base's.
    len: AtomicU64,
    cap_pages: usize,
    spill_dir: PathBuf,
    state: RwLock<State>,
    /// Text of the first error.
    failed: OnceLock<String>,
}

impl Overlay {
    /// An overlay over `base` holding at most `memory_cap` bytes of pages in memory (at least one page);
    /// the spill file is made in `spill_dir` when it is needed.
    pub fn new(base: Arc<dyn ReadAt>, memory_cap: u64, spill_dir: impl Into<PathBuf>) -> Self {
        let len = AtomicU64::new(base.len());
        let cap_pages = usize::try_from(memory_cap / PAGE_BYTES as u64).unwrap_or(usize::MAX).max(1);
        let state = State {
            pages: BTreeMap::new(),
            in_memory: 0,
            spill_hand: 0,
            spill: None,
            free_slots: Vec::new(),
            slots: 0,
            sealed: false,
        };
        Self {
            base,
            len,
            cap_pages,
            spill_dir: spill_dir.into(),
            state: RwLock::new(state),
            failed: OnceLock::new(),
        }
    }

    /// The device below.
    pub fn base(&self) -> &Arc<dyn ReadAt> {
        &self.base
    }

    /// Makes the device longer; the new bytes read as zero until they are written.
    pub fn grow(&self, len: u64) -> Result<(), BlockError> {
        let state = self.lock()?;
        if state.sealed {
            return Err(BlockError::Failed { first: "grown after it was sealed".into() });
        }
        let now = self.len();
        if len < now {
            return Err(BlockError::BadPlan(format!("a disk of {now} bytes is to shrink to {len}")));
        }
        self.len.store(len, Ordering::Release);
        Ok(())
    }

    /// Fills `buf` from the base; what lies behind its end is zero.
    fn read_base(&self, buf: &mut [u8], offset: u64) -> Result<(), BlockError> {
        let present = self.base.len().saturating_sub(offset).min(buf.len() as u64) as usize;
        let (stored, beyond) = buf.split_at_mut(present);
        beyond.fill(0);
        if stored.is_empty() {
            return Ok(());
        }
        self.keep(self.base.read_exact_at(stored, offset))
    }

    /// Ends writing and lists what differs from the base: sorted, disjoint, non-adjacent ranges in
    /// units of 512 bytes (the last one may end with the device).
    pub fn seal(self: &Arc<Self>) -> Result<ChangeSet, BlockError> {
        let mut state = self.lock()?;
        state.sealed = true;
        let mut ranges: Vec<Range<u64>> = Vec::new();
        let mut pages = state.pages.iter().peekable();
        let (mut old, mut new) = (Vec::new(), Vec::new());
        while let Some((first, page)) = pages.next() {
            // Neighbours are compared together: one read of the base for all of them.
            let mut run = vec![page];
            while run.len() < SEAL_RUN_PAGES
                && let Some((_, page)) = pages.next_if(|(index, _)| **index == first + run.len() as u64)
            {
                run.push(page);
            }
            let start = first * PAGE_BYTES as u64;
            let run_len = (self.len() - start).min((run.len() * PAGE_BYTES) as u64) as usize;
            old.resize(run_len, 0);
            new.resize(run_len, 0);
            self.read_base(&mut old, start)?;
            for (page, target) in run.into_iter().zip(new.chunks_mut(PAGE_BYTES)) {
                self.copy_page(&state, page, 0, target)?;
            }
            for (number, (new, old)) in new.chunks(SECTOR_BYTES).zip(old.chunks(SECTOR_BYTES)).enumerate() {
                if new != old {
                    let from = start + (number * SECTOR_BYTES) as u64;
                    let to = from + new.len() as u64;
                    match ranges.last_mut() {
                        Some(last) if last.end == from => last.end = to,
                        _ => ranges.push(from..to),
                    }
                }
            }
        }
        drop(state);
        Ok(ChangeSet { overlay: Arc::clone(self), ranges })
    }

    fn check_failed(&self) -> Result<(), BlockError> {
        match self.failed.get() {
            Some(first) => Err(BlockError::Failed { first: first.clone() }),
            None => Ok(()),
        }
    }

    fn lock(&self) -> Result<RwLockWriteGuard<'_, State>, BlockError> {
        let state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        self.check_failed()?;
        Ok(state)
    }

    fn lock_shared(&self) -> Result<RwLockReadGuard<'_, State>, BlockError> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        self.check_failed()?;
        Ok(state)
    }

    /// Passes `result` on; an error is remembered for good.
    fn keep<T>(&self, result: Result<T, BlockError>) -> Result<T, BlockError> {
        if let Err(error) = &result {
            self.failed.get_or_init(|| error.to_string());
        }
        result
    }

    fn spill_io<T>(&self, operation: &'static str, result: std::io::Result<T>) -> Result<T, BlockError> {
        self.keep(result.map_err(|source| BlockError::io(operation, &self.spill_dir, source)))
    }

    /// Fills `buf` with the bytes of a dirty page from `within` on.
    fn copy_page(&self, state: &State, page: &Page, within: usize, buf: &mut [u8]) -> Result<(), BlockError> {
        match page {
            Page::Memory(page) => {
                buf.copy_from_slice(&page[within..within + buf.len()]);
                Ok(())
            }
            Page::Spilled(slot) => {
                let read = match &state.spill {
                    Some(spill) => spill.read_exact_at(buf, slot * PAGE_BYTES as u64 + within as u64),
                    None => Err(std::io::Error::other("the spill file is gone")),
                };
                self.spill_io("read the spill file", read)
            }
        }
    }

    /// Moves pages out until one more fits under the cap.
    fn make_room(&self, state: &mut State) -> Result<(), BlockError> {
        while state.in_memory >= self.cap_pages {
            let is_in_memory =
                |(index, page): (&u64, &Page)| matches!(page, Page::Memory(_)).then_some(*index);
            let victim = state
                .pages
                .range(state.spill_hand..)
                .find_map(is_in_memory)
                .or_else(|| state.pages.iter().find_map(is_in_memory));
            let Some(victim) = victim else { break };
            if state.spill.is_none() {
                let made = tempfile::tempfile_in(&self.spill_dir);
                state.spill = Some(self.spill_io("create a spill file", made)?);
            }
            let slot = state.free_slots.pop().unwrap_or_else(|| {
                state.slots += 1;
                state.slots - 1
            });
            let written = match (&state.spill, state.pages.get(&victim)) {
                (Some(spill), Some(Page::Memory(page))) => {
                    spill.write_all_at(&page[..], slot * PAGE_BYTES as u64)
                }
                _ => Ok(()),
            };
            self.spill_io("write the spill file", written)?;
            state.pages.insert(victim, Page::Spilled(slot));
            state.in_memory -= 1;
            state.spill_hand = victim + 1;
        }
        Ok(())
    }

    /// The page in memory and dirty; filled from the base unless `overwrite` says that all of it is replaced.
    fn dirty_page<'s>(
        &self,
        state: &'s mut State,
        index: u64,
        overwrite: bool,
    ) -> Result<&'s mut [u8; PAGE_BYTES], BlockError> {
        let known = state.pages.get(&index);
        if !matches!(known, Some(Page::Memory(_))) {
            let mut page = Box::new([0u8; PAGE_BYTES]);
            if !overwrite {
                match known {
                    Some(known) => self.copy_page(state, known, 0, &mut page[..])?,
                    None => {
                        let start = index * PAGE_BYTES as u64;
                        self.read_base(&mut page[..], start)?;
                    }
                }
            }
            self.make_room(state)?;
            if let Some(Page::Spilled(slot)) = state.pages.insert(index, Page::Memory(page)) {
                state.free_slots.push(slot);
            }
            state.in_memory += 1;
        }
        match state.pages.get_mut(&index) {
            Some(Page::Memory(page)) => Ok(page),
            _ => Err(BlockError::Failed { first: "overlay page lost".into() }),
        }
    }
}

impl ReadAt for Overlay {
    fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<(), BlockError> {
        check_range("overlay", offset, buf.len() as u64, self.len())?;
        if buf.is_empty() {
            return Ok(());
        }
        let end = offset + buf.len() as u64;
        let pages = offset / PAGE_BYTES as u64..=(end - 1) / PAGE_BYTES as u64;
        // Dirty pages are copied under the lock: a reader sees each of them whole, old or new. The base never
        // changes, so that clean ranges are read behind the lock, by many readers at once.
        let mut clean: Vec<Range<u64>> = Vec::new();
        let mut at = offset;
        let state = self.lock_shared()?;
        for (index, page) in state.pages.range(pages) {
            let start = index * PAGE_BYTES as u64;
            let from = start.max(offset);
            let to = (start + PAGE_BYTES as u64).min(end);
            let target = &mut buf[(from - offset) as usize..(to - offset) as usize];
            self.copy_page(&state, page, (from - start) as usize, target)?;
            if at < from {
                clean.push(at..from);
            }
            at = to;
        }
        drop(state);
        if at < end {
            clean.push(at..end);
        }
        for range in clean {
            let target = &mut buf[(range.start - offset) as usize..(range.end - offset) as usize];
            self.read_base(target, range.start)?;
        }
        Ok(())
    }

    fn extents(&self, range: Range<u64>) -> Result<Vec<Extent>, BlockError> {
        check_range("overlay", range.start, range.end.saturating_sub(range.start), self.len())?;
        if range.is_empty() {
            return Ok(Vec::new());
        }
        self.check_failed()?;
        let stored = range.start.min(self.base.len())..range.end.min(self.base.len());
        let mut below = match stored.is_empty() {
            true => Vec::new(),
            false => self.keep(self.base.extents(stored.clone()))?,
        };
        below.extend(one_extent(stored.end.max(range.start)..range.end, ExtentState::Hole));
        let state = self.lock_shared()?;
        let first = range.start / PAGE_BYTES as u64;
        let last = (range.end - 1) / PAGE_BYTES as u64;
        let mut extents: Vec<Extent> = Vec::new();
        for extent in below {
            let mut at = extent.offset;
            let end = extent.offset + extent.len;
            let from_page = (at / PAGE_BYTES as u64).max(first);
            let to_page = ((end - 1) / PAGE_BYTES as u64).min(last);
            for (index, _) in state.pages.range(from_page..=to_page) {
                let page_start = (index * PAGE_BYTES as u64).max(at);
                let page_end = ((index + 1) * PAGE_BYTES as u64).min(end);
                push_extent(&mut extents, one_extent(at..page_start, extent.state));
                push_extent(&mut extents, one_extent(page_start..page_end, ExtentState::Data));
                at = page_end;
            }
            push_extent(&mut extents, one_extent(at..end, extent.state));
        }
        Ok(extents)
    }
}

/// Appends, joining with an equal neighbour.
fn push_extent(extents: &mut Vec<Extent>, more: Vec<Extent>) {
    for extent in more {
        match extents.last_mut() {
            Some(last) if last.state == extent.state && last.offset + last.len == extent.offset => {
                last.len += extent.len
            }
            _ => extents.push(extent),
        }
    }
}

impl WriteAt for Overlay {
    fn write_all_at(&self, buf: &[u8], offset: u64) -> Result<(), BlockError> {
        check_range("overlay", offset, buf.len() as u64, self.len())?;
        let mut state = self.lock()?;
        if state.sealed {
            return Err(BlockError::Failed { first: "written after it was sealed".into() });
        }
        let mut at = offset;
        let mut rest = buf;
        while !rest.is_empty() {
            let index = at / PAGE_BYTES as u64;
            let within = (at % PAGE_BYTES as u64) as usize;
            let step = rest.len().min(PAGE_BYTES - within);
            let page = self.dirty_page(&mut state, index, step == PAGE_BYTES)?;
            page[within..within + step].copy_from_slice(&rest[..step]);
            rest = &rest[step..];
            at += step as u64;
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), BlockError> {
        self.check_failed()
    }
}

/// What a sealed overlay changes on the virtual disk.
#[derive(Clone)]
pub struct ChangeSet {
    overlay: Arc<Overlay>,
    ranges: Vec<Range<u64>>,
}

impl ChangeSet {
    /// Sorted, disjoint, non-adjacent ranges of the virtual disk, bytes.
    pub fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }

    /// True when nothing differs from the base, its length included.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty() && !self.is_grown()
    }

    /// True when the virtual disk became longer.
    pub fn is_grown(&self) -> bool {
        self.overlay.len() != self.overlay.base.len()
    }

    /// Bytes in all ranges.
    pub fn changed_bytes(&self) -> u64 {
        self.ranges.iter().map(|range| range.end - range.start).sum()
    }

    /// The virtual disk with the changes.
    pub fn disk(&self) -> Arc<dyn ReadAt> {
        Arc::clone(&self.overlay) as Arc<dyn ReadAt>
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryDevice;

    fn overlay(base: Vec<u8>, cap: u64) -> Arc<Overlay> {
        Arc::new(Overlay::new(Arc::new(MemoryDevice::new(base)), cap, std::env::temp_dir()))
    }

    #[test]
    fn tx1_tx2_tx4_newest_byte_wins_and_base_stays_under_every_cap() {
        for cap in [1, 3 * PAGE_BYTES as u64, 1 << 30] {
            let base: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
            let device = Arc::new(MemoryDevice::new(base.clone()));
            let overlay = Arc::new(Overlay::new(device.clone(), cap, std::env::temp_dir()));
            let mut model = base.clone();
            let mut seed = 1u32;
            for _ in 0..500 {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = (seed >> 8) as usize % base.len();
                let len = ((seed >> 3) as usize % 9000).min(base.len() - at);
                let bytes = vec![seed as u8; len];
                overlay.write_all_at(&bytes, at as u64).unwrap();
                model[at..at + len].copy_from_slice(&bytes);
            }
            let mut got = vec![0; base.len()];
            overlay.read_exact_at(&mut got, 0).unwrap();
            assert!(got == model, "cap {cap}");
            assert_eq!(device.to_vec(), base);
            let changes = overlay.seal().unwrap();
            assert!(changes.ranges().windows(2).all(|pair| pair[0].end < pair[1].start));
            let mut rebuilt = base.clone();
            for range in changes.ranges() {
                let (start, end) = (range.start as usize, range.end as usize);
                changes.disk().read_exact_at(&mut rebuilt[start..end], range.start).unwrap();
            }
            assert!(rebuilt == model);
        }
    }

    #[test]
    fn tx4_rewriting_the_same_bytes_changes_nothing() {
        let overlay = overlay(vec![7; 10_000], 1 << 20);
        overlay.write_all_at(&[7; 5000], 100).unwrap();
        assert!(overlay.seal().unwrap().is_empty());
    }

    #[test]
    fn tx3_an_error_of_the_base_or_the_spill_file_sticks() {
        struct FailsBehind(u64);
        impl ReadAt for FailsBehind {
            fn len(&self) -> u64 {
                1 << 20
            }
            fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<(), BlockError> {
                if offset + buf.len() as u64 > self.0 {
                    return Err(BlockError::io("read", "base", std::io::Error::other("broken on purpose")));
                }
                buf.fill(0);
                Ok(())
            }
        }
        let broken_base = Arc::new(Overlay::new(Arc::new(FailsBehind(8192)), 1 << 20, std::env::temp_dir()));
        broken_base.write_all_at(&[1; 100], 100).unwrap();
        assert!(broken_base.write_all_at(&[1; 100], 9000).is_err());
        let no_spill = overlay(vec![0; 100_000], 8192);
        let no_spill = Arc::new(Overlay::new(no_spill, 8192, "/nonexistent"));
        no_spill.write_all_at(&[1; 8192], 0).unwrap();
        assert!(no_spill.write_all_at(&[1; 1], 8192).is_err());
        for failed in [broken_base, no_spill] {
            let is_sticky = |result| matches!(result, Err(BlockError::Failed { .. }));
            assert!(is_sticky(failed.read_exact_at(&mut [0; 10], 100)));
            assert!(is_sticky(failed.write_all_at(&[1], 100)));
            assert!(is_sticky(failed.flush()));
            assert!(is_sticky(failed.extents(0..100).map(drop)));
            assert!(is_sticky(failed.seal().map(drop)));
        }
    }

    #[test]
    fn tx2_readers_see_each_page_whole_while_a_writer_spills() {
        const PAGES: u64 = 16;
        let overlay = overlay(vec![0; PAGES as usize * PAGE_BYTES], 3 * PAGE_BYTES as u64);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut page = vec![0; PAGE_BYTES];
                    for round in 0..3000u64 {
                        overlay.read_exact_at(&mut page, round % PAGES * PAGE_BYTES as u64).unwrap();
                        assert!(page.iter().all(|byte| *byte == page[0]));
                    }
                });
            }
            for round in 0..1000u64 {
                let at = round * 7 % PAGES * PAGE_BYTES as u64;
                overlay.write_all_at(&vec![round as u8; PAGE_BYTES], at).unwrap();
            }
        });
    }

    #[test]
    fn a_grown_overlay_reads_as_zero_behind_the_base() {
        for base_len in [0, 1, 4095, 4096, 10_000] {
            let base: Vec<u8> = (0..base_len).map(|n: usize| n as u8 | 1).collect();
            let overlay = overlay(base.clone(), PAGE_BYTES as u64);
            let mut model = base;
            overlay.grow(20_000).unwrap();
            model.resize(20_000, 0);
            let read = || {
                let mut got = vec![0xee; 20_000];
                overlay.read_exact_at(&mut got, 0).unwrap();
                got
            };
            assert!(read() == model, "{base_len}");
            overlay.write_all_at(&[0; 300], 11_900).unwrap();
            overlay.write_all_at(&[7; 200], 12_000).unwrap();
            overlay.write_all_at(&[9], 19_999).unwrap();
            model[12_000..12_200].fill(7);
            model[19_999] = 9;
            assert!(read() == model, "{base_len}");
            let extents = overlay.extents(0..20_000).unwrap();
            let mut end = 0;
            for extent in extents {
                assert_eq!(extent.offset, end);
                end += extent.len;
                assert!(
                    !extent.state.reads_zero()
                        || model[extent.offset as usize..end as usize].iter().all(|byte| *byte == 0)
                );
            }
            assert_eq!(end, 20_000);
            assert!(overlay.grow(19_999).is_err());
            assert!(overlay.write_all_at(&[0], 20_000).is_err());
            let changes = overlay.seal().unwrap();
            assert_eq!(changes.ranges(), [11_776..12_288, 19_968..20_000]);
            assert!(changes.is_grown() && overlay.grow(30_000).is_err());
            let plan = crate::raw_plan(&changes, base_len as u64);
            assert_eq!((plan.old_len, plan.new_len), (base_len as u64, 20_000));
        }
        let grown_only = overlay(vec![1; 100], 4096);
        grown_only.grow(200).unwrap();
        let changes = grown_only.seal().unwrap();
        assert!(changes.ranges().is_empty() && !changes.is_empty());
        assert!(!crate::raw_plan(&changes, 100).is_empty());
    }

    #[test]
    fn a_sealed_overlay_takes_no_writes() {
        let overlay = overlay(vec![0; 10_000], 1 << 20);
        overlay.write_all_at(&[1], 9_999).unwrap();
        let changes = overlay.seal().unwrap();
        assert_eq!(changes.ranges(), std::slice::from_ref(&(9728..10_000)));
        assert!(overlay.write_all_at(&[1], 0).is_err());
        assert!(overlay.write_all_at(&[1], 10_000).is_err());
    }
}
