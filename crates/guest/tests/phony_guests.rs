//! Inspection and verdict on phony guests.

#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use std::collections::BTreeMap;

use coldfit_guest::{Bus, DriverState, Guest, MachineId, Resolution, Verdict, inspect, verdict, verdicts};
use support::*;
use testkit::DirFs;
use vfs::{DeviceTable, GuestPath};

fn look(fs: DirFs) -> Guest {
    inspect(&fs.into_tree(), &devices()).unwrap()
}

/// Buses on which the default entry boots.
fn boots(guest: &Guest, table: &DeviceTable) -> Vec<Bus> {
    verdict(guest, table).into_iter().filter(|(_, verdict)| verdict.boots()).map(|(bus, _)| bus).collect()
}

/// Path and content of what is in an initramfs.
type Entries = Vec<(String, Vec<u8>)>;

fn messages(verdict: &Verdict) -> Vec<String> {
    verdict.reasons().iter().map(|reason| reason.message.clone()).collect()
}

fn codes(verdict: &Verdict) -> Vec<&'static str> {
    verdict.reasons().iter().map(|reason| reason.code).collect()
}

fn of(verdicts: &BTreeMap<Bus, Verdict>, bus: Bus) -> &Verdict {
    &verdicts[&bus]
}

const OLD_FSTAB: &str = "# root\n/dev/sda1 / ext4 errors=remount-ro 0 1\n/dev/sda5 none swap sw 0 0\n\
    /dev/sr0 /media/cdrom0 udf,iso9660 user,noauto 0 0\n";

fn uuid_fstab() -> String {
    format!("UUID={ROOT} / ext4 errors=remount-ro 0 1\nUUID={SWAP} none swap sw 0 0\n")
}

#[test]
fn the_model_of_an_old_server() {
    let guest = look(old_server("/dev/sda1", OLD_FSTAB, &NARROW));
    assert_eq!(guest.os.id.as_deref(), Some("debian"));
    assert_eq!(guest.os.version.as_deref(), Some("12"));
    assert_eq!(guest.os.debian_version.as_deref(), Some("12.9"));
    assert_eq!(guest.architecture.as_deref(), Some("x86_64"));
    assert_eq!(guest.hostname.as_deref(), Some("old-server"));
    assert_eq!(guest.machine_id, MachineId::Set);
    assert_eq!(guest.init.as_deref(), Some("systemd"));
    assert_eq!(guest.package_manager.as_deref(), Some("dpkg"));
    assert_eq!(guest.agents, ["qemu-guest-agent"]);
    let network = &guest.network[0];
    assert_eq!((network.name.as_str(), network.has_static, network.has_dynamic), ("ifupdown", true, false));
    assert_eq!(network.interfaces, ["ens3"]);
    assert_eq!(guest.bootloader.platforms, ["i386-pc"]);

    let kernel = &guest.kernels[0];
    assert_eq!(kernel.version, KVER);
    assert_eq!(kernel.module_directory.as_deref(), Some("/usr/lib/modules/6.1.0-28-amd64"));
    assert_eq!(kernel.initramfs.as_deref(), Some("/boot/initrd.img-6.1.0-28-amd64"));
    let initramfs = &guest.initramfs[0];
    assert_eq!(initramfs.generator.as_deref(), Some("initramfs-tools"));
    assert_eq!(initramfs.module_versions, [KVER]);
    assert_eq!(initramfs.segments.len(), 1);
    let state = |name: &str| {
        let driver = initramfs.drivers.iter().find(|driver| driver.name == name).unwrap();
        (driver.state, driver.is_found, driver.missing_dependencies.clone())
    };
    assert_eq!(state("ahci"), (DriverState::InInitramfs, true, vec![]));
    assert_eq!(state("crc32c"), (DriverState::InInitramfs, true, vec![]));
    assert_eq!(state("virtio_blk"), (DriverState::OnDisk, false, vec![]));
    assert_eq!(state("xfs"), (DriverState::Absent, false, vec![]));

    let titles: Vec<_> =
        guest.boot_entries.iter().map(|entry| (entry.is_default, entry.is_recovery)).collect();
    assert_eq!(titles, [(true, false), (false, false), (false, true)]);
    let entry = &guest.boot_entries[0];
    assert_eq!(entry.kernel_path.as_deref(), Some("/boot/vmlinuz-6.1.0-28-amd64"));
    assert_eq!(entry.kernel_version.as_deref(), Some(KVER));
    assert_eq!(entry.arguments, ["root=/dev/sda1", "ro", "quiet"]);
    let fstab: Vec<_> = guest.fstab.iter().map(|row| (row.line, row.resolution, row.is_optional)).collect();
    assert_eq!(
        fstab,
        [(2, Resolution::Unstable, false), (3, Resolution::Unstable, false), (4, Resolution::Unknown, true)]
    );
    assert_eq!(guest.problems, []);
    // The model is data.
    let json = serde_json::to_value(&guest).unwrap();
    assert_eq!(json["kernels"][0]["version"], KVER);
    assert_eq!(json["fstab"][0]["resolution"], "unstable");
}

