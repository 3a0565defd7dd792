//! Stable codes, exit classes, diagnostics and progress events.
//!
//! Every error of every crate says three things through [`Diagnose`]: a stable dotted code
//! (`ext4.feature.unsupported`), the [`Class`] that decides the exit code, and what to do next.

use serde::Serialize;

/// What kind of failure this is; decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// The command line or an argument is wrong.
    Usage,
    /// A feature, filesystem or layout that is named and not handled.
    Unsupported,
    /// The image contradicts itself; nothing was written.
    Damaged,
    /// Not found, permission, in use, no space on the host, I/O error.
    Environment,
    /// No space or no possibility inside the guest; nothing was written.
    NoSpace,
    /// A bug of ours; nothing was committed.
    Bug,
}

impl Class {
    /// The process exit code of this class.
    pub fn exit_code(self) -> u8 {
        match self {
            Class::Usage => 2,
            Class::Unsupported => 3,
            Class::Damaged => 4,
            Class::Environment => 5,
            Class::NoSpace => 6,
            Class::Bug => 70,
        }
    }
}

/// What every error can say about itself beside its text (`Display`).
pub trait Diagnose: std::error::Error {
    /// Stable dotted code; its meaning never changes.
    fn code(&self) -> &'static str;
    /// Decides the exit code.
    fn class(&self) -> Class;
    /// What the user can do next, as a full sentence; `None` when the text says it already.
    fn hint(&self) -> Option<String> {
        None
    }
}

/// A failure as data: what reports and JSON carry.
#[derive(Debug, Clone, Serialize)]
pub struct Diagnostic {
    /// Stable dotted code.
    pub code: &'static str,
    /// Decides the exit code.
    pub class: Class,
    /// What failed, where, expected and found.
    pub message: String,
    /// What to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Diagnostic {
    /// Takes over everything that `error` says.
    pub fn of(error: &dyn Diagnose) -> Self {
        Self { code: error.code(), class: error.class(), message: error.to_string(), hint: error.hint() }
    }
}

/// Events of a long operation. The command line renders them; libraries only send them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// A stage begins: `inspect`, `plan`, `apply`, `verify`, `commit`, …; `total` in bytes if known.
    Stage {
        /// Name of the stage, one of our verbs.
        name: &'a str,
        /// Bytes of work in this stage, when known.
        total: Option<u64>,
    },
    /// `done` bytes of the current stage are through.
    Advance {
        /// Bytes done since the stage began.
        done: u64,
    },
    /// Something the user should know that is no failure (a journal was replayed, a backup header was used).
    Note {
        /// One sentence.
        text: &'a str,
    },
}

/// Receives [`Event`]s.
pub trait Progress: Send + Sync {
    /// Called from the thread that works; must return quickly.
    fn event(&self, event: Event<'_>);
}

/// Drops every event.
#[derive(Debug, Default, Clone, Copy)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _event: Event<'_>) {}
}
