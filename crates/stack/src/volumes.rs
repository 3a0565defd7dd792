//! Disk → volumes: the partition table with what is in each partition.

use std::ops::Range;
use std::sync::Arc;

use block::{ReadAt, Window, WriteAt};
use lvm2::{LogicalDevice, Lvm2Error};
use partition::{BootCode, Partition, PartitionRole, PartitionTable};
use vfs::{DeviceTable, FirmwareFacts, TableKind, Volume};

use crate::StackError;
use crate::content::{self, Content};
use crate::layers::VolumeGroupLayer;
use crate::lvm;

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
    /// Why it is not written although it is read.
    pub read_only: Option<Arc<Lvm2Error>>,
    /// Where its bytes lie on the guest's disks.
    pub footprint: Footprint,
}

/// Where the bytes of a volume lie.
pub(crate) enum Footprint {
    /// In one piece: the disk's number and the first byte.
    Whole(u32, u64),
    /// In pieces, in no special order.
    Scattered(Scattered),
}

/// The places of a logical volume.
pub(crate) struct Scattered {
    pub device: Arc<LogicalDevice>,
    /// Disk and first byte of each physical volume by its index; `None` for one that is itself scattered.
    pub bases: Vec<Option<(u32, u64)>>,
    /// Everything that it lies on.
    pub all: Vec<(u32, Range<u64>)>,
}

impl OpenVolume {
    /// Ranges of disks in which a range of the volume lies, or more than these.
    pub fn on_disk(&self, range: &Range<u64>) -> Vec<(u32, Range<u64>)> {
        match &self.footprint {
            Footprint::Whole(disk, start) => vec![(*disk, start + range.start..start + range.end)],
            Footprint::Scattered(scattered) => scattered.all.clone(),
        }
    }
}

impl OpenVolume {
    /// Exactly where a range of the volume lies; `None` when that is not told apart.
    pub fn exactly_on_disk(&self, range: &Range<u64>) -> Option<Vec<(u32, Range<u64>)>> {
        let Footprint::Scattered(scattered) = &self.footprint else { return Some(self.on_disk(range)) };
        let places = scattered.device.locate(range.clone())?.into_iter();
        places
            .map(|(index, range)| {
                let (disk, base) = scattered.bases.get(index).copied().flatten()?;
                Some((disk, base + range.start..base + range.end))
            })
            .collect()
    }
}

/// Why a volume is not read.
#[derive(Debug, Clone)]
pub(crate) enum NotOpen {
    OutOfRange,
    Overlap,
    Logical(Arc<Lvm2Error>),
}

impl NotOpen {
    /// As an error of the volume with this name.
    pub fn error(&self, volume: String) -> StackError {
        let (code, reason) = match self {
            NotOpen::OutOfRange => ("partition.out-of-range", "does not lie on the disk"),
            NotOpen::Overlap => ("partition.overlap", "overlaps another partition"),
            NotOpen::Logical(error) => return StackError::Lvm2(Arc::clone(error)),
        };
        StackError::Volume { volume, code, reason }
    }
}

/// All volumes of a guest's disks. `table.volumes` and `open` have the same indexes.
pub(crate) struct Volumes {
    pub table: DeviceTable,
    pub open: Vec<Result<OpenVolume, NotOpen>>,
    /// Volume groups of LVM2.
    pub groups: Vec<VolumeGroupLayer>,
    /// What should be known.
    pub notes: Vec<String>,
}

/// A disk of the guest with its partition table.
pub(crate) struct OneDisk<'d> {
    pub disk: &'d Arc<dyn WriteAt>,
    pub partitions: &'d PartitionTable,
}

/// Finds the volumes of all disks, the first one being the one that the guest boots from, and looks at the content of
/// each; then the logical volumes that lie on them, as long as there are new ones.
pub(crate) fn find(disks: &[OneDisk<'_>]) -> Result<Volumes, StackError> {
    let Some(first) = disks.first() else { return Err(StackError::RootNotFound) };
    let mut volumes = Volumes {
        table: DeviceTable {
            image_format: None,
            disk_len: first.disk.len(),
            sector_size: first.partitions.sector_size,
            table: match first.partitions.kind {
                partition::TableKind::None => TableKind::None,
                partition::TableKind::Mbr => TableKind::Mbr,
                partition::TableKind::Gpt => TableKind::Gpt,
                partition::TableKind::HybridGpt => TableKind::HybridGpt,
            },
            volumes: Vec::new(),
            firmware: firmware(first.partitions),
        },
        open: Vec::new(),
        groups: Vec::new(),
        notes: Vec::new(),
    };
    for (number, disk) in (0..).zip(disks) {
        volumes.find_on(number, disk)?;
    }
    lvm::find(&mut volumes)?;
    Ok(volumes)
}

pub(crate) type Found = (Window<Arc<dyn WriteAt>>, Vec<Content>);

impl Volumes {
    fn find_on(&mut self, number: u32, OneDisk { disk, partitions }: &OneDisk<'_>) -> Result<(), StackError> {
        // An MBR without partitions is the boot sector of a filesystem that takes the whole disk.
        if partitions.partitions.is_empty() {
            let contents = content::probe(&**disk)?;
            if !contents.is_empty() && number == 0 {
                self.table.table = TableKind::None;
            }
            let volume = Volume { disk: number, len: disk.len(), ..Volume::default() };
            let device = Window::new(Arc::clone(disk), 0, disk.len(), volume.name())?;
            self.add(volume, Ok((device, contents)));
        }
        let data = partitions.partitions.iter().filter(|partition| partition.role != PartitionRole::Extended);
        if data.clone().count() > MAX_VOLUMES {
            self.notes.push(format!("more than {MAX_VOLUMES} partitions; the rest is ignored"));
        }
        for partition in data.take(MAX_VOLUMES) {
            let volume = Volume { disk: number, ..volume_of(partition) };
            let found = match (partition.fits_disk, partition.overlaps) {
                (true, false) => {
                    let device =
                        Window::new(Arc::clone(disk), partition.start, partition.len, volume.name())?;
                    let contents = content::probe(&device)?;
                    Ok((device, contents))
                }
                (true, true) => Err(NotOpen::Overlap),
                (false, _) => Err(NotOpen::OutOfRange),
            };
            self.add(volume, found);
        }
        Ok(())
    }

    pub fn add(&mut self, mut volume: Volume, found: Result<Found, NotOpen>) {
        let name = volume.name();
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
        let footprint = Footprint::Whole(volume.disk, volume.start);
        self.table.volumes.push(volume);
        self.open.push(found.map(|(device, contents)| OpenVolume {
            name,
            device: Arc::new(device),
            contents,
            read_only: None,
            footprint,
        }));
    }

    /// How reports name a volume.
    pub fn name(&self, index: usize) -> String {
        self.table.volumes.get(index).map_or_else(|| "no volume".to_owned(), Volume::name)
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
