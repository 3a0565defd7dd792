//! Journal replay against the kernel's and e2fsck's, block by block.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)] // Helpers of tests fail as tests do.

mod support;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use coldfit_ext4::{Ext4, RecoveryReport, check, needs_recovery, recover};
use report::Diagnose;
use support::*;
use vfs::Filesystem;

/// Bytes of the superblock that a mount or e2fsck changes beside the replay: mount and write time, mount
/// count, last mount point, lifetime writes, overhead, time of the last check, high time bytes, checksum.
const SUPERBLOCK_NOISE: [std::ops::Range<usize>; 8] = [
    0x2c..0x38,
    0x40..0x44,
    0x88..0xc8,
    0x178..0x180,
    0x248..0x24c,
    0x274..0x27a,
    0x27c..0x280,
    0x3fc..0x400,
];

/// Totals of free blocks and inodes: the kernel counts them anew at each mount and does not keep them up to
/// date in the log. `e2fsck -E journal_only` leaves them as the log had them, as it leaves `orphan_present`
/// set with an empty orphan file; a read-only mount counts them before it releases orphans.
const SUPERBLOCK_TOTALS: [std::ops::Range<usize>; 3] = [0x0c..0x14, 0x66..0x67, 0x158..0x15c];

struct Judged<'a> {
    image: &'a Path,
    block_size: usize,
    /// Block of the journal superblock.
    journal_block: u64,
}

impl<'a> Judged<'a> {
    fn new(image: &'a Path, block_size: usize) -> Self {
        let journal_block = debugfs(image, "bmap <8> 0").trim().parse().expect("a block number");
        Self { image, block_size, journal_block }
    }

    /// Blocks in which `other` differs from our replay, after the known noise was taken out.
    fn differences(&self, other: &Path, has_totals: bool) -> Vec<u64> {
        let superblock_block = (1024 / self.block_size) as u64;
        differing_blocks(self.image, other, self.block_size)
            .into_iter()
            .filter(|block| *block != self.journal_block)
            .filter(|block| {
                *block != superblock_block
                    || self.superblock(self.image, has_totals) != self.superblock(other, has_totals)
            })
            .collect()
    }

    fn superblock(&self, image: &Path, has_totals: bool) -> Vec<u8> {
        let mut raw = vec![0; 1024];
        fs::File::open(image).and_then(|file| file.read_exact_at(&mut raw, 1024)).expect("a superblock");
        for noise in SUPERBLOCK_NOISE {
            raw[noise].fill(0);
        }
        if !has_totals {
            SUPERBLOCK_TOTALS.into_iter().for_each(|totals| raw[totals].fill(0));
        }
        raw
    }

    fn journal_sequence(&self, image: &Path) -> (u32, u32) {
        let mut raw = [0; 8];
        let at = self.journal_block * self.block_size as u64 + 0x18;
        fs::File::open(image)
            .and_then(|file| file.read_exact_at(&mut raw, at))
            .expect("a journal superblock");
        let word = |at: usize| u32::from_be_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
        (word(0), word(4))
    }
}

/// Replays `image` in place and judges the result by a kernel mount of a copy and, when `e2fsck_agrees`,
/// by e2fsck's replay of another copy.
fn judge_replay(image: &Path, block_size: usize, e2fsck_agrees: bool, context: &str) -> RecoveryReport {
    let by_kernel = copy(image, "kernel.img");
    let by_e2fsck = copy(image, "e2fsck.img");
    assert!(needs_recovery(&*reader(image)).unwrap(), "{context}");
    let device = device(image);
    let report = recover(&device).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert!(!needs_recovery(&*reader(image)).unwrap(), "{context}");
    let once = fs::read(image).unwrap();
    assert_eq!(recover(&device).unwrap(), RecoveryReport::default(), "{context}");
    assert!(once == fs::read(image).unwrap(), "{context}: a second replay changed something");

    let judged = Judged::new(image, block_size);
    if e2fsck_agrees {
        let (status, output) = e2fsck(&by_e2fsck, &["-E", "journal_only", "-y"]);
        assert!(status <= 1, "{context}: {status} {output}");
        assert_eq!(judged.differences(&by_e2fsck, false), [0u64; 0], "{context}: differs from e2fsck");
        assert_eq!(judged.journal_sequence(image), judged.journal_sequence(&by_e2fsck), "{context}");
    }
    if may_mount() {
        // Read-only: the log is replayed and orphans are processed, and nothing else is written.
        drop(KernelMount::new(&by_kernel, "ro"));
        assert_eq!(judged.differences(&by_kernel, true), [0u64; 0], "{context}: differs from the kernel");
        let (sequence, start) = judged.journal_sequence(&by_kernel);
        let ours = judged.journal_sequence(image);
        assert_eq!(start, ours.1, "{context}");
        // The kernel counts on when it marks the log empty at unmount.
        assert!(sequence == ours.0 || sequence == ours.0.wrapping_add(1), "{context}: {sequence} {}", ours.0);
    }
    assert_e2fsck_clean(image, context);
    report
}

