//! The structural check against e2fsck: silent on what e2fsck passes, and never silent on what it blames.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)] // Helpers of tests fail as tests do.

mod support;

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use coldfit_ext4::{CheckReport, check};
use support::*;

fn checked(image: &Path) -> CheckReport {
    check(&*reader(image)).unwrap()
}

/// What the check says about an image that e2fsck passes.
fn complaint(image: &Path, context: &str) -> Option<String> {
    assert_e2fsck_clean(image, context);
    let report = checked(image);
    let shown: Vec<String> = report.problems.iter().take(8).map(ToString::to_string).collect();
    (!report.is_clean()).then(|| format!("{context}: {}", shown.join("\n")))
}

#[test]
fn clean_images_of_the_whole_matrix_have_no_problem() {
    let dir = scratch();
    let image = dir.path().join("image");
    let mut complaints = Vec::new();
    for row in MATRIX {
        mkfs(&image, row.mib, row.args);
        complaints.extend(complaint(&image, row.args));
        if row.args.contains("quota") {
            continue; // debugfs does not keep the usage up to date.
        }
        populate(&image);
        complaints.extend(complaint(&image, row.args));
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// Faults that debugfs makes with right checksums, so that only the structure itself can tell.
const FAULTS: &[&str] = &[
    "sif a/short links_count 5",
    "sif a/short mode 0",
    "sif a/short mode 010644",
    "sif a/short blocks 78",
    "sif a/short dtime 12345",
    "sif a/short size 90000000000",
    "sif a/short file_acl 999999",
    "sif a/b mode 0100644",
    "sif a/b size 1",
    "sif a/b links_count 9",
    "sif a/b flags 0x1000",
    "sif big size 5",
    "sif big block[0] 1",
    "sif big generation 77",
    "sif many links_count 1000",
    "sif many generation 77",
    "sif fast size 3",
    "sif a/slow size 3",
    "sif a/pipe size 3",
    "sif <2> links_count 1",
    "sif <11> links_count 0",
    "clri a/b",
    "clri a/short",
    "clri a/pipe",
    "clri many/a-name-of-some-length-0007",
    "freei a/short",
    "seti <900>",
    "setb 12000 3",
    "freeb 300 2",
    "ln a/short second-name",
    "ln a second-name-of-a-directory",
    "unlink a/short",
    "unlink a/b",
    "unlink a",
    "ssv free_blocks_count 5",
    "ssv free_inodes_count 5",
    "ssv first_ino 5",
    "ssv inodes_count 99",
    "set_bg 0 free_blocks_count 5",
    "set_bg 0 free_inodes_count 5",
    "set_bg 1 used_dirs_count 5",
    "set_bg 0 itable_unused 2047",
    "set_bg 0 inode_bitmap 4000",
    "set_bg 0 block_bitmap 4000",
    "set_bg 0 inode_table 4000",
    "set_bg 0 checksum 1",
    "set_bg 0 flags 3",
];

#[test]
fn every_fault_that_e2fsck_sees_is_seen() {
    let dir = scratch();
    let image = dir.path().join("image");
    let mut missed = Vec::new();
    let mut seen = 0;
    for args in [
        "-t ext4 -b 1024 -O metadata_csum",
        "-t ext4 -b 1024 -O ^metadata_csum,^64bit,uninit_bg",
        "-t ext3 -b 1024 -I 128",
    ] {
        mkfs(&image, 24, args);
        populate(&image);
        for fault in FAULTS {
            let broken = copy(&image, "broken");
            // A wrong descriptor is left with a right checksum, so that its content is what counts.
            let seal = match fault.split_whitespace().collect::<Vec<_>>()[..] {
                ["set_bg", group, field, _] if field != "checksum" && !args.contains("ext3") => {
                    format!("set_bg {group} checksum calc\n")
                }
                _ => String::new(),
            };
            debugfs_write(&broken, &format!("{fault}\n{seal}"));
            let ours = check(&*reader(&broken));
            let is_silent = ours.as_ref().is_ok_and(CheckReport::is_clean);
            if let Some(theirs) = e2fsck_complaint(&broken) {
                seen += 1;
                if is_silent {
                    missed.push(format!("{args} / {fault}: {theirs}"));
                }
            }
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
    assert!(seen > 100, "only {seen} faults were faults to e2fsck");
}

/// Flips bytes of metadata where checksums do not help.
#[test]
fn random_damage_that_e2fsck_sees_is_seen() {
    let dir = scratch();
    let image = dir.path().join("image");
    mkfs(&image, 16, "-t ext4 -b 1024 -O ^metadata_csum,^64bit,^uninit_bg");
    populate(&image);
    // Superblock and descriptors, bitmaps, inode table of the first group; a directory; the blocks of many files.
    let first_of = |file: &str| -> u64 { debugfs(&image, &format!("bmap {file} 0")).trim().parse().unwrap() };
    let field = |name: &str| -> u64 {
        let text = run("dumpe2fs", &[image.to_str().unwrap()]);
        let line = text.lines().find(|line| line.contains(name)).unwrap();
        let at = line.find(name).unwrap() + name.len();
        line[at..].trim_start_matches([' ', 'a', 't']).split(['-', ' ', ',']).next().unwrap().parse().unwrap()
    };
    let areas = [
        (2 * 1024, 96),
        (field("Block bitmap") * 1024, 1024),
        (field("Inode bitmap") * 1024, 1024),
        (field("Inode table") * 1024 + 10 * 256, 80 * 256),
        (field("Inode table") * 1024 + 10 * 256, 10 * 256),
        (first_of("many") * 1024, 1024),
        (first_of("a") * 1024, 128),
        (first_of("/") * 1024, 128),
    ];
    let file = OpenOptions::new().read(true).write(true).open(&image).unwrap();
    let mut random = Random::new(11);
    let mut missed = Vec::new();
    let mut seen = 0;
    for _ in 0..250 {
        let (start, len) = areas[random.below(areas.len() as u64) as usize];
        let at = start + random.below(len);
        let mut old = [0];
        file.read_exact_at(&mut old, at).unwrap();
        let new = if random.chance(50) { old[0] ^ 1 << random.below(8) } else { random.next() as u8 };
        file.write_all_at(&[new], at).unwrap();
        let ours = check(&*reader(&image));
        if let Some(theirs) = e2fsck_complaint(&image) {
            seen += 1;
            if ours.as_ref().is_ok_and(CheckReport::is_clean) {
                missed.push(format!("byte {at} from {:#x} to {new:#x}: {theirs}", old[0]));
            }
        }
        file.write_all_at(&old, at).unwrap();
    }
    assert!(missed.is_empty(), "{} of {seen}: {}", missed.len(), missed.join("\n"));
    assert!(seen > 60, "only {seen} damages were damages to e2fsck");
}
