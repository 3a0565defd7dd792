//! The superblock (the kernel's `Documentation/filesystems/ext4/super.rst`).

use block::ReadAt;
use ondisk::{crc32c_raw, le_u16, le_u32, le_u64, put_le_u16, put_le_u32};

use crate::error::{Result, corrupt, device, unsupported};
use crate::feature::{Compat, Features, Incompat, RoCompat};

/// Position of the primary superblock on the device, bytes.
pub const SUPERBLOCK_OFFSET: u64 = 1024;
/// Bytes of a superblock.
pub const SUPERBLOCK_BYTES: usize = 1024;

const MAGIC: u16 = 0xef53;
/// Most bytes of group descriptors that are held in memory: 64 TiB of 4 KiB blocks need half of it.
const MAX_DESCRIPTOR_BYTES: u64 = 64 << 20;

/// What [`probe`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// `ext2`, `ext3`, `ext4`, or `jbd` for an external journal.
    pub kind: &'static str,
    /// Printed UUID, lower case; `None` when all bytes are zero.
    pub uuid: Option<String>,
    /// Volume label; `None` when empty.
    pub label: Option<String>,
}

/// Is there an ext2, ext3 or ext4 filesystem?
///
/// `Ok(None)` means that it is none; an error means that it says so and contradicts itself.
pub fn probe(dev: &dyn ReadAt) -> Result<Option<Probe>> {
    let Some(raw) = read_raw(dev)? else { return Ok(None) };
    let features = features_of(&raw);
    let kind = if features.incompat.contains(Incompat::JOURNAL_DEV) { "jbd" } else { features.kind() };
    if kind != "jbd" {
        Superblock::parse(raw, dev.len())?;
    }
    Ok(Some(Probe { kind, uuid: uuid_of(&raw), label: label_of(&raw) }))
}

fn read_raw(dev: &dyn ReadAt) -> Result<Option<[u8; SUPERBLOCK_BYTES]>> {
    if dev.len() < SUPERBLOCK_OFFSET + SUPERBLOCK_BYTES as u64 {
        return Ok(None);
    }
    let mut raw = [0u8; SUPERBLOCK_BYTES];
    dev.read_exact_at(&mut raw, SUPERBLOCK_OFFSET).map_err(device)?;
    Ok((le_u16(&raw, 0x38) == MAGIC).then_some(raw))
}

fn features_of(raw: &[u8; SUPERBLOCK_BYTES]) -> Features {
    if le_u32(raw, 0x4c) == 0 {
        // Revision 0 has no feature fields.
        return Features {
            compat: Compat::empty(),
            ro_compat: RoCompat::empty(),
            incompat: Incompat::empty(),
        };
    }
    Features {
        compat: Compat::from_bits_retain(le_u32(raw, 0x5c)),
        incompat: Incompat::from_bits_retain(le_u32(raw, 0x60)),
        ro_compat: RoCompat::from_bits_retain(le_u32(raw, 0x64)),
    }
}

fn uuid_of(raw: &[u8; SUPERBLOCK_BYTES]) -> Option<String> {
    let mut uuid = [0u8; 16];
    uuid.copy_from_slice(&raw[0x68..0x78]);
    let uuid = ondisk::Uuid(uuid);
    (!uuid.is_nil()).then(|| uuid.to_string())
}

fn label_of(raw: &[u8; SUPERBLOCK_BYTES]) -> Option<String> {
    let field = &raw[0x78..0x88];
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    (end > 0).then(|| String::from_utf8_lossy(&field[..end]).into_owned())
}

/// A checked superblock with its raw bytes.
///
/// Invariants: block size 1 to 64 KiB; all blocks lie on the device; group count, inode count and the
/// sizes per group agree; no divisor is zero.
#[derive(Clone)]
pub struct Superblock {
    raw: [u8; SUPERBLOCK_BYTES],
    features: Features,
    block_size: u32,
    cluster_ratio: u32,
    blocks: u64,
    first_data_block: u32,
    blocks_per_group: u32,
    clusters_per_group: u32,
    inodes_per_group: u32,
    inode_size: u16,
    first_inode: u32,
    descriptor_size: u16,
    groups: u32,
    checksum_seed: u32,
}

fn bad(detail: impl Into<String>) -> vfs::VfsError {
    corrupt("ext4.superblock.invalid", "superblock", detail)
}

