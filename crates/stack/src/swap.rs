//! Swap space: all of it is free but the page with its header, unless it holds the memory of a sleeping guest.

use block::{BlockError, ReadAt};
use ondisk::{try_be_u32, try_le_u32};
use vfs::FreeRanges;

use crate::content::{SWAP_PAGE_SIZES as PAGE_SIZES, SwapSignature, swap_signature};

/// `version` of the kernel's `union swap_header` (`include/linux/swap.h`), behind 1024 bytes for a boot loader.
const VERSION_AT: u64 = 1024;

/// What of a swap space is free, or why nothing is.
pub(crate) fn free_ranges(device: &dyn ReadAt) -> Result<Result<FreeRanges, &'static str>, BlockError> {
    let mut header_end = None;
    let mut page_size = 0;
    for size in PAGE_SIZES {
        match swap_signature(device, size)? {
            // An older header of a machine with larger pages may still stand behind: it stays, too.
            Some(SwapSignature::Version1) => {
                page_size = if header_end.is_none() { size } else { page_size };
                header_end = Some(size);
            }
            Some(SwapSignature::Version0) => return Ok(Err("swap space of version 0")),
            Some(SwapSignature::Suspended) => {
                return Ok(Err("holds the memory of a guest that was suspended to disk"));
            }
            None => {}
        }
    }
    let Some(header_end) = header_end else { return Ok(Err("no swap signature")) };
    let mut header = [0; 8];
    device.read_exact_at(&mut header, VERSION_AT)?;
    // The numbers are those of the machine that made it; the kernel swaps them where it must.
    let last_page = match (try_le_u32(&header, 0), try_be_u32(&header, 0)) {
        (Some(1), _) => try_le_u32(&header, 4),
        (_, Some(1)) => try_be_u32(&header, 4),
        _ => return Ok(Err("swap space of an unknown version")),
    };
    let pages = u64::from(last_page.unwrap_or(0)) + 1;
    let mut free = FreeRanges::new();
    free.push(header_end..pages.saturating_mul(page_size).min(device.len()));
    Ok(Ok(free))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]
    use std::process::Command;

    use block::MemoryDevice;

    use super::*;

    const LEN: u64 = 4 << 20;

    fn mkswap(arguments: &[&str]) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("swap");
        std::fs::write(&path, vec![0x5a; LEN as usize]).unwrap();
        let out = Command::new("mkswap").args(arguments).arg(&path).output();
        let out = out.unwrap_or_else(|error| panic!("mkswap is needed: {error}"));
        assert!(out.status.success(), "{out:?}");
        std::fs::read(&path).unwrap()
    }

    /// Start and end of the one free range.
    fn free_of(bytes: &[u8]) -> Result<(u64, u64), &'static str> {
        let free = free_ranges(&MemoryDevice::new(bytes.to_vec())).unwrap()?;
        assert_eq!(free.ranges().len(), 1);
        Ok((free.ranges()[0].start, free.ranges()[0].end))
    }

    #[test]
    fn everything_but_the_page_with_the_header_is_free() {
        for size in PAGE_SIZES {
            let swap = mkswap(&["-p", &size.to_string()]);
            assert_eq!(free_of(&swap).unwrap(), (size, LEN), "{size}");
        }
        // As a big-endian machine writes it.
        let mut foreign = mkswap(&[]);
        foreign[1024..1036].chunks_exact_mut(4).for_each(<[u8]>::reverse);
        assert_eq!(free_of(&foreign).unwrap(), (4096, LEN));
    }

    #[test]
    fn what_lies_behind_the_swap_space_is_not_free() {
        let mut swap = mkswap(&[]);
        swap.extend([0x77; 8192]);
        assert_eq!(free_of(&swap).unwrap(), (4096, LEN));
        swap.truncate(LEN as usize / 2);
        assert_eq!(free_of(&swap).unwrap(), (4096, LEN / 2));
    }

    #[test]
    fn a_sleeping_guest_and_unknown_versions_are_left_alone() {
        let mut swap = mkswap(&[]);
        swap[4086..4095].copy_from_slice(b"S1SUSPEND");
        assert!(free_of(&swap).unwrap_err().contains("suspended"));
        swap[4086..4096].copy_from_slice(b"SWAP-SPACE");
        assert!(free_of(&swap).unwrap_err().contains("version 0"));
        swap[4086..4096].copy_from_slice(b"SWAPSPACE2");
        swap[1024] = 2;
        assert!(free_of(&swap).unwrap_err().contains("unknown version"));
        assert!(free_of(&[0; 65_536]).is_err() && free_of(&[]).is_err());
        // Suspended by a machine with larger pages.
        let mut swap = mkswap(&[]);
        swap[65_526..65_536].copy_from_slice(b"LINHIB0001");
        assert!(free_of(&swap).unwrap_err().contains("suspended"));
    }
}
