//! The virtual disk becomes longer: images by qemu-img and qemu-io, judged by qemu-img.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

mod common;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use block::{ChangeSet, Overlay, ReadAt, WriteAt};
use coldfit_qcow2::{Qcow2, Qcow2Error};
use common::{
    Backing, MIB, Random, Spec, apply, check_like_qemu, content_by_qemu, in_parallel, make, open, run, text,
    tool,
};
use report::Diagnose;

const GIB: u64 = 1 << 30;

/// An overlay of `to` bytes with these writes.
fn grown(image: &Arc<Qcow2>, to: u64, writes: &[(u64, Vec<u8>)]) -> ChangeSet {
    let overlay = Arc::new(Overlay::new(Arc::clone(image) as Arc<_>, 64 * MIB, std::env::temp_dir()));
    overlay.grow(to).unwrap();
    for (at, bytes) in writes {
        overlay.write_all_at(bytes, *at).unwrap();
    }
    overlay.seal().unwrap()
}

fn virtual_size(path: &Path) -> u64 {
    let info = run("qemu-img", &["info", "--output=json", text(path)]);
    serde_json::from_str::<serde_json::Value>(&info).unwrap()["virtual-size"].as_u64().unwrap()
}

/// Both hold the same disk in the eyes of QEMU: all of it, or 1 MiB around each of these places of a huge one.
fn compare(path: &Path, raw: &Path, len: u64, places: &[u64]) {
    if len < 1 << 40 {
        run("qemu-img", &["compare", "-q", "-f", "qcow2", "-F", "raw", text(path), text(raw)]);
        return;
    }
    for place in places {
        let part = format!("driver=raw,offset={},size={MIB}", (place / 512 * 512).min(len - MIB));
        let ours =
            format!("{part},file.driver=qcow2,file.file.driver=file,file.file.filename={}", text(path));
        let model = format!("{part},file.driver=file,file.filename={}", text(raw));
        run("qemu-img", &["compare", "-q", "--image-opts", &ours, &model]);
    }
}

fn grow_and_judge(spec: &Spec, to: u64, dir: &Path) {
    let name = format!("{} to {to}", spec.name());
    let path = make(spec, dir);
    let old = content_by_qemu(&path, None);
    let snapshots: Vec<String> = (0..spec.snapshots).map(|number| format!("snap{number}")).collect();
    let kept: Vec<Vec<u8>> = snapshots.iter().map(|one| content_by_qemu(&path, Some(one))).collect();

    // Across the old end, at the new one, and far from any table that exists.
    let mut random = Random(to | 1);
    let old_len = old.len() as u64;
    let writes: Vec<(u64, Vec<u8>)> =
        [(old_len - 700, 1400u64), ((old_len + to) / 2, 3000), (100, 5000), (to - 513, 513)]
            .into_iter()
            .map(|(at, len)| (at, random.bytes(len.min(to - at) as usize)))
            .collect();
    let raw = dir.join("model.raw");
    std::fs::write(&raw, &old).unwrap();
    let model = File::options().write(true).open(&raw).unwrap();
    model.set_len(to).unwrap();
    for (at, bytes) in &writes {
        model.write_all_at(bytes, *at).unwrap();
    }
    drop(model);

    let image = Arc::new(open(&path));
    let plan =
        image.plan_commit(&grown(&image, to, &writes)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let last = plan.writes.last().unwrap();
    assert_eq!(last.host_offset, 0, "{name}: the header is last");
    apply(&plan, &path);
    assert_eq!(check_like_qemu(&path, &name), (0, 0), "{name}");
    assert_eq!(virtual_size(&path), to, "{name}");
    compare(&path, &raw, to, &writes.iter().map(|(at, _)| *at).collect::<Vec<_>>());
    let image = Arc::new(open(&path));
    assert_eq!(image.len(), to);
    let mut end = vec![0; 513];
    image.read_exact_at(&mut end, to - 513).unwrap();
    assert!(end == writes[3].1, "{name}");
    assert!(image.plan_commit(&grown(&image, to, &writes)).unwrap().is_empty(), "{name}: the same again");
    drop(image);

    for (snapshot, before) in snapshots.iter().zip(&kept) {
        if to < 100 * MIB {
            let now = content_by_qemu(&path, Some(snapshot));
            assert!(now.starts_with(before) && now[before.len()..].iter().all(|byte| *byte == 0), "{name}");
        }
    }
    // QEMU goes on with it: it writes behind the old end, and a snapshot brings back its own length.
    let at = format!("write -P 7 {} 512", (to / 512 - 3) * 512);
    run("qemu-io", &["-f", "qcow2", "-c", &at, text(&path)]);
    assert_eq!(check_like_qemu(&path, &name), (0, 0), "{name}");
    if let (Some(snapshot), Some(before), "1.1") = (snapshots.first(), kept.first(), spec.compat) {
        run("qemu-img", &["snapshot", "-a", snapshot, text(&path)]);
        assert_eq!(check_like_qemu(&path, &name).1, 0, "{name}");
        assert_eq!(virtual_size(&path), old_len, "{name}");
        assert!(content_by_qemu(&path, None) == *before, "{name}: {snapshot}");
    }
}

#[test]
fn every_version_and_cluster_size_with_and_without_snapshots() {
    let plain = Spec {
        compat: "1.1",
        cluster: 65_536,
        refcount_bits: 16,
        compression: "none",
        snapshots: 0,
        backing: Backing::None,
        lazy: false,
        preallocation: "off",
    };
    let mut cases: Vec<(Spec, u64)> = Vec::new();
    for cluster in [512, 1024, 4096, 65_536, 2 * MIB] {
        for compat in ["0.10", "1.1"] {
            let base = Spec { cluster, compat, ..plain.clone() };
            let old_len = base.virtual_size();
            // Inside the last cluster, into the next one, further than the L1 table reaches in its clusters.
            cases.push((Spec { compression: "zlib", ..base.clone() }, old_len + 512));
            cases.push((Spec { snapshots: 2, ..base.clone() }, old_len + 3 * cluster + 512));
            let far = if cluster <= 1024 { 60 * MIB } else { 3 * GIB };
            cases.push((Spec { compression: "zlib", snapshots: 1, ..base.clone() }, old_len + far));
        }
        cases.push((Spec { cluster, backing: Backing::Raw, ..plain.clone() }, 80 * MIB));
        cases.push((Spec { cluster, backing: Backing::ShortRaw, snapshots: 1, ..plain.clone() }, 80 * MIB));
    }
    for refcount_bits in [1, 2, 8, 64] {
        cases.push((Spec { refcount_bits, cluster: 512, ..plain.clone() }, 60 * MIB));
        cases.push((Spec { refcount_bits, cluster: 4096, ..plain.clone() }, 20 * GIB));
    }
    cases.push((Spec { lazy: true, preallocation: "metadata", ..plain.clone() }, 20 * GIB));
    // The L1 table of clusters of 64 KiB moves as well.
    cases.push((plain, 9 << 40));
    in_parallel(&cases, |(spec, to)| {
        let dir = tempfile::tempdir().unwrap();
        grow_and_judge(spec, *to, dir.path());
    });
}

/// Sets the length in the header: what a tool leaves that cuts a disk without clearing what lies behind.
fn cut(path: &Path, len: u64) {
    File::options().write(true).open(path).unwrap().write_all_at(&len.to_be_bytes(), 24).unwrap();
}

#[test]
fn bytes_behind_the_old_end_do_not_become_content() {
    for compressed in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image.qcow2");
        run("qemu-img", &["create", "-q", "-f", "qcow2", text(&path), "128k"]);
        let fill = if compressed { "write -c -P 0xaa 64k 64k" } else { "write -P 0xaa 64k 64k" };
        run("qemu-io", &["-f", "qcow2", "-c", fill, text(&path)]);
        let old_len = 64 * 1024 + 1536;
        cut(&path, old_len);
        let image = Arc::new(open(&path));
        let plan = image.plan_commit(&grown(&image, MIB, &[])).unwrap();
        apply(&plan, &path);
        assert_eq!(check_like_qemu(&path, "tail"), (0, 0));
        let now = content_by_qemu(&path, None);
        assert_eq!(now.len() as u64, MIB);
        assert!(now[64 * 1024..old_len as usize].iter().all(|byte| *byte == 0xaa), "{compressed}");
        assert!(now[old_len as usize..].iter().all(|byte| *byte == 0), "{compressed}");
    }
}

