//! From an image file to one guest tree, and back.
//!
//! The only crate that knows every driver: host file → format → overlay → partition table → volumes →
//! filesystems → the guest's own mounts. Nothing on the host changes before [`SealedImage::commit`].
//!
//! ```text
//! Image::open ── open_tree(true) ── edits ── flush ── Image::edit_disk ── Image::seal ── SealedImage::{verify, reopen_tree} ── commit
//! ```
//!
//! A filesystem with a dirty journal is recovered into an overlay of its own, which joins the changes only
//! when that filesystem is edited.

mod compose;
mod content;
mod disk;
mod edit;
mod error;
mod esp;
mod filesystems;
mod format;
mod free;
mod grub_image;
mod image;
mod layers;
mod lvm;
mod planned;
mod sealed;
mod swap;
mod volumes;

pub use compose::Unmounted;
pub use content::Content;
pub use error::StackError;
pub use format::{ImageFormat, format_of};
pub use free::{FreeSpace, NotFree, VolumeFreeSpace};
pub use image::{Image, OpenOptions, VolumeDevice};
pub use layers::{
    FilesystemFacts, FindingFacts, ImageLayer, Layer, MountFacts, MountsLayer, PartitionFacts,
    PartitionTableLayer, RecoveryFacts, VolumeGroupLayer, VolumeLayer,
};
pub use sealed::{CheckedFilesystem, CommitTarget, SealedImage};
