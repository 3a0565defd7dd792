//! Text form of every structure, for comparing two images.

use std::io::Write;

use block::{BlockError, ReadAt};
use ondisk::{le_u16, le_u32};

use crate::check::{MapPiece, walk_map};
use crate::error::{Result, device, shown};
use crate::group::GroupFlags;
use crate::inode::{Inode, InodeFlags};
use crate::superblock::Superblock;

/// Bytes of the inode table read at once.
const TABLE_STEP: usize = 64 << 10;

/// Writes superblock, groups, every inode in use with its map, and all directory entries as text.
///
/// The text depends on the image alone, so that two images can be compared line by line. Structures are
/// shown as they stand, right or wrong; a structure that cannot be followed is shown with what is wrong.
pub fn dump(dev: &dyn ReadAt, out: &mut dyn Write) -> Result<()> {
    let superblock = Superblock::read(dev)?;
    let mut dump = Dump { dev, superblock, out };
    dump.superblock()?;
    dump.groups()
}

struct Dump<'a> {
    dev: &'a dyn ReadAt,
    superblock: Superblock,
    out: &'a mut dyn Write,
}

impl Dump<'_> {
    fn line(&mut self, text: std::fmt::Arguments<'_>) -> Result<()> {
        writeln!(self.out, "{text}").map_err(|source| device(BlockError::io("write", "the dump", source)))
    }

    fn superblock(&mut self) -> Result<()> {
        let superblock = self.superblock.clone();
        let features = superblock.features();
        self.line(format_args!(
            "superblock: {} blocks of {} bytes, {} free; {} inodes of {} bytes, {} free; {} groups",
            superblock.blocks(),
            superblock.block_size(),
            superblock.free_blocks(),
            superblock.inodes(),
            superblock.inode_size(),
            superblock.free_inodes(),
            superblock.groups()
        ))?;
        self.line(format_args!(
            "features: compat {:#x} incompat {:#x} ro_compat {:#x}",
            features.compat.bits(),
            features.incompat.bits(),
            features.ro_compat.bits()
        ))?;
        // Every other field, as words that are not zero.
        for (index, word) in superblock.raw().chunks_exact(4).enumerate() {
            let word = le_u32(word, 0);
            if word != 0 {
                self.line(format_args!("  {:#05x}: {word:#010x}", index * 4))?;
            }
        }
        Ok(())
    }

    fn groups(&mut self) -> Result<()> {
        let (descriptors, _) = self.superblock.read_descriptors(self.dev)?;
        for (group, descriptor) in descriptors.iter().enumerate() {
            let group = group as u32;
            self.line(format_args!(
                "group {group}: block bitmap {} inode bitmap {} inode table {}; {} free blocks, {} free inodes, \
                 {} directories, {} unused inodes; flags {:#x}; checksums {:#06x} {:#010x} {:#010x}",
                descriptor.block_bitmap(),
                descriptor.inode_bitmap(),
                descriptor.inode_table(),
                descriptor.free_blocks(),
                descriptor.free_inodes(),
                descriptor.used_dirs(),
                descriptor.itable_unused(),
                descriptor.flags().bits(),
                descriptor.checksum(),
                descriptor.block_bitmap_checksum().0,
                descriptor.inode_bitmap_checksum().0,
            ))?;
            if let Err(error) = self.superblock.check_descriptor(group, descriptor) {
                self.line(format_args!("  {error}"))?;
                continue;
            }
            let has_flags = self.superblock.features().has_group_checksums();
            if has_flags && descriptor.flags().contains(GroupFlags::INODE_UNINIT) {
                continue;
            }
            let unused = if has_flags { descriptor.itable_unused() } else { 0 };
            let used = self.superblock.inodes_per_group().saturating_sub(unused);
            self.inode_table(group, descriptor.inode_table(), used)?;
        }
        Ok(())
    }

    fn inode_table(&mut self, group: u32, table: u64, used: u32) -> Result<()> {
        let size = usize::from(self.superblock.inode_size());
        let total = used as usize * size;
        let start = table * u64::from(self.superblock.block_size());
        let first = group * self.superblock.inodes_per_group() + 1;
        let mut done = 0;
        while done < total {
            let mut chunk = vec![0; TABLE_STEP.min(total - done)];
            self.dev.read_exact_at(&mut chunk, start + done as u64).map_err(device)?;
            for (index, raw) in chunk.chunks_exact(size).enumerate() {
                let is_in_use = le_u16(raw, 0x1a) != 0;
                if is_in_use {
                    self.inode(first + (done / size + index) as u32, raw)?;
                }
            }
            done += chunk.len();
        }
        Ok(())
    }

    fn inode(&mut self, number: u32, raw: &[u8]) -> Result<()> {
        let inode = match Inode::parse(&self.superblock, number, raw.to_vec()) {
            Ok(inode) => inode,
            Err(error) => return self.line(format_args!("inode {number}: {error}")),
        };
        let time = |time: vfs::Timestamp| format!("{}.{:09}", time.seconds, time.nanoseconds);
        self.line(format_args!(
            "inode {number}: mode {:#o} links {} owner {}:{} size {} sectors {} flags {:#x} generation {:#010x} \
             attributes at {} atime {} ctime {} mtime {} crtime {}",
            inode.mode(),
            inode.links(),
            inode.uid(),
            inode.gid(),
            inode.size(&self.superblock),
            inode.sectors(&self.superblock),
            inode.flags().bits(),
            inode.generation(),
            inode.xattr_block(),
            time(inode.atime()),
            time(inode.ctime()),
            time(inode.mtime()),
            inode.crtime().map_or_else(|| "none".into(), time),
        ))?;
        let rest = inode.raw().get(128 + inode.extra_size()..).unwrap_or_default();
        if rest.iter().any(|byte| *byte != 0) {
            self.line(format_args!("  attributes in the inode {}", hex(rest)))?;
        }
        if self.is_mapped(&inode) {
            self.map(&inode)
        } else {
            self.line(format_args!("  i_block {}", hex(inode.i_block())))
        }
    }

    fn is_mapped(&self, inode: &Inode) -> bool {
        match inode.kind() {
            _ if inode.has(InodeFlags::INLINE_DATA) => false,
            Some(vfs::FileKind::Regular | vfs::FileKind::Directory) => true,
            Some(vfs::FileKind::Symlink) => {
                inode.has(InodeFlags::EXTENTS) || inode.size(&self.superblock) >= 60
            }
            _ => false,
        }
    }

    fn map(&mut self, inode: &Inode) -> Result<()> {
        let mut pieces = Vec::new();
        let mut problems = Vec::new();
        walk_map(self.dev, &self.superblock, inode, &mut |piece| pieces.push(piece), &mut |problem| {
            problems.push(problem)
        })?;
        for piece in &pieces {
            match piece {
                MapPiece::Node { physical } => self.line(format_args!("  map block {physical}"))?,
                MapPiece::Data { logical, physical, len, is_written } => {
                    let state = if *is_written { "" } else { " unwritten" };
                    self.line(format_args!("  {logical}+{len} at {physical}{state}"))?;
                }
            }
        }
        for (code, detail) in problems {
            self.line(format_args!("  {code}: {detail}"))?;
        }
        if inode.is_dir() {
            self.directory(inode, &pieces)?;
        }
        Ok(())
    }

    /// Entries in the order of storage, free ones left out. Index nodes show as blocks without entries.
    fn directory(&mut self, inode: &Inode, pieces: &[MapPiece]) -> Result<()> {
        let block_size = u64::from(self.superblock.block_size());
        let blocks = inode.size(&self.superblock).div_ceil(block_size);
        for piece in pieces {
            let MapPiece::Data { logical, physical, len, is_written: true } = *piece else { continue };
            for index in 0..len.min(blocks.saturating_sub(logical)) {
                let mut raw = vec![0; block_size as usize];
                self.dev.read_exact_at(&mut raw, (physical + index) * block_size).map_err(device)?;
                self.entries(logical + index, &raw)?;
            }
        }
        Ok(())
    }

    fn entries(&mut self, logical: u64, raw: &[u8]) -> Result<()> {
        let mut at = 0;
        while let Some(header) = raw.get(at..at + 8) {
            let field = usize::from(le_u16(header, 4));
            let length = if raw.len() == 65_536 && matches!(field, 0 | 0xffff) { raw.len() } else { field };
            let (inode, name_len, kind) = (le_u32(header, 0), usize::from(header[6]), header[7]);
            if inode != 0 {
                let name = raw.get(at + 8..at + 8 + name_len).unwrap_or_default();
                self.line(format_args!(
                    "  block {logical} byte {at}: {} → {inode} type {kind}",
                    shown(name)
                ))?;
            }
            if length < 8 {
                return Ok(());
            }
            at += length;
        }
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
