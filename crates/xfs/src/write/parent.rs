//! Parent pointers: an attribute for each name of an inode, with the directory's number and generation
//! (`xfs_parent.c`).

use crate::attr::{Attr, PARENT};
use crate::error::{Result, corrupt, shown};
use crate::feature::Incompat;
use crate::fs::Xfs;
use crate::inode::Inode;

fn pointer(dir: &Inode, name: &[u8]) -> Attr {
    let mut value = dir.number().to_be_bytes().to_vec();
    value.extend_from_slice(&dir.generation().to_be_bytes());
    Attr { space: PARENT, name: name.to_vec(), value }
}

impl Xfs {
    fn has_parents(&self) -> bool {
        self.superblock.features().has(Incompat::PARENT)
    }

    /// Notes a name in the inode that it names. The caller writes the inode.
    pub(super) fn add_parent(&mut self, inode: &mut Inode, dir: &Inode, name: &[u8]) -> Result<()> {
        if !self.has_parents() {
            return Ok(());
        }
        let mut attrs = self.read_attrs(inode)?;
        attrs.push(pointer(dir, name));
        self.store_attrs(inode, attrs)
    }

    /// Takes the note of a name away. The caller writes the inode.
    pub(super) fn remove_parent(&mut self, inode: &mut Inode, dir: &Inode, name: &[u8]) -> Result<()> {
        if !self.has_parents() {
            return Ok(());
        }
        let gone = pointer(dir, name);
        let mut attrs = self.read_attrs(inode)?;
        let Some(index) = attrs.iter().position(|attr| *attr == gone) else {
            return Err(corrupt(
                "xfs.parent",
                format!("inode {}", inode.number()),
                format!("it does not know its name {} in inode {}", shown(name), dir.number()),
            ));
        };
        attrs.remove(index);
        self.store_attrs(inode, attrs)
    }
}
