//! One file for each group of commands.

mod acceptance;
mod batch;
mod bench;
mod change;
mod check;
mod convert;
pub mod diff;
mod disk_map;
mod fix;
mod fsck;
mod generated;
mod initramfs;
mod inspect;
mod look;
mod profiles;
mod report;
mod undo;

use crate::cli::args::Command;
use crate::render::output::{Failure, Output};

/// Exit code of a command, or why it failed.
pub type CommandResult = Result<u8, Failure>;

/// Runs one command.
pub fn run(command: Command, output: &Output) -> CommandResult {
    match command {
        Command::Inspect { images, image } => inspect::run(&images, &image, output),
        Command::Check { images, rules, image } => check::run(&images, &rules, &image, output),
        Command::Fix { path, dry_run, diff, keep_going, rules, target, copy, image } => {
            let request = fix::Request { path, dry_run, diff, keep_going, rules, target, copy, image };
            fix::run(&request, output)
        }
        Command::Diff(args) => {
            let (paths, content) = (args.paths.as_slice(), args.content);
            let (old, new, image) = (&args.old, &args.new, &args.image);
            diff::run(&diff::Request { old, new, paths, content, image }, output)
        }
        Command::Convert(args) => convert::run(&args, output),
        Command::Bench(args) => bench::run(&args, output),
        Command::Batch(args) => batch::run(&args, output),
        Command::Report(command) => report::run(command, output),
        Command::Undo { path, undo_file } => undo::run(&path, undo_file.as_deref(), output),
        Command::Ls { address, long, recursive, image } => {
            look::ls(&address, long, recursive, &image, output)
        }
        Command::Cat { address, image } => look::cat(&address, &image, output),
        Command::Stat { address, image } => look::stat(&address, &image, output),
        Command::Cp { source, destination, target, image } => {
            change::cp(&source, &destination, &target, &image, output)
        }
        Command::Write { address, append, mode, target, image } => {
            change::write(&address, append, &mode, &target, &image, output)
        }
        Command::Rm { address, recursive, target, image } => {
            change::rm(&address, recursive, &target, &image, output)
        }
        Command::Mkdir { address, parents, mode, target, image } => {
            change::mkdir(&address, parents, &mode, &target, &image, output)
        }
        Command::Chmod { mode, address, target, image } => {
            change::chmod(&mode, &address, &target, &image, output)
        }
        Command::Chown { owner, address, target, image } => {
            change::chown(&owner, &address, &target, &image, output)
        }
        Command::Ln { symbolic, target_path, address, target, image } => {
            change::ln(symbolic, &target_path, &address, &target, &image, output)
        }
        Command::Initramfs(command) => initramfs::run(command, output),
        Command::Fsck { path, image } => fsck::fsck(&path, &image, output),
        Command::Dump { path, layer, image } => fsck::dump(&path, &layer, &image, output),
        Command::Profiles(command) => profiles::run(command, output),
        Command::Completions { shell } => generated::completions(shell, output),
        Command::Man { directory } => generated::man(&directory, output),
    }
}
