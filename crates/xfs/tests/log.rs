//! Logs that the kernel left dirty, replayed here and by the kernel's own mount of a copy. Needs root and loop devices.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use block::{FileDevice, ReadAt, WriteAt};
use coldfit_xfs::{RecoveryReport, Xfs, needs_recovery, recover};

/// Runs a script; `$1` and so on are the arguments. Gives its output.
fn sh(script: &str, arguments: &[&Path]) -> String {
    let out = Command::new("bash")
        .arg("-euc")
        .arg(script)
        .arg("bash")
        .args(arguments)
        .stdin(Stdio::null())
        .output();
    let out = out.unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{script}: {text}{}", String::from_utf8_lossy(&out.stderr));
    text
}

struct Lab {
    dir: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        let lab = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(lab.path("mnt")).unwrap();
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A filesystem on which `work` was done (`$1` is the mount point), as `end` left it.
    fn dirty(&self, mkfs: &str, work: &str, end: &str) -> PathBuf {
        let image = self.path("image");
        let _ = fs::remove_file(&image);
        File::create(&image).unwrap().set_len(400 << 20).unwrap();
        sh(&format!("mkfs.xfs -q {mkfs} \"$1\""), &[&image]);
        // What a work leaves running must not keep the mount.
        let script = format!(
            "mount -o loop \"$1\" \"$2\"; trap 'umount \"$2\"' EXIT; set -- \"$2\" \"$1\" \"$3\"; {work}\n{end}"
        );
        let script = script.replace("trap 'umount \"$2\"'", "m=$2; trap 'umount \"$m\"'");
        sh(&script, &[&image, &self.path("mnt"), &self.path("frozen")]);
        image
    }

    fn copy(&self, image: &Path, name: &str) -> PathBuf {
        let copy = self.path(name);
        sh("cp --sparse=always \"$1\" \"$2\"", &[image, &copy]);
        copy
    }

    /// Everything that a walk of the kernel's mount sees.
    fn tree(&self, image: &Path) -> String {
        sh(
            "mount -o loop,ro \"$1\" \"$2\"; m=$2; trap 'cd /; umount \"$m\"' EXIT; cd \"$2\"\n\
             find . -printf '%P %y %i %m %U %G %n %s %T@ %l\\n' | LC_ALL=C sort\n\
             find . -type f -print0 | LC_ALL=C sort -z | xargs -0r md5sum\n\
             find . -print0 | LC_ALL=C sort -z | xargs -0r getfattr -hd -m - --absolute-names",
            &[image, &self.path("mnt")],
        )
    }

    /// Replays here and by the kernel, and compares.
    fn judge(&self, image: &Path) -> RecoveryReport {
        let ours = self.copy(image, "ours");
        let theirs = self.copy(image, "theirs");
        sh("mount -o loop \"$1\" \"$2\"; umount \"$2\"", &[&theirs, &self.path("mnt")]);
        let device = Arc::new(FileDevice::open_write(&ours).unwrap());
        assert!(needs_recovery(Arc::clone(&device) as Arc<dyn ReadAt>).unwrap());
        let report = recover(&(Arc::clone(&device) as Arc<dyn WriteAt>)).unwrap();
        assert!(!needs_recovery(Arc::clone(&device) as Arc<dyn ReadAt>).unwrap());
        Xfs::open(Arc::clone(&device) as Arc<dyn ReadAt>).unwrap();
        drop(device);
        let said = sh("xfs_logprint -t \"$1\"", &[&ours]);
        assert!(said.contains("<CLEAN>"), "{said}");
        for image in [&theirs, &ours] {
            sh("xfs_repair -n \"$1\" 2>&1", &[image]);
        }
        let before = fs::read(&ours).map(|bytes| md5(&bytes)).unwrap();
        assert_eq!(self.tree(&ours), self.tree(&theirs));
        // A read-only mount of a clean log writes nothing.
        assert_eq!(fs::read(&ours).map(|bytes| md5(&bytes)).unwrap(), before);
        sh(
            "mount -o loop \"$1\" \"$2\"; echo new >\"$2/new\"; umount \"$2\"; xfs_repair -n \"$1\" 2>&1",
            &[&ours, &self.path("mnt")],
        );
        report
    }
}

