//! Conversions that look into the guest: `--fix` edits it on the way, `--skip-free` leaves its free space out.

use std::sync::atomic::AtomicBool;

use ::convert::{Destination, Options, Qcow2Target, TargetFormat};
use block::Access;
use qcow2::Depth;
use report::Progress;
use stack::{Image, OpenOptions};

use super::source::require_same_backing;
use crate::cli::convert::{ConvertArgs, SourceFormat};
use crate::commands::fix::copy::{self, Copied, Copy, Target};
use crate::commands::fix::prepare::{Asked, Prepared};
use crate::commands::fix::verify::Judge;
use crate::commands::{fix, profiles};
use crate::render::output::{AtImage, Failure};
use crate::session::{self, Timings};

/// What came out.
pub struct Converted {
    pub source_format: stack::ImageFormat,
    pub copied: Copied,
    pub fix: Option<fix::Report>,
}

/// How a conversion works, beside its arguments.
pub struct Way<'a> {
    pub format: TargetFormat,
    pub destination: Destination,
    pub options: &'a Options,
    pub progress: &'a dyn Progress,
    pub stop: &'a AtomicBool,
}

/// True when the guest matters for this conversion.
pub fn is_asked(args: &ConvertArgs) -> bool {
    args.guest.fix.is_some() || args.guest.skip_free
}

/// Reads the input once, never writes to it. With `--fix`: plans, edits in memory, verifies, copies, and looks at the
/// complete copy before it gets its name.
pub fn convert(args: &ConvertArgs, way: Way<'_>) -> Result<Converted, Failure> {
    let path = &args.input;
    if path.as_os_str() == "-" {
        return Err(Failure::usage("a stream cannot be looked into: give a file"));
    }
    let options = open_options(args)?;
    let Way { format, destination, options: engine, progress, stop } = way;
    if let Destination::NewFile { path: output, force } = &destination {
        copy::refuse_early(path, output, *force).at_image(path)?;
    }
    let mut timings = Timings::default();
    let (sealed, fix) = match &args.guest.fix {
        None => (Image::open(path, &options, progress).and_then(Image::seal).at_image(path)?, None),
        Some(name) => {
            let profile = profiles::load(name)?.with(&args.guest.set)?;
            let selection = fixes::Selection { only: args.guest.only.clone(), skip: args.guest.skip.clone() };
            let asked = Asked {
                path,
                profile: &profile,
                selection: &selection,
                dry_run: false,
                diff: false,
                keep_going: args.guest.keep_going,
                now: session::now()?,
                map_buckets: None,
                makes_file: true,
            };
            let Prepared { mut report, sealed } = asked.prepare(&options, &mut timings, progress)?;
            let Some(sealed) = sealed else {
                let class = report::Class::Bug;
                return Err(Failure::new("bug.convert", class, "a copy was asked for and not planned"));
            };
            let judge = Judge::new(&profile, &selection);
            timings.stage("verify", progress, || judge.before(&sealed, true, &mut report)).at_image(path)?;
            (sealed, Some((report, judge)))
        }
    };
    let mut depth = Depth::Chain;
    if let TargetFormat::Qcow2(Qcow2Target { backing: Some(backing), .. }) = &format {
        let none = || Failure::usage("only a qcow2 image has a backing file to keep");
        require_same_backing(sealed.qcow2().ok_or_else(none)?, path, backing, &args.output)?;
        depth = Depth::Top;
    }
    let copy = Copy {
        target: &Target { format, depth },
        destination: &destination,
        options: engine,
        skips_free: !args.guest.keep_free,
    };
    let source_format = sealed.format();
    let Some((mut report, judge)) = fix else {
        let copied = copy.run(&sealed, progress, stop).at_image(path)?;
        return Ok(Converted { source_format, copied, fix: None });
    };
    let copied =
        copy.judged(&sealed, &judge, &options, &mut report, &mut timings, (progress, stop)).at_image(path)?;
    report.timings = timings;
    Ok(Converted { source_format, copied, fix: Some(report) })
}

fn open_options(args: &ConvertArgs) -> Result<OpenOptions, Failure> {
    let format = match args.source.input_format {
        None => None,
        Some(SourceFormat::Raw) => Some(stack::ImageFormat::Raw),
        Some(SourceFormat::Qcow2) => Some(stack::ImageFormat::Qcow2),
        Some(SourceFormat::Vhd) => Some(stack::ImageFormat::Vhd),
        Some(SourceFormat::Gz | SourceFormat::Xz | SourceFormat::Zst | SourceFormat::TarGz) => {
            return Err(Failure::usage(
                "a stream cannot be looked into: unpack it first (`coldfit convert`)",
            ));
        }
    };
    Ok(OpenOptions {
        format,
        access: Access::Read,
        allow_backing: args.source.allow_backing.clone(),
        memory_cap: args.guest.edit_memory << 20,
        spill_dir: args.guest.temp_dir.clone().unwrap_or_else(std::env::temp_dir),
        sector_size: args.guest.sector_size,
        root: args.guest.root.clone(),
        is_remade: true,
    })
}
