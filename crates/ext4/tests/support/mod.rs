//! Images, reference tools and the kernel's mount for the tests of this crate.
// Each test binary uses a part of it; helpers of tests fail as tests do.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

pub mod memory;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use block::{FileDevice, ReadAt, WriteAt};

/// A directory for the images of one test; removed at its end.
pub fn scratch() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("ext4-").tempdir().expect("a temporary directory")
}

/// Runs a reference tool; a missing one fails the test.
pub fn tool(program: &str, args: &[&str]) -> Output {
    let path = std::env::var("PATH").unwrap_or_default();
    Command::new(program)
        .args(args)
        .env("LC_ALL", "C")
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .env("E2FSPROGS_SKIP_PROGRESS", "1")
        .env("MKE2FS_SYNC", "0")
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program} is needed by this test: {error}"))
}

/// Standard output of a tool that must succeed.
pub fn run(program: &str, args: &[&str]) -> String {
    let output = tool(program, args);
    assert!(output.status.success(), "{program} {args:?}: {}\n{}", output.status, text(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Makes an image of `mib` MiB with fixed UUID and hash seed.
pub fn mkfs(path: &Path, mib: u64, args: &str) {
    fs::File::create(path).and_then(|file| file.set_len(mib << 20)).expect("an image file");
    let name = path.to_str().expect("a printable path");
    let mut all = vec!["-q", "-F", "-U", "6b1b8f2e-5a3c-4d7e-9f10-2233445566aa"];
    all.extend(["-E", "hash_seed=c0ffee00-1234-4321-abcd-001122334455"]);
    let words: Vec<&str> = args.split_whitespace().collect();
    all.extend(&words);
    all.push(name);
    run("mke2fs", &all);
}

/// Runs debugfs commands that write.
pub fn debugfs_write(image: &Path, commands: &str) -> String {
    let script = image.with_extension("debugfs");
    fs::write(&script, commands).expect("a debugfs script");
    let output =
        tool("debugfs", &["-w", "-f", script.to_str().expect("a path"), image.to_str().expect("a path")]);
    assert!(output.status.success(), "{}", text(&output));
    text(&output)
}

/// Output of one reading debugfs command.
pub fn debugfs(image: &Path, command: &str) -> String {
    let output = tool("debugfs", &["-R", command, image.to_str().expect("a path")]);
    assert!(output.status.success(), "debugfs {command}: {}", text(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Exit status and output of e2fsck.
pub fn e2fsck(image: &Path, args: &[&str]) -> (i32, String) {
    let mut all = args.to_vec();
    let name = image.to_str().expect("a path");
    all.push(name);
    let output = tool("e2fsck", &all);
    (output.status.code().unwrap_or(-1), text(&output))
}

/// What e2fsck complains about; `None` when it is content. Exit status 0 alone proves too little: wrong
/// totals in the superblock, for one, are printed and not counted.
pub fn e2fsck_complaint(image: &Path) -> Option<String> {
    let (status, output) = e2fsck(image, &["-fn"]);
    let is_pass = |line: &str| {
        line.is_empty()
            || line.starts_with("e2fsck 1.")
            || line.starts_with("Pass ")
            || line.contains(" files (") && line.contains(" blocks")
    };
    (status != 0 || !output.lines().all(is_pass)).then(|| format!("e2fsck -fn: exit {status}\n{output}"))
}

#[track_caller]
pub fn assert_e2fsck_clean(image: &Path, context: &str) {
    if let Some(complaint) = e2fsck_complaint(image) {
        panic!("{context}: {complaint}");
    }
}

/// True when the tests may mount. Without it they say what they judge by instead.
pub fn may_mount() -> bool {
    let is_root = run("id", &["-u"]).trim() == "0";
    if !is_root {
        eprintln!("not root: judged by e2fsck and debugfs only, not by a kernel mount");
    }
    is_root
}

/// A loop mount that ends with the value.
pub struct KernelMount {
    pub at: PathBuf,
    loop_device: String,
}

impl KernelMount {
    /// Mounts, or says why the kernel refuses.
    pub fn try_new(image: &Path, options: &str) -> Result<Self, String> {
        let at = image.with_extension("mnt");
        fs::create_dir_all(&at).expect("a mount point");
        // The loop device is made apart, since `mount -o ro,loop` would make it read-only, too.
        let made = run("losetup", &["-f", "--show", image.to_str().expect("a path")]);
        let loop_device = made.trim().to_owned();
        let point = at.to_str().expect("a path");
        let output = tool("mount", &["-t", "ext4", "-o", options, &loop_device, point]);
        if output.status.success() {
            return Ok(Self { at, loop_device });
        }
        run("losetup", &["-d", &loop_device]);
        Err(text(&output))
    }

    #[track_caller]
    pub fn new(image: &Path, options: &str) -> Self {
        Self::try_new(image, options).unwrap_or_else(|error| panic!("mount {}: {error}", image.display()))
    }

    /// Stops the filesystem at once, without writing the log out (as a power cut would).
    pub fn cut_power(&self) {
        run("xfs_io", &["-x", "-c", "shutdown", self.at.to_str().expect("a path")]);
    }
}

impl Drop for KernelMount {
    fn drop(&mut self) {
        let unmounted = testkit::tool::unmount(&self.at);
        tool("losetup", &["-d", &self.loop_device]);
        if let (Err(error), false) = (unmounted, std::thread::panicking()) {
            panic!("{error}");
        }
    }
}

/// The image as a device that writes go straight into.
pub fn device(image: &Path) -> Arc<dyn WriteAt> {
    Arc::new(FileDevice::open_write(image).expect("the image"))
}

/// The image as a device that cannot be written.
pub fn reader(image: &Path) -> Arc<dyn ReadAt> {
    Arc::new(FileDevice::open_read(image).expect("the image"))
}

pub fn copy(image: &Path, name: &str) -> PathBuf {
    let to = image.with_file_name(name);
    run("cp", &["--sparse=always", image.to_str().expect("a path"), to.to_str().expect("a path")]);
    to
}

/// Numbers of the blocks in which two images differ.
pub fn differing_blocks(left: &Path, right: &Path, block_size: usize) -> Vec<u64> {
    let (left, right) = (fs::read(left).expect("an image"), fs::read(right).expect("an image"));
    assert_eq!(left.len(), right.len());
    left.chunks(block_size)
        .zip(right.chunks(block_size))
        .enumerate()
        .filter(|(_, (left, right))| left != right)
        .map(|(index, _)| index as u64)
        .collect()
}

/// A generator of deterministic numbers (xorshift64*).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 8
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.next().to_le_bytes()[..7]);
        }
        bytes.truncate(len);
        bytes
    }
}

/// One row of the mkfs matrix.
pub struct Row {
    pub args: &'static str,
    /// Feature for which writing is refused by name.
    pub refused: Option<&'static str>,
    /// True when common kernels mount it (no quota, Unicode or 64 KiB pages needed).
    pub mounts: bool,
    pub mib: u64,
}

const fn row(args: &'static str) -> Row {
    Row { args, refused: None, mounts: true, mib: 24 }
}

/// What the releases of e2fsprogs make by default, and every feature that changes a structure.
pub const MATRIX: &[Row] = &[
    row("-t ext2 -b 1024 -I 128"),
    Row { mib: 48, ..row("-t ext3 -I 128 -b 4096") },
    row("-t ext2 -r 0"),
    row("-t ext4 -b 1024 -O ^metadata_csum,^64bit,uninit_bg"),
    row("-t ext4 -b 1024 -O ^metadata_csum,64bit"),
    Row { mib: 48, ..row("-t ext4 -b 4096") },
    row("-t ext4 -b 1024"),
    Row { mib: 32, ..row("-t ext4 -b 2048") },
    Row { mounts: false, mib: 200, ..row("-t ext4 -b 65536") },
    row("-t ext4 -b 1024 -I 128"),
    Row { mib: 48, ..row("-t ext4 -I 1024 -b 4096") },
    Row { mib: 48, ..row("-t ext4 -b 4096 -O metadata_csum_seed,orphan_file") },
    row("-t ext4 -b 1024 -O metadata_csum,^64bit"),
    Row { refused: Some("meta_bg"), ..row("-t ext4 -b 1024 -O meta_bg,^resize_inode") },
    row("-t ext4 -b 1024 -O sparse_super2"),
    row("-t ext4 -b 1024 -O ^sparse_super,^resize_inode"),
    row("-t ext4 -b 1024 -O ^flex_bg"),
    Row { refused: Some("bigalloc"), mib: 64, ..row("-t ext4 -O bigalloc -C 65536 -b 4096") },
    row("-t ext4 -b 1024 -O inline_data"),
    Row { refused: Some("ea_inode"), ..row("-t ext4 -b 1024 -O ea_inode,large_dir") },
    Row { refused: Some("quota"), mounts: false, ..row("-t ext4 -b 1024 -O quota,project") },
    row("-t ext4 -b 1024 -O mmp"),
    row("-t ext4 -b 1024 -O fast_commit"),
    Row { refused: Some("casefold"), mounts: false, ..row("-t ext4 -b 1024 -O casefold -E encoding=utf8") },
    Row { refused: Some("encrypt"), ..row("-t ext4 -b 1024 -O encrypt,verity,stable_inodes") },
    row("-t ext4 -b 1024 -O ^has_journal"),
    row("-t ext4 -b 1024 -O ^extent,^64bit"),
    row("-t ext4 -b 1024 -O ^dir_index"),
    row("-t ext4 -b 1024 -O ^filetype"),
    row("-t ext4 -b 1024 -O ^huge_file,^dir_nlink,^large_file"),
    row("-t ext4 -b 1024 -G 4"),
    Row { mib: 48, ..row("-t ext4 -b 4096 -J size=8 -m 0") },
];

/// Fills an image with a bit of everything by debugfs, so that no mount is needed.
pub fn populate(image: &Path) {
    let content = image.with_extension("content");
    fs::write(&content, Random::new(3).bytes(300_000)).expect("content");
    let short = image.with_extension("short");
    fs::write(&short, b"short\n").expect("content");
    let long = image.with_extension("value");
    fs::write(&long, vec![b'v'; 500]).expect("content");
    let (content, short, long) = (content.display(), short.display(), long.display());
    let target = "t".repeat(80);
    let mut script = format!(
        "mkdir a\nmkdir a/b\nmkdir many\nwrite {content} big\nwrite {short} a/short\nwrite {short} a/b/deep\n\
         symlink fast short/target\nsymlink a/slow {target}\ncd a\nmknod pipe p\nmknod disk b 8 17\ncd /\n\
         ea_set a/short user.one 1\nea_set big user.long -f {long}\nea_set a security.selinux label\n"
    );
    for index in 0..60 {
        script.push_str(&format!("write {short} many/a-name-of-some-length-{index:04}\n"));
    }
    debugfs_write(image, &script);
}
