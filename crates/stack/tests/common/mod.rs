//! Small disks made by sfdisk, mke2fs and qemu-img, without root. A missing tool fails the test.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use block::Access;
use coldfit_stack::{Image, ImageFormat, Layer, OpenOptions, StackError, VolumeLayer};
use report::Silent;
use vfs::{GuestPath, GuestTree};

pub const MIB: u64 = 1 << 20;
pub const ROOT_UUID: &str = "aaaaaaaa-0000-4000-8000-000000000001";
pub const BOOT_UUID: &str = "bbbbbbbb-0000-4000-8000-000000000002";

pub struct Lab {
    dir: tempfile::TempDir,
}

/// A filesystem to put into a partition.
pub struct Fs<'a> {
    pub start: u64,
    pub len: u64,
    pub mkfs: &'a str,
    pub files: &'a [(&'a str, &'a str)],
}

impl Lab {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A disk of `len` bytes with a table by sfdisk (none when the script is empty) and these filesystems.
    pub fn disk(&self, name: &str, len: u64, script: &str, filesystems: &[Fs<'_>]) -> PathBuf {
        let path = self.path(name);
        File::create(&path).unwrap().set_len(len).unwrap();
        if !script.is_empty() {
            run_with_input(Command::new("sfdisk").arg("-q").arg(&path), script);
        }
        for filesystem in filesystems {
            self.make(&path, filesystem);
        }
        path
    }

    /// Makes a filesystem at its place in `disk`: by mke2fs from a tree of files, else by any command
    /// that gets an image as its last argument.
    pub fn make(&self, disk: &Path, filesystem: &Fs<'_>) {
        let part = self.path("part");
        File::create(&part).unwrap().set_len(filesystem.len).unwrap();
        let mut words = filesystem.mkfs.split_whitespace();
        let mut command = Command::new(words.next().unwrap());
        command.args(words);
        let tree = self.path("tree");
        if filesystem.mkfs.starts_with("mke2fs") {
            let _ = fs::remove_dir_all(&tree);
            fs::create_dir(&tree).unwrap();
            for (file, content) in filesystem.files {
                let file = tree.join(file.trim_start_matches('/'));
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                match content.strip_prefix("-> ") {
                    Some(target) => std::os::unix::fs::symlink(target, &file).unwrap(),
                    None => fs::write(&file, content).unwrap(),
                }
            }
            command.args(["-q", "-F", "-d"]).arg(&tree);
        }
        run(command.arg(&part));
        let bytes = fs::read(&part).unwrap();
        assert!(bytes.len() as u64 <= filesystem.len);
        File::options().write(true).open(disk).unwrap().write_all_at(&bytes, filesystem.start).unwrap();
        fs::remove_file(&part).unwrap();
    }

    /// Copies the partition at `start` out of a raw disk.
    pub fn extract(&self, disk: &Path, start: u64, len: u64) -> PathBuf {
        let part = self.path("extracted");
        let mut bytes = vec![0; len as usize];
        File::open(disk).unwrap().read_exact_at(&mut bytes, start).unwrap();
        fs::write(&part, bytes).unwrap();
        part
    }

    /// Clean in the eyes of `e2fsck -fn`, output included.
    pub fn assert_e2fsck_clean(&self, disk: &Path, start: u64, len: u64) {
        let part = self.extract(disk, start, len);
        let out = Command::new("e2fsck").args(["-f", "-n"]).arg(&part).output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout);
        assert!(out.status.success(), "{text}");
        let surprising = text.lines().filter(|line| !line.starts_with("Pass ") && !line.contains("files ("));
        assert_eq!(surprising.collect::<Vec<_>>(), [] as [&str; 0]);
    }

    /// Content of a file in the eyes of debugfs.
    pub fn debugfs_cat(&self, disk: &Path, start: u64, len: u64, file: &str) -> String {
        let part = self.extract(disk, start, len);
        let out = run(Command::new("debugfs").arg("-R").arg(format!("cat {file}")).arg(&part));
        String::from_utf8(out.stdout).unwrap()
    }
}

