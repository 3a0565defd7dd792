//! Edits on their way: new content of files over an unchanged guest tree.

use std::collections::BTreeMap;

use config::Files;
use vfs::{DiskEdit, FileKind, GuestPath, GuestTree, MAX_SYMLINKS, VfsError};

use crate::FixError;
use crate::edit::{Action, Edit};
use crate::injection::Injections;

/// Text files larger than this are not edited; real ones have a few KiB.
const TEXT_LIMIT: u64 = 4 << 20;

/// The guest tree with all edits planned so far.
pub struct Stage<'t> {
    tree: &'t GuestTree,
    edits: BTreeMap<GuestPath, Edit>,
    disk_edits: Vec<PlannedDiskEdit>,
    pub(crate) injections: Injections,
}

/// A planned change of the virtual disk below all files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedDiskEdit {
    /// Rule that asked for it.
    pub rule: String,
    /// The change.
    pub edit: DiskEdit,
}

/// What a path is with the plan over the tree, its last component not followed.
enum Seen {
    /// The plan takes it away, or it is not there.
    Nothing,
    /// A symlink that the plan makes, or one of the tree.
    Link(Vec<u8>),
    /// A file whose content the plan gives.
    Planned(Vec<u8>),
    /// What the tree has.
    AsInTree,
}

impl<'t> Stage<'t> {
    /// Nothing planned yet.
    pub fn new(tree: &'t GuestTree) -> Self {
        Self { tree, edits: BTreeMap::new(), disk_edits: Vec::new(), injections: Injections::default() }
    }

