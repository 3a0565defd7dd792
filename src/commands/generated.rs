//! Completions and manual pages, made from the command line's own description.

use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use super::CommandResult;
use crate::cli::args::Cli;
use crate::render::output::{Failure, Output};

/// Prints a completion script.
pub fn completions(shell: Shell, output: &Output) -> CommandResult {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "coldfit", &mut script);
    output.bytes(&script)?;
    Ok(0)
}

/// Writes `coldfit.1` and a page for each command to a directory.
pub fn man(directory: &Path, output: &Output) -> CommandResult {
    clap_mangen::generate_to(Cli::command(), directory)
        .map_err(|error| Failure::host("write manual pages", directory, &error))?;
    output.note(&format!("manual pages written to {}", directory.display()));
    Ok(0)
}
