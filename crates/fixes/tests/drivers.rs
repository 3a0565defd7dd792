//! The rule on initramfs files.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod support;

use coldfit_fixes::{Action, FixError, State, inject_modules};
use support::*;

const RULE: &str = "initramfs.drivers";
const INITRD: &str = "/boot/initrd.img-6.1.0-28-amd64";

#[test]
fn every_kernel_s_initramfs_gets_the_drivers_and_keeps_its_bytes() {
    const OLDER: &str = "5.10.0-30-amd64";
    let mut fs = guest();
    add_kernel(&mut fs, OLDER, &MODULES);
    // A kernel without modules that nothing boots, and the crash kernel's file.
    fs.add_file("/boot/vmlinuz-4.19.0-1-amd64", "kernel");
    fs.add_file("/boot/initrd.img-4.19.0-1-amd64", initramfs(&[]));
    fs.add_file(format!("{INITRD}kdump"), initramfs(&[]));
    let (planned, tree) = fix(fs, &[RULE]);
    assert_eq!(planned.findings[0].state, State::Fixable, "{:?}", planned.findings);
    let paths: Vec<String> = planned.edits.iter().map(|edit| edit.path.to_string()).collect();
    assert_eq!(paths, [format!("/boot/initrd.img-{OLDER}"), INITRD.to_owned()]);
    let original = initramfs(&[]);
    for (edit, version) in planned.edits.iter().zip([OLDER, KVER]) {
        let Action::Append { old_len, bytes } = &edit.action else { panic!("{edit:?}") };
        assert_eq!(*old_len, original.len() as u64);
        let now = tree.read(&edit.path, 1 << 24).unwrap();
        assert_eq!(now, [original.clone(), bytes.clone()].concat());
        let archive = initramfs::Archive::parse(&now, &initramfs::Limits::default()).unwrap();
        for name in MODULES {
            let inside = archive.read_file(&format!("lib/modules/{version}/kernel/{name}.ko"));
            assert_eq!(inside.unwrap().to_vec(), module(version, name));
        }
    }
}

#[test]
fn missing_and_blacklisted_drivers_are_named() {
    let mut fs = guest();
    fs.add_file("/lib/modules/6.1.0-28-amd64/modules.dep", "kernel/virtio_pci.ko:\nkernel/virtio_blk.ko:\n");
    let found = finding(fs, RULE);
    assert_eq!(found.state, State::NotFixable);
    assert!(found.evidence.iter().any(|line| line.contains("its kernel has no nvme")), "{found:?}");
    // No disk needs the network's driver.
    let mut fs = guest();
    let without_net: String = MODULES
        .iter()
        .filter(|name| **name != "virtio_net")
        .map(|name| format!("kernel/{name}.ko:\n"))
        .collect();
    fs.add_file("/lib/modules/6.1.0-28-amd64/modules.dep", without_net);
    let found = finding(fs, RULE);
    assert_eq!(found.state, State::Fixable);
    assert!(found.evidence[1].contains("no virtio_net"), "{found:?}");

    let mut fs = guest();
    fs.add_file(INITRD, initramfs(&[("etc/modprobe.d/x.conf", "blacklist virtio-blk\n")]));
    let tree = fs.clone().into_tree();
    let found = finding(fs, RULE);
    assert_eq!(found.state, State::NotFixable);
    assert!(found.evidence[0].contains("virtio_blk is blacklisted inside, by "), "{found:?}");
    let model = guest::inspect(&tree, &devices()).unwrap();
    let injection = inject_modules(&tree, &model, &["virtio-blk".to_owned()]).unwrap();
    assert_eq!((injection.edits.len(), injection.obstacles.len(), injection.remarks.len()), (1, 1, 0));
}

#[test]
fn what_cannot_be_read_or_has_no_modules_is_an_obstacle() {
    let mut fs = guest();
    fs.add_file(INITRD, "no archive at all");
    let found = finding(fs, RULE);
    assert_eq!(found.state, State::NotFixable);
    assert!(found.evidence[0].starts_with(INITRD), "{found:?}");
    // The kernel that boots has no modules.
    let mut fs = testkit::DirFs::from_files([
        ("/etc/os-release", "ID=x\n".to_owned()),
        ("/boot/grub/grub.cfg", grub_cfg("root=UUID=1")),
    ]);
    fs.add_file(format!("/boot/vmlinuz-{KVER}"), "kernel").add_file(INITRD, initramfs(&[]));
    let found = finding(fs, RULE);
    assert_eq!(found.state, State::NotFixable);
    assert!(found.evidence[0].contains("no modules on disk"), "{found:?}");
    let bare = testkit::DirFs::from_files([("/etc/os-release", "ID=x\n")]);
    assert_eq!(finding(bare, RULE).state, State::NotApplicable);
}

