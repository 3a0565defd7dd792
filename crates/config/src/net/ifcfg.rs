//! `/etc/sysconfig/network-scripts/ifcfg-*`, read by initscripts' network service and by NetworkManager's
//! ifcfg-rh plugin.
//!
//! Facts: sysconfig.txt of initscripts, nm-settings-ifcfg-rh(5).

use vfs::VfsError;

use super::{Outcome, Wanted, names, text};
use crate::Files;

/// Where the files are.
pub const DIRECTORY: &str = "/etc/sysconfig/network-scripts";
const GLOBAL: &str = "/etc/sysconfig/network";

/// Endings that initscripts passes over.
const BACKUPS: [&str; 8] = ["~", ".bak", ".old", ".orig", ".rpmnew", ".rpmorig", ".rpmsave", ".swp"];
/// Settings that make a card a part of something else.
const PARTS: [&str; 6] = ["MASTER", "SLAVE", "BRIDGE", "BRIDGE_UUID", "TEAM_MASTER", "OVS_BRIDGE"];
/// Lines of one file at most.
const LINES_MAX: usize = 4096;

/// A shell file of assignments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignments {
    lines: Vec<(String, Option<(String, String)>)>,
}

impl Assignments {
    /// The number of the first line that is no plain assignment, when there is one.
    pub fn parse(text: &str) -> Result<Self, usize> {
        let mut lines = Vec::new();
        for (number, raw) in text.split_inclusive('\n').enumerate() {
            let line = raw.trim();
            if number >= LINES_MAX {
                return Err(number + 1);
            }
            let setting = match line.is_empty() || line.starts_with('#') {
                true => None,
                false => Some(assignment(line).ok_or(number + 1)?),
            };
            lines.push((raw.to_owned(), setting));
        }
        Ok(Self { lines })
    }

    /// Value of a setting; the last one counts. An empty value is none.
    pub fn get(&self, key: &str) -> Option<&str> {
        let mut all = self.settings().filter(|(name, _)| *name == key);
        all.next_back().map(|(_, value)| value).filter(|value| !value.is_empty())
    }

    /// All settings.
    pub fn settings(&self) -> impl DoubleEndedIterator<Item = (&str, &str)> {
        let settings = self.lines.iter().filter_map(|(_, setting)| setting.as_ref());
        settings.map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Takes out all settings for which `is_out` holds; the lines that went.
    pub fn remove(&mut self, is_out: impl Fn(&str, &str) -> bool) -> Vec<String> {
        let mut gone = Vec::new();
        self.lines.retain(|(raw, setting)| {
            let is_gone = setting.as_ref().is_some_and(|(key, value)| is_out(key, value));
            if is_gone {
                gone.push(raw.trim().to_owned());
            }
            !is_gone
        });
        gone
    }

    /// Gives a setting one value; `written` is it with its quotes.
    pub fn set(&mut self, key: &str, value: &str, written: &str) {
        let new = (format!("{key}={written}\n"), Some((key.to_owned(), value.to_owned())));
        let is_key =
            |line: &(String, Option<(String, String)>)| line.1.as_ref().is_some_and(|(k, _)| k == key);
        match self.lines.iter().rposition(is_key) {
            Some(place) => {
                self.lines[place] = new;
                let mut number = 0;
                self.lines.retain(|line| {
                    number += 1;
                    number > place || !is_key(line)
                });
            }
            None => {
                if let Some((last, _)) = self.lines.last_mut()
                    && !last.ends_with('\n')
                {
                    last.push('\n');
                }
                self.lines.push(new);
            }
        }
    }

    /// The text.
    pub fn text(&self) -> String {
        self.lines.iter().map(|(raw, _)| raw.as_str()).collect()
    }
}

/// `KEY=value` with simple quotes and a comment behind; anything that a shell would evaluate is refused.
fn assignment(line: &str) -> Option<(String, String)> {
    let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
    let (key, rest) = line.split_once('=')?;
    let is_name = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !is_name {
        return None;
    }
    let (value, behind) = match rest.chars().next() {
        Some(quote @ ('"' | '\'')) => {
            let rest = &rest[1..];
            let end = rest.find(quote)?;
            (&rest[..end], &rest[end + 1..])
        }
        _ => {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            (&rest[..end], &rest[end..])
        }
    };
    let behind = behind.trim();
    let is_plain = !value.contains(['$', '`', '\\', '"', ';', '&', '|', '(']) || rest.starts_with('\'');
    (is_plain && (behind.is_empty() || behind.starts_with('#'))).then(|| (key.to_owned(), value.to_owned()))
}

/// What reads the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readers {
    /// The network service of initscripts.
    pub scripts: bool,
    /// NetworkManager's plugin.
    pub manager: bool,
}

