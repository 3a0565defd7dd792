//! Extended attributes (the kernel's `Documentation/filesystems/ext4/attributes.rst`).

pub(crate) mod acl;
mod edit;
pub(crate) mod name;

use ondisk::{le_u16, le_u32, try_le_u32};
use vfs::{FileKind, Xattr};

use crate::error::{Result, corrupt};
use crate::fs::Ext4;
use crate::inode::{Inode, InodeFlags};

pub(crate) const XATTR_MAGIC: u32 = 0xea02_0000;
/// Bytes of the header of an attribute block, and of an entry before its name.
pub(crate) const BLOCK_HEADER: usize = 32;
pub(crate) const ENTRY_HEAD: usize = 16;
/// Longest value; what `getxattr` can return.
pub(crate) const MAX_VALUE: usize = 65536;
/// Most bytes of values of one inode: with values in inodes, entries alone do not bound them.
const MAX_TOTAL: usize = 16 << 20;

/// An attribute as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredXattr {
    /// Number of the name's prefix.
    pub index: u8,
    /// Name without the prefix.
    pub name: Vec<u8>,
    /// Value in the form on disk.
    pub value: Vec<u8>,
    /// Inode that holds the value; 0 when it lies beside the entries.
    pub value_inode: u32,
    /// `e_hash` as stored; 0 for most attributes in the inode.
    pub hash: u32,
}

impl StoredXattr {
    /// True for `system.data`, which holds inline content.
    pub(crate) fn is_inline_data(&self) -> bool {
        self.index == name::INDEX_SYSTEM && self.name == b"data"
    }
}

impl Ext4 {
    /// Byte at which attributes in the inode start (their magic), when the inode has room for any.
    pub(crate) fn inode_xattr_start(&self, inode: &Inode) -> Option<usize> {
        let start = 128 + inode.extra_size();
        (inode.raw().len() > 128 && inode.extra_size() != 0 && start + 4 <= inode.raw().len())
            .then_some(start)
    }

    /// Attributes in the inode.
    pub(crate) fn inode_xattrs(&self, inode: &Inode) -> Result<Vec<StoredXattr>> {
        let Some(start) = self.inode_xattr_start(inode) else { return Ok(Vec::new()) };
        if le_u32(inode.raw(), start) != XATTR_MAGIC {
            return Ok(Vec::new());
        }
        let area = inode.raw().get(start + 4..).unwrap_or(&[]);
        self.parse_xattrs(&format!("attributes in inode {}", inode.number()), area, 0)
    }

    /// The attribute block of an inode, verified; `None` when it has none.
    pub(crate) fn xattr_block_raw(&self, inode: &Inode) -> Result<Option<(u64, Vec<u8>)>> {
        let block = inode.xattr_block();
        if block == 0 {
            return Ok(None);
        }
        let raw = self.read_block(block)?;
        let bad = |code, detail: String| {
            corrupt(code, format!("attribute block {block} of inode {}", inode.number()), detail)
        };
        if le_u32(&raw, 0) != XATTR_MAGIC || le_u32(&raw, 8) != 1 {
            return Err(bad(
                "ext4.xattr.magic",
                format!(
                    "magic {XATTR_MAGIC:#x} and 1 block expected, {:#x} and {} found",
                    le_u32(&raw, 0),
                    le_u32(&raw, 8)
                ),
            ));
        }
        if self.superblock.features().has_metadata_csum() {
            let (want, have) = (self.superblock.xattr_block_checksum(block, &raw), le_u32(&raw, 0x10));
            if want != have {
                return Err(bad(
                    "ext4.xattr.checksum",
                    format!("checksum {want:#010x} expected, {have:#010x} found"),
                ));
            }
        }
        Ok(Some((block, raw)))
    }

    /// Attributes in the attribute block.
    pub(crate) fn block_xattrs(&self, inode: &Inode) -> Result<Vec<StoredXattr>> {
        match self.xattr_block_raw(inode)? {
            None => Ok(Vec::new()),
            Some((block, raw)) => self.parse_xattrs(
                &format!("attribute block {block} of inode {}", inode.number()),
                &raw,
                BLOCK_HEADER,
            ),
        }
    }

    /// Parses entries from `first` on; value offsets count from the start of `area`.
    fn parse_xattrs(&self, place: &str, area: &[u8], first: usize) -> Result<Vec<StoredXattr>> {
        let bad = |at: usize, detail: &str| {
            corrupt("ext4.xattr.entry", format!("byte {at} of the {place}"), detail)
        };
        let mut found = Vec::new();
        let mut at = first;
        let mut total = 0usize;
        // An area too short for the terminator ends the list as well.
        while let Some(word) = try_le_u32(area, at) {
            if word == 0 {
                return Ok(found);
            }
            let head = area.get(at..at + ENTRY_HEAD).ok_or_else(|| bad(at, "no room for an entry"))?;
            let name_len = usize::from(head[0]);
            let name = area
                .get(at + ENTRY_HEAD..at + ENTRY_HEAD + name_len)
                .ok_or_else(|| bad(at, "the name passes the end"))?;
            let (value_at, value_inode, len) =
                (usize::from(le_u16(head, 2)), le_u32(head, 4), le_u32(head, 8) as usize);
            total = total.saturating_add(len);
            if len > MAX_VALUE || total > MAX_TOTAL {
                return Err(bad(at, "the value is longer than 65536 bytes, or all together are too long"));
            }
            let value = if value_inode != 0 {
                self.xattr_inode_value(value_inode, len)?
            } else if len == 0 {
                Vec::new()
            } else {
                let value = area.get(value_at..value_at + len).filter(|_| value_at >= at + ENTRY_HEAD);
                value.ok_or_else(|| bad(at, "the value lies outside"))?.to_vec()
            };
            found.push(StoredXattr {
                index: head[1],
                name: name.to_vec(),
                value,
                value_inode,
                hash: le_u32(head, 12),
            });
            at += (ENTRY_HEAD + name_len + 3) & !3;
        }
        Ok(found)
    }

    fn xattr_inode_value(&self, number: u32, len: usize) -> Result<Vec<u8>> {
        let inode = self.live_inode(number)?;
        if !inode.has(InodeFlags::EA_INODE)
            || inode.kind() != Some(FileKind::Regular)
            || inode.has(InodeFlags::INLINE_DATA)
        {
            return Err(corrupt(
                "ext4.xattr.inode",
                format!("inode {number}"),
                "no inode for an attribute value",
            ));
        }
        let mut value = vec![0; len];
        if self.read_file(&inode, 0, &mut value)? != len {
            return Err(corrupt(
                "ext4.xattr.inode",
                format!("inode {number}"),
                format!("shorter than the value of {len} bytes"),
            ));
        }
        Ok(value)
    }

    /// Everything that `listxattr` would show, in system-call form.
    pub(crate) fn all_xattrs(&self, inode: &Inode) -> Result<Vec<Xattr>> {
        let mut all = self.inode_xattrs(inode)?;
        all.extend(self.block_xattrs(inode)?);
        let mut out = Vec::new();
        for stored in all {
            if stored.is_inline_data() {
                continue;
            }
            let Some(full) = name::full_name(stored.index, &stored.name) else { continue };
            let value = if name::is_acl(stored.index) {
                acl::to_syscall(&stored.value).ok_or_else(|| {
                    corrupt(
                        "ext4.xattr.acl",
                        format!("ACL of inode {}", inode.number()),
                        "not a list of entries of version 1",
                    )
                })?
            } else {
                stored.value
            };
            out.push(Xattr { name: full, value });
        }
        Ok(out)
    }
}
