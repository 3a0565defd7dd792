//! Workers that run a unit to completion.
//!
//! Every worker does the same: take a write that was decided on; else claim the next unit, read, decode, encode and
//! deliver it; else sleep until something happened. Invariants (tests cite the numbers):
//!
//! * E-1 Units are claimed in guest order, so the unit at the head of the ring has its buffers: no deadlock.
//! * E-2 What goes where is decided by the fold alone, in guest order: no trace of threads, timing or unit size.
//! * E-3 Bytes are taken from the budget before a unit is claimed, and given back when its writes are done. One unit
//!   at a time goes on without, so that every conversion comes to its end however little memory there is.
//! * E-4 The first error wins; after it nothing is claimed or written.
//! * E-5 A panic in a unit is an error like any other.
//! * E-6 What is known to read as zero is neither read nor given a unit.

mod fold;
mod pages;
mod worker;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use report::Progress;

use crate::budget::Share;
use crate::buffer::Pool;
use crate::cache;
use crate::convert::Input;
use crate::error::{Place, Stage};
use crate::layout::{End, Finish, Layout};
use crate::moved::Movable;
use crate::outcome::StageTimes;
use crate::sink::Sink;
use crate::stream::Feed;
use crate::work::{Tally, Workshop};
use crate::{Budget, ConvertError};
use fold::{Fold, Task};
pub(crate) use pages::PAGE_BYTES;

/// What a run of the engine works with.
pub(crate) struct Run<'r> {
    pub input: Input<'r>,
    pub layout: &'r mut dyn Layout,
    /// `None`: nothing is written, for a digest alone.
    pub sink: Option<&'r dyn Sink>,
    pub threads: usize,
    pub unit: u64,
    pub budget: &'r Budget,
    pub digest: bool,
    /// Compressed pieces that are not encoded anew.
    pub movable: Option<Movable>,
    /// Decode these all the same, to see that they decode.
    pub verify: bool,
    pub progress: &'r dyn Progress,
    pub stop: &'r AtomicBool,
}

/// What a run did.
#[derive(Debug, Default)]
pub(crate) struct RunOutcome {
    pub finish: Finish,
    pub encoder: Option<String>,
    pub times: StageTimes,
    pub bytes_read: u64,
    pub zero_bytes: u64,
    pub committed: u64,
    pub plain_clusters: u64,
    pub encoded_clusters: u64,
    pub moved_clusters: u64,
    pub units: u64,
    pub stalls: u64,
    pub virtual_len: u64,
    pub digest: Option<[u8; 32]>,
}

/// What all workers share.
struct Shared<'r> {
    sink: Option<&'r dyn Sink>,
    budget: Share<'r>,
    pool: Pool,
    /// Bytes of the budget that a unit takes.
    charge: u64,
    claims: Mutex<Claims<'r>>,
    fold: Mutex<Fold<'r>>,
    tasks: Mutex<std::collections::VecDeque<Task>>,
    /// Items claimed whose writes are not done, and tasks that were queued.
    outstanding: AtomicU64,
    is_exhausted: AtomicBool,
    failed: AtomicBool,
    error: Mutex<Option<ConvertError>>,
    stop: &'r AtomicBool,
    stalls: AtomicU64,
    wait_ns: AtomicU64,
    map_ns: AtomicU64,
    write_ns: AtomicU64,
    tallies: Mutex<Vec<Tally>>,
}

struct Claims<'r> {
    feed: Feed<'r>,
    /// Number of the next item.
    number: u64,
    claimed: u64,
}

impl Shared<'_> {
    /// The first error is kept; everybody wakes up to see it.
    fn fail(&self, error: ConvertError) {
        let mut first = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(error);
        drop(first);
        self.failed.store(true, Ordering::Release);
        self.budget.wake();
    }

    fn is_over(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }
}

/// Text of a panic.
pub(crate) fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panic".into())
}

