//! What an image can carry beside plain data: dirty refcounts, backing chains, features that are refused.

#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests are not exempt.

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use block::{AllowBelow, DenyAll, ExtentState, FileDevice, Overlay, ReadAt, WriteAt};
use coldfit_qcow2::{BackingFormat, Compression, FeatureKind, Qcow2, Qcow2Error};
use common::{
    Backing, MIB, Spec, apply, check_like_qemu, content_by_qemu, edit, make, open, run, text, tool,
};
use report::{Class, Diagnose};

const PLAIN: Spec = Spec {
    compat: "1.1",
    cluster: 65_536,
    refcount_bits: 16,
    compression: "none",
    snapshots: 0,
    backing: Backing::None,
    lazy: false,
    preallocation: "off",
};

fn create(dir: &Path, name: &str, options: &str, size: &str) -> PathBuf {
    let path = dir.join(name);
    run("qemu-img", &["create", "-q", "-f", "qcow2", "-o", options, text(&path), size]);
    path
}

fn patch(path: &Path, at: usize, bytes: &[u8]) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, bytes, at as u64).unwrap();
}

fn try_open(path: &Path) -> Result<Qcow2, Qcow2Error> {
    let gate = AllowBelow::new(path.parent().unwrap()).unwrap();
    Qcow2::open(Arc::new(FileDevice::open_read(path).unwrap()), path, &gate)
}

/// Edits the image, applies the plan, and lets qemu-img judge.
fn edit_and_judge(path: &Path, spec: &Spec, seed: u64) {
    let mut model = content_by_qemu_unchecked(path);
    let image = Arc::new(open(path));
    let plan = image.plan_commit(&edit(&image, &mut model, spec, seed)).unwrap();
    apply(&plan, path);
    assert_eq!(check_like_qemu(path, &spec.name()), (0, 0));
    let raw = path.with_extension("model");
    std::fs::write(&raw, &model).unwrap();
    run("qemu-img", &["compare", "-q", "-f", "qcow2", "-F", "raw", text(path), text(&raw)]);
}

/// By our reader: qemu-img would repair a dirty image when it opens it for writing, and reads others alike.
fn content_by_qemu_unchecked(path: &Path) -> Vec<u8> {
    let image = open(path);
    let mut bytes = vec![0; image.len() as usize];
    image.read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes == content_by_qemu(path, None), "{}", path.display());
    bytes
}

/// The one error of an edit that has to be refused; nothing is planned.
fn refused_edit(path: &Path) -> Qcow2Error {
    let image = Arc::new(open(path));
    let overlay = Arc::new(Overlay::new(Arc::clone(&image) as Arc<_>, MIB, std::env::temp_dir()));
    overlay.write_all_at(b"changed", 4096).unwrap();
    image.plan_commit(&overlay.seal().unwrap()).map(drop).unwrap_err()
}

#[test]
fn a_dirty_image_of_a_killed_qemu_is_read_and_repaired_by_the_commit() {
    for (cluster, refcount_bits, snapshots) in [(65_536, 16, 0), (512, 64, 0), (4096, 16, 2), (512, 1, 0)] {
        let dir = tempfile::tempdir().unwrap();
        let spec = Spec { cluster, refcount_bits, snapshots, lazy: true, ..PLAIN };
        let path = make(&spec, dir.path());
        let killed = tool(
            "qemu-io",
            &[
                "-f",
                "qcow2",
                "-c",
                "write -P 9 100k 700k",
                "-c",
                "write -P 8 3k 9k",
                "-c",
                "flush",
                "-c",
                "sigraise 9",
                text(&path),
            ],
        );
        assert!(!killed.status.success());
        let image = open(&path);
        assert!(image.is_dirty() && image.info().is_dirty, "{}: the fixture is not dirty", spec.name());
        assert!(image.check().unwrap().corruptions > 0, "{}: refcounts are behind", spec.name());
        let before: Vec<Vec<u8>> =
            (0..snapshots).map(|number| content_by_qemu(&path, Some(&format!("snap{number}")))).collect();

        edit_and_judge(&path, &spec, 77);
        let image = open(&path);
        assert!(!image.is_dirty());
        assert!(image.info().has_lazy_refcounts, "only the dirty bit is cleared");
        for (number, before) in before.iter().enumerate() {
            assert!(content_by_qemu(&path, Some(&format!("snap{number}"))) == *before);
        }
    }
}

