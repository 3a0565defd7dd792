//! What is written is judged by gzip, xz, zstd and tar; what they write is read.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Command;

use coldfit_archive::{
    ArchiveError, ChunkEncoder, Compression, Container, DiskStream, Encoded, Framing, Limits, Piece,
};
use report::Diagnose;

const MIB: usize = 1 << 20;
const CONTAINERS: [Container; 5] = [
    Container::Gz { level: 6 },
    Container::Gz { level: 0 },
    Container::Xz { level: 1 },
    Container::Zst { level: 3 },
    Container::TarGz { level: 1 },
];

fn run(dir: &Path, script: &str) -> Vec<u8> {
    let output =
        Command::new("bash").args(["-euo", "pipefail", "-c", script]).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Compressible, zero and random stretches.
fn disk(len: usize) -> Vec<u8> {
    let mut state = len as u64 * 2 + 1;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        let run = (next() as usize % 60_000 + 1).min(len - bytes.len());
        match next() % 3 {
            0 => bytes.resize(bytes.len() + run, 0),
            1 => bytes.extend((0..run).map(|_| next() as u8)),
            _ => bytes.extend((0..run).map(|at| (at / 7) as u8)),
        }
    }
    bytes
}

/// The stream, its chunks encoded by `encoders` encoders in turn and from back to front.
fn encode(container: Container, disk: &[u8], encoders: usize) -> Vec<u8> {
    let mut pool: Vec<ChunkEncoder> = (0..encoders).map(|_| ChunkEncoder::new(container).unwrap()).collect();
    let chunks: Vec<&[u8]> = disk.chunks(container.chunk_len() as usize).collect();
    let mut encoded: Vec<(Encoded, Vec<u8>)> = Vec::new();
    for (number, chunk) in chunks.iter().enumerate().rev() {
        let mut out = vec![0xee; number % 3];
        let one = pool[number % encoders].encode(chunk, &mut out).unwrap();
        encoded.insert(0, (one, out.split_off(number % 3)));
    }
    let mut framing = Framing::new(container, disk.len() as u64);
    let mut stream = framing.header().unwrap();
    for (one, bytes) in encoded {
        assert_eq!((one.len, bytes.is_empty()), (bytes.len() as u64, false));
        framing.add(&one);
        stream.extend_from_slice(&bytes);
    }
    stream.extend_from_slice(&framing.trailer().unwrap());
    stream
}

/// The disk in a stream, and how many of its bytes were holes.
fn decode_from(
    reader: Box<dyn Read + Send>,
    compression: Compression,
    limits: &Limits,
) -> Result<(Vec<u8>, u64), ArchiveError> {
    let mut stream = DiskStream::new(reader, compression, limits)?;
    let (mut disk, mut holes) = (Vec::new(), 0);
    let mut buf = vec![0xee; 70_000];
    loop {
        match stream.read_piece(&mut buf)? {
            Piece::Data(len) => disk.extend_from_slice(&buf[..len]),
            Piece::Hole(len) => {
                holes += len;
                disk.resize(disk.len() + len as usize, 0);
            }
            Piece::End => break,
        }
    }
    assert!(stream.disk_len().is_none_or(|len| len == disk.len() as u64));
    Ok((disk, holes))
}

fn decode(stream: &[u8]) -> Result<(Vec<u8>, u64), ArchiveError> {
    let reader = Box::new(std::io::Cursor::new(stream.to_vec()));
    decode_from(reader, Compression::recognise(stream), &Limits::default())
}

fn code(result: Result<(Vec<u8>, u64), ArchiveError>) -> &'static str {
    result.err().map_or("none", |error| error.code())
}

#[test]
fn every_container_is_accepted_by_its_tool_and_holds_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    for container in CONTAINERS {
        let chunk = container.chunk_len() as usize;
        for len in [0, 1, 511, 512, 70_000, chunk - 1, chunk, chunk + 1, 3 * chunk + 12_345] {
            let disk = disk(len);
            let stream = encode(container, &disk, 1);
            assert!(stream == encode(container, &disk, 3), "{container:?} {len}: encoders show");
            fs::write(dir.path().join("stream"), &stream).unwrap();
            let out = run(
                dir.path(),
                match container {
                    Container::Gz { .. } => "gzip -t < stream; gzip -dc < stream",
                    Container::Xz { .. } => "xz -t < stream; xz -dc < stream",
                    Container::Zst { .. } => "zstd -q -t < stream; zstd -dc < stream",
                    Container::TarGz { .. } => {
                        "gzip -t < stream; test \"$(tar -tzf stream)\" = disk.raw; tar -xOzf stream"
                    }
                },
            );
            assert!(out == disk, "{container:?} {len}");
            assert!(decode(&stream).unwrap().0 == disk, "{container:?} {len}");
        }
    }
}

