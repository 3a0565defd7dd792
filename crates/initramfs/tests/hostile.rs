//! Deterministic damage: errors are fine, panics, long runs and large allocations are not.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use coldfit_initramfs::{
    Archive, DepmodModule, InitramfsError, InjectionOptions, KernelModules, Limits, ModuleSource,
    decode_index, driver_state, encode_index, generate_indexes, plan_injection,
};

/// Marsaglia's xorshift: the same damage in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    /// Flips, overwrites, cuts, repeats.
    fn damage(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            match self.below(6) {
                0 => bytes.truncate(at),
                1 => {
                    let end = (at + self.below(64)).min(bytes.len());
                    let part = bytes[at..end].to_vec();
                    bytes.splice(at..at, part);
                }
                2 => bytes.iter_mut().skip(at).take(4).for_each(|byte| *byte = 0xff),
                3 => bytes.iter_mut().skip(at).take(8).for_each(|byte| *byte = b'F'),
                4 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = 0),
                _ => {
                    let bit = 1 << self.below(8);
                    bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= bit);
                }
            }
        }
        bytes
    }
}

struct Files(BTreeMap<String, Vec<u8>>);

impl ModuleSource for Files {
    fn read(&self, relative: &str) -> Result<Option<Vec<u8>>, InitramfsError> {
        Ok(self.0.get(relative).cloned())
    }
}

fn limits() -> Limits {
    Limits { unpacked_bytes: 32 << 20, decoder_memory: 16 << 20, ..Limits::default() }
}

fn quick<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    assert!(start.elapsed() < Duration::from_secs(10), "{what} took {:?}", start.elapsed());
    result
}

fn small_image() -> Vec<u8> {
    let root = tempfile::tempdir().unwrap();
    let at = |path: &str| root.path().join(path);
    for dir in ["conf", "scripts", "usr/lib/modules/6.1/kernel", "etc/modprobe.d"] {
        fs::create_dir_all(at(dir)).unwrap();
    }
    symlink("usr/lib", at("lib")).unwrap();
    symlink("loop", at("loop")).unwrap();
    fs::write(at("init"), "#!/bin/sh\n").unwrap();
    fs::write(at("etc/modprobe.d/a.conf"), "blacklist floppy\n").unwrap();
    fs::write(at("usr/lib/modules/6.1/kernel/a.ko"), vec![1; 100]).unwrap();
    let aliases = encode_index("t", [("pci:v*", 0, "a"), ("virtio:d2v*", 1, "b")]).unwrap();
    fs::write(at("usr/lib/modules/6.1/modules.alias.bin"), aliases).unwrap();
    fs::write(at("one"), "linked").unwrap();
    fs::hard_link(at("one"), at("two")).unwrap();
    common::cpio_of(root.path())
}

fn small_kernel() -> Files {
    let files = [
        ("modules.dep", "kernel/a.ko: kernel/b.ko\nkernel/b.ko:\n"),
        ("modules.alias", "alias pci:v* a\nalias virtio:d2v* b\n"),
        ("modules.softdep", "softdep a pre: b post: pci:v1\n"),
        ("modules.builtin", "kernel/c.ko\n"),
        ("modules.order", "kernel/a.ko\nkernel/b.ko\n"),
    ];
    Files(files.map(|(name, text)| (name.to_string(), text.as_bytes().to_vec())).into())
}

fn look_at_everything(bytes: &[u8]) {
    let Ok(archive) = Archive::parse(bytes, &limits()) else { return };
    let kernel = small_kernel();
    let modules = KernelModules::load("6.1", &kernel).unwrap();
    archive.entries();
    archive.modules();
    archive.module_blacklist();
    archive.has_udev();
    driver_state(&archive, &modules, "a");
    let options = InjectionOptions { limits: limits(), ..InjectionOptions::default() };
    // The module files are missing, so this ends in an error after everything was looked up.
    let _ = plan_injection(bytes, &archive, &modules, &kernel, &["a".into()], &options);
}

#[test]
fn damaged_images() {
    let cpio = small_image();
    let mut random = Random(0x636f_6c64_6669_7401);
    for compression in common::COMPRESSIONS {
        let image = [&common::microcode()[..], &common::pack(compression, &cpio)].concat();
        for _ in 0..300 {
            let damaged = random.damage(&image);
            quick(compression.name(), || look_at_everything(&damaged));
        }
    }
    // The archive itself, behind no checksum.
    for _ in 0..1500 {
        let damaged = random.damage(&cpio);
        quick("cpio", || look_at_everything(&damaged));
    }
}

