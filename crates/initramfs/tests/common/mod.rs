//! What the tests of this crate share.
#![allow(
    dead_code,
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    reason = "test code; each test binary uses its part"
)]

pub mod guest;

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use coldfit_initramfs::{Compression, InitramfsError, ModuleSource};
use testkit::kernel_deb::KernelDeb;
use testkit::tool;

/// Every compression.
pub const COMPRESSIONS: [Compression; 8] = [
    Compression::None,
    Compression::Gzip,
    Compression::Bzip2,
    Compression::Lzma,
    Compression::Xz,
    Compression::Lzo,
    Compression::Lz4Legacy,
    Compression::Zstd,
];

/// A module directory on the host.
pub struct HostDir(pub PathBuf);

impl ModuleSource for HostDir {
    fn read(&self, relative: &str) -> Result<Option<Vec<u8>>, InitramfsError> {
        Ok(fs::read(self.0.join(relative)).ok())
    }
}

/// Debian's cloud kernel.
pub fn kernel() -> KernelDeb {
    KernelDeb::cloud().unwrap_or_else(|error| panic!("{error}"))
}

/// Runs a tool, its failure is the test's.
pub fn run<A: AsRef<OsStr>>(name: &str, args: impl IntoIterator<Item = A>) -> String {
    tool::run(name, args).unwrap_or_else(|error| panic!("{error}"))
}

/// Runs a tool with bytes on its standard input and returns its standard output.
pub fn filter(name: &str, args: &[&str], input: &[u8]) -> Vec<u8> {
    let mut command = tool::command(name, args);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        // A tool that stops reading early breaks the pipe; its exit status tells.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success(), "{name} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Packs with the reference tool.
pub fn pack(compression: Compression, bytes: &[u8]) -> Vec<u8> {
    match compression {
        Compression::None => bytes.to_vec(),
        Compression::Gzip => filter("gzip", &["-n", "-6"], bytes),
        Compression::Bzip2 => filter("bzip2", &[], bytes),
        Compression::Lzma => filter("xz", &["--format=lzma"], bytes),
        Compression::Xz => filter("xz", &["--check=crc32"], bytes),
        Compression::Lzo => filter("lzop", &[], bytes),
        Compression::Lz4Legacy => filter("lz4", &["-l", "-c"], bytes),
        Compression::Zstd => filter("zstd", &["-q", "-3"], bytes),
    }
}

/// Unpacks one whole stream with the reference tool, which also tests it.
pub fn unpack(compression: Compression, bytes: &[u8]) -> Vec<u8> {
    match compression {
        Compression::None => bytes.to_vec(),
        Compression::Gzip => filter("gzip", &["-dc"], bytes),
        Compression::Bzip2 => filter("bzip2", &["-dc"], bytes),
        Compression::Lzma => filter("xz", &["--format=lzma", "-dc"], bytes),
        Compression::Xz => filter("xz", &["-dc"], bytes),
        Compression::Lzo => filter("lzop", &["-dc"], bytes),
        Compression::Lz4Legacy => filter("lz4", &["-dc"], bytes),
        Compression::Zstd => filter("zstd", &["-dcq"], bytes),
    }
}

/// A cpio archive of a directory by GNU cpio, reproducible.
pub fn cpio_of(dir: &Path) -> Vec<u8> {
    let mut names = vec![".".to_string()];
    names.extend(all_below(dir));
    let dir = dir.to_str().unwrap();
    let args = ["-o", "-H", "newc", "--reproducible", "--quiet", "-R", "0:0", "-D", dir];
    filter("cpio", &args, names.join("\n").as_bytes())
}

/// The early segment that carries microcode.
pub fn microcode() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("kernel/x86/microcode")).unwrap();
    fs::write(dir.path().join("kernel/x86/microcode/GenuineIntel.bin"), vec![7; 3001]).unwrap();
    cpio_of(dir.path())
}