/// Asserts that the replay is refused without a change, as the kernel refuses it; returns the error.
fn refuse_replay(image: &Path, context: &str) -> String {
    let before = fs::read(image).unwrap();
    let error = recover(&device(image)).expect_err(context);
    assert!(before == fs::read(image).unwrap(), "{context}: refused, but something was written");
    if may_mount() {
        let by_kernel = copy(image, "kernel.img");
        assert!(KernelMount::try_new(&by_kernel, "ro").is_err(), "{context}: the kernel replays it");
    }
    format!("{}: {error}", error.code())
}

/// Data blocks for debugfs to log; every third starts with the journal's magic number.
fn logged_data(path: &Path, block_size: usize, blocks: usize, seed: u64) {
    let mut data = Random::new(seed).bytes(block_size * blocks);
    for block in data.chunks_mut(block_size).step_by(3) {
        block[..4].copy_from_slice(&[0xc0, 0x3b, 0x39, 0x98]);
    }
    fs::write(path, data).unwrap();
}

fn list(blocks: impl Iterator<Item = u64>) -> String {
    blocks.map(|block| block.to_string()).collect::<Vec<_>>().join(",")
}

#[test]
fn every_tag_layout_and_checksum_version_of_debugfs_replays_alike() {
    let dir = scratch();
    let image = dir.path().join("image");
    for (features, block_size) in [
        ("-t ext4 -b 1024 -O metadata_csum,64bit", 1024),
        ("-t ext4 -b 4096 -O metadata_csum,^64bit", 4096),
        ("-t ext4 -b 1024 -O ^metadata_csum,64bit", 1024),
        ("-t ext4 -b 2048 -O ^metadata_csum,^64bit", 2048),
        ("-t ext3 -b 1024 -I 128", 1024),
    ] {
        for open in ["jo", "jo -c -v 2", "jo -c -v 3"] {
            let context = format!("{features} / {open}");
            mkfs(&image, 16 * (block_size as u64 / 1024), features);
            let data = dir.path().join("data");
            logged_data(&data, block_size, 130, 7);
            let again = dir.path().join("again");
            logged_data(&again, block_size, 4, 9);
            let (data, again) = (data.display(), again.display());
            let all = list(14000..14130);
            let has_v1 = (features.contains("ext3") || features.contains("^metadata_csum")) && open != "jo";
            if has_v1 {
                // debugfs adds revoke blocks to the version 1 sum; kernel and e2fsck do not and refuse them.
                debugfs_write(
                    &image,
                    &format!("{open}\njw -b {all} {data}\njw -b 14010,14011,14200,14201 {again}\njc\n"),
                );
                let report = judge_replay(&image, block_size, true, &context);
                assert_eq!((report.transactions, report.blocks), (2, 132), "{context}");
                debugfs_write(&image, &format!("{open}\njw -b {all} {data}\njw -r 14003\njc\n"));
                let error = refuse_replay(&image, &context);
                assert!(error.contains("checksum of the commit block"), "{context}: {error}");
                continue;
            }
            debugfs_write(
                &image,
                &format!(
                    "{open}\njw -b {all} {data}\njw -r 14003,14010,14050\njw -b 14010,14011,14200,14201 {again}\n\
                     jw -r 14201 -b 14300,14301 {again}\njw -b 14001,14002 -c {again}\njc\n"
                ),
            );
            let report = judge_replay(&image, block_size, true, &context);
            assert!(report.transactions >= 3, "{context}: {report:?}");
            assert!(report.revoked >= 2 && report.blocks > 120, "{context}: {report:?}");
        }
    }
}

