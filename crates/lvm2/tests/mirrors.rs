//! Mirrors, and what is known by name only: the metadata is LVM2's own after `vgcfgrestore` of an edited backup, since
//! without device-mapper `lvcreate` makes none of them; `lvs` tells what it sees. Needs root.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod common;

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use block::WriteAt;
use common::*;
use report::Diagnose;
use testkit::lvm::Lvm;

const EXTENT: u64 = 128 << 10;

/// A section of a logical volume.
fn lv(name: &str, number: u32, status: &str, extents: u64, segment: &str) -> String {
    format!(
        "{name} {{\nid = \"aaaaaa-aaaa-aaaa-aaaa-aaaa-aaaa-{number:06}\"\nstatus = [{status}]\nflags = []\n\
         segment_count = 1\nsegment1 {{\nstart_extent = 0\nextent_count = {extents}\n{segment}\n}}\n}}\n"
    )
}

fn on(physical: &str, first: u64) -> String {
    format!("type = \"striped\"\nstripe_count = 1\nstripes = [\"{physical}\", {first}]")
}

const SEEN: &str = "\"READ\", \"WRITE\", \"VISIBLE\"";
const HIDDEN: &str = "\"READ\", \"WRITE\"";

/// Two disks with a group whose logical volumes are these.
fn group(dir: &Path, volumes: &str) -> (Vec<PathBuf>, Lvm) {
    let images = images(dir, 2, 16 * MIB);
    let lvm = Lvm::over(&images.iter().map(|path| &**path).collect::<Vec<_>>());
    lvm.run("pvcreate @0 @1");
    lvm.run("vgcreate -s 128k vg @0 @1");
    lvm.rewrite("vg", |text| {
        let end = text.rfind('}').unwrap();
        format!("{}logical_volumes {{\n{volumes}}}\n}}\n", &text[..end])
    });
    (images, lvm)
}

fn put(image: &Path, extent: u64, bytes: &[u8]) {
    let file = std::fs::File::options().write(true).open(image).unwrap();
    file.write_all_at(bytes, MIB + extent * EXTENT).unwrap();
}

fn extents(image: &Path, first: u64, count: u64) -> Vec<u8> {
    read(image, MIB + first * EXTENT, count * EXTENT)
}

/// A leg's record as `dm-raid` writes it.
fn record(position: u32, events: u64, resynced: u64) -> Vec<u8> {
    let mut raw = vec![0; 512];
    raw[..4].copy_from_slice(b"DmRd");
    raw[8..12].copy_from_slice(&2u32.to_le_bytes());
    raw[12..16].copy_from_slice(&position.to_le_bytes());
    raw[16..24].copy_from_slice(&events.to_le_bytes());
    raw[32..40].fill(0xff);
    raw[40..48].copy_from_slice(&resynced.to_le_bytes());
    raw[48] = 1;
    raw
}

fn raid1() -> String {
    let legs = "type = \"raid1\"\ndevice_count = 2\nregion_size = 128\n\
                raids = [\"root_rmeta_0\", \"root_rimage_0\", \"root_rmeta_1\", \"root_rimage_1\"]";
    [
        lv("root", 1, SEEN, 4, legs),
        lv("root_rmeta_0", 2, HIDDEN, 1, &on("pv0", 0)),
        lv("root_rimage_0", 3, HIDDEN, 4, &on("pv0", 1)),
        lv("root_rmeta_1", 4, HIDDEN, 1, &on("pv1", 0)),
        lv("root_rimage_1", 5, HIDDEN, 4, &on("pv1", 1)),
    ]
    .concat()
}

#[test]
fn raid1_reads_one_leg_and_writes_all_when_every_record_says_they_are_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (images, lvm) = group(dir.path(), &raid1());
    let said = lvm.run("lvs --noheadings -o segtype,lv_size --units b --nosuffix vg/root");
    assert_eq!(said.split_whitespace().collect::<Vec<_>>(), ["raid1", "524288"]);
    put(&images[0], 0, &record(0, 5, u64::MAX));
    put(&images[1], 0, &record(1, 5, u64::MAX));
    let assembled = open(&images);
    let root = volume(&assembled.groups[0], "root");
    assert!(root.kind == "raid1" && root.read_only.is_none());
    let before = content(root);
    assert!(before == extents(&images[0], 1, 4));
    let mut expected = before;
    expected[1000..2000].fill(0xcd);
    root.device.as_ref().unwrap().write_all_at(&[0xcd; 1000], 1000).unwrap();
    assert!(content(root) == expected);
    for image in &images {
        assert!(extents(image, 1, 4)[1000..2000] == [0xcd; 1000]);
    }
    let mut footprint = root.device.as_ref().unwrap().footprint().to_vec();
    footprint.sort_by_key(|(index, range)| (*index, range.start));
    let leg = MIB + EXTENT..MIB + 5 * EXTENT;
    assert_eq!(footprint, [(0, leg.clone()), (1, leg)]);
}

