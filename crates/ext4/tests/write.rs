//! Every edit, over a matrix of mke2fs options, judged by e2fsck and debugfs.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests fail the test and say what they see"
)]

use std::path::Path;

use coldfit_ext4::Ext4;
use testkit::e2fs;
use vfs::{FileKind, Filesystem, NewNode, NodeId, Timestamp, VfsError, WritableFilesystem};

const NOW: Timestamp = Timestamp { seconds: 1_700_000_100, nanoseconds: 123_456_789 };
const MIB: u64 = 1 << 20;

/// Rows of mke2fs options: every layout that a release made by default, and the odd ones.
const MATRIX: &[(&[&str], u64)] = &[
    (&["-t", "ext2", "-b", "1024", "-I", "128"], 64 * MIB),
    (&["-t", "ext3", "-I", "128", "-b", "4096"], 64 * MIB),
    (&["-t", "ext2", "-r", "0"], 64 * MIB),
    (&["-t", "ext4", "-O", "^metadata_csum,^64bit,uninit_bg"], 300 * MIB),
    (&["-t", "ext4", "-O", "^metadata_csum,64bit"], 64 * MIB),
    (&["-t", "ext4", "-b", "4096"], 300 * MIB),
    (&["-t", "ext4", "-b", "1024"], 64 * MIB),
    (&["-t", "ext4", "-b", "2048", "-O", "metadata_csum,^64bit"], 64 * MIB),
    (&["-t", "ext4", "-b", "65536", "-N", "4000"], 128 * MIB),
    (&["-t", "ext4", "-I", "128", "-b", "1024"], 64 * MIB),
    (&["-t", "ext4", "-O", "metadata_csum_seed,orphan_file"], 128 * MIB),
    (&["-t", "ext4", "-O", "inline_data", "-I", "256"], 64 * MIB),
    (&["-t", "ext4", "-O", "mmp,sparse_super2"], 64 * MIB),
    (&["-t", "ext4", "-O", "^has_journal,^flex_bg"], 64 * MIB),
    (&["-t", "ext4", "-O", "^extent,^64bit"], 64 * MIB),
    (&["-t", "ext4", "-O", "^dir_index"], 64 * MIB),
    (&["-t", "ext4", "-O", "^filetype"], 64 * MIB),
    (&["-t", "ext4", "-O", "^huge_file,^dir_nlink,^large_file"], 64 * MIB),
];

fn content(len: usize, salt: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 31 + n / 251 + salt) as u8 | 1).collect()
}

fn open(image: &Path) -> Ext4 {
    let mut fs = Ext4::open_writable(e2fs::device(image).unwrap()).unwrap();
    fs.set_clock(NOW);
    fs
}

fn create(fs: &mut Ext4, dir: NodeId, name: &str, node: NewNode<'_>) -> NodeId {
    fs.create(dir, name.as_bytes(), node, 0o644, 1000, 100_000).unwrap()
}

fn read(fs: &Ext4, node: NodeId) -> Vec<u8> {
    let mut buf = vec![0; fs.stat(node).unwrap().len as usize];
    assert_eq!(fs.read_at(node, 0, &mut buf).unwrap(), buf.len());
    buf
}

/// Free blocks and inodes as `dumpe2fs` prints them.
fn free_counts(image: &Path) -> (String, String) {
    (
        e2fs::superblock_value(image, "Free blocks").unwrap(),
        e2fs::superblock_value(image, "Free inodes").unwrap(),
    )
}

fn for_each_row(mut judge: impl FnMut(&Path, &str)) {
    for (args, size) in MATRIX {
        let label = args.join(" ");
        let image = e2fs::mkfs(args, *size).unwrap();
        judge(&image, &label);
    }
}

