//! `fix` changes the planned paths and nothing else: judged by the kernel's own view of the files, and block
//! by block by debugfs. A second `fix` plans nothing and writes nothing.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test says what it sees and fails by panicking"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use testkit::recipe::Image;

use support::{coldfit_json, cut_partition, image, is_root, same_bytes, to_raw, tool};

const BLOCK: usize = 4096;

/// Path to everything that can be seen of a file: kind, mode, owner, size, time, links, target, content, xattrs.
fn walk(filesystem: &Path, folder: &Path) -> BTreeMap<String, String> {
    let mount_point = folder.join("mnt");
    std::fs::create_dir_all(&mount_point).unwrap();
    let by_kernel = is_root();
    if by_kernel {
        tool(
            "mount",
            ["-o".as_ref(), "loop,ro,noload".as_ref(), filesystem.as_os_str(), mount_point.as_os_str()],
        );
    } else {
        eprintln!(
            "not root: debugfs copies the files out; owners, devices and xattrs are not judged in this run"
        );
        let request = format!("rdump / {}", mount_point.display());
        tool("debugfs", ["-R".as_ref(), request.as_ref(), filesystem.as_os_str()]);
    }
    let script = r#"cd "$0" && find . -printf '%p\t%y %m %U:%G %s %n %T@ %l\n' && echo =sums= &&
        find . -type f -print0 | xargs -0 sha256sum && echo =xattrs= && getfattr -R -h -d -m - -e hex . "#;
    let listing = tool("sh", ["-c".as_ref(), script.as_ref(), mount_point.as_os_str()]);
    if by_kernel {
        testkit::tool::unmount(&mount_point).unwrap();
    } else {
        std::fs::remove_dir_all(&mount_point).unwrap();
    }
    let (names, rest) = listing.split_once("=sums=\n").unwrap();
    let (sums, xattrs) = rest.split_once("=xattrs=\n").unwrap();
    let mut files = BTreeMap::new();
    let mut add = |path: &str, what: &str| {
        let path = path.strip_prefix('.').unwrap_or(path);
        let path = if path.is_empty() { "/" } else { path };
        files.entry(path.to_owned()).or_insert_with(String::new).push_str(&format!("{what}; "));
    };
    for line in names.lines() {
        let (path, what) = line.split_once('\t').unwrap();
        add(path, what);
    }
    for line in sums.lines() {
        add(&line[66..], &line[..64]);
    }
    for group in xattrs.split("\n\n") {
        if let Some((file, values)) = group.trim().split_once('\n') {
            add(&format!("./{}", file.trim_start_matches("# file: ").trim_start_matches("./")), values);
        }
    }
    assert!(files.len() > 1000, "only {} files seen", files.len());
    files
}

/// Numbers of the filesystem blocks that differ.
fn changed_blocks(before: &Path, after: &Path) -> BTreeSet<u64> {
    // cmp prints the byte (from 1) of each difference.
    let output = Command::new("cmp").arg("-l").arg(before).arg(after).output().unwrap();
    assert!(output.status.code() == Some(1), "cmp: {}", String::from_utf8_lossy(&output.stderr));
    let bytes = output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    bytes
        .map(|line| {
            let line = std::str::from_utf8(line).unwrap().trim_start();
            (line.split(' ').next().unwrap().parse::<u64>().unwrap() - 1) / BLOCK as u64
        })
        .collect()
}

/// For each block the inode that owns it; blocks without an owner are not listed. By debugfs.
fn owners(filesystem: &Path, blocks: &BTreeSet<u64>) -> BTreeMap<u64, u64> {
    let mut owners = BTreeMap::new();
    let blocks: Vec<String> = blocks.iter().map(u64::to_string).collect();
    for some in blocks.chunks(500) {
        let request = format!("icheck {}", some.join(" "));
        let listing = tool("debugfs", ["-R".as_ref(), request.as_ref(), filesystem.as_os_str()]);
        for line in listing.lines().skip(1) {
            let (block, inode) = line.split_once('\t').unwrap();
            if let Ok(inode) = inode.parse() {
                owners.insert(block.parse().unwrap(), inode);
            }
        }
    }
    owners
}