fn is_static(key: &str) -> bool {
    let stem = key.trim_end_matches(|letter: char| letter.is_ascii_digit());
    ["IPADDR", "NETMASK", "PREFIX", "GATEWAY", "BROADCAST", "NETWORK", "DNS"].contains(&stem)
        || ["IPV6ADDR", "IPV6ADDR_SECONDARIES", "IPV6_DEFAULTGW", "GATEWAYDEV"].contains(&key)
}

/// Addresses that belong to one machine: the one that a card must have, and the one that it is given.
fn is_pin(key: &str) -> bool {
    matches!(key, "HWADDR" | "MACADDR" | "HWADDR_BLACKLIST" | "GENERATE_MAC_ADDRESS_MASK")
}

/// Plans that the card asks by DHCP, and that nothing else is there for it.
pub fn plan(files: &dyn Files, wanted: &Wanted<'_>, readers: Readers) -> Result<Outcome, VfsError> {
    let mut outcome = Outcome::default();
    let own = format!("ifcfg-{}", wanted.interface);
    let mut own_file = None;
    let mut came_from = Vec::new();
    for name in names(files, DIRECTORY)? {
        let path = format!("{DIRECTORY}/{name}");
        let Some(suffix) = name.strip_prefix("ifcfg-") else { continue };
        if suffix == "lo" || BACKUPS.iter().any(|ending| name.ends_with(ending)) {
            continue;
        }
        let Some(content) = outcome.read(files, &path)? else { continue };
        let file = match Assignments::parse(&content) {
            Ok(file) => file,
            Err(line) => {
                outcome.obstacles.push(format!("{path}:{line}: no plain assignment"));
                continue;
            }
        };
        let is_bound_only = file.get("DEVICE").is_none() && file.get("HWADDR").is_some();
        let device = file.get("DEVICE").unwrap_or(suffix).to_owned();
        let device = device.as_str();
        let kind = file.get("TYPE").unwrap_or("Ethernet");
        let is_virtual = !kind.eq_ignore_ascii_case("ethernet") || file.get("VLAN") == Some("yes");
        let card = device.split(':').next().unwrap_or(device);
        let is_card = !is_virtual && (wanted.is_card(card) || (is_bound_only && wanted.kernel_names));
        if !is_card {
            keep(&path, device, file, &mut outcome);
            continue;
        }
        if let Some(part) = PARTS.iter().find(|part| file.get(part).is_some_and(|value| value != "no")) {
            outcome.obstacles.push(format!("{path}: {device} is a part of something else ({part})"));
        } else if name == own && !device.contains(':') {
            own_file = Some(file);
        } else {
            outcome.remove(&path, format!("{device}: a configuration of the same card under another name"));
            came_from.push(device.to_owned());
        }
    }
    let path = format!("{DIRECTORY}/{own}");
    match own_file {
        Some(file) if wanted.ask => ask_in(&path, file, wanted.interface, readers, &mut outcome),
        Some(file)
            if file.settings().any(|(key, value)| (is_static(key) || is_pin(key)) && !value.is_empty()) =>
        {
            outcome.remove(&path, "a static configuration beside the one in use");
        }
        Some(_) => {}
        None if wanted.ask => {
            let text = format!("DEVICE={}\nBOOTPROTO=dhcp\nONBOOT=yes\nTYPE=Ethernet\n", wanted.interface);
            outcome.write(&path, text, None, vec![format!("{path}: {} asks by DHCP", wanted.interface)]);
        }
        None => {}
    }
    for device in came_from.iter().map(String::as_str).chain([wanted.interface]) {
        for kind in ["route-", "route6-", "rule-", "rule6-"] {
            let path = format!("{DIRECTORY}/{kind}{device}");
            if files.has(&path)? {
                outcome.remove(path, "static routes of the card");
            }
        }
    }
    if wanted.ask {
        global(files, readers, &mut outcome)?;
    }
    Ok(outcome.finish())
}

