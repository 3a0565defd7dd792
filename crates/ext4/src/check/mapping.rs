//! Walks the block map of one inode: extent tree or indirect blocks.

use std::collections::BTreeSet;

use block::ReadAt;
use ondisk::{crc32c_raw, le_u16, le_u32, try_le_u32};

use crate::error::{Result, device};
use crate::inode::{Inode, InodeFlags};
use crate::superblock::Superblock;

const EXTENT_MAGIC: u16 = 0xf30a;
const HEADER_BYTES: usize = 12;
const ENTRY_BYTES: usize = 12;
const MAX_DEPTH: u16 = 5;
/// Lengths above this mark an unwritten extent.
const MAX_WRITTEN_BLOCKS: u32 = 32_768;
/// Blocks that the direct pointers and the three levels of indirect blocks start with.
const DIRECT_BLOCKS: usize = 12;
const LOGICAL_END: u64 = 1 << 32;

/// Something that an inode's map contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MapPiece {
    /// Blocks of content.
    Data { logical: u64, physical: u64, len: u64, is_written: bool },
    /// A block of the map itself.
    Node { physical: u64 },
}

/// Something wrong with a map: stable code and words.
pub(crate) type MapProblem = (&'static str, String);

/// Calls `piece` for all that the map of `inode` contains, in logical order (a node before its
/// content), and `problem` for all that is wrong with it. Blocks outside the filesystem and nodes met
/// twice are problems and not followed.
pub(crate) fn walk_map(
    dev: &dyn ReadAt,
    superblock: &Superblock,
    inode: &Inode,
    piece: &mut dyn FnMut(MapPiece),
    problem: &mut dyn FnMut(MapProblem),
) -> Result<()> {
    let mut walk = Walk { dev, superblock, inode, piece, problem, nodes: BTreeSet::new() };
    if inode.has(InodeFlags::EXTENTS) {
        walk.extent_node(inode.i_block(), None, 0..LOGICAL_END, "root of the extent tree")
    } else {
        walk.indirect()
    }
}

struct Walk<'a> {
    dev: &'a dyn ReadAt,
    superblock: &'a Superblock,
    inode: &'a Inode,
    piece: &'a mut dyn FnMut(MapPiece),
    problem: &'a mut dyn FnMut(MapProblem),
    nodes: BTreeSet<u64>,
}

