//! FAT, NTFS and exFAT: boot sectors with a BIOS parameter block.

use block::BlockError;
use ondisk::{le_u16, le_u32, le_u64};

use super::{Content, Probe, text};

/// NTFS prints its serial number as 16 digits, exFAT like FAT.
pub(super) fn ntfs_or_exfat(probe: &Probe<'_>) -> Result<Option<Content>, BlockError> {
    if let Some(raw) = probe.structure(0, 512, 3, b"NTFS    ")? {
        let uuid = Some(format!("{:016X}", le_u64(&raw, 0x48)));
        return Ok(Some(Content { kind: "ntfs", uuid, label: None }));
    }
    let raw = probe.structure(0, 512, 3, b"EXFAT   ")?;
    Ok(raw.map(|raw| Content { kind: "exfat", uuid: serial(le_u32(&raw, 100)), label: None }))
}

fn serial(number: u32) -> Option<String> {
    (number != 0).then(|| format!("{:04X}-{:04X}", number >> 16, number & 0xffff))
}

/// FAT12, FAT16 and FAT32. The label in the root directory counts before the one in the boot sector.
pub(super) fn vfat(probe: &Probe<'_>) -> Result<Option<Content>, BlockError> {
    let Some(raw) = probe.structure(0, 512, 510, &[0x55, 0xaa])? else { return Ok(None) };
    let (sector_size, cluster_sectors) = (le_u16(&raw, 11), raw[13]);
    let (reserved, fats, root_entries) = (le_u16(&raw, 14), raw[16], le_u16(&raw, 17));
    let is_fat = matches!(raw[0], 0xeb | 0xe9)
        && matches!(sector_size, 512 | 1024 | 2048 | 4096)
        && cluster_sectors.is_power_of_two()
        && reserved != 0
        && matches!(fats, 1 | 2)
        && (raw[21] >= 0xf8 || raw[21] == 0xf0);
    if !is_fat {
        return Ok(None);
    }
    let is_fat32 = le_u16(&raw, 22) == 0;
    // The extended boot record begins behind the FAT32 fields.
    let extended = if is_fat32 { 0x40 } else { 0x24 };
    if !matches!(raw[extended + 2], 0x28 | 0x29) {
        return Ok(Some(Content::new("vfat")));
    }
    let fat_sectors = if is_fat32 { le_u32(&raw, 36) } else { u32::from(le_u16(&raw, 22)) };
    let fats_end = u64::from(reserved) + u64::from(fats) * u64::from(fat_sectors);
    let (root_sector, root_len) = match is_fat32 {
        // The first cluster of the root directory; a label that moved behind it is not looked for.
        true => {
            let cluster = u64::from(le_u32(&raw, 44)).saturating_sub(2);
            (
                fats_end + cluster * u64::from(cluster_sectors),
                u32::from(cluster_sectors) * u32::from(sector_size),
            )
        }
        false => (fats_end, u32::from(root_entries) * 32),
    };
    let root = probe.bytes(root_sector.saturating_mul(u64::from(sector_size)), root_len as usize)?;
    let label = root
        .and_then(|root| volume_label(&root))
        .or_else(|| raw.get(extended + 7..extended + 18).and_then(text))
        .filter(|label| label != "NO NAME");
    Ok(Some(Content { kind: "vfat", uuid: serial(le_u32(&raw, extended + 3)), label }))
}

/// The entry with the volume attribute that is no part of a long name.
fn volume_label(root: &[u8]) -> Option<String> {
    const DELETED: u8 = 0xe5;
    let used = root.chunks_exact(32).take_while(|entry| entry[0] != 0);
    let mut labels =
        used.filter(|entry| entry[0] != DELETED && entry[11] & 0x3f != 0x0f && entry[11] & 0x18 == 0x08);
    labels.next().and_then(|entry| text(&entry[..11]))
}