/// Blocks of superblock, descriptors, bitmaps and inode tables, by dumpe2fs.
fn metadata_blocks(filesystem: &Path) -> BTreeSet<u64> {
    let listing = tool("dumpe2fs", [filesystem]);
    let mut blocks = BTreeSet::new();
    for line in listing.lines() {
        let is_named = ["superblock at", "Group descriptors at", "bitmap at", "Inode table at"];
        if !is_named.iter().any(|name| line.contains(name)) {
            continue;
        }
        for part in line.split(" at ").skip(1) {
            let range = part.split([',', ' ', '(']).next().unwrap();
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            if let (Ok(first), Ok(last)) = (first.parse::<u64>(), last.parse::<u64>()) {
                blocks.extend(first..=last);
            }
        }
    }
    assert!(blocks.len() > 100);
    blocks
}

fn inode_of(filesystem: &Path, path: &str) -> u64 {
    let listing = tool("debugfs", ["-R".as_ref(), format!("stat {path}").as_ref(), filesystem.as_os_str()]);
    let words: Vec<&str> = listing.split_whitespace().collect();
    words[1].parse().unwrap_or_else(|_| panic!("{path}: {listing}"))
}

#[test]
fn only_planned_paths_and_their_blocks_differ_and_a_second_fix_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let disk = image(Image::Mbr, dir.path());
    let at = |name: &str| dir.path().join(name);
    to_raw(&disk, &at("before.raw"));
    let report = coldfit_json(["fix".as_ref(), "--profile=kvm".as_ref(), disk.as_os_str()]);
    to_raw(&disk, &at("after.raw"));
    for name in ["before", "after"] {
        cut_partition(&at(&format!("{name}.raw")), 1, &at(&format!("{name}.ext4")));
    }
    let planned: BTreeSet<String> = report["edits"]
        .as_array()
        .unwrap()
        .iter()
        .map(|edit| edit["path"].as_str().unwrap().to_owned())
        .collect();
    assert!(planned.iter().any(|path| path.starts_with("/boot/initrd.img-")), "{planned:?}");

    // Files as the kernel sees them.
    let (before, after) = (walk(&at("before.ext4"), dir.path()), walk(&at("after.ext4"), dir.path()));
    let all: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let differ: BTreeSet<String> =
        all.into_iter().filter(|path| before.get(*path) != after.get(*path)).cloned().collect();
    let created = planned.iter().filter(|path| !before.contains_key(*path));
    let parents: BTreeSet<String> =
        created.map(|path| path.rsplit_once('/').map_or("/", |(parent, _)| parent).to_owned()).collect();
    assert!(planned.is_subset(&differ), "planned and not changed: {:?}", planned.difference(&differ));
    let unplanned: Vec<_> =
        differ.iter().filter(|path| !planned.contains(*path) && !parents.contains(*path)).collect();
    assert!(unplanned.is_empty(), "changed and not planned: {unplanned:?}");

    // Blocks as debugfs attributes them, outside of the partition and inside.
    let (start, _) = support::partition(&at("before.raw"), 1);
    let head = |name: &str| {
        use std::io::Read;
        let mut head = vec![0; start as usize];
        std::fs::File::open(at(name)).unwrap().read_exact(&mut head).unwrap();
        head
    };
    assert!(head("before.raw") == head("after.raw"), "bytes before the partition changed");
    let changed = changed_blocks(&at("before.ext4"), &at("after.ext4"));
    let metadata = metadata_blocks(&at("after.ext4"));
    let owned = owners(&at("after.ext4"), &changed);
    let allowed: BTreeSet<u64> =
        planned.iter().chain(&parents).map(|path| inode_of(&at("after.ext4"), path)).collect();
    let stray: Vec<_> = changed
        .iter()
        .filter(|block| {
            !metadata.contains(block) && !owned.get(block).is_some_and(|inode| allowed.contains(inode))
        })
        .map(|block| (block, owned.get(block)))
        .collect();
    assert!(stray.is_empty(), "blocks changed that belong to no planned file: {stray:?}");
    let image_blocks: usize = std::fs::metadata(at("after.ext4")).unwrap().len() as usize / BLOCK;
    assert!(changed.len() * 10 < image_blocks, "{} of {image_blocks} blocks changed", changed.len());

    // Again.
    std::fs::copy(&disk, at("first.qcow2")).unwrap();
    let again = coldfit_json(["fix".as_ref(), "--profile=kvm".as_ref(), disk.as_os_str()]);
    assert_eq!(again["edits"].as_array().map(Vec::len), Some(0), "{again}");
    assert!(same_bytes(&disk, &at("first.qcow2")), "a second fix wrote to the image");
}
