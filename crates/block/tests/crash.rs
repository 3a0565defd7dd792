//! TX-7: a power failure behind every operation of a commit, an undo and a recovery, with everything that was not synced
//! lost, kept, torn and reordered, leaves after recovery exactly the old or exactly the new bytes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use coldfit_block::{
    Access, BlockError, CommitOptions, CommitUnit, DenyAll, HostPlan, HostWrite, ImageFile, ImageState,
    NewImageOptions, Overlay, ReadAt, UndoReport, WriteAt, WriteSource, commit_in_place, commit_to_new,
    raw_plan, undo_on,
};
use qcow2::Qcow2;
use report::{Diagnose, Silent};
use testkit::crash::{CrashHost, Loss, Operation};

/// Random losses tried behind every operation, beside losing everything and nothing.
const SEEDS: u64 = 48;

const ONE: [&str; 1] = ["/images/disk.raw"];
const THREE: [&str; 3] = ["/images/disk.raw", "/other/grows.qcow2", "/third/data.raw"];
const UNDO: &str = "/undo/disk.undo";

fn losses() -> impl Iterator<Item = Loss> {
    [Loss::All, Loss::None].into_iter().chain((0..SEEDS).map(Loss::Random))
}

fn bytes(seed: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|n| ((n + seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u8).collect()
}

fn host(paths: &[&'static str]) -> CrashHost {
    // The directory of the undo file needs something in it to exist.
    let images =
        paths.iter().enumerate().map(|(number, path)| (*path, bytes(number as u64, 20_000 + 700 * number)));
    CrashHost::with_files(images.chain([("/undo/.keep", Vec::new())]))
}

fn open(host: &CrashHost, path: &str, access: Access) -> Result<ImageFile, BlockError> {
    ImageFile::open_on(Arc::new(host.clone()), Path::new(path), access, &Silent)
}

fn read_all(image: &ImageFile) -> Vec<u8> {
    let mut all = vec![0; image.len() as usize];
    image.read_exact_at(&mut all, 0).unwrap();
    all
}

/// Edits across sector borders, at the very end, and for `grows` clusters behind the end, the way that qcow2 grows.
fn plan(image: &ImageFile) -> HostPlan {
    let len = image.len();
    let overlay = Arc::new(Overlay::new(image.reader(), 1 << 20, std::env::temp_dir()));
    for (at, count, byte) in [(700, 1500, 1u8), (9_000, 5_000, 2), (len - 3, 3, 3)] {
        overlay.write_all_at(&vec![byte; count], at).unwrap();
    }
    let mut plan = raw_plan(&overlay.seal().unwrap(), len);
    if image.path().to_string_lossy().contains("grows") {
        plan.new_len = len + 8192;
        plan.writes.insert(0, write(len + 100, bytes(77, 3000)));
        plan.writes.insert(1, write(len + 5000, bytes(78, 3000)));
        // The header last.
        plan.writes.push(write(0, vec![0xee; 104]));
    }
    plan
}

fn write(host_offset: u64, bytes: Vec<u8>) -> HostWrite {
    HostWrite { host_offset, source: WriteSource::Bytes(bytes) }
}

fn commit(host: &CrashHost, paths: &[&str], keep_undo: Option<&str>) -> Result<(), BlockError> {
    let mut units = Vec::new();
    for path in paths {
        let image = open(host, path, Access::Write)?;
        let plan = plan(&image);
        units.push(CommitUnit { image, plan });
    }
    let options = CommitOptions { keep_undo: keep_undo.map(PathBuf::from) };
    commit_in_place(units, &options, &Silent).map(drop)
}

fn undo(host: &CrashHost, image: &str) -> Result<UndoReport, BlockError> {
    undo_on(Arc::new(host.clone()), Path::new(image), Some(Path::new(UNDO)), &Silent)
}

fn contents(host: &CrashHost, paths: &[&str]) -> Vec<Vec<u8>> {
    paths.iter().map(|path| host.file(path).expect("images stay")).collect()
}

/// Old and new bytes of all images of a unit.
struct Expected {
    old: Vec<Vec<u8>>,
    new: Vec<Vec<u8>>,
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Side {
    Old,
    New,
}

impl Expected {
    fn side_of(&self, found: &[Vec<u8>], what: &str) -> Side {
        if found == self.old {
            Side::Old
        } else if found == self.new {
            Side::New
        } else {
            panic!("neither the old nor the new bytes: {what}");
        }
    }
}

/// What recovery makes of a crashed host. The images are opened in turn beginning with number `first`: a view of all of
/// them must agree with what recovery then writes.
fn recover(crashed: &CrashHost, paths: &[&str], first: usize, expected: &Expected, what: &str) -> Side {
    let order = || (0..paths.len()).map(|step| (first + step) % paths.len());
    let untouched = contents(crashed, paths);
    let mut viewed = vec![Vec::new(); paths.len()];
    for number in order() {
        let image = open(crashed, paths[number], Access::Read)
            .unwrap_or_else(|error| panic!("{what}: view of {}: {error}", paths[number]));
        viewed[number] = read_all(&image);
    }
    assert!(contents(crashed, paths) == untouched && crashed.log().is_empty(), "{what}: a view wrote");
    let view_side = expected.side_of(&viewed, &format!("{what}, viewed"));
    for number in order() {
        let image = open(crashed, paths[number], Access::Write)
            .unwrap_or_else(|error| panic!("{what}: recovery of {}: {error}", paths[number]));
        assert!(!image.is_rolled_back_view());
    }
    let side = expected.side_of(&contents(crashed, paths), &format!("{what}, recovered"));
    assert_eq!(side, view_side, "{what}: view and recovery");
    let journals: Vec<_> =
        crashed.names().into_iter().filter(|name| name.to_string_lossy().ends_with("-journal")).collect();
    assert!(journals.is_empty(), "{what}: left behind: {journals:?}");
    side
}

/// Crashes `host`, whose log is one whole commit or undo, behind every operation; recovers, and crashes the recovery, too.
/// Returns which sides were seen.
fn sweep(
    host: &CrashHost,
    paths: &[&str],
    expected: &Expected,
    at_end: Side,
    also: impl Fn(&CrashHost, Side, &str),
) {
    let operations = host.log().len();
    let mut seen = [0usize; 2];
    for done in 0..=operations {
        for (number, loss) in losses().enumerate() {
            let what = format!("{done} of {operations} operations, {loss:?}");
            let first = number % paths.len();
            let crashed = host.crash(done, loss);
            let recovered = host.crash(done, loss);
            let side = recover(&recovered, paths, first, expected, &what);
            seen[side as usize] += 1;
            if done == operations {
                assert_eq!(side, at_end, "{what}: what was reported as done did not last");
            }
            also(&recovered, side, &what);
            // The recovery itself is killed behind every operation; a part of the seeds is enough here.
            if number % 8 == 0 || number == 1 {
                drop(open(&crashed, paths[first], Access::Write).unwrap());
                let steps = crashed.log().len();
                for step in 0..=steps {
                    let what = format!("{what}; recovery {step} of {steps}");
                    let again = crashed.crash(step, loss);
                    recover(&again, paths, (first + 1) % paths.len(), expected, &what);
                }
            }
        }
    }
    assert!(seen.iter().all(|count| *count > 0), "both sides are seen: {seen:?}");
}

fn committed(paths: &'static [&'static str], keep_undo: Option<&str>) -> (CrashHost, Expected) {
    let host = host(paths);
    let old = contents(&host, paths);
    commit(&host, paths, keep_undo).unwrap();
    let new = contents(&host, paths);
    assert!(old.iter().zip(&new).all(|(old, new)| old != new));
    (host, Expected { old, new })
}

#[test]
fn tx5_no_image_byte_is_written_before_the_journal_is_durable() {
    let (host, _) = committed(&THREE, None);
    let is_image = |inode: u64| inode <= THREE.len() as u64;
    let log = host.log();
    let first = log.iter().position(|operation| match operation {
        Operation::Write { inode, .. } | Operation::SetLen { inode, .. } => is_image(*inode),
        _ => false,
    });
    let before = &log[..first.expect("images are written")];
    let mut open_files = std::collections::BTreeSet::new();
    let mut open_dirs = std::collections::BTreeSet::new();
    for operation in before {
        match operation {
            Operation::Create { path, .. } => open_dirs.insert(path.parent().unwrap().to_owned()),
            Operation::Write { inode, .. } => open_files.insert(*inode),
            Operation::Sync { inode } => open_files.remove(inode),
            Operation::SyncDir { dir } => open_dirs.remove(dir),
            _ => false,
        };
    }
    assert!(before.len() > 10 && open_files.is_empty() && open_dirs.is_empty(), "{before:?}");
}

#[test]
fn tx7_raw_image() {
    let (host, expected) = committed(&ONE, None);
    sweep(&host, &ONE, &expected, Side::New, |_, _, _| {});
}

#[test]
fn tx8_three_images_one_of_them_growing() {
    let (host, expected) = committed(&THREE, None);
    sweep(&host, &THREE, &expected, Side::New, |_, _, _| {});
}

/// A real qcow2 image with data, a compressed cluster and a snapshot, so that the plan allocates, copies and unshares.
fn qcow2_image(version: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let (source, image) = (dir.path().join("source.raw"), dir.path().join("disk.qcow2"));
    std::fs::write(&source, bytes(5, 1 << 20)).unwrap();
    let run = |tool: &str, arguments: &[&str], paths: &[&Path]| {
        let status = Command::new(tool).args(arguments).args(paths).stdout(Stdio::null()).status();
        assert!(status.expect("qemu-utils is needed").success(), "{tool} {arguments:?}");
    };
    let options = format!("cluster_size=4k,{version}");
    run("qemu-img", &["create", "-q", "-f", "qcow2", "-o", &options], &[&image, Path::new("1M")]);
    run("qemu-io", &["-f", "qcow2", "-c", "write -P 5 0 40k", "-c", "write -c -P 6 40k 16k"], &[&image]);
    run("qemu-img", &["snapshot", "-c", "before"], &[&image]);
    run("qemu-io", &["-f", "qcow2", "-c", "write -P 7 8k 12k"], &[&image]);
    std::fs::read(&image).unwrap()
}

/// The longer disk of [`qcow2_grow`]: 4 GiB need a longer L1 table than fits one cluster of 4 KiB.
const GROWN: u64 = 4 << 30;

fn qcow2_grow(host: &CrashHost, path: &str, keep_undo: Option<&str>) -> Result<(), BlockError> {
    let image = open(host, path, Access::Write)?;
    let disk = Arc::new(Qcow2::open(image.reader(), image.path(), &DenyAll).unwrap());
    let overlay = Arc::new(Overlay::new(disk.clone(), 1 << 20, std::env::temp_dir()));
    overlay.grow(GROWN)?;
    for (at, count) in [(100, 700), (GROWN - 600, 600)] {
        overlay.write_all_at(&bytes(at, count), at).unwrap();
    }
    let plan = disk.plan_commit(&overlay.seal()?).unwrap();
    let options = CommitOptions { keep_undo: keep_undo.map(PathBuf::from) };
    commit_in_place(vec![CommitUnit { image, plan }], &options, &Silent).map(drop)
}

#[test]
fn tx7_a_qcow2_disk_that_becomes_longer() {
    const PATHS: [&str; 1] = ["/images/disk.qcow2"];
    for version in ["compat=0.10", "compat=1.1"] {
        let files = [(PATHS[0], qcow2_image(version)), ("/undo/.keep", Vec::new())];
        let host = CrashHost::with_files(files.clone());
        let old = contents(&host, &PATHS);
        qcow2_grow(&host, PATHS[0], None).unwrap();
        let new = contents(&host, &PATHS);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &new[0]).unwrap();
        let check = Command::new("qemu-img").arg("check").arg("-q").arg(file.path()).status().unwrap();
        assert!(check.success(), "qemu-img check finds {version} damaged");
        sweep(&host, &PATHS, &Expected { old: old.clone(), new }, Side::New, |_, _, _| {});

        let host = CrashHost::with_files(files);
        qcow2_grow(&host, PATHS[0], Some(UNDO)).unwrap();
        undo(&host, PATHS[0]).unwrap();
        assert!(contents(&host, &PATHS) == old, "undo brings back length and bytes");
    }
}

#[test]
fn tx7_a_raw_disk_that_becomes_longer() {
    // With writes around the old end and at the new one, and with the length alone.
    for writes in [&[(19_000, 2000), (99_000, 1000)][..], &[]] {
        let grow = |host: &CrashHost, keep_undo: Option<&str>| {
            let image = open(host, ONE[0], Access::Write).unwrap();
            let overlay = Arc::new(Overlay::new(image.reader(), 1 << 20, std::env::temp_dir()));
            overlay.grow(100_000).unwrap();
            for (at, count) in writes {
                overlay.write_all_at(&bytes(*at, *count), *at).unwrap();
            }
            let plan = raw_plan(&overlay.seal().unwrap(), image.len());
            let options = CommitOptions { keep_undo: keep_undo.map(PathBuf::from) };
            commit_in_place(vec![CommitUnit { image, plan }], &options, &Silent).unwrap();
        };
        let made = host(&ONE);
        let old = contents(&made, &ONE);
        grow(&made, None);
        let new = contents(&made, &ONE);
        let mut expected = old[0].clone();
        expected.resize(100_000, 0);
        for (at, count) in writes {
            let at = *at as usize;
            expected[at..at + count].copy_from_slice(&bytes(at as u64, *count));
        }
        assert!(new[0] == expected);
        sweep(&made, &ONE, &Expected { old: old.clone(), new }, Side::New, |_, _, _| {});

        let made = host(&ONE);
        grow(&made, Some(UNDO));
        undo(&made, ONE[0]).unwrap();
        assert!(contents(&made, &ONE) == old, "undo brings back length and bytes");
    }
}

fn qcow2_commit(host: &CrashHost, path: &str) -> Result<(), BlockError> {
    let image = open(host, path, Access::Write)?;
    let disk = Arc::new(Qcow2::open(image.reader(), image.path(), &DenyAll).unwrap());
    let overlay = Arc::new(Overlay::new(disk.clone(), 1 << 20, std::env::temp_dir()));
    // Shared with the snapshot, our own, compressed, and never allocated.
    for (at, count) in [(100, 5000), (9_000, 3_000), (44_000, 700), (700_000, 9_000)] {
        overlay.write_all_at(&bytes(at, count), at).unwrap();
    }
    let plan = disk.plan_commit(&overlay.seal()?).unwrap();
    commit_in_place(vec![CommitUnit { image, plan }], &CommitOptions::default(), &Silent).map(drop)
}

#[test]
fn tx7_qcow2_image() {
    const PATHS: [&str; 1] = ["/images/disk.qcow2"];
    for version in ["compat=0.10", "compat=1.1"] {
        let host = CrashHost::with_files([(PATHS[0], qcow2_image(version))]);
        let old = contents(&host, &PATHS);
        qcow2_commit(&host, PATHS[0]).unwrap();
        let new = contents(&host, &PATHS);
        assert!(new[0].len() > old[0].len(), "the image grows");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &new[0]).unwrap();
        let check = Command::new("qemu-img").arg("check").arg("-q").arg(file.path()).status().unwrap();
        assert!(check.success(), "qemu-img check finds {version} damaged");
        sweep(&host, &PATHS, &Expected { old, new }, Side::New, |_, _, _| {});
    }
}

