//! Injection, judged by the tools that read initramfs files and by depmod.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use coldfit_initramfs::{
    Append, Archive, Compression, DriverProblem, DriverState, Generator, InitramfsError, Injection,
    InjectionOptions, KernelModules, Limits, ModuleSource, Placement, driver_state, modules_for_alias_inside,
    new_file, plan_injection, rewrite_last_segment,
};
use common::HostDir;
use report::Diagnose;
use testkit::kernel_deb::KernelDeb;

const WANTED: [&str; 6] = ["virtio_pci", "virtio_blk", "virtio_scsi", "virtio_net", "nvme", "sd_mod"];

fn wanted() -> Vec<String> {
    WANTED.iter().map(|name| name.to_string()).collect()
}

struct Case {
    kernel: KernelDeb,
    source: HostDir,
    modules: KernelModules,
}

impl Case {
    fn new() -> Self {
        let kernel = common::kernel();
        let source = HostDir(kernel.module_dir());
        let modules = KernelModules::load(&kernel.kver, &source).unwrap();
        Self { kernel, source, modules }
    }

    fn plan(&self, file: &[u8]) -> Injection {
        let archive = parse(file);
        let options = InjectionOptions::default();
        plan_injection(file, &archive, &self.modules, &self.source, &wanted(), &options)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    fn append(&self, file: &[u8]) -> Box<Append> {
        match self.plan(file) {
            Injection::Append(append) => append,
            Injection::Nothing(report) => panic!("nothing planned: {report:?}"),
        }
    }

    /// The modules work in `file`, and a second plan finds nothing to do.
    fn expect_complete(&self, file: &[u8]) {
        let archive = parse(file);
        for name in WANTED {
            assert!(driver_state(&archive, &self.modules, name).is_usable(), "{name}");
        }
        let virtio_blk = "virtio:d00000002v00001AF4";
        assert_eq!(modules_for_alias_inside(&archive, &self.modules, virtio_blk), ["virtio_blk"]);
        assert!(matches!(self.plan(file), Injection::Nothing(_)), "a second plan changes something");
    }
}

fn parse(file: &[u8]) -> Archive {
    Archive::parse(file, &Limits::default()).unwrap_or_else(|error| panic!("{error}"))
}

fn narrow_image(case: &Case, compression: Compression) -> Vec<u8> {
    let tree = common::initramfs_tools_tree(&case.kernel, &["hv_storvsc", "ext4"]);
    let mut file = common::microcode();
    file.extend_from_slice(&common::pack(compression, &common::cpio_of(tree.path())));
    file
}

/// depmod, run on an unpacked tree, writes what is there already.
fn expect_depmod_agrees(case: &Case, root: &Path) {
    let dir = root.join("lib/modules").join(&case.kernel.kver);
    let names = [
        "modules.dep",
        "modules.dep.bin",
        "modules.alias",
        "modules.alias.bin",
        "modules.symbols",
        "modules.symbols.bin",
        "modules.softdep",
        "modules.builtin.bin",
        "modules.builtin.alias.bin",
    ];
    let ours: Vec<Vec<u8>> = names.iter().map(|name| fs::read(dir.join(name)).unwrap()).collect();
    common::run("depmod", ["-b".as_ref(), root.as_os_str(), case.kernel.kver.as_ref()]);
    for (name, ours) in names.iter().zip(ours) {
        assert!(ours == fs::read(dir.join(name)).unwrap(), "{name} differs from depmod's");
    }
}

#[test]
fn appended_segment_in_every_compression() {
    let case = Case::new();
    for compression in common::COMPRESSIONS {
        let original = narrow_image(&case, compression);
        let before = parse(&original);
        assert_eq!(before.generator(), Generator::InitramfsTools);
        assert_eq!(driver_state(&before, &case.modules, "virtio_blk"), DriverState::OnDiskOnly);
        assert!(driver_state(&before, &case.modules, "hv_storvsc").is_usable());

        let append = case.append(&original);
        let expected = if compression == Compression::Lzo { Compression::Gzip } else { compression };
        assert_eq!(append.compression, expected);
        assert!(append.hazard.is_none() && append.report.missing.is_empty());
        let names: BTreeSet<&str> = append.added.iter().map(|module| module.name.as_str()).collect();
        for name in
            ["virtio", "virtio_ring", "virtio_pci", "virtio_blk", "virtio_scsi", "virtio_pci_modern_dev"]
        {
            assert!(names.contains(name), "{name} is not among {names:?}");
        }
        assert!(!names.contains("scsi_mod"), "scsi_mod came with hv_storvsc");
        assert_eq!(append.bytes, case.append(&original).bytes, "the bytes are not deterministic");

        let (file, placement) = new_file(&original, &before, &append, u64::MAX, &Limits::default()).unwrap();
        assert_eq!(placement, Placement::Appended);
        assert!(file.starts_with(&original));
        let after = parse(&file);
        let segment = after.segments().last().unwrap();
        // gzip and zstd streams follow each other without a gap, so that their own programs read the file.
        match compression {
            Compression::Gzip | Compression::Zstd => assert_eq!(segment.offset, original.len() as u64),
            _ => assert_eq!(segment.offset % 512, 0),
        }
        // No entry of ours hides the link from /lib to /usr/lib.
        assert!(segment.entries.iter().all(|entry| !entry.path.starts_with(b"lib")));
        let conf = after.read_file("conf/modules").unwrap();
        assert!(
            conf.starts_with(b"hv_storvsc\n") && conf.ends_with(b"\n"),
            "{}",
            String::from_utf8_lossy(&conf)
        );
        case.expect_complete(&file);

        // The reference tool unpacks the stream; GNU cpio and busybox list and extract the archive in it.
        let start = segment.offset as usize;
        let stream = &file[start..start + segment.stored_len as usize];
        let cpio = common::unpack(segment.compression, stream);
        let listed = common::filter("cpio", &["-t", "--quiet"], &cpio);
        assert_eq!(listed, common::filter("busybox", &["cpio", "-t"], &cpio));
        let ours: Vec<String> =
            segment.entries.iter().map(|entry| String::from_utf8(entry.path.clone()).unwrap()).collect();
        let listed = String::from_utf8(listed).unwrap();
        assert_eq!(listed.lines().collect::<Vec<_>>(), ours);
    }
}

/// initramfs-tools 0.142 (Debian 12) reads compressed segments that follow each other as one stream and lists up to
/// the end of the first archive in it: the appended file lists as the original does, and our segment is asked about
/// alone, as is the file with the last segment packed again.
#[test]
fn lsinitramfs_and_unmkinitramfs_list_what_we_say() {
    let case = Case::new();
    let original = narrow_image(&case, Compression::Zstd);
    let append = case.append(&original);
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("initrd.img");
    let rewritten = rewrite_last_segment(&original, &parse(&original), &append, &Limits::default()).unwrap();
    let gap = append.bytes.iter().take_while(|byte| **byte == 0).count();
    for file in [&append.bytes[gap..], &rewritten] {
        fs::write(&path, file).unwrap();
        let listed = common::run("lsinitramfs", [&path]);
        let listed: BTreeSet<&str> = listed.lines().filter(|line| *line != ".").collect();
        let archive = parse(file);
        let stored: Vec<_> = archive.segments().iter().flat_map(|segment| &segment.entries).collect();
        let ours: BTreeSet<&str> = stored
            .iter()
            .map(|entry| std::str::from_utf8(&entry.path).unwrap())
            .filter(|path| *path != ".")
            .collect();
        assert_eq!(listed, ours);
        assert!(listed.iter().any(|path| path.ends_with("/virtio_blk.ko")));
    }
    for compression in [Compression::Zstd, Compression::Gzip] {
        let original = narrow_image(&case, compression);
        let appended = [&original[..], &case.append(&original).bytes].concat();
        let listed = [original, appended].map(|file| {
            fs::write(&path, file).unwrap();
            common::run("lsinitramfs", [&path])
        });
        assert_eq!(listed[0], listed[1], "{compression}");
        assert!(listed[1].lines().count() > 10, "{compression}");
    }
    fs::write(&path, &rewritten).unwrap();
    let out = scratch.path().join("out");
    common::run("unmkinitramfs", [&path, &out]);
    let modules: Vec<String> =
        common::files_below(&out).into_iter().filter(|path| path.ends_with("/virtio_blk.ko")).collect();
    assert_eq!(modules.len(), 1, "{modules:?}");
    let unpacked = fs::read(out.join(&modules[0])).unwrap();
    assert!(unpacked == fs::read(case.source.0.join("kernel/drivers/block/virtio_blk.ko")).unwrap());
}

#[test]
fn merged_tree_equals_depmod() {
    let case = Case::new();
    let original = narrow_image(&case, Compression::Gzip);
    let append = case.append(&original);
    let scratch = tempfile::tempdir().unwrap();
    // Unpack as the kernel does: one archive over the other.
    for segment in parse(&[&original[..], &append.bytes].concat()).segments().iter().skip(1) {
        let whole = [&original[..], &append.bytes].concat();
        let stream = &whole[segment.offset as usize..(segment.offset + segment.stored_len) as usize];
        let cpio = common::unpack(segment.compression, stream);
        let dir = scratch.path().to_str().unwrap();
        common::filter("cpio", &["-i", "-d", "-u", "--quiet", "-D", dir], &cpio);
    }
    expect_depmod_agrees(&case, scratch.path());
}

#[test]
fn rewrite_keeps_what_was_there() {
    let case = Case::new();
    let mut chosen_by_room = 0;
    for compression in common::COMPRESSIONS {
        let original = narrow_image(&case, compression);
        let before = parse(&original);
        let append = case.append(&original);
        // Whether the file written anew is smaller depends on the two compressors, by a few bytes for lz4.
        let file = rewrite_last_segment(&original, &before, &append, &Limits::default())
            .unwrap_or_else(|error| panic!("{compression}: {error}"));
        let room = (original.len() + append.bytes.len()) as u64 - 1;
        let by_room = new_file(&original, &before, &append, room, &Limits::default());
        if file.len() as u64 <= room {
            chosen_by_room += 1;
            assert!(by_room.unwrap() == (file.clone(), Placement::Rewritten), "{compression}");
        } else {
            assert_eq!(by_room.unwrap_err().code(), "initramfs.no-room", "{compression}");
        }
        let main = &before.segments()[1];
        assert_eq!(file[..main.offset as usize], original[..main.offset as usize]);
        let after = parse(&file);
        assert_eq!(after.segments().len(), 2);
        let kept = &after.segments()[1].entries[..main.entries.len()];
        assert!(
            kept.iter().zip(&main.entries).all(|(new, old)| new.path == old.path && new.size == old.size)
        );
        assert_eq!(after.read_file("usr/bin/sh"), before.read_file("usr/bin/sh"));
        case.expect_complete(&file);
        let stream = &file[main.offset as usize..];
        common::filter("cpio", &["-t", "--quiet"], &common::unpack(after.segments()[1].compression, stream));
        let mut unreadable = append.clone();
        unreadable.hazard = Some("the kernel reads no further".to_string());
        let by_hazard = new_file(&original, &before, &unreadable, u64::MAX, &Limits::default()).unwrap();
        assert!(
            by_hazard == (file.clone(), Placement::Rewritten),
            "not deterministic, or appended all the same"
        );
        let error = new_file(&original, &before, &append, 1000, &Limits::default()).unwrap_err();
        assert_eq!(error.code(), "initramfs.no-room");
        assert!(error.to_string().contains(&file.len().to_string()), "{error}");
    }
    assert!(chosen_by_room >= 4, "a file written anew was the smaller one {chosen_by_room} times");
}

#[test]
fn real_dracut_image() {
    let case = Case::new();
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("dracut.img");
    let args: [&std::ffi::OsStr; 13] = [
        "--no-hostonly".as_ref(),
        "--kmoddir".as_ref(),
        case.source.0.as_os_str(),
        "--kver".as_ref(),
        case.kernel.kver.as_ref(),
        "-m".as_ref(),
        "base bash systemd systemd-initrd udev-rules".as_ref(),
        "--drivers".as_ref(),
        "hv_storvsc ext4".as_ref(),
        "--gzip".as_ref(),
        "--quiet".as_ref(),
        "-f".as_ref(),
        path.as_os_str(),
    ];
    common::run("dracut", args);
    let original = fs::read(&path).unwrap();
    let before = parse(&original);
    assert_eq!(before.generator(), Generator::Dracut);
    assert!(before.has_udev());
    assert_eq!(driver_state(&before, &case.modules, "virtio_blk"), DriverState::OnDiskOnly);
    let append = case.append(&original);
    let file = [&original[..], &append.bytes].concat();
    case.expect_complete(&file);
    let list = parse(&file).read_file("etc/modules-load.d/coldfit.conf").unwrap();
    assert!(String::from_utf8_lossy(&list).lines().any(|line| line == "virtio_blk"));

    fs::write(&path, &file).unwrap();
    let unpacked = scratch.path().join("unpacked");
    fs::create_dir(&unpacked).unwrap();
    for segment in parse(&file).segments() {
        let stream = &file[segment.offset as usize..(segment.offset + segment.stored_len) as usize];
        let cpio = common::unpack(segment.compression, stream);
        common::filter("cpio", &["-i", "-d", "-u", "--quiet", "-D", unpacked.to_str().unwrap()], &cpio);
    }
    expect_depmod_agrees(&case, &unpacked);
    let listed = common::run("lsinitrd", [&path]);
    assert!(listed.contains("/hv_storvsc.ko"), "lsinitrd does not read the file any more");

    // It lists one archive: all that we say is in the file with the last segment packed again.
    let rewritten = rewrite_last_segment(&original, &before, &append, &Limits::default()).unwrap();
    fs::write(&path, &rewritten).unwrap();
    let listed = common::run("lsinitrd", [&path]);
    let listed: BTreeSet<&str> =
        listed.lines().filter_map(|line| line.split(" -> ").next()?.split_whitespace().next_back()).collect();
    let ours = parse(&rewritten);
    let mut modules = 0;
    for entry in ours.segments().iter().flat_map(|segment| &segment.entries) {
        let name = std::str::from_utf8(&entry.path).unwrap();
        assert!(listed.contains(name), "lsinitrd does not list {name}");
        modules += usize::from(name.ends_with("/virtio_blk.ko") || name.ends_with("/nvme.ko"));
    }
    assert!(modules > 0);
}

/// The module directory as distributions with compressed modules have it: every `.ko` packed, the lists naming it so.
struct PackedDir {
    dir: HostDir,
    suffix: &'static str,
    compression: Compression,
}

impl ModuleSource for PackedDir {
    fn read(&self, relative: &str) -> Result<Option<Vec<u8>>, InitramfsError> {
        if relative == "modules.dep" {
            let text = self.dir.read(relative)?.unwrap_or_default();
            let text = String::from_utf8_lossy(&text).replace(".ko", &format!(".ko{}", self.suffix));
            return Ok(Some(text.into_bytes()));
        }
        match relative.strip_suffix(self.suffix).filter(|path| path.ends_with(".ko")) {
            Some(path) => Ok(self.dir.read(path)?.map(|bytes| common::pack(self.compression, &bytes))),
            None if relative.ends_with(".ko") => Ok(None),
            None => self.dir.read(relative),
        }
    }
}

#[test]
fn compressed_modules_go_in_uncompressed() {
    let case = Case::new();
    let original = narrow_image(&case, Compression::Gzip);
    let plain = case.append(&original);
    for (suffix, compression) in
        [(".xz", Compression::Xz), (".zst", Compression::Zstd), (".gz", Compression::Gzip)]
    {
        let source = PackedDir { dir: HostDir(case.kernel.module_dir()), suffix, compression };
        let modules = KernelModules::load(&case.kernel.kver, &source).unwrap();
        assert!(modules.module("virtio-blk").unwrap().path.ends_with(suffix));
        let options = InjectionOptions::default();
        let injection =
            plan_injection(&original, &parse(&original), &modules, &source, &wanted(), &options).unwrap();
        let Injection::Append(append) = injection else { panic!("nothing planned") };
        assert!(append.bytes == plain.bytes, "{suffix}: the segment differs from that of plain modules");
    }
}

#[test]
fn closure_covers_that_of_modprobe() {
    let case = Case::new();
    // modprobe takes the first of several softdep lines; we take all of them, as btrfs, nfsd and cifs have.
    let names = ["virtio_blk", "virtio_net", "nvme", "xfs", "dm_crypt", "ata_piix", "btrfs", "nfsd", "cifs"];
    for (at, name) in names.into_iter().enumerate() {
        let closure = case.modules.closure(&[name]).unwrap();
        let ours: BTreeSet<String> = closure.modules.iter().map(|module| module.path.clone()).collect();
        let theirs: BTreeSet<String> = common::modprobe_depends(&case.kernel, name).into_iter().collect();
        if at < 6 {
            assert_eq!(ours, theirs, "{name}");
        } else {
            assert!(ours.is_superset(&theirs), "{name}: {ours:?} lacks some of {theirs:?}");
        }
        // Everything stands behind what it needs.
        for (at, module) in closure.modules.iter().enumerate() {
            for dep in case.modules.dependencies(&module.name) {
                assert!(closure.modules[..at].contains(&dep), "{name}: {} before {}", module.name, dep.name);
            }
        }
    }
    let closure = case.modules.closure(&["no_such_driver", "unix", "virtio_blk"]).unwrap();
    assert_eq!((closure.missing, closure.builtin), (vec!["no_such_driver".into()], vec!["unix".into()]));
}

fn refusal(case: &Case, file: &[u8], source: &dyn ModuleSource) -> &'static str {
    let options = InjectionOptions::default();
    plan_injection(file, &parse(file), &case.modules, source, &wanted(), &options).unwrap_err().code()
}

