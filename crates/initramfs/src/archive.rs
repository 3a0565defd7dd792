//! A parsed initramfs: its segments, the tree they make, and what that tree says about itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::blacklist::Blacklist;
use crate::generator;
use crate::module_name::{module_compression, module_name};
use crate::newc::{S_IFLNK, S_IFMT, S_IFREG};
use crate::segment::{self, Segment};
use crate::tree::{Node, NodeId, Tree};
use crate::{Compression, Generator, InitramfsError, Limits};

/// Where modules lie; the first is a link to the second in newer images.
const MODULE_ROOTS: [&str; 2] = ["lib/modules", "usr/lib/modules"];

/// A parsed initramfs file.
#[derive(Debug, Clone)]
pub struct Archive {
    segments: Vec<Segment>,
    tree: Tree,
    trailing_zeros: u64,
    file_len: u64,
}

/// A module inside an initramfs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ModuleInArchive {
    /// Name as the kernel has it: `virtio_blk`.
    pub name: String,
    /// Path below the module directory of its kernel: `kernel/drivers/block/virtio_blk.ko`.
    pub path: String,
    /// Version of the kernel whose directory it lies in.
    pub kver: String,
    /// How the file is compressed inside the archive, by its name.
    pub compression: Compression,
}

/// What a path in the merged tree is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeEntry {
    /// Path without leading `/`, no symlinks in it but the last name.
    pub path: Vec<u8>,
    /// Type and permission bits as in `st_mode`.
    pub mode: u32,
    /// Length of a regular file, bytes; 0 for all else.
    pub size: u64,
    /// Where a symlink points.
    pub link_target: Option<Vec<u8>>,
}

impl TreeEntry {
    /// True for a regular file.
    pub fn is_file(&self) -> bool {
        self.mode & S_IFMT == S_IFREG
    }

    /// True for a symlink.
    pub fn is_symlink(&self) -> bool {
        self.mode & S_IFMT == S_IFLNK
    }
}

impl Archive {
    /// Reads all segments of an initramfs file.
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Self, InitramfsError> {
        let unpacked = segment::unpack(bytes, limits)?;
        Ok(Self {
            segments: unpacked.segments,
            tree: unpacked.tree,
            trailing_zeros: unpacked.trailing_zeros,
            file_len: bytes.len() as u64,
        })
    }

    /// The segments in their order in the file.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Length of the file, bytes.
    pub fn file_len(&self) -> u64 {
        self.file_len
    }

    /// Zero bytes after the last segment.
    pub fn trailing_zeros(&self) -> u64 {
        self.trailing_zeros
    }

    /// Unpacked length of all segments, bytes.
    pub fn unpacked_len(&self) -> u64 {
        self.segments.iter().map(|segment| segment.unpacked_len).sum()
    }

    /// Everything in the merged tree, parents before children, sorted by path.
    pub fn entries(&self) -> Vec<TreeEntry> {
        let Some(root) = self.tree.resolve(b"") else { return Vec::new() };
        let entry = |(path, id): (Vec<u8>, NodeId)| {
            let (size, link_target) = match self.tree.node(id) {
                Node::Regular(content) => (content.size, None),
                Node::Symlink(target) => (0, Some(target.clone())),
                _ => (0, None),
            };
            TreeEntry { path, mode: self.tree.mode(id), size, link_target }
        };
        let mut entries: Vec<TreeEntry> = self.tree.below(root).into_iter().map(entry).collect();
        entries.sort_by(|left, right| left.path.cmp(&right.path));
        entries
    }

    /// True when the path exists, symlinks followed.
    pub fn exists(&self, path: &str) -> bool {
        self.tree.resolve(path.as_bytes()).is_some()
    }

    /// Content of a regular file, symlinks followed; `None` when there is none, or it was too large to be kept.
    pub fn read_file(&self, path: &str) -> Option<Arc<[u8]>> {
        match self.tree.node(self.tree.resolve(path.as_bytes())?) {
            Node::Regular(content) => content.bytes.clone(),
            _ => None,
        }
    }

    /// Length of a regular file, symlinks followed.
    pub fn file_size(&self, path: &str) -> Option<u64> {
        match self.tree.node(self.tree.resolve(path.as_bytes())?) {
            Node::Regular(content) => Some(content.size),
            _ => None,
        }
    }

    /// Names in a directory, sorted, symlinks followed; empty when there is no such directory.
    pub fn list_dir(&self, path: &str) -> Vec<Vec<u8>> {
        match self.tree.resolve(path.as_bytes()).map(|id| self.tree.node(id)) {
            Some(Node::Directory(children)) => children.keys().cloned().collect(),
            _ => Vec::new(),
        }
    }

    /// The program that made this image.
    pub fn generator(&self) -> Generator {
        generator::recognise(self)
    }

