//! Journals, pointers and undo files that are damaged, foreign or planted: refused by code, nothing written, or harmless.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use coldfit_block::{
    Access, BlockError, CommitOptions, CommitUnit, Host, HostPlan, HostWrite, ImageFile, NewImageOptions,
    ReadAt, WriteSource, commit_in_place, commit_to_new, undo_on,
};
use report::{Diagnose, Silent};
use testkit::crash::{CrashHost, Loss, Operation};

const MAIN: &str = "/one/disk.raw";
const OTHER: &str = "/two/data.raw";
const JOURNAL: &str = "/one/.disk.raw.coldfit-journal";
const POINTER: &str = "/two/.data.raw.coldfit-journal";
const UNDO: &str = "/one/undo";

fn open(host: &CrashHost, path: &str, access: Access) -> Result<ImageFile, BlockError> {
    ImageFile::open_on(Arc::new(host.clone()), Path::new(path), access, &Silent)
}

fn commit(host: &CrashHost, keep_undo: Option<&str>) {
    let mut units = Vec::new();
    for (path, byte) in [(MAIN, 1u8), (OTHER, 2)] {
        let image = open(host, path, Access::Write).unwrap();
        let plan = HostPlan {
            writes: vec![
                HostWrite { host_offset: 900, source: WriteSource::Bytes(vec![byte; 700]) },
                HostWrite { host_offset: 3000, source: WriteSource::Bytes(vec![byte; 1300]) },
            ],
            old_len: image.len(),
            new_len: image.len() + 500,
            virtual_disk: image.reader(),
        };
        units.push(CommitUnit { image, plan });
    }
    let options = CommitOptions { keep_undo: keep_undo.map(PathBuf::from) };
    commit_in_place(units, &options, &Silent).unwrap();
}

fn fresh() -> CrashHost {
    CrashHost::with_files([(MAIN, vec![0x11; 4000]), (OTHER, vec![0x22; 4000])])
}

/// A commit killed when all image bytes were written and none of its files removed.
fn interrupted() -> CrashHost {
    let host = fresh();
    commit(&host, None);
    let removed =
        host.log().iter().position(|operation| matches!(operation, Operation::Remove { .. })).unwrap();
    let killed = host.crash(removed, Loss::None);
    assert!(killed.file(JOURNAL).is_some() && killed.file(POINTER).is_some());
    assert!(killed.file(MAIN).unwrap().len() == 4500);
    killed
}

/// The same host with other content of one file, under the same inode numbers.
fn with_file(host: &CrashHost, path: &str, content: &[u8]) -> CrashHost {
    let host = host.settled();
    let file = host.open(Path::new(path), Access::Write).unwrap();
    file.set_len(content.len() as u64).unwrap();
    file.write_all_at(content, 0).unwrap();
    host.settled()
}

fn images(host: &CrashHost) -> [Vec<u8>; 2] {
    [MAIN, OTHER].map(|path| host.file(path).unwrap())
}

const HARMLESS: [&str; 4] = [
    "transaction.journal.damaged",
    "transaction.journal.version",
    "transaction.journal.other-image",
    "transaction.journal.image-missing",
];

/// Opens both images in both ways; recovery may be refused with nothing written, or succeed completely.
fn judge(host: &CrashHost, what: &str) {
    let before = images(host);
    let old = images(&fresh());
    let started = Instant::now();
    for path in [OTHER, MAIN] {
        match open(host, path, Access::Read) {
            Ok(image) => {
                let mut bytes = vec![0; image.len() as usize];
                image.read_exact_at(&mut bytes, 0).unwrap();
            }
            Err(error) => assert!(HARMLESS.contains(&error.code()), "{what}: {error}"),
        }
    }
    assert!(host.log().is_empty(), "{what}: reading wrote");
    for path in [OTHER, MAIN] {
        match open(host, path, Access::Write) {
            Ok(image) if image.recovered().is_some() => {
                assert!(images(host) == old, "{what}: half a recovery")
            }
            Ok(_) => {}
            Err(error) => assert!(HARMLESS.contains(&error.code()), "{what}: {error}"),
        }
        let now = images(host);
        assert!(now == before || now == old, "{what}: images in part recovered");
    }
    assert!(started.elapsed() < Duration::from_secs(5), "{what}");
}

