//! From arguments to the target: format, codec, options by the names that qemu-img uses.

use std::path::Path;
use std::sync::Arc;

use ::convert::{BackingName, ContainerTarget, Qcow2Target, TargetFormat, VhdTarget};
use archive::Container;
use codec::{Algorithm, Window, ZlibLevel, ZstdLevel};

use crate::cli::convert::{self as cli, FormatArgs, OutputFormat, parse_size};
use crate::render::output::Failure;

/// The format that is made.
pub fn format(args: &FormatArgs, output: &Path) -> Result<TargetFormat, Failure> {
    let format = args.output_format.unwrap_or_else(|| by_name(output));
    let options = Given::parse(&args.options)?;
    let is_compressed = args.is_compressed || args.compress.is_some();
    if format != OutputFormat::Qcow2 {
        if is_compressed {
            return Err(Failure::usage("only qcow2 holds compressed clusters")
                .with_hint("Make a qcow2 image (-O qcow2), or a compressed stream (-O gz, xz or zst)."));
        }
        if args.backing.is_some() {
            return Err(Failure::usage("only qcow2 images have a backing file"));
        }
    }
    let container = |container| TargetFormat::Other(Arc::new(ContainerTarget(container)));
    Ok(match format {
        OutputFormat::Raw => {
            options.only("raw", &[])?;
            TargetFormat::Raw
        }
        OutputFormat::Qcow2 => TargetFormat::Qcow2(qcow2(args, &options, is_compressed)?),
        OutputFormat::Vhd => TargetFormat::Other(Arc::new(vhd(args, &options)?)),
        OutputFormat::Gz => container(Container::Gz { level: options.level("gz", 9, 6)? }),
        OutputFormat::Xz => container(Container::Xz { level: options.level("xz", 9, 6)? }),
        OutputFormat::Zst => container(Container::Zst { level: options.level("zst", 22, 3)? as i32 }),
        OutputFormat::TarGz => container(Container::TarGz { level: options.level("tar.gz", 9, 6)? }),
    })
}

fn vhd(args: &FormatArgs, options: &Given) -> Result<VhdTarget, Failure> {
    options.only("vhd", &["subformat", "force_size"])?;
    // The exact size is always kept.
    if options.get("force_size").is_some_and(|value| value != "on") {
        return Err(unsupported("force_size other than on".into()));
    }
    match options.get("subformat") {
        None | Some("dynamic") => Ok(VhdTarget::Dynamic),
        Some("fixed") => Ok(VhdTarget::Fixed { sparse_bytes: args.sparse }),
        Some(other) => Err(Failure::usage(format!("subformat={other}: expected dynamic or fixed"))),
    }
}

/// The name of a format in reports.
pub fn name(format: &TargetFormat) -> &'static str {
    match format {
        TargetFormat::Raw => "raw",
        TargetFormat::Qcow2(_) => "qcow2",
        TargetFormat::Other(maker) => maker.name(),
    }
}

/// The format that the name of the file says; raw when it says nothing.
fn by_name(output: &Path) -> OutputFormat {
    let name = output.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let ends = [
        (".qcow2", OutputFormat::Qcow2),
        (".vhd", OutputFormat::Vhd),
        (".tar.gz", OutputFormat::TarGz),
        (".tgz", OutputFormat::TarGz),
        (".gz", OutputFormat::Gz),
        (".xz", OutputFormat::Xz),
        (".zst", OutputFormat::Zst),
    ];
    ends.iter().find(|(end, _)| name.ends_with(end)).map_or(OutputFormat::Raw, |(_, format)| *format)
}

fn qcow2(args: &FormatArgs, options: &Given, is_compressed: bool) -> Result<Qcow2Target, Failure> {
    options.only(
        "qcow2",
        &[
            "compat",
            "cluster_size",
            "compression_type",
            "backing_file",
            "backing_fmt",
            "lazy_refcounts",
            "preallocation",
            "refcount_bits",
            "extended_l2",
        ],
    )?;
    // What is always so may be said; anything else is refused by name.
    for (key, only) in
        [("lazy_refcounts", "off"), ("preallocation", "off"), ("refcount_bits", "16"), ("extended_l2", "off")]
    {
        if options.get(key).is_some_and(|value| value != only) {
            return Err(unsupported(format!("{key} other than {only}")));
        }
    }
    let version = match options.get("compat") {
        None | Some("1.1" | "v3") => 3,
        Some("0.10" | "v2") => 2,
        Some(other) => return Err(Failure::usage(format!("compat={other}: expected 0.10 or 1.1"))),
    };
    let cluster_size = match options.get("cluster_size") {
        Some(text) => parse_size(text).map_err(Failure::usage)?,
        None => 65536,
    };
    if !cluster_size.is_power_of_two() || !(512..=2 << 20).contains(&cluster_size) {
        return Err(Failure::usage("cluster_size is a power of two from 512 to 2M"));
    }
    let compression = algorithm(args, options.get("compression_type"))?;
    if version == 2 && matches!(compression, Algorithm::Zstd { .. }) {
        return Err(Failure::usage("zstd needs compat=1.1"));
    }
    let backing = backing(args, options)?;
    Ok(Qcow2Target {
        version,
        cluster_bits: cluster_size.trailing_zeros(),
        compression: is_compressed.then_some(compression),
        backing,
    })
}

