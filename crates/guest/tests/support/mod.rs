//! Phony guests: just enough files for inspection, and a disk's volumes to go with them.

#![allow(dead_code, clippy::unwrap_used, clippy::panic, reason = "test support; each test uses its part")]

use testkit::DirFs;
use vfs::{DeviceTable, FirmwareFacts, TableKind, Volume};

pub const KVER: &str = "6.1.0-28-amd64";
pub const ROOT: &str = "0f6b1c6e-53b5-4f6e-9d4b-1f9bb3a6a001";
pub const SWAP: &str = "0f6b1c6e-53b5-4f6e-9d4b-1f9bb3a6a005";

/// Path, dependencies and alias of each module of the phony kernel, as Debian 12's kernel has them.
const MODULES: [(&str, &[&str], &str); 20] = [
    ("kernel/drivers/virtio/virtio.ko", &[], ""),
    ("kernel/drivers/virtio/virtio_ring.ko", &[], ""),
    ("kernel/drivers/virtio/virtio_pci_modern_dev.ko", &[], ""),
    (
        "kernel/drivers/virtio/virtio_pci.ko",
        &["virtio_pci_modern_dev", "virtio_ring", "virtio"],
        "pci:v00001AF4d*sv*sd*bc*sc*i*",
    ),
    ("kernel/drivers/block/virtio_blk.ko", &["virtio_ring", "virtio"], "virtio:d00000002v*"),
    ("kernel/drivers/net/virtio_net.ko", &["virtio_ring", "virtio"], "virtio:d00000001v*"),
    ("kernel/drivers/scsi/scsi_common.ko", &[], ""),
    ("kernel/drivers/scsi/scsi_mod.ko", &["scsi_common"], ""),
    (
        "kernel/drivers/scsi/virtio_scsi.ko",
        &["virtio_ring", "virtio", "scsi_mod", "scsi_common"],
        "virtio:d00000008v*",
    ),
    ("kernel/drivers/scsi/sd_mod.ko", &["scsi_mod", "scsi_common"], "scsi:t-0x00*"),
    ("kernel/drivers/nvme/host/nvme-core.ko", &[], ""),
    ("kernel/drivers/nvme/host/nvme.ko", &["nvme_core"], "pci:v*d*sv*sd*bc01sc08i02*"),
    ("kernel/drivers/ata/libata.ko", &["scsi_mod", "scsi_common"], ""),
    ("kernel/drivers/ata/libahci.ko", &["libata", "scsi_mod", "scsi_common"], ""),
    (
        "kernel/drivers/ata/ahci.ko",
        &["libahci", "libata", "scsi_mod", "scsi_common"],
        "pci:v*d*sv*sd*bc01sc06i01*",
    ),
    (
        "kernel/drivers/ata/ata_piix.ko",
        &["libata", "scsi_mod", "scsi_common"],
        "pci:v00008086d00007010sv*sd*bc*sc*i*",
    ),
    ("kernel/fs/mbcache.ko", &[], ""),
    ("kernel/fs/jbd2/jbd2.ko", &[], ""),
    ("kernel/fs/ext4/ext4.ko", &["mbcache", "jbd2"], "fs-ext4"),
    ("kernel/crypto/crc32c_generic.ko", &[], "crypto-crc32c"),
];

pub const ALL: [&str; 11] = [
    "virtio_pci",
    "virtio_blk",
    "virtio_scsi",
    "virtio_net",
    "nvme",
    "ahci",
    "ata_piix",
    "sd_mod",
    "ext4",
    "crc32c_generic",
    "mbcache",
];
/// What an installer on an old controller puts in.
pub const NARROW: [&str; 5] = ["ahci", "ata_piix", "sd_mod", "ext4", "crc32c_generic"];

fn name(path: &str) -> String {
    path.rsplit('/').next().unwrap().trim_end_matches(".ko").replace('-', "_")
}

fn path_of(module: &str) -> &'static str {
    MODULES.iter().map(|(path, ..)| *path).find(|path| name(path) == module).unwrap()
}

/// The text indexes of a set of modules.
fn indexes(names: &[String]) -> (String, String) {
    let mut deps = String::new();
    let mut aliases = String::from("# Aliases extracted from modules themselves.\n");
    for (path, needs, alias) in MODULES.iter().filter(|(path, ..)| names.contains(&name(path))) {
        let needs: Vec<&str> = needs
            .iter()
            .filter(|need| names.iter().any(|name| name == *need))
            .map(|need| path_of(need))
            .collect();
        deps.push_str(format!("{path}: {}", needs.join(" ")).trim_end());
        deps.push('\n');
        if !alias.is_empty() {
            aliases.push_str(&format!("alias {alias} {}\n", name(path)));
        }
    }
    (deps, aliases)
}

