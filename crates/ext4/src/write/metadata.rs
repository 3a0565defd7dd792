//! Mode, owner, times, flags and attributes.

use vfs::{FileKind, MetadataChange, VfsError};

use crate::error::{Result, shown};
use crate::fs::Ext4;
use crate::inode::{Inode, InodeFlags};
use crate::xattr::{acl, name};

impl Ext4 {
    pub(super) fn do_set_metadata(&mut self, inode: &mut Inode, change: MetadataChange) -> Result<()> {
        let before = inode.clone();
        if let Some(mode) = change.mode {
            inode.set_mode(inode.mode() & !0o7777 | mode & 0o7777);
            if let Some(stored) = self.stored_value(inode, name::INDEX_ACL_ACCESS)?
                && let Some(mut entries) = acl::from_disk(&stored)
            {
                acl::apply_mode(&mut entries, mode);
                self.put_xattr(inode, name::INDEX_ACL_ACCESS, b"", Some(&acl::to_disk(&entries)))?;
            }
        }
        if let Some(uid) = change.uid {
            inode.set_uid(uid);
        }
        if let Some(gid) = change.gid {
            inode.set_gid(gid);
        }
        if let Some(atime) = change.atime {
            inode.set_atime(atime);
        }
        if let Some(mtime) = change.mtime {
            inode.set_mtime(mtime);
        }
        self.finish_change(inode, &before)
    }

    /// Stamps and writes an inode if it changed or blocks that it owns did.
    fn finish_change(&mut self, inode: &mut Inode, before: &Inode) -> Result<()> {
        if inode == before && self.pending.is_empty() {
            return Ok(());
        }
        inode.set_ctime(self.now);
        self.put_inode(inode)
    }

    pub(super) fn do_set_xattr(&mut self, inode: &mut Inode, full: &[u8], value: &[u8]) -> Result<()> {
        let before = inode.clone();
        let (index, rest) = stored_name(full)?;
        if name::is_acl(index) {
            self.set_acl(inode, index, full, value)?;
        } else {
            self.put_xattr(inode, index, &rest, Some(value))?;
        }
        self.finish_change(inode, &before)
    }

    fn set_acl(&mut self, inode: &mut Inode, index: u8, full: &[u8], value: &[u8]) -> Result<()> {
        let bad = |detail: &str| VfsError::WrongKind { path: shown(full), detail: detail.into() };
        let Some(entries) = acl::from_syscall(value) else {
            return Err(bad("the value is no valid POSIX ACL in the form of setxattr"));
        };
        if inode.kind() == Some(FileKind::Symlink) {
            return Err(bad("a symbolic link has no ACL"));
        }
        if index == name::INDEX_ACL_DEFAULT && !inode.is_dir() {
            return Err(bad("only a directory has a default ACL"));
        }
        let disk = acl::to_disk(&entries);
        if index == name::INDEX_ACL_ACCESS {
            let (permissions, is_just_mode) = acl::mode_of(&entries);
            inode.set_mode(inode.mode() & !0o777 | permissions);
            if is_just_mode {
                return self.put_xattr(inode, index, b"", None).map(drop);
            }
        }
        self.put_xattr(inode, index, b"", Some(&disk)).map(drop)
    }

    pub(super) fn do_remove_xattr(&mut self, inode: &mut Inode, full: &[u8]) -> Result<()> {
        let before = inode.clone();
        let (index, rest) = stored_name(full)?;
        if !self.put_xattr(inode, index, &rest, None)? {
            return Err(VfsError::NotFound { path: shown(full) });
        }
        self.finish_change(inode, &before)
    }

    pub(super) fn do_set_immutable(&mut self, inode: &mut Inode, immutable: bool) -> Result<()> {
        let before = inode.clone();
        let mut flags = inode.flags();
        flags.set(InodeFlags::IMMUTABLE, immutable);
        inode.set_flags(flags);
        self.finish_change(inode, &before)
    }
}

/// Prefix number and rest of a name; `system.data` is inline content and no attribute of its own.
fn stored_name(full: &[u8]) -> Result<(u8, Vec<u8>)> {
    match name::stored_name(full) {
        Some((name::INDEX_SYSTEM, _)) | None => Err(VfsError::BadName {
            name: shown(full),
            detail: "no extended attribute that this filesystem keeps (user., trusted., security., system.posix_acl_*)",
        }),
        Some((_, rest)) if rest.len() > 255 || rest.contains(&0) => {
            Err(VfsError::BadName { name: shown(full), detail: "longer than 255 bytes or with a NUL byte" })
        }
        Some(found) => Ok(found),
    }
}
