//! Walking a guest tree: symlinks stay inside the guest root, every walk ends, mounts cover what is below.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]
use coldfit_vfs::{GuestPath, GuestTree, MAX_SYMLINKS, VfsError};
use testkit::DirFs;

fn path(text: &str) -> GuestPath {
    GuestPath::new(text).unwrap()
}

fn tree() -> GuestTree {
    let mut root = DirFs::from_files([
        ("/etc/fstab", "root"),
        ("/usr/lib/os-release", "os"),
        ("/boot/hidden", "under the mount"),
    ]);
    root.add_symlink("/etc/os-release", "../usr/lib/os-release")
        .add_symlink("/lib", "usr/lib")
        .add_symlink("/abs", "/etc")
        .add_symlink("/escape", "../../../../etc/fstab")
        .add_symlink("/etc/host", "/../../etc/fstab")
        .add_symlink("/loop-a", "loop-b")
        .add_symlink("/loop-b", "loop-a")
        .add_symlink("/into-boot", "boot/grub/grub.cfg")
        .add_symlink("/dangling", "nowhere")
        .add_dir("/home");
    let mut boot = DirFs::from_files([("/grub/grub.cfg", "menu")]);
    boot.add_symlink("/out", "../etc/fstab").add_symlink("/absolute", "/etc/fstab");
    let mut tree = root.into_tree();
    tree.mount(&path("/boot"), Box::new(boot), "partition 2").unwrap();
    tree
}

fn read(tree: &GuestTree, file: &str) -> String {
    String::from_utf8(tree.read(&path(file), 100).unwrap()).unwrap()
}

#[test]
fn symlinks_never_leave_the_guest_root() {
    let tree = tree();
    for (file, content) in [
        ("/etc/os-release", "os"),
        ("/lib/os-release", "os"),
        ("/abs/fstab", "root"),
        ("/escape", "root"),
        ("/etc/host", "root"),
        ("/../../etc/fstab", "root"),
        ("/etc/../etc/./fstab", "root"),
    ] {
        assert_eq!(read(&tree, file), content, "{file}");
    }
    assert_eq!(tree.resolve(&path("/lib/os-release")).unwrap().path, path("/usr/lib/os-release"));
    assert_eq!(tree.read_link(&path("/escape")).unwrap(), b"../../../../etc/fstab");
}

#[test]
fn mounts_cover_what_is_below_and_are_left_by_dots_and_links() {
    let tree = tree();
    assert_eq!(read(&tree, "/boot/grub/grub.cfg"), "menu");
    assert_eq!(read(&tree, "/into-boot"), "menu");
    assert_eq!(read(&tree, "/boot/out"), "root");
    assert_eq!(read(&tree, "/boot/absolute"), "root");
    assert_eq!(read(&tree, "/boot/grub/../../etc/fstab"), "root");
    assert!(!tree.exists(&path("/boot/hidden")).unwrap());
    assert_eq!(tree.resolve(&path("/boot/grub")).unwrap().mount, 1);
    assert_eq!(tree.list(&path("/boot")).unwrap(), [b"absolute".to_vec(), b"grub".to_vec(), b"out".to_vec()]);
}

#[test]
fn loops_end_and_dangling_links_are_not_found() {
    let tree = tree();
    assert!(matches!(tree.resolve(&path("/loop-a")), Err(VfsError::SymlinkLoop { .. })));
    assert!(matches!(tree.read(&path("/dangling"), 10), Err(VfsError::NotFound { .. })));
    assert!(tree.resolve_no_follow(&path("/dangling")).is_ok());
    assert!(matches!(tree.resolve(&path("/etc/fstab/x")), Err(VfsError::NotADirectory { .. })));
    let mut chain = DirFs::from_files([("/end", "end")]);
    chain.add_symlink("/0", "end");
    for number in 1..=MAX_SYMLINKS {
        chain.add_symlink(format!("/{number}"), format!("{}", number - 1));
    }
    let tree = chain.into_tree();
    assert_eq!(read(&tree, &format!("/{}", MAX_SYMLINKS - 1)), "end");
    assert!(matches!(tree.resolve(&path(&format!("/{}", MAX_SYMLINKS))), Err(VfsError::SymlinkLoop { .. })));
}

#[test]
fn files_are_read_up_to_a_limit_and_written_where_links_lead() {
    let mut tree = tree();
    assert!(matches!(tree.read(&path("/etc/fstab"), 3), Err(VfsError::Limit { .. })));
    assert!(matches!(tree.read(&path("/home"), 3), Err(VfsError::IsADirectory { .. })));
    assert_eq!(tree.read_if_exists(&path("/nothing"), 3).unwrap(), None);
    tree.write(&path("/escape"), b"new", 0o600).unwrap();
    assert_eq!(read(&tree, "/etc/fstab"), "new");
    tree.write(&path("/boot/made"), b"made", 0o640).unwrap();
    let metadata = tree.stat(&path("/boot/made")).unwrap();
    assert_eq!((metadata.mode, metadata.uid, metadata.gid), (0o640, 0, 0));
    assert!(matches!(
        tree.write(&path("/home/.."), b"", 0o600),
        Err(VfsError::IsADirectory { .. } | VfsError::BadName { .. } | VfsError::WrongKind { .. })
    ));
}
