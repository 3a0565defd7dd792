//! Disks as raw files: partition tables, filesystems put into partitions and looked at by `debugfs`.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

use crate::error::{LabError, Result, at};
use crate::tool;

const MIB: u64 = 1 << 20;

/// A raw disk image that is being made.
#[derive(Debug)]
pub struct RawDisk {
    path: PathBuf,
}

/// One partition of a raw disk.
#[derive(Debug, Clone, Copy)]
pub struct Slot {
    /// First byte on the disk.
    pub start: u64,
    /// Size in bytes.
    pub len: u64,
}

impl RawDisk {
    /// A new disk of `mib` MiB with the partition table that the `sfdisk` script describes.
    pub fn partitioned(path: &Path, mib: u64, script: &str) -> Result<Self> {
        let file = File::create(path).map_err(at(path))?;
        file.set_len(mib * MIB).map_err(at(path))?;
        let mut command = tool::command("sfdisk", ["--quiet", "--no-reread", "--no-tell-kernel"]);
        let mut child = command
            .arg(path)
            .stdin(Stdio::piped())
            .spawn()
            .map_err(|_| LabError::MissingTool { tool: "sfdisk".into() })?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(script.as_bytes()).map_err(at(path))?;
        }
        let status = child.wait().map_err(at(path))?;
        if !status.success() {
            return Err(LabError::Tool {
                command: "sfdisk".into(),
                status: status.to_string(),
                output: script.into(),
            });
        }
        Ok(Self { path: path.into() })
    }

    /// A disk that is there already, as raw: converted when it is stored otherwise.
    pub fn from_image(image: &Path, path: &Path) -> Result<Self> {
        tool::run(
            "qemu-img",
            ["convert".as_ref(), "-O".as_ref(), "raw".as_ref(), image.as_os_str(), path.as_os_str()],
        )?;
        Ok(Self { path: path.into() })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The partition table's kind, `dos` or `gpt`.
    pub fn label(&self) -> Result<String> {
        Ok(self.table()?["label"].as_str().unwrap_or_default().to_owned())
    }

    /// Partition `number`, counted from 1.
    pub fn slot(&self, number: u64) -> Result<Slot> {
        let table = self.table()?;
        let sector = table["sectorsize"].as_u64().unwrap_or(512);
        let partitions = table["partitions"].as_array().cloned().unwrap_or_default();
        let wanted = format!("{}{number}", self.path.display());
        // sfdisk puts a `p` between a name that ends in a digit and the number.
        let wanted_p = format!("{}p{number}", self.path.display());
        partitions
            .iter()
            .find(|entry| entry["node"] == wanted || entry["node"] == wanted_p)
            .and_then(|entry| {
                let (start, size) = (entry["start"].as_u64()?, entry["size"].as_u64()?);
                Some(Slot { start: start * sector, len: size * sector })
            })
            .ok_or_else(|| LabError::Machine(format!("{}: no partition {number}", self.path.display())))
    }

    fn table(&self) -> Result<Value> {
        let text = tool::run("sfdisk", ["--json".as_ref(), self.path.as_os_str()])?;
        let value: Value = serde_json::from_str(&text)
            .map_err(|error| LabError::Machine(format!("sfdisk --json: {error}")))?;
        Ok(value["partitiontable"].clone())
    }

    /// Puts an ext4 image into partition `number`, grown to its size.
    pub fn fill_partition(&self, number: u64, filesystem: &Path, scratch: &Path) -> Result<()> {
        let slot = self.slot(number)?;
        let grown = scratch.join("partition.ext4");
        tool::run("cp", ["--sparse=always".as_ref(), filesystem.as_os_str(), grown.as_os_str()])?;
        File::options()
            .write(true)
            .open(&grown)
            .and_then(|file| file.set_len(slot.len))
            .map_err(at(&grown))?;
        tool::run("resize2fs", ["-f".as_ref(), grown.as_os_str()])?;
        copy_data(&grown, &self.path, slot.start)?;
        fs::remove_file(&grown).map_err(at(&grown))
    }

    /// The ext4 filesystem in partition `number`.
    pub fn ext4(&self, number: u64) -> Result<Ext4View> {
        Ok(Ext4View { target: format!("{}?offset={}", self.path.display(), self.slot(number)?.start) })
    }

    /// Stores the disk as qcow2.
    pub fn to_qcow2(&self, target: &Path, options: &[&str]) -> Result<()> {
        let mut args = vec!["convert".into(), "-O".into(), "qcow2".into()];
        args.extend(options.iter().map(Into::into));
        args.extend([self.path.clone().into_os_string(), target.into()]);
        tool::run("qemu-img", args)?;
        Ok(())
    }
}

