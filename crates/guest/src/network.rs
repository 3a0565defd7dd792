//! Which network configuration systems have configuration, and what kind.

use vfs::VfsError;

use crate::NetworkSystem;
use crate::reading::Reader;

/// Takes over what one file says.
type ReadFile = fn(&str, &mut NetworkSystem);

/// Files of one system that are looked at.
const FILES_MAX: usize = 256;

pub(crate) fn systems(reader: &mut Reader<'_>) -> Result<Vec<NetworkSystem>, VfsError> {
    let mut ifupdown: Vec<String> = Vec::new();
    if reader.exists("/etc/network/interfaces")? {
        ifupdown.push("/etc/network/interfaces".into());
    }
    ifupdown.extend(reader.files_with_suffix("/etc/network/interfaces.d", "")?);
    let netplan = reader.files_with_suffix("/etc/netplan", ".yaml")?;
    let networkd = reader.files_with_suffix("/etc/systemd/network", ".network")?;
    let manager = reader.files_with_suffix("/etc/NetworkManager/system-connections", "")?;
    let mut ifcfg = reader.files_with_suffix("/etc/sysconfig/network-scripts", "")?;
    ifcfg.extend(reader.files_with_suffix("/etc/sysconfig/network", "")?);
    ifcfg.retain(|file| {
        file.rsplit('/').next().is_some_and(|name| name.starts_with("ifcfg-") && name != "ifcfg-lo")
    });
    let all: [(&str, Vec<String>, ReadFile); 5] = [
        ("ifupdown", ifupdown, read_ifupdown),
        ("netplan", netplan, read_netplan),
        ("systemd-networkd", networkd, read_networkd),
        ("networkmanager", manager, read_network_manager),
        ("ifcfg", ifcfg, read_ifcfg),
    ];
    let mut found = Vec::new();
    for (name, files, read) in all {
        let mut system = NetworkSystem {
            name: name.into(),
            files: Vec::new(),
            has_static: false,
            has_dynamic: false,
            interfaces: Vec::new(),
            hardware_addresses: Vec::new(),
        };
        for file in files.into_iter().take(FILES_MAX) {
            let Some(text) = reader.text(&file)? else { continue };
            let before = (system.interfaces.len(), system.has_static, system.has_dynamic);
            read(&text, &mut system);
            let after = (system.interfaces.len(), system.has_static, system.has_dynamic);
            if after != before || name != "ifupdown" {
                system.files.push(file);
            }
        }
        if !system.files.is_empty() {
            system.interfaces.sort();
            system.interfaces.dedup();
            found.push(system);
        }
    }
    Ok(found)
}

fn read_ifupdown(text: &str, system: &mut NetworkSystem) {
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["iface", "lo", ..] => {}
            ["iface", name, family, method, ..] if family.starts_with("inet") => {
                system.interfaces.push(name.to_owned());
                system.has_static |= method == "static";
                system.has_dynamic |= matches!(method, "dhcp" | "auto");
            }
            ["hwaddress", .., address] => system.hardware_addresses.push(address.to_owned()),
            _ => {}
        }
    }
}

/// Keys of the YAML lines; the structure is not needed for what is asked.
fn read_netplan(text: &str, system: &mut NetworkSystem) {
    let mut in_devices = None;
    for line in text.lines() {
        let content = line.split('#').next().unwrap_or_default();
        let indent = content.len() - content.trim_start().len();
        let content = content.trim().trim_start_matches("- ");
        let Some((key, value)) = content.split_once(':') else { continue };
        let value = value.trim().trim_matches(['"', '\'']);
        match key.trim() {
            "dhcp4" | "dhcp6" => system.has_dynamic |= matches!(value, "true" | "yes" | "on"),
            "addresses" => system.has_static = true,
            "macaddress" => system.hardware_addresses.push(value.to_owned()),
            "ethernets" | "bonds" | "bridges" | "vlans" | "wifis" => in_devices = Some((indent, None)),
            name => {
                if let Some((outer, first)) = &mut in_devices {
                    let level = *first.get_or_insert(indent);
                    if indent > *outer && indent == level && value.is_empty() {
                        system.interfaces.push(name.trim_matches(['"', '\'']).to_owned());
                    }
                }
            }
        }
    }
}

fn read_networkd(text: &str, system: &mut NetworkSystem) {
    for (section, key, value) in ini(text) {
        match (section, key) {
            ("Match", "Name") => system.interfaces.extend(value.split_whitespace().map(str::to_owned)),
            ("Match", "MACAddress" | "PermanentMACAddress") => {
                system.hardware_addresses.extend(value.split_whitespace().map(str::to_owned));
            }
            ("Network", "DHCP") => {
                system.has_dynamic |= !matches!(value, "no" | "false" | "none" | "0" | "off");
            }
            ("Network" | "Address", "Address") => system.has_static = true,
            _ => {}
        }
    }
}

fn read_network_manager(text: &str, system: &mut NetworkSystem) {
    for (section, key, value) in ini(text) {
        match (section, key) {
            ("connection", "interface-name") => system.interfaces.push(value.to_owned()),
            ("ethernet" | "802-3-ethernet", "mac-address") => {
                system.hardware_addresses.push(value.to_owned());
            }
            ("ipv4" | "ipv6", "method") => {
                system.has_static |= value == "manual";
                system.has_dynamic |= value == "auto" && section == "ipv4";
            }
            _ => {}
        }
    }
}

fn read_ifcfg(text: &str, system: &mut NetworkSystem) {
    for line in text.lines() {
        let Some((key, value)) = line.trim().split_once('=') else { continue };
        let value = value.trim_matches(['"', '\'']);
        match key {
            "DEVICE" => system.interfaces.push(value.to_owned()),
            "HWADDR" => system.hardware_addresses.push(value.to_owned()),
            "BOOTPROTO" => system.has_dynamic |= value.to_ascii_lowercase().contains("dhcp"),
            key if key.starts_with("IPADDR") => system.has_static |= !value.is_empty(),
            _ => {}
        }
    }
}

/// `[section]` and `key=value` lines.
fn ini(text: &str) -> impl Iterator<Item = (&str, &str, &str)> {
    let mut section = "";
    text.lines().filter_map(move |line| {
        let line = line.trim();
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
            return None;
        }
        let (key, value) = line.split_once('=').filter(|_| !line.starts_with(['#', ';']))?;
        Some((section, key.trim(), value.trim()))
    })
}
