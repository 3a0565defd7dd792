//! `coldfit convert`: another file, format or compression of the same disk.

mod guest;
mod source;
pub mod target;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use ::convert::{Destination, Direct, Options, Outcome};
use report::Progress;
use serde::Serialize;

use self::source::Opened;
use super::fix::copy::FreeReport;
use super::{CommandResult, fix};
use crate::cli::convert::{self as cli, ConvertArgs, EngineArgs};
use crate::render::output::{AtImage, Failure, Output};
use crate::render::progress::Bar;
use crate::render::table::bytes;

/// What `convert` reports.
#[derive(Debug, Serialize)]
pub struct Report {
    source: PathBuf,
    source_format: String,
    target_format: &'static str,
    #[serde(flatten)]
    pub outcome: Outcome,
    /// What was left out as free, with `--skip-free` or `--fix`.
    #[serde(skip_serializing_if = "Option::is_none")]
    free_space: Option<FreeReport>,
    /// What `--fix` did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<fix::Report>,
    seconds: f64,
}

impl Report {
    /// 1 when a required rule of `--fix` does not hold, else 0.
    fn exit_code(&self) -> u8 {
        self.fix.as_ref().map_or(0, fix::Report::exit_code)
    }
}

/// Runs `convert`.
pub fn run(args: &ConvertArgs, output: &Output) -> CommandResult {
    let stop = crate::interrupt::flag()?;
    let bar = Bar::new(output.quiet).always(args.engine.progress);
    let report = convert(args, &options(&args.engine, args.target.sparse), &bar, &stop)?;
    drop(bar);
    // With the disk on standard output, what is said goes beside it.
    match args.output.as_os_str() == "-" {
        true => output.note(summary(&report).trim_end()),
        false => output.either(&report, summary)?,
    }
    Ok(report.exit_code())
}

/// Converts one image; prints nothing.
pub fn convert(
    args: &ConvertArgs,
    options: &Options,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<Report, Failure> {
    let format = target::format(&args.target, &args.output)?;
    let destination = destination(args)?;
    let started = Instant::now();
    if guest::is_asked(args) {
        let way = guest::Way { format, destination, options, progress, stop };
        let guest::Converted { source_format, copied, fix } = guest::convert(args, way)?;
        return Ok(Report {
            source: args.input.clone(),
            source_format: source_format.to_string(),
            target_format: copied.format,
            outcome: copied.outcome,
            free_space: copied.free_space,
            fix,
            seconds: started.elapsed().as_secs_f64(),
        });
    }
    let mut opened = source::open(args, &format, progress).at_image(&args.input)?;
    let source_format = opened.format();
    let outcome = match &mut opened {
        Opened::Image(source, _) => {
            ::convert::convert(&**source, &format, &destination, options, progress, stop)
        }
        Opened::Stream(source) => {
            ::convert::convert_stream(&mut **source, &format, &destination, options, progress, stop)
        }
    }
    .at_image(&args.input)?;
    Ok(Report {
        source: args.input.clone(),
        source_format,
        target_format: target::name(&format),
        outcome,
        free_space: None,
        fix: None,
        seconds: started.elapsed().as_secs_f64(),
    })
}

fn destination(args: &ConvertArgs) -> Result<Destination, Failure> {
    let path = &args.output;
    if path.as_os_str() == "-" {
        return Ok(Destination::Stdout);
    }
    if args.target.no_create {
        return Ok(Destination::Existing(path.clone()));
    }
    if is_block_device(path) {
        // Whoever names a device means to overwrite it, but says so.
        return if args.target.force {
            Ok(Destination::Existing(path.clone()))
        } else {
            Err(Failure::usage(format!("{}: a block device", path.display()))
                .with_hint("Say -n to write into it, whatever it holds."))
        };
    }
    Ok(Destination::NewFile { path: path.clone(), force: args.target.force })
}

fn is_block_device(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_block_device())
}

/// Options of the engine.
pub fn options(args: &EngineArgs, sparse_bytes: u64) -> Options {
    Options {
        threads: args.threads.map(usize::from),
        memory: args.memory << 20,
        direct: match args.direct {
            cli::Direct::Auto => Direct::Auto,
            cli::Direct::Always => Direct::Always,
            cli::Direct::Never => Direct::Never,
        },
        sync: !args.no_sync,
        sparse_bytes,
        digest: args.digest,
        checksum: args.checksum.is_some(),
        verify: args.verify,
        ..Options::default()
    }
}

fn summary(report: &Report) -> String {
    let fixed = report.fix.as_ref().map(|fix| fix.text(false)).unwrap_or_default();
    let free = report.free_space.as_ref().map(FreeReport::text).unwrap_or_default();
    format!("{fixed}{}{free}", copied_text(report))
}

fn copied_text(report: &Report) -> String {
    let Report { outcome, seconds, .. } = report;
    let target = outcome.target.as_ref().map_or("-".into(), |path| path.display().to_string());
    let mut text = format!(
        "{} -> {target}: {} disk, {} of data, {} written in {seconds:.1} s",
        report.source.display(),
        bytes(outcome.virtual_bytes),
        bytes(outcome.mapped_bytes - outcome.zero_bytes.min(outcome.mapped_bytes)),
        bytes(outcome.target_bytes.min(outcome.bytes_written)),
    );
    if !outcome.synced && outcome.target.is_some() {
        text.push_str(" (not synced)");
    }
    text.push('\n');
    for (name, value) in [("content", &outcome.digest), ("sha256", &outcome.sha256)] {
        if let Some(value) = value {
            text.push_str(&format!("{name}  {value}\n"));
        }
    }
    text
}
