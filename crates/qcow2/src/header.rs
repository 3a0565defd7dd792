//! The header, its extensions and the feature bits.

use std::path::Path;

use block::ReadAt;
use ondisk::{try_be_u32, try_be_u64};
use serde::Serialize;

use crate::error::{Qcow2Error, Refused};

/// `QFI\xfb`.
pub(crate) const MAGIC: [u8; 4] = *b"QFI\xfb";

/// Incompatible feature bits.
pub(crate) const INCOMPATIBLE_DIRTY: u64 = 1 << 0;
pub(crate) const INCOMPATIBLE_CORRUPT: u64 = 1 << 1;
const INCOMPATIBLE_DATA_FILE: u64 = 1 << 2;
const INCOMPATIBLE_COMPRESSION: u64 = 1 << 3;
const INCOMPATIBLE_EXTENDED_L2: u64 = 1 << 4;
const INCOMPATIBLE_KNOWN: u64 = INCOMPATIBLE_DIRTY
    | INCOMPATIBLE_CORRUPT
    | INCOMPATIBLE_DATA_FILE
    | INCOMPATIBLE_COMPRESSION
    | INCOMPATIBLE_EXTENDED_L2;
/// Compatible feature bits.
const COMPATIBLE_LAZY_REFCOUNTS: u64 = 1 << 0;

/// Positions of the header fields that a commit may change.
pub(crate) const AT_VIRTUAL_SIZE: usize = 24;
pub(crate) const AT_L1_ENTRIES: usize = 36;
pub(crate) const AT_L1_OFFSET: usize = 40;
pub(crate) const AT_REFCOUNT_TABLE_OFFSET: usize = 48;
pub(crate) const AT_REFCOUNT_TABLE_CLUSTERS: usize = 56;
pub(crate) const AT_INCOMPATIBLE: usize = 72;
pub(crate) const AT_AUTOCLEAR: usize = 88;

const V2_HEADER_BYTES: u32 = 72;
const V3_HEADER_BYTES: u32 = 104;

/// QEMU's limit for an L1 table (`QCOW_MAX_L1_SIZE`).
pub(crate) const MAX_L1_BYTES: u64 = 32 << 20;
/// QEMU's limit for the refcount table (`QCOW_MAX_REFTABLE_SIZE`).
pub(crate) const MAX_REFCOUNT_TABLE_BYTES: u64 = 8 << 20;
const MAX_BACKING_NAME_BYTES: u32 = 1023;

const EXTENSION_END: u32 = 0;
const EXTENSION_BACKING_FORMAT: u32 = 0xe279_2aca;
const EXTENSION_FEATURE_NAMES: u32 = 0x6803_f857;
pub(crate) const EXTENSION_BITMAPS: u32 = 0x2385_2875;
const FEATURE_NAME_BYTES: usize = 48;

/// How compressed clusters of an image are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compression {
    /// Raw deflate.
    Zlib,
    /// Zstandard frames.
    Zstd,
}

impl From<Compression> for codec::Kind {
    fn from(compression: Compression) -> Self {
        match compression {
            Compression::Zlib => codec::Kind::Deflate,
            Compression::Zstd => codec::Kind::Zstd,
        }
    }
}

/// Which of the three feature fields a name belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FeatureKind {
    /// A reader that does not know it must refuse.
    Incompatible,
    /// May be ignored.
    Compatible,
    /// Cleared by a writer that does not know it.
    Autoclear,
}

/// One entry of the image's own feature name table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FeatureName {
    /// Which field.
    pub kind: FeatureKind,
    /// Bit number in that field.
    pub bit: u8,
    /// Name, lossily decoded.
    pub name: String,
}

/// One header extension as it stands in the image.
#[derive(Debug, Clone)]
pub(crate) struct Extension {
    pub kind: u32,
    pub host_offset: u64,
    pub data: Vec<u8>,
}

