//! Streaming decoders that know exactly where a compressed stream ends.

use std::io::{self, BufRead, Read};

use lzma_rust2::{Action, LzmaStream, Status, XzStream};

use crate::lz4_legacy::Lz4LegacyReader;
use crate::lzop::LzopReader;
use crate::{Compression, InitramfsError, Limits};

/// Reads the unpacked bytes of one stream; [`Decoder::rest`] is what follows the stream once it is read to its end.
pub(crate) enum Decoder<'a> {
    Stored(&'a [u8]),
    Gzip(Box<flate2::bufread::GzDecoder<&'a [u8]>>),
    Bzip2(bzip2::bufread::BzDecoder<&'a [u8]>),
    Xz(Box<PushedReader<'a, XzStream>>),
    Lzma(Box<PushedReader<'a, LzmaStream>>),
    Lzo(LzopReader<'a>),
    Lz4(Lz4LegacyReader<'a>),
    Zstd(Box<zstd::stream::read::Decoder<'static, &'a [u8]>>),
}

impl<'a> Decoder<'a> {
    /// A decoder for the stream that `bytes` begin with.
    pub(crate) fn new(compression: Compression, bytes: &'a [u8], limits: &Limits) -> io::Result<Self> {
        let memory_kib = u32::try_from(limits.decoder_memory >> 10).unwrap_or(u32::MAX - 1);
        // The decoders count their own tables too; a dictionary of just the limit is to pass.
        let memory_kib = memory_kib.saturating_add(1 << 10);
        Ok(match compression {
            Compression::None => Decoder::Stored(bytes),
            Compression::Gzip => Decoder::Gzip(Box::new(flate2::bufread::GzDecoder::new(bytes))),
            Compression::Bzip2 => Decoder::Bzip2(bzip2::bufread::BzDecoder::new(bytes)),
            Compression::Xz => {
                Decoder::Xz(Box::new(PushedReader::new(bytes, XzStream::new_mem_limit(false, memory_kib))))
            }
            Compression::Lzma => {
                Decoder::Lzma(Box::new(PushedReader::new(bytes, LzmaStream::new_mem_limit(memory_kib, None))))
            }
            Compression::Lzo => Decoder::Lzo(LzopReader::new(bytes)?),
            Compression::Lz4Legacy => Decoder::Lz4(Lz4LegacyReader::new(bytes)),
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(bytes)?.single_frame();
                decoder.window_log_max(limits.decoder_memory.max(1 << 20).ilog2())?;
                Decoder::Zstd(Box::new(decoder))
            }
        })
    }

    /// The bytes that the decoder has not consumed.
    pub(crate) fn rest(&self) -> &'a [u8] {
        match self {
            Decoder::Stored(rest) => rest,
            Decoder::Gzip(decoder) => decoder.get_ref(),
            Decoder::Bzip2(decoder) => decoder.get_ref(),
            Decoder::Xz(reader) => reader.rest,
            Decoder::Lzma(reader) => reader.rest,
            Decoder::Lzo(reader) => reader.rest(),
            Decoder::Lz4(reader) => reader.rest(),
            Decoder::Zstd(decoder) => decoder.get_ref(),
        }
    }
}

impl Read for Decoder<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Decoder::Stored(rest) => rest.read(buf),
            Decoder::Gzip(decoder) => decoder.read(buf),
            Decoder::Bzip2(decoder) => decoder.read(buf),
            Decoder::Xz(reader) => reader.read(buf),
            Decoder::Lzma(reader) => reader.read(buf),
            Decoder::Lzo(reader) => reader.read(buf),
            Decoder::Lz4(reader) => reader.read(buf),
            Decoder::Zstd(decoder) => decoder.read(buf),
        }
    }
}

/// What [`PushedReader`] needs of a decoder without own I/O.
pub(crate) trait PushDecoder {
    /// Consumed, produced, and whether the stream has ended.
    fn push(&mut self, input: &[u8], output: &mut [u8]) -> io::Result<(usize, usize, bool)>;
    /// How many bytes it consumed that do not belong to the stream.
    fn overread(&self) -> usize;
}

impl PushDecoder for XzStream {
    fn push(&mut self, input: &[u8], output: &mut [u8]) -> io::Result<(usize, usize, bool)> {
        let result = self.process(input, output, Action::Finish)?;
        Ok((result.bytes_consumed, result.bytes_produced, result.status == Status::StreamEnd))
    }

    fn overread(&self) -> usize {
        0
    }
}

impl PushDecoder for LzmaStream {
    fn push(&mut self, input: &[u8], output: &mut [u8]) -> io::Result<(usize, usize, bool)> {
        let result = self.process(input, output, Action::Finish)?;
        Ok((result.bytes_consumed, result.bytes_produced, result.status == Status::StreamEnd))
    }

    fn overread(&self) -> usize {
        self.unused_input().len()
    }
}

/// A pushed decoder as a reader over a slice.
pub(crate) struct PushedReader<'a, D> {
    whole: &'a [u8],
    rest: &'a [u8],
    decoder: D,
    has_ended: bool,
}

impl<'a, D: PushDecoder> PushedReader<'a, D> {
    fn new(bytes: &'a [u8], decoder: D) -> Self {
        Self { whole: bytes, rest: bytes, decoder, has_ended: false }
    }
}

impl<D: PushDecoder> Read for PushedReader<'_, D> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() || self.has_ended {
            return Ok(0);
        }
        loop {
            let (consumed, produced, has_ended) = self.decoder.push(self.rest, buf)?;
            self.rest.consume(consumed);
            if has_ended {
                self.has_ended = true;
                let used = (self.whole.len() - self.rest.len()).saturating_sub(self.decoder.overread());
                self.rest = self.whole.get(used..).unwrap_or(&[]);
            }
            if produced > 0 || has_ended {
                return Ok(produced);
            }
            if consumed == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the stream ends early"));
            }
        }
    }
}

/// Unpacks a whole compressed file (a module) of at most `max_len` bytes; what is not compressed is copied.
///
/// Concatenated streams are read through, as the command-line tools do.
pub(crate) fn unpack_file(bytes: &[u8], max_len: u64, limits: &Limits) -> Result<Vec<u8>, InitramfsError> {
    let mut unpacked = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let offset = (bytes.len() - rest.len()) as u64;
        let compression = match Compression::probe(rest) {
            Some(compression) => compression,
            None if offset == 0 => Compression::None,
            None => break,
        };
        let stream =
            |source: io::Error| InitramfsError::Stream { offset, compression, detail: source.to_string() };
        let mut decoder = Decoder::new(compression, rest, limits).map_err(stream)?;
        let room = max_len.saturating_sub(unpacked.len() as u64);
        decoder.by_ref().take(room.saturating_add(1)).read_to_end(&mut unpacked).map_err(stream)?;
        if unpacked.len() as u64 > max_len {
            return Err(InitramfsError::Limit { what: "unpacked bytes of a module", limit: max_len });
        }
        rest = decoder.rest();
    }
    Ok(unpacked)
}
