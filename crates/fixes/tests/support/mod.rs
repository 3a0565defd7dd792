//! Phony guests for rules: one or more kernels, an initramfs for each, GRUB's files.

#![allow(dead_code, clippy::unwrap_used, clippy::panic, reason = "test support; each test uses its part")]

use cloudspec::Profile;
use coldfit_fixes::{Finding, FixError, Plan, Selection, State, apply, plan};
use testkit::DirFs;
use vfs::{DeviceTable, GuestPath, GuestTree, TableKind, Timestamp, Volume};

pub const KVER: &str = "6.1.0-28-amd64";
pub const ROOT: &str = "0f6b1c6e-53b5-4f6e-9d4b-1f9bb3a6a001";
pub const SWAP: &str = "0f6b1c6e-53b5-4f6e-9d4b-1f9bb3a6a005";
pub const MODULES: [&str; 6] = ["virtio_pci", "virtio_blk", "virtio_scsi", "virtio_net", "nvme", "sd_mod"];
pub const NOW: Timestamp = Timestamp { seconds: 1_800_000_000, nanoseconds: 0 };

/// A module without symbols: an ELF file with `.modinfo` and the names of its sections.
pub fn module(kver: &str, name: &str) -> Vec<u8> {
    let info = format!("license=GPL\0alias=phony:{name}\0name={name}\0vermagic={kver} SMP mod_unload \0");
    let names = b"\0.modinfo\0.shstrtab\0";
    let (info_at, names_at) = (64, 64 + info.len());
    let sections_at = (names_at + names.len()).next_multiple_of(8);
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    elf.extend([1u16, 62].iter().flat_map(|half| half.to_le_bytes()));
    elf.extend(1u32.to_le_bytes());
    elf.extend([0, 0, sections_at as u64].iter().flat_map(|long| long.to_le_bytes()));
    elf.extend(0u32.to_le_bytes());
    elf.extend([64u16, 0, 0, 64, 3, 2].iter().flat_map(|half| half.to_le_bytes()));
    elf.extend(info.as_bytes());
    elf.extend(names);
    elf.resize(sections_at, 0);
    elf.resize(sections_at + 64, 0);
    for (name_at, kind, at, len) in [(1u32, 1u32, info_at, info.len()), (10, 3, names_at, names.len())] {
        elf.extend([name_at, kind].iter().flat_map(|word| word.to_le_bytes()));
        elf.extend([0, 0, at as u64, len as u64, 0, 1, 0].iter().take(4).flat_map(|long| long.to_le_bytes()));
        elf.extend([0u32, 0].iter().flat_map(|word| word.to_le_bytes()));
        elf.extend([1u64, 0].iter().flat_map(|long| long.to_le_bytes()));
    }
    elf
}

/// A cpio archive in the newc format.
pub fn cpio(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = Vec::new();
    let mut directories: Vec<String> = Vec::new();
    let mut put = |path: &str, mode: u32, content: &[u8]| {
        let fields = [1, mode, 0, 0, 1, 0, content.len() as u32, 0, 0, 0, 0, path.len() as u32 + 1, 0];
        archive.extend_from_slice(b"070701");
        fields.iter().for_each(|field| archive.extend_from_slice(format!("{field:08x}").as_bytes()));
        archive.extend_from_slice(path.as_bytes());
        archive.push(0);
        archive.resize(archive.len().next_multiple_of(4), 0);
        archive.extend_from_slice(content);
        archive.resize(archive.len().next_multiple_of(4), 0);
    };
    for (path, content) in entries {
        for (at, _) in path.match_indices('/') {
            if !directories.iter().any(|known| known == &path[..at]) {
                put(&path[..at], 0o040755, b"");
                directories.push(path[..at].to_owned());
            }
        }
        put(path, 0o100644, content);
    }
    put("TRAILER!!!", 0, b"");
    archive
}

/// An initramfs of initramfs-tools without any module, `extra` files inside.
pub fn initramfs(extra: &[(&str, &str)]) -> Vec<u8> {
    let files = [
        ("init", "#!/bin/sh\n"),
        ("conf/initramfs.conf", "MODULES=dep\n"),
        ("conf/modules", ""),
        ("scripts/functions", ""),
        ("usr/bin/udevadm", "udev"),
    ];
    let all = files.iter().chain(extra);
    cpio(&all.map(|(path, content)| ((*path).to_owned(), content.as_bytes().to_vec())).collect::<Vec<_>>())
}

/// Adds a kernel with `modules` and an initramfs without them.
pub fn add_kernel(guest: &mut DirFs, kver: &str, modules: &[&str]) {
    let directory = format!("/lib/modules/{kver}");
    let mut deps = String::new();
    for name in modules {
        deps.push_str(&format!("kernel/{name}.ko:\n"));
        guest.add_file(format!("{directory}/kernel/{name}.ko"), module(kver, name));
    }
    guest.add_file(format!("{directory}/modules.dep"), deps);
    guest.add_file(format!("{directory}/modules.alias"), "");
    guest.add_file(format!("{directory}/modules.builtin"), "");
    guest.add_file(format!("/boot/vmlinuz-{kver}"), "kernel");
    guest.add_file(format!("/boot/initrd.img-{kver}"), initramfs(&[]));
}

