//! The password field of root.

use cloudspec::RuleSpec;
use config::{Files, shadow};

use super::path;
use crate::{Finding, FixError, Stage};

const SHADOW: &str = "/etc/shadow";
const PASSWD: &str = "/etc/passwd";
/// In the password field of passwd: the password is in shadow (passwd(5)).
const IN_SHADOW: &str = "x";

pub(super) fn run(spec: &RuleSpec, field: &str, stage: &mut Stage<'_>) -> Result<Finding, FixError> {
    let file = path(SHADOW);
    let mut obstacles = Vec::new();
    let passwd = stage.text(PASSWD)?.unwrap_or_default();
    let root = passwd.lines().enumerate().find(|(_, line)| line.starts_with("root:"));
    if let Some((index, line)) = root
        && line.split(':').nth(1) != Some(IN_SHADOW)
    {
        obstacles.push(format!("{PASSWD}:{}: root's password is not in {SHADOW}", index + 1));
    }
    let Some(text) = stage.read(&file)? else {
        obstacles.push(format!("{SHADOW}: there is no such file"));
        return Ok(Finding::of_changes(spec, Vec::new(), obstacles, ""));
    };
    let entry = match shadow::find(&text, "root") {
        Ok(Some(entry)) => Some(entry),
        Ok(None) => {
            obstacles.push(format!("{SHADOW}: root has no line"));
            None
        }
        Err((line, detail)) => {
            obstacles.push(format!("{SHADOW}:{line}: {detail}"));
            None
        }
    };
    let Some(entry) = entry.filter(|_| obstacles.is_empty()) else {
        return Ok(Finding::of_changes(spec, Vec::new(), obstacles, ""));
    };
    let mut changes = Vec::new();
    if entry.password != field {
        let metadata = stage.tree().stat(&file)?;
        if metadata.is_immutable || metadata.is_append_only {
            let change = format!("{SHADOW}: chattr +i or +a is taken off");
            stage.unprotect(&spec.id, &file, vec![change.clone()])?;
            changes.push(change);
        }
        // The old field is a secret: it is not shown.
        let change = format!("{SHADOW}:{}: root's password field is {field}", entry.line);
        let new = shadow::with_password(&text, entry.line, field);
        stage.write(&spec.id, &file, new, vec![change.clone()])?;
        changes.push(change);
    }
    Ok(Finding::of_changes(spec, changes, Vec::new(), format!("root's password field is {field}")))
}
