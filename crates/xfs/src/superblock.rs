//! The superblock: first sector of each allocation group (`xfs_format.h`, `struct xfs_dsb`).

use block::ReadAt;
use ondisk::{Uuid, be_u16, be_u32, be_u64, crc32c_raw, put_be_u16, put_be_u32, put_be_u64, put_le_u32};

use crate::error::{Result, corrupt, device, unsupported};
use crate::feature::{Features, Features2, Incompat, RoCompat, Version};

/// Least sector size, and what a probe has to read.
pub const SUPERBLOCK_BYTES: usize = 512;
const MAGIC: &[u8; 4] = b"XFSB";
const CRC: usize = 224;

/// The raw primary superblock with typed access.
///
/// Invariant: `raw` is one sector (512 to 32768 bytes).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    raw: Vec<u8>,
    features: Features,
}

/// What recognises a filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Printed UUID.
    pub uuid: String,
    /// Label, lossily printed.
    pub label: Option<String>,
}

/// Looks for a superblock at the start of a device.
pub fn probe(dev: &dyn ReadAt) -> Result<Option<Probe>> {
    let mut raw = vec![0; SUPERBLOCK_BYTES];
    if dev.len() < raw.len() as u64 {
        return Ok(None);
    }
    dev.read_exact_at(&mut raw, 0).map_err(device)?;
    Ok((raw.get(..4) == Some(MAGIC)).then(|| Probe { uuid: print_uuid(&raw), label: print_label(&raw) }))
}

fn print_uuid(raw: &[u8]) -> String {
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&raw[32..48]);
    Uuid(uuid).to_string()
}

fn print_label(raw: &[u8]) -> Option<String> {
    let label = &raw[108..120];
    let end = label.iter().position(|byte| *byte == 0).unwrap_or(label.len());
    (end > 0).then(|| String::from_utf8_lossy(&label[..end]).into_owned())
}

fn bad(detail: String) -> vfs::VfsError {
    corrupt("xfs.superblock", "superblock", detail)
}

impl Superblock {
    /// Reads the primary superblock and checks magic, checksum and features.
    pub fn read(dev: &dyn ReadAt) -> Result<Self> {
        let mut raw = vec![0; SUPERBLOCK_BYTES];
        if dev.len() < raw.len() as u64 {
            return Err(bad(format!("a device of {} bytes", dev.len())));
        }
        dev.read_exact_at(&mut raw, 0).map_err(device)?;
        if raw.get(..4) != Some(MAGIC) {
            return Err(bad("the magic XFSB is not there".into()));
        }
        let sector = usize::from(be_u16(&raw, 102));
        if !sector.is_power_of_two() || !(512..=32768).contains(&sector) || sector as u64 > dev.len() {
            return Err(bad(format!("sectors of {sector} bytes")));
        }
        raw.resize(sector, 0);
        dev.read_exact_at(&mut raw, 0).map_err(device)?;
        Self::parse(raw)
    }

    /// Checks one sector.
    pub(crate) fn parse(raw: Vec<u8>) -> Result<Self> {
        let word = be_u16(&raw, 100);
        let version = (word & 15) as u8;
        if version != 4 && version != 5 {
            return Err(unsupported("xfs.feature.unsupported", format!("version {version}"), ""));
        }
        let bits = Version::from_bits_truncate(word);
        let has_more = bits.contains(Version::MOREBITS) || version == 5;
        let is_v5 = version == 5;
        let features = Features {
            version,
            bits,
            more: Features2::from_bits_retain(if has_more { be_u32(&raw, 200) } else { 0 }),
            ro_compat: RoCompat::from_bits_retain(if is_v5 { be_u32(&raw, 212) } else { 0 }),
            incompat: Incompat::from_bits_retain(if is_v5 { be_u32(&raw, 216) } else { 0 }),
        };
        if is_v5 {
            let (want, have) = (checksum(&raw, CRC), ondisk::le_u32(&raw, CRC));
            if want != have {
                return Err(corrupt(
                    "xfs.superblock.checksum",
                    "superblock",
                    format!("checksum {want:#010x} expected, {have:#010x} found"),
                ));
            }
        }
        if !bits.contains(Version::DIRV2) {
            return Err(unsupported("xfs.feature.unsupported", "directories of version 1", ""));
        }
        features.require_readable()?;
        let superblock = Self { raw, features };
        superblock.require_whole()?;
        Ok(superblock)
    }

    fn require_whole(&self) -> Result<()> {
        let refuse = |name: &str| Err(unsupported("xfs.feature.unsupported", name, ""));
        if self.raw[126] != 0 {
            return refuse("inprogress");
        }
        if self.u64(16) != 0 {
            return refuse("realtime");
        }
        if self.log_start() == 0 {
            return refuse("external-log");
        }
        Ok(())
    }

    /// Magic and checksum of the copy of a group.
    pub(crate) fn require_intact(raw: &[u8], group: u32) -> Result<()> {
        let is_v5 = be_u16(raw, 100) & 15 == 5;
        if raw.get(..4) == Some(MAGIC) && (!is_v5 || checksum(raw, CRC) == ondisk::le_u32(raw, CRC)) {
            return Ok(());
        }
        Err(corrupt(
            "xfs.superblock.copy",
            format!("superblock of group {group}"),
            "magic or checksum is wrong",
        ))
    }

