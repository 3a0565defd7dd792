//! Where the partitions lie and what is in them.

use cloudspec::RuleSpec;
use vfs::{DeviceTable, DiskEdit, TableKind, Volume};

use crate::plan::Context;
use crate::{Finding, Stage, State};

/// Contents that have to be opened or assembled before files can be seen.
const CONTAINERS: [&str; 9] =
    ["lvm2-pv", "luks", "md-raid", "bcache", "zfs-member", "stratis", "vdo", "drbd", "bitlocker"];
/// Types of partitions that only firmware and boot loaders use: ESP, BIOS boot, PReP; on an MBR disk ESP and PReP
/// (UEFI 2.10 table 5-7, GRUB's manual on BIOS installation).
const FIRMWARE_TYPES: [&str; 5] = [
    "c12a7328-f81f-11d2-ba4b-00a0c93ec93b",
    "21686148-6449-6e6f-744e-656564454649",
    "9e1a2d38-c612-4316-aa26-8b49521e5a8b",
    "0xef",
    "0x41",
];
/// Types of swap partitions.
const SWAP_TYPES: [&str; 2] = ["0657fd6d-a4ab-43c4-84e5-0933c84b4f4f", "0x82"];

/// How reports name a volume.
pub(super) fn name(volume: &Volume) -> String {
    let place = match (volume.partition, &volume.logical, volume.disk) {
        (None, None, 0) => "the whole disk".to_owned(),
        _ => volume.name(),
    };
    match &volume.content {
        Some(content) => format!("{place} ({content})"),
        None => place,
    }
}

/// The volume with the guest's root filesystem.
pub(super) fn root<'c>(context: &Context<'c>, stage: &Stage<'_>) -> Option<&'c Volume> {
    let volumes = &context.devices.volumes;
    let mount = stage.tree().mounts().first()?;
    let by_name = volumes.iter().find(|volume| mount.device == volume.name());
    by_name.or_else(|| {
        let uuid = context.guest.root_uuid.as_deref()?;
        volumes.iter().find(|volume| volume.uuid.as_deref() == Some(uuid))
    })
}

fn is_swap(volume: &Volume) -> bool {
    let is_type = volume.type_code.as_deref().is_some_and(|code| SWAP_TYPES.contains(&code));
    match volume.content.as_deref() {
        Some(content) => content == "swap",
        None => is_type,
    }
}

/// True when the plan so far takes the partition out of the table.
fn goes_away(stage: &Stage<'_>, volume: &Volume) -> bool {
    stage
        .planned_disk_edits()
        .any(|edit| matches!(edit, DiskEdit::RemovePartition { number } if volume.is_partition(0, number)))
}

/// First byte behind a volume on its disk; behind all that its group lies on where it is a logical one.
fn end_on_disk(devices: &DeviceTable, volume: &Volume) -> u64 {
    let Some(logical) = &volume.logical else { return volume.end() };
    let below = logical.on.iter().filter_map(|index| devices.volumes.get(*index));
    below.filter(|below| below.disk == 0 && below.logical.is_none()).map(Volume::end).max().unwrap_or(0)
}

/// True when the volume is one of those that a logical volume's group lies on.
fn is_below(devices: &DeviceTable, volume: &Volume, logical: &Volume) -> bool {
    let on = logical.logical.iter().flat_map(|logical| &logical.on);
    on.filter_map(|index| devices.volumes.get(*index)).any(|below| below == volume)
}

fn no_root(spec: &RuleSpec) -> Finding {
    Finding::not_applicable(spec, "the root filesystem lies on none of the disk's volumes")
}

