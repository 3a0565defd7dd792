//! `/etc/network/interfaces` and what it takes in. interfaces(5) of ifupdown; ifupdown2 reads the same.

use std::collections::BTreeMap;

use vfs::VfsError;

use super::{Outcome, Wanted, is_match, names, text};
use crate::Files;

/// The file that is read first.
pub const MAIN: &str = "/etc/network/interfaces";
/// Files taken in at most, one by the other.
const FILES_MAX: usize = 256;
/// Lines of one file at most.
const LINES_MAX: usize = 20_000;
/// Options whose values name the cards that something else is made of.
const PORTS: [&str; 9] = [
    "bridge_ports",
    "bridge-ports",
    "bond-slaves",
    "bond_slaves",
    "slaves",
    "vlan-raw-device",
    "vlan_raw_device",
    "bond-primary",
    "ovs_bonds",
];

/// A part of the file: its physical lines, and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stanza {
    /// First line and the one behind the last, from 0. Blank lines and comments between stanzas are in none.
    pub lines: std::ops::Range<usize>,
    /// What it says.
    pub kind: Kind,
}

/// Kinds of stanzas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// `auto`, `allow-hotplug` and other `allow-` lines: the keyword and the names.
    Start(String, Vec<String>),
    /// `iface NAME FAMILY METHOD` with its options.
    Interface {
        /// Name.
        name: String,
        /// `inet`, `inet6`, …; empty where it is left away.
        family: String,
        /// `dhcp`, `static`, …; empty where it is left away.
        method: String,
        /// Options and values.
        options: Vec<(String, String)>,
    },
    /// `source` or `source-directory`, with the pattern.
    Source {
        /// True for a directory.
        is_directory: bool,
        /// What is taken in.
        pattern: String,
    },
    /// Anything else that is known.
    Other,
}

/// Stanzas of a text; the number of the first line that belongs to none.
pub fn parse(text: &str) -> Result<Vec<Stanza>, usize> {
    let mut stanzas: Vec<Stanza> = Vec::new();
    let mut takes_options = false;
    let lines: Vec<&str> = text.lines().collect();
    if lines.len() > LINES_MAX {
        return Err(LINES_MAX);
    }
    let mut number = 0;
    while number < lines.len() {
        let start = number;
        let mut whole = lines[number].to_owned();
        // A comment is not continued.
        while whole.ends_with('\\') && !whole.trim_start().starts_with('#') && number + 1 < lines.len() {
            whole.pop();
            number += 1;
            whole.push_str(lines[number]);
        }
        number += 1;
        // Continued by nothing, which is something else as soon as a line is written behind it.
        if whole.ends_with('\\') && !whole.trim_start().starts_with('#') {
            return Err(start + 1);
        }
        let mut words = whole.split_whitespace();
        let Some(keyword) = words.next().filter(|word| !word.starts_with('#')) else { continue };
        let kind = match keyword {
            "auto" => Kind::Start(keyword.into(), words.map(str::to_owned).collect()),
            _ if keyword.starts_with("allow-") => {
                Kind::Start(keyword.into(), words.map(str::to_owned).collect())
            }
            "iface" => {
                let mut next = || words.next().unwrap_or_default().to_owned();
                let (name, family, method) = (next(), next(), next());
                if name.is_empty() {
                    return Err(start + 1);
                }
                Kind::Interface { name, family, method, options: Vec::new() }
            }
            "source" | "source-directory" => match words.next() {
                Some(pattern) => {
                    Kind::Source { is_directory: keyword != "source", pattern: pattern.to_owned() }
                }
                None => return Err(start + 1),
            },
            "mapping" | "template" | "rename" | "no-auto-down" | "no-scripts" | "vlan" => Kind::Other,
            _ if takes_options => {
                let value = words.collect::<Vec<_>>().join(" ");
                if let Some(last) = stanzas.last_mut() {
                    last.lines.end = number;
                    if let Kind::Interface { options, .. } = &mut last.kind {
                        options.push((keyword.to_owned(), value));
                    }
                }
                continue;
            }
            _ => return Err(start + 1),
        };
        takes_options =
            matches!(kind, Kind::Interface { .. }) || matches!(keyword, "mapping" | "template" | "vlan");
        stanzas.push(Stanza { lines: start..number, kind });
    }
    Ok(stanzas)
}

