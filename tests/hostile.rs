//! Damaged and malicious images against the real program, with 512 MiB of memory and 10 seconds of processor
//! time: it ends by itself with a documented exit code, never with a bug's (70) or a signal; a refusal leaves
//! every byte; what a guest chose reaches the terminal escaped; and a change that is committed makes the image
//! no worse in the eyes of e2fsck and qemu-img.
//!
//! The memory limit is `RLIMIT_DATA`: private writable mappings, that is heap, anonymous maps and the stacks of
//! threads; the address space is limited to twice as much. Rust aborts when an allocation fails, so that a
//! breach is a signal.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests fail the test and say what they saw"
)]

mod support;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use support::{text, tool};

const MIB: u64 = 1 << 20;
const KVER: &str = "6.1.0-28-amd64";
const UUID: &str = "0f6b1c6e-53b5-4f6e-9d4b-1f9bb3a6a001";
/// Where the filesystem of a partitioned disk starts.
const START: u64 = MIB;
/// Size of the filesystem.
const SIZE: u64 = 8 * MIB;

/// Modules of the phony kernel and what they need.
const MODULES: [(&str, &str); 12] = [
    ("virtio/virtio", ""),
    ("virtio/virtio_ring", ""),
    ("virtio/virtio_pci", "virtio/virtio_ring virtio/virtio"),
    ("block/virtio_blk", "virtio/virtio_ring virtio/virtio"),
    ("net/virtio_net", "virtio/virtio_ring virtio/virtio"),
    ("scsi/scsi_mod", ""),
    ("scsi/virtio_scsi", "virtio/virtio_ring virtio/virtio scsi/scsi_mod"),
    ("scsi/sd_mod", "scsi/scsi_mod"),
    ("ata/libata", "scsi/scsi_mod"),
    ("ata/ahci", "ata/libata scsi/scsi_mod"),
    ("nvme/host/nvme-core", ""),
    ("nvme/host/nvme", "nvme/host/nvme-core"),
];

fn shell(script: &str, arguments: &[&Path]) -> String {
    let script = format!("set -eo pipefail; {script}");
    let fixed = ["-c".as_ref(), script.as_ref(), "bash".as_ref()];
    tool("bash", fixed.into_iter().chain(arguments.iter().map(|path| path.as_os_str())))
}

