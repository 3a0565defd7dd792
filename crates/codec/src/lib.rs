//! Codecs for whole clusters: raw deflate and zstd, with contexts that are reused.
//!
//! A cluster is at most 2 MiB and is coded in one call. One [`Encoder`] and one [`Decoder`] belong to each worker:
//! making a context per cluster costs up to a third of the time, and what was coded before never shows in
//! the output.

mod algorithm;
mod decoder;
mod deflate;
mod encoder;
mod error;
mod pool;
mod symbols;

pub use algorithm::{Algorithm, Kind, Window, ZlibLevel, ZstdLevel};
pub use decoder::Decoder;
pub use encoder::Encoder;
pub use error::CodecError;
pub use pool::DecoderPool;

/// Greatest cluster of the qcow2 format: `cluster_bits` is at most 21 (QEMU, docs/interop/qcow2.txt).
pub const CLUSTER_MAX: usize = 2 << 20;
