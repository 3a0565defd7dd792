//! Opening an image, and the pieces that all other modules share.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use block::{OpenGate, ReadAt};
use codec::DecoderPool;
use ondisk::try_be_u64;

use crate::backing::{Backing, Chain};
use crate::cache::{Cache, Key, Kind};
use crate::entry::{COPIED, EntryFormat, MAX_HOST_OFFSET, OFFSET_MASK};
use crate::error::Qcow2Error;
use crate::header::{Header, MAGIC, damaged};
use crate::snapshot::{self, Snapshot};

/// Tables are read in pieces of at most this many bytes, so that one look-up in a 2 MiB table stays cheap.
const MAX_SLICE_BYTES: u64 = 64 << 10;

/// An open qcow2 image: the virtual disk, through the backing chain.
pub struct Qcow2 {
    pub(crate) file: Arc<dyn ReadAt>,
    pub(crate) file_len: u64,
    pub(crate) path: PathBuf,
    pub(crate) header: Header,
    pub(crate) snapshots: Vec<Snapshot>,
    /// Bytes of the snapshot table.
    pub(crate) snapshot_table_len: u64,
    pub(crate) backing: Option<Backing>,
    pub(crate) decoders: DecoderPool,
    cache: Arc<Cache>,
    /// Position in the backing chain, 0 at the top: tells the images apart in the cache.
    layer: usize,
}

impl Qcow2 {
    /// True when `head`, the first bytes of a file, starts with the qcow2 magic and a known version.
    ///
    /// A guess only: a raw disk can hold these bytes, too.
    pub fn probe(head: &[u8]) -> bool {
        head.get(..4) == Some(&MAGIC[..]) && matches!(ondisk::try_be_u32(head, 4), Some(2 | 3))
    }

    /// Opens the image in `file`, and its backing chain as far as `gate` allows it.
    ///
    /// `path` is where `file` was opened; backing names are relative to it.
    pub fn open(file: Arc<dyn ReadAt>, path: &Path, gate: &dyn OpenGate) -> Result<Self, Qcow2Error> {
        Self::open_in_chain(file, path, &mut Chain::new(gate))
    }

    pub(crate) fn open_in_chain(
        file: Arc<dyn ReadAt>,
        path: &Path,
        chain: &mut Chain<'_>,
    ) -> Result<Self, Qcow2Error> {
        let header = Header::read(&*file, path)?;
        let layer = chain.enter(path, header.l1_entries * 8)?;
        let file_len = file.len();
        let (snapshots, snapshot_table_len) = snapshot::read_table(&*file, &header, path)?;
        let mut image = Self {
            decoders: DecoderPool::new(header.compression.into()),
            file,
            file_len,
            path: path.to_owned(),
            header,
            snapshots,
            snapshot_table_len,
            backing: None,
            cache: chain.cache(),
            layer,
        };
        image.active_l2_offsets()?;
        if let Some(name) = &image.header.backing_name {
            image.backing = Some(chain.open_backing(path, name, image.header.backing_format.as_deref())?);
        }
        Ok(image)
    }

    /// Path of the image file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// True when the dirty bit is set: refcounts may be wrong and are rebuilt by the next commit.
    pub fn is_dirty(&self) -> bool {
        self.header.is_dirty()
    }

    /// True when the corrupt bit is set: the image is only read.
    pub fn is_corrupt(&self) -> bool {
        self.header.is_corrupt()
    }

    pub(crate) fn cluster_bits(&self) -> u32 {
        self.header.cluster_bits
    }

    pub(crate) fn cluster_size(&self) -> u64 {
        self.header.cluster_size()
    }

    /// Clusters of the host file, the last one perhaps partial.
    pub(crate) fn host_clusters(&self) -> u64 {
        self.file_len.div_ceil(self.cluster_size())
    }

    pub(crate) fn entry_format(&self) -> EntryFormat {
        EntryFormat {
            cluster_bits: self.header.cluster_bits,
            allows_zero_flag: self.header.version >= 3 && !self.header.has_extended_l2(),
        }
    }

    pub(crate) fn damaged(&self, code: &'static str, host_offset: u64, detail: String) -> Qcow2Error {
        damaged(&self.path, code, host_offset, detail)
    }

    /// Bytes of one table slice; divides the cluster size.
    pub(crate) fn slice_size(&self) -> u64 {
        self.cluster_size().min(MAX_SLICE_BYTES)
    }

