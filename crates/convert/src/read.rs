//! Filling the buffer of a unit: coalesced reads, and decoding.

use std::ops::Range;
use std::time::Instant;

use codec::{Decoder, Kind};
use qcow2::Compression;

use crate::error::{Place, Stage};
use crate::{ConvertError, Piece, PieceKind, Source};

/// Bytes between two pieces that are read and dropped instead of asking twice.
const READ_THROUGH: u64 = 4096;
/// Plain pieces of at least this length are read straight to their place.
const STRAIGHT: u64 = 64 << 10;
/// Bytes that one coalesced read fetches at most, unless one payload alone is longer.
const SCRATCH_BYTES: u64 = 1 << 20;

/// Decoders, made when first needed, and room for payloads.
#[derive(Default)]
pub(crate) struct Reader {
    deflate: Option<Decoder>,
    zstd: Option<Decoder>,
    scratch: Vec<u8>,
    cluster: Vec<u8>,
    items: Vec<Item>,
    /// What was read is forgotten by the page cache.
    pub forgets: bool,
    /// Bytes fetched from host files.
    pub bytes: u64,
    pub read_ns: u64,
    pub decode_ns: u64,
}

/// One piece by its place in the host file.
#[derive(Debug, Clone, Copy)]
struct Item {
    file: usize,
    host_offset: u64,
    len: u64,
    piece: Piece,
}

