//! Faults at every stage: the source stays as it is, and nothing is left of the target.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod common;

use std::ffi::OsStr;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use block::{Access, BlockError, Host, HostFile, HostMetadata, LockOutcome, ReadAt, SystemHost};
use coldfit_convert::{
    ConvertError, Destination, Input, Options, Outcome, Piece, PieceKind, RawSource, Source, Stage,
    TargetFormat,
};
use common::*;
use qcow2::Depth;
use report::{Class, Diagnose};

/// A host on which the n-th operation of one kind fails.
#[derive(Clone)]
struct FaultyHost {
    fault: Fault,
    errno: i32,
    /// Counts down; the operation that finds 0 fails.
    countdown: Arc<AtomicU64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    Create,
    Write,
    SetLen,
    Sync,
    Rename,
    SyncDir,
}

impl FaultyHost {
    fn ask(&self, fault: Fault) -> io::Result<()> {
        if fault != self.fault {
            return Ok(());
        }
        let counted =
            self.countdown.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        match counted {
            Ok(_) => Ok(()),
            Err(_) => Err(io::Error::from_raw_os_error(self.errno)),
        }
    }
}

struct FaultyFile {
    host: FaultyHost,
    file: Box<dyn HostFile>,
}

impl HostFile for FaultyFile {
    fn metadata(&self) -> io::Result<HostMetadata> {
        self.file.metadata()
    }
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.host.ask(Fault::Write)?;
        self.file.write_all_at(buf, offset)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.host.ask(Fault::SetLen)?;
        self.file.set_len(len)
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.file.allocate(len)
    }
    fn sync(&self) -> io::Result<()> {
        self.host.ask(Fault::Sync)?;
        self.file.sync()
    }
    fn lock(&self, access: Access) -> io::Result<LockOutcome> {
        self.file.lock(access)
    }
    fn unlock(&self) -> io::Result<()> {
        self.file.unlock()
    }
}

impl Host for FaultyHost {
    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        SystemHost.resolve(path)
    }
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn HostFile>> {
        SystemHost.open(path, access)
    }
    fn create(&self, path: &Path, mode: u32) -> io::Result<Box<dyn HostFile>> {
        self.ask(Fault::Create)?;
        let file = SystemHost.create(path, mode)?;
        Ok(Box::new(FaultyFile { host: self.clone(), file }))
    }
    fn scratch(&self, dir: &Path) -> io::Result<Box<dyn HostFile>> {
        SystemHost.scratch(dir)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.ask(Fault::Rename)?;
        SystemHost.rename(from, to)
    }
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.ask(Fault::Rename)?;
        SystemHost.rename_new(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        SystemHost.remove(path)
    }
    fn names_with_prefix(&self, dir: &Path, prefix: &OsStr) -> io::Result<Vec<PathBuf>> {
        SystemHost.names_with_prefix(dir, prefix)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.ask(Fault::SyncDir)?;
        SystemHost.sync_dir(dir)
    }
}

fn on_host(
    host: &FaultyHost,
    source: &dyn Source,
    format: &TargetFormat,
    path: &Path,
) -> Result<Outcome, ConvertError> {
    let destination = Destination::NewFile { path: path.to_owned(), force: false };
    coldfit_convert::convert_on(
        Arc::new(host.clone()),
        Input::Random(source),
        format,
        &destination,
        &Options { threads: Some(3), ..Options::default() },
        &report::Silent,
        &AtomicBool::new(false),
    )
}

fn formats() -> Vec<TargetFormat> {
    vec![TargetFormat::Raw, qcow2_target(3, 16, None), qcow2_target(3, 16, Some(zstd()))]
}