fn put(tree: &Path, path: &str, content: impl AsRef<[u8]>) {
    let path = tree.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

/// A relocatable object whose only section of interest is `.modinfo`.
fn module(name: &str) -> Vec<u8> {
    let info = format!("license=GPL\0name={}\0vermagic={KVER} SMP\0", name.rsplit('/').next().unwrap());
    let names = "\0.modinfo\0.shstrtab\0";
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x01\0\x3e\0\x01\0\0\0".to_vec();
    let table = (64 + info.len() + names.len()).next_multiple_of(8);
    elf.resize(40, 0);
    elf.extend((table as u64).to_le_bytes());
    elf.extend([0, 0, 0, 0, 64, 0, 0, 0, 0, 0, 64, 0, 3, 0, 2, 0]);
    elf.extend(info.bytes().chain(names.bytes()));
    elf.resize(table + 64, 0);
    for (name, kind, offset, len) in [(1_u32, 1_u32, 64, info.len()), (10, 3, 64 + info.len(), names.len())] {
        elf.extend([name, kind].iter().flat_map(|word| word.to_le_bytes()));
        let words = [2, 0, offset as u64, len as u64, 0, 1, 0];
        elf.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    }
    elf
}

/// Writes the modules `wanted` and their index below `tree`.
fn put_modules(tree: &Path, wanted: impl Fn(&str) -> bool) {
    let mut index = String::new();
    let file = |name: &str| format!("kernel/drivers/{name}.ko");
    for (name, needs) in MODULES.iter().filter(|(name, _)| wanted(name)) {
        let needs: Vec<String> = needs.split_whitespace().map(file).collect();
        writeln!(index, "{}", format!("{}: {}", file(name), needs.join(" ")).trim_end()).unwrap();
        put(tree, &format!("usr/lib/modules/{KVER}/{}", file(name)), module(name));
    }
    put(tree, &format!("usr/lib/modules/{KVER}/modules.dep"), index);
    put(
        tree,
        &format!("usr/lib/modules/{KVER}/modules.alias"),
        "alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci\n",
    );
    std::os::unix::fs::symlink("usr/lib", tree.join("lib")).unwrap();
}

/// A folder with a phony Debian guest, whose initramfs comes from GNU cpio and `compressor`.
fn phony_guest(folder: &Path, compressor: &str) -> PathBuf {
    let tree = folder.join("tree");
    let ramdisk = folder.join("ramdisk");
    put(&ramdisk, "init", "#!/bin/sh\n");
    put(&ramdisk, "conf/initramfs.conf", "MODULES=dep\n");
    put(&ramdisk, "scripts/functions", "");
    put(&ramdisk, "usr/bin/udevadm", "udev");
    put_modules(&ramdisk, |name| name.starts_with("ata/") || name.starts_with("scsi/s"));
    put(
        &tree,
        "etc/fstab",
        format!("UUID={UUID} / ext4 errors=remount-ro 0 1\nproc /proc proc defaults 0 0\n"),
    );
    put(&tree, "etc/os-release", "PRETTY_NAME=\"Debian GNU/Linux 12\"\nVERSION_ID=\"12\"\nID=debian\n");
    put(&tree, "etc/passwd", "root:x:0:0::/root:/bin/sh\n");
    put(&tree, "etc/default/grub", "GRUB_DEFAULT=0\nGRUB_CMDLINE_LINUX_DEFAULT=\"quiet\"\n");
    put(&tree, "etc/network/interfaces", "auto lo\niface lo inet loopback\niface ens3 inet dhcp\n");
    put(&tree, "usr/sbin/init", "#!/bin/sh\n");
    put(&tree, "var/lib/dpkg/status", "");
    put(&tree, "var/lib/dpkg/info/qemu-guest-agent.list", "/.\n/usr/sbin/qemu-ga\n");
    for (number, size) in [(1, 10), (2, 5000), (3, 70_000)] {
        put(&tree, &format!("srv/data/file{number}"), vec![number; size]);
    }
    for number in 0..60 {
        put(&tree, &format!("srv/many/a name of some length, number {number}"), "");
    }
    std::os::unix::fs::symlink("usr/sbin", tree.join("sbin")).unwrap();
    put_modules(&tree, |_| true);
    put(&tree, &format!("boot/vmlinuz-{KVER}"), "kernel");
    put(&tree, &format!("boot/config-{KVER}"), "CONFIG_EXT4_FS=y\nCONFIG_RD_GZIP=y\nCONFIG_RD_XZ=y\n");
    let entry = format!(
        "\tsearch --no-floppy --fs-uuid --set=root {UUID}\n\
         \tlinux\t/boot/vmlinuz-{KVER} root=/dev/sda1 ro quiet\n\tinitrd\t/boot/initrd.img-{KVER}\n"
    );
    put(
        &tree,
        "boot/grub/grub.cfg",
        format!(
            "set default=\"0\"\nmenuentry 'Debian' $menuentry_id_option 'simple-{UUID}' {{\n{entry}}}\n\
             submenu 'Advanced' {{\nmenuentry 'Debian, {KVER}' {{\n{entry}}}\n}}\n"
        ),
    );
    put(&tree, "boot/grub/i386-pc/normal.mod", "");
    let pack =
        format!("cd \"$1\"; find . | LC_ALL=C sort | cpio -o -H newc -R 0:0 --quiet | {compressor} > \"$2\"");
    shell(&pack, &[&ramdisk, &tree.join(format!("boot/initrd.img-{KVER}"))]);
    tree
}

/// An image for the mutations, with the files that belong to it.
struct Target {
    dir: tempfile::TempDir,
    image: PathBuf,
    pristine: Vec<u8>,
    /// Where damage does most: (start, length).
    places: Vec<(u64, u64)>,
    layout: Layout,
    options: Vec<&'static str>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    Whole,
    Mbr,
    Gpt,
    Qcow2,
}

/// A raw disk: the guest in a filesystem made with `mkfs`, `script` run by debugfs, a table around it.
fn raw_disk(mkfs: &str, compressor: &str, script: &str, layout: Layout) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let tree = phony_guest(dir.path(), compressor);
    let (filesystem, image) = (dir.path().join("fs"), dir.path().join("image"));
    std::fs::create_dir(&image).unwrap();
    let image = image.join("disk");
    let make = format!("mke2fs -q {mkfs} -E root_owner=0:0 -U {UUID} -d \"$1\" \"$2\" {}k", SIZE / 1024);
    shell(&make, &[&tree, &filesystem]);
    if !script.is_empty() {
        debugfs(&filesystem, script);
    }
    if layout == Layout::Whole {
        std::fs::rename(&filesystem, &image).unwrap();
        return (dir, image);
    }
    let label = if layout == Layout::Gpt { "label: gpt" } else { "label: dos" };
    std::fs::File::create(&image).unwrap().set_len(SIZE + 2 * MIB).unwrap();
    let table = format!(
        "printf '{label}\\nstart={}, size={}, type=linux\\n' | sfdisk -q \"$1\"; \
         dd if=\"$2\" of=\"$1\" bs=1M seek=1 conv=notrunc,sparse status=none",
        START / 512,
        SIZE / 512
    );
    shell(&table, &[&image, &filesystem]);
    std::fs::remove_file(&filesystem).unwrap();
    (dir, image)
}

