//! Filesystems by mkfs.fat, edited by us; fsck.fat, mtools and the `fatfs` crate judge.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use block::FileDevice;
use coldfit_fat::{Fat, check};
use report::Diagnose;
use vfs::{FileKind, Filesystem, MetadataChange, NewNode, NodeId, Timestamp, VfsError, WritableFilesystem};

const MIB: u64 = 1 << 20;
/// 2026-11-24 12:00:00 UTC.
const NOW: Timestamp = Timestamp { seconds: 1_795_521_600, nanoseconds: 0 };

struct Lab {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

/// Every kind of FAT: name, size, arguments of mkfs.fat.
const KINDS: [(&str, u64, &[&str]); 5] = [
    ("fat12", 2 * MIB, &["-F", "12"]),
    ("fat16", 20 * MIB, &["-F", "16"]),
    ("fat16", 80 * MIB, &["-F", "16", "-S", "4096"]),
    ("fat32", 40 * MIB, &["-F", "32", "-s", "1"]),
    ("fat32", 300 * MIB, &["-F", "32", "-s", "4"]),
];

fn run(command: &mut Command) -> String {
    let out = command.env("LC_ALL", "C.UTF-8").output();
    let out = out.unwrap_or_else(|error| panic!("{:?} is needed: {error}", command.get_program()));
    let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{command:?}: {text}");
    text
}

impl Lab {
    fn new(len: u64, arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fat.img");
        std::fs::File::create(&path).unwrap().set_len(len).unwrap();
        run(Command::new("mkfs.fat").args(arguments).args(["-i", "1234abcd", "-n", "ESP"]).arg(&path));
        Self { _dir: dir, path }
    }

    fn writable(&self) -> Fat {
        let mut fat = Fat::open_writable(Arc::new(FileDevice::open_write(&self.path).unwrap())).unwrap();
        fat.set_clock(NOW);
        fat
    }

    fn readable(&self) -> Fat {
        Fat::open(Arc::new(FileDevice::open_read(&self.path).unwrap())).unwrap()
    }

    /// fsck.fat, our own check, and the content in the eyes of mtools and of `fatfs`.
    fn judge(&self, model: &Model, what: &str) {
        self.overwrite_free_space(what);
        let out = run(Command::new("fsck.fat").args(["-n", "-v"]).arg(&self.path));
        for bad in ["Orphan", "Reclaim", "differ", "Bad ", "wrong", "Dirty", "not start", "Duplicate"] {
            assert!(!out.contains(bad), "{what}: {out}");
        }
        let device: Arc<dyn block::ReadAt> = Arc::new(FileDevice::open_read(&self.path).unwrap());
        let report = check(&device).unwrap();
        assert!(report.is_clean(), "{what}: {:?}", report.problems);

        let file = std::fs::File::open(&self.path).unwrap();
        let mut found = Model::default();
        read_by_fatfs(
            &fatfs::FileSystem::new(file, fatfs::FsOptions::new()).unwrap().root_dir(),
            "",
            &mut found,
        );
        assert!(found == *model, "{what}: fatfs: {:?} instead of {:?}", found.names(), model.names());
        let reader = self.readable();
        let mut found = Model::default();
        read_by_us(&reader, reader.root(), "", &mut found);
        assert!(found == *model, "{what}: {:?} instead of {:?}", found.names(), model.names());
    }

    /// Free space is as much as `fatfs` counts, and may hold anything: what is judged afterwards does not notice.
    fn overwrite_free_space(&self, what: &str) {
        let free = self.readable().free_ranges().unwrap();
        let file = std::fs::File::options().read(true).write(true).open(&self.path).unwrap();
        let judge = fatfs::FileSystem::new(&file, fatfs::FsOptions::new()).unwrap();
        let counted = u64::from(judge.stats().unwrap().free_clusters()) * u64::from(judge.cluster_size());
        drop(judge);
        assert_eq!(free.bytes(), counted, "{what}");
        for range in free.ranges() {
            let len = (range.end - range.start).min(MIB) as usize;
            file.write_all_at(&vec![0xa5; len], range.start).unwrap();
        }
    }

