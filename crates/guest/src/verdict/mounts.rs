//! The mounts of fstab that systemd waits for.
//!
//! What systemd does, by its `fstab-generator` and `mount.c`: an entry without `nofail` is required by
//! `local-fs.target`, whose failure ends in emergency mode after the device's timeout of 90 seconds. Swap is
//! required by `swap.target` only, which nothing requires: the boot waits and goes on. For `/` no device is
//! waited for, since it is mounted already; only `systemd-remount-fs` reads the entry, which fails for a tag
//! that leads nowhere (`/` then stays read-only), while the kernel ignores the source of a remount when it
//! is a path.

use vfs::DeviceTable;

use super::devices::{OnBus, on_bus};
use super::{Bus, Grounds, Reason};
use crate::{FstabRow, Guest, Resolution};

const FSTAB: &str = "/etc/fstab";

pub(super) fn check(guest: &Guest, table: &DeviceTable, bus: Bus, grounds: &mut Grounds) {
    let is_systemd = guest.init.as_deref() == Some("systemd");
    for row in &guest.fstab {
        if row.resolution == Resolution::NotADisk {
            continue;
        }
        let is_swap = row.fs_type == "swap";
        if !is_swap && !row.mount_point.starts_with('/') {
            continue;
        }
        let (why, is_certain) = match on_bus(&row.device, bus, table) {
            OnBus::Volume(_) => continue,
            OnBus::Nothing(why) => (why, true),
            OnBus::Unknown(why) => (why, false),
        };
        let reason = |code, consequence: &str| {
            let place = format!("fstab:{}: {} on {}", row.line, row.device, row.mount_point);
            Reason::new(code, format!("{place}: {why}{consequence}")).at(FSTAB, row.line)
        };
        if row.is_optional {
            grounds.note(reason("boot.fstab.optional", "; the boot does not need it"));
        } else if is_swap {
            grounds.note(reason("boot.fstab.swap", "; the boot waits 90 seconds for it and goes on"));
        } else if row.mount_point == "/" {
            check_root(row, is_systemd, reason, grounds);
        } else if !is_certain {
            grounds.unknown(reason("boot.fstab.device-unknown", ""));
        } else if is_systemd {
            grounds.against(reason("boot.fstab.device", "; without nofail the boot ends in emergency mode"));
        } else {
            grounds.unknown(reason("boot.fstab.device", "; what this guest's init does then is not known"));
        }
    }
}

fn check_root(
    row: &FstabRow,
    is_systemd: bool,
    reason: impl Fn(&'static str, &str) -> Reason,
    grounds: &mut Grounds,
) {
    match (row.resolution, is_systemd, row.device.starts_with("/dev/")) {
        (_, false, _) => {
            grounds.unknown(reason("boot.fstab.root", "; what this guest's init does then is not known"));
        }
        (Resolution::Missing, true, false) => {
            grounds.against(reason("boot.fstab.root", "; / cannot be remounted and stays read-only"));
        }
        (Resolution::Unknown, true, false) => grounds.unknown(reason("boot.fstab.root", "")),
        _ => grounds
            .note(reason("boot.fstab.root-name", "; / is mounted already, so the boot does not need it")),
    }
}
