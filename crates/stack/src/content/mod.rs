//! What is in a volume, by its signature: filesystem, swap, RAID, LVM, encryption.
//!
//! Names, UUIDs and labels are those of `blkid`, so that `UUID=` and `LABEL=` of a guest resolve as
//! they do in the guest; the names of containers are ours (`lvm2-pv`, `luks`, `md-raid`).

mod container;
mod fat;
mod filesystem;
#[cfg(test)]
mod tests;

use block::{BlockError, ReadAt};

pub(crate) use container::{SWAP_PAGE_SIZES, SwapSignature, swap_signature};

/// Something recognised. A signature is no proof that the rest is sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// `ext4`, `xfs`, `swap`, `vfat`, `lvm2-pv`, `luks`, `md-raid`, …
    pub kind: &'static str,
    /// UUID or serial number as `blkid` prints it.
    pub uuid: Option<String>,
    /// Label, lossily decoded.
    pub label: Option<String>,
}

impl Content {
    fn new(kind: &'static str) -> Self {
        Self { kind, uuid: None, label: None }
    }

    fn with_uuid(mut self, raw: Option<&[u8]>) -> Self {
        let raw = raw.and_then(|raw| <[u8; 16]>::try_from(raw).ok()).map(ondisk::Uuid);
        self.uuid = raw.filter(|uuid| !uuid.is_nil()).map(|uuid| uuid.to_string());
        self
    }

    fn with_label(mut self, raw: Option<&[u8]>) -> Self {
        self.label = raw.and_then(text);
        self
    }

    /// What has to be opened or assembled before files can be seen.
    pub fn is_container(&self) -> bool {
        matches!(
            self.kind,
            "lvm2-pv"
                | "luks"
                | "md-raid"
                | "bitlocker"
                | "zfs-member"
                | "vdo"
                | "stratis"
                | "bcache"
                | "drbd"
        )
    }
}

/// A field of text up to its first NUL; `None` when nothing is left without the blanks behind it.
fn text(raw: &[u8]) -> Option<String> {
    let end = raw.iter().position(|byte| *byte == 0).unwrap_or(raw.len());
    let text = String::from_utf8_lossy(raw.get(..end)?).trim_end().to_owned();
    (!text.is_empty()).then_some(text)
}

/// The parts of a volume in which signatures stand, read piece by piece.
struct Probe<'d> {
    device: &'d dyn ReadAt,
}

impl Probe<'_> {
    /// `len` bytes at `offset`; `None` when the volume is shorter.
    fn bytes(&self, offset: u64, len: usize) -> Result<Option<Vec<u8>>, BlockError> {
        if offset.checked_add(len as u64).is_none_or(|end| end > self.device.len()) {
            return Ok(None);
        }
        let mut bytes = vec![0; len];
        self.device.read_exact_at(&mut bytes, offset)?;
        Ok(Some(bytes))
    }

    /// The `len` bytes at `offset` when `magic` stands `magic_at` bytes into them.
    fn structure(
        &self,
        offset: u64,
        len: usize,
        magic_at: usize,
        magic: &[u8],
    ) -> Result<Option<Vec<u8>>, BlockError> {
        let bytes = self.bytes(offset, len)?;
        Ok(bytes.filter(|bytes| bytes.get(magic_at..magic_at + magic.len()) == Some(magic)))
    }
}

type Prober = fn(&Probe<'_>) -> Result<Option<Content>, BlockError>;

/// Containers first: what they hold can look like a filesystem at the same place.
const PROBERS: &[Prober] = &[
    container::md_raid,
    container::lvm2,
    container::luks,
    container::named,
    container::swap,
    filesystem::ext,
    filesystem::xfs,
    filesystem::btrfs,
    filesystem::f2fs,
    filesystem::erofs,
    filesystem::squashfs,
    filesystem::iso9660,
    filesystem::reiserfs,
    filesystem::jfs,
    filesystem::nilfs2,
    filesystem::bcachefs,
    fat::ntfs_or_exfat,
    fat::vfat,
    filesystem::named,
];

/// Everything that `device` looks like; the first one counts.
pub(crate) fn probe(device: &dyn ReadAt) -> Result<Vec<Content>, BlockError> {
    let probe = Probe { device };
    let mut found = Vec::new();
    for prober in PROBERS {
        found.extend(prober(&probe)?);
    }
    Ok(found)
}
