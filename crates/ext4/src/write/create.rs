//! New inodes.

use ondisk::crc32c_raw;
use vfs::{FileKind, NewNode, VfsError};

use super::Piece;
use crate::dir::check_name;
use crate::dir::edit::NewEntry;
use crate::error::{Result, shown};
use crate::feature::RoCompat;
use crate::fs::Ext4;
use crate::inode::{I_BLOCK_BYTES, Inode, InodeFlags, mode_of_kind};
use crate::xattr::{acl, name};

/// Most links of any inode; a directory with dir_nlink then counts as 1.
const MAX_LINKS: u16 = 65000;

/// Owner and permissions of a new node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ownership {
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
}

fn kind_of_new(node: &NewNode<'_>) -> Result<FileKind> {
    Ok(match node {
        NewNode::Regular(_) => FileKind::Regular,
        NewNode::Directory => FileKind::Directory,
        NewNode::Symlink(_) => FileKind::Symlink,
        NewNode::Special(kind, _, _) => match kind {
            FileKind::BlockDevice | FileKind::CharDevice | FileKind::Fifo | FileKind::Socket => *kind,
            _ => {
                return Err(VfsError::WrongKind {
                    path: "new node".into(),
                    detail: "a special node is a device, FIFO or socket".into(),
                });
            }
        },
    })
}

/// Flags that a new inode takes from its directory.
fn inherited_flags(dir: &Inode, kind: FileKind) -> InodeFlags {
    let common = InodeFlags::SECRM
        | InodeFlags::UNRM
        | InodeFlags::COMPR
        | InodeFlags::SYNC
        | InodeFlags::NODUMP
        | InodeFlags::NOATIME
        | InodeFlags::JOURNAL_DATA
        | InodeFlags::NOTAIL
        | InodeFlags::DAX;
    let allowed = match kind {
        FileKind::Directory => common | InodeFlags::DIRSYNC | InodeFlags::PROJINHERIT,
        FileKind::Regular => common,
        _ => InodeFlags::NODUMP | InodeFlags::NOATIME,
    };
    dir.flags() & allowed
}

impl Ext4 {
    /// A generation that differs from the one the slot had, and is the same in each run.
    fn new_generation(&self, number: u32) -> Result<u32> {
        let (block, at) = self.inode_place(number)?;
        let table = self.read_block(block)?;
        let old = ondisk::try_le_u32(&table, at + 0x64).unwrap_or(0);
        let mut state = crc32c_raw(self.superblock.checksum_seed(), &number.to_le_bytes());
        state = crc32c_raw(state, &self.now.seconds.to_le_bytes());
        state = crc32c_raw(state, &self.now.nanoseconds.to_le_bytes());
        let new = crc32c_raw(state, &old.to_le_bytes());
        Ok(if new == old { new.wrapping_add(1) } else { new })
    }

    pub(super) fn do_create(
        &mut self,
        dir: &mut Inode,
        entry_name: &[u8],
        node: &NewNode<'_>,
        owner: Ownership,
        pieces: &mut Vec<Piece>,
    ) -> Result<u32> {
        check_name(entry_name)?;
        self.require_dir(dir)?;
        if self.find_entry(dir, entry_name)?.is_some() {
            return Err(VfsError::Exists { path: shown(entry_name) });
        }
        let kind = kind_of_new(node)?;
        let number = self.take_inode(dir.number(), kind == FileKind::Directory)?;
        let generation = self.new_generation(number)?;
        let mut inode = Inode::new(&self.superblock, number, generation);
        inode.set_mode(mode_of_kind(kind) | owner.mode & 0o7777);
        inode.set_uid(owner.uid);
        inode.set_gid(owner.gid);
        inode.set_links(1);
        inode.set_flags(inherited_flags(dir, kind));
        inode.set_atime(self.now);
        inode.set_ctime(self.now);
        inode.set_mtime(self.now);
        inode.set_crtime(self.now);
        match node {
            NewNode::Regular(content) => {
                self.init_map(&mut inode);
                self.place_new(&mut inode, content.len() as u64, pieces)?;
            }
            NewNode::Directory => self.fill_new_dir(&mut inode, dir)?,
            NewNode::Symlink(target) => self.fill_symlink(&mut inode, target)?,
            NewNode::Special(_, major, minor) => {
                if matches!(kind, FileKind::BlockDevice | FileKind::CharDevice) {
                    if *major > 0xfff || *minor > 0xf_ffff {
                        return Err(VfsError::Limit {
                            path: shown(entry_name),
                            limit: format!(
                                "device {major}:{minor}; major at most 4095, minor at most 1048575"
                            ),
                        });
                    }
                    inode.set_device(*major, *minor);
                }
            }
        }
        self.inherit_acl(dir, &mut inode, kind)?;
        self.put_inode(&inode)?;
        self.insert_entry(dir, NewEntry { name: entry_name, inode: number, kind })?;
        dir.set_mtime(self.now);
        dir.set_ctime(self.now);
        self.put_inode(dir)?;
        Ok(number)
    }