/// The checked header: no field can contradict the file's length or the limits.
#[derive(Debug, Clone)]
pub(crate) struct Header {
    pub version: u32,
    pub backing_name: Option<Vec<u8>>,
    pub backing_format: Option<Vec<u8>>,
    pub cluster_bits: u32,
    pub virtual_size: u64,
    pub l1_entries: u64,
    pub l1_offset: u64,
    pub refcount_table_offset: u64,
    pub refcount_table_clusters: u64,
    pub snapshot_count: u32,
    pub snapshots_offset: u64,
    pub incompatible: u64,
    pub compatible: u64,
    pub autoclear: u64,
    pub refcount_order: u32,
    pub header_length: u32,
    pub compression: Compression,
    pub extensions: Vec<Extension>,
    pub feature_names: Vec<FeatureName>,
}

impl Header {
    pub fn cluster_size(&self) -> u64 {
        1 << self.cluster_bits
    }

    pub fn is_dirty(&self) -> bool {
        self.incompatible & INCOMPATIBLE_DIRTY != 0
    }

    pub fn is_corrupt(&self) -> bool {
        self.incompatible & INCOMPATIBLE_CORRUPT != 0
    }

    pub fn has_extended_l2(&self) -> bool {
        self.incompatible & INCOMPATIBLE_EXTENDED_L2 != 0
    }

    pub fn has_lazy_refcounts(&self) -> bool {
        self.compatible & COMPATIBLE_LAZY_REFCOUNTS != 0
    }

    pub fn extension(&self, kind: u32) -> Option<&Extension> {
        self.extensions.iter().find(|extension| extension.kind == kind)
    }

    /// log2 of the bytes of one L2 entry.
    pub fn l2_entry_shift(&self) -> u32 {
        if self.has_extended_l2() { 4 } else { 3 }
    }

    /// log2 of the guest bytes that one L2 table maps.
    pub fn l2_cover_bits(&self) -> u32 {
        2 * self.cluster_bits - self.l2_entry_shift()
    }

    /// Reads and checks the header cluster of `file`.
    pub fn read(file: &dyn ReadAt, path: &Path) -> Result<Self, Qcow2Error> {
        let file_len = file.len();
        let mut head = vec![0u8; file_len.min(512) as usize];
        file.read_exact_at(&mut head, 0)?;
        let raw = RawHeader::parse(&head, path)?;
        raw.check_shape(path)?;

        // The whole first cluster, for the extensions and the backing name.
        let mut cluster = vec![0u8; file_len.min(1 << raw.cluster_bits) as usize];
        file.read_exact_at(&mut cluster, 0)?;
        let backing_name = raw.backing_name(&cluster, path)?;
        let extensions_end = match raw.backing_file_offset {
            0 => cluster.len() as u64,
            backing_name_at => backing_name_at,
        };
        let extensions = parse_extensions(&cluster, raw.header_length as usize, extensions_end, path)?;
        let find = |kind| extensions.iter().find(|extension: &&Extension| extension.kind == kind);
        let feature_names =
            find(EXTENSION_FEATURE_NAMES).map(|table| parse_feature_names(&table.data)).unwrap_or_default();
        let backing_format = find(EXTENSION_BACKING_FORMAT).map(|format| format.data.clone());
        raw.refuse_features(&feature_names, path)?;

        let header = Self {
            version: raw.version,
            backing_name,
            backing_format,
            cluster_bits: raw.cluster_bits,
            virtual_size: raw.size,
            l1_entries: u64::from(raw.l1_size),
            l1_offset: raw.l1_table_offset,
            refcount_table_offset: raw.refcount_table_offset,
            refcount_table_clusters: u64::from(raw.refcount_table_clusters),
            snapshot_count: raw.nb_snapshots,
            snapshots_offset: raw.snapshots_offset,
            incompatible: raw.incompatible_features,
            compatible: raw.compatible_features,
            autoclear: raw.autoclear_features,
            refcount_order: raw.refcount_order,
            header_length: raw.header_length,
            compression: raw.compression(&cluster, path)?,
            extensions,
            feature_names,
        };
        header.check_places(file_len, path)?;
        Ok(header)
    }

