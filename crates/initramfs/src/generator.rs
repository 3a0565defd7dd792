//! Which program made an initramfs.

use std::fmt;

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
