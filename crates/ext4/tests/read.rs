//! Reading images that mke2fs and e2fsck made, compared with what went in and with debugfs.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests fail the test and say what they see"
)]

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use coldfit_ext4::Ext4;
use testkit::e2fs;
use vfs::{FileKind, Filesystem, NodeId};

/// Length of the files in the made tree: empty, inline, one block, several blocks, not aligned.
const LENGTHS: [usize; 6] = [0, 20, 150, 4096, 70_000, 1_000_001];

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 31 + n / 251) as u8).collect()
}

/// A tree on the host: files of all lengths, symlinks, a big directory, deep directories.
fn host_tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for len in LENGTHS {
        std::fs::write(dir.path().join(format!("file-{len}")), content(len)).unwrap();
    }
    std::os::unix::fs::symlink("short", dir.path().join("fast")).unwrap();
    std::os::unix::fs::symlink("long/".repeat(40), dir.path().join("slow")).unwrap();
    std::fs::create_dir_all(dir.path().join("a/b/c")).unwrap();
    std::fs::write(dir.path().join("a/b/c/leaf"), b"leaf").unwrap();
    std::fs::create_dir(dir.path().join("many")).unwrap();
    for index in 0..1200 {
        std::fs::write(dir.path().join(format!("many/name with number {index:05}")), b"").unwrap();
    }
    std::fs::write(dir.path().join("many/\u{fc}ml\u{e4}ut"), b"u").unwrap();
    dir
}

fn compare(fs: &Ext4, node: NodeId, host: &Path) {
    let listed = fs.list(node).unwrap();
    let mut names: Vec<Vec<u8>> = listed.iter().map(|entry| entry.name.clone()).collect();
    names.sort();
    let mut expected: Vec<Vec<u8>> = std::fs::read_dir(host)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().as_bytes().to_vec())
        .collect();
    expected.sort();
    names.retain(|name| name != b"lost+found");
    assert_eq!(names, expected);
    for name in names {
        let path = host.join(std::ffi::OsStr::from_bytes(&name));
        let found = fs.lookup(node, &name).unwrap().expect("listed names are found");
        let stat = fs.stat(found).unwrap();
        let meta = path.symlink_metadata().unwrap();
        if meta.is_dir() {
            assert_eq!(stat.kind, FileKind::Directory);
            assert_eq!(fs.lookup(found, b"..").unwrap(), Some(node));
            compare(fs, found, &path);
        } else if meta.is_symlink() {
            assert_eq!(stat.kind, FileKind::Symlink);
            let target = std::fs::read_link(&path).unwrap();
            assert_eq!(fs.read_link(found).unwrap(), target.as_os_str().as_bytes());
        } else {
            assert_eq!((stat.kind, stat.len), (FileKind::Regular, meta.len()));
            let mut got = vec![0xaa; meta.len() as usize + 7];
            let len = fs.read_at(found, 0, &mut got).unwrap();
            got.truncate(len);
            assert!(got == std::fs::read(&path).unwrap(), "{}", path.display());
            if len > 5000 {
                let mut part = [0; 1500];
                assert_eq!(fs.read_at(found, 4000, &mut part).unwrap(), 1500);
                assert!(part[..] == got[4000..5500]);
            }
        }
    }
    assert_eq!(fs.lookup(node, b"no such name").unwrap(), None);
}

#[test]
fn reads_what_mke2fs_put_in() {
    let tree = host_tree();
    let rows: [&[&str]; 14] = [
        &["-t", "ext2", "-b", "1024", "-I", "128"],
        &["-t", "ext3", "-I", "128", "-b", "4096"],
        &["-t", "ext2", "-r", "0"],
        &["-t", "ext4", "-O", "^metadata_csum,^64bit,uninit_bg"],
        &["-t", "ext4", "-O", "^metadata_csum,64bit"],
        &["-t", "ext4", "-b", "4096"],
        &["-t", "ext4", "-b", "1024"],
        &["-t", "ext4", "-b", "2048", "-I", "1024"],
        &["-t", "ext4", "-b", "65536"],
        &["-t", "ext4", "-O", "metadata_csum_seed,orphan_file"],
        &["-t", "ext4", "-b", "1024", "-O", "meta_bg,^resize_inode"],
        &["-t", "ext4", "-O", "bigalloc", "-C", "65536"],
        &["-t", "ext4", "-O", "inline_data,ea_inode,large_dir"],
        &["-t", "ext4", "-O", "^filetype,^extent,^64bit"],
    ];
    for row in rows {
        let mut args = row.to_vec();
        args.extend(["-N", "4000", "-d", tree.path().to_str().unwrap()]);
        let image = e2fs::mkfs(&args, 96 << 20).unwrap();
        for indexed in [false, true] {
            if indexed {
                // -D packs directories and builds htrees; exit 1 says that it changed something.
                let status = Command::new("e2fsck").args(["-fyD"]).arg(&image).output().unwrap().status;
                assert!(matches!(status.code(), Some(0 | 1)), "{row:?}");
            }
            eprintln!("{row:?} indexed {indexed}");
            let fs = Ext4::open(e2fs::device(&image).unwrap()).unwrap();
            compare(&fs, fs.root(), tree.path());
        }
    }
}

#[test]
fn attributes_and_acls_as_the_system_call_shows_them() {
    for row in [&["-t", "ext4"][..], &["-t", "ext2", "-I", "128"], &["-t", "ext4", "-O", "ea_inode"]] {
        let image = e2fs::mkfs(row, 64 << 20).unwrap();
        let big = tempfile::NamedTempFile::new().unwrap();
        let len = if row.contains(&"ea_inode") { 1024 } else { 700 };
        std::fs::write(big.path(), content(len)).unwrap();
        let commands = format!(
            "write /dev/null f\nea_set f security.selinux system_u:object_r:etc_t:s0\nea_set f user.empty \"\"\nea_set -f {} f user.big\n",
            big.path().display()
        );
        e2fs::debugfs_write(&image, &commands).unwrap();
        let fs = Ext4::open(e2fs::device(&image).unwrap()).unwrap();
        let node = fs.lookup(fs.root(), b"f").unwrap().unwrap();
        let xattrs = fs.xattrs(node).unwrap();
        let get =
            |name: &str| xattrs.iter().find(|xattr| xattr.name == name.as_bytes()).map(|x| x.value.clone());
        assert_eq!(get("security.selinux").unwrap(), b"system_u:object_r:etc_t:s0");
        assert_eq!(get("user.big").unwrap(), content(len), "{row:?}");
    }
}