pub(crate) fn ns(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

impl Reader {
    /// Fetches everything that is stored into `buffer`, which begins at guest offset `base`. What reads as zero is
    /// left as it is.
    pub fn fill(
        &mut self,
        source: &dyn Source,
        pieces: &[Piece],
        base: u64,
        buffer: &mut [u8],
    ) -> Result<(), ConvertError> {
        let mut items = std::mem::take(&mut self.items);
        items.clear();
        for piece in pieces {
            match piece.kind {
                PieceKind::Hole | PieceKind::Zero => {}
                PieceKind::Device => {
                    let started = Instant::now();
                    source.read_device(part(buffer, piece, base), piece.offset)?;
                    self.bytes += piece.len;
                    self.read_ns += ns(started);
                }
                PieceKind::Host { file, host_offset } => {
                    items.push(Item { file, host_offset, len: piece.len, piece: *piece });
                }
                PieceKind::Compressed { file, host_offset, payload_len, .. } => {
                    items.push(Item { file, host_offset, len: payload_len, piece: *piece });
                }
            }
        }
        items.sort_unstable_by_key(|item| (item.file, item.host_offset));
        let outcome = self.fetch(source, &items, base, buffer);
        self.items = items;
        outcome
    }

    fn fetch(
        &mut self,
        source: &dyn Source,
        items: &[Item],
        base: u64,
        buffer: &mut [u8],
    ) -> Result<(), ConvertError> {
        let mut rest = items;
        while let Some((first, others)) = rest.split_first() {
            let is_plain = matches!(first.piece.kind, PieceKind::Host { .. });
            if is_plain && first.len >= STRAIGHT {
                let started = Instant::now();
                let place = part(buffer, &first.piece, base);
                read_host(source, first, first.host_offset..first.host_offset + first.len, place)?;
                self.forget(source, first.file, &(first.host_offset..first.host_offset + first.len));
                self.bytes += first.len;
                self.read_ns += ns(started);
                rest = others;
                continue;
            }
            let mut end = first.host_offset.saturating_add(first.len);
            let mut count = 1;
            for next in others {
                let next_end = next.host_offset.saturating_add(next.len);
                let is_near = next.file == first.file && next.host_offset <= end.saturating_add(READ_THROUGH);
                let is_straight = matches!(next.piece.kind, PieceKind::Host { .. }) && next.len >= STRAIGHT;
                if !is_near || is_straight || next_end.max(end) - first.host_offset > SCRATCH_BYTES {
                    break;
                }
                end = end.max(next_end);
                count += 1;
            }
            let (group, behind) = rest.split_at(count);
            // A payload's length is an upper bound: the file may end before it.
            let present = end.min(source.host(first.file).len().max(first.host_offset));
            let range = first.host_offset..present;
            let started = Instant::now();
            let len = (range.end - range.start) as usize;
            if self.scratch.len() < len {
                self.scratch.resize(len, 0);
            }
            let scratch = self.scratch.get_mut(..len).unwrap_or_default();
            read_host(source, first, range.clone(), scratch)?;
            self.forget(source, first.file, &range);
            self.bytes += len as u64;
            self.read_ns += ns(started);
            for item in group {
                self.scatter(item, &range, base, buffer)?;
            }
            rest = behind;
        }
        Ok(())
    }

    fn forget(&self, source: &dyn Source, file: usize, range: &Range<u64>) {
        if self.forgets {
            crate::cache::forget(source, file, range.start, range.end - range.start);
        }
    }

    /// Brings one piece from the scratch buffer, which holds `range` of the host file, to its place.
    fn scatter(
        &mut self,
        item: &Item,
        range: &Range<u64>,
        base: u64,
        buffer: &mut [u8],
    ) -> Result<(), ConvertError> {
        let start = (item.host_offset - range.start) as usize;
        let end = item.host_offset.saturating_add(item.len).min(range.end);
        let end = (end.saturating_sub(range.start) as usize).max(start);
        let Self { scratch, deflate, zstd, cluster, decode_ns, .. } = self;
        let stored = scratch.get(start..end).unwrap_or_default();
        let guest = item.piece.offset..item.piece.end();
        let place = Place::of(Stage::Decode).guest(guest).host(item.host_offset..range.start + end as u64);
        let PieceKind::Compressed { compression, cluster_offset, cluster_len, .. } = item.piece.kind else {
            let place = part(buffer, &item.piece, base);
            if stored.len() == place.len() {
                place.copy_from_slice(stored);
                return Ok(());
            }
            return Err(past_end(item));
        };
        let started = Instant::now();
        let failed = |error: codec::CodecError| ConvertError::Decode { place, detail: error.to_string() };
        let decoder = match compression {
            Compression::Zlib => decoder(deflate, Kind::Deflate),
            Compression::Zstd => decoder(zstd, Kind::Zstd),
        };
        let decoder = match decoder {
            Ok(decoder) => decoder,
            Err(error) => return Err(failed(error)),
        };
        let out = part(buffer, &item.piece, base);
        if out.len() as u64 == cluster_len {
            decoder.decode(stored, out).map_err(failed)?;
        } else {
            cluster.resize(cluster_len as usize, 0);
            decoder.decode(stored, cluster).map_err(failed)?;
            let within = item.piece.offset.saturating_sub(cluster_offset) as usize;
            if let Some(bytes) = cluster.get(within..within + out.len()) {
                out.copy_from_slice(bytes);
            }
        }
        *decode_ns += ns(started);
        Ok(())
    }
}

fn decoder(slot: &mut Option<Decoder>, kind: Kind) -> Result<&mut Decoder, codec::CodecError> {
    if slot.is_none() {
        *slot = Some(Decoder::new(kind)?);
    }
    slot.as_mut().ok_or(codec::CodecError::Library { codec: "decoder", detail: "not made".into() })
}

/// The part of a unit's buffer that a piece fills.
fn part<'b>(buffer: &'b mut [u8], piece: &Piece, base: u64) -> &'b mut [u8] {
    let start = piece.offset.saturating_sub(base) as usize;
    buffer.get_mut(start..start + piece.len as usize).unwrap_or_default()
}

fn past_end(item: &Item) -> ConvertError {
    let source = block::BlockError::PastEnd {
        layer: "the source file".into(),
        offset: item.host_offset,
        len: item.len,
        device_len: item.host_offset,
    };
    let guest = item.piece.offset..item.piece.end();
    ConvertError::host(Place::of(Stage::Read).guest(guest), source)
}

fn read_host(
    source: &dyn Source,
    item: &Item,
    range: Range<u64>,
    buf: &mut [u8],
) -> Result<(), ConvertError> {
    source.host(item.file).read_exact_at(buf, range.start).map_err(|error| {
        let guest = item.piece.offset..item.piece.end();
        ConvertError::host(Place::of(Stage::Read).guest(guest).host(range), error)
    })
}