#[test]
fn a_narrow_initramfs_boots_on_its_old_controller_only() {
    let guest = look(old_server("/dev/sda1", OLD_FSTAB, &NARROW));
    let table = devices();
    assert_eq!(boots(&guest, &table), [Bus::Ahci, Bus::Ide]);
    let verdicts = verdict(&guest, &table);
    assert_eq!(
        messages(of(&verdicts, Bus::VirtioBlk)),
        [
            "virtio_pci: not in /boot/initrd.img-6.1.0-28-amd64 (on disk: kernel/drivers/virtio/virtio_pci.ko)",
            "virtio_blk: not in /boot/initrd.img-6.1.0-28-amd64 (on disk: kernel/drivers/block/virtio_blk.ko)",
            "/boot/grub/grub.cfg:19: root=/dev/sda1: /dev/sda1 does not exist on virtio-blk, where the disk is vda",
        ]
    );
    let reason = &of(&verdicts, Bus::VirtioBlk).reasons()[2];
    assert_eq!((reason.file.as_deref(), reason.line), (Some("/boot/grub/grub.cfg"), Some(19)));
    // The device's name is right there; only the drivers are missing.
    assert_eq!(codes(of(&verdicts, Bus::VirtioScsi)), ["boot.driver.missing"; 2]);
    assert_eq!(codes(of(&verdicts, Bus::Nvme)), ["boot.driver.missing", "boot.root.device"]);
    let json = serde_json::to_value(&verdicts).unwrap();
    assert_eq!(json["ahci"]["verdict"], "boots");
    assert_eq!(json["nvme"]["verdict"], "does-not-boot");
    assert_eq!(json["nvme"]["reasons"][0]["code"], "boot.driver.missing");
}

#[test]
fn all_drivers_and_uuids_boot_everywhere() {
    let root = format!("UUID={ROOT}");
    let guest = look(old_server(&root, &uuid_fstab(), &ALL));
    let table = devices();
    for entry in verdicts(&guest, &table) {
        assert!(entry.buses.values().all(Verdict::boots), "{entry:#?}");
        assert!(entry.notes.is_empty());
    }
    // The old names in fstab alone do not stop it: / is mounted already, swap is waited for.
    let guest = look(old_server(&root, OLD_FSTAB, &ALL));
    let entries = verdicts(&guest, &table);
    assert!(entries[0].buses.values().all(Verdict::boots));
    let notes: Vec<_> = entries[0].notes[&Bus::Nvme].iter().map(|note| (note.code, note.line)).collect();
    let cdrom = ("boot.fstab.optional", Some(4));
    assert_eq!(notes, [("boot.fstab.root-name", Some(2)), ("boot.fstab.swap", Some(3)), cdrom]);
    assert_eq!(entries[0].notes[&Bus::Ahci].len(), 1);
}