#[test]
fn a_leg_that_is_behind_is_not_read_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let (images, _lvm) = group(dir.path(), &raid1());
    for (first, second, read_from) in [
        (record(0, 4, u64::MAX), record(1, 5, u64::MAX), 1),
        (vec![0; 512], record(1, 5, u64::MAX), 1),
        (record(0, 5, 100), record(1, 5, 100), 0),
        (vec![0; 512], vec![0; 512], 0),
    ] {
        put(&images[0], 0, &first);
        put(&images[1], 0, &second);
        let assembled = open(&images);
        let root = volume(&assembled.groups[0], "root");
        assert_eq!(root.read_only.as_ref().unwrap().code(), "lvm2.lv.not-synchronised");
        assert!(content(root) == extents(&images[read_from], 1, 4), "{read_from}");
    }
    // Legs that were put together wrongly are not read at all.
    put(&images[0], 0, &record(1, 5, u64::MAX));
    let assembled = open(&images);
    let error = volume(&assembled.groups[0], "root").device.as_ref().err().unwrap();
    assert_eq!(error.code(), "lvm2.lv.not-synchronised");
}

#[test]
fn old_mirrors_go_by_their_log() {
    let dir = tempfile::tempdir().unwrap();
    let mirror = |log: &str| {
        format!(
            "type = \"mirror\"\nmirror_count = 2\n{log}region_size = 256\nmirrors = [\"m_mimage_0\", 0, \"m_mimage_1\", 0]"
        )
    };
    let volumes = [
        lv("m", 1, SEEN, 4, &mirror("mirror_log = \"m_mlog\"\n")),
        lv("m_mlog", 2, HIDDEN, 1, &on("pv0", 0)),
        lv("m_mimage_0", 3, HIDDEN, 4, &on("pv0", 1)),
        lv("m_mimage_1", 4, HIDDEN, 4, &on("pv1", 1)),
    ];
    let (images, lvm) = group(dir.path(), &volumes.concat());
    assert_eq!(lvm.run("lvs --noheadings -o segtype vg/m").trim(), "mirror");
    let mut log = vec![0; 2048];
    log[..4].copy_from_slice(b"rRiM");
    log[4] = 2;
    log[8] = 4;
    for (bits, is_same) in [(0x0f, true), (0x0d, false)] {
        log[1024] = bits;
        put(&images[0], 0, &log);
        let assembled = open(&images);
        let volume = volume(&assembled.groups[0], "m");
        assert!(content(volume) == extents(&images[0], 1, 4));
        assert_eq!(volume.read_only.is_none(), is_same);
    }
}

#[test]
fn snapshots_and_pools_are_named_and_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let pool = "type = \"thin-pool\"\nmetadata = \"pool_tmeta\"\npool = \"pool_tdata\"\ntransaction_id = 1\nchunk_size = 128\n\
                discards = \"passdown\"\nzero_new_blocks = 1";
    let thin = "type = \"thin\"\nthin_pool = \"pool\"\ntransaction_id = 0\ndevice_id = 1";
    let snapshot = "type = \"snapshot\"\nchunk_size = 8\norigin = \"root\"\ncow_store = \"snap\"";
    let volumes = [
        lv("root", 1, SEEN, 4, &on("pv0", 0)),
        lv("snap", 2, SEEN, 2, &on("pv0", 4)),
        lv("snapshot0", 3, HIDDEN, 4, snapshot),
        lv("pool", 4, SEEN, 4, pool),
        lv("pool_tmeta", 5, HIDDEN, 16, &on("pv1", 0)),
        lv("pool_tdata", 6, HIDDEN, 4, &on("pv1", 16)),
        lv("thin", 7, SEEN, 8, thin),
        lv("free", 8, SEEN, 8, &on("pv1", 20)),
    ];
    let (images, lvm) = group(dir.path(), &volumes.concat());
    for (name, kind) in [("thin", "thin"), ("pool", "thin-pool"), ("root", "linear"), ("free", "linear")] {
        assert_eq!(lvm.run(&format!("lvs --noheadings -o segtype vg/{name}")).trim(), kind);
    }
    let assembled = open(&images);
    let group = &assembled.groups[0];
    for (name, code) in
        [("thin", "lvm2.lv.unsupported"), ("pool", "lvm2.lv.unsupported"), ("snap", "lvm2.lv.snapshot")]
    {
        assert_eq!(volume(group, name).device.as_ref().err().unwrap().code(), code, "{name}");
    }
    let root = volume(group, "root");
    assert!(content(root) == extents(&images[0], 0, 4));
    assert_eq!(root.read_only.as_ref().unwrap().code(), "lvm2.lv.snapshot-origin");
    assert!(volume(group, "free").read_only.is_none());
    let names: Vec<&str> = group.volumes.as_ref().unwrap().iter().map(|volume| &*volume.name).collect();
    assert_eq!(names, ["free", "pool", "root", "snap", "thin"]);
}
