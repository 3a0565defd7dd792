//! The manifest: one JSON object a line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::BatchError;

/// Bytes of one line at most.
const LINE_MAX: usize = 1 << 20;
/// Lines at most.
const ENTRIES_MAX: usize = 1_000_000;

/// What is done with an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Against a profile, without any change.
    Check,
    /// Made to meet a profile.
    Fix,
    /// Copied into another format.
    Convert,
}

impl Action {
    /// As it is written in a manifest.
    pub fn name(self) -> &'static str {
        match self {
            Action::Check => "check",
            Action::Fix => "fix",
            Action::Convert => "convert",
        }
    }
}

/// One line. Everything but `image` may be left to the command line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Entry {
    /// The image; relative to the folder of the manifest.
    pub image: PathBuf,
    /// What to do with it.
    #[serde(rename = "do", skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
    /// Profile name or file. For a conversion: fix on the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Switches of the profile; each one is taken instead of the command line's.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<String, String>,
    /// Only these rules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub only: Option<Vec<String>>,
    /// All rules but these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skip: Option<Vec<String>>,
    /// Where the result goes; relative to the folder of the manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<PathBuf>,
    /// Format of the result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_format: Option<String>,
    /// Options of the result's format, as after `-o` of `convert`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub options: Option<String>,
    /// `zlib` or `zstd`, with `:LEVEL`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compress: Option<String>,
    /// Replace a result that is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub force: Option<bool>,
    /// Keep the bytes from before a fix in place in this file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undo_file: Option<PathBuf>,
    /// Format of the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_format: Option<String>,
    /// Which filesystem is the root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// Bytes that the image takes on the host: what shards are balanced by, instead of what the host says now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allocated: Option<u64>,
}

/// Reads a manifest; `name` stands in errors, relative paths are taken from `folder`.
pub fn parse(text: &[u8], name: &str, folder: &Path) -> Result<Vec<(Entry, String)>, BatchError> {
    let mut entries = Vec::new();
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let wrong = |place: &str, reason: String| BatchError::Manifest {
            origin: format!("{name}:{}{place}", index + 1),
            reason,
        };
        if line.len() > LINE_MAX {
            return Err(wrong("", format!("the line has more than {LINE_MAX} bytes")));
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let mut entry: Entry = serde_json::from_slice(line).map_err(|error| {
            // The position within the line stands in front; what serde says ends with it, too.
            let text = error.to_string();
            let reason = text.split(" at line ").next().unwrap_or_default().to_owned();
            wrong(&format!(":{}", error.column()), reason)
        })?;
        if entry.image.as_os_str().is_empty() {
            return Err(wrong("", "the field image is missing".into()));
        }
        if entry.only.is_some() && entry.skip.is_some() {
            return Err(wrong("", "only and skip exclude each other".into()));
        }
        if entry.output.is_some() && entry.undo_file.is_some() {
            return Err(wrong("", "undo_file is for a change in place, output is not".into()));
        }
        entry.image = folder.join(&entry.image);
        entry.output = entry.output.map(|path| folder.join(path));
        entry.undo_file = entry.undo_file.map(|path| folder.join(path));
        // A profile that is a file, by the same signs as on the command line.
        entry.profile = entry.profile.map(|profile| {
            let is_file = profile.contains('/') || profile.ends_with(".toml");
            if is_file { folder.join(&profile).to_string_lossy().into_owned() } else { profile }
        });
        entries.push((entry, format!("{name}:{}", index + 1)));
        if entries.len() > ENTRIES_MAX {
            return Err(wrong("", format!("more than {ENTRIES_MAX} images")));
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse(text.as_bytes(), "m.jsonl", Path::new("/x")).unwrap_err().to_string()
    }

    #[test]
    fn entries_are_relative_to_the_manifest_and_blank_lines_do_not_count() {
        let text = b"{\"image\":\"a.qcow2\",\"do\":\"fix\",\"output\":\"out/a\",\"set\":{\"k\":\"v\"}}\n\n{\"image\":\"/b\",\"profile\":\"p.toml\"}";
        let entries = parse(text, "m.jsonl", Path::new("/x")).unwrap();
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0].0.image, Path::new("/x/a.qcow2"));
        assert_eq!(entries[0].0.output.as_deref(), Some(Path::new("/x/out/a")));
        assert_eq!(entries[0].0.action, Some(Action::Fix));
        assert_eq!(entries[1].0.image, Path::new("/b"));
        assert_eq!(entries[1].0.profile.as_deref(), Some("/x/p.toml"));
        assert_eq!(entries[1].1, "m.jsonl:3");
    }

    #[test]
    fn errors_name_line_and_column() {
        assert_eq!(
            error("{\"image\":\"a\"}\n{\"image\":1}"),
            "m.jsonl:2:10: invalid type: integer `1`, expected path string"
        );
        assert!(
            error("\n{\"image\":\"a\",\"ouput\":\"b\"}").starts_with("m.jsonl:2:20: unknown field `ouput`")
        );
        assert!(error("{\"do\":\"check\"}").starts_with("m.jsonl:1: the field image is missing"));
        assert!(error("{\"image\":\"a\",\"do\":\"eat\"}").contains("unknown variant `eat`"));
        assert!(error("{\"image\":\"a\"").starts_with("m.jsonl:1:12: EOF"));
        assert!(error("{\"image\":\"a\",\"only\":[],\"skip\":[]}").contains("exclude"));
        assert!(error("\u{feff}{}").starts_with("m.jsonl:1:1: expected value"));
    }
}
