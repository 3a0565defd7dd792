//! A new qcow2 image, written in one pass.
//!
//! State is a cursor (the next free host cluster), the partly filled cluster that compressed payloads go to, and
//! the tables that may still change: one L2 table, up to three refcount blocks, and L1. A table that is complete goes
//! to the cursor at once, so that memory does not grow with the disk.

use std::ops::Range;
use std::sync::Arc;

use codec::{Algorithm, Encoder, Kind};

use super::qcow2_header::{Tables, header};
use super::refcounts::{REFCOUNT_MAX, Refcounts};
use super::{ClusterEncoder, End, Finish, Layout, NamedEncoder, Placed, Zeroes};
use crate::engine::PAGE_BYTES;
use crate::error::{Place, Stage};
use crate::moved::Moved;
use crate::{ConvertError, Qcow2Target};

/// Bit 63 of an L1 or L2 entry: the refcount is exactly one.
const COPIED: u64 = 1 << 63;
/// Bit 62 of an L2 entry: compressed.
const COMPRESSED: u64 = 1 << 62;
/// Bit 0 of an L2 entry: reads as zero (version 3).
const ZERO: u64 = 1;
/// QEMU's limit for an L1 table (`QCOW_MAX_L1_SIZE`).
const MAX_L1_BYTES: u64 = 32 << 20;

pub(crate) struct Qcow2Layout {
    target: Qcow2Target,
    refcounts: Refcounts,
    l1: Vec<u64>,
    /// The L2 table being filled: index in L1, and entries.
    l2: Option<(usize, Vec<u64>)>,
    /// Next free byte of the cluster that payloads go to.
    open: Option<u64>,
    /// Payloads that were moved as they are, to the clusters behind the header.
    moved: Option<Arc<Moved>>,
}

/// Moved clusters begin behind the header.
pub(crate) const FIRST_MOVED: u64 = 1;

/// What makes compressed clusters.
struct Compressor(Encoder);

impl ClusterEncoder for Compressor {
    fn encode(&mut self, cluster: &[u8], out: &mut Vec<u8>) -> Result<bool, String> {
        self.0.encode(cluster, out).map_err(|error| error.to_string())
    }
}

/// QEMU opens no image with a larger L1 table.
fn check_l1(cluster_bits: u32, virtual_len: u64) -> Result<(), ConvertError> {
    if virtual_len.div_ceil(1 << (2 * cluster_bits - 3)).saturating_mul(8) <= MAX_L1_BYTES {
        return Ok(());
    }
    Err(ConvertError::Target {
        code: "convert.target.l1-size",
        what: format!("a disk of {virtual_len} bytes needs larger clusters than 2^{cluster_bits} bytes"),
    })
}

impl Qcow2Layout {
    pub fn new(target: &Qcow2Target, virtual_len: u64) -> Result<Self, ConvertError> {
        let refuse = |code, what| Err(ConvertError::Target { code, what });
        if !(9..=21).contains(&target.cluster_bits) {
            let what =
                format!("clusters of 2^{} bytes are not possible, 2^9 to 2^21 are", target.cluster_bits);
            return refuse("convert.target.cluster-size", what);
        }
        if !matches!(target.version, 2 | 3) {
            return refuse("convert.target.version", format!("there is no qcow2 version {}", target.version));
        }
        if target.version == 2 && target.compression.map(Algorithm::kind) == Some(Kind::Zstd) {
            return refuse("convert.target.zstd-v2", "version 2 of qcow2 has no zstd".into());
        }
        check_l1(target.cluster_bits, virtual_len)?;
        Ok(Self {
            target: target.clone(),
            refcounts: Refcounts::new(target.cluster_bits),
            l1: Vec::new(),
            l2: None,
            open: None,
            moved: None,
        })
    }

