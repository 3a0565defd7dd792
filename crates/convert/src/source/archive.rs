//! Disks in compressed streams and archives, from files or pipes.

use std::io::{self, Read};
use std::sync::Arc;

use archive::{ArchiveError, Compression, DiskStream, Limits, Piece};
use block::{HostMetadata, ImageFile, ImageHandle, ReadAt};

use crate::error::{Place, Stage};
use crate::{ConvertError, StreamSource};

/// The disk in a gz, xz or zst stream, or in a tar archive as `disk.raw`; an uncompressed stream, too.
pub struct ArchiveSource {
    stream: DiskStream,
    handle: Option<ImageHandle>,
    /// Bytes of a hole that are still to be handed out.
    hole: u64,
    /// Bytes of the disk handed out.
    at: u64,
}

impl ArchiveSource {
    /// The disk in a file; `compression` is recognised when it is not given.
    pub fn of_file(
        file: &ImageFile,
        compression: Option<Compression>,
        limits: &Limits,
    ) -> Result<Self, ConvertError> {
        let device = file.reader();
        let mut head = [0; 8];
        let head = head.get_mut(..device.len().min(8) as usize).unwrap_or_default();
        device.read_exact_at(head, 0).map_err(|source| ConvertError::host(Place::of(Stage::Open), source))?;
        let compression = compression.unwrap_or_else(|| Compression::recognise(head));
        let reader = Box::new(FrontToBack { device, at: 0 });
        let stream =
            DiskStream::new(reader, compression, limits).map_err(|cause| failed(Stage::Open, 0, cause))?;
        Ok(Self { stream, handle: Some(file.handle()), hole: 0, at: 0 })
    }

    /// The disk in a pipe; `compression` is recognised when it is not given.
    pub fn of_pipe(
        mut pipe: Box<dyn Read + Send>,
        compression: Option<Compression>,
        limits: &Limits,
    ) -> Result<Self, ConvertError> {
        let mut head = Vec::new();
        if compression.is_none() {
            let io = |source| failed(Stage::Open, 0, ArchiveError::Io { position: 0, source });
            pipe.by_ref().take(8).read_to_end(&mut head).map_err(io)?;
        }
        let compression = compression.unwrap_or_else(|| Compression::recognise(&head));
        let reader = Box::new(io::Cursor::new(head).chain(pipe));
        let stream =
            DiskStream::new(reader, compression, limits).map_err(|cause| failed(Stage::Open, 0, cause))?;
        Ok(Self { stream, handle: None, hole: 0, at: 0 })
    }

    /// The bytes of a pipe, whatever they look like.
    pub fn raw_pipe(pipe: Box<dyn Read + Send>) -> Result<Self, ConvertError> {
        let stream = DiskStream::raw(pipe).map_err(|cause| failed(Stage::Open, 0, cause))?;
        Ok(Self { stream, handle: None, hole: 0, at: 0 })
    }

    /// The stream, for what it says about itself.
    pub fn stream(&self) -> &DiskStream {
        &self.stream
    }
}

fn failed(stage: Stage, at: u64, cause: ArchiveError) -> ConvertError {
    let place = Place::of(stage);
    let place = if stage == Stage::Decode { place.guest(at..at) } else { place };
    ConvertError::Source { place, cause: Box::new(cause) }
}

impl StreamSource for ArchiveSource {
    fn len(&self) -> Option<u64> {
        self.stream.disk_len()
    }

    fn fill(&mut self, buf: &mut [u8]) -> Result<usize, ConvertError> {
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            if self.hole > 0 {
                let len = self.hole.min(rest.len() as u64) as usize;
                rest.get_mut(..len).unwrap_or_default().fill(0);
                self.hole -= len as u64;
                done += len;
                continue;
            }
            let at = self.at + done as u64;
            match self.stream.read_piece(rest).map_err(|cause| failed(Stage::Decode, at, cause))? {
                Piece::Data(len) => done += len,
                Piece::Hole(len) => self.hole = len,
                Piece::End => break,
            }
        }
        self.at += done as u64;
        Ok(done)
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

/// A device as a reader.
struct FrontToBack {
    device: Arc<dyn ReadAt>,
    at: u64,
}

impl Read for FrontToBack {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.device.len().saturating_sub(self.at).min(buf.len() as u64) as usize;
        let Some(buf) = buf.get_mut(..len) else { return Ok(0) };
        self.device.read_exact_at(buf, self.at).map_err(io::Error::other)?;
        self.at += len as u64;
        Ok(len)
    }
}
