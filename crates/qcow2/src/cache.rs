//! A bounded cache of table slices and inflated clusters, shared by all images of a chain.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes that a whole backing chain keeps cached.
pub(crate) const CACHE_BYTES: usize = 32 << 20;

/// What a cached buffer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Table,
    Inflated,
}

/// Image of the chain, kind, host offset.
pub(crate) type Key = (usize, Kind, u64);

struct Slot {
    bytes: Arc<Vec<u8>>,
    used_again: bool,
}

#[derive(Default)]
struct State {
    slots: HashMap<Key, Slot>,
    /// Oldest first; a slot that was used again gets one more round.
    order: VecDeque<Key>,
    held: usize,
}

/// Second-chance cache. The lock is held for look-ups only, never while loading.
pub(crate) struct Cache {
    cap: usize,
    state: Mutex<State>,
}

impl Cache {
    pub fn new(cap: usize) -> Self {
        Self { cap, state: Mutex::default() }
    }

    /// The cached buffer, or what `load` yields. Two threads may load the same buffer at once.
    pub fn get<E>(&self, key: Key, load: impl FnOnce() -> Result<Vec<u8>, E>) -> Result<Arc<Vec<u8>>, E> {
        if let Some(slot) = self.state.lock().unwrap_or_else(PoisonError::into_inner).slots.get_mut(&key) {
            slot.used_again = true;
            return Ok(Arc::clone(&slot.bytes));
        }
        let bytes = Arc::new(load()?);
        let mut guard = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *guard;
        while state.held + bytes.len() > self.cap {
            let Some(oldest) = state.order.pop_front() else { break };
            match state.slots.get_mut(&oldest) {
                Some(slot) if slot.used_again => {
                    slot.used_again = false;
                    state.order.push_back(oldest);
                }
                Some(slot) => {
                    state.held -= slot.bytes.len();
                    state.slots.remove(&oldest);
                }
                None => {}
            }
        }
        let fresh = Slot { bytes: Arc::clone(&bytes), used_again: false };
        match state.slots.insert(key, fresh) {
            Some(old) => state.held -= old.bytes.len(),
            None => state.order.push_back(key),
        }
        state.held += bytes.len();
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_holds_more_than_its_cap_and_keeps_what_is_used() {
        let cache = Cache::new(10);
        let load = |value: u8| cache.get((0, Kind::Table, u64::from(value)), || Ok::<_, ()>(vec![value; 3]));
        for value in 0..3 {
            load(value).unwrap();
        }
        load(0).unwrap();
        load(3).unwrap();
        let state = cache.state.lock().unwrap();
        assert!(state.held <= 10);
        assert!(state.slots.contains_key(&(0, Kind::Table, 0)), "used twice");
        assert!(!state.slots.contains_key(&(0, Kind::Table, 1)), "oldest");
    }
}