/// Everything below `dir` as paths relative to it, parents first, sorted.
pub fn all_below(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_path_buf()];
    while let Some(at) = todo.pop() {
        for entry in fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() {
                todo.push(path.clone());
            }
            found.push(path.strip_prefix(dir).unwrap().to_str().unwrap().to_string());
        }
    }
    found.sort();
    found
}

/// The files among [`all_below`].
pub fn files_below(dir: &Path) -> Vec<String> {
    all_below(dir).into_iter().filter(|path| !dir.join(path).is_dir()).collect()
}

/// Files of the modules that kmod's modprobe would load for `name`, in its order, relative to the module directory.
pub fn modprobe_depends(kernel: &KernelDeb, name: &str) -> Vec<String> {
    let args: [&OsStr; 7] = [
        "-d".as_ref(),
        kernel.root.as_os_str(),
        "-S".as_ref(),
        kernel.kver.as_ref(),
        "-C".as_ref(),
        "/dev/null".as_ref(),
        "--show-depends".as_ref(),
    ];
    let shown = run("modprobe", args.into_iter().chain([OsStr::new(name)]));
    let marker = format!("/lib/modules/{}/", kernel.kver);
    shown
        .lines()
        .filter_map(|line| line.strip_prefix("insmod "))
        .filter_map(|line| line.split_once(&marker).map(|(_, path)| path.trim().to_string()))
        .collect()
}

/// A tree as initramfs-tools lays it out, holding `modules` and what they need, `/lib` a link to `/usr/lib`.
pub fn initramfs_tools_tree(kernel: &KernelDeb, modules: &[&str]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let at = |path: &str| root.path().join(path);
    for dir in ["conf", "scripts/local-top", "etc/modprobe.d", "usr/lib/systemd", "usr/bin"] {
        fs::create_dir_all(at(dir)).unwrap();
    }
    symlink("usr/lib", at("lib")).unwrap();
    symlink("usr/bin", at("bin")).unwrap();
    fs::write(at("init"), "#!/bin/sh\nexec /bin/sh\n").unwrap();
    fs::write(at("conf/initramfs.conf"), "MODULES=list\n").unwrap();
    fs::write(at("conf/modules"), "hv_storvsc\n").unwrap();
    fs::write(at("usr/lib/systemd/systemd-udevd"), "stands for udev").unwrap();
    fs::write(at("usr/bin/busybox"), vec![0x5a; 70_001]).unwrap();
    fs::hard_link(at("usr/bin/busybox"), at("usr/bin/sh")).unwrap();
    let dir = at(&format!("usr/lib/modules/{}", kernel.kver));
    fs::create_dir_all(&dir).unwrap();
    for module in modules {
        for path in modprobe_depends(kernel, module) {
            let to = dir.join(&path);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(kernel.module_dir().join(&path), to).unwrap();
        }
    }
    for name in ["modules.order", "modules.builtin", "modules.builtin.modinfo"] {
        fs::copy(kernel.module_dir().join(name), dir.join(name)).unwrap();
    }
    run("depmod", ["-b".as_ref(), root.path().as_os_str(), kernel.kver.as_ref()]);
    root
}

/// Header fields of an entry in a hand-made archive.
#[derive(Clone, Copy)]
pub struct EntryFields {
    pub inode: u32,
    pub mode: u32,
    pub links: u32,
}

/// A regular file, directory or link of its own.
pub fn fields(mode: u32) -> EntryFields {
    EntryFields { inode: 1, mode, links: 1 }
}

/// Appends one newc entry.
pub fn entry(archive: &mut Vec<u8>, path: &[u8], fields: EntryFields, data: &[u8]) {
    archive.extend_from_slice(b"070701");
    let EntryFields { inode, mode, links } = fields;
    let numbers = [inode, mode, 0, 0, links, 0, data.len() as u32, 0, 0, 0, 0, path.len() as u32 + 1, 0];
    for number in numbers {
        archive.extend_from_slice(format!("{number:08x}").as_bytes());
    }
    archive.extend_from_slice(path);
    archive.push(0);
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend_from_slice(data);
    archive.resize(archive.len().next_multiple_of(4), 0);
}
