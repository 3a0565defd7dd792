//! `coldfit profiles`.

use std::path::Path;

use cloudspec::{Profile, RuleKind};

use super::CommandResult;
use crate::cli::args::ProfilesCommand;
use crate::render::output::{Failure, Output};
use crate::render::table::columns;

/// Runs one of the profile commands.
pub fn run(command: ProfilesCommand, output: &Output) -> CommandResult {
    match command {
        ProfilesCommand::List => list(output),
        ProfilesCommand::Show { profile, toml } => show(&profile, toml, output),
    }
}

/// The embedded profile of that name, or the one in that file.
pub fn load(name: &str) -> Result<Profile, Failure> {
    let path = Path::new(name);
    let is_file = name.contains('/') || name.ends_with(".toml") || path.is_file();
    if !is_file {
        return Ok(cloudspec::builtin(name)?);
    }
    let text =
        std::fs::read_to_string(path).map_err(|error| Failure::host("read the profile", path, &error))?;
    Ok(Profile::parse(&text, name)?)
}

fn list(output: &Output) -> CommandResult {
    let profiles = cloudspec::builtin_names().map(cloudspec::builtin).collect::<Result<Vec<_>, _>>()?;
    output.either(&profiles, |profiles| {
        let row = |profile: &Profile| {
            vec![profile.id.clone(), format!("{} rules", profile.rules.len()), profile.title.clone()]
        };
        columns(&profiles.iter().map(row).collect::<Vec<_>>(), 0)
    })?;
    Ok(0)
}

fn show(name: &str, toml: bool, output: &Output) -> CommandResult {
    let profile = load(name)?;
    if toml {
        output.text(&profile.text)?;
        return Ok(0);
    }
    output.either(&profile, |profile| {
        let mut text = format!("{}: {}\n", profile.id, profile.title);
        for rule in &profile.rules {
            let severity = format!("{:?}", rule.severity).to_lowercase();
            text.push_str(&format!("\n{} ({severity})\n  {}\n", rule.id, rule.summary));
            text.push_str(&format!(
                "  value: {}\n  source: {} ({})\n",
                value(&rule.kind),
                rule.source,
                rule.date
            ));
        }
        text
    })?;
    Ok(0)
}

fn value(kind: &RuleKind) -> String {
    match kind {
        RuleKind::InitramfsDrivers { modules, buses } => {
            format!("{} for {}", modules.join(" "), buses.join(", "))
        }
        RuleKind::InitramfsPersistence { modules } => modules.join(" "),
        RuleKind::RootByUuid | RuleKind::FstabByUuid => "UUID=".to_owned(),
        RuleKind::Console { devices } => {
            devices.iter().map(|device| format!("console={device}")).collect::<Vec<_>>().join(" ")
        }
    }
}