/// What is for something else stays; only a hardware address that another machine does not have goes.
fn keep(path: &str, device: &str, mut file: Assignments, outcome: &mut Outcome) {
    outcome.kept.push(format!("{path}: kept ({device})"));
    let is_numbered = device.strip_prefix("eth").is_some_and(|number| number.parse::<u32>().is_ok());
    if is_numbered {
        let gone = file.remove(|key, _| key == "HWADDR" || key == "MACADDR");
        if !gone.is_empty() {
            let why = gone.iter().map(|line| format!("{path}: {line} taken out")).collect();
            outcome.write(path, file.text(), None, why);
        }
    }
}

fn ask_in(path: &str, mut file: Assignments, interface: &str, readers: Readers, outcome: &mut Outcome) {
    let mut why = Vec::new();
    for (key, value) in [("DEVICE", interface), ("BOOTPROTO", "dhcp"), ("ONBOOT", "yes")] {
        if !file.get(key).is_some_and(|now| now.eq_ignore_ascii_case(value)) {
            file.set(key, value, value);
            why.push(format!("{path}: {key}={value}"));
        }
    }
    let gone = file.remove(|key, value| {
        is_static(key)
            || is_pin(key)
            || (matches!(key, "PEERDNS" | "DEFROUTE" | "PEERROUTES") && value == "no")
            || (key == "NM_CONTROLLED" && value == "no" && !readers.scripts)
    });
    why.extend(gone.iter().map(|line| format!("{path}: {line} taken out")));
    if !why.is_empty() {
        outcome.write(path, file.text(), None, why);
    }
}

/// A default gateway for all cards overrides what DHCP tells.
fn global(files: &dyn Files, readers: Readers, outcome: &mut Outcome) -> Result<(), VfsError> {
    let content = match text(files, GLOBAL)? {
        None if readers.scripts => {
            let why =
                vec![format!("{GLOBAL}: NETWORKING=yes, without which the network service does nothing")];
            outcome.write(GLOBAL, "NETWORKING=yes\n", None, why);
            return Ok(());
        }
        None => return Ok(()),
        Some(Err(why)) => {
            outcome.obstacles.push(why);
            return Ok(());
        }
        Some(Ok(content)) => content,
    };
    let mut file = match Assignments::parse(&content) {
        Ok(file) => file,
        Err(line) => {
            outcome.obstacles.push(format!("{GLOBAL}:{line}: no plain assignment"));
            return Ok(());
        }
    };
    let mut why = Vec::new();
    if readers.scripts && file.get("NETWORKING") != Some("yes") {
        file.set("NETWORKING", "yes", "yes");
        why.push(format!("{GLOBAL}: NETWORKING=yes"));
    }
    let gone =
        file.remove(|key, _| matches!(key, "GATEWAY" | "GATEWAYDEV" | "IPV6_DEFAULTGW" | "IPV6_DEFAULTDEV"));
    why.extend(gone.iter().map(|line| format!("{GLOBAL}: {line} taken out")));
    if !why.is_empty() {
        outcome.write(GLOBAL, file.text(), None, why);
    }
    Ok(())
}