/// Copies what is not zero; the target holds zeroes already.
fn copy_data(source: &Path, target: &Path, offset: u64) -> Result<()> {
    let from = File::open(source).map_err(at(source))?;
    let to = File::options().write(true).open(target).map_err(at(target))?;
    let len = from.metadata().map_err(at(source))?.len();
    let mut buffer = vec![0; MIB as usize];
    for position in (0..len).step_by(buffer.len()) {
        let part = &mut buffer[..(len - position).min(MIB) as usize];
        from.read_exact_at(part, position).map_err(at(source))?;
        for (index, piece) in part.chunks(4096).enumerate() {
            if piece.iter().any(|&byte| byte != 0) {
                to.write_all_at(piece, offset + position + index as u64 * 4096).map_err(at(target))?;
            }
        }
    }
    Ok(())
}

/// An ext4 filesystem inside a raw disk, through `debugfs` and `dumpe2fs`.
#[derive(Debug)]
pub struct Ext4View {
    target: String,
}

impl Ext4View {
    /// One read-only `debugfs` request.
    pub fn debugfs(&self, request: &str) -> Result<String> {
        tool::run("debugfs", ["-R", request, &self.target])
    }

    /// `debugfs` requests that write.
    pub fn debugfs_write(&self, requests: &[String]) -> Result<()> {
        for request in requests {
            // debugfs ends with 0 whatever happened; it says nothing on success.
            let output = tool::output(&mut tool::command("debugfs", ["-w", "-R", request, &self.target]))?;
            let said = String::from_utf8_lossy(&output.stderr);
            let complaint: Vec<&str> = said.lines().filter(|line| !line.starts_with("debugfs ")).collect();
            if !complaint.is_empty() {
                return Err(LabError::Tool {
                    command: format!("debugfs {request}"),
                    status: output.status.to_string(),
                    output: complaint.join("\n"),
                });
            }
        }
        Ok(())
    }

    /// A file's content as text.
    pub fn text(&self, path: &str) -> Result<String> {
        self.debugfs(&format!("cat {path}"))
    }

    /// Copies a file out; the result is empty or missing when the guest has no such file.
    pub fn extract(&self, path: &str, target: &Path) -> Result<()> {
        self.debugfs(&format!("dump {path} {}", target.display()))?;
        match fs::metadata(target) {
            Ok(metadata) if metadata.len() > 0 => Ok(()),
            _ => Err(LabError::Machine(format!("{path} is not in {}", self.target))),
        }
    }

    /// Names in a folder.
    pub fn names(&self, folder: &str) -> Result<Vec<String>> {
        let listing = self.debugfs(&format!("ls -p {folder}"))?;
        Ok(listing
            .lines()
            .filter_map(|line| line.split('/').nth(5))
            .filter(|name| !name.is_empty() && *name != "." && *name != "..")
            .map(str::to_owned)
            .collect())
    }

    /// The superblock as `dumpe2fs -h` prints it.
    pub fn superblock(&self) -> Result<String> {
        tool::run("dumpe2fs", ["-h", &self.target])
    }

    /// A number of the superblock, by `dumpe2fs`'s name for it.
    pub fn superblock_number(&self, name: &str) -> Result<u64> {
        let superblock = self.superblock()?;
        superblock
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok())
            .ok_or_else(|| LabError::Machine(format!("{}: no `{name}` in the superblock", self.target)))
    }

    /// What `e2fsck -fn` says; an error when it finds a fault.
    pub fn check(&self) -> Result<String> {
        tool::run("e2fsck", ["-fn", &self.target])
    }
}
