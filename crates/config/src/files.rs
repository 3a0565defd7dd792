//! Reading files by path.

use std::collections::BTreeMap;

use vfs::{GuestPath, VfsError};

/// Symlinks followed from one path at most.
const LINKS_MAX: usize = 40;

/// Read access to small files: a guest's tree, with planned edits over it or without.
///
/// Paths are absolute. Symlinks are followed as the guest follows them, except by
/// [`Files::link_target`].
pub trait Files {
    /// Content of the regular file that `path` leads to; `None` when there is none. An error when it is too
    /// large or no regular file.
    fn read(&self, path: &GuestPath) -> Result<Option<Vec<u8>>, VfsError>;
    /// Names in the directory that `path` leads to, sorted bytewise; none when there is no directory.
    fn list(&self, path: &GuestPath) -> Result<Vec<Vec<u8>>, VfsError>;
    /// Target of the symlink at `path` itself; `None` when there is no symlink.
    fn link_target(&self, path: &GuestPath) -> Result<Option<Vec<u8>>, VfsError>;
    /// True when `path` leads to something.
    fn exists(&self, path: &GuestPath) -> Result<bool, VfsError>;

    /// Content as text, lossily decoded, by a path written in the source.
    fn text(&self, path: &str) -> Result<Option<String>, VfsError> {
        let content = self.read(&GuestPath::root().join(path))?;
        Ok(content.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Names that are UTF-8, by a path written in the source.
    fn names(&self, path: &str) -> Result<Vec<String>, VfsError> {
        let names = self.list(&GuestPath::root().join(path))?;
        Ok(names.into_iter().filter_map(|name| String::from_utf8(name).ok()).collect())
    }

    /// True when a path written in the source leads to something.
    fn has(&self, path: &str) -> Result<bool, VfsError> {
        self.exists(&GuestPath::root().join(path))
    }
}

/// Content of a file, `None` also for what is no regular file, too large, or a loop of links.
pub(crate) fn read_tolerant(files: &dyn Files, path: &GuestPath) -> Result<Option<Vec<u8>>, VfsError> {
    match files.read(path) {
        Err(
            VfsError::Limit { .. }
            | VfsError::WrongKind { .. }
            | VfsError::IsADirectory { .. }
            | VfsError::SymlinkLoop { .. },
        ) => Ok(None),
        other => other,
    }
}

/// Names in a directory, none also for a loop of links.
pub(crate) fn names_tolerant(files: &dyn Files, directory: &str) -> Result<Vec<String>, VfsError> {
    match files.names(directory) {
        Err(VfsError::SymlinkLoop { .. } | VfsError::NotADirectory { .. }) => Ok(Vec::new()),
        other => other,
    }
}

/// A node of [`MemoryFiles`].
#[derive(Debug, Clone)]
enum Node {
    File(Vec<u8>),
    Link(Vec<u8>),
}

/// Files in memory, for tests.
#[derive(Debug, Clone, Default)]
pub struct MemoryFiles {
    nodes: BTreeMap<String, Node>,
}

impl MemoryFiles {
    /// Files by absolute path.
    pub fn new<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let nodes =
            files.into_iter().map(|(path, text)| (path.to_owned(), Node::File(text.into()))).collect();
        Self { nodes }
    }

    /// Adds or replaces a file.
    pub fn put(&mut self, path: &str, content: impl Into<Vec<u8>>) {
        self.nodes.insert(path.to_owned(), Node::File(content.into()));
    }

    /// Adds or replaces a symlink.
    pub fn link(&mut self, path: &str, target: &str) {
        self.nodes.insert(path.to_owned(), Node::Link(target.into()));
    }

    /// Removes a file or symlink.
    pub fn remove(&mut self, path: &str) {
        self.nodes.remove(path);
    }

    /// The path with every symlink followed; `None` for a loop.
    fn real(&self, path: &GuestPath) -> Option<String> {
        let mut todo: Vec<Vec<u8>> = path.components().rev().map(<[u8]>::to_vec).collect();
        let mut here = GuestPath::root();
        let mut links = 0;
        while let Some(name) = todo.pop() {
            if name == b".." {
                here = here.parent().unwrap_or_else(GuestPath::root);
                continue;
            }
            let next = here.join(&name);
            match self.nodes.get(&next.to_string()) {
                Some(Node::Link(target)) => {
                    links += 1;
                    if links > LINKS_MAX {
                        return None;
                    }
                    if target.first() == Some(&b'/') {
                        here = GuestPath::root();
                    }
                    let parts = target.split(|byte| *byte == b'/');
                    let parts = parts.filter(|part| !part.is_empty() && *part != b".");
                    todo.extend(parts.map(<[u8]>::to_vec).collect::<Vec<_>>().into_iter().rev());
                }
                _ => here = next,
            }
        }
        Some(here.to_string())
    }

    fn below(&self, directory: &str) -> impl Iterator<Item = &str> {
        let prefix = if directory == "/" { "/".to_owned() } else { format!("{directory}/") };
        self.nodes.keys().filter_map(move |path| path.strip_prefix(prefix.as_str()))
    }
}

impl Files for MemoryFiles {
    fn read(&self, path: &GuestPath) -> Result<Option<Vec<u8>>, VfsError> {
        match self.real(path).and_then(|real| self.nodes.get(&real)) {
            Some(Node::File(content)) => Ok(Some(content.clone())),
            _ => Ok(None),
        }
    }

    fn list(&self, path: &GuestPath) -> Result<Vec<Vec<u8>>, VfsError> {
        let Some(real) = self.real(path) else { return Ok(Vec::new()) };
        let mut names: Vec<Vec<u8>> = self
            .below(&real)
            .filter_map(|rest| rest.split('/').next())
            .map(|name| name.as_bytes().to_vec())
            .collect();
        names.dedup();
        names.sort();
        names.dedup();
        Ok(names)
    }

    fn link_target(&self, path: &GuestPath) -> Result<Option<Vec<u8>>, VfsError> {
        let real = match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => {
                self.real(&parent).map(|parent| GuestPath::root().join(parent.as_str()).join(name))
            }
            _ => None,
        };
        match real.and_then(|real| self.nodes.get(&real.to_string()).cloned()) {
            Some(Node::Link(target)) => Ok(Some(target)),
            _ => Ok(None),
        }
    }

    fn exists(&self, path: &GuestPath) -> Result<bool, VfsError> {
        let Some(real) = self.real(path) else { return Ok(false) };
        Ok(self.nodes.contains_key(&real) || self.below(&real).next().is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_and_directories_listed() {
        let mut files = MemoryFiles::new([("/etc/a.d/10-x", "x"), ("/etc/a.d/05-y", "y"), ("/usr/z", "z")]);
        files.link("/etc/z", "../usr/z");
        files.link("/etc/b.d", "a.d");
        files.link("/loop", "/loop");
        assert_eq!(files.text("/etc/z").unwrap().as_deref(), Some("z"));
        assert_eq!(files.names("/etc/b.d").unwrap(), ["05-y", "10-x"]);
        assert_eq!(files.text("/etc/b.d/10-x").unwrap().as_deref(), Some("x"));
        assert_eq!(files.link_target(&GuestPath::root().join("etc/z")).unwrap().unwrap(), b"../usr/z");
        assert!(
            files.has("/etc/a.d").unwrap() && !files.has("/loop").unwrap() && !files.has("/none").unwrap()
        );
    }
}
