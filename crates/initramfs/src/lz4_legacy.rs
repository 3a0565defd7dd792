//! lz4's legacy frame: a magic, then chunks of a size and one raw block each; no end mark.
//!
//! `Documentation/driver-api/early-userspace/buffer-format.rst` and `lib/decompress_unlz4.c` of the kernel:
//! a chunk size of 0 (padding) and fewer than 4 bytes left end the stream; a second magic goes on.

use std::io::{self, Read, Write};

const MAGIC: u32 = 0x184c_2102;
/// Unpacked size of a chunk at most, fixed by the format.
const CHUNK_LEN: usize = 8 << 20;
/// The kernel's bound for a compressed chunk (`LZ4_COMPRESSBOUND`).
const STORED_CHUNK_MAX: usize = CHUNK_LEN + CHUNK_LEN / 255 + 16;

/// Reads one legacy stream.
pub(crate) struct Lz4LegacyReader<'a> {
    rest: &'a [u8],
    chunk: Vec<u8>,
    at: usize,
    has_ended: bool,
}

impl<'a> Lz4LegacyReader<'a> {
    /// `bytes` begin with the magic.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, chunk: Vec::new(), at: 0, has_ended: false }
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Unpacks the next chunk; false at the end of the stream.
    fn next_chunk(&mut self) -> io::Result<bool> {
        while let Some((size, rest)) = self.rest.split_first_chunk::<4>() {
            let size = u32::from_le_bytes(*size);
            if size == MAGIC {
                self.rest = rest;
                continue;
            }
            let stored_len = size as usize;
            if stored_len == 0 {
                return Ok(false);
            }
            if stored_len > STORED_CHUNK_MAX {
                return Err(invalid("chunk size beyond the format's maximum"));
            }
            let (stored, rest) =
                rest.split_at_checked(stored_len).ok_or_else(|| invalid("the last chunk is cut off"))?;
            self.chunk.resize(CHUNK_LEN, 0);
            let len = lz4_flex::block::decompress_into(stored, &mut self.chunk)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            self.chunk.truncate(len);
            self.at = 0;
            self.rest = rest;
            return Ok(true);
        }
        Ok(false)
    }
}

impl Read for Lz4LegacyReader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.at == self.chunk.len() && !self.has_ended {
            self.has_ended = !self.next_chunk()?;
            if self.has_ended {
                self.chunk = Vec::new();
                self.at = 0;
            }
        }
        let len = self.chunk.get(self.at..).unwrap_or(&[]).read(buf)?;
        self.at += len;
        Ok(len)
    }
}

/// Writes one legacy stream.
pub(crate) struct Lz4LegacyWriter<W> {
    sink: W,
    chunk: Vec<u8>,
    has_magic: bool,
}

impl<W: Write> Lz4LegacyWriter<W> {
    pub(crate) fn new(sink: W) -> Self {
        Self { sink, chunk: Vec::new(), has_magic: false }
    }

    /// Writes the last chunk. The format has no end mark.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.write_chunk()?;
        Ok(self.sink)
    }

    fn write_chunk(&mut self) -> io::Result<()> {
        if !self.has_magic {
            self.sink.write_all(&MAGIC.to_le_bytes())?;
            self.has_magic = true;
        }
        if self.chunk.is_empty() {
            return Ok(());
        }
        let stored = lz4_flex::block::compress(&self.chunk);
        let len = u32::try_from(stored.len()).map_err(|_| invalid("a chunk of more than 4 GiB"))?;
        self.sink.write_all(&len.to_le_bytes())?;
        self.sink.write_all(&stored)?;
        self.chunk.clear();
        Ok(())
    }
}

impl<W: Write> Write for Lz4LegacyWriter<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let len = buf.len().min(CHUNK_LEN - self.chunk.len());
        self.chunk.extend_from_slice(buf.get(..len).unwrap_or(&[]));
        if self.chunk.len() == CHUNK_LEN {
            self.write_chunk()?;
        }
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn invalid(detail: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, detail)
}
