//! Logs made by hand: what a kernel or debugfs produces only by luck.

use block::{MemoryDevice, ReadAt};
use ondisk::{crc32_be_raw, crc32c_raw, put_be_u32};
use report::Diagnose;

use super::log::{Log, LogRun};
use super::replay::{Replayed, replay};
use super::scan::TargetRange;
use super::superblock::{JournalSuperblock, MAGIC};

const BLOCK: usize = 1024;
/// Filesystem blocks in front of the log.
const LOG_AT: u64 = 100;
const LOG_BLOCKS: u32 = 40;
const UUID: [u8; 16] = [7; 16];

const COMPAT_V1: u32 = 1;
const REVOKE: u32 = 1;
const BIT64: u32 = 2;
const ASYNC: u32 = 4;
const V2: u32 = 8;
const V3: u32 = 16;

/// Writes a log block by block.
struct Builder {
    disk: Vec<u8>,
    compat: u32,
    incompat: u32,
    at: u32,
    start: u32,
    sequence: u32,
    crc: u32,
    seconds: u32,
}

impl Builder {
    fn new(compat: u32, incompat: u32, start: u32, sequence: u32) -> Self {
        let disk = vec![0; BLOCK * (LOG_AT as usize + LOG_BLOCKS as usize)];
        Self { disk, compat, incompat, at: start, start, sequence, crc: !0, seconds: 1000 }
    }

    fn seed() -> u32 {
        crc32c_raw(!0, &UUID)
    }

    fn put(&mut self, block: &[u8]) -> u32 {
        let log_block = self.at;
        let at = (LOG_AT as usize + log_block as usize) * BLOCK;
        self.disk[at..at + BLOCK].copy_from_slice(block);
        self.at = if self.at + 1 == LOG_BLOCKS { 1 } else { self.at + 1 };
        log_block
    }

    fn header(&self, kind: u32) -> Vec<u8> {
        let mut block = vec![0; BLOCK];
        put_be_u32(&mut block, 0, MAGIC);
        put_be_u32(&mut block, 4, kind);
        put_be_u32(&mut block, 8, self.sequence);
        block
    }

    fn seal_tail(&self, block: &mut [u8]) {
        if self.incompat & (V2 | V3) != 0 {
            let sum = crc32c_raw(Self::seed(), block);
            put_be_u32(block, BLOCK - 4, sum);
        }
    }

    /// A descriptor with its data blocks; `fill` is every byte of the data.
    fn write(&mut self, targets: &[(u64, u8)]) -> &mut Self {
        let mut block = self.header(1);
        let mut at = 12;
        for (index, (target, fill)) in targets.iter().enumerate() {
            let mut flags = if index == 0 { 0u32 } else { 2 };
            if index + 1 == targets.len() {
                flags |= 8;
            }
            let data = vec![*fill; BLOCK];
            let sum = crc32c_raw(crc32c_raw(Self::seed(), &self.sequence.to_be_bytes()), &data);
            put_be_u32(&mut block, at, *target as u32);
            if self.incompat & V3 != 0 {
                put_be_u32(&mut block, at + 4, flags);
                put_be_u32(&mut block, at + 8, (*target >> 32) as u32);
                put_be_u32(&mut block, at + 12, sum);
                at += 16;
            } else {
                let low = if self.incompat & V2 != 0 { sum << 16 } else { 0 };
                put_be_u32(&mut block, at + 4, low | flags);
                at += 8;
                if self.incompat & BIT64 != 0 {
                    put_be_u32(&mut block, at, (*target >> 32) as u32);
                    at += 4;
                }
                if self.incompat & V2 != 0 {
                    at += 2;
                }
            }
            if index == 0 {
                at += 16;
            }
        }
        self.seal_tail(&mut block);
        self.crc = crc32_be_raw(self.crc, &block);
        self.put(&block);
        for (_, fill) in targets {
            let data = vec![*fill; BLOCK];
            self.crc = crc32_be_raw(self.crc, &data);
            self.put(&data);
        }
        self
    }

