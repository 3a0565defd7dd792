//! `coldfit bench`: every flow is measured, pairs have ratios, and nothing stays behind.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test says what it sees and fails by panicking"
)]

mod support;

use std::path::Path;

use serde_json::Value;
use support::{coldfit, text};

/// 3 MiB of lines in a disk of 8 MiB.
fn disk(dir: &Path) -> String {
    let mut content: Vec<u8> =
        (0..100_000).flat_map(|n| format!("{n} lines of an image\n").into_bytes()).collect();
    content.resize(8 << 20, 0);
    let path = dir.join("disk.raw");
    std::fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

fn bench(arguments: &[&str]) -> Vec<Value> {
    let output = coldfit(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn only_the_disk_is_there(dir: &Path) {
    let names: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["disk.raw"]);
}

#[test]
fn every_flow_is_measured_at_each_number_of_threads_and_nothing_stays_behind() {
    let dir = tempfile::tempdir().unwrap();
    let disk = disk(dir.path());
    let before = std::fs::read(&disk).unwrap();
    let runs = bench(&["bench", "--format", "json", "-q", "--runs", "2", "-m", "1,2", &disk]);
    let flows = [
        "raw-raw",
        "raw-qcow2",
        "qcow2-raw",
        "raw-zlib",
        "raw-zstd",
        "zlib-raw",
        "zstd-raw",
        "zlib-zlib",
        "zstd-zstd",
    ];
    assert_eq!(runs.len(), flows.len() * 2 * 2);
    for flow in flows {
        let of_flow: Vec<&Value> = runs.iter().filter(|run| run["flow"] == flow).collect();
        assert_eq!(of_flow.len(), 4, "{flow}");
        for run in &of_flow {
            assert!(run["wall_seconds"].as_f64().unwrap() > 0.0, "{run}");
            assert!(run["peak_rss_bytes"].as_u64().unwrap() > 1 << 20, "{run}");
            assert!(run["outcome"]["target_bytes"].as_u64().unwrap() > 0, "{run}");
            assert_eq!(run["outcome"]["synced"], true, "{run}");
            let encode = run["nanoseconds_per_byte"]["encode"].as_f64().unwrap();
            assert_eq!(encode > 0.0, flow == "raw-zlib" || flow == "raw-zstd", "{run}");
        }
        // The same bytes at any number of threads.
        let sizes: Vec<&Value> = of_flow.iter().map(|run| &run["outcome"]["target_bytes"]).collect();
        assert!(sizes.iter().all(|size| *size == sizes[0]), "{flow}: {sizes:?}");
    }
    assert!(std::fs::read(&disk).unwrap() == before);
    only_the_disk_is_there(dir.path());
}

#[test]
fn pairs_with_another_command_have_a_ratio_each_and_their_spread() {
    let dir = tempfile::tempdir().unwrap();
    let disk = disk(dir.path());
    let against = "qemu-img convert -c -m 4 -W -O qcow2 {in} {out}";
    let lines = bench(&[
        "bench",
        "--format",
        "json",
        "-q",
        "--flow",
        "raw-zlib",
        "--runs",
        "3",
        "--against",
        against,
        &disk,
    ]);
    assert_eq!(lines.len(), 4);
    let (ratios, pairs) = lines.split_last().unwrap();
    let mut each: Vec<f64> = pairs.iter().map(|pair| pair["cpu_ratio"].as_f64().unwrap()).collect();
    each.sort_by(f64::total_cmp);
    assert_eq!(ratios["cpu_ratio"]["min"], each[0]);
    assert_eq!(ratios["cpu_ratio"]["median"], each[1]);
    assert_eq!(ratios["cpu_ratio"]["max"], each[2]);
    assert!(ratios["own_bytes"].as_u64().unwrap() > 0 && ratios["against_bytes"].as_u64().unwrap() > 0);
    only_the_disk_is_there(dir.path());
}

#[test]
fn text_says_what_bounds_a_flow_and_the_plot_is_a_picture() {
    let dir = tempfile::tempdir().unwrap();
    let disk = disk(dir.path());
    let plot = dir.path().join("plot.svg");
    let output = coldfit([
        "bench",
        "-q",
        "--flow",
        "raw-zlib,zlib-zlib",
        "--runs",
        "1",
        "-m",
        "1,2",
        "--plot",
        plot.to_str().unwrap(),
        &disk,
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    assert!(said.contains("bound by") && said.contains("MB/s"), "{said}");
    assert_eq!(said.lines().filter(|line| line.starts_with("raw-zlib ")).count(), 2, "{said}");
    let picture = std::fs::read_to_string(&plot).unwrap();
    assert!(picture.starts_with("<svg ") && picture.matches("<circle").count() == 4, "{picture}");
}

#[test]
fn a_failing_command_and_several_flows_beside_one_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let disk = disk(dir.path());
    let output = coldfit(["bench", "-q", "--against", "true", &disk]);
    assert_eq!(output.status.code(), Some(2));
    let output = coldfit(["bench", "-q", "--flow", "raw-raw", "--against", "exit 3", &disk]);
    assert_eq!(output.status.code(), Some(5));
    assert!(text(&output.stderr).contains("bench.against"), "{}", text(&output.stderr));
    only_the_disk_is_there(dir.path());
}
