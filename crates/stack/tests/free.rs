//! Free space of a whole disk: what a volume gives, why one gives nothing, and that nothing is lost with it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use block::Access;
use coldfit_stack::{CommitTarget, FreeSpace, Image, SealedImage, VolumeFreeSpace};
use common::*;
use report::Silent;
use vfs::DiskEdit;

const SWAP_AT: u64 = 33 * MIB;
const SWAP_LEN: u64 = 4 * MIB;

fn sealed(path: &Path) -> SealedImage {
    Image::open(path, &raw(), &Silent).unwrap().seal().unwrap()
}

fn free_space(path: &Path) -> FreeSpace {
    sealed(path).free_space().unwrap()
}

fn code(volume: &VolumeFreeSpace) -> Option<&'static str> {
    volume.why_not.as_ref().map(|why_not| why_not.code)
}

/// Bytes free in the eyes of dumpe2fs.
fn free_by_dumpe2fs(lab: &Lab, disk: &Path, start: u64, len: u64) -> u64 {
    let part = lab.extract(disk, start, len);
    let listing = String::from_utf8(run(Command::new("dumpe2fs").arg("-h").arg(part)).stdout).unwrap();
    let number = |key: &str| {
        let line = listing.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.trim().parse::<u64>().unwrap()
    };
    number("Free blocks:") * number("Block size:")
}

/// Every file of a filesystem with its content, in the eyes of debugfs.
fn files(lab: &Lab, disk: &Path, start: u64, len: u64) -> BTreeMap<String, Vec<u8>> {
    let (part, to) = (lab.extract(disk, start, len), lab.path("dumped"));
    let _ = fs::remove_dir_all(&to);
    fs::create_dir(&to).unwrap();
    run(Command::new("debugfs").arg("-R").arg(format!("rdump / {}", to.display())).arg(part));
    let mut found = BTreeMap::new();
    let mut open = vec![to.clone()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            let content = match (kind.is_dir(), kind.is_symlink()) {
                (true, _) => {
                    open.push(path.clone());
                    Vec::new()
                }
                (_, true) => fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes(),
                _ => fs::read(&path).unwrap(),
            };
            found.insert(path.strip_prefix(&to).unwrap().display().to_string(), content);
        }
    }
    assert!(!found.is_empty());
    found
}

fn overwrite(disk: &Path, free: &FreeSpace) {
    let file = fs::File::options().write(true).open(disk).unwrap();
    for range in free.ranges.ranges() {
        file.write_all_at(&vec![0xa5; (range.end - range.start) as usize], range.start).unwrap();
    }
}

#[test]
fn filesystems_and_swap_give_all_they_have_and_nothing_outside_of_them() {
    let lab = Lab::new();
    let disk = usual_guest(&lab);
    // Deleted content.
    let part = lab.extract(&disk, ROOT_AT, ROOT_LEN);
    let (secret, script) = (lab.path("secret"), lab.path("script"));
    fs::write(&secret, "a deleted secret ".repeat(50_000)).unwrap();
    fs::write(&script, format!("write {} gone\nrm gone\n", secret.display())).unwrap();
    run(Command::new("debugfs").arg("-w").arg("-f").arg(&script).arg(&part));
    let file = fs::File::options().write(true).open(&disk).unwrap();
    file.write_all_at(&fs::read(&part).unwrap(), ROOT_AT).unwrap();
    let before = fs::read(&disk).unwrap();
    let holds_secret =
        |bytes: &[u8]| bytes.windows(34).any(|piece| piece == b"a deleted secret a deleted secret ");
    assert!(holds_secret(&before));

    let free = free_space(&disk);
    let given: Vec<_> = free.volumes.iter().map(|one| (one.volume.as_str(), one.free_bytes)).collect();
    let expected = [
        ("partition 1", free_by_dumpe2fs(&lab, &disk, BOOT_AT, BOOT_LEN)),
        ("partition 2", free_by_dumpe2fs(&lab, &disk, ROOT_AT, ROOT_LEN)),
        ("partition 3", SWAP_LEN - 4096),
    ];
    assert_eq!(given, expected);
    assert!(free.volumes.iter().all(|volume| volume.why_not.is_none()));
    assert_eq!(free.ranges.bytes(), expected.iter().map(|(_, bytes)| bytes).sum::<u64>());
    let places = [(BOOT_AT, BOOT_LEN), (ROOT_AT, ROOT_LEN), (SWAP_AT, SWAP_LEN)];
    for range in free.ranges.ranges() {
        assert!(places.iter().any(|(at, len)| *at <= range.start && range.end <= at + len), "{range:?}");
    }

    let all = places.map(|(at, len)| if at == SWAP_AT { None } else { Some(files(&lab, &disk, at, len)) });
    overwrite(&disk, &free);
    assert!(!holds_secret(&fs::read(&disk).unwrap()));
    for ((at, len), before) in places.into_iter().zip(all).filter_map(|(at, all)| Some((at, all?))) {
        lab.assert_e2fsck_clean(&disk, at, len);
        assert!(files(&lab, &disk, at, len) == before);
    }
    run(Command::new("swaplabel").arg(lab.extract(&disk, SWAP_AT, SWAP_LEN)));
    run(Command::new("sgdisk").arg("-v").arg(&disk));
}

