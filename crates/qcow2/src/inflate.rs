//! Inflating one compressed cluster.

use std::io::Read;

use flate2::{Decompress, FlushDecompress};

use crate::header::Compression;

/// Greatest zstd window accepted: clusters are at most 2 MiB, so 8 MiB leaves room and bounds memory.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Fills `cluster` from `payload`, whose length is only an upper bound: what follows the stream is ignored.
pub(crate) fn inflate(compression: Compression, payload: &[u8], cluster: &mut [u8]) -> Result<(), String> {
    match compression {
        Compression::Zlib => {
            let mut stream = Decompress::new(false);
            // QEMU stops as soon as the cluster is full, whatever the stream says then.
            let outcome = stream.decompress(payload, cluster, FlushDecompress::Finish);
            if stream.total_out() == cluster.len() as u64 {
                return Ok(());
            }
            let produced = stream.total_out();
            Err(match outcome {
                Err(error) => format!("deflate stream: {error} after {produced} bytes"),
                Ok(_) => format!("deflate stream: expected {} bytes, found {produced}", cluster.len()),
            })
        }
        Compression::Zstd => {
            let mut run = || {
                let mut stream = zstd::stream::read::Decoder::with_buffer(payload)?;
                stream.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                stream.read_exact(cluster)
            };
            run().map_err(|error| format!("zstd stream: {error}"))
        }
    }
}
