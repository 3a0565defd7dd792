//! Extended attributes, ACLs, mode, owner, times and flags, judged by e2fsck and debugfs.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests fail the test and say what they see"
)]

use std::path::Path;

use coldfit_ext4::Ext4;
use testkit::e2fs;
use vfs::{Filesystem, MetadataChange, NewNode, NodeId, Timestamp, VfsError, WritableFilesystem};

const NOW: Timestamp = Timestamp { seconds: 1_700_000_100, nanoseconds: 5 };
const MIB: u64 = 1 << 20;

const ROWS: &[&[&str]] = &[
    &["-t", "ext2", "-b", "1024", "-I", "128"],
    &["-t", "ext4", "-b", "1024"],
    &["-t", "ext4", "-b", "4096", "-O", "^metadata_csum,uninit_bg"],
    &["-t", "ext4", "-b", "4096", "-I", "1024"],
    &["-t", "ext4", "-O", "inline_data"],
];

fn open(image: &Path) -> Ext4 {
    let mut fs = Ext4::open_writable(e2fs::device(image).unwrap()).unwrap();
    fs.set_clock(NOW);
    fs
}

fn clean(image: &Path, label: &str) {
    e2fs::e2fsck_clean(image).unwrap_or_else(|error| panic!("{label}: {error}"));
}

fn value_of(fs: &Ext4, node: NodeId, name: &str) -> Option<Vec<u8>> {
    let all = fs.xattrs(node).unwrap();
    all.into_iter().find(|xattr| xattr.name == name.as_bytes()).map(|xattr| xattr.value)
}

