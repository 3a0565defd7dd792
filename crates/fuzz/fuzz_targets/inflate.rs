//! Our inflate beside zlib-rs on any bytes: both fill the cluster with the same bytes, or both refuse.

#![no_main]

use codec::{Decoder, Kind};
use flate2::{Decompress, FlushDecompress};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((len, payload)) = bytes.split_first_chunk::<2>() else { return };
    let len = usize::from(u16::from_le_bytes(*len));
    let mut own = vec![0; len];
    let accepted = Decoder::new(Kind::Deflate).unwrap().decode(payload, &mut own).is_ok();
    let mut theirs = vec![0; len];
    let mut reader = Decompress::new(false);
    // A cluster that is full is enough, whatever the stream says then.
    let _ = reader.decompress(payload, &mut theirs, FlushDecompress::Finish);
    assert_eq!(accepted, reader.total_out() == len as u64);
    assert!(!accepted || own == theirs);
});
