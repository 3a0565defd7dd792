//! Finished units in order: the ring, and the fold that lays them out.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use report::{Event, Progress};

use super::pages::{PAGE_BYTES, Page, Pages};
use crate::ConvertError;
use crate::budget::Share;
use crate::buffer::Buffer;
use crate::digest::Combined;
use crate::layout::{End, Layout, Placed};
use crate::read::ns;
use crate::work::{Chunk, Finished};

/// Shortest time between two progress events.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// What the ring holds.
pub(crate) enum Item {
    Unit(Finished),
    /// Reads as zero throughout.
    Zeroes(Range<u64>),
}

/// Which bytes a write takes.
#[derive(Debug, Clone)]
pub(crate) enum Bytes {
    Data(Range<usize>),
    Encoded(Range<usize>),
}

/// Writes that were decided on; any worker may do them, in any order.
#[derive(Default)]
pub(crate) struct Task {
    pub data: Option<Buffer>,
    pub encoded: Vec<u8>,
    pub charge: u64,
    /// Host offset, and what goes there one after the other.
    pub writes: Vec<(u64, Vec<Bytes>)>,
    pub tables: Vec<(u64, Vec<u8>)>,
    pub zeroes: Vec<Range<u64>>,
    /// Packed targets: the pages of every write and then of every table, in their order.
    pub pages: Vec<Vec<Arc<Page>>>,
    /// A page that became complete.
    pub page: Option<(u64, Buffer)>,
}

/// Everything that must be done in order, under one lock.
pub(crate) struct Fold<'f> {
    pub layout: &'f mut dyn Layout,
    ring: VecDeque<Option<Item>>,
    /// Number of the unit at the head of the ring.
    head: u64,
    pages: Option<Pages>,
    pub digest: Option<Combined>,
    progress: &'f dyn Progress,
    reported: Instant,
    pub committed: u64,
    pub plain_clusters: u64,
    pub encoded_clusters: u64,
    pub moved_clusters: u64,
    pub fold_ns: u64,
    writes_nothing: bool,
}

impl<'f> Fold<'f> {
    pub fn new(
        layout: &'f mut dyn Layout,
        digest: bool,
        writes_nothing: bool,
        progress: &'f dyn Progress,
    ) -> Self {
        let pages = layout.is_packed().then(Pages::default);
        Self {
            layout,
            ring: VecDeque::new(),
            head: 0,
            pages,
            digest: digest.then(Combined::default),
            progress,
            reported: Instant::now(),
            committed: 0,
            plain_clusters: 0,
            encoded_clusters: 0,
            moved_clusters: 0,
            fold_ns: 0,
            writes_nothing,
        }
    }

    /// Takes a finished unit; if it is the head, lays out all that follow without a gap. `tasks` gets what is to be
    /// written.
    pub fn deliver(
        &mut self,
        number: u64,
        item: Item,
        budget: &Share<'_>,
        tasks: &mut Vec<Task>,
    ) -> Result<(), ConvertError> {
        let index = number.saturating_sub(self.head) as usize;
        if self.ring.len() <= index {
            self.ring.resize_with(index + 1, || None);
        }
        if let Some(slot) = self.ring.get_mut(index) {
            *slot = Some(item);
        }
        let started = Instant::now();
        while let Some(Some(_)) = self.ring.front() {
            let Some(Some(item)) = self.ring.pop_front() else { break };
            self.head += 1;
            let task = self.lay_out(item, budget)?;
            tasks.push(task);
            self.seal(tasks);
        }
        self.fold_ns += ns(started);
        if self.reported.elapsed() >= PROGRESS_EVERY {
            self.reported = Instant::now();
            self.progress.event(Event::Advance { done: self.committed });
        }
        Ok(())
    }