impl Superblock {
    /// Reads and checks the primary superblock.
    pub fn read(dev: &dyn ReadAt) -> Result<Self> {
        match read_raw(dev)? {
            Some(raw) => Self::parse(raw, dev.len()),
            None => Err(corrupt(
                "ext4.superblock.magic",
                "superblock at byte 1024",
                "magic number 0xef53 expected, not found",
            )),
        }
    }

    fn parse(raw: [u8; SUPERBLOCK_BYTES], device_bytes: u64) -> Result<Self> {
        let features = features_of(&raw);
        features.require_readable()?;
        let revision = le_u32(&raw, 0x4c);
        let s_log_block_size = le_u32(&raw, 0x18);
        let s_log_cluster_size = le_u32(&raw, 0x1c);
        let s_blocks_per_group = le_u32(&raw, 0x20);
        let s_clusters_per_group = le_u32(&raw, 0x24);
        let s_inodes_per_group = le_u32(&raw, 0x28);
        let first_data_block = le_u32(&raw, 0x14);

        if features.has_metadata_csum() {
            let want = crc32c_raw(!0, &raw[..0x3fc]);
            let have = le_u32(&raw, 0x3fc);
            if want != have {
                return Err(corrupt(
                    "ext4.superblock.checksum",
                    "superblock",
                    format!("checksum {want:#010x} expected, {have:#010x} found"),
                ));
            }
            if raw[0x175] != 1 {
                return Err(bad(format!("checksum type 1 (crc32c) expected, {} found", raw[0x175])));
            }
        }
        if s_log_block_size > 6 {
            return Err(bad(format!(
                "block size 2^{} bytes, at most 2^16",
                u64::from(s_log_block_size) + 10
            )));
        }
        let block_size = 1024u32 << s_log_block_size;
        let is_bigalloc = features.ro_compat.contains(RoCompat::BIGALLOC);
        let cluster_ratio = if is_bigalloc {
            match s_log_cluster_size.checked_sub(s_log_block_size) {
                Some(shift) if s_log_cluster_size <= 20 => 1u32 << shift,
                _ => {
                    return Err(bad(format!(
                        "cluster size 2^{s_log_cluster_size} KiB with {block_size}-byte blocks"
                    )));
                }
            }
        } else {
            1
        };
        let clusters_per_group = if is_bigalloc { s_clusters_per_group } else { s_blocks_per_group };
        if clusters_per_group == 0
            || clusters_per_group > block_size * 8
            || clusters_per_group % 8 != 0
            || u64::from(clusters_per_group) * u64::from(cluster_ratio) != u64::from(s_blocks_per_group)
        {
            return Err(bad(format!(
                "{s_blocks_per_group} blocks and {clusters_per_group} clusters per group of {block_size}-byte blocks"
            )));
        }
        let is_64bit = features.incompat.contains(Incompat::SIXTY_FOUR_BIT);
        let high = |at| if is_64bit { u64::from(le_u32(&raw, at)) << 32 } else { 0 };
        let blocks = high(0x150) | u64::from(le_u32(&raw, 0x04));
        if blocks <= u64::from(first_data_block) || first_data_block > 1 {
            return Err(bad(format!("{blocks} blocks, first data block {first_data_block}")));
        }
        if blocks > device_bytes / u64::from(block_size) {
            return Err(corrupt(
                "ext4.superblock.size",
                "superblock",
                format!("{blocks} blocks of {block_size} bytes, but the device has {device_bytes} bytes"),
            ));
        }
        if first_data_block == 1 && block_size != 1024
            || first_data_block == 0 && block_size == 1024 && !is_bigalloc
        {
            return Err(bad(format!("first data block {first_data_block} with {block_size}-byte blocks")));
        }
        let groups = (blocks - u64::from(first_data_block)).div_ceil(u64::from(s_blocks_per_group));
        let s_desc_size = le_u16(&raw, 0xfe);
        let descriptor_size = if is_64bit { s_desc_size } else { 32 };
        if !descriptor_size.is_power_of_two()
            || !(if is_64bit { 64 } else { 32 }..=1024).contains(&descriptor_size)
        {
            return Err(bad(format!("group descriptors of {descriptor_size} bytes")));
        }
        if groups * u64::from(descriptor_size) > MAX_DESCRIPTOR_BYTES {
            return Err(unsupported(
                "ext4.limit.groups",
                format!("a filesystem of {groups} block groups"),
                format!(" (at most {MAX_DESCRIPTOR_BYTES} bytes of descriptors)"),
            ));
        }
        let groups = u32::try_from(groups).map_err(|_| bad(format!("{groups} groups")))?;
        let (inode_size, first_inode) =
            if revision == 0 { (128, 11) } else { (le_u16(&raw, 0x58), le_u32(&raw, 0x54)) };
        if !inode_size.is_power_of_two() || inode_size < 128 || u32::from(inode_size) > block_size {
            return Err(bad(format!("inodes of {inode_size} bytes")));
        }
        let inodes_per_block = block_size / u32::from(inode_size);
        if s_inodes_per_group < inodes_per_block || s_inodes_per_group > block_size * 8 {
            return Err(bad(format!("{s_inodes_per_group} inodes per group")));
        }
        let inodes = u64::from(s_inodes_per_group) * u64::from(groups);
        if inodes != u64::from(le_u32(&raw, 0)) {
            return Err(bad(format!("{inodes} inodes expected, {} found", le_u32(&raw, 0))));
        }
        if first_inode < 11 || u64::from(first_inode) > inodes {
            return Err(bad(format!("first inode {first_inode}")));
        }
        let checksum_seed = if features.incompat.contains(Incompat::CSUM_SEED) {
            le_u32(&raw, 0x270)
        } else {
            crc32c_raw(!0, &raw[0x68..0x78])
        };
        Ok(Self {
            raw,
            features,
            block_size,
            cluster_ratio,
            blocks,
            first_data_block,
            blocks_per_group: s_blocks_per_group,
            clusters_per_group,
            inodes_per_group: s_inodes_per_group,
            inode_size,
            first_inode,
            descriptor_size,
            groups,
            checksum_seed,
        })
    }