#[test]
fn files_of_every_kind_are_made_and_go_again() {
    for_each_row(|image, label| {
        let before = free_counts(image);
        let mut fs = open(image);
        let root = fs.root();
        let dir = create(&mut fs, root, "dir", NewNode::Directory);
        let bodies: Vec<Vec<u8>> =
            [0, 1, 59, 60, 1023, 1024, 70_000, 1_500_007].into_iter().map(|len| content(len, len)).collect();
        for body in &bodies {
            let node = create(&mut fs, dir, &format!("file-{}", body.len()), NewNode::Regular(body));
            assert!(read(&fs, node) == *body, "{label}");
        }
        create(&mut fs, dir, "fast", NewNode::Symlink(b"file-1"));
        create(&mut fs, dir, "edge59", NewNode::Symlink(&[b'x'; 59]));
        create(&mut fs, dir, "edge60", NewNode::Symlink(&[b'x'; 60]));
        create(&mut fs, dir, "slow", NewNode::Symlink(&[b'y'; 700]));
        create(&mut fs, dir, "null", NewNode::Special(FileKind::CharDevice, 1, 3));
        create(&mut fs, dir, "big-dev", NewNode::Special(FileKind::BlockDevice, 259, 70_000));
        create(&mut fs, dir, "pipe", NewNode::Special(FileKind::Fifo, 0, 0));
        create(&mut fs, dir, "socket", NewNode::Special(FileKind::Socket, 0, 0));
        let linked = fs.lookup(dir, b"file-1024").unwrap().unwrap();
        fs.link(linked, root, b"other name").unwrap();
        assert_eq!(fs.stat(linked).unwrap().links, 2);
        fs.flush().unwrap();
        e2fs::e2fsck_clean(image).unwrap_or_else(|error| panic!("{label}: {error}"));

        for body in &bodies {
            let path = format!("/dir/file-{}", body.len());
            assert!(e2fs::dump(image, &path).unwrap() == *body, "{label}: {path}");
        }
        let stat =
            e2fs::debugfs(image, "stat /dir/file-1024\nstat /dir/null\nstat /dir/big-dev\nstat /dir/slow\n")
                .unwrap();
        for expected in [
            "Links: 2",
            "User:  1000   Group: 100000",
            "(New-style) Device major/minor number: 259:70000",
            "Mode:  0644",
        ] {
            assert!(stat.contains(expected), "{label}: {expected:?} in {stat}");
        }

        // Everything read again by a second opening, then removed.
        let mut fs = open(image);
        let dir = fs.lookup(root, b"dir").unwrap().unwrap();
        assert_eq!(fs.read_link(fs.lookup(dir, b"slow").unwrap().unwrap()).unwrap(), [b'y'; 700]);
        assert_eq!(
            fs.stat(fs.lookup(dir, b"big-dev").unwrap().unwrap()).unwrap().device,
            Some((259, 70_000))
        );
        assert!(matches!(fs.remove_dir(root, b"dir"), Err(VfsError::NotEmpty { .. })), "{label}");
        assert!(matches!(fs.unlink(root, b"dir"), Err(VfsError::IsADirectory { .. })), "{label}");
        for entry in fs.list(dir).unwrap() {
            fs.unlink(dir, &entry.name).unwrap();
        }
        fs.unlink(root, b"other name").unwrap();
        fs.remove_dir(root, b"dir").unwrap();
        fs.flush().unwrap();
        e2fs::e2fsck_clean(image).unwrap_or_else(|error| panic!("{label}: {error}"));
        assert_eq!(free_counts(image), before, "{label}");
    });
}

