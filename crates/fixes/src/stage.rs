//! Edits on their way: new content of files over an unchanged guest tree.

use std::collections::BTreeMap;

use vfs::{FileKind, GuestPath, GuestTree, VfsError};

use crate::FixError;

/// Text files larger than this are not edited; real ones have a few KiB.
const TEXT_LIMIT: u64 = 4 << 20;

/// What happens to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// The whole content of a small file.
    Text {
        /// Content before; `None` when the file is made.
        old: Option<Vec<u8>>,
        /// Content afterwards.
        new: Vec<u8>,
    },
    /// Bytes added at the end of a large file; all before stays.
    Append {
        /// Length before.
        old_len: u64,
        /// What is added.
        bytes: Vec<u8>,
    },
    /// A large file written anew.
    Rewrite {
        /// Length before.
        old_len: u64,
        /// Content afterwards.
        new: Vec<u8>,
    },
}

/// A planned change of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// Real path (symlinks resolved) where the file exists.
    pub path: GuestPath,
    /// Rules that asked for it.
    pub rules: Vec<String>,
    /// What changes, a line each.
    pub summary: Vec<String>,
    /// The change.
    pub action: Action,
}

/// The guest tree with all edits planned so far.
pub struct Stage<'t> {
    tree: &'t GuestTree,
    edits: BTreeMap<GuestPath, Edit>,
}

impl<'t> Stage<'t> {
    /// Nothing planned yet.
    pub fn new(tree: &'t GuestTree) -> Self {
        Self { tree, edits: BTreeMap::new() }
    }

    /// The tree below.
    pub fn tree(&self) -> &'t GuestTree {
        self.tree
    }

    /// Where edits of `path` are kept: the real path of what exists, else of its directory.
    fn real_path(&self, path: &GuestPath) -> Result<GuestPath, VfsError> {
        match self.tree.resolve(path) {
            Ok(location) => Ok(location.path),
            Err(VfsError::NotFound { .. } | VfsError::NotADirectory { .. }) => {
                match path.parent().map(|parent| self.tree.resolve(&parent)) {
                    Some(Ok(parent)) => Ok(parent.path.join(path.file_name().unwrap_or_default())),
                    _ => Ok(path.clone()),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Content of a text file as the plan leaves it; `None` when there is none.
    pub fn read(&self, path: &GuestPath) -> Result<Option<Vec<u8>>, FixError> {
        let real = self.real_path(path)?;
        if let Some(Edit { action: Action::Text { new, .. }, .. }) = self.edits.get(&real) {
            return Ok(Some(new.clone()));
        }
        Ok(self.tree.read_if_exists(path, TEXT_LIMIT)?)
    }

    /// Names in a directory as the plan leaves it, sorted; none when there is no directory.
    pub fn list(&self, directory: &GuestPath) -> Result<Vec<Vec<u8>>, FixError> {
        let mut names = match self.tree.list(directory) {
            Ok(names) => names,
            Err(VfsError::NotFound { .. } | VfsError::NotADirectory { .. }) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let real = self.real_path(directory)?;
        let made = self.edits.keys().filter(|path| path.parent().as_ref() == Some(&real));
        names.extend(made.filter_map(|path| path.file_name().map(<[u8]>::to_vec)));
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// Plans new content for a text file; nothing is planned when it is the content there is.
    pub fn write(
        &mut self,
        rule: &str,
        path: &GuestPath,
        new: Vec<u8>,
        summary: Vec<String>,
    ) -> Result<(), FixError> {
        let real = self.real_path(path)?;
        let now = self.read(&real)?;
        if now.as_deref() == Some(&new) {
            return Ok(());
        }
        if let Some(edit) = self.edits.get_mut(&real) {
            if let Action::Text { new: planned, .. } = &mut edit.action {
                *planned = new;
                note_rule(edit, rule, summary);
                return Ok(());
            }
            return Err(FixError::TextAndBinary { path: real.to_string() });
        }
        self.edits.insert(
            real.clone(),
            Edit {
                path: real,
                rules: vec![rule.to_owned()],
                summary,
                action: Action::Text { old: now, new },
            },
        );
        Ok(())
    }

    /// Plans a change of a large file. There is one at most for each file.
    pub fn change_large(
        &mut self,
        rule: &str,
        path: &GuestPath,
        action: Action,
        summary: Vec<String>,
    ) -> Result<(), FixError> {
        let real = self.real_path(path)?;
        if self.edits.contains_key(&real) {
            return Err(FixError::TextAndBinary { path: real.to_string() });
        }
        self.edits.insert(real.clone(), Edit { path: real, rules: vec![rule.to_owned()], summary, action });
        Ok(())
    }

    /// Bytes by which the edits planned so far grow the files of one mount, in whole blocks.
    pub fn growth(&self, mount: usize) -> Result<u64, FixError> {
        let mut growth: u64 = 0;
        for edit in self.edits.values() {
            let (holder, metadata) = match self.tree.resolve(&edit.path) {
                Ok(location) => {
                    let metadata = self.tree.stat_at(&location)?;
                    (location.mount, Some(metadata))
                }
                Err(VfsError::NotFound { .. }) => (self.nearest_mount(&edit.path)?, None),
                Err(error) => return Err(error.into()),
            };
            if holder != mount {
                continue;
            }
            let block = u64::from(self.tree.mounts()[holder].filesystem.info().block_size).max(1);
            let old_len = metadata
                .filter(|metadata| metadata.kind == FileKind::Regular)
                .map_or(0, |metadata| metadata.len);
            let new_len = match &edit.action {
                Action::Text { new, .. } | Action::Rewrite { new, .. } => new.len() as u64,
                Action::Append { old_len, bytes } => old_len + bytes.len() as u64,
            };
            growth += (new_len.div_ceil(block) * block).saturating_sub(old_len.div_ceil(block) * block);
        }
        Ok(growth)
    }

    /// The mount that would hold a path whose last components do not exist yet.
    fn nearest_mount(&self, path: &GuestPath) -> Result<usize, FixError> {
        let mut above = path.parent();
        while let Some(directory) = above {
            match self.tree.resolve(&directory) {
                Ok(location) => return Ok(location.mount),
                Err(VfsError::NotFound { .. }) => above = directory.parent(),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(0)
    }

    /// All edits, by path.
    pub fn into_edits(self) -> Vec<Edit> {
        // A file that several rules brought back to what it was needs no edit.
        let changes =
            |edit: &Edit| !matches!(&edit.action, Action::Text { old: Some(old), new } if old == new);
        self.edits.into_values().filter(changes).collect()
    }
}

fn note_rule(edit: &mut Edit, rule: &str, summary: Vec<String>) {
    if !edit.rules.iter().any(|known| known == rule) {
        edit.rules.push(rule.to_owned());
    }
    edit.summary.extend(summary);
}
