//! What the deflate encoder makes is read by zlib-rs, by a reader whose window really slides, and by C zlib in
//! small steps; it does not depend on what was encoded before.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod common;

use std::io::Write;
use std::process::{Command, Stdio};

use coldfit_codec::{Algorithm, CLUSTER_MAX, Decoder, Encoder, Kind, Window, ZlibLevel};
use common::{Numbers, mixture, periodic, sliding_inflate, text};
use flate2::{Decompress, FlushDecompress};

fn zlib(level: u8, window: Window) -> Encoder {
    let level = ZlibLevel::new(level).unwrap();
    Encoder::new(Algorithm::Zlib { level, window, fast: false }, CLUSTER_MAX).unwrap()
}

fn every_level() -> Vec<(u8, Window)> {
    [Window::Strict, Window::Wide]
        .iter()
        .flat_map(|&window| (1..=9).map(move |level| (level, window)))
        .collect()
}

/// Encodes, and decodes in three ways. The stream, when it got shorter.
fn judged(encoder: &mut Encoder, window: Window, input: &[u8], what: &str) -> Option<Vec<u8>> {
    let mut stream = Vec::new();
    if !encoder.encode(input, &mut stream).unwrap() {
        return None;
    }
    assert!(stream.len() < input.len(), "{what}");
    let mut cluster = vec![0; input.len()];
    let mut reader = Decompress::new(false);
    reader.decompress(&stream, &mut cluster, FlushDecompress::Finish).unwrap();
    assert!(cluster == input && reader.total_out() == input.len() as u64, "{what}: zlib-rs");
    cluster.fill(0);
    Decoder::new(Kind::Deflate).unwrap().decode(&stream, &mut cluster).unwrap();
    assert!(cluster == input, "{what}: own decoder");
    let reach = if window == Window::Strict { 4096 } else { 32768 };
    let slid = sliding_inflate(&stream, reach).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(slid == input, "{what}: sliding window");
    Some(stream)
}

#[test]
fn every_short_length_of_every_shape() {
    let mut numbers = Numbers::new(1);
    let noise = numbers.bytes(600);
    let words = text(&mut numbers, 600);
    for (level, window) in [(1, Window::Strict), (6, Window::Strict), (9, Window::Strict), (6, Window::Wide)]
    {
        let mut encoder = zlib(level, window);
        for len in 0..=600 {
            for (shape, input) in
                [("zeros", &vec![0; len][..]), ("noise", &noise[..len]), ("text", &words[..len])]
            {
                let what = format!("level {level} {window:?} {shape} {len}");
                let stream = judged(&mut encoder, window, input, &what);
                if shape == "zeros" && len > 20 {
                    assert!(stream.is_some_and(|stream| stream.len() < 20), "{what}");
                } else if shape == "noise" {
                    assert!(stream.is_none(), "{what}");
                }
            }
        }
    }
}

#[test]
fn shapes_at_the_edges_of_window_buffer_and_cluster() {
    let mut numbers = Numbers::new(2);
    for (level, window) in every_level() {
        let mut encoder = zlib(level, window);
        for len in [4095, 4096, 4097, 65_535, 65_536, 65_537, 64_460, 64_461, 131_072, 200_001] {
            for period in [1, 2, 3, 4, 5, 257, 258, 259, 4094, 4095, 4096, 4097, 32_767, 32_768, 32_769] {
                let input = periodic(&mut numbers, period, len);
                judged(
                    &mut encoder,
                    window,
                    &input,
                    &format!("level {level} {window:?} period {period} {len}"),
                );
            }
            // Full depth costs seconds on the slow reader.
            if level % 3 != 0 {
                continue;
            }
            let input = text(&mut numbers, len);
            let stream =
                judged(&mut encoder, window, &input, &format!("level {level} {window:?} text {len}"));
            assert!(stream.unwrap().len() < len * 6 / 10, "text shrinks");
        }
    }
}

#[test]
fn the_largest_cluster_of_every_shape() {
    let mut numbers = Numbers::new(3);
    let shapes = [
        ("zeros", vec![0; CLUSTER_MAX]),
        ("text", text(&mut numbers, CLUSTER_MAX)),
        ("mixture", mixture(&mut numbers, CLUSTER_MAX)),
        ("noise", numbers.bytes(CLUSTER_MAX)),
    ];
    for window in [Window::Strict, Window::Wide] {
        let mut encoder = zlib(6, window);
        for (shape, input) in &shapes {
            let stream = judged(&mut encoder, window, input, &format!("{window:?} {shape}"));
            assert_eq!(stream.is_none(), *shape == "noise");
        }
    }
}

