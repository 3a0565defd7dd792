//! The text of a profile as TOML gives it, with the places of what may be wrong.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use crate::{ImportSpec, Places, ProfileError, Severity, Switch};

/// Version of the profile format that this program reads.
const SCHEMA: u32 = 1;

/// One file of a profile: its own, or that of a profile which it extends.
pub(crate) struct Layer {
    /// File name, or `built in: NAME`.
    pub origin: String,
    /// The whole text.
    pub text: String,
    /// What stands in it.
    pub raw: RawProfile,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawProfile {
    schema: Spanned<u32>,
    pub id: String,
    pub title: String,
    pub extends: Option<Spanned<String>>,
    #[serde(default)]
    pub values: BTreeMap<String, String>,
    #[serde(default)]
    pub defaults: BTreeMap<Spanned<String>, String>,
    #[serde(default)]
    pub switch: Vec<Spanned<Switch>>,
    pub import: Option<ImportSpec>,
    #[serde(default)]
    pub rule: Vec<Spanned<toml::Table>>,
}

/// Fields that every rule may have; whatever else stands in a rule belongs to its kind.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct RawRule {
    pub id: String,
    pub severity: Severity,
    #[serde(default)]
    pub severity_when: BTreeMap<String, Severity>,
    pub summary: String,
    pub source: String,
    pub date: String,
    pub row: Option<String>,
    #[serde(default)]
    pub check_items: Vec<String>,
    #[serde(default)]
    pub families: Vec<String>,
    #[serde(default)]
    pub architectures: Vec<String>,
    #[serde(default)]
    pub when: BTreeMap<String, Vec<String>>,
    pub remedy: Option<String>,
    pub places: Option<Places>,
}

pub(crate) const COMMON_FIELDS: [&str; 13] = [
    "id",
    "severity",
    "severity-when",
    "summary",
    "source",
    "date",
    "row",
    "check-items",
    "families",
    "architectures",
    "when",
    "remedy",
    "places",
];

impl Layer {
    pub fn parse(text: &str, origin: &str) -> Result<Self, ProfileError> {
        let invalid = |offset, detail| invalid(text, origin, offset, detail);
        let raw: RawProfile = toml::from_str(text).map_err(|error| {
            invalid(error.span().map_or(0, |span| span.start), error.message().to_owned())
        })?;
        if *raw.schema.get_ref() != SCHEMA {
            let detail = format!("schema {} is not known, this program reads {SCHEMA}", raw.schema.get_ref());
            return Err(invalid(raw.schema.span().start, detail));
        }
        Ok(Self { origin: origin.to_owned(), text: text.to_owned(), raw })
    }

    /// An error at a byte of this layer's text.
    pub fn invalid(&self, offset: usize, detail: String) -> ProfileError {
        invalid(&self.text, &self.origin, offset, detail)
    }

    /// Where `key` is set in the table that begins at `start`; `start` itself when it is not.
    pub fn offset_of(&self, start: usize, key: &str) -> usize {
        let mut offset = start;
        for (index, line) in self.text.get(start..).unwrap_or_default().split_inclusive('\n').enumerate() {
            if index > 0 && line.starts_with("[[") {
                break;
            }
            let is_key = line
                .trim_start()
                .strip_prefix(key)
                .is_some_and(|rest| rest.trim_start().starts_with(['=', '.']));
            if is_key {
                return offset;
            }
            offset += line.len();
        }
        start
    }
}

fn invalid(text: &str, origin: &str, offset: usize, detail: String) -> ProfileError {
    let line = text.get(..offset).map_or(1, |before| before.matches('\n').count() + 1);
    ProfileError::Invalid { origin: origin.to_owned(), line, detail }
}