/// A cpio archive in the newc format.
pub fn cpio(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = Vec::new();
    let mut directories: Vec<String> = Vec::new();
    let mut put = |path: &str, mode: u32, content: &[u8]| {
        let size = content.len();
        let name_len = path.len() + 1;
        archive.extend_from_slice(
            format!("0707010000000{:01x}{mode:08x}{:08x}{:08x}{:08x}{:08x}{size:08x}{:08x}{:08x}{:08x}{:08x}{name_len:08x}{:08x}",
                1, 0, 0, 1, 0, 0, 0, 0, 0, 0).as_bytes(),
        );
        archive.extend_from_slice(path.as_bytes());
        archive.push(0);
        archive.resize(archive.len().next_multiple_of(4), 0);
        archive.extend_from_slice(content);
        archive.resize(archive.len().next_multiple_of(4), 0);
    };
    for (path, content) in entries {
        for (at, _) in path.match_indices('/') {
            let directory = path[..at].to_owned();
            if !directories.contains(&directory) {
                put(&directory, 0o040755, b"");
                directories.push(directory);
            }
        }
        put(path, 0o100644, content);
    }
    put("TRAILER!!!", 0, b"");
    archive
}

/// An initramfs as initramfs-tools makes it, with `modules` and everything that they need.
pub fn initramfs(kver: &str, modules: &[&str]) -> Vec<u8> {
    cpio(&initramfs_entries(kver, modules))
}

pub fn initramfs_entries(kver: &str, modules: &[&str]) -> Vec<(String, Vec<u8>)> {
    let mut names: Vec<String> = Vec::new();
    for module in modules {
        let (_, needs, _) = MODULES.iter().find(|(path, ..)| name(path) == *module).unwrap();
        names.extend(needs.iter().chain([module]).map(|name| (*name).to_owned()));
    }
    let mut entries: Vec<(String, Vec<u8>)> = vec![
        ("init".into(), b"#!/bin/sh\n".to_vec()),
        ("conf/initramfs.conf".into(), b"MODULES=dep\n".to_vec()),
        ("conf/modules".into(), b"".to_vec()),
        ("scripts/functions".into(), b"".to_vec()),
        ("usr/bin/udevadm".into(), b"udev".to_vec()),
        ("etc/modprobe.d/empty.conf".into(), b"".to_vec()),
    ];
    for (path, ..) in MODULES.iter().filter(|(path, ..)| names.contains(&name(path))) {
        entries.push((format!("lib/modules/{kver}/{path}"), b"module".to_vec()));
    }
    let (deps, aliases) = indexes(&names);
    entries.push((format!("lib/modules/{kver}/modules.dep"), deps.into_bytes()));
    entries.push((format!("lib/modules/{kver}/modules.alias"), aliases.into_bytes()));
    entries
}

/// Adds a kernel with all of its modules below `modules` (`/usr/lib/modules`), `builtin` inside its image.
pub fn add_kernel(guest: &mut DirFs, modules: &str, kver: &str, builtin: &[&str]) {
    let names: Vec<String> = MODULES
        .iter()
        .map(|(path, ..)| name(path))
        .filter(|name| !builtin.contains(&name.as_str()))
        .collect();
    let (deps, aliases) = indexes(&names);
    let directory = format!("{modules}/{kver}");
    guest.add_file(format!("{directory}/modules.dep"), deps);
    guest.add_file(format!("{directory}/modules.alias"), aliases);
    let built: String = builtin.iter().map(|module| format!("{}\n", path_of(module))).collect();
    guest.add_file(format!("{directory}/modules.builtin"), built);
    guest.add_file(format!("/boot/vmlinuz-{kver}"), "kernel");
    guest.add_file(format!("/boot/config-{kver}"), "CONFIG_EXT4_FS=m\n");
}