#[test]
fn tx9_commit_that_keeps_an_undo_file() {
    for paths in [ONE.as_slice(), THREE.as_slice()] {
        let (host, expected) = committed(paths, Some(UNDO));
        let undo_it = |host: &CrashHost| undo(host, paths[0]);
        assert!(host.file(UNDO).is_some());
        sweep(&host, paths, &expected, Side::New, |recovered, side, what| {
            if recovered.file(UNDO).is_some() {
                // Whatever side the images are on, an undo file that is there brings the old bytes, or is refused.
                match undo_it(recovered) {
                    Ok(_) => assert!(contents(recovered, paths) == expected.old, "{what}: undone"),
                    Err(error) => {
                        assert_eq!(
                            (error.code(), side),
                            ("transaction.undo.unfinished", Side::Old),
                            "{what}"
                        );
                    }
                }
            } else if side == Side::New {
                // The names of two directories were lost in an order that no sync forbids.
                assert!(undo_it(recovered).is_err());
            }
        });
        for loss in losses() {
            assert!(host.crash(usize::MAX, loss).file(UNDO).is_some(), "{loss:?}: the undo file was lost");
        }
    }
}

#[test]
fn tx9_undo() {
    for paths in [ONE.as_slice(), THREE.as_slice()] {
        let (host, expected) = committed(paths, Some(UNDO));
        let settled = host.settled();
        // Named by any image of the unit.
        let named = paths[paths.len() - 1];
        let undo_it = |host: &CrashHost| undo(host, named);
        undo_it(&settled).unwrap();
        assert!(contents(&settled, paths) == expected.old);
        sweep(&settled, paths, &expected, Side::Old, |recovered, side, what| match undo_it(recovered) {
            Ok(_) => assert!(contents(recovered, paths) == expected.old, "{what}: undone again"),
            Err(error) => assert_eq!((error.code(), side), ("host.not-found", Side::Old), "{what}"),
        });
    }
}

