//! The first network interface asks for its address, in the form of the program that really sets it up.

use cloudspec::RuleSpec;
use config::net::{self, NetChange, Outcome, Stack, Stacks, Wanted};
use vfs::VfsError;

use super::{path, persistent_names, services};
use crate::{Finding, FixError, Stage, State};

/// Lines on what stays that are told.
const KEPT_MAX: usize = 12;

/// What the profile asks for.
pub(super) struct Demand<'s> {
    /// Name of the interface.
    pub interface: &'s str,
    /// `auto`, `keep`, `cloud-init`, or the name of a stack.
    pub stack: &'s str,
    /// Names are kept by `net.ifnames=0`.
    pub kernel_names: bool,
}

pub(super) fn run(spec: &RuleSpec, demand: &Demand<'_>, stage: &mut Stage<'_>) -> Result<Finding, FixError> {
    if demand.stack == "keep" {
        return Ok(Finding::not_applicable(spec, "the network configuration is kept as it is"));
    }
    let stacks = Stacks::find(stage)?;
    let main = match main_stack(demand, &stacks) {
        Ok(Some(main)) => main,
        Ok(None) => {
            let evidence = vec!["no network program that is known starts at boot".to_owned()];
            return Ok(Finding::needs_action(spec, evidence, "Install or enable one in the guest."));
        }
        Err(why) => return Ok(Finding::of_changes(spec, Vec::new(), vec![why], "")),
    };
    let mut changes = Vec::new();
    if !stacks.running.contains(&main)
        && let Some(service) = service_of(main)
    {
        changes.extend(services::switch_on(&spec.id, service, stage)?);
    }
    let pinned = persistent_names::pinned(stage)?;
    let wanted =
        Wanted { interface: demand.interface, kernel_names: demand.kernel_names, pinned: &pinned, ask: true };
    let mut outcome = plan(main, &wanted, &stacks, stage)?;
    let mut remarks = Vec::new();
    for other in stacks.running.iter().filter(|other| **other != main) {
        // Where ifcfg files are read beside NetworkManager's own, the literal file is there, too.
        let is_reader_too = main == Stack::NmKeyfile && *other == Stack::Ifcfg;
        let wanted = Wanted { ask: is_reader_too, ..wanted };
        let mut found = plan(*other, &wanted, &stacks, stage)?;
        remarks.extend(found.obstacles.drain(..).map(|line| format!("left as it is: {line}")));
        outcome.join(found);
    }
    cloud_init(demand, &stacks, stage, &mut outcome, &mut remarks)?;
    if outcome.obstacles.is_empty() {
        for change in outcome.changes {
            changes.extend(apply(&spec.id, change, stage)?);
        }
    }
    let holds = format!("{} asks by DHCP ({})", demand.interface, main.name());
    let mut finding = Finding::of_changes(spec, changes, outcome.obstacles, holds);
    if finding.state == State::Fixable {
        finding.evidence.push(format!("set up by {}", main.name()));
    }
    let more = outcome.kept.len().saturating_sub(KEPT_MAX);
    finding.evidence.extend(outcome.kept.into_iter().take(KEPT_MAX));
    if more > 0 {
        finding.evidence.push(format!("and {more} more are kept"));
    }
    finding.evidence.extend(remarks);
    Ok(finding)
}

fn main_stack(demand: &Demand<'_>, stacks: &Stacks) -> Result<Option<Stack>, String> {
    match demand.stack {
        "auto" => Ok(stacks.running.first().copied()),
        "cloud-init" if !stacks.has_cloud_init => {
            Err("cloud-init is to set the network up, and it is not installed or does not start".into())
        }
        "cloud-init" => Ok(stacks.running.first().copied()),
        name => match Stack::from_name(name) {
            Some(stack) if stacks.installed.contains(&stack) => Ok(Some(stack)),
            Some(_) => Err(format!("{name} is to set the network up, and it is not installed")),
            None => Err(format!("{name}: no way to set the network up has this name")),
        },
    }
}

