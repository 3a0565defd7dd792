//! Read-only model of a guest and its boot verdict.
//!
//! [`inspect`] reads files of a [`GuestTree`](vfs::GuestTree) and makes a [`Guest`]: plain data that can be
//! serialised. [`verdict`] is a pure function of that data and the disk's volumes.

mod archive_drivers;
mod bootloader;
mod dpkg;
mod error;
mod family;
mod fstab;
mod inspect;
mod kernels;
mod model;
mod network;
mod os;
mod programs;
mod reading;
mod software;
mod system;
mod verdict;
mod version;

pub use dpkg::dpkg_version;
pub use error::GuestError;
pub use family::Family;
pub use inspect::inspect;
pub use kernels::TreeModules;
pub use model::{
    BootEntry, BootFile, BootFileKind, Bootloader, CryptEntry, DriverOnDisk, DriverState, FstabRow, Guest,
    InitramfsDriver, InitramfsInfo, InitrdFile, Kernel, MachineId, NetworkSystem, OsInfo, Problem,
    Resolution, SegmentInfo,
};
pub use programs::{Installed, Program, find_program};
pub use verdict::{
    BootMode, BootModes, Bus, EntryVerdict, Reason, Verdict, boot_modes, efi_fallback, verdict,
    verdict_of_entry, verdicts,
};
pub use version::compare_versions;
