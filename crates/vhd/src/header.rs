//! The dynamic header, which says where the block allocation table is.

use ondisk::{be_u32, be_u64, put_be_u32, put_be_u64};

use crate::footer::{VERSION, checksum};

const COOKIE: &[u8; 8] = b"cxsparse";
/// Bytes of the header.
pub(crate) const HEADER_BYTES: usize = 1024;
const CHECKSUM_AT: usize = 36;

/// The dynamic header, as far as images without a parent use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DynamicHeader {
    /// Position of the block allocation table, bytes.
    pub table_offset: u64,
    /// Format version.
    pub version: u32,
    /// Entries of the table.
    pub entries: u32,
    /// Guest bytes of a block.
    pub block_size: u32,
}

impl DynamicHeader {
    /// A header of version 1.0.
    pub fn new(table_offset: u64, entries: u32, block_size: u32) -> Self {
        Self { table_offset, version: VERSION, entries, block_size }
    }

    /// Parses a header; the text says what is wrong with it.
    pub(crate) fn parse(raw: &[u8; HEADER_BYTES]) -> Result<Self, String> {
        if !raw.starts_with(COOKIE) {
            return Err(format!(
                "expected the dynamic header (\"cxsparse\"), found {:02x?}",
                raw.get(..8).unwrap_or_default()
            ));
        }
        let stored = be_u32(raw, CHECKSUM_AT);
        let computed = checksum(raw, CHECKSUM_AT);
        if stored != computed {
            return Err(format!("checksum of the dynamic header: expected {computed:#x}, found {stored:#x}"));
        }
        Ok(Self {
            table_offset: be_u64(raw, 16),
            version: be_u32(raw, 24),
            entries: be_u32(raw, 28),
            block_size: be_u32(raw, 32),
        })
    }

    /// The 1024 bytes.
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut raw = [0; HEADER_BYTES];
        raw[..8].copy_from_slice(COOKIE);
        put_be_u64(&mut raw, 8, u64::MAX); // reserved for a further header
        put_be_u64(&mut raw, 16, self.table_offset);
        put_be_u32(&mut raw, 24, self.version);
        put_be_u32(&mut raw, 28, self.entries);
        put_be_u32(&mut raw, 32, self.block_size);
        let sum = checksum(&raw, CHECKSUM_AT);
        put_be_u32(&mut raw, CHECKSUM_AT, sum);
        raw
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_survives_the_way_through_its_bytes() {
        let header = DynamicHeader::new(1536, 10, 2 << 20);
        let raw = header.to_bytes();
        assert_eq!(DynamicHeader::parse(&raw).unwrap(), header);
        for at in 0..HEADER_BYTES {
            let mut damaged = raw;
            damaged[at] ^= 0x10;
            assert!(DynamicHeader::parse(&damaged).is_err(), "byte {at}");
        }
    }
}