    /// The raw bytes as they would be written now, checksum included.
    pub(crate) fn encode(&self) -> [u8; SUPERBLOCK_BYTES] {
        let mut raw = self.raw;
        if self.features.has_metadata_csum() {
            let sum = crc32c_raw(!0, &raw[..0x3fc]);
            put_le_u32(&mut raw, 0x3fc, sum);
        }
        raw
    }

    /// The raw bytes.
    pub fn raw(&self) -> &[u8; SUPERBLOCK_BYTES] {
        &self.raw
    }

    /// Feature sets.
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// Bytes per block.
    pub fn block_size(&self) -> u32 {
        self.block_size
    }

    /// Blocks per cluster; 1 without bigalloc.
    pub fn cluster_ratio(&self) -> u32 {
        self.cluster_ratio
    }

    /// Blocks in all.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// 1 with 1 KiB blocks, else 0.
    pub fn first_data_block(&self) -> u32 {
        self.first_data_block
    }

    /// Blocks of a full group.
    pub fn blocks_per_group(&self) -> u32 {
        self.blocks_per_group
    }

    /// Bits that a full group uses of its block bitmap.
    pub fn clusters_per_group(&self) -> u32 {
        self.clusters_per_group
    }

    /// Inodes of each group.
    pub fn inodes_per_group(&self) -> u32 {
        self.inodes_per_group
    }

    /// Bytes per inode.
    pub fn inode_size(&self) -> u16 {
        self.inode_size
    }

    /// First inode that is not reserved.
    pub fn first_inode(&self) -> u32 {
        self.first_inode
    }

    /// Bytes per group descriptor.
    pub fn descriptor_size(&self) -> u16 {
        self.descriptor_size
    }

    /// Block groups.
    pub fn groups(&self) -> u32 {
        self.groups
    }

    /// Inodes in all.
    pub fn inodes(&self) -> u32 {
        le_u32(&self.raw, 0)
    }

    /// State from which all checksums but the superblock's start.
    pub fn checksum_seed(&self) -> u32 {
        self.checksum_seed
    }

    /// UUID in the order in which it is printed.
    pub fn uuid_bytes(&self) -> &[u8] {
        &self.raw[0x68..0x78]
    }

    /// Printed UUID; `None` when all zero.
    pub fn uuid(&self) -> Option<String> {
        uuid_of(&self.raw)
    }

    /// Label; `None` when empty.
    pub fn label(&self) -> Option<String> {
        label_of(&self.raw)
    }

    /// How messages call this filesystem.
    pub fn name(&self) -> String {
        match (self.label(), self.uuid()) {
            (Some(label), _) => format!("{} {label:?}", self.features.kind()),
            (None, Some(uuid)) => format!("{} {uuid}", self.features.kind()),
            (None, None) => self.features.kind().to_owned(),
        }
    }

    fn is_64bit(&self) -> bool {
        self.features.incompat.contains(Incompat::SIXTY_FOUR_BIT)
    }

