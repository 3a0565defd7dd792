//! No swap is configured, and no boot waits for a swap device.
//!
//! What waits for a device to resume from: `resume=` (kernel, Documentation/admin-guide/kernel-parameters.txt),
//! `RESUME=` of initramfs-tools(7) in `/etc/initramfs-tools/conf.d` and in `conf/conf.d` inside each initramfs, and
//! `etc/cmdline.d` that dracut writes into a host-only initramfs (dracut.cmdline(7)).

use boot::CommandLine;
use cloudspec::RuleSpec;
use config::Files;
use vfs::Fstab;

use super::arguments::{self, Outcome};
use super::kernel_args::remove_from_sources;
use super::path;
use crate::plan::Context;
use crate::{Finding, FixError, Stage};

const FSTAB: &str = "/etc/fstab";
const UNITS: &str = "/etc/systemd/system";
const RESUME_FILE: &str = "/etc/initramfs-tools/conf.d/resume";
const RESUME_KEYS: [&str; 2] = ["resume", "resume_offset"];

pub(super) fn run(
    spec: &RuleSpec,
    context: &Context<'_>,
    stage: &mut Stage<'_>,
) -> Result<Finding, FixError> {
    let mut outcome = Outcome::new(spec, context);
    fstab(&spec.id, stage, &mut outcome)?;
    swap_units(&spec.id, stage, &mut outcome)?;
    arguments::edit_entries(&spec.id, stage, &mut outcome, |entry| Ok(without_resume(entry.arguments)))?;
    remove_from_sources(&spec.id, &RESUME_KEYS, stage, &mut outcome)?;
    initramfs_tools(&spec.id, context, stage, &mut outcome)?;
    let mut inside = stage.edit_inside(&spec.id, context.guest, may_resume, without_resume_inside)?;
    outcome.changes.append(&mut inside.changes);
    outcome.obstacles.append(&mut inside.obstacles);
    let holds = "fstab has no swap, and nothing resumes";
    let mut finding = Finding::of_changes(spec, outcome.changes, outcome.obstacles, holds);
    finding.evidence.extend(inside.remarks);
    Ok(finding)
}

/// Takes the arguments out; says what they were.
fn without_resume(line: &mut CommandLine) -> Vec<String> {
    let mut changes = Vec::new();
    for key in RESUME_KEYS {
        for value in line.values(key) {
            changes.push(format!("{key}={value} removed"));
        }
        line.remove(key);
    }
    changes
}

fn fstab(rule: &str, stage: &mut Stage<'_>, outcome: &mut Outcome<'_>) -> Result<(), FixError> {
    let Some(text) = stage.read(&path(FSTAB))? else { return Ok(()) };
    let mut fstab = Fstab::parse(&text);
    let mut changes = Vec::new();
    for entry in fstab.entries().filter(vfs::FstabEntry::is_swap).collect::<Vec<_>>() {
        let device = String::from_utf8_lossy(&entry.device).into_owned();
        if fstab.remove_entry(entry.id) {
            changes.push(format!("{FSTAB}:{}: swap on {device} removed", entry.id.line()));
        }
    }
    if !changes.is_empty() {
        stage.write(rule, &path(FSTAB), fstab.to_bytes(), changes.clone())?;
        outcome.changes.append(&mut changes);
    }
    Ok(())
}

/// Swap units of the administrator (systemd.swap(5)) are masked; what generators make from fstab goes with its line.
fn swap_units(rule: &str, stage: &mut Stage<'_>, outcome: &mut Outcome<'_>) -> Result<(), FixError> {
    for name in stage.names(UNITS)?.into_iter().filter(|name| name.ends_with(".swap")) {
        let unit = path(UNITS).join(&name);
        if Files::link_target(stage, &unit)?.as_deref() == Some(b"/dev/null") {
            continue;
        }
        let change = format!("{unit}: masked");
        stage.link(rule, &unit, "/dev/null", vec![change.clone()])?;
        outcome.changes.push(change);
    }
    Ok(())
}