/// Makes a dirty image by the kernel: `work` runs on a mount whose power is then cut.
/// What `work` returns is held until then.
fn dirty_by_kernel<T>(image: &Path, mib: u64, mkfs_args: &str, options: &str, work: impl FnOnce(&Path) -> T) {
    mkfs(image, mib, mkfs_args);
    let mount = KernelMount::new(image, options);
    let held = work(&mount.at);
    mount.cut_power();
    drop(held);
}

fn sync(at: &Path) {
    run("sync", &["-f", at.to_str().unwrap()]);
}

/// Creates, grows, replaces and removes, with a commit every now and then.
fn busy(at: &Path, rounds: u64, seed: u64) {
    let mut random = Random::new(seed);
    for round in 0..rounds {
        let dir = at.join(format!("dir{}", round % 5));
        fs::create_dir_all(&dir).unwrap();
        for index in 0..12 {
            let len = random.below(9000) as usize + 1;
            let mut content = random.bytes(len);
            if index % 4 == 0 && content.len() >= 4 {
                content[..4].copy_from_slice(&[0xc0, 0x3b, 0x39, 0x98]);
            }
            fs::write(dir.join(format!("file{index}")), content).unwrap();
        }
        if round % 3 == 1 {
            fs::remove_dir_all(at.join(format!("dir{}", (round + 2) % 5))).ok();
        }
        sync(at);
    }
    // A directory that is logged and then freed leaves revoke records at the end.
    let gone = at.join("gone");
    fs::create_dir(&gone).unwrap();
    (0..30).for_each(|index| fs::write(gone.join(format!("file{index}")), b"x").unwrap());
    sync(at);
    fs::remove_dir_all(gone).unwrap();
    sync(at);
}

#[test]
fn logs_of_the_kernel_replay_alike() {
    if !may_mount() {
        return;
    }
    let dir = scratch();
    let image = dir.path().join("image");
    let small = "noinit_itable,commit=100";
    let (mut wraps, mut revokes) = (0, 0);
    // Fast-commit logs are left out of e2fsck's judgement: it wraps them at another block.
    for (mib, args, options, rounds, e2fsck_agrees) in [
        (24, "-t ext4 -b 1024", small.to_owned(), 6, true),
        (24, "-t ext4 -b 1024 -J size=1", small.to_owned(), 40, true),
        (24, "-t ext4 -b 1024 -J size=1", format!("{small},data=journal"), 40, true),
        (48, "-t ext4 -b 4096 -O ^metadata_csum", format!("{small},journal_checksum"), 6, true),
        (
            24,
            "-t ext4 -b 1024 -O ^metadata_csum",
            format!("{small},data=writeback,journal_async_commit"),
            6,
            true,
        ),
        (24, "-t ext3 -b 1024 -I 128 -J size=1", format!("{small},data=journal"), 30, true),
        (48, "-t ext4 -b 4096 -O metadata_csum_seed,orphan_file", small.to_owned(), 6, true),
        (24, "-t ext4 -b 1024 -O ^metadata_csum,uninit_bg,^64bit", small.to_owned(), 6, true),
        (24, "-t ext4 -b 1024 -O bigalloc", small.to_owned(), 6, true),
    ] {
        let context = format!("{args} / {options}");
        dirty_by_kernel(&image, mib, args, &options, |at| busy(at, rounds, mib + rounds));
        let block_size = if args.contains("4096") { 4096 } else { 1024 };
        let (_, start) = Judged::new(&image, block_size).journal_sequence(&image);
        let report = judge_replay(&image, block_size, e2fsck_agrees, &context);
        assert!(report.transactions > 0 && report.blocks > 0, "{context}: {report:?}");
        wraps += u64::from(args.contains("size=1") && u64::from(start) + report.blocks > 1024);
        revokes += report.revoked;
    }
    assert!(wraps > 0 && revokes > 0, "{wraps} logs wrapped, {revokes} blocks revoked");
}

