//! The Debian mirror: taken from this machine's own apt configuration, in either of apt's formats.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{LabError, Result, at};

/// The release that this machine itself runs, whose mirror is asked for the others.
const OWN_RELEASE: &str = "bookworm";

/// The part of this machine's apt sources that serves Debian `release`, as deb822 text. When none
/// does, the mirror of this machine's own release is asked for the other one.
///
/// `COLDFIT_APT_SOURCES` names a file to use instead.
pub fn sources_of(release: &str) -> Result<String> {
    match stanzas_of(release)? {
        stanzas if !stanzas.is_empty() => Ok(stanzas.join("\n")),
        _ => {
            let own = stanzas_of(OWN_RELEASE)?;
            if own.is_empty() {
                return Err(LabError::Machine(format!(
                    "no apt source of this machine serves Debian {release} or {OWN_RELEASE}; \
                     name a file with one in COLDFIT_APT_SOURCES"
                )));
            }
            Ok(own.iter().map(|stanza| other_release(stanza, release)).collect::<Vec<_>>().join("\n"))
        }
    }
}

/// The main archive's `suite` alone, without updates of its own (`sid` has none), as deb822 text.
pub fn suite_of(suite: &str) -> Result<String> {
    let is_main = |stanza: &&String| {
        stanza.lines().any(|line| {
            line.strip_prefix("Suites:")
                .is_some_and(|suites| suites.split_whitespace().any(|one| one == OWN_RELEASE))
        })
    };
    let own = stanzas_of(OWN_RELEASE)?;
    let Some(stanza) = own.iter().find(is_main) else {
        return Err(LabError::Machine(format!("no apt source of this machine serves Debian {OWN_RELEASE}")));
    };
    let line = |line: &str| match line.strip_prefix("Suites:") {
        Some(_) => format!("Suites: {suite}\n"),
        None => format!("{line}\n"),
    };
    Ok(stanza.lines().map(line).collect())
}

/// The same archive's suites of another release.
fn other_release(stanza: &str, release: &str) -> String {
    let line = |line: &str| match line.strip_prefix("Suites:") {
        Some(suites) => format!("Suites:{}\n", suites.replace(OWN_RELEASE, release)),
        None => format!("{line}\n"),
    };
    stanza.lines().map(line).collect()
}

fn stanzas_of(release: &str) -> Result<Vec<String>> {
    let files = match std::env::var_os("COLDFIT_APT_SOURCES").filter(|value| !value.is_empty()) {
        Some(file) => vec![PathBuf::from(file)],
        None => source_files(Path::new("/etc/apt"))?,
    };
    let mut stanzas = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).map_err(at(&file))?;
        if file.extension().is_some_and(|extension| extension == "sources") {
            stanzas.extend(deb822_stanzas(&text, release));
        } else {
            stanzas.extend(one_line_stanzas(&text, release));
        }
    }
    Ok(stanzas)
}

fn source_files(apt: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let main = apt.join("sources.list");
    if main.exists() {
        files.push(main);
    }
    let parts = apt.join("sources.list.d");
    if parts.is_dir() {
        for entry in fs::read_dir(&parts).map_err(at(&parts))? {
            let path = entry.map_err(at(&parts))?.path();
            if path.extension().is_some_and(|extension| extension == "list" || extension == "sources") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// `bookworm`, `bookworm-updates` and `bookworm-security`; backports would mix newer packages in.
fn serves(suite: &str, release: &str) -> bool {
    suite.strip_prefix(release).is_some_and(|rest| matches!(rest, "" | "-updates" | "-security" | "/updates"))
}

fn deb822_stanzas(text: &str, release: &str) -> Vec<String> {
    let without_comments: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let mut stanzas = Vec::new();
    for stanza in without_comments.split(|line| line.trim().is_empty()) {
        let field = |name: &str| {
            stanza.iter().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim())
            })
        };
        let enabled = field("Enabled").is_none_or(|value| !matches!(value, "no" | "false" | "0"));
        let is_binary =
            field("Types").is_some_and(|types| types.split_whitespace().any(|kind| kind == "deb"));
        let suites: Vec<&str> = field("Suites")
            .map(|suites| suites.split_whitespace().filter(|suite| serves(suite, release)).collect())
            .unwrap_or_default();
        if !enabled || !is_binary || suites.is_empty() {
            continue;
        }
        let mut kept = String::new();
        for line in stanza {
            let key = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
            match key.as_str() {
                "suites" => kept.push_str(&format!("Suites: {}\n", suites.join(" "))),
                "types" => kept.push_str("Types: deb\n"),
                _ => kept.push_str(&format!("{line}\n")),
            }
        }
        stanzas.push(kept);
    }
    stanzas
}

