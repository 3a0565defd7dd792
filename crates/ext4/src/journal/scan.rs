//! First pass over the log: which transactions are complete, and the newest version of each block.
//!
//! The kernel's recovery makes three passes (scan, revoke, replay) and writes every version of a block
//! in turn. Here one pass keeps the newest committed version of each block; revoke records are applied to
//! that. The result is the same, since a later write covers an earlier one and a revoke record hides
//! every version up to its own transaction.

use std::collections::BTreeMap;

use vfs::VfsError;

use super::blocks::{
    BlockKind, Tag, add_to_transaction_crc, commit_matches, commit_seconds, is_not_newer, parse_header,
    parse_revoke, parse_tags, tag_matches, tail_matches,
};
use super::fast_commit;
use super::log::Log;
use super::superblock::{Checksums, Incompat, JournalSuperblock};
use crate::error::{corrupt, unsupported};

/// Blocks of the filesystem that a transaction may write.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TargetRange {
    /// First block of the filesystem.
    pub(crate) first: u64,
    /// One past its last block.
    pub(crate) end: u64,
}

/// Newest committed version of a filesystem block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Logged {
    pub(crate) log_block: u32,
    pub(crate) sequence: u32,
    pub(crate) escaped: bool,
}

/// What the log holds.
#[derive(Debug)]
pub(crate) struct Committed {
    /// By filesystem block; revoked ones are taken out.
    pub(crate) blocks: BTreeMap<u64, Logged>,
    /// Complete transactions.
    pub(crate) transactions: u32,
    /// Blocks whose newest version was revoked.
    pub(crate) revoked: u64,
    /// Sequence behind the last complete transaction.
    pub(crate) end_sequence: u32,
}

/// The transaction that is being read.
struct Pending {
    tags: Vec<(Tag, u32)>,
    revoke_blocks: Vec<u32>,
    /// Sum of version 1.
    crc: u32,
    /// First administrative block that does not match its checksum. Blocks of an earlier life of the
    /// journal may look so; the commit block decides.
    suspect: Option<String>,
    /// First data block that does not match its tag.
    bad_data: Option<String>,
}

impl Pending {
    fn new() -> Self {
        Self { tags: Vec::new(), revoke_blocks: Vec::new(), crc: !0, suspect: None, bad_data: None }
    }
}

fn damaged(sequence: u32, detail: impl Into<String>) -> VfsError {
    corrupt("ext4.journal.transaction", format!("journal transaction {sequence}"), detail)
}

/// Reads the log from its start to its end. Nothing is written; an error names the transaction.
pub(crate) fn scan(
    log: &Log<'_>,
    superblock: &JournalSuperblock,
    targets: TargetRange,
) -> Result<Committed, VfsError> {
    let mut scanner = Scanner {
        log,
        superblock,
        targets,
        at: superblock.start,
        steps_left: superblock.ring_end - superblock.first,
        block: vec![0; log.block_size() as usize],
        committed: Committed {
            blocks: BTreeMap::new(),
            transactions: 0,
            revoked: 0,
            end_sequence: superblock.sequence,
        },
        revoke_blocks: Vec::new(),
        last_commit_seconds: 0,
    };
    scanner.run()?;
    scanner.apply_revokes()?;
    scanner.refuse_fast_commit()?;
    Ok(scanner.committed)
}

struct Scanner<'a> {
    log: &'a Log<'a>,
    superblock: &'a JournalSuperblock,
    targets: TargetRange,
    /// Next block of the log.
    at: u32,
    /// Blocks of the ring not read yet.
    steps_left: u32,
    block: Vec<u8>,
    committed: Committed,
    /// Revoke blocks of complete transactions, with the sequence.
    revoke_blocks: Vec<(u32, u32)>,
    last_commit_seconds: u64,
}