#[test]
fn attributes_are_set_moved_and_removed() {
    for row in ROWS {
        let label = row.join(" ");
        let image = e2fs::mkfs(row, 64 * MIB).unwrap();
        let mut fs = open(&image);
        let node = fs.create(fs.root(), b"f", NewNode::Regular(b"content"), 0o600, 0, 0).unwrap();
        let selinux = b"system_u:object_r:boot_t:s0\0";
        let capability = [1u8, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        fs.set_xattr(node, b"security.selinux", selinux).unwrap();
        fs.set_xattr(node, b"security.capability", &capability).unwrap();
        fs.set_xattr(node, b"user.z", b"").unwrap();
        for n in 0..6usize {
            fs.set_xattr(
                node,
                format!("user.{}", "n".repeat(n + 1)).as_bytes(),
                &vec![n as u8 + 1; 20 * n + 1],
            )
            .unwrap();
        }
        fs.set_xattr(node, b"trusted.t", &[7; 90]).unwrap();
        fs.flush().unwrap();
        clean(&image, &label);
        let shown = e2fs::debugfs(&image, "ea_list /f\nea_get -V /f security.selinux\n").unwrap();
        assert!(shown.contains("security.capability (20)"), "{label}: {shown}");
        assert!(shown.contains("system_u:object_r:boot_t:s0"), "{label}: {shown}");

        let mut fs = open(&image);
        assert_eq!(value_of(&fs, node, "security.selinux").unwrap(), selinux);
        assert_eq!(value_of(&fs, node, "user.nnn").unwrap(), [3; 41]);
        assert_eq!(value_of(&fs, node, "user.z").unwrap(), b"");
        let before = fs.stat(node).unwrap();
        // Longer than the inode has room for, then shorter again, then gone.
        fs.set_xattr(node, b"user.n", &[9; 250]).unwrap();
        fs.set_xattr(node, b"user.nn", b"").unwrap();
        fs.flush().unwrap();
        clean(&image, &label);
        assert_eq!(value_of(&fs, node, "user.n").unwrap(), [9; 250]);
        let too_long = vec![1; 5000];
        assert!(
            matches!(fs.set_xattr(node, b"user.huge", &too_long), Err(VfsError::Limit { .. })),
            "{label}"
        );
        assert!(matches!(fs.remove_xattr(node, b"user.none"), Err(VfsError::NotFound { .. })));
        assert!(matches!(fs.set_xattr(node, b"nothing.x", b""), Err(VfsError::BadName { .. })));
        for xattr in fs.xattrs(node).unwrap() {
            fs.remove_xattr(node, &xattr.name).unwrap();
        }
        assert!(fs.xattrs(node).unwrap().is_empty());
        let after = fs.stat(node).unwrap();
        assert!(after.allocated <= before.allocated, "{label}: the attribute block is given back");
        fs.flush().unwrap();
        clean(&image, &label);
        assert_eq!(e2fs::dump(&image, "/f").unwrap(), b"content");
    }
}

/// An access or default ACL as setxattr takes it: user::7, user:1000:perm, group::5, mask::perm, other::0.
fn acl(named: u16) -> Vec<u8> {
    let mut value = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in
        [(1u16, 7u16, u32::MAX), (2, named, 1000), (4, 5, u32::MAX), (0x10, 7, u32::MAX), (0x20, 0, u32::MAX)]
    {
        value.extend(tag.to_le_bytes());
        value.extend(permissions.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    value
}

#[test]
fn acls_follow_chmod_and_are_inherited() {
    for row in ROWS {
        let label = row.join(" ");
        let image = e2fs::mkfs(row, 64 * MIB).unwrap();
        let mut fs = open(&image);
        let root = fs.root();
        let dir = fs.create(root, b"d", NewNode::Directory, 0o755, 0, 0).unwrap();
        fs.set_xattr(dir, b"system.posix_acl_default", &acl(6)).unwrap();
        let file = fs.create(dir, b"f", NewNode::Regular(b""), 0o666, 0, 0).unwrap();
        let sub = fs.create(dir, b"s", NewNode::Directory, 0o777, 0, 0).unwrap();
        assert_eq!(value_of(&fs, sub, "system.posix_acl_default").unwrap(), acl(6));
        // The mask takes the group bits of the mode; user and other what default and mode share.
        assert_eq!(fs.stat(file).unwrap().mode, 0o660);
        let access = value_of(&fs, file, "system.posix_acl_access").unwrap();
        assert_eq!(access[4 + 3 * 8 + 2], 6, "mask of {access:?}");
        fs.set_metadata(file, MetadataChange { mode: Some(0o4710), ..Default::default() }).unwrap();
        assert_eq!(fs.stat(file).unwrap().mode, 0o4710);
        let access = value_of(&fs, file, "system.posix_acl_access").unwrap();
        assert_eq!((access[4 + 2], access[4 + 3 * 8 + 2], access[4 + 2 * 8 + 2]), (7, 1, 5));
        // An ACL that says no more than the mode is not stored.
        let mut plain = 2u32.to_le_bytes().to_vec();
        for (tag, permissions) in [(1u16, 6u16), (4, 4), (0x20, 4)] {
            plain.extend(tag.to_le_bytes());
            plain.extend(permissions.to_le_bytes());
            plain.extend(u32::MAX.to_le_bytes());
        }
        fs.set_xattr(file, b"system.posix_acl_access", &plain).unwrap();
        assert_eq!((fs.stat(file).unwrap().mode, fs.xattrs(file).unwrap().len()), (0o4644, 0));
        assert!(fs.set_xattr(file, b"system.posix_acl_access", b"nonsense").is_err());
        fs.flush().unwrap();
        clean(&image, &label);
    }
}

#[test]
fn shared_attribute_blocks_are_copied_before_they_change() {
    // debugfs makes two inodes share the block of the first.
    let image =
        e2fs::mkfs(&["-t", "ext4", "-I", "128", "-b", "1024", "-O", "^metadata_csum"], 16 * MIB).unwrap();
    let mut fs = open(&image);
    let root = fs.root();
    let first = fs.create(root, b"a", NewNode::Regular(b""), 0o600, 0, 0).unwrap();
    let second = fs.create(root, b"b", NewNode::Regular(b""), 0o600, 0, 0).unwrap();
    fs.set_xattr(first, b"user.shared", b"value").unwrap();
    fs.flush().unwrap();
    let stat = e2fs::debugfs(&image, "stat /a\n").unwrap();
    let block: u64 = stat
        .split("File ACL:")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next())
        .unwrap()
        .parse()
        .unwrap();
    e2fs::debugfs_write(&image, &format!("sif /b file_acl {block}\nsif /b blocks 2\n")).unwrap();
    let device = e2fs::device(&image).unwrap();
    block::WriteAt::write_all_at(&device, &2u32.to_le_bytes(), block * 1024 + 4).unwrap();
    clean(&image, "shared");

    let mut fs = open(&image);
    fs.set_xattr(second, b"user.own", b"2").unwrap();
    assert_eq!(fs.xattrs(first).unwrap().len(), 1);
    assert_eq!(fs.xattrs(second).unwrap().len(), 2);
    fs.flush().unwrap();
    clean(&image, "copied");
    fs.unlink(root, b"a").unwrap();
    fs.unlink(root, b"b").unwrap();
    fs.flush().unwrap();
    clean(&image, "removed");
}

#[test]
fn metadata_times_and_the_immutable_flag() {
    for row in ROWS {
        let label = row.join(" ");
        let image = e2fs::mkfs(row, 64 * MIB).unwrap();
        let mut fs = open(&image);
        let root = fs.root();
        let node = fs.create(root, b"f", NewNode::Regular(b"x"), 0o644, 0, 0).unwrap();
        let has_nanoseconds = !row.contains(&"128");
        let old = Timestamp { seconds: -86_400, nanoseconds: 0 };
        let late = Timestamp { seconds: 5_000_000_000, nanoseconds: 999_999_999 };
        let change = MetadataChange {
            mode: Some(0o6755),
            uid: Some(70_000),
            gid: Some(4_000_000_000),
            atime: Some(old),
            mtime: Some(late),
        };
        fs.set_metadata(node, change).unwrap();
        let stat = fs.stat(node).unwrap();
        assert_eq!((stat.mode, stat.uid, stat.gid, stat.atime), (0o6755, 70_000, 4_000_000_000, old));
        let expected =
            if has_nanoseconds { late } else { Timestamp { seconds: i32::MAX.into(), nanoseconds: 0 } };
        assert_eq!(stat.mtime, expected, "{label}");
        fs.set_immutable(node, true).unwrap();
        assert!(fs.stat(node).unwrap().is_immutable);
        assert!(fs.replace_content(node, b"y").is_err());
        assert!(fs.unlink(root, b"f").is_err());
        assert!(fs.rename(root, b"f", root, b"g").is_err());
        assert!(fs.set_metadata(node, MetadataChange { mode: Some(0), ..Default::default() }).is_err());
        fs.flush().unwrap();
        clean(&image, &label);
        let shown = e2fs::debugfs(&image, "stat /f\n").unwrap();
        assert!(
            shown.contains("User: 70000   Group: -294967296") && shown.contains("Mode:  06755"),
            "{shown}"
        );
        fs.set_immutable(node, false).unwrap();
        fs.replace_content(node, b"y").unwrap();
        fs.flush().unwrap();
        clean(&image, &label);
    }
}