    fn lay_out(&mut self, item: Item, budget: &Share<'_>) -> Result<Task, ConvertError> {
        let mut placed = Placed::default();
        let unit = match item {
            Item::Zeroes(range) => {
                self.layout.place_zeroes(range, &mut placed)?;
                let mut task = Task::default();
                self.take_over(placed, &mut task, budget);
                return Ok(task);
            }
            Item::Unit(unit) => unit,
        };
        self.committed += unit.mapped;
        if let Some(digest) = &mut self.digest {
            digest.add(&unit.leaves);
        }
        let mut task =
            Task { data: unit.data, encoded: unit.encoded, charge: unit.charge, ..Task::default() };
        if self.writes_nothing {
            return Ok(task);
        }
        let guest = |range: &Range<usize>| unit.base + range.start as u64..unit.base + range.end as u64;
        let cluster_len = self.layout.cluster_len();
        // What the writes take, in the order of what the layout says about it.
        let mut bytes: VecDeque<Bytes> = VecDeque::with_capacity(unit.chunks.len());
        for chunk in &unit.chunks {
            match chunk {
                Chunk::Plain(range) => {
                    self.plain_clusters += (range.len() as u64).div_ceil(cluster_len);
                    self.layout.place_plain(guest(range), &mut placed)?;
                    bytes.push_back(Bytes::Data(range.clone()));
                }
                Chunk::Encoded(range, encoded, check) => {
                    self.encoded_clusters += 1;
                    self.layout.place_encoded(guest(range), encoded.len() as u64, *check, &mut placed)?;
                    bytes.push_back(Bytes::Encoded(encoded.clone()));
                }
                Chunk::Moved(range, payload) => {
                    self.moved_clusters += 1;
                    self.layout.place_moved(guest(range), payload.clone(), &mut placed)?;
                }
                Chunk::Zero(range) => self.layout.place_zeroes(guest(range), &mut placed)?,
            }
        }
        for (offset, len) in std::mem::take(&mut placed.data) {
            let mut parts = Vec::new();
            let mut missing = len as usize;
            while missing > 0 {
                let Some(first) = bytes.front_mut() else { break };
                let (Bytes::Data(range) | Bytes::Encoded(range)) = first;
                let step = missing.min(range.len());
                let here = range.start..range.start + step;
                range.start += step;
                let is_used_up = range.start >= range.end;
                parts.push(match first {
                    Bytes::Data(_) => Bytes::Data(here),
                    Bytes::Encoded(_) => Bytes::Encoded(here),
                });
                if is_used_up {
                    bytes.pop_front();
                }
                missing -= step;
            }
            task.writes.push((offset, parts));
        }
        self.take_over(placed, &mut task, budget);
        Ok(task)
    }

    /// Gives a task its tables, zero ranges and pages.
    fn take_over(&mut self, placed: Placed, task: &mut Task, budget: &Share<'_>) {
        task.tables = placed.tables;
        task.zeroes = placed.zeroes;
        let Some(pages) = &mut self.pages else { return };
        let mut made = 0;
        if self.layout.is_ordered() {
            // Whole pages of zero go by as what they are; at their ends they share pages with other bytes.
            for range in std::mem::take(&mut task.zeroes) {
                let first = range.start.next_multiple_of(PAGE_BYTES);
                let last = range.end - range.end % PAGE_BYTES;
                let ends =
                    if first <= last { [range.start..first, last..range.end] } else { [range.clone(), 0..0] };
                for end in ends {
                    made += pages.touch(&end);
                }
                if first < last {
                    task.zeroes.push(first..last);
                }
            }
        }
        let part_len = |part: &Bytes| match part {
            Bytes::Data(range) | Bytes::Encoded(range) => range.len() as u64,
        };
        let writes = task.writes.iter().map(|(offset, parts)| (*offset, parts.iter().map(part_len).sum()));
        let tables = task.tables.iter().map(|(offset, bytes)| (*offset, bytes.len() as u64));
        for (offset, len) in writes.chain(tables) {
            let mut touched = Vec::new();
            made += pages.register(offset, len, &mut touched);
            task.pages.push(touched);
        }
        // The unit that makes pages brought their bytes along; what it did not bring must not wait.
        let bytes = made * PAGE_BYTES;
        let brought = bytes.min(task.charge);
        task.charge -= brought;
        budget.take(bytes - brought);
    }

    fn seal(&mut self, tasks: &mut Vec<Task>) {
        let Some(pages) = &mut self.pages else { return };
        for page in pages.decided(self.layout.decided(), &self.layout.open_range()) {
            if let Some(buffer) = page.seal() {
                tasks.push(Task { page: Some((page.offset, buffer)), ..Task::default() });
            }
        }
    }

    /// The last tables, and all pages that are left. Call it when no unit is under way.
    pub fn finish(
        &mut self,
        end: &End,
        budget: &Share<'_>,
    ) -> Result<(crate::layout::Finish, Vec<Task>), ConvertError> {
        let mut placed = Placed::default();
        let finish = self.layout.finish(end, &mut placed)?;
        let mut task = Task::default();
        self.take_over(placed, &mut task, budget);
        let mut tasks = vec![task];
        if let Some(pages) = &mut self.pages {
            for page in pages.rest() {
                if let Some(buffer) = page.seal() {
                    tasks.push(Task { page: Some((page.offset, buffer)), ..Task::default() });
                }
            }
        }
        self.progress.event(Event::Advance { done: self.committed });
        Ok((finish, tasks))
    }
}
