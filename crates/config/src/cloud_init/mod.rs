//! cloud-init's configuration: `/etc/cloud/cloud.cfg` and what lies beside it, merged as cloud-init merges it.

mod edit;
mod merge;

use vfs::{GuestPath, VfsError};
pub use yaml_serde::{Mapping, Value};

use crate::Files;

pub use edit::{comment_out, comment_out_line};
pub use merge::{covers, merge_missing};

/// The main file.
pub const MAIN: &str = "/etc/cloud/cloud.cfg";
/// Files that override it, the last by name first.
pub const DROP_INS: &str = "/etc/cloud/cloud.cfg.d";
/// Files of the directory that are read; real systems have some ten.
const PARTS_MAX: usize = 256;
/// Bytes of one file; real ones have a few KiB.
const PART_MAX: usize = 256 << 10;

/// One file with what it says.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// Guest path.
    pub path: String,
    /// Its text.
    pub text: String,
    /// What it says.
    pub values: Mapping,
}

/// All files, in the order in which a later one overrides an earlier one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CloudConfig {
    /// The files that could be read.
    pub parts: Vec<Part>,
    /// Files whose content or effect cannot be told, with line and reason.
    pub problems: Vec<String>,
}

impl CloudConfig {
    /// Reads the main file and the `*.cfg` files of its directory, sorted by name.
    pub fn read(files: &dyn Files) -> Result<Self, VfsError> {
        let mut config = Self::default();
        let mut paths = vec![MAIN.to_owned()];
        let names = files.names(DROP_INS)?;
        let drop_ins = names.iter().filter(|name| name.ends_with(".cfg"));
        paths.extend(drop_ins.map(|name| format!("{DROP_INS}/{name}")));
        if paths.len() > PARTS_MAX {
            config.problems.push(format!("{DROP_INS}: more than {PARTS_MAX} files"));
            paths.truncate(PARTS_MAX);
        }
        for path in paths {
            let content = match files.read(&GuestPath::root().join(&path)) {
                Ok(Some(content)) => content,
                // cloud-init, too, leaves out what is no file.
                Ok(None) | Err(VfsError::IsADirectory { .. } | VfsError::WrongKind { .. }) => continue,
                Err(error @ (VfsError::Limit { .. } | VfsError::SymlinkLoop { .. })) => {
                    config.problems.push(error.to_string());
                    continue;
                }
                Err(error) => return Err(error),
            };
            match parse(&content) {
                Ok((text, values)) => config.parts.push(Part { path, text, values }),
                Err(detail) => config.problems.push(format!("{path}{detail}")),
            }
        }
        Ok(config)
    }

    /// What is in force: a key that a later file has is not taken from an earlier one; mappings are joined key
    /// by key, lists are not.
    pub fn effective(&self) -> Mapping {
        let mut merged = Mapping::new();
        for part in self.parts.iter().rev() {
            merge_missing(&mut merged, &part.values);
        }
        merged
    }

    /// The data sources that `ds-identify` reads, which is a shell script: the value of the last line that begins
    /// with the key, in the order of the files; a list over several lines is none to it.
    pub fn identified_datasources(&self) -> Option<Vec<String>> {
        let lines = self.parts.iter().flat_map(|part| part.text.lines());
        let value = lines
            .filter_map(|line| {
                let line = line.split('#').next().unwrap_or_default().trim();
                line.strip_prefix("datasource_list:").map(|value| value.trim().to_owned())
            })
            .next_back()?;
        let inside = value.trim_start_matches('[').trim_end_matches(']').to_owned();
        let unquoted = |word: &str| word.trim().trim_matches(['"', '\'']).to_owned();
        Some(inside.split(',').map(unquoted).filter(|word| !word.is_empty()).collect())
    }
}

/// Text and values of a file. The detail of an error starts with the line, where there is one.
pub fn parse(content: &[u8]) -> Result<(String, Mapping), String> {
    if content.len() > PART_MAX {
        return Err(format!(": {} bytes, more than the {PART_MAX} read at most", content.len()));
    }
    let text = std::str::from_utf8(content).map_err(|_| ": not UTF-8".to_owned())?;
    let first = text.lines().next().unwrap_or_default();
    if first.starts_with("## template:") {
        return Err(":1: a template that cloud-init fills in at boot".into());
    }
    let values = match crate::yaml::read(text)? {
        Value::Null => Mapping::new(),
        Value::Mapping(values) => values,
        _ => return Err(": not a mapping of keys".into()),
    };
    for key in ["merge_how", "merge_type", "conf_d"] {
        if values.contains_key(key) {
            return Err(format!(": {key} gives it its own rules of merging"));
        }
    }
    Ok((text.to_owned(), values))
}
