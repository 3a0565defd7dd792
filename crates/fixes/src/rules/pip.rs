//! pip asks the demanded index, where pip is configured.

use cloudspec::RuleSpec;
use config::Files;
use config::ini::Ini;
use vfs::GuestPath;

use super::path;
use crate::{Finding, FixError, Stage};

/// Files for all users (pip's documentation, configuration files, Linux).
const GLOBAL: [&str; 2] = ["/etc/pip.conf", "/etc/xdg/pip/pip.conf"];
/// Files below a home.
const IN_HOME: [&str; 2] = [".pip/pip.conf", ".config/pip/pip.conf"];
/// The one that the specification writes.
const SPECIFIED: &str = "/root/.pip/pip.conf";

pub(super) fn run(
    spec: &RuleSpec,
    mode: &str,
    index_url: &str,
    trusted_host: &str,
    stage: &mut Stage<'_>,
) -> Result<Finding, FixError> {
    if mode == "off" {
        return Ok(Finding::not_applicable(spec, "pip's configuration is left as it is"));
    }
    let mut files = Vec::new();
    for file in candidates(stage)? {
        if stage.exists(&file)? {
            files.push(file);
        }
    }
    if files.is_empty() && mode == "if-present" {
        return Ok(Finding::not_applicable(spec, "no pip configuration exists"));
    }
    if files.is_empty() {
        files.push(path(SPECIFIED));
    }
    let demands = [("global", "index-url", index_url), ("install", "trusted-host", trusted_host)];
    let (mut changes, mut obstacles) = (Vec::new(), Vec::new());
    for file in &files {
        let before = stage.read(file)?.unwrap_or_default();
        let mut text = before.clone();
        let mut here = Vec::new();
        for (section, key, value) in demands {
            match Ini::parse(&text) {
                Ok(ini) => {
                    // `pip install` prefers its own section.
                    let sections: Vec<&str> = match ini.get("install", key) {
                        Some(_) if section == "global" => vec!["global", "install"],
                        _ => vec![section],
                    };
                    for section in sections {
                        let Ok(ini) = Ini::parse(&text) else { break };
                        if ini.get(section, key).is_none_or(|entry| entry.value != value) {
                            text = ini.with(section, key, value);
                            here.push(format!("{file}: [{section}] {key} = {value}"));
                        }
                    }
                }
                Err((line, detail)) => {
                    obstacles.push(format!("{file}:{line}: {detail}"));
                    text.clone_from(&before);
                    here.clear();
                    break;
                }
            }
        }
        if !here.is_empty() {
            stage.write(&spec.id, file, text, here.clone())?;
            changes.extend(here);
        }
    }
    let names: Vec<String> = files.iter().map(ToString::to_string).collect();
    Ok(Finding::of_changes(spec, changes, obstacles, format!("{} ask the demanded index", names.join(", "))))
}

/// Every file that pip would read for somebody.
fn candidates(stage: &Stage<'_>) -> Result<Vec<GuestPath>, FixError> {
    let mut homes = vec![path("/root")];
    for name in stage.list(&path("/home"))? {
        homes.push(path("/home").join(name));
    }
    for line in stage.text("/etc/passwd")?.unwrap_or_default().lines() {
        let home = line.split(':').nth(5).filter(|home| home.starts_with('/') && *home != "/");
        homes.extend(home.map(path));
    }
    let mut files: Vec<GuestPath> = GLOBAL.iter().map(|file| path(file)).collect();
    for home in homes {
        for file in IN_HOME.map(|file| home.join(file)) {
            if !files.contains(&file) {
                files.push(file);
            }
        }
    }
    Ok(files)
}
