//! Encoding whole clusters.

use std::fmt;

use zstd::zstd_safe::{CCtx, CParameter, compress_bound, get_error_name, version_string};

use crate::CLUSTER_MAX;
use crate::algorithm::{Algorithm, Window};
use crate::deflate::{self, Deflate};
use crate::error::CodecError;

/// Encodes clusters one after the other; each stream stands alone, whatever was encoded before.
pub struct Encoder {
    algorithm: Algorithm,
    cluster_len: usize,
    engine: Engine,
}

enum Engine {
    Zlib(Box<Deflate>),
    Zstd(CCtx<'static>),
}

impl Encoder {
    /// An encoder for inputs of at most `cluster_len` bytes.
    pub fn new(algorithm: Algorithm, cluster_len: usize) -> Result<Self, CodecError> {
        if cluster_len > CLUSTER_MAX {
            return Err(CodecError::TooLong { limit: CLUSTER_MAX, found: cluster_len });
        }
        let engine = match algorithm {
            Algorithm::Zlib { level, window, fast } => {
                Engine::Zlib(Box::new(Deflate::new(level, window, fast)))
            }
            Algorithm::Zstd { level } => {
                let mut context = CCtx::try_create().ok_or_else(|| CodecError::Library {
                    codec: "zstd",
                    detail: "no memory for a context".into(),
                })?;
                context
                    .set_parameter(CParameter::CompressionLevel(level.get().into()))
                    .map_err(zstd_error)?;
                Engine::Zstd(context)
            }
        };
        Ok(Self { algorithm, cluster_len, engine })
    }

    /// Appends the encoded form of `input` to `out`. `false`, and `out` as it was, when that would not be
    /// shorter than `input`.
    pub fn encode(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<bool, CodecError> {
        if input.len() > self.cluster_len {
            return Err(CodecError::TooLong { limit: self.cluster_len, found: input.len() });
        }
        let before = out.len();
        match &mut self.engine {
            Engine::Zlib(stream) => {
                // Whole words are written, so the last one needs room behind the stream.
                out.resize(before + input.len() + 16, 0);
                let shrunk = out.get_mut(before..).and_then(|room| stream.encode(input, room));
                out.truncate(before + shrunk.unwrap_or(0));
                return Ok(shrunk.is_some());
            }
            Engine::Zstd(context) => {
                let mut room = std::mem::take(out);
                room.resize(before + compress_bound(input.len()), 0);
                let outcome = match room.get_mut(before..) {
                    Some(tail) => context.compress2(tail, input),
                    None => Ok(0),
                };
                room.truncate(before + outcome.unwrap_or(0));
                *out = room;
                outcome.map_err(zstd_error)?;
            }
        }
        let shrunk = out.len() - before < input.len();
        if !shrunk {
            out.truncate(before);
        }
        Ok(shrunk)
    }

    /// What encodes, with its version, for the report: other versions may make other bytes.
    pub fn name(&self) -> String {
        match self.algorithm {
            Algorithm::Zlib { level, window, fast } => {
                let level = if fast { "fast".to_owned() } else { format!("level {}", level.get()) };
                let distance = if window == Window::Strict { 4096 } else { 32768 };
                format!("coldfit-deflate {} {level}, distances up to {distance}", deflate::VERSION)
            }
            Algorithm::Zstd { level } => format!("libzstd {} level {}", version_string(), level.get()),
        }
    }
}

fn zstd_error(code: usize) -> CodecError {
    CodecError::Library { codec: "zstd", detail: get_error_name(code).into() }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}
