//! Files that make a generator's init load modules without waiting for udev.

use std::collections::BTreeSet;

use crate::module_name::normalized;
use crate::{Archive, Generator};

const SYSTEMD_MODULES_LOAD: [&str; 2] =
    ["usr/lib/systemd/systemd-modules-load", "lib/systemd/systemd-modules-load"];

/// Path and content of each file to write so that `names` are loaded early.
pub(crate) fn load_lists(archive: &Archive, generator: Generator, names: &[&str]) -> Vec<(String, Vec<u8>)> {
    if names.is_empty() {
        return Vec::new();
    }
    match generator {
        Generator::InitramfsTools => {
            let path = "conf/modules";
            vec![(path.to_string(), with_lines(archive, path, names.iter().map(|name| name.to_string())))]
        }
        Generator::Dracut | Generator::Mkinitcpio
            if SYSTEMD_MODULES_LOAD.iter().any(|path| archive.exists(path)) =>
        {
            let path = "etc/modules-load.d/coldfit.conf";
            vec![(path.to_string(), with_lines(archive, path, names.iter().map(|name| name.to_string())))]
        }
        Generator::Dracut => {
            let path = "etc/cmdline.d/99-coldfit.conf";
            let lines = names.iter().map(|name| format!("rd.driver.pre={name}"));
            vec![(path.to_string(), with_lines(archive, path, lines))]
        }
        // Its init reads this file as shell, then hands the variable to modprobe, before any hook.
        Generator::Mkinitcpio if archive.exists("config") => {
            let line = format!("MODULES=\"$MODULES {}\"", names.join(" "));
            vec![("config".to_string(), with_lines(archive, "config", std::iter::once(line)))]
        }
        // Its init loads what this file names before it looks for devices.
        Generator::AlpineMkinitfs => {
            let path = "etc/modules";
            vec![(path.to_string(), with_lines(archive, path, names.iter().map(|name| name.to_string())))]
        }
        _ => Vec::new(),
    }
}

/// The old content with the lines that it lacks.
fn with_lines(archive: &Archive, path: &str, lines: impl Iterator<Item = String>) -> Vec<u8> {
    let mut content = archive.read_file(path).map(|old| old.to_vec()).unwrap_or_default();
    let text = String::from_utf8_lossy(&content).into_owned();
    let there: BTreeSet<String> = text.lines().map(|line| normalized(line.trim())).collect();
    if content.last().is_some_and(|byte| *byte != b'\n') {
        content.push(b'\n');
    }
    for line in lines.filter(|line| !there.contains(&normalized(line))) {
        content.extend_from_slice(line.as_bytes());
        content.push(b'\n');
    }
    content
}
