//! Damaged images under check, dump and recovery: refused or done in bounded time, never a panic.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)] // Helpers of tests fail as tests do.

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use block::{MemoryDevice, Overlay, ReadAt, WriteAt};
use coldfit_ext4::{check, dump, needs_recovery, recover};
use ondisk::{crc32c_raw, put_be_u32, put_le_u32};
use support::*;

const ROUNDS: u64 = 500;
const LIMIT: Duration = Duration::from_secs(10);
/// Memory for changed pages in an overlay.
const OVERLAY_CAP: u64 = 4 << 20;

/// What a fixture has to be damaged at: byte ranges, and the journal superblock.
struct Fixture {
    bytes: Vec<u8>,
    areas: Vec<(usize, usize)>,
    journal_at: Option<usize>,
}

fn fixture(image: &Path, args: &str, journal: Option<&str>) -> Fixture {
    mkfs(image, 4, args);
    populate(image);
    let block_of = |file: &str, logical: u32| -> usize {
        debugfs(image, &format!("bmap {file} {logical}")).trim().parse::<usize>().unwrap() * 1024
    };
    let mut areas = vec![(1024, 1024), (2048, 512), (block_of("/", 0), 1024), (block_of("many", 0), 3072)];
    let tables = run("dumpe2fs", &[image.to_str().unwrap()]);
    let table = tables.split("Inode table at ").nth(1).unwrap().split('-').next().unwrap();
    areas.push((table.parse::<usize>().unwrap() * 1024, 24 * 256));
    if let Some(open) = journal {
        let data = image.with_extension("logged");
        let mut logged = Random::new(5).bytes(4096);
        logged[..4].copy_from_slice(&[0xc0, 0x3b, 0x39, 0x98]);
        std::fs::write(&data, logged).unwrap();
        let data = data.display();
        debugfs_write(
            image,
            &format!(
                "{open}\njw -b 3900,3901,3902 {data}\njw -r 3901 -b 3910 {data}\njw -b 3901 {data}\njc\n"
            ),
        );
        let log = block_of("<8>", 0);
        areas.extend([(log, 256), (log + 1024, 200), (log + 5 * 1024, 7 * 1024)]);
    }
    let journal_at = journal.map(|_| block_of("<8>", 0));
    Fixture { bytes: std::fs::read(image).unwrap(), areas, journal_at }
}

impl Fixture {
    /// A copy with a few damaged bytes, and right checksums in both superblocks so that these are believed.
    fn damaged(&self, random: &mut Random) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        for _ in 0..=random.below(4) {
            let (start, len) = self.areas[random.below(self.areas.len() as u64) as usize];
            let at = start + random.below(len as u64) as usize;
            match random.below(4) {
                0 => bytes[at] ^= 1 << random.below(8),
                1 => bytes[at] = [0, 0xff, 0x7f, 0x80][random.below(4) as usize],
                2 => bytes[at & !3..][..4].fill(0xff),
                _ => bytes[at] = random.next() as u8,
            }
        }
        let sum = crc32c_raw(!0, &bytes[1024..1024 + 0x3fc]);
        put_le_u32(&mut bytes[1024..2048], 0x3fc, sum);
        if let Some(at) = self.journal_at {
            let journal = &mut bytes[at..at + 1024];
            put_be_u32(journal, 0xfc, 0);
            let sum = crc32c_raw(!0, journal);
            put_be_u32(journal, 0xfc, sum);
        }
        bytes
    }
}