    /// Sizes and positions of the tables against the file and the limits.
    fn check_places(&self, file_len: u64, path: &Path) -> Result<(), Qcow2Error> {
        check_table(
            "L1 table",
            self.l1_offset,
            self.l1_entries * 8,
            MAX_L1_BYTES,
            self.cluster_bits,
            file_len,
        )
        .map_err(|problem| problem.at(path, 40))?;
        if self.has_extended_l2() && self.cluster_bits < 14 {
            return Err(bad(
                path,
                20,
                format!(
                    "expected cluster_bits of at least 14 with extended L2 entries, found {}",
                    self.cluster_bits
                ),
            ));
        }
        let cover_bits = self.l2_cover_bits();
        let needed = self.virtual_size.div_ceil(1u64 << cover_bits);
        if needed > self.l1_entries {
            return Err(bad(
                path,
                36,
                format!(
                    "expected an L1 table of at least {needed} entries for {} bytes, found {}",
                    self.virtual_size, self.l1_entries
                ),
            ));
        }
        if self.refcount_table_clusters == 0 {
            return Err(bad(path, 56, "expected a refcount table, found none".into()));
        }
        check_table(
            "refcount table",
            self.refcount_table_offset,
            self.refcount_table_clusters << self.cluster_bits,
            MAX_REFCOUNT_TABLE_BYTES,
            self.cluster_bits,
            file_len,
        )
        .map_err(|problem| problem.at(path, 48))
    }
}

/// The header fields as they stand in the image, named as in the specification; nothing is checked yet.
struct RawHeader {
    version: u32,
    backing_file_offset: u64,
    backing_file_size: u32,
    cluster_bits: u32,
    size: u64,
    crypt_method: u32,
    l1_size: u32,
    l1_table_offset: u64,
    refcount_table_offset: u64,
    refcount_table_clusters: u32,
    nb_snapshots: u32,
    snapshots_offset: u64,
    incompatible_features: u64,
    compatible_features: u64,
    autoclear_features: u64,
    refcount_order: u32,
    header_length: u32,
}

/// The error for a header field at byte `at`.
fn bad(path: &Path, at: usize, detail: String) -> Qcow2Error {
    damaged(path, "qcow2.header", at as u64, detail)
}

impl RawHeader {
    fn parse(head: &[u8], path: &Path) -> Result<Self, Qcow2Error> {
        let ends = |at: usize| {
            bad(
                path,
                at,
                format!("expected a header field, found the end of the file after {} bytes", head.len()),
            )
        };
        let u32_at = |at: usize| try_be_u32(head, at).ok_or_else(|| ends(at));
        let u64_at = |at: usize| try_be_u64(head, at).ok_or_else(|| ends(at));
        if head.get(..4) != Some(&MAGIC[..]) {
            let found = head.get(..4).unwrap_or(head).to_vec();
            return Err(Qcow2Error::NotQcow2 { path: path.to_owned(), found });
        }
        let version = u32_at(4)?;
        if !matches!(version, 2 | 3) {
            return Err(Qcow2Error::Version { path: path.to_owned(), found: version });
        }
        let is_v3 = version == 3;
        Ok(Self {
            version,
            backing_file_offset: u64_at(8)?,
            backing_file_size: u32_at(16)?,
            cluster_bits: u32_at(20)?,
            size: u64_at(AT_VIRTUAL_SIZE)?,
            crypt_method: u32_at(32)?,
            l1_size: u32_at(AT_L1_ENTRIES)?,
            l1_table_offset: u64_at(AT_L1_OFFSET)?,
            refcount_table_offset: u64_at(AT_REFCOUNT_TABLE_OFFSET)?,
            refcount_table_clusters: u32_at(AT_REFCOUNT_TABLE_CLUSTERS)?,
            nb_snapshots: u32_at(60)?,
            snapshots_offset: u64_at(64)?,
            incompatible_features: if is_v3 { u64_at(AT_INCOMPATIBLE)? } else { 0 },
            compatible_features: if is_v3 { u64_at(80)? } else { 0 },
            autoclear_features: if is_v3 { u64_at(AT_AUTOCLEAR)? } else { 0 },
            refcount_order: if is_v3 { u32_at(96)? } else { 4 },
            header_length: if is_v3 { u32_at(100)? } else { V2_HEADER_BYTES },
        })
    }

