//! Damaged images by the thousand: every one is read or refused in bounded time, none panics.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests fail the test and say what they see"
)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use block::{MemoryDevice, WriteAt};
use coldfit_ext4::Ext4;
use testkit::e2fs;
use vfs::{FileKind, Filesystem, NewNode, NodeId, Timestamp, WritableFilesystem};

/// Mutations of each fixture.
const ROUNDS: u64 = 700;
const LIMIT: Duration = Duration::from_secs(10);

/// A small filesystem with an htree, extents in blocks, indirect blocks or not, attributes, symlinks.
fn fixture(args: &[&str]) -> Vec<u8> {
    let image = e2fs::mkfs(args, 2 << 20).unwrap();
    let mut fs = Ext4::open_writable(e2fs::device(&image).unwrap()).unwrap();
    fs.set_clock(Timestamp { seconds: 1_700_000_000, nanoseconds: 0 });
    let root = fs.root();
    let dir = fs.create(root, b"d", NewNode::Directory, 0o755, 0, 0).unwrap();
    for n in 0..60 {
        fs.create(
            dir,
            format!("a name of some length {n:030}").as_bytes(),
            NewNode::Regular(b"x"),
            0o644,
            0,
            0,
        )
        .unwrap();
    }
    let sparse = fs.create(root, b"sparse", NewNode::Regular(b"start"), 0o644, 0, 0).unwrap();
    for n in 1..12 {
        fs.write_at(sparse, n * 40_000, &[n as u8; 3000]).unwrap();
    }
    fs.create(root, b"link", NewNode::Symlink(&[b'l'; 200]), 0o777, 0, 0).unwrap();
    fs.create(root, b"fast", NewNode::Symlink(b"sparse"), 0o777, 0, 0).unwrap();
    fs.set_xattr(sparse, b"user.a", &[1; 300]).unwrap();
    fs.set_xattr(dir, b"security.selinux", b"system_u:object_r:etc_t:s0").unwrap();
    fs.flush().unwrap();
    e2fs::e2fsck_clean(&image).unwrap();
    std::fs::read(&image).unwrap()
}

/// Reads everything that can be reached, up to a number of nodes.
fn walk(fs: &Ext4) {
    let mut todo = vec![fs.root()];
    let mut seen: BTreeSet<NodeId> = BTreeSet::new();
    while let Some(node) = todo.pop() {
        if seen.len() > 300 || !seen.insert(node) {
            continue;
        }
        let Ok(stat) = fs.stat(node) else { continue };
        let _ = fs.xattrs(node);
        match stat.kind {
            FileKind::Directory => {
                let Ok(entries) = fs.list(node) else { continue };
                for entry in entries.iter().take(100) {
                    let _ = fs.lookup(node, &entry.name);
                    todo.push(entry.node);
                }
                let _ = fs.lookup(node, b"not there");
            }
            FileKind::Symlink => drop(fs.read_link(node)),
            _ => {
                let mut buf = vec![0; 70_000];
                let _ = fs.read_at(node, 0, &mut buf);
                let _ = fs.read_at(node, stat.len.saturating_sub(10), &mut buf);
            }
        }
    }
}

/// Tries every kind of edit; any of them may be refused.
fn edit(fs: &mut Ext4) {
    let root = fs.root();
    let _ = fs.create(root, b"new", NewNode::Regular(&[1; 5000]), 0o644, 0, 0);
    let _ = fs.create(root, b"new dir", NewNode::Directory, 0o755, 0, 0);
    for name in [&b"sparse"[..], b"d", b"link", b"fast"] {
        let Ok(Some(node)) = fs.lookup(root, name) else { continue };
        let _ = fs.write_at(node, 39_000, &[2; 9000]);
        let _ = fs.set_xattr(node, b"user.b", &[3; 100]);
        let _ = fs.create(node, b"in it", NewNode::Regular(b"y"), 0o644, 0, 0);
        let _ = fs.truncate(node, 1000);
        let _ = fs.rename(root, name, root, b"renamed");
        let _ = fs.unlink(root, b"renamed");
    }
    let _ = fs.flush();
}

#[test]
fn damaged_images_are_refused_or_read_in_bounded_time() {
    let rows: [&[&str]; 4] = [
        &[
            "-t",
            "ext4",
            "-b",
            "1024",
            "-I",
            "256",
            "-N",
            "96",
            "-O",
            "^has_journal,^metadata_csum,^resize_inode",
        ],
        &["-t", "ext2", "-b", "1024", "-I", "128", "-N", "96", "-O", "^resize_inode"],
        &["-t", "ext4", "-b", "1024", "-N", "96", "-O", "^has_journal,metadata_csum,^resize_inode"],
        &[
            "-t",
            "ext4",
            "-b",
            "1024",
            "-N",
            "96",
            "-O",
            "^has_journal,^metadata_csum,uninit_bg,inline_data,large_dir",
        ],
    ];
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for row in rows {
        let raw = fixture(row);
        // Positions worth damaging: bytes that are not zero, and their neighbours.
        let spots: Vec<usize> = (0..raw.len()).filter(|at| raw[*at] != 0 && raw[*at] != b'x').collect();
        let mut opened = 0;
        for round in 0..ROUNDS {
            let mut bad = raw.clone();
            for _ in 0..=next() % 4 {
                let at = (spots[(next() % spots.len() as u64) as usize] + (next() % 3) as usize)
                    .min(bad.len() - 1);
                bad[at] = match next() % 4 {
                    0 => 0,
                    1 => 0xff,
                    2 => bad[at] ^ 1 << (next() % 8),
                    _ => next() as u8,
                };
            }
            let device = Arc::new(MemoryDevice::new(bad));
            let start = Instant::now();
            if let Ok(fs) = Ext4::open(device.clone()) {
                walk(&fs);
            }
            if let Ok(mut fs) = Ext4::open_writable(device.clone()) {
                opened += 1;
                edit(&mut fs);
                walk(&fs);
            }
            assert!(start.elapsed() < LIMIT, "{row:?} round {round}");
            device.flush().unwrap();
        }
        assert!(opened > ROUNDS / 20, "{row:?}: only {opened} images got past the first checks");
    }
}
