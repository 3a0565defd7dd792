//! One unit of work, from reading to encoding.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Instant;

use crate::buffer::Buffer;
use crate::digest::{self, Leaf};
use crate::error::{Place, Stage};
use crate::layout::{ClusterEncoder, Zeroes};
use crate::moved::Movable;
use crate::read::{Reader, ns};
use crate::zero::is_zero;
use crate::{ConvertError, Piece, PieceKind, Source};

/// What becomes of some clusters of a unit. Ranges are bytes of the unit's buffers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Chunk {
    /// Whole clusters stored as they are.
    Plain(Range<usize>),
    /// One cluster (first range, of the data buffer) encoded (second range, of the encoded bytes), and what the encoder
    /// says of it.
    Encoded(Range<usize>, Range<usize>, u64),
    /// Whole clusters that read as zero.
    Zero(Range<usize>),
    /// One cluster whose payload is moved from this place of the source file.
    Moved(Range<usize>, Range<u64>),
}

/// A unit that is ready to be laid out.
#[derive(Debug, Default)]
pub(crate) struct Finished {
    /// Guest offset of the first byte.
    pub base: u64,
    pub data: Option<Buffer>,
    pub encoded: Vec<u8>,
    pub chunks: Vec<Chunk>,
    pub leaves: Vec<Leaf>,
    /// Guest bytes that the source stores in this unit.
    pub mapped: u64,
    /// Bytes of the budget that it holds.
    pub charge: u64,
}

/// Nanoseconds and bytes of one worker.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub read_ns: u64,
    pub decode_ns: u64,
    pub zero_ns: u64,
    pub digest_ns: u64,
    pub encode_ns: u64,
    pub bytes_read: u64,
    pub zero_bytes: u64,
}

/// Everything that one worker keeps from unit to unit.
pub(crate) struct Workshop<'s> {
    /// `None`: units come with their bytes.
    pub source: Option<&'s dyn Source>,
    pub cluster_len: u64,
    pub zeroes: Zeroes,
    pub pads: bool,
    pub digest: bool,
    pub reader: Reader,
    pub encoder: Option<Box<dyn ClusterEncoder>>,
    pub tally: Tally,
    pub movable: Option<Movable>,
    pub verify: bool,
    marks: Vec<u8>,
    /// Payloads that are moved, in guest order.
    payloads: VecDeque<Range<u64>>,
    /// Pieces that are read.
    wanted: Vec<Piece>,
}

/// What the pieces that touch a cluster are.
const HOLE: u8 = 1;
const ZERO: u8 = 2;
const DATA: u8 = 4;
/// Stored as it is in a host file.
const HOST: u8 = 8;
/// Has its own bytes in memory only, or is to be decoded.
const OTHER: u8 = 16;
const MOVED: u8 = 32;

impl<'s> Workshop<'s> {
    pub fn new(
        source: Option<&'s dyn Source>,
        cluster_len: u64,
        zeroes: Zeroes,
        pads: bool,
        digest: bool,
        encoder: Option<Box<dyn ClusterEncoder>>,
    ) -> Self {
        Self {
            source,
            cluster_len,
            zeroes,
            pads,
            digest,
            reader: Reader::default(),
            encoder,
            tally: Tally::default(),
            movable: None,
            verify: false,
            marks: Vec::new(),
            payloads: VecDeque::new(),
            wanted: Vec::new(),
        }
    }

    /// Reads, decodes, looks for zero and encodes; `finished` brings its buffers along.
    pub fn run(
        &mut self,
        range: &Range<u64>,
        pieces: &[Piece],
        finished: &mut Finished,
    ) -> Result<(), ConvertError> {
        let Finished { data: Some(buffer), encoded, chunks, leaves, .. } = finished else { return Ok(()) };
        let len = (range.end - range.start) as usize;
        let padded = if self.pads { len.next_multiple_of(self.cluster_len as usize) } else { len };
        let Some(data) = buffer.bytes_mut().get_mut(..padded) else { return Ok(()) };
        self.mark(range, pieces, padded);
        self.fill_gaps(range, pieces, data)?;
        if let Some(tail) = data.get_mut(len..) {
            tail.fill(0);
        }
        if let Some(source) = self.source {
            self.reader.fill(source, &self.wanted, range.start, data)?;
        }
        if self.digest {
            let started = Instant::now();
            self.clear_untouched(data);
            digest::leaves(range.start, data.get(..len).unwrap_or_default(), leaves);
            self.tally.digest_ns += ns(started);
        }
        self.sort_out(range, data, encoded, chunks)
    }

