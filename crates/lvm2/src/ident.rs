//! Identifiers of LVM2: 32 characters, printed in groups of 6-4-4-4-4-4-6 (LVM2 `lib/uuid/uuid.c`).

use std::fmt;

/// UUID of a physical volume, a volume group or a logical volume.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LvmId([u8; 32]);

impl LvmId {
    /// From its 32 characters as a physical volume's header stores them.
    pub fn from_raw(raw: &[u8]) -> Option<Self> {
        let raw: [u8; 32] = raw.try_into().ok()?;
        // The alphabet has two signs beside letters and digits.
        let is_sign = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'!' | b'#');
        raw.iter().all(is_sign).then_some(Self(raw))
    }

    /// From the form with dashes, as metadata text has it; dashes may be missing.
    pub fn parse(text: &str) -> Option<Self> {
        let raw: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
        Self::from_raw(&raw)
    }
}

impl fmt::Display for LvmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 6 | 10 | 14 | 18 | 22 | 26) {
                f.write_str("-")?;
            }
            write!(f, "{}", char::from(*byte))?;
        }
        Ok(())
    }
}

impl fmt::Debug for LvmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;

    #[test]
    fn printed_and_stored_forms_agree() {
        let id = LvmId::parse("5yNG6b-7XUR-gZfq-BH6U-N8V9-Dwj8-zTIjGL").unwrap();
        assert_eq!(id, LvmId::from_raw(b"5yNG6b7XURgZfqBH6UN8V9Dwj8zTIjGL").unwrap());
        assert_eq!(id.to_string(), "5yNG6b-7XUR-gZfq-BH6U-N8V9-Dwj8-zTIjGL");
        for bad in ["", "5yNG6b-7XUR-gZfq-BH6U-N8V9-Dwj8-zTIjG", "5yNG6b-7XUR-gZfq-BH6U-N8V9-Dwj8-zTIj\0L"] {
            assert_eq!(LvmId::parse(bad), None, "{bad:?}");
        }
    }
}
