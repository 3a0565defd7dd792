//! What differs below the files: image, partition table, volumes, boot code.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use stack::Image;
use vfs::{DeviceTable, TableKind};

/// One fact that differs.
#[derive(Debug, Serialize)]
pub struct LayerChange {
    /// `virtual size`, `partition 1 uuid`, …
    pub what: String,
    /// In the old image; `None` when it is not there.
    pub old: Option<String>,
    /// In the new one.
    pub new: Option<String>,
}

/// All facts that differ, by name.
pub fn compare(old: &Image, new: &Image) -> Vec<LayerChange> {
    let (old, new) = (facts(old), facts(new));
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let changes = names.into_iter().filter(|name| old.get(*name) != new.get(*name));
    changes
        .map(|name| LayerChange {
            what: name.clone(),
            old: old.get(name).cloned(),
            new: new.get(name).cloned(),
        })
        .collect()
}

/// Named facts of one image. The size of the image file is none: it says how the image is stored.
fn facts(image: &Image) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    let mut put = |name: String, value: Option<String>| {
        if let Some(value) = value {
            facts.insert(name, value);
        }
    };
    let table = image.device_table();
    put("image format".into(), Some(format!("{:?}", image.format()).to_lowercase()));
    put("virtual size".into(), Some(format!("{} bytes", image.virtual_disk().len())));
    put("partition table".into(), Some(kind_name(table.table).into()));
    put("boot code".into(), table.firmware.mbr_boot_code.clone());
    for volume in &table.volumes {
        let name = match volume.partition {
            Some(number) if volume.disk == 0 => format!("partition {number:>3}"),
            _ => volume.name(),
        };
        put(format!("{name} range"), Some(format!("{} bytes from {}", volume.len, volume.start)));
        put(format!("{name} type"), volume.type_code.clone());
        put(format!("{name} partuuid"), volume.partuuid.clone());
        put(format!("{name} name"), volume.partlabel.clone());
        put(format!("{name} content"), volume.content.clone());
        put(format!("{name} uuid"), volume.uuid.clone());
        put(format!("{name} label"), volume.label.clone());
    }
    for (name, value) in filesystems(image, table) {
        put(name, Some(value));
    }
    facts
}

/// Kind, block size and features of each filesystem that could be opened.
fn filesystems(image: &Image, table: &DeviceTable) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for layer in image.layers() {
        let stack::Layer::Volume(layer) = layer else { continue };
        let Some(filesystem) = &layer.filesystem else { continue };
        let number = table
            .volumes
            .iter()
            .filter_map(|volume| volume.partition)
            .find(|number| layer.name == format!("partition {number}"));
        let name = number.map_or_else(|| layer.name.clone(), |number| format!("partition {number:>3}"));
        found.push((format!("{name} block size"), filesystem.block_size.to_string()));
        found.push((format!("{name} features"), filesystem.features.join(" ")));
    }
    found
}

fn kind_name(kind: TableKind) -> &'static str {
    match kind {
        TableKind::None => "none",
        TableKind::Mbr => "mbr",
        TableKind::Gpt => "gpt",
        TableKind::HybridGpt => "gpt with a hybrid mbr",
    }
}
