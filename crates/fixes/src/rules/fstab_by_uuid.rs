//! fstab names no device by a name that depends on the bus or on the host.

use cloudspec::RuleSpec;
use vfs::{DeviceTable, Fstab};

use super::path;
use crate::plan::Context;
use crate::{Finding, FixError, Stage, State};

pub(super) fn run(
    spec: &RuleSpec,
    context: &Context<'_>,
    stage: &mut Stage<'_>,
) -> Result<Finding, FixError> {
    let file = path("/etc/fstab");
    let Some(text) = stage.read(&file)? else {
        return Ok(Finding::new(spec, State::NotApplicable, vec!["the guest has no /etc/fstab".into()]));
    };
    let mut fstab = Fstab::parse(&text);
    let mut changes = Vec::new();
    let mut kept = Vec::new();
    // Names that the host decides tell nothing of this image, but the disk of `/` is known.
    let disk_of_root = fstab.entries().find(|entry| entry.mount_point == b"/").and_then(|entry| {
        let device = String::from_utf8_lossy(&entry.device).into_owned();
        Some(DeviceTable::host_name(&device)?.0.to_owned())
    });
    for entry in fstab.entries().collect::<Vec<_>>() {
        let device = String::from_utf8_lossy(&entry.device).into_owned();
        let by_host = DeviceTable::host_name(&device);
        if by_host.is_none() && !DeviceTable::is_unstable_name(&device) {
            continue;
        }
        let line = entry.id.line();
        // The root filesystem is known, whatever its disk was called.
        let root_uuid = match entry.mount_point.as_slice() {
            b"/" => stage.tree().mounts().first().and_then(|mount| mount.filesystem.info().uuid),
            _ => None,
        };
        let volumes = &context.devices.volumes;
        let volume = match by_host {
            Some((disk, partition)) if Some(disk) == disk_of_root.as_deref() => volumes
                .iter()
                .find(|volume| volume.disk == 0 && volume.logical.is_none() && volume.partition == partition),
            _ => context.devices.resolve(&device).map(|index| &volumes[index]),
        };
        let uuid = volume.and_then(|volume| volume.uuid.clone()).or(root_uuid);
        let stable = match (uuid, volume.and_then(|volume| volume.partuuid.as_ref())) {
            (Some(uuid), _) => Some(format!("UUID={uuid}")),
            (None, Some(partuuid)) => Some(format!("PARTUUID={partuuid}")),
            (None, None) => None,
        };
        match stable {
            Some(stable) => {
                if fstab.set_device(entry.id, stable.as_bytes()) {
                    changes.push(format!("/etc/fstab:{line}: {device} is {stable}"));
                }
            }
            None if entry.has_option("nofail") || entry.has_option("noauto") => {
                kept.push(format!(
                    "/etc/fstab:{line}: {device} is not in the image; it does not stop the boot"
                ));
            }
            None => {
                if fstab.add_option(entry.id, "nofail") {
                    changes.push(format!("/etc/fstab:{line}: {device} is not in the image: nofail added"));
                }
            }
        }
    }
    if changes.is_empty() {
        kept.insert(0, "/etc/fstab names every device of the image by a name that no bus changes".into());
        return Ok(Finding::new(spec, State::Holds, kept));
    }
    stage.write(&spec.id, &file, fstab.to_bytes(), changes.clone())?;
    changes.extend(kept);
    Ok(Finding::new(spec, State::Fixable, changes))
}
