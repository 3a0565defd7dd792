//! Text form of every structure, for comparing two images.

use std::io::Write;
use std::sync::Arc;

use block::{BlockError, ReadAt};

use crate::alloc::Chunk;
use crate::attr::Attr;
use crate::btree::Tree;
use crate::error::{Result, device, shown};
use crate::fs::{Device, Xfs};
use crate::inode::{Fork, Format, Inode};

/// Writes superblock, group headers, records of all trees, every inode in use with its map, attributes and
/// entries as text. What cannot be followed is shown with what is wrong.
pub fn dump(dev: Arc<dyn ReadAt>, out: &mut dyn Write) -> Result<()> {
    let fs = Xfs::load(Device::Read(dev))?;
    let mut dump = Dump { fs: &fs, out };
    dump.words("superblock", fs.superblock().raw())?;
    for group in 0..fs.geo.groups {
        dump.group(group)?;
    }
    Ok(())
}

struct Dump<'a> {
    fs: &'a Xfs,
    out: &'a mut dyn Write,
}

impl Dump<'_> {
    fn line(&mut self, text: std::fmt::Arguments<'_>) -> Result<()> {
        writeln!(self.out, "{text}").map_err(|source| device(BlockError::io("write", "the dump", source)))
    }

    /// All words of a sector that are not zero.
    fn words(&mut self, what: &str, raw: &[u8]) -> Result<()> {
        self.line(format_args!("{what}:"))?;
        for (index, word) in raw.chunks_exact(4).enumerate() {
            let word = ondisk::be_u32(word, 0);
            if word != 0 {
                self.line(format_args!("  {:#05x}: {word:#010x}", index * 4))?;
            }
        }
        Ok(())
    }

    fn group(&mut self, group: u32) -> Result<()> {
        match self.fs.agf(group) {
            Ok(agf) => {
                self.words(&format!("AGF {group}"), agf.raw())?;
                match self.fs.list_blocks(&agf) {
                    Ok(list) => self.line(format_args!("AGFL {group}: {list:?}"))?,
                    Err(error) => self.line(format_args!("AGFL {group}: {error}"))?,
                }
            }
            Err(error) => self.line(format_args!("AGF {group}: {error}"))?,
        }
        match self.fs.agi(group) {
            Ok(agi) => self.words(&format!("AGI {group}"), agi.raw())?,
            Err(error) => self.line(format_args!("AGI {group}: {error}"))?,
        }
        let features = *self.fs.superblock().features();
        for tree in Tree::ALL {
            if !tree.is_there(&features) {
                continue;
            }
            match self.fs.all_records(group, tree) {
                Ok(records) => {
                    self.line(format_args!("{} {group}: {} records", tree.name(), records.len()))?;
                    for record in &records {
                        let raw = &record[..tree.record_len()];
                        self.line(format_args!("  {}", hex(raw)))?;
                    }
                }
                Err(error) => self.line(format_args!("{} {group}: {error}", tree.name()))?,
            }
        }
        for record in self.fs.all_records(group, Tree::Inode).unwrap_or_default() {
            let chunk = Chunk::decode(&record, self.fs.has_sparse_inodes());
            let used = chunk.present() & !chunk.free;
            for index in (0..64).filter(|index| used >> index & 1 == 1) {
                if let Some(agino) = chunk.start.checked_add(index) {
                    self.inode(self.fs.geo.inode(group, agino))?;
                }
            }
        }
        Ok(())
    }

    fn inode(&mut self, number: u64) -> Result<()> {
        let inode = match self.fs.read_inode(number) {
            Ok(inode) => inode,
            Err(error) => return self.line(format_args!("inode {number}: {error}")),
        };
        self.line(format_args!("inode {number}: core {}", hex(&inode.raw()[..inode.core_len()])))?;
        self.fork(&inode, Fork::Data, "data")?;
        if inode.fork_offset() != 0 {
            self.fork(&inode, Fork::Attr, "attribute")?;
            match self.fs.read_attrs(&inode) {
                Ok(attrs) => {
                    for Attr { space, name, value } in attrs {
                        self.line(format_args!("  attribute {space:#x} {}: {}", shown(&name), hex(&value)))?;
                    }
                }
                Err(error) => self.line(format_args!("  {error}"))?,
            }
        }
        if inode.is_dir() {
            match self.fs.read_dir(&inode) {
                Ok((parent, entries)) => {
                    self.line(format_args!("  .. → {parent}"))?;
                    for entry in entries {
                        let (name, to, kind) = (shown(&entry.name), entry.inode, entry.file_type);
                        self.line(format_args!("  {name} → {to} type {kind}"))?;
                    }
                }
                Err(error) => self.line(format_args!("  {error}"))?,
            }
        }
        Ok(())
    }

    fn fork(&mut self, inode: &Inode, fork: Fork, what: &str) -> Result<()> {
        if matches!(inode.format(fork), Format::Local | Format::Device) {
            return self.line(format_args!("  {what} fork {}", hex(inode.fork(fork))));
        }
        match self.fs.map(inode, fork) {
            Ok(map) => {
                for extent in &map.extents {
                    let state = if extent.is_unwritten { " unwritten" } else { "" };
                    let (at, len, block) = (extent.offset, extent.len, extent.block);
                    self.line(format_args!("  {what} {at}+{len} at {block}{state}"))?;
                }
                self.line(format_args!("  {what} tree blocks {:?}", map.tree_blocks))
            }
            Err(error) => self.line(format_args!("  {error}")),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
