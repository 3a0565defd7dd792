//! Images for the proof on real guests: installed from packages, then brought into a wrong state by
//! the guest itself. Each one tells its live values when it boots (`coldfit-live`).

use std::path::Path;
use std::time::Duration;

use super::base::guest_files;
use super::cloud_tree::{BOOKWORM, CloudTree, TRIXIE, TreeRecipe};
use super::debian12::CUSTOMISE;
use super::disk::RawDisk;
use super::proof::Proofs;
use super::{Built, Image, Place, Progress};
use crate::cache::{Cache, RecipeDigest};
use crate::error::{LabError, Result};
use crate::qemu::{Boot, Bus, DirectKernel, script_disk};
use crate::tool;

const DISK_MIB: u64 = 3072;

const BIOS_TABLE: &str = "label: dos\nlabel-id: 0xc01df176\n\
    start=2048, size=262144, type=82\nstart=264192, type=83, bootable\n";
const UEFI_TABLE: &str = "label: gpt\nlabel-id: C01DF175-0000-4000-8000-0000000000BA\n\
    start=2048, size=131072, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, uuid=C01DF175-0000-4000-8000-0000000000BB\n\
    start=133120, size=6156288, type=L, uuid=C01DF175-0000-4000-8000-0000000000BC, name=root\n";
const TRIXIE_TABLE: &str = "label: gpt\nlabel-id: C01DF175-0000-4000-8000-0000000000CA\n\
    start=2048, size=2048, type=21686148-6449-6E6F-744E-656564454649, uuid=C01DF175-0000-4000-8000-0000000000CB\n\
    start=4096, size=6285312, type=L, uuid=C01DF175-0000-4000-8000-0000000000CC, name=root\n";

type Files = &'static [(&'static str, &'static str)];

const COMMON: Files = guest_files!["cloud/common":
    "etc/default/locale",
    "etc/systemd/system/coldfit-live.service",
    "usr/local/sbin/coldfit-live",
];
const MARKER: Files = guest_files!["guest":
    "etc/systemd/system/coldfit-lab-marker.service",
    "usr/local/sbin/coldfit-lab-marker",
];
const OLD_LIFE: &str = include_str!("../../assets/cloud/common/old-life.sh");

const BIOS: Files = guest_files!["cloud/bios":
    "etc/adjtime",
    "etc/cloud/cloud.cfg.d/99-installer.cfg",
    "etc/default/grub",
    "etc/fstab",
    "etc/initramfs-tools/conf.d/resume",
    "etc/network/interfaces",
    "etc/ssh/sshd_config.d/10-site.conf",
    "etc/sysctl.d/99-zz-site.conf",
    "etc/systemd/network/10-lan0.link",
    "etc/udev/rules.d/70-persistent-net.rules",
    "root/.pip/pip.conf",
];
const UEFI: Files = guest_files!["cloud/uefi":
    "etc/adjtime",
    "etc/cloud/cloud-init.disabled",
    "etc/default/grub",
    "etc/default/grub.d/50-site.cfg",
    "etc/fstab",
    "etc/netplan/01-site.yaml",
    "etc/sysctl.d/60-site.conf",
];
const DEBIAN_13: Files = guest_files!["cloud/trixie":
    "etc/NetworkManager/system-connections/lan.nmconnection",
    "etc/cloud/cloud.cfg.d/99-installer.cfg",
    "etc/default/grub",
    "etc/fstab",
    "etc/sysctl.d/99-zz-site.conf",
    "etc/systemd/network/10-lan0.link",
];

type Prove = fn(&mut Proofs, &RawDisk, &Path) -> Result<()>;

/// What makes one of these images.
struct CloudRecipe {
    tree: TreeRecipe,
    is_second: bool,
    table: &'static str,
    root: u64,
    files: Files,
    customise: &'static str,
    prove: Prove,
}

fn recipe_of(image: Image) -> CloudRecipe {
    let (tree, is_second, table, files) = match image {
        Image::CloudUefi => (BOOKWORM, true, UEFI_TABLE, UEFI),
        Image::Cloud13 => (TRIXIE, false, TRIXIE_TABLE, DEBIAN_13),
        _ => (BOOKWORM, false, BIOS_TABLE, BIOS),
    };
    let (customise, prove): (_, Prove) = match image {
        Image::CloudUefi => (include_str!("../../assets/cloud/uefi/customise.sh"), Proofs::cloud_uefi),
        Image::Cloud13 => (include_str!("../../assets/cloud/trixie/customise.sh"), Proofs::cloud_13),
        _ => (include_str!("../../assets/cloud/bios/customise.sh"), Proofs::cloud_bios),
    };
    // In all three layouts something comes before root.
    CloudRecipe { tree, is_second, table, root: 2, files, customise, prove }
}

pub(super) fn build(image: Image, cache: &Cache, progress: Progress<'_>) -> Result<Built> {
    let recipe = recipe_of(image);
    let tree = CloudTree::build(recipe.tree, cache, progress)?;
    let mut script = format!("{CUSTOMISE}{OLD_LIFE}");
    for (path, content) in COMMON.iter().chain(MARKER).chain(recipe.files) {
        script.push_str(&write_in_guest(path, content));
    }
    script.push_str(recipe.customise);
    let digest = RecipeDigest::default()
        .with("image", image.name())
        .with("tree", tree.digest())
        .with("table", recipe.table)
        .with("script", &script)
        .short();
    let place = Place::new(cache, image, &digest)?;
    if let Some(built) = place.find() {
        return Ok(built);
    }
    let scratch = cache.scratch()?;
    let disk = RawDisk::partitioned(&scratch.path().join("disk.raw"), DISK_MIB, recipe.table)?;
    let filesystem = if recipe.is_second { tree.second() } else { tree.first() };
    disk.fill_partition(recipe.root, &filesystem, scratch.path())?;
    progress(&format!("{}: the guest installs and spoils itself (about two minutes)", image.name()));
    let root = recipe.root;
    let arguments =
        format!("root=/dev/sda{root} ro console=ttyS0 panic=-1 init=/bin/sh mitigations=off -- /dev/sr0");
    let marker = "COLDFIT-CUSTOMISED";
    let outcome = Boot::new(disk.path(), Bus::Ahci)
        .kernel(DirectKernel { kernel: tree.kernel(), initramfs: tree.initramfs(), arguments })
        .cd(script_disk(&script, scratch.path())?)
        .writable()
        .until_power_off()
        .marker(marker)
        .timeout(Duration::from_secs(900))
        .run(cache)?;
    if outcome.reached.is_none() {
        return Err(LabError::Guest {
            stage: image.name().into(),
            marker: marker.into(),
            log: tool::tail(&outcome.log(), 6000).to_owned(),
        });
    }
    progress(&format!("{}: proving", image.name()));
    let mut proofs = Proofs::new(image);
    (recipe.prove)(&mut proofs, &disk, scratch.path())?;
    let file = scratch.path().join("disk.qcow2");
    disk.to_qcow2(&file, &[])?;
    place.keep(image, &file, proofs.proved())
}

/// Shell text that writes a file into the guest.
fn write_in_guest(path: &str, content: &str) -> String {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    format!("mkdir -p /{folder}\ncat > /{path} <<'COLDFIT_END_OF_FILE'\n{content}COLDFIT_END_OF_FILE\n")
}
