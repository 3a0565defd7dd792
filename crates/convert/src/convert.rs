//! The way through a conversion.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use block::{NewFile, SystemHost};
use report::{Event, Progress};

use crate::error::{Place, Stage};
use crate::{ConvertError, Destination, Options, Outcome, PieceKind, Source, TargetFormat};

/// Copies `source` into a new target. `stop` ends it early, with [`ConvertError::Stopped`].
pub fn convert(
    source: &dyn Source,
    format: &TargetFormat,
    destination: &Destination,
    options: &Options,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<Outcome, ConvertError> {
    let (TargetFormat::Raw, Destination::NewFile { path, force }) = (format, destination) else {
        return Err(ConvertError::Unsupported { what: "this target".into() });
    };
    let open = |source| ConvertError::host(Place::of(Stage::Open), source);
    let host = Arc::new(SystemHost);
    let target = NewFile::create(host, path, &source.identities(), *force, 0o644, progress).map_err(open)?;
    let mut outcome = Outcome { virtual_bytes: source.len(), threads: 1, ..Outcome::default() };
    let write = |range: std::ops::Range<u64>, error| {
        ConvertError::host(
            Place::of(Stage::Write).host(range),
            block::BlockError::io("write", target.partial_path(), error),
        )
    };
    target.file().set_len(source.len()).map_err(|error| write(0..source.len(), error))?;
    let mut buf = vec![0; 1 << 20];
    let mut at = 0;
    progress.event(Event::Stage { name: "convert", total: Some(source.len()) });
    while at < source.len() {
        for piece in source.map(at..source.len(), 4096)? {
            at = piece.end();
            let mut done = 0;
            while !piece.reads_zero() && done < piece.len {
                if stop.load(Ordering::Relaxed) {
                    return Err(ConvertError::Stopped);
                }
                let step = (piece.len - done).min(buf.len() as u64);
                let part = buf.get_mut(..step as usize).unwrap_or_default();
                let guest = piece.offset + done..piece.offset + done + step;
                match piece.kind {
                    PieceKind::Host { file, host_offset } => {
                        source.host(file).read_exact_at(part, host_offset + done).map_err(|error| {
                            ConvertError::host(Place::of(Stage::Read).guest(guest.clone()), error)
                        })?
                    }
                    _ => source.read_device(part, guest.start)?,
                }
                target.file().write_all_at(part, guest.start).map_err(|error| write(guest, error))?;
                done += step;
                outcome.bytes_read += step;
                outcome.bytes_written += step;
            }
            progress.event(Event::Advance { done: at });
        }
    }
    source.check_unchanged()?;
    if options.sync {
        target.file().sync().map_err(|error| {
            ConvertError::host(
                Place::of(Stage::Sync),
                block::BlockError::io("sync", target.partial_path(), error),
            )
        })?;
    }
    outcome.target_bytes = source.len();
    outcome.synced = options.sync;
    let path =
        target.finish(options.sync).map_err(|source| ConvertError::host(Place::of(Stage::Rename), source))?;
    outcome.target = Some(path);
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test code")]
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::RawSource;

    #[test]
    fn raw_to_raw_keeps_every_byte() {
        let dir = tempfile::tempdir().unwrap();
        let input = std::fs::File::create(dir.path().join("in")).unwrap();
        input.set_len(5 << 20).unwrap();
        input.write_all_at(&[7; 100_000], 3_000_000).unwrap();
        let image =
            block::ImageFile::open(&dir.path().join("in"), block::Access::Read, &report::Silent).unwrap();
        let path = dir.path().join("out");
        let outcome = convert(
            &RawSource::new(&image),
            &TargetFormat::Raw,
            &Destination::NewFile { path: path.clone(), force: false },
            &Options::default(),
            &report::Silent,
            &AtomicBool::new(false),
        )
        .unwrap();
        assert_eq!(outcome.target_bytes, 5 << 20);
        assert!(std::fs::read(path).unwrap() == std::fs::read(dir.path().join("in")).unwrap());
    }
}
