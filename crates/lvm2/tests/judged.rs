//! Groups made by LVM2's own tools on loop devices; the tools say where each extent lies. Needs root.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod common;

use std::collections::BTreeMap;
use std::path::PathBuf;

use block::WriteAt;
use coldfit_lvm2::{AreaState, Group};
use common::*;
use report::Diagnose;
use testkit::lvm::Lvm;

/// Content of a logical volume by what `lvs` and `pvs` say of it.
fn by_tools(lvm: &Lvm, images: &[PathBuf], vg: &str, lv: &str) -> Vec<u8> {
    let mut starts = BTreeMap::new();
    for line in lvm.run("pvs --noheadings --units b --nosuffix -o pv_name,pe_start").lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let index = (0..images.len()).find(|index| lvm.device(*index) == words[0]).unwrap();
        starts.insert(words[0].to_owned(), (index, words[1].parse::<u64>().unwrap()));
    }
    let words = "vg_extent_size,stripe_size,seg_start_pe,seg_pe_ranges";
    let said = lvm.run(&format!(
        "lvs --noheadings --units b --nosuffix --separator ; -o {words} -O seg_start_pe {vg}/{lv}"
    ));
    let mut content = Vec::new();
    for line in said.lines() {
        let words: Vec<&str> = line.trim().split(';').collect();
        let (extent, chunk): (u64, usize) = (words[0].parse().unwrap(), words[1].parse().unwrap());
        assert_eq!(content.len() as u64, words[2].parse::<u64>().unwrap() * extent);
        let columns: Vec<Vec<u8>> = words[3]
            .split_whitespace()
            .map(|range| {
                let (device, extents) = range.split_once(':').unwrap();
                let (first, last) = extents.split_once('-').unwrap();
                let (first, last): (u64, u64) = (first.parse().unwrap(), last.parse().unwrap());
                let (index, start) = starts[device];
                read(&images[index], start + first * extent, (last + 1 - first) * extent)
            })
            .collect();
        if columns.len() == 1 {
            content.extend(&columns[0]);
            continue;
        }
        for row in 0..columns[0].len() / chunk {
            for column in &columns {
                content.extend(&column[row * chunk..(row + 1) * chunk]);
            }
        }
    }
    content
}

fn only(mut groups: Vec<Group>) -> Group {
    assert_eq!(groups.len(), 1);
    groups.remove(0)
}

#[test]
fn linear_and_striped_volumes_have_the_bytes_that_lvs_places_there() {
    let dir = tempfile::tempdir().unwrap();
    let images = images(dir.path(), 3, 24 * MIB);
    let lvm = Lvm::over(&images.iter().map(|path| &**path).collect::<Vec<_>>());
    lvm.run("pvcreate --metadatacopies 2 @0");
    lvm.run("pvcreate --labelsector 3 --dataalignment 64k --metadatasize 60k @1");
    lvm.run("pvcreate --metadatacopies 0 @2");
    lvm.run("vgcreate -s 128k my-vg @0 @1 @2");
    lvm.create("-l 9 -n root my-vg @0");
    lvm.create("-l 5 -n gap my-vg @0");
    lvm.create("-l 6 -i 3 -I 64k -n st3 my-vg");
    lvm.create("-l 8 -i 2 -I 4k -n st-2 my-vg @1 @2");
    lvm.run("lvextend -l +7 my-vg/root @0");
    lvm.run("lvextend -l +4 my-vg/root @2");
    lvm.run("lvremove -f my-vg/gap");
    let assembled = open(&images);
    assert_eq!(assembled.findings, []);
    let group = only(assembled.groups);
    let labels: Vec<u64> = members(&images).iter().map(|member| member.volume.label_sector).collect();
    assert_eq!(labels, [1, 3, 1]);
    for (name, kind) in [("root", "linear"), ("st3", "striped"), ("st-2", "striped")] {
        let volume = volume(&group, name);
        assert_eq!((&*volume.kind, volume.read_only.is_none()), (kind, true));
        let expected = by_tools(&lvm, &images, "my-vg", name);
        assert!(content(volume) == expected, "{name}");
        let said = lvm.run(&format!("lvs --noheadings -o lv_uuid my-vg/{name}"));
        assert_eq!(volume.id.to_string(), said.trim());
    }
    let said = lvm.run("vgs --noheadings -o vg_uuid,vg_seqno my-vg");
    assert_eq!(
        format!("{} {}", group.model.id, group.model.seqno),
        said.split_whitespace().collect::<Vec<_>>().join(" ")
    );
    // Free space is what pvs calls free.
    let free: u64 = group
        .free
        .iter()
        .flat_map(BTreeMap::values)
        .flat_map(|free| &free.ranges)
        .map(|range| range.end - range.start)
        .sum();
    let said: u64 = lvm.run("vgs --noheadings --units b --nosuffix -o vg_free my-vg").trim().parse().unwrap();
    assert_eq!(free, said);
}

