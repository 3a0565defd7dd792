//! Records of the log: headers, the cycle numbers put back, checksums (`xlog_rec_header`, `xlog_cksum`).

use ondisk::{be_u32, be_u64, crc32c_raw, le_u32};

use super::{LogPlace, RECORD_MAGIC};
use crate::error::{Result, corrupt, unsupported};
use crate::fs::Xfs;

const SECTOR: usize = 512;
/// Sectors whose first words fit one header.
const WORDS: usize = 64;
/// Bytes of the header and of those that follow it, as far as the checksum goes; 32-bit hosts have four less.
const HEADER: usize = 328;
const HEADER_32: usize = 324;
const NEXT_HEADER: usize = 260;
/// Bytes of a record at most: log buffers have up to 256 KiB; old mkfs wrote slightly more than it said.
const MOST: u64 = 1 << 20;

/// One record.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub at: u64,
    pub cycle: u32,
    pub lsn: u64,
    pub tail: u64,
    /// Sectors with headers.
    pub headers: u64,
    pub operations: u32,
    len: u64,
    /// The data, its first words put back; empty when only the header was read.
    pub data: Vec<u8>,
    /// The checksum does not fit.
    pub is_torn: bool,
}

impl Record {
    /// Reads the header at a sector.
    pub fn header(fs: &Xfs, place: LogPlace, at: u64) -> Result<Self> {
        let raw = fs.log_sector(place, at)?;
        let wrong = |detail: String| corrupt("xfs.log.record", format!("log sector {at}"), detail);
        if be_u32(&raw, 0) != RECORD_MAGIC {
            return Err(wrong("no record begins there".into()));
        }
        let (version, len, size) =
            (be_u32(&raw, 8), u64::from(be_u32(&raw, 12)), u64::from(be_u32(&raw, 320)));
        if version & !3 != 0 || len == 0 || len > MOST || size > MOST {
            return Err(wrong(format!("version {version}, {len} bytes of {size}")));
        }
        match be_u32(&raw, 300) {
            0 | 1 => {}
            format => {
                let detail = format!(": format {format}");
                return Err(unsupported(
                    "xfs.log.format",
                    "a log of a machine with another byte order",
                    detail,
                ));
            }
        }
        if raw[304..320] != fs.superblock.user_uuid() && raw[304..320] != [0; 16] {
            return Err(unsupported("xfs.log.uuid", "a log of another filesystem", ""));
        }
        let headers = if version & 2 != 0 { size.div_ceil(32768).max(1) } else { 1 };
        Ok(Self {
            at,
            cycle: be_u32(&raw, 4),
            lsn: be_u64(&raw, 16),
            tail: be_u64(&raw, 24),
            headers,
            operations: be_u32(&raw, 40),
            len,
            data: Vec::new(),
            is_torn: false,
        })
    }

    /// Sector behind the record.
    pub fn end(&self, place: LogPlace) -> u64 {
        (self.at + self.headers + self.len.div_ceil(SECTOR as u64)) % place.sectors
    }

    /// Reads all of a record.
    pub fn read(fs: &Xfs, place: LogPlace, at: u64) -> Result<Self> {
        let mut record = Self::header(fs, place, at)?;
        let sectors = record.len.div_ceil(SECTOR as u64);
        if record.headers + sectors > place.sectors || sectors > record.headers * WORDS as u64 {
            let detail = format!("{} bytes with {} headers", record.len, record.headers);
            return Err(corrupt("xfs.log.record", format!("log sector {at}"), detail));
        }
        let headers = fs.log_sectors(place, at, record.headers)?;
        let mut data = fs.log_sectors(place, at + record.headers, sectors)?;
        let stored = le_u32(&headers, 32);
        record.is_torn = stored != 0
            && ![HEADER, HEADER_32].iter().any(|len| checksum(&headers, *len, &data, record.len) == stored);
        for (index, sector) in data.chunks_exact_mut(SECTOR).enumerate() {
            let header = index / WORDS * SECTOR;
            let word = header + if header == 0 { 44 } else { 4 } + index % WORDS * 4;
            sector[..4].copy_from_slice(&headers[word..word + 4]);
        }
        data.truncate(record.len as usize);
        record.data = data;
        Ok(record)
    }
}

fn checksum(headers: &[u8], header_len: usize, data: &[u8], len: u64) -> u32 {
    let mut state = crc32c_raw(!0, &headers[..32]);
    state = crc32c_raw(state, &[0; 4]);
    state = crc32c_raw(state, &headers[36..header_len]);
    for index in 1..(len as usize).div_ceil(32768) {
        let next = headers.get(index * SECTOR..index * SECTOR + NEXT_HEADER);
        state = crc32c_raw(state, next.unwrap_or_default());
    }
    !crc32c_raw(state, data.get(..len as usize).unwrap_or_default())
}
