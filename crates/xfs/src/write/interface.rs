//! The writing side of the `vfs` interface.

use vfs::{MetadataChange, NewNode, NodeId, Timestamp, WritableFilesystem};

use super::create::Ownership;
use crate::error::{Result, device};
use crate::fs::{Device, Xfs};

impl WritableFilesystem for Xfs {
    fn set_clock(&mut self, now: Timestamp) {
        self.now = Timestamp { nanoseconds: now.nanoseconds.min(999_999_999), ..now };
    }

    fn create(
        &mut self,
        dir: NodeId,
        name: &[u8],
        node: NewNode<'_>,
        mode: u16,
        uid: u32,
        gid: u32,
    ) -> Result<NodeId> {
        let content = match node {
            NewNode::Regular(content) => content,
            _ => &[],
        };
        let owner = Ownership { mode, uid, gid };
        let inode = self.operate(content, |fs, pieces| {
            let mut dir = fs.editable(dir)?;
            fs.do_create(&mut dir, name, &node, owner, pieces)
        })?;
        Ok(NodeId(inode))
    }

    fn replace_content(&mut self, node: NodeId, content: &[u8]) -> Result<()> {
        self.operate(content, |fs, pieces| {
            let mut inode = fs.editable(node)?;
            fs.do_replace(&mut inode, content, pieces)
        })
    }

    fn write_at(&mut self, node: NodeId, offset: u64, data: &[u8]) -> Result<()> {
        self.operate(data, |fs, pieces| {
            let mut inode = fs.editable(node)?;
            fs.do_write(&mut inode, offset, data, pieces)
        })
    }

    fn truncate(&mut self, node: NodeId, len: u64) -> Result<()> {
        self.operate(&[], |fs, pieces| {
            let mut inode = fs.editable(node)?;
            fs.do_truncate(&mut inode, len, pieces)
        })
    }

    fn link(&mut self, node: NodeId, dir: NodeId, name: &[u8]) -> Result<()> {
        self.operate(&[], |fs, _| {
            let mut inode = fs.editable(node)?;
            let mut dir = fs.editable(dir)?;
            fs.do_link(&mut inode, &mut dir, name)
        })
    }

    fn unlink(&mut self, dir: NodeId, name: &[u8]) -> Result<()> {
        self.operate(&[], |fs, _| {
            let mut dir = fs.editable(dir)?;
            fs.do_unlink(&mut dir, name)
        })
    }

    fn remove_dir(&mut self, dir: NodeId, name: &[u8]) -> Result<()> {
        self.operate(&[], |fs, _| {
            let mut dir = fs.editable(dir)?;
            fs.do_remove_dir(&mut dir, name)
        })
    }

    fn rename(&mut self, from_dir: NodeId, from: &[u8], to_dir: NodeId, to: &[u8]) -> Result<()> {
        self.operate(&[], |fs, _| fs.do_rename(from_dir, from, to_dir, to))
    }

    fn set_metadata(&mut self, node: NodeId, change: MetadataChange) -> Result<()> {
        self.operate(&[], |fs, _| {
            let mut inode = fs.editable(node)?;
            fs.do_set_metadata(&mut inode, change)
        })
    }

    fn set_xattr(&mut self, node: NodeId, name: &[u8], value: &[u8]) -> Result<()> {
        self.operate(&[], |fs, _| {
            let mut inode = fs.editable(node)?;
            fs.do_set_xattr(&mut inode, name, value)
        })
    }

    fn remove_xattr(&mut self, node: NodeId, name: &[u8]) -> Result<()> {
        self.operate(&[], |fs, _| {
            let mut inode = fs.editable(node)?;
            fs.do_remove_xattr(&mut inode, name)
        })
    }

    fn set_immutable(&mut self, node: NodeId, immutable: bool) -> Result<()> {
        self.operate(&[], |fs, _| {
            let mut inode = fs.file_node(node)?;
            fs.require_not_internal(&inode)?;
            fs.do_set_immutable(&mut inode, immutable)
        })
    }

    fn flush(&mut self) -> Result<()> {
        self.require_write_side()?;
        match &self.device {
            Device::Write(dev) => dev.flush().map_err(device),
            Device::Read(_) => Ok(()),
        }
    }
}