    /// The fields that everything else is measured with.
    fn check_shape(&self, path: &Path) -> Result<(), Qcow2Error> {
        if !(9..=21).contains(&self.cluster_bits) {
            return Err(bad(
                path,
                20,
                format!("expected cluster_bits of 9 to 21, found {}", self.cluster_bits),
            ));
        }
        let cluster_size = 1u32 << self.cluster_bits;
        if self.version == 3 && !(V3_HEADER_BYTES..=cluster_size).contains(&self.header_length) {
            return Err(bad(
                path,
                100,
                format!("expected a header_length of 104 to {cluster_size}, found {}", self.header_length),
            ));
        }
        if self.refcount_order > 6 {
            return Err(bad(
                path,
                96,
                format!("expected a refcount_order of 0 to 6, found {}", self.refcount_order),
            ));
        }
        Ok(())
    }

    fn backing_name(&self, cluster: &[u8], path: &Path) -> Result<Option<Vec<u8>>, Qcow2Error> {
        if self.backing_file_offset == 0 {
            return Ok(None);
        }
        let name = usize::try_from(self.backing_file_offset)
            .ok()
            .and_then(|start| cluster.get(start..start.checked_add(self.backing_file_size as usize)?));
        let is_behind_header = self.backing_file_offset >= u64::from(self.header_length);
        match name {
            Some(name) if is_behind_header && self.backing_file_size <= MAX_BACKING_NAME_BYTES => {
                Ok((!name.is_empty()).then(|| name.to_vec()))
            }
            _ => Err(bad(
                path,
                8,
                format!(
                    "expected a backing file name of at most {MAX_BACKING_NAME_BYTES} bytes behind the header in the first cluster, found {} bytes at {}",
                    self.backing_file_size, self.backing_file_offset
                ),
            )),
        }
    }

    /// Refuses what cannot even be read, by name.
    fn refuse_features(&self, names: &[FeatureName], path: &Path) -> Result<(), Qcow2Error> {
        let unknown = self.incompatible_features & !INCOMPATIBLE_KNOWN;
        if unknown != 0 {
            let names = names_of(unknown, names);
            return Err(Qcow2Error::UnknownFeatures { path: path.to_owned(), names });
        }
        let feature = match self.crypt_method {
            0 if self.incompatible_features & INCOMPATIBLE_DATA_FILE != 0 => Refused::ExternalDataFile,
            0 => return Ok(()),
            1 => Refused::AesEncryption,
            2 => Refused::LuksEncryption,
            other => return Err(bad(path, 32, format!("expected a crypt_method of 0 to 2, found {other}"))),
        };
        Err(Qcow2Error::Unsupported { path: path.to_owned(), feature })
    }

    fn compression(&self, cluster: &[u8], path: &Path) -> Result<Compression, Qcow2Error> {
        let has_field = self.header_length > V3_HEADER_BYTES;
        let compression_type =
            cluster.get(V3_HEADER_BYTES as usize).copied().filter(|_| has_field).unwrap_or(0);
        match (self.incompatible_features & INCOMPATIBLE_COMPRESSION != 0, compression_type) {
            (false, 0) => Ok(Compression::Zlib),
            (true, 1) => Ok(Compression::Zstd),
            (flagged, other) => Err(bad(
                path,
                104,
                format!(
                    "expected compression type 0 without or 1 with the compression bit, found {other} with the bit {}",
                    if flagged { "set" } else { "clear" }
                ),
            )),
        }
    }
}

