//! Edits as the report has them.

use fixes::{Action, Edit};
use serde::Serialize;
use sha2::{Digest, Sha256};
use vfs::GuestTree;

use crate::render::diff::unified;
use crate::render::output::{Failure, plain};

/// One changed path.
#[derive(Debug, Serialize)]
pub struct EditReport {
    pub path: String,
    rules: Vec<String>,
    pub kind: &'static str,
    summary: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_len: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_len: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    old_sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "plain")]
    pub diff: Option<String>,
}

fn hex(digest: &[u8]) -> String {
    digest.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

fn digest(parts: &[&[u8]]) -> String {
    let mut hasher = Sha256::new();
    parts.iter().for_each(|part| hasher.update(part));
    hex(&hasher.finalize())
}

/// Digest of a guest file, read piece by piece.
pub fn digest_of_file(tree: &GuestTree, path: &str) -> Result<String, Failure> {
    let location = tree.resolve(&vfs::GuestPath::root().join(path))?;
    let filesystem = &tree.mounts()[location.mount].filesystem;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut offset = 0;
    loop {
        let got = filesystem.read_at(location.node, offset, &mut buffer)?;
        if got == 0 {
            return Ok(hex(&hasher.finalize()));
        }
        hasher.update(&buffer[..got]);
        offset += got as u64;
    }
}

impl EditReport {
    /// What an edit does to the tree as it is.
    pub fn new(edit: &Edit, tree: &GuestTree, with_diff: bool) -> Result<Self, Failure> {
        let path = edit.path.to_string();
        let mut report = Self {
            path: path.clone(),
            rules: edit.rules.clone(),
            kind: "attributes",
            summary: edit.summary.clone(),
            old_len: None,
            new_len: None,
            old_sha256: None,
            new_sha256: None,
            target: None,
            mode: edit.mode.map(|mode| format!("{mode:04o}")),
            diff: None,
        };
        match &edit.action {
            Action::Text { old, new } => {
                report.kind = if old.is_some() { "text" } else { "create" };
                report.diff = with_diff.then(|| unified(&path, old.as_deref(), new));
                report.old_len = old.as_ref().map(|old| old.len() as u64);
                report.new_len = Some(new.len() as u64);
                report.old_sha256 = old.as_ref().map(|old| digest(&[old]));
                report.new_sha256 = Some(digest(&[new]));
            }
            Action::Append { old_len, bytes } => {
                let old = tree.read(&edit.path, *old_len)?;
                report.kind = "append";
                report.old_len = Some(*old_len);
                report.new_len = Some(old_len + bytes.len() as u64);
                report.old_sha256 = Some(digest(&[&old]));
                report.new_sha256 = Some(digest(&[&old, bytes]));
            }
            Action::Rewrite { old_len, new } => {
                report.kind = "rewrite";
                report.old_len = Some(*old_len);
                report.new_len = Some(new.len() as u64);
                report.old_sha256 = Some(digest_of_file(tree, &path)?);
                report.new_sha256 = Some(digest(&[new]));
            }
            Action::Create { new } => {
                report.kind = "create";
                report.new_len = Some(new.len() as u64);
                report.new_sha256 = Some(digest(&[new]));
            }
            Action::Link { target, .. } => {
                report.kind = "link";
                report.target = Some(String::from_utf8_lossy(target).into_owned());
            }
            Action::Remove { old } => {
                report.kind = "remove";
                report.old_len = old.as_ref().map(|old| old.len() as u64);
            }
            Action::Empty { .. } => report.kind = "empty",
            Action::Attributes => {}
        }
        Ok(report)
    }
}
