//! Effective settings of the SSH server, which stand as lines in its main file, too.

use cloudspec::RuleSpec;
use config::sshd::{self, Scope, SshdConfig, Version};
use config::{Files, Lines};
use guest::{Program, find_program};
use vfs::GuestPath;

use super::path;
use crate::{Finding, FixError, Stage};

const MAIN: &str = "/etc/ssh/sshd_config";
/// SUSE's own file, read when there is none in `/etc`.
const VENDOR: &str = "/usr/etc/ssh/sshd_config";

pub(super) fn run(
    spec: &RuleSpec,
    settings: &[String],
    older_than: Option<&str>,
    older_settings: &[String],
    stage: &mut Stage<'_>,
) -> Result<Finding, FixError> {
    let installed = find_program(stage.tree(), Program::Sshd)?;
    let (main, vendor) = (path(MAIN), path(VENDOR));
    let has_main = stage.exists(&main)?;
    let is_vendor = !has_main && stage.exists(&vendor)?;
    if !has_main && !is_vendor {
        let (evidence, remedy) = match installed {
            Some(_) => {
                ("the SSH server has no configuration file", "Install the package of the SSH server anew.")
            }
            None => ("no SSH server is installed", "Install the package openssh-server (SUSE: openssh)."),
        };
        return Ok(Finding::needs_action(spec, vec![evidence.into()], remedy));
    }
    let version = installed.as_ref().and_then(|program| program.version.as_deref()).and_then(version);
    let settings = for_version(settings, older_than, older_settings, version);
    let read_from = if is_vendor { &vendor } else { &main };
    let problems = SshdConfig::read(stage, read_from)?.problems;
    if !problems.is_empty() {
        return Ok(Finding::of_changes(spec, Vec::new(), problems, ""));
    }
    let mut changes = Vec::new();
    let mut obstacles = Vec::new();
    if is_vendor {
        // Where the file in /etc exists it is read instead of the vendor's.
        let change = format!("{MAIN}: made, with {VENDOR} included");
        let mode = stage.tree().stat(&vendor)?.mode;
        let text = format!("{}\nInclude {VENDOR}\n", sshd::INCLUDE_COMMENT).into_bytes();
        stage.write_with_mode(&spec.id, &main, text, mode, vec![change.clone()])?;
        changes.push(change);
    }
    let mut notes = Vec::new();
    for setting in &settings {
        match sshd::demanded(setting) {
            Ok((keyword, values)) => {
                notes.extend(left_to_match(&SshdConfig::read(stage, &main)?, &keyword, &values));
                changes.extend(meet(spec, &main, setting, &keyword, &values, version, stage)?);
                let config = SshdConfig::read(stage, &main)?;
                if !is_met(&config, &keyword, &values, version) {
                    let now = config.effective(&keyword, version).join(" ");
                    obstacles.push(format!("{MAIN}: {keyword} stays {now}; {setting} was put in the file"));
                }
            }
            Err(detail) => obstacles.push(format!("the profile's setting {setting}: {detail}")),
        }
    }
    let mut finding = Finding::of_changes(
        spec,
        changes,
        obstacles,
        format!("in force, and in {MAIN}: {}", settings.join(", ")),
    );
    finding.evidence.extend(notes);
    Ok(finding)
}

/// Stages what makes one setting effective and literal; what was done.
fn meet(
    spec: &RuleSpec,
    main: &GuestPath,
    setting: &str,
    keyword: &str,
    values: &[String],
    version: Option<Version>,
    stage: &mut Stage<'_>,
) -> Result<Vec<String>, FixError> {
    let config = SshdConfig::read(stage, main)?;
    let adds_up = sshd::adds_up(keyword);
    let is_literal = config.directives.iter().any(|line| {
        line.file == *main
            && line.scope == Scope::Global
            && line.keyword == keyword
            && line.values() == values
    }) && Lines::parse(&stage.read(main)?.unwrap_or_default()).has(setting);
    if is_met(&config, keyword, values, version) && (is_literal || adds_up) {
        return Ok(Vec::new());
    }
    let mut changes = Vec::new();
    if !adds_up {
        changes.extend(silence_rivals(spec, main, &config, keyword, values, stage)?);
    }
    let config = SshdConfig::read(stage, main)?;
    let text = stage.read(main)?.unwrap_or_default();
    let placed = sshd::place_setting(&text, main, &config, setting, adds_up);
    let here: Vec<String> = placed.changes.iter().map(|change| format!("{MAIN}:{change}")).collect();
    stage.write(&spec.id, main, placed.text, here.clone())?;
    changes.extend(here);
    Ok(changes)
}

/// Other values for all connections in drop-ins and in `Match all` become comments. Files outside `/etc` belong
/// to packages and stay: the main file's line comes before them.
fn silence_rivals(
    spec: &RuleSpec,
    main: &GuestPath,
    config: &SshdConfig,
    keyword: &str,
    values: &[String],
    stage: &mut Stage<'_>,
) -> Result<Vec<String>, FixError> {
    let mut changes = Vec::new();
    for line in config.setting(keyword) {
        let is_in_place = line.file == *main && line.scope == Scope::Global;
        if is_in_place || line.values() == values || !line.file.starts_with(&path("/etc")) {
            continue;
        }
        let mut lines = Lines::parse(&stage.read(&line.file)?.unwrap_or_default());
        // A file that is included twice is met twice.
        if lines.get(line.line).is_none_or(|text| text.starts_with('#')) {
            continue;
        }
        let text = lines.get(line.line).unwrap_or_default().trim().to_owned();
        let change = format!("{}: {text} is a comment now", line.place());
        lines.comment_out(line.line);
        stage.write(&spec.id, &line.file, lines.to_bytes(), vec![change.clone()])?;
        changes.push(change);
    }
    Ok(changes)
}

fn is_met(config: &SshdConfig, keyword: &str, values: &[String], version: Option<Version>) -> bool {
    let now = config.effective(keyword, version);
    match sshd::adds_up(keyword) {
        true => values.iter().all(|value| now.contains(value)),
        false => now == values,
    }
}

/// `Match` blocks are somebody's decision for some connections: they are named and stay.
fn left_to_match(config: &SshdConfig, keyword: &str, values: &[String]) -> Vec<String> {
    let others = config.conditional(keyword).filter(|(line, _)| line.values() != values);
    others
        .map(|(line, criteria)| {
            let value = line.arguments.join(" ");
            format!(
                "{}: Match {criteria} sets {keyword} {value} for those connections, left as it is",
                line.place()
            )
        })
        .collect()
}

/// The settings, with those for older servers in the place of the ones of the same keyword.
fn for_version(
    settings: &[String],
    older_than: Option<&str>,
    older_settings: &[String],
    version: Option<Version>,
) -> Vec<String> {
    let is_older = match (version, older_than.and_then(self::version)) {
        (Some(version), Some(limit)) => version < limit,
        _ => false,
    };
    if !is_older {
        return settings.to_vec();
    }
    let keyword = |setting: &str| setting.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
    let older = |setting: &String| older_settings.iter().find(|older| keyword(older) == keyword(setting));
    settings.iter().map(|setting| older(setting).unwrap_or(setting).clone()).collect()
}

/// Major and minor of `9.2p1`, `1:9.2p1-2+deb12u3`, `7.0`.
fn version(text: &str) -> Option<Version> {
    let text = text.split_once(':').map_or(text, |(_, rest)| rest);
    let (major, rest) = text.split_once('.')?;
    let minor: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some((major.parse().ok()?, minor.parse().ok()?))
}