#[test]
fn writing_changes_exactly_the_extents_that_lvs_names() {
    let dir = tempfile::tempdir().unwrap();
    let images = images(dir.path(), 2, 16 * MIB);
    let lvm = Lvm::over(&images.iter().map(|path| &**path).collect::<Vec<_>>());
    lvm.run("vgcreate -s 256k vg @0 @1");
    lvm.create("-l 4 -i 2 -I 16k -n striped vg");
    lvm.create("-l 3 -n linear vg");
    let group = only(open(&images).groups);
    let before: Vec<_> = images.iter().map(|path| std::fs::read(path).unwrap()).collect();
    for (name, at, len) in [("striped", 12_345, 200_000), ("linear", 262_000, 3000)] {
        let volume = volume(&group, name);
        let mut expected = content(volume);
        expected[at..at + len].fill(0xab);
        volume.device.as_ref().unwrap().write_all_at(&vec![0xab; len], at as u64).unwrap();
        assert!(content(volume) == expected && by_tools(&lvm, &images, "vg", name) == expected, "{name}");
    }
    let mut changed = 0;
    for (path, before) in images.iter().zip(&before) {
        let after = std::fs::read(path).unwrap();
        let differ = after.iter().zip(before).filter(|(after, before)| after != before);
        changed += differ.inspect(|(after, _)| assert_eq!(**after, 0xab)).count();
    }
    assert!((200_000..=203_000).contains(&changed), "{changed}");
    lvm.run("vgck vg");
}

#[test]
fn the_newest_copy_counts_and_old_ones_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let images = images(dir.path(), 2, 16 * MIB);
    let both: Vec<_> = images.iter().map(|path| &**path).collect();
    let lvm = Lvm::over(&both);
    lvm.run("pvcreate --metadatasize 60k --dataalignment 64k @0 @1");
    lvm.run("vgcreate -s 128k vg @0 @1");
    lvm.create("-l 3 -n root vg");
    // The second disk misses what follows.
    let old = std::fs::read(&images[1]).unwrap();
    // 60 KiB hold few texts: the ring wraps several times.
    for round in 0..60 {
        lvm.run(&format!("vgchange --addtag tag{round} vg"));
    }
    let group = only(open(&images).groups);
    let said: u64 = lvm.run("vgs --noheadings -o vg_seqno vg").trim().parse().unwrap();
    assert_eq!(group.model.seqno, said);
    lvm.run("lvrename vg/root vg/new");
    std::fs::write(&images[1], old).unwrap();
    let assembled = open(&images);
    let codes: Vec<&str> = assembled.findings.iter().map(|finding| finding.code).collect();
    assert_eq!(codes, ["lvm2.metadata.stale"]);
    let group = only(assembled.groups);
    assert_eq!(group.model.seqno, said + 1);
    assert!(volume(&group, "new").read_only.is_none());
}

