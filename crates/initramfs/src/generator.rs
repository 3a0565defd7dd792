//! Which program made an initramfs.

use std::fmt;

use crate::Archive;

/// The program that made an initramfs, as its content shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Generator {
    /// Debian's and Ubuntu's initramfs-tools.
    InitramfsTools,
    /// dracut, of any age.
    Dracut,
    /// Arch's mkinitcpio.
    Mkinitcpio,
    /// booster, one Go program.
    Booster,
    /// SUSE's old mkinitrd.
    SuseMkinitrd,
    /// Red Hat's old mkinitrd, whose init is a nash script.
    Nash,
    /// Alpine's mkinitfs.
    AlpineMkinitfs,
    /// None of these.
    Unknown,
}

impl Generator {
    /// Name as reports print it.
    pub fn name(self) -> &'static str {
        match self {
            Generator::InitramfsTools => "initramfs-tools",
            Generator::Dracut => "dracut",
            Generator::Mkinitcpio => "mkinitcpio",
            Generator::Booster => "booster",
            Generator::SuseMkinitrd => "SUSE mkinitrd",
            Generator::Nash => "nash mkinitrd",
            Generator::AlpineMkinitfs => "Alpine mkinitfs",
            Generator::Unknown => "an unknown generator",
        }
    }
}

impl fmt::Display for Generator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Tells the generator from what it leaves inside.
pub(crate) fn recognise(archive: &Archive) -> Generator {
    let has = |path: &str| archive.exists(path);
    if has("etc/booster.init.yaml") {
        return Generator::Booster;
    }
    if has("usr/lib/dracut") || has("lib/dracut") || has_dracut_marker(archive) {
        return Generator::Dracut;
    }
    let init = archive.read_file("init").unwrap_or_default();
    let init = String::from_utf8_lossy(&init);
    if init.starts_with("#!/bin/nash") || init.starts_with("#!/sbin/nash") {
        return Generator::Nash;
    }
    if has("conf/initramfs.conf") || (has("conf") && has("scripts") && has("init")) {
        return Generator::InitramfsTools;
    }
    if has("hooks") && has("config") || has("VERSION") && has("buildconfig") {
        return Generator::Mkinitcpio;
    }
    if has("run_all.sh") {
        return Generator::SuseMkinitrd;
    }
    if init.contains("nlplug-findfs") || has("sbin/nlplug-findfs") {
        return Generator::AlpineMkinitfs;
    }
    Generator::Unknown
}

/// EL 6 leaves `dracut-004-…` in the root.
fn has_dracut_marker(archive: &Archive) -> bool {
    archive.list_dir("").iter().any(|name| name.starts_with(b"dracut-"))
        || archive.exists("usr/lib/initrd-release") && archive.exists("etc/cmdline.d")
}