/// Readers that stop after the first gzip member, or the first xz stream, get all of it.
#[test]
fn gzip_is_one_member_and_xz_one_stream() {
    let disk = disk(3 * MIB + 5);
    let stream = encode(Container::Gz { level: 6 }, &disk, 1);
    let mut out = Vec::new();
    flate2::read::GzDecoder::new(&stream[..]).read_to_end(&mut out).unwrap();
    assert!(out == disk);
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("stream.xz"), encode(Container::Xz { level: 0 }, &disk, 1)).unwrap();
    let list = String::from_utf8(run(dir.path(), "xz --robot --list stream.xz")).unwrap();
    let fields: Vec<&str> = list.lines().find(|line| line.starts_with("file")).unwrap().split('\t').collect();
    assert_eq!(fields[1..3], ["1", "2"], "streams and blocks: {list}");
}

#[test]
fn the_header_of_an_archive_beyond_8_gib_is_read_by_tar() {
    let dir = tempfile::tempdir().unwrap();
    for len in [(8 << 30) - 512, 8 << 30, 3u64 << 40] {
        let start = Framing::new(Container::TarGz { level: 6 }, len).header().unwrap();
        let mut header = [0; 512];
        flate2::read::GzDecoder::new(&start[..]).read_exact(&mut header).unwrap();
        let path = dir.path().join("disk.tar");
        fs::write(&path, header).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_len(len + 512 + 1024).unwrap();
        let list = String::from_utf8(run(dir.path(), "tar -tvf disk.tar")).unwrap();
        let fields: Vec<&str> = list.split_whitespace().collect();
        assert_eq!((fields[2], fields[5]), (len.to_string().as_str(), "disk.raw"), "{list}");
    }
}

#[test]
fn streams_of_the_usual_tools_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let disk = disk(3 * MIB + 700);
    fs::write(dir.path().join("disk.raw"), &disk).unwrap();
    for script in [
        "gzip -9 < disk.raw",
        "head -c 1000000 disk.raw | gzip; tail -c +1000001 disk.raw | gzip -1",
        "xz -6 < disk.raw",
        "xz --block-size=500000 --check=sha256 < disk.raw",
        "head -c 1000000 disk.raw | xz -1 ; tail -c +1000001 disk.raw | xz -0 --check=crc32",
        "zstd -q -19 < disk.raw",
        "zstd -q --long=27 < disk.raw",
        "head -c 1000000 disk.raw | zstd -q; printf '\\x50\\x2a\\x4d\\x18\\x03\\0\\0\\0abc'; tail -c +1000001 disk.raw | zstd -q --no-check",
        "printf '\\x5f\\x2a\\x4d\\x18\\0\\0\\0\\0'; zstd -q < disk.raw",
        "cat disk.raw",
        "tar -c disk.raw",
        "tar --format=oldgnu -cz disk.raw",
        "tar --format=gnu -cJ disk.raw",
        "tar --format=posix -c disk.raw | zstd -q",
        "tar --format=ustar -cz ./disk.raw",
    ] {
        let stream = run(dir.path(), script);
        assert!(decode(&stream).unwrap_or_else(|error| panic!("{script}: {error}")).0 == disk, "{script}");
    }
}

