//! Damaged images: errors are fine; panics, long runs and lost content are not.

#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests are not exempt.

mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use block::{DenyAll, MemoryDevice, Overlay, ReadAt, WriteAt};
use coldfit_qcow2::{Qcow2, Qcow2Error};
use common::{Backing, Random, Spec, make, run, text};
use report::{Class, Diagnose};

const ROUNDS_PER_IMAGE: u64 = 600;

fn open(bytes: Vec<u8>) -> Result<Qcow2, Qcow2Error> {
    Qcow2::open(Arc::new(MemoryDevice::new(bytes)), Path::new("hostile.qcow2"), &DenyAll)
}

/// How far an image came.
#[derive(PartialEq)]
enum Outcome {
    Refused,
    Planned,
    Committed,
}

/// Does with an image all that can be done with it. When it checks clean, a commit has to keep it clean
/// and to hold the edit.
fn exercise(bytes: &[u8]) -> Outcome {
    let Ok(image) = open(bytes.to_vec()) else { return Outcome::Refused };
    let image = Arc::new(image);
    image.info();
    let _ = image.dump(&mut std::io::sink());
    let is_clean = image.check().is_ok_and(|report| report.is_clean());
    let _ = image.extents(0..image.len());
    let mut buf = vec![0; 300_000];
    for at in [0, image.len() / 2, image.len().saturating_sub(buf.len() as u64)] {
        let len = (image.len() - at).min(buf.len() as u64) as usize;
        let _ = image.read_exact_at(&mut buf[..len], at);
    }

    let overlay = Arc::new(Overlay::new(Arc::clone(&image) as Arc<_>, 1 << 20, std::env::temp_dir()));
    for (at, len) in [(0, 700), (9000, 5000), (image.len() / 2, 513), (image.len().saturating_sub(9), 9)] {
        let _ = overlay.write_all_at(&vec![0xa5; len], at);
    }
    let Ok(changes) = overlay.seal() else { return Outcome::Refused };
    let Ok(plan) = image.plan_commit(&changes) else { return Outcome::Refused };
    assert!(plan.new_len >= plan.old_len && plan.new_len < plan.old_len + (64 << 20));
    if !is_clean {
        return Outcome::Planned;
    }
    let mut edited = bytes.to_vec();
    edited.resize(plan.new_len as usize, 0);
    for write in &plan.writes {
        let start = write.host_offset as usize;
        // Whatever cannot be read was found while planning: nothing can fail half way.
        let target = &mut edited[start..start + write.len() as usize];
        plan.read_source(write, 0, target).unwrap();
    }
    let again = open(edited).unwrap();
    assert!(again.check().unwrap().is_clean());
    for range in changes.ranges() {
        let len = ((range.end - range.start) as usize).min(buf.len());
        again.read_exact_at(&mut buf[..len], range.start).unwrap();
        let mut expected = vec![0; len];
        changes.disk().read_exact_at(&mut expected, range.start).unwrap();
        assert!(buf[..len] == expected);
    }
    Outcome::Committed
}

fn fixtures() -> Vec<Vec<u8>> {
    let plain = Spec {
        compat: "1.1",
        cluster: 512,
        refcount_bits: 16,
        compression: "none",
        snapshots: 0,
        backing: Backing::None,
        lazy: true,
        preallocation: "off",
    };
    let specs = [
        Spec { compression: "zlib", snapshots: 2, ..plain.clone() },
        Spec { compression: "zstd", refcount_bits: 64, ..plain.clone() },
        Spec { refcount_bits: 1, ..plain.clone() },
        Spec { compat: "0.10", lazy: false, cluster: 1024, snapshots: 1, ..plain },
    ];
    let make_bytes = |spec: &Spec| {
        let dir = tempfile::tempdir().unwrap();
        std::fs::read(make(spec, dir.path())).unwrap()
    };
    specs.iter().map(make_bytes).collect()
}

/// Positions worth damaging: the header and every sector of tables, which are a small part of the file.
fn table_sectors(bytes: &[u8]) -> Vec<usize> {
    let image = open(bytes.to_vec()).unwrap();
    let mut dump = Vec::new();
    image.dump(&mut dump).unwrap();
    let mut sectors = vec![0; 40]; // The header counts for more.
    for word in String::from_utf8(dump).unwrap().split_whitespace() {
        if let Some(offset) = word.strip_prefix("0x").and_then(|hex| u64::from_str_radix(hex, 16).ok()) {
            let offset = (offset & 0x00ff_ffff_ffff_fe00) as usize;
            if offset + 512 <= bytes.len() {
                sectors.push(offset);
            }
        }
    }
    sectors
}

