//! The structural check against e2fsck: silent on what e2fsck passes, and never silent on what it blames.

mod support;

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use coldfit_ext4::{CheckReport, check};
use support::*;

fn checked(image: &Path) -> CheckReport {
    check(&*reader(image)).unwrap()
}

#[track_caller]
fn assert_clean(image: &Path, context: &str) {
    let report = checked(image);
    let shown: Vec<String> = report.problems.iter().take(12).map(ToString::to_string).collect();
    assert!(report.is_clean(), "{context}: {}", shown.join("\n"));
}

#[test]
fn clean_images_of_the_whole_matrix_have_no_problem() {
    let dir = scratch();
    let image = dir.path().join("image");
    for row in MATRIX {
        mkfs(&image, row.mib, row.args);
        assert_e2fsck_clean(&image, row.args);
        assert_clean(&image, row.args);
        populate(&image);
        assert_e2fsck_clean(&image, row.args);
        assert_clean(&image, row.args);
    }
}
