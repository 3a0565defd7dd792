//! Extended attributes in the inode, in a block, and in inodes of their own.

use ondisk::{le_u16, le_u32, try_le_u32};
use vfs::FileKind;

use super::{Checker, SharedBlock};
use crate::error::Result;
use crate::feature::{Compat, Incompat};
use crate::inode::{Inode, InodeFlags};

const MAGIC: u32 = 0xea02_0000;
const ENTRY_BYTES: usize = 16;
const BLOCK_HEADER_BYTES: usize = 32;
const INODE_HEADER_BYTES: usize = 4;
/// Inodes that may share one attribute block.
const MAX_REFERENCES: u32 = 1024;
const INDEX_SYSTEM: u8 = 7;

/// One parsed entry.
struct Entry {
    name_index: u8,
    name: Vec<u8>,
    /// Inode that holds the value; 0 when it lies here.
    value_inode: u32,
    value_size: u32,
    /// Position of the value, padded; `None` for empty values and values elsewhere.
    value: Option<std::ops::Range<usize>>,
    hash: u32,
}

impl Entry {
    fn order(&self) -> (u8, usize, &[u8]) {
        (self.name_index, self.name.len(), &self.name)
    }

    /// The hash with name bytes taken as unsigned or as signed.
    fn expected_hash(&self, value: &[u8], is_signed: bool) -> u32 {
        let mut hash = 0u32;
        for byte in &self.name {
            let character = if is_signed { i32::from(*byte as i8) as u32 } else { u32::from(*byte) };
            hash = hash.rotate_left(5) ^ character;
        }
        for word in value.chunks_exact(4) {
            hash = hash.rotate_left(16) ^ le_u32(word, 0);
        }
        hash
    }
}

/// Parses the entries from `at` on; offsets of values count from `base`.
fn parse_entries(raw: &[u8], at: usize, base: usize) -> std::result::Result<Vec<Entry>, String> {
    let mut entries = Vec::new();
    let mut ranges = Vec::new();
    let mut at = at;
    loop {
        match try_le_u32(raw, at) {
            None => return Err("the list of names has no end".into()),
            Some(0) => break,
            Some(_) => {}
        }
        let Some(head) = raw.get(at..at + ENTRY_BYTES) else {
            return Err("an entry passes the end".into());
        };
        let (name_len, name_index) = (usize::from(head[0]), head[1]);
        let (offset, value_inode) = (usize::from(le_u16(head, 2)), le_u32(head, 4));
        let (value_size, hash) = (le_u32(head, 8), le_u32(head, 12));
        let Some(name) = raw.get(at + ENTRY_BYTES..at + ENTRY_BYTES + name_len) else {
            return Err("a name passes the end".into());
        };
        let value = if value_inode == 0 && value_size != 0 {
            let start = base + offset;
            let padded = (value_size as usize).checked_add(3).map(|size| size & !3);
            match padded.and_then(|size| start.checked_add(size)) {
                Some(end) if end <= raw.len() && offset % 4 == 0 => Some(start..end),
                _ => return Err(format!("a value of {value_size} bytes at {offset} does not fit")),
            }
        } else {
            None
        };
        ranges.extend(value.clone());
        entries.push(Entry { name_index, name: name.to_vec(), value_inode, value_size, value, hash });
        at += ENTRY_BYTES + ((name_len + 3) & !3);
    }
    ranges.sort_by_key(|range| range.start);
    let mut end = at + 4;
    for range in ranges {
        if range.start < end {
            return Err("a value overlaps another or the names".into());
        }
        end = range.end;
    }
    Ok(entries)
}

