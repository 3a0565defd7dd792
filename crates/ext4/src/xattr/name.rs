//! Prefixes of attribute names are stored as numbers.

pub(crate) const INDEX_ACL_ACCESS: u8 = 2;
pub(crate) const INDEX_ACL_DEFAULT: u8 = 3;
pub(crate) const INDEX_SYSTEM: u8 = 7;
const INDEX_RICHACL: u8 = 8;

/// Number, prefix, and whether the prefix is the whole name.
const PREFIXES: &[(u8, &[u8], bool)] = &[
    (1, b"user.", false),
    (INDEX_ACL_ACCESS, b"system.posix_acl_access", true),
    (INDEX_ACL_DEFAULT, b"system.posix_acl_default", true),
    (4, b"trusted.", false),
    (6, b"security.", false),
    (INDEX_RICHACL, b"system.richacl", true),
    (INDEX_SYSTEM, b"system.", false),
];

/// Full name of a stored attribute; `None` for prefixes that no system call shows.
pub(crate) fn full_name(index: u8, name: &[u8]) -> Option<Vec<u8>> {
    let (_, prefix, is_whole) = PREFIXES.iter().find(|(known, _, _)| *known == index)?;
    if *is_whole != name.is_empty() {
        return None;
    }
    Some([prefix, name].concat())
}

/// Number of the prefix and rest of a full name; `None` when it has no prefix that ext4 stores.
pub(crate) fn stored_name(full: &[u8]) -> Option<(u8, Vec<u8>)> {
    PREFIXES.iter().find_map(|(index, prefix, is_whole)| {
        let rest = full.strip_prefix(*prefix)?;
        (rest.is_empty() == *is_whole).then(|| (*index, rest.to_vec()))
    })
}

/// True for the two POSIX ACLs.
pub(crate) fn is_acl(index: u8) -> bool {
    matches!(index, INDEX_ACL_ACCESS | INDEX_ACL_DEFAULT)
}
