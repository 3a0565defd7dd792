//! Development only: image recipes, reference-tool oracles, crash devices.

pub mod apt;
pub mod cache;
pub mod cloud_host;
pub mod crash;
pub mod deb;
mod dirfs;
pub mod e2fs;
pub mod error;
pub mod kernel_deb;
pub mod licences;
pub mod live;
pub mod lvm;
pub mod phony;
pub mod qemu;
mod qmp;
pub mod recipe;
pub mod screen;
pub mod selinux_policy;
pub mod tool;
pub mod xfsprogs;

pub use dirfs::DirFs;
