//! Opening an image, and what it says about itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use block::{BlockError, ReadAt};
use ondisk::be_u32;
use serde::Serialize;

use crate::footer::{COOKIE, DiskKind, FOOTER_BYTES, Footer, FooterProblem, Geometry, SizeRule};
use crate::header::{DynamicHeader, HEADER_BYTES};
use crate::layout::UNALLOCATED;
use crate::map::BitmapState;
use crate::{Refused, SECTOR_BYTES, SIZE_MAX, VhdError};

/// Most bytes of a block allocation table: enough for 2040 GiB in blocks of 512 KiB.
const TABLE_BYTES_MAX: u64 = 16 << 20;
/// Largest block; its bitmap is read whole.
const BLOCK_BYTES_MAX: u64 = 256 << 20;
const VHDX_COOKIE: &[u8; 8] = b"vhdxfile";

/// Blocks of a dynamic image.
pub(crate) struct Blocks {
    pub header: DynamicHeader,
    pub block_size: u64,
    pub bitmap_len: u64,
    /// As many entries as the disk has blocks.
    pub table: Vec<u32>,
    pub bitmaps: Vec<BitmapState>,
}

/// How the disk is stored.
pub(crate) enum Form {
    Fixed,
    Dynamic(Blocks),
}

/// An open VHD image: the virtual disk, for many threads at once.
pub struct Vhd {
    pub(crate) file: Arc<dyn ReadAt>,
    pub(crate) path: PathBuf,
    pub(crate) footer: Footer,
    pub(crate) form: Form,
    pub(crate) size: u64,
    pub(crate) size_rule: SizeRule,
    /// What is wrong with one of the two footers; the other one was used.
    pub(crate) footer_problems: Vec<String>,
}

/// Facts about an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VhdInfo {
    /// Fixed or dynamic.
    pub kind: DiskKind,
    /// Size of the virtual disk, bytes.
    pub virtual_size: u64,
    /// Which field decided about it.
    pub size_rule: SizeRule,
    /// The size that the footer names in bytes.
    pub current_size: u64,
    /// The geometry of the footer.
    pub geometry: Geometry,
    /// Creator application, lossily decoded.
    pub creator: String,
    /// Length of the host file, bytes.
    pub file_len: u64,
    /// Guest bytes of a block; dynamic images only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_size: Option<u64>,
    /// Stored blocks; dynamic images only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allocated_blocks: Option<u64>,
    /// The disk of a machine that is saved, not shut down.
    pub is_saved_state: bool,
    /// What is wrong with one of the two footers; the other one was used.
    pub footer_problems: Vec<String>,
}

/// What the footers of `file` look like, without judging anything else; `None` for no VHD at all.
pub fn probe(file: &dyn ReadAt) -> Result<Option<DiskKind>, BlockError> {
    let kind = |raw: &[u8; FOOTER_BYTES]| {
        let is_footer = raw.starts_with(COOKIE);
        // Damaged or of an unknown type: still a VHD, and opening it says what is wrong.
        is_footer.then(|| Footer::parse(raw).ok().and_then(|footer| footer.kind))
    };
    let Some(Ends { head, tail }) = ends(file)? else { return Ok(None) };
    Ok(match (kind(&tail), kind(&head)) {
        (Some(Some(kind)), _) | (_, Some(Some(kind))) => Some(kind),
        (_, Some(None)) => Some(DiskKind::Dynamic),
        (Some(None), None) => Some(DiskKind::Fixed),
        (None, None) => None,
    })
}

/// The bytes where a footer may stand.
struct Ends {
    head: [u8; FOOTER_BYTES],
    tail: [u8; FOOTER_BYTES],
}

/// The first and the last 512 bytes of the file; `None` when it is too short.
fn ends(file: &dyn ReadAt) -> Result<Option<Ends>, BlockError> {
    let Some(last) = file.len().checked_sub(FOOTER_BYTES as u64) else { return Ok(None) };
    let (mut head, mut tail) = ([0; FOOTER_BYTES], [0; FOOTER_BYTES]);
    file.read_exact_at(&mut head, 0)?;
    file.read_exact_at(&mut tail, last)?;
    Ok(Some(Ends { head, tail }))
}

