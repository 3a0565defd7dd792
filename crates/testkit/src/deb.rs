//! Debian packages, downloaded by apt and unpacked without being installed.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cache::Cache;
use crate::error::{LabError, Result, at};
use crate::tool;

/// Digest of the package file that apt would install now.
pub fn digest(package: &str) -> Result<String> {
    let shown = tool::run("apt-cache", ["show", "--no-all-versions", package])?;
    let field = shown.lines().find_map(|line| line.strip_prefix("SHA256:")).map(str::trim);
    field.map(str::to_owned).ok_or_else(|| LabError::Machine(format!("no digest for {package}")))
}

/// Downloads a package into the empty folder `scratch` and unpacks it there; returns the tree.
pub fn unpack(package: &str, scratch: &Path) -> Result<PathBuf> {
    tool::finish(tool::command("apt-get", ["download", package]).current_dir(scratch))?;
    let deb = names(scratch)?
        .into_iter()
        .find(|name| name.ends_with(".deb"))
        .ok_or_else(|| LabError::Machine("apt-get download left no package".into()))?;
    let tree = scratch.join("tree");
    tool::run("dpkg-deb", ["-x".as_ref(), scratch.join(deb).as_os_str(), tree.as_os_str()])?;
    Ok(tree)
}

/// The tree of a package, unpacked once into the cache.
pub fn cached(package: &str) -> Result<PathBuf> {
    let digest = digest(package)?;
    let cache = Cache::open()?;
    let name = format!("debs/{package}_{}", digest.get(..16).unwrap_or(&digest));
    let root = cache.path(&name)?;
    let _lock = cache.lock(&name)?;
    if !root.exists() {
        let scratch = cache.scratch()?;
        fs::rename(unpack(package, scratch.path())?, &root).map_err(at(&root))?;
    }
    Ok(root)
}

/// Names in a folder, sorted.
pub fn names(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(at(dir))? {
        names.push(entry.map_err(at(dir))?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}
