//! Arguments of `batch` and `report`.

use std::path::PathBuf;

use batch::Shard;
use clap::{Args, Subcommand, ValueEnum};

use super::args::{ImageFormat, parse_setting};

/// Many images in one run.
#[derive(Debug, Clone, Args)]
pub struct BatchArgs {
    /// Manifests (*.jsonl, or - for standard input), folders, quoted patterns, or images.
    #[arg(required = true, value_name = "MANIFEST|FOLDER|GLOB")]
    pub inputs: Vec<PathBuf>,
    /// What to do with images whose line in a manifest does not say it.
    #[arg(long = "do", value_enum, value_name = "WHAT")]
    pub action: Option<Do>,
    /// Do everything but the commit of a fix.
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Where a rule cannot be met, do the rest of that image's fix; without it nothing of that image is done.
    #[arg(long)]
    pub fix_rest: bool,
    #[command(flatten)]
    pub rules: BatchRuleArgs,
    #[command(flatten)]
    pub target: BatchTargetArgs,
    #[command(flatten)]
    pub image: BatchImageArgs,
    #[command(flatten)]
    pub run: RunArgs,
}

/// `--do`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Do {
    /// Against a profile; changes nothing.
    Check,
    /// Make it meet a profile, in place or as a changed copy.
    Fix,
    /// Copy it into another format; with --profile, fix it on the way.
    Convert,
}

/// Which rules, where a line does not say it.
#[derive(Debug, Clone, Args)]
pub struct BatchRuleArgs {
    /// Name of a profile (`coldfit profiles list`) or a profile file.
    #[arg(short = 'P', long, value_name = "NAME|FILE", help_heading = "Rules")]
    pub profile: Option<String>,
    /// Only these rules.
    #[arg(long, value_name = "RULE", value_delimiter = ',', help_heading = "Rules")]
    pub only: Option<Vec<String>>,
    /// All rules but these.
    #[arg(long, value_name = "RULE", value_delimiter = ',', conflicts_with = "only", help_heading = "Rules")]
    pub skip: Option<Vec<String>>,
    /// Decide a switch of the profile; may be given again.
    #[arg(short = 's', long, value_name = "SWITCH=VALUE", value_parser = parse_setting, help_heading = "Rules")]
    pub set: Vec<(String, String)>,
}

/// Where results go, where a line does not say it.
#[derive(Debug, Clone, Args)]
pub struct BatchTargetArgs {
    /// Write results into DIR; without it `fix` changes the images in place.
    #[arg(long, value_name = "DIR", help_heading = "Target")]
    pub output_dir: Option<PathBuf>,
    /// Names of the results: {name}, {stem}, {ext} (of the result), {index}, {profile}.
    #[arg(
        long,
        value_name = "TEMPLATE",
        default_value = "{stem}.{ext}",
        requires = "output_dir",
        help_heading = "Target"
    )]
    pub name: String,
    /// Format of the results of `convert`; raw when not given.
    #[arg(short = 'O', long, value_name = "FORMAT", help_heading = "Target")]
    pub output_format: Option<String>,
    /// Options of the format, as for `convert`.
    #[arg(short = 'o', long, value_name = "KEY=VALUE,…", help_heading = "Target")]
    pub options: Option<String>,
    /// Compress: zlib, zstd, with :LEVEL.
    #[arg(long, value_name = "CODEC[:LEVEL]", help_heading = "Target")]
    pub compress: Option<String>,
    /// Replace results that are there.
    #[arg(long, help_heading = "Target")]
    pub force: bool,
}

/// How images are opened.
#[derive(Debug, Clone, Args)]
pub struct BatchImageArgs {
    /// Format of the images; found out from their first bytes when not given.
    #[arg(short = 'f', long = "input-format", value_enum, value_name = "FORMAT", help_heading = "Image")]
    pub input_format: Option<ImageFormat>,
    /// Follow backing files, but only to files below DIR.
    #[arg(long, value_name = "DIR", help_heading = "Image")]
    pub allow_backing: Option<PathBuf>,
    /// Directory for temporary files; the system's own when not given.
    #[arg(long, value_name = "DIR", help_heading = "Image")]
    pub temp_dir: Option<PathBuf>,
}

/// How the batch runs.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// The report: a line of JSON for each image, appended and synced as soon as it is known.
    #[arg(long, value_name = "FILE", default_value = "REPORT.jsonl", help_heading = "Run")]
    pub report: PathBuf,
    /// Go on with a report: skip what it has finished for the same image, request and version.
    #[arg(long, help_heading = "Run")]
    pub resume: bool,
    /// Go on after an image failed.
    #[arg(short = 'k', long, help_heading = "Run")]
    pub keep_going: bool,
    /// Only the I-th of N parts of about equal size.
    #[arg(long, value_name = "I/N", help_heading = "Run")]
    pub shard: Option<Shard>,
    /// Threads for all images together; all that this process may use when not given.
    #[arg(short = 'm', long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256), help_heading = "Run")]
    pub threads: Option<u16>,
    /// Memory for all images together, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(64..=1 << 24),
          help_heading = "Run")]
    pub memory: u64,
    /// Put what `check`, `fix` or `convert` would print with `--format json` into the lines.
    #[arg(long, help_heading = "Run")]
    pub full: bool,
    /// Buckets of the disk maps; 0 draws none.
    #[arg(long, value_name = "N", default_value_t = 96, value_parser = clap::value_parser!(u32).range(0..=1024), help_heading = "Run")]
    pub map_buckets: u32,
    /// Write all images with everything that is asked for to FILE, as a manifest for shards, and end.
    #[arg(long, value_name = "FILE", help_heading = "Run")]
    pub write_manifest: Option<PathBuf>,
}

/// Commands on reports.
#[derive(Debug, Subcommand)]
pub enum ReportCommand {
    /// Make one self-contained HTML page of a batch's report.
    #[command(after_help = "The page needs no network and no JavaScript, but for its filter and sorting. \
                      PAGE.html#filter=WORDS opens it filtered.\n\n\
                      Examples:\n  \
                      coldfit report render REPORT.jsonl -o report.html\n  \
                      coldfit report render shard-*.jsonl -o report.html")]
    Render {
        /// Reports of `batch`; those of several shards together.
        #[arg(required = true, value_name = "REPORT.jsonl")]
        reports: Vec<PathBuf>,
        /// The page; standard output when not given.
        #[arg(short, long, value_name = "PAGE.html")]
        output: Option<PathBuf>,
        /// Heading of the page.
        #[arg(long, value_name = "TEXT", default_value = "coldfit batch")]
        title: String,
    },
}
