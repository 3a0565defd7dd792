//! What an injection is for: a kernel that did not find its root disk finds it, under each generator's own way to load
//! drivers. The kernel is Debian's; dracut's archive is made by dracut itself.
//!
//! mkinitcpio and mkinitfs are no packages of Debian: their archives here are made in their shape, with this machine's
//! udev, kmod and busybox and a few lines of init that do what theirs do. `COLDFIT_MKINITCPIO` and `COLDFIT_MKINITFS`
//! name checkouts of these programs (the second with `nlplug-findfs` built in its root) whose own init then runs.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "test code")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use coldfit_initramfs::{
    Archive, Generator, Injection, InjectionOptions, KernelModules, Limits, plan_injection,
};
use common::HostDir;
use common::guest::{ROOT, Tree, root_disk};
use testkit::cache::Cache;
use testkit::kernel_deb::KernelDeb;
use testkit::qemu::{BOOTED, Boot, BootOutcome, Bus, DirectKernel};
use testkit::tool;

const WANTED: [&str; 4] = ["virtio_pci", "virtio_blk", "virtio_scsi", "nvme"];

/// How an archive without the drivers gives up.
#[derive(Clone, Copy)]
struct Failure<'a> {
    says: &'a str,
    /// Arguments that make it give up soon.
    arguments: &'a str,
}

struct Lab {
    folder: tempfile::TempDir,
    kernel: KernelDeb,
    disk: PathBuf,
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let disk = root_disk(folder.path());
        Self { folder, kernel: common::kernel(), disk }
    }

    /// Boots until the line that begins with `marker`; how long that takes says more about the host than about us.
    fn boot(&self, archive: &[u8], bus: Bus, arguments: &str, marker: &str) -> BootOutcome {
        let initramfs = self.folder.path().join("initrd");
        fs::write(&initramfs, archive).unwrap();
        let kernel = self.kernel.root.join(format!("boot/vmlinuz-{}", self.kernel.kver));
        // On a busy host the kernel's test of the timer takes an emulated one for broken.
        let arguments =
            format!("root=UUID={ROOT} console=ttyS0 mitigations=off no_timer_check panic=1 {arguments}");
        Boot::new(&self.disk, bus)
            .kernel(DirectKernel { kernel, initramfs, arguments })
            .marker(marker)
            .timeout(Duration::from_secs(900))
            .run(&Cache::open().unwrap())
            .unwrap()
    }

    /// The same archive before and after: no root, then up on both buses.
    fn prove(&self, before: &[u8], generator: Generator, arguments: &str, fails: Failure<'_>) {
        let archive = Archive::parse(before, &Limits::default()).unwrap();
        assert_eq!(archive.generator(), generator);
        let source = HostDir(self.kernel.module_dir());
        let modules = KernelModules::load(&self.kernel.kver, &source).unwrap();
        let wanted: Vec<String> = WANTED.iter().map(|name| (*name).to_owned()).collect();
        let options = InjectionOptions::default();
        let append = match plan_injection(before, &archive, &modules, &source, &wanted, &options).unwrap() {
            Injection::Append(append) => append,
            Injection::Nothing(report) => panic!("nothing planned: {report:?}"),
        };
        let after = [before, &append.bytes].concat();
        for (bus, disk) in [(Bus::VirtioBlk, "vda"), (Bus::Nvme, "nvme0n1")] {
            let outcome = self.boot(&after, bus, arguments, BOOTED);
            let line = outcome.reached.clone().unwrap_or_else(|| panic!("{}", outcome.log()));
            eprintln!("{generator}: {line} after {:.0} s", outcome.seconds);
            assert!(line.ends_with(disk), "{line}");
        }
        let arguments = format!("{arguments} {}", fails.arguments);
        let outcome = self.boot(before, Bus::VirtioBlk, &arguments, fails.says);
        assert!(outcome.reached.is_some() && !outcome.serial.contains(BOOTED), "{}", outcome.log());
    }
}