impl Vhd {
    /// Opens the image in `file`; `path` is for messages.
    pub fn open(file: Arc<dyn ReadAt>, path: &Path) -> Result<Self, VhdError> {
        let Some(Ends { head, tail }) = ends(&file)? else {
            return Err(VhdError::NotVhd { path: path.to_owned() });
        };
        let chosen = choose(&head, &tail, file.len() - SECTOR_BYTES, path)?;
        let footer = chosen.footer;
        if footer.version >> 16 != 1 {
            return Err(VhdError::Version { path: path.to_owned(), found: footer.version });
        }
        let (size, size_rule) = footer.virtual_size();
        let damaged = |code, host_offset, detail| {
            Err(VhdError::Damaged { path: path.to_owned(), code, host_offset, detail })
        };
        if size == 0 {
            return damaged("vhd.footer.size", chosen.at, "the footer names a disk without sectors".into());
        }
        if size > SIZE_MAX {
            return Err(VhdError::Limit {
                path: path.to_owned(),
                what: "the size of the disk in bytes",
                limit: SIZE_MAX,
                found: size,
            });
        }
        let unsupported = |feature| Err(VhdError::Unsupported { path: path.to_owned(), feature });
        let form = match footer.kind {
            None => return unsupported(Refused::DiskType),
            Some(DiskKind::Differencing) => return unsupported(Refused::Differencing),
            Some(DiskKind::Fixed) => {
                let stored = file.len() - SECTOR_BYTES;
                if size > stored {
                    let detail =
                        format!("the footer names a disk of {size} bytes, {stored} are before the footer");
                    return damaged("vhd.truncated", chosen.at, detail);
                }
                Form::Fixed
            }
            Some(DiskKind::Dynamic) => Form::Dynamic(Blocks::open(&*file, path, &footer, size)?),
        };
        Ok(Self {
            file,
            path: path.to_owned(),
            footer,
            form,
            size,
            size_rule,
            footer_problems: chosen.problems,
        })
    }

    /// Facts about the image.
    pub fn info(&self) -> VhdInfo {
        let blocks = match &self.form {
            Form::Fixed => None,
            Form::Dynamic(blocks) => Some(blocks),
        };
        VhdInfo {
            kind: self.kind(),
            virtual_size: self.size,
            size_rule: self.size_rule,
            current_size: self.footer.current_size,
            geometry: self.footer.geometry,
            creator: String::from_utf8_lossy(&self.footer.creator).trim_end_matches('\0').to_owned(),
            file_len: self.file.len(),
            block_size: blocks.map(|blocks| blocks.block_size),
            allocated_blocks: blocks.map(Blocks::allocated),
            is_saved_state: self.footer.is_saved_state,
            footer_problems: self.footer_problems.clone(),
        }
    }

    /// Fixed or dynamic.
    pub fn kind(&self) -> DiskKind {
        match &self.form {
            Form::Fixed => DiskKind::Fixed,
            Form::Dynamic(_) => DiskKind::Dynamic,
        }
    }

    /// The footer that was used.
    pub fn footer(&self) -> &Footer {
        &self.footer
    }

    /// The image file, whose bytes [`Vhd::map`] names.
    pub fn file(&self) -> &Arc<dyn ReadAt> {
        &self.file
    }

    /// What is wrong with one of the two footers of a dynamic image, where the other one was good.
    pub fn footer_problems(&self) -> &[String] {
        &self.footer_problems
    }

    pub(crate) fn check_range(&self, offset: u64, len: u64) -> Result<(), BlockError> {
        match offset.checked_add(len) {
            Some(end) if end <= self.size => Ok(()),
            _ => Err(BlockError::PastEnd {
                layer: self.path.display().to_string(),
                offset,
                len,
                device_len: self.size,
            }),
        }
    }
}

/// The footer that counts.
struct Chosen {
    footer: Footer,
    /// Its position, bytes.
    at: u64,
    problems: Vec<String>,
}

/// A fixed image has one footer, at its end; a dynamic one has two that must agree.
fn choose(
    head: &[u8; FOOTER_BYTES],
    tail: &[u8; FOOTER_BYTES],
    tail_at: u64,
    path: &Path,
) -> Result<Chosen, VhdError> {
    let damaged = |code, host_offset, detail| {
        Err(VhdError::Damaged { path: path.to_owned(), code, host_offset, detail })
    };
    match (Footer::parse(head), Footer::parse(tail)) {
        (Ok(head), Ok(tail)) => {
            // A fixed disk may begin with anything, but with this it would be another disk to other programs.
            if head.kind != tail.kind
                || head.virtual_size() != tail.virtual_size()
                || head.data_offset != tail.data_offset
            {
                let detail =
                    "the footer at the end and its copy at the start contradict each other".to_owned();
                return damaged("vhd.footer.conflict", tail_at, detail);
            }
            let problems = if head == tail {
                Vec::new()
            } else {
                vec!["the footer at the end and its copy at the start differ in fields that do not matter here".into()]
            };
            Ok(Chosen { footer: tail, at: tail_at, problems })
        }
        (Err(head), Ok(tail)) => {
            let problems = match tail.kind {
                Some(DiskKind::Fixed) => Vec::new(),
                _ => vec![problem_text("copy of the footer at the start", head)],
            };
            Ok(Chosen { footer: tail, at: tail_at, problems })
        }
        (Ok(head), Err(tail)) => {
            let text = problem_text("footer at the end", tail);
            if head.kind == Some(DiskKind::Fixed) {
                return damaged("vhd.footer.missing", tail_at, text);
            }
            Ok(Chosen { footer: head, at: 0, problems: vec![text] })
        }
        (Err(FooterProblem::NoCookie), Err(FooterProblem::NoCookie)) => {
            if head.starts_with(VHDX_COOKIE) {
                return Err(VhdError::Unsupported { path: path.to_owned(), feature: Refused::Vhdx });
            }
            Err(VhdError::NotVhd { path: path.to_owned() })
        }
        (Err(FooterProblem::NoCookie), Err(tail)) => {
            damaged("vhd.footer.checksum", tail_at, problem_text("footer at the end", tail))
        }
        (Err(head), Err(tail)) => {
            let detail = format!(
                "{}; {}",
                problem_text("copy of the footer at the start", head),
                problem_text("footer at the end", tail)
            );
            damaged("vhd.footer.checksum", 0, detail)
        }
    }
}

