//! Effective kernel settings after all sysctl files, which stand as lines in `/etc/sysctl.conf`, too.

use cloudspec::RuleSpec;
use config::sysctl::{self, MAIN, Reader, SysctlConfig};
use config::{Files, Lines};

use super::path;
use crate::plan::Context;
use crate::{Finding, FixError, Stage};

/// The name by which distributions have systemd read `/etc/sysctl.conf` (sysctl.d(5)).
const LINK: &str = "/etc/sysctl.d/99-sysctl.conf";
const LINK_TARGET: &str = "../sysctl.conf";
/// Files of our own, in the order in which they are tried: the first that is read late enough.
const OWN: [&str; 3] =
    ["/etc/sysctl.d/99-coldfit.conf", "/etc/sysctl.d/zz-coldfit.conf", "/etc/sysctl.d/zzzz-coldfit.conf"];

pub(super) fn run(
    spec: &RuleSpec,
    settings: &[String],
    context: &Context<'_>,
    stage: &mut Stage<'_>,
) -> Result<Finding, FixError> {
    let reader = reader(context);
    let wanted: Vec<(String, String)> = settings.iter().filter_map(|line| sysctl::demanded(line)).collect();
    if wanted.len() != settings.len() {
        let detail = "the profile has a line that is not key = value".to_owned();
        return Ok(Finding::of_changes(spec, Vec::new(), vec![detail], ""));
    }
    let keys: Vec<String> = wanted.iter().map(|(key, _)| key.clone()).collect();
    let mut notes = differences(context, &wanted, stage)?;
    let mut changes = Vec::new();

    // The lines in the file that a text search looks at; it counts where it is read.
    let main = path(MAIN);
    let before = stage.read(&main)?;
    let (text, placed) = sysctl::place_settings(before.as_deref().unwrap_or_default(), settings);
    if !placed.is_empty() {
        let here: Vec<String> = placed.iter().map(|change| format!("{MAIN}:{change}")).collect();
        stage.write(&spec.id, &main, text.clone(), here.clone())?;
        changes.extend(here);
    }
    let config = SysctlConfig::read(stage, reader)?;
    if config.reads(stage, &main)?.is_none()
        && unmet(&config, &wanted).next().is_some()
        && sysctl::has_only(&text, &keys)
        && !stage.exists(&path(LINK))?
        && stage.link_target(&path(LINK))?.is_none()
    {
        // Nothing else in the file comes to life by the link.
        let change = format!("{LINK} leads to {MAIN}, which systemd would not read otherwise");
        stage.link(&spec.id, &path(LINK), LINK_TARGET, vec![change.clone()])?;
        changes.push(change);
    }
    changes.extend(silence_rivals(spec, reader, &wanted, stage)?);
    changes.extend(own_file(spec, reader, settings, &wanted, stage)?);

    let config = SysctlConfig::read(stage, reader)?;
    let obstacles: Vec<String> = unmet(&config, &wanted)
        .map(|(key, value)| {
            let place = config.winner(key).map_or_else(|| "no file".to_owned(), sysctl::Assignment::place);
            format!("{place} decides about {key}, which is not {value}, and no later file beats it")
        })
        .collect();
    notes.extend(interface_patterns(&config, &wanted));
    notes.extend(config.ignored.iter().map(|place| format!("{place}: no assignment; passed over at boot")));
    let holds = format!("all {} settings are in force, and in {MAIN}", settings.len());
    let mut finding = Finding::of_changes(spec, changes, obstacles, holds);
    finding.evidence.extend(notes);
    Ok(finding)
}

/// Who reads the files at boot.
fn reader(context: &Context<'_>) -> Reader {
    let os = &context.guest.os;
    match context.guest.init.as_deref() {
        Some("systemd") | None if os.el_generation() != Some(6) => Reader::Systemd,
        _ if os.el_generation().is_some_and(|generation| generation <= 6) => Reader::Initscripts,
        _ => Reader::Procps,
    }
}

fn unmet<'w>(
    config: &'w SysctlConfig,
    wanted: &'w [(String, String)],
) -> impl Iterator<Item = &'w (String, String)> {
    wanted.iter().filter(|(key, value)| config.effective(key) != Some(value))
}

