//! netplan's YAML files.
//!
//! Facts: netplan-yaml documentation: files of `/lib`, `/etc` and `/run` `/netplan/*.yaml` by name, of one name the
//! one in `/run` or `/etc`; mappings are merged, later values win.

use vfs::VfsError;
use yaml_serde::{Mapping, Value};

use super::{Outcome, Wanted, is_match, names, text};
use crate::Files;

/// Where an administrator's files are.
pub const DIRECTORY: &str = "/etc/netplan";
/// netplan warns of files that others can read, since they may hold secrets.
pub const MODE: u16 = 0o600;
/// A file of ours, behind those of installers and of cloud-init.
const OWN: &str = "/etc/netplan/60-coldfit.yaml";
/// Longer files are refused.
const TEXT_MAX: usize = 256 << 10;

struct File {
    path: String,
    root: Mapping,
    /// Made anew by cloud-init at boot: what it has does not count.
    is_generated: bool,
}

/// The text for a card that asks by DHCP.
fn asking(interface: &str, renderer: &str) -> String {
    format!(
        "network:\n  version: 2\n  renderer: {renderer}\n  ethernets:\n    {interface}:\n      dhcp4: yes\n      dhcp6: no\n"
    )
}

/// Plans that the card asks by DHCP, and that no other definition is there for it. `renderer` is the daemon where
/// no file names one.
pub fn plan(files: &dyn Files, wanted: &Wanted<'_>, renderer: &str) -> Result<Outcome, VfsError> {
    let mut outcome = Outcome::default();
    let mut all = read_all(files, &mut outcome)?;
    let renderer = find_renderer(files, &all)?.unwrap_or_else(|| renderer.to_owned());
    let mut is_met = false;
    // File and names of its definitions that go.
    let mut going: Vec<(usize, Vec<String>)> = Vec::new();
    for (number, file) in all.iter().enumerate() {
        let mut gone = Vec::new();
        for (id, definition) in mapping(&file.root, "ethernets") {
            if is_asking(id, definition, wanted) {
                is_met |= !file.is_generated;
            } else if is_of_card(id, definition, wanted) {
                gone.push(id.to_owned());
            } else {
                outcome.kept.push(format!("{}: kept ({id})", file.path));
            }
        }
        if !gone.is_empty() {
            going.push((number, gone));
        }
    }
    let gone: Vec<&str> = going.iter().flat_map(|(_, names)| names).map(String::as_str).collect();
    for file in &all {
        check_references(file, &gone, wanted, &mut outcome);
    }
    let mut place = (wanted.ask && !is_met)
        .then(|| going.iter().map(|(number, _)| *number).find(|number| !all[*number].is_generated))
        .flatten();
    let must_write = wanted.ask && !is_met && place.is_none();
    for (number, names) in &going {
        let is_place = place.take_if(|place| place == number).is_some();
        change(&mut all[*number], names, is_place.then_some(renderer.as_str()), wanted, &mut outcome);
    }
    if must_write {
        let why = vec![format!("{OWN}: {} asks by DHCP", wanted.interface)];
        outcome.write(OWN, asking(wanted.interface, &renderer), Some(MODE), why);
    }
    Ok(outcome.finish())
}

/// Takes definitions out of one file, and puts that of the card in.
fn change(
    file: &mut File,
    gone: &[String],
    renderer: Option<&str>,
    wanted: &Wanted<'_>,
    outcome: &mut Outcome,
) {
    let path = file.path.clone();
    let mut why: Vec<String> =
        gone.iter().map(|id| format!("{path}: the definition of {id} taken out")).collect();
    let Some(network) = file.root.get_mut("network").and_then(Value::as_mapping_mut) else { return };
    if let Some(ethernets) = network.get_mut("ethernets").and_then(Value::as_mapping_mut) {
        ethernets.retain(|id, _| !id.as_str().is_some_and(|id| gone.iter().any(|name| name == id)));
        if ethernets.is_empty() {
            network.remove("ethernets");
        }
    }
    let is_bare = file.root.len() == 1
        && file.root.get("network").and_then(Value::as_mapping).is_some_and(|network| {
            network.keys().all(|key| matches!(key.as_str(), Some("version" | "renderer")))
        });
    let Some(renderer) = renderer else {
        match is_bare {
            true => outcome.remove(&path, why.join("; ")),
            false => write_value(file, why, outcome),
        }
        return;
    };
    why.push(format!("{path}: {} asks by DHCP", wanted.interface));
    if is_bare {
        outcome.write(&path, asking(wanted.interface, renderer), Some(MODE), why);
        return;
    }
    let Some(network) = file.root.get_mut("network").and_then(Value::as_mapping_mut) else { return };
    let ethernets = network.entry("ethernets".into()).or_insert_with(|| Value::Mapping(Mapping::new()));
    if let Some(ethernets) = ethernets.as_mapping_mut() {
        let mut card = Mapping::new();
        card.insert("dhcp4".into(), true.into());
        card.insert("dhcp6".into(), false.into());
        ethernets.insert(wanted.interface.into(), Value::Mapping(card));
    }
    write_value(file, why, outcome);
}

/// The whole file written anew: comments in it go.
fn write_value(file: &File, mut why: Vec<String>, outcome: &mut Outcome) {
    match yaml_serde::to_string(&Value::Mapping(file.root.clone())) {
        Ok(text) => {
            why.push(format!("{}: written anew, without comments", file.path));
            outcome.write(&file.path, text, Some(MODE), why);
        }
        Err(error) => outcome.obstacles.push(format!("{}: {error}", file.path)),
    }
}

