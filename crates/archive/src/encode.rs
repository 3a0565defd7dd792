//! Chunks of a disk, each encoded for itself.

use std::io::Write;

use flate2::{Compress, Compression as Level, FlushCompress, Status};
use lzma_rust2::{XzOptions, XzWriter};

use crate::{ArchiveError, Container};

/// What a [`Framing`](crate::Framing) has to know about an encoded chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoded {
    /// Bytes before.
    pub plain_len: u64,
    /// Bytes after.
    pub len: u64,
    /// For gzip the CRC-32 of the chunk, for xz what its index says of the block.
    pub check: u64,
}

enum Engine {
    Deflate(Box<Compress>),
    Xz { level: u32 },
    Zst(Box<zstd::bulk::Compressor<'static>>),
}

/// Encodes chunks; one for each thread.
pub struct ChunkEncoder {
    engine: Engine,
}

fn failed(error: impl std::fmt::Display) -> ArchiveError {
    ArchiveError::Encode { detail: error.to_string() }
}

/// Bytes of an xz stream header, and of its footer.
const XZ_ENDS: usize = 12;

impl ChunkEncoder {
    /// An encoder for the chunks of `container`.
    pub fn new(container: Container) -> Result<Self, ArchiveError> {
        let engine = match container {
            Container::Gz { level } | Container::TarGz { level } => {
                Engine::Deflate(Box::new(Compress::new(Level::new(level.min(9)), false)))
            }
            Container::Xz { level } => Engine::Xz { level: level.min(9) },
            Container::Zst { level } => {
                let mut compressor = zstd::bulk::Compressor::new(level).map_err(failed)?;
                compressor.include_checksum(true).map_err(failed)?;
                compressor.include_contentsize(true).map_err(failed)?;
                Engine::Zst(Box::new(compressor))
            }
        };
        Ok(Self { engine })
    }

    /// Name and version of the encoder, for reports.
    pub fn name(container: Container) -> String {
        match container {
            Container::Gz { level } | Container::TarGz { level } => format!("flate2 (zlib-rs) level {level}"),
            Container::Xz { level } => format!("lzma-rust2 level {level}"),
            Container::Zst { level } => {
                format!("libzstd {} level {level}", zstd::zstd_safe::version_string())
            }
        }
    }

    /// Appends the encoded form of `chunk`, which depends on nothing else.
    pub fn encode(&mut self, chunk: &[u8], out: &mut Vec<u8>) -> Result<Encoded, ArchiveError> {
        let before = out.len();
        let check = match &mut self.engine {
            Engine::Deflate(compress) => {
                deflate(compress, chunk, out)?;
                u64::from(crc32fast::hash(chunk))
            }
            Engine::Xz { level } => {
                let mut options = XzOptions::with_preset(*level);
                // A dictionary larger than the chunk would only cost memory. 4 KiB is the format's least.
                let dict = (chunk.len() as u64).next_power_of_two().max(4096) as u32;
                options.lzma_options.dict_size = options.lzma_options.dict_size.min(dict);
                let mut writer = XzWriter::new(Vec::new(), options).map_err(failed)?;
                writer.write_all(chunk).map_err(failed)?;
                let stream = writer.finish().map_err(failed)?;
                let (block, unpadded) = block_of(&stream).ok_or_else(|| failed("no xz block"))?;
                out.extend_from_slice(block);
                unpadded
            }
            Engine::Zst(compressor) => {
                let frame = compressor.compress(chunk).map_err(failed)?;
                out.extend_from_slice(&frame);
                0
            }
        };
        Ok(Encoded { plain_len: chunk.len() as u64, len: (out.len() - before) as u64, check })
    }
}

/// Deflate that ends with an empty stored block at a byte boundary and not with a final block, so that more follows.
fn deflate(compress: &mut Compress, chunk: &[u8], out: &mut Vec<u8>) -> Result<(), ArchiveError> {
    compress.reset();
    // Stored blocks at worst: 5 bytes for each 64 KiB at most, and the end.
    out.reserve(chunk.len() + chunk.len() / 1000 + 64);
    loop {
        let rest = chunk.get(compress.total_in() as usize..).unwrap_or_default();
        let room = out.capacity() - out.len();
        let status = compress.compress_vec(rest, out, FlushCompress::Full).map_err(failed)?;
        // The flush is complete once it left room in the output.
        let is_done = compress.total_in() as usize == chunk.len() && out.len() < out.capacity();
        match status {
            Status::Ok | Status::BufError if is_done => return Ok(()),
            Status::StreamEnd => return Err(failed("deflate ended by itself")),
            Status::Ok | Status::BufError => out.reserve(room.max(64 << 10)),
        }
    }
}

/// The only block of an xz stream, and its unpadded size as the index has it.
fn block_of(stream: &[u8]) -> Option<(&[u8], u64)> {
    // The footer: CRC-32, a fourth of the index size less one, flags, `YZ` (xz format, 2.1.2).
    let footer = stream.len().checked_sub(XZ_ENDS)?;
    let index_len = (u64::from(ondisk::try_le_u32(stream, footer + 4)?) + 1) * 4;
    let index_at = footer.checked_sub(index_len as usize)?;
    let index = stream.get(index_at..footer)?;
    // Indicator 0, one record, then unpadded size and size as variable-length numbers.
    let [0, 1, numbers @ ..] = index else { return None };
    let mut unpadded = 0u64;
    for (at, byte) in numbers.iter().take(9).enumerate() {
        unpadded |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((stream.get(XZ_ENDS..index_at)?, unpadded));
        }
    }
    None
}