#[test]
fn damaged_modules() {
    let kernel = common::kernel();
    let module = fs::read(kernel.module_dir().join("kernel/drivers/block/virtio_blk.ko")).unwrap();
    let mut random = Random(0x636f_6c64_6669_7402);
    for _ in 0..500 {
        let mut damaged = random.damage(&module);
        // Most of the file is code; the headers are what is read.
        let at = random.below(64);
        damaged.iter_mut().skip(at).take(1).for_each(|byte| *byte = 0x55);
        quick("module", || {
            if let Ok(module) = DepmodModule::parse("kernel/a.ko", &damaged) {
                let _ = generate_indexes(vec![module], b"");
            }
        });
    }
}

#[test]
fn damaged_indexes() {
    let mut random = Random(0x636f_6c64_6669_7403);
    let keys = ["pci:v00001AF4d*", "pci:v0000*", "virtio:d2v*", "virtio:d8v*", "fs_ext4"];
    let index = encode_index("t", keys.iter().zip(0..).map(|(key, at)| (*key, at, "module"))).unwrap();
    let files = small_kernel();
    for _ in 0..2000 {
        let damaged = random.damage(&index);
        quick("index", || decode_index("t", &damaged).map(|entries| entries.len()).ok());
        let mut damaged_files = BTreeMap::new();
        for (name, content) in &files.0 {
            damaged_files.insert(name.clone(), random.damage(content));
        }
        quick("text indexes", || {
            if let Ok(modules) = KernelModules::load("6.1", &Files(damaged_files)) {
                let _ = modules.closure(&["a", "b", "pci:v1"]);
            }
        });
    }
}

#[test]
fn links_that_multiply_work_and_paths() {
    // Each link leads through the one before it, and every entry goes through the last.
    let mut archive = Vec::new();
    let deep = b"d/".repeat(1000);
    for depth in 1..=200 {
        common::entry(&mut archive, &deep[..depth * 2 - 1], common::fields(0o040_755), b"");
    }
    common::entry(&mut archive, b"l0", common::fields(0o120_777), &deep[..399]);
    for link in 1..60 {
        let target = format!("l{}/../../d/d/..", link - 1);
        common::entry(
            &mut archive,
            format!("l{link}").as_bytes(),
            common::fields(0o120_777),
            target.as_bytes(),
        );
    }
    for file in 0..20_000 {
        common::entry(&mut archive, format!("l0/{file}").as_bytes(), common::fields(0o100_644), b"");
        common::entry(&mut archive, format!("l59/{file}").as_bytes(), common::fields(0o100_644), b"");
    }
    common::entry(&mut archive, b"TRAILER!!!", common::fields(0), b"");
    quick("links", || look_at_everything(&archive));
    let archive = quick("parse", || Archive::parse(&archive, &Limits::default()).unwrap());
    assert!(archive.exists("l0") && !archive.exists("l59"));
}

#[test]
fn softdeps_in_a_circle_end() {
    let mut files = small_kernel();
    let softdep = "softdep a pre: b\nsoftdep b pre: a post: a b\n";
    files.0.insert("modules.softdep".into(), softdep.into());
    let modules = KernelModules::load("6.1", &files).unwrap();
    assert_eq!(modules.closure(&["a"]).unwrap().modules.len(), 2);
    let chain: String = (0..5000).map(|at| format!("softdep m{at} pre: m{}\n", at + 1)).collect();
    let deps: String = (0..=5000).map(|at| format!("kernel/m{at}.ko:\n")).collect();
    files.0.insert("modules.softdep".into(), chain.into());
    files.0.insert("modules.dep".into(), deps.into());
    let modules = KernelModules::load("6.1", &files).unwrap();
    let error = quick("chain", || modules.closure(&["m0"]).unwrap_err());
    assert!(matches!(error, InitramfsError::Index { .. }), "{error}");
}

#[test]
fn a_file_unpacks_to_a_bounded_multiple_of_its_length() {
    // 64 archives of 16 MB each in some KiB: it must not cost a gigabyte of unpacking to refuse them.
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("zeros"), vec![0; 16_000_000]).unwrap();
    let archive = common::cpio_of(root.path());
    let bomb = zstd::bulk::compress(&archive, 1).unwrap().repeat(64);
    let error = Archive::parse(&bomb, &Limits::default()).unwrap_err();
    let allowed = Limits::default().unpacked_from(bomb.len() as u64);
    assert!(allowed < 100 << 20, "{allowed}");
    assert!(error.to_string().contains(&allowed.to_string()), "{error}");
}