    fn wide(&self, low: usize, high: usize) -> u64 {
        let high = if self.is_64bit() { u64::from(le_u32(&self.raw, high)) << 32 } else { 0 };
        high | u64::from(le_u32(&self.raw, low))
    }

    /// Free blocks as recorded.
    pub fn free_blocks(&self) -> u64 {
        self.wide(0x0c, 0x158)
    }

    /// Blocks reserved for the superuser.
    pub fn reserved_blocks(&self) -> u64 {
        self.wide(0x08, 0x154)
    }

    pub(crate) fn set_free_blocks(&mut self, count: u64) {
        put_le_u32(&mut self.raw, 0x0c, count as u32);
        if self.is_64bit() {
            put_le_u32(&mut self.raw, 0x158, (count >> 32) as u32);
        }
    }

    /// Free inodes as recorded.
    pub fn free_inodes(&self) -> u32 {
        le_u32(&self.raw, 0x10)
    }

    pub(crate) fn set_free_inodes(&mut self, count: u32) {
        put_le_u32(&mut self.raw, 0x10, count);
    }

    /// `s_state`: 1 unmounted cleanly, 2 errors seen, 4 orphans being recovered.
    pub fn state(&self) -> u16 {
        le_u16(&self.raw, 0x3a)
    }

    pub(crate) fn set_state(&mut self, state: u16) {
        put_le_u16(&mut self.raw, 0x3a, state);
    }

    /// Errors that the kernel counted since the last check.
    pub fn error_count(&self) -> u32 {
        le_u32(&self.raw, 0x194)
    }

    /// Head of the orphan list; 0 when empty.
    pub fn last_orphan(&self) -> u32 {
        le_u32(&self.raw, 0xe8)
    }

    pub(crate) fn set_last_orphan(&mut self, inode: u32) {
        put_le_u32(&mut self.raw, 0xe8, inode);
    }

    /// Inode of the orphan file; 0 when there is none.
    pub fn orphan_file_inode(&self) -> u32 {
        if self.features.compat.contains(Compat::ORPHAN_FILE) { le_u32(&self.raw, 0x280) } else { 0 }
    }

    /// Inode of the internal journal; 0 when there is none.
    pub fn journal_inode(&self) -> u32 {
        if self.features.compat.contains(Compat::HAS_JOURNAL) { le_u32(&self.raw, 0xe0) } else { 0 }
    }

    /// Device number of an external journal; 0 when there is none.
    pub fn journal_device(&self) -> u32 {
        if self.features.compat.contains(Compat::HAS_JOURNAL) { le_u32(&self.raw, 0xe4) } else { 0 }
    }

    pub(crate) fn set_write_time(&mut self, seconds: i64) {
        put_le_u32(&mut self.raw, 0x30, seconds as u32);
        self.raw[0x274] = (seconds >> 32) as u8;
    }

    pub(crate) fn set_features(&mut self, features: Features) {
        self.features = features;
        put_le_u32(&mut self.raw, 0x5c, features.compat.bits());
        put_le_u32(&mut self.raw, 0x60, features.incompat.bits());
        put_le_u32(&mut self.raw, 0x64, features.ro_compat.bits());
    }

    /// True when revision 0: no feature may be switched on.
    pub(crate) fn is_revision_zero(&self) -> bool {
        le_u32(&self.raw, 0x4c) == 0
    }

    /// Reserved descriptor blocks after each copy of the descriptors.
    pub(crate) fn reserved_descriptor_blocks(&self) -> u16 {
        le_u16(&self.raw, 0xce)
    }

    pub(crate) fn first_meta_group(&self) -> u32 {
        le_u32(&self.raw, 0x104)
    }

    pub(crate) fn backup_groups(&self) -> [u32; 2] {
        [le_u32(&self.raw, 0x24c), le_u32(&self.raw, 0x250)]
    }

    pub(crate) fn hash_seed(&self) -> [u32; 4] {
        std::array::from_fn(|index| le_u32(&self.raw, 0xec + 4 * index))
    }

    /// Hash version of new htrees, without the sign.
    pub(crate) fn default_hash_version(&self) -> u8 {
        self.raw[0xfc]
    }

    /// True when names are hashed as unsigned characters.
    pub(crate) fn hashes_unsigned(&self) -> bool {
        le_u32(&self.raw, 0x160) & 2 != 0
    }

    pub(crate) fn want_extra_isize(&self) -> u16 {
        le_u16(&self.raw, 0x15e)
    }

    pub(crate) fn mmp_block(&self) -> u64 {
        le_u64(&self.raw, 0x168)
    }
}
