//! The dirty log of `testdata/xfs`: needs neither root nor loop devices.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use block::{FileDevice, MemoryDevice, ReadAt, WriteAt};
use coldfit_xfs::{Xfs, needs_recovery, recover};
use report::Diagnose;
use vfs::Filesystem;

fn fixture(dir: &Path) -> std::path::PathBuf {
    let path = dir.join("image");
    let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/xfs/dirty-log.raw.zst");
    let out =
        Command::new("zstd").args(["-q", "-d", "--sparse", "-o"]).arg(&path).arg(packed).status().unwrap();
    assert!(out.success());
    path
}

fn names(fs: &Xfs, dir: &str) -> Vec<String> {
    let root = fs.root();
    let dir = if dir.is_empty() { root } else { fs.lookup(root, dir.as_bytes()).unwrap().unwrap() };
    let entries = fs.list(dir).unwrap().into_iter();
    let mut names: Vec<String> = entries.map(|entry| String::from_utf8(entry.name).unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_stored_log_is_replayed_and_repair_finds_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = fixture(dir.path());
    let device = Arc::new(FileDevice::open_write(&path).unwrap());
    let error = Xfs::open(Arc::clone(&device) as Arc<dyn ReadAt>).err().unwrap();
    assert_eq!(error.code(), "xfs.log.dirty");
    let report = recover(&(Arc::clone(&device) as Arc<dyn WriteAt>)).unwrap();
    assert!(report.unlinked == 1 && report.blocks > 0, "{report:?}");
    let fs = Xfs::open(Arc::clone(&device) as Arc<dyn ReadAt>).unwrap();
    assert_eq!(names(&fs, ""), ["d1", "d2", "d3", "d4", "d5", "d6"]);
    for (dir, expected) in [("d1", &["l"][..]), ("d2", &["l"]), ("d3", &["f", "g", "l"]), ("d4", &["l"])] {
        assert_eq!(names(&fs, dir), expected, "{dir}");
    }
    drop((fs, device));
    for (tool, arguments) in [("xfs_repair", "-n -o force_geometry"), ("xfs_logprint", "-t")] {
        let out = Command::new(tool).args(arguments.split(' ')).arg(&path).output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(out.status.success(), "{text}{}", String::from_utf8_lossy(&out.stderr));
        assert!(tool != "xfs_logprint" || text.contains("<CLEAN>"), "{text}");
    }
}

#[test]
fn replay_twice_changes_nothing_more() {
    let dir = tempfile::tempdir().unwrap();
    let device = Arc::new(MemoryDevice::new(std::fs::read(fixture(dir.path())).unwrap()));
    recover(&(Arc::clone(&device) as Arc<dyn WriteAt>)).unwrap();
    let once = device.to_vec();
    assert!(!needs_recovery(Arc::clone(&device) as Arc<dyn ReadAt>).unwrap());
    recover(&(Arc::clone(&device) as Arc<dyn WriteAt>)).unwrap();
    assert!(device.to_vec() == once);
}

/// Whatever byte of the log is wrong: replayed, cut as torn, or refused with a code, and no panic.
#[test]
fn damaged_logs_are_cut_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let good = std::fs::read(fixture(dir.path())).unwrap();
    let log = 5 * 4096;
    let mut refused = 0;
    for at in (0..25 * 512).step_by(199) {
        let mut bytes = good.clone();
        bytes[log + at] ^= 0x41;
        let device = Arc::new(MemoryDevice::new(bytes)) as Arc<dyn WriteAt>;
        if let Err(error) = recover(&device) {
            assert!(!error.code().is_empty());
            refused += 1;
        }
    }
    assert!(refused > 0);
}
