//! The hardware clock is in UTC.

use cloudspec::RuleSpec;
use config::{Files, adjtime, assign};
use guest::Family;

use super::path;
use crate::plan::Context;
use crate::{Finding, FixError, Stage};

const ADJTIME: &str = "/etc/adjtime";

/// A file of init scripts that says it, too.
struct Script {
    file: &'static str,
    key: &'static str,
    /// Values that mean UTC.
    utc: &'static [&'static str],
    line: &'static str,
}

/// `hwclock.sh` of Debian up to 7 and Ubuntu up to 14.04.
const DEBIAN: Script = Script { file: "/etc/default/rcS", key: "UTC", utc: &["yes"], line: "UTC=yes" };
/// `rc.sysinit` of RHEL 5; still read by tools of 6.
const RED_HAT: Script =
    Script { file: "/etc/sysconfig/clock", key: "UTC", utc: &["true", "yes", "1"], line: "UTC=true" };
/// `boot.clock` of SLES 11.
const SUSE: Script =
    Script { file: "/etc/sysconfig/clock", key: "HWCLOCK", utc: &["-u", "--utc"], line: "HWCLOCK=\"-u\"" };
/// OpenRC's `hwclock` service.
const OPENRC: Script =
    Script { file: "/etc/conf.d/hwclock", key: "clock", utc: &["UTC"], line: "clock=\"UTC\"" };

pub(super) fn run(
    spec: &RuleSpec,
    context: &Context<'_>,
    stage: &mut Stage<'_>,
) -> Result<Finding, FixError> {
    let mut changes = Vec::new();
    let file = path(ADJTIME);
    let text = stage.read(&file)?;
    let bytes = text.as_deref().unwrap_or_default();
    if !adjtime::says_utc(bytes) {
        let change = match (text.is_some(), adjtime::is_local(bytes)) {
            (false, _) => format!("{ADJTIME}: made with UTC, which its absence means already"),
            (true, true) => format!("{ADJTIME}:3: LOCAL is UTC"),
            (true, false) => format!("{ADJTIME}:3: says UTC in so many words"),
        };
        stage.write(&spec.id, &file, adjtime::with_utc(bytes), vec![change.clone()])?;
        changes.push(change);
    }
    if let Some(script) = script(context).filter(|script| stage.has(script.file).unwrap_or(false)) {
        let file = path(script.file);
        let text = stage.read(&file)?.unwrap_or_default();
        let value = assign::value(&text, script.key);
        if !value.as_deref().is_some_and(|value| script.utc.contains(&value)) {
            let change =
                format!("{}: {}, it was {}", script.file, script.line, value.as_deref().unwrap_or("not set"));
            stage.write(
                &spec.id,
                &file,
                assign::with(&text, script.key, script.line),
                vec![change.clone()],
            )?;
            changes.push(change);
        }
    }
    Ok(Finding::of_changes(spec, changes, Vec::new(), format!("{ADJTIME} says UTC")))
}

/// The init scripts' own file, where the guest is old enough to have it.
fn script(context: &Context<'_>) -> Option<&'static Script> {
    let os = &context.guest.os;
    match os.family {
        Family::Debian if !os.is_at_least(8, 0) && os.major.is_some() => Some(&DEBIAN),
        Family::Ubuntu if !os.is_at_least(14, 5) && os.major.is_some() => Some(&DEBIAN),
        Family::Suse if !os.is_at_least(12, 0) && os.major.is_some() => Some(&SUSE),
        Family::Alpine => Some(&OPENRC),
        _ if os.el_generation().is_some_and(|generation| generation <= 6) => Some(&RED_HAT),
        _ => None,
    }
}