#[test]
fn a_dirty_image_without_any_refcount_gets_all_of_them_back() {
    // The last one needs a larger refcount table than the one it is left with.
    for (cluster, refcount_bits, written) in [(512, 8, "700k"), (4096, 16, "2M"), (512, 64, "6M")] {
        let dir = tempfile::tempdir().unwrap();
        let spec = Spec { cluster, refcount_bits, ..PLAIN };
        let path = create(dir.path(), "image.qcow2", &spec.options(), "9M");
        let (write, compressed) = (format!("write -P 5 1M {written}"), "write -c -P 6 0 100k");
        run("qemu-io", &["-t", "unsafe", "-f", "qcow2", "-c", compressed, "-c", &write, text(&path)]);
        let bytes = std::fs::read(&path).unwrap();
        let table = u64::from_be_bytes(bytes[48..56].try_into().unwrap()) as usize;
        // One table cluster of zeroes: no refcount blocks at all, and their clusters are lost.
        patch(&path, table, &vec![0; cluster as usize]);
        patch(&path, 56, &1u32.to_be_bytes());
        patch(&path, 79, &[1]);
        edit_and_judge(&path, &spec, 5);
        let moved = u64::from_be_bytes(std::fs::read(&path).unwrap()[48..56].try_into().unwrap()) as usize;
        assert_eq!(moved != table, refcount_bits == 64);
    }
}

#[test]
fn a_dirty_image_gets_its_copied_flags_back() {
    let dir = tempfile::tempdir().unwrap();
    let spec = Spec { lazy: true, ..PLAIN };
    let path = create(dir.path(), "image.qcow2", &spec.options(), "1G");
    run(
        "qemu-io",
        &["-t", "unsafe", "-f", "qcow2", "-c", "write -P 5 0 1M", "-c", "write -P 6 600M 1M", text(&path)],
    );
    let bytes = std::fs::read(&path).unwrap();
    let field = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
    let l1 = field(40);
    let l2 = field(l1 + 8) & 0x00ff_ffff_ffff_fe00;
    let first = (600 << 20) / 65_536 % 8192 * 8;
    // The flags of a table and of a cluster are lost; the edit touches neither of them.
    for at in [l1, l2 + first] {
        assert_eq!(bytes[at], 0x80);
        patch(&path, at, &[0]);
    }
    patch(&path, 79, &[1]);
    let image = Arc::new(open(&path));
    let overlay = Arc::new(Overlay::new(Arc::clone(&image) as Arc<_>, MIB, std::env::temp_dir()));
    overlay.write_all_at(b"elsewhere", 900 * MIB).unwrap();
    apply(&image.plan_commit(&overlay.seal().unwrap()).unwrap(), &path);
    assert_eq!(check_like_qemu(&path, "copied flags"), (0, 0));
    let after = std::fs::read(&path).unwrap();
    assert_eq!((after[l1], after[l2 + first]), (0x80, 0x80));
}

#[test]
fn the_refcount_table_grows_and_moves() {
    for (refcount_bits, snapshots) in [(64, 1), (32, 0), (1, 0)] {
        let dir = tempfile::tempdir().unwrap();
        let spec = Spec { cluster: 512, refcount_bits, snapshots, ..PLAIN };
        let path = create(dir.path(), "image.qcow2", &spec.options(), "24M");
        run("qemu-io", &["-f", "qcow2", "-c", "write -P 3 5M 100k", text(&path)]);
        if snapshots > 0 {
            run("qemu-img", &["snapshot", "-c", "snap0", text(&path)]);
        }
        let table_before = std::fs::read(&path).unwrap()[48..60].to_vec();
        let image = Arc::new(open(&path));
        let overlay = Arc::new(Overlay::new(Arc::clone(&image) as Arc<_>, 64 * MIB, std::env::temp_dir()));
        let content = common::pattern(20 * MIB, 5);
        overlay.write_all_at(&content, MIB).unwrap();
        let plan = image.plan_commit(&overlay.seal().unwrap()).unwrap();
        apply(&plan, &path);
        let table_after = std::fs::read(&path).unwrap()[48..60].to_vec();
        assert_eq!(table_before == table_after, refcount_bits == 1, "refcount_bits {refcount_bits}");
        assert_eq!(check_like_qemu(&path, &spec.name()), (0, 0));
        assert!(content_by_qemu(&path, None)[MIB as usize..21 * MIB as usize] == content);
        if snapshots > 0 {
            let snapshot = content_by_qemu(&path, Some("snap0"));
            assert!(snapshot[5 << 20..(5 << 20) + 102_400].iter().all(|byte| *byte == 3));
            assert_eq!(snapshot.iter().filter(|byte| **byte != 0).count(), 102_400);
        }
    }
}

