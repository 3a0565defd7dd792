//! What can go wrong while an image is built or booted.

use std::path::PathBuf;

/// A failure of the lab: always fatal for the build or boot that met it.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A reference tool is missing on this machine.
    #[error("`{tool}` is not installed; scripts/setup.sh installs it")]
    MissingTool {
        /// Name of the program.
        tool: String,
    },
    /// A reference tool failed.
    #[error("`{command}` failed ({status}):\n{output}")]
    Tool {
        /// The command line.
        command: String,
        /// Exit status as text.
        status: String,
        /// The end of what it printed.
        output: String,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A freshly built image lacks the property it was made for.
    #[error("{image}: {claim} is not so: {found}")]
    Proof {
        /// The image's name.
        image: String,
        /// What the recipe promises.
        claim: String,
        /// What was found instead.
        found: String,
    },
    /// A boot that builds an image did not end as it must.
    #[error("{stage}: the guest did not reach `{marker}`; the end of its log:\n{log}")]
    Guest {
        /// Which boot.
        stage: String,
        /// The line that was waited for.
        marker: String,
        /// The end of the serial log and the screen.
        log: String,
    },
    /// The emulator was killed by a signal; the guest had no part in it.
    #[error("{0}")]
    Emulator(String),
    /// Something about this machine that the lab needs is not there.
    #[error("{0}")]
    Machine(String),
}

/// Shorthand of this crate.
pub type Result<T, E = LabError> = std::result::Result<T, E>;

/// Attaches a path to an I/O error.
pub(crate) fn at(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> LabError {
    let path = path.into();
    move |source| LabError::Io { path, source }
}
