//! Whole-process figures of coldfit beside its peers, on the same files in one run.
//!
//! `cargo bench --bench side_by_side` prints a table; `docs/performance.md` keeps a copy with the command and
//! the machine. Every row is the median of several runs after one that is not counted, A and B in turn.
//! A peer that is not installed is said to be missing, never skipped in silence.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test says what it sees and fails by panicking"
)]

mod support;

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::{AnyError, RUNS, Subject, compare, fresh_copy, has, measure, measured_child, words};
use testkit::cache::Cache;
use testkit::recipe::Image;

fn main() -> Result<(), AnyError> {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "--measure") {
        return measured_child(&arguments[1..]);
    }
    let coldfit = PathBuf::from(env!("CARGO_BIN_EXE_coldfit"));
    let example = Image::Mbr.build(&Cache::open()?, &|step| eprintln!("{step}"))?.path;
    let dir = tempfile::tempdir()?;
    let qcow2 = dir.path().join("work.qcow2");
    let raw = dir.path().join("work.raw");
    let huge = dir.path().join("huge.qcow2");
    let raw_original = dir.path().join("original.raw");
    let mut convert = Command::new("qemu-img");
    convert.args(["convert", "-O", "raw"]).arg(&example).arg(&raw_original);
    if !convert.status()?.success() {
        return Err("qemu-img convert failed".into());
    }
    fresh_copy(&example, &huge)?;
    if !Command::new("qemu-img").args(["resize", "-q"]).arg(&huge).arg("1T").status()?.success() {
        return Err("qemu-img resize failed".into());
    }
    let copy_qcow2 = || fresh_copy(&example, &qcow2);
    let copy_raw = || fresh_copy(&raw_original, &raw);
    let nothing = || Ok(());

    println!("inspect and fix of the example image (median of {RUNS})");
    let inspect = |name, image: &Path| Subject {
        name,
        prepare: &nothing,
        command: words(&[&coldfit, &"inspect", &"--quiet", &image]),
    };
    compare(&[inspect("inspect, qcow2 of 2 GiB", &example)], RUNS)?;
    compare(&[inspect("inspect, raw of 2 GiB", &raw_original)], RUNS)?;
    compare(&[inspect("inspect, qcow2 of 1 TiB, sparse", &huge)], RUNS)?;
    // Exit code 1 says that the image does not meet the profile yet.
    let check = "\"$0\" check --quiet --profile alibaba \"$1\"; test $? = 1";
    let check = Subject {
        name: "check --profile alibaba, qcow2 of 2 GiB",
        prepare: &nothing,
        command: words(&[&"sh", &"-c", &check, &coldfit, &example]),
    };
    compare(&[check], RUNS)?;
    let fix = |name, prepare, image: &Path, more: &[&str]| Subject {
        name,
        prepare,
        command: words(&[&coldfit, &"fix", &"--quiet", &"--profile", &"kvm", &image])
            .into_iter()
            .chain(more.iter().map(OsString::from))
            .collect(),
    };
    compare(&[fix("fix in place, raw", &copy_raw, &raw, &[])], RUNS)?;
    let pair_name = "fix in place, qcow2";
    let own = fix(pair_name, &copy_qcow2, &qcow2, &[]);
    compare(&[own], RUNS)?;
    let edit = Subject {
        name: "virt-customize, one trivial edit, qcow2",
        prepare: &copy_qcow2,
        command: words(&[
            &"env",
            &"LIBGUESTFS_BACKEND=direct",
            // What both sides have here: no KVM.
            &"LIBGUESTFS_BACKEND_SETTINGS=force_tcg",
            &"virt-customize",
            &"-a",
            &qcow2,
            &"--write",
            &"/etc/motd:x",
        ]),
    };
    if !has("virt-customize") {
        println!(
            "virt-customize: not installed, not compared (apt-get install --no-remove libguestfs-tools)"
        );
    } else if let Err(error) = measure(&edit) {
        println!("virt-customize: does not run here, not compared: {error}");
    } else {
        compare(&[fix(pair_name, &copy_qcow2, &qcow2, &[]), edit], 1)?;
    }
    // Replaces this process, so that the table ends with the share of the time that is sync.
    copy_qcow2()?;
    println!("one more fix, its own account of time:");
    let error = Command::new("sh")
        .arg("-c")
        .arg("\"$0\" fix --quiet --format json --profile kvm \"$1\" | grep -A12 '\"timings\"'; rm -rf \"$2\"")
        .args([coldfit.as_os_str(), qcow2.as_os_str(), dir.keep().as_os_str()])
        .exec();
    Err(error.into())
}
