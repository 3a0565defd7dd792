//! `coldfit convert`, as a user calls it: judged by qemu-img, whatever else changes in the image is a failure.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test says what it sees and fails by panicking"
)]

mod support;

use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use support::{coldfit, coldfit_json, same_bytes, same_disk, text, tool};

const DISK_BYTES: u64 = 24 << 20;

struct Lab {
    dir: tempfile::TempDir,
}

impl Lab {
    /// `disk.raw`: text, noise, written zeroes, holes, and an odd end.
    fn new() -> Self {
        let lab = Self { dir: tempfile::tempdir().unwrap() };
        let file = std::fs::File::create(lab.path("disk.raw")).unwrap();
        file.set_len(DISK_BYTES + 512).unwrap();
        let mut line = String::new();
        for number in 0..60_000 {
            line.push_str(&format!("{number} of many lines, some of which are alike\n"));
        }
        file.write_all_at(line.as_bytes(), 1 << 20).unwrap();
        let mut state = 0x1234_5678_9abc_def1_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .take(3 << 20)
        .collect();
        file.write_all_at(&noise, (8 << 20) + 4096).unwrap();
        file.write_all_at(&vec![0; 2 << 20], 14 << 20).unwrap();
        file.write_all_at(b"the end", DISK_BYTES + 505).unwrap();
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Converts, with what must succeed.
    fn convert(&self, options: &[&str], from: &str, to: &str) -> Value {
        let (from, to) = (self.path(from), self.path(to));
        let mut arguments = vec!["convert"];
        arguments.extend(options);
        arguments.extend([from.to_str().unwrap(), to.to_str().unwrap()]);
        coldfit_json(arguments)
    }

    fn fails(&self, options: &[&str], from: &str, to: &str, exit: i32) -> String {
        let (from, to) = (self.path(from), self.path(to));
        let mut arguments = vec!["--format", "json", "convert"];
        arguments.extend(options);
        arguments.extend([from.to_str().unwrap(), to.to_str().unwrap()]);
        let output = coldfit(arguments);
        assert_eq!(output.status.code(), Some(exit), "{}", text(&output.stderr));
        match serde_json::from_slice::<Value>(&output.stderr) {
            Ok(value) => value["error"]["code"].as_str().unwrap().to_owned(),
            // clap's own words.
            Err(_) => "usage".into(),
        }
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn checked(image: &Path) {
    tool("qemu-img", ["check".as_ref(), "-q".as_ref(), image.as_os_str()]);
}

fn info(image: &Path) -> Value {
    serde_json::from_str(&tool("qemu-img", ["info".as_ref(), "--output=json".as_ref(), image.as_os_str()]))
        .unwrap()
}

#[test]
fn a_disk_goes_through_every_form_and_stays_the_same() {
    let lab = Lab::new();
    let steps: &[(&[&str], &str, &str)] = &[
        (&[], "disk.raw", "plain.qcow2"),
        (&["-c"], "plain.qcow2", "zlib.qcow2"),
        (&["--compress", "zstd:4"], "zlib.qcow2", "zstd.qcow2"),
        (&["-c", "-o", "cluster_size=2M,compat=0.10"], "zstd.qcow2", "old.qcow2"),
        (&["-o", "cluster_size=512"], "old.qcow2", "fine.qcow2"),
        (&[], "fine.qcow2", "back.raw"),
    ];
    for (options, from, to) in steps {
        let report = lab.convert(options, from, to);
        assert_eq!(report["virtual_bytes"], DISK_BYTES + 512);
        assert_eq!(report["synced"], true);
        if to.ends_with("qcow2") {
            checked(&lab.path(to));
        }
        assert!(same_disk(&lab.path("disk.raw"), &lab.path(to)), "{to}");
    }
    assert!(same_bytes(&lab.path("disk.raw"), &lab.path("back.raw")));
    let facts = info(&lab.path("old.qcow2"));
    assert_eq!(
        (&facts["cluster-size"], &facts["format-specific"]["data"]["compat"]),
        (&(2 << 20).into(), &"0.10".into())
    );
    assert_eq!(info(&lab.path("zstd.qcow2"))["format-specific"]["data"]["compression-type"], "zstd");
    let size = |name: &str| std::fs::metadata(lab.path(name)).unwrap().len();
    assert!(size("zlib.qcow2") < size("plain.qcow2") && size("zstd.qcow2") < size("plain.qcow2"));
}

#[test]
fn threads_and_memory_do_not_show_in_the_bytes() {
    let lab = Lab::new();
    for (name, options) in [("zlib", "-c"), ("zstd", "--compress=zstd")] {
        let first = format!("{name}-0.qcow2");
        lab.convert(&[options], "disk.raw", &first);
        for (number, work) in [["-m", "1"], ["-m", "2"], ["-m", "8"], ["--memory", "8"]].iter().enumerate() {
            let other = format!("{name}-{}.qcow2", number + 1);
            lab.convert(&[options, work[0], work[1]], "disk.raw", &other);
            assert!(same_bytes(&lab.path(&first), &lab.path(&other)), "{name} {work:?}");
        }
    }
}

#[test]
fn the_content_digest_is_that_of_the_disk_and_the_checksum_that_of_the_file() {
    let lab = Lab::new();
    let options = ["--digest", "--checksum", "sha256"];
    let raw = lab.convert(&options, "disk.raw", "a.raw");
    let qcow2 = lab.convert(&[&options[..], &["-c"]].concat(), "a.raw", "a.qcow2");
    assert_eq!(raw["digest"], qcow2["digest"]);
    for (report, name) in [(raw, "a.raw"), (qcow2, "a.qcow2")] {
        let sum = tool("sha256sum", [lab.path(name)]);
        assert_eq!(report["sha256"].as_str(), sum.split_whitespace().next());
    }
    let file = std::fs::File::options().write(true).open(lab.path("disk.raw")).unwrap();
    file.write_all_at(b"x", 20 << 20).unwrap();
    let changed = lab.convert(&options, "disk.raw", "b.raw");
    assert_ne!(changed["digest"], lab.convert(&options, "a.raw", "c.raw")["digest"]);
}

#[test]
fn a_backing_file_is_flattened_or_kept() {
    let lab = Lab::new();
    tool(
        "qemu-img",
        [
            "create",
            "-q",
            "-f",
            "qcow2",
            "-F",
            "raw",
            "-b",
            "disk.raw",
            lab.path("top.qcow2").to_str().unwrap(),
        ],
    );
    tool(
        "qemu-io",
        ["-c", "write -P 7 5M 1M", "-c", "write -z 9M 64k", lab.path("top.qcow2").to_str().unwrap()],
    );
    let below = lab.dir.path().to_str().unwrap().to_owned();
    assert_eq!(lab.fails(&[], "top.qcow2", "out.qcow2", 5), "image.gate-denied");
    lab.convert(&["--allow-backing", &below], "top.qcow2", "flat.qcow2");
    lab.convert(&["--allow-backing", &below, "-B", "disk.raw", "-F", "raw", "-c"], "top.qcow2", "kept.qcow2");
    for name in ["flat.qcow2", "kept.qcow2"] {
        checked(&lab.path(name));
        assert!(same_disk(&lab.path("top.qcow2"), &lab.path(name)), "{name}");
    }
    assert_eq!(info(&lab.path("kept.qcow2"))["backing-filename"], "disk.raw");
    assert!(info(&lab.path("flat.qcow2"))["backing-filename"].is_null());
    let size = |name: &str| std::fs::metadata(lab.path(name)).unwrap().len();
    assert!(size("kept.qcow2") < 1 << 20 && size("flat.qcow2") > 3 << 20);
    tool("cp", [lab.path("disk.raw"), lab.path("other.raw")]);
    let options = ["--allow-backing", &below, "-B", "other.raw", "-F", "raw"];
    assert_eq!(lab.fails(&options, "top.qcow2", "wrong.qcow2", 2), "convert.target.backing");
}

#[test]
fn what_is_there_is_kept_unless_told_otherwise() {
    let lab = Lab::new();
    lab.convert(&[], "disk.raw", "out.qcow2");
    assert_eq!(lab.fails(&[], "disk.raw", "out.qcow2", 2), "target.refused");
    lab.convert(&["--force", "-c"], "disk.raw", "out.qcow2");
    checked(&lab.path("out.qcow2"));
    assert_eq!(lab.fails(&["--force"], "disk.raw", "disk.raw", 2), "target.refused");

    // -n: written into, holes and zeroes as well, length kept.
    std::fs::write(lab.path("old.raw"), vec![0xaa; DISK_BYTES as usize + 512]).unwrap();
    lab.convert(&["-n"], "disk.raw", "old.raw");
    assert!(same_bytes(&lab.path("disk.raw"), &lab.path("old.raw")));
    std::fs::write(lab.path("short.raw"), [0xaa; 4096]).unwrap();
    let code = lab.fails(&["-n"], "disk.raw", "short.raw", 2);
    assert!(code.starts_with("convert.target."), "{code}");
    assert_eq!(std::fs::read(lab.path("short.raw")).unwrap(), [0xaa; 4096]);
}

#[test]
fn sparse_as_in_qemu_img() {
    let lab = Lab::new();
    let blocks = |name: &str| {
        std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(lab.path(name)).unwrap()) * 512
    };
    lab.convert(&[], "disk.raw", "sparse.raw");
    lab.convert(&["-S", "0"], "disk.raw", "full.raw");
    assert!(blocks("sparse.raw") < 7 << 20, "{}", blocks("sparse.raw"));
    assert!(blocks("full.raw") >= DISK_BYTES, "{}", blocks("full.raw"));
    for name in ["sparse.raw", "full.raw"] {
        assert!(same_bytes(&lab.path("disk.raw"), &lab.path(name)), "{name}");
    }
}

#[test]
fn a_failed_conversion_leaves_nothing() {
    let lab = Lab::new();
    lab.convert(&["-c"], "disk.raw", "good.qcow2");
    let damaged = lab.path("damaged.qcow2");
    std::fs::copy(lab.path("good.qcow2"), &damaged).unwrap();
    let file = std::fs::File::options().write(true).open(&damaged).unwrap();
    // Inside the first compressed clusters, far from the tables.
    file.write_all_at(&[0xff; 20_000], 70_000).unwrap();
    let before = lab.names();
    let bytes = std::fs::read(&damaged).unwrap();
    lab.fails(&[], "damaged.qcow2", "out.raw", 4);
    assert_eq!(lab.names(), before);
    assert!(std::fs::read(&damaged).unwrap() == bytes);
    for (options, exit) in [
        (&["-o", "cluster_size=3000"][..], 2),
        (&["-o", "preallocation=full"], 3),
        (&["-o", "nonsense=1"], 3),
        (&["--compress", "lz4"], 2),
        (&["--compress", "zlib:10"], 2),
        (&["--compress", "zstd", "-o", "compat=0.10"], 2),
    ] {
        lab.fails(options, "disk.raw", "out.qcow2", exit);
        assert_eq!(lab.names(), before);
    }
    assert_eq!(lab.fails(&["-c"], "disk.raw", "out.raw", 2), "usage");
}

#[test]
fn a_raw_disk_streams_to_standard_output() {
    let lab = Lab::new();
    lab.convert(&["-c"], "disk.raw", "in.qcow2");
    let output = coldfit(["convert", "-q", "-O", "raw", lab.path("in.qcow2").to_str().unwrap(), "-"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(output.stdout == std::fs::read(lab.path("disk.raw")).unwrap());
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
    // And from standard input.
    let out = lab.path("from-stdin.qcow2");
    let mut child = Command::new(env!("CARGO_BIN_EXE_coldfit"))
        .args(["convert", "-f", "raw", "-", out.to_str().unwrap()])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&std::fs::read(lab.path("disk.raw")).unwrap()).unwrap();
    assert!(child.wait().unwrap().success());
    checked(&out);
    assert!(same_disk(&lab.path("disk.raw"), &out));
    // An image in another format is no disk; whoever says that it is one gets its bytes.
    let packed = std::fs::read(lab.path("in.qcow2")).unwrap();
    for (options, exit) in [(&[][..], 3), (&["-f", "raw"], 0)] {
        let out = lab.path("packed.raw");
        let mut child = Command::new(env!("CARGO_BIN_EXE_coldfit"))
            .arg("convert")
            .args(options)
            .args(["-", out.to_str().unwrap()])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        // A refusal reads no more than the head.
        let _ = child.stdin.take().unwrap().write_all(&packed);
        assert_eq!(child.wait().unwrap().code(), Some(exit), "{options:?}");
        assert_eq!(out.exists(), exit == 0);
    }
    assert!(std::fs::read(lab.path("packed.raw")).unwrap() == packed);
}

#[test]
fn vhd_has_the_exact_size_and_streams_unpack_with_their_own_tools() {
    let lab = Lab::new();
    // A size that no cylinder ends at.
    let file = std::fs::File::options().write(true).open(lab.path("disk.raw")).unwrap();
    file.set_len(DISK_BYTES + (1 << 20)).unwrap();
    drop(file);
    for (name, options) in [("dynamic.vhd", &[][..]), ("fixed.vhd", &["-o", "subformat=fixed"])] {
        let report = lab.convert(options, "disk.raw", name);
        assert_eq!(report["target_format"], "vhd");
        // qemu-img takes a fixed image for a raw one when it is not told.
        let image = lab.path(name);
        let facts = tool("qemu-img", ["info", "-f", "vpc", "--output=json", image.to_str().unwrap()]);
        let facts: Value = serde_json::from_str(&facts).unwrap();
        assert_eq!(facts["virtual-size"], DISK_BYTES + (1 << 20), "{name}");
        let raw = lab.path("disk.raw");
        tool(
            "qemu-img",
            ["compare", "-q", "-f", "raw", "-F", "vpc", raw.to_str().unwrap(), image.to_str().unwrap()],
        );
        let back = format!("{name}.qcow2");
        assert_eq!(lab.convert(&["-c"], name, &back)["source_format"], "vhd");
        assert!(same_disk(&lab.path("disk.raw"), &lab.path(&back)), "{name}");
    }
    let disk = std::fs::read(lab.path("disk.raw")).unwrap();
    for (name, unpack) in [
        ("disk.raw.gz", "gzip -dc"),
        ("disk.raw.xz", "xz -dc"),
        ("disk.raw.zst", "zstd -qdc"),
        ("disk.tar.gz", "tar -xOzf"),
    ] {
        lab.convert(&[], "disk.raw", name);
        let script = format!("{unpack} \"$0\"");
        let output = Command::new("sh").arg("-c").arg(script).arg(lab.path(name)).output().unwrap();
        assert!(output.status.success() && output.stdout == disk, "{name}: {}", text(&output.stderr));
        let back = format!("{name}.qcow2");
        let report = lab.convert(&[], name, &back);
        assert!(name.ends_with(report["source_format"].as_str().unwrap()), "{report}");
        assert!(same_disk(&lab.path("disk.raw"), &lab.path(&back)), "{name}");
        // Cut off: an error, and nothing is left.
        let cut = lab.path("cut");
        let packed = std::fs::read(lab.path(name)).unwrap();
        std::fs::write(&cut, &packed[..packed.len() / 2]).unwrap();
        let code = lab.fails(&[], "cut", "cut.raw", 4);
        assert!(code.starts_with("archive."), "{code}");
        assert!(!lab.path("cut.raw").exists());
    }
}

#[test]
fn an_interrupt_ends_it_without_a_target() {
    let lab = Lab::new();
    let big = std::fs::File::create(lab.path("big.raw")).unwrap();
    let noise = std::fs::read(lab.path("disk.raw")).unwrap();
    for copy in 0..40 {
        big.write_all_at(&noise[1 << 20..12 << 20], copy * (11 << 20)).unwrap();
    }
    let before = lab.names();
    let out = lab.path("big.qcow2");
    let mut child = Command::new(env!("CARGO_BIN_EXE_coldfit"))
        .args([
            "convert",
            "-p",
            "--compress",
            "zlib:9",
            lab.path("big.raw").to_str().unwrap(),
            out.to_str().unwrap(),
        ])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The first line of progress: it is in the middle of its work.
    let mut first = [0u8; 1];
    std::io::Read::read_exact(child.stderr.as_mut().unwrap(), &mut first).unwrap();
    tool("kill", ["-INT".to_owned(), child.id().to_string()]);
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(5), "{status}");
    assert_eq!(lab.names(), before);
}
