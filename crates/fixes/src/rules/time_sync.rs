//! The time daemon asks the demanded servers, and no other daemon sets the clock beside it.

use cloudspec::{RuleKind, RuleSpec};
use config::time_daemon::{self, Daemon, TimeLine};
use config::{Files, Lines, timesyncd};
use guest::{Program, find_program};
use vfs::GuestPath;

use super::{path, services};
use crate::plan::Context;
use crate::{Finding, FixError, Stage};

const CHRONY_FILES: [&str; 2] = ["/etc/chrony.conf", "/etc/chrony/chrony.conf"];
const NTP_FILE: &str = "/etc/ntp.conf";
const TIMESYNCD_FILE: &str = "/etc/systemd/timesyncd.conf.d/99-coldfit.conf";
/// Units of each daemon by distribution, the own name before the alias.
const CHRONY_UNITS: [&str; 2] = ["chrony", "chronyd"];
const NTP_UNITS: [&str; 4] = ["ntp", "ntpd", "ntpsec", "openntpd"];
const TIMESYNCD_UNITS: [&str; 1] = ["systemd-timesyncd"];
/// What Debian and SUSE keep in a place of their own, to which the daemon's confinement is tied.
const KEPT_ELSEWHERE: [&str; 1] = ["driftfile"];

/// The values of the rule.
struct Demand<'a> {
    servers: &'a [String],
    chrony: Vec<String>,
    ntp: Vec<String>,
}

pub(super) fn run(
    spec: &RuleSpec,
    context: &Context<'_>,
    stage: &mut Stage<'_>,
) -> Result<Finding, FixError> {
    let RuleKind::TimeSync { daemon, servers, chrony_server, chrony_lines, ntp_lines, ntp_server } =
        &spec.kind
    else {
        return Ok(Finding::not_applicable(spec, "the rule has no time servers"));
    };
    if daemon == "keep" {
        return Ok(Finding::not_applicable(spec, "the time daemon is left as it is"));
    }
    let mut chrony: Vec<String> = servers.iter().map(|server| chrony_server.replace("{}", server)).collect();
    chrony.extend(chrony_lines.iter().cloned());
    let mut ntp = ntp_lines.clone();
    ntp.extend(
        servers.iter().flat_map(|server| ntp_server.iter().map(move |line| line.replace("{}", server))),
    );
    let demand = Demand { servers, chrony, ntp };

    let has = |program| Ok::<_, FixError>(find_program(stage.tree(), program)?.is_some());
    let (has_chrony, has_ntp) = (has(Program::Chrony)?, has(Program::Ntp)?);
    let (has_ntpsec, has_timesyncd) = (has(Program::Ntpsec)?, has(Program::Timesyncd)?);
    let ntp_is_in_use = has_ntp && any_on(&NTP_UNITS, stage)? && !any_on(&CHRONY_UNITS, stage)?;
    match daemon.as_str() {
        "chrony" | "auto" if has_chrony && !(daemon == "auto" && ntp_is_in_use) => {
            let file = chrony_file(context, stage)?;
            let rivals = [&NTP_UNITS[..], &TIMESYNCD_UNITS].concat();
            let lines = &demand.chrony;
            daemon_lines(spec, Daemon::Chrony, file, lines, &CHRONY_UNITS, &rivals, context, stage)
        }
        "ntp" | "auto" if has_ntp => {
            let rivals = [&CHRONY_UNITS[..], &TIMESYNCD_UNITS].concat();
            let lines = &demand.ntp;
            daemon_lines(spec, Daemon::Ntp, NTP_FILE, lines, &NTP_UNITS[..2], &rivals, context, stage)
        }
        "auto" if has_ntpsec => Ok(Finding::needs_action(
            spec,
            vec![
                "ntpsec is installed, whose configuration is written otherwise than the demanded lines"
                    .into(),
            ],
            "Install chrony in its place, or set the servers in /etc/ntpsec/ntp.conf.",
        )),
        "auto" if has_timesyncd => with_timesyncd(spec, demand.servers, stage),
        "auto" => Ok(no_daemon(spec, "no time daemon is installed", "chrony")),
        other => Ok(no_daemon(spec, &format!("{other} is not installed"), other)),
    }
}

fn no_daemon(spec: &RuleSpec, evidence: &str, package: &str) -> Finding {
    Finding::needs_action(spec, vec![evidence.to_owned()], format!("Install the package {package}."))
}