#[test]
fn a_volume_that_cannot_be_believed_gives_nothing_and_says_why() {
    let lab = Lab::new();
    let clean = fs::read(usual_guest(&lab)).unwrap();
    let number = std::cell::Cell::new(0);
    let copy = || {
        number.set(number.get() + 1);
        let disk = lab.path(&format!("{}.raw", number.get()));
        fs::write(&disk, &clean).unwrap();
        disk
    };
    let dirty = |start: u64, len: u64, commands: &str| {
        let disk = copy();
        let part = lab.extract(&disk, start, len);
        let (script, block) = (lab.path("script"), lab.path("block"));
        fs::write(&block, vec![0; 4096]).unwrap();
        fs::write(&script, commands.replace("BLOCK", &block.display().to_string())).unwrap();
        run(Command::new("debugfs").arg("-w").arg("-f").arg(&script).arg(&part));
        let file = fs::File::options().write(true).open(&disk).unwrap();
        file.write_all_at(&fs::read(&part).unwrap(), start).unwrap();
        disk
    };
    let patched = |at: u64, bytes: &[u8]| {
        let disk = copy();
        fs::File::options().write(true).open(&disk).unwrap().write_all_at(bytes, at).unwrap();
        disk
    };
    let root = 1;
    let swap = 2;
    for (disk, volume, expected) in [
        (dirty(ROOT_AT, ROOT_LEN, "jo\njw -b 5000 BLOCK\njc\n"), root, "free-space.journal"),
        (dirty(ROOT_AT, ROOT_LEN, "setb 5000 3\n"), root, "free-space.damaged"),
        (dirty(ROOT_AT, ROOT_LEN, "freeb 5 2\n"), root, "free-space.damaged"),
        (dirty(ROOT_AT, ROOT_LEN, "ssv error_count 3\n"), root, "free-space.recorded-errors"),
        (
            patched(ROOT_AT + 512, b"LABELONE\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0LVM2 001"),
            root,
            "free-space.ambiguous",
        ),
        (patched(ROOT_AT + 1024 + 56, &[0, 0]), root, "free-space.unknown"),
        (patched(SWAP_AT + 4086, b"S1SUSPEND\0"), swap, "free-space.unsupported"),
        (patched(SWAP_AT + 1024, &[9]), swap, "free-space.swap"),
    ] {
        let free = free_space(&disk);
        assert_eq!(code(&free.volumes[volume]), Some(expected), "{:?}", free.volumes);
        assert_eq!(free.volumes[volume].free_bytes, 0);
        assert!(free.volumes.iter().enumerate().all(|(index, one)| (index == volume) == code(one).is_some()));
        let given: u64 = free.volumes.iter().map(|one| one.free_bytes).sum();
        assert_eq!(free.ranges.bytes(), given);
    }
}