fn problem_text(which: &str, problem: FooterProblem) -> String {
    match problem {
        FooterProblem::NoCookie => format!("the {which} is missing"),
        FooterProblem::Checksum { stored, computed } => {
            format!("the {which} is damaged: expected the checksum {computed:#x}, found {stored:#x}")
        }
    }
}

impl Blocks {
    fn open(file: &dyn ReadAt, path: &Path, footer: &Footer, size: u64) -> Result<Self, VhdError> {
        let damaged = |code, host_offset, detail| {
            Err(VhdError::Damaged { path: path.to_owned(), code, host_offset, detail })
        };
        let limit = |what, limit, found| Err(VhdError::Limit { path: path.to_owned(), what, limit, found });
        let inside = |offset: u64, len: u64| offset.checked_add(len).is_some_and(|end| end <= file.len());

        let header_at = footer.data_offset;
        if !inside(header_at, HEADER_BYTES as u64) {
            let detail = format!("the dynamic header lies outside the file of {} bytes", file.len());
            return damaged("vhd.header.range", header_at, detail);
        }
        let mut raw = [0; HEADER_BYTES];
        file.read_exact_at(&mut raw, header_at)?;
        let header = match DynamicHeader::parse(&raw) {
            Ok(header) => header,
            Err(detail) => return damaged("vhd.header", header_at, detail),
        };
        if header.version >> 16 != 1 {
            return Err(VhdError::Version { path: path.to_owned(), found: header.version });
        }
        let block_size = u64::from(header.block_size);
        if !block_size.is_power_of_two() || block_size < SECTOR_BYTES {
            let detail = format!("expected a power of two of at least 512 as block size, found {block_size}");
            return damaged("vhd.header.block-size", header_at, detail);
        }
        if block_size > BLOCK_BYTES_MAX {
            return limit("the size of a block in bytes", BLOCK_BYTES_MAX, block_size);
        }
        let count = size.div_ceil(block_size);
        if count > u64::from(header.entries) {
            let detail =
                format!("the disk has {count} blocks, the block allocation table {} entries", header.entries);
            return damaged("vhd.bat.size", header_at, detail);
        }
        let table_bytes = count * 4;
        if table_bytes > TABLE_BYTES_MAX {
            return limit("the size of the block allocation table in bytes", TABLE_BYTES_MAX, table_bytes);
        }
        if !inside(header.table_offset, table_bytes) {
            let detail = format!("the block allocation table lies outside the file of {} bytes", file.len());
            return damaged("vhd.bat.range", header.table_offset, detail);
        }
        let mut raw = vec![0; table_bytes as usize];
        file.read_exact_at(&mut raw, header.table_offset)?;
        let table: Vec<u32> = raw.chunks_exact(4).map(|entry| be_u32(entry, 0)).collect();
        drop(raw);

        let bitmap_len = (block_size / SECTOR_BYTES).div_ceil(8).next_multiple_of(SECTOR_BYTES);
        for (number, entry) in table.iter().enumerate().filter(|(_, entry)| **entry != UNALLOCATED) {
            let offset = u64::from(*entry) * SECTOR_BYTES;
            // Of the last block only what belongs to the disk has to be there.
            let used = (size - number as u64 * block_size).min(block_size);
            if !inside(offset, bitmap_len + used) {
                let detail = format!(
                    "block {number} is said to lie at {offset}, the file ends at {}: truncated or damaged",
                    file.len()
                );
                return damaged("vhd.bat.entry", header.table_offset + number as u64 * 4, detail);
            }
        }
        let bitmaps = std::iter::repeat_with(BitmapState::default).take(table.len()).collect();
        Ok(Self { header, block_size, bitmap_len, table, bitmaps })
    }

    pub(crate) fn allocated(&self) -> u64 {
        self.table.iter().filter(|entry| **entry != UNALLOCATED).count() as u64
    }
}