/// Blocks that are kept for the other edits.
const RESERVE: u64 = 16 * 4096;

#[test]
fn without_room_the_last_segment_is_packed_anew_and_then_refused() {
    let filler = "one line of a file that packs well\n".repeat(4000);
    let mut fs = guest();
    fs.add_file(INITRD, initramfs(&[("etc/filler", &filler)]));
    let old_len = initramfs(&[("etc/filler", &filler)]).len() as u64;
    let (planned, _) = fix(fs.clone(), &[RULE]);
    let Action::Append { bytes, .. } = &planned.edits[0].action else { panic!("{planned:?}") };
    let blocks = |len: u64| len.div_ceil(4096) * 4096;
    let append_bytes = blocks(old_len + bytes.len() as u64) - blocks(old_len);
    assert!(append_bytes > 0);
    // Just enough, then a block too little.
    let room = |bytes: u64| {
        let mut fs = fs.clone();
        fs.limit_free_bytes(RESERVE + bytes);
        fix(fs, &[RULE]).0.edits.remove(0).action
    };
    assert!(matches!(room(append_bytes), Action::Append { .. }));
    match room(append_bytes - 4096) {
        Action::Rewrite { old_len: old, new } => assert!(old == old_len && (new.len() as u64) < old_len),
        other => panic!("{other:?}"),
    }

    // An archive that packing makes no smaller: neither way fits.
    let noise = |seed: u32| -> String {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            char::from(33 + ((state >> 16) % 90) as u8)
        };
        (0..20_000).map(|_| next()).collect()
    };
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut packed, &initramfs(&[("etc/noise", &noise(1))])).unwrap();
    let packed = packed.finish().unwrap();
    let mut fs = guest();
    fs.add_file(INITRD, &packed).limit_free_bytes(RESERVE + 4096);
    // More modules than a block holds.
    let tree = {
        let mut roomy = fs.clone();
        for (seed, name) in (2..).zip(MODULES) {
            let mut large = module(KVER, name);
            large.extend_from_slice(noise(seed).as_bytes());
            roomy.add_file(format!("/lib/modules/{KVER}/kernel/{name}.ko"), large);
        }
        roomy.limit_free_bytes(RESERVE + 4096);
        roomy.into_tree()
    };
    match try_plan(&tree, &only(&[RULE])) {
        Err(FixError::NoRoomForInitramfs { path, append_bytes, rewrite_bytes, free_bytes, filesystem }) => {
            assert_eq!((path.as_str(), free_bytes, filesystem.as_str()), (INITRD, 4096, "/"));
            assert!(append_bytes > 4096 && append_bytes % 4096 == 0, "{append_bytes}");
            assert!(rewrite_bytes > 4096 && rewrite_bytes % 4096 == 0, "{rewrite_bytes}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_signed_initramfs_is_refused_by_name() {
    let mut fs = guest();
    fs.add_file(format!("/boot/initrd.img-{KVER}.sig"), "signature");
    let found = finding(fs, "initramfs.drivers");
    assert_eq!(found.state, State::NotFixable);
    assert!(found.evidence[0].contains("[initramfs.signed]"), "{found:?}");
}

/// The rescue image boots, too, with the modules of its kernel; what only writes a crash dump is left alone.
#[test]
fn a_rescue_image_is_served_and_a_kdump_image_is_left_alone() {
    let mut fs = guest();
    let rescue = "/boot/initramfs-0-rescue-0123456789abcdef0123456789abcdef.img";
    let kdump = format!("/boot/initramfs-{KVER}kdump.img");
    let vmlinuz = "/boot/vmlinuz-0-rescue-0123456789abcdef0123456789abcdef";
    let mut image = vec![0; 0x400];
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x20e..0x210].copy_from_slice(&0x100u16.to_le_bytes());
    image[0x300..0x300 + KVER.len()].copy_from_slice(KVER.as_bytes());
    fs.add_file(vmlinuz, image).add_file(rescue, initramfs(&[])).add_file(&kdump, initramfs(&[]));
    let entry = |title: &str, kernel: &str, initrd: &str| {
        format!("menuentry '{title}' {{\n\tlinux {kernel} root=UUID={ROOT} ro\n\tinitrd {initrd}\n}}\n")
    };
    let normal = format!("/boot/vmlinuz-{KVER}");
    let text = entry("Normal", &normal, &format!("/boot/initrd.img-{KVER}"))
        + &entry("Rescue", vmlinuz, rescue)
        + &entry("Dump", &normal, &kdump);
    fs.add_file("/boot/grub/grub.cfg", text);
    let (planned, _) = fix(fs, &["initramfs.drivers"]);
    let paths: Vec<String> = planned.edits.iter().map(|edit| edit.path.to_string()).collect();
    assert_eq!(paths, [rescue.to_owned(), format!("/boot/initrd.img-{KVER}")]);
}