#[test]
fn what_cannot_grow_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let code = |path: &Path, to: u64| {
        let image = Arc::new(open(path));
        let before = std::fs::read(path).unwrap();
        let refused: Qcow2Error = image.check_growable(to).unwrap_err();
        let planned = image.plan_commit(&grown(&image, to, &[])).map(drop).unwrap_err();
        assert_eq!(planned.code(), refused.code());
        assert!(std::fs::read(path).unwrap() == before);
        refused.code()
    };
    let path = dir.path().join("image.qcow2");
    run("qemu-img", &["create", "-q", "-f", "qcow2", "-o", "cluster_size=512", text(&path), "1M"]);
    open(&path).check_growable(4 * GIB).unwrap();
    assert_eq!(code(&path, MIB + 5), "qcow2.grow.alignment");
    // 32 MiB of L1 table are 128 GiB in clusters of 512 bytes; QEMU refuses it as well.
    assert_eq!(code(&path, 129 * GIB), "qcow2.limit");
    assert!(!tool("qemu-img", &["resize", "-q", text(&path), "129G"]).status.success());

    let base = dir.path().join("base.raw");
    std::fs::write(&base, vec![0x55; 2 << 20]).unwrap();
    let arguments = ["create", "-q", "-f", "qcow2", "-F", "raw", "-b", "base.raw"];
    run("qemu-img", &[&arguments[..], &[text(&path), "1M"]].concat());
    assert_eq!(code(&path, 4 * MIB), "qcow2.grow.backing");

    // A snapshot of version 2 without extra data, as old writers made it.
    run("qemu-img", &["create", "-q", "-f", "qcow2", "-o", "compat=0.10", text(&path), "1M"]);
    run("qemu-img", &["snapshot", "-c", "one", text(&path)]);
    open(&path).check_growable(4 * MIB).unwrap();
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let mut offset = [0; 8];
    file.read_exact_at(&mut offset, 64).unwrap();
    let entry = u64::from_be_bytes(offset);
    let mut names = [0; 4];
    let (mut extra_len, mut lengths) = ([0; 4], [0; 4]);
    file.read_exact_at(&mut extra_len, entry + 36).unwrap();
    file.read_exact_at(&mut lengths, entry + 12).unwrap();
    file.read_exact_at(&mut names, entry + 40 + u64::from(u32::from_be_bytes(extra_len))).unwrap();
    assert_eq!(lengths, [0, 1, 0, 3]);
    file.write_all_at(&0u32.to_be_bytes(), entry + 36).unwrap();
    file.write_all_at(&names, entry + 40).unwrap();
    assert_eq!(code(&path, 4 * MIB), "qcow2.grow.snapshot-size");
}
