//! Into a new file, through the copy engine: the changed disk in the image's own format or another one, without what
//! the guest holds as free.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use codec::{Algorithm, Window, ZlibLevel, ZstdLevel};
use convert::{
    BackingName, Destination, Edited, FreeSkipped, Options, Outcome, PieceKind, Qcow2Source, Qcow2Target,
    RawSource, Source, TargetFormat, VhdSource, VhdTarget,
};
use qcow2::{BackingFormat, Compression, Depth};
use report::Progress;
use serde::Serialize;
use stack::{ImageFormat, OpenOptions, SealedImage, VolumeFreeSpace};
use vhd::DiskKind;

use super::report::Report;
use super::verify::{CopyJudge, Judge};
use crate::commands::convert::target;
use crate::render::output::Failure;
use crate::session::{Committed, Timings};

/// Pieces of a map looked at in one go.
const MAP_PIECES: usize = 4096;

/// What was copied.
#[derive(Debug, Serialize)]
pub struct Copied {
    /// Format of the copy.
    pub format: &'static str,
    /// What was left out; `None` when free space was copied, too.
    pub free_space: Option<FreeReport>,
    /// What the engine did.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// Free space that was left out.
#[derive(Debug, Serialize)]
pub struct FreeReport {
    /// Bytes of the virtual disk that the guest's own tables hold as free.
    pub bytes: u64,
    /// Free, and copied nevertheless: there were too many short ranges.
    pub left_in_bytes: u64,
    /// By volume, with the reason where one counts as content as a whole.
    pub volumes: Vec<VolumeFreeSpace>,
}

/// A format of a copy that the engine makes.
#[derive(Debug, Clone)]
pub struct Target {
    pub format: TargetFormat,
    /// How much of a backing chain the copy holds itself.
    pub depth: Depth,
}

/// The image's own format with its options; an error says why only a copy of the file itself keeps everything.
pub fn same_format(sealed: &SealedImage) -> Result<Result<Target, String>, Failure> {
    let image = match sealed.format() {
        ImageFormat::Raw => return Ok(Ok(Target { format: TargetFormat::Raw, depth: Depth::Chain })),
        ImageFormat::Vhd => {
            let is_dynamic = sealed.vhd().is_some_and(|image| image.kind() == DiskKind::Dynamic);
            let target = match is_dynamic {
                true => VhdTarget::Dynamic,
                false => VhdTarget::Fixed { sparse_bytes: Options::default().sparse_bytes },
            };
            let format = TargetFormat::Other(Arc::new(target));
            return Ok(Ok(Target { format, depth: Depth::Chain }));
        }
        ImageFormat::Qcow2 => sealed.qcow2(),
    };
    let Some(image) = image else { return Ok(Err("its format has no options to keep".into())) };
    let info = image.info();
    let backing = match &info.backing {
        None => None,
        Some(backing) if backing.name.contains(char::REPLACEMENT_CHARACTER) => {
            return Ok(Err("the name of its backing file is not UTF-8".into()));
        }
        Some(backing) => Some(BackingName {
            name: backing.name.clone(),
            format: match backing.format {
                BackingFormat::Raw => "raw".into(),
                BackingFormat::Qcow2 => "qcow2".into(),
            },
        }),
    };
    let depth = if backing.is_some() { Depth::Top } else { Depth::Chain };
    let source = Qcow2Source::new(Arc::clone(image), None, Depth::Top);
    let compression = has_compressed_clusters(&source)?.then(|| algorithm(info.compression));
    let target = Qcow2Target {
        version: info.version,
        cluster_bits: info.cluster_size.trailing_zeros(),
        compression,
        backing,
    };
    Ok(Ok(Target { format: TargetFormat::Qcow2(target), depth }))
}

fn algorithm(compression: Compression) -> Algorithm {
    match compression {
        Compression::Zlib => {
            Algorithm::Zlib { level: ZlibLevel::default(), window: Window::Strict, fast: false }
        }
        Compression::Zstd => Algorithm::Zstd { level: ZstdLevel::default() },
    }
}

/// Ends with the first one.
fn has_compressed_clusters(source: &dyn Source) -> Result<bool, Failure> {
    let mut at = 0;
    while at < source.len() {
        let pieces = source.map(at..source.len(), MAP_PIECES)?;
        if pieces.iter().any(|piece| matches!(piece.kind, PieceKind::Compressed { .. })) {
            return Ok(true);
        }
        match pieces.last() {
            Some(last) => at = last.end(),
            None => break,
        }
    }
    Ok(false)
}

/// True when compressed clusters of the image can be moved into the target as they are.
fn moves_clusters(sealed: &SealedImage, target: &TargetFormat) -> bool {
    let (Some(image), TargetFormat::Qcow2(target)) = (sealed.qcow2(), target) else { return false };
    let is_same_codec = match target.compression {
        Some(Algorithm::Zlib { .. }) => image.compression() == Compression::Zlib,
        Some(Algorithm::Zstd { .. }) => image.compression() == Compression::Zstd,
        None => false,
    };
    is_same_codec && image.cluster_len() == 1 << target.cluster_bits
}

/// How a copy is made.
pub struct Copy<'a> {
    pub target: &'a Target,
    pub destination: &'a Destination,
    pub options: &'a Options,
    /// Leave out what the guest holds as free.
    pub skips_free: bool,
}