    fn mtype(&self, path: &str) -> Vec<u8> {
        let out = Command::new("mtype").arg("-i").arg(&self.path).arg(format!("::{path}")).output();
        let out = out.expect("mtools are needed");
        assert!(out.status.success(), "{path}: {}", String::from_utf8_lossy(&out.stderr));
        out.stdout
    }

    fn mdir(&self, path: &str) -> String {
        run(Command::new("mdir").args(["-b", "-i"]).arg(&self.path).arg(format!("::{path}")))
    }
}

/// Path → content; `None` is a directory.
#[derive(Debug, Default, PartialEq)]
struct Model(BTreeMap<String, Option<Vec<u8>>>);

impl Model {
    fn names(&self) -> Vec<&String> {
        self.0.keys().collect()
    }
}

fn read_by_fatfs(dir: &fatfs::Dir<'_, std::fs::File>, at: &str, model: &mut Model) {
    for entry in dir.iter().map(Result::unwrap) {
        let name = entry.file_name();
        if name == "." || name == ".." {
            continue;
        }
        let path = format!("{at}/{name}");
        if entry.is_dir() {
            model.0.insert(path.clone(), None);
            read_by_fatfs(&entry.to_dir(), &path, model);
        } else {
            let mut content = Vec::new();
            entry.to_file().read_to_end(&mut content).unwrap();
            model.0.insert(path, Some(content));
        }
    }
}

fn read_by_us(fat: &Fat, dir: NodeId, at: &str, model: &mut Model) {
    for entry in fat.list(dir).unwrap() {
        let path = format!("{at}/{}", String::from_utf8(entry.name.clone()).unwrap());
        assert_eq!(fat.lookup(dir, &entry.name).unwrap(), Some(entry.node), "{path}");
        let metadata = fat.stat(entry.node).unwrap();
        if entry.kind == Some(FileKind::Directory) {
            model.0.insert(path.clone(), None);
            read_by_us(fat, entry.node, &path, model);
        } else {
            let mut content = vec![0; metadata.len as usize];
            assert_eq!(fat.read_at(entry.node, 0, &mut content).unwrap(), content.len());
            model.0.insert(path, Some(content));
        }
    }
}

fn find(fat: &Fat, path: &str) -> NodeId {
    let names = path.split('/').filter(|name| !name.is_empty());
    names.fold(fat.root(), |dir, name| {
        fat.lookup(dir, name.as_bytes()).unwrap().unwrap_or_else(|| panic!("{path}"))
    })
}

fn bytes(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|n| ((n * 31 + seed * 7) >> 3) as u8).collect()
}