struct File {
    path: String,
    text: String,
    stanzas: Vec<Stanza>,
    /// Made anew by cloud-init at boot: what it has does not count.
    is_generated: bool,
}

/// Plans that the card is started at boot and asks by DHCP, and that no other stanza is there for it.
pub fn plan(files: &dyn Files, wanted: &Wanted<'_>) -> Result<Outcome, VfsError> {
    let mut outcome = Outcome::default();
    let all = read_all(files, &mut outcome)?;
    let is_card = |name: &str| wanted.is_card(name.split(':').next().unwrap_or(name));
    let (mut is_asking, mut is_started) = (false, false);
    let mut edits: BTreeMap<usize, Edits> = BTreeMap::new();
    for (number, file) in all.iter().enumerate() {
        for stanza in &file.stanzas {
            match &stanza.kind {
                Kind::Start(keyword, started) => {
                    let gone: Vec<&String> =
                        started.iter().filter(|name| is_card(name) && *name != wanted.interface).collect();
                    let has_own = started.iter().any(|name| name == wanted.interface);
                    is_started |=
                        has_own && !file.is_generated && matches!(keyword.as_str(), "auto" | "allow-hotplug");
                    if !gone.is_empty() {
                        let edit = edits.entry(number).or_default();
                        let kept: Vec<&str> =
                            started.iter().filter(|name| !gone.contains(name)).map(String::as_str).collect();
                        edit.replace(
                            stanza,
                            (!kept.is_empty()).then(|| format!("{keyword} {}\n", kept.join(" "))),
                        );
                    }
                }
                Kind::Interface { name, family, method, options } => {
                    check_ports(&file.path, stanza, name, options, wanted, &mut outcome);
                    if !is_card(name) {
                        if name != "lo" {
                            outcome.kept.push(format!(
                                "{}:{}: kept ({name})",
                                file.path,
                                stanza.lines.start + 1
                            ));
                        }
                        continue;
                    }
                    let is_own = name == wanted.interface;
                    let has_pin =
                        options.iter().any(|(key, _)| key == "hwaddress" || key == "hw-mac-address");
                    let is_good = match family.as_str() {
                        "inet" => method == "dhcp" && !has_pin && (!is_asking || file.is_generated),
                        "inet6" => matches!(method.as_str(), "auto" | "dhcp" | "manual") && !has_pin,
                        _ => false,
                    };
                    if is_own && is_good {
                        is_asking |= family == "inet" && !file.is_generated;
                        continue;
                    }
                    let edit = edits.entry(number).or_default();
                    edit.why.push(format!(
                        "{}:{}: iface {name} {family} {method} taken out",
                        file.path,
                        stanza.lines.start + 1
                    ));
                    edit.first.get_or_insert(stanza.lines.start);
                    edit.replace(stanza, None);
                }
                Kind::Source { .. } | Kind::Other => {}
            }
        }
    }
    let mut own = String::new();
    if wanted.ask && !is_started {
        own.push_str(&format!("auto {}\n", wanted.interface));
    }
    if wanted.ask && !is_asking {
        own.push_str(&format!("iface {} inet dhcp\n", wanted.interface));
    }
    write(files, &all, edits, &own, wanted, &mut outcome)?;
    Ok(outcome.finish())
}

#[derive(Default)]
struct Edits {
    /// By first line: the line behind, and what stands there afterwards.
    ranges: BTreeMap<usize, (usize, Option<String>)>,
    why: Vec<String>,
    /// Line of the first stanza of the card that goes.
    first: Option<usize>,
}

impl Edits {
    fn replace(&mut self, stanza: &Stanza, text: Option<String>) {
        self.ranges.insert(stanza.lines.start, (stanza.lines.end, text));
    }

    fn apply(&self, text: &str, own: &str) -> String {
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let (mut new, mut number) = (String::new(), 0);
        while number < lines.len() {
            if self.first == Some(number) {
                new.push_str(own);
            }
            match self.ranges.get(&number) {
                Some((end, replacement)) => {
                    new.push_str(replacement.as_deref().unwrap_or_default());
                    number = *end;
                }
                None => {
                    new.push_str(lines[number]);
                    number += 1;
                }
            }
        }
        new
    }
}

