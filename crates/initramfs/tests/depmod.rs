//! Our module indexes against those of `depmod`, byte for byte.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod common;

use std::fs;

use coldfit_initramfs::{DepmodModule, generate_builtin_indexes, generate_indexes, module_name};

#[test]
fn whole_kernel_equals_depmod() {
    let kernel = common::kernel();
    let dir = kernel.module_dir();
    let modules: Vec<DepmodModule> = common::files_below(&dir)
        .iter()
        .filter(|path| module_name(path).is_some())
        .map(|path| DepmodModule::parse(path, &fs::read(dir.join(path)).unwrap()).unwrap())
        .collect();
    assert!(modules.len() > 500, "{} modules", modules.len());
    let order = fs::read(dir.join("modules.order")).unwrap();
    let indexes = generate_indexes(modules, &order).unwrap();
    assert_eq!(indexes.files.len(), 7);
    for (name, ours) in &indexes.files {
        let theirs = fs::read(dir.join(name)).unwrap();
        assert!(*ours == theirs, "{name} differs from depmod's ({} and {} bytes)", ours.len(), theirs.len());
    }
}

#[test]
fn builtin_indexes_equal_depmod() {
    let dir = common::kernel().module_dir();
    let read = |name: &str| fs::read(dir.join(name)).unwrap();
    let indexes =
        generate_builtin_indexes(&read("modules.builtin"), &read("modules.builtin.modinfo")).unwrap();
    assert_eq!(indexes.files.len(), 2);
    for (name, ours) in &indexes.files {
        assert!(*ours == read(name), "{name} differs from depmod's");
    }
}