#[test]
fn leaks_and_corruptions_are_counted_like_qemu_img() {
    let dir = tempfile::tempdir().unwrap();
    let path = make(&Spec { cluster: 4096, compression: "zlib", snapshots: 1, ..PLAIN }, dir.path());
    let bytes = std::fs::read(&path).unwrap();
    let field = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
    let block = field(field(48));
    // Header cluster without a reference, another with two; one leaked cluster.
    patch(&path, block, &0u16.to_be_bytes());
    patch(&path, block + 2, &7u16.to_be_bytes());
    let (leaks, corruptions) = check_like_qemu(&path, "refcounts");
    assert!(leaks > 0 && corruptions > 0);
    // An L1 entry that wrongly says that its table is unshared.
    std::fs::write(&path, &bytes).unwrap();
    let l1 = field(40);
    patch(&path, l1, &[bytes[l1] ^ 0x80]);
    assert_eq!(check_like_qemu(&path, "copied flag"), (0, 1));
    // A cluster of an L2 table is not referenced any more.
    std::fs::write(&path, &bytes).unwrap();
    let l2 = field(l1) & 0x00ff_ffff_ffff_fe00;
    patch(&path, l2, &[0; 64]);
    assert!(check_like_qemu(&path, "lost clusters").0 > 0);
}

#[test]
fn backing_files_are_opened_by_the_gate_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = make(&Spec { backing: Backing::Qcow2Chain, ..PLAIN }, dir.path());
    let file = || Arc::new(FileDevice::open_read(&path).unwrap());
    let denied = Qcow2::open(file(), &path, &DenyAll).map(drop).unwrap_err();
    assert_eq!((denied.code(), denied.class()), ("image.gate-denied", Class::Environment));
    let elsewhere = tempfile::tempdir().unwrap();
    let gate = AllowBelow::new(elsewhere.path()).unwrap();
    assert_eq!(Qcow2::open(file(), &path, &gate).map(drop).unwrap_err().code(), "image.gate-denied");

    let info = open(&path).info();
    let middle = info.backing.unwrap();
    assert_eq!((middle.name.as_str(), middle.format), ("middle.qcow2", BackingFormat::Qcow2));
    let base = middle.image.unwrap().backing.unwrap();
    assert_eq!((base.format, base.format_was_probed), (BackingFormat::Raw, false));
}

#[test]
fn a_backing_format_that_the_image_does_not_name_is_probed_and_reported() {
    for (spec, format) in
        [(Backing::ShortRaw, BackingFormat::Raw), (Backing::Qcow2Chain, BackingFormat::Qcow2)]
    {
        let dir = tempfile::tempdir().unwrap();
        let path = make(&Spec { backing: spec, ..PLAIN }, dir.path());
        let expected = content_by_qemu(&path, None);
        let bytes = std::fs::read(&path).unwrap();
        let at = bytes[..512].windows(4).position(|four| four == [0xe2, 0x79, 0x2a, 0xca]).unwrap();
        patch(&path, at, b"????");
        let image = open(&path);
        let backing = image.info().backing.unwrap();
        assert_eq!((backing.format, backing.format_was_probed), (format, true));
        let mut got = vec![0; expected.len()];
        image.read_exact_at(&mut got, 0).unwrap();
        assert!(got == expected);
    }
}