    fn revoke(&mut self, targets: &[u64]) -> &mut Self {
        let mut block = self.header(5);
        let width = if self.incompat & BIT64 != 0 { 8 } else { 4 };
        put_be_u32(&mut block, 12, 16 + width * targets.len() as u32);
        for (index, target) in targets.iter().enumerate() {
            let raw = target.to_be_bytes();
            let at = 16 + index * width as usize;
            block[at..at + width as usize].copy_from_slice(&raw[8 - width as usize..]);
        }
        self.seal_tail(&mut block);
        self.put(&block);
        self
    }

    fn commit(&mut self) -> &mut Self {
        let mut block = self.header(2);
        put_be_u32(&mut block, 0x34, self.seconds);
        if self.compat & COMPAT_V1 != 0 {
            block[0x0c] = 1;
            block[0x0d] = 4;
            put_be_u32(&mut block, 0x10, self.crc);
        }
        if self.incompat & (V2 | V3) != 0 {
            let sum = crc32c_raw(Self::seed(), &block);
            put_be_u32(&mut block, 0x10, sum);
        }
        self.put(&block);
        self.crc = !0;
        self.seconds += 1;
        self.sequence = self.sequence.wrapping_add(1);
        self
    }

    /// Changes one byte of a block of the log.
    fn damage(&mut self, log_block: u32, byte: usize) -> &mut Self {
        self.disk[(LOG_AT as usize + log_block as usize) * BLOCK + byte] ^= 0x55;
        self
    }

    fn superblock(&self, first_sequence: u32) -> Vec<u8> {
        let mut raw = vec![0; BLOCK];
        for (at, value) in [
            (0, MAGIC),
            (4, 4),
            (0x0c, BLOCK as u32),
            (0x10, LOG_BLOCKS),
            (0x14, 1),
            (0x18, first_sequence),
            (0x1c, self.start),
            (0x24, self.compat),
            (0x28, self.incompat),
        ] {
            put_be_u32(&mut raw, at, value);
        }
        raw[0x30..0x40].copy_from_slice(&UUID);
        if self.incompat & (V2 | V3) != 0 {
            raw[0x50] = 4;
            let sum = crc32c_raw(!0, &raw);
            put_be_u32(&mut raw, 0xfc, sum);
        }
        raw
    }

    /// Replays; returns what was done and the first byte of each filesystem block.
    fn replay(&mut self, first_sequence: u32) -> Result<(Replayed, Vec<u8>), vfs::VfsError> {
        let raw = self.superblock(first_sequence);
        let at = LOG_AT as usize * BLOCK;
        self.disk[at..at + BLOCK].copy_from_slice(&raw);
        let device = MemoryDevice::new(self.disk.clone());
        let superblock = JournalSuperblock::parse(&raw, BLOCK as u32, LOG_BLOCKS.into())?;
        let runs = vec![LogRun { log_block: 0, device_block: LOG_AT, len: LOG_BLOCKS }];
        let log = Log::new(&device, BLOCK as u32, runs)?;
        let targets = TargetRange { first: 1, end: LOG_AT + u64::from(LOG_BLOCKS) };
        let done = replay(&device, &log, &superblock, targets)?;
        let mut after = vec![0; BLOCK];
        device.read_exact_at(&mut after, LOG_AT * BLOCK as u64).unwrap();
        let after = JournalSuperblock::parse(&after, BLOCK as u32, LOG_BLOCKS.into())?;
        assert_eq!((after.start, after.errno), (0, 0));
        assert_eq!(after.sequence, first_sequence.wrapping_add(done.transactions + 1));
        Ok((done, device.to_vec().chunks(BLOCK).map(|block| block[0]).collect()))
    }
}

const EVERY_KIND: [(u32, u32); 8] = [
    (0, REVOKE),
    (0, REVOKE | BIT64),
    (COMPAT_V1, REVOKE),
    (COMPAT_V1, REVOKE | BIT64),
    (0, REVOKE | V2),
    (0, REVOKE | V2 | BIT64),
    (0, REVOKE | V3),
    (0, REVOKE | V3 | BIT64),
];