#[test]
fn an_esp_is_built_changed_and_emptied_on_every_kind() {
    for (kind, len, arguments) in KINDS {
        let lab = Lab::new(len, arguments);
        let what = format!("{arguments:?}");
        let mut fat = lab.writable();
        assert_eq!(fat.info().features, [kind]);
        assert_eq!(fat.info().uuid.as_deref(), Some("1234-ABCD"));
        assert_eq!(fat.info().label.as_deref(), Some("ESP"));
        let mut model = Model::default();
        let root = fat.root();
        let efi = fat.create(root, b"EFI", NewNode::Directory, 0o755, 0, 0).unwrap();
        model.0.insert("/EFI".into(), None);
        for (dir, files) in [
            ("BOOT", &["BOOTX64.EFI", "grubx64.efi", "mmx64.efi"][..]),
            ("debian", &["grub.cfg", "shimx64.efi", "a rather long name with blanks.conf", "Ünïcode.txt"]),
        ] {
            let node = fat.create(efi, dir.as_bytes(), NewNode::Directory, 0o755, 0, 0).unwrap();
            model.0.insert(format!("/EFI/{dir}"), None);
            for (number, file) in files.iter().enumerate() {
                let content = bytes(number, [0, 1, 5000, 70_000][number]);
                fat.create(node, file.as_bytes(), NewNode::Regular(&content), 0o644, 0, 0).unwrap();
                model.0.insert(format!("/EFI/{dir}/{file}"), Some(content));
            }
        }
        fat.flush().unwrap();
        lab.judge(&model, &what);
        assert!(lab.mdir("/EFI/debian").contains("a rather long name with blanks.conf"), "{what}");

        // Found in any case; longer, shorter, empty.
        for (file, content) in [
            ("/EFI/debian/grub.cfg", bytes(9, 40_000)),
            ("/EFI/debian/Ünïcode.txt", b"short".to_vec()),
            ("/EFI/BOOT/mmx64.efi", Vec::new()),
        ] {
            fat.replace_content(find(&fat, &file.to_uppercase()), &content).unwrap();
            fat.flush().unwrap();
            assert!(lab.mtype(file) == content, "{what}: {file}");
            model.0.insert(file.into(), Some(content));
        }
        lab.judge(&model, &what);
        let metadata = fat.stat(find(&fat, "/EFI/debian/grub.cfg")).unwrap();
        assert_eq!((metadata.mtime, metadata.mode, metadata.uid), (NOW, 0o755, 0));

        // Within a directory, across directories, over another file, a whole directory.
        let (boot, debian) = (find(&fat, "/EFI/BOOT"), find(&fat, "/EFI/debian"));
        fat.rename(debian, b"shimx64.efi", boot, b"shimx64-with-a-longer-name.efi").unwrap();
        let moved = model.0.remove("/EFI/debian/shimx64.efi").unwrap();
        model.0.insert("/EFI/BOOT/shimx64-with-a-longer-name.efi".into(), moved);
        fat.rename(boot, b"grubx64.efi", boot, b"BOOTX64.EFI").unwrap();
        let moved = model.0.remove("/EFI/BOOT/grubx64.efi").unwrap();
        model.0.insert("/EFI/BOOT/BOOTX64.EFI".into(), moved);
        fat.rename(efi, b"debian", root, b"elsewhere").unwrap();
        model.0 = std::mem::take(&mut model.0)
            .into_iter()
            .map(|(path, content)| (path.replace("/EFI/debian", "/elsewhere"), content))
            .collect();
        fat.flush().unwrap();
        lab.judge(&model, &what);

        // Parts of a file.
        let grub = find(&fat, "/elsewhere/grub.cfg");
        fat.write_at(grub, 50_000, b"behind a gap").unwrap();
        fat.write_at(grub, 10, b"inside").unwrap();
        fat.flush().unwrap();
        let mut expected = bytes(9, 40_000);
        expected.resize(50_000, 0);
        expected.extend(b"behind a gap");
        expected[10..16].copy_from_slice(b"inside");
        model.0.insert("/elsewhere/grub.cfg".into(), Some(expected));
        lab.judge(&model, &what);

        let free = fat.space().unwrap().free_bytes;
        assert_eq!(fat.remove_dir(root, b"elsewhere").unwrap_err().code(), "guest.path.not-empty");
        let elsewhere = find(&fat, "/elsewhere");
        for entry in fat.list(elsewhere).unwrap() {
            fat.unlink(elsewhere, &entry.name).unwrap();
        }
        fat.remove_dir(root, b"elsewhere").unwrap();
        model.0.retain(|path, _| !path.starts_with("/elsewhere"));
        fat.flush().unwrap();
        lab.judge(&model, &what);
        assert!(fat.space().unwrap().free_bytes > free);
    }
}

#[test]
fn only_what_every_fat_holds_as_free_is_free() {
    for (kind, len, arguments) in KINDS {
        let lab = Lab::new(len, arguments);
        let before = lab.readable().free_ranges().unwrap();
        let boot = std::fs::read(&lab.path).unwrap();
        let word = |at: usize| u64::from(boot[at]) | u64::from(boot[at + 1]) << 8;
        let (sector, reserved) = (word(11), word(14));
        let fat_sectors = if word(22) == 0 { word(36) | word(38) << 16 } else { word(22) };
        // Cluster 10 in the second FAT only: its 12, 16 or 32 bits.
        let (at, mark): (u64, &[u8]) = match kind {
            "fat12" => (15, &[0xff, 0x0f]),
            "fat16" => (20, &[0xff, 0xff]),
            _ => (40, &[0xff, 0xff, 0xff, 0x0f]),
        };
        let file = std::fs::File::options().write(true).open(&lab.path).unwrap();
        file.write_all_at(mark, (reserved + fat_sectors) * sector + at).unwrap();
        let after = lab.readable().free_ranges().unwrap();
        let cluster = u64::from(lab.readable().info().block_size);
        assert_eq!(before.bytes() - after.bytes(), cluster, "{arguments:?}");
        assert_eq!(after.ranges().len(), before.ranges().len() + 1, "{arguments:?}");
        if kind == "fat32" {
            // The top four bits belong to nobody.
            file.write_all_at(&[0, 0, 0, 0xf0], (reserved + fat_sectors) * sector + at).unwrap();
            assert_eq!(lab.readable().free_ranges().unwrap(), before, "{arguments:?}");
        }
    }
}

