//! Content in the inode itself (the kernel's `Documentation/filesystems/ext4/inlinedata.rst`).

use crate::error::{Result, corrupt};
use crate::fs::Ext4;
use crate::inode::{I_BLOCK_BYTES, Inode};

/// Bytes of an inline directory's first part before its entries: the parent's inode.
pub(crate) const PARENT_BYTES: usize = 4;

/// The entries of an inline directory; each part is a chain of its own.
pub(crate) struct InlineDir {
    first: Vec<u8>,
    second: Vec<u8>,
}

/// One chain of entries.
pub(crate) struct InlinePart<'a> {
    /// Byte of the chain among all entries.
    pub start: usize,
    pub bytes: &'a [u8],
}

impl InlineDir {
    pub(crate) fn parts(&self) -> [InlinePart<'_>; 2] {
        [
            InlinePart { start: 0, bytes: &self.first },
            InlinePart { start: self.first.len(), bytes: &self.second },
        ]
    }
}

impl Ext4 {
    /// Whole content of an inode with the inline flag: `i_block`, then the value of `system.data`.
    pub(crate) fn inline_content(&self, inode: &Inode) -> Result<Vec<u8>> {
        let rest = self.inline_value(inode)?;
        let mut content = inode.i_block().to_vec();
        content.extend_from_slice(&rest);
        Ok(content)
    }

    /// Value of `system.data`.
    fn inline_value(&self, inode: &Inode) -> Result<Vec<u8>> {
        self.inode_xattrs(inode)?
            .into_iter()
            .find(|entry| entry.is_inline_data())
            .map(|entry| entry.value)
            .ok_or_else(|| {
                corrupt(
                    "ext4.inline.missing",
                    format!("inode {}", inode.number()),
                    "the inline flag is set, but there is no system.data",
                )
            })
    }

    /// Content of an inline file or symlink, cut to its size.
    pub(crate) fn inline_file(&self, inode: &Inode) -> Result<Vec<u8>> {
        let mut content = self.inline_content(inode)?;
        let size = inode.size(&self.superblock);
        if size > content.len() as u64 {
            return Err(corrupt(
                "ext4.inline.size",
                format!("inode {}", inode.number()),
                format!("{size} bytes, but {} bytes in the inode", content.len()),
            ));
        }
        content.truncate(size as usize);
        Ok(content)
    }

    /// Entries of an inline directory.
    pub(crate) fn inline_dir_entries(&self, dir: &Inode) -> Result<InlineDir> {
        let content = self.inline_content(dir)?;
        let (first, second) = content.split_at(I_BLOCK_BYTES.min(content.len()));
        Ok(InlineDir { first: first.get(PARENT_BYTES..).unwrap_or(&[]).to_vec(), second: second.to_vec() })
    }
}