/// No partition ends behind the root's.
pub(super) fn root_last(spec: &RuleSpec, context: &Context<'_>, stage: &Stage<'_>) -> Finding {
    let Some(root) = root(context, stage) else { return no_root(spec) };
    let root_end = end_on_disk(context.devices, root);
    let is_behind =
        |volume: &&Volume| volume.logical.is_none() && volume.disk == 0 && volume.end() > root_end;
    let (leaving, behind): (Vec<&Volume>, Vec<&Volume>) =
        context.devices.volumes.iter().filter(is_behind).partition(|volume| goes_away(stage, volume));
    let name_all = |volumes: &[&Volume]| volumes.iter().map(|one| name(one)).collect::<Vec<_>>().join(", ");
    if behind.is_empty() && leaving.is_empty() {
        return Finding::new(spec, State::Holds, vec![format!("{} is the last one", name(root))]);
    }
    if behind.is_empty() {
        let line = format!("{} is the last one without {}", name(root), name_all(&leaving));
        return Finding::new(spec, State::Fixable, vec![line]);
    }
    let evidence = behind
        .iter()
        .map(|volume| {
            format!(
                "{} ends at byte {}, behind the root, {}, which ends at {}",
                name(volume),
                volume.end(),
                name(root),
                root_end
            )
        })
        .collect();
    let remedy = match behind.iter().all(|volume| is_swap(volume)) {
        true => format!(
            "Take {} out of the table, or build the image with the root partition last.",
            name_all(&behind)
        ),
        false => {
            format!("Build the image with the root partition last; behind it now: {}.", name_all(&behind))
        }
    };
    Finding::needs_action(spec, evidence, remedy)
}

/// The root is no logical partition.
pub(super) fn primary(spec: &RuleSpec, context: &Context<'_>, stage: &Stage<'_>) -> Finding {
    match root(context, stage) {
        None => no_root(spec),
        Some(root) if root.is_logical => Finding::needs_action(
            spec,
            vec![format!("{}, the root, is a logical partition", name(root))],
            "Build the image with root on a primary partition, or on a GPT disk.",
        ),
        Some(root) => {
            Finding::new(spec, State::Holds, vec![format!("{} is no logical partition", name(root))])
        }
    }
}

/// Nothing but the root and what starts it.
pub(super) fn only_root(spec: &RuleSpec, context: &Context<'_>, stage: &Stage<'_>) -> Finding {
    let Some(root) = root(context, stage) else { return no_root(spec) };
    let boots_from: Vec<Option<u32>> = context
        .guest
        .fstab
        .iter()
        .filter(|row| ["/boot", "/boot/efi", "/efi"].contains(&&*row.mount_point))
        .map(|row| row.partition)
        .collect();
    let is_needed = |volume: &Volume| {
        volume == root
            || is_below(context.devices, volume, root)
            || volume.type_code.as_deref().is_some_and(|code| FIRMWARE_TYPES.contains(&code))
            || (volume.partition.is_some() && boots_from.contains(&volume.partition))
    };
    let others = context.devices.volumes.iter().filter(|volume| !is_needed(volume));
    let (leaving, others): (Vec<&Volume>, Vec<&Volume>) = others.partition(|volume| goes_away(stage, volume));
    match (&others[..], &leaving[..]) {
        ([], []) => Finding::new(spec, State::Holds, vec!["there is no other partition".into()]),
        ([], leaving) => {
            let lines = leaving.iter().map(|volume| format!("{} goes away", name(volume))).collect();
            Finding::new(spec, State::Fixable, lines)
        }
        (others, _) => {
            let evidence = others.iter().map(|volume| format!("{} is not needed to boot", name(volume)));
            let remedy = "Build the image with a single root partition, and bring other data as data disks.";
            Finding::needs_action(spec, evidence.collect(), remedy)
        }
    }
}

