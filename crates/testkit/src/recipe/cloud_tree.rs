//! Debian trees with what a cloud's guest has: cloud-init, sshd, a time daemon, a firewall.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::Progress;
use super::base::{DPKG_OPTIONS, quoted, write_below};
use crate::cache::{Cache, RecipeDigest};
use crate::error::{Result, at};
use crate::{apt, tool};

const HOOK: &str = include_str!("../../assets/cloud/tree-hook.sh");

/// Which packages make a tree, and which lead from it to a second one.
#[derive(Debug, Clone, Copy)]
pub(super) struct TreeRecipe {
    pub(super) release: &'static str,
    /// Separated by commas, as mmdebstrap wants them.
    pub(super) packages: &'static str,
    /// Separated by blanks, as apt-get wants them; empty when there is no second tree.
    pub(super) second: &'static str,
}

/// Debian 12: first BIOS with ifupdown, chrony, firewalld and the guest agent; then UEFI with netplan.
pub(super) const BOOKWORM: TreeRecipe = TreeRecipe {
    release: "bookworm",
    packages: "systemd-sysv,dbus,linux-image-amd64,initramfs-tools,grub-pc,ifupdown,isc-dhcp-client,e2fsprogs,udev,kmod,\
               zstd,debconf,iproute2,procps,cloud-init,cloud-guest-utils,fdisk,openssh-server,chrony,firewalld,\
               qemu-guest-agent",
    second: "netplan.io systemd-resolved systemd-timesyncd grub-efi-amd64 dosfstools chrony- ifupdown- firewalld-",
};

/// Debian 13: NetworkManager, chrony, the guest agent. Its cloud-init conflicts with firewalld.
pub(super) const TRIXIE: TreeRecipe = TreeRecipe {
    release: "trixie",
    packages: "systemd-sysv,dbus,linux-image-amd64,initramfs-tools,grub-pc,network-manager,e2fsprogs,udev,kmod,zstd,\
               debconf,iproute2,procps,cloud-init,cloud-guest-utils,fdisk,openssh-server,chrony,qemu-guest-agent",
    second: "",
};

/// A built tree.
#[derive(Debug, Clone)]
pub(super) struct CloudTree {
    folder: PathBuf,
    digest: String,
}

impl CloudTree {
    /// The tree as ext4, 1600 MiB, without a bootloader.
    pub(super) fn first(&self) -> PathBuf {
        self.folder.join("first.ext4")
    }

    /// The second tree of the recipe.
    pub(super) fn second(&self) -> PathBuf {
        self.folder.join("second.ext4")
    }

    /// Its kernel.
    pub(super) fn kernel(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    /// Its initramfs with all drivers.
    pub(super) fn initramfs(&self) -> PathBuf {
        self.folder.join("initrd.img")
    }

    /// Names what this tree was made from.
    pub(super) fn digest(&self) -> &str {
        &self.digest
    }

    /// Builds the tree, or finds it in the cache.
    pub(super) fn build(recipe: TreeRecipe, cache: &Cache, progress: Progress<'_>) -> Result<Self> {
        let options = options_of(recipe);
        let mut digest = RecipeDigest::default()
            .with("hook", HOOK)
            .with("release", recipe.release)
            .with("second", recipe.second);
        for option in &options {
            digest = digest.with("option", option);
        }
        let digest = digest.short();
        let tree = Self { folder: cache.path(&format!("cloud-tree/{digest}"))?, digest };
        if tree.folder.exists() {
            return Ok(tree);
        }
        progress(&format!("{}: tree with cloud-init from packages (one to two minutes)", recipe.release));
        let scratch = cache.scratch()?;
        let out = scratch.path().join("out");
        fs::create_dir(&out).map_err(at(&out))?;
        // In its unshare mode mmdebstrap runs as another user.
        for (folder, mode) in [(scratch.path(), 0o755), (&out, 0o777)] {
            fs::set_permissions(folder, fs::Permissions::from_mode(mode)).map_err(at(folder))?;
        }
        write_below(scratch.path(), "hook.sh", HOOK)?;
        write_below(scratch.path(), "debian.sources", &apt::sources_of(recipe.release)?)?;
        let mut args = options;
        args.push(format!(
            "--customize-hook=sh {hook} \"$1\" {out} {second}",
            hook = quoted(&scratch.path().join("hook.sh"))?,
            out = quoted(&out)?,
            second = recipe.second,
        ));
        args.extend([recipe.release.into(), "/dev/null".into()]);
        args.push(scratch.path().join("debian.sources").display().to_string());
        let mut command = tool::command("mmdebstrap", args);
        tool::finish(command.env("TMPDIR", scratch.path()))?;
        fs::rename(&out, &tree.folder).map_err(at(&tree.folder))?;
        Ok(tree)
    }
}

fn options_of(recipe: TreeRecipe) -> Vec<String> {
    let mut options = vec![
        "--quiet".into(),
        "--format=null".into(),
        "--variant=essential".into(),
        format!("--include={}", recipe.packages),
    ];
    options.extend(DPKG_OPTIONS.iter().map(|option| format!("--dpkgopt={option}")));
    options
}
