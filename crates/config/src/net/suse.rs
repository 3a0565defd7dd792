//! `/etc/sysconfig/network/ifcfg-*` of SUSE, read by wicked and by the network service before it.
//!
//! Facts: ifcfg(5), ifcfg-dhcp(5) and ifroute(5) of sysconfig and wicked.

use vfs::VfsError;

use super::ifcfg::Assignments;
use super::{Outcome, Wanted, names, text};
use crate::Files;

/// Where the files are.
pub const DIRECTORY: &str = "/etc/sysconfig/network";
/// Settings whose values name the cards that something else is made of.
const PORTS: [&str; 3] = ["BRIDGE_PORTS", "ETHERDEVICE", "TEAM_PORT_DEVICE"];

fn is_static(key: &str) -> bool {
    let stem = key.split('_').next().unwrap_or(key);
    ["IPADDR", "NETMASK", "PREFIXLEN", "BROADCAST", "NETWORK"].contains(&stem)
        || key.starts_with("REMOTE_IPADDR")
        || matches!(key, "LLADDR" | "GATEWAY")
}

/// Plans that the card asks by DHCP, and that nothing else is there for it.
pub fn plan(files: &dyn Files, wanted: &Wanted<'_>) -> Result<Outcome, VfsError> {
    let mut outcome = Outcome::default();
    let mut own_file = None;
    let mut came_from = Vec::new();
    for name in names(files, DIRECTORY)? {
        let Some(device) = name.strip_prefix("ifcfg-") else { continue };
        if device == "lo" || device == "template" || device.contains(['~', '.']) && device.ends_with(".bak") {
            continue;
        }
        let path = format!("{DIRECTORY}/{name}");
        let Some(content) = outcome.read(files, &path)? else { continue };
        let file = match Assignments::parse(&content) {
            Ok(file) => file,
            Err(line) => {
                outcome.obstacles.push(format!("{path}:{line}: no plain assignment"));
                continue;
            }
        };
        // SLES 10 and 11 could name a file by a card's address or place.
        let is_bound = device.starts_with("eth-id-") || device.starts_with("eth-bus-");
        if wanted.is_card(device) && device == wanted.interface {
            own_file = Some(file);
        } else if wanted.is_card(device) || (is_bound && wanted.kernel_names) {
            outcome.remove(&path, format!("{device}: a configuration of the same card under another name"));
            came_from.push(device.to_owned());
        } else {
            for (key, value) in file.settings() {
                let is_port = PORTS.contains(&key) || key.starts_with("BONDING_SLAVE");
                let is_vlan = key == "ETHERDEVICE";
                let mut cards = value.split_whitespace().filter(|card| wanted.is_card(card));
                if is_port && cards.any(|card| !(is_vlan && card == wanted.interface)) {
                    outcome.obstacles.push(format!("{path}: {device} is made of the card ({key}={value})"));
                }
            }
            outcome.kept.push(format!("{path}: kept ({device})"));
        }
    }
    let path = format!("{DIRECTORY}/ifcfg-{}", wanted.interface);
    match own_file {
        Some(file) if wanted.ask => ask_in(&path, file, &mut outcome),
        Some(file) if file.settings().any(|(key, value)| is_static(key) && !value.is_empty()) => {
            outcome.remove(&path, "a static configuration beside the one in use");
        }
        Some(_) => {}
        None if wanted.ask => {
            let text = "BOOTPROTO='dhcp4'\nSTARTMODE='auto'\nUSERCONTROL='no'\n";
            outcome.write(&path, text, None, vec![format!("{path}: {} asks by DHCP", wanted.interface)]);
        }
        None => {}
    }
    for device in came_from.iter().map(String::as_str).chain([wanted.interface]) {
        let path = format!("{DIRECTORY}/ifroute-{device}");
        if files.has(&path)? {
            outcome.remove(path, "static routes of the card");
        }
    }
    if wanted.ask {
        routes(files, &mut outcome)?;
    }
    Ok(outcome.finish())
}

fn ask_in(path: &str, mut file: Assignments, outcome: &mut Outcome) {
    let mut why = Vec::new();
    let asks =
        |value: &str| value == "dhcp" || value.split('+').any(|part| part == "dhcp4" || part == "dhcp");
    if !file.get("BOOTPROTO").is_some_and(asks) {
        file.set("BOOTPROTO", "dhcp4", "'dhcp4'");
        why.push(format!("{path}: BOOTPROTO='dhcp4'"));
    }
    if !file
        .get("STARTMODE")
        .is_some_and(|mode| ["auto", "onboot", "boot", "on", "hotplug", "nfsroot"].contains(&mode))
    {
        file.set("STARTMODE", "auto", "'auto'");
        why.push(format!("{path}: STARTMODE='auto'"));
    }
    if file.get("USERCONTROL").is_some_and(|value| value != "no") {
        file.set("USERCONTROL", "no", "'no'");
        why.push(format!("{path}: USERCONTROL='no'"));
    }
    let gone: Vec<String> = file.remove(|key, value| is_static(key) && !value.is_empty());
    why.extend(gone.iter().map(|line| format!("{path}: {line} taken out")));
    if !why.is_empty() {
        outcome.write(path, file.text(), None, why);
    }
}

/// A default route in `routes` stands beside the one that DHCP tells.
fn routes(files: &dyn Files, outcome: &mut Outcome) -> Result<(), VfsError> {
    let path = format!("{DIRECTORY}/routes");
    let Some(Ok(text)) = text(files, &path)? else { return Ok(()) };
    let is_default = |line: &&str| {
        line.split_whitespace().next().is_some_and(|word| word == "default" || word == "0.0.0.0/0")
    };
    let gone: Vec<&str> = text.lines().filter(is_default).collect();
    if !gone.is_empty() {
        let kept: String = text.split_inclusive('\n').filter(|line| !is_default(line)).collect();
        let why = gone.iter().map(|line| format!("{path}: {} taken out", line.trim())).collect();
        outcome.write(&path, kept, None, why);
    }
    Ok(())
}