pub fn run(command: &mut Command) -> Output {
    let out = command.stdin(Stdio::null()).output();
    let out = out.unwrap_or_else(|error| panic!("{:?} is needed: {error}", command.get_program()));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(out.status.success(), "{command:?}: {}{}", text(&out.stdout), text(&out.stderr));
    out
}

pub fn run_with_input(command: &mut Command, input: &str) {
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{:?} is needed: {error}", command.get_program()));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
}

pub fn convert(from: &Path, to: &Path, arguments: &[&str]) {
    run(Command::new("qemu-img").arg("convert").args(arguments).arg(from).arg(to));
}

pub fn options(access: Access) -> OpenOptions {
    OpenOptions { access, memory_cap: 8 * MIB, ..OpenOptions::default() }
}

pub fn open(path: &Path) -> Image {
    Image::open(path, &options(Access::Read), &Silent).unwrap()
}

pub fn open_error(path: &Path, options: &OpenOptions) -> StackError {
    match Image::open(path, options, &Silent) {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(error) => error,
    }
}

pub fn raw() -> OpenOptions {
    OpenOptions { format: Some(ImageFormat::Raw), ..options(Access::Read) }
}

pub fn guest(path: &str) -> GuestPath {
    GuestPath::new(path).unwrap()
}

pub fn read(tree: &GuestTree, path: &str) -> String {
    String::from_utf8(tree.read(&guest(path), MIB).unwrap()).unwrap()
}

pub fn volumes(image: &Image) -> Vec<VolumeLayer> {
    let layers = image.layers().into_iter();
    layers
        .filter_map(|layer| match layer {
            Layer::Volume(volume) => Some(*volume),
            _ => None,
        })
        .collect()
}

/// The usual guest: GPT, `/boot` on a filesystem of its own, root, swap.
pub const BOOT_AT: u64 = MIB;
pub const BOOT_LEN: u64 = 8 * MIB;
pub const ROOT_AT: u64 = 9 * MIB;
pub const ROOT_LEN: u64 = 24 * MIB;
pub const GUEST_LEN: u64 = 40 * MIB;

pub fn usual_guest(lab: &Lab) -> PathBuf {
    let script = "label: gpt\nunit: sectors\n1: start=2048, size=16384\n2: start=18432, size=49152\n\
        3: start=67584, size=8192, type=0657FD6D-A4AB-43C4-84E5-0933C84B4F4F\n";
    let fstab = format!(
        "# static\nUUID={ROOT_UUID} / ext4 errors=remount-ro 0 1\nUUID=\"{BOOT_UUID}\" /boot ext4 defaults 0 2\n\
         LABEL=swap0 none swap sw 0 0\nproc /proc proc defaults 0 0\n"
    );
    let files = [
        ("/etc/fstab", &*fstab),
        ("/etc/os-release", "ID=debian\n"),
        ("/etc/hostname", "old\n"),
        ("/sbin/init", "-> /lib/systemd/systemd"),
        ("/boot/hidden", "under the mount\n"),
    ];
    lab.disk(
        "guest.raw",
        GUEST_LEN,
        script,
        &[
            Fs {
                start: BOOT_AT,
                len: BOOT_LEN,
                mkfs: &format!("mke2fs -t ext2 -U {BOOT_UUID} -L boot"),
                files: &[("/vmlinuz-6.1", "kernel"), ("/grub/grub.cfg", "set timeout=5\n")],
            },
            Fs {
                start: ROOT_AT,
                len: ROOT_LEN,
                mkfs: &format!("mke2fs -t ext4 -U {ROOT_UUID} -L root"),
                files: &files,
            },
            Fs { start: 33 * MIB, len: 4 * MIB, mkfs: "mkswap -q -L swap0", files: &[] },
        ],
    )
}
