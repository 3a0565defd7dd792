//! Damaged images end in an error or in a tree, quickly and without a panic.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod common;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use coldfit_stack::Image;
use common::*;
use report::Silent;
use vfs::GuestPath;

struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

/// Lists and reads what the tree has, at most `budget` nodes.
fn walk(tree: &vfs::GuestTree, budget: usize) {
    let mut todo = vec![GuestPath::root()];
    for _ in 0..budget {
        let Some(path) = todo.pop() else { return };
        let Ok(metadata) = tree.stat_no_follow(&path) else { continue };
        match metadata.kind {
            vfs::FileKind::Directory => {
                todo.extend(tree.list(&path).unwrap_or_default().iter().map(|name| path.join(name)));
            }
            vfs::FileKind::Symlink => drop(tree.read_link(&path)),
            _ => drop(tree.read(&path, MIB)),
        }
        let _ = tree.xattrs(&path);
    }
}

#[test]
fn damaged_guests() {
    let lab = Lab::new();
    // No checksums, so that damage reaches the parsers behind them.
    let script =
        "label: gpt\nfirst-lba: 34\nunit: sectors\n1: start=64, size=4096\n2: start=4160, size=6144\n";
    let fstab = "LABEL=r / ext4 defaults 0 1\nLABEL=b /boot ext4 defaults 0 2\n";
    let (boot, root) = ((64 * 512, 4096 * 512), (4160 * 512, 6144 * 512));
    let path = lab.disk(
        "disk",
        6 * MIB,
        script,
        &[
            Fs { start: boot.0, len: boot.1, mkfs: "mke2fs -t ext2 -L b", files: &[("/vmlinuz", "kernel")] },
            Fs {
                start: root.0,
                len: root.1,
                mkfs: "mke2fs -t ext4 -L r -O ^metadata_csum",
                files: &[
                    ("/etc/fstab", fstab),
                    ("/etc/os-release", "ID=x\n"),
                    ("/boot/x", ""),
                    ("/a/b/c", "-> /a"),
                ],
            },
        ],
    );
    let pristine = std::fs::read(&path).unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    let mut random = Random(11);
    // Table, then superblock, descriptors, bitmaps, inode tables and directories of each filesystem.
    let places = [(0, 8192), (boot.0 + 1024, 64 << 10), (root.0 + 1024, 512 << 10)];
    let (mut trees, mut slowest) = (0, Duration::ZERO);
    for _ in 0..1500 {
        let mut damaged = Vec::new();
        for _ in 0..=random.next(3) {
            let (start, len) = places[random.next(3) as usize];
            // Half of the damage goes to the superblock or header.
            let len = if random.next(2) == 0 { len.min(1024) } else { len };
            let width = [1, 2, 4, 8][random.next(4) as usize];
            let at = start + random.next(len - width);
            let value = match random.next(4) {
                0 => [0xff; 8],
                1 => [0; 8],
                2 => random.next(1 << 16).to_le_bytes(),
                _ => (1u64 << random.next(64)).to_le_bytes(),
            };
            file.write_all_at(&value[..width as usize], at).unwrap();
            damaged.push((at, width as usize));
        }
        let begin = Instant::now();
        if let Ok(mut image) = Image::open(&path, &raw(), &Silent) {
            image.layers();
            if let Ok(tree) = image.open_tree(false) {
                trees += 1;
                walk(&tree, 100);
            }
        }
        slowest = slowest.max(begin.elapsed());
        for (at, len) in damaged {
            file.write_all_at(&pristine[at as usize..at as usize + len], at).unwrap();
        }
    }
    assert!(trees > 300, "only {trees} of the damaged guests were read at all");
    assert!(slowest < Duration::from_secs(3), "{slowest:?}");
    assert!(std::fs::read(&path).unwrap() == pristine);
}
