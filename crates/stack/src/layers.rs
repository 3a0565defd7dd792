//! What an image is made of, as data for reports.

use std::path::PathBuf;

use partition::{BootCode, PartitionRole, TableKind};
use qcow2::Qcow2Info;
use report::Diagnostic;
use serde::Serialize;
use vfs::Filesystem;
use vhd::VhdInfo;

use crate::disk::{Disk, is_fat, is_xfs};
use crate::volumes::NotOpen;
use crate::{ImageFormat, StackError, Unmounted};

/// One layer of the stack, from the host file up.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "layer", rename_all = "kebab-case")]
pub enum Layer {
    /// The host file and its format.
    Image(Box<ImageLayer>),
    /// The partition table.
    PartitionTable(PartitionTableLayer),
    /// One partition, the whole disk, or a logical volume.
    Volume(Box<VolumeLayer>),
    /// A volume group of LVM2.
    VolumeGroup(Box<VolumeGroupLayer>),
    /// The guest's mounts, once a tree was opened.
    Mounts(MountsLayer),
}

/// The host file.
#[derive(Debug, Clone, Serialize)]
pub struct ImageLayer {
    /// Host path, symlinks resolved.
    pub path: PathBuf,
    /// Format of the file.
    pub format: ImageFormat,
    /// True when the format was not given but recognised.
    pub is_format_probed: bool,
    /// Length of the host file.
    pub file_bytes: u64,
    /// Length of the virtual disk.
    pub virtual_bytes: u64,
    /// qcow2 facts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qcow2: Option<Qcow2Info>,
    /// VHD facts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vhd: Option<VhdInfo>,
    /// An interrupted commit was rolled back, or is hidden by reading its pre-images.
    pub had_interrupted_commit: bool,
}

/// The partition table.
#[derive(Debug, Clone, Serialize)]
pub struct PartitionTableLayer {
    /// `none`, `mbr`, `gpt`, `hybrid-gpt`.
    pub kind: &'static str,
    /// Bytes per logical sector.
    pub sector_size: u32,
    /// GPT disk GUID, or MBR disk signature as `0x…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_id: Option<String>,
    /// GPT copy that was used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpt_copy: Option<&'static str>,
    /// Boot code in the first sector: `none`, `grub`, `grub-no-core`, `other`.
    pub boot_code: &'static str,
    /// Partitions, extended ones included.
    pub partitions: Vec<PartitionFacts>,
    /// What is noteworthy or wrong.
    pub findings: Vec<FindingFacts>,
}

/// One partition as its table describes it.
#[derive(Debug, Clone, Serialize)]
pub struct PartitionFacts {
    /// Number as the kernel counts.
    pub number: u32,
    /// `primary`, `extended`, `logical`.
    pub role: &'static str,
    /// First LBA.
    pub start_lba: u64,
    /// Sectors.
    pub len_sectors: u64,
    /// GPT type GUID or MBR type as `0x83`.
    #[serde(rename = "type")]
    pub type_code: String,
    /// PARTUUID.
    pub partuuid: String,
    /// GPT name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Active flag.
    pub is_active: bool,
    /// False when it ends behind the disk.
    pub fits_disk: bool,
}

/// A finding with its code.
#[derive(Debug, Clone, Serialize)]
pub struct FindingFacts {
    /// Stable dotted code.
    pub code: &'static str,
    /// One sentence.
    pub detail: String,
}

/// A partition, or the whole disk, and what is in it.
#[derive(Debug, Clone, Serialize)]
pub struct VolumeLayer {
    /// `partition 1`, `whole disk`.
    pub name: String,
    /// Partition number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<u32>,
    /// UUID of a logical volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logical_uuid: Option<String>,
    /// First byte on the virtual disk.
    pub start: u64,
    /// Bytes.
    pub bytes: u64,
    /// What is in it, by its signature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// UUID or serial number of the content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// Label of the content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Facts of a filesystem that is read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filesystem: Option<FilesystemFacts>,
    /// Why it is not read, although its kind is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<Diagnostic>,
    /// Why it is not written, although it is read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_only: Option<Diagnostic>,
    /// Where the guest has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mounted_at: Option<String>,
}

