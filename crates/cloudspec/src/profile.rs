//! Profiles, read and resolved.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::raw::{COMMON_FIELDS, Layer, RawRule};
use crate::{ImportSpec, ProfileError, RuleKind, Switch};

/// Embedded profiles: name and text.
const BUILTIN: &[(&str, &str)] = &[
    ("alibaba", include_str!("../profiles/alibaba.toml")),
    ("alibaba-compat", include_str!("../profiles/alibaba-compat.toml")),
    ("kvm", include_str!("../profiles/kvm.toml")),
    ("openstack", include_str!("../profiles/openstack.toml")),
];

/// Profiles that extend each other at most so deep.
const LAYERS_MAX: usize = 8;

/// How much a rule binds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The source mentions it.
    Optional,
    /// The source recommends it.
    Recommended,
    /// The image is not accepted, or does not work, without it.
    Must,
}

/// Where a rule on boot configuration looks and edits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Places {
    /// What boot loaders load, and what it is made from.
    Loaded,
    /// Only what it is made from: what is loaded changes when the guest makes it anew.
    Sources,
}

/// One rule of a profile, with the values that the switches give it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
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
    /// Row of the specification's table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row: Option<String>,
    /// Items of the cloud's own image check that look at the same.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub check_items: Vec<String>,
    /// Distribution families that it is for; all when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub families: Vec<String>,
    /// Architectures (`uname -m`) that it is for; all when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub architectures: Vec<String>,
    /// Switch values under which it counts.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub when: BTreeMap<String, Vec<String>>,
    /// Why it does not count, when a switch says so: the rule that wins, or the switch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waived: Option<String>,
    /// What to do where no fix can help.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Where a rule on boot configuration edits; both what is loaded and its sources when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub places: Option<Places>,
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
    /// Choices, with the values in force.
    pub switches: Vec<Switch>,
    /// The cloud's import call, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub import: Option<ImportSpec>,
    /// Rules in the order in which they are checked.
    pub rules: Vec<RuleSpec>,
    /// The text that it was read from.
    #[serde(skip)]
    pub text: String,
    /// Names the text in errors.
    #[serde(skip)]
    origin: String,
}

impl Profile {
    /// Reads a profile; `origin` names the text in errors. Switches have their defaults.
    pub fn parse(text: &str, origin: &str) -> Result<Self, ProfileError> {
        Self::resolve(text, origin, &[])
    }

    /// The same profile with other switch values.
    pub fn with(&self, settings: &[(String, String)]) -> Result<Self, ProfileError> {
        Self::resolve(&self.text, &self.origin, settings)
    }

    fn resolve(text: &str, origin: &str, settings: &[(String, String)]) -> Result<Self, ProfileError> {
        let layers = layers(text, origin)?;
        let switches = switches(&layers, settings)?;
        let names = Names::new(&layers, &switches);
        let mut rules: Vec<RuleSpec> = Vec::new();
        for layer in &layers {
            let mut own = BTreeSet::new();
            for table in &layer.raw.rule {
                let at = table.span().start;
                let rule = rule(layer, at, table.get_ref().clone(), &names)?;
                if !own.insert(rule.id.clone()) {
                    return Err(layer.invalid(at, format!("rule {} stands twice", rule.id)));
                }
                match rules.iter_mut().find(|earlier| earlier.id == rule.id) {
                    Some(earlier) => *earlier = rule,
                    None => rules.push(rule),
                }
            }
        }
        let (Some(own), import) =
            (layers.last(), layers.iter().rev().find_map(|layer| layer.raw.import.clone()))
        else {
            return Err(ProfileError::Invalid { origin: origin.into(), line: 1, detail: "empty".into() });
        };
        Ok(Self {
            id: own.raw.id.clone(),
            title: own.raw.title.clone(),
            switches,
            import,
            rules,
            text: text.to_owned(),
            origin: origin.to_owned(),
        })
    }

    /// The value in force of a switch.
    pub fn switch(&self, name: &str) -> Option<&str> {
        self.switches.iter().find(|switch| switch.name == name).map(|switch| switch.value.as_str())
    }
}

