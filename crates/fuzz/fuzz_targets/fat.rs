//! A FAT filesystem: reading and editing it panics nowhere and ends.
#![no_main]

use std::sync::Arc;

use block::{MemoryDevice, ReadAt};
use fat::Fat;
use libfuzzer_sys::fuzz_target;
use vfs::{FileKind, Filesystem, NewNode, WritableFilesystem};

fuzz_target!(|bytes: &[u8]| {
    // Behind the input the device goes on with zeroes, so that small inputs make large volumes.
    let mut image = bytes.to_vec();
    image.resize(image.len().max(512).next_multiple_of(512) + (256 << 10), 0);
    let device = Arc::new(MemoryDevice::new(image));
    let readable: Arc<dyn ReadAt> = device.clone();
    let _ = fat::check(&readable);
    let Ok(mut fat) = Fat::open_writable(device) else { return };
    let _ = fat.space();
    let mut dirs = vec![(fat.root(), 0)];
    let mut visited = 0;
    while let Some((dir, depth)) = dirs.pop() {
        for entry in fat.list(dir).unwrap_or_default() {
            visited += 1;
            if visited > 200 {
                break;
            }
            let _ = fat.lookup(dir, &entry.name);
            let _ = fat.stat(entry.node);
            let _ = fat.read_at(entry.node, 0, &mut [0; 4096]);
            if entry.kind == Some(FileKind::Directory) && depth < 4 {
                dirs.push((entry.node, depth + 1));
            }
            let _ = fat.replace_content(entry.node, b"new content");
        }
        let _ = fat.create(dir, b"a name that needs several entries", NewNode::Regular(b"x"), 0o644, 0, 0);
        let _ = fat.create(dir, b"DIR", NewNode::Directory, 0o755, 0, 0);
        let _ = fat.rename(dir, b"DIR", dir, b"another directory");
        let _ = fat.unlink(dir, b"a name that needs several entries");
    }
    let _ = fat.flush();
});