/// Runs requests of debugfs, one a line, on a filesystem that may be changed.
fn debugfs(filesystem: &Path, requests: &str) {
    let mut command = testkit::tool::command(
        "debugfs",
        ["-w".as_ref(), "-f".as_ref(), "-".as_ref(), filesystem.as_os_str()],
    );
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(requests.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{requests}");
}

impl Target {
    fn raw(mkfs: &str, compressor: &str, script: &str, layout: Layout) -> Self {
        let (dir, image) = raw_disk(mkfs, compressor, script, layout);
        let start = if layout == Layout::Whole { 0 } else { START };
        // The table; superblock and descriptors; then bitmaps, inode tables, the first directories.
        let places = vec![(0, 4096), (start + 1024, 1024), (start + 2048, 4096), (start, 768 << 10)];
        Self::with(dir, image, places, layout, Vec::new())
    }

    fn qcow2(convert: &str, options: Vec<&'static str>) -> Self {
        let (dir, raw) = raw_disk("-t ext4 -O ^metadata_csum", "gzip -n", "", Layout::Mbr);
        let image = raw.with_file_name("disk.qcow2");
        shell(convert, &[&raw, &image]);
        if !convert.contains("backing") {
            std::fs::remove_file(&raw).unwrap();
        }
        let places = vec![(0, 112), (0, 1024), (0, 64 << 10), (64 << 10, 256 << 10)];
        Self::with(dir, image, places, Layout::Qcow2, options)
    }

    fn with(
        dir: tempfile::TempDir,
        image: PathBuf,
        mut places: Vec<(u64, u64)>,
        layout: Layout,
        options: Vec<&'static str>,
    ) -> Self {
        let pristine = std::fs::read(&image).unwrap();
        places.retain(|(start, len)| start + len <= pristine.len() as u64);
        Self { dir, image, pristine, places, layout, options }
    }

    /// Damages the file in one to four places.
    fn damage(&self, random: &mut Random) -> Vec<u8> {
        let mut bytes = self.pristine.clone();
        for _ in 0..=random.below(4) {
            // Half of the damage goes where something is: pages of the file that are not zero.
            let (start, len) = if random.below(2) == 0 {
                let mut page = random.below(bytes.len() as u64 / 512) as usize;
                while bytes[page * 512..(page + 1) * 512].iter().all(|byte| *byte == 0) {
                    page = (page + 1) % (bytes.len() / 512);
                }
                (page as u64 * 512, 512)
            } else {
                self.places[random.below(self.places.len() as u64) as usize]
            };
            let width = [1, 2, 4, 8][random.below(4) as usize];
            let at = (start + random.below((len - width) / width + 1) * width) as usize;
            let field = &mut bytes[at..at + width as usize];
            match random.below(5) {
                0 => field.fill(0xff),
                1 => field.fill(0),
                2 => field[0] ^= 1 << random.below(8),
                3 => field.copy_from_slice(&random.below(1 << 16).to_le_bytes()[..width as usize]),
                _ => field.copy_from_slice(&(1u64 << random.below(64)).to_be_bytes()[8 - width as usize..]),
            }
        }
        bytes
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 20) % limit
    }
}