/// A volume group of LVM2.
#[derive(Debug, Clone, Serialize)]
pub struct VolumeGroupLayer {
    /// Its name.
    pub name: String,
    /// Its UUID as LVM2 prints it.
    pub uuid: String,
    /// Which version of the metadata counts (LVM2's `seqno`).
    pub metadata_number: u64,
    /// Bytes of an extent.
    pub extent_bytes: u64,
    /// The volumes that it lies on, those that are there.
    pub physical_volumes: Vec<String>,
    /// UUIDs of physical volumes that are not there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// Bytes that no logical volume uses; `None` when that cannot be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free_bytes: Option<u64>,
    /// Its visible logical volumes: `vg/root`.
    pub logical_volumes: Vec<String>,
    /// Why none of it is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<Diagnostic>,
    /// Free bytes by index of the volume.
    #[serde(skip)]
    pub(crate) free: Vec<(usize, Vec<std::ops::Range<u64>>)>,
}

/// A filesystem that is read.
#[derive(Debug, Clone, Serialize)]
pub struct FilesystemFacts {
    /// `ext2`, `ext3`, `ext4`, `vfat`, `xfs`.
    pub kind: &'static str,
    /// Bytes per block.
    pub block_size: u32,
    /// Features in the spelling of the reference tools.
    pub features: Vec<String>,
    /// Bytes of all data blocks.
    pub total_bytes: u64,
    /// Bytes free.
    pub free_bytes: u64,
    /// Inodes in all.
    pub inodes: u64,
    /// Inodes free.
    pub free_inodes: u64,
    /// The kernel recorded errors.
    pub has_error_state: bool,
    /// What a recovery did in memory; `None` when it was clean.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovery: Option<RecoveryFacts>,
}

/// A journal that was replayed into the overlay.
#[derive(Debug, Clone, Serialize)]
pub struct RecoveryFacts {
    /// Complete transactions in the log.
    pub transactions: u32,
    /// Blocks written to their places.
    pub blocks: u64,
    /// Blocks kept from being written by revoke records.
    pub revoked: u64,
    /// Orphans released or cut.
    pub orphans: u64,
}

/// The guest's mounts.
#[derive(Debug, Clone, Serialize)]
pub struct MountsLayer {
    /// Name of each volume that is part of the tree and its mount point.
    pub mounted: Vec<MountFacts>,
    /// What fstab names and is not part of the tree.
    pub unmounted: Vec<Unmounted>,
    /// Lines of fstab, counted from 1, that are no entry.
    pub malformed_fstab_lines: Vec<usize>,
}

/// One mount.
#[derive(Debug, Clone, Serialize)]
pub struct MountFacts {
    /// `partition 1`.
    pub volume: String,
    /// Mount point, lossily printed.
    pub at: String,
}

pub(crate) fn of_disk(disk: &Disk) -> Vec<Layer> {
    let mut layers = vec![Layer::PartitionTable(partition_table(disk))];
    for index in 0..disk.volumes.table.volumes.len() {
        layers.extend(volume(disk, index).map(Box::new).map(Layer::Volume));
    }
    layers.extend(disk.volumes.groups.iter().cloned().map(Box::new).map(Layer::VolumeGroup));
    if !disk.mounted.is_empty() {
        let mounted = disk.mounted.iter();
        layers.push(Layer::Mounts(MountsLayer {
            mounted: mounted
                .map(|(index, at)| MountFacts { volume: disk.name(*index), at: at.to_string() })
                .collect(),
            unmounted: disk.unmounted.clone(),
            malformed_fstab_lines: disk.malformed_fstab_lines.clone(),
        }));
    }
    layers
}

fn partition_table(disk: &Disk) -> PartitionTableLayer {
    let table = &disk.partitions;
    let disk_id = match (&table.gpt, &table.mbr) {
        (Some(gpt), _) => Some(gpt.copy.header.disk_guid.to_string()),
        (None, Some(mbr)) => Some(format!("{:#010x}", mbr.disk_signature)),
        (None, None) => None,
    };
    PartitionTableLayer {
        kind: match table.kind {
            TableKind::None => "none",
            TableKind::Mbr => "mbr",
            TableKind::Gpt => "gpt",
            TableKind::HybridGpt => "hybrid-gpt",
        },
        sector_size: table.sector_size,
        disk_id,
        gpt_copy: table.gpt.as_ref().map(|gpt| gpt.used.name()),
        boot_code: match table.boot_code {
            BootCode::None => "none",
            BootCode::Grub { is_core_found: true, .. } => "grub",
            BootCode::Grub { is_core_found: false, .. } => "grub-no-core",
            BootCode::Other => "other",
        },
        partitions: table
            .partitions
            .iter()
            .map(|partition| PartitionFacts {
                number: partition.number,
                role: match partition.role {
                    PartitionRole::Primary => "primary",
                    PartitionRole::Extended => "extended",
                    PartitionRole::Logical => "logical",
                },
                start_lba: partition.start_lba,
                len_sectors: partition.len_sectors,
                type_code: partition.partition_type.to_string(),
                partuuid: partition.partuuid.clone(),
                name: partition.name.clone(),
                is_active: partition.is_active,
                fits_disk: partition.fits_disk,
            })
            .collect(),
        findings: table
            .findings
            .iter()
            .map(|finding| FindingFacts { code: finding.code, detail: finding.detail.clone() })
            .collect(),
    }
}

