//! The structural check.

use std::sync::Arc;

use block::ReadAt;
use hadris_fs::Severity;
use vfs::VfsError;

use crate::device::Blocks;
use crate::error;

/// Room for paths and for the bitmap of clusters: 8 million clusters in one walk.
const SCRATCH_BYTES: usize = (1 << 20) + 1024;
/// Problems kept as text at most.
const MAX_TEXTS: usize = 100;

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Contradictions, one sentence each; the first hundred.
    pub problems: Vec<String>,
    /// All contradictions.
    pub problem_count: u64,
    /// What is no contradiction: a volume that was not unmounted, a free count that is out of date.
    pub notes: Vec<String>,
}

impl CheckReport {
    /// True when nothing contradicts anything.
    pub fn is_clean(&self) -> bool {
        self.problem_count == 0
    }
}

/// Checks the whole filesystem on `device`: boot sector, both FATs, every chain, entry and name. Changes nothing.
pub fn check(device: &Arc<dyn ReadAt>) -> Result<CheckReport, VfsError> {
    let mut report = CheckReport::default();
    let mut scratch = vec![0; SCRATCH_BYTES];
    let mut blocks = Blocks::Read(Arc::clone(device));
    let found = hadris_fat::sync::check(&mut blocks, &mut scratch, |finding| {
        let texts = match finding.severity() {
            Severity::Error => {
                report.problem_count += 1;
                &mut report.problems
            }
            _ => &mut report.notes,
        };
        if texts.len() < MAX_TEXTS {
            texts.push(finding.to_string());
        }
    });
    found.map_err(|failed| error::of(failed, b"/"))?;
    Ok(report)
}
