//! The way through a conversion.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use block::{BlockError, Host, HostFile, NewFile, SystemHost};
use report::{Event, Progress};

use crate::engine::{Run, run};
use crate::error::{Place, Stage};
use crate::layout::{Layout, Qcow2Layout, RawLayout};
use crate::read::ns;
use crate::sink::{FileSink, SinkOptions};
use crate::units::Census;
use crate::{Budget, ConvertError, Destination, Options, Outcome, Source, TargetFormat};

/// Smallest and greatest unit of work.
const UNIT_MIN: u64 = 256 << 10;
const UNIT_MAX: u64 = 4 << 20;

/// Copies `source` into a target. `stop` ends it early, with [`ConvertError::Stopped`].
///
/// The source is never written. A new target has its name only when it is complete and, unless told otherwise, durable;
/// after an error nothing of it is left.
pub fn convert(
    source: &dyn Source,
    format: &TargetFormat,
    destination: &Destination,
    options: &Options,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<Outcome, ConvertError> {
    convert_on(Arc::new(SystemHost), source, format, destination, options, progress, stop)
}

/// [`convert`] with the target on a given host.
pub fn convert_on(
    host: Arc<dyn Host>,
    source: &dyn Source,
    format: &TargetFormat,
    destination: &Destination,
    options: &Options,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<Outcome, ConvertError> {
    let job = Job { source, format, options, progress, stop };
    match destination {
        Destination::NewFile { path, force } => {
            let open = |error| ConvertError::host(Place::of(Stage::Open), error);
            let target =
                NewFile::create(host, path, &source.identities(), *force, 0o644, progress).map_err(open)?;
            let (partial, file) = (target.partial_path().to_owned(), target.file());
            let mut outcome = job.fill(file, &partial, true)?;
            if let Some(accept) = &options.accept {
                target.let_readers_in().map_err(open)?;
                accept(&partial)
                    .map_err(|cause| ConvertError::Source { place: Place::of(Stage::Accept), cause })?;
            }
            let named = Instant::now();
            let path = target
                .finish(options.sync)
                .map_err(|error| ConvertError::host(Place::of(Stage::Rename), error))?;
            outcome.times.sync += ns(named);
            outcome.target = Some(path);
            Ok(outcome)
        }
        Destination::Existing(_) | Destination::Stdout => {
            Err(ConvertError::Unsupported { what: "this target".into() })
        }
    }
}

struct Job<'j> {
    source: &'j dyn Source,
    format: &'j TargetFormat,
    options: &'j Options,
    progress: &'j dyn Progress,
    stop: &'j AtomicBool,
}

impl Job<'_> {
    fn layout(&self, is_new: bool) -> Result<Box<dyn Layout>, ConvertError> {
        let len = self.source.len();
        Ok(match self.format {
            TargetFormat::Raw => {
                let grain = self.options.sparse_bytes.clamp(4096, UNIT_MIN).next_power_of_two();
                Box::new(RawLayout::new(grain, !is_new))
            }
            TargetFormat::Qcow2(target) => Box::new(Qcow2Layout::new(target, len)?),
        })
    }

    /// Bytes that the target will take, at most, beside what cannot be known.
    fn expected(&self, census: &Census, layout: &dyn Layout) -> u64 {
        let cluster_len = layout.cluster_len();
        // Every L2 entry and refcount: 10 bytes a cluster.
        let tables = census.mapped / cluster_len * 10 + (4 << 20);
        match self.format {
            TargetFormat::Raw => census.mapped,
            TargetFormat::Qcow2(_) => census.mapped + tables,
        }
    }

    /// Makes the content of the target file, durable if asked for.
    fn fill(&self, file: &dyn HostFile, path: &Path, is_new: bool) -> Result<Outcome, ConvertError> {
        let (source, options) = (self.source, self.options);
        let mut layout = self.layout(is_new)?;
        let started = Instant::now();
        let census = Census::of(source)?;
        let map_ns = ns(started);
        let threads = options.threads.unwrap_or_else(default_threads).max(1);
        let own = Budget::new(options.memory);
        let budget = options.budget.as_deref().unwrap_or(&own);
        let grain = layout.cluster_len().max(source.granularity());
        let unit = unit_bytes(options.unit_bytes, threads, budget.limit(), grain);
        let sink_options = SinkOptions { direct: options.direct, is_new, drops_behind: options.sync };
        let sink = FileSink::new(file, path, &sink_options)?;
        sink.expected.store(self.expected(&census, &*layout), Ordering::Relaxed);
        if *self.format == TargetFormat::Raw && is_new {
            sink.set_len(source.len())?;
            if options.sparse_bytes == 0 {
                sink.allocate(source.len())?;
            }
        }
        self.progress.event(Event::Stage { name: "convert", total: Some(census.mapped) });
        let ran = run(Run {
            source,
            layout: &mut *layout,
            sink: Some(&sink),
            threads,
            unit,
            budget,
            digest: options.digest,
            progress: self.progress,
            stop: self.stop,
        })?;
        source.check_unchanged()?;
        if is_new {
            sink.set_len(ran.finish.file_len)?;
        }
        let syncing = Instant::now();
        if options.sync {
            self.progress.event(Event::Stage { name: "sync", total: None });
            sink.sync()?;
        }
        if let Some((offset, header)) = &ran.finish.header {
            // Only now: a target that is cut off before is no image.
            sink.write(*offset, &[header])?;
            if options.sync {
                sink.sync()?;
            }
        }
        if options.sync {
            sink.drop_behind(true);
        }
        let mut times = ran.times;
        times.map += map_ns;
        times.sync = ns(syncing);
        let mut outcome = Outcome {
            virtual_bytes: source.len(),
            target_bytes: ran.finish.file_len,
            mapped_bytes: census.mapped,
            zero_bytes: ran.zero_bytes,
            bytes_read: ran.bytes_read,
            bytes_written: sink.written.load(Ordering::Relaxed),
            plain_clusters: ran.plain_clusters,
            compressed_clusters: ran.encoded_clusters,
            encoder: ran.encoder,
            direct: sink.wrote_direct(),
            synced: options.sync,
            digest: ran.digest,
            threads,
            unit_bytes: unit,
            units: ran.units,
            high_water_bytes: budget.high_water(),
            stalls: ran.stalls,
            times,
            ..Outcome::default()
        };
        if options.checksum {
            outcome.sha256 = Some(checksum(file, path, outcome.target_bytes, self.stop)?);
        }
        Ok(outcome)
    }
}

