//! cpio newc, segments, compressors, module indexes, injection.
//!
//! Pure functions over bytes: no filesystem and no host I/O. The guest's module directory comes in
//! through [`ModuleSource`].

mod archive;
mod blacklist;
mod compression;
mod decode;
mod error;
mod generator;
mod limits;
mod lz4_legacy;
mod lzop;
mod module_name;
mod newc;
mod segment;
mod source;
mod tree;

pub use archive::{Archive, ModuleInArchive, TreeEntry};
pub use blacklist::Blacklist;
pub use compression::Compression;
pub use error::InitramfsError;
pub use generator::Generator;
pub use limits::Limits;
pub use module_name::module_name;
pub use segment::{Entry, Segment, SegmentKind};
pub use source::ModuleSource;
