//! Compressed clusters that are moved as they are.
//!
//! Where source and target agree on cluster size and codec, payloads are not touched: the *host clusters* of the source
//! that hold such payloads are copied whole, in host order and without the gaps, to the front of the target. Every
//! payload keeps its place within its cluster, and clusters that were neighbours stay neighbours; so the
//! sector count of an entry stays valid, payloads that straddle clusters still do, and the copy is a few large runs.
//! What else lies in these clusters comes along. One counter a host cluster is all that is kept in memory.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use codec::Kind;
use qcow2::Compression;

use crate::buffer::Pool;
use crate::error::{Place, Stage};
use crate::read::ns;
use crate::sink::Sink;
use crate::units::MAP_PIECES;
use crate::{ConvertError, Piece, PieceKind, Source};

/// Bytes that are moved at once.
pub(crate) const MOVE_BYTES: u64 = 4 << 20;
/// The file that payloads are moved from: the top of a chain.
const FILE: usize = 0;

/// Which compressed pieces are moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Movable {
    pub compression: Compression,
    pub cluster_len: u64,
    /// Length of the disk, where the last cluster ends early.
    pub disk_len: u64,
    /// Clusters that are stored as they are stay so: the source's encoder had its try at them.
    pub plain_too: bool,
}

impl Movable {
    /// The payload of a piece that is moved: its place in the source file.
    pub fn payload(&self, piece: &Piece) -> Option<Range<u64>> {
        let PieceKind::Compressed {
            file,
            host_offset,
            payload_len,
            compression,
            cluster_offset,
            cluster_len,
        } = piece.kind
        else {
            return None;
        };
        let is_whole = piece.offset == cluster_offset
            && (piece.len == cluster_len || piece.end() == self.disk_len)
            && cluster_offset.is_multiple_of(cluster_len);
        let fits = file == FILE && compression == self.compression && cluster_len == self.cluster_len;
        (is_whole && fits && payload_len > 0).then(|| host_offset..host_offset.saturating_add(payload_len))
    }
}

/// The host clusters that are moved, and where each goes.
pub(crate) struct Moved {
    pub movable: Movable,
    /// One bit for each host cluster of the source.
    marks: Vec<u64>,
    /// Marked clusters before each word of `marks`.
    before: Vec<u32>,
    /// How many payloads touch each marked cluster, in order.
    pub counts: Vec<u16>,
}

impl Moved {
    /// Looks for what can be moved; `None` when that is nothing, or when counting it would take more than
    /// `memory_cap` bytes.
    pub fn survey(
        source: &dyn Source,
        kind: Kind,
        cluster_len: u64,
        memory_cap: u64,
    ) -> Result<Option<Self>, ConvertError> {
        let compression = match kind {
            Kind::Deflate => Compression::Zlib,
            Kind::Zstd => Compression::Zstd,
        };
        let disk_len = source.len();
        let mut movable = Movable { compression, cluster_len, disk_len, plain_too: false };
        let host_clusters = source.host(FILE).len().div_ceil(cluster_len);
        if host_clusters.saturating_mul(2) > memory_cap {
            return Ok(None);
        }
        let mut counts = vec![0u16; host_clusters as usize];
        let (mut at, mut moved, mut other) = (0, 0u64, 0u64);
        while at < disk_len {
            let reached = at;
            for piece in source.map(at..disk_len, MAP_PIECES)? {
                at = piece.end();
                let Some(payload) = movable.payload(&piece) else {
                    if !piece.reads_zero() {
                        other += piece.len;
                    }
                    continue;
                };
                moved += piece.len;
                for cluster in payload.start / cluster_len..payload.end.div_ceil(cluster_len) {
                    match counts.get_mut(cluster as usize) {
                        Some(count) if *count < u16::MAX => *count += 1,
                        // More users than a refcount can say: nothing that an encoder makes.
                        _ => return Ok(None),
                    }
                }
            }
            if at <= reached {
                return Ok(None);
            }
        }
        if moved == 0 {
            return Ok(None);
        }
        movable.plain_too = moved > other;
        let (mut marks, mut before, mut marked) = (Vec::new(), Vec::new(), 0);
        for word in counts.chunks(64) {
            before.push(marked);
            let bits =
                word.iter().enumerate().fold(0u64, |bits, (bit, count)| bits | u64::from(*count > 0) << bit);
            marked += bits.count_ones();
            marks.push(bits);
        }
        counts.retain(|count| *count > 0);
        Ok(Some(Self { movable, marks, before, counts }))
    }

    /// Bytes that this keeps in memory.
    pub fn bytes(&self) -> u64 {
        (self.marks.len() * 12 + self.counts.len() * 2) as u64
    }

    /// Host clusters that are moved.
    pub fn clusters(&self) -> u64 {
        self.counts.len() as u64
    }

    /// Position of a marked host cluster among all that are marked.
    pub fn rank(&self, cluster: u64) -> u64 {
        let (word, bit) = ((cluster / 64) as usize, cluster % 64);
        let below = self.marks.get(word).map_or(0, |bits| bits & ((1 << bit) - 1));
        u64::from(self.before.get(word).copied().unwrap_or(0)) + u64::from(below.count_ones())
    }

