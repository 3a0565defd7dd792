//! Damaged and foreign images: stable codes, never a panic; the footer that is good is used.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::path::Path;
use std::sync::Arc;

use block::{MemoryDevice, ReadAt};
use coldfit_vhd::{
    DiskKind, DynamicHeader, DynamicLayout, FixedLayout, Footer, Identity, Stored, Vhd, probe,
};
use report::Diagnose;

const MIB: u64 = 1 << 20;

fn open(bytes: &[u8]) -> Result<Vhd, coldfit_vhd::VhdError> {
    Vhd::open(Arc::new(MemoryDevice::new(bytes.to_vec())), Path::new("image.vhd"))
}

fn code(bytes: &[u8]) -> &'static str {
    open(bytes).err().unwrap().code()
}

/// 5 MiB in blocks of 512 KiB, block 3 stored.
fn dynamic() -> (DynamicLayout, Vec<u8>) {
    let layout = DynamicLayout::new(5 * MIB).unwrap();
    assert_eq!(layout.block_size(), MIB / 2);
    let mut file = vec![0; layout.file_len(1) as usize];
    let mut put = |at: u64, bytes: &[u8]| file[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
    put(0, &layout.head([3], Identity::default()));
    put(layout.bitmap_offset(0), &layout.bitmap());
    put(layout.data_offset(0), &vec![0xab; layout.block_size() as usize]);
    put(layout.footer_offset(1), &layout.footer(Identity::default()));
    (layout, file)
}

fn fixed() -> Vec<u8> {
    let mut file = vec![0x11; MIB as usize];
    file.extend_from_slice(&FixedLayout::new(MIB).unwrap().footer(Identity::default()));
    file
}

fn with_footer(edit: impl Fn(&mut Footer)) -> Vec<u8> {
    let (_, mut file) = dynamic();
    let mut footer = open(&file).unwrap().footer().clone();
    edit(&mut footer);
    let end = file.len();
    file[..512].copy_from_slice(&footer.to_bytes());
    file[end - 512..].copy_from_slice(&footer.to_bytes());
    file
}

fn with_header(header: &DynamicHeader) -> Vec<u8> {
    let (_, mut file) = dynamic();
    file[512..1536].copy_from_slice(&header.to_bytes());
    file
}

#[test]
fn what_is_not_handled_is_refused_by_name() {
    assert_eq!(code(&with_footer(|footer| footer.kind = Some(DiskKind::Differencing))), "vhd.differencing");
    assert_eq!(code(&with_footer(|footer| footer.kind = None)), "vhd.type.unsupported");
    assert_eq!(code(&with_footer(|footer| footer.version = 0x0002_0000)), "vhd.version.unsupported");
    let mut vhdx = vec![0; 4096];
    vhdx[..8].copy_from_slice(b"vhdxfile");
    assert_eq!(code(&vhdx), "vhd.vhdx");
    assert_eq!(code(&[0; 4096]), "vhd.magic");
    assert_eq!(code(b"short"), "vhd.magic");
}

#[test]
fn sizes_without_sense_are_refused() {
    assert_eq!(code(&with_footer(|footer| footer.current_size = 511)), "vhd.footer.size");
    assert_eq!(code(&with_footer(|footer| footer.current_size = 1 << 60)), "vhd.limit");
    assert_eq!(code(&with_footer(|footer| footer.current_size = 6 * MIB)), "vhd.bat.size");
    assert_eq!(code(&fixed()[512..]), "vhd.truncated");
    let header = |table_offset, entries, block_size| {
        with_header(&DynamicHeader::new(table_offset, entries, block_size))
    };
    assert_eq!(code(&header(1536, 10, 3 << 19)), "vhd.header.block-size");
    assert_eq!(code(&header(1536, 10, 256)), "vhd.header.block-size");
    assert_eq!(code(&header(1536, 10, 1 << 31)), "vhd.limit");
    assert_eq!(code(&header(1536, 9, 1 << 19)), "vhd.bat.size");
    assert_eq!(code(&header(u64::MAX - 3, 10, 1 << 19)), "vhd.bat.range");
    let mut large = with_footer(|footer| footer.current_size = coldfit_vhd::SIZE_MAX);
    large[512..1536].copy_from_slice(&DynamicHeader::new(1536, u32::MAX, 512).to_bytes());
    assert_eq!(code(&large), "vhd.limit");
}

#[test]
fn damaged_structures_are_named() {
    let (layout, good) = dynamic();
    let edit = |at: usize, bytes: &[u8]| {
        let mut file = good.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    assert_eq!(code(&edit(512, b"x")), "vhd.header");
    assert_eq!(code(&edit(700, b"x")), "vhd.header");
    assert_eq!(code(&edit(1536, &[0, 0xff, 0, 0])), "vhd.bat.entry");
    assert_eq!(code(&with_footer(|footer| footer.data_offset = 1 << 40)), "vhd.header.range");
    let truncated = &good[..layout.data_offset(0) as usize + 1000];
    assert_eq!(code(truncated), "vhd.bat.entry");

    let mut both = edit(100, b"x");
    let end = both.len();
    both[end - 300] = b'x';
    assert_eq!(code(&both), "vhd.footer.checksum");
    let mut fixed = fixed();
    let end = fixed.len();
    fixed[end - 300] = b'x';
    assert_eq!(code(&fixed), "vhd.footer.checksum");
}

#[test]
fn one_good_footer_of_two_is_enough_and_the_other_is_reported() {
    let (_, good) = dynamic();
    let end = good.len();
    for (at, word) in [(0, "start"), (100, "start"), (end - 512, "end"), (end - 300, "end")] {
        let mut file = good.clone();
        file[at] ^= 0xff;
        assert_eq!(probe(&MemoryDevice::new(file.clone())).unwrap(), Some(DiskKind::Dynamic));
        let image = open(&file).unwrap();
        assert_eq!(image.len(), 5 * MIB);
        let [problem] = image.footer_problems() else { panic!("{:?}", image.footer_problems()) };
        assert!(problem.contains(word), "{problem}");
        assert_eq!(image.check().unwrap().problem_count, 1);
        let mut byte = [0];
        image.read_exact_at(&mut byte, 3 * MIB / 2).unwrap();
        assert_eq!(byte, [0xab]);
    }
    // Written to after the footer was: it stands where a block now is.
    let mut overwritten = good.clone();
    overwritten.truncate(end - 512);
    assert!(open(&overwritten).unwrap().footer_problems()[0].contains("missing"));
}

#[test]
fn footers_that_contradict_each_other_are_damage() {
    let (layout, mut file) = dynamic();
    let end = file.len();
    file[end - 512..].copy_from_slice(&DynamicLayout::new(4 * MIB).unwrap().footer(Identity::default()));
    assert_eq!(code(&file), "vhd.footer.conflict");
    // A fixed disk that begins with a footer would be another disk to a program that looks there first.
    let mut nested = fixed();
    nested[..512].copy_from_slice(&layout.footer(Identity::default()));
    assert_eq!(code(&nested), "vhd.footer.conflict");
    // Only the number differs: both are usable, and it is said.
    let (layout, mut file) = dynamic();
    file[..512].copy_from_slice(&layout.footer(Identity { timestamp: 5, ..Identity::default() }));
    assert_eq!(open(&file).unwrap().footer_problems().len(), 1);
}

#[test]
fn sectors_that_the_bitmap_excludes_read_as_zero() {
    let (layout, mut file) = dynamic();
    let bitmap = layout.bitmap_offset(0) as usize;
    // Sectors 0 to 3 and 9 are not in use; their bytes are not zero.
    file[bitmap] = 0x0f;
    file[bitmap + 1] = 0b1011_1111;
    let image = open(&file).unwrap();
    let mut got = vec![0xee; 12 * 512];
    image.read_exact_at(&mut got, 3 * MIB / 2).unwrap();
    for (sector, bytes) in got.chunks(512).enumerate() {
        let expected = if sector < 4 || sector == 9 { 0 } else { 0xab };
        assert!(bytes.iter().all(|byte| *byte == expected), "sector {sector}");
    }
    let holes = |pieces: Vec<coldfit_vhd::MapPiece>| {
        pieces.iter().filter(|piece| piece.stored == Stored::Hole).map(|piece| piece.len).sum::<u64>()
    };
    assert_eq!(holes(image.map(0..5 * MIB).unwrap()), 9 * MIB / 2 + 5 * 512);
    // A range that begins and ends within sectors.
    let pieces = image.map(3 * MIB / 2 + 2047..3 * MIB / 2 + 9 * 512 + 3).unwrap();
    assert_eq!(pieces.iter().map(|piece| piece.len).collect::<Vec<_>>(), [1, 5 * 512, 3]);
    assert_eq!(image.check().unwrap().problem_count, 2);

    // Alternating sectors are not told one by one.
    for byte in &mut file[bitmap..bitmap + 128] {
        *byte = 0xaa;
    }
    let image = open(&file).unwrap();
    let pieces = image.map(3 * MIB / 2..2 * MIB).unwrap();
    assert_eq!((pieces.len(), pieces[0].stored), (1, Stored::Mixed));
}

#[test]
fn blocks_in_one_place_are_reported() {
    let (layout, mut file) = dynamic();
    let entry = layout.entry(0).to_be_bytes();
    file[1536 + 4 * 5..][..4].copy_from_slice(&entry);
    let report = open(&file).unwrap().check().unwrap();
    assert_eq!(report.problem_count, 1, "{:?}", report.problems);
    assert_eq!((report.total_blocks, report.allocated_blocks), (10, 2));
    // Over the header.
    file[1536 + 4 * 5..][..4].copy_from_slice(&[0, 0, 0, 1]);
    assert!(!open(&file).unwrap().check().unwrap().is_clean());
}

#[test]
fn every_damaged_byte_of_the_metadata_is_survived() {
    let (layout, good) = dynamic();
    let metadata = (0..layout.data_offset(0) as usize).chain(good.len() - 512..good.len());
    for at in metadata.step_by(3) {
        for flip in [0x01, 0x80, 0xff] {
            let mut file = good.clone();
            file[at] ^= flip;
            let Ok(image) = open(&file) else { continue };
            image.check().unwrap();
            let pieces = image.map(0..image.len()).unwrap();
            assert_eq!(pieces.iter().map(|piece| piece.len).sum::<u64>(), image.len());
            let mut buf = vec![0; 100_000];
            image.read_exact_at(&mut buf, 3 * MIB / 2 - 1000).unwrap();
        }
    }
}

/// `dynamic`: three blocks of 4 KiB, the first one stored with half of its sectors in use; `fixed`: 2 KiB.
#[test]
fn the_seeds_of_the_fuzzer_are_images() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/fuzz/vhd");
    for (name, kind, len) in [("dynamic", DiskKind::Dynamic, 12_288), ("fixed", DiskKind::Fixed, 2048)] {
        let image = open(&std::fs::read(seeds.join(name)).unwrap()).unwrap();
        assert_eq!((image.kind(), image.len()), (kind, len));
    }
}