#[test]
fn holes_of_sparse_members_stay_holes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.raw");
    let file = fs::File::create(&path).unwrap();
    // More segments than a header and one extension block hold, and a hole at the end.
    let segments = 60u64;
    for number in 0..segments {
        std::os::unix::fs::FileExt::write_all_at(&file, &[number as u8 + 1; 4096], number * 65_536).unwrap();
    }
    file.set_len(segments * 65_536 + 1000).unwrap();
    let disk = fs::read(&path).unwrap();
    for script in [
        "tar --format=oldgnu -Scz disk.raw",
        "tar --format=gnu -Sc disk.raw",
        "tar --format=posix -Scz disk.raw",
    ] {
        let stream = run(dir.path(), script);
        let (got, holes) = decode(&stream).unwrap_or_else(|error| panic!("{script}: {error}"));
        assert!(got == disk, "{script}");
        assert_eq!(holes, disk.len() as u64 - segments * 4096, "{script}");
    }
    for version in ["0.0", "0.1"] {
        let stream = run(dir.path(), &format!("tar --format=posix --sparse-version={version} -Scz disk.raw"));
        assert_eq!(code(decode(&stream)), "archive.tar.sparse");
    }
}

#[test]
fn archives_that_are_no_disk_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    run(
        dir.path(),
        "echo x > disk.raw; echo y > other; mkdir d; ln -s other link; mkdir e; ln -s ../other e/disk.raw",
    );
    for (script, expected) in [
        ("tar -cz disk.raw other", "archive.tar.member"),
        ("tar -cz other disk.raw", "archive.tar.member"),
        ("tar -cz d", "archive.tar.member"),
        ("tar -cz -C e disk.raw", "archive.tar.member"),
        ("tar -cz --transform=s/other/long$(printf a%.0s {1..200})/ other", "archive.tar.member"),
        ("tar -c disk.raw | head -c 800 | gzip", "archive.truncated"),
        ("printf 'QFI\\xfb\\0\\0\\0\\3' | gzip", "archive.content"),
        ("printf 'conectix' | zstd -q", "archive.content"),
        ("echo a | gzip; echo garbage behind the member", "archive.corrupt"),
    ] {
        assert_eq!(code(decode(&run(dir.path(), script))), expected, "{script}");
    }
}

#[test]
fn truncated_and_damaged_streams_are_errors() {
    let disk = disk(2 * MIB + 100);
    for container in CONTAINERS {
        let stream = encode(container, &disk, 1);
        // A zstd stream may end between two frames; nothing in it says how many there are.
        let cuts = (1..40).map(|part| stream.len() * part / 40).chain([stream.len() - 1, 7]);
        for cut in cuts {
            let result = decode_from(
                Box::new(std::io::Cursor::new(stream[..cut].to_vec())),
                Compression::recognise(&stream),
                &Limits::default(),
            );
            assert_eq!(code(result), "archive.truncated", "{container:?} cut at {cut} of {}", stream.len());
        }
        for part in 1..60 {
            let mut damaged = stream.clone();
            let at = stream.len() * part / 60;
            damaged[at] ^= 0x55;
            let Err(error) = decode(&damaged) else { panic!("{container:?}: damage at {at} went unseen") };
            assert!(
                matches!(error.code(), "archive.corrupt" | "archive.truncated" | "archive.memory"),
                "{error}"
            );
        }
    }
}

#[test]
fn windows_above_the_memory_that_is_allowed_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("disk.raw"), disk(5 * MIB)).unwrap();
    for script in ["xz -9 < disk.raw", "zstd -q --long=27 < disk.raw"] {
        let stream = run(dir.path(), script);
        let open = |memory| {
            let reader = Box::new(std::io::Cursor::new(stream.clone()));
            code(decode_from(reader, Compression::recognise(&stream), &Limits { memory }))
        };
        assert_eq!(open(1 << 20), "archive.memory", "{script}");
        assert_eq!(open(128 << 20), "none", "{script}");
    }
}

#[test]
fn a_failing_source_is_no_damage() {
    struct Failing(std::io::Cursor<Vec<u8>>);
    impl Read for Failing {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            match self.0.read(buf)? {
                0 => Err(std::io::Error::other("the disk is on fire")),
                len => Ok(len),
            }
        }
    }
    for container in CONTAINERS {
        let stream = encode(container, &disk(MIB), 1);
        let half = std::io::Cursor::new(stream[..stream.len() / 2].to_vec());
        let result =
            decode_from(Box::new(Failing(half)), Compression::recognise(&stream), &Limits::default());
        let error = result.err().unwrap();
        assert_eq!(error.code(), "host.io", "{container:?}");
        assert!(error.to_string().contains("on fire"), "{error}");
    }
}
