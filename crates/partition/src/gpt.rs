//! GPT headers and entry arrays (UEFI 2.10, chapter 5.3).

use std::collections::BTreeMap;

use block::ReadAt;
use ondisk::{Guid, crc32_ieee, le_u32, le_u64, put_le_u32, put_le_u64};

use crate::{CopyFault, PartitionError};

const SIGNATURE: &[u8; 8] = b"EFI PART";
const REVISION: u32 = 0x0001_0000;
/// Fields end here; `header_size` may be larger.
const HEADER_MIN_BYTES: u32 = 92;
const ENTRY_MIN_BYTES: u32 = 128;
const ENTRY_MAX_BYTES: u32 = 4096;
/// Entry arrays above this size are refused; the kernel's own limit is its largest `kmalloc`.
const ARRAY_MAX_BYTES: u64 = 4 << 20;
const NAME_AT: usize = 56;
const NAME_BYTES: usize = 72;

/// Type GUID of a BIOS boot partition.
pub const TYPE_BIOS_BOOT: &str = "21686148-6449-6e6f-744e-656564454649";
/// Type GUID of an EFI system partition.
pub const TYPE_ESP: &str = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";

/// Which of the two copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GptCopyKind {
    /// At LBA 1.
    Primary,
    /// At the last LBA, or where the primary header says.
    Backup,
}

impl GptCopyKind {
    /// `primary` or `backup`.
    pub fn name(self) -> &'static str {
        match self {
            GptCopyKind::Primary => "primary",
            GptCopyKind::Backup => "backup",
        }
    }
}

/// Fields of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GptHeader {
    /// 1.0 as 0x00010000.
    pub revision: u32,
    /// Bytes that the header's CRC covers.
    pub header_size: u32,
    /// Where this header stands.
    pub my_lba: u64,
    /// Where the other header stands.
    pub alternate_lba: u64,
    /// First LBA for partitions.
    pub first_usable_lba: u64,
    /// Last LBA for partitions.
    pub last_usable_lba: u64,
    /// Unique GUID of the disk.
    pub disk_guid: Guid,
    /// Start of the entry array.
    pub entries_lba: u64,
    /// Entries in the array, used or not.
    pub entry_count: u32,
    /// Bytes per entry.
    pub entry_size: u32,
}

/// A used entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GptEntry {
    /// Partition number: position in the array, counted from 1.
    pub number: u32,
    /// What kind of partition.
    pub type_guid: Guid,
    /// The partition's own GUID: its PARTUUID.
    pub unique_guid: Guid,
    /// First LBA.
    pub first_lba: u64,
    /// Last LBA, included.
    pub last_lba: u64,
    /// Attribute bits.
    pub attributes: u64,
    /// Name, UTF-16LE as stored.
    pub raw_name: [u8; NAME_BYTES],
}

impl GptEntry {
    /// The name up to its first NUL, lossily decoded.
    pub fn name(&self) -> String {
        let units = self.raw_name.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
        char::decode_utf16(units.take_while(|unit| *unit != 0))
            .map(|character| character.unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect()
    }
}

/// One valid copy: both checksums hold. Bytes without a meaning known here are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GptCopy {
    /// Parsed header.
    pub header: GptHeader,
    /// Used entries in the order of their numbers.
    pub entries: Vec<GptEntry>,
    raw_header: Vec<u8>,
    raw_entries: Vec<u8>,
}

/// The bytes of one copy and where they belong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedCopy {
    /// Byte position of the header's sector.
    pub header_offset: u64,
    /// The header's whole sector.
    pub header: Vec<u8>,
    /// Byte position of the entry array.
    pub entries_offset: u64,
    /// The whole entry array.
    pub entries: Vec<u8>,
}

