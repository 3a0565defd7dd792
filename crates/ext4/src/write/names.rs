//! Names: link, unlink, rmdir, rename.

use vfs::{FileKind, VfsError};

use super::create::{has_room_for_link, link_limit};
use crate::dir::check_name;
use crate::dir::edit::NewEntry;
use crate::error::{Result, corrupt, shown};
use crate::fs::Ext4;
use crate::inode::{Inode, InodeFlags, ROOT_INODE};

impl Ext4 {
    fn require_entry(&self, dir: &Inode, name: &[u8]) -> Result<Inode> {
        check_name(name)?;
        let Some(number) = self.lookup_name(dir, name)? else {
            return Err(VfsError::NotFound { path: shown(name) });
        };
        let inode = self.live_inode(number)?;
        self.require_not_reserved(&inode)?;
        self.require_movable(&inode, name)?;
        Ok(inode)
    }

    /// Immutable and append-only inodes keep their names.
    fn require_movable(&self, inode: &Inode, name: &[u8]) -> Result<()> {
        if inode.flags().intersects(InodeFlags::IMMUTABLE | InodeFlags::APPEND) {
            return Err(VfsError::WrongKind {
                path: shown(name),
                detail: "marked as immutable or append-only (chattr +i, +a)".into(),
            });
        }
        Ok(())
    }

    fn touch_dir(&mut self, dir: &mut Inode) -> Result<()> {
        dir.set_mtime(self.now);
        dir.set_ctime(self.now);
        self.put_inode(dir)
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
        if !has_room_for_link(inode) {
            return Err(link_limit(inode));
        }
        inode.set_links(inode.links() + 1);
        inode.set_ctime(self.now);
        self.put_inode(inode)?;
        self.insert_entry(dir, NewEntry { name, inode: inode.number(), kind })?;
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
        self.drop_link(&mut inode)
    }

    /// Takes one name of a node that is no directory away.
    fn drop_link(&mut self, inode: &mut Inode) -> Result<()> {
        if inode.links() > 1 {
            inode.set_links(inode.links() - 1);
            inode.set_ctime(self.now);
            return self.put_inode(inode);
        }
        self.release_inode(inode)
    }

    pub(super) fn do_remove_dir(&mut self, dir: &mut Inode, name: &[u8]) -> Result<()> {
        self.require_dir(dir)?;
        let mut inode = self.require_entry(dir, name)?;
        self.require_removable_dir(&inode, name)?;
        self.remove_entry(dir, name)?;
        self.remove_subdirectory(dir);
        self.touch_dir(dir)?;
        self.release_inode(&mut inode)
    }

    fn require_removable_dir(&self, inode: &Inode, name: &[u8]) -> Result<()> {
        self.require_dir(inode).map_err(|error| match error {
            VfsError::NotADirectory { .. } => VfsError::NotADirectory { path: shown(name) },
            other => other,
        })?;
        if inode.number() == ROOT_INODE || !self.is_empty_dir(inode)? {
            return Err(VfsError::NotEmpty { path: shown(name) });
        }
        Ok(())
    }

    pub(super) fn do_rename(&mut self, from_dir: u32, from: &[u8], to_dir: u32, to: &[u8]) -> Result<()> {
        let mut source_dir = self.editable(vfs::NodeId(from_dir.into()))?;
        self.require_dir(&source_dir)?;
        let mut inode = self.require_entry(&source_dir, from)?;
        let kind = inode.require_kind()?;
        check_name(to)?;
        let crosses = from_dir != to_dir;
        let mut target_dir = self.editable(vfs::NodeId(to_dir.into()))?;
        self.require_dir(&target_dir)?;
        let replaced = match self.lookup_name(&target_dir, to)? {
            Some(number) if number == inode.number() => return Ok(()),
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
            self.require_not_below(inode.number(), to_dir)?;
        }
        let entry = NewEntry { name: to, inode: inode.number(), kind };
        // One directory has one inode in memory at a time.
        let target = if crosses { &mut target_dir } else { &mut source_dir };
        if replaced.is_some() {
            self.redirect_entry(target, entry)?;
        } else {
            self.insert_entry(target, entry)?;
        }
        self.put_inode(target)?;
        self.remove_entry(&mut source_dir, from)?;
        if kind == FileKind::Directory {
            if crosses {
                let parent = NewEntry { name: b"..", inode: to_dir, kind };
                self.redirect_entry(&mut inode, parent)?;
                self.remove_subdirectory(&mut source_dir);
                if replaced.is_none() {
                    self.add_subdirectory(&mut target_dir)?;
                }
            } else if replaced.is_some() {
                self.remove_subdirectory(&mut source_dir);
            }
        }
        self.touch_dir(&mut source_dir)?;
        if crosses {
            self.touch_dir(&mut target_dir)?;
        }
        inode.set_ctime(self.now);
        self.put_inode(&inode)?;
        match replaced {
            Some(mut old) if old.is_dir() => self.release_inode(&mut old),
            Some(mut old) => self.drop_link(&mut old),
            None => Ok(()),
        }
    }

    /// An error when directory `dir` is `moved` or lies below it.
    fn require_not_below(&self, moved: u32, dir: u32) -> Result<()> {
        let mut at = dir;
        for _ in 0..=self.superblock.inodes() {
            if at == moved {
                return Err(VfsError::WrongKind {
                    path: format!("inode {moved}"),
                    detail: "a directory cannot be moved below itself".into(),
                });
            }
            if at == ROOT_INODE {
                return Ok(());
            }
            let inode = self.live_inode(at)?;
            at = self.lookup_name(&inode, b"..")?.ok_or_else(|| {
                corrupt("ext4.dir.entry", format!("directory of inode {at}"), "it has no ..")
            })?;
        }
        Err(corrupt("ext4.dir.loop", format!("directory of inode {dir}"), "its parents go in a circle"))
    }
}
