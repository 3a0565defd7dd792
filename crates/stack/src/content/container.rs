//! Swap, and what wraps filesystems: MD RAID, LVM2, LUKS and others.

use block::{BlockError, ReadAt};
use ondisk::{le_u32, try_be_u16, try_le_u32};

use super::{Content, Probe, text};

const MD_MAGIC: [u8; 4] = 0xa92b_4efc_u32.to_le_bytes();

/// Superblock positions: `mdadm`'s `super0.c` and `super1.c`.
pub(super) fn md_raid(probe: &Probe<'_>) -> Result<Option<Content>, BlockError> {
    let len = probe.device.len();
    // Version 1.1 at the start, 1.2 at 4 KiB, 1.0 at least 8 KiB before the end.
    let at_end = (len / 512).checked_sub(16).map(|sector| sector / 8 * 8 * 512);
    for offset in [Some(0), Some(4096), at_end].into_iter().flatten() {
        let Some(raw) = probe.structure(offset, 256, 0, &MD_MAGIC)? else { continue };
        if try_le_u32(&raw, 4) == Some(1) {
            return Ok(Some(Content::new("md-raid").with_uuid(raw.get(16..32)).with_label(raw.get(32..64))));
        }
    }
    // Version 0.90 in the last whole 64 KiB.
    let Some(offset) = (len / 65536).checked_sub(1).map(|unit| unit * 65536) else { return Ok(None) };
    let Some(raw) = probe.structure(offset, 64, 0, &MD_MAGIC)? else { return Ok(None) };
    if try_le_u32(&raw, 4) != Some(0) {
        return Ok(None);
    }
    let mut uuid = [0; 16];
    for (word, at) in uuid.chunks_exact_mut(4).zip([20, 52, 56, 60]) {
        word.copy_from_slice(&le_u32(&raw, at).to_be_bytes());
    }
    Ok(Some(Content::new("md-raid").with_uuid(Some(&uuid))))
}

/// The label stands in one of the first four sectors (LVM2 `format_text/layout.h`).
pub(super) fn lvm2(probe: &Probe<'_>) -> Result<Option<Content>, BlockError> {
    for sector in 0..4 {
        let Some(raw) = probe.structure(sector * 512, 512, 0, b"LABELONE")? else { continue };
        if raw.get(24..32) != Some(b"LVM2 001") {
            continue;
        }
        let header = le_u32(&raw, 20) as usize;
        let uuid = header.checked_add(32).and_then(|end| raw.get(header..end)).and_then(text);
        // Printed in groups of 6-4-4-4-4-4-6 characters.
        let uuid = uuid.filter(|uuid| uuid.len() == 32 && uuid.is_ascii()).map(|uuid| {
            let mut printed = String::with_capacity(38);
            for (index, character) in uuid.chars().enumerate() {
                if matches!(index, 6 | 10 | 14 | 18 | 22 | 26) {
                    printed.push('-');
                }
                printed.push(character);
            }
            printed
        });
        return Ok(Some(Content { kind: "lvm2-pv", uuid, label: None }));
    }
    Ok(None)
}

/// LUKS 1 and 2.
pub(super) fn luks(probe: &Probe<'_>) -> Result<Option<Content>, BlockError> {
    let Some(raw) = probe.structure(0, 512, 0, b"LUKS\xba\xbe")? else { return Ok(None) };
    let label = (try_be_u16(&raw, 6) == Some(2)).then(|| raw.get(24..72)).flatten().and_then(text);
    Ok(Some(Content { kind: "luks", uuid: raw.get(168..208).and_then(text), label }))
}

/// What is recognised by its magic alone.
pub(super) fn named(probe: &Probe<'_>) -> Result<Option<Content>, BlockError> {
    const BCACHE: &[u8] = b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81";
    const MAGICS: &[(&str, u64, &[u8])] = &[
        ("bitlocker", 3, b"-FVE-FS-"),
        ("vdo", 0, b"dmvdo001"),
        ("stratis", 512 + 4, b"!Stra0tis\x86\xff\x02^\x41rh"),
        ("bcache", 4096 + 24, BCACHE),
    ];
    for (kind, offset, magic) in MAGICS {
        if probe.structure(*offset, magic.len(), 0, magic)?.is_some() {
            return Ok(Some(Content::new(kind)));
        }
    }
    // ZFS: any of the uberblocks (1 KiB apart) of the first label.
    for slot in 0..128 {
        let offset = (128 << 10) + (slot << 10);
        if probe.structure(offset, 8, 0, &0x00ba_b10c_u64.to_le_bytes())?.is_some() {
            return Ok(Some(Content::new("zfs-member")));
        }
    }
    Ok(None)
}

/// Page sizes of Linux machines: the signature stands at the end of the first page.
pub(crate) const SWAP_PAGE_SIZES: [u64; 5] = [4096, 8192, 16_384, 32_768, 65_536];

/// What stands at the end of the first page of a swap space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SwapSignature {
    /// Before Linux 2.2.
    Version0,
    /// With label and UUID.
    Version1,
    /// The memory of a guest that was suspended to disk is in it.
    Suspended,
}

/// The signature at the end of a page of this size, if there is one.
pub(crate) fn swap_signature(
    device: &dyn ReadAt,
    page_size: u64,
) -> Result<Option<SwapSignature>, BlockError> {
    const SUSPENDED: [&[u8]; 5] = [b"S1SUSPEND", b"S2SUSPEND", b"ULSUSPEND", b"LINHIB0001", b"TuxOnIce"];
    let Some(magic) = (Probe { device }).bytes(page_size - 10, 10)? else { return Ok(None) };
    Ok(match &magic[..] {
        b"SWAPSPACE2" => Some(SwapSignature::Version1),
        b"SWAP-SPACE" => Some(SwapSignature::Version0),
        other if SUSPENDED.iter().any(|known| other.starts_with(known)) => Some(SwapSignature::Suspended),
        _ => None,
    })
}

/// Swap space; its page size is the one of the machine that made it.
pub(super) fn swap(probe: &Probe<'_>) -> Result<Option<Content>, BlockError> {
    for page_size in SWAP_PAGE_SIZES {
        let kind = match swap_signature(probe.device, page_size)? {
            Some(SwapSignature::Version1) => "swap",
            Some(SwapSignature::Version0) => return Ok(Some(Content::new("swap"))),
            Some(SwapSignature::Suspended) => "swsuspend",
            None => continue,
        };
        let header = probe.bytes(1024, 64)?.unwrap_or_default();
        return Ok(Some(Content::new(kind).with_uuid(header.get(12..28)).with_label(header.get(28..44))));
    }
    Ok(None)
}
