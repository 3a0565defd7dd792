//! The stream below, watched: what went wrong there is told from what is wrong with its content.

use std::io::{self, BufReader, Read};
use std::sync::{Arc, Mutex, PoisonError};

use lzma_rust2::XzReader;

use crate::{ArchiveError, Compression, Limits};

/// What became of the stream below.
#[derive(Default)]
struct Seen {
    position: u64,
    error: Option<io::Error>,
}

/// A reader that remembers how far it came and why it stopped.
struct Watched {
    inner: Box<dyn Read + Send>,
    seen: Arc<Mutex<Seen>>,
}

impl Read for Watched {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let result = self.inner.read(buf);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(len) => {
                seen.position += len as u64;
                Ok(len)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let copy = io::Error::new(error.kind(), error.to_string());
                seen.error = Some(error);
                Err(copy)
            }
        }
    }
}

enum Decoder {
    None(BufReader<Watched>),
    Gz(Box<flate2::bufread::MultiGzDecoder<BufReader<Watched>>>),
    Xz(Box<XzReader<BufReader<Watched>>>),
    Zst(Box<zstd::stream::read::Decoder<'static, BufReader<Watched>>>),
}

/// Bytes that are read ahead.
const BUFFER: usize = 256 << 10;

/// The decompressed bytes of a stream, errors told apart.
pub(crate) struct Input {
    decoder: Decoder,
    compression: Compression,
    seen: Arc<Mutex<Seen>>,
    memory: u64,
    /// Bytes handed out so far.
    pub produced: u64,
}

impl Input {
    pub fn new(
        inner: Box<dyn Read + Send>,
        compression: Compression,
        limits: &Limits,
    ) -> Result<Self, ArchiveError> {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let reader = BufReader::with_capacity(BUFFER, Watched { inner, seen: Arc::clone(&seen) });
        let decoder = match compression {
            Compression::None => Decoder::None(reader),
            Compression::Gz => Decoder::Gz(Box::new(flate2::bufread::MultiGzDecoder::new(reader))),
            Compression::Xz => {
                let kib = u32::try_from(limits.memory >> 10).unwrap_or(u32::MAX - 1);
                Decoder::Xz(Box::new(XzReader::new_mem_limit(reader, true, kib)))
            }
            Compression::Zst => {
                let bug = |error: io::Error| ArchiveError::Encode { detail: error.to_string() };
                let mut decoder = zstd::stream::read::Decoder::with_buffer(reader).map_err(bug)?;
                // Windows are powers of two and eighths between them; 10 and 31 are the format's least and greatest.
                decoder.window_log_max(limits.memory.max(1).ilog2().clamp(10, 31)).map_err(bug)?;
                Decoder::Zst(Box::new(decoder))
            }
        };
        Ok(Self { decoder, compression, seen, memory: limits.memory, produced: 0 })
    }

    /// Bytes of the stream below that were read.
    pub fn position(&self) -> u64 {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).position
    }

    fn name(&self) -> &'static str {
        match self.compression {
            Compression::None => "stream",
            Compression::Gz => "gzip stream",
            Compression::Xz => "xz stream",
            Compression::Zst => "zstd stream",
        }
    }

    /// Reads some bytes; 0 at the end of the stream only.
    pub fn read(&mut self, buf: &mut [u8]) -> Result<usize, ArchiveError> {
        loop {
            let result = match &mut self.decoder {
                Decoder::None(reader) => reader.read(buf),
                Decoder::Gz(reader) => reader.read(buf),
                Decoder::Xz(reader) => reader.read(buf),
                Decoder::Zst(reader) => reader.read(buf),
            };
            match result {
                Ok(len) => {
                    self.produced += len as u64;
                    return Ok(len);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failure(error)),
            }
        }
    }

    /// Fills `buf` as far as the stream goes.
    pub fn read_up_to(&mut self, buf: &mut [u8]) -> Result<usize, ArchiveError> {
        let mut done = 0;
        while done < buf.len() {
            match self.read(&mut buf[done..])? {
                0 => break,
                len => done += len,
            }
        }
        Ok(done)
    }

    fn failure(&self, error: io::Error) -> ArchiveError {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let position = seen.position;
        if let Some(source) = seen.error.take() {
            return ArchiveError::Io { position, source };
        }
        let what = self.name();
        // `-16`: ZSTD_error_frameParameter_windowTooLarge; the name is what the library makes its errors of.
        let too_large = zstd::zstd_safe::get_error_name(usize::MAX - 15);
        match error.kind() {
            io::ErrorKind::UnexpectedEof => ArchiveError::Truncated { what, position },
            io::ErrorKind::OutOfMemory => ArchiveError::Memory { what, limit: self.memory },
            _ if self.compression == Compression::Zst && error.to_string() == too_large => {
                ArchiveError::Memory { what, limit: self.memory }
            }
            _ => ArchiveError::Corrupt { what, position, detail: error.to_string() },
        }
    }
}