/// Why a table cannot be where the image says.
pub(crate) enum TableProblem {
    TooLarge { what: &'static str, limit: u64, found: u64 },
    Misplaced { detail: String },
}

impl TableProblem {
    /// The error for a table whose place is given at `host_offset` of the image.
    pub fn at(self, path: &Path, host_offset: u64) -> Qcow2Error {
        match self {
            TableProblem::TooLarge { what, limit, found } => {
                Qcow2Error::Limit { path: path.to_owned(), what, limit, found }
            }
            TableProblem::Misplaced { detail } => damaged(path, "qcow2.table.misplaced", host_offset, detail),
        }
    }
}

/// A table of `len` bytes must be small enough, aligned, behind the header and inside the file.
pub(crate) fn check_table(
    what: &'static str,
    offset: u64,
    len: u64,
    limit: u64,
    cluster_bits: u32,
    file_len: u64,
) -> Result<(), TableProblem> {
    if len > limit {
        return Err(TableProblem::TooLarge { what, limit, found: len });
    }
    let inside = offset.checked_add(len).is_some_and(|end| end <= file_len);
    let is_placed = offset != 0 && offset.trailing_zeros() >= cluster_bits && inside;
    if len > 0 && !is_placed {
        return Err(TableProblem::Misplaced {
            detail: format!(
                "expected the {what} of {len} bytes aligned to {} inside the {file_len} bytes of the file, found it at {offset}",
                1u64 << cluster_bits
            ),
        });
    }
    Ok(())
}

/// The error for a contradiction inside the image.
pub(crate) fn damaged(path: &Path, code: &'static str, host_offset: u64, detail: String) -> Qcow2Error {
    Qcow2Error::Damaged { path: path.to_owned(), code, host_offset, detail }
}

fn parse_extensions(
    cluster: &[u8],
    start: usize,
    end: u64,
    path: &Path,
) -> Result<Vec<Extension>, Qcow2Error> {
    let end = usize::try_from(end).unwrap_or(usize::MAX).min(cluster.len());
    let mut extensions = Vec::new();
    let mut at = start;
    // Each round advances by at least 8 bytes inside one cluster.
    while let (Some(kind), Some(len)) = (try_be_u32(cluster, at), try_be_u32(cluster, at + 4)) {
        if at + 8 > end || kind == EXTENSION_END {
            break;
        }
        let data_start = at + 8;
        let data = data_start
            .checked_add(len as usize)
            .filter(|data_end| *data_end <= end)
            .and_then(|data_end| cluster.get(data_start..data_end));
        let Some(data) = data else {
            return Err(damaged(
                path,
                "qcow2.header.extension",
                at as u64,
                format!(
                    "expected header extension {kind:#010x} to end before byte {end}, found a length of {len}"
                ),
            ));
        };
        extensions.push(Extension { kind, host_offset: at as u64, data: data.to_vec() });
        at = data_start + data.len().next_multiple_of(8);
    }
    Ok(extensions)
}

fn parse_feature_names(table: &[u8]) -> Vec<FeatureName> {
    table
        .chunks_exact(FEATURE_NAME_BYTES)
        .filter_map(|entry| {
            let (kind, bit, name) = match entry {
                [kind, bit, name @ ..] => (*kind, *bit, name),
                _ => return None,
            };
            let kind = match kind {
                0 => FeatureKind::Incompatible,
                1 => FeatureKind::Compatible,
                2 => FeatureKind::Autoclear,
                _ => return None,
            };
            let name_len = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
            let name = String::from_utf8_lossy(name.get(..name_len)?).into_owned();
            (bit < 64).then_some(FeatureName { kind, bit, name })
        })
        .collect()
}

fn names_of(bits: u64, table: &[FeatureName]) -> String {
    let name = |bit: u8| {
        table
            .iter()
            .find(|entry| {
                entry.kind == FeatureKind::Incompatible && entry.bit == bit && !entry.name.is_empty()
            })
            .map_or_else(|| format!("bit {bit}"), |entry| format!("{} (bit {bit})", entry.name))
    };
    (0..64u8).filter(|bit| bits >> bit & 1 == 1).map(name).collect::<Vec<_>>().join(", ")
}
