//! Images by qemu-img and images from our structures, judged by qemu-img both ways.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use block::{FileDevice, Overlay, ReadAt, WriteAt};
use coldfit_vhd::{DiskKind, DynamicLayout, FixedLayout, Identity, MapPiece, SizeRule, Stored, Vhd};

const MIB: u64 = 1 << 20;

fn run(program: &str, args: &[&str]) -> String {
    let output =
        Command::new(program).args(args).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{program} {args:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn open(path: &Path) -> Vhd {
    Vhd::open(Arc::new(FileDevice::open_read(path).unwrap()), path).unwrap()
}

/// How the content of a disk is spread.
#[derive(Debug, Clone, Copy)]
enum Pattern {
    Empty,
    Full,
    /// Every third MiB.
    Scattered,
    /// The first and the last sector.
    Ends,
}

fn content(pattern: Pattern, size: u64) -> Vec<u8> {
    let mut bytes = vec![0u8; size as usize];
    let mut state = size | 1;
    let mut fill = |part: &mut [u8]| {
        for byte in part {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (state >> 56) as u8 | 1;
        }
    };
    match pattern {
        Pattern::Empty => {}
        Pattern::Full => fill(&mut bytes),
        Pattern::Scattered => {
            for part in bytes.chunks_mut(MIB as usize).step_by(3) {
                let middle = part.len() / 2;
                fill(&mut part[middle..]);
            }
        }
        Pattern::Ends => {
            fill(&mut bytes[..512]);
            let last = bytes.len() - 512;
            fill(&mut bytes[last..]);
        }
    }
    bytes
}

const PATTERNS: [Pattern; 4] = [Pattern::Empty, Pattern::Full, Pattern::Scattered, Pattern::Ends];
/// Sizes that no geometry meets, multiples of 1 MiB and others, with and without a part of a block at the end.
const SIZES: [u64; 8] = [512, MIB, MIB + 512, 2 * MIB, 5 * MIB, 7 * MIB - 512, 8 * MIB, 9 * MIB + 4096];

/// A dynamic image of `disk` from our structures.
fn dynamic_image(disk: &[u8]) -> Vec<u8> {
    let layout = DynamicLayout::new(disk.len() as u64).unwrap();
    let identity = Identity::of_digest(&[7; 32]);
    let stored: Vec<u32> = (0u32..)
        .zip(disk.chunks(layout.block_size() as usize))
        .filter(|(_, block)| block.iter().any(|byte| *byte != 0))
        .map(|(number, _)| number)
        .collect();
    let count = stored.len() as u32;
    let mut file = vec![0; layout.file_len(count) as usize];
    let mut put = |at: u64, bytes: &[u8]| file[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
    put(0, &layout.head(stored.iter().copied(), identity));
    for (place, block) in (0u32..).zip(&stored) {
        put(layout.bitmap_offset(place), &layout.bitmap());
        let from = (u64::from(*block) * layout.block_size()) as usize;
        let to = (from + layout.block_size() as usize).min(disk.len());
        put(layout.data_offset(place), &disk[from..to]);
    }
    put(layout.footer_offset(count), &layout.footer(identity));
    file
}

fn fixed_image(disk: &[u8]) -> Vec<u8> {
    let layout = FixedLayout::new(disk.len() as u64).unwrap();
    let mut file = disk.to_vec();
    assert_eq!(layout.footer_offset(), file.len() as u64);
    file.extend_from_slice(&layout.footer(Identity::of_digest(&[9; 32])));
    assert_eq!(layout.file_len(), file.len() as u64);
    file
}

/// Reads of many sizes, the map and the extents agree with `disk`; the structure is clean.
fn judge_reader(path: &Path, disk: &[u8], what: &str) {
    let image = open(path);
    assert_eq!(image.len(), disk.len() as u64, "{what}");
    for step in [disk.len(), 300_007, 4096, 700] {
        // Small steps only over the first MiB and the end.
        let mut at = if step < 100_000 { disk.len().saturating_sub(100_000) } else { 0 };
        while at < disk.len() {
            let len = step.min(disk.len() - at);
            let mut got = vec![0xaa; len];
            image.read_exact_at(&mut got, at as u64).unwrap();
            assert!(got == disk[at..at + len], "{what}: {len} bytes at {at}");
            at += len;
        }
    }
    let mut at = 0;
    for MapPiece { offset, len, stored } in image.map(0..image.len()).unwrap() {
        assert_eq!(offset, at, "{what}");
        at += len;
        let expected = &disk[offset as usize..at as usize];
        let mut got = vec![0; len as usize];
        match stored {
            Stored::Hole => {}
            Stored::At { host_offset } => image.file().read_exact_at(&mut got, host_offset).unwrap(),
            Stored::Mixed => image.read_exact_at(&mut got, offset).unwrap(),
        }
        assert!(got == expected, "{what}: piece at {offset}");
    }
    assert_eq!(at, image.len(), "{what}");
    let extents = image.extents(0..image.len()).unwrap();
    assert_eq!(extents.iter().map(|extent| extent.len).sum::<u64>(), image.len());
    let report = image.check().unwrap();
    assert!(report.is_clean(), "{what}: {:?}", report.problems);
    assert!(image.footer_problems().is_empty());
}

/// qemu-img finds the exact size and the same content; a dynamic image also without being told the format (it looks
/// for a footer at the start only).
fn judge_image(path: &Path, raw: &Path, size: u64, what: &str) {
    let formats: &[&[&str]] = match open(path).kind() {
        DiskKind::Fixed => &[&["-f", "vpc"]],
        _ => &[&["-f", "vpc"], &[]],
    };
    for format in formats {
        let info = run("qemu-img", &[&["info", "--output=json"], *format, &[text(path)]].concat());
        let info: serde_json::Value = serde_json::from_str(&info).unwrap();
        assert_eq!(info["virtual-size"], size, "{what}: {info}");
        assert_eq!(info["format"], "vpc", "{what}");
        run("qemu-img", &[&["compare", "-F", "raw"], *format, &[text(path), text(raw)]].concat());
    }
    // Whichever way a program calculates the size.
    for rule in ["current_size", "chs"] {
        let options = format!("driver=vpc,force_size_calc={rule},file.filename={}", text(path));
        let info = run("qemu-img", &["info", "--output=json", "--image-opts", &options]);
        let info: serde_json::Value = serde_json::from_str(&info).unwrap();
        assert_eq!(info["virtual-size"], size, "{what} {rule}: {info}");
    }
}

#[test]
fn images_of_qemu_are_read_and_ours_are_read_by_qemu() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("disk.raw");
    for (size, pattern) in SIZES.iter().flat_map(|size| PATTERNS.map(|pattern| (*size, pattern))) {
        let disk = content(pattern, size);
        std::fs::write(&raw, &disk).unwrap();
        for subformat in ["fixed", "dynamic"] {
            let what = format!("{size} {pattern:?} {subformat}");
            let theirs = dir.path().join("theirs.vhd");
            let options = format!("subformat={subformat},force_size=on");
            run(
                "qemu-img",
                &["convert", "-f", "raw", "-O", "vpc", "-o", &options, text(&raw), text(&theirs)],
            );
            judge_reader(&theirs, &disk, &format!("by qemu: {what}"));

            let ours = dir.path().join("ours.vhd");
            let bytes = if subformat == "fixed" { fixed_image(&disk) } else { dynamic_image(&disk) };
            std::fs::write(&ours, bytes).unwrap();
            judge_image(&ours, &raw, size, &what);
            judge_reader(&ours, &disk, &format!("by us: {what}"));
            let kind = if subformat == "fixed" { DiskKind::Fixed } else { DiskKind::Dynamic };
            assert_eq!(open(&ours).kind(), kind);
            assert_eq!(open(&theirs).kind(), kind);
        }
    }
}

#[test]
fn sizes_rounded_to_cylinders_are_taken_as_qemu_takes_them() {
    let dir = tempfile::tempdir().unwrap();
    for (size, subformat) in
        [(MIB, "fixed"), (5 * MIB, "dynamic"), (700 * MIB, "dynamic"), (40_000 * MIB, "dynamic")]
    {
        let path = dir.path().join("image.vhd");
        run(
            "qemu-img",
            &[
                "create",
                "-q",
                "-f",
                "vpc",
                "-o",
                &format!("subformat={subformat}"),
                text(&path),
                &size.to_string(),
            ],
        );
        let info = run("qemu-img", &["info", "-f", "vpc", "--output=json", text(&path)]);
        let info: serde_json::Value = serde_json::from_str(&info).unwrap();
        let image = open(&path);
        assert_eq!(info["virtual-size"], image.len());
        assert_ne!(image.len(), size, "the geometry never meets this size");
        assert_eq!(image.info().size_rule, SizeRule::Geometry);
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn the_largest_disk_is_opened_by_qemu_with_its_exact_size() {
    let dir = tempfile::tempdir().unwrap();
    for size in [coldfit_vhd::SIZE_MAX, coldfit_vhd::SIZE_MAX - MIB, 128 << 30] {
        let layout = DynamicLayout::new(size).unwrap();
        let last = layout.blocks() - 1;
        let identity = Identity::default();
        let path = dir.path().join("large.vhd");
        let file = FileDevice::new(std::fs::File::create_new(&path).unwrap(), &path).unwrap();
        file.file().set_len(layout.file_len(1)).unwrap();
        let file = FileDevice::open_write(&path).unwrap();
        file.write_all_at(&layout.head([last], identity), 0).unwrap();
        file.write_all_at(&layout.bitmap(), layout.bitmap_offset(0)).unwrap();
        let within = size - 512 - u64::from(last) * layout.block_size();
        file.write_all_at(&[0x5a; 512], layout.data_offset(0) + within).unwrap();
        file.write_all_at(&layout.footer(identity), layout.footer_offset(1)).unwrap();

        let raw = dir.path().join("large.raw");
        let sparse = std::fs::File::create(&raw).unwrap();
        sparse.set_len(size).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&sparse, &[0x5a; 512], size - 512).unwrap();
        judge_image(&path, &raw, size, "large");
        let image = open(&path);
        assert_eq!(image.len(), size);
        let pieces = image.map(0..size).unwrap();
        assert_eq!(pieces.len(), 2, "all blocks but the last are one hole");
        assert!(image.check().unwrap().is_clean());
        std::fs::remove_file(path).unwrap();
    }
}

/// Applies a plan as a transaction does, without its journal.
fn apply(plan: &block::HostPlan, path: &Path) {
    let file = FileDevice::open_write(path).unwrap();
    assert_eq!(file.len(), plan.old_len);
    file.file().set_len(plan.new_len).unwrap();
    let file = FileDevice::open_write(path).unwrap();
    for write in &plan.writes {
        let mut bytes = vec![0; write.len() as usize];
        plan.read_source(write, 0, &mut bytes).unwrap();
        file.write_all_at(&bytes, write.host_offset).unwrap();
    }
}

fn overlay_of(path: &Path) -> (Arc<Vhd>, Arc<Overlay>) {
    let image = Arc::new(open(path));
    let base = Arc::clone(&image) as Arc<dyn ReadAt>;
    (image, Arc::new(Overlay::new(base, 64 * MIB, std::env::temp_dir())))
}

#[test]
fn a_fixed_image_is_edited_and_grown_in_place() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("disk.raw");
    let disk = content(Pattern::Scattered, 5 * MIB);
    std::fs::write(&raw, &disk).unwrap();
    let makers: [(&str, Option<&str>); 3] = [
        ("ours", None),
        ("qem2", Some("subformat=fixed,force_size=on")),
        ("by geometry", Some("subformat=fixed")),
    ];
    for (name, options) in makers {
        let path: PathBuf = dir.path().join("image.vhd");
        match options {
            None => std::fs::write(&path, fixed_image(&disk)).unwrap(),
            Some(options) => {
                run(
                    "qemu-img",
                    &["convert", "-f", "raw", "-O", "vpc", "-o", options, text(&raw), text(&path)],
                );
            }
        }
        let mut model = disk.clone();
        model.resize(open(&path).len() as usize, 0);

        let (image, overlay) = overlay_of(&path);
        let end = image.len();
        for (at, bytes) in [(700u64, &b"edit"[..]), (MIB, &[0; 3000]), (end - 5, b"\x01last")] {
            overlay.write_all_at(bytes, at).unwrap();
            model[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
        }
        let plan = image.plan_commit(&overlay.seal().unwrap()).unwrap();
        assert_eq!(plan.new_len, plan.old_len);
        apply(&plan, &path);
        std::fs::write(dir.path().join("model.raw"), &model).unwrap();
        judge_by_content(&path, &dir.path().join("model.raw"), name);

        let (image, overlay) = overlay_of(&path);
        let size = 8 * MIB;
        overlay.grow(size).unwrap();
        model.resize(size as usize, 0);
        let at = image.len() + 100_000;
        overlay.write_all_at(b"grown", at).unwrap();
        model[at as usize..at as usize + 5].copy_from_slice(b"grown");
        let plan = image.plan_commit(&overlay.seal().unwrap()).unwrap();
        assert_eq!(plan.new_len, size + 512);
        apply(&plan, &path);
        std::fs::write(dir.path().join("model.raw"), &model).unwrap();
        judge_image(&path, &dir.path().join("model.raw"), size, name);
        judge_reader(&path, &model, name);
        assert_eq!(open(&path).footer().identity, image.footer().identity);
    }
}

fn judge_by_content(path: &Path, raw: &Path, what: &str) {
    assert_eq!(std::fs::metadata(raw).unwrap().len(), open(path).len(), "{what}");
    run("qemu-img", &["compare", "-f", "vpc", "-F", "raw", text(path), text(raw)]);
}

#[test]
fn a_dynamic_image_is_not_edited_in_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image.vhd");
    std::fs::write(&path, dynamic_image(&content(Pattern::Ends, 4 * MIB))).unwrap();
    let (image, overlay) = overlay_of(&path);
    overlay.write_all_at(b"x", 9).unwrap();
    let error = image.plan_commit(&overlay.seal().unwrap()).err().unwrap();
    assert_eq!(report::Diagnose::code(&error), "vhd.dynamic.read-only");
    assert!(report::Diagnose::hint(&error).unwrap().contains("convert --fix"));
}