#[test]
fn dracut_finds_its_root_disk() {
    let lab = Lab::new();
    let file = lab.folder.path().join("dracut.img");
    let fails = Failure { says: "Entering emergency mode", arguments: "rd.timeout=30" };
    // On a machine of another make, and for any machine but without the drivers of new ones.
    for mode in
        [&["--no-hostonly", "--omit-drivers", "virtio_pci virtio_blk virtio_scsi nvme"][..], &["--hostonly"]]
    {
        let mut command = tool::command("dracut", ["--force", "--quiet", "--no-hostonly-cmdline"]);
        command.args(mode).arg("--no-hostonly-default-device");
        command.arg("--kver").arg(&lab.kernel.kver).arg("--kmoddir").arg(lab.kernel.module_dir());
        command.args(["--drivers", "ext4", "--filesystems", "ext4", "--gzip", "--no-early-microcode"]);
        command.args([
            "--omit",
            "lvm dm dmraid mdraid crypt multipath btrfs plymouth network bluetooth i18n drm",
        ]);
        command.args(["--conf", "/dev/null", "--confdir"]).arg(lab.folder.path());
        tool::finish(command.arg(&file)).unwrap();
        lab.prove(&fs::read(&file).unwrap(), Generator::Dracut, "", fails);
    }
}

const APPLETS: [&str; 22] = [
    "ash",
    "sh",
    "mount",
    "umount",
    "sleep",
    "cat",
    "ls",
    "mkdir",
    "mknod",
    "switch_root",
    "grep",
    "sed",
    "tr",
    "cut",
    "echo",
    "printf",
    "stat",
    "chmod",
    "ln",
    "dmesg",
    "mdev",
    "test",
];

