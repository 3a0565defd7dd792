//! VHD images: read in both forms; a fixed one is edited and grown in place and copied, a dynamic one is only read.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use block::Access;
use coldfit_stack::{CommitTarget, Image, ImageFormat, SealedImage};
use common::*;
use report::{Diagnose, Silent};
use vfs::DiskEdit;

const GROWN: u64 = 200 * MIB;

/// The usual guest as VHD by qemu-img, with its exact size.
fn vhd(lab: &Lab, subformat: &str) -> PathBuf {
    let path = lab.path(subformat);
    let options = format!("subformat={subformat},force_size=on");
    convert(&usual_guest(lab), &path, &["-O", "vpc", "-o", &options]);
    path
}

fn edit(path: &Path, access: Access) -> SealedImage {
    let mut image = Image::open(path, &options(access), &Silent).unwrap();
    image.edit_disk(&[DiskEdit::Grow { to: GROWN }]).unwrap();
    let mut tree = image.open_tree(true).unwrap();
    tree.write(&guest("/etc/hostname"), b"new\n", 0o644).unwrap();
    tree.flush().unwrap();
    drop(tree);
    image.seal().unwrap()
}

fn judge(lab: &Lab, path: &Path) {
    let info = run(Command::new("qemu-img").args(["info", "-f", "vpc", "--output=json"]).arg(path)).stdout;
    let info: serde_json::Value = serde_json::from_slice(&info).unwrap();
    assert_eq!(info["virtual-size"], GROWN);
    let raw = lab.path("as-raw");
    convert(path, &raw, &["-f", "vpc", "-O", "raw"]);
    run(Command::new("sgdisk").arg("-v").arg(&raw));
    lab.assert_e2fsck_clean(&raw, ROOT_AT, ROOT_LEN);
    assert_eq!(lab.debugfs_cat(&raw, ROOT_AT, ROOT_LEN, "/etc/hostname"), "new\n");
}

#[test]
fn both_forms_are_recognised_and_read() {
    let lab = Lab::new();
    for subformat in ["fixed", "dynamic"] {
        let mut image = open(&vhd(&lab, subformat));
        assert_eq!(image.format(), ImageFormat::Vhd);
        assert_eq!(read(&image.open_tree(false).unwrap(), "/etc/hostname"), "old\n");
        assert!(image.vhd().unwrap().check().unwrap().is_clean());
    }
}

#[test]
fn a_fixed_image_is_edited_and_grown_in_place_with_undo_and_as_a_copy() {
    let lab = Lab::new();
    let path = vhd(&lab, "fixed");
    let before = fs::read(&path).unwrap();

    let copy = lab.path("copy.vhd");
    let target = CommitTarget::NewFile { path: copy.clone(), force: false };
    edit(&path, Access::Read).commit(target, &Silent).unwrap();
    assert!(fs::read(&path).unwrap() == before, "the source changed");
    judge(&lab, &copy);

    let undo_file = lab.path("undo");
    let target = CommitTarget::InPlace { undo_file: Some(undo_file.clone()) };
    edit(&path, Access::Write).commit(target, &Silent).unwrap();
    judge(&lab, &path);
    assert!(edit(&path, Access::Read).plan().unwrap().new_len == GROWN + 512);
    block::undo(&path, Some(&undo_file), &Silent).unwrap();
    assert!(fs::read(&path).unwrap() == before, "undo brings back footer and length");
}

#[test]
fn a_dynamic_image_and_sizes_beyond_the_format_are_refused_for_writing() {
    let lab = Lab::new();
    let mut image = open(&vhd(&lab, "dynamic"));
    let error = image.open_tree(true).err().unwrap();
    assert_eq!(error.code(), "vhd.dynamic.read-only");
    assert!(error.hint().unwrap().contains("convert --fix"));
    assert_eq!(image.edit_disk(&[DiskEdit::Grow { to: GROWN }]).unwrap_err().code(), "vhd.dynamic.read-only");

    let mut image = open(&vhd(&lab, "fixed"));
    let error = image.edit_disk(&[DiskEdit::Grow { to: 3 << 40 }]).unwrap_err();
    assert_eq!(error.code(), "vhd.size");
}
