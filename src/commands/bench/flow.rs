//! The flows: forms of a disk, how each is made, how one is turned into another.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use block::{Access, DenyAll, ImageFile};
use codec::{Algorithm, Window, ZlibLevel, ZstdLevel};
use convert::{
    Destination, Direct, Options, Outcome, Qcow2Source, Qcow2Target, RawSource, Source, TargetFormat,
};
use qcow2::{Depth, Qcow2};
use report::Silent;
use vhd::Vhd;

use crate::cli::bench::Flow;
use crate::render::output::{AtImage, Failure};

/// How a disk lies in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Byte for byte.
    Raw,
    /// qcow2 without compression.
    Plain,
    /// qcow2, deflate.
    Zlib,
    /// qcow2, zstd.
    Zstd,
}

impl Form {
    pub const ALL: [Form; 4] = [Form::Raw, Form::Plain, Form::Zlib, Form::Zstd];

    pub fn file_name(self) -> &'static str {
        match self {
            Form::Raw => "disk.raw",
            Form::Plain => "plain.qcow2",
            Form::Zlib => "zlib.qcow2",
            Form::Zstd => "zstd.qcow2",
        }
    }

    fn format(self) -> TargetFormat {
        let compressed =
            |compression| TargetFormat::Qcow2(Qcow2Target { compression, ..Qcow2Target::default() });
        match self {
            Form::Raw => TargetFormat::Raw,
            Form::Plain => compressed(None),
            Form::Zlib => compressed(Some(Algorithm::Zlib {
                level: ZlibLevel::default(),
                window: Window::Strict,
                fast: false,
            })),
            Form::Zstd => compressed(Some(Algorithm::Zstd { level: ZstdLevel::default() })),
        }
    }
}

impl Flow {
    pub const ALL: [Flow; 9] = [
        Flow::RawRaw,
        Flow::RawQcow2,
        Flow::Qcow2Raw,
        Flow::RawZlib,
        Flow::RawZstd,
        Flow::ZlibRaw,
        Flow::ZstdRaw,
        Flow::ZlibZlib,
        Flow::ZstdZstd,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Flow::RawRaw => "raw-raw",
            Flow::RawQcow2 => "raw-qcow2",
            Flow::Qcow2Raw => "qcow2-raw",
            Flow::RawZlib => "raw-zlib",
            Flow::RawZstd => "raw-zstd",
            Flow::ZlibRaw => "zlib-raw",
            Flow::ZstdRaw => "zstd-raw",
            Flow::ZlibZlib => "zlib-zlib",
            Flow::ZstdZstd => "zstd-zstd",
        }
    }

    pub fn forms(self) -> (Form, Form) {
        match self {
            Flow::RawRaw => (Form::Raw, Form::Raw),
            Flow::RawQcow2 => (Form::Raw, Form::Plain),
            Flow::Qcow2Raw => (Form::Plain, Form::Raw),
            Flow::RawZlib => (Form::Raw, Form::Zlib),
            Flow::RawZstd => (Form::Raw, Form::Zstd),
            Flow::ZlibRaw => (Form::Zlib, Form::Raw),
            Flow::ZstdRaw => (Form::Zstd, Form::Raw),
            Flow::ZlibZlib => (Form::Zlib, Form::Zlib),
            Flow::ZstdZstd => (Form::Zstd, Form::Zstd),
        }
    }
}

/// How the engine is to work.
#[derive(Clone, Copy)]
pub struct Way {
    pub threads: Option<usize>,
    pub memory: u64,
    pub buffered: bool,
}

fn open(path: &Path) -> Result<Box<dyn Source>, Failure> {
    let file = ImageFile::open(path, Access::Read, &Silent)?;
    Ok(match stack::format_of(&file, None)? {
        stack::ImageFormat::Raw => Box::new(RawSource::new(&file)),
        stack::ImageFormat::Vhd => {
            Box::new(RawSource::of_device(Arc::new(Vhd::open(file.reader(), file.path())?)))
        }
        stack::ImageFormat::Qcow2 => {
            let image = Arc::new(Qcow2::open(file.reader(), file.path(), &DenyAll)?);
            Box::new(Qcow2Source::new(image, Some(file.handle()), Depth::Chain))
        }
    })
}

/// One conversion into a new file.
pub fn convert_to(
    input: &Path,
    form: Form,
    output: &Path,
    way: Way,
    stop: &AtomicBool,
) -> Result<Outcome, Failure> {
    let options = Options {
        threads: way.threads,
        memory: way.memory << 20,
        direct: if way.buffered { Direct::Never } else { Direct::Auto },
        sync: !way.buffered,
        ..Options::default()
    };
    let destination = Destination::NewFile { path: output.to_owned(), force: true };
    let source = open(input).at_image(input)?;
    convert::convert(&*source, &form.format(), &destination, &options, &Silent, stop).at_image(input)
}

/// The forms that flows read, made of the image once.
pub struct Sources {
    dir: tempfile::TempDir,
}

impl Sources {
    pub fn make(
        image: &Path,
        dir: &Path,
        flows: &[Flow],
        way: Way,
        stop: &AtomicBool,
    ) -> Result<Self, Failure> {
        let dir = tempfile::Builder::new()
            .prefix(".coldfit-bench-")
            .tempdir_in(dir)
            .map_err(|error| Failure::host("make a folder", dir, &error))?;
        let sources = Self { dir };
        for form in Form::ALL.into_iter().filter(|form| flows.iter().any(|flow| flow.forms().0 == *form)) {
            convert_to(image, form, &sources.path(form), way, stop)?;
        }
        Ok(sources)
    }

    pub fn path(&self, form: Form) -> PathBuf {
        self.dir.path().join(form.file_name())
    }

    pub fn target(&self) -> PathBuf {
        self.dir.path().join("target")
    }

    /// Fills the page cache with a source: every run then reads it from there.
    pub fn warm(&self, form: Form) -> Result<(), Failure> {
        let path = self.path(form);
        let read = || std::io::copy(&mut std::fs::File::open(&path)?, &mut std::io::sink());
        read().map(|_| ()).map_err(|error| Failure::host("read", &path, &error))
    }
}
