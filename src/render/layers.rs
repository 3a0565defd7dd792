//! The layers of an image as text.

use stack::Layer;

use super::output::single_line;
use super::table::{bytes, columns};

/// A block of text for all layers.
pub fn text(layers: &[Layer], notes: &[String]) -> String {
    let mut text = String::new();
    let mut volumes = Vec::new();
    let mut groups = String::new();
    for layer in layers {
        match layer {
            Layer::Image(image) => {
                text.push_str(&format!(
                    "  {} image, {} virtual, {} stored\n",
                    image.format,
                    bytes(image.virtual_bytes),
                    bytes(image.file_bytes)
                ));
                if let Some(qcow2) = &image.qcow2 {
                    text.push_str(&format!("  {}\n", qcow2_text(qcow2)));
                }
                if let Some(vhd) = &image.vhd {
                    text.push_str(&format!("  {}\n", vhd_text(vhd)));
                }
                if image.had_interrupted_commit {
                    text.push_str("  an interrupted change was found beside the image; the bytes from before are shown\n");
                }
            }
            Layer::PartitionTable(table) => {
                let copy = table.gpt_copy.map(|copy| format!(", {copy} header used")).unwrap_or_default();
                text.push_str(&format!(
                    "  partition table: {}, sectors of {} bytes{copy}, boot code: {}\n",
                    table.kind, table.sector_size, table.boot_code
                ));
                for finding in &table.findings {
                    text.push_str(&format!("    {} [{}]\n", single_line(&finding.detail), finding.code));
                }
            }
            Layer::Volume(volume) => {
                let mut row = vec![volume.name.clone(), bytes(volume.bytes)];
                row.push(volume.content.clone().unwrap_or_else(|| "nothing recognised".into()));
                row.push(volume.uuid.clone().unwrap_or_default());
                row.push(single_line(volume.label.as_deref().unwrap_or_default()));
                row.push(
                    volume
                        .mounted_at
                        .clone()
                        .map(|at| format!("at {}", single_line(&at)))
                        .unwrap_or_default(),
                );
                let mut remarks = Vec::new();
                if let Some(filesystem) = &volume.filesystem {
                    remarks.push(format!("{} free", bytes(filesystem.free_bytes)));
                    if let Some(recovery) = &filesystem.recovery {
                        remarks.push(format!(
                            "journal replayed in memory: {} transactions",
                            recovery.transactions
                        ));
                    }
                    if filesystem.has_error_state {
                        remarks.push("the kernel has recorded errors".into());
                    }
                }
                if let Some(problem) = &volume.problem {
                    remarks.push(format!("{} [{}]", single_line(&problem.message), problem.code));
                }
                if let Some(read_only) = &volume.read_only {
                    remarks.push(format!(
                        "not written: {} [{}]",
                        single_line(&read_only.message),
                        read_only.code
                    ));
                }
                row.push(remarks.join(", "));
                volumes.push(row);
            }
            Layer::VolumeGroup(group) => groups.push_str(&group_text(group)),
            Layer::Mounts(_) => {}
        }
    }
    text.push_str(&columns(&volumes, 2));
    text.push_str(&groups);
    for note in notes {
        text.push_str(&format!("  note: {}\n", single_line(note)));
    }
    text
}

fn vhd_text(info: &vhd::VhdInfo) -> String {
    let kind = match info.kind {
        vhd::DiskKind::Fixed => "fixed",
        vhd::DiskKind::Dynamic => "dynamic",
        vhd::DiskKind::Differencing => "differencing",
    };
    let mut parts = vec![format!("{kind} VHD by {:?}", info.creator)];
    if let (Some(size), Some(blocks)) = (info.block_size, info.allocated_blocks) {
        parts.push(format!("{blocks} blocks of {} stored", bytes(size)));
    }
    if info.size_rule == vhd::SizeRule::Geometry {
        parts.push(format!("size by its geometry; in bytes it says {}", info.current_size));
    }
    if info.is_saved_state {
        parts.push("of a machine with a saved state".into());
    }
    parts.extend(info.footer_problems.iter().map(|problem| single_line(problem)));
    parts.join(", ")
}

fn group_text(group: &stack::VolumeGroupLayer) -> String {
    let mut words = vec![format!("extents of {}", bytes(group.extent_bytes))];
    if let Some(free) = group.free_bytes {
        words.push(format!("{} free", bytes(free)));
    }
    words.push(format!("on {}", group.physical_volumes.join(" and ")));
    if !group.missing.is_empty() {
        words.push(format!("missing: {}", group.missing.join(", ")));
    }
    if let Some(problem) = &group.problem {
        words.push(format!("{} [{}]", problem.message, problem.code));
    }
    let words = single_line(&words.join(", "));
    format!("  volume group {} ({}): {words}\n", single_line(&group.name), group.uuid)
}

fn qcow2_text(info: &qcow2::Qcow2Info) -> String {
    let mut words = vec![
        format!("qcow2 version {}", info.version),
        format!("clusters of {}", bytes(info.cluster_size)),
        format!("{} snapshots", info.snapshots.len()),
    ];
    if let Some(backing) = &info.backing {
        words.push(format!("backed by {}", single_line(&backing.name)));
    }
    if info.is_dirty {
        words.push("dirty: reference counts are rebuilt at the next change".into());
    }
    if info.is_corrupt {
        words.push("marked corrupt".into());
    }
    words.join(", ")
}
