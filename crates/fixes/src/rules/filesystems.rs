//! Kinds and features of the filesystems that the guest mounts from its disk.

use std::collections::BTreeMap;

use cloudspec::RuleSpec;

use super::layout;
use crate::plan::Context;
use crate::{Finding, Stage, State};

/// Every filesystem that is mounted from the disk is of an accepted kind.
pub(super) fn kinds(
    spec: &RuleSpec,
    allowed: &[String],
    context: &Context<'_>,
    stage: &Stage<'_>,
) -> Finding {
    // Mount point → what is there: what was mounted, else the content of the volume that fstab names.
    let mut kinds: BTreeMap<String, (String, String)> = BTreeMap::new();
    for row in &context.guest.fstab {
        let volume =
            context.devices.resolve(&row.device).and_then(|index| context.devices.volumes.get(index));
        let Some(volume) = volume.filter(|_| row.mount_point.starts_with('/')) else { continue };
        let kind = volume.content.clone().unwrap_or_else(|| "of no known kind".into());
        kinds.insert(row.mount_point.clone(), (kind, layout::name(volume)));
    }
    for mount in stage.tree().mounts() {
        let kind = mount.filesystem.info().kind.to_owned();
        kinds.insert(mount.at.to_string(), (kind, mount.device.clone()));
    }
    let others: Vec<String> = kinds
        .iter()
        .filter(|(_, (kind, _))| !allowed.contains(kind))
        .map(|(at, (kind, device))| format!("{at} on {device} is {kind}; accepted: {}", allowed.join(", ")))
        .collect();
    if others.is_empty() {
        let seen = kinds.iter().map(|(at, (kind, _))| format!("{at} is {kind}")).collect();
        return Finding::new(spec, State::Holds, seen);
    }
    let remedy = format!("Build the image with filesystems of these kinds: {}.", allowed.join(", "));
    Finding::needs_action(spec, others, remedy)
}

/// No ext4 filesystem has a feature, or a set of features, that is not accepted.
pub(super) fn ext4_features(
    spec: &RuleSpec,
    forbidden: &[String],
    together: &[String],
    stage: &Stage<'_>,
) -> Finding {
    let mut evidence = Vec::new();
    let mut is_there = false;
    for mount in stage.tree().mounts() {
        let info = mount.filesystem.info();
        if info.kind != "ext4" {
            continue;
        }
        is_there = true;
        let has = |feature: &String| info.features.contains(feature);
        for feature in forbidden.iter().filter(|feature| has(feature)) {
            evidence.push(format!("{} on {}: ext4 with the feature {feature}", mount.at, mount.device));
        }
        if !together.is_empty() && together.iter().all(has) {
            let features = together.join(" and ");
            evidence.push(format!("{} on {}: ext4 with the features {features}", mount.at, mount.device));
        }
    }
    if !is_there {
        return Finding::not_applicable(spec, "no filesystem of the guest is ext4");
    }
    if evidence.is_empty() {
        return Finding::new(spec, State::Holds, vec!["no ext4 filesystem has it".into()]);
    }
    let off =
        forbidden.iter().chain(together).map(|feature| format!("^{feature}")).collect::<Vec<_>>().join(",");
    let remedy = format!(
        "Make the filesystem anew with mke2fs -O {off}, or change it unmounted (64bit: resize2fs -s; quota, project: \
         tune2fs -O). Newer import services accept it."
    );
    Finding::needs_action(spec, evidence, remedy)
}
