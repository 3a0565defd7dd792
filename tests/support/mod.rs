//! What the acceptance tests share: the lab's images, the program under test, reference tools.
#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(clippy::panic, clippy::print_stderr, reason = "a test says what it sees and fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use testkit::cache::Cache;
use testkit::recipe::Image;

/// A copy of a lab image in `folder`, free to be changed.
pub fn image(image: Image, folder: &Path) -> PathBuf {
    let cache = Cache::open().expect("the cache folder");
    let built = image.build(&cache, &|step| eprintln!("{}: {step}", image.name())).expect("the image builds");
    built.copy_to(folder).expect("a copy")
}

/// Runs coldfit; the caller judges the outcome.
pub fn coldfit<S: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = S>) -> Output {
    Command::new(env!("CARGO_BIN_EXE_coldfit")).args(arguments).output().expect("coldfit starts")
}

/// Runs coldfit, which must succeed, and returns its JSON.
pub fn coldfit_json<S: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = S>) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coldfit"));
    let output = command.args(["--format", "json"]).args(arguments).output().expect("coldfit starts");
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, text(&output.stderr));
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{command:?}: {error}: {}", text(&output.stdout)))
}

/// Runs a reference tool, which must exist and succeed; returns its standard output.
pub fn tool<S: AsRef<std::ffi::OsStr>>(program: &str, arguments: impl IntoIterator<Item = S>) -> String {
    let mut command = testkit::tool::command(program, arguments);
    testkit::tool::finish(&mut command).unwrap_or_else(|error| panic!("{program}: {error}"))
}

/// The virtual disk of `image` as a raw file at `raw`.
pub fn to_raw(image: &Path, raw: &Path) {
    let arguments = ["convert".as_ref(), "-O".as_ref(), "raw".as_ref(), image.as_os_str(), raw.as_os_str()];
    tool("qemu-img", arguments);
}

/// True when two files have the same bytes (cmp reads them, not our code).
pub fn same_bytes(one: &Path, other: &Path) -> bool {
    Command::new("cmp").arg("-s").arg(one).arg(other).status().expect("cmp starts").success()
}

/// True when two images hold the same virtual disk, judged by qemu-img.
pub fn same_disk(one: &Path, other: &Path) -> bool {
    let mut command = Command::new("qemu-img");
    let output = command.args(["compare", "-q"]).arg(one).arg(other).output().expect("qemu-img starts");
    match output.status.code() {
        Some(0) => true,
        Some(1) => false,
        _ => panic!("{command:?}: {}", text(&output.stderr)),
    }
}

/// Lossy text of a tool's output.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// True when this process may mount.
pub fn is_root() -> bool {
    tool("id", ["-u"]).trim() == "0"
}

/// A partition of a raw disk, by sfdisk: (start, length) in bytes.
pub fn partition(raw: &Path, number: usize) -> (u64, u64) {
    let dump = tool("sfdisk", ["--json".as_ref(), raw.as_os_str()]);
    let dump: Value = serde_json::from_str(&dump).expect("sfdisk prints JSON");
    let table = &dump["partitiontable"];
    let sector = table["sectorsize"].as_u64().unwrap_or(512);
    let part = &table["partitions"][number - 1];
    let field = |name: &str| part[name].as_u64().expect("a number") * sector;
    (field("start"), field("size"))
}

/// Cuts a partition out of a raw disk, holes kept.
pub fn cut_partition(raw: &Path, number: usize, to: &Path) {
    let (start, len) = partition(raw, number);
    let argument = |name: &str, value: &dyn std::fmt::Display| format!("{name}={value}");
    tool(
        "dd",
        [
            argument("if", &raw.display()),
            argument("of", &to.display()),
            argument("skip", &start),
            argument("count", &len),
            "bs=1M".into(),
            "iflag=skip_bytes,count_bytes".into(),
            "conv=sparse".into(),
            "status=none".into(),
        ],
    );
    std::fs::File::options()
        .write(true)
        .open(to)
        .and_then(|file| file.set_len(len))
        .expect("the full length");
}