fn write(
    files: &dyn Files,
    all: &[File],
    edits: BTreeMap<usize, Edits>,
    own: &str,
    wanted: &Wanted<'_>,
    outcome: &mut Outcome,
) -> Result<(), VfsError> {
    // What is asked for takes the place of what goes, where that is in a file of the administrator's.
    let mut place = (!own.is_empty())
        .then(|| edits.iter().find(|(number, edit)| edit.first.is_some() && !all[**number].is_generated))
        .flatten()
        .map(|(number, _)| *number);
    for (number, edit) in &edits {
        let file = &all[*number];
        let mut why = edit.why.clone();
        let inserted = if place == Some(*number) { own } else { "" };
        if !inserted.is_empty() {
            why.push(format!("{}: {} asks by DHCP", file.path, wanted.interface));
        }
        if why.is_empty() {
            why.push(format!("{}: names that are gone are no longer started", file.path));
        }
        let new = edit.apply(&file.text, inserted);
        match new.lines().all(|line| line.trim().is_empty() || line.trim().starts_with('#'))
            && file.path != MAIN
        {
            true => outcome.remove(&file.path, why.join("; ")),
            false => outcome.write(&file.path, new, None, why),
        }
    }
    if own.is_empty() || place.take().is_some() {
        return Ok(());
    }
    let why = vec![format!("{MAIN}: {} asks by DHCP", wanted.interface)];
    let edited = outcome.changes.iter_mut().find_map(|change| match change {
        super::NetChange::Write { path, text, why, .. } if path == MAIN => Some((text, why)),
        _ => None,
    });
    if let Some((text, lines)) = edited {
        append(text, own);
        lines.extend(why);
        return Ok(());
    }
    let mut new = match text(files, MAIN)? {
        Some(Ok(text)) => text,
        Some(Err(_)) => return Ok(()),
        None => "source /etc/network/interfaces.d/*\n\nauto lo\niface lo inet loopback\n".into(),
    };
    append(&mut new, own);
    outcome.write(MAIN, new, None, why);
    Ok(())
}

fn append(text: &mut String, own: &str) {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(own);
}

fn check_ports(
    path: &str,
    stanza: &Stanza,
    name: &str,
    options: &[(String, String)],
    wanted: &Wanted<'_>,
    outcome: &mut Outcome,
) {
    for (key, value) in options.iter().filter(|(key, _)| PORTS.contains(&key.as_str())) {
        let is_vlan = key.starts_with("vlan");
        let mut ports = value.split_whitespace().filter(|port| wanted.is_card(port));
        if ports.any(|port| !(is_vlan && port == wanted.interface)) {
            let line = stanza.lines.start + 1;
            outcome.obstacles.push(format!("{path}:{line}: {name} is made of the card ({key} {value})"));
        }
    }
}

fn read_all(files: &dyn Files, outcome: &mut Outcome) -> Result<Vec<File>, VfsError> {
    let mut todo = vec![MAIN.to_owned()];
    let mut all: Vec<File> = Vec::new();
    while let Some(path) = todo.pop() {
        if all.len() >= FILES_MAX || all.iter().any(|file| file.path == path) {
            continue;
        }
        let Some(content) = outcome.read(files, &path)? else { continue };
        let stanzas = match parse(&content) {
            Ok(stanzas) => stanzas,
            Err(line) => {
                outcome.obstacles.push(format!("{path}:{line}: belongs to no stanza"));
                continue;
            }
        };
        for stanza in stanzas.iter().rev() {
            if let Kind::Source { is_directory, pattern } = &stanza.kind {
                todo.extend(sources(files, pattern, *is_directory)?.into_iter().rev());
            }
        }
        let is_generated = path.starts_with("/etc/network/interfaces.d/50-cloud-init");
        all.push(File { path, text: content, stanzas, is_generated });
    }
    Ok(all)
}

/// Files that a `source` line takes in; a pattern in the last component only.
fn sources(files: &dyn Files, pattern: &str, is_directory: bool) -> Result<Vec<String>, VfsError> {
    let pattern = match pattern.starts_with('/') {
        true => pattern.trim_end_matches('/').to_owned(),
        false => format!("/etc/network/{pattern}"),
    };
    let (directory, last) = match is_directory {
        true => (pattern.as_str(), "*"),
        false => pattern.rsplit_once('/').unwrap_or(("", &pattern)),
    };
    let mut found = Vec::new();
    for name in names(files, directory)? {
        let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
        if is_match(last, &name) && !name.starts_with('.') && (is_plain || !is_directory) {
            found.push(format!("{directory}/{name}"));
        }
    }
    Ok(found)
}