fn service_of(stack: Stack) -> Option<&'static str> {
    match stack {
        Stack::Netplan => None,
        Stack::Ifcfg => Some("network"),
        Stack::Wicked => Some("wicked"),
        Stack::NmKeyfile => Some("NetworkManager"),
        Stack::Networkd => Some("systemd-networkd"),
        Stack::Ifupdown => Some("networking"),
    }
}

fn plan(stack: Stack, wanted: &Wanted<'_>, stacks: &Stacks, stage: &Stage<'_>) -> Result<Outcome, VfsError> {
    match stack {
        Stack::Netplan => net::netplan::plan(stage, wanted, stacks.renderer),
        Stack::Ifcfg => net::ifcfg::plan(stage, wanted, stacks.readers),
        Stack::Wicked => net::suse::plan(stage, wanted),
        Stack::NmKeyfile => net::keyfile::plan(stage, wanted),
        Stack::Networkd => net::networkd::plan(stage, wanted),
        Stack::Ifupdown => net::ifupdown::plan(stage, wanted),
    }
}

/// Whether cloud-init writes its own configuration at boot; when that is asked for, the switch against it goes.
fn cloud_init(
    demand: &Demand<'_>,
    stacks: &Stacks,
    stage: &mut Stage<'_>,
    outcome: &mut Outcome,
    remarks: &mut Vec<String>,
) -> Result<(), FixError> {
    if !stacks.has_cloud_init {
        return Ok(());
    }
    let Some(file) = net::cloud_init_switch(stage)? else {
        remarks.push("cloud-init writes a configuration of its own at boot".into());
        return Ok(());
    };
    if demand.stack != "cloud-init" {
        remarks.push(format!("{file}: cloud-init is kept from the network configuration"));
        return Ok(());
    }
    let text = config::Files::text(stage, &file)?.unwrap_or_default();
    let settings = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    // The switch in one line or two, and nothing else.
    let is_alone = settings.map(|line| line.replace(' ', "")).collect::<String>();
    if matches!(is_alone.as_str(), "network:{config:disabled}" | "network:config:disabled") {
        let why = "kept cloud-init from the network configuration".into();
        outcome.changes.push(NetChange::Remove { path: file, why });
    } else {
        let line = text.lines().position(|line| line.contains("disabled")).map_or(1, |line| line + 1);
        outcome.obstacles.push(format!("{file}:{line}: keeps cloud-init from the network configuration"));
    }
    Ok(())
}

/// Stages one change; a line for each thing that changes.
fn apply(rule: &str, change: NetChange, stage: &mut Stage<'_>) -> Result<Vec<String>, FixError> {
    match change {
        NetChange::Remove { path: file, why } => {
            let line = format!("{file}: removed: {why}");
            unprotect(rule, &file, stage)?;
            stage.remove(rule, &path(&file), vec![line.clone()])?;
            Ok(vec![line])
        }
        NetChange::Write { path: file, text, mode, mut why } => {
            let at = path(&file);
            let has_mode = match stage.tree().stat(&at) {
                Ok(metadata) => Some(metadata.mode),
                Err(VfsError::NotFound { .. } | VfsError::NotADirectory { .. }) => None,
                Err(error) => return Err(error.into()),
            };
            let is_same = stage.read(&at)?.is_some_and(|now| now == text.as_bytes());
            let is_same_mode = mode.is_none_or(|mode| has_mode == Some(mode));
            if is_same && is_same_mode {
                return Ok(Vec::new());
            }
            if let (Some(mode), Some(now), false) = (mode, has_mode, is_same_mode) {
                why.push(format!("{file}: mode {now:04o} becomes {mode:04o}"));
            }
            unprotect(rule, &file, stage)?;
            match mode {
                Some(mode) => {
                    stage.write_with_mode(rule, &at, text.into_bytes(), mode, why.clone())?;
                }
                None => stage.write(rule, &at, text.into_bytes(), why.clone())?,
            }
            Ok(why)
        }
    }
}

fn unprotect(rule: &str, file: &str, stage: &mut Stage<'_>) -> Result<(), FixError> {
    let at = path(file);
    if stage.tree().stat(&at).is_ok_and(|metadata| metadata.is_immutable || metadata.is_append_only) {
        stage.unprotect(rule, &at, vec![format!("{file}: no longer protected (chattr)")])?;
    }
    Ok(())
}