impl Walk<'_> {
    fn report(&mut self, code: &'static str, detail: String) {
        (self.problem)((code, detail));
    }

    fn is_inside(&self, physical: u64, len: u64) -> bool {
        let first = u64::from(self.superblock.first_data_block());
        physical > first.min(1)
            && physical.checked_add(len).is_some_and(|end| end <= self.superblock.blocks())
            || self.superblock.cluster_ratio() == 1
                && physical > first
                && physical.checked_add(len).is_some_and(|end| end <= self.superblock.blocks())
    }

    /// Reads a block of the map once.
    fn node(&mut self, physical: u64) -> Result<Option<Vec<u8>>> {
        if !self.is_inside(physical, 1) {
            self.report("ext4.check.map.place", format!("the map block {physical} lies outside"));
            return Ok(None);
        }
        if !self.nodes.insert(physical) {
            self.report("ext4.check.map.loop", format!("the map block {physical} is used twice"));
            return Ok(None);
        }
        (self.piece)(MapPiece::Node { physical });
        let block_size = self.superblock.block_size();
        let mut block = vec![0; block_size as usize];
        self.dev.read_exact_at(&mut block, physical * u64::from(block_size)).map_err(device)?;
        Ok(Some(block))
    }

    /// One node; `depth` as its parent demands, `range` the logical blocks that it may cover.
    fn extent_node(
        &mut self,
        raw: &[u8],
        depth: Option<u16>,
        range: std::ops::Range<u64>,
        place: &str,
    ) -> Result<()> {
        let (magic, entries, max, eh_depth) =
            (le_u16(raw, 0), usize::from(le_u16(raw, 2)), usize::from(le_u16(raw, 4)), le_u16(raw, 6));
        let room = (raw.len() - HEADER_BYTES) / ENTRY_BYTES;
        if magic != EXTENT_MAGIC
            || entries > max
            || max > room
            || max == 0
            || depth.map_or(eh_depth > MAX_DEPTH, |depth| depth != eh_depth)
        {
            self.report(
                "ext4.check.extent.header",
                format!("{place}: magic {magic:#06x}, {entries} of {max} entries, depth {eh_depth}"),
            );
            return Ok(());
        }
        if depth.is_some() && self.superblock.features().has_metadata_csum() {
            let end = HEADER_BYTES + ENTRY_BYTES * max;
            let expected = crc32c_raw(self.inode.seed(self.superblock).0, &raw[..end]);
            if try_le_u32(raw, end) != Some(expected) {
                self.report(
                    "ext4.check.extent.checksum",
                    format!("{place}: checksum {expected:#010x} expected"),
                );
            }
        }
        let body = &raw[HEADER_BYTES..HEADER_BYTES + entries * ENTRY_BYTES];
        if eh_depth == 0 {
            self.leaf_entries(body, range, place);
            return Ok(());
        }
        if entries == 0 && depth.is_some() {
            self.report("ext4.check.extent.header", format!("{place}: an index without entries"));
        }
        let mut next = range.start;
        for (index, entry) in body.chunks_exact(ENTRY_BYTES).enumerate() {
            let key = u64::from(le_u32(entry, 0));
            let child = u64::from(le_u32(entry, 4)) | u64::from(le_u16(entry, 8)) << 32;
            let end = body
                .get((index + 1) * ENTRY_BYTES..)
                .and_then(|rest| try_le_u32(rest, 0))
                .map_or(range.end, u64::from);
            if key < next || key >= range.end || end <= key || end > range.end {
                self.report("ext4.check.extent.order", format!("{place}: key {key} is out of order"));
                return Ok(());
            }
            next = end;
            let Some(block) = self.node(child)? else { continue };
            let first = (le_u16(&block, 2) != 0).then(|| u64::from(le_u32(&block, HEADER_BYTES)));
            if first.is_some_and(|first| first != key) {
                self.report(
                    "ext4.check.extent.key",
                    format!("{place}: key {key}, but the block {child} starts with {}", first.unwrap_or(0)),
                );
            }
            self.extent_node(&block, Some(eh_depth - 1), key..end, &format!("extent block {child}"))?;
        }
        Ok(())
    }

    fn leaf_entries(&mut self, body: &[u8], range: std::ops::Range<u64>, place: &str) {
        let mut next = range.start;
        for entry in body.chunks_exact(ENTRY_BYTES) {
            let logical = u64::from(le_u32(entry, 0));
            let ee_len = u32::from(le_u16(entry, 4));
            let physical = u64::from(le_u32(entry, 8)) | u64::from(le_u16(entry, 6)) << 32;
            let is_written = ee_len <= MAX_WRITTEN_BLOCKS;
            let len = u64::from(if is_written { ee_len } else { ee_len - MAX_WRITTEN_BLOCKS });
            if len == 0 {
                self.report(
                    "ext4.check.extent.length",
                    format!("{place}: an extent of no blocks at {logical}"),
                );
                continue;
            }
            if logical < next || logical + len > range.end {
                self.report(
                    "ext4.check.extent.order",
                    format!("{place}: {len} blocks at {logical} do not fit between {next} and {}", range.end),
                );
                continue;
            }
            next = logical + len;
            if !self.is_inside(physical, len) {
                self.report(
                    "ext4.check.map.place",
                    format!("{len} blocks at {physical} for {logical} lie outside the filesystem"),
                );
                continue;
            }
            (self.piece)(MapPiece::Data { logical, physical, len, is_written });
        }
    }

    fn indirect(&mut self) -> Result<()> {
        let raw = self.inode.i_block().to_vec();
        self.pointers(&raw[..DIRECT_BLOCKS * 4], 0);
        let per_block = u64::from(self.superblock.block_size() / 4);
        let mut logical = DIRECT_BLOCKS as u64;
        let mut covered = per_block;
        for level in 1..=3u32 {
            let pointer = u64::from(le_u32(&raw, (DIRECT_BLOCKS + level as usize - 1) * 4));
            if pointer != 0 {
                self.indirect_node(pointer, level, logical)?;
            }
            logical = logical.saturating_add(covered);
            covered = covered.saturating_mul(per_block);
        }
        Ok(())
    }

    fn indirect_node(&mut self, physical: u64, level: u32, logical: u64) -> Result<()> {
        let Some(block) = self.node(physical)? else { return Ok(()) };
        if level == 1 {
            self.pointers(&block, logical);
            return Ok(());
        }
        let per_block = u64::from(self.superblock.block_size() / 4);
        let covered = per_block.saturating_pow(level - 1);
        for (index, raw) in block.chunks_exact(4).enumerate() {
            let pointer = u64::from(le_u32(raw, 0));
            if pointer != 0 {
                let logical = logical.saturating_add(covered.saturating_mul(index as u64));
                self.indirect_node(pointer, level - 1, logical)?;
            }
        }
        Ok(())
    }

    /// Data pointers; neighbours are joined.
    fn pointers(&mut self, raw: &[u8], logical: u64) {
        let mut run: Option<(u64, u64, u64)> = None;
        for (index, raw) in raw.chunks_exact(4).enumerate() {
            let physical = u64::from(le_u32(raw, 0));
            let here = logical.saturating_add(index as u64);
            if physical == 0 {
                self.flush_run(&mut run);
                continue;
            }
            if !self.is_inside(physical, 1) {
                self.report(
                    "ext4.check.map.place",
                    format!("block {physical} for {here} lies outside the filesystem"),
                );
                self.flush_run(&mut run);
                continue;
            }
            match &mut run {
                Some((start, first, len)) if *first + *len == physical && *start + *len == here => *len += 1,
                _ => {
                    self.flush_run(&mut run);
                    run = Some((here, physical, 1));
                }
            }
        }
        self.flush_run(&mut run);
    }

    fn flush_run(&mut self, run: &mut Option<(u64, u64, u64)>) {
        if let Some((logical, physical, len)) = run.take() {
            (self.piece)(MapPiece::Data { logical, physical, len, is_written: true });
        }
    }
}