#[test]
fn newest_version_wins_and_revokes_hide_older_ones() {
    for (compat, incompat) in EVERY_KIND {
        let mut log = Builder::new(compat, incompat, 1, 5);
        log.write(&[(10, 1), (11, 1), (12, 1), (13, 1)]).commit();
        log.write(&[(10, 2), (13, 2)]).revoke(&[11, 13]).commit();
        log.write(&[(13, 3)]).commit();
        log.write(&[(12, 9)]); // never committed
        let (done, blocks) = log.replay(5).unwrap();
        assert_eq!(done, Replayed { transactions: 3, blocks: 3, revoked: 1 }, "{compat} {incompat}");
        assert_eq!(blocks[10..14], [2, 0, 1, 3]);
    }
}

#[test]
fn a_log_wraps_in_the_middle_of_a_transaction_and_sequences_at_their_end() {
    for (compat, incompat) in EVERY_KIND {
        let mut log = Builder::new(compat, incompat, LOG_BLOCKS - 3, u32::MAX);
        log.write(&[(10, 1), (11, 1), (12, 1), (13, 1)]).commit();
        log.write(&[(14, 2)]).revoke(&[10]).commit();
        let (done, blocks) = log.replay(u32::MAX).unwrap();
        assert_eq!(done, Replayed { transactions: 2, blocks: 4, revoked: 1 }, "{compat} {incompat}");
        assert_eq!(blocks[10..15], [0, 1, 1, 1, 2]);
    }
}

#[test]
fn a_log_may_fill_its_ring_exactly() {
    let mut log = Builder::new(0, REVOKE, 1, 1);
    let targets: Vec<(u64, u8)> = (0..37).map(|n| (n + 2, 1)).collect();
    log.write(&targets).commit();
    assert_eq!(log.at, 1);
    let (done, blocks) = log.replay(1).unwrap();
    assert_eq!(done.blocks, 37);
    assert_eq!(blocks[2..39], [1; 37]);
}

#[test]
fn a_log_that_runs_into_itself_is_refused() {
    let mut log = Builder::new(0, REVOKE, 1, 1);
    let targets: Vec<(u64, u8)> = (0..40).map(|n| (n + 2, 1)).collect();
    log.write(&targets);
    let mut descriptor = log.header(1);
    descriptor[12 + 7] = 2; // one tag after the other, no end
    log.at = 1;
    log.put(&descriptor);
    let error = log.replay(1).unwrap_err();
    assert_eq!(error.code(), "ext4.journal.transaction");
}

#[test]
fn damage_in_a_committed_transaction_is_refused_by_its_number() {
    for incompat in [REVOKE | V2, REVOKE | V3, REVOKE | V3 | BIT64] {
        // Blocks: 1 descriptor, 2-3 data, 4 revoke, 5 commit, 6 descriptor, 7 data, 8 commit.
        for (log_block, byte) in [(1, 900), (2, 5), (4, 500), (5, 0x20), (8, 0x20)] {
            let mut log = Builder::new(0, incompat, 1, 70);
            log.write(&[(10, 1), (11, 1)]).revoke(&[60]).commit().write(&[(12, 2)]).commit();
            log.damage(log_block, byte);
            let error = log.replay(70).unwrap_err();
            assert_eq!(error.code(), "ext4.journal.transaction");
            let number = if log_block == 8 { 71 } else { 70 };
            assert!(error.to_string().contains(&format!("transaction {number}:")), "{error}");
        }
    }
    let mut log = Builder::new(COMPAT_V1, REVOKE, 1, 70);
    log.write(&[(10, 1)]).commit().write(&[(11, 1)]).commit();
    let error = log.damage(2, 77).replay(70).unwrap_err();
    assert!(error.to_string().contains("transaction 70:"), "{error}");
}

#[test]
fn damage_behind_the_last_commit_ends_the_log_quietly() {
    let mut log = Builder::new(0, REVOKE | V3, 1, 70);
    log.write(&[(10, 1)]).commit().write(&[(11, 2)]);
    log.damage(4, 900);
    let (done, blocks) = log.replay(70).unwrap();
    assert_eq!((done.transactions, blocks[10], blocks[11]), (1, 1, 0));
}

