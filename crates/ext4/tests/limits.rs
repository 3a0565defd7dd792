//! No room, refused features, and bytes that must stay.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests fail the test and say what they see"
)]

use std::path::Path;
use std::sync::Arc;

use block::{MemoryDevice, Overlay, ReadAt};
use coldfit_ext4::{Ext4, probe};
use report::Diagnose;
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

#[test]
fn no_space_is_told_exactly_and_changes_nothing() {
    for row in [
        &["-t", "ext4", "-b", "1024", "-m", "0"][..],
        &["-t", "ext4", "-b", "4096", "-O", "^has_journal"],
        &["-t", "ext2", "-b", "1024"],
        &["-t", "ext4", "-b", "1024", "-O", "^metadata_csum,uninit_bg,^resize_inode"],
    ] {
        let label = row.join(" ");
        let image = e2fs::mkfs(row, 24 * MIB).unwrap();
        let mut fs = open(&image);
        let root = fs.root();
        fs.flush().unwrap();
        let before = std::fs::read(&image).unwrap();
        let free = fs.space().unwrap().free_bytes;
        let too_much = vec![1; free as usize + 1];
        match fs.create(root, b"big", NewNode::Regular(&too_much), 0o644, 0, 0) {
            Err(VfsError::NoSpace { needed_bytes, free_bytes, .. }) => {
                assert_eq!(free_bytes, free, "{label}");
                // Data, and less than a hundredth for the map.
                assert!(
                    needed_bytes > free && needed_bytes < free + free / 100 + 65536,
                    "{label}: {needed_bytes}"
                );
            }
            other => panic!("{label}: {other:?}"),
        }
        fs.flush().unwrap();
        assert!(std::fs::read(&image).unwrap() == before, "{label}: something was written");
        assert_eq!(fs.space().unwrap().free_bytes, free);

        // What was needed exactly does fit, down to the last block.
        let mut len = free as usize;
        let node = loop {
            match fs.create(root, b"big", NewNode::Regular(&vec![2; len]), 0o644, 0, 0) {
                Ok(node) => break node,
                Err(VfsError::NoSpace { needed_bytes, free_bytes, .. }) => {
                    len -= (needed_bytes - free_bytes) as usize
                }
                Err(other) => panic!("{label}: {other}"),
            }
        };
        // A shorter file needs less of a map: what that leaves is filled block by block.
        let block = u64::from(fs.info().block_size);
        assert!(fs.space().unwrap().free_bytes <= 2 * block, "{label}");
        while fs.space().unwrap().free_bytes > 0 {
            let name = format!("rest {}", fs.space().unwrap().free_bytes);
            fs.create(root, name.as_bytes(), NewNode::Regular(b"1"), 0o644, 0, 0).unwrap();
        }
        fs.flush().unwrap();
        clean(&image, &label);
        assert!(matches!(
            fs.create(root, b"d", NewNode::Directory, 0o755, 0, 0),
            Err(VfsError::NoSpace { .. })
        ));
        assert!(matches!(fs.write_at(node, len as u64, &[1; 5000]), Err(VfsError::NoSpace { .. })));
        fs.create(root, b"empty", NewNode::Regular(b""), 0o644, 0, 0).unwrap();
        fs.flush().unwrap();
        clean(&image, &label);
        for entry in fs.list(root).unwrap() {
            if entry.name != b"lost+found" {
                fs.unlink(root, &entry.name).unwrap();
            }
        }
        fs.flush().unwrap();
        clean(&image, &label);
        assert_eq!(fs.space().unwrap().free_bytes, free, "{label}");
    }
}

