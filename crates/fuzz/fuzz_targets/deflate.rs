//! The deflate encoder on any bytes: what gets shorter is read back, by our decoder and by zlib-rs, and a fresh
//! encoder makes the same stream.

#![no_main]

use codec::{Algorithm, CLUSTER_MAX, Decoder, Encoder, Kind, Window, ZlibLevel};
use flate2::{Decompress, FlushDecompress};
use libfuzzer_sys::fuzz_target;

fn stream(encoder: &mut Encoder, input: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    encoder.encode(input, &mut out).unwrap().then_some(out)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, rest)) = bytes.split_first() else { return };
    // Short inputs are repeated with changes, so that windows and segments are crossed.
    let Some((&repeat, seed)) = rest.split_first() else { return };
    let mut input = seed.to_vec();
    for round in 0..usize::from(repeat) {
        if input.len() + seed.len() > 200_000 {
            break;
        }
        input.extend(seed.iter().skip(round % 7));
        input.extend(std::iter::repeat_n(round as u8, round * 3));
    }
    let Some(level) = ZlibLevel::new(1 + choice % 9) else { return };
    let window = if choice & 0x40 == 0 { Window::Strict } else { Window::Wide };
    let algorithm = Algorithm::Zlib { level, window, fast: choice & 0x80 != 0 };
    let mut encoder = Encoder::new(algorithm, CLUSTER_MAX).unwrap();
    let Some(first) = stream(&mut encoder, &input) else { return };
    stream(&mut encoder, seed);
    assert_eq!(stream(&mut encoder, &input).as_ref(), Some(&first));
    let mut own = vec![0; input.len()];
    Decoder::new(Kind::Deflate).unwrap().decode(&first, &mut own).unwrap();
    assert!(own == input);
    let mut theirs = vec![0; input.len()];
    let mut reader = Decompress::new(false);
    reader.decompress(&first, &mut theirs, FlushDecompress::Finish).unwrap();
    assert!(theirs == input && reader.total_out() == input.len() as u64);
});
