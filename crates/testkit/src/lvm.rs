//! Debian's LVM2 on image files, without device-mapper: every run has a configuration of its own and sees nothing but
//! its own loop devices. Needs root.
#![allow(clippy::panic, reason = "helpers of tests fail the test")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A loop device on an image file, or on a part of one.
pub struct LoopDevice {
    path: String,
}

impl LoopDevice {
    /// Attaches `len` bytes of `image` from `offset` on; a length of 0 means up to the end.
    pub fn attach(image: &Path, offset: u64, len: u64) -> Self {
        let mut command = Command::new("losetup");
        command.args(["--find", "--show", "--offset", &offset.to_string()]);
        if len > 0 {
            command.args(["--sizelimit", &len.to_string()]);
        }
        // Two runs at a time can be told the same free device.
        for _ in 0..20 {
            let out = command.arg(image).output().expect("losetup is needed");
            if out.status.success() {
                return Self { path: String::from_utf8_lossy(&out.stdout).trim().to_owned() };
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("losetup of {}: root and loop devices are needed", image.display());
    }

    /// `/dev/loop0`
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.path).status();
    }
}

/// LVM2 over some loop devices.
pub struct Lvm {
    dir: TempDir,
    devices: Vec<LoopDevice>,
}

impl Lvm {
    /// Attaches whole images.
    pub fn over(images: &[&Path]) -> Self {
        Self::new(images.iter().map(|image| LoopDevice::attach(image, 0, 0)).collect())
    }

    /// Takes these devices.
    pub fn new(devices: Vec<LoopDevice>) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut filter = String::new();
        for device in &devices {
            let _ = write!(filter, "\"a|^{}$|\",", device.path);
        }
        let own = dir.path().display();
        let config = format!(
            "devices {{ filter=[{filter}\"r|.*|\"] global_filter=[{filter}\"r|.*|\"] use_devicesfile=0 hints=\"none\"\n\
             md_component_detection=0 obtain_device_list_from_udev=0 external_device_info_source=\"none\" }}\n\
             global {{ activation=0 use_lvmpolld=0 event_activation=0 locking_dir=\"{own}/lock\" }}\n\
             activation {{ udev_sync=0 udev_rules=0 monitoring=0 }}\nbackup {{ backup=0 archive=0 }}\n"
        );
        fs::write(dir.path().join("lvm.conf"), config).expect("a temporary file");
        Self { dir, devices }
    }

    /// A file beside the configuration.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Path of a device.
    pub fn device(&self, index: usize) -> &str {
        self.devices[index].path()
    }

    /// Runs `lvm` with these words; `@0` is the path of the first device. Gives its output.
    pub fn run(&self, words: &str) -> String {
        let mut command = Command::new("lvm");
        command
            .env("LVM_SYSTEM_DIR", self.dir.path())
            .env("LVM_SUPPRESS_FD_WARNINGS", "1")
            .env("LC_ALL", "C");
        for word in words.split_whitespace() {
            match word.strip_prefix('@').and_then(|index| index.parse::<usize>().ok()) {
                Some(index) => command.arg(self.device(index)),
                None => command.arg(word.replace("@dir", &self.dir.path().display().to_string())),
            };
        }
        let out = command.output().expect("lvm is needed");
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(out.status.success(), "lvm {words}: {text}{}", String::from_utf8_lossy(&out.stderr));
        text
    }

    /// Makes a logical volume without touching its content.
    pub fn create(&self, words: &str) {
        self.run(&format!("lvcreate -an -Zn -Wn {words}"));
    }

    /// Writes the metadata of group `vg` as `edit` changes the text of its backup.
    pub fn rewrite(&self, vg: &str, edit: impl FnOnce(String) -> String) {
        self.run(&format!("vgcfgbackup -f @dir/backup {vg}"));
        let text = fs::read_to_string(self.path("backup")).expect("the backup was written");
        fs::write(self.path("backup"), edit(text)).expect("a temporary file");
        self.run(&format!("vgcfgrestore --force -f @dir/backup {vg}"));
    }
}