    /// Marks every cluster by the pieces that touch it.
    fn mark(&mut self, range: &Range<u64>, pieces: &[Piece], padded: usize) {
        self.marks.clear();
        self.payloads.clear();
        self.wanted.clear();
        let decodes_all = self.verify || self.digest;
        self.marks.resize(padded.div_ceil(self.cluster_len as usize), 0);
        for piece in pieces {
            let payload = self.movable.and_then(|movable| movable.payload(piece));
            let mark = match (piece.kind, payload) {
                (PieceKind::Hole, _) => HOLE,
                (PieceKind::Zero, _) => ZERO,
                (_, Some(payload)) => {
                    self.payloads.push_back(payload);
                    if decodes_all { MOVED | DATA } else { MOVED }
                }
                (PieceKind::Host { .. }, None) => DATA | HOST,
                _ => DATA | OTHER,
            };
            if mark & DATA != 0 {
                self.wanted.push(*piece);
            }
            let first = (piece.offset - range.start) / self.cluster_len;
            let end = (piece.end() - range.start).div_ceil(self.cluster_len);
            for cluster in self.marks.get_mut(first as usize..end as usize).unwrap_or_default() {
                *cluster |= mark;
            }
        }
        // Over a backing file, a cluster that is partly zero and partly not stored has content of its own.
        if self.zeroes == Zeroes::OverBacking {
            for mark in self.marks.iter_mut().filter(|mark| **mark == HOLE | ZERO) {
                *mark |= DATA;
            }
        }
    }

    /// Fills what is not stored of clusters that have content.
    fn fill_gaps(
        &mut self,
        range: &Range<u64>,
        pieces: &[Piece],
        data: &mut [u8],
    ) -> Result<(), ConvertError> {
        let cluster_len = self.cluster_len as usize;
        for piece in pieces.iter().filter(|piece| piece.reads_zero()) {
            let mut at = (piece.offset - range.start) as usize;
            let end = (piece.end() - range.start) as usize;
            while at < end {
                let step = (cluster_len - at % cluster_len).min(end - at);
                let has_data = self.marks.get(at / cluster_len).is_some_and(|mark| mark & DATA != 0);
                let gap = data.get_mut(at..at + step).filter(|_| has_data);
                if let Some(gap) = gap {
                    match self.source.filter(|_| piece.kind == PieceKind::Hole) {
                        Some(source) if self.zeroes == Zeroes::OverBacking => {
                            source.read_device(gap, range.start + at as u64)?;
                        }
                        _ => gap.fill(0),
                    }
                }
                at += step;
            }
        }
        Ok(())
    }

    /// Makes clusters without content zero in the buffer, too.
    fn clear_untouched(&self, data: &mut [u8]) {
        for (cluster, mark) in data.chunks_mut(self.cluster_len as usize).zip(&self.marks) {
            if mark & DATA == 0 {
                cluster.fill(0);
            }
        }
    }

    /// Decides for each cluster whether it is zero, plain or encoded.
    fn sort_out(
        &mut self,
        range: &Range<u64>,
        data: &[u8],
        encoded: &mut Vec<u8>,
        chunks: &mut Vec<Chunk>,
    ) -> Result<(), ConvertError> {
        let (mut started, mut encode_ns) = (Instant::now(), 0);
        let mut at = 0;
        for (cluster, mark) in data.chunks(self.cluster_len as usize).zip(&self.marks) {
            let here = at..at + cluster.len();
            at = here.end;
            if mark & MOVED != 0 {
                if let Some(payload) = self.payloads.pop_front() {
                    push(chunks, Chunk::Moved(here, payload));
                }
                continue;
            }
            let has_data = mark & DATA != 0;
            if !has_data || is_zero(cluster) {
                if has_data {
                    self.tally.zero_bytes += cluster.len() as u64;
                }
                // Over a backing file, what is not stored stays so.
                let is_told = match self.zeroes {
                    Zeroes::Implied => false,
                    Zeroes::OverBacking => *mark != HOLE,
                    Zeroes::All => true,
                };
                if is_told {
                    push(chunks, Chunk::Zero(here));
                }
                continue;
            }
            let is_kept = mark & OTHER == 0 && self.movable.is_some_and(|movable| movable.plain_too);
            let Some(encoder) = self.encoder.as_mut().filter(|_| !is_kept) else {
                push(chunks, Chunk::Plain(here));
                continue;
            };
            let before = Instant::now();
            let start = encoded.len();
            let shrunk = encoder.encode(cluster, encoded).map_err(|detail| {
                let guest = range.start + here.start as u64..range.start + here.end as u64;
                ConvertError::Encode { place: Place::of(Stage::Encode).guest(guest), detail }
            })?;
            encode_ns += ns(before);
            push(
                chunks,
                if shrunk {
                    Chunk::Encoded(here, start..encoded.len(), encoder.check())
                } else {
                    Chunk::Plain(here)
                },
            );
        }
        self.tally.encode_ns += encode_ns;
        self.tally.zero_ns += ns(std::mem::replace(&mut started, Instant::now())).saturating_sub(encode_ns);
        Ok(())
    }
}

fn push(chunks: &mut Vec<Chunk>, next: Chunk) {
    match (chunks.last_mut(), &next) {
        (Some(Chunk::Plain(last)), Chunk::Plain(here)) | (Some(Chunk::Zero(last)), Chunk::Zero(here))
            if last.end == here.start =>
        {
            last.end = here.end;
        }
        _ => chunks.push(next),
    }
}