#[test]
fn fstab_decides_what_the_boot_waits_for() {
    let root = format!("UUID={ROOT}");
    let table = devices();
    let with = |line: &str| look(old_server(&root, &format!("{}{line}\n", uuid_fstab()), &ALL));
    for (line, expected) in [
        ("/dev/sda5 /data ext4 defaults 0 2", vec![Bus::VirtioScsi, Bus::Ahci, Bus::Ide]),
        ("/dev/sda5 /data ext4 nofail 0 2", Bus::ALL.to_vec()),
        ("/dev/sda5 /data ext4 noauto 0 2", Bus::ALL.to_vec()),
        ("/dev/sda5 /data ext4 x-systemd.automount 0 2", Bus::ALL.to_vec()),
        ("/dev/sdb1 /data ext4 defaults 0 2", vec![]),
        ("UUID=11-22 /data ext4 defaults 0 2", vec![]),
        ("server:/x /data nfs defaults 0 0", Bus::ALL.to_vec()),
        ("/swapfile none swap sw 0 0", Bus::ALL.to_vec()),
        ("tmpfs /tmp tmpfs defaults 0 0", Bus::ALL.to_vec()),
        ("/srv/a /srv/b none bind 0 0", Bus::ALL.to_vec()),
        ("/dev/sdb1 none swap sw 0 0", Bus::ALL.to_vec()),
    ] {
        assert_eq!(boots(&with(line), &table), expected, "{line}");
    }
    let guest = with("/dev/sdb1 /data ext4 defaults 0 2");
    assert_eq!(
        messages(of(&verdict(&guest, &table), Bus::Ahci)),
        ["fstab:3: /dev/sdb1 on /data: /dev/sdb1 does not exist on ahci, where the disk is sda; \
          without nofail the boot ends in emergency mode"]
    );
    // What cannot be seen is not guessed.
    let verdicts = verdict(&with("/dev/mapper/vg-home /home ext4 defaults 0 2"), &table);
    assert!(matches!(of(&verdicts, Bus::Ahci), Verdict::Unknown { .. }));
    // A tag for / that leads nowhere keeps / read-only.
    let guest = look(old_server(&root, "UUID=11-22 / ext4 defaults 0 1\n", &ALL));
    assert_eq!(codes(of(&verdict(&guest, &table), Bus::Ahci)), ["boot.fstab.root"]);
}

#[test]
fn root_devices_on_each_bus() {
    let table = devices();
    let boots_with = |root: &str| boots(&look(old_server(root, &uuid_fstab(), &ALL)), &table);
    for (root, expected) in [
        ("/dev/sda1", vec![Bus::VirtioScsi, Bus::Ahci, Bus::Ide]),
        ("/dev/vda1", vec![Bus::VirtioBlk]),
        ("/dev/nvme0n1p1", vec![Bus::Nvme]),
        ("/dev/nvme0n11", vec![]),
        ("/dev/hda1", vec![]),
        ("/dev/sda2", vec![]),
        ("/dev/sdb1", vec![]),
        ("LABEL=rootfs", Bus::ALL.to_vec()),
        ("LABEL=other", vec![]),
        ("PARTUUID=1234ABCD-01", Bus::ALL.to_vec()),
        ("/dev/disk/by-uuid/0f6b1c6e-53b5-4f6e-9d4b-1f9bb3a6a001", Bus::ALL.to_vec()),
    ] {
        assert_eq!(boots_with(root), expected, "{root}");
    }
    for root in ["/dev/mapper/vg-root", "/dev/disk/by-id/ata-QEMU_HARDDISK_QM00001-part1", "ZFS=x/y"] {
        let verdicts = verdict(&look(old_server(root, &uuid_fstab(), &ALL)), &table);
        assert!(matches!(of(&verdicts, Bus::Ahci), Verdict::Unknown { .. }), "{root}");
    }
}

