//! Boot entries and verdicts for each boot loader, with the loader's own default.

#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use coldfit_guest::{BootFileKind, Bus, Guest, inspect, verdict};
use support::*;
use testkit::DirFs;

const MACHINE: &str = "4ac5f1d1b1d84dd4b3f6a8d3e4f5a6b7";
const OLD: &str = "4.18.0-80.el8.x86_64";
const NEW: &str = "4.18.0-193.el8.x86_64";

fn look(fs: DirFs) -> Guest {
    inspect(&fs.into_tree(), &devices()).unwrap()
}

/// A guest of the RHEL family with these kernels; the drivers of all buses are in each initramfs.
fn red_hat(versions: &[&str]) -> DirFs {
    let mut fs = debian();
    fs.add_file("/etc/os-release", "ID=\"rhel\"\nVERSION_ID=\"8.0\"\n").add_symlink("/lib", "usr/lib");
    fs.add_file("/etc/fstab", format!("UUID={ROOT} / ext4 defaults 0 1\n"));
    for version in versions {
        add_kernel(&mut fs, "/usr/lib/modules", version, &[]);
        fs.add_file(format!("/boot/initramfs-{version}.img"), initramfs(version, &ALL));
    }
    fs
}

fn entry(version: &str, options: &str) -> String {
    format!(
        "title Red Hat Enterprise Linux ({version})\nversion {version}\nlinux /boot/vmlinuz-{version}\n\
         initrd /boot/initramfs-{version}.img $tuned_initrd\noptions {options}\n"
    )
}

fn block(settings: &str) -> Vec<u8> {
    let mut block = format!("# GRUB Environment Block\n{settings}").into_bytes();
    block.resize(1024, b'#');
    block
}

fn boots_everywhere(guest: &Guest) -> bool {
    verdict(guest, &devices()).values().all(coldfit_guest::Verdict::boots)
}

/// Kernel of the default entry.
fn default_kernel(guest: &Guest) -> Option<&str> {
    let first = guest.boot_entries.first()?;
    assert!(first.is_default, "{first:?}");
    first.kernel_version.as_deref()
}

#[test]
fn rhel_8_reads_entries_and_the_environment_block() {
    let with = |kernelopts: &str, saved: &str| {
        let mut fs = red_hat(&[OLD, NEW]);
        fs.add_file(
            "/boot/grub2/grub.cfg",
            "load_env\nset default=\"${saved_entry}\"\ninsmod blscfg\nblscfg\n",
        );
        fs.add_file("/boot/grub2/grubenv", block(&format!("saved_entry={saved}\nkernelopts={kernelopts}\n")));
        for version in [OLD, NEW] {
            let name = format!("/boot/loader/entries/{MACHINE}-{version}.conf");
            fs.add_file(name, entry(version, "$kernelopts $tuned_params"));
        }
        look(fs)
    };
    let guest = with(&format!("root=UUID={ROOT} ro"), &format!("{MACHINE}-{OLD}"));
    assert_eq!(default_kernel(&guest), Some(OLD));
    assert_eq!(guest.boot_entries.len(), 2);
    assert_eq!(guest.boot_entries[0].arguments, [format!("root=UUID={ROOT}"), "ro".into()]);
    assert_eq!(guest.bootloader.kind.as_deref(), Some("grub"));
    assert_eq!(guest.bootloader.unsupported, None);
    assert!(boots_everywhere(&guest), "{:?}", verdict(&guest, &devices()));
    // Nothing saved: the newest kernel.
    assert_eq!(default_kernel(&with(&format!("root=UUID={ROOT} ro"), "")), Some(NEW));
    // The root device stands in the block, so the block decides.
    let guest = with("root=/dev/sda1 ro", "");
    let verdicts = verdict(&guest, &devices());
    assert!(verdicts[&Bus::Ahci].boots() && !verdicts[&Bus::VirtioBlk].boots());
}

#[test]
fn rhel_9_and_later_have_their_arguments_in_each_entry() {
    let mut fs = red_hat(&[OLD, NEW]);
    fs.add_file("/boot/grub2/grub.cfg", "insmod blscfg\nblscfg\n");
    for version in [OLD, NEW] {
        let name = format!("/boot/loader/entries/{MACHINE}-{version}.conf");
        fs.add_file(name, entry(version, &format!("root=UUID={ROOT} ro quiet $tuned_params")));
    }
    let guest = look(fs);
    assert_eq!(default_kernel(&guest), Some(NEW));
    assert!(boots_everywhere(&guest), "{:?}", verdict(&guest, &devices()));
    let kinds: Vec<_> = guest.bootloader.files.iter().map(|file| file.kind).collect();
    assert_eq!(kinds, [BootFileKind::GrubConfig, BootFileKind::LoaderEntry, BootFileKind::LoaderEntry]);
}

