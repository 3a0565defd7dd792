//! A phony guest as a small disk image that every command can open: MBR, swap, ext4 root.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use vfs::{FileKind, Filesystem, GuestTree, NodeId};

use super::{ROOT, SWAP};
use crate::error::{LabError, Result, at};
use crate::{e2fs, tool};

/// First bytes of the partitions.
const SWAP_START: u64 = 1 << 20;
const ROOT_START: u64 = 3 << 20;

/// Writes the guest's disk as a raw file, with a root filesystem of `root_mib` MiB. There is no boot code.
pub fn raw_disk(guest: &str, root_mib: u64, disk: &Path) -> Result<()> {
    let phony =
        super::guest(guest).ok_or_else(|| LabError::Machine(format!("there is no phony guest {guest}")))?;
    let scratch = tempfile::tempdir().map_err(at(Path::new("/tmp")))?;
    let folder = scratch.path().join("root");
    fs::create_dir(&folder).map_err(at(&folder))?;
    let tree = phony.files.into_tree();
    let mut owners = String::new();
    copy_out(&tree, &folder, &mut owners)?;

    let root = scratch.path().join("root.img");
    let mut mkfs =
        tool::command("mke2fs", ["-q", "-F", "-t", "ext4", "-U", ROOT, "-E", "root_owner=0:0", "-d"]);
    mkfs.env("SOURCE_DATE_EPOCH", "1700000000").arg(&folder).arg(&root).arg(format!("{root_mib}M"));
    tool::finish(&mut mkfs)?;
    e2fs::debugfs_write(&root, &owners)?;
    let swap = scratch.path().join("swap.img");
    let len = ROOT_START - SWAP_START;
    fs::File::create(&swap).and_then(|file| file.set_len(len)).map_err(at(&swap))?;
    tool::finish(tool::command("mkswap", ["-q", "-U", SWAP]).arg(&swap))?;

    let bytes = ROOT_START + (root_mib << 20);
    fs::File::create(disk).and_then(|file| file.set_len(bytes)).map_err(at(disk))?;
    let table = format!(
        "label: dos\nlabel-id: 0xc01df170\nstart={},size={},type=82\nstart={},type=83,bootable\n",
        SWAP_START / 512,
        len / 512,
        ROOT_START / 512
    );
    let script = scratch.path().join("table");
    fs::write(&script, table).map_err(at(&script))?;
    let mut sfdisk = tool::command("sfdisk", ["-q", "--no-reread", "--no-tell-kernel"]);
    sfdisk.arg(disk).stdin(fs::File::open(&script).map_err(at(&script))?);
    tool::finish(&mut sfdisk)?;
    for (part, start) in [(&swap, SWAP_START), (&root, ROOT_START)] {
        let mut dd = tool::command("dd", ["bs=1M", "conv=notrunc,sparse", "oflag=seek_bytes", "status=none"]);
        dd.arg(format!("if={}", part.display()))
            .arg(format!("of={}", disk.display()))
            .arg(format!("seek={start}"));
        tool::finish(&mut dd)?;
    }
    Ok(())
}

/// Copies the tree to a folder of the host; owners go into a script for debugfs, since only root may give files away.
fn copy_out(tree: &GuestTree, folder: &Path, owners: &mut String) -> Result<()> {
    let failed = |error: vfs::VfsError| LabError::Machine(format!("phony guest: {error}"));
    for mount in tree.mounts() {
        let filesystem = &*mount.filesystem;
        copy_folder(filesystem, filesystem.root(), folder, "", owners).map_err(|error| match error {
            Copy::Guest(error) => failed(error),
            Copy::Host(error) => error,
        })?;
    }
    Ok(())
}

enum Copy {
    Guest(vfs::VfsError),
    Host(LabError),
}

impl From<vfs::VfsError> for Copy {
    fn from(error: vfs::VfsError) -> Self {
        Self::Guest(error)
    }
}

fn copy_folder(
    filesystem: &dyn Filesystem,
    node: NodeId,
    folder: &Path,
    guest_path: &str,
    owners: &mut String,
) -> std::result::Result<(), Copy> {
    for entry in filesystem.list(node)? {
        let path = folder.join(std::ffi::OsStr::from_bytes(&entry.name));
        let guest_path = format!("{guest_path}/{}", String::from_utf8_lossy(&entry.name));
        let metadata = filesystem.stat(entry.node)?;
        let host = |result: std::io::Result<()>| result.map_err(at(&path)).map_err(Copy::Host);
        match metadata.kind {
            FileKind::Directory => {
                host(fs::create_dir(&path))?;
                copy_folder(filesystem, entry.node, &path, &guest_path, owners)?;
            }
            FileKind::Regular => {
                let mut content = vec![0; usize::try_from(metadata.len).unwrap_or(0)];
                let got = filesystem.read_at(entry.node, 0, &mut content)?;
                content.truncate(got);
                host(fs::write(&path, content))?;
            }
            FileKind::Symlink => {
                let target = filesystem.read_link(entry.node)?;
                host(std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(&target), &path))?;
            }
            // No phony guest has one.
            _ => continue,
        }
        owners.push_str(&format!(
            "sif \"{guest_path}\" uid {}\nsif \"{guest_path}\" gid {}\n",
            metadata.uid, metadata.gid
        ));
        if metadata.kind != FileKind::Symlink {
            host(fs::set_permissions(&path, fs::Permissions::from_mode(u32::from(metadata.mode))))?;
        }
    }
    Ok(())
}