/// `RESUME=none` keeps the next `update-initramfs` from looking for a swap device.
fn initramfs_tools(
    rule: &str,
    context: &Context<'_>,
    stage: &mut Stage<'_>,
    outcome: &mut Outcome<'_>,
) -> Result<(), FixError> {
    let file = path(RESUME_FILE);
    let now = stage.read(&file)?;
    let has_swap = context.devices.volumes.iter().any(|volume| volume.content.as_deref() == Some("swap"));
    let is_used = stage.has("/usr/share/initramfs-tools")? || stage.has("/usr/sbin/mkinitramfs")?;
    let is_none = |text: &[u8]| resume_values(text).last().is_some_and(|value| value == "none");
    let is_met = match &now {
        Some(text) => is_none(text),
        None => !(has_swap && is_used),
    };
    if is_met {
        return Ok(());
    }
    let change = format!("{RESUME_FILE}: RESUME=none");
    stage.write(rule, &file, b"RESUME=none\n".to_vec(), vec![change.clone()])?;
    outcome.changes.push(change);
    Ok(())
}

/// Values of `RESUME=` in a file that a shell reads.
fn resume_values(text: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(text)
        .lines()
        .filter_map(|line| line.trim().strip_prefix("RESUME="))
        .map(|value| value.trim_matches(['"', '\'']).to_owned())
        .collect()
}

/// Files inside an initramfs that may name a device to resume from.
fn may_resume(inside: &str) -> bool {
    inside.starts_with("conf/conf.d/") || inside.starts_with("etc/cmdline.d/")
}

/// New content of a file inside an initramfs; `None` when it names no device to resume from.
fn without_resume_inside(name: &str, content: &[u8]) -> Option<Vec<u8>> {
    if name.starts_with("conf/conf.d/") {
        let waits = resume_values(content).iter().any(|value| !matches!(value.as_str(), "" | "none"));
        // An empty value is understood by every release; `none` only by newer ones.
        return waits.then(|| {
            replace_lines(content, |line| {
                let is_resume = line.trim_start().starts_with("RESUME=");
                is_resume.then(|| "RESUME=".to_owned())
            })
        });
    }
    let mut line =
        CommandLine::parse(&content.iter().map(|b| if *b == b'\n' { b' ' } else { *b }).collect::<Vec<_>>());
    if without_resume(&mut line).is_empty() {
        return None;
    }
    let mut content = line.to_bytes();
    content.push(b'\n');
    Some(content)
}

/// The text with some lines replaced; the others keep their bytes.
fn replace_lines(content: &[u8], new: impl Fn(&str) -> Option<String>) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len());
    for line in content.split_inclusive(|byte| *byte == b'\n') {
        let text = String::from_utf8_lossy(line);
        match new(text.trim_end_matches('\n')) {
            Some(replacement) => {
                out.extend_from_slice(replacement.as_bytes());
                out.push(b'\n');
            }
            None => out.extend_from_slice(line),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resume_goes_from_files_inside_and_all_else_stays() {
        let tools = |text: &str| without_resume_inside("conf/conf.d/resume", text.as_bytes());
        assert_eq!(tools("A=1\nRESUME=UUID=x\nB=2\n").unwrap(), b"A=1\nRESUME=\nB=2\n");
        assert_eq!(tools("RESUME=none\n"), None);
        assert_eq!(tools("RESUME=\n"), None);
        let dracut = |text: &str| without_resume_inside("etc/cmdline.d/95resume.conf", text.as_bytes());
        assert_eq!(dracut(" resume=UUID=x \n").map(|text| text.trim_ascii().to_vec()), Some(Vec::new()));
        assert_eq!(dracut("rd.md=0 resume=/dev/sda2 resume_offset=3\n").unwrap().trim_ascii(), b"rd.md=0");
        assert_eq!(dracut("root=UUID=x\n"), None);
    }
}
