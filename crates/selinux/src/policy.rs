//! The policy that a guest is configured for.

use vfs::{FileKind, GuestPath, GuestTree, VfsError};

use crate::substitution::Substitutions;
use crate::{Config, FileContexts, Lookup};

/// The configuration has a few lines.
const CONFIG_MAX: u64 = 64 << 10;
/// Fedora's `file_contexts` has 450 KB.
const CONTEXTS_MAX: u64 = 16 << 20;

/// A policy's file labels.
#[derive(Debug)]
pub struct Policy {
    /// `/etc/selinux/config`.
    pub config: Config,
    contexts: FileContexts,
    distribution: Substitutions,
    own: Substitutions,
}

impl Policy {
    /// The guest's policy; `None` when it is not configured for SELinux, or has no labels of the configured
    /// policy.
    pub fn read(tree: &GuestTree) -> Result<Option<Self>, VfsError> {
        let Some(text) = read(tree, Config::PATH, CONFIG_MAX)? else { return Ok(None) };
        let config = Config::parse(&String::from_utf8_lossy(&text));
        // The name comes from the guest: it must be one component.
        if config.policy.contains('/') || matches!(config.policy.as_str(), "." | "..") {
            return Ok(None);
        }
        let base = format!("/etc/selinux/{}/contexts/files/file_contexts", config.policy);
        let Some(policy) = read(tree, &base, CONTEXTS_MAX)? else { return Ok(None) };
        let mut files = vec![(base.clone(), policy)];
        for suffix in ["homedirs", "local"] {
            let name = format!("{base}.{suffix}");
            if let Some(content) = read(tree, &name, CONTEXTS_MAX)? {
                files.push((name, content));
            }
        }
        let named: Vec<(&str, &[u8])> =
            files.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect();
        let substitutions = |suffix: &str| -> Result<Substitutions, VfsError> {
            let content = read(tree, &format!("{base}.{suffix}"), CONTEXTS_MAX)?;
            Ok(Substitutions::parse(&content.unwrap_or_default()))
        };
        Ok(Some(Self {
            config,
            contexts: FileContexts::parse(&named),
            distribution: substitutions("subs_dist")?,
            own: substitutions("subs")?,
        }))
    }

    /// The label of a path, as `matchpathcon` prints it: the administrator's alias for it first, then the
    /// distribution's for what comes of that.
    pub fn label(&self, path: &GuestPath, kind: FileKind) -> Lookup {
        let mut name = path.as_bytes().to_vec();
        for substitutions in [&self.own, &self.distribution] {
            if let Some(other) = substitutions.apply(&name) {
                name = other;
            }
        }
        self.contexts.lookup(&name, Some(kind))
    }

    /// The entries.
    pub fn contexts(&self) -> &FileContexts {
        &self.contexts
    }
}

/// A file that is there, regular and not too large.
fn read(tree: &GuestTree, at: &str, limit: u64) -> Result<Option<Vec<u8>>, VfsError> {
    match tree.read_if_exists(&GuestPath::root().join(at), limit) {
        Err(
            VfsError::Limit { .. }
            | VfsError::WrongKind { .. }
            | VfsError::IsADirectory { .. }
            | VfsError::SymlinkLoop { .. },
        ) => Ok(None),
        other => other,
    }
}
