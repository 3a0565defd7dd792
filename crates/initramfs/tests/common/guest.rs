//! Small initramfs trees that really boot, out of this machine's own programs, and a root disk for them.
#![allow(dead_code, missing_docs, clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use testkit::kernel_deb::KernelDeb;

use super::{cpio_of, modprobe_depends, run};

/// UUID of the root disk.
pub const ROOT: &str = "c01df175-0000-4000-8000-0000000000e5";

/// A tree with everything below `/usr`, as current distributions have it.
pub struct Tree(tempfile::TempDir);

impl Tree {
    pub fn new() -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        for dir in ["usr/bin", "usr/lib", "etc", "dev", "proc", "sys", "run", "tmp", "new_root", "sysroot"] {
            fs::create_dir_all(tree.at(dir)).unwrap();
        }
        for (link, target) in [
            ("bin", "usr/bin"),
            ("sbin", "usr/bin"),
            ("usr/sbin", "bin"),
            ("lib", "usr/lib"),
            ("lib64", "usr/lib"),
            ("usr/lib64", "lib"),
        ] {
            symlink(target, tree.at(link)).unwrap();
        }
        tree
    }

    pub fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    pub fn write(&self, path: &str, text: &str) {
        let file = self.at(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
        let mode = if text.starts_with("#!") { 0o755 } else { 0o644 };
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn copy(&self, from: &str, to: &str) {
        let to = self.at(to);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap_or_else(|error| panic!("{from}: {error}"));
    }

    /// A program of this machine with the libraries that ldd names, under another name where that is given.
    pub fn program(&self, from: &str, name: &str) {
        self.copy(from, &format!("usr/bin/{name}"));
        for word in run("ldd", [from]).split_whitespace().filter(|word| word.starts_with('/')) {
            let below = word.trim_start_matches("/usr").trim_start_matches('/');
            let below = below.strip_prefix("lib64/").or_else(|| below.strip_prefix("lib/")).unwrap_or(below);
            self.copy(word, &format!("usr/lib/{below}"));
        }
    }

    /// busybox under the names of these applets.
    pub fn busybox(&self, applets: &[&str]) {
        self.copy("/bin/busybox", "usr/bin/busybox");
        for applet in applets {
            symlink("busybox", self.at(&format!("usr/bin/{applet}"))).unwrap();
        }
    }

    /// busybox under every other name that it has and nothing here has yet.
    pub fn busybox_rest(&self) {
        for applet in run("/bin/busybox", ["--list"]).split_whitespace() {
            let link = self.at(&format!("usr/bin/{applet}"));
            if fs::symlink_metadata(&link).is_err() {
                symlink("busybox", link).unwrap();
            }
        }
    }

    /// kmod under its names.
    pub fn kmod(&self) {
        self.program("/bin/kmod", "kmod");
        for name in ["modprobe", "insmod", "lsmod"] {
            symlink("kmod", self.at(&format!("usr/bin/{name}"))).unwrap();
        }
    }

    /// udev with the rules that load drivers and name disks.
    pub fn udev(&self) {
        self.program("/bin/udevadm", "udevadm");
        fs::create_dir_all(self.at("usr/lib/systemd")).unwrap();
        symlink("../../bin/udevadm", self.at("usr/lib/systemd/systemd-udevd")).unwrap();
        for rules in
            ["50-udev-default.rules", "60-block.rules", "60-persistent-storage.rules", "80-drivers.rules"]
        {
            self.copy(&format!("/usr/lib/udev/rules.d/{rules}"), &format!("usr/lib/udev/rules.d/{rules}"));
        }
    }

    /// These modules and what they need, with indexes as depmod makes them.
    pub fn modules(&self, kernel: &KernelDeb, names: &[&str]) {
        let dir = format!("usr/lib/modules/{}", kernel.kver);
        for path in names.iter().flat_map(|name| modprobe_depends(kernel, name)) {
            let from = kernel.module_dir().join(&path);
            self.copy(from.to_str().unwrap(), &format!("{dir}/{path}"));
        }
        for name in ["modules.order", "modules.builtin", "modules.builtin.modinfo"] {
            self.copy(kernel.module_dir().join(name).to_str().unwrap(), &format!("{dir}/{name}"));
        }
        run("depmod", ["-b".as_ref(), self.0.path().as_os_str(), kernel.kver.as_ref()]);
    }

    pub fn cpio(&self) -> Vec<u8> {
        cpio_of(self.0.path())
    }
}

/// A disk without partitions whose init says that it is up, and on which disk.
pub fn root_disk(folder: &Path) -> PathBuf {
    let tree = folder.join("root");
    for dir in ["sbin", "bin", "dev", "proc", "sys", "run", "etc", "usr"] {
        fs::create_dir_all(tree.join(dir)).unwrap();
    }
    fs::copy("/bin/busybox", tree.join("bin/busybox")).unwrap();
    let init = tree.join("sbin/init");
    let script = "#!/bin/busybox sh\n/bin/busybox mount -t proc proc /proc\n\
        /bin/busybox mount -t devtmpfs dev /dev\nexec >/dev/console 2>&1\n\
        /bin/busybox sleep 1\n/bin/busybox echo \"COLDFIT-BOOTED $(/bin/busybox cat /proc/partitions | /bin/busybox tail -n 1)\"\n\
        /bin/busybox poweroff -f\n";
    fs::write(&init, script).unwrap();
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(tree.join("etc/os-release"), "ID=test\n").unwrap();
    // What systemd's switch-root looks for.
    fs::create_dir_all(tree.join("usr/lib")).unwrap();
    fs::write(tree.join("usr/lib/os-release"), "ID=test\n").unwrap();
    let disk = folder.join("root.ext4");
    let from = tree.to_str().unwrap();
    let to = disk.to_str().unwrap();
    run("mke2fs", ["-q", "-t", "ext4", "-U", ROOT, "-d", from, to, "48M"]);
    disk
}