/// Blocks of all inode tables. Deleted inodes keep different leftovers in them: the kernel's time of
/// deletion is that of its mount, ours that of the last write.
fn inode_table_blocks(image: &Path) -> Vec<std::ops::Range<u64>> {
    let fs = Ext4::open(reader(image)).unwrap();
    let superblock = fs.superblock();
    (0..superblock.groups())
        .map(|group| {
            let start = fs.descriptor(group).unwrap().inode_table();
            start..start + u64::from(superblock.inode_table_blocks())
        })
        .collect()
}

/// Recovers `image` and compares everything outside the inode tables with the kernel's recovery.
fn judge_orphans(image: &Path, block_size: usize, context: &str) -> RecoveryReport {
    let by_kernel = copy(image, "kernel.img");
    assert!(needs_recovery(&*reader(image)).unwrap(), "{context}");
    let report = recover(&device(image)).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert!(!needs_recovery(&*reader(image)).unwrap(), "{context}");
    assert_e2fsck_clean(image, context);
    let checked = check(&*reader(image)).unwrap();
    assert!(checked.is_clean(), "{context}: {:?}", checked.problems.first());
    if may_mount() {
        drop(KernelMount::new(&by_kernel, "ro"));
        let tables = inode_table_blocks(image);
        let log: std::collections::BTreeSet<u64> =
            debugfs(image, "blocks <8>").split_whitespace().map(|block| block.parse().unwrap()).collect();
        let mut differences = Judged::new(image, block_size).differences(&by_kernel, false);
        // The kernel logs its work on orphans, and changes blocks of attributes and maps before it frees them.
        differences.retain(|block| {
            let is_free = || debugfs(image, &format!("testb {block}")).contains("not in use");
            !log.contains(block) && !tables.iter().any(|table| table.contains(block)) && !is_free()
        });
        assert_eq!(differences, [0u64; 0], "{context}: differs from the kernel");
    }
    report
}

#[test]
fn orphans_held_open_are_released() {
    if !may_mount() {
        return;
    }
    let dir = scratch();
    let image = dir.path().join("image");
    for args in [
        "-t ext4 -b 1024",
        "-t ext4 -b 1024 -O orphan_file",
        "-t ext4 -b 1024 -O ^metadata_csum,uninit_bg,^64bit",
        "-t ext3 -b 1024 -I 128",
    ] {
        dirty_by_kernel(&image, 24, args, "noinit_itable,commit=100", |at| {
            let mut held = Vec::new();
            let value = "v".repeat(600);
            for index in 0..6usize {
                let path = at.join(format!("file{index}"));
                fs::write(&path, vec![7; 10 + index * 90_000]).unwrap();
                if index % 2 == 0 {
                    run("setfattr", &["-n", "user.long", "-v", &value, path.to_str().unwrap()]);
                }
            }
            fs::create_dir(at.join("dir")).unwrap();
            sync(at);
            held.push(fs::File::open(at.join("dir")).unwrap());
            fs::remove_dir(at.join("dir")).unwrap();
            for index in 0..6 {
                let path = at.join(format!("file{index}"));
                held.push(fs::File::open(&path).unwrap());
                fs::remove_file(path).unwrap();
            }
            sync(at);
            held
        });
        let report = judge_orphans(&image, 1024, args);
        assert_eq!(report.orphans_removed, 7, "{args}: {report:?}");
    }
}

#[test]
fn an_interrupted_truncation_is_finished() {
    let dir = scratch();
    let image = dir.path().join("image");
    for (args, block_size) in
        [("-t ext4 -b 1024", 1024), ("-t ext3 -b 1024 -I 128", 1024), ("-t ext4 -b 4096", 4096)]
    {
        mkfs(&image, 24, args);
        populate(&image);
        let inode: u64 = debugfs(&image, "stat big").split_whitespace().nth(1).unwrap().parse().unwrap();
        debugfs_write(&image, &format!("sif big size 5000\nssv last_orphan {inode}\n"));
        let report = judge_orphans(&image, block_size, args);
        assert_eq!((report.orphans_removed, report.orphans_truncated), (0, 1), "{args}");
        let fs = Ext4::open(reader(&image)).unwrap();
        let mut content = vec![0; 6000];
        assert_eq!(fs.read_at(vfs::NodeId(inode), 0, &mut content).unwrap(), 5000);
        assert!(content[..5000] == Random::new(3).bytes(300_000)[..5000], "{args}");
    }
}

