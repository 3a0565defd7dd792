//! Writers of the compressions that we write segments in.

use std::io::{self, Write};

use lzma_rust2::{CheckType, LzmaOptions, LzmaWriter, XzOptions, XzWriter};

use crate::lz4_legacy::Lz4LegacyWriter;
use crate::{Compression, InitramfsError};

/// The kernel's decoder allocates the dictionary while it boots; our own segments are small.
pub(crate) const SMALL_DICTIONARY: u32 = 1 << 20;
/// What `xz -6` takes, for a whole image that was made with it.
pub(crate) const WHOLE_DICTIONARY: u32 = 8 << 20;
/// The kernel refuses windows beyond 8 MiB on some architectures.
const ZSTD_WINDOW_LOG: u32 = 23;
const ZSTD_LEVEL: i32 = 15;
const XZ_PRESET: u32 = 6;

/// Packs what is written to it; [`Encoder::finish`] ends the stream.
pub(crate) enum Encoder<W: Write> {
    Stored(W),
    Gzip(flate2::write::GzEncoder<W>),
    Bzip2(bzip2::write::BzEncoder<W>),
    Xz(Box<XzWriter<W>>),
    Lzma(Box<LzmaWriter<W>>),
    Lz4(Lz4LegacyWriter<W>),
    Zstd(zstd::stream::write::Encoder<'static, W>),
}

/// The compression for a segment beside or instead of one in `main`: the same where we write it, else gzip.
pub(crate) fn writable(main: Compression) -> Compression {
    match main {
        Compression::Lzo => Compression::Gzip,
        other => other,
    }
}

impl<W: Write> Encoder<W> {
    pub(crate) fn new(compression: Compression, dictionary: u32, sink: W) -> Result<Self, InitramfsError> {
        let fail = |error: io::Error| stream_error(compression, &error);
        Ok(match compression {
            Compression::None => Encoder::Stored(sink),
            Compression::Gzip => {
                // No name and no time, so that the same input makes the same bytes.
                let builder = flate2::GzBuilder::new().mtime(0);
                Encoder::Gzip(builder.write(sink, flate2::Compression::best()))
            }
            Compression::Bzip2 => {
                Encoder::Bzip2(bzip2::write::BzEncoder::new(sink, bzip2::Compression::best()))
            }
            Compression::Xz => {
                let mut options = XzOptions::with_preset(XZ_PRESET);
                options.lzma_options.dict_size = dictionary;
                // The kernel reads no other check than CRC-32.
                options.set_check_sum_type(CheckType::Crc32);
                Encoder::Xz(Box::new(XzWriter::new(sink, options).map_err(fail)?))
            }
            Compression::Lzma => {
                let mut options = LzmaOptions::with_preset(XZ_PRESET);
                options.dict_size = dictionary;
                Encoder::Lzma(Box::new(LzmaWriter::new_use_header(sink, &options, None).map_err(fail)?))
            }
            Compression::Lz4Legacy => Encoder::Lz4(Lz4LegacyWriter::new(sink)),
            Compression::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(sink, ZSTD_LEVEL).map_err(fail)?;
                encoder.window_log(ZSTD_WINDOW_LOG).map_err(fail)?;
                Encoder::Zstd(encoder)
            }
            Compression::Lzo => {
                let detail = "no LZO compressor is part of this program";
                return Err(InitramfsError::WriteUnsupported { compression, detail });
            }
        })
    }

    /// Ends the stream and returns what it was written to.
    pub(crate) fn finish(self) -> io::Result<W> {
        match self {
            Encoder::Stored(sink) => Ok(sink),
            Encoder::Gzip(encoder) => encoder.finish(),
            Encoder::Bzip2(encoder) => encoder.finish(),
            Encoder::Xz(encoder) => encoder.finish(),
            Encoder::Lzma(encoder) => encoder.finish(),
            Encoder::Lz4(encoder) => encoder.finish(),
            Encoder::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Encoder::Stored(sink) => sink.write(buf),
            Encoder::Gzip(encoder) => encoder.write(buf),
            Encoder::Bzip2(encoder) => encoder.write(buf),
            Encoder::Xz(encoder) => encoder.write(buf),
            Encoder::Lzma(encoder) => encoder.write(buf),
            Encoder::Lz4(encoder) => encoder.write(buf),
            Encoder::Zstd(encoder) => encoder.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Packs `bytes` into one stream.
pub(crate) fn pack(compression: Compression, bytes: &[u8]) -> Result<Vec<u8>, InitramfsError> {
    let mut encoder = Encoder::new(compression, SMALL_DICTIONARY, Vec::new())?;
    encoder
        .write_all(bytes)
        .and_then(|()| encoder.finish())
        .map_err(|error| stream_error(compression, &error))
}

pub(crate) fn stream_error(compression: Compression, error: &io::Error) -> InitramfsError {
    InitramfsError::Stream { offset: 0, compression, detail: error.to_string() }
}
