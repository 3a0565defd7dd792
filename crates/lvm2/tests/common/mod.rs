//! Images with content that tells its own place, put together by LVM2's tools.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use block::{FileDevice, ReadAt};
use coldfit_lvm2::{Assembled, Group, LogicalVolume, Member, PhysicalVolume, assemble};

pub const MIB: u64 = 1 << 20;

/// Images whose every 8 bytes say on which disk and where they are.
pub fn images(dir: &Path, count: u64, len: u64) -> Vec<PathBuf> {
    (0..count)
        .map(|disk| {
            let path = dir.join(format!("disk{disk}"));
            let bytes: Vec<u8> =
                (0..len / 8).flat_map(|word| (disk << 56 | word << 3 | 1).to_le_bytes()).collect();
            fs::write(&path, bytes).unwrap();
            path
        })
        .collect()
}

pub fn open(paths: &[PathBuf]) -> Assembled {
    assemble(&members(paths))
}

pub fn members(paths: &[PathBuf]) -> Vec<Member> {
    paths
        .iter()
        .map(|path| {
            let device = FileDevice::open_write(path).unwrap();
            let volume = PhysicalVolume::read(&device).unwrap().unwrap();
            Member {
                name: path.file_name().unwrap().to_string_lossy().into_owned(),
                volume,
                device: Arc::new(device),
            }
        })
        .collect()
}

pub fn volume<'g>(group: &'g Group, name: &str) -> &'g LogicalVolume {
    let volumes = group.volumes.as_ref().unwrap();
    volumes.iter().find(|volume| volume.name == name).unwrap()
}

pub fn content(volume: &LogicalVolume) -> Vec<u8> {
    let device = volume.device.as_ref().unwrap();
    let mut bytes = vec![0; device.len() as usize];
    device.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

pub fn read(path: &Path, at: u64, len: u64) -> Vec<u8> {
    let mut bytes = vec![0; len as usize];
    File::open(path).unwrap().read_exact_at(&mut bytes, at).unwrap();
    bytes
}