#[test]
fn backing_cycles_protocols_and_foreign_formats_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let one = create(dir.path(), "one.qcow2", "compat=1.1", "1M");
    let two = dir.path().join("two.qcow2");
    run("qemu-img", &["create", "-q", "-f", "qcow2", "-b", "one.qcow2", "-F", "qcow2", text(&two)]);
    for (name, format, code) in [
        ("two.qcow2", "qcow2", "qcow2.backing.cycle"),
        ("one.qcow2", "qcow2", "qcow2.backing.cycle"),
        ("nbd://host/disk", "raw", "qcow2.backing.protocol"),
        ("json:{\"driver\":\"null-co\"}", "raw", "qcow2.backing.protocol"),
        ("base.vmdk", "vmdk", "qcow2.backing.format"),
        ("missing.raw", "raw", "host.not-found"),
    ] {
        run("qemu-img", &["rebase", "-u", "-f", "qcow2", "-b", name, "-F", format, text(&one)]);
        let error = try_open(&two).map(drop).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
    }
    // A file name with a protocol prefix that means a plain file.
    std::fs::write(dir.path().join("base.raw"), vec![5; 4096]).unwrap();
    run("qemu-img", &["rebase", "-u", "-f", "qcow2", "-b", "file:base.raw", "-F", "raw", text(&one)]);
    let image = open(&two);
    let mut got = [0; 2];
    image.read_exact_at(&mut got, 4095).unwrap();
    assert_eq!(got, [5, 0], "zero past the end of the backing file");
    let states: Vec<_> =
        image.extents(0..MIB).unwrap().iter().map(|extent| (extent.len, extent.state)).collect();
    assert_eq!(states, [(4096, ExtentState::Data), (MIB - 4096, ExtentState::Hole)]);
}

#[test]
fn a_long_backing_chain_is_refused_before_it_hurts() {
    let dir = tempfile::tempdir().unwrap();
    create(dir.path(), "0.qcow2", "compat=1.1", "1M");
    for number in 1..40 {
        let (name, below) = (dir.path().join(format!("{number}.qcow2")), format!("{}.qcow2", number - 1));
        run(
            "qemu-img",
            &["create", "-q", "-u", "-f", "qcow2", "-b", &below, "-F", "qcow2", text(&name), "1M"],
        );
    }
    assert!(try_open(&dir.path().join("31.qcow2")).is_ok());
    assert_eq!(try_open(&dir.path().join("32.qcow2")).map(drop).unwrap_err().code(), "qcow2.limit");
}

#[test]
fn features_that_are_not_written_are_read_and_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let bitmaps = make(&PLAIN, dir.path());
    run("qemu-img", &["bitmap", "--add", text(&bitmaps), "changes"]);
    run("qemu-io", &["-f", "qcow2", "-c", "write -P 4 0 1M", text(&bitmaps)]);
    assert!(open(&bitmaps).info().has_bitmaps);
    content_by_qemu_unchecked(&bitmaps);
    assert_eq!(check_like_qemu(&bitmaps, "bitmaps"), (0, 0));
    let error = refused_edit(&bitmaps);
    assert_eq!((error.code(), error.class()), ("qcow2.bitmaps.read-only", Class::Unsupported));
    assert!(error.to_string().contains("persistent bitmaps"), "{error}");

    std::fs::write(dir.path().join("base.raw"), common::pattern(3 * MIB, 2)).unwrap();
    for backing in [&[][..], &["-b", "base.raw", "-F", "raw"]] {
        let subclusters = dir.path().join("subclusters.qcow2");
        let mut args = vec!["create", "-q", "-f", "qcow2", "-o", "extended_l2=on,cluster_size=64k"];
        args.extend(backing);
        args.extend([text(&subclusters), "4M"]);
        run("qemu-img", &args);
        run(
            "qemu-io",
            &[
                "-f",
                "qcow2",
                "-c",
                "write -P 1 3k 9k",
                "-c",
                "write -z 20k 8k",
                "-c",
                "write -P 7 100k 300k",
                "-c",
                "write -c -P 6 1M 64k",
                "-c",
                "discard 200k 4k",
                "-c",
                "write -z 2M 128k",
                text(&subclusters),
            ],
        );
        assert!(open(&subclusters).info().has_extended_l2);
        content_by_qemu_unchecked(&subclusters);
        let error = refused_edit(&subclusters);
        assert_eq!((error.code(), error.class()), ("qcow2.extended-l2.read-only", Class::Unsupported));
        open(&subclusters).dump(&mut Vec::new()).unwrap();
    }

    let corrupt = create(dir.path(), "corrupt.qcow2", "compat=1.1", "1M");
    patch(&corrupt, 79, &[2]);
    assert!(open(&corrupt).info().is_corrupt);
    assert_eq!(refused_edit(&corrupt).code(), "qcow2.corrupt.read-only");
}