#[test]
fn a_host_that_fails_at_any_operation_leaves_no_target() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("raw");
    raw_disk(&raw, 6 << 20, 31);
    let before = std::fs::read(&raw).unwrap();
    let out_dir = dir.path().join("out");
    std::fs::create_dir(&out_dir).unwrap();
    let out = out_dir.join("image");
    let (eio, enospc) = (5, 28);
    let mut failures = 0;
    for format in formats() {
        for (fault, errno, stage) in [
            (Fault::Create, eio, Stage::Open),
            (Fault::Write, eio, Stage::Write),
            (Fault::Write, enospc, Stage::Write),
            (Fault::SetLen, eio, Stage::Write),
            (Fault::Sync, eio, Stage::Sync),
            (Fault::Rename, eio, Stage::Rename),
        ] {
            for countdown in 0.. {
                let host = FaultyHost { fault, errno, countdown: Arc::new(AtomicU64::new(countdown)) };
                let outcome = on_host(&host, &raw_source(&raw), &format, &out);
                let Err(error) = outcome else {
                    std::fs::remove_file(&out).unwrap();
                    assert!(countdown > 0, "{fault:?} never happens");
                    break;
                };
                failures += 1;
                assert!(names(&out_dir).is_empty(), "{fault:?} {countdown}: {:?}", names(&out_dir));
                assert_eq!(error.class(), Class::Environment);
                match error {
                    ConvertError::NoSpace { needed, .. } => {
                        assert!(errno == enospc && needed > 0);
                    }
                    error => {
                        assert_eq!(error.place().unwrap().stage, stage, "{fault:?} {countdown}: {error}")
                    }
                }
            }
        }
    }
    assert!(failures > 40, "{failures}");
    assert!(std::fs::read(&raw).unwrap() == before);
}

/// A source that misbehaves at one place.
struct FaultySource {
    base: RawSource,
    device: FaultyDevice,
    panics: bool,
}

struct FaultyDevice {
    file: Arc<dyn ReadAt>,
    bad: Range<u64>,
}

impl ReadAt for FaultyDevice {
    fn len(&self) -> u64 {
        self.file.len()
    }
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<(), BlockError> {
        if offset < self.bad.end && self.bad.start < offset + buf.len() as u64 {
            let error = io::Error::from_raw_os_error(5);
            return Err(BlockError::io("read", "faulty", error));
        }
        self.file.read_exact_at(buf, offset)
    }
}

impl Source for FaultySource {
    fn len(&self) -> u64 {
        self.base.len()
    }
    fn map(&self, range: Range<u64>, limit: usize) -> Result<Vec<Piece>, ConvertError> {
        let mut pieces = self.base.map(range, limit)?;
        if self.panics {
            for piece in &mut pieces {
                if matches!(piece.kind, PieceKind::Host { .. }) && piece.offset > 0 {
                    piece.kind = PieceKind::Device;
                }
            }
        }
        Ok(pieces)
    }
    fn host(&self, _file: usize) -> &dyn ReadAt {
        &self.device
    }
    fn read_device(&self, _buf: &mut [u8], guest_offset: u64) -> Result<(), ConvertError> {
        panic!("a bug at {guest_offset}")
    }
}

fn faulty(path: &Path, bad: Range<u64>, panics: bool) -> FaultySource {
    let device = FaultyDevice { file: Arc::new(block::FileDevice::open_read(path).unwrap()), bad };
    FaultySource { base: raw_source(path), device, panics }
}

#[test]
fn a_read_error_names_the_stage_and_the_range() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("raw");
    std::fs::write(&raw, Noise::new(1).words(6 << 20)).unwrap();
    for format in formats() {
        let out = dir.path().join("out");
        let error =
            try_convert(&faulty(&raw, 3_000_000..3_000_512, false), &format, &out, &quick()).unwrap_err();
        let place = error.place().unwrap().clone();
        assert_eq!(place.stage, Stage::Read);
        let guest = place.guest.unwrap();
        assert!(guest.start < 3_000_512 && 3_000_000 < guest.end, "{guest:?}");
        assert_eq!(names(dir.path()), std::slice::from_ref(&raw));
    }
}

#[test]
fn a_panic_in_a_unit_is_an_error_of_the_class_bug() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("raw");
    let file = std::fs::File::create(&raw).unwrap();
    file.set_len(8 << 20).unwrap();
    file.write_all_at(&[1; 4096], 5 << 20).unwrap();
    let error = try_convert(&faulty(&raw, 0..0, true), &TargetFormat::Raw, &dir.path().join("out"), &quick());
    let error = error.unwrap_err();
    assert_eq!((error.code(), error.class(), error.class().exit_code()), ("convert.panic", Class::Bug, 70));
    assert!(error.to_string().contains("a bug at"), "{error}");
    assert_eq!(names(dir.path()), std::slice::from_ref(&raw));
}

