//! Opening images and bringing changes into them: what every command shares.

use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use block::{Access, CommitReport};
use report::{Event, Progress};
use serde::Serialize;
use stack::{CommitTarget, Image, OpenOptions, SealedImage};
use vfs::{GuestTree, Timestamp};

use crate::cli::args::{ImageArgs, ImageFormat, TargetArgs};
use crate::commands::CommandResult;
use crate::render::output::{AtImage, Failure, Output};
use crate::render::progress::Bar;

/// An image opened for looking, with its guest's files.
pub struct Opened {
    /// The image; dropping it drops every change.
    pub image: Image,
    /// The guest's files.
    pub tree: GuestTree,
}

/// Seconds by stage.
#[derive(Debug, Default, Serialize)]
pub struct Timings {
    /// Name of the stage and seconds.
    #[serde(flatten)]
    stages: serde_json::Map<String, serde_json::Value>,
}

impl Timings {
    /// Runs one stage and notes how long it took.
    pub fn stage<T>(&mut self, name: &str, progress: &dyn Progress, work: impl FnOnce() -> T) -> T {
        progress.event(Event::Stage { name, total: None });
        let started = Instant::now();
        let result = work();
        self.note(name, started.elapsed().as_secs_f64());
        result
    }

    /// All of them.
    pub fn seconds(&self) -> std::collections::BTreeMap<String, f64> {
        self.stages.iter().filter_map(|(name, value)| Some((name.clone(), value.as_f64()?))).collect()
    }

    /// Notes a time that was measured elsewhere.
    pub fn note(&mut self, name: &str, seconds: f64) {
        self.stages.insert(name.to_owned(), ((seconds * 1e6).round() / 1e6).into());
    }
}

/// What a commit did, for reports.
#[derive(Debug, Serialize)]
pub struct Committed {
    /// File that holds the changed image.
    pub target: PathBuf,
    /// Bytes written to it.
    pub written_bytes: u64,
    /// Bytes written to the journal.
    pub journal_bytes: u64,
    /// Where the bytes from before are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undo_file: Option<PathBuf>,
    #[serde(skip)]
    pub sync_seconds: f64,
    /// The target was made by the copy engine, which reports on its own.
    #[serde(skip)]
    pub is_conversion: bool,
}

/// Time stamped on what changes: `SOURCE_DATE_EPOCH` when it is set, so that equal runs give equal bytes, else
/// the host's clock.
pub fn now() -> Result<Timestamp, Failure> {
    if let Some(text) = std::env::var_os("SOURCE_DATE_EPOCH") {
        let seconds = text.to_str().and_then(|text| text.parse().ok());
        let seconds = seconds.ok_or_else(|| Failure::usage("SOURCE_DATE_EPOCH is no number of seconds"))?;
        return Ok(Timestamp { seconds, nanoseconds: 0 });
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Timestamp { seconds: since.as_secs() as i64, nanoseconds: since.subsec_nanos() })
}

/// Options of the stack from those of the command line.
pub fn options(args: &ImageArgs, access: Access) -> OpenOptions {
    OpenOptions {
        format: args.input_format.map(|format| match format {
            ImageFormat::Raw => stack::ImageFormat::Raw,
            ImageFormat::Qcow2 => stack::ImageFormat::Qcow2,
            ImageFormat::Vhd => stack::ImageFormat::Vhd,
        }),
        access,
        allow_backing: args.allow_backing.clone(),
        memory_cap: args.memory << 20,
        spill_dir: args.temp_dir.clone().unwrap_or_else(std::env::temp_dir),
        sector_size: args.sector_size,
        root: args.root.clone(),
        is_remade: false,
    }
}

/// Opens an image and its guest's files; nothing can be changed.
pub fn open_for_reading(path: &Path, args: &ImageArgs, output: &Output) -> Result<Opened, Failure> {
    let progress = Bar::new(output.quiet);
    let mut image = Image::open(path, &options(args, Access::Read), &progress).at_image(path)?;
    let tree = image.open_tree(false).at_image(path)?;
    Ok(Opened { image, tree })
}

/// How a changed image must be opened: in place needs the lock of a writer, a copy does not.
pub fn access(target: &TargetArgs) -> Access {
    if target.output.is_some() { Access::Read } else { Access::Write }
}

/// Runs `edit` on the guest's files, verifies the result and commits it. Prints what the commit did.
pub fn change(
    path: &Path,
    args: &ImageArgs,
    target: &TargetArgs,
    output: &Output,
    edit: impl FnOnce(&mut GuestTree) -> Result<(), Failure>,
) -> CommandResult {
    let progress = Bar::new(output.quiet);
    let mut image = Image::open(path, &options(args, access(target)), &progress).at_image(path)?;
    let mut tree = image.open_tree(true).at_image(path)?;
    edit(&mut tree).at_image(path)?;
    tree.flush().at_image(path)?;
    drop(tree);
    let sealed = image.seal().at_image(path)?;
    let committed = if sealed.changes().is_empty() && target.output.is_none() {
        None
    } else {
        progress.event(Event::Stage { name: "verify", total: None });
        sealed.verify().at_image(path)?;
        Some(commit(sealed, path, target, &progress)?)
    };
    drop(progress);
    if output.is_json() {
        output.json(&committed)?;
    }
    Ok(0)
}

/// Writes the changes where the arguments say.
pub fn commit(
    sealed: SealedImage,
    path: &Path,
    target: &TargetArgs,
    progress: &dyn Progress,
) -> Result<Committed, Failure> {
    let to = match &target.output {
        Some(file) => CommitTarget::NewFile { path: file.clone(), force: target.force },
        None => CommitTarget::InPlace { undo_file: target.undo_file.clone() },
    };
    let report: CommitReport = sealed.commit(to, progress).at_image(path)?;
    Ok(Committed {
        target: target.output.clone().unwrap_or_else(|| path.to_owned()),
        written_bytes: report.written_bytes,
        journal_bytes: report.journal_bytes,
        undo_file: report.undo_file,
        sync_seconds: report.sync_time.as_secs_f64(),
        is_conversion: false,
    })
}
