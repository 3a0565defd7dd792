//! Edits of what this driver does not make itself: inline content, preallocated blocks, sizes past 2 GiB.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests fail the test and say what they see"
)]

use std::path::Path;

use coldfit_ext4::Ext4;
use testkit::e2fs;
use vfs::{Filesystem, NewNode, Timestamp, VfsError, WritableFilesystem};

const MIB: u64 = 1 << 20;

fn open(image: &Path) -> Ext4 {
    let mut fs = Ext4::open_writable(e2fs::device(image).unwrap()).unwrap();
    fs.set_clock(Timestamp { seconds: 1_700_000_100, nanoseconds: 0 });
    fs
}

fn clean(image: &Path, label: &str) {
    e2fs::e2fsck_clean(image).unwrap_or_else(|error| panic!("{label}: {error}"));
}

/// Length and content of the small files that mke2fs puts into their inodes.
const SMALL: [usize; 5] = [0, 10, 60, 61, 140];

#[test]
fn inline_content_moves_out_when_it_is_edited() {
    for (inode_size, block_size) in [("256", "1024"), ("512", "4096"), ("1024", "1024")] {
        let label = format!("-I {inode_size} -b {block_size}");
        let tree = tempfile::tempdir().unwrap();
        for kind in ["append", "replace", "cut", "xattr", "remove", "grow", "mode"] {
            for len in SMALL {
                std::fs::write(tree.path().join(format!("{kind}-{len}")), vec![b'a'; len]).unwrap();
            }
        }
        for dir in ["few", "more", "empty"] {
            std::fs::create_dir(tree.path().join(dir)).unwrap();
        }
        for n in 0..5 {
            std::fs::write(tree.path().join(format!("more/name {n}")), b"").unwrap();
        }
        std::fs::write(tree.path().join("few/one"), b"1").unwrap();
        let args = ["-t", "ext4", "-O", "inline_data", "-I", inode_size, "-b", block_size, "-d"];
        let image = e2fs::mkfs(&[&args[..], &[tree.path().to_str().unwrap()]].concat(), 32 * MIB).unwrap();
        let shown = e2fs::debugfs(&image, "stat /append-10\nstat /empty\n").unwrap();
        assert_eq!(shown.matches("Flags: 0x10000000").count(), 2, "{shown}");

        let mut fs = open(&image);
        let root = fs.root();
        let find = |fs: &Ext4, kind: &str, len: usize| {
            fs.lookup(root, format!("{kind}-{len}").as_bytes()).unwrap().unwrap()
        };
        for len in SMALL {
            let node = find(&fs, "append", len);
            fs.write_at(node, len as u64, b"tail").unwrap();
            let node = find(&fs, "replace", len);
            fs.replace_content(node, &[b'r'; 30]).unwrap();
            let node = find(&fs, "cut", len);
            fs.truncate(node, len as u64 / 2).unwrap();
            let node = find(&fs, "grow", len);
            fs.truncate(node, 5000).unwrap();
            let node = find(&fs, "xattr", len);
            fs.set_xattr(node, b"user.long", &[1; 200]).unwrap();
            let node = find(&fs, "mode", len);
            fs.set_metadata(node, vfs::MetadataChange { mode: Some(0o600), ..Default::default() }).unwrap();
            fs.unlink(root, format!("remove-{len}").as_bytes()).unwrap();
        }
        let few = fs.lookup(root, b"few").unwrap().unwrap();
        let more = fs.lookup(root, b"more").unwrap().unwrap();
        let empty = fs.lookup(root, b"empty").unwrap().unwrap();
        fs.create(empty, b"new", NewNode::Directory, 0o755, 0, 0).unwrap();
        fs.unlink(more, b"name 3").unwrap();
        fs.rename(root, b"more", few, b"moved").unwrap();
        fs.rename(few, b"one", root, b"one").unwrap();
        fs.flush().unwrap();
        clean(&image, &label);
        for len in SMALL {
            let with_tail = [&vec![b'a'; len][..], b"tail"].concat();
            assert_eq!(e2fs::dump(&image, &format!("/append-{len}")).unwrap(), with_tail, "{label}");
            assert_eq!(e2fs::dump(&image, &format!("/replace-{len}")).unwrap(), [b'r'; 30], "{label}");
            // debugfs dumps all 60 bytes of what is still inline.
            for kind in ["cut", "xattr", "mode"] {
                let expected = vec![b'a'; if kind == "cut" { len / 2 } else { len }];
                let dumped = e2fs::dump(&image, &format!("/{kind}-{len}")).unwrap();
                assert_eq!(dumped[..expected.len()], expected, "{label}: {kind}-{len}");
                assert!(dumped[expected.len()..].iter().all(|byte| *byte == 0), "{label}: {kind}-{len}");
                assert_eq!(fs.stat(find(&fs, kind, len)).unwrap().len, expected.len() as u64);
            }
            let mut grown = vec![b'a'; len];
            grown.resize(5000, 0);
            assert!(e2fs::dump(&image, &format!("/grow-{len}")).unwrap() == grown, "{label}");
        }
        assert_eq!(fs.lookup(more, b"..").unwrap(), Some(few));
        assert_eq!(fs.list(more).unwrap().len(), 4);
        // Inline directories go, too.
        for entry in fs.list(more).unwrap() {
            fs.unlink(more, &entry.name).unwrap();
        }
        fs.remove_dir(few, b"moved").unwrap();
        fs.remove_dir(root, b"few").unwrap();
        fs.flush().unwrap();
        clean(&image, &label);
    }
}

