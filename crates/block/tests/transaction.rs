//! Commit, undo and commit to a new image on the real host.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coldfit_block::{
    Access, BlockError, CommitOptions, CommitUnit, HostPlan, HostWrite, ImageFile, ImageState,
    NewImageOptions, Overlay, ReadAt, WriteAt, WriteSource, commit_in_place, commit_to_new,
    default_undo_path, raw_plan, undo,
};
use report::{Diagnose, Silent};

const LEN: u64 = 3 << 20;

fn old_bytes() -> Vec<u8> {
    (0..LEN).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

struct Lab {
    dir: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        let lab = Self { dir: tempfile::tempdir().unwrap() };
        std::fs::write(lab.image(), old_bytes()).unwrap();
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn image(&self) -> PathBuf {
        self.path("disk.raw")
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn open(path: &Path, access: Access) -> Result<ImageFile, BlockError> {
    ImageFile::open(path, access, &Silent)
}

/// An edit of three places, one of them over a megabyte long.
fn edit(image: &ImageFile) -> (HostPlan, Vec<u8>) {
    let overlay = Arc::new(Overlay::new(image.reader(), 1 << 20, std::env::temp_dir()));
    let mut expected = vec![0; image.len() as usize];
    image.read_exact_at(&mut expected, 0).unwrap();
    for (at, len, byte) in [(0usize, 100usize, 1u8), (700_001, 1_400_000, 2), (LEN as usize - 7, 7, 3)] {
        overlay.write_all_at(&vec![byte; len], at as u64).unwrap();
        expected[at..at + len].fill(byte);
    }
    (raw_plan(&overlay.seal().unwrap(), image.len()), expected)
}

fn commit(path: &Path, keep_undo: Option<PathBuf>) -> Vec<u8> {
    let image = open(path, Access::Write).unwrap();
    let (plan, expected) = edit(&image);
    let report =
        commit_in_place(vec![CommitUnit { image, plan }], &CommitOptions { keep_undo }, &Silent).unwrap();
    assert!(report.written_bytes > 1_400_000 && report.journal_bytes > report.written_bytes);
    expected
}

#[test]
fn commit_writes_the_edit_and_leaves_no_file_behind() {
    let lab = Lab::new();
    let expected = commit(&lab.image(), None);
    assert!(std::fs::read(lab.image()).unwrap() == expected);
    assert_eq!(lab.names(), ["disk.raw"]);
}

#[test]
fn tx9_undo_restores_the_old_bytes_and_refuses_a_changed_image() {
    let lab = Lab::new();
    let undo_file = default_undo_path(&lab.image());
    let new = commit(&lab.image(), Some(undo_file.clone()));
    assert_eq!(std::fs::metadata(&undo_file).unwrap().permissions().mode() & 0o777, 0o600);

    // A second commit must not lose the first one's undo file.
    let image = open(&lab.image(), Access::Write).unwrap();
    let overlay = Arc::new(Overlay::new(image.reader(), 1 << 20, std::env::temp_dir()));
    overlay.write_all_at(b"x", 9).unwrap();
    let plan = raw_plan(&overlay.seal().unwrap(), image.len());
    let options = CommitOptions { keep_undo: Some(undo_file.clone()) };
    drop(overlay);
    let error = commit_in_place(vec![CommitUnit { image, plan }], &options, &Silent).unwrap_err();
    assert_eq!(error.code(), "transaction.undo.exists");

    // One byte elsewhere, inside the edit, and only the time: each is noticed.
    let modified = std::fs::metadata(lab.image()).unwrap().modified().unwrap();
    let file = std::fs::File::options().write(true).open(lab.image()).unwrap();
    for (at, byte) in [(650_000usize, 99u8), (800_000, 99)] {
        std::os::unix::fs::FileExt::write_all_at(&file, &[byte], at as u64).unwrap();
        let error = undo(&lab.image(), None, &Silent).unwrap_err();
        assert_eq!(error.code(), "transaction.undo.changed", "{error}");
        std::os::unix::fs::FileExt::write_all_at(&file, &[new[at]], at as u64).unwrap();
    }
    assert_eq!(undo(&lab.image(), None, &Silent).unwrap_err().code(), "transaction.undo.changed");
    assert!(std::fs::read(lab.image()).unwrap() == new);
    file.set_modified(modified).unwrap();
    drop(file);

    let report = undo(&lab.image(), Some(&undo_file), &Silent).unwrap();
    assert!(report.restored_bytes > 1_400_000);
    assert!(std::fs::read(lab.image()).unwrap() == old_bytes());
    assert_eq!(lab.names(), ["disk.raw"]);
    assert_eq!(undo(&lab.image(), None, &Silent).unwrap_err().code(), "host.not-found");
}

#[test]
fn undo_works_after_the_image_was_moved_and_from_another_directory() {
    let lab = Lab::new();
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    let undo_file = elsewhere.path().join("undo");
    commit(&lab.image(), Some(undo_file.clone()));
    assert_eq!(lab.names(), ["disk.raw"]);
    let moved = lab.path("moved.raw");
    std::fs::rename(lab.image(), &moved).unwrap();
    undo(&moved, Some(&undo_file), &Silent).unwrap();
    assert!(std::fs::read(&moved).unwrap() == old_bytes());
    assert!(!undo_file.exists());
}

#[test]
fn a_growing_plan_is_undone_to_the_old_length() {
    let lab = Lab::new();
    let image = open(&lab.image(), Access::Write).unwrap();
    let plan = HostPlan {
        writes: vec![
            HostWrite { host_offset: LEN - 10, source: WriteSource::Bytes(vec![5; 1000]) },
            HostWrite { host_offset: LEN + 5000, source: WriteSource::Bytes(vec![6; 1000]) },
        ],
        old_len: LEN,
        new_len: LEN + 10_000,
        virtual_disk: image.reader(),
    };
    let undo_file = lab.path("undo");
    let options = CommitOptions { keep_undo: Some(undo_file.clone()) };
    commit_in_place(vec![CommitUnit { image, plan }], &options, &Silent).unwrap();
    let new = std::fs::read(lab.image()).unwrap();
    assert_eq!((new.len() as u64, new[LEN as usize + 5000], new[LEN as usize + 4000]), (LEN + 10_000, 6, 0));
    undo(&lab.image(), Some(&undo_file), &Silent).unwrap();
    assert!(std::fs::read(lab.image()).unwrap() == old_bytes());
}

#[test]
fn nothing_to_write_writes_nothing() {
    let lab = Lab::new();
    let before = std::fs::metadata(lab.image()).unwrap();
    let image = open(&lab.image(), Access::Write).unwrap();
    let plan = HostPlan {
        writes: vec![HostWrite {
            host_offset: 512,
            source: WriteSource::Virtual { guest_offset: 512, len: 4096 },
        }],
        old_len: LEN,
        new_len: LEN,
        virtual_disk: image.reader(),
    };
    let options = CommitOptions { keep_undo: Some(lab.path("undo")) };
    let report = commit_in_place(vec![CommitUnit { image, plan }], &options, &Silent).unwrap();
    assert_eq!((report.written_bytes, report.undo_file), (0, None));
    let after = std::fs::metadata(lab.image()).unwrap();
    assert_eq!((before.mtime(), before.mtime_nsec()), (after.mtime(), after.mtime_nsec()));
    assert_eq!(lab.names(), ["disk.raw"]);
}

#[test]
fn plans_that_do_not_fit_are_refused_before_anything_is_written() {
    let lab = Lab::new();
    let write = |at: u64, len: usize| HostWrite { host_offset: at, source: WriteSource::Bytes(vec![1; len]) };
    for (writes, old_len, new_len) in [
        (vec![write(LEN - 1, 2)], LEN, LEN),
        (vec![write(0, 10), write(9, 1)], LEN, LEN),
        (vec![write(u64::MAX, 10)], LEN, LEN),
        (vec![write(0, 1)], LEN - 1, LEN),
        (vec![write(0, 1)], LEN, LEN - 1),
    ] {
        let image = open(&lab.image(), Access::Write).unwrap();
        let plan = HostPlan { writes, old_len, new_len, virtual_disk: image.reader() };
        let error = commit_in_place(vec![CommitUnit { image, plan }], &CommitOptions::default(), &Silent)
            .unwrap_err();
        assert_eq!(error.code(), "transaction.plan", "{error}");
    }
    assert!(std::fs::read(lab.image()).unwrap() == old_bytes());
    assert_eq!(lab.names(), ["disk.raw"]);
}

#[test]
fn an_error_of_the_source_leaves_the_image_untouched() {
    struct Broken;
    impl ReadAt for Broken {
        fn len(&self) -> u64 {
            LEN
        }
        fn read_exact_at(&self, _: &mut [u8], _: u64) -> Result<(), BlockError> {
            Err(BlockError::Failed { first: "broken on purpose".into() })
        }
    }
    let lab = Lab::new();
    let image = open(&lab.image(), Access::Write).unwrap();
    let plan = HostPlan {
        writes: vec![
            HostWrite { host_offset: 0, source: WriteSource::Bytes(vec![1; 100]) },
            HostWrite { host_offset: 512, source: WriteSource::Virtual { guest_offset: 512, len: 512 } },
        ],
        old_len: LEN,
        new_len: LEN,
        virtual_disk: Arc::new(Broken),
    };
    let error =
        commit_in_place(vec![CommitUnit { image, plan }], &CommitOptions::default(), &Silent).unwrap_err();
    assert!(matches!(error, BlockError::Commit { state: ImageState::Untouched, .. }), "{error}");
    assert_eq!(error.code(), "block.failed");
    assert!(std::fs::read(lab.image()).unwrap() == old_bytes());
    assert_eq!(lab.names(), ["disk.raw"]);
}

#[test]
fn tx5_new_content_is_read_before_the_image_changes() {
    let lab = Lab::new();
    let image = open(&lab.image(), Access::Write).unwrap();
    // Two halves change places: each is the source of the other.
    let half = LEN / 2;
    let swap = |host_offset, guest_offset| HostWrite {
        host_offset,
        source: WriteSource::Virtual { guest_offset, len: half },
    };
    let plan = HostPlan {
        writes: vec![swap(0, half), swap(half, 0)],
        old_len: LEN,
        new_len: LEN,
        virtual_disk: image.reader(),
    };
    commit_in_place(vec![CommitUnit { image, plan }], &CommitOptions::default(), &Silent).unwrap();
    let (old, new) = (old_bytes(), std::fs::read(lab.image()).unwrap());
    assert!(new[..half as usize] == old[half as usize..] && new[half as usize..] == old[..half as usize]);
}

#[test]
fn readers_of_a_committed_image_fail_and_the_lock_is_free() {
    let lab = Lab::new();
    let image = open(&lab.image(), Access::Write).unwrap();
    let reader = image.reader();
    let (plan, expected) = edit(&image);
    commit_in_place(vec![CommitUnit { image, plan }], &CommitOptions::default(), &Silent).unwrap();
    assert_eq!(reader.read_exact_at(&mut [0; 10], 0).unwrap_err().code(), "block.failed");
    let again = open(&lab.image(), Access::Write).unwrap();
    let mut bytes = vec![0; expected.len()];
    again.read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes == expected && again.recovered().is_none());
}

#[test]
fn a_symbolic_link_is_resolved_first() {
    let lab = Lab::new();
    std::fs::create_dir(lab.path("links")).unwrap();
    let link = lab.path("links/link.raw");
    std::os::unix::fs::symlink(lab.image(), &link).unwrap();
    let image = open(&link, Access::Write).unwrap();
    assert_eq!(image.path(), lab.image().canonicalize().unwrap());
    drop(image);
    let expected = commit(&link, None);
    assert!(std::fs::read(lab.image()).unwrap() == expected);
    assert!(link.symlink_metadata().unwrap().file_type().is_symlink());
}

#[test]
fn only_files_and_block_devices_are_images() {
    let lab = Lab::new();
    assert_eq!(open(lab.dir.path(), Access::Read).err().unwrap().code(), "image.kind");
    assert_eq!(open(Path::new("/dev/null"), Access::Read).err().unwrap().code(), "image.kind");
    let fifo = lab.path("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    assert_eq!(open(&fifo, Access::Read).err().unwrap().code(), "image.kind");
    assert_eq!(open(&lab.path("missing"), Access::Read).err().unwrap().code(), "host.not-found");
}

#[test]
fn a_new_image_gets_the_edit_and_the_source_keeps_its_bytes_and_holes() {
    let lab = Lab::new();
    // Data at both ends, a hole of 256 MiB between.
    let sparse = lab.path("sparse.raw");
    let file = std::fs::File::create(&sparse).unwrap();
    file.set_len(256 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[7; 5000], 0).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[8; 5000], (256 << 20) - 5000).unwrap();
    drop(file);
    let image = open(&sparse, Access::Read).unwrap();
    let overlay = Arc::new(Overlay::new(image.reader(), 1 << 20, std::env::temp_dir()));
    overlay.write_all_at(&[9; 3000], 4000).unwrap();
    let plan = raw_plan(&overlay.seal().unwrap(), image.len());
    let out = lab.path("out.raw");
    commit_to_new(&image, &plan, &out, &NewImageOptions::default(), &Silent).unwrap();
    let bytes = std::fs::read(&out).unwrap();
    assert_eq!(bytes.len(), 256 << 20);
    assert!(bytes[..4000].iter().all(|byte| *byte == 7) && bytes[4000..7000].iter().all(|byte| *byte == 9));
    assert!(bytes[7000..(256 << 20) - 5000].iter().all(|byte| *byte == 0));
    assert!(bytes[(256 << 20) - 5000..].iter().all(|byte| *byte == 8));
    assert!(std::fs::metadata(&out).unwrap().blocks() * 512 < 1 << 20, "the hole was filled");
    assert_eq!(&std::fs::read(&sparse).unwrap()[4000..4001], [7]);
    assert_eq!(lab.names(), ["disk.raw", "out.raw", "sparse.raw"]);

    let again = commit_to_new(&image, &plan, &out, &NewImageOptions::default(), &Silent).unwrap_err();
    assert_eq!(again.code(), "target.refused");
    let force = NewImageOptions { force: true };
    assert_eq!(commit_to_new(&image, &plan, &sparse, &force, &Silent).unwrap_err().code(), "target.refused");
    let hard_link = lab.path("same.raw");
    std::fs::hard_link(&sparse, &hard_link).unwrap();
    assert_eq!(
        commit_to_new(&image, &plan, &hard_link, &force, &Silent).unwrap_err().code(),
        "target.refused"
    );
    commit_to_new(&image, &plan, &out, &force, &Silent).unwrap();

    let held = open(&out, Access::Read).unwrap();
    assert_eq!(commit_to_new(&image, &plan, &out, &force, &Silent).unwrap_err().code(), "image.in-use");
    drop(held);
    std::fs::create_dir(lab.path("dir")).unwrap();
    assert!(commit_to_new(&image, &plan, &lab.path("dir"), &force, &Silent).is_err());
    assert_eq!(lab.names(), ["dir", "disk.raw", "out.raw", "same.raw", "sparse.raw"]);
}

#[test]
fn a_failing_source_leaves_no_new_image() {
    let lab = Lab::new();
    let image = open(&lab.image(), Access::Read).unwrap();
    let plan = HostPlan {
        writes: vec![HostWrite {
            host_offset: 0,
            // Behind the end of the virtual disk: fails only when it is read.
            source: WriteSource::Virtual { guest_offset: LEN, len: 512 },
        }],
        old_len: LEN,
        new_len: LEN,
        virtual_disk: image.reader(),
    };
    let out = lab.path("out.raw");
    let error = commit_to_new(&image, &plan, &out, &NewImageOptions::default(), &Silent).unwrap_err();
    assert_eq!(error.code(), "block.range");
    assert_eq!(lab.names(), ["disk.raw"]);
}