fn volume(disk: &Disk, index: usize) -> Option<VolumeLayer> {
    let volume = disk.volumes.table.volumes.get(index)?;
    let (filesystem, problem) = match disk.ext.get(&index) {
        None if is_fat(volume.content.as_deref()) || is_xfs(volume.content.as_deref()) => {
            match opened(disk, index) {
                Ok(facts) => (facts, None),
                Err(error) => (None, Some(Diagnostic::of(&error))),
            }
        }
        None => (None, None),
        Some(Err(problem)) => (None, Some(problem.clone())),
        Some(Ok(_)) => match filesystem(disk, index) {
            Ok(facts) => (facts, None),
            Err(error) => (None, Some(Diagnostic::of(&error))),
        },
    };
    Some(VolumeLayer {
        name: disk.name(index),
        partition: volume.partition,
        logical_uuid: volume.logical.as_ref().map(|logical| logical.uuid.clone()),
        start: volume.start,
        bytes: volume.len,
        content: volume.content.clone(),
        uuid: volume.uuid.clone(),
        label: volume.label.clone(),
        filesystem,
        problem: problem.or_else(|| match disk.volumes.open.get(index) {
            Some(Err(NotOpen::Logical(error))) => Some(Diagnostic::of(&**error)),
            _ => None,
        }),
        read_only: match disk.volumes.open.get(index) {
            Some(Ok(open)) => open.read_only.as_deref().map(|error| Diagnostic::of(error)),
            _ => None,
        },
        mounted_at: disk.mounted.get(&index).map(ToString::to_string),
    })
}

/// Facts of a filesystem that has no state beside it.
fn opened(disk: &Disk, index: usize) -> Result<Option<FilesystemFacts>, StackError> {
    let Some(opened) = disk.open_filesystem(index, false)? else { return Ok(None) };
    let failed = |source| StackError::Filesystem { volume: disk.name(index), source };
    let (info, space) = (opened.info(), opened.space().map_err(failed)?);
    Ok(Some(FilesystemFacts {
        kind: info.kind,
        block_size: info.block_size,
        features: info.features,
        total_bytes: space.total_bytes,
        free_bytes: space.free_bytes,
        inodes: space.inodes,
        free_inodes: space.free_inodes,
        has_error_state: false,
        recovery: None,
    }))
}

fn filesystem(disk: &Disk, index: usize) -> Result<Option<FilesystemFacts>, vfs::VfsError> {
    let Some(Ok(volume)) = disk.ext.get(&index) else { return Ok(None) };
    let opened = volume.open_ext(false)?;
    let (info, space) = (opened.info(), opened.space()?);
    Ok(Some(FilesystemFacts {
        kind: info.kind,
        block_size: info.block_size,
        features: info.features,
        total_bytes: space.total_bytes,
        free_bytes: space.free_bytes,
        inodes: space.inodes,
        free_inodes: space.free_inodes,
        has_error_state: opened.has_error_state(),
        recovery: volume.recovery().map(|report| RecoveryFacts {
            transactions: report.transactions,
            blocks: report.blocks,
            revoked: report.revoked,
            orphans: report.orphans_removed + report.orphans_truncated,
        }),
    }))
}

impl Layer {
    /// The failure that this layer carries, if it does.
    pub fn problem(&self) -> Option<&Diagnostic> {
        match self {
            Layer::Volume(volume) => volume.problem.as_ref(),
            Layer::VolumeGroup(group) => group.problem.as_ref(),
            _ => None,
        }
    }
}
