#![no_main]
//! The metadata of a volume group, or (first byte odd) the start of a physical volume of any content.

use std::sync::Arc;

use block::{MemoryDevice, ReadAt};
use libfuzzer_sys::fuzz_target;
use lvm2::{Member, PhysicalVolume};

const AREA: usize = 4096;
const AREA_LEN: usize = 1 << 18;
const DEVICE_LEN: usize = 1 << 20;

/// CRC-32 without inversions from LVM2's initial value, bit by bit.
fn crc(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0xf597_a6cf, |state: u32, byte| {
        (0..8).fold(state ^ u32::from(*byte), |state, _| {
            (state >> 1) ^ (0xedb8_8320 & (state & 1).wrapping_neg())
        })
    })
}

/// A device whose label and area lead to `text`; its UUID is the first of the text's physical volumes where it has any.
fn device(text: &[u8]) -> Vec<u8> {
    let mut disk = vec![0; DEVICE_LEN];
    let id = lvm2::VolumeGroup::parse(text)
        .ok()
        .and_then(|group| group.physical.values().next().map(|volume| volume.id.to_string().replace('-', "")))
        .unwrap_or_else(|| "a".repeat(32));
    let text = &text[..text.len().min(AREA_LEN - 512)];
    let label = &mut disk[512..1024];
    label[..8].copy_from_slice(b"LABELONE");
    label[8] = 1;
    label[20] = 32;
    label[24..32].copy_from_slice(b"LVM2 001");
    label[32..64].copy_from_slice(id.as_bytes());
    for (at, value) in [(64, DEVICE_LEN), (72, AREA_LEN + AREA), (104, AREA), (112, AREA_LEN)] {
        label[at..at + 8].copy_from_slice(&(value as u64).to_le_bytes());
    }
    let sum = crc(&label[20..]).to_le_bytes();
    label[16..20].copy_from_slice(&sum);
    let header = &mut disk[AREA..AREA + 512];
    header[4..20].copy_from_slice(b" LVM2 x[5A%r0N*>");
    header[20] = 1;
    for (at, value) in [(24, AREA), (32, AREA_LEN), (40, 512), (48, text.len())] {
        header[at..at + 8].copy_from_slice(&(value as u64).to_le_bytes());
    }
    header[56..60].copy_from_slice(&crc(text).to_le_bytes());
    let sum = crc(&header[4..]).to_le_bytes();
    header[..4].copy_from_slice(&sum);
    disk[AREA + 512..AREA + 512 + text.len()].copy_from_slice(text);
    disk
}

fuzz_target!(|input: &[u8]| {
    let Some((mode, content)) = input.split_first() else { return };
    let disk = if mode & 1 == 0 {
        device(content)
    } else {
        let mut disk = content.to_vec();
        disk.resize(content.len().max(DEVICE_LEN), 0);
        disk
    };
    let disk = Arc::new(MemoryDevice::new(disk));
    let Ok(Some(volume)) = PhysicalVolume::read(&*disk) else { return };
    let members = [Member { name: "disk".into(), volume, device: disk }];
    for group in lvm2::assemble(&members).groups {
        for volume in group.volumes.into_iter().flatten() {
            let Ok(device) = volume.device else { continue };
            let mut buf = vec![0; device.len().min(1 << 16) as usize];
            device.read_exact_at(&mut buf, 0).expect("a volume that was mapped can be read");
            let end = device.len() - buf.len() as u64;
            device.read_exact_at(&mut buf, end).expect("a volume that was mapped can be read");
        }
    }
});
