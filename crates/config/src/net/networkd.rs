//! systemd-networkd's `.network` files. systemd.network(5): files of all directories sorted by name, the first one
//! that fits a card counts.

use vfs::VfsError;

use super::{Ini, Outcome, Wanted, is_match, names};
use crate::Files;
use crate::units::at;

/// Where an administrator's files are.
pub const DIRECTORY: &str = "/etc/systemd/network";
const DIRECTORIES: [&str; 4] =
    [DIRECTORY, "/usr/local/lib/systemd/network", "/usr/lib/systemd/network", "/lib/systemd/network"];

/// Settings of `[Network]` that make a card a part of something else.
const PARTS: [&str; 5] = ["Bridge", "Bond", "VRF", "BatmanAdvanced", "Team"];

struct Network {
    name: String,
    path: String,
    file: Ini,
}

/// The text for a card that asks by DHCP.
fn asking(interface: &str) -> String {
    format!("[Match]\nName={interface}\n\n[Network]\nDHCP=yes\n\n[DHCP]\nUseDNS=yes\n")
}

/// Plans that the file which counts for the card asks by DHCP, and that no other one is there for it.
pub fn plan(files: &dyn Files, wanted: &Wanted<'_>) -> Result<Outcome, VfsError> {
    let mut outcome = Outcome::default();
    let all = read_all(files, &mut outcome)?;
    let mut is_met = false;
    let mut before: Option<String> = None;
    for network in &all {
        let is_ours = network.path.starts_with(DIRECTORY);
        let part = PARTS.iter().find(|part| network.file.get("Network", part).is_some());
        if fits(&network.file, wanted.interface) {
            if is_met || !wanted.ask {
                if is_ours && !asks(&network.file) && is_only_for(&network.file, wanted) {
                    outcome.remove(&network.path, "a static configuration of the card");
                }
                continue;
            }
            if let Some(part) = part {
                outcome
                    .obstacles
                    .push(format!("{}: the card is a part of something else ({part}=)", network.path));
            } else if asks(&network.file) {
                is_met = true;
            } else if is_ours && is_only_for(&network.file, wanted) {
                outcome.remove(&network.path, "another configuration of the card");
            } else {
                before.get_or_insert(network.name.clone());
                outcome.kept.push(format!("{}: kept, it is for other cards too", network.path));
            }
        } else if is_ours && is_only_for(&network.file, wanted) {
            match part {
                Some(part) => outcome
                    .obstacles
                    .push(format!("{}: the card is a part of something else ({part}=)", network.path)),
                None => outcome
                    .remove(&network.path, "a configuration of the card by a name or address that is gone"),
            }
        } else if is_ours {
            outcome.kept.push(format!("{}: kept", network.path));
        }
    }
    if wanted.ask && !is_met {
        write_own(wanted, before.as_deref(), &mut outcome);
    }
    Ok(outcome.finish())
}

/// The file gets a name that comes before the one which would count.
fn write_own(wanted: &Wanted<'_>, before: Option<&str>, outcome: &mut Outcome) {
    let candidates = ["60", "10", "00"].map(|number| format!("{number}-{}.network", wanted.interface));
    let Some(name) = candidates.iter().find(|name| before.is_none_or(|before| name.as_str() < before)) else {
        outcome.obstacles.push(format!("{DIRECTORY}/{}: comes before any other", before.unwrap_or_default()));
        return;
    };
    let path = format!("{DIRECTORY}/{name}");
    let is_same = |change: &super::NetChange| matches!(change, super::NetChange::Remove { path: gone, .. } if *gone == path);
    outcome.changes.retain(|change| !is_same(change));
    let why = vec![format!("{path}: {} asks by DHCP", wanted.interface)];
    outcome.write(path, asking(wanted.interface), None, why);
}

fn read_all(files: &dyn Files, outcome: &mut Outcome) -> Result<Vec<Network>, VfsError> {
    let mut all: Vec<Network> = Vec::new();
    let mut seen: Vec<String> = Vec::new();
    for directory in DIRECTORIES {
        for name in names(files, directory)? {
            if !name.ends_with(".network") || seen.contains(&name) {
                continue;
            }
            seen.push(name.clone());
            let path = format!("{directory}/{name}");
            if files.link_target(&at(&path))?.is_some_and(|target| target == b"/dev/null") {
                continue;
            }
            let Some(content) = outcome.read(files, &path)? else { continue };
            match Ini::parse(&content) {
                Ok(file) if file.settings().next().is_some() => all.push(Network { name, path, file }),
                Ok(_) => {}
                Err(line) => outcome.obstacles.push(format!("{path}:{line}: neither section nor key=value")),
            }
        }
    }
    all.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(all)
}

fn words<'f>(file: &'f Ini, section: &'f str, key: &'f str) -> impl Iterator<Item = &'f str> {
    file.all(section, key).into_iter().flat_map(str::split_whitespace)
}

fn is_pinned(file: &Ini) -> bool {
    ["MACAddress", "PermanentMACAddress", "Path"].iter().any(|key| words(file, "Match", key).next().is_some())
}

/// True when the file counts for an Ethernet card of this name on any machine.
fn fits(file: &Ini, interface: &str) -> bool {
    if is_pinned(file) || words(file, "Match", "Kind").next().is_some() {
        return false;
    }
    let names: Vec<&str> = words(file, "Match", "Name").collect();
    let (negated, patterns): (Vec<&str>, Vec<&str>) = names.iter().partition(|name| name.starts_with('!'));
    let is_out = negated.iter().any(|name| is_match(&name[1..], interface));
    let is_in =
        patterns.iter().any(|name| is_match(name, interface)) || (patterns.is_empty() && !negated.is_empty());
    let kinds: Vec<&str> = words(file, "Match", "Type").collect();
    let is_ether = kinds.is_empty() || kinds.contains(&"ether");
    let has_other = ["Driver", "Type"].iter().any(|key| words(file, "Match", key).next().is_some());
    !is_out && is_ether && (is_in || (names.is_empty() && has_other))
}

/// True when the file is for the card alone: by names that are all its own, or by its address.
fn is_only_for(file: &Ini, wanted: &Wanted<'_>) -> bool {
    let names: Vec<&str> = words(file, "Match", "Name").collect();
    if is_pinned(file) && wanted.kernel_names && words(file, "Match", "Kind").next().is_none() {
        return names.iter().all(|name| wanted.is_card(name) || name.contains('*'));
    }
    // `en*` fits no name of the kernel's.
    let is_gone = |name: &str| {
        wanted.kernel_names
            && name.starts_with("en")
            && name.ends_with('*')
            && !is_match(name, wanted.interface)
    };
    !names.is_empty() && names.iter().all(|name| wanted.is_card(name) || is_gone(name))
}

fn asks(file: &Ini) -> bool {
    let is_on = matches!(
        file.get("Network", "DHCP").map(str::to_ascii_lowercase).as_deref(),
        Some("yes" | "true" | "1" | "on" | "ipv4" | "v4" | "both")
    );
    let statics = [
        ("Network", "Address"),
        ("Network", "Gateway"),
        ("Network", "DNS"),
        ("Address", "Address"),
        ("Route", "Gateway"),
        ("Link", "MACAddress"),
    ];
    let is_managed = !matches!(file.get("Link", "Unmanaged"), Some("yes" | "true" | "1" | "on"));
    is_on
        && is_managed
        && statics.iter().all(|(section, key)| file.get(section, key).is_none_or(str::is_empty))
}