#[test]
fn systemd_boot_takes_the_default_of_its_own_file() {
    let with = |settings: &str| {
        let mut fs = red_hat(&[OLD, NEW]);
        fs.add_file("/boot/loader/loader.conf", settings);
        for version in [OLD, NEW] {
            let name = format!("/boot/loader/entries/{MACHINE}-{version}.conf");
            let text = entry(version, &format!("root=UUID={ROOT} ro")).replace(" $tuned_initrd", "");
            fs.add_file(name, text);
        }
        look(fs)
    };
    let guest = with(&format!("timeout 3\ndefault {MACHINE}-4.18.0-80*\n"));
    assert_eq!(guest.bootloader.kind.as_deref(), Some("systemd-boot"));
    assert_eq!(default_kernel(&guest), Some(OLD));
    assert_eq!(default_kernel(&with("timeout 3\n")), Some(NEW));
}

#[test]
fn centos_6_starts_by_the_number_of_its_entry() {
    let with = |default: &str| {
        let mut fs = red_hat(&[OLD, NEW]);
        let title = |version: &str| {
            format!(
                "title CentOS ({version})\n\troot (hd0,0)\n\tkernel /boot/vmlinuz-{version} ro root=UUID={ROOT}\n\
                 \tinitrd /boot/initramfs-{version}.img\n"
            )
        };
        let text = format!("default={default}\ntimeout=5\nhiddenmenu\n{}{}", title(NEW), title(OLD));
        fs.add_file("/boot/grub/grub.conf", text);
        look(fs)
    };
    let guest = with("1");
    assert_eq!(guest.bootloader.kind.as_deref(), Some("grub-legacy"));
    assert_eq!(default_kernel(&guest), Some(OLD));
    assert!(boots_everywhere(&guest), "{:?}", verdict(&guest, &devices()));
    assert_eq!(default_kernel(&with("0")), Some(NEW));
}

#[test]
fn extlinux_starts_the_label_that_it_names() {
    let mut fs = red_hat(&[OLD, NEW]);
    let label = |name: &str, version: &str| {
        format!(
            "LABEL {name}\n  LINUX /boot/vmlinuz-{version}\n  INITRD /boot/initramfs-{version}.img\n\
             \x20 APPEND root=UUID={ROOT} ro\n"
        )
    };
    let text = format!("DEFAULT old\n{}{}", label("new", NEW), label("old", OLD));
    fs.add_file("/boot/extlinux/extlinux.conf", text);
    let guest = look(fs);
    assert_eq!(guest.bootloader.kind.as_deref(), Some("extlinux"));
    assert_eq!(default_kernel(&guest), Some(OLD));
}

#[test]
fn suse_and_ubuntu_lead_from_the_esp_to_the_real_configuration() {
    let root = format!("UUID={ROOT}");
    let stubs = [
        // openSUSE and SLES: the file is read as a part of the stub.
        format!(
            "set btrfs_relative_path=\"yes\"\nsearch --fs-uuid --set=root {ROOT}\nset prefix=(${{root}})/boot/grub2\n\
                 source \"${{prefix}}/grub.cfg\"\n"
        ),
        // Ubuntu and Debian.
        format!(
            "search.fs_uuid {ROOT} root hd0,gpt2\nset prefix=($root)'/boot/grub2'\nconfigfile $prefix/grub.cfg\n"
        ),
    ];
    for stub in stubs {
        let mut fs = red_hat(&[]);
        add_kernel(&mut fs, "/usr/lib/modules", KVER, &[]);
        fs.add_file(format!("/boot/initrd.img-{KVER}"), initramfs(KVER, &ALL));
        fs.add_file("/boot/efi/EFI/opensuse/grub.cfg", stub);
        fs.add_file("/boot/grub2/grub.cfg", grub_cfg(&[KVER], "/boot", ROOT, &root, "quiet"));
        let guest = look(fs);
        assert_eq!(default_kernel(&guest), Some(KVER));
        assert_eq!(guest.bootloader.config.as_deref(), Some("/boot/grub2/grub.cfg"));
        assert!(boots_everywhere(&guest), "{:?}", verdict(&guest, &devices()));
    }
}

#[test]
fn stubs_that_lead_to_each_other_end() {
    let mut fs = red_hat(&[]);
    for (file, target) in
        [("/boot/grub/grub.cfg", "/boot/a/grub.cfg"), ("/boot/a/grub.cfg", "/boot/grub/grub.cfg")]
    {
        fs.add_file(file, format!("configfile {target}\n"));
    }
    let guest = look(fs);
    assert!(guest.boot_entries.is_empty());
    assert_eq!(guest.bootloader.unsupported.unwrap().code, "boot.grub.stub");
}
