#![no_main]
//! Any small image: every file is read, attributes, directories and maps are followed, a few edits are
//! tried, the check and the dump run. Errors are fine.
//!
//! The input is a sparse image: records of a 64-byte unit's number (`u16`, little-endian) and its bytes.
//! Superblock checksums are put right, since random bytes would never pass them.

use std::collections::BTreeSet;
use std::sync::Arc;

use block::{MemoryDevice, Overlay, ReadAt, WriteAt};
use ext4::Ext4;
use libfuzzer_sys::fuzz_target;
use vfs::{FileKind, Filesystem, MetadataChange, NewNode, WritableFilesystem};

const IMAGE_BYTES: usize = 4 << 20;
const UNIT_BYTES: usize = 64;
const MOST_NODES: usize = 200;

fn image(input: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; IMAGE_BYTES];
    for record in input.chunks_exact(2 + UNIT_BYTES) {
        let at = usize::from(u16::from_le_bytes([record[0], record[1]])) * UNIT_BYTES;
        if let Some(unit) = bytes.get_mut(at..at + UNIT_BYTES) {
            unit.copy_from_slice(&record[2..]);
        }
    }
    let sum = ondisk::crc32c_raw(!0, &bytes[1024..1024 + 0x3fc]);
    bytes[1024 + 0x3fc..1024 + 0x400].copy_from_slice(&sum.to_le_bytes());
    bytes
}

fn walk(fs: &Ext4) {
    let mut todo = vec![fs.root()];
    let mut seen = BTreeSet::new();
    while let Some(node) = todo.pop() {
        if seen.len() > MOST_NODES || !seen.insert(node) {
            continue;
        }
        let Ok(stat) = fs.stat(node) else { continue };
        let _ = fs.xattrs(node);
        match stat.kind {
            FileKind::Directory => {
                for entry in fs.list(node).unwrap_or_default().iter().take(MOST_NODES) {
                    let _ = fs.lookup(node, &entry.name);
                    todo.push(entry.node);
                }
            }
            FileKind::Symlink => drop(fs.read_link(node)),
            _ => {
                let mut buf = [0; 5000];
                let _ = fs.read_at(node, 0, &mut buf);
                let _ = fs.read_at(node, stat.len.saturating_sub(2500), &mut buf);
            }
        }
    }
}

fn edit(fs: &mut Ext4) {
    let root = fs.root();
    let entries = fs.list(root).unwrap_or_default();
    let _ = fs.create(root, b"new", NewNode::Regular(&[7; 3000]), 0o644, 0, 0);
    let _ = fs.create(root, b"dir", NewNode::Directory, 0o755, 0, 0);
    for entry in entries.iter().take(6) {
        let _ = fs.set_xattr(entry.node, b"user.fuzz", &[1; 100]);
        let _ =
            fs.set_metadata(entry.node, MetadataChange { mode: Some(0o600), ..MetadataChange::default() });
        let _ = fs.write_at(entry.node, 1500, &[3; 2000]);
        let _ = fs.truncate(entry.node, 700);
        let _ = fs.link(entry.node, root, b"linked");
        let _ = fs.rename(root, &entry.name, root, b"renamed");
        let _ = fs.unlink(root, b"renamed");
    }
    let _ = fs.flush();
}

fuzz_target!(|input: &[u8]| {
    let base: Arc<dyn ReadAt> = Arc::new(MemoryDevice::new(image(input)));
    let _ = ext4::probe(&*base);
    let _ = ext4::check(&*base);
    let _ = ext4::dump(&*base, &mut std::io::sink());
    if let Ok(fs) = Ext4::open(Arc::clone(&base)) {
        walk(&fs);
    }
    let overlay: Arc<dyn WriteAt> = Arc::new(Overlay::new(base, 4 << 20, std::env::temp_dir()));
    if let Ok(mut fs) = Ext4::open_writable(Arc::clone(&overlay)) {
        edit(&mut fs);
        let _ = ext4::check(&*overlay);
    }
});
