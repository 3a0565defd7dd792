//! Byte-range locks that QEMU understands.
//!
//! QEMU's file driver (`block/file-posix.c`) says what it does with an image by *shared* OFD locks on single
//! bytes: byte 100 + n is held by everybody who uses permission n, byte 200 + n by everybody who does not let
//! others use permission n. Conflicts are found by asking, with `F_OFD_GETLK`, whether an exclusive lock on the
//! opposite byte could be had. The lock goes away with the file description, also when the process is killed.

use std::fs::File;
use std::io;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::Access;

/// First byte of the permissions in use (`RAW_LOCK_PERM_BASE`).
const IN_USE_BASE: i64 = 100;
/// First byte of the permissions denied to others (`RAW_LOCK_SHARED_BASE`).
const DENIED_BASE: i64 = 200;

/// Bit numbers of QEMU's `BLK_PERM_*`, with the word that its messages use.
const PERMISSIONS: [(i64, &str); 4] =
    [(0, "consistent read"), (1, "write"), (2, "write unchanged"), (3, "resize")];

const READ: u8 = 1 << 0;
const WRITE: u8 = 1 << 1;
const RESIZE: u8 = 1 << 3;

/// What became of a request for locks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockOutcome {
    /// The locks are held.
    Held,
    /// The host's filesystem has no such locks: nobody is kept out.
    NotSupported,
    /// Another process stands in the way; says which lock.
    InUse(String),
}

/// Permissions used, and permissions denied to others.
fn permissions(access: Access) -> (u8, u8) {
    match access {
        // As a read-only qcow2 node does: others may read.
        Access::Read => (READ, WRITE | RESIZE),
        // A superset of what any read-write opener takes: a reader would see half a commit.
        Access::Write => (READ | WRITE | RESIZE, READ | WRITE | RESIZE),
    }
}

fn range(kind: i32, byte: i64, len: i64) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: byte,
        l_len: len,
        l_pid: 0,
    }
}

fn hold(file: &File, byte: i64) -> Result<(), Errno> {
    fcntl(file, FcntlArg::F_OFD_SETLK(&range(libc::F_RDLCK, byte, 1))).map(drop)
}

fn is_held_by_another(file: &File, byte: i64) -> Result<bool, Errno> {
    // Asking needs no write access to the file, unlike taking.
    let mut asked = range(libc::F_WRLCK, byte, 1);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut asked))?;
    Ok(i32::from(asked.l_type) != libc::F_UNLCK)
}

pub(crate) fn lock(file: &File, access: Access) -> io::Result<LockOutcome> {
    match try_lock(file, access) {
        Ok(None) => {
            give_up_others(file, access)?;
            Ok(LockOutcome::Held)
        }
        Ok(Some(conflict)) => {
            unlock(file)?;
            Ok(LockOutcome::InUse(conflict))
        }
        Err(Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP | Errno::ENOLCK) => {
            Ok(LockOutcome::NotSupported)
        }
        Err(errno) => Err(errno.into()),
    }
}

/// Takes first, asks afterwards: two that come at once both see each other, and both give up.
fn try_lock(file: &File, access: Access) -> Result<Option<String>, Errno> {
    let (used, denied) = permissions(access);
    for (bit, name) in PERMISSIONS {
        for (set, base) in [(used, IN_USE_BASE), (denied, DENIED_BASE)] {
            if set & (1 << bit) != 0 {
                match hold(file, base + bit) {
                    Ok(()) => {}
                    // Somebody holds the byte exclusively; QEMU never does.
                    Err(Errno::EAGAIN | Errno::EACCES) => {
                        return Ok(Some(format!("another process locks the byte of \"{name}\" exclusively")));
                    }
                    Err(errno) => return Err(errno),
                }
            }
        }
    }
    for (bit, name) in PERMISSIONS {
        if denied & (1 << bit) != 0 && is_held_by_another(file, IN_USE_BASE + bit)? {
            return Ok(Some(format!("another process has it open with \"{name}\" permission")));
        }
        if used & (1 << bit) != 0 && is_held_by_another(file, DENIED_BASE + bit)? {
            return Ok(Some(format!("another process that has it open does not share \"{name}\"")));
        }
    }
    Ok(None)
}

/// Gives up what an earlier, stronger lock of the same file held beyond `access`.
fn give_up_others(file: &File, access: Access) -> Result<(), Errno> {
    let (used, denied) = permissions(access);
    for (bit, _) in PERMISSIONS {
        for (set, base) in [(used, IN_USE_BASE), (denied, DENIED_BASE)] {
            if set & (1 << bit) == 0 {
                fcntl(file, FcntlArg::F_OFD_SETLK(&range(libc::F_UNLCK, base + bit, 1)))?;
            }
        }
    }
    Ok(())
}

pub(crate) fn unlock(file: &File) -> io::Result<()> {
    let len = DENIED_BASE + PERMISSIONS.len() as i64 - IN_USE_BASE;
    match fcntl(file, FcntlArg::F_OFD_SETLK(&range(libc::F_UNLCK, IN_USE_BASE, len))) {
        Ok(_) | Err(Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP | Errno::ENOLCK) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
