//! qcow2 images, whole chains or only the top one.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use ::qcow2::{ChainFile, Depth, Qcow2, Stored};
use block::{BlockError, HostMetadata, ImageHandle, ReadAt};

use super::{Piece, PieceKind, Source, WholeFile, WholeFormat, push_piece};
use crate::ConvertError;
use crate::error::{Place, Stage};

/// What tells that a backing file changed: these are not locked.
#[derive(PartialEq, Eq)]
struct Stamp {
    place: (u64, u64),
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(file: &ChainFile) -> Option<Self> {
        let metadata = std::fs::metadata(&file.path).ok()?;
        Some(Self {
            place: (metadata.dev(), metadata.ino()),
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

/// The virtual disk of a qcow2 image.
pub struct Qcow2Source {
    image: Arc<Qcow2>,
    depth: Depth,
    files: Vec<ChainFile>,
    stamps: Vec<Option<Stamp>>,
    handle: Option<ImageHandle>,
}

impl Qcow2Source {
    /// The disk as the guest sees it, all images of the chain merged, or what the top image alone stores.
    ///
    /// `handle` is that of the image file, where the image is one.
    pub fn new(image: Arc<Qcow2>, handle: Option<ImageHandle>, depth: Depth) -> Self {
        let files = image.chain_files();
        let stamps = files.iter().skip(1).map(Stamp::of).collect();
        Self { image, depth, files, stamps, handle }
    }

    /// The image.
    pub fn image(&self) -> &Arc<Qcow2> {
        &self.image
    }
}

impl Source for Qcow2Source {
    fn len(&self) -> u64 {
        self.image.len()
    }

    fn map(&self, range: Range<u64>, limit: usize) -> Result<Vec<Piece>, ConvertError> {
        let place = Place::of(Stage::Map).guest(range.clone());
        let ranges = self
            .image
            .stored(range, self.depth, limit)
            .map_err(|source| ConvertError::Qcow2 { place, source: Box::new(source) })?;
        let mut pieces = Vec::with_capacity(ranges.len());
        for range in ranges {
            let kind = match range.stored {
                Stored::Hole => PieceKind::Hole,
                Stored::Zero => PieceKind::Zero,
                Stored::Data { file, host_offset } => PieceKind::Host { file, host_offset },
                Stored::Compressed {
                    file,
                    host_offset,
                    payload_len,
                    compression,
                    cluster_offset,
                    cluster_len,
                } => PieceKind::Compressed {
                    file,
                    host_offset,
                    payload_len,
                    compression,
                    cluster_offset,
                    cluster_len,
                },
            };
            push_piece(&mut pieces, Piece { offset: range.offset, len: range.len, kind });
        }
        Ok(pieces)
    }

    fn host(&self, file: usize) -> &dyn ReadAt {
        match self.files.get(file).or(self.files.first()) {
            Some(file) => &*file.file,
            None => &*self.image,
        }
    }

    fn read_device(&self, buf: &mut [u8], guest_offset: u64) -> Result<(), ConvertError> {
        let range = guest_offset..guest_offset + buf.len() as u64;
        self.image
            .read_exact_at(buf, guest_offset)
            .map_err(|source| ConvertError::host(Place::of(Stage::Read).guest(range), source))
    }

    fn granularity(&self) -> u64 {
        self.image.largest_cluster()
    }

    fn host_files(&self) -> usize {
        self.files.len()
    }

    fn system_file(&self, file: usize) -> Option<&File> {
        match file {
            0 => self.handle.as_ref()?.system_file(),
            _ => None,
        }
    }

    fn identities(&self) -> Vec<HostMetadata> {
        let mut identities: Vec<_> = self.handle.iter().map(ImageHandle::metadata).collect();
        let backing = self.files.iter().skip(1).filter_map(|file| {
            let host = block::SystemHost;
            block::Host::open(&host, &file.path, block::Access::Read).ok()?.metadata().ok()
        });
        identities.extend(backing);
        identities
    }

    fn check_unchanged(&self) -> Result<(), ConvertError> {
        let failed = |source| ConvertError::host(Place::of(Stage::Read), source);
        if let Some(handle) = &self.handle {
            handle.check_unchanged().map_err(failed)?;
        }
        for (file, stamp) in self.files.iter().skip(1).zip(&self.stamps) {
            if Stamp::of(file) != *stamp {
                return Err(failed(BlockError::Changed { path: file.path.clone() }));
            }
        }
        Ok(())
    }

    fn whole_file(&self) -> Option<WholeFile<'_>> {
        if !self.image.is_plain() {
            return None;
        }
        let format = WholeFormat::Qcow2 {
            version: self.image.version(),
            cluster_bits: self.image.cluster_len().trailing_zeros(),
            compression: self.image.compression(),
        };
        Some(WholeFile { file: self.system_file(0)?, len: self.host(0).len(), format })
    }
}
