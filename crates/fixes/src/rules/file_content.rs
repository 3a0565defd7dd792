//! A file has exactly these bytes.

use cloudspec::RuleSpec;
use config::Files;

use super::path;
use crate::{Finding, FixError, Stage};

/// Mode of a file that takes the place of a symlink or of nothing.
const MODE: u16 = 0o644;

pub(super) fn run(
    spec: &RuleSpec,
    file: &str,
    content: &str,
    stage: &mut Stage<'_>,
) -> Result<Finding, FixError> {
    let guest_path = path(file);
    let link = stage.link_target(&guest_path)?;
    let now = stage.read(&guest_path)?;
    if link.is_none() && now.as_deref() == Some(content.as_bytes()) {
        return Ok(Finding::of_changes(spec, Vec::new(), Vec::new(), format!("{file} is as demanded")));
    }
    let change = match (&link, &now) {
        (Some(target), _) => {
            format!("{file}: a file in the place of the link to {}", String::from_utf8_lossy(target))
        }
        (None, Some(now)) => format!("{file}: {} bytes in the place of {}", content.len(), now.len()),
        (None, None) => format!("{file}: made, {} bytes", content.len()),
    };
    let bytes = content.as_bytes().to_vec();
    stage.write_no_follow(&spec.id, &guest_path, bytes.clone(), vec![change.clone()])?;
    if link.is_some() {
        stage.write_with_mode(&spec.id, &guest_path, bytes, MODE, vec![change.clone()])?;
    }
    Ok(Finding::of_changes(spec, vec![change], Vec::new(), ""))
}