#[test]
fn a_hundred_long_names_and_what_mtools_wrote() {
    let lab = Lab::new(20 * MIB, &["-F", "16"]);
    let source = lab.path.with_extension("source");
    std::fs::write(&source, bytes(3, 12_345)).unwrap();
    run(Command::new("mmd").arg("-i").arg(&lab.path).arg("::/EFI"));
    run(Command::new("mcopy").arg("-i").arg(&lab.path).arg(&source).arg("::/EFI/Written by mtools.efi"));
    let mut model = Model::default();
    model.0.insert("/EFI".into(), None);
    model.0.insert("/EFI/Written by mtools.efi".into(), Some(bytes(3, 12_345)));
    lab.judge(&model, "mtools");
    let mut fat = lab.writable();
    let efi = find(&fat, "/EFI");
    for number in 0..100 {
        let name = format!("one of many names that look alike {number:03}.conf");
        fat.create(efi, name.as_bytes(), NewNode::Regular(&bytes(number, number * 37)), 0o644, 0, 0).unwrap();
        model.0.insert(format!("/EFI/{name}"), Some(bytes(number, number * 37)));
    }
    for number in (0..100).step_by(3) {
        let name = format!("one of many names that look alike {number:03}.conf");
        fat.unlink(efi, name.as_bytes()).unwrap();
        model.0.remove(&format!("/EFI/{name}"));
    }
    fat.flush().unwrap();
    lab.judge(&model, "many");
}

#[test]
fn what_fat_cannot_hold_is_refused_by_name() {
    let lab = Lab::new(2 * MIB, &["-F", "12"]);
    let before = std::fs::read(&lab.path).unwrap();
    let mut fat = lab.writable();
    let root = fat.root();
    let code = |error: VfsError| error.code();
    let mut create = |name: &[u8], node, uid| fat.create(root, name, node, 0o644, uid, 0).map_err(code);
    assert_eq!(create(b"a", NewNode::Symlink(b"b"), 0), Err("fat.symlink"));
    assert_eq!(create(b"a", NewNode::Special(FileKind::Fifo, 0, 0), 0), Err("fat.special"));
    assert_eq!(create(b"a", NewNode::Regular(b""), 5), Err("fat.owner"));
    for name in [&b"a:b"[..], b"a?", b"", b"..", b"a/b", b"\xff\xfe", &[b'x'; 256]] {
        assert_eq!(create(name, NewNode::Regular(b""), 0), Err("guest.path.bad-name"), "{name:?}");
    }
    assert_eq!(create(b"big", NewNode::Regular(&vec![0; 3 << 20]), 0), Err("guest.space.blocks"));
    assert_eq!(fat.set_xattr(root, b"user.x", b"").map_err(code), Err("fat.xattr"));
    assert_eq!(fat.link(root, root, b"x").map_err(code), Err("fat.link"));
    fat.flush().unwrap();
    drop(fat);
    assert!(std::fs::read(&lab.path).unwrap() == before, "nothing was written");

    let mut fat = lab.writable();
    let file = fat.create(root, b"file", NewNode::Regular(b"x"), 0o644, 0, 0).unwrap();
    assert_eq!(
        fat.create(root, b"FILE", NewNode::Directory, 0o755, 0, 0).map_err(code),
        Err("guest.path.exists")
    );
    let change = |mode, uid| MetadataChange { mode, uid, ..MetadataChange::default() };
    assert_eq!(fat.set_metadata(file, change(Some(0o600), None)).map_err(code), Err("fat.mode"));
    assert_eq!(fat.set_metadata(file, change(None, Some(7))).map_err(code), Err("fat.owner"));
    fat.set_metadata(file, change(Some(0o755), Some(0))).unwrap();
    assert!(fat.xattrs(file).unwrap().is_empty() && fat.read_link(file).is_err());
    let too_big = fat.replace_content(file, &vec![1; 3 << 20]).map_err(code);
    assert_eq!(too_big, Err("guest.space.blocks"));
    fat.flush().unwrap();
    drop(fat);
    let mut reader = lab.readable();
    assert_eq!(reader.writable().map(|_| ()).map_err(code), Err("guest.read-only"));
    let mut model = Model::default();
    model.0.insert("/file".into(), Some(b"x".to_vec()));
    lab.judge(&model, "after refusals");
}

