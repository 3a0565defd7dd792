//! Reading: segments, their exact ends, content and the merged tree, against cpio, lsinitramfs and the compressors.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use coldfit_initramfs::{Archive, Compression, InitramfsError, Limits, SegmentKind};
use report::Diagnose;

fn small_tree() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let at = |path: &str| root.path().join(path);
    fs::create_dir_all(at("usr/lib/modules/6.1/kernel")).unwrap();
    symlink("usr/lib", at("lib")).unwrap();
    fs::write(at("usr/lib/modules/6.1/kernel/a-b.ko.xz"), "module").unwrap();
    fs::write(at("hello"), "hello, world\n").unwrap();
    fs::write(at("large"), vec![b'x'; 300_000]).unwrap();
    fs::write(at("one"), "linked").unwrap();
    fs::hard_link(at("one"), at("two")).unwrap();
    root
}

fn paths(archive: &Archive) -> BTreeSet<String> {
    archive.entries().into_iter().map(|entry| String::from_utf8(entry.path).unwrap()).collect()
}

#[test]
fn every_compression_ends_exactly() {
    let cpio = common::cpio_of(small_tree().path());
    let second_tree = tempfile::tempdir().unwrap();
    fs::write(second_tree.path().join("hello"), "second").unwrap();
    let second = common::cpio_of(second_tree.path());
    let microcode = common::microcode();
    for compression in common::COMPRESSIONS {
        let main = common::pack(compression, &cpio);
        let mut file = microcode.clone();
        file.extend_from_slice(&main);
        file.resize(file.len().next_multiple_of(512) + 512, 0);
        let second_at = file.len() as u64;
        file.extend_from_slice(&common::pack(compression, &second));
        let archive = Archive::parse(&file, &Limits::default())
            .unwrap_or_else(|error| panic!("{compression}: {error}"));

        let found: Vec<_> = archive
            .segments()
            .iter()
            .map(|segment| (segment.offset, segment.compression, segment.kind))
            .collect();
        let main_at = microcode.len() as u64;
        let expected = [
            (0, Compression::None, SegmentKind::Early),
            (main_at, compression, SegmentKind::Main),
            (second_at, compression, SegmentKind::Main),
        ];
        assert_eq!(found, expected);
        let stored_len = archive.segments()[1].stored_len;
        if compression == Compression::None {
            // cpio pads its output to its block size.
            assert!(stored_len <= main.len() as u64);
        } else {
            assert_eq!(stored_len, main.len() as u64, "{compression}");
        }
        assert_eq!(&*archive.read_file("hello").unwrap(), b"second");
        assert_eq!(archive.file_size("large"), Some(300_000));
        assert_eq!(&*archive.read_file("one").unwrap(), b"linked");
        assert_eq!(&*archive.read_file("two").unwrap(), b"linked");
        assert_eq!(&*archive.read_file("/lib/modules/6.1/kernel/a-b.ko.xz").unwrap(), b"module");
        let modules = archive.modules();
        assert_eq!(modules.len(), 1, "one file, although two paths lead to it");
        assert_eq!((modules[0].name.as_str(), modules[0].compression), ("a_b", Compression::Xz));
        assert_eq!(archive.kernel_versions(), ["6.1"]);
    }
}

#[test]
fn lsinitramfs_lists_the_same() {
    let tree = small_tree();
    let cpio = common::cpio_of(tree.path());
    // lsinitramfs of Debian 12 wants a compressed segment last.
    for compression in
        common::COMPRESSIONS.into_iter().filter(|compression| *compression != Compression::None)
    {
        let mut file = common::microcode();
        file.extend_from_slice(&common::pack(compression, &cpio));
        let path = tree.path().with_extension(compression.name());
        fs::write(&path, &file).unwrap();
        let listed = lsinitramfs(&path);
        fs::remove_file(&path).unwrap();
        let archive = Archive::parse(&file, &Limits::default()).unwrap();
        assert_eq!(paths(&archive), listed, "{compression}");
    }
}

fn lsinitramfs(path: &Path) -> BTreeSet<String> {
    let listed = common::run("lsinitramfs", [path]);
    listed.lines().filter(|line| *line != ".").map(str::to_string).collect()
}

fn code_of(bytes: &[u8]) -> &'static str {
    Archive::parse(bytes, &Limits::default()).unwrap_err().code()
}

