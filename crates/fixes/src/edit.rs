//! What is planned for one path of the guest.

use vfs::GuestPath;

/// What happens to a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// The whole content of a small file. A symlink at the path is replaced.
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
    /// A file that is no text is made.
    Create {
        /// Its content.
        new: Vec<u8>,
    },
    /// A symlink; a file or another symlink at the path is replaced.
    Link {
        /// Target of the symlink that is there.
        old: Option<Vec<u8>>,
        /// Target afterwards.
        target: Vec<u8>,
    },
    /// The name goes, a directory with all that is in it.
    Remove {
        /// Content before, of a small regular file.
        old: Option<Vec<u8>>,
    },
    /// All names in a directory go; the directory stays.
    Empty {
        /// How many names.
        names: usize,
    },
    /// Content stays; see the fields of [`Edit`].
    Attributes,
}

impl Action {
    /// Length of the file afterwards, where there is a file.
    pub(crate) fn new_len(&self) -> Option<u64> {
        match self {
            Action::Text { new, .. } | Action::Rewrite { new, .. } | Action::Create { new } => {
                Some(new.len() as u64)
            }
            Action::Append { old_len, bytes } => Some(old_len + bytes.len() as u64),
            Action::Link { .. } | Action::Remove { .. } | Action::Empty { .. } | Action::Attributes => None,
        }
    }
}

/// A planned change of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// Real path: all symlinks resolved, that of the last component only where what it leads to is meant.
    pub path: GuestPath,
    /// Rules that asked for it.
    pub rules: Vec<String>,
    /// What changes, a line each.
    pub summary: Vec<String>,
    /// The change.
    pub action: Action,
    /// Permission bits afterwards; `None` keeps those of what is there.
    pub mode: Option<u16>,
    /// `chattr +i` and `+a` are taken off.
    pub unprotect: bool,
}

impl Edit {
    pub(crate) fn new(path: GuestPath) -> Self {
        Self {
            path,
            rules: Vec::new(),
            summary: Vec::new(),
            action: Action::Attributes,
            mode: None,
            unprotect: false,
        }
    }

    /// Adds a rule and what it changes.
    pub(crate) fn note(&mut self, rule: &str, summary: Vec<String>) {
        if !self.rules.iter().any(|known| known == rule) {
            self.rules.push(rule.to_owned());
        }
        for line in summary {
            if !self.summary.contains(&line) {
                self.summary.push(line);
            }
        }
    }

    /// A file that several rules brought back to what it was needs no edit.
    pub(crate) fn changes_something(&self) -> bool {
        let has_attributes = self.mode.is_some() || self.unprotect;
        has_attributes
            || match &self.action {
                Action::Text { old: Some(old), new } => old != new,
                Action::Attributes => false,
                _ => true,
            }
    }
}