/// Any digest will do.
fn md5(bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(7, |state: u64, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        (state ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23)
    })
}

const SHUTDOWN: &str = "xfs_io -x -c 'shutdown -f' \"$1\"";

/// Files, directories of every form, links, attributes, removals.
const WORK: &str = "cd \"$1\"\n\
    mkdir -p a/b c; for i in $(seq 400); do echo $i >a/file$i; mkdir c/dir$i; done\n\
    for i in $(seq 60); do ln -s target$i a/b/link$i; setfattr -n user.x$i -v value$i c; done\n\
    head -c 3000000 /dev/urandom >large; setfattr -n user.big -v $(head -c 900 /dev/zero | tr '\\0' x) a/file1\n\
    sync; rm a/file1?; rmdir c/dir2*; mv a/file30 c/moved; ln a/file31 c/hard; truncate -s 100000 large\n\
    chmod 600 a/file32; chown 5:6 a/file33; mkfifo fifo; mknod node b 8 1; cd /";

const MATRIX: [&str; 5] = [
    "-m rmapbt=1,reflink=1",
    "-m rmapbt=0,reflink=0,bigtime=0,inobtcount=0",
    "-b size=1024 -i size=512",
    "-l su=32k",
    "-n size=16384 -m reflink=1",
];

#[test]
fn a_log_that_was_shut_down_is_replayed_as_the_kernel_does() {
    let lab = Lab::new();
    for mkfs in MATRIX {
        let image = lab.dirty(mkfs, WORK, SHUTDOWN);
        let report = lab.judge(&image);
        assert!(report.transactions > 0 && report.blocks > 0, "{mkfs}: {report:?}");
    }
}

#[test]
fn a_frozen_filesystem_is_replayed_too() {
    let lab = Lab::new();
    let work =
        format!("{WORK}\nxfs_freeze -f \"$1\"; cp --sparse=always \"$2\" \"$3\"; xfs_freeze -u \"$1\"");
    lab.dirty(MATRIX[0], &work, "true");
    lab.judge(&lab.path("frozen"));
}

#[test]
fn inodes_without_a_name_are_freed() {
    let lab = Lab::new();
    let work = format!(
        "{WORK}\nfor i in $(seq 3); do head -c 200000 /dev/urandom >\"$1/open$i\"; done; mkdir \"$1/gone\"\n\
        exec 5<\"$1/open1\" 6<\"$1/open2\"; rm \"$1/open1\" \"$1/open2\"; sync"
    );
    let image = lab.dirty(MATRIX[0], &work, &format!("{SHUTDOWN}; exec 5<&- 6<&-"));
    let report = lab.judge(&image);
    assert_eq!(report.unlinked, 2, "{report:?}");
}

#[test]
fn a_torn_record_ends_the_log_before_it() {
    let lab = Lab::new();
    let image = lab.dirty(MATRIX[0], WORK, SHUTDOWN);
    let said = sh("xfs_logprint -t \"$1\"", &[&image]);
    let head: u64 = said.split("head: ").nth(1).unwrap().split_whitespace().next().unwrap().parse().unwrap();
    let words = sh("xfs_db -r -c 'sb 0' -c 'p logstart agblocks agblklog blocksize' \"$1\"", &[&image]);
    let field = |name: &str| -> u64 {
        let line = words.lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    let (start, log) = (field("logstart"), field("agblklog"));
    let block = (start >> log) * field("agblocks") + (start & ((1 << log) - 1));
    let file = File::options().read(true).write(true).open(&image).unwrap();
    let at = block * field("blocksize") + (head - 1) * 512 + 100;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    drop(file);
    let report = lab.judge(&image);
    assert_eq!(report.torn_records, 1, "{report:?}");
}
