//! VHD images, fixed and dynamic.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use block::{ExtentState, HostMetadata, ImageHandle, ReadAt};
use vhd::{DiskKind, Stored, Vhd};

use super::{Piece, PieceKind, Source, push_piece};
use crate::ConvertError;
use crate::error::{Place, Stage};

/// Bytes of the disk that are mapped at a time: 256 blocks of the usual size.
const MAP_STEP: u64 = 512 << 20;

/// The virtual disk of a VHD image.
pub struct VhdSource {
    image: Arc<Vhd>,
    handle: Option<ImageHandle>,
}

impl VhdSource {
    /// `handle` is that of the image file, where the image is one.
    pub fn new(image: Arc<Vhd>, handle: Option<ImageHandle>) -> Self {
        Self { image, handle }
    }

    /// The image.
    pub fn image(&self) -> &Arc<Vhd> {
        &self.image
    }

    fn map_fixed(&self, range: Range<u64>, pieces: &mut Vec<Piece>) -> Result<(), ConvertError> {
        let place = Place::of(Stage::Map).guest(range.clone());
        let extents = self.image.extents(range).map_err(|source| ConvertError::host(place, source))?;
        for extent in extents {
            let kind = match extent.state {
                ExtentState::Hole => PieceKind::Hole,
                ExtentState::Zero => PieceKind::Zero,
                // Guest offsets are host offsets.
                _ => PieceKind::Host { file: 0, host_offset: extent.offset },
            };
            push_piece(pieces, Piece { offset: extent.offset, len: extent.len, kind });
        }
        Ok(())
    }

    fn map_dynamic(&self, range: Range<u64>, pieces: &mut Vec<Piece>) -> Result<(), ConvertError> {
        let place = Place::of(Stage::Map).guest(range.clone());
        let found = self.image.map(range).map_err(|source| ConvertError::host(place, source))?;
        for piece in found {
            let kind = match piece.stored {
                Stored::Hole => PieceKind::Hole,
                Stored::At { host_offset } => PieceKind::Host { file: 0, host_offset },
                Stored::Mixed => PieceKind::Device,
            };
            push_piece(pieces, Piece { offset: piece.offset, len: piece.len, kind });
        }
        Ok(())
    }
}

impl Source for VhdSource {
    fn len(&self) -> u64 {
        ReadAt::len(&*self.image)
    }

    fn map(&self, range: Range<u64>, limit: usize) -> Result<Vec<Piece>, ConvertError> {
        let mut pieces = Vec::new();
        let mut at = range.start;
        while at < range.end && pieces.len() < limit {
            let step = at..range.end.min(at.saturating_add(MAP_STEP));
            at = step.end;
            match self.image.kind() {
                DiskKind::Fixed => self.map_fixed(step, &mut pieces)?,
                _ => self.map_dynamic(step, &mut pieces)?,
            }
        }
        Ok(pieces)
    }

    fn host(&self, _file: usize) -> &dyn ReadAt {
        &**self.image.file()
    }

    fn read_device(&self, buf: &mut [u8], guest_offset: u64) -> Result<(), ConvertError> {
        let range = guest_offset..guest_offset + buf.len() as u64;
        self.image
            .read_exact_at(buf, guest_offset)
            .map_err(|source| ConvertError::host(Place::of(Stage::Read).guest(range), source))
    }

    fn system_file(&self, _file: usize) -> Option<&File> {
        self.handle.as_ref()?.system_file()
    }

    fn identities(&self) -> Vec<HostMetadata> {
        self.handle.iter().map(ImageHandle::metadata).collect()
    }

    fn check_unchanged(&self) -> Result<(), ConvertError> {
        match &self.handle {
            Some(handle) => {
                handle.check_unchanged().map_err(|source| ConvertError::host(Place::of(Stage::Read), source))
            }
            None => Ok(()),
        }
    }
}