/// One command under the limits; its outcome is a documented one and its output shows no control character.
fn limited(arguments: &[&str]) -> (i32, Output) {
    let started = Instant::now();
    let mut command = Command::new("prlimit");
    let mut child = command
        .args(["--data=536870912", "--as=1073741824", "--cpu=10", "--core=0", "--"])
        .args(["timeout", "-k", "1", "30", env!("CARGO_BIN_EXE_coldfit")])
        .args(arguments)
        .env("SOURCE_DATE_EPOCH", "1700000000")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The program may end before it reads.
    let _ = child.stdin.take().unwrap().write_all(b"some new content\n");
    let output = child.wait_with_output().unwrap();
    let all = format!("{}{}", text(&output.stdout), text(&output.stderr));
    let code = output.status.code().unwrap_or(-1);
    let shown: String = all.chars().take(3000).collect();
    // What the arguments name may be what the damage took away.
    let is_usage = all.contains("guest.root.ambiguous") || all.contains("names no layer");
    let is_known = matches!(code, 0 | 1 | 3..=6) || (code == 2 && is_usage);
    assert!(
        is_known,
        "exit {code} ({}) after {:?}: {arguments:?}\n{shown}",
        output.status,
        started.elapsed()
    );
    let control = all.chars().find(|c| c.is_control() && !matches!(c, '\n' | '\t'));
    assert_eq!(control, None, "{arguments:?} shows a control character\n{shown}");
    if started.elapsed() > Duration::from_secs(3) {
        eprintln!("slow: {:?} {arguments:?} exit {code}", started.elapsed());
    }
    (code, output)
}

/// What e2fsck or qemu-img finds in an image, numbers left out; `None` when it finds nothing.
fn findings(target: &Target, image: &Path) -> Option<BTreeSet<String>> {
    let mut command = if target.layout == Layout::Qcow2 {
        Command::new("qemu-img").args(["check", "-q"]).arg(image).output().unwrap()
    } else {
        let start = if target.layout == Layout::Whole { 0 } else { START };
        let mut device = image.as_os_str().to_owned();
        device.push(format!("?offset={start}"));
        // A replay first: a check without one sees a filesystem that nobody would see.
        let copy = target.dir.path().join("judged");
        std::fs::copy(image, &copy).unwrap();
        let mut device = copy.into_os_string();
        device.push(format!("?offset={start}"));
        Command::new("e2fsck").args(["-fy", "-E", "journal_only"]).arg(&device).output().unwrap();
        Command::new("e2fsck").arg("-fn").arg(&device).output().unwrap()
    };
    if command.status.code() == Some(0) {
        return None;
    }
    command.stdout.extend(command.stderr);
    let plain = text(&command.stdout);
    Some(plain.lines().map(|line| line.chars().filter(|c| !c.is_ascii_digit()).collect()).collect())
}

