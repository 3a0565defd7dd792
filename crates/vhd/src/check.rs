//! The structure of an image against itself.

use block::ReadAt;
use serde::Serialize;

use crate::image::{Blocks, Form};
use crate::map::bitmap_runs;
use crate::{SECTOR_BYTES, Vhd, VhdError};

/// Problems that a report spells out; the others are counted.
const TEXTS_MAX: usize = 32;
/// Bytes that are read at a time when unused sectors are looked at.
const STEP: usize = 1 << 20;

/// What a check found. Nothing is changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// Contradictions.
    pub problem_count: u64,
    /// The first of them, one sentence each.
    pub problems: Vec<String>,
    /// Blocks of the disk; none in a fixed image.
    pub total_blocks: u64,
    /// Stored ones among them.
    pub allocated_blocks: u64,
}

impl CheckReport {
    /// True when nothing contradicts anything.
    pub fn is_clean(&self) -> bool {
        self.problem_count == 0
    }

    fn add(&mut self, text: String) {
        self.problem_count += 1;
        if self.problems.len() < TEXTS_MAX {
            self.problems.push(text);
        }
    }
}

/// Something with a place in the file.
struct Place {
    start: u64,
    end: u64,
    /// `None` for a structure that is no block.
    block: Option<usize>,
    name: &'static str,
}

impl Place {
    fn text(&self) -> String {
        match self.block {
            Some(block) => format!("block {block} at {}", self.start),
            None => format!("the {} at {}", self.name, self.start),
        }
    }
}

impl Vhd {
    /// Both footers, no two structures in one place, and unused sectors of stored blocks zero.
    ///
    /// Memory: 40 bytes for each stored block, at most 160 MiB for the largest table.
    pub fn check(&self) -> Result<CheckReport, VhdError> {
        let mut report = CheckReport::default();
        for problem in &self.footer_problems {
            report.add(problem.clone());
        }
        if let Form::Dynamic(blocks) = &self.form {
            report.total_blocks = blocks.table.len() as u64;
            report.allocated_blocks = blocks.allocated();
            self.check_places(blocks, &mut report);
            self.check_unused(blocks, &mut report)?;
        }
        Ok(report)
    }

    fn check_places(&self, blocks: &Blocks, report: &mut CheckReport) {
        let at =
            |start: u64, len: u64, name| Place { start, end: start.saturating_add(len), block: None, name };
        let mut places = vec![
            at(0, SECTOR_BYTES, "copy of the footer"),
            at(self.footer.data_offset, 1024, "dynamic header"),
            at(blocks.header.table_offset, blocks.table.len() as u64 * 4, "block allocation table"),
        ];
        // Where the footer is missing, a block may well reach to the end.
        if self.footer_problems.is_empty() {
            places.push(at(self.file.len() - SECTOR_BYTES, SECTOR_BYTES, "footer"));
        }
        for block in 0..blocks.table.len() {
            let Some(start) = blocks.bitmap_offset(block) else { continue };
            let used = (self.size - block as u64 * blocks.block_size).min(blocks.block_size);
            places.push(Place {
                start,
                end: start + blocks.bitmap_len + used,
                block: Some(block),
                name: "block",
            });
        }
        places.sort_unstable_by_key(|place| (place.start, place.end));
        let mut furthest: Option<&Place> = None;
        for place in &places {
            if let Some(before) = furthest
                && place.start < before.end
            {
                report.add(format!("{} overlaps {}", place.text(), before.text()));
            }
            if furthest.is_none_or(|before| before.end < place.end) {
                furthest = Some(place);
            }
        }
    }

    /// A sector that is not in use reads as zero here, whatever its bytes are; programs that do not look at the
    /// bitmap would read these.
    fn check_unused(&self, blocks: &Blocks, report: &mut CheckReport) -> Result<(), VhdError> {
        let mut buf = Vec::new();
        for block in 0..blocks.table.len() {
            let Some(bitmap_offset) = blocks.bitmap_offset(block) else { continue };
            let used = (self.size - block as u64 * blocks.block_size).min(blocks.block_size);
            let bitmap = blocks.read_bitmap(&*self.file, bitmap_offset)?;
            let data = bitmap_offset + blocks.bitmap_len;
            for run in bitmap_runs(&bitmap, 0, used / SECTOR_BYTES).iter().filter(|run| !run.is_used) {
                let mut at = run.first * SECTOR_BYTES;
                let end = run.end * SECTOR_BYTES;
                while at < end {
                    let step = (end - at).min(STEP as u64);
                    buf.resize(step as usize, 0);
                    self.file.read_exact_at(&mut buf, data + at)?;
                    if let Some(found) = buf.iter().position(|byte| *byte != 0) {
                        report.add(format!(
                            "block {block}: sector {} is not in use and not zero",
                            (at + found as u64) / SECTOR_BYTES
                        ));
                        break;
                    }
                    at += step;
                }
            }
        }
        Ok(())
    }
}