#[test]
fn every_changed_byte_of_a_hot_journal_is_refused_or_harmless() {
    let host = interrupted();
    let journal = host.file(JOURNAL).unwrap();
    let old = images(&fresh());
    for at in 0..journal.len() {
        for flip in [0x01u8, 0x80, 0xff] {
            let mut bad = journal.clone();
            bad[at] ^= flip;
            let host = with_file(&host, JOURNAL, &bad);
            let what = format!("byte {at} with {flip:#x}");
            judge(&host, &what);
            // Nothing but a whole rollback makes the journal go away.
            assert!(host.file(JOURNAL).is_some() || images(&host) == old, "{what}: the journal is lost");
        }
    }
}

#[test]
fn cut_off_and_random_files_are_refused_or_harmless() {
    let host = interrupted();
    for path in [JOURNAL, POINTER] {
        let whole = host.file(path).unwrap();
        for len in 0..whole.len() {
            judge(&with_file(&host, path, &whole[..len]), &format!("{path} cut to {len}"));
        }
        let mut seed = 7u64;
        for round in 0..1500 {
            let mut bad = whole.clone();
            for _ in 0..1 + round % 40 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = (seed >> 33) as usize % bad.len();
                bad[at] = (seed >> 20) as u8;
            }
            judge(&with_file(&host, path, &bad), &format!("{path}, random round {round}"));
        }
    }
}

/// Puts a right sum under a header that was changed on purpose.
fn fix_header_sum(journal: &mut [u8]) {
    let sum = crc32c::crc32c(&journal[..64]).to_le_bytes();
    journal[64..68].copy_from_slice(&sum);
}