/// Runs every command on one damaged image. Returns how many of the changes were committed.
fn judge(target: &Target, bytes: &[u8], what: &str) -> usize {
    let image = target.image.to_str().unwrap();
    let beside = || std::fs::read_dir(target.image.parent().unwrap()).unwrap().count();
    let (files, slash) = (beside(), format!("{image}:/"));
    let new_file = format!("{image}:/etc/new");
    let directory = format!("{image}:/srv");
    let changes: [&[&str]; 3] = [
        &["write", &new_file],
        &["rm", "--recursive", &directory],
        &["fix", image, "--profile", "kvm", "--diff"],
    ];
    let by_uuid = format!("UUID={UUID}");
    let filesystem = if target.layout == Layout::Whole { &by_uuid } else { "1" };
    let looks: [&[&str]; 7] = [
        &["inspect", image],
        &["fsck", image],
        &["ls", "-lR", &slash],
        &["initramfs", "list", image],
        &["dump", image, "image"],
        &["dump", image, "partitions"],
        &["dump", image, filesystem],
    ];
    let write = |bytes: &[u8]| std::fs::write(&target.image, bytes).unwrap();
    let is_same = || std::fs::read(&target.image).unwrap() == bytes;
    write(bytes);
    for look in looks {
        limited(&[look, &target.options].concat());
        assert!(is_same(), "{what}: {look:?} changed the image");
    }
    let mut committed = 0;
    for change in changes {
        let (code, output) = limited(&[change, &target.options].concat());
        assert_eq!(beside(), files, "{what}: {change:?} left a file behind");
        if is_same() {
            if code != 0 && bytes == target.pristine {
                eprintln!("{what}: {change:?}: {}", text(&output.stderr));
            }
            continue;
        }
        assert_eq!(code, 0, "{what}: {change:?} failed and changed the image");
        committed += 1;
        let after = findings(target, &target.image);
        let changed = target.dir.path().join("changed");
        std::fs::copy(&target.image, &changed).unwrap();
        write(bytes);
        let before = findings(target, &target.image);
        if before.is_none() {
            assert_eq!(after, None, "{what}: {change:?} broke a clean image, kept as {}", changed.display());
        } else if let (Some(after), Some(before)) = (after, before)
            && !after.is_subset(&before)
        {
            eprintln!(
                "{what}: {change:?}: other findings than before: {:?}",
                after.difference(&before).collect::<Vec<_>>()
            );
        }
    }
    committed
}

/// Mutations of one image by the dozen.
fn mutate(target: &Target, seed: u64) {
    let mut random = Random(seed);
    assert_eq!(judge(target, &target.pristine, "the image as it was made"), 3);
    let rounds: u64 = std::env::var("COLDFIT_HOSTILE_ROUNDS").map_or(12, |text| text.parse().unwrap());
    let mut committed = 0;
    for round in 0..rounds {
        let bytes = target.damage(&mut random);
        committed += judge(target, &bytes, &format!("seed {seed}, round {round}"));
    }
    eprintln!("seed {seed}: {committed} of {} changes committed", rounds * 3);
    std::fs::write(&target.image, &target.pristine).unwrap();
}

#[test]
fn damaged_mbr_disks() {
    mutate(&Target::raw("-t ext4 -O ^metadata_csum", "gzip -n", "", Layout::Mbr), 1);
    mutate(&Target::raw("-t ext4 -O ^metadata_csum,inline_data -I 256", "zstd -q", "", Layout::Mbr), 2);
}

#[test]
fn damaged_gpt_disks() {
    let mut target = Target::raw("-t ext4", "xz --check=crc32", "", Layout::Gpt);
    // The backup is damaged, so that the primary copy alone is left.
    let end = target.pristine.len();
    target.pristine[end - 500] ^= 1;
    mutate(&target, 3);
}

#[test]
fn damaged_filesystems_on_whole_disks() {
    mutate(&Target::raw("-t ext3 -b 1024", "cat", "", Layout::Whole), 4);
    mutate(&Target::raw("-t ext4 -b 1024 -O ^metadata_csum,^64bit -I 128", "gzip -n", "", Layout::Whole), 5);
    mutate(&Target::raw("-t ext2 -b 4096", "lz4 -lq", "", Layout::Whole), 6);
}

