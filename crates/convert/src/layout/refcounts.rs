//! Host clusters of a new qcow2 image: handed out upwards, counted, and their refcount blocks written early.
//!
//! Refcounts are 16 bits wide (refcount_order 4, the default of the format; QEMU, docs/interop/qcow2.txt).

use std::collections::BTreeMap;

use super::Placed;

/// Greatest count that 16 bits hold.
pub(super) const REFCOUNT_MAX: u16 = u16::MAX;

/// The next free host cluster, and the counts of those before it.
pub(super) struct Refcounts {
    cluster_bits: u32,
    next: u64,
    /// Counts by block number: blocks that may still change.
    live: BTreeMap<u64, Vec<u16>>,
    /// Host offset of every block that was written, by number.
    written: Vec<u64>,
}

/// Where the refcount table is.
pub(super) struct RefcountTable {
    pub offset: u64,
    pub clusters: u64,
}

impl Refcounts {
    /// Counts for a file whose first cluster is the header's.
    pub fn new(cluster_bits: u32) -> Self {
        let mut new = Self { cluster_bits, next: 0, live: BTreeMap::new(), written: Vec::new() };
        new.allocate();
        new
    }

    /// Takes over clusters that are in use already, behind the header, and goes on at `next`.
    pub fn preload(&mut self, counts: &[u16], next: u64) {
        for (cluster, users) in (1..).zip(counts) {
            if let Some(count) = self.count(cluster) {
                *count = *users;
            }
        }
        self.next = next;
    }

    /// Clusters whose counts are in one block: 2 bytes each.
    fn per_block(&self) -> u64 {
        1 << (self.cluster_bits - 1)
    }

    /// First cluster that is not in use.
    pub fn next(&self) -> u64 {
        self.next
    }

    fn count(&mut self, cluster: u64) -> Option<&mut u16> {
        let per_block = self.per_block();
        let block = self.live.entry(cluster / per_block).or_insert_with(|| vec![0; per_block as usize]);
        block.get_mut((cluster % per_block) as usize)
    }

    /// Takes the next cluster.
    pub fn allocate(&mut self) -> u64 {
        let cluster = self.next;
        self.next += 1;
        if let Some(count) = self.count(cluster) {
            *count = 1;
        }
        cluster
    }

    /// One more user of a cluster that is in use; its block must be live.
    pub fn share(&mut self, cluster: u64) {
        if let Some(count) = self.count(cluster) {
            *count = count.saturating_add(1);
        }
    }

    /// How many users a live cluster has.
    pub fn users(&mut self, cluster: u64) -> u16 {
        self.count(cluster).map_or(REFCOUNT_MAX, |count| *count)
    }

    /// True when the block of `cluster` is two or more behind: it has to be closed.
    pub fn lags(&self, cluster: u64) -> bool {
        self.next / self.per_block() >= cluster / self.per_block() + 2
    }

    /// Writes blocks that nothing will change any more: all before the one of the next cluster, except that of
    /// `open`. A block goes to a cluster of its own, which it may count itself.
    pub fn retire(&mut self, open: Option<u64>, placed: &mut Placed) {
        let per_block = self.per_block();
        while let Some((number, _)) = self.live.first_key_value() {
            let number = *number;
            if number >= self.next / per_block || open.is_some_and(|open| open / per_block == number) {
                return;
            }
            let at = self.allocate();
            self.write(number, at, placed);
        }
    }

    fn write(&mut self, number: u64, cluster: u64, placed: &mut Placed) {
        let counts = self.live.remove(&number).unwrap_or_default();
        let mut bytes: Vec<u8> = counts.iter().flat_map(|count| count.to_be_bytes()).collect();
        bytes.resize(1 << self.cluster_bits, 0);
        let index = number as usize;
        if self.written.len() <= index {
            self.written.resize(index + 1, 0);
        }
        if let Some(entry) = self.written.get_mut(index) {
            *entry = cluster << self.cluster_bits;
        }
        placed.tables.push((cluster << self.cluster_bits, bytes));
    }

    /// Writes all remaining blocks and the table that names them.
    pub fn finish(&mut self, placed: &mut Placed) -> RefcountTable {
        let (per_block, cluster_len) = (self.per_block(), 1u64 << self.cluster_bits);
        // Blocks and table need clusters, which need counts, which need blocks: grow until all fit.
        let already = self.live.first_key_value().map_or(0, |(number, _)| *number);
        let (mut blocks, mut table) = (0, 0);
        loop {
            let all = (self.next + blocks + table).div_ceil(per_block);
            let (need, need_table) = (all - already, (all * 8).div_ceil(cluster_len));
            if need <= blocks && need_table <= table {
                break;
            }
            (blocks, table) = (blocks.max(need), table.max(need_table));
        }
        let first: Vec<u64> = (0..blocks).map(|_| self.allocate()).collect();
        let table_at = self.next;
        for _ in 0..table {
            self.allocate();
        }
        for (number, cluster) in (already..).zip(first) {
            self.live.entry(number).or_default();
            self.write(number, cluster, placed);
        }
        let mut bytes: Vec<u8> = self.written.iter().flat_map(|offset| offset.to_be_bytes()).collect();
        bytes.resize((table * cluster_len) as usize, 0);
        placed.tables.push((table_at << self.cluster_bits, bytes));
        RefcountTable { offset: table_at << self.cluster_bits, clusters: table }
    }
}