    /// Gives the clusters behind the header to what is moved; everything else begins at the page behind them.
    pub fn with_moved(mut self, moved: Arc<Moved>) -> Self {
        let pages = ((FIRST_MOVED + moved.clusters()) << self.bits()).div_ceil(PAGE_BYTES);
        self.refcounts.preload(&moved.counts, (pages * PAGE_BYTES) >> self.bits());
        self.moved = Some(moved);
        self
    }

    fn bits(&self) -> u32 {
        self.target.cluster_bits
    }

    fn open_cluster(&self) -> Option<u64> {
        // An open offset at a cluster's start belongs to the full cluster before it, unless that is impossible.
        self.open.map(|at| at >> self.bits())
    }

    /// Writes the L2 table being filled, if there is one.
    fn flush_l2(&mut self, placed: &mut Placed) {
        let Some((index, entries)) = self.l2.take() else { return };
        let at = self.refcounts.allocate() << self.bits();
        if self.l1.len() <= index {
            self.l1.resize(index + 1, 0);
        }
        if let Some(entry) = self.l1.get_mut(index) {
            *entry = at | COPIED;
        }
        placed.tables.push((at, entries.iter().flat_map(|entry| entry.to_be_bytes()).collect()));
    }

    /// Before a guest cluster is placed: its L2 table is live, and tables that are complete are on their way.
    fn begin(&mut self, guest: u64, placed: &mut Placed) {
        let index = (guest >> (2 * self.bits() - 3)) as usize;
        if self.l2.as_ref().is_none_or(|(live, _)| *live != index) {
            self.flush_l2(placed);
            self.l2 = Some((index, vec![0; 1 << (self.bits() - 3)]));
        }
        if self.open_cluster().is_some_and(|open| self.refcounts.lags(open)) {
            self.open = None;
        }
        let open = self.open_cluster();
        self.refcounts.retire(open, placed);
    }

    fn set_entry(&mut self, guest: u64, entry: u64) {
        let index = (guest >> self.bits()) & ((1 << (self.bits() - 3)) - 1);
        if let Some((_, entries)) = &mut self.l2
            && let Some(slot) = entries.get_mut(index as usize)
        {
            *slot = entry;
        }
    }

    fn compressed_entry(&self, host: u64, len: u64) -> u64 {
        // Sectors beyond the one that the payload begins in.
        let more_sectors = (host % 512 + len - 1) / 512;
        let offset_bits = 62 - (self.bits() - 8);
        COMPRESSED | more_sectors << offset_bits | host
    }

    /// Takes room for a payload: in the open cluster where it fits, or where the next cluster goes on with it.
    fn place_payload(&mut self, len: u64) -> u64 {
        let cluster_len = 1 << self.bits();
        if let Some(at) = self.open {
            let cluster = at >> self.bits();
            let end = (cluster + 1) << self.bits();
            let has_room = at + len <= end;
            let goes_on = cluster + 1 == self.refcounts.next();
            if (has_room || goes_on) && self.refcounts.users(cluster) < REFCOUNT_MAX {
                self.refcounts.share(cluster);
                let mut covered = end;
                while covered < at + len {
                    self.refcounts.allocate();
                    covered += cluster_len;
                }
                self.open = (!(at + len).is_multiple_of(cluster_len)).then_some(at + len);
                return at;
            }
        }
        let at = self.refcounts.allocate() << self.bits();
        self.open = (len < cluster_len).then_some(at + len);
        at
    }
}

impl Layout for Qcow2Layout {
    fn cluster_len(&self) -> u64 {
        1 << self.bits()
    }

    fn zeroes(&self) -> Zeroes {
        if self.target.backing.is_some() { Zeroes::OverBacking } else { Zeroes::Implied }
    }

    fn pads_last_cluster(&self) -> bool {
        true
    }

    fn is_packed(&self) -> bool {
        self.target.compression.is_some()
    }

    fn encoder(&self) -> Result<Option<NamedEncoder>, ConvertError> {
        let Some(algorithm) = self.target.compression else { return Ok(None) };
        let encoder = Encoder::new(algorithm, 1 << self.bits()).map_err(|error| ConvertError::Encode {
            place: Place::of(Stage::Encode),
            detail: error.to_string(),
        })?;
        let name = encoder.name();
        Ok(Some((Box::new(Compressor(encoder)), name)))
    }

