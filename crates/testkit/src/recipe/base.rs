//! The Debian tree from packages, as ext4 images that the recipes start from.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::Progress;
use crate::cache::{Cache, RecipeDigest};
use crate::error::{LabError, Result, at};
use crate::{apt, tool};

const RELEASE: &str = "bookworm";
const PACKAGES: &str =
    "systemd-sysv,linux-image-amd64,initramfs-tools,grub-pc,ifupdown,e2fsprogs,udev,kmod,zstd,debconf";

/// What no virtual machine needs. It keeps an image within a few hundred MiB and its boot within a
/// minute under software emulation; the module indexes stay those of a real installation.
pub(super) const DPKG_OPTIONS: &[&str] = &[
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/doc/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/lib/modules/*/kernel/sound/*",
    "path-exclude=/lib/modules/*/kernel/drivers/gpu/*",
    "path-exclude=/lib/modules/*/kernel/drivers/media/*",
    "path-exclude=/lib/modules/*/kernel/drivers/staging/*",
    "path-exclude=/lib/modules/*/kernel/drivers/infiniband/*",
    "path-exclude=/lib/modules/*/kernel/drivers/net/wireless/*",
    "path-exclude=/lib/modules/*/kernel/drivers/net/ethernet/*",
    "path-include=/lib/modules/*/kernel/drivers/net/ethernet/intel/e1000*",
];

const HOOK: &str = include_str!("../../assets/base-hook.sh");

macro_rules! guest_files {
    ($folder:literal: $($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../assets/", $folder, "/", $path)))),*]
    };
}
pub(super) use guest_files;

/// Files that the tree gets beside its packages.
const GUEST_FILES: &[(&str, &str)] = guest_files!["guest":
    "etc/default/grub",
    "etc/hostname",
    "etc/hosts",
    "etc/network/interfaces",
    "etc/systemd/system/coldfit-lab-marker.service",
    "usr/local/sbin/coldfit-lab-marker",
];

/// A built base.
#[derive(Debug, Clone)]
pub(super) struct Base {
    folder: PathBuf,
    digest: String,
}

impl Base {
    /// ext4, 1600 MiB: one kernel, no bootloader, an initramfs with all drivers.
    pub(super) fn one_kernel(&self) -> PathBuf {
        self.folder.join("one-kernel.ext4")
    }

    /// The same with the previous kernel of the release beside the newest.
    pub(super) fn two_kernels(&self) -> PathBuf {
        self.folder.join("two-kernels.ext4")
    }

    /// The newest kernel.
    pub(super) fn kernel(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    /// Its initramfs with all drivers.
    pub(super) fn initramfs(&self) -> PathBuf {
        self.folder.join("initrd.img")
    }

    /// Names what this base was made from.
    pub(super) fn digest(&self) -> &str {
        &self.digest
    }

    /// Builds the base, or finds it in the cache.
    pub(super) fn build(cache: &Cache, progress: Progress<'_>) -> Result<Self> {
        let digest = Self::recipe_digest();
        let base = Self { folder: cache.path(&format!("base/{digest}"))?, digest };
        if base.folder.exists() {
            return Ok(base);
        }
        progress("base: Debian tree from packages (about a minute)");
        let scratch = cache.scratch()?;
        let (files, out) = (scratch.path().join("files"), scratch.path().join("out"));
        fs::create_dir(&out).map_err(at(&out))?;
        // In its unshare mode mmdebstrap runs as another user.
        for (folder, mode) in [(scratch.path(), 0o755), (&out, 0o777)] {
            fs::set_permissions(folder, fs::Permissions::from_mode(mode)).map_err(at(folder))?;
        }
        for (path, content) in GUEST_FILES {
            write_below(&files, path, content)?;
        }
        write_below(scratch.path(), "hook.sh", HOOK)?;
        write_below(scratch.path(), "debian.sources", &apt::sources_of(RELEASE)?)?;
        let mut args = Self::mmdebstrap_options();
        args.push(format!(
            "--customize-hook=sh {hook} \"$1\" {out} {files}",
            hook = quoted(&scratch.path().join("hook.sh"))?,
            out = quoted(&out)?,
            files = quoted(&files)?,
        ));
        args.extend([RELEASE.into(), "/dev/null".into()]);
        args.push(scratch.path().join("debian.sources").display().to_string());
        let mut command = tool::command("mmdebstrap", args);
        tool::finish(command.env("TMPDIR", scratch.path()))?;
        fs::rename(&out, &base.folder).map_err(at(&base.folder))?;
        Ok(base)
    }

    fn mmdebstrap_options() -> Vec<String> {
        let mut args = vec![
            "--quiet".into(),
            "--format=null".into(),
            "--variant=essential".into(),
            format!("--include={PACKAGES}"),
        ];
        args.extend(DPKG_OPTIONS.iter().map(|option| format!("--dpkgopt={option}")));
        args
    }

    fn recipe_digest() -> String {
        let mut digest = RecipeDigest::default().with("hook", HOOK);
        for option in Self::mmdebstrap_options() {
            digest = digest.with("option", option);
        }
        for (path, content) in GUEST_FILES {
            digest = digest.with(path, content);
        }
        digest.short()
    }
}

pub(super) fn write_below(folder: &Path, relative: &str, content: &str) -> Result<()> {
    let path = folder.join(relative);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(at(parent))?;
    }
    fs::write(&path, content).map_err(at(&path))
}

/// The path for a shell command; quotes inside a path are refused, not escaped.
pub(super) fn quoted(path: &Path) -> Result<String> {
    let text = path.display().to_string();
    if text.contains('\'') {
        return Err(LabError::Machine(format!("{text}: the cache's path must not hold a quote")));
    }
    Ok(format!("'{text}'"))
}