impl GptCopy {
    /// Reads and verifies the copy whose header stands at `header_lba`.
    pub(crate) fn read(
        disk: &dyn ReadAt,
        sector_size: u32,
        kind: GptCopyKind,
        header_lba: u64,
    ) -> Result<Result<Self, CopyFault>, PartitionError> {
        let fault = |code, detail: String| CopyFault { code, copy: kind.name(), header_lba, detail };
        let disk_sectors = disk.len() / u64::from(sector_size);
        if header_lba == 0 || header_lba >= disk_sectors {
            return Ok(Err(fault("gpt.header.range", format!("the disk has {disk_sectors} sectors"))));
        }
        let mut raw_header = vec![0; sector_size as usize];
        disk.read_exact_at(&mut raw_header, header_lba * u64::from(sector_size))?;
        let header = match parse_header(&raw_header, header_lba, disk_sectors) {
            Ok(header) => header,
            Err((code, detail)) => return Ok(Err(fault(code, detail))),
        };
        let array_bytes = u64::from(header.entry_count) * u64::from(header.entry_size);
        let place = header
            .entries_lba
            .checked_mul(u64::from(sector_size))
            .filter(|at| at.checked_add(array_bytes).is_some_and(|end| end <= disk.len()));
        let Some(entries_offset) = place else {
            let detail =
                format!("{array_bytes} bytes of entries at LBA {} do not fit the disk", header.entries_lba);
            return Ok(Err(fault("gpt.entries.range", detail)));
        };
        let mut raw_entries = vec![0; array_bytes as usize];
        disk.read_exact_at(&mut raw_entries, entries_offset)?;
        let (expected, found) = (le_u32(&raw_header, 88), crc32_ieee(&raw_entries));
        if expected != found {
            let detail = format!("entry array CRC: {expected:#010x} stored, {found:#010x} computed");
            return Ok(Err(fault("gpt.entries.crc", detail)));
        }
        let entries = raw_entries
            .chunks_exact(header.entry_size as usize)
            .zip(1..)
            .filter_map(|(raw, number)| parse_entry(raw, number))
            .collect();
        Ok(Ok(Self { header, entries, raw_header, raw_entries }))
    }

    /// The bytes of this copy as its fields say, with both checksums computed.
    ///
    /// Unknown bytes are as read; of a copy that was not changed every byte is as read.
    pub fn encode(&self) -> EncodedCopy {
        let header = &self.header;
        let mut raw_entries = self.raw_entries.clone();
        let used: BTreeMap<u32, &GptEntry> = self.entries.iter().map(|entry| (entry.number, entry)).collect();
        for (slot, number) in
            raw_entries.chunks_exact_mut(header.entry_size.max(ENTRY_MIN_BYTES) as usize).zip(1..)
        {
            match used.get(&number) {
                Some(entry) => put_entry(slot, entry),
                // An entry that was used and is not any more is cleared, an unused one stays as it is.
                None if parse_entry(slot, number).is_some() => slot.fill(0),
                None => {}
            }
        }
        let mut raw = self.raw_header.clone();
        raw[0..8].copy_from_slice(SIGNATURE);
        put_le_u32(&mut raw, 8, header.revision);
        put_le_u32(&mut raw, 12, header.header_size);
        put_le_u64(&mut raw, 24, header.my_lba);
        put_le_u64(&mut raw, 32, header.alternate_lba);
        put_le_u64(&mut raw, 40, header.first_usable_lba);
        put_le_u64(&mut raw, 48, header.last_usable_lba);
        raw[56..72].copy_from_slice(&header.disk_guid.0);
        put_le_u64(&mut raw, 72, header.entries_lba);
        put_le_u32(&mut raw, 80, header.entry_count);
        put_le_u32(&mut raw, 84, header.entry_size);
        put_le_u32(&mut raw, 88, crc32_ieee(&raw_entries));
        let crc = header_crc(&raw, header.header_size);
        put_le_u32(&mut raw, 16, crc);
        let sector_size = raw.len() as u64;
        EncodedCopy {
            header_offset: header.my_lba.saturating_mul(sector_size),
            header: raw,
            entries_offset: header.entries_lba.saturating_mul(sector_size),
            entries: raw_entries,
        }
    }

    /// The same copy with the entry array of `other`, bytes without a known meaning included.
    pub(crate) fn with_raw_entries_of(mut self, other: &GptCopy) -> Self {
        self.raw_entries.clone_from(&other.raw_entries);
        self
    }

    /// The header's sector as stored.
    pub fn raw_header(&self) -> &[u8] {
        &self.raw_header
    }

    /// The entry array as stored.
    pub fn raw_entries(&self) -> &[u8] {
        &self.raw_entries
    }
}

/// Both copies of a GPT; at least one is valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpt {
    /// Which copy the partitions come from.
    pub used: GptCopyKind,
    /// That copy.
    pub copy: GptCopy,
    /// The other copy, or what is wrong with it.
    pub other: Result<GptCopy, CopyFault>,
}

/// True when the sector at `lba` begins like a GPT header.
pub(crate) fn has_signature(disk: &dyn ReadAt, sector_size: u32, lba: u64) -> Result<bool, PartitionError> {
    let mut start = [0; 8];
    match lba.checked_mul(u64::from(sector_size)).filter(|at| at.saturating_add(8) <= disk.len()) {
        Some(at) => disk.read_exact_at(&mut start, at)?,
        None => return Ok(false),
    }
    Ok(&start == SIGNATURE)
}