#[test]
fn features_that_are_not_read_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let data_file = dir.path().join("data.raw");
    let path = create(dir.path(), "external.qcow2", &format!("data_file={}", text(&data_file)), "1M");
    assert_eq!(try_open(&path).map(drop).unwrap_err().code(), "qcow2.data-file.unsupported");

    let path = dir.path().join("luks.qcow2");
    let secret = ["--object", "secret,id=key,data=abc"];
    let options = "encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10";
    run("qemu-img", &["create", "-q", secret[0], secret[1], "-f", "qcow2", "-o", options, text(&path), "1M"]);
    let error = try_open(&path).map(drop).unwrap_err();
    assert_eq!((error.code(), error.class()), ("qcow2.encryption.unsupported", Class::Unsupported));
    assert!(error.to_string().contains("LUKS"), "{error}");

    let path = create(dir.path(), "plain.qcow2", "compat=1.1", "1M");
    patch(&path, 35, &[1]);
    assert!(try_open(&path).map(drop).unwrap_err().to_string().contains("AES"));

    // An unknown bit is named by the image's own table: here the table calls bit 5 something else.
    let path = create(dir.path(), "future.qcow2", "compat=1.1", "1M");
    let bytes = std::fs::read(&path).unwrap();
    let name_at = bytes[..1024].windows(9).position(|text| text == b"dirty bit").unwrap();
    patch(&path, name_at - 1, &[5]);
    patch(&path, name_at, b"holograms");
    patch(&path, 79, &[0x60]);
    let error = try_open(&path).map(drop).unwrap_err();
    assert_eq!(error.code(), "qcow2.feature.unsupported");
    assert!(error.to_string().ends_with("holograms (bit 5), bit 6"), "{error}");
}

#[test]
fn a_commit_clears_autoclear_bits_and_keeps_the_rest_of_the_header() {
    let dir = tempfile::tempdir().unwrap();
    let path = create(dir.path(), "image.qcow2", "compat=1.1,lazy_refcounts=on", "24M");
    patch(&path, 88, &[0x80, 0, 0, 0, 0, 0, 0, 4]);
    let before = std::fs::read(&path).unwrap();
    assert_eq!(open(&path).info().autoclear_features, 1 << 63 | 4);
    edit_and_judge(&path, &PLAIN, 3);
    let after = std::fs::read(&path).unwrap();
    assert_eq!(after[..88], before[..88]);
    assert_eq!(after[88..96], [0; 8]);
    assert_eq!(after[96..65_536], before[96..65_536]);
}

#[test]
fn facts_of_an_image() {
    let dir = tempfile::tempdir().unwrap();
    let path = make(&Spec { compression: "zstd", snapshots: 2, ..PLAIN }, dir.path());
    let info = open(&path).info();
    assert_eq!((info.version, info.cluster_size, info.refcount_bits), (3, 65_536, 16));
    assert_eq!(info.compression, Compression::Zstd);
    assert_eq!(info.virtual_size, PLAIN.virtual_size());
    let names: Vec<_> = info.snapshots.iter().map(|snapshot| snapshot.name.as_str()).collect();
    assert_eq!(names, ["snap0", "snap1"]);
    assert_eq!(info.snapshots[0].virtual_size, Some(PLAIN.virtual_size()));
    assert!(
        info.feature_names.iter().any(|name| {
            name.kind == FeatureKind::Incompatible && name.bit == 0 && name.name == "dirty bit"
        })
    );
    assert!(info.allocated.unwrap() > 0);
    assert!(serde_json::to_string(&info).unwrap().contains("\"compression\":\"zstd\""));
}

