//! Disks inside compressed streams and archives, read and written from front to back.
//!
//! [`DiskStream`] reads the disk in a gz, xz or zst stream, or in a tar archive that holds `disk.raw` and nothing else
//! (what Google Compute Engine imports and exports), compressed or not.
//!
//! Writing is made for many threads: a [`ChunkEncoder`] turns chunks of a fixed length ([`Container::chunk_len`])
//! into pieces that depend on nothing but the chunk, and a [`Framing`] says what stands before, between and behind
//! them. The result is the same at any number of threads.

mod encode;
mod error;
mod framing;
mod input;
mod read;
mod sparse;
mod tarball;

pub use encode::{ChunkEncoder, Encoded};
pub use error::ArchiveError;
pub use framing::Framing;
pub use read::{DiskStream, Limits, Piece};

/// Name of the one member of a tar archive with a disk.
pub const MEMBER: &str = "disk.raw";

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip (RFC 1952), one member or many.
    Gz,
    /// xz, one stream or many.
    Xz,
    /// Zstandard (RFC 8878), one frame or many.
    Zst,
}

impl Compression {
    /// Recognises a stream by its first bytes.
    pub fn recognise(head: &[u8]) -> Self {
        // A zstd stream may begin with a skippable frame: magic 0x184d2a50 to 0x184d2a5f (RFC 8878, 3.1.2).
        let is_skippable = matches!(head, [first, 0x2a, 0x4d, 0x18, ..] if first & 0xf0 == 0x50);
        match head {
            [0x1f, 0x8b, 8, ..] => Compression::Gz,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zst,
            _ if is_skippable => Compression::Zst,
            _ => Compression::None,
        }
    }
}

/// A form in which disks are written as a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Container {
    /// gzip: one member of deflate pieces that end at byte boundaries.
    Gz {
        /// 0 to 9.
        level: u32,
    },
    /// xz: one stream, a block for each chunk.
    Xz {
        /// 0 to 9; dictionaries are never larger than a chunk.
        level: u32,
    },
    /// Zstandard: a frame for each chunk.
    Zst {
        /// 1 to 22.
        level: i32,
    },
    /// A tar archive with `disk.raw`, gzip around it.
    TarGz {
        /// 0 to 9.
        level: u32,
    },
}

impl Container {
    /// Bytes that are encoded as one piece; the last chunk of a disk may be shorter.
    pub fn chunk_len(self) -> u64 {
        match self {
            // 32 KiB of window are lost at each cut: below one percent.
            Container::Gz { .. } | Container::TarGz { .. } => 1 << 20,
            Container::Xz { .. } | Container::Zst { .. } => 2 << 20,
        }
    }

    /// Lower-case name, as a file ends.
    pub fn name(self) -> &'static str {
        match self {
            Container::Gz { .. } => "gz",
            Container::Xz { .. } => "xz",
            Container::Zst { .. } => "zst",
            Container::TarGz { .. } => "tar.gz",
        }
    }
}
