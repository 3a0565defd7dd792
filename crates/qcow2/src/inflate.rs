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

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn what_follows_the_stream_is_ignored_and_a_short_stream_is_an_error() {
        let content: Vec<u8> = (0..4096u32).map(|n| (n * n / 7) as u8).collect();
        let mut deflate = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
        deflate.write_all(&content).unwrap();
        let deflated = deflate.finish().unwrap();
        let zstd = zstd::encode_all(&content[..], 3).unwrap();
        for (compression, stream) in [(Compression::Zlib, deflated), (Compression::Zstd, zstd)] {
            let mut payload = stream.clone();
            payload.extend([0xee; 300]);
            let mut cluster = vec![0; content.len()];
            inflate(compression, &payload, &mut cluster).unwrap();
            assert_eq!(cluster, content);
            assert!(inflate(compression, &stream[..stream.len() / 2], &mut cluster).is_err());
            assert!(inflate(compression, &stream, &mut vec![0; content.len() + 1]).is_err());
            assert!(inflate(compression, &[0xff; 40], &mut cluster).is_err());
            assert!(inflate(compression, &[], &mut cluster).is_err());
        }
    }

    #[test]
    fn several_zstd_frames_make_one_cluster() {
        let mut payload = zstd::encode_all(&[1u8; 1000][..], 3).unwrap();
        payload.extend(zstd::encode_all(&[2u8; 1048][..], 3).unwrap());
        let mut cluster = vec![0; 2048];
        inflate(Compression::Zstd, &payload, &mut cluster).unwrap();
        assert_eq!((cluster[999], cluster[1000], cluster[2047]), (1, 2, 2));
    }
}
