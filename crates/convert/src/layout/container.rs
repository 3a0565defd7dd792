//! Compressed streams: gz, xz, zst, and tar.gz with `disk.raw`.
//!
//! Clusters are the container's chunks, each encoded for itself, zero ones too: a stream has no holes.

use std::ops::Range;

use archive::{ArchiveError, ChunkEncoder, Container, Encoded, Framing};

use super::{ClusterEncoder, End, Finish, Layout, LayoutMaker, NamedEncoder, Placed, Zeroes};
use crate::ConvertError;
use crate::error::{Place, Stage};

/// Makes compressed streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContainerTarget(pub Container);

impl LayoutMaker for ContainerTarget {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn layout(&self, virtual_len: Option<u64>, _is_new: bool) -> Result<Box<dyn Layout>, ConvertError> {
        // The header of a tar archive, which comes first, has the length.
        let is_tar = matches!(self.0, Container::TarGz { .. });
        let len = match virtual_len {
            None if is_tar => return Err(super::length_needed("a tar archive")),
            len => len,
        };
        Ok(Box::new(Stream {
            container: self.0,
            framing: Framing::new(self.0, len.unwrap_or(0)),
            len: len.filter(|_| is_tar),
            at: None,
            zero: None,
        }))
    }
}

fn failed(error: ArchiveError) -> ConvertError {
    ConvertError::Encode { place: Place::of(Stage::Encode), detail: error.to_string() }
}

struct ChunkToCluster {
    encoder: ChunkEncoder,
    check: u64,
}

impl ClusterEncoder for ChunkToCluster {
    fn encode(&mut self, cluster: &[u8], out: &mut Vec<u8>) -> Result<bool, String> {
        let encoded = self.encoder.encode(cluster, out).map_err(|error| error.to_string())?;
        self.check = encoded.check;
        Ok(true)
    }

    fn check(&self) -> u64 {
        self.check
    }
}

struct Stream {
    container: Container,
    framing: Framing,
    /// What the header says, where it says it.
    len: Option<u64>,
    /// Where the next byte of the stream goes; `None` before the header.
    at: Option<u64>,
    /// A whole chunk of zero.
    zero: Option<(Encoded, Vec<u8>)>,
}

impl Stream {
    /// Puts bytes of our own at the end of the stream.
    fn put(&mut self, bytes: Vec<u8>, placed: &mut Placed) {
        let at = self.at.unwrap_or(0);
        self.at = Some(at + bytes.len() as u64);
        match placed.tables.last_mut() {
            Some((start, last)) if *start + last.len() as u64 == at => last.extend_from_slice(&bytes),
            _ => placed.tables.push((at, bytes)),
        }
    }

    fn start(&mut self, placed: &mut Placed) -> Result<(), ConvertError> {
        if self.at.is_none() {
            let header = self.framing.header().map_err(failed)?;
            self.at = Some(0);
            self.put(header, placed);
        }
        Ok(())
    }

    fn encode_zeroes(&self, len: u64) -> Result<(Encoded, Vec<u8>), ConvertError> {
        let mut out = Vec::new();
        let mut encoder = ChunkEncoder::new(self.container).map_err(failed)?;
        let encoded = encoder.encode(&vec![0; len as usize], &mut out).map_err(failed)?;
        Ok((encoded, out))
    }
}

impl Layout for Stream {
    fn cluster_len(&self) -> u64 {
        self.container.chunk_len()
    }

    fn zeroes(&self) -> Zeroes {
        Zeroes::All
    }

    fn is_packed(&self) -> bool {
        true
    }

    fn is_ordered(&self) -> bool {
        true
    }

    fn encoder(&self) -> Result<Option<NamedEncoder>, ConvertError> {
        let encoder = ChunkEncoder::new(self.container).map_err(failed)?;
        Ok(Some((Box::new(ChunkToCluster { encoder, check: 0 }), ChunkEncoder::name(self.container))))
    }

    fn place_plain(&mut self, guest: Range<u64>, _placed: &mut Placed) -> Result<(), ConvertError> {
        let place = Place::of(Stage::Encode).guest(guest);
        Err(ConvertError::Encode { place, detail: "a chunk was not encoded".into() })
    }

    fn place_encoded(
        &mut self,
        guest: Range<u64>,
        len: u64,
        check: u64,
        placed: &mut Placed,
    ) -> Result<(), ConvertError> {
        self.start(placed)?;
        self.framing.add(&Encoded { plain_len: guest.end - guest.start, len, check });
        let at = self.at.unwrap_or(0);
        placed.push_data(at, len);
        self.at = Some(at + len);
        Ok(())
    }

    fn place_zeroes(&mut self, guest: Range<u64>, placed: &mut Placed) -> Result<(), ConvertError> {
        self.start(placed)?;
        let chunk_len = self.container.chunk_len();
        let mut at = guest.start;
        while at < guest.end {
            let len = (guest.end - at).min(chunk_len);
            at += len;
            let (encoded, bytes) = if len < chunk_len {
                self.encode_zeroes(len)?
            } else {
                if self.zero.is_none() {
                    self.zero = Some(self.encode_zeroes(chunk_len)?);
                }
                self.zero
                    .clone()
                    .ok_or_else(|| failed(ArchiveError::Encode { detail: "no zero chunk".into() }))?
            };
            self.framing.add(&encoded);
            self.put(bytes, placed);
        }
        Ok(())
    }

    fn decided(&self) -> u64 {
        self.at.unwrap_or(0)
    }

    fn finish(&mut self, end: &End, placed: &mut Placed) -> Result<Finish, ConvertError> {
        if let Some(len) = self.len.filter(|len| *len != end.virtual_len) {
            return Err(super::length_changed(len, end.virtual_len));
        }
        self.start(placed)?;
        let trailer = self.framing.trailer().map_err(failed)?;
        self.put(trailer, placed);
        Ok(Finish { file_len: self.decided(), header: None })
    }
}
