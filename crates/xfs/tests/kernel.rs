//! What the kernel wrote, read by us; what we wrote beside shared, fragmented and many, judged by the tools and
//! read by the kernel.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod support;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use coldfit_xfs::{Xfs, check};
use support::memory::Memory;
use support::*;
use vfs::{Filesystem, NewNode, NodeId, Timestamp, VfsError, WritableFilesystem};

fn open(image: &Path) -> Xfs {
    let mut fs = Xfs::open_writable(device(image)).unwrap();
    fs.set_clock(Timestamp { seconds: 1_700_000_000, nanoseconds: 1 });
    fs
}

#[track_caller]
fn assert_sound(image: &Path, context: &str) {
    assert_repair_clean(image, context);
    let report = check(reader(image)).unwrap();
    assert!(report.is_clean(), "{context}: {:?}", report.problems);
}

/// A bit of everything by the kernel: files of /usr, sparse, preallocated, fragmented and shared ones, values
/// of every length, large directories with holes, links, devices.
fn populate(at: &Path) {
    let point = at.to_str().unwrap();
    run("cp", &["-a", "/usr/share/doc/bash", "/usr/share/perl5", point]);
    let fragmented = fs::File::create(at.join("fragmented")).unwrap();
    for index in (0..4000u64).step_by(2) {
        fragmented.write_all_at(&[index as u8; 4096], index * 4096).unwrap();
    }
    fragmented.sync_all().unwrap();
    fs::File::create(at.join("sparse")).unwrap().write_all_at(b"end", 50_000_000).unwrap();
    run("fallocate", &["-l", "1000000", &format!("{point}/preallocated")]);
    for (index, len) in [1usize, 200, 1000, 3000, 5000, 60_000].into_iter().enumerate() {
        let value = format!("0x{}", "5a".repeat(len));
        run("setfattr", &["-n", &format!("trusted.v{index}"), "-v", &value, &format!("{point}/fragmented")]);
    }
    let script =
        "import os, sys\nfor i in range(300): os.setxattr(sys.argv[1], 'user.n%d' % i, b'some value')";
    run("python3", &["-c", script, &format!("{point}/sparse")]);
    run("setfacl", &["-m", "u:1000:rwx,g:2000:r", &format!("{point}/sparse")]);
    let many = at.join("many");
    fs::create_dir(&many).unwrap();
    for index in 0..4_000 {
        fs::write(many.join(format!("a name of some length {index:06}")), b"").unwrap();
    }
    for index in (0..4_000).filter(|index| index % 3 != 0) {
        fs::remove_file(many.join(format!("a name of some length {index:06}"))).unwrap();
    }
    fs::hard_link(at.join("sparse"), many.join("hard")).unwrap();
    std::os::unix::fs::symlink("t".repeat(900), at.join("long-link")).unwrap();
    std::os::unix::fs::symlink("short", at.join("short-link")).unwrap();
    run("mknod", &[&format!("{point}/device"), "b", "259", "70000"]);
    run("mkfifo", &[&format!("{point}/fifo")]);
}

#[test]
fn what_the_kernel_wrote_is_read_and_checked_as_it_is() {
    if !may_mount() {
        return;
    }
    let dir = scratch();
    let image = dir.path().join("image");
    for row in MATRIX.iter().filter(|row| row.refused.is_none()).step_by(10) {
        mkfs(&image, row);
        let mount = KernelMount::new(&image, "defaults");
        populate(&mount.at);
        drop(mount);
        assert_sound(&image, row.args);
        let memory = Memory::import(&Xfs::open(reader(&image)).unwrap());
        let mount = KernelMount::new(&image, "ro,norecovery");
        if let Some(difference) = memory.difference_to_mount(&mount.at) {
            panic!("{}: {difference}", row.args);
        }
    }
}

#[test]
fn shared_blocks_keep_their_content_for_the_other_owner() {
    if !may_mount() {
        return;
    }
    let dir = scratch();
    let image = dir.path().join("image");
    mkfs(&image, &MATRIX[0]);
    let content = Random::new(5).bytes(400_000);
    let mount = KernelMount::new(&image, "defaults");
    fs::write(mount.at.join("one"), &content).unwrap();
    for name in ["two", "three", "four", "five"] {
        run(
            "cp",
            &[
                "--reflink=always",
                mount.at.join("one").to_str().unwrap(),
                mount.at.join(name).to_str().unwrap(),
            ],
        );
    }
    drop(mount);
    let mut fs = open(&image);
    let find = |fs: &Xfs, name: &[u8]| fs.lookup(fs.root(), name).unwrap().unwrap();
    let (two, three) = (find(&fs, b"two"), find(&fs, b"three"));
    fs.write_at(two, 100_001, &[1; 70_000]).unwrap();
    fs.truncate(three, 123_457).unwrap();
    let root = fs.root();
    fs.unlink(root, b"four").unwrap();
    fs.replace_content(find(&fs, b"five"), b"small").unwrap();
    fs.write_at(find(&fs, b"five"), 10_000, b"far").unwrap();
    fs.flush().unwrap();
    drop(fs);
    assert_sound(&image, "shared");
    let mount = KernelMount::new(&image, "defaults");
    assert!(fs::read(mount.at.join("one")).unwrap() == content);
    let mut changed = content.clone();
    changed[100_001..170_001].fill(1);
    assert!(fs::read(mount.at.join("two")).unwrap() == changed);
    assert!(fs::read(mount.at.join("three")).unwrap() == content[..123_457]);
    let mut five = b"small".to_vec();
    five.resize(10_000, 0);
    five.extend_from_slice(b"far");
    assert!(fs::read(mount.at.join("five")).unwrap() == five);
}

