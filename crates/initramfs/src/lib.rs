//! cpio newc, segments, compressors, module indexes, injection.
//!
//! Pure functions over bytes: no filesystem and no host I/O. The guest's module directory comes in
//! through [`ModuleSource`].

mod compression;
mod error;
mod generator;
mod limits;
mod source;

pub use compression::Compression;
pub use error::InitramfsError;
pub use generator::Generator;
pub use limits::Limits;
pub use source::ModuleSource;
