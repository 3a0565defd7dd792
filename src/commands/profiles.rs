//! `coldfit profiles`.

use std::path::Path;

use cloudspec::{Profile, RuleKind};
use serde_json::Value;

use super::CommandResult;
use crate::cli::args::ProfilesCommand;
use crate::render::output::{Failure, Output};
use crate::render::table::columns;

/// Runs one of the profile commands.
pub fn run(command: ProfilesCommand, output: &Output) -> CommandResult {
    match command {
        ProfilesCommand::List => list(output),
        ProfilesCommand::Show { profile, set, toml } => show(&profile, &set, toml, output),
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

fn show(name: &str, set: &[(String, String)], toml: bool, output: &Output) -> CommandResult {
    let profile = load(name)?.with(set)?;
    if toml {
        output.text(&profile.text)?;
        return Ok(0);
    }
    output.either(&profile, text)?;
    Ok(0)
}

fn text(profile: &Profile) -> String {
    let mut text = format!("{}: {}\n", profile.id, profile.title);
    if !profile.switches.is_empty() {
        text.push_str("\nswitches (--set NAME=VALUE)\n");
        for switch in &profile.switches {
            let values: Vec<String> = switch
                .values
                .iter()
                .map(|value| if *value == switch.value { format!("[{value}]") } else { value.clone() })
                .collect();
            text.push_str(&format!("  {}: {}\n    {}\n", switch.name, values.join(" "), switch.summary));
        }
    }
    text.push_str("\nrules\n");
    for rule in &profile.rules {
        let severity = format!("{:?}", rule.severity).to_lowercase();
        let row = rule.row.as_ref().map(|row| format!(" [{row}]")).unwrap_or_default();
        text.push_str(&format!("\n{}{row} ({severity})\n  {}\n", rule.id, rule.summary));
        for (what, names) in
            [("for", &rule.families), ("for", &rule.architectures), ("looked at by", &rule.check_items)]
        {
            if !names.is_empty() {
                text.push_str(&format!("  {what}: {}\n", names.join(", ")));
            }
        }
        for value in values(&rule.kind) {
            text.push_str(&format!("  {value}\n"));
        }
        if let Some(because) = &rule.waived {
            text.push_str(&format!("  waived: because {because}\n"));
        }
        text.push_str(&format!("  source: {} ({})\n", rule.source, rule.date));
    }
    text
}

/// The values of a rule, one `name: value` each.
fn values(kind: &RuleKind) -> Vec<String> {
    let Ok(Value::Object(fields)) = serde_json::to_value(kind) else { return Vec::new() };
    let shown = |value: &Value| match value {
        Value::String(text) => text.trim_end().replace('\n', " | "),
        Value::Array(values) => values
            .iter()
            .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
            .collect::<Vec<_>>()
            .join(", "),
        other => other.to_string(),
    };
    fields
        .iter()
        .filter(|(name, _)| *name != "kind")
        .map(|(name, value)| format!("{name}: {}", shown(value)))
        .collect()
}