#[test]
fn thousands_of_inodes_and_names_split_and_join_trees() {
    let dir = scratch();
    let image = dir.path().join("image");
    for row in [&MATRIX[0], &MATRIX[1], &MATRIX[3]] {
        mkfs(&image, row);
        let mut fs = open(&image);
        let root = fs.root();
        let folder = fs.create(root, b"folder", NewNode::Directory, 0o755, 0, 0).unwrap();
        for index in 0..6000 {
            let name = format!("{index:05}-{}", "n".repeat(index % 60));
            fs.create(folder, name.as_bytes(), NewNode::Regular(b"x"), 0o644, 0, 0).unwrap();
        }
        fs.flush().unwrap();
        assert_sound(&image, row.args);
        for index in (0..6000).filter(|index| index % 7 != 0) {
            let name = format!("{index:05}-{}", "n".repeat(index % 60));
            fs.unlink(folder, name.as_bytes()).unwrap();
        }
        fs.flush().unwrap();
        assert_eq!(fs.list(folder).unwrap().len(), 6000usize.div_ceil(7));
        assert_sound(&image, row.args);
    }
}

#[test]
fn a_filesystem_filled_to_the_end_refuses_and_stays_sound() {
    let dir = scratch();
    let image = dir.path().join("image");
    for row in [&MATRIX[0], &MATRIX[3], &MATRIX[4]] {
        mkfs(&image, row);
        let mut fs = open(&image);
        let root = fs.root();
        let block = vec![7; 3_000_000];
        let mut names = 0;
        let refuse = |error: VfsError| assert!(matches!(error, VfsError::NoSpace { .. }), "{error}");
        for size in [3_000_000, 50_000, 4_000, 1] {
            loop {
                let name = format!("file{names}");
                match fs.create(root, name.as_bytes(), NewNode::Regular(&block[..size]), 0o644, 0, 0) {
                    Ok(_) => names += 1,
                    Err(error) => break refuse(error),
                }
                if size == 1 && names % 200 == 0 && fs.space().unwrap().available_bytes == 0 {
                    break;
                }
            }
        }
        fs.flush().unwrap();
        assert_sound(&image, row.args);
        // Every other file goes: only short runs are free, and inodes come in parts of chunks.
        for index in (0..names).step_by(2) {
            fs.unlink(root, format!("file{index}").as_bytes()).unwrap();
        }
        for index in 0..500 {
            let name = format!("again{index}");
            fs.create(root, name.as_bytes(), NewNode::Regular(&block[..9000]), 0o644, 0, 0).unwrap();
        }
        fs.flush().unwrap();
        assert_sound(&image, row.args);
        drop(fs);
        if may_mount() {
            drop(KernelMount::new(&image, "defaults"));
        }
    }
}

#[test]
fn a_fragmented_file_grows_a_tree_of_extents_and_loses_it() {
    let dir = scratch();
    let image = dir.path().join("image");
    for row in [&MATRIX[0], &MATRIX[1]] {
        mkfs(&image, row);
        let mut fs = open(&image);
        let root = fs.root();
        let node = fs.create(root, b"file", NewNode::Regular(b""), 0o644, 0, 0).unwrap();
        for index in 0..1500u64 {
            fs.write_at(node, index * 3 * 4096, &index.to_le_bytes()).unwrap();
            fs.set_xattr(NodeId(node.0), b"user.count", &index.to_le_bytes()).unwrap();
        }
        fs.flush().unwrap();
        assert_sound(&image, row.args);
        let mut read = [0; 8];
        for index in 0..1500u64 {
            fs.read_at(node, index * 3 * 4096, &mut read).unwrap();
            assert_eq!(u64::from_le_bytes(read), index);
        }
        fs.truncate(node, 7 * 3 * 4096).unwrap();
        fs.flush().unwrap();
        assert_sound(&image, row.args);
        fs.unlink(root, b"file").unwrap();
        fs.flush().unwrap();
        assert_sound(&image, row.args);
    }
}

#[test]
fn free_ranges_can_be_lost_and_a_label_is_in_every_group() {
    let dir = scratch();
    let image = dir.path().join("image");
    mkfs(&image, &MATRIX[0]);
    let mut fs = open(&image);
    let root = fs.root();
    for index in 0..40 {
        let name = format!("file{index}");
        fs.create(root, name.as_bytes(), NewNode::Regular(&[3; 30_000]), 0o644, 0, 0).unwrap();
    }
    fs.unlink(root, b"file7").unwrap();
    fs.set_label("newlabel").unwrap();
    fs.flush().unwrap();
    let memory = Memory::import(&fs);
    let file = fs::File::options().write(true).open(&image).unwrap();
    let free = fs.free_ranges().unwrap();
    assert!(free.bytes() > 100 << 20);
    for range in free.ranges() {
        for at in range.clone().step_by(4096) {
            file.write_all_at(&[0xee; 64], at).unwrap();
        }
    }
    drop(fs);
    assert_sound(&image, "free ranges overwritten");
    let fs = Xfs::open(reader(&image)).unwrap();
    assert_eq!(memory.difference(&fs), None);
    assert_eq!(fs.info().label.as_deref(), Some("newlabel"));
    assert!(xfs_db(&image, &["sb 1", "p fname"]).contains("newlabel"));
}
