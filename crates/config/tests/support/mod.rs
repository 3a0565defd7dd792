//! A tree on the host that a reference tool reads, and the same tree in memory.

#![allow(dead_code, clippy::unwrap_used, clippy::panic, reason = "test support; each test uses its part")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use config::MemoryFiles;

pub fn put(root: &Path, path: &str, content: &str) {
    let file = root.join(path.trim_start_matches('/'));
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, content).unwrap();
}

pub fn link(root: &Path, path: &str, target: &str) {
    let file = root.join(path.trim_start_matches('/'));
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let _ = fs::remove_file(&file);
    symlink(target, file).unwrap();
}

/// Everything below a directory, in memory.
pub fn memory(root: &Path) -> MemoryFiles {
    let mut files = MemoryFiles::default();
    walk(root, "", &mut files);
    files
}

fn walk(root: &Path, below: &str, files: &mut MemoryFiles) {
    for entry in fs::read_dir(root.join(below.trim_start_matches('/'))).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{below}/{}", entry.file_name().to_str().unwrap());
        let kind = entry.file_type().unwrap();
        if kind.is_symlink() {
            files.link(&path, fs::read_link(entry.path()).unwrap().to_str().unwrap());
        } else if kind.is_dir() {
            walk(root, &path, files);
        } else {
            files.put(&path, fs::read(entry.path()).unwrap());
        }
    }
}

/// All symlinks below a directory: path and target, sorted.
pub fn links(root: &Path, below: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(root.join(below.trim_start_matches('/'))) else { return found };
    for entry in entries {
        let entry = entry.unwrap();
        let path = format!("{below}/{}", entry.file_name().to_str().unwrap());
        let kind = entry.file_type().unwrap();
        if kind.is_symlink() {
            found.push((path, fs::read_link(entry.path()).unwrap().to_str().unwrap().to_owned()));
        } else if kind.is_dir() {
            found.extend(links(root, &path));
        }
    }
    found.sort();
    found
}