#[test]
fn no_inode_is_told_with_the_total() {
    let image = e2fs::mkfs(&["-t", "ext4", "-N", "64", "-b", "1024"], 16 * MIB).unwrap();
    let mut fs = open(&image);
    let root = fs.root();
    let total = fs.space().unwrap().inodes;
    for n in 0..total {
        match fs.create(root, format!("f{n}").as_bytes(), NewNode::Regular(b"1"), 0o644, 0, 0) {
            Ok(_) => {}
            Err(VfsError::NoInodes { inodes, .. }) => {
                assert_eq!((inodes, n), (total, total - 11));
                break;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(fs.space().unwrap().free_inodes, 0);
    fs.flush().unwrap();
    clean(&image, "full of inodes");
}

#[test]
fn a_fragmented_filesystem_makes_deep_extent_trees() {
    for row in
        [&["-t", "ext4", "-b", "1024", "-N", "20000"][..], &["-t", "ext3", "-b", "1024", "-N", "20000"]]
    {
        let label = row.join(" ");
        let image = e2fs::mkfs(row, 32 * MIB).unwrap();
        let mut fs = open(&image);
        let root = fs.root();
        let mut names: Vec<String> = Vec::new();
        // Fill with blocks of their own, then free every second.
        loop {
            let name = format!("{}", names.len());
            match fs.create(root, name.as_bytes(), NewNode::Regular(&[3; 1500]), 0o644, 0, 0) {
                Ok(_) => names.push(name),
                Err(VfsError::NoSpace { .. }) => break,
                Err(other) => panic!("{other}"),
            }
        }
        for name in names.iter().step_by(2) {
            fs.unlink(root, name.as_bytes()).unwrap();
        }
        let free = fs.space().unwrap().free_bytes;
        let body: Vec<u8> = (0..(free - free / 20) as usize).map(|n| (n / 7) as u8).collect();
        let node = fs.create(root, b"fragmented", NewNode::Regular(&body), 0o644, 0, 0).unwrap();
        fs.flush().unwrap();
        clean(&image, &label);
        assert!(e2fs::dump(&image, "/fragmented").unwrap() == body, "{label}");
        if row.contains(&"ext4") {
            let tree = e2fs::debugfs(&image, "extents /fragmented\n").unwrap();
            assert!(
                tree.lines().any(|line| line.trim_start().starts_with("2/ 2")),
                "{label}: depth 2 expected: {}",
                tree.lines().take(4).collect::<Vec<_>>().join("\n")
            );
        }
        fs.truncate(node, body.len() as u64 / 3).unwrap();
        fs.write_at(node, body.len() as u64 / 2, b"after a hole").unwrap();
        fs.flush().unwrap();
        clean(&image, &label);
        fs.truncate(node, 1500).unwrap();
        assert_eq!(fs.stat(node).unwrap().allocated, 2048, "{label}");
        fs.unlink(root, b"fragmented").unwrap();
        fs.flush().unwrap();
        clean(&image, &label);
    }
}

#[test]
fn appending_touches_the_end_of_the_file_and_its_metadata_only() {
    for row in
        [&["-t", "ext4", "-b", "4096"][..], &["-t", "ext2", "-b", "1024"], &["-t", "ext4", "-b", "1024"]]
    {
        let label = row.join(" ");
        let image = e2fs::mkfs(row, 128 * MIB).unwrap();
        let mut fs = open(&image);
        let old: Vec<u8> = (0..30_000_123usize).map(|n| (n / 3) as u8).collect();
        fs.create(fs.root(), b"initrd.img", NewNode::Regular(&old), 0o644, 0, 0).unwrap();
        fs.flush().unwrap();
        drop(fs);

        let base = e2fs::device(&image).unwrap();
        let overlay = Arc::new(Overlay::new(base, 1 << 30, std::env::temp_dir()));
        let mut fs = Ext4::open_writable(overlay.clone()).unwrap();
        fs.set_clock(Timestamp { seconds: 1_700_000_200, nanoseconds: 0 });
        let node = fs.lookup(fs.root(), b"initrd.img").unwrap().unwrap();
        let tail = vec![0xabu8; 2_000_001];
        fs.write_at(node, old.len() as u64, &tail).unwrap();
        fs.flush().unwrap();
        let changes = overlay.seal().unwrap();
        // The tail, and little beside: inode, bitmap, descriptor, superblock, map.
        let changed = changes.changed_bytes();
        assert!(changed < tail.len() as u64 + 64 * 1024, "{label}: {changed} bytes changed");
        let mut back = vec![0; old.len() + tail.len()];
        assert_eq!(fs.read_at(node, 0, &mut back).unwrap(), back.len());
        assert!(back[..old.len()] == old && back[old.len()..] == tail, "{label}");
        let mut changed_image = vec![0; changes.disk().len() as usize];
        changes.disk().read_exact_at(&mut changed_image, 0).unwrap();
        std::fs::write(&image, &changed_image).unwrap();
        clean(&image, &label);
    }
}

#[test]
fn an_edit_that_changes_nothing_writes_nothing() {
    let image = e2fs::mkfs(&["-t", "ext4"], 64 * MIB).unwrap();
    let mut fs = open(&image);
    let root = fs.root();
    let node = fs.create(root, b"f", NewNode::Regular(&[5; 9000]), 0o644, 7, 8).unwrap();
    fs.set_xattr(node, b"user.a", b"1").unwrap();
    fs.flush().unwrap();
    drop(fs);
    let overlay = Arc::new(Overlay::new(e2fs::device(&image).unwrap(), 1 << 30, std::env::temp_dir()));
    let mut fs = Ext4::open_writable(overlay.clone()).unwrap();
    fs.set_clock(Timestamp { seconds: 1_800_000_000, nanoseconds: 0 });
    fs.replace_content(node, &[5; 9000]).unwrap();
    fs.write_at(node, 100, &[5; 100]).unwrap();
    fs.truncate(node, 9000).unwrap();
    fs.set_xattr(node, b"user.a", b"1").unwrap();
    let change = vfs::MetadataChange { mode: Some(0o644), uid: Some(7), gid: Some(8), ..Default::default() };
    fs.set_metadata(node, change).unwrap();
    fs.set_immutable(node, false).unwrap();
    fs.flush().unwrap();
    assert!(overlay.seal().unwrap().is_empty());
}

#[test]
fn features_that_are_not_written_are_refused_by_name() {
    for (options, name, readable) in [
        ("bigalloc", "bigalloc", true),
        ("meta_bg,^resize_inode", "meta_bg", true),
        ("quota", "quota", true),
        ("quota,project", "project", true),
        ("ea_inode", "ea_inode", true),
        ("verity", "verity", true),
        ("encrypt", "encrypt", true),
        ("casefold", "casefold", true),
    ] {
        let image = e2fs::mkfs(&["-t", "ext4", "-O", options], 64 * MIB).unwrap();
        let before = std::fs::read(&image).unwrap();
        let error = Ext4::open_writable(e2fs::device(&image).unwrap()).err().unwrap();
        assert_eq!(error.code(), "ext4.feature.unsupported", "{error}");
        assert!(error.to_string().contains(name), "{error}");
        assert_eq!(Ext4::open(e2fs::device(&image).unwrap()).is_ok(), readable, "{name}");
        assert!(std::fs::read(&image).unwrap() == before);
    }
    // Bits that no release knows, and those that only set_super_value can set.
    for (field, bit, name) in [
        ("feature_incompat", "0x800000", "FEATURE_I23"),
        ("feature_ro_compat", "0x4000", "shared_blocks"),
        ("feature_ro_compat", "0x1000", "read-only"),
        ("feature_ro_compat", "0x80", "snapshot"),
        ("feature_compat", "0x8000000", "FEATURE_C27"),
    ] {
        let image = e2fs::mkfs(&["-t", "ext2"], 16 * MIB).unwrap();
        e2fs::debugfs_write(&image, &format!("ssv {field} {bit}\n")).unwrap();
        let error = Ext4::open_writable(e2fs::device(&image).unwrap()).err().unwrap();
        assert!(error.code() == "ext4.feature.unsupported" && error.to_string().contains(name), "{error}");
    }
    let image = e2fs::mkfs(&["-t", "ext4"], 64 * MIB).unwrap();
    e2fs::debugfs_write(&image, "feature needs_recovery\n").unwrap();
    let error = Ext4::open(e2fs::device(&image).unwrap()).err().unwrap();
    assert_eq!(error.code(), "ext4.journal.needs-recovery");
}

#[test]
fn probe_tells_not_mine_from_broken() {
    assert_eq!(probe(&MemoryDevice::new(vec![0; 100])).unwrap(), None);
    assert_eq!(probe(&MemoryDevice::new(vec![0xff; 100_000])).unwrap(), None);
    let uuid = "0f7c0a94-1111-4222-8333-abcdefabcdef";
    for kind in ["ext2", "ext3", "ext4"] {
        let image = e2fs::mkfs(&["-t", kind, "-U", uuid, "-L", "a label"], 16 * MIB).unwrap();
        let found = probe(&*e2fs::device(&image).unwrap()).unwrap().unwrap();
        assert_eq!(
            (found.kind, found.uuid.as_deref(), found.label.as_deref()),
            (kind, Some(uuid), Some("a label"))
        );
        let mut raw = std::fs::read(&image).unwrap();
        raw[1024 + 0x18] = 99;
        assert_eq!(probe(&MemoryDevice::new(raw)).unwrap_err().class(), report::Class::Damaged);
    }
}

#[test]
fn uninitialised_tables_are_zeroed_as_they_come_into_use() {
    let row = ["-t", "ext4", "-b", "1024", "-E", "lazy_itable_init=1,nodiscard", "-N", "20000"];
    let image = e2fs::mkfs(&row, 64 * MIB).unwrap();
    // Fill what mke2fs left untouched with rubbish: all inode tables but the used slots.
    let text = testkit::tool::run("dumpe2fs", [image.as_os_str()]).unwrap();
    let device = e2fs::device(&image).unwrap();
    let mut spoiled = 0;
    for group in text.split("\nGroup ").filter(|group| group.contains("Inode table at ")) {
        let table =
            group.split("Inode table at ").nth(1).and_then(|rest| rest.split(['-', ' ']).next()).unwrap();
        let table: u64 = table.parse().unwrap();
        if group.contains("INODE_UNINIT") && !group.contains("ITABLE_ZEROED") {
            block::WriteAt::write_all_at(&device, &[0xa5; 64 * 1024], table * 1024).unwrap();
            spoiled += 1;
        }
    }
    assert!(spoiled > 3, "{text}");
    let mut fs = open(&image);
    let root = fs.root();
    let mut dir = root;
    for n in 0..6000 {
        if n % 500 == 0 {
            dir = fs.create(root, format!("d{n}").as_bytes(), NewNode::Directory, 0o755, 0, 0).unwrap();
        }
        fs.create(dir, format!("{n}").as_bytes(), NewNode::Regular(b""), 0o644, 0, 0).unwrap();
    }
    fs.flush().unwrap();
    clean(&image, "lazy tables");
}