/// Entries as Debian makes them: the first, and in a submenu the second with its recovery.
pub fn grub_cfg(arguments: &str) -> String {
    let entry = |title: &str, extra: &str| {
        format!(
            "menuentry '{title}' {{\n\tlinux\t/boot/vmlinuz-{KVER} {arguments}{extra}\n\tinitrd\t/boot/initrd.img-{KVER}\n}}\n"
        )
    };
    format!(
        "set default=\"0\"\n{}submenu 'Advanced' {{\n{}{}}}\n",
        entry("Debian", ""),
        entry("Debian, with Linux", ""),
        entry("Debian (recovery mode)", " single")
    )
}

/// A guest on its old controller: one kernel, initramfs-tools, GRUB.
pub fn guest() -> DirFs {
    let mut guest = DirFs::from_files([
        ("/etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n"),
        ("/etc/fstab", "/dev/sda1 / ext4 defaults 0 1\n"),
        ("/etc/default/grub", "GRUB_DEFAULT=0\nGRUB_CMDLINE_LINUX=\"\"\n"),
        ("/etc/initramfs-tools/modules", "# one a line\n"),
        ("/usr/sbin/mkinitramfs", "#!/bin/sh\n"),
    ]);
    guest.set_uuid(ROOT);
    guest.add_file("/boot/grub/grub.cfg", grub_cfg("root=/dev/sda1 ro quiet"));
    add_kernel(&mut guest, KVER, &MODULES);
    guest
}

pub fn volume(partition: u32, content: &str, uuid: Option<&str>) -> Volume {
    Volume {
        partition: Some(partition),
        start: u64::from(partition) << 20,
        len: 1 << 20,
        content: Some(content.into()),
        uuid: uuid.map(str::to_owned),
        partuuid: Some(format!("1234abcd-{partition:02}")),
        is_logical: partition >= 5,
        ..Volume::default()
    }
}

/// Root on partition 1, swap on 5, something without a UUID on 6.
pub fn devices() -> DeviceTable {
    DeviceTable {
        table: TableKind::Mbr,
        volumes: vec![volume(1, "ext4", Some(ROOT)), volume(5, "swap", Some(SWAP)), volume(6, "swap", None)],
        disk_len: 8 << 20,
        sector_size: 512,
        ..DeviceTable::default()
    }
}

pub fn path(text: &str) -> GuestPath {
    GuestPath::new(text).unwrap()
}

pub fn kvm() -> Profile {
    cloudspec::builtin("kvm").unwrap()
}

pub fn only(rules: &[&str]) -> Selection {
    Selection { only: rules.iter().map(|rule| (*rule).to_owned()).collect(), skip: Vec::new() }
}

pub fn try_plan(tree: &GuestTree, selection: &Selection) -> Result<Plan, FixError> {
    let model = guest::inspect(tree, &devices()).unwrap();
    plan(tree, &devices(), &model, &kvm(), selection)
}

pub fn content(tree: &GuestTree, file: &str) -> String {
    String::from_utf8(tree.read(&path(file), 1 << 24).unwrap()).unwrap()
}

/// Plans, applies, and demands that a second plan changes nothing and finds everything met that it planned.
pub fn fix(fs: DirFs, rules: &[&str]) -> (Plan, GuestTree) {
    let mut tree = fs.into_tree();
    let selection = only(rules);
    let planned = try_plan(&tree, &selection).unwrap();
    apply(&planned.edits, &mut tree, NOW).unwrap();
    let again = try_plan(&tree, &selection).unwrap();
    assert_eq!(again.edits, []);
    for (before, after) in planned.findings.iter().zip(&again.findings) {
        let expected = if before.state == State::Fixable { State::Holds } else { before.state };
        assert_eq!(after.state, expected, "{before:?} {after:?}");
    }
    (planned, tree)
}

/// State of one rule and the file that it leaves behind.
pub fn fix_file(fs: DirFs, rule: &str, file: &str) -> (State, String) {
    let (planned, tree) = fix(fs, &[rule]);
    (planned.findings[0].state, content(&tree, file))
}

pub fn finding(fs: DirFs, rule: &str) -> Finding {
    try_plan(&fs.into_tree(), &only(&[rule])).unwrap().findings.remove(0)
}

/// A profile with one rule of a kind, its values as TOML lines.
pub fn profile_of(kind: &str, values: &str) -> Profile {
    let text = format!(
        "schema = 1\nid = \"test\"\ntitle = \"test\"\n[[rule]]\nid = \"test.rule\"\nkind = \"{kind}\"\nseverity = \"must\"\n\
         summary = \"s\"\nsource = \"s\"\ndate = \"2026-11-24\"\n{values}\n"
    );
    Profile::parse(&text, "test").unwrap()
}

/// Plans one rule, applies, and demands that a second plan changes nothing.
pub fn fix_by(fs: DirFs, profile: &Profile) -> (Plan, GuestTree) {
    let mut tree = fs.into_tree();
    let look = |tree: &GuestTree| {
        let model = guest::inspect(tree, &devices()).unwrap();
        plan(tree, &devices(), &model, profile, &Selection::default()).unwrap()
    };
    let planned = look(&tree);
    apply(&planned.edits, &mut tree, NOW).unwrap();
    let again = look(&tree);
    assert_eq!(again.edits, []);
    for (before, after) in planned.findings.iter().zip(&again.findings) {
        let expected = if before.state == State::Fixable { State::Holds } else { before.state };
        assert_eq!(after.state, expected, "{before:?} {after:?}");
    }
    (planned, tree)
}

/// Paths of the edits of a plan.
pub fn edited(planned: &Plan) -> Vec<String> {
    planned.edits.iter().map(|edit| edit.path.to_string()).collect()
}
