//! Which volume a device specification leads to on a bus, and the root device of an entry.

use vfs::{DeviceTable, Volume};

use super::{Bus, Grounds, Reason};
use crate::{BootEntry, Guest, Resolution, fstab};

/// What a device specification means once the disk is on a bus.
pub(super) enum OnBus {
    /// Index of a volume.
    Volume(usize),
    /// Nothing, and why.
    Nothing(String),
    /// Cannot be told, and why.
    Unknown(String),
}

pub(super) fn on_bus(specification: &str, bus: Bus, table: &DeviceTable) -> OnBus {
    if DeviceTable::is_unstable_name(specification) {
        let disk = bus.first_disk();
        let name = specification.strip_prefix("/dev/").unwrap_or(specification);
        let is_first_disk = name.strip_prefix(disk).is_some_and(|rest| {
            // `sda1`, but `nvme0n1p1`; `sdaa` is another disk.
            let rest = match disk.starts_with("nvme") && !rest.is_empty() {
                true => match rest.strip_prefix('p') {
                    Some(number) => number,
                    None => return false,
                },
                false => rest,
            };
            rest.bytes().all(|byte| byte.is_ascii_digit())
        });
        return match (is_first_disk, table.resolve(specification)) {
            (true, Some(index)) => OnBus::Volume(index),
            (true, None) => OnBus::Nothing(format!("{specification} is not a volume of this image")),
            (false, _) => {
                OnBus::Nothing(format!("{specification} does not exist on {bus}, where the disk is {disk}"))
            }
        };
    }
    match (table.resolve(specification), fstab::resolve(specification, table).0) {
        (Some(index), _) => OnBus::Volume(index),
        (None, Resolution::Missing) => {
            OnBus::Nothing(format!("{specification} is not a volume of this image"))
        }
        (None, _) => OnBus::Unknown(format!(
            "{specification} cannot be told from this image: device mapper, RAID or a name that the host decides"
        )),
    }
}

/// The volume that the entry mounts as `/` on this bus; where that fails, the one that its device meant on
/// the bus that it was written for.
pub(super) fn root_volume<'t>(entry: &BootEntry, bus: Bus, table: &'t DeviceTable) -> Option<&'t Volume> {
    let root = entry.root.as_deref()?;
    let index = match on_bus(root, bus, table) {
        OnBus::Volume(index) => index,
        _ => table.resolve(root)?,
    };
    table.volumes.get(index)
}

/// The `root=` of an entry.
pub(super) fn check_root(
    guest: &Guest,
    table: &DeviceTable,
    entry: &BootEntry,
    bus: Bus,
    grounds: &mut Grounds,
) {
    let at = format!("{}:{}", entry.file, entry.line);
    let place = |reason: Reason| reason.at(entry.file.clone(), entry.line);
    let generator = entry
        .initrds
        .iter()
        .filter_map(|initrd| guest.initramfs.iter().find(|image| Some(&image.path) == initrd.path.as_ref()))
        .filter_map(|image| image.generator.as_deref())
        .next_back();
    let Some(root) = entry.root.as_deref() else {
        let reason = place(Reason::new("boot.root.none", format!("{at}: no root= argument")));
        // Its init stops with "No root device specified"; others may know the device from elsewhere.
        match generator == Some("initramfs-tools") && entry.uncertain.is_none() {
            true => grounds.against(reason),
            false => grounds.unknown(reason),
        }
        return;
    };
    let by_tag = |tag: &str| root.get(..tag.len()).is_some_and(|head| head.eq_ignore_ascii_case(tag));
    if entry.initrds.is_empty() && !by_tag("PARTUUID=") && !root.starts_with("/dev/") {
        let message =
            format!("{at}: root={root}, which the kernel alone does not resolve, without an initramfs");
        grounds.against(place(Reason::new("boot.root.needs-initramfs", message)));
        return;
    }
    if root.contains('$') {
        grounds.unknown(place(Reason::new("boot.root.variable", format!("{at}: root={root}"))));
        return;
    }
    match on_bus(root, bus, table) {
        OnBus::Volume(index) => {
            let volume = table.volumes.get(index);
            let uuid = volume.and_then(|volume| volume.uuid.as_ref());
            if let (Some(found), Some(inspected)) = (uuid, &guest.root_uuid)
                && !found.eq_ignore_ascii_case(inspected)
            {
                let message = format!(
                    "{at}: root={root} is the filesystem {found}, not {inspected}, which was inspected as /"
                );
                grounds.unknown(place(Reason::new("boot.root.other-filesystem", message)));
            }
            if volume.is_some_and(|volume| volume.content.is_none()) {
                let message = format!("{at}: what root={root} holds was not recognised");
                grounds.unknown(place(Reason::new("boot.root.content", message)));
            }
        }
        OnBus::Nothing(why) => {
            grounds.against(place(Reason::new("boot.root.device", format!("{at}: root={root}: {why}"))));
        }
        OnBus::Unknown(why) => {
            grounds
                .unknown(place(Reason::new("boot.root.device-unknown", format!("{at}: root={root}: {why}"))));
        }
    }
}