    /// The slice of a table that holds `host_offset`; what lies past the end of the file reads as zero.
    pub(crate) fn table_slice(&self, host_offset: u64) -> Result<Arc<Vec<u8>>, Qcow2Error> {
        let start = host_offset - host_offset % self.slice_size();
        self.cache.get(self.key(Kind::Table, start), || self.read_padded(start, self.slice_size()))
    }

    pub(crate) fn inflated(
        &self,
        host_offset: u64,
        load: impl FnOnce() -> Result<Vec<u8>, Qcow2Error>,
    ) -> Result<Arc<Vec<u8>>, Qcow2Error> {
        self.cache.get(self.key(Kind::Inflated, host_offset), load)
    }

    fn key(&self, kind: Kind, host_offset: u64) -> Key {
        (self.layer, kind, host_offset)
    }

    /// `len` bytes of the host file (at most a cluster), zero past its end.
    pub(crate) fn read_padded(&self, host_offset: u64, len: u64) -> Result<Vec<u8>, Qcow2Error> {
        let mut bytes = vec![0; len as usize];
        let present = self.file_len.saturating_sub(host_offset).min(len) as usize;
        if let Some(present) = bytes.get_mut(..present).filter(|present| !present.is_empty()) {
            self.file.read_exact_at(present, host_offset)?;
        }
        Ok(bytes)
    }

    /// The entry of 8 bytes at `host_offset` of a table.
    pub(crate) fn table_entry(&self, host_offset: u64) -> Result<u64, Qcow2Error> {
        let slice = self.table_slice(host_offset)?;
        let at = (host_offset % self.slice_size()) as usize;
        try_be_u64(&slice, at).ok_or_else(|| {
            self.damaged("qcow2.table.misplaced", host_offset, "expected an entry aligned to 8 bytes".into())
        })
    }

    /// An L1 entry checked: the offset of its L2 table, if it has one, and the copied flag.
    pub(crate) fn check_l1_entry(
        &self,
        raw: u64,
        host_offset: u64,
    ) -> Result<Option<(u64, bool)>, Qcow2Error> {
        let bad = |detail| Err(self.damaged("qcow2.l1.entry", host_offset, detail));
        let l2_offset = raw & OFFSET_MASK;
        let reserved = raw & !(OFFSET_MASK | COPIED);
        if reserved != 0 {
            return bad(format!("expected reserved bits of the L1 entry to be clear, found {reserved:#x}"));
        }
        if l2_offset == 0 {
            return Ok(None);
        }
        if l2_offset.trailing_zeros() < self.cluster_bits() || l2_offset >= self.file_len.min(MAX_HOST_OFFSET)
        {
            return bad(format!(
                "expected an L2 table aligned to {} inside the {} bytes of the file, found {l2_offset:#x}",
                self.cluster_size(),
                self.file_len
            ));
        }
        Ok(Some((l2_offset, raw & COPIED != 0)))
    }

    /// Calls `each` with index, entry and position of every L1 entry that is not zero.
    pub(crate) fn for_each_l1(
        &self,
        l1_offset: u64,
        l1_entries: u64,
        mut each: impl FnMut(u64, u64, u64) -> Result<(), Qcow2Error>,
    ) -> Result<(), Qcow2Error> {
        let mut index = 0;
        while index < l1_entries {
            let host_offset = l1_offset + index * 8;
            let slice = self.table_slice(host_offset)?;
            let skip = (host_offset % self.slice_size()) as usize;
            for raw in slice.get(skip..).unwrap_or_default().chunks_exact(8) {
                if index == l1_entries {
                    break;
                }
                match try_be_u64(raw, 0) {
                    Some(0) | None => {}
                    Some(raw) => each(index, raw, l1_offset + index * 8)?,
                }
                index += 1;
            }
        }
        Ok(())
    }

    /// Offsets of all L2 tables of the active L1 table, sorted. No table may be used twice: that bounds
    /// the work of every walk by the length of the file.
    pub(crate) fn active_l2_offsets(&self) -> Result<Vec<u64>, Qcow2Error> {
        let mut offsets = Vec::new();
        self.for_each_l1(self.header.l1_offset, self.header.l1_entries, |_, raw, at| {
            if let Some((l2_offset, _)) = self.check_l1_entry(raw, at)? {
                offsets.push(l2_offset);
            }
            Ok(())
        })?;
        offsets.sort_unstable();
        let twice = offsets.iter().zip(offsets.iter().skip(1)).find(|(one, next)| one == next);
        match twice {
            Some((offset, _)) => Err(self.damaged(
                "qcow2.l1.duplicate",
                *offset,
                "expected each L2 table once in the L1 table, found it twice".into(),
            )),
            None => Ok(offsets),
        }
    }
}
