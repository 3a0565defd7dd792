//! What can be asked of an encoder or decoder.

/// Which format a payload has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Raw deflate (RFC 1951), no header, no checksum.
    Deflate,
    /// zstd frames (RFC 8878).
    Zstd,
}

/// Greatest distance of a match in a deflate stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Window {
    /// 4096 bytes: what every reader of qcow2 has to accept, since the format says `windowBits` −12.
    #[default]
    Strict,
    /// 32 KiB, about 4 % smaller. Readers that inflate a cluster in one call (QEMU does) decode it; one with a true
    /// sliding window of 4096 bytes does not.
    Wide,
}

/// Effort of the deflate encoder, as zlib counts it: 1 (fast) to 9 (small).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ZlibLevel(u8);

impl ZlibLevel {
    /// `None` outside 1 to 9.
    pub fn new(level: u8) -> Option<Self> {
        (1..=9).contains(&level).then_some(Self(level))
    }

    /// 1 to 9.
    pub fn get(self) -> u8 {
        self.0
    }
}

impl Default for ZlibLevel {
    fn default() -> Self {
        Self(6)
    }
}

/// Effort of the zstd encoder: 1 (fast) to 22 (small).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ZstdLevel(u8);

impl ZstdLevel {
    /// `None` outside 1 to 22.
    pub fn new(level: u8) -> Option<Self> {
        (1..=22).contains(&level).then_some(Self(level))
    }

    /// 1 to 22.
    pub fn get(self) -> u8 {
        self.0
    }
}

impl Default for ZstdLevel {
    /// The level at which other writers of qcow2 make clusters.
    fn default() -> Self {
        Self(3)
    }
}

/// How clusters are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// Raw deflate.
    Zlib {
        /// Effort.
        level: ZlibLevel,
        /// Greatest distance.
        window: Window,
        /// Speed before size; `level` is not looked at.
        fast: bool,
    },
    /// zstd, one frame a cluster.
    Zstd {
        /// Effort.
        level: ZstdLevel,
    },
}

impl Algorithm {
    /// The format that this makes.
    pub fn kind(self) -> Kind {
        match self {
            Algorithm::Zlib { .. } => Kind::Deflate,
            Algorithm::Zstd { .. } => Kind::Zstd,
        }
    }
}
