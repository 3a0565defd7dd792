//! What stands around the encoded chunks.

use crate::encode::{ChunkEncoder, Encoded};
use crate::{ArchiveError, Container, tarball};

/// The start of a gzip member: deflate, no name, no time, system unknown (RFC 1952, 2.3).
const GZ_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
/// A final deflate block without content (fixed codes, end of block).
const DEFLATE_END: [u8; 2] = [3, 0];
/// Start of an xz stream: magic, flags (check CRC-64), and their CRC-32.
const XZ_MAGIC: [u8; 6] = [0xfd, b'7', b'z', b'X', b'Z', 0];
const XZ_FLAGS: [u8; 2] = [0, 4];

/// Collects what the end of a stream has to say. Chunks are added in order.
pub struct Framing {
    container: Container,
    disk_len: u64,
    /// Of everything inside gzip.
    crc: crc32fast::Hasher,
    plain_len: u64,
    /// Records of the xz index: unpadded size and size, as they are written.
    records: Vec<u8>,
    record_count: u64,
}

impl Framing {
    /// For a disk of `disk_len` bytes.
    pub fn new(container: Container, disk_len: u64) -> Self {
        Self {
            container,
            disk_len,
            crc: crc32fast::Hasher::new(),
            plain_len: 0,
            records: Vec::new(),
            record_count: 0,
        }
    }

    /// What stands before the first chunk.
    pub fn header(&mut self) -> Result<Vec<u8>, ArchiveError> {
        Ok(match self.container {
            Container::Gz { .. } => GZ_HEADER.to_vec(),
            Container::TarGz { .. } => {
                let mut out = GZ_HEADER.to_vec();
                let header = tarball::header(self.disk_len)?;
                let encoded = ChunkEncoder::new(self.container)?.encode(&header, &mut out)?;
                self.add(&encoded);
                out
            }
            Container::Xz { .. } => {
                let crc = ondisk::crc32_ieee(&XZ_FLAGS).to_le_bytes();
                [&XZ_MAGIC[..], &XZ_FLAGS, &crc].concat()
            }
            Container::Zst { .. } => Vec::new(),
        })
    }

    /// The next chunk.
    pub fn add(&mut self, chunk: &Encoded) {
        self.plain_len += chunk.plain_len;
        match self.container {
            Container::Gz { .. } | Container::TarGz { .. } => {
                self.crc
                    .combine(&crc32fast::Hasher::new_with_initial_len(chunk.check as u32, chunk.plain_len));
            }
            Container::Xz { .. } => {
                push_number(&mut self.records, chunk.check);
                push_number(&mut self.records, chunk.plain_len);
                self.record_count += 1;
            }
            Container::Zst { .. } => {}
        }
    }

    /// What stands behind the last chunk.
    pub fn trailer(&mut self) -> Result<Vec<u8>, ArchiveError> {
        let mut out = Vec::new();
        match self.container {
            Container::TarGz { .. } => {
                let trailer = tarball::trailer(self.disk_len);
                let encoded = ChunkEncoder::new(self.container)?.encode(&trailer, &mut out)?;
                self.add(&encoded);
                self.end_gz(&mut out);
            }
            Container::Gz { .. } => self.end_gz(&mut out),
            Container::Xz { .. } => self.end_xz(&mut out),
            // A stream without frames is not one: an empty disk gets an empty frame.
            Container::Zst { .. } if self.plain_len == 0 => {
                ChunkEncoder::new(self.container)?.encode(&[], &mut out)?;
            }
            Container::Zst { .. } => {}
        }
        Ok(out)
    }

    fn end_gz(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&DEFLATE_END);
        out.extend_from_slice(&self.crc.clone().finalize().to_le_bytes());
        // Modulo 2^32, as the format has it.
        out.extend_from_slice(&(self.plain_len as u32).to_le_bytes());
    }

    /// Index and footer (xz format, 2.1.2 and 4).
    fn end_xz(&self, out: &mut Vec<u8>) {
        out.push(0);
        push_number(out, self.record_count);
        out.extend_from_slice(&self.records);
        out.resize(out.len().next_multiple_of(4), 0);
        out.extend_from_slice(&ondisk::crc32_ieee(out).to_le_bytes());
        let backward = (out.len() / 4 - 1) as u32;
        let fields = [&backward.to_le_bytes()[..], &XZ_FLAGS].concat();
        out.extend_from_slice(&ondisk::crc32_ieee(&fields).to_le_bytes());
        out.extend_from_slice(&fields);
        out.extend_from_slice(b"YZ");
    }
}

/// Seven bits a byte, the lowest first (xz format, 1.2).
fn push_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}