#[test]
fn damage_never_stops_check_dump_or_recovery() {
    let dir = scratch();
    let image = dir.path().join("image");
    let mut recovered = 0;
    let mut refused = 0;
    for (index, (args, journal)) in [
        ("-t ext4 -b 1024 -O ^metadata_csum,^64bit -J size=1", Some("jo")),
        ("-t ext4 -b 1024 -O metadata_csum,orphan_file -J size=1", Some("jo -c -v 3")),
        ("-t ext3 -b 1024 -I 128 -J size=1", Some("jo -c")),
        ("-t ext2 -b 1024", None),
    ]
    .into_iter()
    .enumerate()
    {
        let fixture = fixture(&image, args, journal);
        let mut random = Random::new(index as u64 + 1);
        for round in 0..ROUNDS {
            let begin = Instant::now();
            let base: Arc<dyn ReadAt> = Arc::new(MemoryDevice::new(fixture.damaged(&mut random)));
            let overlay: Arc<dyn WriteAt> = Arc::new(Overlay::new(base, OVERLAY_CAP, dir.path()));
            let _ = check(&*overlay);
            let mut text = Vec::new();
            let _ = dump(&*overlay, &mut text);
            assert!(text.len() < 64 << 20, "{args}, round {round}: {} bytes of text", text.len());
            if needs_recovery(&*overlay).unwrap_or(false) {
                match recover(&overlay) {
                    Ok(_) => {
                        recovered += 1;
                        assert!(!needs_recovery(&*overlay).unwrap(), "{args}, round {round}");
                        let _ = check(&*overlay);
                    }
                    Err(_) => refused += 1,
                }
            }
            let spent = begin.elapsed();
            assert!(spent < LIMIT, "{args}, round {round}: {spent:?}");
        }
    }
    assert!(recovered > 100 && refused > 100, "{recovered} recovered, {refused} refused");
}

/// Bytes in a unit of a sparse image, as the fuzz targets read it.
const UNIT_BYTES: usize = 64;

/// Writes the seeds of the fuzz targets `ext4` and `jbd2`.
#[test]
#[ignore = "writes testdata/fuzz; run it when the fixtures change"]
fn write_fuzz_seeds() {
    let dir = scratch();
    let image = dir.path().join("image");
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/fuzz");
    for (target, name, args, journal) in [
        ("ext4", "extents", "-t ext4 -b 1024 -O ^metadata_csum,^64bit,^has_journal", None),
        ("ext4", "indirect", "-t ext2 -b 1024 -I 128", None),
        ("ext4", "checksums", "-t ext4 -b 1024 -O metadata_csum,^has_journal", None),
        ("ext4", "inline", "-t ext4 -b 1024 -O inline_data,^metadata_csum,^has_journal", None),
        ("jbd2", "plain", "-t ext4 -b 1024 -O ^metadata_csum,^64bit -J size=1", Some("jo")),
        ("jbd2", "v1", "-t ext3 -b 1024 -I 128 -J size=1", Some("jo -c")),
        ("jbd2", "v3", "-t ext4 -b 1024 -O metadata_csum -J size=1", Some("jo -c -v 3")),
    ] {
        // Fewer inodes and files: a seed is a few KiB.
        mkfs(&image, 4, &format!("-N 64 {args}"));
        let data = image.with_extension("data");
        std::fs::write(&data, Random::new(2).bytes(700)).unwrap();
        let data = data.display();
        debugfs_write(
            &image,
            &format!(
                "mkdir a\nwrite {data} a/b\nsymlink l a/b\nea_set a user.x y\nln a/b c\nsif a/b links_count 2\n"
            ),
        );
        if let Some(open) = journal {
            debugfs_write(&image, &format!("{open}\njw -b 3900 {data}\njw -b 3901 {data}\njc\n"));
        }
        let bytes = std::fs::read(&image).unwrap();
        let mut seed = Vec::new();
        for (index, unit) in bytes.chunks(UNIT_BYTES).enumerate() {
            if unit.iter().any(|byte| *byte != 0) {
                seed.extend_from_slice(&(index as u16).to_le_bytes());
                seed.extend_from_slice(unit);
            }
        }
        std::fs::create_dir_all(corpus.join(target)).unwrap();
        std::fs::write(corpus.join(target).join(name), seed).unwrap();
    }
}
