//! A complete target is looked at before it gets its name.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use block::{Access, BlockError, ImageFile, ReadAt};
use coldfit_convert::{Accept, Options, TargetFormat};
use common::*;
use report::Diagnose;

fn asking(accept: impl Fn(&Path) -> Result<(), BlockError> + Send + Sync + 'static) -> Options {
    let accept: Accept = Arc::new(move |path| accept(path).map_err(|error| Box::new(error) as _));
    Options { accept: Some(accept), ..Options::default() }
}

#[test]
fn the_target_is_complete_and_readable_when_it_is_looked_at_and_an_objection_leaves_the_old_file() {
    let dir = tempfile::tempdir().unwrap();
    let (input, out) = (dir.path().join("in.raw"), dir.path().join("out"));
    raw_disk(&input, 8 << 20, 5);
    for format in [TargetFormat::Raw, qcow2_target(3, 16, Some(zlib()))] {
        let name = format_name(&format);
        std::fs::write(&out, b"what was there").unwrap();
        let sizes = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&sizes);
        let expected = input.clone();
        let options = asking(move |path| {
            seen.store(ImageFile::open(path, Access::Read, &report::Silent)?.len(), Ordering::Relaxed);
            judge(&expected, "raw", path, name);
            Err(BlockError::Failed { first: "it does not please".into() })
        });
        let error = try_convert(&raw_source(&input), &format, &out, &options).unwrap_err();
        assert!(error.to_string().starts_with("accept: ") && error.to_string().contains("does not please"));
        assert!(!error.code().is_empty());
        assert!(sizes.load(Ordering::Relaxed) > 0);
        assert_eq!(std::fs::read(&out).unwrap(), b"what was there");
        assert_eq!(names(dir.path()), [input.clone(), out.clone()], "something is left");

        convert(&raw_source(&input), &format, &out, &asking(|_| Ok(())));
        judge(&input, "raw", &out, name);
    }
}
