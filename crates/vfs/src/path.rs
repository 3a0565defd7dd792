//! Absolute guest paths as bytes.

use std::fmt;

/// An absolute path inside the guest: bytes, starting with `/`, without `//`, `.` or a trailing `/`.
///
/// `..` is kept: what it means depends on symlinks and is decided while walking.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GuestPath(Vec<u8>);

/// Why bytes are no guest path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not start with `/`.
    #[error("a guest path starts with /")]
    NotAbsolute,
    /// It holds a NUL byte.
    #[error("a guest path holds no NUL byte")]
    Nul,
    /// It is longer than 4096 bytes (the kernel's `PATH_MAX`).
    #[error("a guest path has at most 4096 bytes")]
    TooLong,
}

impl GuestPath {
    /// The root directory.
    pub fn root() -> Self {
        Self(b"/".to_vec())
    }

    /// Checks and normalises `raw`.
    pub fn new(raw: impl AsRef<[u8]>) -> Result<Self, PathError> {
        let raw = raw.as_ref();
        if raw.first() != Some(&b'/') {
            return Err(PathError::NotAbsolute);
        }
        if raw.contains(&0) {
            return Err(PathError::Nul);
        }
        if raw.len() > 4096 {
            return Err(PathError::TooLong);
        }
        let mut path = Self::root();
        for part in raw.split(|byte| *byte == b'/') {
            if !part.is_empty() && part != b"." {
                path.push(part);
            }
        }
        Ok(path)
    }

    /// The path as bytes; starts with `/`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// True for `/`.
    pub fn is_root(&self) -> bool {
        self.0 == b"/"
    }

    /// Component names from the root down; none for `/`.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/').filter(|part| !part.is_empty())
    }

    /// This path with `name` below it. `name` may hold several components.
    pub fn join(&self, name: impl AsRef<[u8]>) -> Self {
        let mut path = self.clone();
        for part in name.as_ref().split(|byte| *byte == b'/') {
            if !part.is_empty() && part != b"." {
                path.push(part);
            }
        }
        path
    }

    /// The directory above; `None` for `/`. Purely textual.
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let cut = self.0.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        Some(if cut == 0 { Self::root() } else { Self(self.0[..cut].to_vec()) })
    }

    /// The last component; `None` for `/`.
    pub fn file_name(&self) -> Option<&[u8]> {
        self.components().next_back()
    }

    /// True when `self` is `prefix` or lies below it.
    pub fn starts_with(&self, prefix: &GuestPath) -> bool {
        prefix.is_root()
            || self.0 == prefix.0
            || (self.0.starts_with(&prefix.0) && self.0.get(prefix.0.len()) == Some(&b'/'))
    }

    fn push(&mut self, part: &[u8]) {
        if !self.is_root() {
            self.0.push(b'/');
        }
        self.0.extend_from_slice(part);
    }
}

impl fmt::Display for GuestPath {
    /// Lossy: bytes that are not UTF-8 print as U+FFFD, control characters escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in String::from_utf8_lossy(&self.0).chars() {
            if character.is_control() {
                write!(f, "{}", character.escape_default())?;
            } else {
                write!(f, "{character}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for GuestPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalises_and_refuses() {
        assert_eq!(GuestPath::new("//a/./b//").unwrap().as_bytes(), b"/a/b");
        assert_eq!(GuestPath::new("/").unwrap(), GuestPath::root());
        assert_eq!(GuestPath::new("a"), Err(PathError::NotAbsolute));
        assert_eq!(GuestPath::new(b"/a\0"), Err(PathError::Nul));
        assert_eq!(GuestPath::new("/a/../b").unwrap().as_bytes(), b"/a/../b");
    }

    #[test]
    fn relations() {
        let path = GuestPath::new("/boot/grub").unwrap();
        assert!(path.starts_with(&GuestPath::new("/boot").unwrap()));
        assert!(!path.starts_with(&GuestPath::new("/boo").unwrap()));
        assert_eq!(path.parent().unwrap().parent().unwrap(), GuestPath::root());
        assert_eq!(path.file_name(), Some(&b"grub"[..]));
    }
}
