//! A real kernel's module tree: Debian's kernel package, unpacked once into the cache.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cache::Cache;
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
        let shown = tool::run("apt-cache", ["show", "--no-all-versions", package])?;
        let field = |name: &str| shown.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let digest = field("SHA256:").ok_or_else(|| LabError::Machine(format!("no digest for {package}")))?;
        let cache = Cache::open()?;
        let name = format!("debs/{package}_{}", digest.get(..16).unwrap_or(digest));
        let root = cache.path(&name)?;
        let _lock = cache.lock(&name)?;
        if !root.exists() {
            let scratch = cache.scratch()?;
            let download = &mut tool::command("apt-get", ["download", package]);
            tool::finish(download.current_dir(scratch.path()))?;
            let tree = scratch.path().join("tree");
            tool::run("dpkg-deb", ["-x".as_ref(), only_deb(scratch.path())?.as_os_str(), tree.as_os_str()])?;
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

fn names(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(at(dir))? {
        names.push(entry.map_err(at(dir))?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn only_deb(dir: &Path) -> Result<PathBuf> {
    let debs = names(dir)?.into_iter().find(|name| name.ends_with(".deb"));
    debs.map(|name| dir.join(name))
        .ok_or_else(|| LabError::Machine("apt-get download left no package".into()))
}

fn only_kernel(tree: &Path) -> Result<String> {
    let dir = tree.join("lib/modules");
    names(&dir)?.pop().ok_or_else(|| LabError::Machine(format!("{} holds no kernel", dir.display())))
}