    /// A fresh checksum over a changed copy of version 5.
    pub(crate) fn reseal(raw: &mut [u8]) {
        if be_u16(raw, 100) & 15 == 5 {
            let sum = checksum(raw, CRC);
            put_le_u32(raw, CRC, sum);
        }
    }

    /// The raw sector.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// The sector with a fresh checksum and the log sequence number 0.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut raw = self.raw.clone();
        if self.features.is_v5() {
            put_be_u64(&mut raw, 240, 0);
            let sum = checksum(&raw, CRC);
            put_le_u32(&mut raw, CRC, sum);
        }
        raw
    }

    pub(crate) fn u16(&self, at: usize) -> u16 {
        be_u16(&self.raw, at)
    }
    pub(crate) fn u32(&self, at: usize) -> u32 {
        be_u32(&self.raw, at)
    }
    pub(crate) fn u64(&self, at: usize) -> u64 {
        be_u64(&self.raw, at)
    }
    pub(crate) fn u8(&self, at: usize) -> u8 {
        self.raw.get(at).copied().unwrap_or(0)
    }

    /// Features.
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// Printed UUID: what `blkid` shows.
    pub fn uuid(&self) -> String {
        print_uuid(&self.raw)
    }

    /// UUID that the log and `blkid` know.
    pub(crate) fn user_uuid(&self) -> [u8; 16] {
        self.bytes16(32)
    }

    /// UUID that metadata blocks carry.
    pub(crate) fn meta_uuid(&self) -> [u8; 16] {
        self.bytes16(if self.features.has(Incompat::META_UUID) { 248 } else { 32 })
    }

    fn bytes16(&self, at: usize) -> [u8; 16] {
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&self.raw[at..at + 16]);
        uuid
    }

    /// Label.
    pub fn label(&self) -> Option<String> {
        print_label(&self.raw)
    }

    /// How errors name this filesystem.
    pub(crate) fn name(&self) -> String {
        format!("xfs {}", self.uuid())
    }

    /// Bytes per block.
    pub fn block_size(&self) -> u32 {
        self.u32(4)
    }
    /// Blocks of the data section.
    pub fn data_blocks(&self) -> u64 {
        self.u64(8)
    }
    /// First block of the internal log; 0 for an external one.
    pub(crate) fn log_start(&self) -> u64 {
        self.u64(48)
    }
    /// Root directory.
    pub fn root_inode(&self) -> u64 {
        self.u64(56)
    }
    /// Allocated inodes.
    pub fn inode_count(&self) -> u64 {
        self.u64(128)
    }
    /// Allocated inodes that are free.
    pub fn free_inodes(&self) -> u64 {
        self.u64(136)
    }
    /// Free blocks, reservations included.
    pub fn free_blocks(&self) -> u64 {
        self.u64(144)
    }
    pub(crate) fn quota_flags(&self) -> u16 {
        self.u16(176)
    }

    /// Inodes that belong to the filesystem itself.
    pub(crate) fn is_internal_inode(&self, ino: u64) -> bool {
        ino != 0
            && ino != u64::MAX
            && [64, 72, 160, 168, 232]
                .into_iter()
                .take(if self.features.is_v5() { 5 } else { 4 })
                .any(|at| self.u64(at) == ino)
    }

    pub(crate) fn add_inodes(&mut self, all: i64, free: i64) {
        let all = self.inode_count().wrapping_add_signed(all);
        let free = self.free_inodes().wrapping_add_signed(free);
        put_be_u64(&mut self.raw, 128, all);
        put_be_u64(&mut self.raw, 136, free);
    }
    pub(crate) fn add_free_blocks(&mut self, by: i64) {
        let blocks = self.free_blocks().wrapping_add_signed(by);
        put_be_u64(&mut self.raw, 144, blocks);
    }
    pub(crate) fn set_counters(&mut self, inodes: u64, free_inodes: u64, free_blocks: u64) {
        put_be_u64(&mut self.raw, 128, inodes);
        put_be_u64(&mut self.raw, 136, free_inodes);
        put_be_u64(&mut self.raw, 144, free_blocks);
    }
    pub(crate) fn set_quota_flags(&mut self, flags: u16) {
        put_be_u16(&mut self.raw, 176, flags);
    }
    /// Notes that attributes are in use, as the kernel does with the first attribute fork.
    pub(crate) fn set_attr_bit(&mut self) {
        let word = self.u16(100) | Version::ATTR.bits();
        put_be_u16(&mut self.raw, 100, word);
        self.features.bits |= Version::ATTR;
    }
    pub(crate) fn clear_log_incompat(&mut self) {
        put_be_u32(&mut self.raw, 220, 0);
    }
    /// `sb_features_log_incompat`.
    pub(crate) fn log_incompat(&self) -> u32 {
        if self.features.is_v5() { self.u32(220) } else { 0 }
    }
    pub(crate) fn raw_mut(&mut self) -> &mut [u8] {
        &mut self.raw
    }
}

/// CRC-32C over `raw` with the four bytes at `at` taken as zero (XFS Algorithms & Data Structures,
/// "Metadata Integrity").
pub(crate) fn checksum(raw: &[u8], at: usize) -> u32 {
    let state = crc32c_raw(!0, &raw[..at]);
    let state = crc32c_raw(state, &[0; 4]);
    !crc32c_raw(state, &raw[at + 4..])
}