#[test]
fn dependencies_indexes_and_blacklists_count() {
    let root = format!("UUID={ROOT}");
    let table = devices();
    let with = |change: &dyn Fn(&mut Entries)| {
        let mut fs = old_server(&root, &uuid_fstab(), &ALL);
        let mut entries = initramfs_entries(KVER, &ALL);
        change(&mut entries);
        fs.add_file(format!("/boot/initrd.img-{KVER}"), cpio(&entries));
        let guest = look(fs);
        let verdicts = verdict(&guest, &table);
        Bus::ALL.map(|bus| codes(of(&verdicts, bus)))
    };
    let fine: [Vec<&str>; 5] = Default::default();
    assert_eq!(with(&|_| {}), fine);
    let broken = |places: &[usize], code: &'static str| {
        let mut expected = fine.clone();
        for place in places {
            expected[*place] = vec![code];
        }
        expected
    };
    let without = |file: &str| with(&|entries| entries.retain(|(path, _)| !path.ends_with(file)));
    assert_eq!(without("nvme-core.ko"), broken(&[2], "boot.driver.missing"));
    assert_eq!(without("libahci.ko"), broken(&[3], "boot.driver.missing"));
    assert_eq!(without("crc32c_generic.ko"), broken(&[0, 1, 2, 3, 4], "boot.filesystem.driver"));
    assert_eq!(without("jbd2.ko"), broken(&[0, 1, 2, 3, 4], "boot.filesystem.driver"));
    let edit = |file: &'static str, from: &'static str, to: &'static str| {
        with(&|entries| {
            let (_, content) = entries.iter_mut().find(|(path, _)| path.ends_with(file)).unwrap();
            let text = String::from_utf8(content.clone()).unwrap();
            *content = if from.is_empty() { to.to_owned() } else { text.replace(from, to) }.into_bytes();
        })
    };
    let alias = "alias virtio:d00000002v* virtio_blk\n";
    assert_eq!(edit("modules.alias", alias, ""), broken(&[0], "boot.driver.not-indexed"));
    assert_eq!(
        edit("modules.dep", "kernel/drivers/block/virtio_blk.ko:", "x.ko:"),
        broken(&[0], "boot.driver.not-indexed")
    );
    assert_eq!(edit("empty.conf", "", "blacklist nvme\n"), broken(&[2], "boot.driver.blacklisted"));

    // A list makes up for a missing alias.
    let listed = with(&|entries| {
        for (path, content) in entries.iter_mut() {
            let text = String::from_utf8(content.clone()).unwrap();
            match path.rsplit('/').next() {
                Some("modules.alias") => *content = text.replace(alias, "").into_bytes(),
                Some("modules") => *content = b"# list\nvirtio-blk\n".to_vec(),
                _ => {}
            }
        }
    });
    assert_eq!(listed, fine);

    for (argument, places) in [
        ("modprobe.blacklist=virtio_blk,foo", &[0][..]),
        ("module_blacklist=scsi_mod", &[1, 3, 4]),
        ("blacklist=nvme", &[2]),
    ] {
        let mut fs = old_server(&root, &uuid_fstab(), &ALL);
        fs.add_file("/boot/grub/grub.cfg", grub_cfg(&[KVER], "/boot", ROOT, &root, argument));
        let verdicts = verdict(&look(fs), &table);
        for (index, bus) in Bus::ALL.into_iter().enumerate() {
            let found = codes(of(&verdicts, bus));
            let is_expected = found.iter().all(|code| *code == "boot.driver.blacklisted");
            assert!(
                is_expected && found.is_empty() != places.contains(&index),
                "{argument} {bus}: {found:?}"
            );
        }
    }
}

#[test]
fn built_in_drivers_need_no_initramfs() {
    let builtin = [
        "virtio",
        "virtio_ring",
        "virtio_pci_modern_dev",
        "virtio_pci",
        "virtio_blk",
        "mbcache",
        "jbd2",
        "ext4",
        "crc32c_generic",
    ];
    let mut fs = debian();
    add_kernel(&mut fs, "/lib/modules", KVER, &builtin);
    // The image's config says crc32c is inside as well.
    fs.add_file(format!("/boot/config-{KVER}"), "CONFIG_CRYPTO_CRC32C=y\n");
    let without_initrd = |root: &str| {
        let text = grub_cfg(&[KVER], "/boot", ROOT, root, "");
        text.lines()
            .filter(|line| !line.contains("initrd"))
            .map(|line| format!("{line}\n"))
            .collect::<String>()
    };
    fs.add_file("/etc/fstab", uuid_fstab());
    fs.add_file("/boot/grub/grub.cfg", without_initrd("PARTUUID=1234abcd-01"));
    let guest = look(fs.clone());
    assert_eq!(guest.kernels[0].module_directory.as_deref(), Some("/lib/modules/6.1.0-28-amd64"));
    assert_eq!(guest.kernels[0].initramfs, None);
    let table = devices();
    assert_eq!(boots(&guest, &table), [Bus::VirtioBlk]);
    let verdicts = verdict(&guest, &table);
    assert!(messages(of(&verdicts, Bus::Nvme))[0].contains("has no initramfs"));

    fs.add_file("/boot/grub/grub.cfg", without_initrd(&format!("UUID={ROOT}")));
    let verdicts = verdict(&look(fs), &table);
    assert_eq!(codes(of(&verdicts, Bus::VirtioBlk)), ["boot.root.needs-initramfs"]);
}

