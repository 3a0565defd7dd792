//! Damaged guests: inspection and verdict end soon, without a panic, and never say `boots` of what is broken.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod support;

use std::time::{Duration, Instant};

use coldfit_guest::{Bus, inspect, verdicts};
use support::*;

#[test]
fn mutated_guests_are_inspected_without_panic() {
    let root = format!("UUID={ROOT}");
    let fstab = format!("UUID={ROOT} / ext4 errors=remount-ro 0 1\nUUID={SWAP} none swap sw 0 0\n");
    let base = old_server(&root, &fstab, &ALL);
    let tree = base.clone().into_tree();
    let files = [
        "/boot/grub/grub.cfg".to_owned(),
        format!("/boot/initrd.img-{KVER}"),
        format!("/usr/lib/modules/{KVER}/modules.dep"),
        format!("/usr/lib/modules/{KVER}/modules.alias"),
        "/etc/fstab".to_owned(),
        "/etc/os-release".to_owned(),
        "/etc/network/interfaces".to_owned(),
        "/usr/bin/dash".to_owned(),
    ];
    let mut state = 0xdead_beef_u64;
    let mut below = |limit: usize| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 33) as usize % limit.max(1)
    };
    let started = Instant::now();
    for round in 0..600 {
        let file = &files[round % files.len()];
        let path = vfs::GuestPath::new(file).unwrap();
        let mut content = tree.read(&path, 1 << 20).unwrap();
        for _ in 0..=below(4) {
            let at = below(content.len());
            match below(4) {
                0 => content.truncate(at),
                1 => content.insert(at, below(256) as u8),
                2 => drop(content.drain(at..(at + below(64)).min(content.len()))),
                _ => {
                    if let Some(byte) = content.get_mut(at) {
                        *byte ^= 1 << below(8);
                    }
                }
            }
        }
        let mut guest = base.clone();
        guest.add_file(file, content);
        let guest = inspect(&guest.into_tree(), &devices()).unwrap();
        let _ = verdicts(&guest, &devices());
        serde_json::to_string(&guest).unwrap();
    }
    assert!(started.elapsed() < Duration::from_secs(40), "{:?}", started.elapsed());
}

#[test]
fn a_cut_initramfs_never_boots() {
    let root = format!("UUID={ROOT}");
    let whole = initramfs(KVER, &ALL);
    for len in (0..whole.len() - 200).step_by(997) {
        let mut guest = old_server(&root, "", &ALL);
        guest.add_file(format!("/boot/initrd.img-{KVER}"), &whole[..len]);
        let guest = inspect(&guest.into_tree(), &devices()).unwrap();
        assert!(!verdicts(&guest, &devices())[0].buses[&Bus::VirtioBlk].boots(), "cut at {len}");
    }
}

#[test]
fn links_that_lead_in_circles_are_no_files() {
    let mut guest = debian();
    guest.add_symlink("/lib", "usr/lib");
    guest.add_symlink("/boot/vmlinuz-6.1.0-1-amd64", "vmlinuz-6.1.0-1-amd64");
    guest.add_symlink("/etc/fstab", "/etc/fstab").add_symlink("/usr/lib/modules", "/lib/modules");
    guest.add_dir("/boot/grub/grub.cfg").add_symlink("/etc/network/interfaces", "/etc/network");
    let guest = inspect(&guest.into_tree(), &devices()).unwrap();
    assert!(guest.fstab.is_empty() && guest.boot_entries.is_empty());
    assert!(
        guest.problems.iter().any(|problem| problem.code == "guest.file.not-read"),
        "{:?}",
        guest.problems
    );
}
