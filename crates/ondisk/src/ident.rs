//! 16-byte identifiers and how they are written.

use std::fmt;
use std::str::FromStr;

/// A UUID in the byte order in which it is printed (filesystems, LVM aside).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Uuid(pub [u8; 16]);

/// A GUID as GPT stores it: the first three fields little-endian (UEFI 2.10, appendix A).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Guid(pub [u8; 16]);

impl Uuid {
    /// True when every byte is zero.
    pub fn is_nil(&self) -> bool {
        self.0 == [0; 16]
    }
}

impl Guid {
    /// True when every byte is zero.
    pub fn is_nil(&self) -> bool {
        self.0 == [0; 16]
    }

    fn swapped(mut raw: [u8; 16]) -> [u8; 16] {
        raw[0..4].reverse();
        raw[4..6].reverse();
        raw[6..8].reverse();
        raw
    }
}

fn print(raw: &[u8; 16], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (index, byte) in raw.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            f.write_str("-")?;
        }
        write!(f, "{byte:02x}")?;
    }
    Ok(())
}

fn parse(text: &str) -> Option<[u8; 16]> {
    if text.len() != 36 || !text.is_ascii() {
        return None;
    }
    let mut raw = [0u8; 16];
    let mut digits = text
        .bytes()
        .enumerate()
        .filter(|(index, byte)| !(matches!(index, 8 | 13 | 18 | 23) && *byte == b'-'));
    for slot in &mut raw {
        let high = (digits.next()?.1 as char).to_digit(16)?;
        let low = (digits.next()?.1 as char).to_digit(16)?;
        *slot = (high << 4 | low) as u8;
    }
    digits.next().is_none().then_some(raw)
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(&self.0, f)
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(&self.0, f)
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(&Self::swapped(self.0), f)
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not an identifier of the form `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseIdentError;

impl fmt::Display for ParseIdentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not of the form xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx")
    }
}

impl std::error::Error for ParseIdentError {}

impl FromStr for Uuid {
    type Err = ParseIdentError;
    fn from_str(text: &str) -> Result<Self, ParseIdentError> {
        parse(text).map(Uuid).ok_or(ParseIdentError)
    }
}

impl FromStr for Guid {
    type Err = ParseIdentError;
    fn from_str(text: &str) -> Result<Self, ParseIdentError> {
        parse(text).map(|raw| Guid(Guid::swapped(raw))).ok_or(ParseIdentError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guid_swaps_its_first_three_fields() {
        let text = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
        let guid: Guid = text.parse().unwrap();
        assert_eq!(guid.0[..4], [0x28, 0x73, 0x2a, 0xc1]);
        assert_eq!(guid.to_string(), text);
        let uuid: Uuid = text.parse().unwrap();
        assert_eq!(uuid.0[..4], [0xc1, 0x2a, 0x73, 0x28]);
        assert_eq!(uuid.to_string(), text);
    }

    #[test]
    fn wrong_forms_are_refused() {
        for text in [
            "",
            "c12a7328-f81f-11d2-ba4b-00a0c93ec93",
            "c12a7328xf81f-11d2-ba4b-00a0c93ec93b",
            "-----------------------------------x",
        ] {
            assert!(text.parse::<Uuid>().is_err(), "{text}");
        }
    }
}