    /// Versions of the kernels that modules are inside for.
    pub fn kernel_versions(&self) -> Vec<String> {
        let versions: BTreeSet<String> = MODULE_ROOTS
            .iter()
            .flat_map(|root| self.list_dir(root).into_iter().map(move |name| (root, name)))
            .filter_map(|(root, name)| String::from_utf8(name).ok().map(|name| (root, name)))
            .filter(|(root, name)| {
                let dir = self.tree.resolve(format!("{root}/{name}").as_bytes());
                dir.is_some_and(|id| matches!(self.tree.node(id), Node::Directory(_)))
            })
            .map(|(_, name)| name)
            .collect();
        versions.into_iter().collect()
    }

    /// Path of the module directory of `kver` as the programs inside name it; `None` when there is none.
    pub(crate) fn module_dir(&self, kver: &str) -> Option<String> {
        MODULE_ROOTS.iter().map(|root| format!("{root}/{kver}")).find(|dir| {
            self.tree
                .resolve(dir.as_bytes())
                .is_some_and(|id| matches!(self.tree.node(id), Node::Directory(_)))
        })
    }

    /// Every module of every kernel inside, sorted by kernel, then path.
    pub fn modules(&self) -> Vec<ModuleInArchive> {
        let mut modules = BTreeSet::new();
        for kver in self.kernel_versions() {
            // Where both roots exist apart from each other, the later link decides nothing: list both.
            for root in MODULE_ROOTS {
                let Some(dir) = self.tree.resolve(format!("{root}/{kver}").as_bytes()) else { continue };
                for (path, id) in self.tree.below(dir) {
                    let Ok(path) = String::from_utf8(path) else { continue };
                    let Some(name) = module_name(&path) else { continue };
                    let is_file = match self.tree.node(id) {
                        Node::Regular(_) => true,
                        Node::Symlink(_) => {
                            let whole = format!("{root}/{kver}/{path}");
                            self.file_size(&whole).is_some()
                        }
                        _ => false,
                    };
                    if is_file {
                        let compression = module_compression(&path);
                        modules.insert(ModuleInArchive { kver: kver.clone(), path, name, compression });
                    }
                }
            }
        }
        let mut modules: Vec<_> = modules.into_iter().collect();
        modules.sort_by(|left, right| (&left.kver, &left.path).cmp(&(&right.kver, &right.path)));
        modules
    }

    /// What `modprobe.d` inside the image keeps from being loaded.
    pub fn module_blacklist(&self) -> Blacklist {
        const DIRS: [&str; 5] = [
            "lib/modprobe.d",
            "usr/lib/modprobe.d",
            "usr/local/lib/modprobe.d",
            "run/modprobe.d",
            "etc/modprobe.d",
        ];
        let mut blacklist = Blacklist::default();
        for dir in DIRS {
            for name in self.list_dir(dir) {
                let Ok(name) = String::from_utf8(name) else { continue };
                if !name.ends_with(".conf") {
                    continue;
                }
                let path = format!("{dir}/{name}");
                if let Some(content) = self.read_file(&path) {
                    blacklist.read_modprobe_conf(&path, &content);
                }
            }
        }
        if let Some(content) = self.read_file("etc/modprobe.conf") {
            blacklist.read_modprobe_conf("etc/modprobe.conf", &content);
        }
        blacklist
    }

    /// True when udev is inside: it loads drivers by the alias of each device that appears.
    pub fn has_udev(&self) -> bool {
        const UDEV: [&str; 8] = [
            "usr/lib/systemd/systemd-udevd",
            "lib/systemd/systemd-udevd",
            "usr/bin/udevadm",
            "bin/udevadm",
            "sbin/udevd",
            "usr/sbin/udevd",
            "lib/udev/udevd",
            "usr/bin/systemd-udevd",
        ];
        UDEV.iter().any(|path| self.exists(path) || self.is_dangling_link(path))
    }

    /// True when a program inside loads the driver of each device that appears, by its alias: udev, or Alpine's
    /// nlplug-findfs, which asks libkmod.
    pub fn loads_by_alias(&self) -> bool {
        const ALPINE: [&str; 3] = ["sbin/nlplug-findfs", "usr/sbin/nlplug-findfs", "bin/nlplug-findfs"];
        self.has_udev() || ALPINE.iter().any(|path| self.exists(path))
    }

    /// True when a link stands at `path` whose target is not inside.
    fn is_dangling_link(&self, path: &str) -> bool {
        let Some((dir, name)) = path.rsplit_once('/') else { return false };
        let Some(dir) = self.tree.resolve(dir.as_bytes()) else { return false };
        self.tree
            .child(dir, name.as_bytes())
            .is_some_and(|id| matches!(self.tree.node(id), Node::Symlink(_)) && !self.exists(path))
    }

    pub(crate) fn tree(&self) -> &Tree {
        &self.tree
    }
}
