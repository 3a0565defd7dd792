//! Disk → volumes: the partition table with what is in each partition.

use std::sync::Arc;

use block::{ReadAt, Window, WriteAt};
use partition::{BootCode, Partition, PartitionRole, PartitionTable};
use vfs::{DeviceTable, FirmwareFacts, TableKind, Volume};

use crate::StackError;
use crate::content::{self, Content};

/// Volumes of a disk at most: the kernel's limit (`DISK_MAX_PARTS`).
const MAX_VOLUMES: usize = 256;

/// A volume that can be read: it lies on the disk, apart from all others.
pub(crate) struct OpenVolume {
    /// How reports name it.
    pub name: String,
    /// Its bytes.
    pub device: Arc<Window<Arc<dyn WriteAt>>>,
    /// What it looks like; the first one counts.
    pub contents: Vec<Content>,
}

/// Why a volume is not read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Misplaced {
    OutOfRange,
    Overlap,
}

impl Misplaced {
    /// As an error of the volume with this name.
    pub fn error(self, volume: String) -> StackError {
        let (code, reason) = match self {
            Misplaced::OutOfRange => ("partition.out-of-range", "does not lie on the disk"),
            Misplaced::Overlap => ("partition.overlap", "overlaps another partition"),
        };
        StackError::Volume { volume, code, reason }
    }
}

/// All volumes of a disk. `table.volumes` and `open` have the same indexes.
pub(crate) struct Volumes {
    pub table: DeviceTable,
    pub open: Vec<Result<OpenVolume, Misplaced>>,
    /// What should be known.
    pub notes: Vec<String>,
}

/// Finds the volumes of `disk` and looks at the content of each.
pub(crate) fn find(disk: &Arc<dyn WriteAt>, partitions: &PartitionTable) -> Result<Volumes, StackError> {
    let mut volumes = Volumes {
        table: DeviceTable {
            image_format: None,
            disk_len: disk.len(),
            sector_size: partitions.sector_size,
            table: match partitions.kind {
                partition::TableKind::None => TableKind::None,
                partition::TableKind::Mbr => TableKind::Mbr,
                partition::TableKind::Gpt => TableKind::Gpt,
                partition::TableKind::HybridGpt => TableKind::HybridGpt,
            },
            volumes: Vec::new(),
            firmware: firmware(partitions),
        },
        open: Vec::new(),
        notes: Vec::new(),
    };
    // An MBR without partitions is the boot sector of a filesystem that takes the whole disk.
    let is_whole_disk = partitions.partitions.is_empty();
    if is_whole_disk {
        let contents = content::probe(&**disk)?;
        if !contents.is_empty() {
            volumes.table.table = TableKind::None;
        }
        let volume = Volume { len: disk.len(), ..Volume::default() };
        let device = Window::new(Arc::clone(disk), 0, disk.len(), "whole disk")?;
        volumes.add(volume, Ok((device, contents)), "whole disk".into());
    }
    let data = partitions.partitions.iter().filter(|partition| partition.role != PartitionRole::Extended);
    if data.clone().count() > MAX_VOLUMES {
        volumes.notes.push(format!("more than {MAX_VOLUMES} partitions; the rest is ignored"));
    }
    for partition in data.take(MAX_VOLUMES) {
        let name = format!("partition {}", partition.number);
        let found = match (partition.fits_disk, partition.overlaps) {
            (true, false) => {
                let device = Window::new(Arc::clone(disk), partition.start, partition.len, name.clone())?;
                let contents = content::probe(&device)?;
                Ok((device, contents))
            }
            (true, true) => Err(Misplaced::Overlap),
            (false, _) => Err(Misplaced::OutOfRange),
        };
        volumes.add(volume_of(partition), found, name);
    }
    Ok(volumes)
}

type Found = (Window<Arc<dyn WriteAt>>, Vec<Content>);

impl Volumes {
    fn add(&mut self, mut volume: Volume, found: Result<Found, Misplaced>, name: String) {
        if let Err(misplaced) = &found {
            self.notes.push(misplaced.error(name.clone()).to_string());
        }
        if let Some(content) = found.as_ref().ok().and_then(|(_, contents)| contents.first()) {
            volume.content = Some(content.kind.to_owned());
            volume.uuid.clone_from(&content.uuid);
            volume.label.clone_from(&content.label);
        }
        if let Ok((_, contents)) = &found
            && let [first, others @ ..] = &contents[..]
            && !others.is_empty()
        {
            let others: Vec<&str> = others.iter().map(|content| content.kind).collect();
            let note = format!(
                "{name}: taken for {}, also carries the signature of {}",
                first.kind,
                others.join(", ")
            );
            self.notes.push(note);
        }
        self.table.volumes.push(volume);
        self.open.push(found.map(|(device, contents)| OpenVolume {
            name,
            device: Arc::new(device),
            contents,
        }));
    }

    /// How reports name a volume.
    pub fn name(&self, index: usize) -> String {
        match self.table.volumes.get(index).and_then(|volume| volume.partition) {
            Some(number) => format!("partition {number}"),
            None => "whole disk".to_owned(),
        }
    }
}

fn volume_of(partition: &Partition) -> Volume {
    Volume {
        partition: Some(partition.number),
        is_logical: partition.role == PartitionRole::Logical,
        start: partition.start,
        len: partition.len,
        partuuid: Some(partition.partuuid.clone()),
        partlabel: partition.name.clone(),
        type_code: Some(partition.partition_type.to_string()),
        ..Volume::default()
    }
}

fn firmware(table: &PartitionTable) -> FirmwareFacts {
    let first = |is_it: &dyn Fn(&Partition) -> bool| {
        table.partitions.iter().find(|partition| is_it(partition)).map(|partition| partition.number)
    };
    FirmwareFacts {
        mbr_boot_code: match table.boot_code {
            BootCode::None => None,
            BootCode::Grub { is_core_found: true, .. } => Some("grub".into()),
            BootCode::Grub { is_core_found: false, .. } => Some("grub-no-core".into()),
            BootCode::Other => Some("other".into()),
        },
        bios_boot_partition: first(&|partition| partition.partition_type.is_bios_boot()),
        esp_partition: first(&|partition| partition.partition_type.is_esp()),
        ..FirmwareFacts::default()
    }
}