    fn fill_new_dir(&mut self, inode: &mut Inode, parent: &mut Inode) -> Result<()> {
        self.add_subdirectory(parent)?;
        inode.set_links(2);
        self.init_map(inode);
        let filled = self.fill_map(inode, 0, 1)?;
        inode.set_size(self.block_size() as u64);
        let raw = self.empty_dir_block(inode, parent.number());
        self.put_block(filled.first().map_or(0, |part| part.run.physical), raw, true)
    }

    fn fill_symlink(&mut self, inode: &mut Inode, target: &[u8]) -> Result<()> {
        if target.is_empty() || target.contains(&0) {
            return Err(VfsError::BadName { name: shown(target), detail: "no target of a symbolic link" });
        }
        if target.len() >= self.block_size() || target.len() > 4095 {
            return Err(VfsError::Limit {
                path: format!("symbolic link to {}…", shown(target.get(..40).unwrap_or(target))),
                limit: format!(
                    "a target of {} bytes; at most {}",
                    target.len(),
                    (self.block_size() - 1).min(4095)
                ),
            });
        }
        if target.len() < I_BLOCK_BYTES {
            inode.i_block_mut()[..target.len()].copy_from_slice(target);
        } else {
            self.init_map(inode);
            let filled = self.fill_map(inode, 0, 1)?;
            let mut raw = vec![0; self.block_size()];
            raw[..target.len()].copy_from_slice(target);
            self.put_block(filled.first().map_or(0, |part| part.run.physical), raw, true)?;
        }
        inode.set_size(target.len() as u64);
        Ok(())
    }

    /// Gives a new inode the ACLs that the default ACL of its directory asks for.
    fn inherit_acl(&mut self, dir: &Inode, inode: &mut Inode, kind: FileKind) -> Result<()> {
        if kind == FileKind::Symlink {
            return Ok(());
        }
        let Some(default) = self.stored_value(dir, name::INDEX_ACL_DEFAULT)? else { return Ok(()) };
        let Some(mut entries) = acl::from_disk(&default) else { return Ok(()) };
        let mode = acl::inherit(&mut entries, inode.mode());
        inode.set_mode(mode);
        if !acl::mode_of(&entries).1 {
            self.put_xattr(inode, name::INDEX_ACL_ACCESS, b"", Some(&acl::to_disk(&entries)))?;
        }
        if kind == FileKind::Directory {
            self.put_xattr(inode, name::INDEX_ACL_DEFAULT, b"", Some(&default))?;
        }
        Ok(())
    }

    /// Value on disk of an attribute with an empty name.
    pub(super) fn stored_value(&self, inode: &Inode, index: u8) -> Result<Option<Vec<u8>>> {
        let mut all = self.inode_xattrs(inode)?;
        all.extend(self.block_xattrs(inode)?);
        Ok(all
            .into_iter()
            .find(|entry| entry.index == index && entry.name.is_empty())
            .map(|entry| entry.value))
    }

    /// Counts one more subdirectory.
    pub(super) fn add_subdirectory(&mut self, dir: &mut Inode) -> Result<()> {
        if dir.links() == 1 {
            // Too many to count; stays so.
            return Ok(());
        }
        if dir.links() < MAX_LINKS {
            dir.set_links(dir.links() + 1);
            return Ok(());
        }
        if !self.superblock.features().ro_compat.contains(RoCompat::DIR_NLINK) {
            return Err(link_limit(dir));
        }
        dir.set_links(1);
        Ok(())
    }

    /// Counts one subdirectory less.
    pub(super) fn remove_subdirectory(&mut self, dir: &mut Inode) {
        if dir.links() > 2 {
            dir.set_links(dir.links() - 1);
        }
    }
}

pub(super) fn link_limit(inode: &Inode) -> VfsError {
    VfsError::Limit { path: format!("inode {}", inode.number()), limit: format!("{MAX_LINKS} hard links") }
}

/// True when an inode can take one more name.
pub(super) fn has_room_for_link(inode: &Inode) -> bool {
    inode.links() < MAX_LINKS
}