#[test]
fn what_is_no_segment_is_refused_by_name() {
    let cpio = common::cpio_of(small_tree().path());
    assert_eq!(code_of(b""), "initramfs.segment.unknown");
    assert_eq!(code_of(&[0; 4096]), "initramfs.segment.unknown");
    assert_eq!(code_of(b"MZ\x90\x00"), "initramfs.segment.unknown");
    let mut garbage_behind = cpio.clone();
    garbage_behind.extend_from_slice(b"garbage!");
    assert_eq!(code_of(&garbage_behind), "initramfs.segment.unknown");
    let gzip = common::pack(Compression::Gzip, &cpio);
    assert_eq!(code_of(&gzip[..gzip.len() - 9]), "initramfs.segment.stream");
    let mut misaligned = gzip;
    while misaligned.len().is_multiple_of(4) {
        misaligned = common::pack(Compression::Gzip, &common::unpack(Compression::Gzip, &misaligned));
        misaligned.push(0);
    }
    misaligned.extend_from_slice(&cpio);
    assert_eq!(code_of(&misaligned), "initramfs.segment.misaligned");
    let no_trailer = cpio.windows(10).position(|name| name == b"TRAILER!!!").unwrap() - 110;
    assert_eq!(code_of(&cpio[..no_trailer]), "initramfs.cpio");
    assert_eq!(code_of(b"070707000000000000"), "initramfs.cpio");
}

#[test]
fn bombs_stop_at_the_limit() {
    let mut bomb = b"070701".to_vec();
    let numbers = [1, 0o100_644, 0, 0, 1, 0, 0x7fff_0000, 0, 0, 0, 0, 2, 0];
    for number in numbers {
        bomb.extend_from_slice(format!("{number:08X}").as_bytes());
    }
    bomb.extend_from_slice(b"a\0");
    bomb.resize(24 << 20, 0);
    let limits = Limits { unpacked_bytes: 16 << 20, ..Limits::default() };
    for compression in common::COMPRESSIONS {
        let error = Archive::parse(&common::pack(compression, &bomb), &limits).unwrap_err();
        assert!(
            matches!(error, InitramfsError::Limit { what: "unpacked bytes", .. }),
            "{compression}: {error}"
        );
    }
    let xz = common::filter("xz", &["--check=crc32", "--lzma2=dict=256MiB"], b"x");
    assert_eq!(code_of(&xz), "initramfs.segment.stream");
    let zstd = common::filter("zstd", &["-q", "--ultra", "-22", "--long=30", "-c"], &vec![0; 200 << 20]);
    assert_eq!(code_of(&zstd), "initramfs.segment.stream");
}

#[test]
fn large_files_are_known_by_size_alone() {
    let cpio = common::cpio_of(small_tree().path());
    let limits = Limits { kept_file_bytes: 1000, ..Limits::default() };
    let archive = Archive::parse(&cpio, &limits).unwrap();
    assert_eq!(archive.file_size("large"), Some(300_000));
    assert_eq!(archive.read_file("large"), None);
    assert!(archive.read_file("hello").is_some());
}

const DIR: u32 = 0o040_755;
const FILE: u32 = 0o100_644;
const LINK: u32 = 0o120_777;

/// What `init/initramfs.c` of the kernel does with each entry.
#[test]
fn entries_apply_as_the_kernel_applies_them() {
    let mut bytes = Vec::new();
    let mut add = |path: &str, mode: u32, data: &str| {
        common::entry(&mut bytes, path.as_bytes(), common::fields(mode), data.as_bytes());
    };
    add("./usr", DIR, "");
    add("/usr/lib", DIR, "");
    add("lib", LINK, "usr/lib");
    add("lib/through", FILE, "written through the link");
    add("nowhere/file", FILE, "its parent is missing");
    add("file", FILE, "first");
    add("file", FILE, "second");
    add("usr", FILE, "a directory with entries stays");
    add("kind", FILE, "a file at first");
    add("kind", LINK, "file");
    add("absolute", LINK, "/usr/../lib/through");
    add("other", LINK, "usr/lib");
    add("other", DIR, "");
    add("TRAILER!!!", 0, "");
    let archive = Archive::parse(&bytes, &Limits::default()).unwrap();
    let read =
        |path: &str| archive.read_file(path).map(|content| String::from_utf8_lossy(&content).into_owned());
    assert_eq!(read("usr/lib/through").as_deref(), Some("written through the link"));
    assert_eq!(read("absolute").as_deref(), Some("written through the link"));
    assert!(!archive.exists("nowhere"));
    assert_eq!(read("kind").as_deref(), Some("second"));
    assert!(
        archive.exists("other") && !archive.exists("other/through"),
        "a directory entry takes a link away"
    );
}

#[test]
fn hard_links_share_and_end_at_the_trailer() {
    let hard = common::EntryFields { inode: 9, mode: FILE, links: 2 };
    let mut bytes = Vec::new();
    common::entry(&mut bytes, b"one", hard, b"");
    common::entry(&mut bytes, b"two", hard, b"data comes last");
    common::entry(&mut bytes, b"TRAILER!!!", common::fields(0), b"");
    common::entry(&mut bytes, b"three", hard, b"not linked");
    common::entry(&mut bytes, b"TRAILER!!!", common::fields(0), b"");
    let archive = Archive::parse(&bytes, &Limits::default()).unwrap();
    assert_eq!(archive.segments().len(), 2);
    assert_eq!(&*archive.read_file("one").unwrap(), b"data comes last");
    assert_eq!(&*archive.read_file("two").unwrap(), b"data comes last");
    assert_eq!(&*archive.read_file("three").unwrap(), b"not linked");
}
