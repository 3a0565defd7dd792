//! Bounds on what is read from an image.

/// Bounds on memory and work while an initramfs is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Unpacked bytes of all segments together.
    pub unpacked_bytes: u64,
    /// cpio entries of all segments together.
    pub entries: usize,
    /// A file larger than this is known by name and size alone.
    pub kept_file_bytes: u64,
    /// Content kept of all files together; once it is reached, further files are known by name and size alone.
    pub kept_total_bytes: u64,
    /// Memory that one decoder may take for its dictionary or window.
    pub decoder_memory: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            unpacked_bytes: 1 << 30,
            entries: 1 << 18,
            kept_file_bytes: 16 << 20,
            kept_total_bytes: 192 << 20,
            // What `xz -9` and `zstd --long` ask for at most in images that the kernel accepts.
            decoder_memory: 128 << 20,
        }
    }
}

/// Bytes that any file may unpack to, however short it is.
const UNPACKED_FLOOR: u64 = 16 << 20;
/// How often its own length a file may unpack to. Programs and modules shrink to a sixth at best; only a file that
/// was made to cost time and memory shrinks to a thousandth.
const UNPACKED_RATIO: u64 = 32;

impl Limits {
    /// Bytes that a file of `stored_len` bytes may unpack to.
    pub fn unpacked_from(&self, stored_len: u64) -> u64 {
        UNPACKED_FLOOR.saturating_add(stored_len.saturating_mul(UNPACKED_RATIO)).min(self.unpacked_bytes)
    }
}
