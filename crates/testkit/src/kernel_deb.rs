//! A real kernel's module tree: Debian's kernel package, unpacked once into the cache.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cache::Cache;
use crate::deb;
use crate::error::{LabError, Result, at};
use crate::tool;

/// The smallest kernel of Debian that has virtio and nvme as modules.
const META_PACKAGE: &str = "linux-image-cloud-amd64";

/// An unpacked kernel package with its module indexes made.
#[derive(Debug, Clone)]
pub struct KernelDeb {
    /// Version as in `uname -r`.
    pub kver: String,
    /// Root of the unpacked tree: `boot/vmlinuz-KVER`, `lib/modules/KVER`, …
    pub root: PathBuf,
}

impl KernelDeb {
    /// The kernel that Debian's cloud kernel package depends on, from the cache or fetched by apt.
    pub fn cloud() -> Result<Self> {
        let depends = tool::run("apt-cache", ["depends", META_PACKAGE])?;
        let package = depends
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "))
            .find(|name| name.starts_with("linux-image-"))
            .ok_or_else(|| LabError::Machine(format!("apt knows no kernel package below {META_PACKAGE}")))?;
        let digest = deb::digest(package)?;
        let cache = Cache::open()?;
        let name = format!("debs/{package}_{}", digest.get(..16).unwrap_or(&digest));
        let root = cache.path(&name)?;
        let _lock = cache.lock(&name)?;
        if !root.exists() {
            let scratch = cache.scratch()?;
            let tree = deb::unpack(package, scratch.path())?;
            let kver = only_kernel(&tree)?;
            tool::run("depmod", ["-b".as_ref(), tree.as_os_str(), kver.as_ref()])?;
            fs::rename(&tree, &root).map_err(at(&root))?;
        }
        Ok(Self { kver: only_kernel(&root)?, root })
    }

    /// The kernel's module directory.
    pub fn module_dir(&self) -> PathBuf {
        self.root.join("lib/modules").join(&self.kver)
    }
}

fn only_kernel(tree: &Path) -> Result<String> {
    let dir = tree.join("lib/modules");
    deb::names(&dir)?.pop().ok_or_else(|| LabError::Machine(format!("{} holds no kernel", dir.display())))
}