#[test]
fn damaged_journals() {
    let dir = tempfile::tempdir().unwrap();
    let block = dir.path().join("block");
    std::fs::write(&block, vec![b'j'; 1024]).unwrap();
    let script =
        format!("jo\njw -b 8100 {}\njw -r 8101\njw -b 8102,8103 {}\njc\n", block.display(), block.display());
    let mut target = Target::raw("-t ext4 -b 1024 -O ^metadata_csum", "gzip -n", &script, Layout::Whole);
    // jbd2's magic: journal superblock, descriptor and commit blocks.
    let magic = 0xc03b_3998_u32.to_be_bytes();
    let starts: Vec<usize> = (0..target.pristine.len())
        .step_by(1024)
        .filter(|at| target.pristine[*at..].starts_with(&magic))
        .collect();
    assert!(starts.len() > 3, "{starts:?}");
    target.places = starts.iter().flat_map(|start| [(*start as u64, 64), (*start as u64, 256)]).collect();
    mutate(&target, 7);
}

#[test]
fn damaged_qcow2_images() {
    let convert = "qemu-img convert -q -O qcow2";
    mutate(&Target::qcow2(&format!("{convert} \"$1\" \"$2\""), Vec::new()), 8);
    mutate(&Target::qcow2(&format!("{convert} -c -o cluster_size=4k \"$1\" \"$2\""), Vec::new()), 9);
    let snapshot = format!("{convert} \"$1\" \"$2\"; qemu-img snapshot -c one \"$2\"");
    mutate(&Target::qcow2(&snapshot, Vec::new()), 10);
}

#[test]
fn damaged_overlays() {
    let backing = "cd \"$(dirname \"$2\")\"; qemu-img create -q -f qcow2 -F raw -b disk \"$2\"; \
                   qemu-io -f qcow2 -c 'write -P 7 9M 64k' \"$2\" > \"$2.log\"; rm \"$2.log\" # backing";
    let mut target = Target::qcow2(backing, Vec::new());
    let folder = target.image.parent().unwrap().to_str().unwrap().to_owned();
    target.options = vec!["--allow-backing", folder.leak()];
    mutate(&target, 11);
}

/// Runs every command on an image that was made to cost time or memory, or to mislead.
fn withstand(target: &Target, more: &[&[&str]]) {
    judge(target, &target.pristine, "the bomb");
    for arguments in more {
        limited(&[arguments, target.options.as_slice()].concat());
    }
}

#[test]
fn an_initramfs_that_unpacks_to_gigabytes() {
    for compressor in ["xz -0 --check=crc32", "zstd -q", "bzip2", "xz -0 --format=lzma"] {
        let bomb = format!(
            "cat > /dev/null; folder=$(mktemp -d); cd $folder; truncate -s 16000000 a.ko b.ko; \
             printf '%s\\n' a.ko b.ko | cpio -o -H newc --quiet | {compressor} > packed; \
             for i in $(seq 128); do cat packed; done; rm -r $folder"
        );
        let target = Target::raw("-t ext4", &bomb, "", Layout::Mbr);
        let file = format!("{}:/boot/initrd.img-{KVER}", target.image.display());
        withstand(&target, &[&["initramfs", "show", &file]]);
    }
}

#[test]
fn directories_in_circles_and_sizes_beyond_all_bounds() {
    let circles = "mkdir /srv/loop\nmkdir /srv/loop/in\nlink /srv/loop /srv/loop/in/up\nlink / /srv/root\n\
                   link /srv/data /srv/hard\n";
    withstand(&Target::raw("-t ext4 -O ^metadata_csum", "cat", circles, Layout::Mbr), &[]);
    let initramfs = format!("/boot/initrd.img-{KVER}");
    for file in ["/etc/fstab", "/boot/grub/grub.cfg", "/etc/default/grub", initramfs.as_str()] {
        for size in [255 << 20, 1_u64 << 40] {
            let script = format!("set_inode_field {file} size {size}\n");
            withstand(&Target::raw("-t ext4 -O ^metadata_csum", "cat", &script, Layout::Mbr), &[]);
        }
    }
}

