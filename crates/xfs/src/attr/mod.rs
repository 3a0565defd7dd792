//! Extended attributes: inline, leaf, node, remote values (`xfs_attr*.c`; XFS Algorithms & Data Structures,
//! "Extended Attributes").

pub(crate) mod acl;
pub(crate) mod name;
mod read;
mod store;

pub(crate) use read::LEAF_ENTRY;

/// `XFS_ATTR_*` flags of a stored attribute.
pub(crate) const LOCAL: u8 = 1;
pub(crate) const ROOT: u8 = 2;
pub(crate) const SECURE: u8 = 4;
pub(crate) const PARENT: u8 = 8;
pub(crate) const INCOMPLETE: u8 = 0x80;
/// The flags that tell name spaces apart.
pub(crate) const NAMESPACES: u8 = ROOT | SECURE | PARENT;
/// Most bytes of a value.
pub(crate) const MAX_VALUE: usize = 65536;

/// One attribute as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attr {
    /// Name space: [`ROOT`], [`SECURE`], [`PARENT`] or 0.
    pub space: u8,
    pub name: Vec<u8>,
    pub value: Vec<u8>,
}

impl Attr {
    /// Hash under which it is stored. A parent pointer's takes the parent's number in (`xfs_parent.c`).
    pub(crate) fn hash(&self) -> u32 {
        let hash = crate::da::hash(&self.name);
        match ondisk::try_be_u64(&self.value, 0) {
            Some(parent) if self.space == PARENT => hash ^ (parent >> 32) as u32 ^ parent as u32,
            _ => hash,
        }
    }
}
