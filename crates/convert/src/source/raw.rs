//! Raw images, and block devices.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use block::{ExtentState, HostMetadata, ImageFile, ImageHandle, ReadAt};

use super::{Piece, PieceKind, Source, WholeFile, WholeFormat, push_piece};
use crate::ConvertError;
use crate::error::{Place, Stage};

/// The host file is the disk; holes by `SEEK_DATA` and `SEEK_HOLE`.
pub struct RawSource {
    device: Arc<dyn ReadAt>,
    handle: Option<ImageHandle>,
}

impl RawSource {
    /// A copy of what this image file holds.
    pub fn new(image: &ImageFile) -> Self {
        Self { device: image.reader(), handle: Some(image.handle()) }
    }

    /// A copy of any device; holes as it tells them.
    pub fn of_device(device: Arc<dyn ReadAt>) -> Self {
        Self { device, handle: None }
    }
}

impl Source for RawSource {
    fn len(&self) -> u64 {
        self.device.len()
    }

    fn map(&self, range: Range<u64>, _limit: usize) -> Result<Vec<Piece>, ConvertError> {
        let place = Place::of(Stage::Map).guest(range.clone());
        let extents = self.device.extents(range).map_err(|source| ConvertError::host(place, source))?;
        let mut pieces = Vec::with_capacity(extents.len());
        for extent in extents {
            let kind = match extent.state {
                ExtentState::Hole => PieceKind::Hole,
                ExtentState::Zero => PieceKind::Zero,
                ExtentState::Data | ExtentState::Compressed => {
                    PieceKind::Host { file: 0, host_offset: extent.offset }
                }
            };
            push_piece(&mut pieces, Piece { offset: extent.offset, len: extent.len, kind });
        }
        Ok(pieces)
    }

    fn host(&self, _file: usize) -> &dyn ReadAt {
        &*self.device
    }

    fn read_device(&self, buf: &mut [u8], guest_offset: u64) -> Result<(), ConvertError> {
        let range = guest_offset..guest_offset + buf.len() as u64;
        self.device
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

    fn whole_file(&self) -> Option<WholeFile<'_>> {
        let file = self.system_file(0)?;
        Some(WholeFile { file, len: self.len(), format: WholeFormat::Raw })
    }
}
