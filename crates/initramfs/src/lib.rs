//! cpio newc, segments, compressors, module indexes, injection.
//!
//! Pure functions over bytes: no filesystem and no host I/O. The guest's module directory comes in
//! through [`ModuleSource`].

mod archive;
mod blacklist;
mod compression;
mod decode;
mod elf;
mod error;
mod generator;
mod index;
mod kernel_modules;
mod limits;
mod lz4_legacy;
mod lzop;
mod module_name;
mod newc;
mod pattern;
mod segment;
mod source;
mod tree;

pub use archive::{Archive, ModuleInArchive, TreeEntry};
pub use blacklist::Blacklist;
pub use compression::Compression;
pub use error::InitramfsError;
pub use generator::Generator;
pub use index::{DepmodModule, IndexEntry, IndexFiles, decode_index, encode_index, generate_indexes};
pub use kernel_modules::{Closure, KernelModule, KernelModules, Lookup};
pub use limits::Limits;
pub use module_name::module_name;
pub use segment::{Entry, Segment, SegmentKind};
pub use source::ModuleSource;
