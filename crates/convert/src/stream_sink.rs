//! Targets that are written from front to back: pipes, and the standard output.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::ConvertError;
use crate::buffer::Buffer;
use crate::engine::PAGE_BYTES;
use crate::error::{Place, Stage};
use crate::sink::Sink;

/// Puts pages in order. Whoever brings the page that is next writes it and all that follow; the others leave theirs
/// and go on, so that nobody waits for a turn.
pub(crate) struct StreamSink<'o> {
    state: Mutex<State<'o>>,
    end: AtomicU64,
    pub written: AtomicU64,
}

struct State<'o> {
    /// Where the next byte goes.
    next: u64,
    waiting: BTreeMap<u64, Waiting>,
    /// Taken by whoever is writing.
    out: Option<&'o mut (dyn Write + Send)>,
}

enum Waiting {
    Page(Buffer),
    /// Zero up to here.
    Zeroes(u64),
}

impl<'o> StreamSink<'o> {
    pub fn new(out: &'o mut (dyn Write + Send)) -> Self {
        Self {
            state: Mutex::new(State { next: 0, waiting: BTreeMap::new(), out: Some(out) }),
            end: AtomicU64::new(u64::MAX),
            written: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<'o>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes whatever is next, unless somebody else is at it. Returns how many pages were written.
    fn drain(&self) -> Result<u64, ConvertError> {
        let mut pages = 0;
        let mut state = self.lock();
        let Some(out) = state.out.take() else { return Ok(0) };
        let outcome = loop {
            let next = state.next;
            let Some(waiting) = state.waiting.remove(&next) else { break Ok(()) };
            drop(state);
            let written = match &waiting {
                Waiting::Page(page) => {
                    pages += 1;
                    self.put(out, next, page.bytes()).map(|()| next + PAGE_BYTES)
                }
                Waiting::Zeroes(end) => self.put_zeroes(out, next..*end).map(|()| *end),
            };
            state = self.lock();
            match written {
                Ok(reached) => state.next = reached,
                Err(error) => break Err(error),
            }
        };
        state.out = Some(out);
        outcome.map(|()| pages)
    }

    fn put(&self, out: &mut dyn Write, offset: u64, bytes: &[u8]) -> Result<(), ConvertError> {
        let len = self.end.load(Ordering::Relaxed).saturating_sub(offset).min(bytes.len() as u64);
        out.write_all(bytes.get(..len as usize).unwrap_or_default())
            .map_err(|error| failed(offset..offset + len, error))?;
        self.written.fetch_add(len, Ordering::Relaxed);
        Ok(())
    }

    fn put_zeroes(&self, out: &mut dyn Write, range: Range<u64>) -> Result<(), ConvertError> {
        let zeroes = vec![0; PAGE_BYTES as usize];
        let mut at = range.start;
        while at < range.end {
            let step = (range.end - at).min(PAGE_BYTES);
            self.put(out, at, zeroes.get(..step as usize).unwrap_or_default())?;
            at += step;
        }
        Ok(())
    }

    /// Everything has been handed over to the host.
    pub fn flush(&self) -> Result<(), ConvertError> {
        let mut state = self.lock();
        let end = state.next;
        match &mut state.out {
            Some(out) => out.flush().map_err(|error| failed(0..end, error)),
            None => Ok(()),
        }
    }
}

fn failed(range: Range<u64>, error: io::Error) -> ConvertError {
    let source = block::BlockError::io("write", "standard output", error);
    ConvertError::host(Place::of(Stage::Write).host(range), source)
}

impl Sink for StreamSink<'_> {
    fn write(&self, offset: u64, _slices: &[&[u8]]) -> Result<(), ConvertError> {
        Err(ConvertError::Unsupported { what: format!("a write at {offset} of a stream") })
    }

    fn write_page(&self, offset: u64, page: Buffer) -> Result<u64, ConvertError> {
        self.lock().waiting.insert(offset, Waiting::Page(page));
        self.drain()
    }

    fn zero(&self, range: Range<u64>) -> Result<u64, ConvertError> {
        self.lock().waiting.insert(range.start, Waiting::Zeroes(range.end));
        self.drain()
    }

    fn set_end(&self, end: u64) {
        self.end.store(end, Ordering::Relaxed);
    }
}