/// A module directory in which one file is replaced.
struct Replaced<'a>(&'a HostDir, &'a str, Option<Vec<u8>>);

impl ModuleSource for Replaced<'_> {
    fn read(&self, relative: &str) -> Result<Option<Vec<u8>>, InitramfsError> {
        if relative.ends_with(self.1) { Ok(self.2.clone()) } else { self.0.read(relative) }
    }
}

#[test]
fn refusals_are_named() {
    let case = Case::new();
    let original = narrow_image(&case, Compression::Gzip);
    let module = case.source.read("kernel/drivers/block/virtio_blk.ko").unwrap().unwrap();
    let with = |content: Option<Vec<u8>>| {
        refusal(&case, &original, &Replaced(&case.source, "virtio_blk.ko", content))
    };
    assert_eq!(with(None), "initramfs.module.unreadable");
    assert_eq!(with(Some(b"no module".to_vec())), "initramfs.module.elf");
    assert_eq!(with(Some(module[..module.len() / 2].to_vec())), "initramfs.module.elf");
    let at = module.windows(9).position(|text| text == b"vermagic=").unwrap() + 9;
    let mut other = module.clone();
    other[at] = b'5';
    assert_eq!(with(Some(other)), "initramfs.module.vermagic");
    let mut other = module;
    other[18] = 0xb7;
    assert_eq!(with(Some(other)), "initramfs.module.machine");

    let foreign = common::initramfs_tools_tree(&case.kernel, &["ext4"]);
    let dir = foreign.path().join("usr/lib/modules");
    fs::rename(dir.join(&case.kernel.kver), dir.join("5.10.0-other")).unwrap();
    assert_eq!(refusal(&case, &common::cpio_of(foreign.path()), &case.source), "initramfs.kernel.other");
    let booster = tempfile::tempdir().unwrap();
    fs::create_dir(booster.path().join("etc")).unwrap();
    fs::write(booster.path().join("etc/booster.init.yaml"), "modules: []\n").unwrap();
    assert_eq!(
        refusal(&case, &common::cpio_of(booster.path()), &case.source),
        "initramfs.generator.unsupported"
    );
    let empty = Replaced(&case.source, "", None);
    let error = KernelModules::load("6.1", &empty).unwrap_err();
    assert_eq!(error.code(), "initramfs.modules.none");
}

