//! One pool of lanes for all images.
//!
//! The rule: the queue is sorted by allocated bytes. Lane 0 takes the largest image that is left, every other lane
//! the smallest. So a large image begins at once and cannot be the tail, and the small ones flow beside it instead of
//! waiting behind it; lane 0 goes on with the next largest, and the lanes meet in the middle. With a single lane the
//! smallest come first.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};

/// How many lanes a budget has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lanes {
    /// Images at the same time.
    pub count: usize,
    /// Bytes for each of them.
    pub memory_each: u64,
}

impl Lanes {
    /// One lane for each thread, as long as each has `least` bytes of `memory`, and there is an image for it.
    pub fn new(threads: usize, memory: u64, least: u64, images: usize) -> Self {
        let room = usize::try_from(memory / least.max(1)).unwrap_or(usize::MAX);
        let count = threads.min(room).min(images).max(1);
        Self { count, memory_each: memory / count as u64 }
    }
}

/// How to run.
#[derive(Debug)]
pub struct Pool<'a> {
    /// Images at the same time.
    pub lanes: usize,
    /// Go on after a failure.
    pub keep_going: bool,
    /// Set from outside: nothing new is begun.
    pub stop: &'a AtomicBool,
    /// Images running now, for whoever wants to know how many threads are free.
    pub running: &'a AtomicUsize,
    /// Images not begun yet.
    pub waiting: &'a AtomicUsize,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunEnd {
    /// Images that were not begun.
    pub left: usize,
}

/// What a job's panic said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Panicked(pub String);

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into())
}

/// Runs `work(job, lane)` for every job, by the rule above. What it returns reaches `finished` on the calling thread,
/// one after the other; `Ok(true)` from there is a failure, after which nothing new begins unless `keep_going` is set.
/// An error from there ends the run the same way and is returned.
pub fn run<T: Send, E>(
    weights: &[u64],
    pool: &Pool<'_>,
    work: impl Fn(usize, usize) -> T + Sync,
    mut finished: impl FnMut(usize, Result<T, Panicked>) -> Result<bool, E>,
) -> Result<RunEnd, E> {
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by_key(|index| (std::cmp::Reverse(weights[*index]), *index));
    let queue = Mutex::new(VecDeque::from(order));
    let has_failed = AtomicBool::new(false);
    let is_over = || has_failed.load(Ordering::Acquire) || pool.stop.load(Ordering::Acquire);
    let claim = |lane: usize| {
        if is_over() {
            return None;
        }
        let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
        let job = if lane == 0 && pool.lanes > 1 { queue.pop_front() } else { queue.pop_back() };
        pool.waiting.store(queue.len(), Ordering::Release);
        job
    };
    let mut first_error = None;
    std::thread::scope(|scope| {
        // Nothing is queued: while one outcome is made durable, each lane is at most one image ahead.
        let (sender, outcomes) = mpsc::sync_channel(0);
        for lane in 0..pool.lanes.max(1) {
            let (sender, claim, work) = (sender.clone(), &claim, &work);
            scope.spawn(move || {
                while let Some(job) = claim(lane) {
                    pool.running.fetch_add(1, Ordering::AcqRel);
                    let outcome = catch_unwind(AssertUnwindSafe(|| work(job, lane)));
                    pool.running.fetch_sub(1, Ordering::AcqRel);
                    let outcome = outcome.map_err(|panic| Panicked(text_of(&*panic)));
                    // The receiver lives until all senders are gone.
                    let _ = sender.send((job, outcome));
                }
            });
        }
        drop(sender);
        for (job, outcome) in outcomes {
            match finished(job, outcome) {
                Ok(false) => {}
                Ok(true) if pool.keep_going => {}
                Ok(true) => has_failed.store(true, Ordering::Release),
                Err(error) => {
                    has_failed.store(true, Ordering::Release);
                    first_error.get_or_insert(error);
                }
            }
        }
    });
    match first_error {
        Some(error) => Err(error),
        None => Ok(RunEnd { left: queue.lock().unwrap_or_else(PoisonError::into_inner).len() }),
    }
}