#[test]
fn tx3_an_error_at_every_operation_leaves_old_bytes_or_a_journal() {
    const EIO: i32 = 5;
    const ENOSPC: i32 = 28;
    for keep_undo in [None, Some(UNDO)] {
        let (reference, expected) = committed(&THREE, keep_undo);
        let mut states = std::collections::BTreeSet::new();
        for at in 0..reference.log().len() {
            // Once, and for good: a full disk may recover, a dead one does not.
            for (count, errno) in [(1, EIO), (1, ENOSPC), (usize::MAX, EIO)] {
                let what = format!("operation {at}, error {errno}, {count} times, undo {keep_undo:?}");
                let host = host(&THREE);
                host.fail(at, count, errno);
                let error = commit(&host, &THREE, keep_undo).expect_err(&what);
                host.heal();
                let BlockError::Commit { state, cause } = &error else { panic!("{what}: {error}") };
                assert!(matches!(**cause, BlockError::Io { .. }), "{what}: {error}");
                assert_eq!(error.code(), if errno == ENOSPC { "host.no-space" } else { "host.io" });
                let now = contents(&host, &THREE);
                match state {
                    ImageState::Untouched | ImageState::RolledBack => {
                        assert!(now == expected.old, "{what}: {error}");
                        assert!(
                            !host.names().iter().any(|name| name.to_string_lossy().contains("journal")),
                            "{what}: {:?}",
                            host.names()
                        );
                    }
                    ImageState::UntouchedWithLeftover(_) => assert!(now == expected.old, "{what}: {error}"),
                    ImageState::NeedsRecovery(_) => {}
                    ImageState::Written => assert!(now == expected.new, "{what}: {error}"),
                }
                states.insert(name_of(state));
                for loss in [Loss::None, Loss::All, Loss::Random(at as u64)] {
                    let crashed = host.crash(usize::MAX, loss);
                    let side =
                        recover(&crashed, &THREE, at % 3, &expected, &format!("{what}, {loss:?}: {error}"));
                    if !matches!(state, ImageState::Written) {
                        assert_eq!(side, Side::Old, "{what}, {loss:?}: {error}");
                    }
                }
            }
        }
        assert_eq!(states.len(), 5, "every outcome was seen: {states:?}");
    }
}

