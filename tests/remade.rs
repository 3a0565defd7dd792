//! `fix -o` and `convert --fix`: the changed disk goes into a new file through the copy engine. Judged by qemu-img,
//! e2fsck, debugfs or the kernel's mount, and a boot.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test says what it sees and fails by panicking"
)]

mod support;

use std::collections::BTreeMap;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;
use testkit::cache::{Cache, file_digest};
use testkit::qemu::{Bus, boot_cached};
use testkit::recipe::Image;

use support::{cut_partition, image, is_root, partition, same_bytes, same_disk, text, to_raw, tool};

struct Lab {
    dir: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs coldfit with a fixed clock, so that equal edits are equal bytes.
    fn run(arguments: &[&str]) -> Output {
        std::process::Command::new(env!("CARGO_BIN_EXE_coldfit"))
            .env("SOURCE_DATE_EPOCH", "1750000000")
            .args(["--format", "json"])
            .args(arguments)
            .output()
            .unwrap()
    }

    fn json(arguments: &[&str]) -> Value {
        let output = Self::run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn refused(arguments: &[&str], exit: i32) -> String {
        let output = Self::run(arguments);
        assert_eq!(output.status.code(), Some(exit), "{arguments:?}: {}", text(&output.stderr));
        let error: Value = serde_json::from_slice(&output.stderr).unwrap();
        error["error"]["code"].as_str().unwrap().to_owned()
    }
}

fn str(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn info(image: &Path) -> Value {
    serde_json::from_str(&tool("qemu-img", ["info", "--output=json", str(image)])).unwrap()
}

/// What an image file must still be after somebody read it.
fn state(path: &Path) -> (String, i64, i64, u64) {
    let metadata = std::fs::metadata(path).unwrap();
    (file_digest(path).unwrap(), metadata.mtime(), metadata.mtime_nsec(), metadata.len())
}

/// Path to content digest, and where the kernel looks mode, owner and link target too, of the root filesystem.
fn files(lab: &Lab, disk: &Path) -> BTreeMap<String, String> {
    let (raw, part, at) = (lab.path("files.raw"), lab.path("files.ext4"), lab.path("files"));
    to_raw(disk, &raw);
    cut_partition(&raw, 1, &part);
    std::fs::remove_file(&raw).unwrap();
    tool("e2fsck", ["-fn", str(&part)]);
    std::fs::create_dir_all(&at).unwrap();
    let by_kernel = is_root();
    if by_kernel {
        tool("mount", ["-o", "loop,ro,noload", str(&part), str(&at)]);
    } else {
        tool("debugfs", ["-R", &format!("rdump / {}", at.display()), str(&part)]);
    }
    let script = r#"cd "$0" && find . -type f -print0 | sort -z | xargs -0 sha256sum &&
        find . ! -type f -printf '%y %m %U:%G %l %p\n'"#;
    let listing = tool("sh", ["-c", script, str(&at)]);
    if by_kernel {
        testkit::tool::unmount(&at).unwrap();
    } else {
        std::fs::remove_dir_all(&at).unwrap();
    }
    std::fs::remove_file(&part).unwrap();
    let found: BTreeMap<String, String> = listing
        .lines()
        .map(|line| line.split_at(line.find("./").or_else(|| line.rfind(' ')).unwrap()))
        .map(|(what, path)| (path.to_owned(), what.to_owned()))
        .collect();
    assert!(found.len() > 1000, "only {} files seen", found.len());
    found
}

#[test]
fn a_fixed_copy_of_a_compressed_image_is_that_image_fixed_without_its_free_space_and_boots() {
    let lab = Lab::new();
    let source = image(Image::Compressed, lab.dir.path());
    let before = state(&source);
    let in_place = lab.path("in-place.qcow2");
    std::fs::copy(&source, &in_place).unwrap();
    Lab::json(&["fix", "-P", "kvm", str(&in_place)]);

    let (whole, small) = (lab.path("whole.qcow2"), lab.path("small.qcow2"));
    let report = Lab::json(&["fix", "-P", "kvm", str(&source), "-o", str(&whole), "--keep-free"]);
    assert!(report["copy"]["free_space"].is_null(), "{report}");
    assert!(same_disk(&in_place, &whole), "the copy is not what an edit in place makes");
    let report = Lab::json(&["fix", "-P", "kvm", str(&source), "-o", str(&small)]);
    assert!(state(&source) == before, "the source changed");

    let copy = &report["copy"];
    let free = copy["free_space"]["bytes"].as_u64().unwrap();
    assert_eq!(copy["free_space"]["volumes"][0]["free_bytes"].as_u64(), Some(free), "{copy}");
    assert_eq!((copy["format"].as_str(), copy["synced"].as_bool()), (Some("qcow2"), Some(true)));
    assert_eq!(report["commit"]["target"].as_str(), Some(str(&small)));
    let timings = report["timings"].as_object().unwrap();
    assert!(["verify", "copy", "sync"].iter().all(|stage| timings.contains_key(*stage)), "{timings:?}");
    assert!(report["verified"].to_string().contains("complete copy"), "{}", report["verified"]);
    for target in [&whole, &small] {
        tool("qemu-img", ["check", "-q", str(target)]);
        let (now, old) = (info(target), info(&source));
        assert_eq!(now["cluster-size"], old["cluster-size"]);
        assert_eq!(now["format-specific"]["data"]["compat"], old["format-specific"]["data"]["compat"]);
        let codec = |info: &Value| info["format-specific"]["data"]["compression-type"].clone();
        assert_eq!(codec(&now), codec(&old));
    }
    assert!(files(&lab, &small) == files(&lab, &in_place), "a file of the guest differs");

    let kept = state(&small);
    let again = Lab::json(&["fix", "-P", "kvm", str(&small)]);
    assert_eq!(again["edits"].as_array().map(Vec::len), Some(0), "{again}");
    assert!(state(&small) == kept, "a second fix wrote");
    let outcome = boot_cached(&Cache::open().unwrap(), &small, Bus::VirtioBlk).unwrap();
    assert!(outcome.reached.is_some(), "{}", outcome.log());
}

#[test]
fn deleted_content_is_not_in_the_copy_and_makes_it_no_larger() {
    let lab = Lab::new();
    let raw = lab.path("disk.raw");
    to_raw(&image(Image::Mbr, lab.dir.path()), &raw);
    // Noise that the guest deleted: nothing that could compress, and nothing that stands elsewhere.
    let (part, noise, script) = (lab.path("part"), lab.path("noise"), lab.path("script"));
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut content = vec![0; 24 << 20];
    for word in content.chunks_exact_mut(8) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        word.copy_from_slice(&seed.to_le_bytes());
    }
    std::fs::write(&noise, &content).unwrap();
    cut_partition(&raw, 1, &part);
    std::fs::write(&script, format!("write {} gone\nrm gone\n", noise.display())).unwrap();
    tool("debugfs", ["-w", "-f", str(&script), str(&part)]);
    let (start, len) = partition(&raw, 1);
    let (from, to) =
        (std::fs::File::open(&part).unwrap(), std::fs::File::options().write(true).open(&raw).unwrap());
    let mut buf = vec![0; 1 << 20];
    for at in (0..len).step_by(1 << 20) {
        let piece = &mut buf[..(len - at).min(1 << 20) as usize];
        from.read_exact_at(piece, at).unwrap();
        if piece.iter().any(|byte| *byte != 0) {
            to.write_all_at(piece, start + at).unwrap();
        }
    }
    std::fs::remove_file(&part).unwrap();
    let needle = &content[12 << 20..(12 << 20) + 4096];
    let holds = |path: &Path| {
        let file = std::fs::File::open(path).unwrap();
        let len = file.metadata().unwrap().len();
        let mut block = vec![0; 1 << 20];
        (0..len).step_by(1 << 20).any(|at| {
            let piece = &mut block[..(len - at).min(1 << 20) as usize];
            file.read_exact_at(piece, at).unwrap();
            piece.chunks(4096).any(|block| block == needle)
        })
    };
    assert!(holds(&raw));
    let blocks = |path: &Path| std::fs::metadata(path).unwrap().blocks() * 512;
    let (small, whole) = (lab.path("small.raw"), lab.path("whole.raw"));
    Lab::json(&["fix", "-P", "kvm", str(&raw), "-o", str(&small)]);
    Lab::json(&["fix", "-P", "kvm", str(&raw), "-o", str(&whole), "--keep-free"]);
    assert!(holds(&whole) && !holds(&small));
    assert!(blocks(&small) + (20 << 20) < blocks(&whole), "{} and {}", blocks(&small), blocks(&whole));
    assert!(files(&lab, &small) == files(&lab, &whole));

    // Without an edit the same; into another format, too.
    let converted = lab.path("converted.qcow2");
    let report = Lab::json(&["convert", "--skip-free", "-c", str(&raw), str(&converted)]);
    assert!(
        report["free_space"]["bytes"].as_u64().unwrap() > 24 << 20 && report["fix"].is_null(),
        "{report}"
    );
    tool("qemu-img", ["check", "-q", str(&converted)]);
    let back = lab.path("back.raw");
    to_raw(&converted, &back);
    assert!(!holds(&back));
    assert!(files(&lab, &converted) == files(&lab, &raw));
}

#[test]
fn converting_with_a_fix_equals_the_fix_and_then_the_conversion() {
    let lab = Lab::new();
    let compressed = image(Image::Compressed, lab.dir.path());
    let raw = lab.path("source.raw");
    to_raw(&compressed, &raw);
    let expected = lab.path("expected.raw");
    std::fs::copy(&raw, &expected).unwrap();
    Lab::json(&["fix", "-P", "kvm", str(&expected)]);
    let zstd = ["-c", "--compress", "zstd"];
    for (source, out, options) in [(&compressed, "out.raw", &[][..]), (&raw, "out.qcow2", &zstd)] {
        let before = state(source);
        let out = lab.path(out);
        let mut arguments = vec!["convert", "--fix", "kvm", "--keep-free"];
        arguments.extend(options);
        arguments.extend([str(source), str(&out)]);
        let report = Lab::json(&arguments);
        assert!(state(source) == before, "the source changed");
        assert!(same_disk(&expected, &out), "{arguments:?}");
        assert!(!report["fix"]["edits"].as_array().unwrap().is_empty(), "{report}");
        assert!(report["fix"]["verified"].to_string().contains("complete copy"), "{report}");
        if out.extension().is_some_and(|extension| extension == "qcow2") {
            tool("qemu-img", ["check", "-q", str(&out)]);
            assert_eq!(info(&out)["format-specific"]["data"]["compression-type"], "zstd");
        }
        let again = Lab::json(&["fix", "-P", "kvm", "-n", str(&out)]);
        assert_eq!(again["edits"].as_array().map(Vec::len), Some(0), "{again}");
    }
    // Without a word free space stays out.
    let small = lab.path("small.qcow2");
    let report = Lab::json(&["convert", "--fix", "kvm", "-c", str(&raw), str(&small)]);
    assert!(report["free_space"]["bytes"].as_u64().unwrap() > 0, "{report}");
    assert!(files(&lab, &small) == files(&lab, &expected));
}

#[test]
fn snapshots_are_kept_with_a_copy_of_the_file_or_dropped_when_told() {
    let lab = Lab::new();
    let source = image(Image::Compressed, lab.dir.path());
    tool("qemu-img", ["snapshot", "-c", "before", str(&source)]);
    let (kept, dropped) = (lab.path("kept.qcow2"), lab.path("dropped.qcow2"));
    let output = Lab::run(&["fix", "-P", "kvm", str(&source), "-o", str(&kept)]);
    assert!(output.status.success() && text(&output.stderr).contains("internal snapshots"));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["copy"].is_null() && report["commit"]["target"].is_string(), "{report}");
    Lab::json(&["fix", "-P", "kvm", str(&source), "-o", str(&dropped), "--drop-snapshots", "--keep-free"]);
    let names = |path: &Path| info(path)["snapshots"].as_array().map_or(0, Vec::len);
    assert_eq!((names(&source), names(&kept), names(&dropped)), (1, 1, 0));
    assert!(same_disk(&kept, &dropped));
    for target in [&kept, &dropped] {
        tool("qemu-img", ["check", "-q", str(target)]);
    }
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_read_or_written() {
    let lab = Lab::new();
    let source = lab.path("no-image");
    std::fs::write(&source, b"not a disk").unwrap();
    let (there, kept) = (lab.path("there"), lab.path("kept"));
    std::fs::write(&there, b"precious").unwrap();
    std::fs::copy(&there, &kept).unwrap();
    for arguments in [
        vec!["fix", "-P", "kvm", str(&source), "-o", str(&there)],
        vec!["fix", "-P", "kvm", str(&source), "-o", str(&source), "--force"],
        vec!["convert", "--fix", "kvm", str(&source), str(&there)],
        vec!["convert", "--skip-free", str(&source), str(&source), "--force"],
    ] {
        assert_eq!(Lab::refused(&arguments, 2), "target.refused", "{arguments:?}");
    }
    let nowhere = lab.path("no-folder/out");
    assert_eq!(Lab::refused(&["fix", "-P", "kvm", str(&source), "-o", str(&nowhere)], 5), "host.io");
    assert!(same_bytes(&there, &kept));
    assert_eq!(std::fs::read_dir(lab.dir.path()).unwrap().count(), 3);
}
