//! NetworkManager's own connection files.
//!
//! Facts: nm-settings-keyfile(5), nm-settings-nmcli(5), NetworkManager.conf(5). Files that others than root can
//! read are passed over.

use vfs::VfsError;

use super::{Ini, Outcome, Wanted, is_match, names, text};
use crate::Files;

/// Where the files are.
pub const DIRECTORY: &str = "/etc/NetworkManager/system-connections";
/// Files that anyone else can read are not taken.
pub const MODE: u16 = 0o600;

/// The text for a card that asks by DHCP.
fn asking(interface: &str) -> String {
    format!(
        "[connection]\nid={interface}\ntype=ethernet\ninterface-name={interface}\nautoconnect=true\n\n\
         [ipv4]\nmethod=auto\n\n[ipv6]\nmethod=auto\n"
    )
}

/// Reads a setting by its name and the one that older versions wrote.
fn ethernet<'i>(file: &'i Ini, key: &str) -> Option<&'i str> {
    file.get("ethernet", key).or_else(|| file.get("802-3-ethernet", key)).filter(|value| !value.is_empty())
}

fn is_static(section: &str, key: &str) -> bool {
    let stem = key.trim_end_matches(|letter: char| letter.is_ascii_digit());
    matches!(section, "ipv4" | "ipv6")
        && (matches!(stem, "address" | "addresses" | "route" | "routes" | "gateway" | "dns" | "dns-search")
            || stem.starts_with("address")
            || matches!(key, "ignore-auto-dns" | "ignore-auto-routes" | "never-default"))
}

fn is_pin(section: &str, key: &str) -> bool {
    matches!(section, "ethernet" | "802-3-ethernet") && matches!(key, "mac-address" | "cloned-mac-address")
}

/// Plans that a connection of the card asks by DHCP, and that no other one is there for it.
pub fn plan(files: &dyn Files, wanted: &Wanted<'_>) -> Result<Outcome, VfsError> {
    let mut outcome = Outcome::default();
    let own = format!("{DIRECTORY}/{}.nmconnection", wanted.interface);
    let mut of_card: Vec<(String, Ini)> = Vec::new();
    for name in names(files, DIRECTORY)? {
        if name.starts_with('.') || name.ends_with('~') || name.ends_with(".bak") {
            continue;
        }
        let path = format!("{DIRECTORY}/{name}");
        let Some(content) = outcome.read(files, &path)? else { continue };
        let file = match Ini::parse(&content) {
            Ok(file) => file,
            Err(line) => {
                outcome.obstacles.push(format!("{path}:{line}: neither section nor key=value"));
                continue;
            }
        };
        let kind = file.get("connection", "type").unwrap_or("");
        let device = file.get("connection", "interface-name").filter(|name| !name.is_empty());
        let is_ethernet = matches!(kind, "ethernet" | "802-3-ethernet");
        let is_card = device.is_none_or(|device| wanted.is_card(device));
        if !is_ethernet || !is_card {
            outcome.kept.push(format!("{path}: kept ({})", device.unwrap_or(kind)));
            continue;
        }
        let part = ["master", "controller"].iter().find_map(|key| file.get("connection", key));
        match part {
            Some(master) => outcome.obstacles.push(format!("{path}: the card is a part of {master}")),
            None => of_card.push((path, file)),
        }
    }
    let place = of_card
        .iter()
        .position(|(path, file)| {
            *path == own || file.get("connection", "interface-name") == Some(wanted.interface)
        })
        .or_else(|| of_card.iter().position(|(_, file)| asks(file, wanted)));
    let kept = place.filter(|_| wanted.ask).map(|place| of_card.remove(place));
    for (path, file) in of_card {
        if wanted.ask || !asks(&file, wanted) {
            outcome.remove(path, "a connection of the same card beside the one in use");
        }
    }
    if let Some((path, file)) = kept {
        // Written also when only the mode may differ.
        ask_in(&path, file, wanted, &mut outcome);
    } else if wanted.ask {
        let why = vec![format!("{own}: {} asks by DHCP", wanted.interface)];
        outcome.write(&own, asking(wanted.interface), Some(MODE), why);
    }
    if wanted.ask {
        unmanaged(files, wanted, &mut outcome)?;
    }
    Ok(outcome.finish())
}

/// True when the connection is for the interface, on its own, by DHCP, and for any machine.
fn asks(file: &Ini, wanted: &Wanted<'_>) -> bool {
    let is_named = |name: &str| name.is_empty() || name == wanted.interface;
    file.get("ipv4", "method") == Some("auto")
        && file.get("connection", "interface-name").is_none_or(is_named)
        && file.get("connection", "autoconnect") != Some("false")
        && file.get("match", "interface-name").is_none()
        && ethernet(file, "mac-address").is_none()
        && !file.settings().any(|(section, key, _)| is_static(section, key) || is_pin(section, key))
}

fn ask_in(path: &str, mut file: Ini, wanted: &Wanted<'_>, outcome: &mut Outcome) {
    let mut why = Vec::new();
    if !asks(&file, wanted) {
        let gone = file.remove(|section, key| {
            is_static(section, key)
                || is_pin(section, key)
                || section == "match"
                || (section == "connection" && key == "autoconnect")
        });
        why.extend(gone.iter().map(|line| format!("{path}: {line} taken out")));
        for (section, key, value) in
            [("connection", "interface-name", wanted.interface), ("ipv4", "method", "auto")]
        {
            if file.get(section, key) != Some(value) {
                file.set(section, key, value);
                why.push(format!("{path}: {key}={value}"));
            }
        }
        if file.get("ipv6", "method") == Some("manual") {
            file.set("ipv6", "method", "auto");
            why.push(format!("{path}: [ipv6] method=auto"));
        }
    }
    outcome.write(path, file.text(), Some(MODE), why);
}

/// Configuration that takes the card away from NetworkManager.
fn unmanaged(files: &dyn Files, wanted: &Wanted<'_>, outcome: &mut Outcome) -> Result<(), VfsError> {
    let mut paths = vec!["/etc/NetworkManager/NetworkManager.conf".to_owned()];
    let mut seen: Vec<String> = Vec::new();
    for directory in ["/etc/NetworkManager/conf.d", "/usr/lib/NetworkManager/conf.d"] {
        for name in names(files, directory)? {
            if name.ends_with(".conf") && !seen.contains(&name) {
                paths.push(format!("{directory}/{name}"));
                seen.push(name);
            }
        }
    }
    for path in paths {
        let Some(Ok(text)) = text(files, &path)? else { continue };
        let Ok(file) = Ini::parse(&text) else { continue };
        let Some(list) = file.get("keyfile", "unmanaged-devices") else { continue };
        let words: Vec<&str> = list.split([',', ';']).map(str::trim).collect();
        let is_excepted = words.iter().any(|word| {
            word.strip_prefix("except:").is_some_and(|rest| {
                rest == "type:ethernet"
                    || rest.strip_prefix("interface-name:").is_some_and(|p| is_match(p, wanted.interface))
            })
        });
        let is_listed = words.iter().any(|word| {
            *word == "*"
                || *word == "type:ethernet"
                || word
                    .strip_prefix("interface-name:")
                    .is_some_and(|p| is_match(p.trim_start_matches('='), wanted.interface))
        });
        if is_listed && !is_excepted {
            outcome.obstacles.push(format!("{path}: unmanaged-devices has {}", wanted.interface));
        }
    }
    Ok(())
}
