//! Errors of this crate, with stable codes.

use report::{Class, Diagnose};
use thiserror::Error;

use crate::{Compression, Generator};

/// An initramfs, a module or a module index that cannot be used, or an injection that is refused.
#[derive(Debug, Error)]
pub enum InitramfsError {
    /// Bytes that begin no segment the kernel knows.
    #[error("byte {offset}: no cpio archive and no known compression begins here (found {found})")]
    UnknownSegment {
        /// Position in the file.
        offset: u64,
        /// The first bytes, in hexadecimal.
        found: String,
    },
    /// An uncompressed archive where the kernel does not recognise one.
    #[error("byte {offset}: an uncompressed cpio archive must begin at a multiple of 4")]
    Misaligned {
        /// Position in the file.
        offset: u64,
    },
    /// A compressed stream that does not decode.
    #[error("{compression} stream at byte {offset}: {detail}")]
    Stream {
        /// Where the stream begins in the file.
        offset: u64,
        /// Its compression.
        compression: Compression,
        /// What the decoder says.
        detail: String,
    },
    /// A cpio archive that contradicts itself.
    #[error("segment at byte {segment}: cpio entry at unpacked byte {at}: {detail}")]
    Cpio {
        /// Where the segment begins in the file.
        segment: u64,
        /// Where the entry begins in the unpacked segment.
        at: u64,
        /// Expected and found.
        detail: String,
    },
    /// A size or count beyond what is read.
    #[error("{what} exceed the limit of {limit}")]
    Limit {
        /// What is too large.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// An index or list of modules that is malformed.
    #[error("{file}: {detail}")]
    Index {
        /// File name, below the module directory.
        file: String,
        /// Expected and found.
        detail: String,
    },
    /// A module file that is not a module, or not one of this kernel.
    #[error("module {path}: {detail}")]
    Module {
        /// Path below the module directory.
        path: String,
        /// Stable code below `initramfs.module.`.
        code: &'static str,
        /// Expected and found.
        detail: String,
    },
    /// The kernel has no module directory, or an empty one.
    #[error("kernel {kver}: {detail}")]
    NoModules {
        /// Kernel version.
        kver: String,
        /// What is missing.
        detail: String,
    },
    /// Something stands in the initramfs where we would write.
    #[error("/{path} in the initramfs: {detail}")]
    Conflict {
        /// Path in the initramfs.
        path: String,
        /// What stands in the way.
        detail: String,
    },
    /// Injection into an image of this generator is not proven.
    #[error("injection into an initramfs made by {generator} is not supported: {detail}")]
    GeneratorUnsupported {
        /// The generator that was recognised.
        generator: Generator,
        /// Why.
        detail: &'static str,
    },
    /// An image for other kernels than the one asked for.
    #[error("the initramfs holds modules of {}, none of {kver}", found.join(", "))]
    OtherKernel {
        /// Kernel version asked for.
        kver: String,
        /// Kernel versions found inside.
        found: Vec<String>,
    },
    /// A segment that we do not write in this compression.
    #[error("a {compression} segment is not written: {detail}")]
    WriteUnsupported {
        /// The compression.
        compression: Compression,
        /// Why.
        detail: &'static str,
    },
    /// The filesystem has too little room for either way.
    #[error(
        "the initramfs would take {append_len} bytes with a segment appended, {rewrite_len} with the last \
         segment packed again; there is room for {room}"
    )]
    NoRoom {
        /// Length of the file with a segment appended.
        append_len: u64,
        /// Length of the file with its last segment packed again.
        rewrite_len: u64,
        /// Length that the file may have.
        room: u64,
    },
    /// What was built does not read back as intended: a bug of ours.
    #[error("the injected initramfs does not read back as planned: {detail}")]
    Verify {
        /// The first difference.
        detail: String,
    },
    /// An error of the module source, kept with its code.
    #[error("{0}")]
    Source(Box<dyn Diagnose + Send + Sync>),
}

impl Diagnose for InitramfsError {
    fn code(&self) -> &'static str {
        match self {
            InitramfsError::UnknownSegment { .. } => "initramfs.segment.unknown",
            InitramfsError::Misaligned { .. } => "initramfs.segment.misaligned",
            InitramfsError::Stream { .. } => "initramfs.segment.stream",
            InitramfsError::Cpio { .. } => "initramfs.cpio",
            InitramfsError::Limit { .. } => "initramfs.limit",
            InitramfsError::Index { .. } => "initramfs.index",
            InitramfsError::Module { code, .. } => code,
            InitramfsError::NoModules { .. } => "initramfs.modules.none",
            InitramfsError::Conflict { .. } => "initramfs.conflict",
            InitramfsError::GeneratorUnsupported { .. } => "initramfs.generator.unsupported",
            InitramfsError::OtherKernel { .. } => "initramfs.kernel.other",
            InitramfsError::WriteUnsupported { .. } => "initramfs.write.unsupported",
            InitramfsError::NoRoom { .. } => "initramfs.no-room",
            InitramfsError::Verify { .. } => "initramfs.verify",
            InitramfsError::Source(below) => below.code(),
        }
    }

    fn class(&self) -> Class {
        match self {
            InitramfsError::UnknownSegment { .. }
            | InitramfsError::Limit { .. }
            | InitramfsError::GeneratorUnsupported { .. }
            | InitramfsError::WriteUnsupported { .. }
            | InitramfsError::OtherKernel { .. } => Class::Unsupported,
            InitramfsError::NoModules { .. }
            | InitramfsError::Conflict { .. }
            | InitramfsError::NoRoom { .. } => Class::NoSpace,
            InitramfsError::Misaligned { .. }
            | InitramfsError::Stream { .. }
            | InitramfsError::Cpio { .. }
            | InitramfsError::Index { .. }
            | InitramfsError::Module { .. } => Class::Damaged,
            InitramfsError::Verify { .. } => Class::Bug,
            InitramfsError::Source(below) => below.class(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            InitramfsError::NoModules { .. } => Some(
                "Install this kernel's module package in the guest, or remove the stale initramfs.".into(),
            ),
            InitramfsError::GeneratorUnsupported { .. } => Some(
                "Rebuild the initramfs inside the guest with the drivers added to its configuration.".into(),
            ),
            InitramfsError::Source(below) => below.hint(),
            _ => None,
        }
    }
}