/// A `grub.cfg` in the shape of Debian's: one simple entry, then a submenu with every kernel and its recovery.
/// `prefix` is `/boot` or, where that is a filesystem of its own, empty.
pub fn grub_cfg(kernels: &[&str], prefix: &str, uuid: &str, root: &str, arguments: &str) -> String {
    let body = |kver: &str, extra: &str| {
        format!(
            "\tset root='hd0,msdos1'\n\tif [ x$feature_platform_search_hint = xy ]; then\n\
             \t  search --no-floppy --fs-uuid --set=root --hint-bios=hd0,msdos1  {uuid}\n\telse\n\
             \t  search --no-floppy --fs-uuid --set=root {uuid}\n\tfi\n\
             \techo\t'Loading Linux {kver} ...'\n\
             \tlinux\t{prefix}/vmlinuz-{kver} root={root} ro {extra}{arguments}\n\
             \tinitrd\t{prefix}/initrd.img-{kver}\n"
        )
    };
    let mut text = String::from(
        "if [ -s $prefix/grubenv ]; then\n  set have_grubenv=true\n  load_env\nfi\n\
         if [ \"${next_entry}\" ] ; then\n   set default=\"${next_entry}\"\n   set next_entry=\nelse\n\
         \x20  set default=\"0\"\nfi\n",
    );
    text.push_str(&format!(
        "menuentry 'Debian GNU/Linux' --class debian $menuentry_id_option 'gnulinux-simple-{uuid}' {{\n{}}}\n\
         submenu 'Advanced options for Debian GNU/Linux' $menuentry_id_option 'gnulinux-advanced-{uuid}' {{\n",
        body(kernels[0], "")
    ));
    for kver in kernels {
        for (suffix, extra) in [("", ""), (" (recovery mode)", "single ")] {
            text.push_str(&format!(
                "menuentry 'Debian GNU/Linux, with Linux {kver}{suffix}' $menuentry_id_option 'x-{kver}' {{\n{}}}\n",
                body(kver, extra)
            ));
        }
    }
    text.push_str("}\n");
    text
}

/// A Debian 12 guest without kernel and boot loader.
pub fn debian() -> DirFs {
    let mut guest = DirFs::from_files([
        ("/etc/os-release", "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nID=debian\n"),
        ("/etc/debian_version", "12.9\n"),
        ("/etc/hostname", "old-server\n"),
        ("/etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
        (
            "/etc/network/interfaces",
            "auto lo\niface lo inet loopback\niface ens3 inet static\n  address 10.0.0.2/24\n",
        ),
        ("/etc/default/grub", "GRUB_DEFAULT=0\n"),
        ("/var/lib/dpkg/status", ""),
        ("/var/lib/dpkg/info/qemu-guest-agent.list", "/.\n/usr/sbin/qemu-ga\n"),
        ("/usr/lib/systemd/systemd", ""),
        ("/boot/grub/i386-pc/normal.mod", ""),
    ]);
    guest.set_uuid(ROOT);
    let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
    elf.resize(18, 0);
    elf.extend_from_slice(&[62, 0]);
    guest.add_file("/usr/bin/dash", elf);
    guest.add_symlink("/usr/bin/sh", "dash").add_symlink("/bin", "usr/bin").add_symlink("/sbin", "usr/sbin");
    guest.add_symlink("/usr/sbin/init", "/lib/systemd/systemd");
    guest
}

/// The whole of a Debian 12 guest on one disk, as it came from its old controller.
pub fn old_server(root: &str, fstab: &str, modules: &[&str]) -> DirFs {
    let mut guest = debian();
    guest.add_symlink("/lib", "usr/lib");
    add_kernel(&mut guest, "/usr/lib/modules", KVER, &[]);
    guest.add_file(format!("/boot/initrd.img-{KVER}"), initramfs(KVER, modules));
    guest.add_file("/boot/grub/grub.cfg", grub_cfg(&[KVER], "/boot", ROOT, root, "quiet"));
    guest.add_file("/etc/fstab", fstab);
    guest
}

pub fn volume(partition: u32, content: &str, uuid: &str) -> Volume {
    Volume {
        partition: Some(partition),
        start: u64::from(partition) << 20,
        len: 1 << 20,
        content: Some(content.into()),
        uuid: Some(uuid.into()),
        label: (partition == 1).then(|| "rootfs".into()),
        partuuid: Some(format!("1234abcd-{partition:02}")),
        type_code: Some("0x83".into()),
        is_logical: partition >= 5,
        ..Volume::default()
    }
}

/// An MBR disk with GRUB, the root filesystem on partition 1 and swap on partition 5.
pub fn devices() -> DeviceTable {
    DeviceTable {
        image_format: None,
        table: TableKind::Mbr,
        volumes: vec![volume(1, "ext4", ROOT), volume(5, "swap", SWAP)],
        firmware: FirmwareFacts { mbr_boot_code: Some("grub".into()), ..FirmwareFacts::default() },
        disk_len: 8 << 20,
        sector_size: 512,
    }
}