fn name_of(state: &ImageState) -> &'static str {
    match state {
        ImageState::Untouched => "untouched",
        ImageState::UntouchedWithLeftover(_) => "leftover",
        ImageState::RolledBack => "rolled back",
        ImageState::NeedsRecovery(_) => "needs recovery",
        ImageState::Written => "written",
    }
}

#[test]
fn a_new_image_is_complete_or_absent() {
    let host = host(&ONE);
    let source = host.file(ONE[0]).unwrap();
    let image = open(&host, ONE[0], Access::Read).unwrap();
    let out = "/undo/out.raw";
    commit_to_new(&image, &plan(&image), Path::new(out), &NewImageOptions::default(), &Silent).unwrap();
    let first = host.file(out).unwrap();
    let operations = host.log().len();
    for done in 0..=operations {
        for loss in losses() {
            let crashed = host.crash(done, loss);
            assert!(crashed.file(ONE[0]).unwrap() == source);
            match crashed.file(out) {
                Some(found) => assert!(found == first, "{done} of {operations}, {loss:?}"),
                None => assert!(done < operations, "{loss:?}: what was reported as done did not last"),
            }
        }
    }
    // The same with a target that is replaced.
    let host = CrashHost::with_files([(ONE[0], source.clone()), (out, bytes(9, 5000))]);
    let image = open(&host, ONE[0], Access::Read).unwrap();
    commit_to_new(&image, &plan(&image), Path::new(out), &NewImageOptions { force: true }, &Silent).unwrap();
    let operations = host.log().len();
    for done in 0..=operations {
        for loss in losses() {
            let found = host.crash(done, loss).file(out).unwrap();
            assert!(found == first || (found == bytes(9, 5000) && done < operations), "{done}, {loss:?}");
        }
    }
    // An error anywhere leaves nothing half made.
    for at in 0..operations {
        let host = CrashHost::with_files([(ONE[0], source.clone()), ("/undo/.keep", Vec::new())]);
        let image = open(&host, ONE[0], Access::Read).unwrap();
        host.fail(at, 1, 28);
        let made = commit_to_new(&image, &plan(&image), Path::new(out), &NewImageOptions::default(), &Silent);
        assert!(made.is_err());
        let partial = host.names().into_iter().any(|name| name.to_string_lossy().contains("coldfit-new"));
        assert!(!partial, "operation {at}: {:?}", host.names());
    }
}