/// The profile's own text last, before it the one that it extends, and so on.
fn layers(text: &str, origin: &str) -> Result<Vec<Layer>, ProfileError> {
    let mut layers = vec![Layer::parse(text, origin)?];
    while let Some(base) =
        layers.last().and_then(|layer| layer.raw.extends.as_ref().map(|base| (layer, base)))
    {
        let (layer, base) = base;
        let name = base.get_ref();
        let Some((_, text)) = BUILTIN.iter().find(|(known, _)| known == name) else {
            return Err(layer.invalid(base.span().start, format!("no built-in profile is named {name:?}")));
        };
        if layers.len() == LAYERS_MAX {
            return Err(layer.invalid(base.span().start, "profiles extend each other in a circle".into()));
        }
        layers.push(Layer::parse(text, &format!("built in: {name}"))?);
    }
    layers.reverse();
    Ok(layers)
}

/// All switches with the values in force.
fn switches(layers: &[Layer], settings: &[(String, String)]) -> Result<Vec<Switch>, ProfileError> {
    let mut switches: Vec<Switch> = Vec::new();
    let unknown = |switch: &Switch, value: &str| {
        (!switch.values.iter().any(|known| known == value))
            .then(|| format!("{} is one of {}, not {value:?}", switch.name, switch.values.join(", ")))
    };
    for layer in layers {
        for spanned in &layer.raw.switch {
            let at = spanned.span().start;
            let switch = spanned.get_ref().clone();
            if let Some(detail) = unknown(&switch, &switch.default) {
                return Err(layer.invalid(layer.offset_of(at, "default"), detail));
            }
            if let Some(detail) = switch.because.keys().find_map(|value| unknown(&switch, value)) {
                return Err(layer.invalid(layer.offset_of(at, "because"), detail));
            }
            match switches.iter_mut().find(|earlier| earlier.name == switch.name) {
                Some(earlier) => *earlier = switch,
                None => switches.push(switch),
            }
        }
        for (name, value) in &layer.raw.defaults {
            let at = name.span().start;
            let Some(switch) = switches.iter_mut().find(|switch| switch.name == *name.get_ref()) else {
                return Err(layer.invalid(at, format!("no switch is named {:?}", name.get_ref())));
            };
            if let Some(detail) = unknown(switch, value) {
                return Err(layer.invalid(at, detail));
            }
            switch.default.clone_from(value);
        }
    }
    for switch in &mut switches {
        switch.value.clone_from(&switch.default);
    }
    let id = || layers.last().map(|layer| layer.raw.id.clone()).unwrap_or_default();
    for (name, value) in settings {
        let known = || switches.iter().map(|switch| switch.name.as_str()).collect::<Vec<_>>().join(", ");
        let Some(index) = switches.iter().position(|switch| switch.name == *name) else {
            return Err(ProfileError::UnknownSwitch { profile: id(), name: name.clone(), known: known() });
        };
        if unknown(&switches[index], value).is_some() {
            let known = switches[index].values.join(", ");
            return Err(ProfileError::UnknownValue { name: name.clone(), value: value.clone(), known });
        }
        switches[index].value.clone_from(value);
    }
    Ok(switches)
}