    fn place_plain(&mut self, guest: Range<u64>, placed: &mut Placed) -> Result<(), ConvertError> {
        let mut at = guest.start;
        while at < guest.end {
            self.begin(at, placed);
            let host = self.refcounts.allocate() << self.bits();
            self.set_entry(at, host | COPIED);
            placed.push_data(host, 1 << self.bits());
            at += 1 << self.bits();
        }
        Ok(())
    }

    fn place_encoded(
        &mut self,
        guest: Range<u64>,
        len: u64,
        _check: u64,
        placed: &mut Placed,
    ) -> Result<(), ConvertError> {
        self.begin(guest.start, placed);
        let host = self.place_payload(len);
        let entry = self.compressed_entry(host, len);
        self.set_entry(guest.start, entry);
        placed.data.push((host, len));
        Ok(())
    }

    fn place_moved(
        &mut self,
        guest: Range<u64>,
        payload: Range<u64>,
        placed: &mut Placed,
    ) -> Result<(), ConvertError> {
        self.begin(guest.start, placed);
        let Some(moved) = &self.moved else {
            return Err(ConvertError::Unsupported { what: "moved clusters without their places".into() });
        };
        let cluster = FIRST_MOVED + moved.rank(payload.start >> self.bits());
        let host = (cluster << self.bits()) + payload.start % (1 << self.bits());
        let entry = self.compressed_entry(host, payload.end - payload.start);
        self.set_entry(guest.start, entry);
        Ok(())
    }

    fn place_zeroes(&mut self, guest: Range<u64>, placed: &mut Placed) -> Result<(), ConvertError> {
        let mut at = guest.start;
        while at < guest.end {
            self.begin(at, placed);
            if self.target.version == 2 {
                // No way to say it but to store it.
                let host = self.refcounts.allocate() << self.bits();
                self.set_entry(at, host | COPIED);
                placed.zeroes.push(host..host + (1 << self.bits()));
            } else {
                self.set_entry(at, ZERO);
            }
            at += 1 << self.bits();
        }
        Ok(())
    }

    fn decided(&self) -> u64 {
        self.refcounts.next() << self.bits()
    }

    fn open_range(&self) -> Range<u64> {
        match self.open {
            // Without compression nothing comes back to a cluster.
            Some(at) => at..((at >> self.bits()) + 1) << self.bits(),
            None => 0..0,
        }
    }

    fn finish(&mut self, end: &End, placed: &mut Placed) -> Result<Finish, ConvertError> {
        check_l1(self.bits(), end.virtual_len)?;
        self.flush_l2(placed);
        self.open = None;
        self.refcounts.retire(None, placed);
        // QEMU counts whole sectors: of a partial one it would drop the bytes.
        let virtual_len = end.virtual_len.next_multiple_of(512);
        let entries = virtual_len.div_ceil(1 << (2 * self.bits() - 3));
        self.l1.resize(entries as usize, 0);
        let mut l1: Vec<u8> = self.l1.iter().flat_map(|entry| entry.to_be_bytes()).collect();
        l1.resize(l1.len().max(8).next_multiple_of(1 << self.bits()), 0);
        let first = self.refcounts.next();
        for _ in 0..l1.len() >> self.bits() {
            self.refcounts.allocate();
        }
        placed.tables.push((first << self.bits(), l1));
        let table = self.refcounts.finish(placed);
        let tables = Tables {
            virtual_len,
            l1_offset: first << self.bits(),
            l1_entries: entries as u32,
            refcount_table_offset: table.offset,
            refcount_table_clusters: table.clusters as u32,
        };
        let file_len = self.refcounts.next() << self.bits();
        Ok(Finish { file_len, header: Some((0, header(&self.target, &tables)?)) })
    }
}
