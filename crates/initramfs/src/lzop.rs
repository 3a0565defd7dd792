//! lzop's file format, as `lib/decompress_unlzo.c` of the kernel reads it (big-endian).

use std::io::{self, Read};

const MAGIC: [u8; 9] = [0x89, b'L', b'Z', b'O', 0x00, 0x0d, 0x0a, 0x1a, 0x0a];
/// Header versions below this have no "version needed" and no level.
const VERSION_WITH_LEVEL: u16 = 0x0940;
const FLAG_ADLER32_UNPACKED: u32 = 0x0001;
const FLAG_ADLER32_STORED: u32 = 0x0002;
const FLAG_CRC32_UNPACKED: u32 = 0x0100;
const FLAG_CRC32_STORED: u32 = 0x0200;
const FLAG_EXTRA_FIELD: u32 = 0x0040;
const FLAG_FILTER: u32 = 0x0800;
/// The kernel's largest block is 256 KiB; lzop's own limit is 64 MiB.
const BLOCK_MAX: usize = 64 << 20;

/// Reads one lzop member.
pub(crate) struct LzopReader<'a> {
    rest: &'a [u8],
    flags: u32,
    block: Vec<u8>,
    at: usize,
    has_ended: bool,
}

impl<'a> LzopReader<'a> {
    /// `bytes` begin with the magic.
    pub(crate) fn new(bytes: &'a [u8]) -> io::Result<Self> {
        let mut fields = Fields(bytes);
        if fields.take(MAGIC.len())? != MAGIC {
            return Err(invalid("not lzop's magic"));
        }
        let version = fields.be_u16()?;
        fields.take(2)?; // library version
        if version >= VERSION_WITH_LEVEL {
            fields.take(2)?; // version needed
        }
        fields.take(1)?; // method: every LZO1X variant decodes alike
        if version >= VERSION_WITH_LEVEL {
            fields.take(1)?; // level
        }
        let flags = fields.be_u32()?;
        if flags & (FLAG_FILTER | FLAG_EXTRA_FIELD) != 0 {
            return Err(invalid("a filter or an extra field, which no kernel reads"));
        }
        fields.take(8)?; // mode, time
        if version >= VERSION_WITH_LEVEL {
            fields.take(4)?; // time, high half
        }
        let name_len = fields.take(1)?.first().copied().unwrap_or(0);
        fields.take(usize::from(name_len))?;
        fields.take(4)?; // checksum of the header
        Ok(Self { rest: fields.0, flags, block: Vec::new(), at: 0, has_ended: false })
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Unpacks the next block; false at the end mark.
    fn next_block(&mut self) -> io::Result<bool> {
        let mut fields = Fields(self.rest);
        let unpacked_len = fields.be_u32()? as usize;
        if unpacked_len == 0 {
            self.rest = fields.0;
            return Ok(false);
        }
        let stored_len = fields.be_u32()? as usize;
        if unpacked_len > BLOCK_MAX || stored_len > unpacked_len {
            return Err(invalid("block sizes out of range"));
        }
        let adler = (self.flags & FLAG_ADLER32_UNPACKED != 0).then(|| fields.be_u32()).transpose()?;
        let is_set = |flag| self.flags & flag != 0;
        fields.take(if is_set(FLAG_CRC32_UNPACKED) { 4 } else { 0 })?;
        if stored_len < unpacked_len {
            fields.take(if is_set(FLAG_ADLER32_STORED) { 4 } else { 0 })?;
            fields.take(if is_set(FLAG_CRC32_STORED) { 4 } else { 0 })?;
        }
        let stored = fields.take(stored_len)?;
        self.block.clear();
        if stored_len == unpacked_len {
            self.block.extend_from_slice(stored);
        } else {
            self.block.resize(unpacked_len, 0);
            let len = lzo::decompress_into(stored, &mut self.block)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            if len != unpacked_len {
                return Err(invalid("a block unpacks to another size than it says"));
            }
        }
        if adler.is_some_and(|expected| expected != adler32(&self.block)) {
            return Err(invalid("the checksum of a block does not match"));
        }
        self.at = 0;
        self.rest = fields.0;
        Ok(true)
    }
}

impl Read for LzopReader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.at == self.block.len() && !self.has_ended {
            self.has_ended = !self.next_block()?;
            if self.has_ended {
                self.block = Vec::new();
                self.at = 0;
            }
        }
        let len = self.block.get(self.at..).unwrap_or(&[]).read(buf)?;
        self.at += len;
        Ok(len)
    }
}

struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> io::Result<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len).ok_or_else(|| invalid("the stream ends early"))?;
        self.0 = rest;
        Ok(head)
    }

    fn be_u16(&mut self) -> io::Result<u16> {
        Ok(self.take(2)?.iter().fold(0, |value, byte| value << 8 | u16::from(*byte)))
    }

    fn be_u32(&mut self) -> io::Result<u32> {
        Ok(self.take(4)?.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)))
    }
}

/// Adler-32 (RFC 1950).
fn adler32(bytes: &[u8]) -> u32 {
    const MODULUS: u32 = 65521;
    let (mut low, mut high) = (1u32, 0u32);
    // 5552 bytes are the most that cannot overflow 32 bits.
    for chunk in bytes.chunks(5552) {
        for byte in chunk {
            low += u32::from(*byte);
            high += low;
        }
        low %= MODULUS;
        high %= MODULUS;
    }
    high << 16 | low
}

fn invalid(detail: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, detail)
}