fn rule(layer: &Layer, at: usize, table: toml::Table, names: &Names<'_>) -> Result<RuleSpec, ProfileError> {
    let switches = names.switches;
    let fail = |detail: String| layer.invalid(at, detail);
    let fail_at = |key: &str, detail: String| layer.invalid(layer.offset_of(at, key), detail);
    let say = |error: toml::de::Error| fail(error.message().to_owned());
    let (mut common, mut own): (toml::Table, toml::Table) =
        table.into_iter().partition(|(key, _)| COMMON_FIELDS.contains(&key.as_str()));
    if let Some(places) = common.get_mut("places") {
        names.substitute(places).map_err(|detail| fail_at("places", detail))?;
    }
    let raw: RawRule = common.try_into().map_err(say)?;
    for (key, value) in &mut own {
        names.substitute(value).map_err(|detail| fail_at(key, format!("rule {}: {detail}", raw.id)))?;
    }
    let given: Vec<String> = own.keys().cloned().collect();
    let kind: RuleKind = own.try_into().map_err(say)?;
    // A misspelt field must not pass in silence: what the kind holds is what may be given.
    let known = toml::Table::try_from(&kind).map_err(|error| fail(error.to_string()))?;
    let is_default = |key: &str| {
        matches!(key, "remove" | "truncate" | "empty" | "remade-by" | "older-settings" | "forbidden-together")
    };
    if let Some(stray) = given.iter().find(|key| !known.contains_key(key.as_str()) && !is_default(key)) {
        return Err(fail_at(stray, format!("rule {} has no field {stray:?}", raw.id)));
    }
    if !is_date(&raw.date) {
        return Err(fail_at(
            "date",
            format!("rule {}: date {:?} is not of the form YYYY-MM-DD", raw.id, raw.date),
        ));
    }
    let mut waived = None;
    for (name, values) in &raw.when {
        let Some(switch) = switches.iter().find(|switch| switch.name == *name) else {
            return Err(fail_at("when", format!("rule {}: no switch is named {name:?}", raw.id)));
        };
        if let Some(stray) = values.iter().find(|value| !switch.values.contains(value)) {
            return Err(fail_at("when", format!("rule {}: {name} has no value {stray:?}", raw.id)));
        }
        if !values.contains(&switch.value) {
            waived.get_or_insert_with(|| switch.reason());
        }
    }
    let mut severity = raw.severity;
    for (condition, other) in &raw.severity_when {
        let found = condition
            .split_once('=')
            .and_then(|(name, value)| Some((switches.iter().find(|switch| switch.name == name)?, value)));
        let Some((switch, value)) = found.filter(|(switch, value)| switch.values.iter().any(|v| v == value))
        else {
            return Err(fail_at(
                "severity-when",
                format!("rule {}: {condition:?} is no SWITCH=VALUE", raw.id),
            ));
        };
        if switch.value == value {
            severity = *other;
        }
    }
    Ok(RuleSpec {
        id: raw.id,
        severity,
        summary: raw.summary,
        source: raw.source,
        date: raw.date,
        row: raw.row,
        check_items: raw.check_items,
        families: raw.families,
        architectures: raw.architectures,
        when: raw.when,
        waived,
        remedy: raw.remedy,
        places: raw.places,
        kind,
    })
}

/// What `${…}` stands for in a rule.
struct Names<'a> {
    switches: &'a [Switch],
    values: BTreeMap<&'a str, &'a str>,
}

impl<'a> Names<'a> {
    fn new(layers: &'a [Layer], switches: &'a [Switch]) -> Self {
        let values = layers.iter().flat_map(|layer| &layer.raw.values);
        Self { switches, values: values.map(|(name, value)| (name.as_str(), value.as_str())).collect() }
    }

    /// Replaces `${NAME}` by a value of the profile or the value of a switch, and `${SWITCH:a=x,b=y}` by what stands
    /// behind the switch's value.
    fn substitute(&self, value: &mut toml::Value) -> Result<(), String> {
        match value {
            toml::Value::String(text) => {
                let mut out = String::with_capacity(text.len());
                let mut rest = text.as_str();
                while let Some((before, tail)) = rest.split_once("${") {
                    let (inside, after) = tail.split_once('}').ok_or("${ without }")?;
                    out.push_str(before);
                    out.push_str(self.resolve(inside)?);
                    rest = after;
                }
                out.push_str(rest);
                *text = out;
                Ok(())
            }
            toml::Value::Array(values) => values.iter_mut().try_for_each(|value| self.substitute(value)),
            toml::Value::Table(table) => table.iter_mut().try_for_each(|(_, value)| self.substitute(value)),
            _ => Ok(()),
        }
    }

