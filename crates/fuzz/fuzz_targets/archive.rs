//! Streams and archives with a disk. Errors are fine; panics, hangs and large allocations are bugs. A disk that was
//! read is written again in another form and read back.

#![no_main]

use archive::{ArchiveError, ChunkEncoder, Compression, Container, DiskStream, Framing, Limits, Piece};
use libfuzzer_sys::fuzz_target;

/// Bytes of a disk that are looked at; streams may hold far more.
const MOST: usize = 1 << 20;

fn read(stream: &[u8]) -> Result<Option<Vec<u8>>, ArchiveError> {
    let limits = Limits { memory: 8 << 20 };
    let reader = Box::new(std::io::Cursor::new(stream.to_vec()));
    let mut stream = DiskStream::new(reader, Compression::recognise(stream), &limits)?;
    let (mut disk, mut buf) = (Vec::new(), vec![0; 50_000]);
    loop {
        match stream.read_piece(&mut buf)? {
            Piece::Data(len) if disk.len() + len <= MOST => disk.extend_from_slice(&buf[..len]),
            Piece::Hole(len) if len <= (MOST - disk.len()) as u64 => disk.resize(disk.len() + len as usize, 0),
            Piece::Data(_) | Piece::Hole(_) => return Ok(None),
            Piece::End => {
                assert!(stream.disk_len().is_none_or(|len| len == disk.len() as u64));
                return Ok(Some(disk));
            }
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(Some(disk)) = read(bytes) else { return };
    let containers =
        [Container::Gz { level: 1 }, Container::Xz { level: 0 }, Container::Zst { level: 1 }, Container::TarGz { level: 1 }];
    let container = containers[disk.len() % containers.len()];
    let mut framing = Framing::new(container, disk.len() as u64);
    let mut encoder = ChunkEncoder::new(container).expect("an encoder");
    let mut stream = framing.header().expect("a header");
    for chunk in disk.chunks(container.chunk_len() as usize) {
        framing.add(&encoder.encode(chunk, &mut stream).expect("every chunk can be encoded"));
    }
    stream.extend_from_slice(&framing.trailer().expect("a trailer"));
    match read(&stream) {
        Ok(again) => assert_eq!(again.as_ref(), Some(&disk)),
        // What looks like an image or an archive itself.
        Err(ArchiveError::Content { .. } | ArchiveError::Tar { .. } | ArchiveError::Truncated { .. }) => {}
        Err(error) => panic!("{error}"),
    }
});
