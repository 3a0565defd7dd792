//! Which network programs a guest has, and which of them set its cards up.

use vfs::VfsError;

use super::ifcfg::Readers;
use super::{Ini, names, text};
use crate::units::{UnitState, Units};
use crate::{Files, sysv};

/// A way to configure the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stack {
    /// netplan, with whatever daemon it writes for.
    Netplan,
    /// Red Hat's ifcfg files.
    Ifcfg,
    /// SUSE's ifcfg files.
    Wicked,
    /// NetworkManager's own files.
    NmKeyfile,
    /// systemd-networkd's own files.
    Networkd,
    /// Debian's interfaces file.
    Ifupdown,
}

impl Stack {
    /// All of them.
    pub const ALL: [Stack; 6] =
        [Stack::Netplan, Stack::Ifcfg, Stack::Wicked, Stack::NmKeyfile, Stack::Networkd, Stack::Ifupdown];

    /// Its name in profiles and reports.
    pub fn name(self) -> &'static str {
        match self {
            Stack::Netplan => "netplan",
            Stack::Ifcfg => "ifcfg",
            Stack::Wicked => "wicked",
            Stack::NmKeyfile => "nm-keyfile",
            Stack::Networkd => "networkd",
            Stack::Ifupdown => "ifupdown",
        }
    }

    /// The stack of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stack| stack.name() == name)
    }
}

/// What is installed and what runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stacks {
    /// Stacks whose programs are there.
    pub installed: Vec<Stack>,
    /// Those that set cards up at boot, the one that sets up the first card in front.
    pub running: Vec<Stack>,
    /// What reads ifcfg files of Red Hat's form.
    pub readers: Readers,
    /// Daemon for netplan where no file names one.
    pub renderer: &'static str,
    /// True when cloud-init is there and starts at boot.
    pub has_cloud_init: bool,
    /// What was seen, a line each.
    pub evidence: Vec<String>,
}

