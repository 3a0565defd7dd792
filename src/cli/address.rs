//! `IMAGE:/path`: a file inside a guest.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use vfs::GuestPath;

/// An image and a path inside its guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Host path of the image.
    pub image: PathBuf,
    /// Path inside the guest.
    pub path: GuestPath,
}

/// A path on the host, or one inside an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Host path; `-` is standard input or output.
    Host(PathBuf),
    /// Path inside a guest.
    Guest(Address),
}

/// Splits `IMAGE:/path` at the first `:/` before which the name of an existing file stands, else at the
/// first `:/` at all.
fn split(text: &OsStr) -> Option<(PathBuf, &[u8])> {
    let bytes = text.as_bytes();
    let cuts: Vec<usize> =
        bytes.windows(2).enumerate().filter(|(_, pair)| *pair == b":/").map(|(at, _)| at).collect();
    let image = |at: usize| Path::new(OsStr::from_bytes(&bytes[..at])).to_owned();
    let cut = cuts.iter().copied().find(|at| image(*at).is_file()).or_else(|| cuts.first().copied())?;
    (cut > 0).then(|| (image(cut), &bytes[cut + 1..]))
}

impl Address {
    /// Parses `IMAGE:/path`.
    pub fn parse(text: &OsStr) -> Result<Self, String> {
        let Some((image, path)) = split(text) else {
            return Err(
                "give the image and an absolute path in its guest, as in disk.qcow2:/etc/fstab".into()
            );
        };
        Ok(Self { image, path: GuestPath::new(path).map_err(|error| error.to_string())? })
    }
}

impl FromStr for Address {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(OsStr::new(text))
    }
}

impl Place {
    /// Parses a host path or `IMAGE:/path`. `./a:/b` is always a host path when no file `./a` exists.
    pub fn parse(text: OsString) -> Result<Self, String> {
        match split(&text) {
            Some((image, _)) if image.is_file() || !Path::new(&text).exists() => {
                Address::parse(&text).map(Self::Guest)
            }
            _ => Ok(Self::Host(text.into())),
        }
    }
}

impl FromStr for Place {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_image_and_path() {
        let address: Address = "disk.img:/etc//fstab".parse().unwrap();
        assert_eq!(address.image, Path::new("disk.img"));
        assert_eq!(address.path.as_bytes(), b"/etc/fstab");
        assert!("disk.img".parse::<Address>().is_err());
        assert!(":/etc".parse::<Address>().is_err());
        assert!("disk.img:etc".parse::<Address>().is_err());
    }

    #[test]
    fn an_existing_file_decides_where_to_split() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("a:").join("b.img");
        std::fs::create_dir(dir.path().join("a:")).unwrap();
        std::fs::write(&image, b"").unwrap();
        let text = format!("{}:/x", image.display());
        assert_eq!(text.parse::<Address>().unwrap().image, image);
        assert_eq!(image.to_str().unwrap().parse::<Place>().unwrap(), Place::Host(image));
        assert_eq!("-".parse::<Place>().unwrap(), Place::Host("-".into()));
    }
}
