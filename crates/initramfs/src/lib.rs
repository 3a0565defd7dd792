//! cpio newc, segments, compressors, module indexes, injection.
//!
//! Pure functions over bytes: no filesystem and no host I/O. The guest's module directory comes in
//! through [`ModuleSource`].

mod addition;
mod archive;
mod blacklist;
mod compression;
mod decode;
mod driver;
mod elf;
mod encode;
mod error;
mod generator;
mod index;
mod inject;
mod kernel_modules;
mod limits;
mod load_lists;
mod lz4_legacy;
mod lzop;
mod module_file;
mod module_name;
mod newc;
mod pattern;
mod rewrite;
mod segment;
mod source;
mod tree;

pub use archive::{Archive, ModuleInArchive, TreeEntry};
pub use blacklist::Blacklist;
pub use compression::Compression;
pub use driver::{DriverProblem, DriverState, driver_state, modules_for_alias_inside};
pub use error::InitramfsError;
pub use generator::Generator;
pub use index::{
    DepmodModule, IndexEntry, IndexFiles, decode_index, encode_index, generate_builtin_indexes,
    generate_indexes,
};
pub use inject::{
    AddedModule, Append, Injection, InjectionOptions, Survey, WantedReport, plan_injection, survey_injection,
};
pub use kernel_modules::{Closure, KernelModule, KernelModules, Lookup};
pub use limits::Limits;
pub use module_name::module_name;
pub use rewrite::{Placement, new_file, rewrite_last_segment};
pub use segment::{Entry, Segment, SegmentKind};
pub use source::ModuleSource;
