//! The package database of Debian and Ubuntu. That of rpm is a database file of one of three kinds and is not
//! read: there, programs are found by their files.

use vfs::{GuestTree, VfsError};

use crate::reading::path;

const STATUS: &str = "/var/lib/dpkg/status";
/// A system with every package of Debian has 60 MB.
const STATUS_MAX: u64 = 96 << 20;

/// Version of a package that dpkg has installed; `None` when it is not, or when there is no dpkg.
///
/// `Status` has three words (dpkg-query(1)): what is wanted, an error flag, and the state, which must be
/// `installed`. A package that was removed keeps its paragraph while its configuration files stay.
pub fn dpkg_version(tree: &GuestTree, package: &str) -> Result<Option<String>, VfsError> {
    let status = match tree.read_if_exists(&path(STATUS), STATUS_MAX) {
        Ok(Some(status)) => status,
        Ok(None)
        | Err(
            VfsError::Limit { .. }
            | VfsError::WrongKind { .. }
            | VfsError::IsADirectory { .. }
            | VfsError::SymlinkLoop { .. },
        ) => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(installed_version(&status, package))
}

fn installed_version(status: &[u8], package: &str) -> Option<String> {
    let mut is_this = false;
    let mut is_installed = false;
    let mut version = None;
    // An empty line ends the last paragraph as well.
    for line in status.split(|byte| *byte == b'\n').chain([&b""[..]]) {
        if line.is_empty() {
            if is_this && is_installed && version.is_some() {
                return version;
            }
            (is_this, is_installed, version) = (false, false, None);
            continue;
        }
        let value = |name: &[u8]| line.strip_prefix(name).map(|value| value.trim_ascii());
        if let Some(name) = value(b"Package:") {
            is_this = name == package.as_bytes();
        } else if let Some(state) = value(b"Status:") {
            is_installed = state.split(|byte| *byte == b' ').next_back() == Some(b"installed");
        } else if let Some(value) = value(b"Version:") {
            version = is_this.then(|| String::from_utf8_lossy(value).into_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_installed_counts() {
        let status = b"Package: chrony\nStatus: deinstall ok config-files\nVersion: 4.3-2\n\n\
            Package: cloud-init\nStatus: install ok installed\nPriority: optional\nVersion: 22.4.2-1\n\
            Depends: x\nDescription: y\n Version: 9\n\nPackage: half\nStatus: install ok half-configured\nVersion: 1\n\n\
            Package: libc6\nStatus: hold ok installed\nVersion: 2.36-9+deb12u9";
        assert_eq!(installed_version(status, "chrony"), None);
        assert_eq!(installed_version(status, "cloud-init").as_deref(), Some("22.4.2-1"));
        assert_eq!(installed_version(status, "half"), None);
        assert_eq!(installed_version(status, "libc6").as_deref(), Some("2.36-9+deb12u9"));
        assert_eq!(installed_version(status, "init"), None);
    }
}