fn one_line_stanzas(text: &str, release: &str) -> Vec<String> {
    text.lines().filter_map(|line| one_line_stanza(line, release)).collect()
}

fn one_line_stanza(line: &str, release: &str) -> Option<String> {
    let line = line.split('#').next()?.trim();
    let mut rest = line.strip_prefix("deb")?.strip_prefix([' ', '\t'])?.trim_start();
    let mut options = String::new();
    if let Some(bracketed) = rest.strip_prefix('[') {
        let (inside, after) = bracketed.split_once(']')?;
        for option in inside.split_whitespace() {
            let (key, value) = option.split_once('=')?;
            let key = match key {
                "signed-by" => "Signed-By",
                "arch" => "Architectures",
                "trusted" => "Trusted",
                "check-valid-until" => "Check-Valid-Until",
                _ => continue,
            };
            options.push_str(&format!("{key}: {}\n", value.replace(',', " ")));
        }
        rest = after.trim_start();
    }
    let mut words = rest.split_whitespace();
    let (uri, suite) = (words.next()?, words.next()?);
    let components: Vec<&str> = words.collect();
    if !serves(suite, release) || components.is_empty() {
        return None;
    }
    Some(format!("Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: {}\n{options}", components.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deb822_keeps_only_the_suites_of_the_release() {
        let text = "Types: deb deb-src\n# a comment\nURIs: http://mirror.test/debian\n\
                    Suites: bookworm bookworm-backports trixie\nComponents: main\nSigned-By: /k.gpg\n\n\
                    Types: deb\nURIs: http://other.test\nSuites: nodistro\nComponents: main\n\n\
                    Enabled: no\nTypes: deb\nURIs: http://off.test\nSuites: bookworm\nComponents: main\n";
        assert_eq!(
            deb822_stanzas(text, "bookworm"),
            [
                "Types: deb\nURIs: http://mirror.test/debian\nSuites: bookworm\nComponents: main\nSigned-By: /k.gpg\n"
            ]
        );
    }

    #[test]
    fn another_release_is_asked_of_the_same_mirror() {
        let stanza = "Types: deb\nURIs: http://mirror.test/debian-security\nSuites: bookworm-security\nComponents: main\n";
        assert_eq!(
            other_release(stanza, "trixie"),
            "Types: deb\nURIs: http://mirror.test/debian-security\nSuites: trixie-security\nComponents: main\n"
        );
    }

    #[test]
    fn one_line_sources_become_deb822() {
        let text = "deb-src http://mirror.test/debian bookworm main\n\
                    deb [signed-by=/k.gpg arch=amd64,arm64] http://mirror.test/security bookworm-security main contrib # x\n\
                    deb http://mirror.test/debian bookworm-backports main\n";
        assert_eq!(
            one_line_stanzas(text, "bookworm"),
            [
                "Types: deb\nURIs: http://mirror.test/security\nSuites: bookworm-security\nComponents: main contrib\n\
              Signed-By: /k.gpg\nArchitectures: amd64 arm64\n"
            ]
        );
    }
}
