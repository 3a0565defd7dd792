//! Names: link, unlink, rmdir, rename.

use vfs::{FileKind, NodeId, VfsError};

use super::create::{MAX_LINKS, link_limit};
use crate::dir::{Entry, check_name, type_of_kind};
use crate::error::{Result, corrupt, shown};
use crate::fs::Xfs;
use crate::inode::{Inode, InodeFlags};

impl Xfs {
    fn require_entry(&self, dir: &Inode, name: &[u8]) -> Result<Inode> {
        check_name(name)?;
        let Some(entry) = self.find_entry(dir, name)? else {
            return Err(VfsError::NotFound { path: shown(name) });
        };
        let inode = self.live_inode(entry.inode)?;
        self.require_not_internal(&inode)?;
        // Immutable and append-only inodes keep their names.
        if inode.flags().intersects(InodeFlags::IMMUTABLE | InodeFlags::APPEND) {
            return Err(VfsError::WrongKind {
                path: shown(name),
                detail: "marked as immutable or append-only (chattr +i, +a)".into(),
            });
        }
        Ok(inode)
    }

    fn touch_dir(&mut self, dir: &mut Inode) -> Result<()> {
        dir.set_mtime(self.now);
        self.put_changed(dir)
    }

    pub(super) fn do_link(&mut self, inode: &mut Inode, dir: &mut Inode, name: &[u8]) -> Result<()> {
        check_name(name)?;
        self.require_dir(dir)?;
        let kind = inode.require_kind()?;
        if kind == FileKind::Directory {
            return Err(VfsError::IsADirectory { path: shown(name) });
        }
        if self.find_entry(dir, name)?.is_some() {
            return Err(VfsError::Exists { path: shown(name) });
        }
        if inode.links() >= MAX_LINKS {
            return Err(link_limit(inode));
        }
        inode.set_links(inode.links() + 1);
        self.add_parent(inode, dir, name)?;
        self.put_changed(inode)?;
        let entry = Entry { name: name.to_vec(), inode: inode.number(), file_type: type_of_kind(kind) };
        self.add_entry(dir, entry)?;
        self.touch_dir(dir)
    }

    pub(super) fn do_unlink(&mut self, dir: &mut Inode, name: &[u8]) -> Result<()> {
        self.require_dir(dir)?;
        let mut inode = self.require_entry(dir, name)?;
        if inode.is_dir() {
            return Err(VfsError::IsADirectory { path: shown(name) });
        }
        self.remove_entry(dir, name)?;
        self.touch_dir(dir)?;
        self.drop_link(&mut inode, dir, name)
    }

    /// Takes one name of a node that is no directory away.
    fn drop_link(&mut self, inode: &mut Inode, dir: &Inode, name: &[u8]) -> Result<()> {
        if inode.links() <= 1 {
            return self.release_inode(inode);
        }
        inode.set_links(inode.links() - 1);
        self.remove_parent(inode, dir, name)?;
        self.put_changed(inode)
    }

    pub(super) fn do_remove_dir(&mut self, dir: &mut Inode, name: &[u8]) -> Result<()> {
        self.require_dir(dir)?;
        let mut inode = self.require_entry(dir, name)?;
        self.require_removable_dir(&inode, name)?;
        self.remove_entry(dir, name)?;
        dir.set_links(dir.links().saturating_sub(1));
        self.touch_dir(dir)?;
        self.release_inode(&mut inode)
    }

    fn require_removable_dir(&self, inode: &Inode, name: &[u8]) -> Result<()> {
        if !inode.is_dir() {
            return Err(VfsError::NotADirectory { path: shown(name) });
        }
        let is_root = inode.number() == self.superblock.root_inode();
        if is_root || !self.read_dir(inode)?.1.is_empty() {
            return Err(VfsError::NotEmpty { path: shown(name) });
        }
        Ok(())
    }

    pub(super) fn do_rename(
        &mut self,
        from_dir: NodeId,
        from: &[u8],
        to_dir: NodeId,
        to: &[u8],
    ) -> Result<()> {
        let mut source_dir = self.editable(from_dir)?;
        self.require_dir(&source_dir)?;
        let mut inode = self.require_entry(&source_dir, from)?;
        let kind = inode.require_kind()?;
        check_name(to)?;
        let crosses = from_dir != to_dir;
        let mut target_dir = self.editable(to_dir)?;
        self.require_dir(&target_dir)?;
        let replaced = match self.find_entry(&target_dir, to)? {
            Some(entry) if entry.inode == inode.number() => return Ok(()),
            Some(_) => Some(self.require_entry(&target_dir, to)?),
            None => None,
        };
        if let Some(old) = &replaced {
            match (kind == FileKind::Directory, old.is_dir()) {
                (true, true) => self.require_removable_dir(old, to)?,
                (true, false) => return Err(VfsError::NotADirectory { path: shown(to) }),
                (false, true) => return Err(VfsError::IsADirectory { path: shown(to) }),
                (false, false) => {}
            }
        }
        if kind == FileKind::Directory && crosses {
            self.require_not_below(inode.number(), to_dir.0)?;
        }
        // One directory has one inode in memory at a time.
        let target = if crosses { &mut target_dir } else { &mut source_dir };
        let entry = Entry { name: to.to_vec(), inode: inode.number(), file_type: type_of_kind(kind) };
        if replaced.is_some() {
            self.redirect_entry(target, &entry)?;
        } else {
            self.add_entry(target, entry)?;
        }
        if crosses {
            self.put_inode(&target_dir)?;
        }
        self.remove_entry(&mut source_dir, from)?;
        self.remove_parent(&mut inode, &source_dir, from)?;
        self.add_parent(&mut inode, if crosses { &target_dir } else { &source_dir }, to)?;
        if kind == FileKind::Directory {
            if crosses {
                let parent = Entry { name: b"..".to_vec(), inode: to_dir.0, file_type: type_of_kind(kind) };
                self.redirect_entry(&mut inode, &parent)?;
                source_dir.set_links(source_dir.links().saturating_sub(1));
                if replaced.is_none() {
                    target_dir.set_links(target_dir.links() + 1);
                }
            } else if replaced.is_some() {
                source_dir.set_links(source_dir.links().saturating_sub(1));
            }
        }
        self.touch_dir(&mut source_dir)?;
        if crosses {
            self.touch_dir(&mut target_dir)?;
        }
        self.put_changed(&mut inode)?;
        let held_by = if crosses { &target_dir } else { &source_dir };
        match replaced {
            Some(mut old) if old.is_dir() => self.release_inode(&mut old),
            Some(mut old) => self.drop_link(&mut old, held_by, to),
            None => Ok(()),
        }
    }

    /// An error when directory `dir` is `moved` or lies below it.
    fn require_not_below(&self, moved: u64, dir: u64) -> Result<()> {
        let mut at = dir;
        for _ in 0..=self.superblock.inode_count() {
            if at == moved {
                return Err(VfsError::WrongKind {
                    path: format!("inode {moved}"),
                    detail: "a directory cannot be moved below itself".into(),
                });
            }
            if at == self.superblock.root_inode() {
                return Ok(());
            }
            at = self.parent_of(&self.live_inode(at)?)?;
        }
        Err(corrupt("xfs.dir.loop", format!("directory of inode {dir}"), "its parents go in a circle"))
    }
}
