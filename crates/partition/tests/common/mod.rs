//! Disks made and judged by sfdisk, fdisk and sgdisk. A missing tool fails the test.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use block::{FileDevice, MemoryDevice};
use coldfit_partition::{PartitionRole, PartitionTable};

pub struct Disk {
    _dir: tempfile::TempDir,
    pub path: PathBuf,
}

impl Disk {
    pub fn empty(len: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        File::create(&path).unwrap().set_len(len).unwrap();
        Self { _dir: dir, path }
    }

    pub fn sfdisk(len: u64, script: &str) -> Self {
        let disk = Self::empty(len);
        run_with_input("sfdisk", &["-q"], &disk.path, script);
        disk
    }

    /// `fdisk -b 4096` with these commands.
    pub fn fdisk_4096(len: u64, commands: &str) -> Self {
        let disk = Self::empty(len);
        run_with_input("fdisk", &["-b", "4096"], &disk.path, commands);
        disk
    }

    pub fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.path).unwrap()
    }

    pub fn set_bytes(&self, bytes: &[u8]) {
        std::fs::write(&self.path, bytes).unwrap();
    }

    pub fn read(&self) -> PartitionTable {
        self.try_read().unwrap()
    }

    pub fn try_read(&self) -> Result<PartitionTable, coldfit_partition::PartitionError> {
        coldfit_partition::read(&FileDevice::open_read(&self.path).unwrap(), None)
    }

    /// `sgdisk -v` finds no problem.
    pub fn assert_sgdisk_verifies(&self) {
        let out = run("sgdisk", &["-v"], &self.path);
        assert!(out.contains("No problems found"), "{out}");
    }

    /// Partitions as `sfdisk --json` sees them equal ours.
    pub fn assert_equals_sfdisk(&self, table: &PartitionTable) {
        let json: serde_json::Value = serde_json::from_str(&run("sfdisk", &["--json"], &self.path)).unwrap();
        let theirs = &json["partitiontable"];
        let label = theirs["label"].as_str().unwrap();
        let prefix = self.path.to_str().unwrap();
        let expected: Vec<_> = theirs["partitions"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default()
            .iter()
            .map(|one| {
                let kind = one["type"].as_str().unwrap().to_lowercase();
                let kind = if label == "dos" {
                    format!("{:#04x}", u8::from_str_radix(&kind, 16).unwrap())
                } else {
                    kind
                };
                (
                    one["node"].as_str().unwrap().strip_prefix(prefix).unwrap().parse::<u32>().unwrap(),
                    one["start"].as_u64().unwrap(),
                    one["size"].as_u64().unwrap(),
                    kind,
                    one["uuid"].as_str().map(str::to_lowercase),
                    one["name"].as_str().map(str::to_owned),
                )
            })
            .collect();
        let ours: Vec<_> = table
            .partitions
            .iter()
            .map(|one| {
                (
                    one.number,
                    one.start_lba,
                    one.len_sectors,
                    one.partition_type.to_string(),
                    (label == "gpt").then(|| one.partuuid.clone()),
                    one.name.clone(),
                )
            })
            .collect();
        assert_eq!(ours, expected);
        let id = theirs["id"].as_str().unwrap().to_lowercase();
        match &table.gpt {
            Some(gpt) => assert_eq!(gpt.copy.header.disk_guid.to_string(), id),
            None => assert_eq!(format!("{:#010x}", table.mbr.as_ref().unwrap().disk_signature), id),
        }
    }

    /// Number, start and length as `fdisk -b 4096 -l` sees them equal ours.
    pub fn assert_equals_fdisk_4096(&self, table: &PartitionTable) {
        let listing = Command::new("fdisk")
            .args(["-b", "4096", "-l", "-o", "Device,Start,Sectors"])
            .arg(&self.path)
            .output()
            .unwrap();
        let prefix = self.path.to_str().unwrap();
        let listing = String::from_utf8(listing.stdout).unwrap();
        let expected: Vec<Vec<u64>> = listing
            .lines()
            .filter_map(|line| line.strip_prefix(prefix))
            .map(|line| line.split_whitespace().map(|word| word.parse().unwrap()).collect())
            .collect();
        let ours: Vec<Vec<u64>> = table
            .partitions
            .iter()
            .map(|one| vec![u64::from(one.number), one.start_lba, one.len_sectors])
            .collect();
        assert!(!expected.is_empty(), "{listing}");
        assert_eq!(ours, expected);
    }
}

pub fn codes(table: &PartitionTable) -> Vec<&'static str> {
    table.findings.iter().map(|finding| finding.code).collect()
}

pub fn numbers(table: &PartitionTable) -> Vec<u32> {
    table.partitions.iter().map(|one| one.number).collect()
}

pub fn logical_numbers(table: &PartitionTable) -> Vec<u32> {
    let logicals = table.partitions.iter().filter(|one| one.role == PartitionRole::Logical);
    logicals.map(|one| one.number).collect()
}

pub fn memory(bytes: &[u8]) -> MemoryDevice {
    MemoryDevice::new(bytes.to_vec())
}

pub fn run(tool: &str, arguments: &[&str], path: &Path) -> String {
    let out = Command::new(tool).args(arguments).arg(path).output();
    let out = out.unwrap_or_else(|error| panic!("{tool} is needed: {error}"));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{tool} {arguments:?}: {text}{}", String::from_utf8_lossy(&out.stderr));
    text
}

fn run_with_input(tool: &str, arguments: &[&str], path: &Path, input: &str) {
    let child = Command::new(tool)
        .args(arguments)
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{tool} is needed: {error}"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(
        out.status.success(),
        "{tool}: {}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
}