#[test]
fn names_and_links_that_mislead() {
    let mut script = String::from("cd /srv\nsymlink self self\nsymlink deep0 /etc/fstab\n");
    for depth in 1..200 {
        writeln!(script, "symlink deep{depth} deep{}", depth - 1).unwrap();
    }
    script.push_str("symlink /srv/data/esc \u{1b}]0;title\u{7}\nwrite /dev/null bad\u{1b}[2Jname\u{9b}x\n");
    let target = Target::raw("-t ext4 -O ^metadata_csum", "cat", &script, Layout::Mbr);
    let at = |path: &str| format!("{}:/srv/{path}", target.image.display());
    let (own, deep, escape) = (at("self"), at("deep199"), at("data/esc"));
    withstand(&target, &[&["cat", &own], &["cat", &deep], &["stat", &escape], &["ls", &escape]]);
    assert_eq!(limited(&["cat", &own]).0, 5);
}

#[test]
fn tables_that_claim_too_much() {
    let mut gpt = Target::raw("-t ext4", "cat", "", Layout::Gpt);
    let end = gpt.pristine.len();
    for header in [512, end - 512] {
        // The number of entries.
        gpt.pristine[header + 80..header + 84].fill(0xff);
        gpt.pristine[header + 16..header + 20].fill(0);
        let sum = crc32(&gpt.pristine[header..header + 92]);
        gpt.pristine[header + 16..header + 20].copy_from_slice(&sum.to_le_bytes());
    }
    withstand(&gpt, &[]);
    // An extended partition whose only record points to itself.
    let mut mbr = Target::raw("-t ext4", "cat", "", Layout::Mbr);
    let last = (START + SIZE) as u32 / 512;
    mbr.pristine[462..478].fill(0);
    mbr.pristine[466] = 5;
    mbr.pristine[470..474].copy_from_slice(&last.to_le_bytes());
    mbr.pristine[474..478].copy_from_slice(&2048_u32.to_le_bytes());
    let record = (START + SIZE) as usize;
    mbr.pristine[record + 510..record + 512].copy_from_slice(&[0x55, 0xaa]);
    mbr.pristine[record + 466] = 5;
    mbr.pristine[record + 474..record + 478].copy_from_slice(&2048_u32.to_le_bytes());
    withstand(&mbr, &[]);
}

/// CRC-32 as GPT headers have it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

#[test]
fn qcow2_headers_that_claim_too_much() {
    let mut target = Target::qcow2("qemu-img convert -q -O qcow2 \"$1\" \"$2\"", Vec::new());
    let pristine = target.pristine.clone();
    // Byte, value and width of: virtual size, L1 entries, refcount table clusters, snapshots, cluster bits.
    let claims: [(usize, u64, usize); 9] = [
        (24, 1 << 62, 8),
        (24, 1 << 50, 8),
        (24, 1 << 46, 8),
        (36, 0xffff_ffff, 4),
        (36, 4 << 20, 4),
        (56, 0xffff_ffff, 4),
        (56, 128, 4),
        (60, 0xffff_ffff, 4),
        (20, 9, 4),
    ];
    for (at, value, width) in claims {
        target.pristine = pristine.clone();
        target.pristine[at..at + width].copy_from_slice(&value.to_be_bytes()[8 - width..]);
        withstand(&target, &[]);
    }
    // Sparse files whose length alone asks for a large count of references.
    for (size, bits) in [("2T", 16), ("200G", 12), ("30G", 9)] {
        let create =
            format!("qemu-img create -q -f qcow2 -o cluster_size={} \"$2\" 1G > /dev/null", 1 << bits);
        let target = Target::qcow2(&create, Vec::new());
        tool("truncate", ["-s".as_ref(), size.as_ref(), target.image.as_os_str()]);
        let image = target.image.to_str().unwrap();
        for arguments in [&["fsck", image][..], &["inspect", image], &["dump", image, "image"]] {
            limited(arguments);
        }
    }
}