#[test]
fn a_source_that_shrinks_or_changes_meanwhile_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("raw");
    for shrink in [true, false] {
        raw_disk(&raw, 6 << 20, 33);
        let source = raw_source(&raw);
        let writer = std::fs::File::options().write(true).open(&raw).unwrap();
        match shrink {
            true => writer.set_len(1 << 20).unwrap(),
            false => writer.write_all_at(b"x", 7).unwrap(),
        }
        for format in formats() {
            let error = try_convert(&source, &format, &dir.path().join("out"), &quick()).unwrap_err();
            assert_eq!(error.class(), Class::Environment, "{error}");
            if !shrink {
                assert_eq!(error.code(), "image.changed");
            }
            assert_eq!(names(dir.path()), std::slice::from_ref(&raw));
        }
    }
}

#[test]
fn stopping_removes_the_target_and_says_so() {
    struct StopAt<'s>(&'s AtomicBool, Mutex<u64>);
    impl report::Progress for StopAt<'_> {
        fn event(&self, event: report::Event<'_>) {
            if let report::Event::Stage { name: "convert", .. } = event {
                *self.1.lock().unwrap() += 1;
                self.0.store(true, Ordering::SeqCst);
            }
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("raw");
    raw_disk(&raw, 6 << 20, 34);
    let stop = AtomicBool::new(false);
    let progress = StopAt(&stop, Mutex::new(0));
    let destination = Destination::NewFile { path: dir.path().join("out"), force: false };
    let source = raw_source(&raw);
    let error =
        coldfit_convert::convert(&source, &TargetFormat::Raw, &destination, &quick(), &progress, &stop)
            .unwrap_err();
    assert_eq!(error.code(), "convert.stopped");
    assert_eq!(names(dir.path()), [raw]);
}

#[test]
fn what_a_killed_run_left_is_removed_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let (raw, out) = (dir.path().join("raw"), dir.path().join("out"));
    raw_disk(&raw, 6 << 20, 35);
    let leftover = dir.path().join(".out.coldfit-new-0123456789abcdef");
    std::fs::write(&leftover, "half").unwrap();
    // One that is still being made is locked.
    let busy = dir.path().join(".out.coldfit-new-fedcba9876543210");
    std::fs::write(&busy, "half").unwrap();
    let held = SystemHost.open(&busy, Access::Write).unwrap();
    assert_eq!(held.lock(Access::Write).unwrap(), LockOutcome::Held);
    convert(&raw_source(&raw), &TargetFormat::Raw, &out, &quick());
    assert!(!leftover.exists() && busy.exists());
}

#[test]
fn hostile_tables_are_errors_and_leave_no_target() {
    let dir = tempfile::tempdir().unwrap();
    let (raw, image) = (dir.path().join("raw"), dir.path().join("image"));
    raw_disk(&raw, 4 << 20, 36);
    tool("qemu-img", &["convert", "-q", "-c", "-f", "raw", "-O", "qcow2", text(&raw), text(&image)]);
    let good = std::fs::read(&image).unwrap();
    let be = |at: usize| u64::from_be_bytes(good[at..at + 8].try_into().unwrap());
    let l1 = be(40) as usize;
    let l2 = (be(l1) & 0x00ff_ffff_ffff_fe00) as usize;
    let mut noise = Noise::new(9);
    let (mut refused, mut converted) = (0, 0);
    for round in 0..200 {
        let mut bad = good.clone();
        let entry = l2 + (noise.next() as usize % 64) * 8;
        let value: u64 = match round % 5 {
            0 => noise.next(),
            1 => (1 << 62) | (noise.next() % (1 << 62)),
            2 => (1 << 63) | ((noise.next() % 1000) << 16),
            3 => be(entry) ^ (1 << (noise.next() % 64)),
            _ => u64::MAX,
        };
        bad[entry..entry + 8].copy_from_slice(&value.to_be_bytes());
        std::fs::write(&image, &bad).unwrap();
        let source = qcow2_source(&image, Depth::Chain);
        for target in [TargetFormat::Raw, qcow2_target(3, 16, Some(zlib()))] {
            let out = dir.path().join("out");
            match try_convert(&source, &target, &out, &quick()) {
                Ok(_) => {
                    converted += 1;
                    std::fs::remove_file(&out).unwrap();
                }
                Err(error) => {
                    refused += 1;
                    assert_eq!(error.class(), Class::Damaged, "{error}");
                    assert_eq!(names(dir.path()), [image.clone(), raw.clone()]);
                }
            }
        }
    }
    assert!(refused > 50 && converted > 10, "{refused} {converted}");
}
