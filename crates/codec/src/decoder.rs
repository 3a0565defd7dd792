//! Decoding whole clusters.

use std::fmt;

use flate2::{Decompress, FlushDecompress};
use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, ResetDirective, get_error_name};

use crate::algorithm::Kind;
use crate::error::CodecError;

/// Greatest zstd window accepted: clusters are at most 2 MiB, so 8 MiB leaves room and bounds memory.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Decodes clusters one after the other.
pub struct Decoder {
    engine: Engine,
}

enum Engine {
    Deflate(Decompress),
    Zstd(DCtx<'static>),
}

impl Decoder {
    /// A decoder for payloads of one kind.
    pub fn new(kind: Kind) -> Result<Self, CodecError> {
        let engine = match kind {
            Kind::Deflate => Engine::Deflate(Decompress::new(false)),
            Kind::Zstd => {
                let mut context = DCtx::try_create().ok_or_else(|| CodecError::Library {
                    codec: "zstd",
                    detail: "no memory for a context".into(),
                })?;
                context.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX)).map_err(|code| {
                    CodecError::Library { codec: "zstd", detail: get_error_name(code).into() }
                })?;
                Engine::Zstd(context)
            }
        };
        Ok(Self { engine })
    }

    /// Fills `out` from `payload`, whose length is only an upper bound: what follows the stream is ignored, and
    /// so is the rest of a stream that holds more than `out` (QEMU stops as soon as the cluster is full).
    pub fn decode(&mut self, payload: &[u8], out: &mut [u8]) -> Result<(), CodecError> {
        match &mut self.engine {
            Engine::Deflate(stream) => {
                stream.reset(false);
                let outcome = stream.decompress(payload, out, FlushDecompress::Finish);
                let found = stream.total_out() as usize;
                match outcome {
                    _ if found == out.len() => Ok(()),
                    Err(error) => Err(CodecError::Damaged {
                        codec: "deflate",
                        detail: error.to_string(),
                        produced: found,
                    }),
                    Ok(_) => Err(CodecError::Short { codec: "deflate", expected: out.len(), found }),
                }
            }
            Engine::Zstd(context) => decode_zstd(context, payload, out),
        }
    }
}

/// Frames may follow each other; a frame is over before its input is.
fn decode_zstd(context: &mut DCtx<'static>, payload: &[u8], out: &mut [u8]) -> Result<(), CodecError> {
    let expected = out.len();
    let damaged = |code: usize, produced: usize| CodecError::Damaged {
        codec: "zstd",
        detail: get_error_name(code).into(),
        produced,
    };
    context.reset(ResetDirective::SessionOnly).map_err(|code| damaged(code, 0))?;
    let mut input = InBuffer::around(payload);
    let mut output = OutBuffer::around(out);
    while output.pos() < expected {
        let before = (input.pos(), output.pos());
        context.decompress_stream(&mut output, &mut input).map_err(|code| damaged(code, before.1))?;
        if (input.pos(), output.pos()) == before {
            return Err(CodecError::Short { codec: "zstd", expected, found: before.1 });
        }
    }
    Ok(())
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").finish_non_exhaustive()
    }
}
