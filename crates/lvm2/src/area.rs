//! Metadata areas: a header sector and a ring of texts (LVM2 `lib/format_text/layout.h`, `format-text.c`).

use std::fmt;
use std::sync::Arc;

use block::ReadAt;
use ondisk::{le_u32, le_u64};

use crate::Lvm2Error;
use crate::label::{crc, read};
use crate::text::MAX_BYTES;

/// The header's sector; texts wrap to the byte behind it.
const HEADER: u64 = 512;
const MAGIC: &[u8; 16] = b" LVM2 x[5A%r0N*>";
/// `RAW_LOCN_IGNORED`
const IGNORED: u32 = 1;

/// One metadata area of a physical volume.
#[derive(Debug, Clone)]
pub struct MetadataArea {
    /// First byte on the device.
    pub start: u64,
    /// Bytes with the header.
    pub size: u64,
    /// What is in it.
    pub state: AreaState,
}

/// Content of a metadata area.
#[derive(Clone)]
pub enum AreaState {
    /// No text was ever written.
    Empty,
    /// Set aside (`pvchange --metadataignore`): what stands there may be old and does not count.
    Ignored,
    /// The committed text, its checksum right.
    Text(Arc<[u8]>),
    /// Not usable.
    Damaged {
        /// Stable code below `lvm2.`.
        code: &'static str,
        /// Expected and found.
        detail: String,
    },
}

impl fmt::Debug for AreaState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AreaState::Empty => f.write_str("Empty"),
            AreaState::Ignored => f.write_str("Ignored"),
            AreaState::Text(text) => write!(f, "Text({} bytes)", text.len()),
            AreaState::Damaged { code, detail } => write!(f, "Damaged({code}: {detail})"),
        }
    }
}

impl MetadataArea {
    pub(crate) fn unread(start: u64, size: u64) -> Self {
        Self { start, size, state: AreaState::Empty }
    }

    pub(crate) fn read(&mut self, device: &dyn ReadAt) -> Result<(), Lvm2Error> {
        self.state = self.look(device)?;
        Ok(())
    }

    fn look(&self, device: &dyn ReadAt) -> Result<AreaState, Lvm2Error> {
        let wrong = |code, detail: String| Ok(AreaState::Damaged { code, detail });
        let place = "lvm2.metadata.place";
        if self.start.checked_add(self.size).is_none_or(|end| end > device.len()) || self.size < 2 * HEADER {
            let (size, len) = (self.size, device.len());
            return wrong(place, format!("{size} bytes do not lie on the device of {len}"));
        }
        let Some(header) = read(device, self.start, HEADER as usize)? else {
            return wrong(place, "behind the device".into());
        };
        let (stored, computed) = (le_u32(&header, 0), crc(&header[4..]));
        if stored != computed {
            let detail = format!("header checksum {stored:#010x}, computed {computed:#010x}");
            return wrong("lvm2.metadata.header-checksum", detail);
        }
        let version = le_u32(&header, 20);
        if header[4..20] != MAGIC[..] || version != 1 {
            return wrong("lvm2.metadata.header", format!("no header of version 1 (version {version})"));
        }
        let own = (le_u64(&header, 24), le_u64(&header, 32));
        if own != (self.start, self.size) {
            let detail = format!("the header says {} bytes at {}, the label {}", own.1, own.0, self.size);
            return wrong(place, detail);
        }
        // The second location is a text that was written and not committed.
        let (offset, size) = (le_u64(&header, 40), le_u64(&header, 48));
        let (checksum, flags) = (le_u32(&header, 56), le_u32(&header, 60));
        if flags & IGNORED != 0 {
            return Ok(AreaState::Ignored);
        }
        if offset == 0 {
            return Ok(AreaState::Empty);
        }
        if offset < HEADER || offset >= self.size || size == 0 || size > self.size - HEADER {
            return wrong(place, format!("text of {size} bytes at {offset} does not lie in the area"));
        }
        if size > MAX_BYTES as u64 {
            return wrong("lvm2.metadata.too-large", format!("{size} bytes are more than {MAX_BYTES}"));
        }
        let text = self.joined(device, offset, size)?;
        let computed = crc(&text);
        if checksum != computed {
            let detail = format!("text checksum {checksum:#010x}, computed {computed:#010x}");
            return wrong("lvm2.metadata.checksum", detail);
        }
        Ok(AreaState::Text(text.into()))
    }

    /// The text, whose part behind the area's end stands behind its header.
    fn joined(&self, device: &dyn ReadAt, offset: u64, size: u64) -> Result<Vec<u8>, Lvm2Error> {
        let mut text = vec![0; size as usize];
        let first = size.min(self.size - offset);
        let (head, wrapped) = text.split_at_mut(first as usize);
        device.read_exact_at(head, self.start + offset)?;
        if !wrapped.is_empty() {
            device.read_exact_at(wrapped, self.start + HEADER)?;
        }
        Ok(text)
    }
}
