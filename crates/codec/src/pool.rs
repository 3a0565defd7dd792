//! Decoders for readers that share one image.

use std::sync::{Mutex, PoisonError};

use crate::algorithm::Kind;
use crate::decoder::Decoder;
use crate::error::CodecError;

/// Lends a decoder to each thread that decodes, and keeps it for the next: as many as ever ran at once.
#[derive(Debug)]
pub struct DecoderPool {
    kind: Kind,
    idle: Mutex<Vec<Decoder>>,
}

impl DecoderPool {
    /// A pool without decoders; they are made when they are wanted.
    pub fn new(kind: Kind) -> Self {
        Self { kind, idle: Mutex::default() }
    }

    /// See [`Decoder::decode`].
    pub fn decode(&self, payload: &[u8], out: &mut [u8]) -> Result<(), CodecError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut decoder = match idle {
            Some(decoder) => decoder,
            None => Decoder::new(self.kind)?,
        };
        let outcome = decoder.decode(payload, out);
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(decoder);
        outcome
    }
}
