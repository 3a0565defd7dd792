//! What a check found.

use std::fmt;

/// Problems kept with their text; more are only counted.
const MAX_PROBLEMS: usize = 1000;

/// One contradiction in a filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Stable dotted code, `xfs.check.…`.
    pub code: &'static str,
    /// Which structure: `inode 131`, `group 3`, `bnobt of group 2`, …
    pub place: String,
    /// Expected and found.
    pub detail: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.place, self.detail, self.code)
    }
}

/// Result of [`check`](crate::check()).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckReport {
    /// What is wrong, in the order of the passes; the first thousand.
    pub problems: Vec<Problem>,
    /// All problems, those without text included.
    pub problem_count: u64,
    /// Inodes in use.
    pub inodes_in_use: u64,
    /// Blocks in use.
    pub blocks_in_use: u64,
    /// Directories.
    pub directories: u64,
}

impl CheckReport {
    /// True when nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.problem_count == 0
    }

    pub(crate) fn add(&mut self, code: &'static str, place: impl fmt::Display, detail: impl fmt::Display) {
        self.problem_count = self.problem_count.saturating_add(1);
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(Problem { code, place: place.to_string(), detail: detail.to_string() });
        }
    }
}
