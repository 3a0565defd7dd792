//! The newest xfsprogs, as the judge of everything that writes XFS: Debian's release has an older one, which
//! neither makes nor knows the newest features.
//!
//! The packages come from Debian's unstable suite, unpacked into the cache and run with their own C library.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::apt;
use crate::cache::Cache;
use crate::deb;
use crate::error::{LabError, Result, at};
use crate::tool;

const SUITE: &str = "sid";
const PACKAGES: [&str; 2] = ["xfsprogs", "libc6"];
const TOOLS: [&str; 3] = ["mkfs.xfs", "xfs_repair", "xfs_db"];

/// Folder with the programs `mkfs.xfs`, `xfs_repair` and `xfs_db`, fetched once.
pub fn newest() -> Result<PathBuf> {
    let cache = Cache::open()?;
    let root = cache.path("xfsprogs-newest")?;
    let _lock = cache.lock("xfsprogs-newest")?;
    if !root.join("bin").exists() {
        let scratch = cache.scratch()?;
        fetch(scratch.path())?;
        write_programs(scratch.path(), &root)?;
        let kept = scratch.keep();
        fs::rename(&kept, &root).map_err(at(&root))?;
    }
    Ok(root.join("bin"))
}

/// Apt with lists of its own, so that nothing of the machine's changes.
fn apt(tool: &str, scratch: &Path, args: &[&str]) -> Command {
    let lists = scratch.join("lists");
    let mut command = tool::command(tool, ["-q"]);
    command
        .arg("-o")
        .arg("Dir::Etc::sourcelist=/dev/null")
        .arg("-o")
        .arg(format!("Dir::Etc::sourceparts={}", scratch.join("parts").display()))
        .arg("-o")
        .arg(format!("Dir::State::lists={}", lists.display()))
        .args(args)
        .current_dir(scratch);
    command
}

fn fetch(scratch: &Path) -> Result<()> {
    let parts = scratch.join("parts");
    fs::create_dir_all(&parts).map_err(at(&parts))?;
    fs::create_dir_all(scratch.join("lists/partial")).map_err(at(scratch))?;
    let sources = apt::suite_of(SUITE)?;
    fs::write(parts.join("newest.sources"), sources).map_err(at(&parts))?;
    tool::finish(&mut apt("apt-get", scratch, &["update"]))?;
    tool::finish(apt("apt-get", scratch, &["download"]).args(PACKAGES))?;
    for name in deb::names(scratch)?.iter().filter(|name| name.ends_with(".deb")) {
        let tree = scratch.join("tree");
        tool::run("dpkg-deb", ["-x".as_ref(), scratch.join(name).as_os_str(), tree.as_os_str()])?;
        fs::remove_file(scratch.join(name)).map_err(at(scratch))?;
    }
    fs::remove_dir_all(scratch.join("lists")).map_err(at(scratch))
}

/// Small scripts that start each program with the C library of its own package, at its place `root`.
fn write_programs(scratch: &Path, root: &Path) -> Result<()> {
    let bin = scratch.join("bin");
    fs::create_dir_all(&bin).map_err(at(&bin))?;
    let libraries = find_loader(&scratch.join("tree/usr/lib"))?;
    let loader = libraries.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let folder =
        libraries.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
    for name in TOOLS {
        let script = format!(
            "#!/bin/sh\nexec '{0}/tree/usr/lib/{folder}/{loader}' --library-path '{0}/tree/usr/lib/{folder}' \
             '{0}/tree/usr/sbin/{name}' \"$@\"\n",
            root.display()
        );
        let path = bin.join(name);
        fs::write(&path, script).map_err(at(&path))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(at(&path))?;
    }
    Ok(())
}

/// `ld-linux-*.so.*` in the folder of the machine's architecture.
fn find_loader(lib: &Path) -> Result<PathBuf> {
    for folder in deb::names(lib)? {
        let folder = lib.join(folder);
        if !folder.is_dir() {
            continue;
        }
        if let Some(name) = deb::names(&folder)?.into_iter().find(|name| name.starts_with("ld-linux")) {
            return Ok(folder.join(name));
        }
    }
    Err(LabError::Machine("the C library's package has no loader".into()))
}
