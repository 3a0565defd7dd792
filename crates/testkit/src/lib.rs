//! Development only: image recipes, reference-tool oracles, fault and crash devices.

mod dirfs;

pub use dirfs::DirFs;
