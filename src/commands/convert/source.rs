//! From arguments to the source: opened, locked, recognised.

use std::path::Path;
use std::sync::Arc;

use ::convert::{ArchiveSource, BackingName, Qcow2Source, RawSource, Source, TargetFormat, VhdSource};
use archive::{Compression, Limits};
use block::{Access, AllowBelow, DenyAll, ImageFile, OpenGate, ReadAt};
use qcow2::{Depth, Qcow2};
use report::Progress;
use stack::ImageFormat;
use vhd::Vhd;

use crate::cli::convert::{ConvertArgs, SourceFormat};
use crate::render::output::Failure;

/// An open source.
pub enum Opened {
    /// A file that can be read anywhere.
    Image(Box<dyn Source>, ImageFormat),
    /// A stream.
    Stream(Box<ArchiveSource>),
}

impl Opened {
    /// The name of its format in reports.
    pub fn format(&self) -> String {
        match self {
            Opened::Image(_, format) => format.to_string(),
            Opened::Stream(source) => {
                let compression = match source.stream().compression() {
                    Compression::None => "",
                    Compression::Gz => "gz",
                    Compression::Xz => "xz",
                    Compression::Zst => "zst",
                };
                match (source.stream().is_tar(), compression) {
                    (false, "") => "raw".into(),
                    (false, compression) => compression.into(),
                    (true, "") => "tar".into(),
                    (true, compression) => format!("tar.{compression}"),
                }
            }
        }
    }
}

/// Opens and locks the input.
pub fn open(args: &ConvertArgs, format: &TargetFormat, progress: &dyn Progress) -> Result<Opened, Failure> {
    let kept = match format {
        TargetFormat::Qcow2(target) => target.backing.as_ref(),
        _ => None,
    };
    let limits = Limits { memory: args.engine.memory << 20 };
    let given = args.source.input_format;
    let no_backing = || match kept {
        Some(_) => Err(Failure::usage("only a qcow2 image has a backing file to keep")),
        None => Ok(()),
    };
    if args.input.as_os_str() == "-" {
        no_backing()?;
        let compression = match given {
            None => None,
            Some(SourceFormat::Raw) => {
                let source = ArchiveSource::raw_pipe(Box::new(std::io::stdin()))?;
                return Ok(Opened::Stream(Box::new(source)));
            }
            Some(SourceFormat::Qcow2 | SourceFormat::Vhd) => {
                return Err(Failure::usage("such an image cannot be read from a stream")
                    .with_hint("Write it to a file first."));
            }
            Some(given) => Some(compression(given)),
        };
        let source = ArchiveSource::of_pipe(Box::new(std::io::stdin()), compression, &limits)?;
        return Ok(Opened::Stream(Box::new(source)));
    }
    let file = ImageFile::open(&args.input, Access::Read, progress)?;
    let stream = match given {
        Some(SourceFormat::Gz | SourceFormat::Xz | SourceFormat::Zst | SourceFormat::TarGz) => {
            given.map(compression)
        }
        Some(_) => None,
        None => recognised_stream(&file)?,
    };
    if let Some(compression) = stream {
        no_backing()?;
        let source = ArchiveSource::of_file(&file, Some(compression), &limits)?;
        return Ok(Opened::Stream(Box::new(source)));
    }
    let wanted = match given {
        Some(SourceFormat::Qcow2) => Some(ImageFormat::Qcow2),
        Some(SourceFormat::Vhd) => Some(ImageFormat::Vhd),
        Some(_) => Some(ImageFormat::Raw),
        None => None,
    };
    let found = stack::format_of(&file, wanted)?;
    let source: Box<dyn Source> = match found {
        ImageFormat::Raw => {
            no_backing()?;
            Box::new(RawSource::new(&file))
        }
        ImageFormat::Vhd => {
            no_backing()?;
            let image = Arc::new(Vhd::open(file.reader(), file.path())?);
            Box::new(VhdSource::new(image, Some(file.handle())))
        }
        ImageFormat::Qcow2 => {
            let gate: Box<dyn OpenGate> = match &args.source.allow_backing {
                Some(root) => Box::new(AllowBelow::new(root)?),
                None => Box::new(DenyAll),
            };
            let image = Arc::new(Qcow2::open(file.reader(), file.path(), &*gate)?);
            let depth = match kept {
                Some(backing) => {
                    require_same_backing(&image, file.path(), backing, &args.output)?;
                    Depth::Top
                }
                None => Depth::Chain,
            };
            Box::new(Qcow2Source::new(image, Some(file.handle()), depth))
        }
    };
    Ok(Opened::Image(source, found))
}

fn compression(format: SourceFormat) -> Compression {
    match format {
        SourceFormat::Gz | SourceFormat::TarGz => Compression::Gz,
        SourceFormat::Xz => Compression::Xz,
        SourceFormat::Zst => Compression::Zst,
        SourceFormat::Raw | SourceFormat::Qcow2 | SourceFormat::Vhd => Compression::None,
    }
}

/// How a file is compressed that begins like a compressed stream or a tar archive.
fn recognised_stream(file: &ImageFile) -> Result<Option<Compression>, Failure> {
    /// Where the magic of a tar header stands (POSIX pax, ustar interchange format).
    const TAR: (u64, &[u8; 5]) = (257, b"ustar");
    let mut head = [0; 8];
    if file.len() >= head.len() as u64 {
        file.read_exact_at(&mut head, 0)?;
    }
    let compression = Compression::recognise(&head);
    if compression != Compression::None {
        return Ok(Some(compression));
    }
    let mut magic = [0; TAR.1.len()];
    if file.len() >= TAR.0 + TAR.1.len() as u64 {
        file.read_exact_at(&mut magic, TAR.0)?;
    }
    Ok((&magic == TAR.1).then_some(Compression::None))
}

/// What IN does not store must be the same below OUT: both names lead to one file.
pub fn require_same_backing(
    image: &Qcow2,
    path: &Path,
    wanted: &BackingName,
    output: &Path,
) -> Result<(), Failure> {
    let refused = |message: String| Failure::new("convert.target.backing", report::Class::Usage, message);
    let Some(own) = image.info().backing else {
        return Err(refused(format!("{}: has no backing file to keep", path.display())));
    };
    let from = |image: &Path, name: &str| {
        image
            .parent()
            .unwrap_or(Path::new(""))
            .join(name.strip_prefix("file:").unwrap_or(name))
            .canonicalize()
    };
    let output = std::path::absolute(output).map_err(|error| Failure::host("find", output, &error))?;
    match (from(path, &own.name), from(&output, &wanted.name)) {
        (Ok(below), Ok(named)) if below == named => Ok(()),
        _ => {
            Err(refused(format!("{}: its backing file is {}, not {}", path.display(), own.name, wanted.name)))
        }
    }
}