/// CPUs that this process may use.
fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// A power of two and a multiple of `grain`; never shows in the result.
fn unit_bytes(wanted: Option<u64>, threads: usize, budget: u64, grain: u64) -> u64 {
    let fair = budget / (2 * (2 * threads as u64 + 2));
    let unit = wanted.unwrap_or(fair).clamp(UNIT_MIN, UNIT_MAX);
    let power = 1 << unit.ilog2();
    u64::max(power, grain.next_power_of_two())
}

/// SHA-256 of the finished file, in a pass of its own: writes come in any order.
fn checksum(file: &dyn HostFile, path: &Path, len: u64, stop: &AtomicBool) -> Result<String, ConvertError> {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new();
    let mut buf = vec![0; 1 << 20];
    let mut at = 0;
    while at < len {
        if stop.load(Ordering::Relaxed) {
            return Err(ConvertError::Stopped);
        }
        let step = (len - at).min(buf.len() as u64);
        let part = buf.get_mut(..step as usize).unwrap_or_default();
        file.read_exact_at(part, at).map_err(|error| {
            ConvertError::host(
                Place::of(Stage::Read).host(at..at + step),
                BlockError::io("read back", path, error),
            )
        })?;
        hash.update(part);
        at += step;
    }
    Ok(crate::digest::hex(&hash.finalize()))
}
