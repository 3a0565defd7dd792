//! Mode, owner, times, flags and attributes.

use vfs::{FileKind, MetadataChange, VfsError};

use crate::attr::{MAX_VALUE, ROOT, acl, name};
use crate::error::{Result, shown};
use crate::fs::Xfs;
use crate::inode::{Inode, InodeFlags};

impl Xfs {
    pub(super) fn do_set_metadata(&mut self, inode: &mut Inode, change: MetadataChange) -> Result<()> {
        let before = inode.clone();
        if let Some(mode) = change.mode {
            inode.set_mode(inode.mode() & !0o7777 | mode & 0o7777);
            if let Some(stored) = self.stored_value(inode, ROOT, name::ACL_ACCESS)?
                && let Some(mut entries) = acl::from_disk(&stored)
            {
                acl::apply_mode(&mut entries, mode);
                self.change_attr(inode, ROOT, name::ACL_ACCESS, Some(&acl::to_disk(&entries)))?;
            }
        }
        if self.superblock.features().has(crate::feature::Incompat::BIGTIME)
            && (change.atime.is_some() || change.mtime.is_some())
        {
            inode.upgrade_to_bigtime();
        }
        if let Some(uid) = change.uid {
            self.accounting_changed |= uid != inode.uid();
            inode.set_uid(uid);
        }
        if let Some(gid) = change.gid {
            self.accounting_changed |= gid != inode.gid();
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
        self.put_changed(inode)
    }

    pub(super) fn do_set_xattr(&mut self, inode: &mut Inode, full: &[u8], value: &[u8]) -> Result<()> {
        let before = inode.clone();
        let (space, rest) = stored_name(full)?;
        if value.len() > MAX_VALUE {
            return Err(VfsError::Limit {
                path: shown(full),
                limit: format!("a value of {} bytes; at most {MAX_VALUE}", value.len()),
            });
        }
        if name::is_acl(space, &rest) {
            self.set_acl(inode, &rest, full, value)?;
        } else {
            self.change_attr(inode, space, &rest, Some(value))?;
        }
        self.finish_change(inode, &before)
    }

    fn set_acl(&mut self, inode: &mut Inode, stored: &[u8], full: &[u8], value: &[u8]) -> Result<()> {
        let bad = |detail: &str| VfsError::WrongKind { path: shown(full), detail: detail.into() };
        let Some(entries) = acl::from_syscall(value) else {
            return Err(bad("the value is no valid POSIX ACL in the form of setxattr"));
        };
        if inode.kind() == Some(FileKind::Symlink) {
            return Err(bad("a symbolic link has no ACL"));
        }
        if stored == name::ACL_DEFAULT && !inode.is_dir() {
            return Err(bad("only a directory has a default ACL"));
        }
        if stored == name::ACL_ACCESS {
            let (permissions, is_just_mode) = acl::mode_of(&entries);
            inode.set_mode(inode.mode() & !0o777 | permissions);
            if is_just_mode {
                return self.change_attr(inode, ROOT, stored, None).map(drop);
            }
        }
        self.change_attr(inode, ROOT, stored, Some(&acl::to_disk(&entries))).map(drop)
    }

    pub(super) fn do_remove_xattr(&mut self, inode: &mut Inode, full: &[u8]) -> Result<()> {
        let before = inode.clone();
        let (space, rest) = stored_name(full)?;
        if !self.change_attr(inode, space, &rest, None)? {
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

/// Name space and rest of a name.
fn stored_name(full: &[u8]) -> Result<(u8, Vec<u8>)> {
    match name::stored_name(full) {
        None => Err(VfsError::BadName {
            name: shown(full),
            detail: "no extended attribute that this filesystem keeps (user., trusted., security., system.posix_acl_*)",
        }),
        Some((_, rest)) if rest.len() > 255 || rest.contains(&0) => {
            Err(VfsError::BadName { name: shown(full), detail: "longer than 255 bytes or with a NUL byte" })
        }
        Some(found) => Ok(found),
    }
}