#[test]
fn a_text_that_wraps_in_its_ring_is_joined() {
    let dir = tempfile::tempdir().unwrap();
    let images = images(dir.path(), 1, 16 * MIB);
    let lvm = Lvm::over(&[&images[0]]);
    lvm.run("pvcreate --metadatasize 60k --dataalignment 64k @0");
    lvm.run("vgcreate -s 128k vg @0");
    let mut was_wrapped = false;
    for round in 0..200 {
        lvm.run(&format!("vgchange --addtag tag{round} vg"));
        let raw = read(&images[0], 4096, 512);
        let field = |at: usize| u64::from_le_bytes(raw[at..at + 8].try_into().unwrap());
        let group = only(open(&images).groups);
        assert_eq!(group.model.seqno, round + 2);
        if field(40) + field(48) > field(32) {
            was_wrapped = true;
            break;
        }
    }
    assert!(was_wrapped, "no text crossed the end of the ring");
}

#[test]
fn ignored_areas_do_not_count_and_one_damaged_copy_is_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let images = images(dir.path(), 2, 16 * MIB);
    let lvm = Lvm::over(&images.iter().map(|path| &**path).collect::<Vec<_>>());
    lvm.run("vgcreate -s 128k vg @0 @1");
    lvm.create("-l 3 -n root vg");
    lvm.run("pvchange --metadataignore y @1");
    lvm.run("lvrename vg/root vg/new");
    assert!(matches!(members(&images)[1].volume.metadata_areas[0].state, AreaState::Ignored));
    volume(&only(open(&images).groups), "new");
    lvm.run("pvchange --metadataignore n @1");
    drop(lvm);
    // One byte in the committed text of the first disk.
    let raw = read(&images[0], 4096, 512);
    let at = 4096 + u64::from_le_bytes(raw[40..48].try_into().unwrap()) + 100;
    let mut byte = read(&images[0], at, 1);
    byte[0] ^= 1;
    let file = std::fs::File::options().write(true).open(&images[0]).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &byte, at).unwrap();
    let assembled = open(&images);
    assert_eq!(assembled.findings[0].code, "lvm2.metadata.checksum");
    assert!(volume(&only(assembled.groups), "new").read_only.is_none());
}

#[test]
fn groups_that_are_not_whole_or_exported_are_read_and_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let images = images(dir.path(), 2, 16 * MIB);
    let lvm = Lvm::over(&images.iter().map(|path| &**path).collect::<Vec<_>>());
    lvm.run("vgcreate -s 128k vg @0 @1");
    lvm.create("-l 3 -n root vg @0");
    lvm.create("-l 4 -i 2 -n both vg");
    let group = only(open(&images[..1]).groups);
    assert_eq!(group.missing.len(), 1);
    let root = volume(&group, "root");
    assert!(content(root) == by_tools(&lvm, &images, "vg", "root"));
    assert_eq!(root.read_only.as_ref().unwrap().code(), "lvm2.vg.partial");
    assert_eq!(volume(&group, "both").device.as_ref().err().unwrap().code(), "lvm2.lv.partial");
    lvm.run("lvchange -pr vg/both");
    lvm.run("vgexport vg");
    let group = only(open(&images).groups);
    assert_eq!(volume(&group, "root").read_only.as_ref().unwrap().code(), "lvm2.vg.exported");
    lvm.run("vgimport vg");
    let group = only(open(&images).groups);
    assert_eq!(volume(&group, "both").read_only.as_ref().unwrap().code(), "lvm2.lv.read-only");
    assert!(volume(&group, "root").read_only.is_none());
}

#[test]
fn the_same_group_twice_is_refused_and_same_names_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let images = images(dir.path(), 2, 16 * MIB);
    {
        let lvm = Lvm::over(&[&images[0]]);
        lvm.run("vgcreate -s 128k vg @0");
        lvm.create("-l 3 -n root vg");
    }
    let copy = dir.path().join("copy");
    std::fs::copy(&images[0], &copy).unwrap();
    let group = only(open(&[images[0].clone(), copy]).groups);
    assert_eq!(group.volumes.err().unwrap().code(), "lvm2.pv.duplicate");
    {
        let lvm = Lvm::over(&[&images[1]]);
        lvm.run("vgcreate -s 128k vg @0");
        lvm.create("-l 2 -n root vg");
    }
    let groups = open(&images).groups;
    assert_eq!(groups.len(), 2);
    for group in &groups {
        assert_eq!(content(volume(group, "root"))[7], group.members[0] as u8);
    }
}
