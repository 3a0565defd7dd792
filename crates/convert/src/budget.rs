//! Bytes in flight: the bound on memory.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

/// A bound on the bytes that conversions hold at once. Several conversions may share one.
///
/// It is also where workers sleep: everything that may give a waiting worker something to do ends in
/// `Budget::wake`, and a worker that looked for work in vain sleeps until the count of events moved on.
#[derive(Debug)]
pub struct Budget {
    limit: u64,
    state: Mutex<State>,
    event: Condvar,
}

#[derive(Debug, Default)]
struct State {
    held: u64,
    high_water: u64,
    events: u64,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: u64) -> Self {
        Self { limit, state: Mutex::default(), event: Condvar::new() }
    }

    /// The bound.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Most bytes that were held at once.
    pub fn high_water(&self) -> u64 {
        self.lock().high_water
    }

    /// Bytes held now; 0 when no conversion is under way.
    pub fn held(&self) -> u64 {
        self.lock().held
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes `bytes` if they fit. More than the limit fits only when nothing else is held: work larger than the
    /// budget goes one at a time instead of never.
    pub(crate) fn try_take(&self, bytes: u64) -> bool {
        let mut state = self.lock();
        if state.held != 0 && state.held.saturating_add(bytes) > self.limit {
            return false;
        }
        state.held = state.held.saturating_add(bytes);
        state.high_water = state.high_water.max(state.held);
        true
    }

    /// Takes `bytes` whether they fit or not: for what is bounded by other means and must not wait.
    pub(crate) fn take(&self, bytes: u64) {
        let mut state = self.lock();
        state.held = state.held.saturating_add(bytes);
        state.high_water = state.high_water.max(state.held);
    }

    /// Gives bytes back.
    pub(crate) fn give(&self, bytes: u64) {
        let mut state = self.lock();
        state.held = state.held.saturating_sub(bytes);
        state.events += 1;
        drop(state);
        self.event.notify_all();
    }

    /// The count of events, to be read before looking for work.
    pub(crate) fn events(&self) -> u64 {
        self.lock().events
    }

    /// Something happened that a sleeping worker may be waiting for.
    pub(crate) fn wake(&self) {
        self.lock().events += 1;
        self.event.notify_all();
    }

    /// Sleeps until something happened since [`Budget::events`] said `seen`.
    pub(crate) fn sleep(&self, seen: u64) {
        let mut state = self.lock();
        while state.events == seen {
            state = self.event.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// What one conversion holds of a budget; given back when it ends, however it ends.
#[derive(Debug)]
pub(crate) struct Share<'b> {
    budget: &'b Budget,
    held: AtomicU64,
}

impl<'b> Share<'b> {
    pub fn new(budget: &'b Budget) -> Self {
        Self { budget, held: AtomicU64::new(0) }
    }

    /// Takes `bytes` if they fit.
    pub fn try_take(&self, bytes: u64) -> bool {
        let fits = self.budget.try_take(bytes);
        if fits {
            self.held.fetch_add(bytes, Ordering::Relaxed);
        }
        fits
    }

    /// Takes `bytes` whether they fit or not.
    pub fn take(&self, bytes: u64) {
        self.budget.take(bytes);
        self.held.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Gives bytes back.
    pub fn give(&self, bytes: u64) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
        self.budget.give(bytes);
    }

    pub fn events(&self) -> u64 {
        self.budget.events()
    }

    pub fn wake(&self) {
        self.budget.wake();
    }

    pub fn sleep(&self, seen: u64) {
        self.budget.sleep(seen);
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.budget.give(*self.held.get_mut());
    }
}
