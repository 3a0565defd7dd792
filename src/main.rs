//! The `coldfit` command: parse, call the crates, render, exit code.

mod cli;
mod commands;
mod interrupt;
mod render;
mod session;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::Parser;
use report::Class;

use crate::cli::args::Cli;
use crate::render::output::{Failure, Output, READER_GONE};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output::new(&cli.output);
    // A panic is a bug of ours. Nothing is committed by then, or the journal beside the image rolls it back.
    let result =
        catch_unwind(AssertUnwindSafe(|| commands::run(cli.command, &output))).unwrap_or_else(|_| {
            let failure =
                Failure::new("bug.panic", Class::Bug, "an internal check failed (see the message above)");
            Err(failure.with_hint(
                "Nothing was committed. Please report this with the command and the message above.",
            ))
        });
    match result {
        Ok(code) => ExitCode::from(code),
        Err(failure) if failure.diagnostic.code == READER_GONE => ExitCode::SUCCESS,
        Err(failure) => {
            output.failure(&failure);
            ExitCode::from(failure.diagnostic.class.exit_code())
        }
    }
}