#[test]
fn two_kernels_a_missing_initramfs_and_a_kernel_without_modules() {
    let old = "6.1.0-9-amd64";
    let root = format!("UUID={ROOT}");
    let mut fs = old_server(&root, &uuid_fstab(), &ALL);
    add_kernel(&mut fs, "/usr/lib/modules", old, &[]);
    fs.add_file("/boot/vmlinuz-5.10.0-1-amd64", "kernel");
    fs.add_file("/boot/grub/grub.cfg", grub_cfg(&[KVER, old, "5.10.0-1-amd64"], "/boot", ROOT, &root, ""));
    let guest = look(fs);
    let versions: Vec<_> = guest.kernels.iter().map(|kernel| kernel.version.as_str()).collect();
    assert_eq!(versions, [KVER, old, "5.10.0-1-amd64"]);
    assert_eq!(guest.kernels[1].initramfs, None);
    assert_eq!(guest.kernels[2].module_directory, None);
    let codes_of_problems: Vec<_> = guest.problems.iter().map(|problem| problem.code.as_str()).collect();
    assert_eq!(codes_of_problems, ["guest.kernel.no-modules"]);
    let entries = verdicts(&guest, &devices());
    assert_eq!(entries.len(), 7);
    assert!(entries[..3].iter().all(|entry| entry.buses[&Bus::Nvme].boots()));
    for entry in &entries[3..] {
        assert_eq!(codes(&entry.buses[&Bus::Nvme]), ["boot.initramfs.missing"], "{}", entry.title);
    }
}

#[test]
fn the_default_entry_comes_first() {
    let old = "6.1.0-9-amd64";
    let root = format!("UUID={ROOT}");
    let mut fs = old_server(&root, &uuid_fstab(), &ALL);
    add_kernel(&mut fs, "/usr/lib/modules", old, &[]);
    fs.add_file(format!("/boot/initrd.img-{old}"), initramfs(old, &NARROW));
    let config = grub_cfg(&[KVER, old], "/boot", ROOT, &root, "");
    fs.add_file("/boot/grub/grub.cfg", config.replace("default=\"0\"", "default=\"${saved_entry}\""));
    let mut block =
        format!("# GRUB Environment Block\nsaved_entry=gnulinux-advanced-{ROOT}>x-{old}\n").into_bytes();
    block.resize(1024, b'#');
    fs.add_file("/boot/grub/grubenv", block);
    let guest = look(fs);
    assert_eq!(guest.boot_entries[0].kernel_version.as_deref(), Some(old));
    assert!(guest.boot_entries[0].is_default && !guest.boot_entries[1].is_default);
    assert_eq!(boots(&guest, &devices()), [Bus::Ahci, Bus::Ide]);
}

#[test]
fn a_boot_filesystem_of_its_own() {
    let boot_uuid = "0f6b1c6e-53b5-4f6e-9d4b-1f9bb3a6a002";
    let root = format!("UUID={ROOT}");
    let mut fs = debian();
    fs.add_symlink("/lib", "usr/lib").add_dir("/boot");
    add_kernel(&mut fs, "/usr/lib/modules", KVER, &[]);
    fs.add_file("/etc/fstab", format!("{}UUID={boot_uuid} /boot ext2 defaults 0 2\n", uuid_fstab()));
    let mut boot = DirFs::new();
    boot.set_uuid(boot_uuid);
    boot.add_file(format!("/vmlinuz-{KVER}"), "kernel");
    boot.add_file(format!("/initrd.img-{KVER}"), initramfs(KVER, &ALL));
    boot.add_symlink("/vmlinuz", format!("vmlinuz-{KVER}"));
    boot.add_file("/grub/grub.cfg", grub_cfg(&[KVER], "", boot_uuid, &root, ""));
    let mut tree = fs.into_tree();
    tree.mount(&GuestPath::new("/boot").unwrap(), Box::new(boot), "partition 2").unwrap();
    let mut table = devices();
    table.volumes.insert(1, volume(2, "ext2", boot_uuid));
    let guest = inspect(&tree, &table).unwrap();
    let entry = &guest.boot_entries[0];
    assert_eq!(entry.kernel, format!("/vmlinuz-{KVER}"));
    assert_eq!(entry.kernel_path.as_deref(), Some("/boot/vmlinuz-6.1.0-28-amd64"));
    assert_eq!(guest.kernels[0].initramfs.as_deref(), Some("/boot/initrd.img-6.1.0-28-amd64"));
    assert_eq!(boots(&guest, &table), Bus::ALL);
}