fn any_on(units: &[&str], stage: &Stage<'_>) -> Result<bool, FixError> {
    for unit in units {
        if services::is_installed(unit, stage)? && services::is_on(unit, stage)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The file that chronyd was built to read: the one that is there, else the family's.
fn chrony_file(context: &Context<'_>, stage: &Stage<'_>) -> Result<&'static str, FixError> {
    let [red_hat, debian] = CHRONY_FILES;
    let order = match context.guest.os.family.is_debian_like() {
        true => [debian, red_hat],
        false => [red_hat, debian],
    };
    for file in order {
        if stage.has(file)? {
            return Ok(file);
        }
    }
    Ok(order[0])
}

#[allow(clippy::too_many_arguments, reason = "one call for each daemon, each argument a fact about it")]
fn daemon_lines(
    spec: &RuleSpec,
    daemon: Daemon,
    file: &str,
    demanded: &[String],
    units: &[&str],
    rivals: &[&str],
    context: &Context<'_>,
    stage: &mut Stage<'_>,
) -> Result<Finding, FixError> {
    let main = path(file);
    let before = time_daemon::read(stage, &main, daemon)?;
    let keeps_own = !context.guest.os.family.is_red_hat();
    // What the distribution keeps in its own place is met by the distribution's line.
    let is_kept = |subject: &str| {
        keeps_own
            && KEPT_ELSEWHERE.contains(&subject)
            && before.iter().any(|line| time_daemon::subject(&line.text) == subject)
    };
    let wanted: Vec<(&str, Option<String>)> = demanded
        .iter()
        .map(|line| (line.as_str(), time_daemon::normalized(line, daemon)))
        .filter(|(_, normalized)| {
            !normalized.as_ref().is_some_and(|text| is_kept(&time_daemon::subject(text)))
        })
        .collect();
    let texts: Vec<&str> = wanted.iter().filter_map(|(_, text)| text.as_deref()).collect();
    let mut subjects: Vec<String> = texts.iter().map(|text| time_daemon::subject(text)).collect();
    if subjects.iter().any(|subject| subject == "rtcsync") {
        // chronyd refuses both together (chrony.conf(5), rtcfile).
        subjects.push("rtcfile".into());
    }
    let is_rival = |line: &&TimeLine| {
        let is_wanted = texts.contains(&line.text.as_str());
        let is_elsewhere = line.file != main;
        (line.is_source() && (!is_wanted || is_elsewhere))
            || (!is_wanted && !line.is_source() && subjects.contains(&time_daemon::subject(&line.text)))
    };
    let (mut changes, mut obstacles) = (Vec::new(), Vec::new());
    for rival in before.iter().filter(is_rival) {
        if !rival.file.starts_with(&path("/etc")) {
            obstacles.push(format!("{}: {} stands outside /etc", rival.place(), rival.text));
            continue;
        }
        let mut lines = Lines::parse(&stage.read(&rival.file)?.unwrap_or_default());
        // A file that is read twice is met twice.
        if lines.get(rival.line).and_then(|text| time_daemon::normalized(text, daemon)).as_ref()
            != Some(&rival.text)
        {
            continue;
        }
        lines.comment_out(rival.line);
        let change = format!("{}: {} is a comment now", rival.place(), rival.text);
        stage.write(&spec.id, &rival.file, lines.to_bytes(), vec![change.clone()])?;
        changes.push(change);
    }
    changes.extend(place(spec, &main, daemon, &wanted, stage)?);

    let after = time_daemon::read(stage, &main, daemon)?;
    for text in &texts {
        if !after.iter().any(|line| line.text == *text) {
            obstacles.push(format!("{file}: {text} was written and is not read"));
        }
    }
    changes.extend(only_daemon(spec, units, rivals, stage)?);
    let sources = after.iter().filter(|line| line.is_source()).count();
    let holds =
        format!("{file} names the demanded servers and no others ({sources} lines); no other daemon runs");
    Ok(Finding::of_changes(spec, changes, obstacles, holds))
}

/// Puts what is missing at the end of the main file; a line that differs in blanks alone is written as demanded.
fn place(
    spec: &RuleSpec,
    main: &GuestPath,
    daemon: Daemon,
    wanted: &[(&str, Option<String>)],
    stage: &mut Stage<'_>,
) -> Result<Vec<String>, FixError> {
    let mut lines = Lines::parse(&stage.read(main)?.unwrap_or_default());
    let mut changes = Vec::new();
    for (literal, normalized) in wanted {
        if lines.has(literal) {
            continue;
        }
        let same = |text: &str| normalized.is_some() && time_daemon::normalized(text, daemon) == *normalized;
        let found = lines.iter().find(|(_, text)| same(text)).map(|(number, _)| number);
        match found {
            Some(number) => lines.set(number, *literal),
            None => lines.push(*literal),
        }
        changes.push(format!("{main}: {literal} added"));
    }
    stage.write(&spec.id, main, lines.to_bytes(), changes.clone())?;
    Ok(changes)
}

/// The daemon starts at boot and no other does.
fn only_daemon(
    spec: &RuleSpec,
    units: &[&str],
    rivals: &[&str],
    stage: &mut Stage<'_>,
) -> Result<Vec<String>, FixError> {
    let mut changes = Vec::new();
    if !any_on(units, stage)? {
        for unit in units {
            if services::is_installed(unit, stage)? {
                changes.extend(services::switch_on(&spec.id, unit, stage)?);
                break;
            }
        }
    }
    for rival in rivals {
        if services::is_installed(rival, stage)?
            && services::is_on(rival, stage)?
            && let Ok(lines) = services::switch_off(&spec.id, rival, false, stage)?
        {
            changes.extend(lines);
        }
    }
    Ok(changes)
}

/// systemd-timesyncd alone: equivalent, though the specification does not name it.
fn with_timesyncd(spec: &RuleSpec, servers: &[String], stage: &mut Stage<'_>) -> Result<Finding, FixError> {
    let mut changes = Vec::new();
    let mut obstacles = Vec::new();
    if timesyncd::servers(stage)? != servers {
        let change = format!("{TIMESYNCD_FILE}: NTP= names the {} demanded servers", servers.len());
        let text = timesyncd::drop_in(servers).into_bytes();
        stage.write(&spec.id, &path(TIMESYNCD_FILE), text, vec![change.clone()])?;
        changes.push(change);
        let now = timesyncd::servers(stage)?;
        if now != servers {
            obstacles.push(format!("a drop-in behind {TIMESYNCD_FILE} makes it {}", now.join(" ")));
        }
    }
    changes.extend(only_daemon(spec, &TIMESYNCD_UNITS, &[], stage)?);
    let mut finding =
        Finding::of_changes(spec, changes, obstacles, "systemd-timesyncd asks the demanded servers");
    finding
        .evidence
        .push("systemd-timesyncd serves in the place of chrony or ntp, which are not installed".into());
    Ok(finding)
}