    /// The tree below, without the plan.
    pub fn tree(&self) -> &'t GuestTree {
        self.tree
    }

    /// The real path of the directory with the last component behind it: where edits of the name itself are kept.
    fn own_path(&self, path: &GuestPath) -> Result<GuestPath, VfsError> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(path.clone()) };
        match self.tree.resolve(&parent) {
            Ok(location) => Ok(location.path.join(name)),
            Err(VfsError::NotFound { .. } | VfsError::NotADirectory { .. }) => {
                Ok(self.own_path(&parent)?.join(name))
            }
            Err(error) => Err(error),
        }
    }

    fn seen(&self, own: &GuestPath) -> Result<Seen, VfsError> {
        match self.edits.get(own).map(|edit| &edit.action) {
            Some(Action::Text { new, .. }) => return Ok(Seen::Planned(new.clone())),
            Some(Action::Link { target, .. }) => return Ok(Seen::Link(target.clone())),
            Some(Action::Remove { .. }) => return Ok(Seen::Nothing),
            Some(
                Action::Append { .. } | Action::Rewrite { .. } | Action::Create { .. } | Action::Attributes,
            ) => {}
            Some(Action::Empty { .. }) | None => {
                let mut above = own.parent();
                while let Some(directory) = above {
                    let is_gone = matches!(
                        self.edits.get(&directory).map(|edit| &edit.action),
                        Some(Action::Empty { .. } | Action::Remove { .. })
                    );
                    if is_gone {
                        return Ok(Seen::Nothing);
                    }
                    above = directory.parent();
                }
            }
        }
        match self.tree.resolve_no_follow(own) {
            Ok(location) if self.tree.stat_at(&location)?.kind == FileKind::Symlink => {
                Ok(Seen::Link(self.tree.mounts()[location.mount].filesystem.read_link(location.node)?))
            }
            Ok(_) => Ok(Seen::AsInTree),
            Err(VfsError::NotFound { .. } | VfsError::NotADirectory { .. }) => Ok(Seen::Nothing),
            Err(error) => Err(error),
        }
    }

    /// Follows a last symlink of plan or tree; the path where content is, or would be.
    fn real_path(&self, path: &GuestPath) -> Result<GuestPath, VfsError> {
        let mut own = self.own_path(path)?;
        for _ in 0..=MAX_SYMLINKS {
            let Seen::Link(target) = self.seen(&own)? else { return Ok(own) };
            let next = match (target.first(), own.parent()) {
                (Some(b'/'), _) | (_, None) => GuestPath::root().join(&target),
                (_, Some(parent)) => parent.join(&target),
            };
            own = self.own_path(&next)?;
        }
        Err(VfsError::SymlinkLoop { path: path.to_string() })
    }

    /// Content of a text file as the plan leaves it; `None` when there is none.
    pub fn read(&self, path: &GuestPath) -> Result<Option<Vec<u8>>, VfsError> {
        let real = self.real_path(path)?;
        match self.seen(&real)? {
            Seen::Planned(content) => Ok(Some(content)),
            Seen::AsInTree => self.tree.read_if_exists(&real, TEXT_LIMIT),
            Seen::Nothing | Seen::Link(_) => Ok(None),
        }
    }

    /// Names in a directory as the plan leaves it, sorted; none when there is no directory.
    pub fn list(&self, directory: &GuestPath) -> Result<Vec<Vec<u8>>, VfsError> {
        let real = self.real_path(directory)?;
        let mut names = match self.seen(&real)? {
            Seen::AsInTree => match self.tree.list(&real) {
                Ok(names) => names,
                Err(VfsError::NotFound { .. } | VfsError::NotADirectory { .. }) => Vec::new(),
                Err(error) => return Err(error),
            },
            _ => Vec::new(),
        };
        if self.edits.is_empty() {
            return Ok(names);
        }
        if matches!(self.edits.get(&real).map(|edit| &edit.action), Some(Action::Empty { .. })) {
            names.clear();
        }
        for (path, edit) in self.edits.range(real.clone()..).take_while(|(path, _)| path.starts_with(&real)) {
            if path.parent().as_ref() != Some(&real) {
                continue;
            }
            let name = path.file_name().unwrap_or_default();
            match &edit.action {
                Action::Remove { .. } => names.retain(|known| known != name),
                _ => names.push(name.to_vec()),
            }
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// Plans new content for a text file, a symlink at `path` followed; nothing is planned when it is the content
    /// there is. A file that is made gets mode 0644.
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
        self.put(rule, real, now, new, summary)
    }

    /// The same for a file that must have this mode, when it is made and when it is there.
    pub fn write_with_mode(
        &mut self,
        rule: &str,
        path: &GuestPath,
        new: Vec<u8>,
        mode: u16,
        summary: Vec<String>,
    ) -> Result<(), FixError> {
        let real = self.real_path(path)?;
        self.write(rule, &real, new, summary.clone())?;
        let has = match self.tree.stat(&real) {
            Ok(metadata) => Some(metadata.mode),
            Err(VfsError::NotFound { .. } | VfsError::NotADirectory { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        if has != Some(mode) {
            self.attributes(rule, real, summary).mode = Some(mode);
        }
        Ok(())
    }

    /// Plans a regular file at `path` itself: a symlink there is replaced, not followed.
    pub fn write_no_follow(
        &mut self,
        rule: &str,
        path: &GuestPath,
        new: Vec<u8>,
        summary: Vec<String>,
    ) -> Result<(), FixError> {
        let own = self.own_path(path)?;
        match self.seen(&own)? {
            Seen::Planned(now) if now == new => Ok(()),
            Seen::AsInTree => self.write(rule, &own, new, summary),
            _ => self.put(rule, own, None, new, summary),
        }
    }

    /// Plans that the name `path` goes, whatever it is: a file, a symlink, a directory with all in it.
    pub fn remove(&mut self, rule: &str, path: &GuestPath, summary: Vec<String>) -> Result<(), FixError> {
        let own = self.own_path(path)?;
        if matches!(self.seen(&own)?, Seen::Nothing) {
            return Ok(());
        }
        self.edits.retain(|edited, _| *edited == own || !edited.starts_with(&own));
        if self.tree_lacks(&own)? {
            self.edits.remove(&own);
            return Ok(());
        }
        let old = self.old_text(&own)?;
        self.replace(rule, own, Action::Remove { old }, summary);
        Ok(())
    }

    /// Plans that everything in a directory goes; the directory stays.
    pub fn empty(&mut self, rule: &str, directory: &GuestPath, summary: Vec<String>) -> Result<(), FixError> {
        let names = self.list(directory)?;
        if names.is_empty() {
            return Ok(());
        }
        let real = self.real_path(directory)?;
        self.edits.retain(|edited, _| *edited == real || !edited.starts_with(&real));
        self.replace(rule, real, Action::Empty { names: names.len() }, summary);
        Ok(())
    }

    /// Plans a symlink at `path`; a file or another symlink there is replaced.
    pub fn link(
        &mut self,
        rule: &str,
        path: &GuestPath,
        target: impl Into<Vec<u8>>,
        summary: Vec<String>,
    ) -> Result<(), FixError> {
        let (own, target) = (self.own_path(path)?, target.into());
        if matches!(self.seen(&own)?, Seen::Link(now) if now == target) {
            return Ok(());
        }
        let old = match self.tree_lacks(&own)? {
            true => None,
            false => self.tree.read_link(&own).ok(),
        };
        if old.as_deref() == Some(&target) {
            self.edits.remove(&own);
            return Ok(());
        }
        self.replace(rule, own, Action::Link { old, target }, summary);
        Ok(())
    }

    /// Plans that `chattr +i` and `+a` go from a file.
    pub fn unprotect(&mut self, rule: &str, path: &GuestPath, summary: Vec<String>) -> Result<(), FixError> {
        let real = self.real_path(path)?;
        self.attributes(rule, real, summary).unprotect = true;
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
        match self.edits.get(&real).map(|edit| &edit.action) {
            None | Some(Action::Attributes) => {
                self.replace(rule, real, action, summary);
                Ok(())
            }
            Some(_) => Err(FixError::TextAndBinary { path: real.to_string() }),
        }
    }

    /// Notes one more rule on a planned edit.
    pub(crate) fn note(&mut self, path: &GuestPath, rule: &str, summary: String) {
        if let Some(edit) = self.edits.get_mut(path) {
            edit.note(rule, vec![summary]);
        }
    }

    /// Content of a regular file as the tree has it, where it is small enough to be shown.
    fn old_text(&self, own: &GuestPath) -> Result<Option<Vec<u8>>, FixError> {
        match self.tree.stat_no_follow(own) {
            Ok(metadata) if metadata.kind == FileKind::Regular && metadata.len <= TEXT_LIMIT => {
                Ok(Some(self.tree.read(own, TEXT_LIMIT)?))
            }
            _ => Ok(None),
        }
    }

    fn tree_lacks(&self, own: &GuestPath) -> Result<bool, VfsError> {
        match self.tree.resolve_no_follow(own) {
            Ok(_) => Ok(false),
            Err(VfsError::NotFound { .. } | VfsError::NotADirectory { .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }

    fn put(
        &mut self,
        rule: &str,
        real: GuestPath,
        now: Option<Vec<u8>>,
        new: Vec<u8>,
        summary: Vec<String>,
    ) -> Result<(), FixError> {
        match self.edits.get_mut(&real) {
            Some(edit) => {
                edit.note(rule, summary);
                match &mut edit.action {
                    Action::Text { new: planned, .. } => *planned = new,
                    Action::Remove { old } => edit.action = Action::Text { old: old.take(), new },
                    Action::Link { .. } => edit.action = Action::Text { old: None, new },
                    Action::Attributes => edit.action = Action::Text { old: now, new },
                    _ => return Err(FixError::TextAndBinary { path: real.to_string() }),
                }
            }
            None => self.replace(rule, real, Action::Text { old: now, new }, summary),
        }
        Ok(())
    }

    /// Puts an action in the place of whatever was planned for the path.
    fn replace(&mut self, rule: &str, path: GuestPath, action: Action, summary: Vec<String>) {
        let edit = self.attributes(rule, path, summary);
        edit.action = action;
    }

    fn attributes(&mut self, rule: &str, path: GuestPath, summary: Vec<String>) -> &mut Edit {
        let edit = self.edits.entry(path.clone()).or_insert_with(|| Edit::new(path));
        edit.note(rule, summary);
        edit
    }

    /// Bytes by which the edits planned so far grow the files of one mount, in whole blocks.
    pub fn growth(&self, mount: usize) -> Result<u64, FixError> {
        let mut growth: u64 = 0;
        for edit in self.edits.values() {
            let Some(new_len) = edit.action.new_len() else { continue };
            let (holder, metadata) = match self.tree.resolve(&edit.path) {
                Ok(location) => {
                    let metadata = self.tree.stat_at(&location)?;
                    (location.mount, Some(metadata))
                }
                Err(VfsError::NotFound { .. } | VfsError::NotADirectory { .. }) => {
                    (self.nearest_mount(&edit.path)?, None)
                }
                Err(error) => return Err(error.into()),
            };
            if holder != mount {
                continue;
            }
            let block = u64::from(self.tree.mounts()[holder].filesystem.info().block_size).max(1);
            let old_len = metadata
                .filter(|metadata| metadata.kind == FileKind::Regular)
                .map_or(0, |metadata| metadata.len);
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
                Err(VfsError::NotFound { .. } | VfsError::NotADirectory { .. }) => above = directory.parent(),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(0)
    }

    /// The changes of the virtual disk that are planned so far.
    pub fn planned_disk_edits(&self) -> impl Iterator<Item = DiskEdit> + '_ {
        self.disk_edits.iter().map(|planned| planned.edit)
    }

    /// Plans a change of the virtual disk.
    pub fn edit_disk(&mut self, rule: &str, edit: DiskEdit) {
        if !self.disk_edits.iter().any(|planned| planned.edit == edit) {
            self.disk_edits.push(PlannedDiskEdit { rule: rule.to_owned(), edit });
        }
    }

    /// All edits that change something, by path, and those of the disk.
    pub fn into_edits(self) -> (Vec<Edit>, Vec<PlannedDiskEdit>) {
        (self.edits.into_values().filter(Edit::changes_something).collect(), self.disk_edits)
    }
}

impl Files for Stage<'_> {
    fn read(&self, path: &GuestPath) -> Result<Option<Vec<u8>>, VfsError> {
        Stage::read(self, path)
    }

    fn list(&self, path: &GuestPath) -> Result<Vec<Vec<u8>>, VfsError> {
        Stage::list(self, path)
    }

    fn link_target(&self, path: &GuestPath) -> Result<Option<Vec<u8>>, VfsError> {
        match self.seen(&self.own_path(path)?)? {
            Seen::Link(target) => Ok(Some(target)),
            _ => Ok(None),
        }
    }

    fn exists(&self, path: &GuestPath) -> Result<bool, VfsError> {
        Ok(!matches!(self.seen(&self.real_path(path)?)?, Seen::Nothing))
    }
}
