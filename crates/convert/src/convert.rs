//! The way through a conversion.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use block::{Host, HostFile, HostFileKind, HostMetadata, NewFile, SystemHost};
use report::{Event, Progress};

use crate::budget::Share;
use crate::checksum::checksum;
use crate::clone::clone_raw;
use crate::engine::{Run, RunOutcome, run};
use crate::error::{Place, Stage};
use crate::layout::{FIRST_MOVED, Layout, Qcow2Layout, RawLayout};
use crate::moved::{MOVE_BYTES, Movable, MoveTally, Moved, move_clusters};
use crate::read::ns;
use crate::sink::{FileSink, Sink, SinkOptions, free_bytes};
use crate::stream_sink::StreamSink;
use crate::target::Existing;
use crate::units::Census;
use crate::{
    Budget, ConvertError, Destination, FastPath, Options, Outcome, Source, StreamSource, TargetFormat, digest,
};

/// Smallest and greatest unit of work.
const UNIT_MIN: u64 = 256 << 10;
const UNIT_MAX: u64 = 4 << 20;

/// What is copied.
pub enum Input<'i> {
    /// Can be read anywhere.
    Random(&'i dyn Source),
    /// Can be read from front to back.
    Stream(&'i mut dyn StreamSource),
}

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
    let host = Arc::new(SystemHost);
    convert_on(host, Input::Random(source), format, destination, options, progress, stop)
}

