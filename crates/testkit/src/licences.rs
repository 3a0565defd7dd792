//! Are the licences of all dependencies among those that `deny.toml` allows?
//!
//! `cargo deny` answers the same and more, but takes longer to build than all of coldfit; this
//! reads the same allow list, so that both give one answer.

use std::collections::BTreeSet;

use crate::error::{LabError, Result};

/// One line for each package whose licence expression the allow list does not satisfy.
pub fn violations(deny_toml: &str, cargo_metadata: &str) -> Result<Vec<String>> {
    let allowed = allow_list(deny_toml)?;
    let metadata: serde_json::Value = serde_json::from_str(cargo_metadata)
        .map_err(|error| LabError::Machine(format!("cargo metadata: {error}")))?;
    let packages = metadata["packages"].as_array().cloned().unwrap_or_default();
    if packages.is_empty() {
        return Err(LabError::Machine("cargo metadata names no package".into()));
    }
    let mut found = Vec::new();
    for package in packages {
        let name = format!(
            "{} {}",
            package["name"].as_str().unwrap_or("?"),
            package["version"].as_str().unwrap_or("?")
        );
        match package["license"].as_str() {
            Some(expression) if is_allowed(expression, &allowed) => {}
            Some(expression) => found.push(format!("{name}: {expression}")),
            None => found.push(format!("{name}: no licence")),
        }
    }
    Ok(found)
}

fn allow_list(deny_toml: &str) -> Result<BTreeSet<String>> {
    let config: toml::Table =
        deny_toml.parse().map_err(|error| LabError::Machine(format!("deny.toml: {error}")))?;
    let list =
        config.get("licenses").and_then(|licences| licences.get("allow")).and_then(|allow| allow.as_array());
    let names = list.ok_or_else(|| LabError::Machine("deny.toml: no licenses.allow".into()))?;
    Ok(names.iter().filter_map(|name| name.as_str()).map(str::to_owned).collect())
}

/// SPDX: `OR` binds weaker than `AND`; `/` is the old way to write `OR`.
fn is_allowed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser { words: &words, position: 0, allowed };
    let holds = parser.any_of();
    holds && parser.position == words.len()
}

struct Parser<'a> {
    words: &'a [&'a str],
    position: usize,
    allowed: &'a BTreeSet<String>,
}

impl Parser<'_> {
    fn next_is(&mut self, word: &str) -> bool {
        let is_next = self.words.get(self.position) == Some(&word);
        self.position += usize::from(is_next);
        is_next
    }

    fn any_of(&mut self) -> bool {
        let mut holds = self.all_of();
        while self.next_is("OR") {
            holds |= self.all_of();
        }
        holds
    }

    fn all_of(&mut self) -> bool {
        let mut holds = self.one();
        while self.next_is("AND") {
            holds &= self.one();
        }
        holds
    }

    fn one(&mut self) -> bool {
        if self.next_is("(") {
            let holds = self.any_of();
            return self.next_is(")") && holds;
        }
        let Some(licence) = self.words.get(self.position) else { return false };
        self.position += 1;
        let mut name = (*licence).to_owned();
        if self.next_is("WITH") {
            name = format!("{name} WITH {}", self.words.get(self.position).unwrap_or(&""));
            self.position += 1;
        }
        self.allowed.contains(&name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_follow_spdx() {
        let allowed: BTreeSet<String> =
            ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned).into();
        for good in [
            "MIT",
            "MIT/Apache-2.0",
            "GPL-3.0 OR MIT",
            "(MIT OR GPL-2.0) AND Apache-2.0",
            "Apache-2.0 WITH LLVM-exception",
            "GPL-2.0 AND ISC OR MIT",
        ] {
            assert!(is_allowed(good, &allowed), "{good}");
        }
        for bad in
            ["GPL-3.0", "MIT AND GPL-2.0", "", "MIT MIT", "(MIT", "MIT WITH x", "GPL-2.0 AND (MIT OR ISC)"]
        {
            assert!(!is_allowed(bad, &allowed), "{bad}");
        }
    }

    #[test]
    fn packages_outside_the_list_are_named() {
        let deny = "[licenses]\nallow = [\"MIT\"]\n";
        let metadata = r#"{"packages":[{"name":"a","version":"1.0.0","license":"MIT"},
            {"name":"b","version":"2.0.0","license":"GPL-3.0"},{"name":"c","version":"0.1.0","license":null}]}"#;
        assert_eq!(violations(deny, metadata).unwrap(), ["b 2.0.0: GPL-3.0", "c 0.1.0: no licence"]);
    }
}
