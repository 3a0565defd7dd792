//! Every inode of every table: fields, block map, attributes, storage.

use ondisk::le_u32;
use vfs::FileKind;

use super::notes::{Note, State};
use super::{Checker, MapPiece, walk_map};
use crate::error::{Result, device};
use crate::feature::{Compat, Incompat, RoCompat};
use crate::group::GroupFlags;
use crate::inode::{Inode, InodeFlags, ROOT_INODE};

const RESIZE_INODE: u32 = 7;
/// Bytes of the inode table read at once.
const TABLE_STEP: usize = 256 << 10;
/// Largest size of a regular file without the feature `large_file`.
const SMALL_FILE_LIMIT: u64 = 1 << 31;
/// Bytes of a symlink target that fit into the inode.
const FAST_SYMLINK_BYTES: u64 = 60;

/// What the map of one inode adds up to.
#[derive(Default)]
struct Usage {
    /// Clusters charged, content and map.
    clusters: u64,
    /// One past the last logical block.
    logical_end: u64,
    /// Last block that holds written content.
    last_written: Option<u64>,
    /// Logical blocks mapped.
    mapped: u64,
    last_cluster: Option<u64>,
    has_unwritten: bool,
}

impl Checker<'_> {
    pub(super) fn check_inodes(&mut self) -> Result<()> {
        for group in 0..self.superblock.groups() {
            self.check_inode_table(group)?;
        }
        Ok(())
    }

    fn check_inode_table(&mut self, group: u32) -> Result<()> {
        let per_group = self.superblock.inodes_per_group();
        let first = group * per_group + 1;
        // Reserved inodes count as used whatever the table says.
        if group == 0 {
            for number in
                (1..self.superblock.first_inode().min(per_group + 1)).filter(|number| *number != ROOT_INODE)
            {
                self.inodes.put(number, Note { state: State::Reserved, ..Note::default() });
            }
        }
        if self.flags(group).contains(GroupFlags::INODE_UNINIT) {
            return Ok(());
        }
        let Some(descriptor) = self.groups.get(group as usize) else { return Ok(()) };
        let unused =
            if self.superblock.features().has_group_checksums() { descriptor.itable_unused() } else { 0 };
        if unused > per_group {
            let detail = format!("{unused} unused inodes of {per_group}");
            self.report.add("ext4.check.group.unused-inodes", format_args!("group {group}"), detail);
        }
        let table = descriptor.inode_table();
        let end = table.saturating_add(self.superblock.inode_table_blocks().into());
        if end > self.superblock.blocks() {
            return Ok(()); // Reported with the descriptor.
        }
        let size = usize::from(self.superblock.inode_size());
        let total = per_group.saturating_sub(unused) as usize * size;
        let at = table * u64::from(self.superblock.block_size());
        let mut buf = vec![0; TABLE_STEP.min(total)];
        let mut done = 0;
        while done < total {
            let step = TABLE_STEP.min(total - done);
            let chunk = &mut buf[..step];
            self.dev.read_exact_at(chunk, at + done as u64).map_err(device)?;
            for (index, raw) in chunk.chunks_exact(size).enumerate() {
                if raw.iter().any(|byte| *byte != 0) {
                    self.check_inode(first + (done / size + index) as u32, raw)?;
                }
            }
            done += step;
        }
        Ok(())
    }

    fn problem(&mut self, number: u32, code: &'static str, detail: impl std::fmt::Display) {
        self.report.add(code, format_args!("inode {number}"), detail);
    }

    fn check_inode(&mut self, number: u32, raw: &[u8]) -> Result<()> {
        let is_reserved = number < self.superblock.first_inode() && number != ROOT_INODE;
        let links = ondisk::le_u16(raw, 0x1a);
        let (mode, dtime) = (ondisk::le_u16(raw, 0), le_u32(raw, 0x14));
        if links == 0 && !is_reserved {
            if mode != 0 && dtime == 0 {
                self.problem(number, "ext4.check.inode.dtime", "has no links and no deletion time");
            }
            return Ok(());
        }
        if links == 0 && mode == 0 {
            return Ok(()); // A reserved inode without content.
        }
        let inode = match Inode::parse(&self.superblock, number, raw.to_vec()) {
            Ok(inode) => inode,
            Err(error) => {
                self.problem(number, "ext4.check.inode", error);
                if !is_reserved {
                    self.inodes.put(number, Note { declared: links, found: 0, state: State::Used(None) });
                }
                return Ok(());
            }
        };
        if dtime != 0 && !is_reserved {
            self.problem(number, "ext4.check.inode.dtime", format_args!("in use, but deleted at {dtime}"));
        }
        let kind = inode.kind();
        self.report.inodes_in_use += 1;
        let has_no_name = is_reserved
            || number == self.superblock.orphan_file_inode()
            || number == le_u32(self.superblock.raw(), 0x26c) && self.has_ro_compat(RoCompat::PROJECT);
        let state = if has_no_name {
            State::Reserved
        } else if inode.has(InodeFlags::EA_INODE) {
            State::AttributeValue
        } else {
            State::Used(kind)
        };
        self.inodes.put(number, Note { declared: links, found: 0, state });
        if kind == Some(FileKind::Directory) {
            self.report.directories += 1;
            self.directories.add(number);
        } else if number == ROOT_INODE {
            self.problem(number, "ext4.check.root", "the root is no directory");
        }
        if kind.is_none() && !is_reserved {
            self.problem(number, "ext4.check.inode.mode", format_args!("mode {mode:#o} is of no kind"));
        }
        self.check_flags(&inode);

        let attribute_blocks = self.check_attributes(&inode)?;
        let usage = self.check_storage(&inode)?;
        // The resize inode's map consists of descriptor blocks that other groups own.
        if number != RESIZE_INODE {
            let ratio = u64::from(self.superblock.cluster_ratio());
            let sectors_per_block = u64::from(self.superblock.block_size() / 512);
            let expected = (usage.clusters * ratio + attribute_blocks) * sectors_per_block;
            let found = inode.sectors(&self.superblock);
            if found != expected {
                self.problem(
                    number,
                    "ext4.check.inode.blocks",
                    format_args!("i_blocks is {found}, expected {expected}"),
                );
            }
        }
        self.check_size(&inode, &usage)?;
        if number == self.superblock.orphan_file_inode() {
            self.check_orphan_file(&inode)?;
        }
        Ok(())
    }

    fn check_flags(&mut self, inode: &Inode) {
        let number = inode.number();
        for (flag, is_allowed, name) in [
            (InodeFlags::EXTENTS, self.has_incompat(Incompat::EXTENTS), "extents"),
            (InodeFlags::INLINE_DATA, self.has_incompat(Incompat::INLINE_DATA), "inline data"),
            (InodeFlags::EA_INODE, self.has_incompat(Incompat::EA_INODE), "an attribute value"),
            (InodeFlags::INDEX, inode.is_dir() && self.has_compat(Compat::DIR_INDEX), "an htree"),
        ] {
            if inode.has(flag) && !is_allowed {
                self.problem(
                    number,
                    "ext4.check.inode.flag",
                    format_args!("has {name}, which may not be here"),
                );
            }
        }
        let is_large =
            inode.kind() == Some(FileKind::Regular) && inode.size(&self.superblock) >= SMALL_FILE_LIMIT;
        if is_large && !self.has_ro_compat(RoCompat::LARGE_FILE) && number != RESIZE_INODE {
            self.problem(
                number,
                "ext4.check.superblock.large-file",
                "2 GiB or more without the feature large_file",
            );
        }
    }

    /// Claims everything that the inode maps.
    fn check_storage(&mut self, inode: &Inode) -> Result<Usage> {
        let mut usage = Usage::default();
        let number = inode.number();
        let maps_blocks = match inode.kind() {
            Some(FileKind::Regular | FileKind::Directory) | None => true,
            Some(FileKind::Symlink) => !self.is_fast_symlink(inode),
            _ => false,
        };
        if inode.has(InodeFlags::INLINE_DATA) {
            return Ok(usage);
        }
        if !maps_blocks {
            if inode.has(InodeFlags::EXTENTS) {
                self.problem(number, "ext4.check.inode.flag", "has extents without mapping blocks");
            }
            return Ok(usage);
        }
        if number == RESIZE_INODE {
            // Only its own double-indirect block is not claimed yet.
            let block = u64::from(le_u32(inode.i_block(), 13 * 4));
            if self.is_block(block) {
                self.claim(block, 1, number, &mut usage);
            }
            return Ok(usage);
        }
        let mut pieces = Vec::new();
        let mut problems = Vec::new();
        walk_map(self.dev, &self.superblock, inode, &mut |piece| pieces.push(piece), &mut |problem| {
            problems.push(problem)
        })?;
        for (code, detail) in problems {
            self.problem(number, code, detail);
        }
        for piece in pieces {
            match piece {
                MapPiece::Node { physical } => {
                    // A block of the map never shares its cluster with content.
                    usage.last_cluster = None;
                    self.claim(physical, 1, number, &mut usage);
                    usage.last_cluster = None;
                }
                MapPiece::Data { logical, physical, len, is_written } => {
                    self.claim(physical, len, number, &mut usage);
                    usage.mapped += len;
                    usage.logical_end = usage.logical_end.max(logical + len);
                    if is_written {
                        usage.last_written = usage.last_written.max(Some(logical + len - 1));
                    } else {
                        usage.has_unwritten = true;
                    }
                }
            }
        }
        Ok(usage)
    }

    /// Takes blocks for an inode; a block with another owner is a problem.
    fn claim(&mut self, start: u64, len: u64, number: u32, usage: &mut Usage) {
        let ratio = u64::from(self.superblock.cluster_ratio());
        let (first, last) = (self.cluster_of(start), self.cluster_of(start + len - 1));
        let mut shared = None;
        for cluster in first..=last {
            if usage.last_cluster == Some(cluster) {
                continue; // Extents of one file may meet inside a cluster.
            }
            usage.last_cluster = Some(cluster);
            usage.clusters += 1;
            if self.clusters.set(cluster) {
                shared.get_or_insert(cluster);
            }
        }
        if let Some(cluster) = shared {
            let block = cluster * ratio + u64::from(self.superblock.first_data_block());
            self.problem(
                number,
                "ext4.check.block.shared",
                format_args!("block {} has another owner, too", block.max(start)),
            );
        }
    }

    fn is_fast_symlink(&self, inode: &Inode) -> bool {
        inode.size(&self.superblock) < FAST_SYMLINK_BYTES && !inode.has(InodeFlags::EXTENTS) && {
            // Old kernels stored short targets in a block, too: those have blocks beside attributes.
            let attribute = if inode.xattr_block() != 0 {
                u64::from(self.superblock.block_size() / 512) * u64::from(self.superblock.cluster_ratio())
            } else {
                0
            };
            inode.sectors(&self.superblock) <= attribute || self.has_incompat(Incompat::EA_INODE)
        }
    }

    fn check_size(&mut self, inode: &Inode, usage: &Usage) -> Result<()> {
        let (number, size) = (inode.number(), inode.size(&self.superblock));
        if inode.has(InodeFlags::INLINE_DATA) {
            return Ok(());
        }
        let block_size = u64::from(self.superblock.block_size());
        match inode.kind() {
            Some(FileKind::Directory) => {
                let is_whole = usage.mapped == usage.logical_end && !usage.has_unwritten;
                if !is_whole || size != usage.logical_end * block_size || size == 0 {
                    self.problem(
                        number,
                        "ext4.check.directory.size",
                        format_args!(
                            "size {size} with {} of {} blocks mapped",
                            usage.mapped, usage.logical_end
                        ),
                    );
                }
            }
            Some(FileKind::Regular) => {
                let is_past_end = usage.last_written.is_some_and(|last| last * block_size > size);
                if size > self.largest_size(inode) {
                    self.problem(
                        number,
                        "ext4.check.inode.size",
                        format_args!("size {size} is more than its map can hold"),
                    );
                }
                if is_past_end && !inode.has(InodeFlags::VERITY) {
                    self.problem(
                        number,
                        "ext4.check.inode.size",
                        format_args!(
                            "size {size}, but block {} holds content",
                            usage.last_written.unwrap_or(0)
                        ),
                    );
                }
            }
            Some(FileKind::Symlink) => self.check_symlink(inode, usage)?,
            Some(_) if size != 0 => {
                self.problem(number, "ext4.check.inode.size", format_args!("size {size} of a special file"));
            }
            _ => {}
        }
        Ok(())
    }

    /// Bytes that the map of a regular file can reach.
    fn largest_size(&self, inode: &Inode) -> u64 {
        let block_size = u64::from(self.superblock.block_size());
        let pointers = block_size / 4;
        let blocks = if inode.has(InodeFlags::EXTENTS) {
            1 << 32
        } else {
            12 + pointers + pointers.pow(2) + pointers.pow(3)
        };
        blocks * block_size
    }

    fn check_symlink(&mut self, inode: &Inode, usage: &Usage) -> Result<()> {
        let (number, size) = (inode.number(), inode.size(&self.superblock));
        if inode.has(InodeFlags::ENCRYPT) {
            return Ok(());
        }
        let block_size = self.block_bytes();
        let mut text = inode.i_block().to_vec();
        if !self.is_fast_symlink(inode) {
            let mut first = None;
            walk_map(
                self.dev,
                &self.superblock,
                inode,
                &mut |piece| {
                    if let MapPiece::Data { logical: 0, physical, .. } = piece {
                        first = Some(physical);
                    }
                },
                &mut |_| {},
            )?;
            text = vec![0; block_size];
            match first {
                Some(block) if usage.mapped == 1 => self.read_block(block, &mut text)?,
                _ => {
                    self.problem(
                        number,
                        "ext4.check.symlink",
                        format_args!("{} blocks mapped, expected 1", usage.mapped),
                    );
                    return Ok(());
                }
            }
        }
        let len = text.iter().position(|byte| *byte == 0).unwrap_or(text.len()) as u64;
        if len != size || size == 0 || size >= block_size as u64 {
            self.problem(
                number,
                "ext4.check.symlink",
                format_args!("size {size}, but the target has {len} bytes"),
            );
        }
        Ok(())
    }
}