    /// Runs of marked clusters, in order.
    fn runs(&self) -> impl Iterator<Item = Range<u64>> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let start = self.next(at, true)?;
            let end = self.next(start, false).unwrap_or(self.marks.len() as u64 * 64);
            at = end;
            Some(start..end)
        })
    }

    /// The first cluster from `at` on that is marked, or is not.
    fn next(&self, at: u64, marked: bool) -> Option<u64> {
        let mut word = at / 64;
        let mut skip = at % 64;
        while let Some(bits) = self.marks.get(word as usize) {
            let bits = if marked { *bits } else { !*bits } & (u64::MAX << skip);
            if bits != 0 {
                return Some(word * 64 + u64::from(bits.trailing_zeros()));
            }
            (word, skip) = (word + 1, 0);
        }
        None
    }
}

/// What a move did.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct MoveTally {
    pub bytes: u64,
    pub read_ns: u64,
    pub write_ns: u64,
}

/// One claim: runs of host clusters that together make one write.
struct Batch {
    target: u64,
    runs: Vec<Range<u64>>,
}

/// Cuts the runs into batches.
struct Batches<I> {
    runs: I,
    rest: Range<u64>,
    target: u64,
    cluster_len: u64,
}

impl<I: Iterator<Item = Range<u64>>> Batches<I> {
    fn next(&mut self) -> Option<Batch> {
        let (target, mut room) = (self.target, (MOVE_BYTES / self.cluster_len).max(1));
        // The first write ends at a multiple of its size, so that the others begin at one.
        room -= (target / self.cluster_len) % room;
        let mut runs = Vec::new();
        while room > 0 {
            if self.rest.start >= self.rest.end {
                let Some(next) = self.runs.next() else { break };
                self.rest = next;
            }
            let step = (self.rest.end - self.rest.start).min(room);
            runs.push(self.rest.start..self.rest.start + step);
            self.rest.start += step;
            self.target += step * self.cluster_len;
            room -= step;
        }
        (!runs.is_empty()).then_some(Batch { target, runs })
    }
}

/// Copies all marked clusters to the target, from `first_target` on. Memory: one buffer a thread.
pub(crate) fn move_clusters(
    source: &dyn Source,
    moved: &Moved,
    first_target: u64,
    sink: &dyn Sink,
    threads: usize,
    stop: &AtomicBool,
) -> Result<MoveTally, ConvertError> {
    let cluster_len = moved.movable.cluster_len;
    let pool = Pool::new(MOVE_BYTES.max(cluster_len) as usize);
    let batches = Mutex::new(Batches { runs: moved.runs(), rest: 0..0, target: first_target, cluster_len });
    let failed = AtomicBool::new(false);
    let outcome = Mutex::new((MoveTally::default(), None::<ConvertError>));
    let work = || {
        let mut tally = MoveTally::default();
        let mut buffer = pool.take();
        let mut run = || -> Result<(), ConvertError> {
            while !failed.load(Ordering::Relaxed) {
                if stop.load(Ordering::Relaxed) {
                    return Err(ConvertError::Stopped);
                }
                let batch = batches.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some(batch) = batch else { break };
                let len = fetch(source, &batch, cluster_len, buffer.bytes_mut(), &mut tally)?;
                let started = Instant::now();
                sink.write(batch.target, &[buffer.bytes().get(..len).unwrap_or_default()])?;
                tally.write_ns += ns(started);
            }
            Ok(())
        };
        let ended = run();
        let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
        outcome.0.bytes += tally.bytes;
        outcome.0.read_ns += tally.read_ns;
        outcome.0.write_ns += tally.write_ns;
        if let Err(error) = ended {
            failed.store(true, Ordering::Relaxed);
            outcome.1.get_or_insert(error);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            if std::thread::Builder::new().name("move".into()).spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });
    match outcome.into_inner().unwrap_or_else(PoisonError::into_inner) {
        (tally, None) => Ok(tally),
        (_, Some(error)) => Err(error),
    }
}

/// Reads the clusters of a batch one behind the other; what lies past the end of the file is zero.
fn fetch(
    source: &dyn Source,
    batch: &Batch,
    cluster_len: u64,
    buffer: &mut [u8],
    tally: &mut MoveTally,
) -> Result<usize, ConvertError> {
    let started = Instant::now();
    let file = source.host(FILE);
    let mut at = 0;
    for run in &batch.runs {
        let (start, end) = (run.start * cluster_len, run.end * cluster_len);
        let present = end.min(file.len()).max(start) - start;
        let Some(part) = buffer.get_mut(at..at + (end - start) as usize) else { break };
        let (stored, missing) = part.split_at_mut(present as usize);
        file.read_exact_at(stored, start).map_err(|error| {
            ConvertError::host(Place::of(Stage::Read).host(start..start + present), error)
        })?;
        missing.fill(0);
        tally.bytes += present;
        at += (end - start) as usize;
    }
    tally.read_ns += ns(started);
    Ok(at)
}
