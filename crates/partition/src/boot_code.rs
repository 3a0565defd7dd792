//! What the boot code in the first sector is, and whether GRUB's core image is where it looks for it.
//!
//! Layout from GRUB's `boot/i386/pc/boot.S` and `diskboot.S`.

use block::ReadAt;
use ondisk::{le_u16, le_u64};

use crate::mbr::{BOOT_CODE_BYTES, MBR_BYTES};
use crate::{PartitionError, mbr};

/// `boot.img`: where the sector number of the core image stands.
const KERNEL_SECTOR_AT: usize = 0x5c;
/// `boot.img` carries its messages in this range, "GRUB " first.
const MESSAGES: std::ops::Range<usize> = 0x170..mbr::BOOT_CODE_BYTES;
/// The BIOS reads sectors of 512 bytes.
const BIOS_SECTOR: u64 = 512;
/// `diskboot.img` ends with block lists, the first one last: start u64, count u16, segment u16.
const BLOCK_LIST_AT: usize = 0x1f4;

/// Boot code in the first 440 bytes of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootCode {
    /// All zero.
    None,
    /// GRUB's `boot.img`.
    Grub {
        /// Sector of 512 bytes where it looks for the core image.
        core_sector: u64,
        /// True when a core image begins there, continues where its block list says, and all of it lies
        /// on the disk.
        is_core_found: bool,
    },
    /// Something else.
    Other,
}

/// Looks at the boot code and, for GRUB, at its core image.
pub(crate) fn read(disk: &dyn ReadAt, first: &[u8; MBR_BYTES]) -> Result<BootCode, PartitionError> {
    let code = &first[..BOOT_CODE_BYTES];
    if code.iter().all(|byte| *byte == 0) {
        return Ok(BootCode::None);
    }
    // A jump over the parameter block, then the messages.
    let is_grub = code[0] == 0xeb && contains(&first[MESSAGES], b"GRUB ");
    if !is_grub {
        return Ok(BootCode::Other);
    }
    let core_sector = le_u64(first, KERNEL_SECTOR_AT);
    Ok(BootCode::Grub { core_sector, is_core_found: is_core_at(disk, core_sector)? })
}

fn is_core_at(disk: &dyn ReadAt, core_sector: u64) -> Result<bool, PartitionError> {
    let Some(core) = read_sector(disk, core_sector)? else { return Ok(false) };
    if core_sector == 0 || !contains(&core, b"Geom\0Read\0 Error") {
        return Ok(false);
    }
    let (start, count) = (le_u64(&core, BLOCK_LIST_AT), le_u16(&core, BLOCK_LIST_AT + 8));
    if start == 0 || count == 0 {
        return Ok(false);
    }
    let last = start.checked_add(u64::from(count) - 1);
    let Some(last) = last else { return Ok(false) };
    let (Some(second), Some(_)) = (read_sector(disk, start)?, read_sector(disk, last)?) else {
        return Ok(false);
    };
    Ok(second.iter().any(|byte| *byte != 0))
}

fn read_sector(disk: &dyn ReadAt, sector: u64) -> Result<Option<[u8; BIOS_SECTOR as usize]>, PartitionError> {
    let mut bytes = [0; BIOS_SECTOR as usize];
    let place = sector
        .checked_mul(BIOS_SECTOR)
        .filter(|at| at.checked_add(BIOS_SECTOR).is_some_and(|end| end <= disk.len()));
    match place {
        Some(at) => disk.read_exact_at(&mut bytes, at).map(|()| Some(bytes)).map_err(Into::into),
        None => Ok(None),
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