#[test]
fn random_mixtures_and_nothing_of_earlier_clusters_in_later_ones() {
    for (level, window) in every_level() {
        let mut numbers = Numbers::new(4);
        let mut reused = zlib(level, window);
        for round in 0..24 {
            let len = numbers.small(18);
            let input = mixture(&mut numbers, len);
            let what = format!("level {level} {window:?} round {round}, {len} bytes");
            let stream = judged(&mut reused, window, &input, &what);
            let fresh = judged(&mut zlib(level, window), window, &input, &what);
            assert!(stream == fresh, "{what}: depends on what was encoded before");
        }
    }
}

#[test]
fn half_noise_half_zeros_shrinks_by_half() {
    let mut input = Numbers::new(5).bytes(32_768);
    input.resize(65_536, 0);
    for (level, window) in every_level() {
        let stream = judged(&mut zlib(level, window), window, &input, "noise, zeros").unwrap();
        assert!(stream.len() < 33_200, "level {level}: {}", stream.len());
        let reversed: Vec<u8> = input.iter().rev().copied().collect();
        let stream = judged(&mut zlib(level, window), window, &reversed, "zeros, noise").unwrap();
        assert!(stream.len() < 33_200, "level {level}: {}", stream.len());
    }
}

/// Reads streams with C zlib, `windowBits` −12, output taken in 512-byte steps: a true sliding window.
const STEPWISE: &str = r"
import sys, zlib, struct
data = sys.stdin.buffer.read()
at = 0
while at < len(data):
    stream_len, = struct.unpack_from('<I', data, at)
    stream = data[at + 4:at + 4 + stream_len]
    at += 4 + stream_len
    reader = zlib.decompressobj(-12)
    out = []
    while not reader.eof:
        part = reader.decompress(stream, 512)
        stream = reader.unconsumed_tail
        if not part and not reader.eof:
            sys.exit('a stream that ends early')
        out.append(part)
    out = b''.join(out)
    sys.stdout.buffer.write(struct.pack('<I', len(out)) + out)
";

fn read_by_c_zlib(streams: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, String> {
    let mut child = Command::new("python3")
        .args(["-c", STEPWISE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let all: Vec<u8> = streams
        .iter()
        .flat_map(|stream| (stream.len() as u32).to_le_bytes().into_iter().chain(stream.iter().copied()))
        .collect();
    let feeder = std::thread::spawn(move || {
        // The reader may end at the first bad stream.
        let _ = input.write_all(&all);
    });
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let mut rest = &output.stdout[..];
    let mut all = Vec::new();
    while let Some((len, behind)) = rest.split_first_chunk::<4>() {
        let (one, behind) = behind.split_at(u32::from_le_bytes(*len) as usize);
        all.push(one.to_vec());
        rest = behind;
    }
    Ok(all)
}

#[test]
fn c_zlib_with_a_window_of_4096_bytes_reads_strict_streams_in_small_steps() {
    let mut numbers = Numbers::new(6);
    let (mut inputs, mut streams) = (Vec::new(), Vec::new());
    for level in 1..=9 {
        let mut encoder = zlib(level, Window::Strict);
        for len in [1000, 4096, 65_536, 65_536, 300_000] {
            for input in
                [mixture(&mut numbers, len), text(&mut numbers, len), periodic(&mut numbers, 4096, len)]
            {
                let mut stream = Vec::new();
                if encoder.encode(&input, &mut stream).unwrap() {
                    inputs.push(input);
                    streams.push(stream);
                }
            }
        }
    }
    assert!(streams.len() > 90);
    assert!(read_by_c_zlib(&streams).unwrap() == inputs);
}

#[test]
fn the_sliding_readers_refuse_what_reaches_farther_back() {
    let input = periodic(&mut Numbers::new(7), 20_000, 65_536);
    let mut stream = Vec::new();
    assert!(zlib(6, Window::Wide).encode(&input, &mut stream).unwrap());
    assert!(sliding_inflate(&stream, 32_768).unwrap() == input);
    assert!(sliding_inflate(&stream, 4096).unwrap_err().starts_with("a distance"));
    // C zlib copies out of its small window without a complaint or refuses; the bytes are never right.
    assert!(read_by_c_zlib(&[stream]).map_or(true, |read| read != [input]));
}