#[test]
fn an_edit_counts_and_a_journal_that_it_replays_is_no_obstacle() {
    let lab = Lab::new();
    let disk = usual_guest(&lab);
    let part = lab.extract(&disk, ROOT_AT, ROOT_LEN);
    let (script, block) = (lab.path("script"), lab.path("block"));
    fs::write(&block, vec![0; 4096]).unwrap();
    fs::write(&script, format!("jo\njw -b 5000 {}\njc\n", block.display())).unwrap();
    run(Command::new("debugfs").arg("-w").arg("-f").arg(&script).arg(&part));
    let file = fs::File::options().write(true).open(&disk).unwrap();
    file.write_all_at(&fs::read(&part).unwrap(), ROOT_AT).unwrap();

    let mut image = Image::open(&disk, &options(Access::Write), &Silent).unwrap();
    let mut tree = image.open_tree(true).unwrap();
    tree.write(&guest("/etc/large"), &vec![7; 3 << 20], 0o644).unwrap();
    tree.flush().unwrap();
    drop(tree);
    let sealed = image.seal().unwrap();
    sealed.verify().unwrap();
    let free = sealed.free_space().unwrap();
    assert_eq!(code(&free.volumes[1]), None);
    sealed.commit(CommitTarget::InPlace { undo_file: None }, &Silent).unwrap();
    assert_eq!(free.volumes[1].free_bytes, free_by_dumpe2fs(&lab, &disk, ROOT_AT, ROOT_LEN));
    let before = files(&lab, &disk, ROOT_AT, ROOT_LEN);
    assert_eq!(before["etc/large"], vec![7; 3 << 20]);
    overwrite(&disk, &free);
    lab.assert_e2fsck_clean(&disk, ROOT_AT, ROOT_LEN);
    assert!(files(&lab, &disk, ROOT_AT, ROOT_LEN) == before);
}

#[test]
fn a_swap_partition_that_was_taken_out_is_free_and_its_neighbours_are_not_touched() {
    let lab = Lab::new();
    let disk = usual_guest(&lab);
    let before = free_space(&disk);
    let mut image = Image::open(&disk, &options(Access::Read), &Silent).unwrap();
    image.open_tree(true).unwrap();
    image.edit_disk(&[DiskEdit::RemovePartition { number: 3 }]).unwrap();
    let sealed = image.seal().unwrap();
    let free = sealed.free_space().unwrap();
    let names: Vec<&str> = free.volumes.iter().map(|one| one.volume.as_str()).collect();
    assert_eq!(names, ["partition 1", "partition 2", "partition 3 (removed)"]);
    assert_eq!(free.ranges, before.ranges);
}

#[test]
fn a_fat_filesystem_gives_its_clusters_and_a_disk_without_a_table_its_blocks() {
    let lab = Lab::new();
    let script = "label: gpt\nunit: sectors\n1: start=2048, size=65536, type=uefi\n";
    let esp = Fs { start: MIB, len: 32 * MIB, mkfs: "mkfs.fat -F 16 -n ESP", files: &[] };
    let disk = lab.disk("esp.raw", 40 * MIB, script, &[esp]);
    let free = free_space(&disk);
    assert_eq!(code(&free.volumes[0]), None, "{:?}", free.volumes);
    assert!(free.volumes[0].free_bytes > 30 * MIB);
    overwrite(&disk, &free);
    run(Command::new("fsck.fat").arg("-n").arg(lab.extract(&disk, MIB, 32 * MIB)));

    let whole = Fs { start: 0, len: 20 * MIB, mkfs: "mke2fs -t ext4 -b 1024", files: &[("/a", "b")] };
    let disk = lab.disk("whole.raw", 20 * MIB, "", &[whole]);
    let free = free_space(&disk);
    assert_eq!(free.ranges.bytes(), free_by_dumpe2fs(&lab, &disk, 0, 20 * MIB));
    assert!(free.ranges.ranges()[0].start >= 2048);
}