/// No LVM, no RAID, no encryption.
pub(super) fn plain(spec: &RuleSpec, context: &Context<'_>) -> Finding {
    let is_container = |content: &str| CONTAINERS.contains(&content);
    let mut evidence: Vec<String> = context
        .devices
        .volumes
        .iter()
        .filter(|volume| volume.content.as_deref().is_some_and(is_container))
        .map(|volume| format!("{}: has to be opened or assembled before it is read", name(volume)))
        .collect();
    let logical = context.devices.volumes.iter().filter(|volume| volume.logical.is_some());
    evidence.extend(logical.map(|volume| format!("{} belongs to LVM", name(volume))));
    let mapped = context.guest.fstab.iter().filter(|row| row.device.starts_with("/dev/mapper/"));
    evidence.extend(
        mapped
            .map(|row| format!("/etc/fstab:{}: {} is mounted at {}", row.line, row.device, row.mount_point)),
    );
    let crypted = context.guest.crypttab.iter();
    evidence
        .extend(crypted.map(|entry| format!("/etc/crypttab:{}: {} is encrypted", entry.line, entry.device)));
    match evidence.is_empty() {
        true => Finding::new(spec, State::Holds, vec!["no volume is LVM, RAID or encrypted".into()]),
        false => {
            Finding::needs_action(spec, evidence, "Build the image with the filesystems on plain partitions.")
        }
    }
}

/// No swap partition; with `remove` the plan takes them out of the table.
pub(super) fn no_swap(
    spec: &RuleSpec,
    partition: &str,
    context: &Context<'_>,
    stage: &mut Stage<'_>,
) -> Finding {
    let mut swaps: Vec<&Volume> = context.devices.volumes.iter().filter(|volume| is_swap(volume)).collect();
    if swaps.is_empty() {
        return Finding::new(spec, State::Holds, vec!["no partition is a swap partition".into()]);
    }
    let remedy = "Take the partition out of the table, or build the image without it.";
    if partition != "remove" {
        let evidence = swaps.iter().map(|volume| format!("{} is a swap partition", name(volume))).collect();
        return Finding::needs_action(spec, evidence, remedy);
    }
    // From the back, so that no logical partition changes its number.
    swaps.sort_by_key(|volume| std::cmp::Reverse(volume.partition));
    let mut lines = Vec::new();
    let mut kept = Vec::new();
    for swap in swaps {
        match obstacle(context.devices, stage, swap) {
            Some(why) => kept.push(format!("{}: {why}", name(swap))),
            None => {
                let Some(number) = swap.partition else { continue };
                stage.edit_disk(&spec.id, DiskEdit::RemovePartition { number });
                lines.push(format!("{} goes out of the partition table", name(swap)));
            }
        }
    }
    match kept.is_empty() {
        true => Finding::new(spec, State::Fixable, lines),
        false => Finding::needs_action(spec, kept.into_iter().chain(lines).collect(), remedy),
    }
}

/// Why a partition cannot be taken out of the table.
fn obstacle(devices: &DeviceTable, stage: &Stage<'_>, volume: &Volume) -> Option<String> {
    if volume.logical.is_some() {
        return Some("it is a logical volume".into());
    }
    if volume.disk != 0 {
        return Some("it is on another disk".into());
    }
    if volume.partition.is_none() || devices.table == TableKind::None {
        return Some("it is the whole disk".into());
    }
    if devices.table == TableKind::HybridGpt {
        return Some("the disk has a hybrid MBR, which names partitions a second time".into());
    }
    let later = devices.volumes.iter().find(|other| {
        volume.is_logical
            && other.is_logical
            && other.partition > volume.partition
            && !goes_away(stage, other)
    })?;
    Some(format!("{} behind it in the extended partition would change its number", name(later)))
}

/// The kind of the partition table.
pub(super) fn table(spec: &RuleSpec, allowed: &[String], context: &Context<'_>) -> Finding {
    let kind = match context.devices.table {
        TableKind::Mbr => "mbr",
        TableKind::Gpt | TableKind::HybridGpt => "gpt",
        TableKind::None => "none",
    };
    if allowed.iter().any(|known| known == kind) {
        return Finding::new(spec, State::Holds, vec![format!("the partition table is of kind {kind}")]);
    }
    let evidence = vec![format!("the partition table is of kind {kind}; accepted: {}", allowed.join(", "))];
    Finding::needs_action(spec, evidence, "Build the image with an accepted partition table.")
}