/// Lines below `/etc` that come after ours and say otherwise become comments.
fn silence_rivals(
    spec: &RuleSpec,
    reader: Reader,
    wanted: &[(String, String)],
    stage: &mut Stage<'_>,
) -> Result<Vec<String>, FixError> {
    let mut changes = Vec::new();
    let config = SysctlConfig::read(stage, reader)?;
    for (key, value) in unmet(&config, wanted) {
        // The last line that is right decides once those behind it are gone; without one all rivals stay.
        let of_key: Vec<_> = config.assignments.iter().filter(|line| line.key == *key).collect();
        let Some(right) = of_key.iter().rposition(|line| line.value.as_ref() == Some(value)) else {
            continue;
        };
        for rival in of_key.iter().skip(right + 1) {
            if !rival.file.starts_with(&path("/etc")) {
                continue;
            }
            let mut lines = Lines::parse(&stage.read(&rival.file)?.unwrap_or_default());
            let text = lines.get(rival.line).unwrap_or_default().trim().to_owned();
            let change = format!("{}: {text} is a comment now", rival.place());
            lines.comment_out(rival.line);
            stage.write(&spec.id, &rival.file, lines.to_bytes(), vec![change.clone()])?;
            changes.push(change);
        }
    }
    Ok(changes)
}

/// A file of our own for what is still not in force: `/etc/sysctl.conf` is not read, or a package's file comes
/// after it.
fn own_file(
    spec: &RuleSpec,
    reader: Reader,
    settings: &[String],
    wanted: &[(String, String)],
    stage: &mut Stage<'_>,
) -> Result<Vec<String>, FixError> {
    let config = SysctlConfig::read(stage, reader)?;
    let missing: Vec<&str> = unmet(&config, wanted).map(|(key, _)| key.as_str()).collect();
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let is_missing =
        |line: &&String| sysctl::demanded(line).is_some_and(|(key, _)| missing.contains(&key.as_str()));
    let lines: Vec<String> = settings.iter().filter(is_missing).cloned().collect();
    let latest =
        missing.iter().filter_map(|key| config.winner(key)?.file.file_name().map(<[u8]>::to_vec)).max();
    let is_late = |file: &&&str| {
        let name = file.rsplit('/').next().unwrap_or_default().as_bytes();
        latest.as_deref().is_none_or(|latest| latest <= name)
    };
    let Some(own) = OWN.iter().find(is_late) else { return Ok(Vec::new()) };
    let (text, placed) = sysctl::place_settings(&stage.read(&path(own))?.unwrap_or_default(), &lines);
    let changes: Vec<String> = placed.iter().map(|change| format!("{own}:{change}")).collect();
    stage.write(&spec.id, &path(own), text, changes.clone())?;
    Ok(changes)
}

/// Where `sysctl --system`, run by hand, gives another result than the boot does.
fn differences(
    context: &Context<'_>,
    wanted: &[(String, String)],
    stage: &Stage<'_>,
) -> Result<Vec<String>, FixError> {
    if reader(context) != Reader::Systemd {
        return Ok(Vec::new());
    }
    let systemd = SysctlConfig::read(stage, Reader::Systemd)?;
    let procps = SysctlConfig::read(stage, Reader::Procps)?;
    let differing = wanted.iter().filter(|(key, _)| systemd.effective(key) != procps.effective(key));
    Ok(differing
        .map(|(key, _)| {
            let shown =
                |config: &SysctlConfig| config.effective(key).unwrap_or("the kernel's own").to_owned();
            format!("{key} was {} at boot and {} by sysctl --system", shown(&systemd), shown(&procps))
        })
        .collect())
}

/// Patterns that give single interfaces another value than the demanded one for all: the kernel takes the
/// greater of both (Documentation/networking/ip-sysctl.rst, rp_filter, arp_announce).
fn interface_patterns(config: &SysctlConfig, wanted: &[(String, String)]) -> Vec<String> {
    let mut notes = Vec::new();
    for (key, value) in wanted {
        let Some(setting) = key.strip_prefix("net/ipv4/conf/all/") else { continue };
        let some_interface = format!("net/ipv4/conf/eth0/{setting}");
        let Some(line) = config.winner(&some_interface) else { continue };
        if let Some(other) = line.value.as_ref().filter(|other| *other != value) {
            let effective = match (other.parse::<i64>(), value.parse::<i64>()) {
                (Ok(other), Ok(value)) => other.max(value).to_string(),
                _ => other.clone(),
            };
            notes.push(format!(
                "{}: {} = {other}: interfaces have {setting} {effective}, the greater of theirs and {value} for all",
                line.place(),
                line.key
            ));
        }
    }
    notes
}