impl Scanner<'_> {
    fn run(&mut self) -> Result<(), VfsError> {
        let mut pending = Pending::new();
        loop {
            let sequence = self.committed.end_sequence;
            if self.steps_left == 0 {
                return Ok(()); // The ring is full to the last block.
            }
            let here = self.at;
            self.log.read(here, &mut self.block)?;
            let kind = match parse_header(&self.block) {
                Some((kind, found)) if found == sequence => kind,
                _ => return Ok(()),
            };
            self.step(sequence)?;
            match kind {
                BlockKind::Other => return Ok(()),
                BlockKind::Descriptor => self.take_descriptor(&mut pending, here, sequence)?,
                BlockKind::Revoke => {
                    if !tail_matches(self.superblock, &self.block) {
                        pending
                            .suspect
                            .get_or_insert_with(|| format!("checksum of the revoke block {here} is wrong"));
                    }
                    pending.revoke_blocks.push(here);
                }
                BlockKind::Commit => {
                    if !self.accepts_commit(&pending, here, sequence)? {
                        return Ok(());
                    }
                    self.commit(std::mem::replace(&mut pending, Pending::new()), sequence)?;
                }
            }
        }
    }

    /// Moves one block on along the ring.
    fn step(&mut self, sequence: u32) -> Result<(), VfsError> {
        self.steps_left = self
            .steps_left
            .checked_sub(1)
            .ok_or_else(|| damaged(sequence, "the log runs into its own start"))?;
        self.at = self.superblock.after(self.at);
        Ok(())
    }

    fn take_descriptor(&mut self, pending: &mut Pending, here: u32, sequence: u32) -> Result<(), VfsError> {
        if !tail_matches(self.superblock, &self.block) {
            pending
                .suspect
                .get_or_insert_with(|| format!("checksum of the descriptor block {here} is wrong"));
        }
        if self.superblock.checksums == Checksums::V1 {
            pending.crc = add_to_transaction_crc(pending.crc, &self.block);
        }
        for tag in parse_tags(self.superblock, &self.block) {
            let log_block = self.at;
            if self.superblock.checksums != Checksums::None && self.steps_left != 0 {
                self.log.read(log_block, &mut self.block)?;
                if self.superblock.checksums == Checksums::V1 {
                    pending.crc = add_to_transaction_crc(pending.crc, &self.block);
                } else if !tag_matches(self.superblock, &tag, sequence, &self.block) {
                    pending.bad_data.get_or_insert_with(|| {
                        format!("checksum of the logged block {} at {log_block} is wrong", tag.target)
                    });
                }
            }
            pending.tags.push((tag, log_block));
            self.step(sequence)?;
        }
        Ok(())
    }

    /// Decides at a commit block: `true` complete, `false` quiet end of the log, error for damage.
    fn accepts_commit(&mut self, pending: &Pending, here: u32, sequence: u32) -> Result<bool, VfsError> {
        let seconds = commit_seconds(&self.block);
        // Left over from before the journal was last emptied and started again at this sequence.
        let is_stale = seconds < self.last_commit_seconds;
        if let Some(suspect) = &pending.suspect {
            return if is_stale { Ok(false) } else { Err(damaged(sequence, suspect.clone())) };
        }
        if !commit_matches(self.superblock, &self.block, pending.crc) {
            if is_stale {
                return Ok(false);
            }
            if self.superblock.incompat.contains(Incompat::ASYNC_COMMIT) && !self.is_followed(sequence)? {
                return Ok(false); // The commit block was written before its data and the power failed.
            }
            return Err(damaged(sequence, format!("checksum of the commit block {here} is wrong")));
        }
        if let Some(bad_data) = &pending.bad_data {
            return Err(damaged(sequence, bad_data.clone()));
        }
        self.last_commit_seconds = seconds;
        Ok(true)
    }

    /// True when another transaction follows the commit block just read.
    fn is_followed(&mut self, sequence: u32) -> Result<bool, VfsError> {
        if self.steps_left == 0 {
            return Ok(false);
        }
        self.log.read(self.at, &mut self.block)?;
        Ok(parse_header(&self.block).is_some_and(|(_, next)| next == sequence.wrapping_add(1)))
    }

    fn commit(&mut self, pending: Pending, sequence: u32) -> Result<(), VfsError> {
        for (tag, log_block) in pending.tags {
            if !(self.targets.first..self.targets.end).contains(&tag.target) {
                return Err(damaged(
                    sequence,
                    format!(
                        "writes block {} outside the {} blocks of the filesystem",
                        tag.target, self.targets.end
                    ),
                ));
            }
            if self.log.owns(tag.target) {
                return Err(damaged(
                    sequence,
                    format!("writes block {}, which belongs to the journal itself", tag.target),
                ));
            }
            let logged = Logged { log_block, sequence, escaped: tag.escaped };
            self.committed.blocks.insert(tag.target, logged);
        }
        self.revoke_blocks.extend(pending.revoke_blocks.into_iter().map(|log_block| (log_block, sequence)));
        self.committed.transactions += 1;
        self.committed.end_sequence = sequence.wrapping_add(1);
        Ok(())
    }

    fn apply_revokes(&mut self) -> Result<(), VfsError> {
        for (log_block, sequence) in std::mem::take(&mut self.revoke_blocks) {
            self.log.read(log_block, &mut self.block)?;
            let records = parse_revoke(self.superblock, &self.block).ok_or_else(|| {
                damaged(sequence, format!("the count of the revoke block {log_block} passes its end"))
            })?;
            for record in records {
                let hidden = |logged: &Logged| is_not_newer(logged.sequence, sequence);
                if self.committed.blocks.get(&record).is_some_and(hidden) {
                    self.committed.blocks.remove(&record);
                    self.committed.revoked += 1;
                }
            }
        }
        Ok(())
    }

    fn refuse_fast_commit(&mut self) -> Result<(), VfsError> {
        let area = self.superblock.fast_commit_area();
        if area.is_empty() || u64::from(area.start) >= self.log.len() {
            return Ok(());
        }
        self.log.read(area.start, &mut self.block)?;
        if fast_commit::starts_fast_commit(&self.block, self.committed.end_sequence) {
            return Err(unsupported(
                "ext4.journal.fast-commit",
                format!(
                    "replay of the fast commits on top of transaction {}",
                    self.committed.end_sequence.wrapping_sub(1)
                ),
                "",
            ));
        }
        Ok(())
    }
}
