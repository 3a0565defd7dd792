//! The kernel as the other party: it makes what is edited here, and goes on with what was edited.
//!
//! Needs root for loop mounts; without it the test says so and only e2fsck judges.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests fail the test and say what they see"
)]

use std::path::Path;

use coldfit_ext4::Ext4;
use testkit::e2fs;
use vfs::{Filesystem, NewNode, NodeId, Timestamp, WritableFilesystem};

const MIB: u64 = 1 << 20;

fn open(image: &Path) -> Ext4 {
    let mut fs = Ext4::open_writable(e2fs::device(image).unwrap()).unwrap();
    fs.set_clock(Timestamp { seconds: 1_700_000_100, nanoseconds: 0 });
    fs
}

fn clean(image: &Path, label: &str) {
    e2fs::e2fsck_clean(image).unwrap_or_else(|error| panic!("{label}: {error}"));
}

fn mounted(image: &Path, work: impl FnOnce(&Path)) {
    if e2fs::with_kernel_mount(image, work).unwrap().is_none() {
        eprintln!("not root: the kernel was not asked, e2fsck alone judges");
    }
}

fn dir(fs: &mut Ext4, name: &[u8]) -> NodeId {
    match fs.lookup(fs.root(), name).unwrap() {
        Some(node) => node,
        None => fs.create(fs.root(), name, NewNode::Directory, 0o755, 0, 0).unwrap(),
    }
}

#[test]
fn the_kernel_and_this_driver_take_turns() {
    for row in [
        &["-t", "ext4", "-b", "1024"][..],
        &["-t", "ext4", "-O", "inline_data", "-I", "1024", "-b", "1024"],
        &["-t", "ext4", "-b", "4096", "-O", "metadata_csum_seed,orphan_file"],
        &["-t", "ext4", "-b", "1024", "-O", "^metadata_csum,uninit_bg,^64bit"],
        &["-t", "ext4", "-b", "1024", "-O", "large_dir"],
        &["-t", "ext3", "-I", "128", "-b", "1024"],
        &["-t", "ext2", "-b", "1024"],
    ] {
        let label = row.join(" ");
        let image = e2fs::mkfs(row, 64 * MIB).unwrap();
        mounted(&image, |at| {
            for (name, count) in [("few", 3), ("many", 30), ("indexed", 2000)] {
                std::fs::create_dir(at.join(name)).unwrap();
                for n in 0..count {
                    std::fs::write(at.join(name).join(format!("kernel {n}")), format!("{n}")).unwrap();
                }
            }
            std::fs::write(at.join("small"), b"small").unwrap();
            std::fs::remove_file(at.join("many/kernel 7")).unwrap();
        });
        clean(&image, &label);
        let mut fs = open(&image);
        for name in ["few", "many", "indexed"] {
            let node = dir(&mut fs, name.as_bytes());
            for n in 0..400 {
                let body = format!("own {n}");
                fs.create(
                    node,
                    format!("own \u{fc} {n}").as_bytes(),
                    NewNode::Regular(body.as_bytes()),
                    0o644,
                    0,
                    0,
                )
                .unwrap();
            }
            for entry in fs.list(node).unwrap().into_iter().step_by(3) {
                fs.unlink(node, &entry.name).unwrap();
            }
        }
        let kept = dir(&mut fs, b"indexed");
        let names = fs.list(kept).unwrap().len();
        fs.flush().unwrap();
        clean(&image, &label);
        drop(fs);
        mounted(&image, |at| {
            assert_eq!(std::fs::read_dir(at.join("indexed")).unwrap().count(), names, "{label}");
            for n in 0..500 {
                std::fs::write(at.join("indexed").join(format!("again {n}")), b"again").unwrap();
                std::fs::write(at.join("many").join(format!("again {n}")), b"again").unwrap();
            }
            for entry in std::fs::read_dir(at.join("few")).unwrap() {
                let path = entry.unwrap().path();
                let text = std::fs::read_to_string(&path).unwrap();
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                assert!(name.ends_with(text.trim_start_matches("own ")), "{label}: {name} holds {text}");
                std::fs::remove_file(path).unwrap();
            }
            std::fs::remove_dir(at.join("few")).unwrap();
        });
        clean(&image, &label);
        let fs = open(&image);
        let root = fs.root();
        if fs.lookup(root, b"small").unwrap().is_some() {
            let indexed = fs.lookup(root, b"indexed").unwrap().unwrap();
            assert_eq!(fs.list(indexed).unwrap().len(), names + 500, "{label}");
            assert!(fs.lookup(indexed, b"again 499").unwrap().is_some());
        }
    }
}