#[test]
fn content_is_replaced_extended_and_cut() {
    for_each_row(|image, label| {
        let mut fs = open(image);
        let root = fs.root();
        let mut model = content(10_000, 1);
        let node = create(&mut fs, root, "f", NewNode::Regular(&model));
        let stat = fs.stat(node).unwrap();
        for (len, salt) in [(200_000, 2), (5, 3), (0, 4), (4096, 5), (777_777, 6)] {
            model = content(len, salt);
            fs.replace_content(node, &model).unwrap();
            assert!(read(&fs, node) == model, "{label}: {len}");
        }
        // Over old bytes, across the end, into a hole, far behind the end.
        for (offset, len, salt) in
            [(100, 5000, 7), (777_000, 90_000, 8), (2_000_000, 10, 9), (1_500_000, 70_000, 10)]
        {
            let data = content(len, salt);
            fs.write_at(node, offset as u64, &data).unwrap();
            model.resize(model.len().max(offset + len), 0);
            model[offset..offset + len].copy_from_slice(&data);
            assert!(read(&fs, node) == model, "{label}: {offset}");
        }
        for len in [1_999_999, 900_001, 900_003, 3_000_000, 12_289, 12_288, 40] {
            fs.truncate(node, len as u64).unwrap();
            model.resize(len, 0);
            assert!(read(&fs, node) == model, "{label}: cut to {len}");
        }
        fs.truncate(node, 3_000_000).unwrap();
        model.resize(3_000_000, 0);
        fs.write_at(node, 2_500_000, b"end").unwrap();
        model[2_500_000..2_500_003].copy_from_slice(b"end");
        assert!(read(&fs, node) == model, "{label}");
        fs.flush().unwrap();
        e2fs::e2fsck_clean(image).unwrap_or_else(|error| panic!("{label}: {error}"));
        assert!(e2fs::dump(image, "/f").unwrap() == model, "{label}");
        let after = fs.stat(node).unwrap();
        assert_eq!((after.mode, after.uid, after.crtime), (stat.mode, stat.uid, stat.crtime));
        assert_eq!(after.mtime.seconds, NOW.seconds);
        // A sparse file stays sparse.
        assert!(after.allocated < 300_000, "{label}: {} bytes", after.allocated);
        // Nothing but the content changed for its neighbour in the inode table.
        fs.unlink(root, b"f").unwrap();
        fs.flush().unwrap();
        e2fs::e2fsck_clean(image).unwrap_or_else(|error| panic!("{label}: {error}"));
    });
}

#[test]
fn names_move_as_rename_2_says() {
    for_each_row(|image, label| {
        let mut fs = open(image);
        let root = fs.root();
        let a = create(&mut fs, root, "a", NewNode::Directory);
        let b = create(&mut fs, root, "b", NewNode::Directory);
        let sub = create(&mut fs, a, "sub", NewNode::Directory);
        let file = create(&mut fs, sub, "file", NewNode::Regular(b"moved"));
        create(&mut fs, b, "target", NewNode::Regular(&content(9000, 0)));
        fs.rename(sub, b"file", b, b"target").unwrap();
        assert_eq!(fs.lookup(b, b"target").unwrap(), Some(file));
        assert_eq!(fs.lookup(sub, b"file").unwrap(), None);
        fs.rename(b, b"target", b, b"a longer name in the same directory").unwrap();
        fs.rename(a, b"sub", b, b"sub").unwrap();
        assert_eq!(fs.lookup(sub, b"..").unwrap(), Some(b));
        assert_eq!((fs.stat(a).unwrap().links, fs.stat(b).unwrap().links), (2, 3));
        assert!(matches!(fs.rename(root, b"b", sub, b"x"), Err(VfsError::WrongKind { .. })), "{label}");
        let empty = create(&mut fs, root, "empty", NewNode::Directory);
        fs.rename(root, b"a", root, b"empty").unwrap();
        assert!(fs.stat(empty).is_err());
        assert_eq!(fs.lookup(root, b"empty").unwrap(), Some(a));
        assert!(matches!(fs.rename(root, b"empty", root, b"b"), Err(VfsError::NotEmpty { .. })));
        fs.link(file, root, b"hard").unwrap();
        fs.rename(root, b"hard", b, b"a longer name in the same directory").unwrap();
        assert_eq!(fs.stat(file).unwrap().links, 2, "both names of one inode stay");
        fs.rename(b, b"sub", b, b"sub2").unwrap();
        fs.flush().unwrap();
        e2fs::e2fsck_clean(image).unwrap_or_else(|error| panic!("{label}: {error}"));
        assert_eq!(e2fs::dump(image, "/hard").unwrap(), b"moved");
    });
}

/// Options, names, length of the longest names, hash, levels of the index below its root.
type IndexRow = (&'static [&'static str], usize, usize, &'static str, Option<u32>);