/// Where an invalid primary header says that the backup stands: worth a look, nothing more.
pub(crate) fn alternate_hint(disk: &dyn ReadAt, sector_size: u32) -> Result<Option<u64>, PartitionError> {
    let mut raw = [0; HEADER_MIN_BYTES as usize];
    if u64::from(sector_size) + raw.len() as u64 > disk.len() {
        return Ok(None);
    }
    disk.read_exact_at(&mut raw, u64::from(sector_size))?;
    Ok((&raw[0..8] == SIGNATURE).then(|| le_u64(&raw, 32)))
}

fn header_crc(raw: &[u8], header_size: u32) -> u32 {
    let mut covered = raw.get(..header_size as usize).unwrap_or(raw).to_vec();
    if let Some(stored) = covered.get_mut(16..20) {
        stored.fill(0);
    }
    crc32_ieee(&covered)
}

fn parse_header(raw: &[u8], at_lba: u64, disk_sectors: u64) -> Result<GptHeader, (&'static str, String)> {
    if &raw[0..8] != SIGNATURE {
        return Err(("gpt.header.signature", "no \"EFI PART\" there".into()));
    }
    let header = GptHeader {
        revision: le_u32(raw, 8),
        header_size: le_u32(raw, 12),
        my_lba: le_u64(raw, 24),
        alternate_lba: le_u64(raw, 32),
        first_usable_lba: le_u64(raw, 40),
        last_usable_lba: le_u64(raw, 48),
        disk_guid: guid(raw, 56),
        entries_lba: le_u64(raw, 72),
        entry_count: le_u32(raw, 80),
        entry_size: le_u32(raw, 84),
    };
    if header.header_size < HEADER_MIN_BYTES || header.header_size as usize > raw.len() {
        let detail =
            format!("header size {}, expected {HEADER_MIN_BYTES} to {}", header.header_size, raw.len());
        return Err(("gpt.header.size", detail));
    }
    let (stored, computed) = (le_u32(raw, 16), header_crc(raw, header.header_size));
    if stored != computed {
        return Err((
            "gpt.header.crc",
            format!("header CRC: {stored:#010x} stored, {computed:#010x} computed"),
        ));
    }
    if header.revision >> 16 != REVISION >> 16 {
        return Err(("gpt.header.revision", format!("revision {:#010x}, expected 1.x", header.revision)));
    }
    if header.my_lba != at_lba {
        return Err(("gpt.header.my-lba", format!("says that it stands at LBA {}", header.my_lba)));
    }
    let (first, last) = (header.first_usable_lba, header.last_usable_lba);
    if first > last.saturating_add(1) || first >= disk_sectors || last >= disk_sectors {
        let detail = format!("usable LBAs {first} to {last} do not fit a disk of {disk_sectors} sectors");
        return Err(("gpt.header.usable-range", detail));
    }
    let is_entry_size = header.entry_size.is_power_of_two()
        && (ENTRY_MIN_BYTES..=ENTRY_MAX_BYTES).contains(&header.entry_size);
    if !is_entry_size {
        let detail = format!(
            "entry size {}, expected a power of two from {ENTRY_MIN_BYTES} to {ENTRY_MAX_BYTES}",
            header.entry_size
        );
        return Err(("gpt.entries.size", detail));
    }
    let array_bytes = u64::from(header.entry_count) * u64::from(header.entry_size);
    if array_bytes == 0 || array_bytes > ARRAY_MAX_BYTES {
        let detail = format!("{} entries, {array_bytes} bytes, limit {ARRAY_MAX_BYTES}", header.entry_count);
        return Err(("gpt.entries.count", detail));
    }
    Ok(header)
}

fn guid(raw: &[u8], at: usize) -> Guid {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&raw[at..at + 16]);
    Guid(bytes)
}

/// `raw` has at least [`ENTRY_MIN_BYTES`].
fn parse_entry(raw: &[u8], number: u32) -> Option<GptEntry> {
    let type_guid = guid(raw, 0);
    if type_guid.is_nil() {
        return None;
    }
    let mut raw_name = [0; NAME_BYTES];
    raw_name.copy_from_slice(&raw[NAME_AT..NAME_AT + NAME_BYTES]);
    Some(GptEntry {
        number,
        type_guid,
        unique_guid: guid(raw, 16),
        first_lba: le_u64(raw, 32),
        last_lba: le_u64(raw, 40),
        attributes: le_u64(raw, 48),
        raw_name,
    })
}

fn put_entry(raw: &mut [u8], entry: &GptEntry) {
    raw[0..16].copy_from_slice(&entry.type_guid.0);
    raw[16..32].copy_from_slice(&entry.unique_guid.0);
    put_le_u64(raw, 32, entry.first_lba);
    put_le_u64(raw, 40, entry.last_lba);
    put_le_u64(raw, 48, entry.attributes);
    raw[NAME_AT..NAME_AT + NAME_BYTES].copy_from_slice(&entry.raw_name);
}
