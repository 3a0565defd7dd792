//! The backing chain: names from images, opened only through the gate.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use block::{OpenGate, ReadAt};
use serde::Serialize;

use crate::cache::{CACHE_BYTES, Cache};
use crate::error::Qcow2Error;
use crate::image::Qcow2;

/// Images of one chain; QEMU has no limit, real chains have a handful.
const MAX_CHAIN: usize = 32;
/// All L1 tables of a chain together: bounds the work of opening it.
const MAX_CHAIN_L1_BYTES: u64 = 128 << 20;

/// Format of a backing file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackingFormat {
    /// The file is the disk.
    Raw,
    /// Another qcow2 image.
    Qcow2,
}

/// An open backing file.
pub(crate) struct Backing {
    pub device: Arc<dyn ReadAt>,
    /// Set when the backing file is a qcow2 image: the same object as `device`.
    pub image: Option<Arc<Qcow2>>,
    pub path: PathBuf,
    pub format: BackingFormat,
    /// The image names no format: it was guessed from the content.
    pub format_was_probed: bool,
}

/// What the images of one chain share while it is opened.
pub(crate) struct Chain<'g> {
    gate: &'g dyn OpenGate,
    cache: Arc<Cache>,
    seen: Vec<PathBuf>,
    l1_bytes: u64,
}

impl<'g> Chain<'g> {
    pub fn new(gate: &'g dyn OpenGate) -> Self {
        Self { gate, cache: Arc::new(Cache::new(CACHE_BYTES)), seen: Vec::new(), l1_bytes: 0 }
    }

    pub fn cache(&self) -> Arc<Cache> {
        Arc::clone(&self.cache)
    }

    /// Takes the image at `path` into the chain and numbers it.
    pub fn enter(&mut self, path: &Path, l1_bytes: u64) -> Result<usize, Qcow2Error> {
        let limit = |what, limit, found| Qcow2Error::Limit { path: path.to_owned(), what, limit, found };
        // A path that does not resolve (a device in memory) cannot be part of a cycle of files.
        let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if self.seen.contains(&real) {
            let above = self.seen.last().unwrap_or(&real).clone();
            return Err(Qcow2Error::Backing {
                path: above,
                code: "qcow2.backing.cycle",
                named: real.display().to_string(),
                detail: "it is its own backing file".into(),
            });
        }
        self.seen.push(real);
        if self.seen.len() > MAX_CHAIN {
            return Err(limit("length of the backing chain", MAX_CHAIN as u64, self.seen.len() as u64));
        }
        self.l1_bytes += l1_bytes;
        if self.l1_bytes > MAX_CHAIN_L1_BYTES {
            return Err(limit(
                "size of all L1 tables of the backing chain",
                MAX_CHAIN_L1_BYTES,
                self.l1_bytes,
            ));
        }
        Ok(self.seen.len() - 1)
    }

    pub fn open_backing(
        &mut self,
        image: &Path,
        name: &[u8],
        format: Option<&[u8]>,
    ) -> Result<Backing, Qcow2Error> {
        let refuse = |code, detail: String| Qcow2Error::Backing {
            path: image.to_owned(),
            code,
            named: String::from_utf8_lossy(name).into_owned(),
            detail,
        };
        let format = match format {
            None | Some(b"") => None,
            Some(b"raw") => Some(BackingFormat::Raw),
            Some(b"qcow2") => Some(BackingFormat::Qcow2),
            Some(other) => {
                let other = String::from_utf8_lossy(other);
                return Err(refuse(
                    "qcow2.backing.format",
                    format!("its format {other:?} is not supported, only raw and qcow2"),
                ));
            }
        };
        let file_name = name.strip_prefix(b"file:").unwrap_or(name);
        let scheme_len = file_name.iter().take_while(|byte| !matches!(byte, b':' | b'/')).count();
        if file_name.get(scheme_len) == Some(&b':') {
            return Err(refuse(
                "qcow2.backing.protocol",
                "only plain file names are supported, no protocols".into(),
            ));
        }
        let (file, path) = self.gate.open(image, file_name)?;
        let file: Arc<dyn ReadAt> = Arc::new(file);
        let (format, format_was_probed) = match format {
            Some(format) => (format, false),
            None => {
                let mut head = [0u8; 8];
                let head_len = file.len().min(8) as usize;
                let head = head.get_mut(..head_len).unwrap_or_default();
                file.read_exact_at(head, 0)?;
                (if Qcow2::probe(head) { BackingFormat::Qcow2 } else { BackingFormat::Raw }, true)
            }
        };
        let (device, qcow2): (Arc<dyn ReadAt>, _) = match format {
            BackingFormat::Raw => (file, None),
            BackingFormat::Qcow2 => {
                let qcow2 = Arc::new(Qcow2::open_in_chain(file, &path, self)?);
                (Arc::clone(&qcow2) as Arc<dyn ReadAt>, Some(qcow2))
            }
        };
        Ok(Backing { device, image: qcow2, path, format, format_was_probed })
    }
}