#[test]
fn blacklists_and_broken_indexes_are_seen() {
    let case = Case::new();
    let tree = common::initramfs_tools_tree(&case.kernel, &["virtio_blk", "ext4"]);
    let dir = tree.path().join("usr/lib/modules").join(&case.kernel.kver);
    let state = |tree: &Path| driver_state(&parse(&common::cpio_of(tree)), &case.modules, "virtio_blk");
    assert!(state(tree.path()).is_usable());
    fs::write(tree.path().join("etc/modprobe.d/no.conf"), "blacklist virtio-blk\n").unwrap();
    let place = "etc/modprobe.d/no.conf:1".to_string();
    let problems = vec![DriverProblem::Blacklisted { place }];
    assert_eq!(state(tree.path()), DriverState::InInitramfs { problems });
    fs::remove_file(tree.path().join("etc/modprobe.d/no.conf")).unwrap();

    // The module is there, but the indexes were made without it.
    let module = dir.join("kernel/drivers/block/virtio_blk.ko");
    let content = fs::read(&module).unwrap();
    fs::remove_file(&module).unwrap();
    common::run("depmod", ["-b".as_ref(), tree.path().as_os_str(), case.kernel.kver.as_ref()]);
    fs::write(&module, content).unwrap();
    let DriverState::InInitramfs { problems } = state(tree.path()) else { panic!("not inside") };
    assert!(problems.len() == 2 && problems.iter().all(DriverProblem::is_index), "{problems:?}");
    let original = common::cpio_of(tree.path());
    let append = case.append(&original);
    assert!(append.files.iter().any(|path| path.ends_with("/modules.dep.bin")));
    case.expect_complete(&[&original[..], &append.bytes].concat());

    fs::remove_file(dir.join("kernel/drivers/virtio/virtio_ring.ko")).unwrap();
    let DriverState::InInitramfs { problems } = state(tree.path()) else { panic!("not inside") };
    assert!(problems.contains(&DriverProblem::DependencyMissing { name: "virtio_ring".into() }));
}

#[test]
fn extra_files_leave_other_names_alone() {
    let case = Case::new();
    let original = narrow_image(&case, Compression::Zstd);
    let before = parse(&original);
    let rules = "etc/udev/rules.d/70-persistent-net.rules".to_string();
    let extra_files = [(rules.clone(), Vec::new()), ("bin/sh".to_string(), b"other".to_vec())].into();
    let options = InjectionOptions { extra_files, ..InjectionOptions::default() };
    let plan = |file: &[u8]| {
        plan_injection(file, &parse(file), &case.modules, &case.source, &["ext4".into()], &options).unwrap()
    };
    let Injection::Append(append) = plan(&original) else { panic!("nothing planned") };
    assert_eq!(append.files, ["bin/sh".to_string(), rules.clone()]);
    assert!(append.added.is_empty());
    let file = [&original[..], &append.bytes].concat();
    let after = parse(&file);
    assert_eq!(&*after.read_file(&rules).unwrap(), b"");
    assert_eq!(&*after.read_file("usr/bin/sh").unwrap(), b"other");
    assert_eq!(after.read_file("usr/bin/busybox"), before.read_file("usr/bin/busybox"));
    assert!(matches!(plan(&file), Injection::Nothing(_)));
}
