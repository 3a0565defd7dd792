//! What one context after the other makes is read back, and nothing of one cluster shows in the next.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use coldfit_codec::{Algorithm, CodecError, Decoder, Encoder, Kind, Window, ZlibLevel, ZstdLevel};

fn algorithms() -> Vec<Algorithm> {
    let zlib = |level, window, fast| Algorithm::Zlib { level: ZlibLevel::new(level).unwrap(), window, fast };
    let mut all: Vec<Algorithm> = (1..=9).map(|level| zlib(level, Window::Strict, false)).collect();
    all.push(zlib(6, Window::Wide, false));
    all.push(zlib(6, Window::Strict, true));
    all.extend([1, 3, 4, 12].map(|level| Algorithm::Zstd { level: ZstdLevel::new(level).unwrap() }));
    all
}

fn text(len: usize) -> Vec<u8> {
    (0..len as u32).flat_map(|n| format!("{} line {n}\n", n * n % 37).into_bytes()).take(len).collect()
}

#[test]
fn what_follows_the_stream_is_ignored_and_a_short_or_damaged_one_is_an_error() {
    let content = text(65536);
    for algorithm in algorithms() {
        let mut encoder = Encoder::new(algorithm, content.len()).unwrap();
        let mut decoder = Decoder::new(algorithm.kind()).unwrap();
        let mut stream = Vec::new();
        assert!(encoder.encode(&content, &mut stream).unwrap());
        let mut payload = stream.clone();
        payload.extend([0xee; 300]);
        let mut cluster = vec![0; content.len()];
        decoder.decode(&payload, &mut cluster).unwrap();
        assert!(cluster == content, "{algorithm:?}");
        assert!(decoder.decode(&stream[..stream.len() / 2], &mut cluster).is_err());
        assert!(matches!(
            decoder.decode(&stream, &mut vec![0; content.len() + 1]),
            Err(CodecError::Short { .. })
        ));
        assert!(decoder.decode(&[0xff; 40], &mut cluster).is_err());
        assert!(decoder.decode(&[], &mut cluster).is_err());
        decoder.decode(&stream, &mut cluster).unwrap();
        assert!(cluster == content, "{algorithm:?}: after errors");
        // A cluster that is full before its stream ends.
        decoder.decode(&stream, &mut cluster[..1000]).unwrap();
    }
}

#[test]
fn several_zstd_frames_make_one_cluster() {
    let mut encoder = Encoder::new(Algorithm::Zstd { level: ZstdLevel::default() }, 4096).unwrap();
    let mut payload = Vec::new();
    assert!(encoder.encode(&[1; 1000], &mut payload).unwrap());
    assert!(encoder.encode(&[2; 1048], &mut payload).unwrap());
    payload.extend([0; 77]);
    let mut cluster = vec![0; 2048];
    Decoder::new(Kind::Zstd).unwrap().decode(&payload, &mut cluster).unwrap();
    assert_eq!((cluster[999], cluster[1000], cluster[2047]), (1, 2, 2));
}

#[test]
fn an_encoder_appends_or_leaves_the_buffer_as_it_was() {
    for algorithm in algorithms() {
        let mut encoder = Encoder::new(algorithm, 4096).unwrap();
        let mut out = b"before".to_vec();
        let noise: Vec<u8> = (0..4096)
            .scan(1u32, |state, _| {
                *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                Some((*state >> 24) as u8)
            })
            .collect();
        assert!(!encoder.encode(&noise, &mut out).unwrap(), "{algorithm:?}");
        assert_eq!(out, b"before");
        assert!(encoder.encode(&[7; 4096], &mut out).unwrap());
        assert_eq!(&out[..6], b"before");
        assert!(matches!(encoder.encode(&[0; 4097], &mut out), Err(CodecError::TooLong { .. })));
    }
}
