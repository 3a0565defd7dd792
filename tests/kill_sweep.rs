//! SIGKILL at many moments of a real `fix`: afterwards the image is, once recovered, exactly the old or exactly
//! the new one, for raw and for qcow2.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test says what it sees and fails by panicking"
)]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use testkit::recipe::Image;

use support::{coldfit, image, same_bytes, text, to_raw};

/// Kills spread evenly over the whole run, and kills from the moment at which the journal appears.
const EVEN: u32 = 5;
const AROUND_COMMIT: u32 = 12;

fn fix(disk: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_coldfit"))
        .env("SOURCE_DATE_EPOCH", "1700000000")
        .args(["fix", "--quiet", "--profile", "kvm"])
        .arg(disk)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("coldfit starts")
}

fn journal_of(disk: &Path) -> PathBuf {
    let name = disk.file_name().unwrap().to_str().unwrap();
    disk.with_file_name(format!(".{name}.coldfit-journal"))
}

fn sparse_copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_file(to);
    support::tool("cp", ["--sparse=always".as_ref(), from.as_os_str(), to.as_os_str()]);
}

/// How a kill ended.
#[derive(Debug, Default)]
struct Tally {
    old: u32,
    new: u32,
    /// Kills that left a journal, so that a recovery took place.
    recovered: u32,
}

fn judge(disk: &Path, old: &Path, new: &Path, tally: &mut Tally) {
    let had_journal = journal_of(disk).exists();
    // Read-only use sees a whole image, too, and writes nothing.
    let before = std::fs::read(journal_of(disk)).ok();
    let seen = coldfit(["inspect".as_ref(), "--quiet".as_ref(), disk.as_os_str()]);
    assert!(seen.status.success(), "inspect after a kill: {}", text(&seen.stderr));
    assert_eq!(std::fs::read(journal_of(disk)).ok(), before, "inspect touched the journal");
    let recovery = coldfit(["undo".as_ref(), "--quiet".as_ref(), disk.as_os_str()]);
    // Without a hot journal there is nothing to roll back (an unfinished one is just removed), and no undo file.
    if recovery.status.success() {
        assert!(had_journal, "something was rolled back without a journal");
        tally.recovered += 1;
    } else {
        assert!(
            text(&recovery.stderr).contains("disk.") && text(&recovery.stderr).contains("host.not-found"),
            "{recovery:?}"
        );
    }
    assert!(!journal_of(disk).exists(), "the journal stays behind");
    if same_bytes(disk, old) {
        tally.old += 1;
    } else if same_bytes(disk, new) {
        tally.new += 1;
    } else {
        panic!("the image is neither the old nor the new one");
    }
}

fn sweep(old: &Path, disk: &Path, new: &Path) {
    sparse_copy(old, disk);
    let started = Instant::now();
    assert!(fix(disk).wait().unwrap().success());
    let whole = started.elapsed();
    sparse_copy(disk, new);
    assert!(!same_bytes(old, new), "fix changed nothing");
    let mut tally = Tally::default();
    for step in 0..EVEN {
        sparse_copy(old, disk);
        let mut child = fix(disk);
        std::thread::sleep(whole * step / EVEN);
        child.kill().unwrap();
        child.wait().unwrap();
        judge(disk, old, new, &mut tally);
    }
    // How long the commit takes, from the journal's first appearance to its end.
    let mut commit = Duration::ZERO;
    for step in 0..=AROUND_COMMIT {
        sparse_copy(old, disk);
        let mut child = fix(disk);
        while !journal_of(disk).exists() && child.try_wait().unwrap().is_none() {
            std::hint::spin_loop();
        }
        let started = Instant::now();
        if step == 0 {
            child.wait().unwrap();
            commit = started.elapsed();
        } else {
            std::thread::sleep(commit * (step - 1) / AROUND_COMMIT);
            child.kill().unwrap();
            child.wait().unwrap();
        }
        judge(disk, old, new, &mut tally);
    }
    println!("{}: {tally:?}, whole run {whole:?}, commit {commit:?}", disk.display());
    assert!(tally.old > 0 && tally.new > 0 && tally.recovered > 0, "the sweep met too little: {tally:?}");
}

#[test]
fn a_killed_fix_leaves_the_old_or_the_new_image() {
    let dir = tempfile::tempdir().unwrap();
    let original = image(Image::Mbr, dir.path());
    let at = |name: &str| dir.path().join(name);
    sweep(&original, &at("disk.qcow2"), &at("new.qcow2"));
    to_raw(&original, &at("original.raw"));
    sweep(&at("original.raw"), &at("disk.raw"), &at("new.raw"));
}