#[test]
fn equal_images_have_equal_dumps_and_an_edit_shows() {
    let dir = tempfile::tempdir().unwrap();
    let spec = Spec { snapshots: 1, compression: "zlib", ..PLAIN };
    let path = make(&spec, dir.path());
    let dump = || {
        let mut out = Vec::new();
        open(&path).dump(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    let before = dump();
    assert_eq!(before, dump());
    for line in ["qcow2 version 3", "cluster_bits 16", "l1 active 0: ", "l1 snapshot 0 0: ", "refcount 0"] {
        assert!(before.lines().any(|text| text.starts_with(line)), "{line}");
    }
    edit_and_judge(&path, &spec, 9);
    let after = dump();
    assert_ne!(before, after);
    let snapshot = |text: &str| text.lines().find(|line| line.starts_with("snapshot 0")).map(str::to_owned);
    assert_eq!(snapshot(&before), snapshot(&after));
}

#[test]
fn many_threads_read_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = make(&Spec { compression: "zstd", cluster: 4096, ..PLAIN }, dir.path());
    let expected = content_by_qemu(&path, None);
    let image = open(&path);
    std::thread::scope(|scope| {
        for seed in 1..9 {
            let (image, expected) = (&image, &expected);
            scope.spawn(move || {
                let mut random = common::Random(seed);
                for _ in 0..200 {
                    let at = random.below(expected.len() as u64) as usize;
                    let len = (random.below(20_000) as usize).min(expected.len() - at);
                    let mut got = vec![0; len];
                    image.read_exact_at(&mut got, at as u64).unwrap();
                    assert!(got == expected[at..at + len]);
                }
            });
        }
    });
}

#[test]
fn a_sparse_disk_of_64_tebibytes_costs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = create(dir.path(), "huge.qcow2", "compat=1.1,cluster_size=2M", "64T");
    let image = Arc::new(open(&path));
    assert_eq!(image.extents(0..image.len()).unwrap().len(), 1);
    let overlay = Arc::new(Overlay::new(Arc::clone(&image) as Arc<_>, MIB, std::env::temp_dir()));
    overlay.write_all_at(b"far away", 63 << 40).unwrap();
    let plan = image.plan_commit(&overlay.seal().unwrap()).unwrap();
    assert!(plan.new_len < 16 * MIB);
    apply(&plan, &path);
    assert_eq!(check_like_qemu(&path, "64 TiB"), (0, 0));
    let image = open(&path);
    let mut got = [0; 8];
    image.read_exact_at(&mut got, 63 << 40).unwrap();
    assert_eq!(&got, b"far away");
}

#[test]
fn zeroes_need_no_cluster() {
    let dir = tempfile::tempdir().unwrap();
    for (compat, backing) in [("0.10", Backing::None), ("1.1", Backing::None), ("1.1", Backing::Raw)] {
        let spec = Spec {
            compat,
            backing,
            compression: if backing == Backing::None { "zlib" } else { "none" },
            ..PLAIN
        };
        let path = make(&spec, dir.path());
        let image = Arc::new(open(&path));
        let overlay = Arc::new(Overlay::new(Arc::clone(&image) as Arc<_>, 64 * MIB, std::env::temp_dir()));
        overlay.write_all_at(&vec![0; image.len() as usize], 0).unwrap();
        let plan = image.plan_commit(&overlay.seal().unwrap()).unwrap();
        assert_eq!(plan.new_len, plan.old_len, "{}", spec.name());
        apply(&plan, &path);
        assert_eq!(check_like_qemu(&path, &spec.name()), (0, 0));
        assert!(content_by_qemu(&path, None).iter().all(|byte| *byte == 0));
    }
}

#[test]
fn a_reused_cluster_is_zero_past_the_end_of_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let path = create(dir.path(), "image.qcow2", "compat=1.1", &(MIB + 512).to_string());
    run(
        "qemu-io",
        &[
            "-t",
            "unsafe",
            "-f",
            "qcow2",
            "-c",
            "write -c -P 1 0 64k",
            "-c",
            "write -P 9 64k 640k",
            text(&path),
        ],
    );
    // Frees clusters and leaves their bytes.
    run("qemu-io", &["-t", "unsafe", "-f", "qcow2", "-d", "unmap", "-c", "discard 64k 640k", text(&path)]);
    let image = Arc::new(open(&path));
    let overlay = Arc::new(Overlay::new(Arc::clone(&image) as Arc<_>, MIB, std::env::temp_dir()));
    overlay.write_all_at(b"last sector", MIB).unwrap();
    let plan = image.plan_commit(&overlay.seal().unwrap()).unwrap();
    // The host may have punched the discarded cluster out: it holds garbage when the plan is applied.
    let reused = plan.writes[0].host_offset;
    assert!(plan.new_len == plan.old_len && reused + 65_536 <= plan.old_len, "a free cluster is reused");
    patch(&path, reused as usize, &[0xee; 65_536]);
    apply(&plan, &path);
    let bytes = std::fs::read(&path).unwrap();
    let field = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
    let l2 = field(field(40)) & 0x00ff_ffff_ffff_fe00;
    let last = field(l2 + 16 * 8) & 0x00ff_ffff_ffff_fe00;
    assert!(bytes[last..].starts_with(b"last sector"));
    assert!(bytes[last + 11..last + 65_536].iter().all(|byte| *byte == 0));
    assert_eq!(check_like_qemu(&path, "reused"), (0, 0));
}
