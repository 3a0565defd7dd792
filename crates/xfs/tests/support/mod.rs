//! Images, reference tools and the kernel's mount for the tests of this crate.
// Each test binary uses a part of it; helpers of tests fail as tests do.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

pub mod memory;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, LazyLock};

use block::{FileDevice, ReadAt, WriteAt};

static NEWEST: LazyLock<PathBuf> =
    LazyLock::new(|| testkit::xfsprogs::newest().expect("the newest xfsprogs"));

/// A directory for the images of one test; removed at its end.
pub fn scratch() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("xfs-").tempdir().expect("a temporary directory")
}

/// Runs a reference tool; a missing one fails the test.
pub fn tool(program: &str, args: &[&str]) -> Output {
    let path = std::env::var("PATH").unwrap_or_default();
    Command::new(program)
        .args(args)
        .env("LC_ALL", "C")
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
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

/// A program of the newest xfsprogs.
pub fn newest(program: &str) -> String {
    NEWEST.join(program).to_str().expect("a printable path").to_owned()
}

/// Makes an image of `mib` MiB with a fixed UUID.
pub fn mkfs(path: &Path, row: &Row) {
    let _ = fs::remove_file(path);
    fs::File::create(path).and_then(|file| file.set_len(row.mib << 20)).expect("an image file");
    let program = if row.is_newest { newest("mkfs.xfs") } else { "mkfs.xfs".to_owned() };
    let mut all = vec!["-q", "-f"];
    let words: Vec<&str> = row.args.split_whitespace().collect();
    all.extend(&words);
    all.push(path.to_str().expect("a printable path"));
    run(&program, &all);
}

/// Output of one reading `xfs_db` command line.
pub fn xfs_db(image: &Path, commands: &[&str]) -> String {
    let mut all = vec!["-r"];
    for command in commands {
        all.extend(["-c", command]);
    }
    all.push(image.to_str().expect("a path"));
    run(&newest("xfs_db"), &all)
}

/// What `xfs_repair -n` complains about; `None` when it is content.
pub fn repair_complaint(image: &Path) -> Option<String> {
    let output = tool(&newest("xfs_repair"), &["-n", "-f", image.to_str().expect("a path")]);
    (!output.status.success()).then(|| format!("xfs_repair -n: {}\n{}", output.status, text(&output)))
}

#[track_caller]
pub fn assert_repair_clean(image: &Path, context: &str) {
    if let Some(complaint) = repair_complaint(image) {
        panic!("{context}: {complaint}");
    }
}

/// True when the tests may mount. Without it they say what they judge by instead.
pub fn may_mount() -> bool {
    let is_root = run("id", &["-u"]).trim() == "0";
    let knows = fs::read_to_string("/proc/filesystems").is_ok_and(|all| all.contains("\txfs\n"));
    if !is_root || !knows {
        eprintln!("not root, or a kernel without XFS: judged by xfs_repair and xfs_db only, not by a mount");
    }
    is_root && knows
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
        let made = run("losetup", &["-f", "--show", image.to_str().expect("a path")]);
        let loop_device = made.trim().to_owned();
        let point = at.to_str().expect("a path");
        let output = tool("mount", &["-t", "xfs", "-o", options, &loop_device, point]);
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
    /// Code of the error with which writing is refused.
    pub refused: Option<&'static str>,
    /// True when common kernels mount it.
    pub mounts: bool,
    pub mib: u64,
    /// Made by the newest mkfs, not by the release's.
    pub is_newest: bool,
}

const fn row(args: &'static str) -> Row {
    Row { args, refused: None, mounts: true, mib: 300, is_newest: false }
}

const fn new(args: &'static str) -> Row {
    Row { is_newest: true, ..row(args) }
}

const fn v4(args: &'static str) -> Row {
    Row { refused: Some("xfs.v4.write"), mounts: false, ..row(args) }
}

/// What the releases of xfsprogs make by default, and every option that changes a structure.
pub const MATRIX: &[Row] = &[
    new("-m metadir=0"),
    new("-m metadir=0 -n parent=1 -i exchange=1 -b size=1024"),
    row(""),
    // Defaults of 4.2, 4.19, 5.4, 5.15, 6.6.
    row("-m rmapbt=0,reflink=0,finobt=1,bigtime=0,inobtcount=0 -i sparse=0"),
    row("-m rmapbt=0,reflink=0,finobt=1,bigtime=0,inobtcount=0 -i sparse=1"),
    row("-m rmapbt=0,reflink=1,bigtime=0,inobtcount=0"),
    row("-m rmapbt=0,reflink=1,bigtime=1,inobtcount=1"),
    row("-m rmapbt=1,reflink=1,bigtime=1,inobtcount=1 -i nrext64=1"),
    row("-m finobt=0,rmapbt=0,reflink=0,bigtime=0,inobtcount=0 -i sparse=0,nrext64=0"),
    row("-m rmapbt=1 -b size=1024"),
    row("-b size=2048 -i size=1024 -m rmapbt=1"),
    row("-i size=2048 -m reflink=0"),
    Row { mib: 1024, ..new("-m metadir=0 -b size=65536") },
    row("-n size=8192 -m rmapbt=1"),
    row("-n size=65536"),
    row("-s size=4096 -m rmapbt=1"),
    row("-l su=32k"),
    Row { mib: 1200, ..row("-d su=64k,sw=4 -m rmapbt=1") },
    Row { mib: 2048, ..row("-d agcount=24 -m rmapbt=1") },
    v4("-m crc=0"),
    v4("-m crc=0 -n ftype=0"),
    v4("-m crc=0 -i attr=1,projid32bit=0"),
    v4("-m crc=0 -l lazy-count=0"),
    v4("-m crc=0 -b size=512"),
    Row { refused: Some("xfs.feature.unsupported"), mounts: false, ..row("-n version=ci") },
];