/// Byte of a block of the log in the image.
fn log_byte(image: &Path, log_block: u32, block_size: u64) -> u64 {
    let block: u64 = debugfs(image, &format!("bmap <8> {log_block}")).trim().parse().unwrap();
    block * block_size
}

fn patch(image: &Path, at: u64, bytes: &[u8]) {
    let file = fs::OpenOptions::new().write(true).open(image).unwrap();
    file.write_all_at(bytes, at).unwrap();
}

fn refused(image: &Path) -> String {
    let before = fs::read(image).unwrap();
    let error = recover(&device(image)).unwrap_err();
    assert!(before == fs::read(image).unwrap(), "{error}: something was written");
    error.code().to_owned()
}

#[test]
fn what_is_not_replayed_is_refused_by_name() {
    let dir = scratch();
    let image = dir.path().join("image");
    let data = dir.path().join("data");
    logged_data(&data, 1024, 4, 1);
    let data = data.display();
    let dirty = |args: &str| {
        mkfs(&image, 16, args);
        debugfs_write(&image, &format!("jo -c\njw -b 14000,14001 {data}\njc\n"));
    };

    dirty("-t ext4 -b 1024 -O ^metadata_csum");
    patch(&image, log_byte(&image, 0, 1024) + 0x28, &[0, 0, 0, 0x42]);
    assert_eq!(refused(&image), "ext4.journal.feature");

    dirty("-t ext4 -b 1024");
    patch(&image, log_byte(&image, 2, 1024) + 77, &[0, 1, 2]);
    let error = refuse_replay(&image, "a damaged data block");
    assert!(error.contains("ext4.journal.transaction") && error.contains("transaction 1"), "{error}");

    dirty("-t ext4 -b 1024");
    debugfs_write(&image, "feature -needs_recovery\n");
    assert!(needs_recovery(&*reader(&image)).unwrap());
    assert_eq!(refused(&image), "ext4.journal.unexpected-log");

    dirty("-t ext4 -b 1024");
    debugfs_write(&image, "ssv journal_inum 0\nssv journal_dev 0x700\n");
    assert_eq!(refused(&image), "ext4.journal.external");

    mkfs(&image, 16, "-t ext4 -b 1024");
    populate(&image);
    debugfs_write(&image, "ssv state 2\nssv last_orphan 15\n");
    assert_eq!(refused(&image), "ext4.orphans.error-state");

    mkfs(&image, 16, "-t ext4 -b 1024");
    populate(&image);
    debugfs_write(&image, "sif a/short dtime 15\nsif big dtime 16\nssv last_orphan 15\n");
    assert!(refused(&image).starts_with("ext4.orphans."));
}

#[test]
fn fast_commits_are_refused_and_logs_beside_them_replay() {
    if !may_mount() {
        return;
    }
    let dir = scratch();
    let image = dir.path().join("image");
    let args = "-t ext4 -b 1024 -O fast_commit -J size=4";
    // Full commits only: replayed. e2fsck wraps such a log at another block and is no judge.
    dirty_by_kernel(&image, 32, args, "noinit_itable,commit=100", |at| busy(at, 8, 5));
    let report = judge_replay(&image, 1024, false, args);
    assert!(report.transactions > 0);
    // An fsync on top makes a fast commit.
    dirty_by_kernel(&image, 32, args, "noinit_itable,commit=100", |at| {
        busy(at, 2, 6);
        let mut file = fs::File::create(at.join("fast")).unwrap();
        std::io::Write::write_all(&mut file, b"committed fast").unwrap();
        file.sync_all().unwrap();
    });
    assert_eq!(refused(&image), "ext4.journal.fast-commit");
}