impl Copy<'_> {
    /// Reads the image once and writes the changed disk. The image stays locked as long as `sealed` lives.
    pub fn run(
        &self,
        sealed: &SealedImage,
        progress: &dyn Progress,
        stop: &AtomicBool,
    ) -> Result<Copied, Failure> {
        let base: Box<dyn Source> = match (sealed.qcow2(), sealed.vhd()) {
            (Some(image), _) => {
                Box::new(Qcow2Source::new(Arc::clone(image), Some(sealed.file().handle()), self.target.depth))
            }
            (None, Some(image)) => Box::new(VhdSource::new(Arc::clone(image), Some(sealed.file().handle()))),
            (None, None) => Box::new(RawSource::new(sealed.file())),
        };
        let source = Edited::new(base, sealed.changes().clone());
        let (source, free_space): (Box<dyn Source>, _) = if self.skips_free {
            let free = sealed.free_space()?;
            let source = FreeSkipped::new(source, free.ranges.ranges().to_vec());
            let source = match moves_clusters(sealed, &self.target.format) {
                true => source.keep_clusters(),
                false => source,
            };
            let report = FreeReport {
                bytes: free.ranges.bytes(),
                left_in_bytes: free.ranges.left_out(),
                volumes: free.volumes,
            };
            (Box::new(source), Some(report))
        } else {
            (Box::new(source), None)
        };
        let format = &self.target.format;
        let outcome = convert::convert(&*source, format, self.destination, self.options, progress, stop)?;
        Ok(Copied { format: target::name(format), free_space, outcome })
    }
}

impl Copy<'_> {
    /// Makes the copy and looks at it before it gets its name; the report takes over what was seen.
    pub fn judged(
        &self,
        sealed: &SealedImage,
        judge: &Judge,
        options: &OpenOptions,
        report: &mut Report,
        timings: &mut Timings,
        (progress, stop): (&dyn Progress, &AtomicBool),
    ) -> Result<Copied, Failure> {
        let judge = readable(&self.target.format)
            .filter(|_| matches!(self.destination, Destination::NewFile { .. }))
            .map(|format| {
                let options = OpenOptions { format: Some(format), ..options.for_a_look() };
                judge.of_copy(options, report, format == sealed.format())
            });
        let engine = Options { accept: judge.as_ref().map(CopyJudge::accept), ..self.options.clone() };
        let copy = Copy { options: &engine, ..*self };
        let copied = timings.stage("copy", progress, || copy.run(sealed, progress, stop))?;
        if let Some(seen) = judge.and_then(|judge| judge.seen()) {
            report.take(seen);
            report.verified.push("the complete copy was opened and read: the same guest".into());
        }
        let outcome = &copied.outcome;
        let sync_seconds = outcome.times.sync as f64 / 1e9;
        timings.note("sync", sync_seconds);
        report.commit = Some(Committed {
            target: outcome.target.clone().unwrap_or_else(|| "-".into()),
            written_bytes: outcome.bytes_written,
            journal_bytes: 0,
            undo_file: None,
            sync_seconds,
            is_conversion: true,
        });
        Ok(copied)
    }
}

/// The format that a copy is opened as; `None` when it is not one that is read.
pub fn readable(format: &TargetFormat) -> Option<ImageFormat> {
    match format {
        TargetFormat::Raw => Some(ImageFormat::Raw),
        TargetFormat::Qcow2(_) => Some(ImageFormat::Qcow2),
        TargetFormat::Other(other) => (other.name() == "vhd").then_some(ImageFormat::Vhd),
    }
}

/// Refuses what would only be found out after all the work.
pub fn refuse_early(image: &Path, output: &Path, force: bool) -> Result<(), Failure> {
    let refuse = |reason| Err(block::BlockError::Target { path: output.to_owned(), reason }.into());
    let same = |one: &Path| one.canonicalize().ok();
    match std::fs::symlink_metadata(output) {
        Ok(_) if same(output).is_some() && same(output) == same(image) => refuse("is the source itself"),
        Ok(_) if !force => refuse("exists already; it is replaced only when told so"),
        Ok(_) => Ok(()),
        Err(_) => {
            let dir = output.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
            match std::fs::metadata(dir) {
                Ok(metadata) if metadata.is_dir() => Ok(()),
                Ok(_) => refuse("does not lie in a directory"),
                Err(error) => Err(Failure::host("open the directory of", output, &error)),
            }
        }
    }
}
