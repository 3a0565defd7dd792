//! C-2: a killed process leaves no target, and nothing that stands in the way of the next one.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod common;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::*;

const FOLDER: &str = "COLDFIT_TEST_KILL";

/// What runs in the process that is killed: this binary once more.
#[test]
#[ignore = "the other test runs it in a process of its own"]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = PathBuf::from(folder);
    let options = coldfit_convert::Options::default();
    convert(
        &raw_source(&folder.join("raw")),
        &coldfit_convert::TargetFormat::Raw,
        &folder.join("out"),
        &options,
    );
}

#[test]
fn c2_killed_in_the_middle_there_is_no_target_and_the_next_run_makes_one() {
    let dir = tempfile::tempdir().unwrap();
    let (raw, out) = (dir.path().join("raw"), dir.path().join("out"));
    std::fs::write(&raw, Noise::new(77).bytes(64 << 20)).unwrap();
    let before = std::fs::metadata(&raw).unwrap().modified().unwrap();
    let mut killed_in_the_middle = 0;
    for _ in 0..20 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--ignored"])
            .env(FOLDER, dir.path())
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let started = Instant::now();
        while names(dir.path()).len() < 2 && started.elapsed() < Duration::from_secs(60) {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        match out.exists() {
            // It was quicker than we: the target is complete then.
            true => {
                judge(&raw, "raw", &out, "raw");
                std::fs::remove_file(&out).unwrap();
            }
            false => killed_in_the_middle += 1,
        }
        if killed_in_the_middle == 3 {
            break;
        }
    }
    assert!(killed_in_the_middle > 0);
    assert_eq!(names(dir.path()).len(), 2, "one leftover: {:?}", names(dir.path()));
    convert(&raw_source(&raw), &qcow2_target(3, 16, None), &out, &quick());
    assert_eq!(names(dir.path()), [out.clone(), raw.clone()]);
    judge(&raw, "raw", &out, "qcow2");
    assert_eq!(std::fs::metadata(&raw).unwrap().modified().unwrap(), before);
}
