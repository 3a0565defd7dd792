//! The profile format.

use serde::{Deserialize, Serialize};
use toml::Spanned;

use crate::ProfileError;

/// Version of the profile format that this program reads.
const SCHEMA: u32 = 1;

/// Embedded profiles: name and text.
const BUILTIN: &[(&str, &str)] = &[("kvm", include_str!("../profiles/kvm.toml"))];

/// How much a rule binds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The image is not accepted, or does not work, without it.
    Must,
    /// The source recommends it.
    Recommended,
    /// The source mentions it.
    Optional,
}

/// What a rule demands, with its values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum RuleKind {
    /// Every initramfs loads these modules and finds its root disk on these buses.
    InitramfsDrivers {
        /// Kernel module names.
        modules: Vec<String>,
        /// Buses by name: `virtio-blk`, `virtio-scsi`, `nvme`, …
        buses: Vec<String>,
    },
    /// The guest's next initramfs rebuild includes these modules.
    InitramfsPersistence {
        /// Kernel module names.
        modules: Vec<String>,
    },
    /// `root=` is a filesystem UUID.
    RootByUuid,
    /// fstab holds no kernel device name that depends on the bus.
    FstabByUuid,
    /// `console=` arguments, in this order; the last one becomes `/dev/console`.
    Console {
        /// Values of the `console=` arguments.
        devices: Vec<String>,
    },
}

/// One rule of a profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleSpec {
    /// Stable dotted id.
    pub id: String,
    /// How much it binds.
    pub severity: Severity,
    /// One sentence.
    pub summary: String,
    /// Where the demand stands.
    pub source: String,
    /// Date at which the source was read, `YYYY-MM-DD`.
    pub date: String,
    /// What is demanded.
    #[serde(flatten)]
    pub kind: RuleKind,
}

/// A profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Profile {
    /// Short name.
    pub id: String,
    /// One line for people.
    pub title: String,
    /// Rules in the order in which they are checked.
    pub rules: Vec<RuleSpec>,
    /// The text that it was read from.
    #[serde(skip)]
    pub text: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawProfile {
    schema: Spanned<u32>,
    id: String,
    title: String,
    rule: Vec<Spanned<toml::Table>>,
}

#[derive(Deserialize)]
struct RawRule {
    id: String,
    severity: Severity,
    summary: String,
    source: String,
    date: String,
}

/// Fields that every rule has; whatever else stands in a rule belongs to its kind.
const COMMON_FIELDS: [&str; 5] = ["id", "severity", "summary", "source", "date"];

impl Profile {
    /// Reads a profile; `origin` names the text in errors.
    pub fn parse(text: &str, origin: &str) -> Result<Self, ProfileError> {
        let invalid = |offset: usize, detail: String| ProfileError::Invalid {
            origin: origin.to_owned(),
            line: text.get(..offset).map_or(1, |before| before.matches('\n').count() + 1),
            detail,
        };
        let raw: RawProfile = toml::from_str(text).map_err(|error| {
            invalid(error.span().map_or(0, |span| span.start), error.message().to_owned())
        })?;
        if *raw.schema.get_ref() != SCHEMA {
            let detail = format!("schema {} is not known, this program reads {SCHEMA}", raw.schema.get_ref());
            return Err(invalid(raw.schema.span().start, detail));
        }
        let mut rules: Vec<RuleSpec> = Vec::new();
        for table in raw.rule {
            let at = table.span().start;
            let rule = Self::rule(table.into_inner()).map_err(|detail| invalid(at, detail))?;
            if rules.iter().any(|earlier| earlier.id == rule.id) {
                return Err(invalid(at, format!("rule {} stands twice", rule.id)));
            }
            rules.push(rule);
        }
        Ok(Self { id: raw.id, title: raw.title, rules, text: text.to_owned() })
    }

    fn rule(table: toml::Table) -> Result<RuleSpec, String> {
        let (common, own): (toml::Table, toml::Table) =
            table.into_iter().partition(|(key, _)| COMMON_FIELDS.contains(&key.as_str()));
        let say = |error: toml::de::Error| error.message().to_owned();
        let raw: RawRule = common.try_into().map_err(say)?;
        let given: Vec<String> = own.keys().cloned().collect();
        let kind: RuleKind = own.try_into().map_err(say)?;
        // A misspelt field must not pass in silence: what the kind holds is what may be given.
        let known = toml::Table::try_from(&kind).map_err(|error| error.to_string())?;
        if let Some(stray) = given.iter().find(|key| !known.contains_key(key.as_str())) {
            return Err(format!("rule {} has no field {stray:?}", raw.id));
        }
        if !is_date(&raw.date) {
            return Err(format!("rule {}: date {:?} is not of the form YYYY-MM-DD", raw.id, raw.date));
        }
        Ok(RuleSpec {
            id: raw.id,
            severity: raw.severity,
            summary: raw.summary,
            source: raw.source,
            date: raw.date,
            kind,
        })
    }
}

fn is_date(text: &str) -> bool {
    text.len() == 10
        && text.bytes().enumerate().all(|(index, byte)| match index {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        })
}

/// Names of the embedded profiles.
pub fn builtin_names() -> impl Iterator<Item = &'static str> {
    BUILTIN.iter().map(|(name, _)| *name)
}

/// The embedded profile of this name.
pub fn builtin(name: &str) -> Result<Profile, ProfileError> {
    match BUILTIN.iter().find(|(known, _)| *known == name) {
        Some((_, text)) => Profile::parse(text, &format!("built in: {name}")),
        None => Err(ProfileError::Unknown {
            name: name.to_owned(),
            known: builtin_names().collect::<Vec<_>>().join(", "),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_embedded_profile_is_valid_and_bears_its_name() {
        for name in builtin_names() {
            let profile = builtin(name).unwrap();
            assert_eq!(profile.id, name);
            assert!(!profile.rules.is_empty());
        }
        assert!(matches!(builtin("nowhere"), Err(ProfileError::Unknown { .. })));
    }

    fn line_of(text: &str) -> (usize, String) {
        match Profile::parse(text, "x.toml") {
            Err(ProfileError::Invalid { line, detail, .. }) => (line, detail),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn errors_name_their_line() {
        let good = builtin("kvm").unwrap().text;
        let line = |needle: &str| good.lines().position(|line| line.contains(needle)).unwrap() + 1;
        let (at, detail) = line_of(&good.replace("devices = [", "device = ["));
        assert!(at <= line("devices") && at > line("[[rule]]"), "{at} {detail}");
        assert!(detail.contains("devices"), "{detail}");
        let (at, _) = line_of(&good.replace("schema = 1", "schema = 9"));
        assert_eq!(at, line("schema"));
        let (at, _) = line_of(&good.replace("id = \"kvm\"", "id = kvm"));
        assert_eq!(at, line("id = \"kvm\""));
        let (_, detail) =
            line_of(&good.replace("kind = \"root-by-uuid\"", "kind = \"root-by-uuid\"\ncolour = 1"));
        assert!(detail.contains("colour"), "{detail}");
        let (_, detail) = line_of(&good.replace("\"fstab.by-uuid\"", "\"boot.console\""));
        assert!(detail.contains("twice"), "{detail}");
        let (_, detail) = line_of(&good.replace("date = \"2026-11-24\"", "date = \"yesterday\""));
        assert!(detail.contains("date"), "{detail}");
    }
}
