//! Which format an image file is in: given by the user, or recognised once at the top.

use std::fmt;

use block::{BlockError, ImageFile, ReadAt};
use serde::Serialize;

use crate::StackError;

/// Image formats that are read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageFormat {
    /// The virtual disk byte for byte.
    Raw,
    /// qcow2, version 2 or 3.
    Qcow2,
    /// VHD, fixed or dynamic.
    Vhd,
}

impl fmt::Display for ImageFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ImageFormat::Raw => "raw",
            ImageFormat::Qcow2 => "qcow2",
            ImageFormat::Vhd => "vhd",
        })
    }
}

/// What the bytes of a file look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Recognised {
    /// A format that is handled. Everything without another format's magic counts as raw.
    Format(ImageFormat),
    /// A format that is only known by name.
    Unsupported(&'static str),
}

/// Where a magic stands and what it means.
const KNOWN: &[(&str, u64, &[u8])] = &[
    ("VMDK (sparse)", 0, b"KDMV"),
    ("VMDK (ESX sparse)", 0, b"COWD"),
    ("VMDK (descriptor)", 0, b"# Disk DescriptorFile"),
    ("VHDX", 0, b"vhdxfile"),
    ("VDI", 64, b"\x7f\x10\xda\xbe"),
    ("qcow version 1", 0, b"QFI\xfb\x00\x00\x00\x01"),
    ("QED", 0, b"QED\0"),
    ("Parallels", 0, b"WithoutFreeSpace"),
    ("Parallels", 0, b"WithouFreSpacExt"),
    ("gzip-compressed image", 0, b"\x1f\x8b\x08"),
    ("xz-compressed image", 0, b"\xfd7zXZ\0"),
    ("zstd-compressed image", 0, b"\x28\xb5\x2f\xfd"),
    ("bzip2-compressed image", 0, b"BZh"),
    ("lz4-compressed image", 0, b"\x04\x22\x4d\x18"),
    ("ZIP archive", 0, b"PK\x03\x04"),
    ("7z archive", 0, b"7z\xbc\xaf\x27\x1c"),
    ("tar archive (OVA?)", 257, b"ustar"),
];

/// Footers, by their distance from the end of the file.
const KNOWN_AT_END: &[(&str, u64, &[u8])] = &[("DMG", 512, b"koly")];

/// Recognises the format of a file that the user named without a format.
fn recognise(file: &dyn ReadAt) -> Result<Recognised, BlockError> {
    let mut head = [0; 8];
    if file.len() >= head.len() as u64 {
        file.read_exact_at(&mut head, 0)?;
    }
    if qcow2::Qcow2::probe(&head) {
        return Ok(Recognised::Format(ImageFormat::Qcow2));
    }
    let at_end = KNOWN_AT_END
        .iter()
        .filter_map(|(name, distance, magic)| Some((*name, file.len().checked_sub(*distance)?, *magic)));
    for (name, offset, magic) in KNOWN.iter().copied().chain(at_end) {
        let mut found = vec![0; magic.len()];
        if offset.checked_add(magic.len() as u64).is_some_and(|end| end <= file.len()) {
            file.read_exact_at(&mut found, offset)?;
            if found == magic {
                return Ok(Recognised::Unsupported(name));
            }
        }
    }
    let is_vhd = vhd::probe(file)?.is_some();
    Ok(Recognised::Format(if is_vhd { ImageFormat::Vhd } else { ImageFormat::Raw }))
}

/// The format of an image: what the user says, else what its bytes say. Other formats are refused by name.
pub fn format_of(file: &ImageFile, given: Option<ImageFormat>) -> Result<ImageFormat, StackError> {
    if let Some(format) = given {
        return Ok(format);
    }
    match recognise(file)? {
        Recognised::Format(format) => Ok(format),
        Recognised::Unsupported(format) => Err(StackError::Format { path: file.path().to_owned(), format }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use block::MemoryDevice;

    fn recognise_bytes(bytes: &[u8]) -> Recognised {
        recognise(&MemoryDevice::new(bytes.to_vec())).unwrap()
    }

    #[test]
    fn formats_are_told_apart() {
        assert_eq!(recognise_bytes(b""), Recognised::Format(ImageFormat::Raw));
        assert_eq!(recognise_bytes(&[0; 4096]), Recognised::Format(ImageFormat::Raw));
        assert_eq!(recognise_bytes(b"QFI\xfb\0\0\0\x03rest"), Recognised::Format(ImageFormat::Qcow2));
        for (name, offset, magic) in KNOWN {
            let mut bytes = vec![0; 2048];
            bytes[*offset as usize..][..magic.len()].copy_from_slice(magic);
            assert_eq!(recognise_bytes(&bytes), Recognised::Unsupported(name));
        }
        let mut fixed = vec![0; 2048 + 512];
        fixed[2048..2056].copy_from_slice(b"conectix");
        assert_eq!(recognise_bytes(&fixed), Recognised::Format(ImageFormat::Vhd));
        fixed.rotate_left(2048);
        assert_eq!(recognise_bytes(&fixed), Recognised::Format(ImageFormat::Vhd));
    }
}
