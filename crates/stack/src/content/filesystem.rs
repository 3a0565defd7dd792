//! Filesystems of Linux and of installation media.

use block::BlockError;
use ondisk::{try_le_u16, try_le_u32};

use super::{Content, Probe, text};

const EXT_MAGIC: [u8; 2] = 0xef53_u16.to_le_bytes();

/// ext2, ext3, ext4 and external journals, told apart by their features.
pub(super) fn ext(probe: &Probe<'_>) -> Result<Option<Content>, BlockError> {
    let Some(raw) = probe.structure(1024, 1024, 56, &EXT_MAGIC)? else { return Ok(None) };
    let feature = |at| try_le_u32(&raw, at).unwrap_or(0);
    let (compat, incompat, ro_compat) = (feature(92), feature(96), feature(100));
    // Beyond these (filetype, recover, meta_bg; sparse_super, large_file, btree_dir) it is ext4.
    let is_ext4 = incompat & !0x1e != 0 || ro_compat & !0x7 != 0;
    let kind = match (incompat & 0x8 != 0, is_ext4, compat & 0x4 != 0) {
        (true, _, _) => "jbd",
        (_, true, _) => "ext4",
        (_, _, true) => "ext3",
        _ => "ext2",
    };
    Ok(Some(Content::new(kind).with_uuid(raw.get(104..120)).with_label(raw.get(120..136))))
}

/// XFS.
pub(super) fn xfs(probe: &Probe<'_>) -> Result<Option<Content>, BlockError> {
    let raw = probe.structure(0, 512, 0, b"XFSB")?;
    Ok(raw.map(|raw| Content::new("xfs").with_uuid(raw.get(32..48)).with_label(raw.get(108..120))))
}

/// Btrfs: the filesystem's UUID, not the device's.
pub(super) fn btrfs(probe: &Probe<'_>) -> Result<Option<Content>, BlockError> {
    let raw = probe.structure(65536, 4096, 64, b"_BHRfS_M")?;
    Ok(raw.map(|raw| Content::new("btrfs").with_uuid(raw.get(32..48)).with_label(raw.get(299..555))))
}

/// F2FS.
pub(super) fn f2fs(probe: &Probe<'_>) -> Result<Option<Content>, BlockError> {
    let Some(raw) = probe.structure(1024, 2048, 0, &0xf2f5_2010_u32.to_le_bytes())? else { return Ok(None) };
    let units = raw.get(124..1148).unwrap_or_default().chunks_exact(2);
    let units: Vec<u16> = units.map_while(|pair| try_le_u16(pair, 0)).take_while(|unit| *unit != 0).collect();
    let label = text(String::from_utf16_lossy(&units).as_bytes());
    Ok(Some(Content { label, ..Content::new("f2fs").with_uuid(raw.get(108..124)) }))
}

/// EROFS.
pub(super) fn erofs(probe: &Probe<'_>) -> Result<Option<Content>, BlockError> {
    let raw = probe.structure(1024, 128, 0, &0xe0f5_e1e2_u32.to_le_bytes())?;
    Ok(raw.map(|raw| Content::new("erofs").with_uuid(raw.get(48..64)).with_label(raw.get(64..80))))
}

/// SquashFS version 4.
pub(super) fn squashfs(probe: &Probe<'_>) -> Result<Option<Content>, BlockError> {
    Ok(probe.structure(0, 96, 0, b"hsqs")?.map(|_| Content::new("squashfs")))
}

/// ISO 9660: the UUID is the date of the volume, of its modification before its creation.
pub(super) fn iso9660(probe: &Probe<'_>) -> Result<Option<Content>, BlockError> {
    let Some(raw) = probe.structure(32768, 2048, 0, b"\x01CD001")? else { return Ok(None) };
    let date = |at: usize| {
        let digits = std::str::from_utf8(raw.get(at..at + 16)?).ok()?;
        let is_set =
            digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.bytes().any(|byte| byte != b'0');
        let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
        is_set.then(|| {
            [part(0, 4), part(4, 6), part(6, 8), part(8, 10), part(10, 12), part(12, 14), part(14, 16)]
                .join("-")
        })
    };
    let uuid = date(830).or_else(|| date(813));
    Ok(Some(Content { uuid, ..Content::new("iso9660").with_label(raw.get(40..72)) }))
}

/// ReiserFS 3.5, 3.6 and with a relocated journal.
pub(super) fn reiserfs(probe: &Probe<'_>) -> Result<Option<Content>, BlockError> {
    for magic in [&b"ReIsErFs"[..], b"ReIsEr2Fs", b"ReIsEr3Fs"] {
        if let Some(raw) = probe.structure(65536, 256, 52, magic)? {
            return Ok(Some(
                Content::new("reiserfs").with_uuid(raw.get(84..100)).with_label(raw.get(100..116)),
            ));
        }
    }
    Ok(None)
}

/// JFS.
pub(super) fn jfs(probe: &Probe<'_>) -> Result<Option<Content>, BlockError> {
    let raw = probe.structure(32768, 256, 0, b"JFS1")?;
    Ok(raw.map(|raw| Content::new("jfs").with_uuid(raw.get(136..152)).with_label(raw.get(152..168))))
}

/// NILFS2; two bytes of magic are little, so the size of the superblock is looked at, too.
pub(super) fn nilfs2(probe: &Probe<'_>) -> Result<Option<Content>, BlockError> {
    let Some(raw) = probe.structure(1024, 1024, 6, &0x3434_u16.to_le_bytes())? else { return Ok(None) };
    let is_size = matches!(try_le_u16(&raw, 8), Some(200..=1024));
    Ok(is_size.then(|| Content::new("nilfs2").with_uuid(raw.get(152..168)).with_label(raw.get(168..248))))
}

/// bcachefs: the external UUID.
pub(super) fn bcachefs(probe: &Probe<'_>) -> Result<Option<Content>, BlockError> {
    const MAGIC: &[u8] = b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef";
    let raw = probe.structure(4096, 256, 24, MAGIC)?;
    Ok(raw.map(|raw| Content::new("bcachefs").with_uuid(raw.get(56..72)).with_label(raw.get(72..104))))
}

/// What is recognised by its magic alone.
pub(super) fn named(probe: &Probe<'_>) -> Result<Option<Content>, BlockError> {
    const MAGICS: &[(&str, u64, &[u8])] = &[
        ("hfsplus", 1024, b"H+"),
        ("apfs", 32, b"NXSB"),
        ("cramfs", 0, b"\x45\x3d\xcd\x28"),
        ("romfs", 0, b"-rom1fs-"),
        ("udf", 34816 + 1, b"BEA01"),
    ];
    for (kind, offset, magic) in MAGICS {
        if probe.structure(*offset, magic.len(), 0, magic)?.is_some() {
            return Ok(Some(Content::new(kind)));
        }
    }
    Ok(None)
}
