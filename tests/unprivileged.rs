//! `inspect`, `fix` and `undo` as an unprivileged user, under a filter that kills on mounts and namespaces,
//! and without opening any device but null, zero and urandom.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test says what it sees and fails by panicking"
)]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use testkit::recipe::Image;

use support::{image, is_root, same_bytes, text};

/// An account without any right, as every Linux system has it.
const NOBODY: &str = "65534";

/// `program` as nobody where this test may change the user, without capabilities, under the seccomp filter.
fn confined(confine: &Path, tracer: &[&str], program: &Path, arguments: &[&str]) -> std::process::Output {
    let mut words: Vec<String> = Vec::new();
    if is_root() {
        let setpriv = [
            "setpriv",
            "--reuid",
            NOBODY,
            "--regid",
            NOBODY,
            "--clear-groups",
            "--bounding-set=-all",
            "--no-new-privs",
        ];
        words.extend(setpriv.map(str::to_owned));
    }
    words.extend(tracer.iter().map(|word| (*word).to_owned()));
    if tracer.is_empty() {
        words.push(confine.display().to_string());
    }
    words.push(program.display().to_string());
    words.extend(arguments.iter().map(|word| (*word).to_owned()));
    Command::new(&words[0])
        .args(&words[1..])
        .env("TMPDIR", program.parent().unwrap())
        .output()
        .expect("the command starts")
}

#[test]
fn needs_no_right_no_namespace_and_no_device() {
    let build = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "-p", "coldfit-testkit", "--bin", "coldfit-confine"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .unwrap();
    assert!(build.success());
    let dir = tempfile::tempdir().unwrap();
    let disk = image(Image::Mbr, dir.path());
    std::fs::copy(&disk, dir.path().join("before.qcow2")).unwrap();
    // Copies, since nobody may not be able to reach the folder of the build.
    let place = |from: &Path| {
        let to = dir.path().join(from.file_name().unwrap());
        std::fs::copy(from, &to).unwrap();
        to
    };
    let program = place(Path::new(env!("CARGO_BIN_EXE_coldfit")));
    let confine = place(&Path::new(env!("CARGO_BIN_EXE_coldfit")).with_file_name("coldfit-confine"));
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    std::fs::set_permissions(&disk, std::fs::Permissions::from_mode(0o666)).unwrap();

    // The filter does kill: else all that follows proves nothing.
    let killed = confined(&confine, &[], Path::new("/usr/bin/unshare"), &["-U", "true"]);
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&killed.status), Some(31), "{killed:?}");

    let path = disk.to_str().unwrap();
    let undo = dir.path().join("disk.undo");
    let undo = undo.to_str().unwrap();
    let steps: [&[&str]; 3] = [
        &["inspect", path],
        &["fix", path, "--profile", "kvm", "--undo-file", undo],
        &["undo", path, "--undo-file", undo],
    ];
    for step in steps {
        let output = confined(&confine, &[], &program, step);
        assert!(output.status.success(), "{step:?}: {}\n{}", output.status, text(&output.stderr));
        if step[0] == "fix" {
            assert!(!same_bytes(&disk, &dir.path().join("before.qcow2")), "fix changed nothing");
        }
    }
    assert!(same_bytes(&disk, &dir.path().join("before.qcow2")), "undo did not restore the bytes");

    let trace = dir.path().join("trace");
    let tracer =
        ["strace", "-f", "-qq", "-e", "trace=open,openat,openat2,creat", "-o", trace.to_str().unwrap()];
    for step in steps {
        let output = confined(&confine, &tracer, &program, step);
        assert!(output.status.success(), "{step:?}: {}\n{}", output.status, text(&output.stderr));
        let calls = std::fs::read_to_string(&trace).unwrap();
        assert!(calls.contains(path), "the trace shows no open of the image:\n{calls}");
        let devices = calls.lines().filter(|line| line.contains("\"/dev"));
        let stray: Vec<&str> = devices
            .filter(|line| {
                !["null", "zero", "urandom"].iter().any(|name| line.contains(&format!("\"/dev/{name}\"")))
            })
            .collect();
        assert!(stray.is_empty(), "{step:?} opened devices: {stray:#?}");
    }
}
