//! What the tests of this crate share.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::fs;
use std::path::{Path, PathBuf};

use coldfit_initramfs::{InitramfsError, ModuleSource};
use testkit::kernel_deb::KernelDeb;

/// A module directory on the host.
pub struct HostDir(pub PathBuf);

impl ModuleSource for HostDir {
    fn read(&self, relative: &str) -> Result<Option<Vec<u8>>, InitramfsError> {
        Ok(fs::read(self.0.join(relative)).ok())
    }
}

/// Debian's cloud kernel.
pub fn kernel() -> KernelDeb {
    KernelDeb::cloud().unwrap_or_else(|error| panic!("{error}"))
}

/// Every file below `dir` as a path relative to it, sorted.
pub fn files_below(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_path_buf()];
    while let Some(at) = todo.pop() {
        for entry in fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() {
                todo.push(path);
            } else {
                found.push(path.strip_prefix(dir).unwrap().to_str().unwrap().to_string());
            }
        }
    }
    found.sort();
    found
}