/// The judge can fail: leave out any one sync of `host`'s log, and some crash shows it. So none is superfluous, either.
fn every_sync_is_needed(
    host: &CrashHost,
    paths: &[&str],
    expected: &Expected,
    at_end: Side,
    is_wrong_at_end: impl Fn(&CrashHost) -> bool,
) {
    let log = host.log();
    for (ignored, sync) in log.iter().enumerate() {
        if !matches!(sync, Operation::Sync { .. } | Operation::SyncDir { .. }) {
            continue;
        }
        let is_noticed = (ignored + 1..=log.len()).any(|done| {
            (0..400).any(|seed| {
                let crashed = host.crash_ignoring(done, Loss::Random(seed), ignored);
                let is_refused = paths.iter().rev().any(|path| open(&crashed, path, Access::Write).is_err());
                let found = contents(&crashed, paths);
                let is_right = match at_end {
                    Side::New => found == expected.new || (found == expected.old && done < log.len()),
                    Side::Old => found == expected.old || (found == expected.new && done < log.len()),
                };
                let fresh = || host.crash_ignoring(done, Loss::Random(seed), ignored);
                is_refused || !is_right || (done == log.len() && is_wrong_at_end(&fresh()))
            })
        });
        assert!(is_noticed, "{paths:?}: operation {ignored}, {sync:?}, changes nothing");
    }
}

#[test]
fn every_sync_of_commit_undo_and_recovery_is_needed() {
    // A journal that came back would one day undo what the guest wrote since.
    let has_journal = |crashed: &CrashHost| crashed.file("/images/.disk.raw.coldfit-journal").is_some();
    for paths in [ONE.as_slice(), &THREE] {
        let (host, expected) = committed(paths, None);
        every_sync_is_needed(&host, paths, &expected, Side::New, has_journal);

        let removal = host.log().iter().position(|operation| matches!(operation, Operation::Remove { .. }));
        let killed = host.crash(removal.unwrap(), Loss::None);
        drop(open(&killed, paths[0], Access::Write).unwrap());
        every_sync_is_needed(&killed, paths, &expected, Side::Old, has_journal);

        let (host, expected) = committed(paths, Some(UNDO));
        every_sync_is_needed(&host, paths, &expected, Side::New, |crashed| undo(crashed, paths[0]).is_err());

        let host = host.settled();
        undo(&host, paths[0]).unwrap();
        every_sync_is_needed(&host, paths, &expected, Side::Old, has_journal);
    }
}