#[test]
fn firmware_and_boot_loader_are_judged_first() {
    let root = format!("UUID={ROOT}");
    let guest = look(old_server(&root, &uuid_fstab(), &ALL));
    let mut table = devices();
    let with = |table: &DeviceTable| of(&verdict(&guest, table), Bus::Nvme).clone();
    table.firmware.mbr_boot_code = Some("grub-no-core".into());
    assert_eq!(codes(&with(&table)), ["boot.firmware.no-core"]);
    table.firmware.mbr_boot_code = None;
    assert_eq!(codes(&with(&table)), ["boot.firmware.none"]);
    table.firmware.mbr_boot_code = Some("other".into());
    assert!(matches!(with(&table), Verdict::Unknown { .. }));
    table.firmware.mbr_boot_code = None;
    table.firmware.esp_partition = Some(15);
    assert_eq!(codes(&with(&table)), ["boot.firmware.esp-not-read"]);
    assert!(matches!(with(&table), Verdict::Unknown { .. }));

    for (config, expected) in [
        ("insmod blscfg\nblscfg\n", "boot.entry.none"),
        ("menuentry 'x' {\n", "boot.config.unsupported"),
        ("configfile (hd0,1)/x.cfg\n", "boot.config.unsupported"),
        ("menuentry x { halt }\n", "boot.entry.none"),
    ] {
        let mut fs = old_server(&root, &uuid_fstab(), &ALL);
        fs.add_file("/boot/grub/grub.cfg", config);
        assert_eq!(codes(of(&verdict(&look(fs), &devices()), Bus::Ahci)), [expected], "{config}");
    }
    let verdicts = verdict(&look(debian()), &devices());
    assert_eq!(codes(of(&verdicts, Bus::Ahci)), ["boot.loader.unknown"]);

    // A search that finds nothing leaves the device that was set; without one the kernel is not found.
    let config = grub_cfg(&[KVER], "/boot", "11-22", &root, "");
    for (config, expected) in
        [(config.clone(), &[][..]), (config.replace("\tset root='hd0,msdos1'\n", ""), &["boot.entry.search"])]
    {
        let mut fs = old_server(&root, &uuid_fstab(), &ALL);
        fs.add_file("/boot/grub/grub.cfg", config);
        assert_eq!(codes(of(&verdict(&look(fs), &devices()), Bus::Ahci)), expected);
    }
}

#[test]
fn what_is_not_understood_is_unknown() {
    let root = format!("UUID={ROOT}");
    let table = devices();
    let unknown = |fs: DirFs, code: &str| {
        let verdicts = verdict(&look(fs), &table);
        let found = of(&verdicts, Bus::Ahci);
        assert!(matches!(found, Verdict::Unknown { .. }), "{code}: {found:?}");
        assert_eq!(codes(found), [code]);
    };
    let base = || old_server(&root, &uuid_fstab(), &ALL);
    let mut fs = base();
    fs.add_file(format!("/boot/initrd.img-{KVER}"), "what is this");
    unknown(fs, "boot.initramfs.unreadable");
    let mut fs = base();
    fs.add_file(format!("/boot/initrd.img-{KVER}"), cpio(&[("init".into(), b"x".to_vec())]));
    unknown(fs, "boot.initramfs.generator");
    let mut fs = base();
    fs.add_file("/boot/grub/grub.cfg", grub_cfg(&[KVER], "/boot", ROOT, &root, "$extra"));
    unknown(fs, "boot.entry.uncertain");
    let mut other = devices();
    other.volumes[0].content = Some("zfs".into());
    let verdicts = verdict(&look(base()), &other);
    assert_eq!(codes(of(&verdicts, Bus::Ahci)), ["boot.root.content"]);

    // No root at all is certain: initramfs-tools stops there.
    let mut fs = base();
    let config = grub_cfg(&[KVER], "/boot", ROOT, "X", "").replace("root=X ", "");
    fs.add_file("/boot/grub/grub.cfg", config);
    assert!(matches!(of(&verdict(&look(fs), &table), Bus::Ahci), Verdict::DoesNotBoot { .. }));
    assert!(inspect(&DirFs::new().into_tree(), &table).is_err());
}