const INDEX_ROWS: &[IndexRow] = &[
    (&["-t", "ext4", "-b", "1024"], 20_000, 120, "half_md4", Some(1)),
    // Superblock flag 2: names are hashed as unsigned characters.
    (&["-t", "ext4", "-b", "4096"], 6_000, 120, "half_md4\nssv flags 2", Some(0)),
    (&["-t", "ext4", "-b", "1024", "-O", "large_dir"], 45_000, 240, "half_md4", Some(2)),
    (&["-t", "ext4", "-b", "1024", "-O", "large_dir,^metadata_csum"], 3_000, 120, "tea", Some(1)),
    (&["-t", "ext3", "-b", "1024"], 6_000, 120, "tea", Some(1)),
    (&["-t", "ext4", "-b", "1024"], 3_000, 120, "legacy", Some(1)),
    (&["-t", "ext4", "-b", "1024", "-O", "^dir_index"], 1_500, 120, "half_md4", None),
];

#[test]
fn a_directory_grows_through_every_level_of_its_index() {
    for (args, names, longest, hash, levels) in INDEX_ROWS.iter().copied() {
        let image = e2fs::mkfs(args, 96 * MIB).unwrap();
        e2fs::debugfs_write(&image, &format!("ssv def_hash_version {hash}\n")).unwrap();
        let mut fs = open(&image);
        let root = fs.root();
        let dir = create(&mut fs, root, "d", NewNode::Directory);
        let file = create(&mut fs, root, "f", NewNode::Regular(b""));
        let name = |n: usize| format!("{n}-{}\u{e4}", "n".repeat(longest - n % 90 - 20)).into_bytes();
        for n in 0..names {
            fs.link(file, dir, &name(n)).unwrap();
        }
        fs.flush().unwrap();
        e2fs::e2fsck_clean(&image).unwrap_or_else(|error| panic!("{args:?}: {error}"));
        assert_eq!(fs.list(dir).unwrap().len(), names);
        for n in (0..names).step_by(7) {
            assert_eq!(fs.lookup(dir, &name(n)).unwrap(), Some(file));
        }
        let dump = e2fs::debugfs(&image, "htree_dump /d\n").unwrap();
        match levels {
            Some(levels) => assert!(dump.contains(&format!("Indirect levels: {levels}")), "{args:?} {hash}"),
            None => assert!(!dump.contains("Indirect levels"), "{dump}"),
        }
        for n in 0..names {
            if n % 3 != 0 {
                fs.unlink(dir, &name(n)).unwrap();
            }
        }
        for n in 0..300 {
            fs.link(file, dir, format!("again {n}").as_bytes()).unwrap();
        }
        fs.flush().unwrap();
        e2fs::e2fsck_clean(&image).unwrap_or_else(|error| panic!("{args:?}: {error}"));
    }
}

#[test]
fn more_than_65000_subdirectories_count_as_one_link() {
    let image = e2fs::mkfs(&["-t", "ext4", "-b", "1024", "-N", "66000"], 160 * MIB).unwrap();
    let mut fs = open(&image);
    let root = fs.root();
    let dir = create(&mut fs, root, "d", NewNode::Directory);
    for n in 0..65_010 {
        create(&mut fs, dir, &n.to_string(), NewNode::Directory);
        if n == 64_996 {
            assert_eq!(fs.stat(dir).unwrap().links, 64_999);
        }
    }
    assert_eq!(fs.stat(dir).unwrap().links, 1);
    fs.flush().unwrap();
    e2fs::e2fsck_clean(&image).unwrap_or_else(|error| panic!("{error}"));
    let image = e2fs::mkfs(&["-t", "ext4", "-O", "^dir_nlink"], 16 * MIB).unwrap();
    let mut fs = open(&image);
    let file = create(&mut fs, root, "f", NewNode::Regular(b""));
    let names = create(&mut fs, root, "names", NewNode::Directory);
    for n in 1..65_000 {
        fs.link(file, names, n.to_string().as_bytes()).unwrap();
    }
    assert!(matches!(fs.link(file, root, b"one more"), Err(VfsError::Limit { .. })));
    fs.flush().unwrap();
    e2fs::e2fsck_clean(&image).unwrap_or_else(|error| panic!("{error}"));
}
