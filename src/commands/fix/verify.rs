//! What is checked before a commit.

use fixes::Selection;
use report::Class;
use stack::SealedImage;

use super::Report;
use super::edits::digest_of_file;
use crate::commands::acceptance::Import;
use crate::render::output::Failure;

/// What is checked through the overlay, everything read anew, before the commit.
pub struct Verification<'a> {
    pub profile: &'a cloudspec::Profile,
    pub selection: &'a Selection,
    pub devices: &'a vfs::DeviceTable,
}

impl Verification<'_> {
    /// Checks the sealed image; the report takes over what was seen.
    pub fn run(&self, sealed: &SealedImage, report: &mut Report) -> Result<(), Failure> {
        sealed.verify()?;
        for name in sealed.changed_filesystems() {
            report.verified.push(format!("{name}: the structure of its filesystem is sound"));
        }
        let tree = sealed.reopen_tree()?;
        for edit in &report.edits {
            let Some(planned) = &edit.new_sha256 else { continue };
            let found = digest_of_file(&tree, &edit.path)?;
            if found != *planned {
                return Err(bug(format!("{}: reads back as {found}, planned was {planned}", edit.path)));
            }
        }
        report.verified.push(format!("{} changed files read back as planned", report.edits.len()));
        let guest = guest::inspect(&tree, self.devices)?;
        let again = fixes::plan(&tree, self.devices, &guest, self.profile, self.selection)?;
        if let Some(planned) = again.disk_edits.first() {
            return Err(bug(format!("the disk would be changed again: {}", planned.edit)));
        }
        if let Some(edit) = again.edits.first() {
            return Err(bug(format!("{}: would be changed again: {}", edit.path, edit.summary.join("; "))));
        }
        report.verified.push("a second run would change nothing".into());
        report.boot_after = guest::verdict(&guest, self.devices);
        let lost = report
            .boot_before
            .iter()
            .find(|(bus, verdict)| verdict.boots() && !report.boot_after[bus].boots());
        if let Some((bus, _)) = lost {
            return Err(bug(format!("the guest would no longer boot on {bus}")));
        }
        report.findings_after = again.findings;
        report.import = Import::new(self.profile, &guest, self.devices, &report.boot_after);
        report.verified.push("every bus that it booted on is still one that it boots on".into());
        Ok(())
    }
}

fn bug(message: String) -> Failure {
    Failure::new("bug.verify", Class::Bug, message).with_hint("Nothing was committed. Please report this.")
}