impl Checker<'_> {
    /// Checks all attributes of an inode; returns the blocks that it is charged for them.
    pub(super) fn check_attributes(&mut self, inode: &Inode) -> Result<u64> {
        let number = inode.number();
        let mut charged = 0;
        let mut has_inline_data = false;
        let extra = inode.extra_size();
        let raw = inode.raw();
        if extra != 0 && try_le_u32(raw, 128 + extra) == Some(MAGIC) {
            let base = 128 + extra + INODE_HEADER_BYTES;
            match parse_entries(raw, base, base) {
                Ok(entries) => {
                    has_inline_data =
                        entries.iter().any(|entry| entry.name_index == INDEX_SYSTEM && entry.name == b"data");
                    charged += self.check_entries(number, &entries, raw, false);
                }
                Err(detail) => {
                    self.report.add(
                        "ext4.check.attribute",
                        format_args!("attributes in inode {number}"),
                        detail,
                    );
                }
            }
        }
        if inode.has(InodeFlags::INLINE_DATA) && !has_inline_data {
            self.report.add(
                "ext4.check.inline",
                format_args!("inode {number}"),
                "inline content without the attribute system.data",
            );
        }
        let block = inode.xattr_block();
        if block == 0 {
            return Ok(charged);
        }
        charged += u64::from(self.superblock.cluster_ratio());
        if !self.is_block(block) || !self.has_compat(Compat::EXT_ATTR) {
            self.report.add(
                "ext4.check.attribute",
                format_args!("inode {number}"),
                format_args!(
                    "attribute block {block} outside the filesystem or without the feature ext_attr"
                ),
            );
            return Ok(charged);
        }
        charged += self.check_attribute_block(number, block)?;
        Ok(charged)
    }

    /// Value of `system.data`; empty when there is none.
    pub(super) fn inline_rest(&self, inode: &Inode) -> Vec<u8> {
        let base = 128 + inode.extra_size() + INODE_HEADER_BYTES;
        let raw = inode.raw();
        let entries = parse_entries(raw, base, base).unwrap_or_default();
        let data = entries.iter().find(|entry| entry.name_index == INDEX_SYSTEM && entry.name == b"data");
        let place = data.and_then(|entry| Some((entry.value.clone()?, entry.value_size as usize)));
        place
            .and_then(|(range, size)| raw.get(range.start..range.start + size))
            .map(<[u8]>::to_vec)
            .unwrap_or_default()
    }

    fn check_attribute_block(&mut self, number: u32, block: u64) -> Result<u64> {
        let place = format!("attribute block {block} of inode {number}");
        let mut raw = vec![0; self.block_bytes()];
        self.read_block(block, &mut raw)?;
        let entries = parse_entries(&raw, BLOCK_HEADER_BYTES, 0);
        let charged =
            |entries: &[Entry], checker: &Self| entries.iter().map(|entry| checker.value_blocks(entry)).sum();
        if let Some(shared) = self.attribute_blocks.get_mut(&block) {
            shared.found += 1;
            return Ok(entries.map_or(0, |entries| charged(&entries, self)));
        }
        let (magic, references, blocks) = (le_u32(&raw, 0), le_u32(&raw, 4), le_u32(&raw, 8));
        self.attribute_blocks.insert(block, SharedBlock { declared: references, found: 1 });
        if self.clusters.set(self.cluster_of(block)) {
            self.report.add("ext4.check.block.shared", &place, "the block has another owner, too");
        }
        if magic != MAGIC || blocks != 1 || references > MAX_REFERENCES {
            self.report.add(
                "ext4.check.attribute",
                &place,
                format_args!("magic {magic:#010x}, {blocks} blocks, {references} references"),
            );
            return Ok(0);
        }
        if self.has_metadata_csum() {
            let expected = self.superblock.xattr_block_checksum(block, &raw);
            if expected != le_u32(&raw, 0x10) {
                self.report.add(
                    "ext4.check.attribute.checksum",
                    &place,
                    format_args!("checksum {:#010x}, expected {expected:#010x}", le_u32(&raw, 0x10)),
                );
            }
        }
        match entries {
            Ok(entries) => {
                if !entries.is_sorted_by(|left, right| left.order() < right.order()) {
                    self.report.add("ext4.check.attribute.order", &place, "the entries are not sorted");
                }
                Ok(self.check_entries(number, &entries, &raw, true))
            }
            Err(detail) => {
                self.report.add("ext4.check.attribute", &place, detail);
                Ok(0)
            }
        }
    }

    /// Checks hashes and counts references to value inodes; returns the blocks of those.
    fn check_entries(&mut self, number: u32, entries: &[Entry], raw: &[u8], in_block: bool) -> u64 {
        let mut charged = 0;
        for entry in entries {
            let name = String::from_utf8_lossy(&entry.name).into_owned();
            if entry.value_inode != 0 {
                if !self.has_incompat(Incompat::EA_INODE) {
                    self.report.add(
                        "ext4.check.attribute",
                        format_args!("inode {number}"),
                        format_args!(
                            "the value of {name} lies in inode {} without ea_inode",
                            entry.value_inode
                        ),
                    );
                }
                *self.value_references.entry(entry.value_inode).or_default() += 1;
                charged += self.value_blocks(entry);
                continue;
            }
            let value = entry.value.clone().and_then(|range| raw.get(range)).unwrap_or_default();
            let is_right = entry.hash == entry.expected_hash(value, false)
                || entry.hash == entry.expected_hash(value, true)
                || !in_block && entry.hash == 0;
            if !is_right {
                self.report.add(
                    "ext4.check.attribute.hash",
                    format_args!("inode {number}"),
                    format_args!("hash {:#010x} of the attribute {name} is wrong", entry.hash),
                );
            }
        }
        charged
    }

    /// Blocks of a value that lies in an inode of its own.
    fn value_blocks(&self, entry: &Entry) -> u64 {
        if entry.value_inode == 0 {
            return 0;
        }
        let ratio = u64::from(self.superblock.cluster_ratio());
        let cluster = u64::from(self.superblock.block_size()) * ratio;
        u64::from(entry.value_size).div_ceil(cluster) * ratio
    }

    /// Compares reference counts, when all inodes were seen.
    pub(super) fn check_attribute_references(&mut self) {
        for (block, shared) in std::mem::take(&mut self.attribute_blocks) {
            if shared.declared != shared.found {
                self.report.add(
                    "ext4.check.attribute.references",
                    format_args!("attribute block {block}"),
                    format_args!("{} references, expected {}", shared.declared, shared.found),
                );
            }
        }
    }

    /// Checks an orphan file: every slot free, every block with its tail.
    pub(super) fn check_orphan_file(&mut self, inode: &Inode) -> Result<()> {
        const TAIL_BYTES: usize = 8;
        const TAIL_MAGIC: u32 = 0x0b10_ca04;
        let number = inode.number();
        if inode.kind() != Some(FileKind::Regular) {
            self.report.add("ext4.check.orphan-file", format_args!("inode {number}"), "not a regular file");
            return Ok(());
        }
        let mut raw = vec![0; self.block_bytes()];
        for (_, physical) in self.content_blocks(inode)? {
            self.read_block(physical, &mut raw)?;
            let (slots, tail) = raw.split_at(raw.len() - TAIL_BYTES);
            let place = format!("orphan file block {physical}");
            if le_u32(tail, 0) != TAIL_MAGIC {
                self.report.add(
                    "ext4.check.orphan-file",
                    &place,
                    format_args!("magic {:#010x}", le_u32(tail, 0)),
                );
            }
            if self.has_metadata_csum() {
                let seed = inode.seed(&self.superblock).0;
                let expected = ondisk::crc32c_raw(ondisk::crc32c_raw(seed, &physical.to_le_bytes()), slots);
                if le_u32(tail, 4) != expected {
                    self.report.add(
                        "ext4.check.orphan-file",
                        &place,
                        format_args!("checksum {expected:#010x} expected"),
                    );
                }
            }
            if slots.iter().any(|byte| *byte != 0) {
                self.report.add("ext4.check.orphans", &place, "orphans wait to be processed");
            }
        }
        Ok(())
    }
}
