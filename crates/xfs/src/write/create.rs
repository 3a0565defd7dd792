//! New inodes.

use ondisk::crc32c_raw;
use vfs::{FileKind, NewNode, VfsError};

use super::Piece;
use crate::attr::{ROOT, acl, name};
use crate::dir::{Entry, check_name, type_of_kind};
use crate::error::{Result, shown};
use crate::feature::Incompat;
use crate::fs::Xfs;
use crate::inode::{Fork, Format, Inode, InodeFlags, InodeFlags2, mode_of_kind};
use crate::map::Map;

/// Most links of an inode (`XFS_MAXLINK`).
pub(super) const MAX_LINKS: u32 = (1 << 31) - 1;

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

/// Flags that a new inode takes from its directory (`xfs_inode_inherit_flags`).
fn inherited_flags(dir: InodeFlags, kind: FileKind) -> InodeFlags {
    let common = InodeFlags::NOATIME | InodeFlags::NODUMP | InodeFlags::SYNC | InodeFlags::NODEFRAG;
    let mut flags = match kind {
        FileKind::Directory => {
            dir & (common
                | InodeFlags::PROJINHERIT
                | InodeFlags::EXTSZINHERIT
                | InodeFlags::RTINHERIT
                | InodeFlags::NOSYMLINKS
                | InodeFlags::FILESTREAM)
        }
        FileKind::Regular => dir & (common | InodeFlags::PROJINHERIT | InodeFlags::FILESTREAM),
        _ => InodeFlags::empty(),
    };
    if kind == FileKind::Regular && dir.contains(InodeFlags::EXTSZINHERIT) {
        flags |= InodeFlags::EXTSIZE;
    }
    flags
}

impl Xfs {
    /// Flags that every new inode of this filesystem has.
    pub(super) fn new_flags2(&self) -> InodeFlags2 {
        let features = self.superblock.features();
        let mut flags = InodeFlags2::empty();
        flags.set(InodeFlags2::BIGTIME, features.has(Incompat::BIGTIME));
        flags.set(InodeFlags2::NREXT64, features.has(Incompat::NREXT64));
        flags
    }

    /// A generation that differs from the one the slot had, and is the same in each run.
    fn new_generation(&self, old: &Inode) -> u32 {
        let mut state = crc32c_raw(!0, &self.geo.uuid);
        for part in [&old.number().to_be_bytes()[..], &self.now.seconds.to_be_bytes()] {
            state = crc32c_raw(state, part);
        }
        let new = crc32c_raw(state, &old.generation().to_be_bytes());
        if new == old.generation() { new.wrapping_add(1) } else { new }
    }

    pub(super) fn do_create(
        &mut self,
        dir: &mut Inode,
        entry_name: &[u8],
        node: &NewNode<'_>,
        owner: Ownership,
        pieces: &mut Vec<Piece>,
    ) -> Result<u64> {
        check_name(entry_name)?;
        self.require_dir(dir)?;
        if self.find_entry(dir, entry_name)?.is_some() {
            return Err(VfsError::Exists { path: shown(entry_name) });
        }
        let kind = kind_of_new(node)?;
        if kind == FileKind::Directory && dir.links() >= MAX_LINKS {
            return Err(link_limit(dir));
        }
        let near = self.geo.split_inode(dir.number()).map_or(0, |(group, _)| group);
        let (group, agino) = self.take_inode(near)?;
        let old = self.read_inode(self.geo.inode(group, agino))?;
        let mut inode = Inode::blank(self, old.number(), old.byte(), self.new_generation(&old));
        inode.set_flags2(self.new_flags2());
        inode.set_mode(mode_of_kind(kind) | owner.mode & 0o7777);
        inode.set_uid(owner.uid);
        inode.set_gid(owner.gid);
        inode.set_links(1);
        inode.set_format(Fork::Data, Format::Extents);
        inode.set_format(Fork::Attr, Format::Extents);
        let flags = inherited_flags(dir.flags(), kind);
        inode.set_flags(flags);
        if dir.flags().contains(InodeFlags::PROJINHERIT) {
            inode.set_project(dir.project());
        }
        if flags.intersects(InodeFlags::EXTSZINHERIT | InodeFlags::EXTSIZE) {
            inode.set_extent_size_hint(dir.extent_size_hint());
        }
        inode.set_atime(self.now);
        inode.set_ctime(self.now);
        inode.set_mtime(self.now);
        inode.set_crtime(self.now);
        match node {
            NewNode::Regular(content) => {
                let mut map = Map::default();
                self.place_new(&mut inode, &mut map, content.len() as u64, pieces)?;
                self.store_map(&mut inode, Fork::Data, &mut map)?;
                inode.set_len(content.len() as u64);
            }
            NewNode::Directory => {
                inode.set_links(2);
                dir.set_links(dir.links() + 1);
                self.store_dir(&mut inode, dir.number(), &[])?;
            }
            NewNode::Symlink(target) => self.fill_symlink(&mut inode, target)?,
            NewNode::Special(_, major, minor) => {
                inode.set_format(Fork::Data, Format::Device);
                if matches!(kind, FileKind::BlockDevice | FileKind::CharDevice) {
                    if *major > 0x3fff || *minor > 0x3_ffff {
                        return Err(VfsError::Limit {
                            path: shown(entry_name),
                            limit: format!(
                                "device {major}:{minor}; major at most 16383, minor at most 262143"
                            ),
                        });
                    }
                    inode.set_device(*major, *minor);
                }
            }
        }
        self.inherit_acl(dir, &mut inode, kind)?;
        self.add_parent(&mut inode, dir, entry_name)?;
        inode.count_change();
        self.put_inode(&inode)?;
        let entry = Entry { name: entry_name.to_vec(), inode: inode.number(), file_type: type_of_kind(kind) };
        self.add_entry(dir, entry)?;
        dir.set_mtime(self.now);
        self.put_changed(dir)?;
        Ok(inode.number())
    }

    /// Gives a new inode the ACLs that the default ACL of its directory asks for.
    fn inherit_acl(&mut self, dir: &Inode, inode: &mut Inode, kind: FileKind) -> Result<()> {
        if kind == FileKind::Symlink {
            return Ok(());
        }
        let Some(default) = self.stored_value(dir, ROOT, name::ACL_DEFAULT)? else { return Ok(()) };
        let Some(mut entries) = acl::from_disk(&default) else { return Ok(()) };
        let mode = acl::inherit(&mut entries, inode.mode());
        inode.set_mode(mode);
        if !acl::mode_of(&entries).1 {
            self.change_attr(inode, ROOT, name::ACL_ACCESS, Some(&acl::to_disk(&entries)))?;
        }
        if kind == FileKind::Directory {
            self.change_attr(inode, ROOT, name::ACL_DEFAULT, Some(&default))?;
        }
        Ok(())
    }
}

pub(super) fn link_limit(inode: &Inode) -> VfsError {
    VfsError::Limit { path: format!("inode {}", inode.number()), limit: format!("{MAX_LINKS} hard links") }
}
