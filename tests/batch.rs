//! `batch` over many images, good and bad ones; killed, stopped, resumed, in shards; and the page of its report.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test says what it sees and fails by panicking"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use support::{coldfit, coldfit_json, is_root, same_disk, text, tool};

/// A small guest with a disk of its own, compressed: copies of it take little room.
fn template(folder: &Path) -> PathBuf {
    let (raw, image) = (folder.join("template.raw"), folder.join("template.qcow2"));
    testkit::phony::raw_disk("debian11", 48, &raw).unwrap();
    tool("qemu-img", ["convert", "-c", "-O", "qcow2", raw.to_str().unwrap(), image.to_str().unwrap()]);
    image
}

fn lines(report: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(report).unwrap_or_default();
    // The last one may be torn while somebody writes.
    text.split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The last line of each image, by its name.
fn by_name(lines: &[Value]) -> BTreeMap<String, Value> {
    let name = |line: &Value| line["image"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    lines.iter().map(|line| (name(line), line.clone())).collect()
}

/// An image held open for writing by QEMU's own program.
struct Held {
    child: Child,
    commands: Option<ChildStdin>,
}

impl Held {
    fn new(image: &Path) -> Self {
        let mut command = Command::new("qemu-io");
        command.args(["-f", "qcow2"]).arg(image).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("qemu-io starts");
        let mut commands = child.stdin.take().unwrap();
        commands.write_all(b"length\n").unwrap();
        commands.flush().unwrap();
        // Once it answers, the image is open and locked.
        let mut answer = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        while !answer.contains("MiB") {
            assert!(out.read_line(&mut answer).unwrap() > 0, "qemu-io ended: {answer}");
        }
        Self { child, commands: Some(commands) }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.commands.take());
        let _ = self.child.wait();
    }
}

/// The batch of the test, in a mount namespace in which `small` has 256 KiB: without root in one of its own user.
fn batch_with_a_small_target(folder: &Path, more: &[&str]) -> Command {
    let script = "mount -t tmpfs -o size=256k tmpfs \"$1\" && shift && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(if is_root() { &["-m"][..] } else { &["-U", "-r", "-m"][..] });
    command.args(["sh", "-c", script, "sh"]).arg(folder.join("small"));
    command.arg(env!("CARGO_BIN_EXE_coldfit")).args([
        "batch",
        "jobs.jsonl",
        "--profile",
        "kvm",
        "-k",
        "--threads",
        "2",
    ]);
    command.args(more).current_dir(folder).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// 200 images: most of them are fine, and each of six is bad in its own way.
struct Fleet {
    folder: tempfile::TempDir,
    held: Option<Held>,
}

const COUNT: usize = 200;

impl Fleet {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let template = template(folder.path());
        std::fs::create_dir(at("small")).unwrap();
        let mut manifest = String::new();
        let mut add = |name: &str, what: &str| {
            std::fs::copy(&template, at(name)).unwrap();
            writeln!(manifest, "{{\"image\":\"{name}\",{what}}}").unwrap();
        };
        for index in 0..COUNT - 6 {
            let name = format!("web-{index:03}.qcow2");
            let what = match index % 10 {
                0 => "\"do\":\"fix\"".to_owned(),
                1 => format!("\"do\":\"fix\",\"output\":\"out/{name}\""),
                2 => format!("\"do\":\"convert\",\"output\":\"out/{name}.raw\",\"output_format\":\"raw\""),
                3 => "\"do\":\"check\",\"only\":[\"fstab.by-uuid\"]".to_owned(),
                _ => "\"do\":\"check\"".to_owned(),
            };
            add(&name, &what);
        }
        for name in ["bad-corrupt", "bad-locked", "bad-too-new", "bad-guest-full"] {
            add(&format!("{name}.qcow2"), "\"do\":\"fix\"");
        }
        add("bad-host-full.qcow2", "\"do\":\"convert\",\"output\":\"small/x.raw\",\"output_format\":\"raw\"");
        add("bad-missing.qcow2", "\"do\":\"check\"");
        std::fs::remove_file(at("bad-missing.qcow2")).unwrap();
        std::fs::write(at("jobs.jsonl"), manifest).unwrap();

        let open = |name: &str| std::fs::File::options().write(true).open(at(name)).unwrap();
        // The L1 table lies behind the end of the file (qcow2: bytes 40 to 47).
        open("bad-corrupt.qcow2").write_all_at(&(1u64 << 50).to_be_bytes(), 40).unwrap();
        // An incompatible feature that nobody knows (bytes 72 to 79).
        open("bad-too-new.qcow2").write_all_at(&(1u64 << 40).to_be_bytes(), 72).unwrap();
        fill(&at("bad-guest-full.qcow2"), &at("fill"));
        let held = Some(Held::new(&at("bad-locked.qcow2")));
        Self { folder, held }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, more: &[&str]) -> Output {
        batch_with_a_small_target(self.folder.path(), more).output().expect("unshare starts")
    }
}

/// Fills the guest's filesystem but for a few blocks.
fn fill(image: &Path, file: &Path) {
    let facts = coldfit_json(["inspect", image.to_str().unwrap()]);
    let layers = facts[0]["layers"].as_array().unwrap();
    let free = layers.iter().find_map(|layer| layer["filesystem"]["free_bytes"].as_u64()).unwrap();
    std::fs::write(file, vec![0x5a; usize::try_from(free).unwrap() - (64 << 10)]).unwrap();
    let output = coldfit(["cp", file.to_str().unwrap(), &format!("{}:/fill", image.display())]);
    assert!(output.status.success(), "{}", text(&output.stderr));
}

fn expect_outcomes(lines: &BTreeMap<String, Value>) {
    assert_eq!(lines.len(), COUNT);
    for (name, exit, class) in [
        ("bad-corrupt.qcow2", 4, "damaged"),
        ("bad-too-new.qcow2", 3, "unsupported"),
        ("bad-guest-full.qcow2", 6, "no-space"),
        ("bad-host-full.qcow2", 5, "environment"),
        ("bad-missing.qcow2", 5, "environment"),
    ] {
        let line = &lines[name];
        assert_eq!((line["exit"].as_i64(), line["class"].as_str()), (Some(exit), Some(class)), "{line:#}");
        assert_eq!(line["result"], "failed");
        assert!(line["target"].is_null() && !line["message"].as_str().unwrap().is_empty());
    }
    let code = |name: &str| lines[name]["code"].as_str().unwrap();
    assert!(code("bad-too-new.qcow2").contains("feature"), "{}", code("bad-too-new.qcow2"));
    assert_eq!(code("bad-missing.qcow2"), "host.not-found");
    assert!(code("bad-host-full.qcow2").contains("no-space"), "{:#}", lines["bad-host-full.qcow2"]);
    for (name, line) in lines.iter().filter(|(name, _)| name.starts_with("web-")) {
        let index: usize = name[4..7].parse().unwrap();
        let result = line["result"].as_str().unwrap();
        match index % 10 {
            // A phony guest has no boot code and no program, so some rules need their owner; all edits were made.
            0 | 1 => {
                assert_ne!(result, "failed", "{line:#}");
                assert_eq!(line["rules"]["initramfs.drivers"], "fixed", "{line:#}");
                assert!(line["bytes"]["written"].as_u64().unwrap() > 0);
                assert!(line["disk"]["changed_bytes"].as_u64().unwrap() > 0);
            }
            2 => assert_eq!((result, line["code"].as_str()), ("done", Some("ok")), "{line:#}"),
            3 => assert_eq!(line["rules"].as_object().unwrap().len(), 1, "{line:#}"),
            _ => {
                assert_eq!(result, "unmet", "{line:#}");
                assert_eq!(line["rules"]["initramfs.drivers"], "fixable");
                assert!(line["unmet"].as_array().unwrap().iter().any(|rule| rule == "initramfs.drivers"));
            }
        }
        for field in ["source", "job_digest", "coldfit", "started_at", "seconds", "timings", "disk"] {
            assert!(!line[field].is_null(), "{field}: {line:#}");
        }
    }
}

#[test]
fn two_hundred_images_with_bad_ones_end_with_the_right_report_also_after_a_kill() {
    let mut fleet = Fleet::new();
    let report = fleet.at("REPORT.jsonl");

    // Killed in the middle.
    let mut child = batch_with_a_small_target(fleet.folder.path(), &["--quiet"]).spawn().unwrap();
    while lines(&report).len() < 60 {
        if child.try_wait().unwrap().is_some() {
            let output = child.wait_with_output().unwrap();
            panic!("it ended too early: {}{}", text(&output.stdout), text(&output.stderr));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let before = lines(&report);
    assert!(before.len() < COUNT);

    // Resumed: just the rest, and the worst class is the exit code.
    let output = fleet.run(&["--resume"]);
    let all = lines(&report);
    assert_eq!(output.status.code(), Some(5), "{}{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(all[..before.len()], before[..], "what was there stays");
    let image = |line: &Value| line["image"].as_str().unwrap().to_owned();
    let earlier: BTreeSet<String> = before.iter().map(image).collect();
    let again: BTreeSet<String> =
        all[before.len()..].iter().map(image).filter(|image| earlier.contains(image)).collect();
    // What the host did is tried again; nothing else is.
    let retried: BTreeSet<String> = before.iter().filter(|line| line["exit"] == 5).map(image).collect();
    assert_eq!(again, retried);
    let outcomes = by_name(&all);
    expect_outcomes(&outcomes);
    let locked = &outcomes["bad-locked.qcow2"];
    assert_eq!(
        (locked["exit"].as_i64(), locked["code"].as_str()),
        (Some(5), Some("image.in-use")),
        "{locked:#}"
    );
    let said = text(&output.stdout);
    assert!(
        said.contains("200 images: ") && said.contains(" failed") && said.contains("finished before"),
        "{said}"
    );

    // Results are what the commands of their own make.
    assert!(same_disk(&fleet.at("web-002.qcow2"), &fleet.at("out/web-002.qcow2.raw")));
    for fixed in ["web-000.qcow2", "out/web-001.qcow2"] {
        tool("qemu-img", ["check", "-q", fleet.at(fixed).to_str().unwrap()]);
        let again = coldfit_json(["fix", "--dry-run", "--profile", "kvm", fleet.at(fixed).to_str().unwrap()]);
        assert_eq!(again["edits"].as_array().unwrap().len(), 0, "{fixed}");
    }
    assert!(
        same_disk(&fleet.at("web-001.qcow2"), &fleet.at("template.qcow2")),
        "the source of a copy was changed"
    );
    let leftovers: Vec<String> = std::fs::read_dir(fleet.folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with('.') || name.ends_with(".claims"))
        .collect();
    assert_eq!(leftovers, [""; 0]);

    // Nobody holds the locked image any more: it alone, and what the host did, is done.
    fleet.held = None;
    let before = all.len();
    let output = fleet.run(&["--resume", "--format", "json"]);
    assert_eq!(output.status.code(), Some(5), "{}", text(&output.stderr));
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["skipped"], 197, "{summary}");
    let all = lines(&report);
    assert_eq!(all.len(), before + 3);
    assert_eq!(by_name(&all)["bad-locked.qcow2"]["rules"]["initramfs.drivers"], "fixed");
    page_shows(&report, &fleet.at("page.html"));
}

/// The page of the report in a real browser.
fn page_shows(report: &Path, page: &Path) {
    let output = coldfit(["report", "render", report.to_str().unwrap(), "-o", page.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let dom = |filter: &str| {
        let address = format!("file://{}#filter={filter}", page.display());
        tool("chromium-headless-shell", ["--no-sandbox", "--disable-gpu", "--dump-dom", &address])
    };
    assert!(dom("").contains(">200 of 200 images<"));
    let bad = dom("bad-%20failed");
    assert!(bad.contains(">5 of 200 images<"));
    for name in ["bad-corrupt", "bad-too-new", "bad-guest-full", "bad-host-full", "bad-missing"] {
        assert!(bad.contains(&format!("<b>{name}.qcow2</b>")), "{name}");
    }
}

/// Copies of the template in `images`, some of them larger on the host.
fn folder_of(count: usize, folder: &Path) -> PathBuf {
    let template = template(folder);
    let images = folder.join("images");
    std::fs::create_dir(&images).unwrap();
    for index in 0..count {
        std::fs::copy(&template, images.join(format!("vm-{index:02}.qcow2"))).unwrap();
    }
    images
}

#[test]
fn shards_do_every_image_exactly_once_although_images_change_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let images = folder_of(13, dir.path());
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (images, manifest) = (images.to_str().unwrap(), at("all.jsonl"));
    let refused =
        coldfit(["batch", images, "--do", "fix", "-P", "kvm", "--shard", "1/3", "--report", &at("x")]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("error[batch.shard.unstable]"), "{}", text(&refused.stderr));
    let listed = coldfit(["batch", images, "--do", "fix", "-P", "kvm", "--write-manifest", &manifest]);
    assert!(listed.status.success(), "{}", text(&listed.stderr));

    let mut seen = Vec::new();
    let mut plans = BTreeSet::new();
    let mut reports = Vec::new();
    for shard in ["1/3", "2/3", "3/3"] {
        let report = at(&format!("shard-{}.jsonl", &shard[..1]));
        let run = coldfit(["batch", &manifest, "-q", "--shard", shard, "--report", &report]);
        assert!(matches!(run.status.code(), Some(0 | 1)), "{}", text(&run.stderr));
        let lines = lines(Path::new(&report));
        assert!((4..=5).contains(&lines.len()), "{shard}: {} images", lines.len());
        plans.extend(lines.iter().map(|line| line["shard"]["plan"].as_str().unwrap().to_owned()));
        seen.extend(lines.iter().map(|line| line["image"].as_str().unwrap().to_owned()));
        reports.push(report);
    }
    let distinct: BTreeSet<&String> = seen.iter().collect();
    assert_eq!((seen.len(), distinct.len(), plans.len()), (13, 13, 1));
    let arguments = ["report".to_owned(), "render".to_owned()].into_iter().chain(reports);
    let page = coldfit(arguments);
    assert!(page.status.success() && text(&page.stdout).contains("<strong>13</strong>images"));
    assert!(!text(&page.stdout).contains("have no line here"));
}

#[test]
fn a_signal_ends_it_in_order_and_the_rest_is_done_later() {
    let dir = tempfile::tempdir().unwrap();
    let images = folder_of(30, dir.path());
    let report = dir.path().join("r.jsonl");
    let arguments = |more: &[&str]| {
        let mut all: Vec<String> = [
            "batch",
            images.to_str().unwrap(),
            "--do",
            "check",
            "-P",
            "kvm",
            "-k",
            "--report",
            report.to_str().unwrap(),
        ]
        .map(str::to_owned)
        .to_vec();
        all.extend(more.iter().map(|word| (*word).to_owned()));
        all
    };
    let child = Command::new(env!("CARGO_BIN_EXE_coldfit"))
        .args(arguments(&["-m", "1"]))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while lines(&report).len() < 3 {
        std::thread::sleep(Duration::from_millis(5));
    }
    tool("kill", ["-INT".to_owned(), child.id().to_string()]);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(5), "{}", text(&output.stderr));
    assert!(
        text(&output.stderr).contains("error[batch.stopped]") && text(&output.stderr).contains("--resume")
    );
    let before = lines(&report);
    assert!((3..30).contains(&before.len()), "{}", before.len());
    assert!(std::fs::read(&report).unwrap().ends_with(b"\n"));
    let refused = coldfit(arguments(&[]));
    assert!(text(&refused.stderr).contains("error[batch.report.exists]"), "{}", text(&refused.stderr));
    let output = coldfit(arguments(&["--resume", "--full"]));
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let all = lines(&report);
    assert_eq!((all.len(), by_name(&all).len()), (30, 30));
    // With --full, a line has what check itself prints.
    assert!(all[29]["report"]["findings"].as_array().unwrap().len() > 2);
}

#[test]
fn errors_of_a_manifest_are_exact_and_come_before_any_work() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::write(at("a.raw"), [0; 4096]).unwrap();
    let fails = |manifest: &str, more: &[&str]| {
        std::fs::write(at("m.jsonl"), manifest).unwrap();
        let mut arguments = vec!["batch".to_owned(), at("m.jsonl").display().to_string()];
        arguments.extend(more.iter().map(|word| (*word).to_owned()));
        arguments.extend(["--report".to_owned(), at("r.jsonl").display().to_string()]);
        let output = coldfit(arguments);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
        assert!(!at("r.jsonl").exists(), "a report was begun");
        text(&output.stderr)
    };
    let good = "{\"image\":\"a.raw\",\"do\":\"check\",\"profile\":\"kvm\"}\n";
    let error = fails(&format!("{good}{{\"image\":\"a.raw\",\"do\":\"chek\"}}\n"), &[]);
    assert!(
        error.contains("error[batch.manifest]") && error.contains("m.jsonl:2:28: unknown variant `chek`"),
        "{error}"
    );
    let error = fails(&good.replace("kvm", "nowhere"), &[]);
    assert!(error.contains("m.jsonl:1: ") && error.contains("nowhere"), "{error}");
    let error = fails(&good.replace("\"kvm\"", "\"alibaba\",\"set\":{\"root\":\"red\"}"), &[]);
    assert!(error.contains("m.jsonl:1: ") && error.contains("error[profile.switch.value]"), "{error}");
    let error = fails(
        "{\"image\":\"a.raw\",\"do\":\"convert\",\"output\":\"b\",\"output_format\":\"floppy\"}\n",
        &[],
    );
    assert!(error.contains("m.jsonl:1: ") && error.contains("floppy"), "{error}");
    let error = fails(good, &["--output-dir", "o", "--name", "all.raw"]);
    assert!(error.contains("error[batch.output.template]"), "{error}");
}

#[test]
fn a_conversion_with_a_profile_fixes_on_the_way() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let source = template(folder.path());
    let before = std::fs::read(&source).unwrap();
    std::fs::write(
        at("jobs.jsonl"),
        "{\"image\":\"template.qcow2\",\"do\":\"convert\",\"profile\":\"kvm\",\"output\":\"fixed.qcow2\"}\n",
    )
    .unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_coldfit"));
    command.args(["batch", "jobs.jsonl", "--report", "r.jsonl", "-k", "-q"]).current_dir(folder.path());
    let output = command.output().unwrap();
    let lines = lines(&at("r.jsonl"));
    assert_eq!(lines.len(), 1, "{}", text(&output.stderr));
    assert!(std::fs::read(&source).unwrap() == before);
    tool("qemu-img", ["check", "-q", at("fixed.qcow2").to_str().unwrap()]);
    // The report tells what the fix left, and a second one plans nothing.
    assert!(lines[0]["findings"].as_object().is_some_and(|states| !states.is_empty()), "{}", lines[0]);
    let again = coldfit([
        "--format",
        "json",
        "fix",
        "-n",
        "--profile",
        "kvm",
        "--keep-going",
        at("fixed.qcow2").to_str().unwrap(),
    ]);
    let again: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(again["edits"].as_array().map(Vec::len), Some(0), "{again}");
}