fn read_all(files: &dyn Files, outcome: &mut Outcome) -> Result<Vec<File>, VfsError> {
    let mut all = Vec::new();
    for name in names(files, DIRECTORY)? {
        if !name.ends_with(".yaml") || name.starts_with('.') {
            continue;
        }
        let path = format!("{DIRECTORY}/{name}");
        let Some(content) = outcome.read(files, &path)? else { continue };
        match parse(&content) {
            Ok(Some(root)) => {
                let is_generated = name.starts_with("50-cloud-init");
                all.push(File { path, root, is_generated });
            }
            Ok(None) => {}
            Err((line, message)) => outcome.obstacles.push(format!("{path}:{line}: {message}")),
        }
    }
    Ok(all)
}

/// The top mapping of a file; `None` for an empty one. An error has its line and what is wrong.
pub fn parse(text: &str) -> Result<Option<Mapping>, (usize, String)> {
    if text.len() > TEXT_MAX {
        return Err((1, format!("longer than {TEXT_MAX} bytes")));
    }
    match crate::yaml::read(text) {
        Ok(Value::Null) => Ok(None),
        Ok(Value::Mapping(root)) => match root.get("network") {
            None | Some(Value::Mapping(_) | Value::Null) => Ok(Some(root)),
            Some(_) => Err((1, "network is no mapping".into())),
        },
        Ok(_) => Err((1, "no mapping".into())),
        Err(error) => {
            let (line, detail) = error.trim_start_matches(':').split_once(':').unwrap_or(("1", &error));
            Err((line.parse().unwrap_or(1), detail.trim().to_owned()))
        }
    }
}

/// The daemon that the last file names.
fn find_renderer(files: &dyn Files, all: &[File]) -> Result<Option<String>, VfsError> {
    let mut found = None;
    let mut vendor = Vec::new();
    for directory in ["/usr/lib/netplan", "/lib/netplan"] {
        for name in names(files, directory)?.into_iter().filter(|name| name.ends_with(".yaml")) {
            if let Some(Ok(text)) = text(files, &format!("{directory}/{name}"))?
                && let Ok(Some(root)) = parse(&text)
            {
                vendor.push(root);
            }
        }
    }
    for root in vendor.iter().chain(all.iter().map(|file| &file.root)) {
        let network = root.get("network").and_then(Value::as_mapping);
        if let Some(name) = network.and_then(|network| network.get("renderer")).and_then(Value::as_str) {
            found = Some(name.to_owned());
        }
    }
    Ok(found)
}

/// Definitions of one kind.
fn mapping<'r>(root: &'r Mapping, kind: &str) -> Vec<(&'r str, &'r Value)> {
    let network = root.get("network").and_then(Value::as_mapping);
    let definitions = network.and_then(|network| network.get(kind)).and_then(Value::as_mapping);
    let all = definitions.into_iter().flatten();
    all.filter_map(|(id, definition)| Some((id.as_str()?, definition))).collect()
}

fn strings(value: Option<&Value>) -> Vec<&str> {
    match value {
        Some(Value::String(text)) => vec![text],
        Some(Value::Sequence(all)) => all.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// True when the definition is for the interface on any machine, and asks by DHCP alone.
fn is_asking(id: &str, definition: &Value, wanted: &Wanted<'_>) -> bool {
    let fits = match definition.get("match") {
        None => id == wanted.interface,
        Some(rule) => {
            let names = strings(rule.get("name"));
            rule.get("macaddress").is_none()
                && (names.is_empty() || names.iter().any(|name| is_match(name, wanted.interface)))
        }
    };
    let is_on = |key: &str| match definition.get(key) {
        Some(Value::Bool(is_on)) => *is_on,
        Some(Value::String(text)) => matches!(text.as_str(), "yes" | "on" | "true" | "y"),
        _ => false,
    };
    let statics =
        ["addresses", "gateway4", "gateway6", "routes", "nameservers", "macaddress", "activation-mode"];
    let is_named_so =
        definition.get("set-name").and_then(Value::as_str).is_none_or(|name| name == wanted.interface);
    fits && is_on("dhcp4") && is_named_so && statics.iter().all(|key| definition.get(*key).is_none())
}

/// True when the definition is for the card: by its names, those that are gone, or its address.
fn is_of_card(id: &str, definition: &Value, wanted: &Wanted<'_>) -> bool {
    let Some(rule) = definition.get("match") else { return wanted.is_card(id) };
    if let Some(name) = definition.get("set-name").and_then(Value::as_str) {
        return wanted.is_card(name);
    }
    let names = strings(rule.get("name"));
    let is_gone = |name: &str| {
        wanted.kernel_names
            && name.starts_with("en")
            && name.contains('*')
            && !is_match(name, wanted.interface)
    };
    if rule.get("macaddress").is_some() && wanted.kernel_names {
        return true;
    }
    names.iter().any(|name| wanted.is_card(name) || is_match(name, wanted.interface) || is_gone(name))
        || (names.is_empty() && rule.get("macaddress").is_none())
}

/// What is made of a definition that goes.
fn check_references(file: &File, gone: &[&str], wanted: &Wanted<'_>, outcome: &mut Outcome) {
    for kind in ["bonds", "bridges", "vrfs", "vlans", "tunnels", "dummy-devices"] {
        for (id, definition) in mapping(&file.root, kind) {
            let ports = strings(definition.get("interfaces"));
            let below = strings(definition.get("link"));
            let uses = ports.iter().find(|name| gone.contains(name) || wanted.is_card(name));
            let uses =
                uses.or_else(|| below.iter().find(|name| gone.contains(name) && **name != wanted.interface));
            match uses {
                Some(name) => outcome.obstacles.push(format!("{}: {id} is made of {name}", file.path)),
                None => outcome.kept.push(format!("{}: kept ({id})", file.path)),
            }
        }
    }
}
