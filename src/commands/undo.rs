//! `coldfit undo`.

use std::path::Path;

use serde_json::json;

use super::CommandResult;
use crate::render::output::{AtImage, Output};
use crate::render::progress::Bar;

/// Restores the bytes from before, or rolls back what an interrupted run left.
pub fn run(path: &Path, undo_file: Option<&Path>, output: &Output) -> CommandResult {
    let progress = Bar::new(output.quiet);
    let report = block::undo(path, undo_file, &progress).at_image(path)?;
    drop(progress);
    let value = json!({
        "images": report.images,
        "restored_bytes": report.restored_bytes,
        "undo_file": report.undo_file,
    });
    output.either(&value, |_| {
        let images: Vec<String> = report.images.iter().map(|image| image.display().to_string()).collect();
        match report.restored_bytes {
            0 => format!("{}: holds the bytes from before already\n", images.join(", ")),
            bytes => {
                format!("{}: the bytes from before are back ({bytes} bytes written)\n", images.join(", "))
            }
        }
    })?;
    Ok(0)
}