impl Stacks {
    /// Looks at programs, services and configuration.
    pub fn find(files: &dyn Files) -> Result<Self, VfsError> {
        let units = Units::new(files)?;
        let has_any = |paths: &[&str]| -> Result<bool, VfsError> {
            for path in paths {
                if files.has(path)? {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        let starts = |names: &[&str]| -> Result<bool, VfsError> {
            for name in names {
                let state = units.state(name)?;
                if state == UnitState::Masked {
                    continue;
                }
                if state == UnitState::Enabled
                    || units.starts_at_boot(name)?
                    || sysv::find(files, name)?.is_some_and(|script| !script.starts.is_empty())
                {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        let is_suse = has_any(&["/usr/sbin/wicked", "/etc/sysconfig/network/config", "/etc/SuSE-release"])?;
        let has_manager = has_any(&["/usr/sbin/NetworkManager", "/usr/bin/NetworkManager"])?;
        let manager = has_manager && starts(&["NetworkManager", "network-manager"])?;
        let has_networkd = has_any(&["/usr/lib/systemd/systemd-networkd", "/lib/systemd/systemd-networkd"])?;
        let networkd = has_networkd && starts(&["systemd-networkd"])?;
        let has_scripts = !is_suse && has_any(&["/etc/init.d/network", "/etc/rc.d/init.d/network"])?;
        let scripts = has_scripts && starts(&["network"])?;
        let plugin = has_manager && !is_suse && has_ifcfg_plugin(files)?;
        let has_wicked = is_suse && has_any(&["/usr/sbin/wicked", "/etc/init.d/network"])?;
        let wicked = has_wicked && starts(&["wicked", "network"])?;
        let has_ifupdown = has_any(&["/sbin/ifup", "/usr/sbin/ifup", "/usr/share/ifupdown2"])?
            && has_any(&["/etc/network", "/usr/share/ifupdown2"])?;
        let ifupdown = has_ifupdown
            && (starts(&["networking"])? || crate::upstart::starts(files, "networking")? == Some(true));
        let has_netplan = has_any(&[
            "/usr/sbin/netplan",
            "/usr/share/netplan",
            "/lib/netplan/generate",
            "/usr/libexec/netplan/generate",
        ])?;
        let netplan_files =
            names(files, super::netplan::DIRECTORY)?.iter().any(|name| name.ends_with(".yaml"));
        let has_cloud_init = has_any(&["/usr/bin/cloud-init", "/usr/local/bin/cloud-init"])?
            && starts(&["cloud-init", "cloud-init-local", "cloud-init-main"])?;

        let readers = Readers { scripts, manager: manager && plugin };
        let mut installed = Vec::new();
        let all = [
            (has_netplan, Stack::Netplan),
            (has_scripts || plugin, Stack::Ifcfg),
            (has_wicked, Stack::Wicked),
            (has_manager, Stack::NmKeyfile),
            (has_networkd, Stack::Networkd),
            (has_ifupdown, Stack::Ifupdown),
        ];
        installed.extend(all.into_iter().filter(|(is_there, _)| *is_there).map(|(_, stack)| stack));

        let mut running = Vec::new();
        let configures = |stack| match stack {
            Stack::Ifupdown => has_ifupdown_cards(files),
            _ => Ok(false),
        };
        let ifupdown_first = ifupdown && configures(Stack::Ifupdown)?;
        if has_netplan && netplan_files && !ifupdown_first {
            running.push(Stack::Netplan);
        }
        if wicked {
            running.push(Stack::Wicked);
        }
        // The network service comes before NetworkManager only in what it is told; both read these files.
        let prefers_keyfile = manager && plugin && !scripts && uses_keyfiles(files)?;
        if (scripts || (manager && plugin)) && !prefers_keyfile {
            running.push(Stack::Ifcfg);
        }
        if ifupdown_first {
            running.push(Stack::Ifupdown);
        }
        if manager {
            running.push(Stack::NmKeyfile);
        }
        if prefers_keyfile {
            running.push(Stack::Ifcfg);
        }
        if networkd {
            running.push(Stack::Networkd);
        }
        if ifupdown && !ifupdown_first {
            running.push(Stack::Ifupdown);
        }
        if running.is_empty() && has_netplan {
            running.push(Stack::Netplan);
        }
        let mut evidence = Vec::new();
        for stack in &running {
            evidence.push(format!("{} is installed and starts at boot", stack.name()));
        }
        let renderer = if manager && !networkd { "NetworkManager" } else { "networkd" };
        Ok(Self { installed, running, readers, renderer, has_cloud_init, evidence })
    }
}

/// The plugin that reads ifcfg files is there and not switched off. NetworkManager.conf(5), `plugins`.
fn has_ifcfg_plugin(files: &dyn Files) -> Result<bool, VfsError> {
    const PLUGIN: &str = "libnm-settings-plugin-ifcfg-rh.so";
    let mut is_there = false;
    for directory in ["/usr/lib64/NetworkManager", "/usr/lib/NetworkManager", "/lib64/NetworkManager"] {
        is_there |= files.has(&format!("{directory}/{PLUGIN}"))?;
        for name in names(files, directory)? {
            is_there |= files.has(&format!("{directory}/{name}/{PLUGIN}"))?;
        }
    }
    if !is_there {
        return Ok(false);
    }
    let mut plugins = None;
    let mut paths = vec!["/etc/NetworkManager/NetworkManager.conf".to_owned()];
    for name in names(files, "/etc/NetworkManager/conf.d")? {
        if name.ends_with(".conf") {
            paths.push(format!("/etc/NetworkManager/conf.d/{name}"));
        }
    }
    for path in paths {
        if let Some(Ok(text)) = text(files, &path)?
            && let Ok(file) = Ini::parse(&text)
            && let Some(list) = file.get("main", "plugins")
        {
            plugins = Some(list.to_owned());
        }
    }
    Ok(plugins.is_none_or(|list| list.split([',', ';']).any(|name| name.trim() == "ifcfg-rh")))
}

/// True where NetworkManager's own files are what it writes: releases from RHEL 9 on, which say so beside the
/// ifcfg files, and guests that have such files and no others.
fn uses_keyfiles(files: &dyn Files) -> Result<bool, VfsError> {
    let has_ifcfg = names(files, super::ifcfg::DIRECTORY)?
        .iter()
        .any(|name| name.starts_with("ifcfg-") && name != "ifcfg-lo");
    let has_keyfiles = !names(files, super::keyfile::DIRECTORY)?.is_empty();
    let has_readme = files.has("/etc/sysconfig/network-scripts/readme-ifcfg-rh.txt")?;
    Ok(!has_ifcfg && (has_keyfiles || has_readme))
}

/// True when the interfaces files have anything but the loopback.
fn has_ifupdown_cards(files: &dyn Files) -> Result<bool, VfsError> {
    let mut paths = vec![super::ifupdown::MAIN.to_owned()];
    for name in names(files, "/etc/network/interfaces.d")? {
        paths.push(format!("/etc/network/interfaces.d/{name}"));
    }
    for path in paths {
        let Some(Ok(text)) = text(files, &path)? else { continue };
        let is_card = |line: &str| {
            let mut words = line.split_whitespace();
            words.next() == Some("iface") && words.next().is_some_and(|name| name != "lo")
        };
        if text.lines().any(is_card) {
            return Ok(true);
        }
    }
    Ok(false)
}