#[test]
fn preallocated_blocks_are_split_as_they_are_written() {
    let image = e2fs::mkfs(&["-t", "ext4", "-b", "1024"], 64 * MIB).unwrap();
    e2fs::debugfs_write(&image, "write /dev/null p\nfallocate /p 0 999\nsif /p size 700000\n").unwrap();
    clean(&image, "made");
    let mut fs = open(&image);
    let node = fs.lookup(fs.root(), b"p").unwrap().unwrap();
    let mut model = vec![0; 700_000];
    for (at, len) in [(0usize, 10usize), (5000, 3000), (300_000, 1), (699_990, 10), (120_000, 50_000)] {
        fs.write_at(node, at as u64, &vec![7; len]).unwrap();
        model[at..at + len].fill(7);
    }
    let mut back = vec![1; model.len()];
    fs.read_at(node, 0, &mut back).unwrap();
    assert!(back == model);
    fs.flush().unwrap();
    clean(&image, "written");
    assert!(e2fs::dump(&image, "/p").unwrap() == model);
    fs.truncate(node, 6000).unwrap();
    fs.flush().unwrap();
    clean(&image, "cut");
    assert!(e2fs::dump(&image, "/p").unwrap() == model[..6000]);
}

#[test]
fn files_past_two_gigabytes_set_the_feature_or_are_refused() {
    for (args, most) in [
        (&["-t", "ext4", "-O", "^large_file", "-b", "4096"][..], 8u64 << 40),
        (&["-t", "ext2", "-b", "4096"], 2 << 40),
        (&["-t", "ext3", "-b", "1024"], 16 << 30),
    ] {
        let label = args.join(" ");
        let image = e2fs::mkfs(args, 64 * MIB).unwrap();
        let mut fs = open(&image);
        let node = fs.create(fs.root(), b"sparse", NewNode::Regular(b"start"), 0o644, 0, 0).unwrap();
        fs.write_at(node, 3 << 30, b"past 2 GiB").unwrap();
        fs.write_at(node, most - 4096, b"near the end").unwrap();
        let mut got = [0; 10];
        fs.read_at(node, 3 << 30, &mut got).unwrap();
        assert_eq!(&got, b"past 2 GiB");
        fs.flush().unwrap();
        clean(&image, &label);
        assert!(
            e2fs::superblock_value(&image, "Filesystem features").unwrap().contains("large_file"),
            "{label}"
        );
        assert!(matches!(fs.write_at(node, 17 << 40, b"x"), Err(VfsError::Limit { .. })), "{label}");
        assert!(matches!(fs.write_at(node, u64::MAX, b"xy"), Err(VfsError::Limit { .. })), "{label}");
        fs.truncate(node, 3).unwrap();
        fs.flush().unwrap();
        clean(&image, &label);
    }
    let image = e2fs::mkfs(&["-t", "ext2", "-r", "0", "-b", "4096"], 16 * MIB).unwrap();
    let mut fs = open(&image);
    let node = fs.create(fs.root(), b"old", NewNode::Regular(b""), 0o644, 0, 0).unwrap();
    assert!(matches!(fs.truncate(node, 3 << 30), Err(VfsError::Limit { .. })));
}
