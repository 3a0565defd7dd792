//! Gathering packed output into large aligned writes.
//!
//! The target file is cut into pages. While the fold decides, it registers every copy into a page; workers make the
//! copies later, without the fold's lock. A page is written by whoever sees that nothing more will come: the fold
//! has sealed it and no copy is outstanding.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::buffer::Buffer;

/// Bytes of a page.
pub(crate) const PAGE_BYTES: u64 = 1 << 20;

/// A page of the target in memory.
pub(crate) struct Page {
    pub offset: u64,
    state: Mutex<State>,
}

struct State {
    buffer: Option<Buffer>,
    copies: u64,
    is_sealed: bool,
}

impl Page {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes one registered copy: the part of `bytes`, which belong at `offset` of the file, that falls into this
    /// page. Returns the page's content when it is complete now.
    pub fn copy(&self, offset: u64, bytes: &[u8]) -> Option<Buffer> {
        let mut state = self.lock();
        let start = offset.max(self.offset);
        let end = (offset + bytes.len() as u64).min(self.offset + PAGE_BYTES);
        if start < end
            && let Some(buffer) = &mut state.buffer
        {
            let from = (start - offset) as usize..(end - offset) as usize;
            let to = (start - self.offset) as usize..(end - self.offset) as usize;
            if let (Some(to), Some(from)) = (buffer.bytes_mut().get_mut(to), bytes.get(from)) {
                to.copy_from_slice(from);
            }
        }
        state.copies = state.copies.saturating_sub(1);
        state.take_complete()
    }

    /// Nothing more will be registered. Returns the content when it is complete now.
    pub fn seal(&self) -> Option<Buffer> {
        let mut state = self.lock();
        state.is_sealed = true;
        state.take_complete()
    }
}

impl State {
    fn take_complete(&mut self) -> Option<Buffer> {
        match self.is_sealed && self.copies == 0 {
            true => self.buffer.take(),
            false => None,
        }
    }
}

/// Pages that may still be written to. Lives under the fold's lock.
#[derive(Default)]
pub(crate) struct Pages {
    open: BTreeMap<u64, Arc<Page>>,
}

impl Pages {
    /// Registers a copy of `len` bytes at `offset` and appends the pages that it touches. Returns how many are new.
    pub fn register(&mut self, offset: u64, len: u64, touched: &mut Vec<Arc<Page>>) -> u64 {
        let mut made = 0;
        for number in offset / PAGE_BYTES..(offset + len).div_ceil(PAGE_BYTES) {
            let page = self.open.entry(number).or_insert_with(|| {
                made += 1;
                let buffer = Some(Buffer::new(PAGE_BYTES as usize));
                let state = Mutex::new(State { buffer, copies: 0, is_sealed: false });
                Arc::new(Page { offset: number * PAGE_BYTES, state })
            });
            page.lock().copies += 1;
            touched.push(Arc::clone(page));
        }
        made
    }

    /// Sees that the pages of a range are there, zero until something is copied to them. Returns how many are new.
    pub fn touch(&mut self, range: &Range<u64>) -> u64 {
        let mut touched = Vec::new();
        let len = range.end.saturating_sub(range.start);
        if len == 0 {
            return 0;
        }
        let made = self.register(range.start, len, &mut touched);
        for page in touched {
            page.lock().copies -= 1;
        }
        made
    }

    /// Takes out the pages that lie below `decided` and outside `open`.
    pub fn decided(&mut self, decided: u64, open: &Range<u64>) -> Vec<Arc<Page>> {
        let limit = decided / PAGE_BYTES;
        let is_open = |number: u64| {
            open.start < open.end && open.start < (number + 1) * PAGE_BYTES && number * PAGE_BYTES < open.end
        };
        let numbers: Vec<u64> = self.open.range(..limit).map(|(number, _)| *number).collect();
        let closed = numbers.into_iter().filter(|number| !is_open(*number));
        closed.filter_map(|number| self.open.remove(&number)).collect()
    }

    /// Takes out all pages.
    pub fn rest(&mut self) -> Vec<Arc<Page>> {
        std::mem::take(&mut self.open).into_values().collect()
    }
}