#[test]
fn random_edits_agree_with_a_model() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = move |bound: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 11) as usize % bound
    };
    for (_, len, arguments) in KINDS {
        let lab = Lab::new(len, arguments);
        let mut model = Model::default();
        for round in 0..4 {
            let mut fat = lab.writable();
            for _ in 0..60 {
                let name = format!("{}{}", ["F", "a long file name, number "][below(2)], below(12));
                let path = format!("/{name}");
                let (root, content) = (fat.root(), bytes(below(99), below(30_000)));
                let is_there = model.0.contains_key(&path);
                match below(4) {
                    0 | 1 if is_there => {
                        fat.replace_content(find(&fat, &path), &content).unwrap();
                        model.0.insert(path, Some(content));
                    }
                    0 | 1 => {
                        fat.create(root, name.as_bytes(), NewNode::Regular(&content), 0o644, 0, 0).unwrap();
                        model.0.insert(path, Some(content));
                    }
                    2 if is_there => {
                        fat.unlink(root, name.as_bytes()).unwrap();
                        model.0.remove(&path);
                    }
                    3 if is_there => {
                        let to = format!("{} {}", "Renamed", below(8));
                        fat.rename(root, name.as_bytes(), root, to.as_bytes()).unwrap();
                        let moved = model.0.remove(&path).unwrap();
                        model.0.insert(format!("/{to}"), moved);
                    }
                    _ => assert!(fat.unlink(root, name.as_bytes()).is_err() || is_there),
                }
            }
            fat.flush().unwrap();
            lab.judge(&model, &format!("{arguments:?} round {round}"));
        }
    }
}

#[test]
fn damaged_filesystems_end_in_errors_and_never_in_a_panic() {
    let lab = Lab::new(2 * MIB, &["-F", "12"]);
    let mut fat = lab.writable();
    let root = fat.root();
    let dir = fat.create(root, b"some directory", NewNode::Directory, 0o755, 0, 0).unwrap();
    for number in 0..20 {
        let name = format!("file number {number}");
        fat.create(dir, name.as_bytes(), NewNode::Regular(&bytes(number, 5000)), 0o644, 0, 0).unwrap();
    }
    fat.flush().unwrap();
    drop(fat);
    let sound = std::fs::read(&lab.path).unwrap();
    let mut seed = 77_u64;
    let mut next = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed as usize
    };
    for _ in 0..400 {
        let mut bytes = sound.clone();
        for _ in 0..1 + next() % 8 {
            // Boot sector, both FATs, root directory, the first clusters.
            let at = [next() % 512, next() % 20_000, next() % 60_000][next() % 3];
            bytes[at] = next() as u8;
        }
        touch_everything(&bytes);
    }
}

fn touch_everything(bytes: &[u8]) {
    let device = Arc::new(block::MemoryDevice::new(bytes.to_vec()));
    let readable: Arc<dyn block::ReadAt> = device.clone();
    let _ = check(&readable);
    let Ok(mut fat) = Fat::open_writable(device) else { return };
    let mut dirs = vec![(fat.root(), 0)];
    while let Some((dir, depth)) = dirs.pop() {
        for entry in fat.list(dir).unwrap_or_default() {
            let _ = fat.stat(entry.node);
            let _ = fat.read_at(entry.node, 0, &mut [0; 9000]);
            if entry.kind == Some(FileKind::Directory) && depth < 3 {
                dirs.push((entry.node, depth + 1));
            }
            let _ = fat.replace_content(entry.node, b"new content");
        }
        let _ = fat.create(dir, b"one more with a long name", NewNode::Regular(b"x"), 0o644, 0, 0);
        let _ = fat.unlink(dir, b"file number 3");
    }
    let _ = fat.flush();
}
