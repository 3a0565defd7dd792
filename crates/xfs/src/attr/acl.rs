//! POSIX ACLs: form on disk (count, then tag, id and permissions, big-endian; `xfs_acl.h`) and form of the
//! system call (version 2, little-endian; `include/uapi/linux/posix_acl_xattr.h`).

use ondisk::{le_u16, le_u32};

const SYSCALL_VERSION: u32 = 2;
const UNDEFINED_ID: u32 = u32::MAX;

const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// One entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AclEntry {
    tag: u16,
    permissions: u16,
    id: u32,
}

fn has_id(tag: u16) -> bool {
    matches!(tag, USER | GROUP)
}

/// Most entries that are looked at (`XFS_ACL_MAX_ENTRIES` of version 5 in a value of 64 KiB).
const MOST_ENTRIES: usize = 5461;

pub(crate) fn from_disk(value: &[u8]) -> Option<Vec<AclEntry>> {
    let count = ondisk::try_be_u32(value, 0)? as usize;
    let body = value.get(4..)?;
    if count > MOST_ENTRIES || body.len() < count * 12 {
        return None;
    }
    let entry = |raw: &[u8]| {
        let tag = u16::try_from(ondisk::be_u32(raw, 0)).ok()?;
        let id = if has_id(tag) { ondisk::be_u32(raw, 4) } else { UNDEFINED_ID };
        Some(AclEntry { tag, permissions: ondisk::be_u16(raw, 8), id })
    };
    body.chunks_exact(12).take(count).map(entry).collect()
}

pub(crate) fn to_disk(entries: &[AclEntry]) -> Vec<u8> {
    let mut value = (entries.len() as u32).to_be_bytes().to_vec();
    for entry in entries {
        value.extend_from_slice(&u32::from(entry.tag).to_be_bytes());
        value.extend_from_slice(&entry.id.to_be_bytes());
        value.extend_from_slice(&entry.permissions.to_be_bytes());
        value.extend_from_slice(&[0, 0]);
    }
    value
}

/// Value as `getxattr` returns it.
pub(crate) fn to_syscall(disk: &[u8]) -> Option<Vec<u8>> {
    let mut value = SYSCALL_VERSION.to_le_bytes().to_vec();
    for entry in from_disk(disk)? {
        value.extend_from_slice(&entry.tag.to_le_bytes());
        value.extend_from_slice(&entry.permissions.to_le_bytes());
        value.extend_from_slice(&entry.id.to_le_bytes());
    }
    Some(value)
}

/// Entries of a value as `setxattr` takes it; `None` unless the kernel would accept it.
pub(crate) fn from_syscall(value: &[u8]) -> Option<Vec<AclEntry>> {
    let body = value.get(4..)?;
    if le_u32(value, 0) != SYSCALL_VERSION || body.len() % 8 != 0 {
        return None;
    }
    let entries: Vec<AclEntry> = body
        .chunks_exact(8)
        .map(|raw| AclEntry { tag: le_u16(raw, 0), permissions: le_u16(raw, 2), id: le_u32(raw, 4) })
        .collect();
    is_valid(&entries).then_some(entries)
}

/// The order and the entries that `posix_acl_valid` asks for.
fn is_valid(entries: &[AclEntry]) -> bool {
    let count = |tag| entries.iter().filter(|entry| entry.tag == tag).count();
    let known = [USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER];
    let named = count(USER) + count(GROUP);
    entries.iter().all(|entry| known.contains(&entry.tag) && entry.permissions <= 7)
        && entries.is_sorted_by_key(|entry| entry.tag)
        && [USER_OBJ, GROUP_OBJ, OTHER].into_iter().all(|tag| count(tag) == 1)
        && count(MASK) <= 1
        && (named == 0 || count(MASK) == 1)
}

/// Puts the permission bits of a mode into an access ACL, as `chmod` does.
pub(crate) fn apply_mode(entries: &mut [AclEntry], mode: u16) {
    let has_mask = entries.iter().any(|entry| entry.tag == MASK);
    for entry in entries {
        match entry.tag {
            USER_OBJ => entry.permissions = mode >> 6 & 7,
            MASK => entry.permissions = mode >> 3 & 7,
            GROUP_OBJ if !has_mask => entry.permissions = mode >> 3 & 7,
            OTHER => entry.permissions = mode & 7,
            _ => {}
        }
    }
}

/// Permission bits that an access ACL stands for, and whether it says no more than they do.
pub(crate) fn mode_of(entries: &[AclEntry]) -> (u16, bool) {
    let of = |tag| entries.iter().find(|entry| entry.tag == tag).map(|entry| entry.permissions & 7);
    let group = of(MASK).or(of(GROUP_OBJ)).unwrap_or(0);
    let mode = of(USER_OBJ).unwrap_or(0) << 6 | group << 3 | of(OTHER).unwrap_or(0);
    (mode, entries.len() == 3 && of(MASK).is_none())
}

/// The access ACL of a new file below a default ACL: permissions are those that both the default and the
/// creator's mode give (`posix_acl_create_masq`).
pub(crate) fn inherit(entries: &mut [AclEntry], mode: u16) -> u16 {
    let has_mask = entries.iter().any(|entry| entry.tag == MASK);
    for entry in entries.iter_mut() {
        match entry.tag {
            USER_OBJ => entry.permissions &= mode >> 6 & 7,
            MASK => entry.permissions &= mode >> 3 & 7,
            GROUP_OBJ if !has_mask => entry.permissions &= mode >> 3 & 7,
            OTHER => entry.permissions &= mode & 7,
            _ => {}
        }
    }
    mode & !0o777 | mode_of(entries).0
}
