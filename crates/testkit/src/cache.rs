//! Where built images and boot results are kept: outside the tree, named by what they were made from.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{LabError, Result, at};

/// The cache folder: `$COLDFIT_CACHE`, or `coldfit` in the user's cache folder.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// Opens the cache, making the folder when it is missing.
    pub fn open() -> Result<Self> {
        let root = match std::env::var_os("COLDFIT_CACHE").filter(|value| !value.is_empty()) {
            Some(path) => PathBuf::from(path),
            None => match std::env::var_os("HOME").filter(|value| !value.is_empty()) {
                Some(home) => Path::new(&home).join(".cache/coldfit"),
                None => return Err(LabError::Machine("neither COLDFIT_CACHE nor HOME is set".into())),
            },
        };
        Self::at(root)
    }

    /// Opens a cache in a folder of one's own choice.
    pub fn at(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        fs::create_dir_all(&root).map_err(at(&root))?;
        Ok(Self { root })
    }

    /// A path below the cache; the folders above it are made.
    pub fn path(&self, relative: &str) -> Result<PathBuf> {
        let path = self.root.join(relative);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(at(parent))?;
        }
        Ok(path)
    }

    /// A scratch folder on the cache's filesystem, so that a result can be renamed into place.
    pub fn scratch(&self) -> Result<tempfile::TempDir> {
        tempfile::Builder::new().prefix("work-").tempdir_in(&self.root).map_err(at(&self.root))
    }

    /// Waits for the lock `name`; it is held until the returned file is dropped.
    pub fn lock(&self, name: &str) -> Result<File> {
        let path = self.path(&format!("{name}.lock"))?;
        let file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(at(&path))?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)
            .map_err(|errno| LabError::Io { path, source: errno.into() })?;
        Ok(file)
    }
}

/// Digest of everything that decides how a cached file comes out.
#[derive(Debug, Clone, Default)]
pub struct RecipeDigest(Sha256);

impl RecipeDigest {
    /// Adds one named ingredient.
    #[must_use]
    pub fn with(mut self, name: &str, content: impl AsRef<[u8]>) -> Self {
        for part in [name.as_bytes(), content.as_ref()] {
            self.0.update((part.len() as u64).to_le_bytes());
            self.0.update(part);
        }
        self
    }

    /// The digest as a short name.
    pub fn short(self) -> String {
        hex(&self.0.finalize())[..16].to_owned()
    }
}

/// SHA-256 of a whole file, in hex.
pub fn file_digest(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(at(path))?;
    let mut buffer = vec![0; 1 << 20];
    let mut digest = Sha256::new();
    loop {
        let length = file.read(&mut buffer).map_err(at(path))?;
        if length == 0 {
            return Ok(hex(&digest.finalize()));
        }
        digest.update(&buffer[..length]);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ingredients_cannot_run_into_each_other() {
        let first = RecipeDigest::default().with("a", "bc").short();
        let second = RecipeDigest::default().with("ab", "c").short();
        assert_ne!(first, second);
    }

    #[test]
    fn file_digest_is_sha256() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        fs::write(&path, b"abc").unwrap();
        assert!(file_digest(&path).unwrap().starts_with("ba7816bf8f01cfea"));
    }
}