/// What the init of mkinitcpio does, by its man page and `init`: reads `/config` as shell, starts udev, hands
/// `MODULES` to modprobe, triggers, mounts and leaves.
const MKINITCPIO_INIT: &str = "#!/usr/bin/ash
export PATH=/usr/local/sbin:/usr/local/bin:/usr/bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t tmpfs run /run
. /config
case \" $EARLYHOOKS \" in *' udev '*) /usr/lib/systemd/systemd-udevd --daemon --resolve-names=never;; esac
[ -n \"$MODULES\" ] && modprobe -qab $MODULES
case \" $HOOKS \" in *' udev '*) udevadm trigger --action=add --type=subsystems; udevadm trigger --action=add --type=devices; udevadm settle;; esac
for word in $(cat /proc/cmdline); do case $word in root=UUID=*) uuid=${word#root=UUID=};; esac; done
for second in 1 2 3 4 5 6 7 8 9 10; do device=$(blkid -lt UUID=$uuid -o device) && break; sleep 1; done
[ -n \"$device\" ] || { echo \"ERROR: device '$uuid' not found\"; sleep 100; }
mount -t ext4 -o ro $device /new_root
exec switch_root /new_root /sbin/init
";

fn mkinitcpio_tree(lab: &Lab, hooks: &str) -> Tree {
    let tree = Tree::new();
    tree.busybox(&APPLETS);
    tree.kmod();
    tree.program("/sbin/blkid", "blkid");
    let (early, run) = if hooks.contains("udev") { ("udev", "udev") } else { ("", "") };
    if !early.is_empty() {
        tree.udev();
    }
    tree.modules(&lab.kernel, &["hv_storvsc", "ext4"]);
    tree.write("config", &format!("EARLYHOOKS=\"{early}\"\nHOOKS=\"{run}\"\nMODULES=\"ext4\"\n"));
    tree.write("buildconfig", &format!("HOOKS=({hooks})\nMODULES=()\n"));
    tree.write("VERSION", "0\n");
    fs::create_dir_all(tree.at("hooks")).unwrap();
    match std::env::var_os("COLDFIT_MKINITCPIO") {
        Some(checkout) => {
            let read = |name: &str| fs::read_to_string(Path::new(&checkout).join(name)).unwrap();
            tree.write("init", &read("init"));
            tree.write("init_functions", &read("init_functions"));
            let udev = read("hooks/udev");
            let udev = udev.replace("@UDEVD_PATH@", "/usr/lib/systemd/systemd-udevd");
            tree.write("hooks/udev", &udev.replace("@TMPFILES_PATH@", "/no/tmpfiles"));
            for program in ["/bin/findmnt", "/bin/mount", "/bin/mountpoint"] {
                let name = program.trim_start_matches("/bin/");
                let _ = fs::remove_file(tree.at(&format!("usr/bin/{name}")));
                tree.program(program, name);
            }
        }
        None => tree.write("init", MKINITCPIO_INIT),
    }
    tree
}

#[test]
fn mkinitcpio_finds_its_root_disk_with_udev_and_by_its_list_alone() {
    let lab = Lab::new();
    let fails = Failure { says: "ERROR: ", arguments: "" };
    for hooks in ["base udev block filesystems", "base"] {
        let archive =
            common::pack(coldfit_initramfs::Compression::Zstd, &mkinitcpio_tree(&lab, hooks).cpio());
        lab.prove(&archive, Generator::Mkinitcpio, "", fails);
    }
}

/// What the init of mkinitfs does, by its `initramfs-init.in`: loads `modules=` and the root's filesystem, then what
/// `/etc/modules` names, then lets nlplug-findfs load drivers by alias until the root is there.
const MKINITFS_INIT: &str = "#!/bin/sh
export PATH=/usr/bin:/bin:/usr/sbin:/sbin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
for word in $(cat /proc/cmdline); do case $word in root=*) root=${word#root=};; rootfstype=*) type=${word#*=};; esac; done
modprobe -a $type loop squashfs 2>/dev/null
[ -f /etc/modules ] && sed 's/#.*//g' </etc/modules | while read module args; do modprobe -q $module $args; done
nlplug-findfs -p /sbin/mdev $root || { echo 'Launching initramfs emergency'; sleep 100; }
mount -t $type -o ro $(blkid -lt $root -o device) /sysroot
exec switch_root /sysroot /sbin/init
";
/// Stands for nlplug-findfs: asks kmod for every alias that the kernel shows.
const FINDFS: &str = "#!/bin/sh
for round in 1 2 3 4 5; do
    modprobe -qab $(cat $(ls -d /sys/devices/*/*/modalias /sys/devices/*/*/*/modalias /sys/devices/*/modalias 2>/dev/null))
    sleep 1
    [ -n \"$(blkid -lt $3 -o device)\" ] && exit 0
done
exit 1
";

#[test]
fn mkinitfs_finds_its_root_disk() {
    let lab = Lab::new();
    let tree = Tree::new();
    tree.busybox(&APPLETS);
    tree.kmod();
    tree.program("/sbin/blkid", "blkid");
    tree.modules(&lab.kernel, &["hv_storvsc", "ext4"]);
    tree.write("etc/mdev.conf", "");
    match std::env::var_os("COLDFIT_MKINITFS") {
        Some(checkout) => {
            let checkout = Path::new(&checkout);
            let init = fs::read_to_string(checkout.join("initramfs-init.in")).unwrap();
            tree.write("init", &init.replace("@VERSION@", "0"));
            tree.program(checkout.join("nlplug-findfs/nlplug-findfs").to_str().unwrap(), "nlplug-findfs");
            tree.busybox_rest();
        }
        None => {
            tree.write("init", MKINITFS_INIT);
            tree.write("usr/bin/nlplug-findfs", FINDFS);
        }
    }
    let archive = common::pack(coldfit_initramfs::Compression::Gzip, &tree.cpio());
    let fails = Failure { says: "Launching initramfs emergency", arguments: "" };
    lab.prove(&archive, Generator::AlpineMkinitfs, "rootfstype=ext4 modules=ext4", fails);
}