fn backing(args: &FormatArgs, options: &Given) -> Result<Option<BackingName>, Failure> {
    let name = args.backing.as_deref().or_else(|| options.get("backing_file"));
    let format = args.backing_format.as_deref().or_else(|| options.get("backing_fmt"));
    let Some(name) = name else {
        return match format {
            Some(_) => Err(Failure::usage("a format of a backing file without its name")),
            None => Ok(None),
        };
    };
    match format {
        Some(format @ ("raw" | "qcow2")) => {
            Ok(Some(BackingName { name: name.to_owned(), format: format.to_owned() }))
        }
        Some(other) => Err(unsupported(format!("a backing file of format {other}"))),
        None => Err(Failure::usage("name the format of the backing file, too (-F raw or -F qcow2)")),
    }
}

/// `--compress`, else `-c` with `compression_type`.
fn algorithm(args: &FormatArgs, kind: Option<&str>) -> Result<Algorithm, Failure> {
    let (name, level) = match args.compress.as_deref() {
        Some(text) => match text.split_once(':') {
            Some((name, level)) => (name, Some(level)),
            None => (text, None),
        },
        None => (kind.unwrap_or("zlib"), None),
    };
    if let Some(kind) = kind.filter(|kind| *kind != name) {
        return Err(Failure::usage(format!(
            "compression_type={kind} and --compress {name} contradict each other"
        )));
    }
    let number = |most: u8| match level {
        None => Ok(None),
        Some(text) => match text.parse::<u8>() {
            Ok(level) if (1..=most).contains(&level) => Ok(Some(level)),
            _ => Err(Failure::usage(format!("{name}:{text}: the level is a number from 1 to {most}"))),
        },
    };
    match name {
        "zlib" => Ok(Algorithm::Zlib {
            level: number(9)?.and_then(ZlibLevel::new).unwrap_or_default(),
            window: match args.window {
                cli::Window::Strict => Window::Strict,
                cli::Window::Wide => Window::Wide,
            },
            fast: args.fast,
        }),
        "zstd" => {
            let fallback = if args.fast { ZstdLevel::new(1) } else { None };
            let level = number(22)?.and_then(ZstdLevel::new).or(fallback).unwrap_or_default();
            Ok(Algorithm::Zstd { level })
        }
        other => Err(Failure::usage(format!("{other}: compression is zlib or zstd"))),
    }
}

fn unsupported(what: String) -> Failure {
    Failure::new("convert.option.unsupported", report::Class::Unsupported, format!("not supported: {what}"))
}

/// `-o` options.
struct Given<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Given<'a> {
    fn parse(options: &'a [String]) -> Result<Self, Failure> {
        let pair = |text: &'a String| {
            text.split_once('=').ok_or_else(|| Failure::usage(format!("-o {text}: an option is KEY=VALUE")))
        };
        Ok(Self(options.iter().map(pair).collect::<Result<_, _>>()?))
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        self.0.iter().rev().find(|(name, _)| *name == key).map(|(_, value)| *value)
    }

    /// The only option of a stream.
    fn level(&self, format: &str, most: u32, default: u32) -> Result<u32, Failure> {
        self.only(format, &["level"])?;
        match self.get("level").map(str::parse) {
            None => Ok(default),
            Some(Ok(level)) if (1..=most).contains(&level) => Ok(level),
            Some(_) => Err(Failure::usage(format!("level of {format} is a number from 1 to {most}"))),
        }
    }

    /// Refuses what `format` does not know.
    fn only(&self, format: &str, known: &[&str]) -> Result<(), Failure> {
        match self.0.iter().find(|(name, _)| !known.contains(name)) {
            None => Ok(()),
            Some((name, _)) => {
                let names = if known.is_empty() { "none".into() } else { known.join(", ") };
                Err(unsupported(format!("option {name} of {format}")).with_hint(format!("Known: {names}.")))
            }
        }
    }
}
