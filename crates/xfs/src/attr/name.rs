//! Prefixes of attribute names are name spaces; ACLs have names of their own.

use super::{ROOT, SECURE};

pub(crate) const ACL_ACCESS: &[u8] = b"SGI_ACL_FILE";
pub(crate) const ACL_DEFAULT: &[u8] = b"SGI_ACL_DEFAULT";

/// Full name of a stored attribute; `None` for one that no system call shows.
pub(crate) fn full_name(space: u8, name: &[u8]) -> Option<Vec<u8>> {
    let prefix: &[u8] = match (space, name) {
        (ROOT, ACL_ACCESS) => return Some(b"system.posix_acl_access".to_vec()),
        (ROOT, ACL_DEFAULT) => return Some(b"system.posix_acl_default".to_vec()),
        (ROOT, _) => b"trusted.",
        (SECURE, _) => b"security.",
        (0, _) => b"user.",
        _ => return None,
    };
    Some([prefix, name].concat())
}

/// Name space and stored name of a full name; `None` when it has no prefix that XFS stores.
pub(crate) fn stored_name(full: &[u8]) -> Option<(u8, Vec<u8>)> {
    match full {
        b"system.posix_acl_access" => return Some((ROOT, ACL_ACCESS.to_vec())),
        b"system.posix_acl_default" => return Some((ROOT, ACL_DEFAULT.to_vec())),
        _ => {}
    }
    [(0, &b"user."[..]), (ROOT, b"trusted."), (SECURE, b"security.")].into_iter().find_map(
        |(space, prefix)| {
            let rest = full.strip_prefix(prefix)?;
            // The stored form of an ACL is not the system call's.
            let is_kept = !rest.is_empty() && (space != ROOT || !is_acl_name(rest));
            is_kept.then(|| (space, rest.to_vec()))
        },
    )
}

fn is_acl_name(name: &[u8]) -> bool {
    name == ACL_ACCESS || name == ACL_DEFAULT
}

/// True for the two POSIX ACLs.
pub(crate) fn is_acl(space: u8, name: &[u8]) -> bool {
    space == ROOT && is_acl_name(name)
}