    fn resolve<'s>(&'s self, inside: &'s str) -> Result<&'s str, String> {
        let (name, cases) = inside.split_once(':').unwrap_or((inside, ""));
        let Some(switch) = self.switches.iter().find(|switch| switch.name == name) else {
            let value = self.values.get(name).filter(|_| cases.is_empty());
            return value.copied().ok_or_else(|| format!("no switch or value is named {name:?}"));
        };
        if cases.is_empty() {
            return Ok(&switch.value);
        }
        let case = |value: &str| {
            cases.split(',').filter_map(|case| case.split_once('=')).find(|(known, _)| *known == value)
        };
        if let Some(missing) = switch.values.iter().find(|value| case(value).is_none()) {
            return Err(format!("${{{inside}}} says nothing for {name}={missing}"));
        }
        case(&switch.value).map(|(_, text)| text).ok_or_else(|| format!("{name} has no value"))
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

    #[test]
    fn switches_waive_rules_and_say_why() {
        let profile = builtin("alibaba").unwrap();
        let waived = |profile: &Profile, id: &str| {
            profile.rules.iter().find(|rule| rule.id == id).unwrap().waived.clone()
        };
        assert_eq!(waived(&profile, "ssh.password-root").as_deref(), Some("ssh.key-only"));
        assert_eq!(waived(&profile, "ssh.key-only"), None);
        let set = |name: &str, value: &str| [(name.to_owned(), value.to_owned())];
        let other = profile.with(&set("ssh-login", "password-root")).unwrap();
        assert_eq!(waived(&other, "ssh.password-root"), None);
        assert_eq!(waived(&other, "ssh.key-only").as_deref(), Some("ssh.password-root"));
        let keep = profile.with(&set("firewall", "keep")).unwrap();
        assert_eq!(waived(&keep, "services.firewalld").as_deref(), Some("firewall=keep"));
        let strict = profile.with(&set("strict-fs", "on")).unwrap();
        let severity = |profile: &Profile| {
            profile.rules.iter().find(|rule| rule.id == "disk.ext4-64bit").unwrap().severity
        };
        assert_eq!((severity(&profile), severity(&strict)), (Severity::Recommended, Severity::Must));
        assert!(matches!(profile.with(&set("colour", "red")), Err(ProfileError::UnknownSwitch { .. })));
        assert!(matches!(profile.with(&set("root", "red")), Err(ProfileError::UnknownValue { .. })));
    }

    /// `alibaba-compat` is `alibaba` with three contradictions decided otherwise.
    #[test]
    fn compat_differs_in_the_login_of_root_alone() {
        let (plain, compat) = (builtin("alibaba").unwrap(), builtin("alibaba-compat").unwrap());
        let differ: Vec<&str> = plain
            .rules
            .iter()
            .zip(&compat.rules)
            .filter(|(a, b)| a != b)
            .map(|(a, _)| a.id.as_str())
            .collect();
        assert_eq!(
            differ,
            [
                "cloud-init.datasource",
                "ssh.password-root",
                "ssh.key-only",
                "ssh.permit-root-explicit",
                "accounts.root-lock"
            ]
        );
        assert_eq!(compat.id, "alibaba-compat");
        assert_eq!(plain.switches.len(), compat.switches.len());
    }

    #[test]
    fn every_switch_value_gives_a_valid_profile() {
        for name in builtin_names() {
            let profile = builtin(name).unwrap();
            for switch in &profile.switches {
                for value in &switch.values {
                    let set = [(switch.name.clone(), value.clone())];
                    let other = profile.with(&set).unwrap_or_else(|error| panic!("{value}: {error}"));
                    assert_eq!(other.switch(&switch.name), Some(value.as_str()));
                    let text = format!("{:?}", other.rules);
                    assert!(!text.contains("${"), "{name} {}={value}", switch.name);
                    for rule in &other.rules {
                        let Some(reason) = rule.waived.as_deref() else { continue };
                        let known = other.rules.iter().any(|rule| rule.id == reason) || reason.contains('=');
                        assert!(known, "{name}: {} waived because {reason}", rule.id);
                    }
                }
            }
        }
    }

    #[test]
    fn a_file_extends_and_overrides_an_embedded_profile() {
        let text = r#"
schema = 1
id = "mine"
title = "Mine"
extends = "alibaba"
[defaults]
firewall = "keep"
[[rule]]
id = "boot.console-x86"
kind = "console"
severity = "must"
summary = "Ours."
source = "the house"
date = "2026-01-01"
devices = ["ttyS1"]
"#;
        let mine = Profile::parse(text, "mine.toml").unwrap();
        assert_eq!(mine.rules.len(), builtin("alibaba").unwrap().rules.len());
        assert_eq!(mine.switch("firewall"), Some("keep"));
        let console = mine.rules.iter().find(|rule| rule.id == "boot.console-x86").unwrap();
        assert!(matches!(&console.kind, RuleKind::Console { devices } if devices == &["ttyS1"]));
        let (at, detail) = line_of(&text.replace("firewall = \"keep\"", "firewall = \"up\""));
        assert_eq!(at, 7, "{detail}");
        let (at, _) = line_of(&text.replace("extends = \"alibaba\"", "extends = \"nowhere\""));
        assert_eq!(at, 5);
        let (at, detail) = line_of(&text.replace("\"ttyS1\"", "\"${colour}\""));
        assert!(at == 15 && detail.contains("colour"), "{at} {detail}");
    }
}
