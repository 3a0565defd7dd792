//! `coldfit diff`: what differs between two images.

mod files;
mod layers;
mod walk;

use std::path::{Path, PathBuf};

use serde::Serialize;
use vfs::GuestPath;

use super::CommandResult;
use crate::cli::args::ImageArgs;
use crate::render::output::{Failure, Output, single_line};
use crate::session::{self, Opened};

use files::{Change, FileChange};
use layers::LayerChange;

/// Version of the JSON document (docs/report.md).
const SCHEMA: u32 = 1;
/// Text is handed on in pieces of about this size, so that a large difference never stands in memory.
const PIECE: usize = 64 << 10;

/// What is compared.
pub struct Request<'a> {
    pub old: &'a Path,
    pub new: &'a Path,
    /// Only these paths and what is below them; everything when empty.
    pub paths: &'a [GuestPath],
    /// Text files line by line.
    pub content: bool,
    pub image: &'a ImageArgs,
}

/// Counts for the last line and for JSON.
#[derive(Debug, Default, Serialize)]
struct Counts {
    layers: u64,
    added: u64,
    removed: u64,
    changed: u64,
}

impl Counts {
    fn is_same(&self) -> bool {
        self.layers + self.added + self.removed + self.changed == 0
    }
}

/// Prints differences as they are found: text, or one JSON document written piece by piece.
struct Printer<'o> {
    output: &'o Output,
    pending: String,
    items: u64,
}

impl Printer<'_> {
    fn put(&mut self, text: &str) -> Result<(), Failure> {
        self.pending.push_str(text);
        if self.pending.len() >= PIECE { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.output.text(&std::mem::take(&mut self.pending))
    }

    /// An element of a JSON array.
    fn element(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value)
            .map_err(|error| Failure::new("report.encode", report::Class::Bug, error.to_string()))?;
        let comma = if self.items > 0 { "," } else { "" };
        self.items += 1;
        self.put(&format!("{comma}\n    {text}"))
    }

    fn text_or_json(&mut self, text: &str, json: &str) -> Result<(), Failure> {
        let chosen = if self.output.is_json() { json } else { text };
        self.put(chosen)
    }
}

/// Compares two images. Exit code 0: nothing differs, 1: something does, as diff(1) has it.
pub fn run(request: &Request<'_>, output: &Output) -> CommandResult {
    let old = session::open_for_reading(request.old, request.image, output)?;
    let new = session::open_for_reading(request.new, request.image, output)?;
    let mut printer = Printer { output, pending: String::new(), items: 0 };
    let mut counts = Counts::default();
    let names = serde_json::json!({ "old": request.old, "new": request.new });
    printer
        .text_or_json("", &format!("{{\n  \"schema\": {SCHEMA},\n  \"images\": {names},\n  \"layers\": ["))?;
    // Chosen paths are a question about files only.
    if request.paths.is_empty() {
        for change in layers::compare(&old.image, &new.image) {
            counts.layers += 1;
            print_layer(&mut printer, &change)?;
        }
    }
    printer.items = 0;
    printer.text_or_json("", "],\n  \"files\": [")?;
    for start in starts(request, &old, &new)? {
        let pair = walk::Pair { old: &old.tree, new: &new.tree, with_content: request.content };
        pair.walk(&start, &mut |change| {
            match change.change {
                Change::Added => counts.added += 1,
                Change::Removed => counts.removed += 1,
                Change::Changed => counts.changed += 1,
            }
            print_file(&mut printer, &change)
        })?;
    }
    let summary = serde_json::to_string(&counts).unwrap_or_default();
    printer.text_or_json("", &format!("],\n  \"counts\": {summary}\n}}\n"))?;
    printer.flush()?;
    if !output.is_json() && !counts.is_same() {
        output.note(&format!(
            "{} differences of the disk; {} files added, {} removed, {} changed",
            counts.layers, counts.added, counts.removed, counts.changed
        ));
    }
    Ok(u8::from(!counts.is_same()))
}

/// The paths to start from, each once and none below another.
fn starts(request: &Request<'_>, old: &Opened, new: &Opened) -> Result<Vec<GuestPath>, Failure> {
    if request.paths.is_empty() {
        return Ok(vec![GuestPath::root()]);
    }
    let mut starts: Vec<GuestPath> = Vec::new();
    let mut sorted: Vec<&GuestPath> = request.paths.iter().collect();
    sorted.sort();
    for path in sorted {
        if walk::find(&old.tree, path)?.is_none() && walk::find(&new.tree, path)?.is_none() {
            let message = format!("{path} is in neither image");
            return Err(Failure::new("diff.path.not-found", report::Class::Environment, message));
        }
        if !starts.iter().any(|start| path.starts_with(start)) {
            starts.push(path.clone());
        }
    }
    Ok(starts)
}

fn print_layer(printer: &mut Printer<'_>, change: &LayerChange) -> Result<(), Failure> {
    if printer.output.is_json() {
        return printer.element(change);
    }
    let shown = |value: &Option<String>| value.as_deref().map_or_else(|| "nothing".to_owned(), single_line);
    let text = format!("disk: {}: {} is now {}\n", change.what, shown(&change.old), shown(&change.new));
    printer.put(&text)
}

fn print_file(printer: &mut Printer<'_>, change: &FileChange) -> Result<(), Failure> {
    if printer.output.is_json() {
        return printer.element(change);
    }
    printer.put(&change.text())
}

/// Parses a path argument.
pub fn parse_path(text: &str) -> Result<GuestPath, String> {
    GuestPath::new(text).map_err(|error| error.to_string())
}

/// The arguments of the command.
#[derive(Debug, clap::Args)]
pub struct DiffArgs {
    /// Disk image from before.
    #[arg(value_name = "OLD")]
    pub old: PathBuf,
    /// Disk image from after.
    #[arg(value_name = "NEW")]
    pub new: PathBuf,
    /// Only these paths of the guest and what is below them.
    #[arg(value_name = "/PATH", value_parser = parse_path)]
    pub paths: Vec<GuestPath>,
    /// Show text files line by line.
    #[arg(short = 'c', long)]
    pub content: bool,
    #[command(flatten)]
    pub image: ImageArgs,
}
