//! Archives of phony guests, laid out as each generator does it.

use super::release::{Line, Release};

/// A cpio archive in the newc format; folders come before what is in them.
pub(super) fn cpio(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = Vec::new();
    let mut folders: Vec<String> = Vec::new();
    let mut inode = 0;
    let mut put = |path: &str, mode: u32, content: &[u8]| {
        inode += 1;
        let links = if mode & 0o170_000 == 0o040_000 { 2 } else { 1 };
        let fields =
            [inode, mode, 0, 0, links, 0, content.len() as u32, 0, 0, 0, 0, path.len() as u32 + 1, 0];
        archive.extend_from_slice(b"070701");
        for field in fields {
            archive.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        archive.extend_from_slice(path.as_bytes());
        archive.push(0);
        archive.resize(archive.len().next_multiple_of(4), 0);
        archive.extend_from_slice(content);
        archive.resize(archive.len().next_multiple_of(4), 0);
    };
    for (path, content) in entries {
        for (at, _) in path.match_indices('/') {
            if !folders.iter().any(|known| known == &path[..at]) {
                put(&path[..at], 0o040_755, b"");
                folders.push(path[..at].to_owned());
            }
        }
        // A content that starts with `->` is a link, a file named init a program.
        match content.strip_prefix(b"->") {
            Some(target) => put(path, 0o120_777, target),
            None if path == "init" => put(path, 0o100_755, content),
            None => put(path, 0o100_644, content),
        }
    }
    put("TRAILER!!!", 0, b"");
    archive
}

/// The files by which the generator is known, without modules.
pub(super) fn frame(release: &Release) -> Vec<(&'static str, &'static str)> {
    match release.line {
        Line::El(6) => vec![
            ("dracut-004-411.el6", ""),
            ("init", "#!/bin/sh\n# dracut-004\n"),
            ("etc/modprobe.d/.keep", ""),
            ("lib/dracut-lib.sh", "# dracut\n"),
            ("sbin/modprobe", "kmod"),
            ("sbin/udevd", "udev"),
        ],
        _ if release.has_dracut() && release.is_usr_merged() => vec![
            ("bin", "->usr/bin"),
            ("lib", "->usr/lib"),
            ("sbin", "->usr/sbin"),
            ("init", "->usr/lib/systemd/systemd"),
            ("usr/lib/initrd-release", "ID=dracut\n"),
            ("usr/lib/dracut/hooks/cmdline/.keep", ""),
            ("usr/lib/systemd/systemd", "systemd"),
            ("usr/lib/systemd/systemd-udevd", "udev"),
            ("usr/bin/udevadm", "udev"),
            ("usr/sbin/modprobe", "kmod"),
            ("etc/cmdline.d/.keep", ""),
        ],
        _ if release.has_dracut() => vec![
            ("init", "->usr/lib/systemd/systemd"),
            ("usr/lib/initrd-release", "ID=dracut\n"),
            ("usr/lib/dracut/hooks/cmdline/.keep", ""),
            ("usr/lib/systemd/systemd", "systemd"),
            ("usr/lib/systemd/systemd-udevd", "udev"),
            ("usr/bin/udevadm", "udev"),
            ("sbin/modprobe", "kmod"),
            ("etc/cmdline.d/.keep", ""),
        ],
        _ => {
            let mut files = vec![
                ("init", "#!/bin/sh\n"),
                ("conf/initramfs.conf", "MODULES=dep\n"),
                ("conf/modules", ""),
                ("scripts/functions", ""),
                ("etc/modprobe.d/.keep", ""),
            ];
            if release.is_usr_merged() {
                files.extend([
                    ("usr/bin/udevadm", "udev"),
                    ("usr/sbin/modprobe", "kmod"),
                    ("lib", "->usr/lib"),
                    ("sbin", "->usr/sbin"),
                ]);
            } else {
                files.extend([("bin/udevadm", "udev"), ("sbin/modprobe", "kmod")]);
            }
            files
        }
    }
}
