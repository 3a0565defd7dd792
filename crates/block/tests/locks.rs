//! TX-10: locks that QEMU respects, and QEMU's locks respected. Judged by `qemu-io`, `qemu-img` and `qemu-nbd`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use coldfit_block::{Access, BlockError, ImageFile};
use report::{Class, Diagnose, Silent};

const FORMATS: [&str; 2] = ["raw", "qcow2"];

struct Lab {
    dir: tempfile::TempDir,
    format: &'static str,
}

impl Lab {
    fn new(format: &'static str) -> Self {
        let lab = Self { dir: tempfile::tempdir().unwrap(), format };
        let made = Command::new("qemu-img")
            .args(["create", "-q", "-f", format])
            .arg(lab.image())
            .arg("4M")
            .status()
            .expect("qemu-img is needed (Debian: qemu-utils)");
        assert!(made.success());
        lab
    }

    fn image(&self) -> PathBuf {
        self.dir.path().join("disk")
    }

    fn open(&self, access: Access) -> Result<ImageFile, BlockError> {
        ImageFile::open(&self.image(), access, &Silent)
    }

    fn assert_in_use(&self, access: Access) {
        let error = self.open(access).err().expect("the image is in use");
        assert!(matches!(error, BlockError::InUse { .. }), "{error}");
        assert_eq!((error.code(), error.class()), ("image.in-use", Class::Environment));
    }

    /// Runs a tool to its end; returns whether it succeeded, and what it said.
    fn run(&self, tool: &str, arguments: &[&str], last: Option<PathBuf>) -> (bool, String) {
        let output = Command::new(tool)
            .args(arguments)
            .arg(self.image())
            .args(last)
            .output()
            .unwrap_or_else(|error| panic!("{tool} is needed (Debian: qemu-utils): {error}"));
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// `qemu-io` with the image open until it is dropped.
struct QemuIo {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl QemuIo {
    fn hold(lab: &Lab, read_only: bool) -> Self {
        let mut command = Command::new("qemu-io");
        command.args(["-f", lab.format]);
        if read_only {
            command.arg("-r");
        }
        let mut child =
            command.arg(lab.image()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("qemu-io");
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(b"read 0 512\n").unwrap();
        stdin.flush().unwrap();
        let mut answer = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        while !answer.contains("read 512/512") {
            answer.clear();
            assert!(stdout.read_line(&mut answer).unwrap() > 0, "qemu-io ended early");
        }
        std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
        Self { child, stdin: Some(stdin) }
    }
}

impl Drop for QemuIo {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}

struct QemuNbd(Child);

impl QemuNbd {
    fn hold(lab: &Lab) -> Self {
        let socket = lab.dir.path().join("socket");
        let child = Command::new("qemu-nbd")
            .args(["-t", "-f", lab.format, "-k"])
            .arg(&socket)
            .arg(lab.image())
            .spawn()
            .expect("qemu-nbd");
        let started = Instant::now();
        // The socket may be there before the image is open; an answer to a client comes after both.
        let answers = || {
            let mut client = Command::new("qemu-img");
            client.arg("info").arg(format!("nbd:unix:{}", socket.display()));
            client.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("qemu-img").success()
        };
        while !socket.exists() || !answers() {
            assert!(started.elapsed() < Duration::from_secs(20), "qemu-nbd does not answer");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self(child)
    }
}

impl Drop for QemuNbd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn tx10_an_image_that_qemu_writes_is_refused() {
    for format in FORMATS {
        let lab = Lab::new(format);
        let qemu_io = QemuIo::hold(&lab, false);
        lab.assert_in_use(Access::Read);
        lab.assert_in_use(Access::Write);
        drop(qemu_io);
        let qemu_nbd = QemuNbd::hold(&lab);
        lab.assert_in_use(Access::Read);
        lab.assert_in_use(Access::Write);
        drop(qemu_nbd);
        lab.open(Access::Write).unwrap();
    }
}

#[test]
fn tx10_readers_coexist_and_keep_writers_out() {
    for format in FORMATS {
        let lab = Lab::new(format);
        let qemu_io = QemuIo::hold(&lab, true);
        let first = lab.open(Access::Read).unwrap();
        let second = lab.open(Access::Read).unwrap();
        lab.assert_in_use(Access::Write);
        drop((first, second));
        lab.assert_in_use(Access::Write);
        drop(qemu_io);
        lab.open(Access::Write).unwrap();
    }
}

#[test]
fn tx10_qemu_is_kept_out_while_we_write() {
    for format in FORMATS {
        let lab = Lab::new(format);
        let ours = lab.open(Access::Write).unwrap();
        lab.assert_in_use(Access::Read);
        lab.assert_in_use(Access::Write);
        for (tool, arguments) in [
            ("qemu-io", ["-f", format, "-c", "write 0 512"].as_slice()),
            ("qemu-io", &["-r", "-f", format, "-c", "read 0 512"]),
            ("qemu-img", &["map", "-f", format]),
            ("qemu-img", &["convert", "-f", format, "-O", "raw"]),
            ("qemu-img", &["resize", "-q", "-f", format, "--shrink"]),
        ] {
            let last = match arguments[0] {
                "convert" => Some(lab.dir.path().join("copy")),
                "resize" => Some(PathBuf::from("2M")),
                _ => None,
            };
            let (succeeded, said) = lab.run(tool, arguments, last);
            assert!(!succeeded && said.contains("Failed to get"), "{format}: {tool} {arguments:?}: {said}");
        }
        drop(ours);
        let (succeeded, said) = lab.run("qemu-io", &["-f", format, "-c", "write 0 512"], None);
        assert!(succeeded, "{said}");
    }
}

#[test]
fn tx10_qemu_may_read_but_not_write_while_we_read() {
    for format in FORMATS {
        let lab = Lab::new(format);
        let ours = lab.open(Access::Read).unwrap();
        let (succeeded, said) = lab.run("qemu-img", &["info", "-f", format], None);
        assert!(succeeded, "{format}: {said}");
        let (succeeded, said) = lab.run("qemu-io", &["-f", format, "-c", "write 0 512"], None);
        assert!(!succeeded && said.contains("Failed to get"), "{format}: {said}");
        drop(ours);
    }
}

#[test]
fn a_reader_keeps_its_lock_for_as_long_as_it_lives() {
    let lab = Lab::new("raw");
    let image = lab.open(Access::Write).unwrap();
    let reader = image.reader();
    drop(image);
    lab.assert_in_use(Access::Read);
    drop(reader);
    lab.open(Access::Read).unwrap();
}

#[test]
fn a_read_only_file_can_be_read() {
    let lab = Lab::new("raw");
    let path: &Path = &lab.image();
    let mut permissions = std::fs::metadata(path).unwrap().permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(path, permissions).unwrap();
    lab.open(Access::Read).unwrap();
}