#[test]
fn thousands_of_damaged_images() {
    let (mut refused, mut planned, mut committed) = (0, 0, 0);
    for (number, fixture) in fixtures().into_iter().enumerate() {
        assert!(exercise(&fixture) == Outcome::Committed);
        let sectors = table_sectors(&fixture);
        let mut random = Random(number as u64 + 1);
        for round in 0..ROUNDS_PER_IMAGE {
            let mut bytes = fixture.clone();
            for _ in 0..random.below(3) + 1 {
                let sector = sectors[random.below(sectors.len() as u64) as usize];
                let span = if sector == 0 { 112 } else { 512 };
                let at = sector + random.below(span) as usize;
                match random.below(5) {
                    0 => bytes[at] ^= 1 << random.below(8),
                    1 => bytes[at] = random.next() as u8,
                    2 => bytes[at] = 0xff,
                    3 => {
                        // A whole field that is plausible: some other table.
                        let other = sectors[random.below(sectors.len() as u64) as usize] as u64;
                        let at = at / 8 * 8;
                        bytes[at..at + 8].copy_from_slice(&(other | (random.below(4) << 62)).to_be_bytes());
                    }
                    _ => bytes[at / 8 * 8..][..8].fill(if random.below(2) == 0 { 0 } else { 0xff }),
                }
            }
            if random.below(20) == 0 {
                bytes.truncate(random.below(bytes.len() as u64) as usize);
            }
            let start = Instant::now();
            match exercise(&bytes) {
                Outcome::Refused => refused += 1,
                Outcome::Planned => planned += 1,
                Outcome::Committed => committed += 1,
            }
            let took = start.elapsed();
            assert!(took < Duration::from_secs(5), "fixture {number} round {round} took {took:?}");
        }
    }
    // The mutations are worth something only while all ends are reached.
    assert!(
        refused > 100 && planned > 100 && committed > 100,
        "refused {refused} planned {planned} committed {committed}"
    );
}

/// One field of the header set to one value: the code it is refused with.
#[test]
fn header_fields_out_of_bounds() {
    let fixture = fixtures().swap_remove(0);
    let cases: &[(usize, &[u8], &str)] = &[
        (0, b"QFI\0", "qcow2.magic"),
        (4, &[0, 0, 0, 4], "qcow2.version.unsupported"),
        (8, &[0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 9], "qcow2.header"),
        (8, &[0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 4, 0], "qcow2.header"),
        (20, &[0, 0, 0, 8], "qcow2.header"),
        (20, &[0, 0, 0, 22], "qcow2.header"),
        (24, &[0xff; 8], "qcow2.header"),
        (32, &[0, 0, 0, 3], "qcow2.header"),
        (36, &[0xff; 4], "qcow2.limit"),
        (36, &[0, 0, 0, 1], "qcow2.header"),
        (40, &[0; 8], "qcow2.table.misplaced"),
        (40, &[0xff; 8], "qcow2.table.misplaced"),
        (40, &[0, 0, 0, 0, 0, 0, 2, 1], "qcow2.table.misplaced"),
        (48, &[0x7f; 8], "qcow2.table.misplaced"),
        (56, &[0; 4], "qcow2.header"),
        (56, &[0xff; 4], "qcow2.limit"),
        (60, &[0xff; 4], "qcow2.limit"),
        (60, &[0, 0, 0xff, 0xff], "qcow2.table.misplaced"),
        (72, &[0x80], "qcow2.feature.unsupported"),
        (79, &[8], "qcow2.header"),
        (79, &[16], "qcow2.header"),
        (96, &[0, 0, 0, 7], "qcow2.header"),
        (100, &[0, 0, 0, 96], "qcow2.header"),
        (100, &[0, 0, 4, 0], "qcow2.header"),
        (104, &[1], "qcow2.header"),
        (112, &[0, 0, 0, 1, 0, 0, 2, 0], "qcow2.header.extension"),
    ];
    for (at, value, code) in cases {
        let mut bytes = fixture.clone();
        bytes[*at..*at + value.len()].copy_from_slice(value);
        match open(bytes) {
            Ok(_) => panic!("byte {at} = {value:02x?} was accepted, expected {code}"),
            Err(error) => assert_eq!(error.code(), *code, "byte {at} = {value:02x?}: {error}"),
        }
    }
    for len in [0, 3, 4, 71, 103, 511, 513] {
        let error = open(fixture[..len].to_vec()).map(drop).unwrap_err();
        assert_eq!(error.class(), Class::Damaged, "{len} bytes: {error}");
    }
}

/// Makes the seeds of the fuzz target anew: `cargo test -p coldfit-qcow2 --test hostile -- --ignored`.
#[test]
#[ignore = "writes testdata/fuzz/qcow2"]
fn write_fuzz_seeds() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/fuzz/qcow2");
    std::fs::create_dir_all(&seeds).unwrap();
    for (name, options, snapshot, commands) in [
        ("v2", "compat=0.10", true, &["write -P 1 0 700", "write -c -P 2 1k 512"][..]),
        ("zlib", "compat=1.1", true, &["write -c -P 3 0 1k", "write -z 2k 512"]),
        ("zstd", "compat=1.1,compression_type=zstd", false, &["write -c -P 4 0 2k"]),
        ("refcount1", "compat=1.1,refcount_bits=1", false, &["write -P 5 0 2k", "discard 512 512"]),
        ("refcount64", "compat=1.1,refcount_bits=64,lazy_refcounts=on", true, &["write -P 6 1k 300"]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seed.qcow2");
        let options = format!("{options},cluster_size=512");
        run("qemu-img", &["create", "-q", "-f", "qcow2", "-o", &options, text(&path), "40k"]);
        let write =
            |command: &str| run("qemu-io", &["-f", "qcow2", "-d", "unmap", "-c", command, text(&path)]);
        commands.iter().for_each(|command| drop(write(command)));
        if snapshot {
            run("qemu-img", &["snapshot", "-c", "snap", text(&path)]);
            write("write -P 7 600 600");
        }
        let bytes = std::fs::read(&path).unwrap();
        assert!(bytes.len() < 16 << 10, "{name}: {} bytes", bytes.len());
        assert!(exercise(&bytes) == Outcome::Committed, "{name}");
        std::fs::write(seeds.join(name), bytes).unwrap();
    }
}
