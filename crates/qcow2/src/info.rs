//! What an image says about itself, as data.

use std::path::PathBuf;

use serde::Serialize;

use crate::backing::BackingFormat;
use crate::header::{Compression, EXTENSION_BITMAPS, FeatureName};
use crate::image::Qcow2;

/// An internal snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SnapshotInfo {
    /// Unique ID, lossily decoded.
    pub id: String,
    /// Name, lossily decoded.
    pub name: String,
    /// Seconds since the epoch.
    pub date_sec: u32,
    /// Virtual size when it was taken, if the entry says so.
    pub virtual_size: Option<u64>,
    /// Bytes of saved VM state.
    pub vm_state_size: u64,
}

/// The backing file of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackingInfo {
    /// The name as it stands in the image, lossily decoded.
    pub name: String,
    /// The file that was opened for it.
    pub path: PathBuf,
    /// Its format.
    pub format: BackingFormat,
    /// True when the image names no format and it was guessed from the file's content.
    pub format_was_probed: bool,
    /// What is below, when the backing file is a qcow2 image itself.
    pub image: Option<Box<Qcow2Info>>,
}

/// Facts about an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Qcow2Info {
    /// 2 or 3.
    pub version: u32,
    /// Size of the virtual disk, bytes.
    pub virtual_size: u64,
    /// Length of the host file, bytes.
    pub file_len: u64,
    /// Guest bytes in clusters with content of their own in this image (compressed ones count whole);
    /// `None` when a table is damaged.
    pub allocated: Option<u64>,
    /// Bytes.
    pub cluster_size: u64,
    /// Width of a refcount, 1 to 64.
    pub refcount_bits: u32,
    /// How compressed clusters are compressed.
    pub compression: Compression,
    /// Refcount updates may be postponed.
    pub has_lazy_refcounts: bool,
    /// Extended L2 entries: read, not written.
    pub has_extended_l2: bool,
    /// Persistent bitmaps: read around, not written.
    pub has_bitmaps: bool,
    /// Refcounts may be wrong; the next commit rebuilds them.
    pub is_dirty: bool,
    /// Marked corrupt: only read.
    pub is_corrupt: bool,
    /// Autoclear bits, which a commit clears.
    pub autoclear_features: u64,
    /// The image's own feature name table.
    pub feature_names: Vec<FeatureName>,
    /// Internal snapshots in the order of the table.
    pub snapshots: Vec<SnapshotInfo>,
    /// Backing file, if there is one.
    pub backing: Option<BackingInfo>,
}

impl Qcow2 {
    /// Facts about this image and its backing chain. Reads the L2 tables to count allocated clusters.
    pub fn info(&self) -> Qcow2Info {
        let header = &self.header;
        Qcow2Info {
            version: header.version,
            virtual_size: header.virtual_size,
            file_len: self.file_len,
            allocated: self.allocated().ok(),
            cluster_size: header.cluster_size(),
            refcount_bits: 1 << header.refcount_order,
            compression: header.compression,
            has_lazy_refcounts: header.has_lazy_refcounts(),
            has_extended_l2: header.has_extended_l2(),
            has_bitmaps: header.extension(EXTENSION_BITMAPS).is_some(),
            is_dirty: header.is_dirty(),
            is_corrupt: header.is_corrupt(),
            autoclear_features: header.autoclear,
            feature_names: header.feature_names.clone(),
            snapshots: self
                .snapshots
                .iter()
                .map(|snapshot| SnapshotInfo {
                    id: String::from_utf8_lossy(&snapshot.id).into_owned(),
                    name: String::from_utf8_lossy(&snapshot.name).into_owned(),
                    date_sec: snapshot.date_sec,
                    virtual_size: snapshot.disk_size,
                    vm_state_size: snapshot.vm_state_size,
                })
                .collect(),
            backing: self.backing.as_ref().map(|backing| BackingInfo {
                name: String::from_utf8_lossy(header.backing_name.as_deref().unwrap_or_default())
                    .into_owned(),
                path: backing.path.clone(),
                format: backing.format,
                format_was_probed: backing.format_was_probed,
                image: backing.image.as_ref().map(|image| Box::new(image.info())),
            }),
        }
    }

    fn allocated(&self) -> Result<u64, crate::Qcow2Error> {
        use crate::map::Mapping;
        let (mut at, mut allocated) = (0, 0);
        while at < self.header.virtual_size {
            let (mapping, len) = self.map(at, self.header.virtual_size - at)?;
            if matches!(mapping, Mapping::Data { .. } | Mapping::Compressed { .. }) {
                allocated += len;
            }
            at += len;
        }
        Ok(allocated)
    }
}
