//! Free space: the blocks that dumpe2fs lists as free and no other, and nothing is lost when they are overwritten.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod support;

use std::collections::BTreeMap;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use coldfit_ext4::Ext4;
use support::*;
use vfs::{FileKind, Filesystem, NewNode, VfsError, WritableFilesystem};

fn free_of(image: &Path) -> Result<Vec<Range<u64>>, VfsError> {
    Ok(Ext4::open(reader(image))?.free_ranges()?.ranges().to_vec())
}

/// The `Free blocks:` lines of dumpe2fs, in bytes, joined.
fn free_by_dumpe2fs(image: &Path) -> Vec<Range<u64>> {
    let listing = run("dumpe2fs", &[image.to_str().unwrap()]);
    let number = |key: &str| -> u64 {
        let line = listing.lines().find(|line| line.starts_with(key));
        line.map_or(1, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    };
    let (block, blocks) = (number("Block size:"), number("Block count:"));
    let ratio = listing
        .lines()
        .find_map(|line| line.strip_prefix("Cluster size:"))
        .map_or(1, |size| size.trim().parse::<u64>().unwrap() / block);
    let mut free: Vec<Range<u64>> = Vec::new();
    for line in listing.lines().filter_map(|line| line.strip_prefix("  Free blocks: ")) {
        for run in line.split(", ").filter(|run| !run.is_empty()) {
            let (first, last) = run.split_once('-').unwrap_or((run, run));
            let first: u64 = first.parse().unwrap();
            // With bigalloc the last number is the first block of the last cluster.
            let last = last.parse::<u64>().unwrap();
            let end = (last / ratio * ratio + ratio).max(last + 1).min(blocks);
            match free.last_mut() {
                Some(before) if before.end == first * block => before.end = end * block,
                _ => free.push(first * block..end * block),
            }
        }
    }
    free
}

/// Path to kind and content of everything in the filesystem.
fn walk(fs: &dyn Filesystem) -> BTreeMap<Vec<u8>, (FileKind, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut open = vec![(Vec::new(), fs.root())];
    while let Some((path, dir)) = open.pop() {
        for entry in fs.list(dir).unwrap() {
            let path = [&path[..], b"/", &entry.name].concat();
            let stat = fs.stat(entry.node).unwrap();
            let content = match stat.kind {
                FileKind::Directory => {
                    open.push((path.clone(), entry.node));
                    Vec::new()
                }
                FileKind::Symlink => fs.read_link(entry.node).unwrap(),
                FileKind::Regular if stat.len < 64 << 20 => {
                    let mut content = vec![0; stat.len as usize];
                    assert_eq!(fs.read_at(entry.node, 0, &mut content).unwrap(), content.len());
                    content
                }
                _ => Vec::new(),
            };
            found.insert(path, (stat.kind, content));
        }
    }
    found
}

fn overwrite(image: &Path, ranges: &[Range<u64>]) {
    let file = std::fs::File::options().write(true).open(image).unwrap();
    for range in ranges {
        let mut at = range.start;
        while at < range.end {
            let step = (range.end - at).min(1 << 20);
            file.write_all_at(&vec![0xa5; step as usize], at).unwrap();
            at += step;
        }
    }
}

#[test]
fn the_free_blocks_are_those_of_dumpe2fs_and_hold_nothing_for_every_kind_of_filesystem() {
    let dir = scratch();
    let image = dir.path().join("image");
    for row in MATRIX {
        mkfs(&image, row.mib, row.args);
        if !row.args.contains("quota") {
            populate(&image);
            let content = image.with_extension("content");
            debugfs_write(&image, &format!("write {} gone\nrm gone\n", content.display()));
        }
        let before = walk(&Ext4::open(reader(&image)).unwrap());
        let free = free_of(&image).unwrap_or_else(|error| panic!("{}: {error}", row.args));
        assert!(!free.is_empty(), "{}", row.args);
        assert_eq!(free, free_by_dumpe2fs(&image), "{}", row.args);
        let told = Ext4::open(reader(&image)).unwrap().space().unwrap().free_bytes;
        let bytes: u64 = free.iter().map(|range| range.end - range.start).sum();
        assert!(bytes <= told, "{}: {bytes} of {told} bytes", row.args);

        overwrite(&image, &free);
        assert_e2fsck_clean(&image, row.args);
        assert!(walk(&Ext4::open(reader(&image)).unwrap()) == before, "{}: a file changed", row.args);
    }
}

#[test]
fn what_waits_for_flush_counts() {
    let dir = scratch();
    let image = dir.path().join("image");
    mkfs(&image, 64, "-t ext4");
    let mut fs = Ext4::open_writable(device(&image)).unwrap();
    let before = fs.free_ranges().unwrap();
    let root = fs.root();
    let node = fs.create(root, b"new", NewNode::Regular(&[7; 3 << 20]), 0o644, 0, 0).unwrap();
    assert_eq!(before.bytes() - fs.free_ranges().unwrap().bytes(), 3 << 20);
    fs.replace_content(node, b"").unwrap();
    assert_eq!(fs.free_ranges().unwrap(), before);
}

#[test]
fn a_bitmap_that_cannot_be_believed_is_refused() {
    let dir = scratch();
    let image = dir.path().join("image");
    mkfs(&image, 64, "-t ext4 -b 4096 -E lazy_itable_init=0");
    let clean = std::fs::read(&image).unwrap();
    let listing = run("dumpe2fs", &[image.to_str().unwrap()]);
    let bitmap = listing.split("Block bitmap at ").nth(1).unwrap();
    let bitmap: u64 = bitmap.split([' ', ',']).next().unwrap().parse().unwrap();
    let file = std::fs::File::options().write(true).open(&image).unwrap();
    // One more block as free, its checksum left as it was.
    file.write_all_at(&[clean[bitmap as usize * 4096] & 0xfe], bitmap * 4096).unwrap();
    let error = report::Diagnose::code(&free_of(&image).unwrap_err());
    assert_eq!(error, "ext4.bitmap.checksum");

    // Without checksums it is the count, or the metadata in it.
    mkfs(&image, 64, "-t ext2 -b 4096 -O ^metadata_csum,^uninit_bg");
    let listing = run("dumpe2fs", &[image.to_str().unwrap()]);
    let bitmap = listing.split("Block bitmap at ").nth(1).unwrap();
    let bitmap: u64 = bitmap.split([' ', ',']).next().unwrap().parse().unwrap();
    let file = std::fs::File::options().write(true).open(&image).unwrap();
    file.write_all_at(&[0xfe], bitmap * 4096).unwrap();
    assert_eq!(report::Diagnose::code(&free_of(&image).unwrap_err()), "ext4.bitmap.metadata");
    file.write_all_at(&[0xff], bitmap * 4096).unwrap();
    file.write_all_at(&[0xff], bitmap * 4096 + 2000).unwrap();
    assert_eq!(report::Diagnose::code(&free_of(&image).unwrap_err()), "ext4.bitmap.count");
}