/// Runs all units through. What was written is not durable yet, and the header is not written.
pub(crate) fn run(run: Run<'_>) -> Result<RunOutcome, ConvertError> {
    let Run { input, layout, sink, threads, unit, budget, digest, movable, verify, progress, stop } = run;
    let source = match &input {
        Input::Random(source) => Some(*source),
        Input::Stream(_) => None,
    };
    let digest = digest || layout.wants_digest();
    let cluster_len = layout.cluster_len();
    let (zeroes, pads) = (layout.zeroes(), layout.pads_last_cluster());
    let is_packed = layout.is_packed() && sink.is_some();
    let mut encoder_name = None;
    let mut shops = Vec::new();
    for _ in 0..threads.max(1) {
        let encoder = match sink {
            Some(_) => layout.encoder()?,
            None => None,
        };
        let encoder = encoder.map(|(encoder, name)| {
            encoder_name = Some(name);
            encoder
        });
        let mut shop = Workshop::new(source, cluster_len, zeroes, pads, digest, encoder);
        (shop.movable, shop.verify) = (movable, verify);
        shops.push(shop);
    }
    let forgets = source.is_some_and(cache::is_cold);
    for shop in &mut shops {
        shop.reader.forgets = forgets;
    }
    let buffer_len = unit.next_multiple_of(cluster_len);
    let shared = Shared {
        sink,
        budget: Share::new(budget),
        pool: Pool::new(buffer_len as usize),
        // Data; and for packed targets what is encoded, and the pages it goes to.
        charge: if is_packed { 3 * buffer_len } else { buffer_len },
        claims: Mutex::new(Claims { feed: Feed::new(input, unit, zeroes), number: 0, claimed: 0 }),
        fold: Mutex::new(Fold::new(layout, digest, sink.is_none(), progress)),
        tasks: Mutex::default(),
        outstanding: AtomicU64::new(0),
        is_exhausted: AtomicBool::new(false),
        failed: AtomicBool::new(false),
        error: Mutex::new(None),
        stop,
        stalls: AtomicU64::new(0),
        wait_ns: AtomicU64::new(0),
        map_ns: AtomicU64::new(0),
        write_ns: AtomicU64::new(0),
        tallies: Mutex::default(),
    };
    std::thread::scope(|scope| {
        let mut shops = shops.into_iter();
        // This thread is a worker, too.
        let own = shops.next();
        for shop in shops {
            let shared = &shared;
            let spawned = std::thread::Builder::new()
                .name("convert".into())
                .spawn_scoped(scope, move || worker::work(shared, shop));
            // Fewer workers do the same work; without any the own one is left.
            if spawned.is_err() {
                break;
            }
        }
        if let Some(own) = own {
            worker::work(&shared, own);
        }
    });
    finish(shared, encoder_name)
}

/// After the workers: the first error, or the last tables.
fn finish(shared: Shared<'_>, encoder: Option<String>) -> Result<RunOutcome, ConvertError> {
    let first = shared.error.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(error) = first {
        return Err(error);
    }
    let caught = catch_unwind(AssertUnwindSafe(|| {
        let virtual_len = shared.claims.lock().unwrap_or_else(PoisonError::into_inner).feed.virtual_len();
        let mut fold = shared.fold.lock().unwrap_or_else(PoisonError::into_inner);
        let digest = fold.digest.take().map(|digest| digest.finish(virtual_len));
        let end = End { virtual_len, digest };
        let Some(sink) = shared.sink else { return Ok((end, Finish::default())) };
        let (finish, tasks) = fold.finish(&end, &shared.budget)?;
        drop(fold);
        sink.set_end(finish.file_len);
        for task in tasks {
            worker::perform(&shared, task)?;
        }
        Ok((end, finish))
    }));
    let (end, finish) = caught.unwrap_or_else(|payload| {
        Err(ConvertError::Panic { place: Place::of(Stage::Write), detail: panic_text(&*payload) })
    })?;
    let fold = shared.fold.into_inner().unwrap_or_else(PoisonError::into_inner);
    let claims = shared.claims.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut outcome = RunOutcome {
        finish,
        encoder,
        committed: fold.committed,
        plain_clusters: fold.plain_clusters,
        encoded_clusters: fold.encoded_clusters,
        moved_clusters: fold.moved_clusters,
        units: claims.claimed,
        stalls: shared.stalls.into_inner(),
        virtual_len: end.virtual_len,
        digest: end.digest,
        ..RunOutcome::default()
    };
    let times = &mut outcome.times;
    times.fold = fold.fold_ns;
    times.map = shared.map_ns.into_inner();
    times.wait = shared.wait_ns.into_inner();
    times.write = shared.write_ns.into_inner();
    for tally in shared.tallies.into_inner().unwrap_or_else(PoisonError::into_inner) {
        times.read += tally.read_ns;
        times.decode += tally.decode_ns;
        times.zero += tally.zero_ns;
        times.digest += tally.digest_ns;
        times.encode += tally.encode_ns;
        outcome.bytes_read += tally.bytes_read;
        outcome.zero_bytes += tally.zero_bytes;
    }
    Ok(outcome)
}