/// [`convert`] for a source that is read from front to back.
pub fn convert_stream(
    source: &mut dyn StreamSource,
    format: &TargetFormat,
    destination: &Destination,
    options: &Options,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<Outcome, ConvertError> {
    let host = Arc::new(SystemHost);
    convert_on(host, Input::Stream(source), format, destination, options, progress, stop)
}

/// [`convert`] and [`convert_stream`] with the target on a given host.
pub fn convert_on(
    host: Arc<dyn Host>,
    input: Input<'_>,
    format: &TargetFormat,
    destination: &Destination,
    options: &Options,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<Outcome, ConvertError> {
    let identities = match &input {
        Input::Random(source) => source.identities(),
        Input::Stream(source) => source.identities(),
    };
    let mut job = Job { input, format, options, progress, stop };
    match destination {
        Destination::NewFile { path, force } => {
            let open = |error| ConvertError::host(Place::of(Stage::Open), error);
            let target = NewFile::create(host, path, &identities, *force, 0o644, progress).map_err(open)?;
            let (partial, file) = (target.partial_path().to_owned(), target.file());
            let mut outcome = job.fill(file, &partial, None)?;
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
        Destination::Existing(path) => {
            let target = Existing::open(&host, path, &identities, progress)?;
            job.check_existing(&target)?;
            let mut outcome = job.fill(target.file.as_ref(), &target.path, Some(&target.metadata))?;
            outcome.target = Some(target.path);
            Ok(outcome)
        }
        Destination::Stdout => job.stream(&mut std::io::stdout()),
    }
}

struct Job<'j, 'i> {
    input: Input<'i>,
    format: &'j TargetFormat,
    options: &'j Options,
    progress: &'j dyn Progress,
    stop: &'j AtomicBool,
}

/// How a run is set up, apart from where its bytes go.
struct Setup {
    layout: Box<dyn Layout>,
    census: Census,
    map_ns: u64,
    threads: usize,
    unit: u64,
    /// Known length of the disk.
    len: Option<u64>,
    movable: Option<Movable>,
    fast_path: Option<FastPath>,
}

impl Job<'_, '_> {
    fn len(&self) -> Option<u64> {
        match &self.input {
            Input::Random(source) => Some(source.len()),
            Input::Stream(source) => source.len(),
        }
    }

    fn layout(&self, is_new: bool, is_ordered: bool) -> Result<Box<dyn Layout>, ConvertError> {
        Ok(match self.format {
            TargetFormat::Raw => {
                let grain = self.options.sparse_bytes.clamp(4096, UNIT_MIN).next_power_of_two();
                Box::new(RawLayout::new(grain, !is_new, is_ordered))
            }
            TargetFormat::Qcow2(target) => Box::new(Qcow2Layout::new(target, self.len().unwrap_or(0))?),
            TargetFormat::Other(maker) => maker.layout(self.len(), is_new)?,
        })
    }

    fn setup(&self, is_new: bool, is_ordered: bool, budget: &Budget) -> Result<Setup, ConvertError> {
        let layout = self.layout(is_new, is_ordered)?;
        let started = Instant::now();
        let (census, granularity) = match &self.input {
            Input::Random(source) => (Census::of(*source)?, source.granularity()),
            Input::Stream(source) => (Census { mapped: source.len().unwrap_or(0), ..Census::default() }, 1),
        };
        let map_ns = ns(started);
        let threads = self.options.threads.unwrap_or_else(default_threads).max(1);
        let grain = layout.cluster_len().max(granularity);
        let unit = unit_bytes(self.options.unit_bytes, threads, budget.limit(), grain);
        Ok(Setup { layout, census, map_ns, threads, unit, len: self.len(), movable: None, fast_path: None })
    }

    /// A format whose parts are found by a header cannot take the place of bytes that are there.
    fn check_existing(&self, target: &Existing) -> Result<(), ConvertError> {
        let refuse = |code, what| Err(ConvertError::Target { code, what });
        let path = target.path.display();
        let is_file = target.metadata.kind == HostFileKind::Regular;
        if is_file && !matches!(self.format, TargetFormat::Raw) {
            let what = format!("{path}: only raw is written into a file that exists");
            return refuse("convert.target.existing", what);
        }
        match self.len() {
            Some(len) if len > target.metadata.len => {
                let what =
                    format!("{path}: the disk of {len} bytes does not fit its {} bytes", target.metadata.len);
                refuse("convert.target.too-small", what)
            }
            _ => Ok(()),
        }
    }

    fn run(
        &mut self,
        setup: &mut Setup,
        sink: Option<&dyn Sink>,
        budget: &Budget,
    ) -> Result<RunOutcome, ConvertError> {
        let total = setup.len.map(|_| setup.census.mapped);
        self.progress.event(Event::Stage { name: "convert", total });
        let input = match &mut self.input {
            Input::Random(source) => Input::Random(*source),
            Input::Stream(source) => Input::Stream(*source),
        };
        let ran = run(Run {
            input,
            layout: &mut *setup.layout,
            sink,
            threads: setup.threads,
            unit: setup.unit,
            budget,
            digest: self.options.digest,
            movable: setup.movable,
            verify: self.options.verify,
            progress: self.progress,
            stop: self.stop,
        })?;
        self.check_unchanged()?;
        Ok(ran)
    }

    fn check_unchanged(&self) -> Result<(), ConvertError> {
        match &self.input {
            Input::Random(source) => source.check_unchanged(),
            Input::Stream(source) => source.check_unchanged(),
        }
    }

    /// Whole-file copies; `None`: the engine must do it. A digest is then all that is left to do.
    fn clone_whole(
        &mut self,
        setup: &mut Setup,
        file: &dyn HostFile,
        budget: &Budget,
    ) -> Result<Option<RunOutcome>, ConvertError> {
        let Input::Random(source) = &self.input else { return Ok(None) };
        let source: &dyn Source = *source;
        setup.fast_path = clone_raw(source, file)?;
        if setup.fast_path.is_none() {
            return Ok(None);
        }
        let len = source.len();
        let mut ran = match self.options.digest {
            true => self.run(setup, None, budget)?,
            false => RunOutcome { virtual_len: len, ..RunOutcome::default() },
        };
        self.check_unchanged()?;
        ran.finish.file_len = len;
        Ok(Some(ran))
    }

    /// Makes the content of the target file, durable if asked for. `existing`: the file holds something else.
    fn fill(
        &mut self,
        file: &dyn HostFile,
        path: &Path,
        existing: Option<&HostMetadata>,
    ) -> Result<Outcome, ConvertError> {
        let options = self.options;
        let own = Budget::new(options.memory);
        let budget = options.budget.as_deref().unwrap_or(&own);
        let is_new = existing.is_none();
        let mut setup = self.setup(is_new, false, budget)?;
        let sink_options = SinkOptions { direct: options.direct, is_new, drops_behind: options.sync };
        let sink = FileSink::new(file, path, &sink_options)?;
        self.expect(&setup, &sink, path, is_new)?;
        let is_raw = matches!(self.format, TargetFormat::Raw);
        if let Some(len) = setup.len.filter(|_| is_raw && is_new) {
            sink.set_len(len)?;
            if options.sparse_bytes == 0 {
                sink.allocate(len)?;
            }
        }
        let moved = self.move_payloads(&mut setup, &sink, budget)?;
        let (moved, _kept) = moved.map_or((None, None), |(tally, kept)| (Some(tally), Some(kept)));
        let may_clone = is_raw && is_new && options.fast_paths && options.sparse_bytes > 0;
        let cloned = match may_clone {
            true => self.clone_whole(&mut setup, file, budget)?,
            false => None,
        };
        let mut ran = match cloned {
            Some(ran) => ran,
            None => self.run(&mut setup, Some(&sink), budget)?,
        };
        if let Some(tally) = moved {
            ran.bytes_read += tally.bytes;
            ran.times.read += tally.read_ns;
            ran.times.write += tally.write_ns;
            setup.fast_path = Some(FastPath::PassThrough);
        }
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
        let sync_ns = ns(syncing);
        let mut outcome = self.outcome(&setup, ran, budget);
        outcome.times.sync = sync_ns;
        outcome.bytes_written = sink.written.load(Ordering::Relaxed);
        outcome.direct = sink.wrote_direct();
        outcome.synced = options.sync;
        if options.checksum {
            outcome.sha256 = Some(checksum(file, path, outcome.target_bytes, self.stop)?);
        }
        Ok(outcome)
    }

    /// Moves compressed clusters that may stay as they are, and tells the layout.
    fn move_payloads<'b>(
        &self,
        setup: &mut Setup,
        sink: &dyn Sink,
        budget: &'b Budget,
    ) -> Result<Option<(MoveTally, Share<'b>)>, ConvertError> {
        let (TargetFormat::Qcow2(target), Input::Random(source)) = (self.format, &self.input) else {
            return Ok(None);
        };
        let Some(algorithm) = target.compression.filter(|_| self.options.fast_paths) else { return Ok(None) };
        let cluster_len = setup.layout.cluster_len();
        if setup.census.compressed == 0 || source.granularity() < cluster_len {
            return Ok(None);
        }
        let started = Instant::now();
        let survey = Moved::survey(*source, algorithm.kind(), cluster_len, budget.limit() / 4)?;
        setup.map_ns += ns(started);
        let Some(moved) = survey else { return Ok(None) };
        let moved = Arc::new(moved);
        let first = FIRST_MOVED * cluster_len;
        let layout = Qcow2Layout::new(target, source.len())?.with_moved(Arc::clone(&moved));
        setup.movable = Some(moved.movable);
        setup.layout = Box::new(layout);
        self.progress.event(Event::Stage { name: "move", total: Some(moved.clusters() * cluster_len) });
        // What keeps track of the moves stays until the last table is written; the buffers go before.
        let (kept, buffers) = (Share::new(budget), Share::new(budget));
        kept.take(moved.bytes());
        let threads = setup.threads.min((budget.limit() / (8 * MOVE_BYTES)) as usize).max(1);
        buffers.take(threads as u64 * MOVE_BYTES.max(cluster_len));
        let tally = move_clusters(*source, &moved, first, sink, threads, self.stop)?;
        Ok(Some((tally, kept)))
    }

    /// Writes to a pipe.
    fn stream(&mut self, out: &mut (dyn Write + Send)) -> Result<Outcome, ConvertError> {
        let own = Budget::new(self.options.memory);
        let budget = self.options.budget.as_deref().unwrap_or(&own);
        let mut setup = self.setup(true, true, budget)?;
        if !setup.layout.is_ordered() {
            return Err(ConvertError::Target {
                code: "convert.target.stream",
                what: "this format is not written from front to back, so it needs a file".into(),
            });
        }
        let sink = StreamSink::new(out);
        let ran = self.run(&mut setup, Some(&sink), budget)?;
        sink.flush()?;
        let mut outcome = self.outcome(&setup, ran, budget);
        outcome.bytes_written = sink.written.load(Ordering::Relaxed);
        Ok(outcome)
    }

    /// Notes what the target will take, and refuses early when it cannot have that.
    fn expect(
        &self,
        setup: &Setup,
        sink: &FileSink<'_>,
        path: &Path,
        is_new: bool,
    ) -> Result<(), ConvertError> {
        let census = &setup.census;
        let tables = census.mapped / setup.layout.cluster_len() * 10 + (4 << 20);
        let expected = census.mapped + tables;
        sink.expected.store(expected, Ordering::Relaxed);
        // Zero may be left out and data may shrink: only where neither can happen the need is known.
        let is_certain = is_new && self.options.sparse_bytes == 0 && matches!(self.format, TargetFormat::Raw);
        let needed = setup.len.unwrap_or(0);
        match free_bytes(path) {
            Some(free) if is_certain && free < needed => {
                Err(ConvertError::NoSpace { path: path.to_owned(), needed, available: Some(free) })
            }
            _ => Ok(()),
        }
    }

    fn outcome(&self, setup: &Setup, ran: RunOutcome, budget: &Budget) -> Outcome {
        let mut times = ran.times;
        times.map += setup.map_ns;
        Outcome {
            virtual_bytes: ran.virtual_len,
            target_bytes: ran.finish.file_len,
            mapped_bytes: setup.census.mapped.max(ran.committed),
            zero_bytes: ran.zero_bytes,
            bytes_read: ran.bytes_read,
            plain_clusters: ran.plain_clusters,
            compressed_clusters: ran.encoded_clusters,
            moved_clusters: ran.moved_clusters,
            fast_path: setup.fast_path,
            encoder: ran.encoder,
            digest: ran.digest.filter(|_| self.options.digest).map(|digest| digest::hex(&digest)),
            threads: setup.threads,
            unit_bytes: setup.unit,
            units: ran.units,
            high_water_bytes: budget.high_water(),
            stalls: ran.stalls,
            times,
            ..Outcome::default()
        }
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