#[test]
fn extreme_numbers_under_right_sums_are_refused_quickly() {
    let host = interrupted();
    let whole = host.file(JOURNAL).unwrap();
    for (at, len) in [(8, 4), (12, 4), (32, 8), (40, 8), (48, 8)] {
        for value in
            [0u64, 1, 3, 64, 65, 1 << 20, 1 << 31, u64::from(u32::MAX), 1 << 45, u64::MAX - 600, u64::MAX]
        {
            let mut bad = whole.clone();
            bad[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
            fix_header_sum(&mut bad);
            if bad != whole {
                let host = with_file(&host, JOURNAL, &bad);
                judge(&host, &format!("field at {at} is {value}"));
                assert!(host.file(JOURNAL).is_some());
            }
        }
    }
    let mut newer = whole.clone();
    newer[8] = 2;
    fix_header_sum(&mut newer);
    let error = open(&with_file(&host, JOURNAL, &newer), MAIN, Access::Read).err().unwrap();
    assert_eq!(error.code(), "transaction.journal.version");
}

#[test]
fn a_journal_is_not_rolled_back_into_another_file() {
    let host = interrupted();
    // The image was replaced by another file of a length that fits.
    let other = host.settled();
    other.remove(Path::new(MAIN)).unwrap();
    let file = other.create(Path::new(MAIN), 0o644).unwrap();
    file.write_all_at(&[9; 4500], 0).unwrap();
    for access in [Access::Read, Access::Write] {
        let error = open(&other, MAIN, access).err().unwrap();
        assert_eq!(error.code(), "transaction.journal.other-image", "{error}");
    }
    assert!(other.file(MAIN).unwrap() == [9; 4500] && other.file(JOURNAL).is_some());
    // It was cut or grew behind the journal's back.
    for len in [3999, 4501] {
        let host = with_file(&host, MAIN, &vec![9; len]);
        let error = open(&host, MAIN, Access::Write).err().unwrap();
        assert_eq!(error.code(), "transaction.journal.other-image", "{error}");
    }
    // The journal came here from elsewhere and names no image of this name.
    let moved = host.settled();
    moved.rename(Path::new(MAIN), Path::new("/one/new-name.raw")).unwrap();
    moved.rename(Path::new(JOURNAL), Path::new("/one/.new-name.raw.coldfit-journal")).unwrap();
    let error = open(&moved, "/one/new-name.raw", Access::Write).err().unwrap();
    assert_eq!(error.code(), "transaction.journal.other-image", "{error}");
}

#[test]
fn a_journal_names_only_files_that_point_back() {
    // Somebody ships an image with a journal that names a file of the victim: without the pointer beside it,
    // it is not touched.
    let host = interrupted();
    host.remove(Path::new(POINTER)).unwrap();
    let before = images(&host);
    let error = open(&host.settled(), MAIN, Access::Write).err().unwrap();
    assert_eq!(error.code(), "transaction.journal.image-missing", "{error}");
    assert!(images(&host) == before && host.file(JOURNAL).is_some());
    // The other image is gone: the unit cannot be restored as a whole, so nothing is.
    let host = interrupted();
    host.remove(Path::new(OTHER)).unwrap();
    let before = host.file(MAIN);
    let error = open(&host.settled(), MAIN, Access::Write).err().unwrap();
    assert_eq!(error.code(), "transaction.journal.image-missing", "{error}");
    assert!(host.file(MAIN) == before && host.file(JOURNAL).is_some());
}

#[test]
fn a_pointer_to_a_journal_that_is_over_is_forgotten() {
    let host = interrupted();
    host.remove(Path::new(JOURNAL)).unwrap();
    let host = host.settled();
    let before = images(&host);
    assert!(!open(&host, OTHER, Access::Read).unwrap().is_rolled_back_view());
    assert!(host.file(POINTER).is_some());
    assert!(open(&host, OTHER, Access::Write).unwrap().recovered().is_none());
    assert!(host.file(POINTER).is_none() && images(&host) == before);
}

#[test]
fn tx6_a_new_image_is_made_from_the_bytes_before_an_interrupted_commit() {
    let host = interrupted();
    let image = open(&host, MAIN, Access::Read).unwrap();
    assert!(image.is_rolled_back_view() && image.len() == 4000);
    let plan = HostPlan {
        writes: vec![HostWrite { host_offset: 10, source: WriteSource::Bytes(vec![7; 10]) }],
        old_len: 4000,
        new_len: 4000,
        virtual_disk: image.reader(),
    };
    let out = Path::new("/one/out.raw");
    commit_to_new(&image, &plan, out, &NewImageOptions::default(), &Silent).unwrap();
    let mut expected = vec![0x11; 4000];
    expected[10..20].fill(7);
    assert!(host.file("/one/out.raw").unwrap() == expected);
    assert!(host.file(JOURNAL).is_some() && host.file(MAIN).unwrap().len() == 4500);
}

#[test]
fn changed_undo_files_restore_all_or_nothing() {
    let host = fresh();
    commit(&host, Some(UNDO));
    let host = host.settled();
    let undo_file = host.file(UNDO).unwrap();
    let (old, new) = (images(&fresh()), images(&host));
    for at in 0..undo_file.len() {
        let mut bad = undo_file.clone();
        bad[at] ^= 0x41;
        let host = with_file(&host, UNDO, &bad);
        match undo_on(Arc::new(host.clone()), Path::new(MAIN), Some(Path::new(UNDO)), &Silent) {
            Ok(_) => assert!(images(&host) == old, "byte {at}"),
            Err(error) => {
                assert!(error.code().starts_with("transaction."), "byte {at}: {error}");
                assert!(images(&host) == new, "byte {at}");
                assert!(host.file(JOURNAL).is_none() && host.file(POINTER).is_none(), "byte {at}");
            }
        }
    }
    for path in [MAIN, OTHER, "/one/nothing"] {
        let host = host.settled();
        let result = undo_on(Arc::new(host.clone()), Path::new(MAIN), Some(Path::new(path)), &Silent);
        let expected = if path == "/one/nothing" { "host.not-found" } else { "transaction.undo.kind" };
        assert_eq!(result.unwrap_err().code(), expected);
    }
}