#[test]
fn an_asynchronous_commit_without_its_data_is_dropped_only_at_the_end() {
    let build = || {
        let mut log = Builder::new(COMPAT_V1, REVOKE | ASYNC, 1, 70);
        log.write(&[(10, 1)]).commit().write(&[(11, 2)]).commit();
        log
    };
    let (done, blocks) = build().damage(5, 3).replay(70).unwrap();
    assert_eq!((done.transactions, blocks[10], blocks[11]), (1, 1, 0));
    assert!(build().damage(2, 3).replay(70).is_err());
}

#[test]
fn a_transaction_older_than_the_one_before_is_a_leftover() {
    let mut log = Builder::new(0, REVOKE | V3, 1, 70);
    log.write(&[(10, 1)]).commit();
    log.seconds = 5;
    log.write(&[(11, 2)]).commit();
    log.damage(4, 900);
    let (done, blocks) = log.replay(70).unwrap();
    assert_eq!((done.transactions, blocks[10], blocks[11]), (1, 1, 0));
}

#[test]
fn targets_outside_the_filesystem_or_in_the_log_are_refused() {
    for target in [0, LOG_AT, LOG_AT + 39, LOG_AT + 40, 1 << 40] {
        let mut log = Builder::new(0, REVOKE | BIT64, 1, 3);
        log.write(&[(10, 1), (target, 1)]).commit();
        let error = log.replay(3).unwrap_err();
        assert_eq!(error.code(), "ext4.journal.transaction", "{target}");
    }
}

#[test]
fn a_revoke_count_past_the_block_is_refused() {
    let mut log = Builder::new(0, REVOKE, 1, 3);
    log.write(&[(10, 1)]).revoke(&[10]).commit();
    log.disk[(LOG_AT as usize + 3) * BLOCK + 14] = 0xff;
    assert_eq!(log.replay(3).unwrap_err().code(), "ext4.journal.transaction");
}

#[test]
fn superblocks_that_are_not_understood_are_refused() {
    let raw = Builder::new(0, REVOKE, 1, 1).superblock(1);
    let parse = |raw: &[u8]| JournalSuperblock::parse(raw, BLOCK as u32, LOG_BLOCKS.into()).err();
    assert!(parse(&raw).is_none());
    for (at, value, code) in [
        (0, 1, "ext4.journal.superblock"),
        (4, 2, "ext4.journal.superblock"),
        (0x0c, 4096, "ext4.journal.block-size"),
        (0x10, LOG_BLOCKS + 1, "ext4.journal.superblock"),
        (0x14, 0, "ext4.journal.superblock"),
        (0x14, LOG_BLOCKS, "ext4.journal.superblock"),
        (0x1c, LOG_BLOCKS, "ext4.journal.superblock"),
        (0x24, 2, "ext4.journal.feature"),
        (0x28, 0x40, "ext4.journal.feature"),
        (0x2c, 1, "ext4.journal.feature"),
        (0x28, V2 | V3, "ext4.journal.superblock"),
        (0x28, V3, "ext4.journal.feature"), // the checksum type says none
    ] {
        let mut raw = raw.clone();
        put_be_u32(&mut raw, at, value);
        assert_eq!(parse(&raw).map(|error| error.code()), Some(code), "{at:#x} {value}");
    }
    let mut raw = Builder::new(0, REVOKE | V3, 1, 1).superblock(1);
    raw[0x200] ^= 1;
    assert_eq!(parse(&raw).map(|error| error.code()), Some("ext4.journal.superblock"));
}

#[test]
fn the_ring_ends_before_the_fast_commits() {
    let mut raw = Builder::new(0, REVOKE | 0x20, 1, 1).superblock(1);
    put_be_u32(&mut raw, 0x10, 4096);
    let superblock = JournalSuperblock::parse(&raw, BLOCK as u32, 4096).unwrap();
    assert_eq!((superblock.ring_end, superblock.fast_commit_area()), (4096 - 256, 4096 - 255..4096));
    put_be_u32(&mut raw, 0x54, 10);
    let superblock = JournalSuperblock::parse(&raw, BLOCK as u32, 4096).unwrap();
    assert_eq!((superblock.ring_end, superblock.fast_commit_area()), (4086, 4087..4096));
}
